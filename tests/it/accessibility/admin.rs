//! The pages of administrators: every kind of block, with long and hostile texts.

use http::StatusCode;
use propusk::http::views::{
    AdminForm, AdminPage, AdminSection, Block, Cell, Code, Facts, Field, Form, FormAction,
    FormMethod, Input, Locale, Table, Tone,
};

use super::samples::LONG;

/// Lists with filters, a page of one thing, and a form that was refused.
pub const PAGES: [&str; 3] = ["admin-list", "admin-one", "admin-refused"];

pub fn page(name: &str, t: &'static Locale) -> Result<poem::Response, askama::Error> {
    let blocks = match name {
        "admin-list" => list(),
        "admin-one" => one(false),
        _ => one(true),
    };
    let is_refused = name == "admin-refused";
    let page = AdminPage {
        form: Form { csrf: "x", return_to: None },
        account: LONG,
        section: AdminSection::Users,
        title: if name == "admin-list" { "Users".to_owned() } else { LONG.to_owned() },
        above: match name {
            "admin-list" => vec![],
            _ => vec![("Users".to_owned(), "/admin/users".to_owned())],
        },
        url: Some(("/admin/users".into(), vec![])),
        notice: (!is_refused).then(|| "The user is changed.".to_owned()),
        refused: is_refused.then(|| format!("{LONG} is taken: choose another one")),
        blocks,
    };
    page.render(t, StatusCode::OK, FormAction::ThisServer)
}

fn field(name: &'static str, input: Input) -> Field {
    Field { name, label: format!("The {name}"), value: "1".to_owned(), input, ..Field::default() }
}

fn choices() -> Vec<(String, String)> {
    vec![("1".to_owned(), "One".to_owned()), ("2".to_owned(), LONG.to_owned())]
}

fn list() -> Vec<Block> {
    let filters = AdminForm {
        id: "filter",
        method: FormMethod::Get,
        action: "/admin/users".to_owned(),
        fields: vec![
            Field {
                hint: Some("Its beginning is enough.".to_owned()),
                ..field("login", Input::Text)
            },
            field("role", Input::Choice(choices())),
        ],
        submit: "Show".to_owned(),
        ..AdminForm::default()
    };
    let row = |name: &str| {
        vec![
            Cell::link(name, "/admin/users/1"),
            Cell::Code("01a1fca5-0ae5-741a-b136-32b4b1af948c".to_owned()),
            Cell::good("Enabled"),
            Cell::Lines(vec!["openid profile".to_owned(), LONG.to_owned()]),
            Cell::Nothing,
            Cell::Button {
                action: "/admin/users/1".to_owned(),
                hidden: vec![("action", "end".to_owned())],
                label: "End".to_owned(),
                subject: name.to_owned(),
            },
        ]
    };
    let columns = ["Name", "ID", "State", "Scope", "Until", "Action"].map(str::to_owned).to_vec();
    let table = Table {
        heading: "Users".to_owned(),
        columns: columns.clone(),
        rows: vec![row("vera"), row(LONG), row("<script>alert(1)</script>")],
        empty: String::new(),
        next: Some("/admin/users?after=1".to_owned()),
    };
    let empty = Table {
        heading: "Former users".to_owned(),
        columns,
        empty: "There is none.".to_owned(),
        ..Table::default()
    };
    vec![
        Block::Links(vec![("New user".to_owned(), "/admin/users/new".to_owned())]),
        Block::Form(filters),
        Block::Table(table),
        Block::Table(empty),
    ]
}

fn one(is_refused: bool) -> Vec<Block> {
    let facts = Facts {
        heading: Some("Facts".to_owned()),
        facts: vec![
            ("State".to_owned(), Cell::bad("Disabled since 2026-11-21 09:30")),
            ("Kind".to_owned(), Cell::Status("None".to_owned(), Tone::Neutral)),
            ("Name".to_owned(), Cell::Text(LONG.to_owned())),
        ],
    };
    let errors = || if is_refused { vec!["Enter a value.".to_owned()] } else { vec![] };
    let wrong = |name, input| Field { errors: errors(), ..field(name, input) };
    let many =
        vec![("1".to_owned(), "One".to_owned(), true), ("2".to_owned(), LONG.to_owned(), false)];
    let form = AdminForm {
        id: "change",
        heading: Some("Change".to_owned()),
        text: Some("What is changed here holds at once.".to_owned()),
        action: "/admin/users/1".to_owned(),
        fields: vec![
            Field { is_required: true, ..wrong("email", Input::Email) },
            wrong("text", Input::Text),
            wrong("lines", Input::Lines),
            Field { value: "2026-11-21".to_owned(), ..wrong("day", Input::Date) },
            wrong("role", Input::Choice(choices())),
            wrong("scopes", Input::Choices(many)),
            Field { hint: Some("Shown once.".to_owned()), ..wrong("password", Input::Password) },
            wrong("confirm", Input::Checkbox),
        ],
        submit: "Save".to_owned(),
        ..AdminForm::default()
    };
    let delete = AdminForm {
        id: "delete",
        action: "/admin/users/1".to_owned(),
        submit: "Delete".to_owned(),
        is_dangerous: true,
        ..AdminForm::default()
    };
    let code = Code {
        heading: "Secret".to_owned(),
        text: "Copy it now: it is not shown again.".to_owned(),
        code: format!("{LONG}{LONG}\nsecond line"),
    };
    vec![
        Block::Code(code),
        Block::Facts(facts),
        Block::Caution("It cannot be undone.".to_owned()),
        Block::Text("A paragraph.".to_owned()),
        Block::Form(form),
        Block::Form(delete),
    ]
}
