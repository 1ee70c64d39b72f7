//! The pages of administrators: all are one view, a list of blocks in one template, so that each
//! page of `/admin` is a function that says what is on it.

use std::borrow::Cow;

use super::{Form, Locale, PageUrl, page};

/// The parts of the administration, as its navigation lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminSection {
    Overview,
    Users,
    Clients,
    Modules,
    Roles,
    Keys,
    Revocations,
    Events,
    Audit,
}

impl AdminSection {
    /// Every part, in the order of the navigation.
    pub const ALL: [Self; 9] = [
        Self::Overview,
        Self::Users,
        Self::Clients,
        Self::Modules,
        Self::Roles,
        Self::Keys,
        Self::Revocations,
        Self::Events,
        Self::Audit,
    ];

    /// The path of its first page.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Overview => "/admin",
            Self::Users => "/admin/users",
            Self::Clients => "/admin/clients",
            Self::Modules => "/admin/modules",
            Self::Roles => "/admin/roles",
            Self::Keys => "/admin/keys",
            Self::Revocations => "/admin/revocations",
            Self::Events => "/admin/events",
            Self::Audit => "/admin/audit",
        }
    }

    fn name(self, t: &Locale) -> Cow<'static, str> {
        t.get(match self {
            Self::Overview => "admin-overview",
            Self::Users => "admin-users",
            Self::Clients => "admin-clients",
            Self::Modules => "admin-modules",
            Self::Roles => "admin-roles",
            Self::Keys => "admin-keys",
            Self::Revocations => "admin-revocations",
            Self::Events => "admin-events",
            Self::Audit => "admin-audit",
        })
    }
}

/// A page of the administration. Its texts are in the reader's language already.
#[derive(Debug)]
pub struct AdminPage<'a> {
    pub form: Form<'a>,
    /// The username of the administrator, else the email address.
    pub account: &'a str,
    pub section: AdminSection,
    pub title: String,
    /// The pages above this one, the first one first: name and path.
    pub above: Vec<(String, String)>,
    /// The page itself, for the link to the other language; `None` after a form was sent.
    pub url: Option<PageUrl<'a>>,
    /// What has just been done.
    pub notice: Option<String>,
    /// Why the form was refused, in English, as the API says it.
    pub refused: Option<String>,
    pub blocks: Vec<Block>,
}

/// A part of a page.
#[derive(Clone, Debug)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// A warning that stays on the page.
    Caution(String),
    /// A name and a value per line.
    Facts(Facts),
    Table(Table),
    Form(AdminForm),
    /// Text to copy: a secret that is shown once, a snippet.
    Code(Code),
    /// Links to other pages: name and path.
    Links(Vec<(String, String)>),
}

/// Names and values of one thing.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub heading: Option<String>,
    pub facts: Vec<(String, Cell)>,
}

/// Rows with the same columns.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Names the table also where it is not shown.
    pub heading: String,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
    /// Shown in place of a table without rows.
    pub empty: String,
    /// The URL of the next rows.
    pub next: Option<String>,
}

/// A value on a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Text(String),
    /// An identifier or another text for programs.
    Code(String),
    Link {
        text: String,
        href: String,
    },
    /// A state that a reader looks for, with its tone.
    Status(String, Tone),
    /// Several texts, each in a line of its own.
    Lines(Vec<String>),
    /// A form that consists of a button. `subject` names what it changes, for screen readers.
    Button {
        action: String,
        hidden: Vec<(&'static str, String)>,
        label: String,
        subject: String,
    },
    Nothing,
}

impl Cell {
    /// A text, or nothing.
    pub fn of(text: Option<impl Into<String>>) -> Self {
        text.map_or(Self::Nothing, |text| Self::Text(text.into()))
    }

    /// A link.
    pub fn link(text: impl Into<String>, href: impl Into<String>) -> Self {
        Self::Link { text: text.into(), href: href.into() }
    }

    /// A state that is as it should be.
    pub fn good(text: impl Into<String>) -> Self {
        Self::Status(text.into(), Tone::Good)
    }

    /// A state that an administrator should see.
    pub fn bad(text: impl Into<String>) -> Self {
        Self::Status(text.into(), Tone::Bad)
    }
}

/// How a state is meant; its text says it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Good,
    Bad,
    Neutral,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Neutral => "neutral",
        }
    }
}

/// Text to copy.
#[derive(Clone, Debug)]
pub struct Code {
    pub heading: String,
    /// What it is for, or that it is not shown again.
    pub text: String,
    pub code: String,
}

/// A form of a page.
#[derive(Clone, Debug)]
pub struct AdminForm {
    /// Unique on the page: part of the ids of its fields.
    pub id: &'static str,
    pub heading: Option<String>,
    pub text: Option<String>,
    pub method: FormMethod,
    /// The path that it is sent to.
    pub action: String,
    pub hidden: Vec<(&'static str, String)>,
    pub fields: Vec<Field>,
    pub submit: String,
    /// It ends or removes something: the button says so by its colour too.
    pub is_dangerous: bool,
}

impl Default for AdminForm {
    fn default() -> Self {
        Self {
            id: "form",
            heading: None,
            text: None,
            method: FormMethod::Post,
            action: String::new(),
            hidden: vec![],
            fields: vec![],
            submit: String::new(),
            is_dangerous: false,
        }
    }
}

/// How a form is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormMethod {
    /// Filters: the fields become the query of the page.
    Get,
    /// Changes, with a CSRF token.
    Post,
}

/// A field of a form.
#[derive(Clone, Debug, Default)]
pub struct Field {
    pub name: &'static str,
    pub label: String,
    pub hint: Option<String>,
    pub value: String,
    pub input: Input,
    pub is_required: bool,
    /// What is wrong with the value.
    pub errors: Vec<String>,
}

/// How a field is typed or chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Input {
    #[default]
    Text,
    Email,
    Password,
    Date,
    /// Several lines.
    Lines,
    /// One of these: value and label.
    Choice(Vec<(String, String)>),
    /// Any of these, sent as repeated values: value, label, whether it is chosen.
    Choices(Vec<(String, String, bool)>),
    /// Sent as `1` where it is ticked; `value` is `1` where it was.
    Checkbox,
}

impl Field {
    fn input_type(&self) -> &'static str {
        match self.input {
            Input::Email => "email",
            Input::Password => "password",
            Input::Date => "date",
            Input::Checkbox => "checkbox",
            _ => "text",
        }
    }

    /// The height of a field of several lines: a document is shown whole, up to a limit.
    fn rows(&self) -> usize {
        self.value.lines().count().clamp(3, 24)
    }

    /// The field after errors of the flow: it keeps what was typed.
    #[must_use]
    pub fn with_errors(mut self, errors: &[(String, String)], t: &Locale) -> Self {
        let own = errors.iter().filter(|(field, _)| field == self.name);
        self.errors = own.map(|(_, message)| t.field_error(message).into_owned()).collect();
        self
    }
}

impl AdminPage<'_> {
    fn url(&self) -> Option<PageUrl<'_>> {
        self.url.clone()
    }

    fn sections(&self) -> [AdminSection; 9] {
        AdminSection::ALL
    }

    /// Whether a form or the whole of it was refused.
    fn is_rejected(&self) -> bool {
        let has_errors = |block: &Block| match block {
            Block::Form(form) => form.fields.iter().any(|field| !field.errors.is_empty()),
            _ => false,
        };
        self.refused.is_some() || self.blocks.iter().any(has_errors)
    }
}

page!(AdminPage, "admin.html", script: false);
