//! `/admin/revocations`: the revocation list.

use poem::{Response, Result, handler};

use super::{
    Admin, Content, Rejected,
    listing::{Listing, Names, client},
    shared::confirmation,
};
use crate::{
    clock::Timestamp,
    error::Error,
    flows::admin::revocations,
    http::views::{AdminForm, AdminSection, Block, Cell, Field, FormMethod, Input, Table},
    model::revocation::NewRevocation,
    storage::{
        revocations as rows,
        revocations::{ListedRevocation, RevocationFilter},
    },
};

pub(super) const PATH: &str = "/admin/revocations";
const NEW: &str = "/admin/revocations/new";

/// What an administrator can revoke, with the ids of their messages.
const KINDS: [(&str, &str); 5] = [
    ("subject", "op-revoke-subject"),
    ("session", "op-revoke-session"),
    ("client", "op-revoke-client"),
    ("token", "op-revoke-token"),
    ("scope", "op-revoke-scope"),
];

/// The pages above those of this section.
pub(super) fn above(admin: &Admin) -> Vec<(String, String)> {
    vec![(admin.text("admin-revocations"), PATH.to_owned())]
}

/// Lists revocations, the newest first.
#[handler]
pub async fn show(admin: Admin) -> Result<Response> {
    let mut list = Listing::of(&admin, PATH);
    let kinds: Vec<_> = KINDS.into_iter().chain([("key", "op-revoke-key")]).collect();
    let filter = RevocationFilter {
        kind: list.choice("kind", "admin-kind", &kinds).map(str::to_owned),
        target: list.text("target", "op-target"),
    };
    let found = rows::page(&admin.app.db, &filter, list.before(), list.rows());
    let (entries, next) = list.read(found, |entry| entry.number.to_string()).await?;
    let names =
        Names::of(&admin, entries.iter().map(|entry| entry.target.as_str()).collect()).await?;
    let row = |entry: &ListedRevocation| {
        let until = entry.issued_until.and_then(Timestamp::from_secs).map(Admin::minute);
        vec![
            Cell::Text(Admin::minute(entry.created_at)),
            Cell::Code(entry.kind.clone()),
            match entry.kind.as_str() {
                "client" => client(&entry.target),
                _ => names.cell(&entry.target),
            },
            entry.scope.clone().map_or(Cell::Nothing, Cell::Code),
            Cell::of(until),
            Cell::Text(entry.reason.clone()),
            Cell::Text(Admin::minute(entry.expires_at)),
        ]
    };
    let columns = [
        "admin-created",
        "admin-kind",
        "op-target",
        "admin-scope",
        "op-issued-until",
        "op-reason",
        "op-expires",
    ];
    let table = Table {
        heading: admin.text("admin-revocations"),
        columns: columns.map(|column| admin.text(column)).into(),
        rows: entries.iter().map(row).collect(),
        empty: admin.text("op-none"),
        next,
    };
    let link = |key: &str, path: &str| (admin.text(key), path.to_owned());
    let links = vec![
        link("op-revoke", NEW),
        link("op-sessions", super::sessions::PATH),
        link("op-subjects", super::subjects::PATH),
        link("op-service-tokens", super::service_tokens::PATH),
    ];
    let content = Content {
        section: AdminSection::Revocations,
        title: admin.text("admin-revocations"),
        above: vec![],
        blocks: vec![
            Block::Text(admin.text("op-revocations-text")),
            Block::Links(links),
            list.form(),
            Block::Table(table),
        ],
    };
    admin.show_with(content, &list.rejected)
}

/// Asks what to revoke; `?kind=` and `?target=` fill the form in.
#[handler]
pub async fn ask(admin: Admin) -> Result<Response> {
    new_page(&admin, &Rejected::default())
}

/// Revokes it.
#[handler]
pub async fn submit(admin: Admin) -> Result<Response> {
    match create(&admin).await {
        Ok(()) => admin.done(PATH, "revocation-created"),
        Err(error) => new_page(&admin, &Rejected::of(error)?),
    }
}

async fn create(admin: &Admin) -> Result<(), Error> {
    let target = admin.given("target").unwrap_or_default().to_owned();
    let scope = admin.given("scope").map(str::to_owned);
    let revocation = match (admin.given("kind").unwrap_or_default(), scope) {
        ("token", None) => NewRevocation::Token(target),
        ("session", None) => NewRevocation::Session(target),
        ("subject", None) => NewRevocation::Subject(target),
        ("client", None) => NewRevocation::Client(target),
        ("scope", Some(scope)) => NewRevocation::Scope { sub: target, scope },
        ("token" | "session" | "subject" | "client" | "scope", _) => {
            return Err(Error::field("scope", admin.text("op-scope-wrong")));
        }
        _ => return Err(Error::field("kind", "must be one of the list")),
    };
    let reason = admin.given("reason").unwrap_or("administrator").to_owned();
    admin.confirmed("confirm")?;
    revocations::create(&admin.app, revocation, reason, None, &admin.actor).await?;
    Ok(())
}

fn new_page(admin: &Admin, rejected: &Rejected) -> Result<Response> {
    let field = |name: &'static str, label: &str, hint: &str| Field {
        name,
        label: admin.text(label),
        hint: Some(admin.text(hint)),
        value: admin.given(name).unwrap_or_default().to_owned(),
        ..Field::default()
    };
    let kinds = KINDS.map(|(kind, text)| (kind.to_owned(), admin.text(text)));
    let form = AdminForm {
        id: "revoke",
        text: Some(admin.text("op-revoke-text")),
        method: FormMethod::Post,
        action: NEW.to_owned(),
        hidden: vec![("action", "revoke".to_owned())],
        fields: vec![
            Field {
                input: Input::Choice(kinds.into()),
                hint: None,
                ..field("kind", "admin-kind", "op-target-hint")
            },
            Field { is_required: true, ..field("target", "op-target", "op-target-hint") },
            field("scope", "admin-scope", "op-scope-hint"),
            field("reason", "op-reason", "op-reason-hint"),
            confirmation(admin, "confirm", "op-revoke-confirm"),
        ],
        submit: admin.text("op-revoke"),
        is_dangerous: true,
        ..AdminForm::default()
    };
    let content = Content {
        section: AdminSection::Revocations,
        title: admin.text("op-revoke"),
        above: above(admin),
        blocks: vec![Block::Form(form)],
    };
    admin.show_with(content, rejected)
}
