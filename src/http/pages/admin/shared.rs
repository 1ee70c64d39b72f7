//! What the pages have in common: pagination, forms that switch, delete and confirm, secrets that are
//! shown once, and the values of a form that is shown again.

use std::time::Duration;

use poem::http::StatusCode;
use url::form_urlencoded;

use super::{Admin, ROWS, Rejected};
use crate::{
    clock::Timestamp,
    error::Error,
    http::views::{AdminForm, Block, Cell, Code, Field, Input},
    oauth::{params::Params, scope::Scope},
};

/// The rows to read for a page: one more shows whether another page follows.
pub(super) const READ: i64 = ROWS as i64 + 1;

/// Cuts rows to a page; returns the URL of the next one, at `path` with the parameters `asked`,
/// whose parameter `name` is the key of the last row.
pub(super) fn next_page<T>(
    rows: &mut Vec<T>,
    (path, asked): (&str, Params),
    name: &str,
    key: impl Fn(&T) -> String,
) -> Option<String> {
    if rows.len() <= ROWS {
        return None;
    }
    rows.truncate(ROWS);
    let last = rows.last().map(key)?;
    Some(format!("{path}?{}", asked.without(&[name]).with(name, last).encode()))
}

/// As [`next_page`], of the list at the page that was asked for.
pub(super) fn cut<T>(
    admin: &Admin,
    rows: &mut Vec<T>,
    name: &str,
    key: impl Fn(&T) -> String,
) -> Option<String> {
    // The parameters of a POST are those of its form.
    let asked = if admin.url.is_some() { admin.params.clone() } else { Params::default() };
    next_page(rows, (&admin.path, asked.without(&["done", "lang"])), name, key)
}

/// A parameter of the URL; `None` also where a form was sent.
pub(super) fn asked<'a>(admin: &'a Admin, name: &str) -> Option<&'a str> {
    admin.url.as_ref().and_then(|_| admin.given(name))
}

/// The path of an entry of a list. Ids of clients may be URLs.
pub(super) fn path_of(list: &str, id: &str) -> String {
    // The path of the page for a new one is taken.
    if id == "new" {
        return format!("{list}/%6Eew");
    }
    let id: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
    format!("{list}/{}", id.replace('+', "%20"))
}

/// A user, by the id that grants and sessions name.
pub(super) fn user(user_id: Option<&str>, subject: &str) -> Cell {
    match user_id {
        Some(id) => Cell::link(id, path_of("/admin/users", id)),
        None => Cell::Code(subject.to_owned()),
    }
}

/// The hidden fields of a form that changes a state.
pub(super) fn change_of(action: &str, updated_at: Timestamp) -> Vec<(&'static str, String)> {
    vec![("action", action.to_owned()), version(updated_at)]
}

/// The state of a resource that a form was filled in for: its hidden field `version`.
pub(super) fn version(updated_at: Timestamp) -> (&'static str, String) {
    ("version", updated_at.micros().to_string())
}

/// The hidden fields of a form that applies to any state.
pub(super) fn action(name: &str) -> Vec<(&'static str, String)> {
    vec![("action", name.to_owned())]
}

/// An action that the page does not have.
pub(super) fn no_such_action() -> Error {
    Error::field("action", "must be one that this page offers")
}

pub(super) fn is_ticked(admin: &Admin, name: &str) -> bool {
    admin.given(name) == Some("1")
}

pub(super) fn yes_or_no(admin: &Admin, is_on: bool) -> String {
    admin.text(if is_on { "admin-yes" } else { "admin-no" })
}

/// The lines of a field that are not empty.
pub(super) fn lines(admin: &Admin, name: &str) -> Vec<String> {
    let text = admin.given(name).unwrap_or_default();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Scopes with any white space between them.
///
/// # Errors
/// [`Error::Validation`] for that field.
pub(super) fn scope(admin: &Admin, field: &'static str) -> Result<Scope, Error> {
    let words: Vec<&str> =
        admin.given(field).unwrap_or_default().split_ascii_whitespace().collect();
    Scope::parse(&words.join(" ")).map_err(|why| Error::field(field, why))
}

/// The planned end of a grant: the end of the day of the form, in UTC.
///
/// # Errors
/// [`Error::Validation`].
pub(super) fn last_day(admin: &Admin) -> Result<Option<Timestamp>, Error> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let end = |day: &str| {
        let begin = Timestamp::parse(&format!("{day}T00:00:00Z"));
        let begin =
            begin.ok_or_else(|| Error::field("validUntil", "must be a day, like 2027-01-31"));
        begin.map(|begin| begin + DAY)
    };
    admin.given("validUntil").map(end).transpose()
}

/// The form that deletes the resource of a page.
pub(super) fn deletion(
    admin: &Admin,
    id: &'static str,
    heading: String,
    text: String,
    updated_at: Timestamp,
) -> AdminForm {
    AdminForm {
        id,
        heading: Some(heading),
        text: Some(text),
        action: admin.path.clone(),
        hidden: change_of("delete", updated_at),
        fields: vec![confirmation(admin, "confirm", "admin-set-confirm")],
        submit: admin.text("admin-set-delete"),
        is_dangerous: true,
        ..AdminForm::default()
    }
}

/// The checkbox that confirms what cannot be undone ([`Admin::confirmed`]).
pub(super) fn confirmation(admin: &Admin, name: &'static str, label: &str) -> Field {
    let (label, input) = (admin.text(label), Input::Checkbox);
    Field { name, label, input, is_required: true, ..Field::default() }
}

/// The form that disables or enables the resource of a page: the messages of its button and of what
/// that does, for each.
pub(super) fn switch(
    admin: &Admin,
    is_enabled: bool,
    disable: (&str, &str),
    enable: (&str, &str),
) -> AdminForm {
    let (does, (button, text)) = if is_enabled { ("disable", disable) } else { ("enable", enable) };
    AdminForm {
        id: "switch",
        heading: Some(admin.text(button)),
        text: Some(admin.text(text)),
        action: admin.path.clone(),
        hidden: action(does),
        submit: admin.text(button),
        is_dangerous: is_enabled,
        ..AdminForm::default()
    }
}

/// A secret that is on the response to a form only; `heading`: the message that names it.
pub(super) fn shown_once(admin: &Admin, heading: &str, code: String) -> Block {
    let (heading, text) = (admin.text(heading), admin.text("admin-secret-once"));
    Block::Code(Code { heading, text, code })
}

/// The values of a form: as they were typed where it was refused, else as they are stored.
pub(super) struct Values<'a>(Option<&'a Admin>);

impl<'a> Values<'a> {
    /// The values of the form that does `action`. A state that has changed is shown as it is now.
    pub fn of(admin: &'a Admin, action: &str, rejected: &Rejected) -> Self {
        let is_again = rejected.status.is_some_and(|one| one != StatusCode::PRECONDITION_FAILED);
        let is_again = is_again && admin.given("action") == Some(action);
        Self(is_again.then_some(admin))
    }

    pub fn text(&self, name: &str, stored: &str) -> String {
        match self.0 {
            Some(admin) => admin.params.get(name).unwrap_or_default().to_owned(),
            None => stored.to_owned(),
        }
    }

    pub fn lines(&self, name: &str, stored: &[String]) -> String {
        self.text(name, &stored.join("\n"))
    }

    pub fn tick(&self, name: &str, stored: bool) -> String {
        self.text(name, if stored { "1" } else { "" })
    }
}
