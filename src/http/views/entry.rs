//! Getting in: login, registration, the choice of an account, and who is logged in.

use std::borrow::Cow;

use super::{Address, ClientCard, Form, Locale, page, with_return};

/// Why a form was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Unknown login or wrong password: never told apart.
    WrongCredentials,
    /// Too many attempts; `seconds` until the next is taken.
    TooMany { seconds: u64 },
    /// The server can take no more work now.
    Busy,
    /// The cookie that the form belongs to did not come with it.
    NoCookie,
    /// A field was left empty.
    Empty,
}

impl Problem {
    pub(super) fn text(self, t: &Locale) -> Cow<'static, str> {
        match self {
            Self::WrongCredentials => t.get("problem-wrong-credentials"),
            Self::TooMany { seconds } if seconds > 90 => {
                t.with("problem-too-many-minutes", &[("count", seconds.div_ceil(60))])
            }
            Self::TooMany { seconds } => {
                t.with("problem-too-many-seconds", &[("count", seconds.max(1))])
            }
            Self::Busy => t.get("problem-busy"),
            Self::NoCookie => t.get("problem-no-cookie"),
            Self::Empty => t.get("problem-empty"),
        }
    }
}

/// `/login`.
#[derive(Debug)]
pub struct Login<'a> {
    pub form: Form<'a>,
    /// The application that asked for it.
    pub client: Option<ClientCard<'a>>,
    /// What was typed, or what the application hinted at.
    pub login: &'a str,
    pub problem: Option<Problem>,
    /// Where to register, if one may.
    pub register_url: Option<String>,
    /// Somebody is logged in already and is asked to prove it once more.
    pub reauthenticate: bool,
}

impl Login<'_> {
    /// What the browser's tab says.
    fn title(&self, t: &Locale) -> Cow<'static, str> {
        match &self.client {
            Some(client) if !self.reauthenticate => {
                t.with("login-title", &[("client", client.name)])
            }
            _ => self.heading(t),
        }
    }

    fn heading(&self, t: &Locale) -> Cow<'static, str> {
        t.get(if self.reauthenticate { "login-again" } else { "login-heading" })
    }

    fn lead(&self, t: &Locale) -> Option<Cow<'static, str>> {
        match (&self.client, self.reauthenticate) {
            (Some(client), true) => Some(t.with("login-again-client", &[("client", client.name)])),
            (Some(client), false) => Some(t.with("login-to", &[("client", client.name)])),
            (None, true) => Some(t.get("login-again-text")),
            (None, false) => None,
        }
    }

    /// Whether the problem lies in what was typed.
    fn is_wrong(&self) -> bool {
        matches!(self.problem, Some(Problem::WrongCredentials | Problem::Empty))
    }

    fn address(&self) -> Option<Address<'_>> {
        let (path, mut query) = with_return("/login", &self.form);
        if self.reauthenticate {
            query.push(("again".into(), "1".into()));
        }
        Some((path, query))
    }
}

page!(Login, "login.html", script: true);

/// `/register`.
#[derive(Debug)]
pub struct Register<'a> {
    pub form: Form<'a>,
    pub client: Option<ClientCard<'a>>,
    pub email: &'a str,
    pub username: &'a str,
    pub problem: Option<Problem>,
    /// What is wrong: the field (`email`, `username`, `password`) and the rule it breaks, as the server words it.
    pub fields: &'a [(&'static str, String)],
    pub login_url: String,
    /// The least number of characters of a password.
    pub min_length: usize,
}

impl Register<'_> {
    fn refusals(&self, field: &str, t: &Locale) -> Vec<Cow<'_, str>> {
        self.fields
            .iter()
            .filter(|(name, _)| *name == field)
            .map(|(_, message)| t.refusal(message))
            .collect()
    }

    /// The field to begin in: the first that is wrong, else the first.
    fn begins_in(&self) -> &str {
        ["email", "username", "password"]
            .into_iter()
            .find(|field| self.fields.iter().any(|(name, _)| name == field))
            .unwrap_or("email")
    }

    fn is_refused(&self) -> bool {
        self.problem.is_some() || !self.fields.is_empty()
    }

    fn address(&self) -> Option<Address<'_>> {
        Some(with_return("/register", &self.form))
    }
}

page!(Register, "register.html", script: true);

/// `/select-account`: go on as who is logged in, or as another.
#[derive(Debug)]
pub struct SelectAccount<'a> {
    pub form: Form<'a>,
    pub client: Option<ClientCard<'a>>,
    /// Who is logged in, as they know themselves.
    pub account: &'a str,
}

impl SelectAccount<'_> {
    fn address(&self) -> Option<Address<'_>> {
        Some(with_return("/select-account", &self.form))
    }
}

page!(SelectAccount, "select_account.html", script: false);

/// Who is logged in, for somebody who came without an application.
#[derive(Debug)]
pub struct Account<'a> {
    pub name: &'a str,
    pub email: &'a str,
}

impl Account<'_> {
    fn address(&self) -> Option<Address<'_>> {
        Some(("/login", vec![]))
    }
}

page!(Account, "account.html", script: false);
