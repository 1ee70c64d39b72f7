//! Lists with filters, a page at a time. What a list shows is in its URL, so that it can be kept
//! and sent to a colleague.

use std::collections::{BTreeSet, HashMap};

use poem::{Response, Result, http::StatusCode};
use serde_json::Value;

use super::{
    Admin, Rejected, see_other,
    shared::{READ, next_page, path_of},
};
use crate::{
    api_error::ApiError,
    clock::Timestamp,
    error::Error,
    http::views::{AdminForm, AdminSection, Block, Cell, Field, FormMethod, Input},
    oauth::params::Params,
    storage::{self, users},
};

/// The maximum length of a filter in bytes, as in the API.
const LONGEST: usize = 512;

/// As the response to a request.
pub(super) fn failed(error: impl Into<Error>) -> poem::Error {
    ApiError::from(error.into()).into()
}

/// A list and the filters that it is read with.
pub(super) struct Listing<'a> {
    admin: &'a Admin,
    path: String,
    /// The filters as they were sent.
    given: Params,
    fields: Vec<Field>,
    pub(super) rejected: Rejected,
}

impl<'a> Listing<'a> {
    /// The list at this path.
    pub(super) fn of(admin: &'a Admin, path: impl Into<String>) -> Self {
        let (given, fields, rejected) = (Params::default(), vec![], Rejected::default());
        Self { admin, path: path.into(), given, fields, rejected }
    }

    /// The value of a parameter of the query; the fields of a form that was sent are no filters.
    fn value(&self, name: &str) -> Option<&'a str> {
        self.admin.url.as_ref()?;
        self.admin.given(name)
    }

    fn refuse(&mut self, name: &str, message: String) {
        self.rejected.status = Some(StatusCode::BAD_REQUEST);
        self.rejected.fields.push((name.to_owned(), message));
    }

    /// Shows an error of a filter on its field.
    ///
    /// # Errors
    /// Any error but that of a field.
    pub(super) fn reject(&mut self, error: Error) -> Result<()> {
        let Rejected { status, fields, .. } = Rejected::of(error)?;
        self.rejected.status = status;
        self.rejected.fields.extend(fields);
        Ok(())
    }

    fn keep(&mut self, name: &'static str, label: &str, input: Input, hint: Option<&str>) {
        let value = self.value(name).unwrap_or_default().to_owned();
        if !value.is_empty() {
            self.given = std::mem::take(&mut self.given).with(name, value.as_str());
        }
        self.fields.push(Field {
            name,
            label: self.admin.text(label),
            hint: hint.map(|hint| self.admin.text(hint)),
            value,
            input,
            ..Field::default()
        });
    }

    /// A filter by a text; `label`: the id of a message.
    pub(super) fn text(&mut self, name: &'static str, label: &str) -> Option<String> {
        self.keep(name, label, Input::Text, None);
        let value = self.value(name)?;
        if value.len() > LONGEST {
            self.refuse(name, "must be a text of 1 to 512 bytes".to_owned());
            return None;
        }
        Some(value.to_owned())
    }

    /// A filter by one of these values, each with the id of its message.
    pub(super) fn choice(
        &mut self,
        name: &'static str,
        label: &str,
        choices: &[(&'static str, &str)],
    ) -> Option<&'static str> {
        let any = (String::new(), self.admin.text("admin-any"));
        let shown =
            choices.iter().map(|(value, text)| ((*value).to_owned(), self.admin.text(text)));
        let shown = Input::Choice([any].into_iter().chain(shown).collect());
        self.keep(name, label, shown, None);
        let value = self.value(name)?;
        let found = choices.iter().find(|(known, _)| *known == value);
        if found.is_none() {
            let known: Vec<&str> = choices.iter().map(|(known, _)| *known).collect();
            self.refuse(name, format!("must be one of {}", known.join(", ")));
        }
        found.map(|(value, _)| *value)
    }

    /// A filter that applies where it is ticked.
    pub(super) fn ticked(&mut self, name: &'static str, label: &str) -> bool {
        self.keep(name, label, Input::Checkbox, None);
        self.value(name) == Some("1")
    }

    /// A filter by time, in UTC.
    pub(super) fn time(&mut self, name: &'static str, label: &str) -> Option<Timestamp> {
        self.keep(name, label, Input::Text, Some("op-time-hint"));
        let read = moment(self.value(name)?);
        if read.is_none() {
            self.refuse(name, self.admin.text("op-time-wrong"));
        }
        read
    }

    /// The key of the last row of the previous page.
    pub(super) fn cursor(&self) -> Option<&'a str> {
        self.value("cursor").filter(|cursor| cursor.len() <= LONGEST)
    }

    /// As [`Listing::cursor`], for lists in descending order of a number.
    pub(super) fn before(&self) -> i64 {
        self.cursor().and_then(|cursor| cursor.parse().ok()).unwrap_or(i64::MAX)
    }

    /// The rows to read: one more than are shown, which tells whether another page follows.
    pub(super) const fn rows(&self) -> i64 {
        READ
    }

    /// The rows of this page, and the URL of the next one; `key` is what the list is ordered by.
    /// Nothing is read where a filter was refused.
    pub(super) async fn read<T>(
        &self,
        rows: impl Future<Output = storage::Result<Vec<T>>>,
        key: impl Fn(&T) -> String,
    ) -> Result<(Vec<T>, Option<String>)> {
        if self.rejected.status.is_some() {
            return Ok((vec![], None));
        }
        let mut rows = rows.await.map_err(failed)?;
        let next = next_page(&mut rows, (&self.path, self.given.clone()), "cursor", key);
        Ok((rows, next))
    }

    /// The form of the filters.
    pub(super) fn form(&self) -> Block {
        Block::Form(AdminForm {
            id: "filters",
            method: FormMethod::Get,
            action: self.path.clone(),
            fields: self.fields.clone(),
            submit: self.admin.text("admin-filter"),
            ..AdminForm::default()
        })
    }

    /// A filter of the URL that no field shows, for the next page.
    pub(super) fn keep_hidden(&mut self, name: &str, value: &str) {
        self.given = std::mem::take(&mut self.given).with(name, value);
    }

    /// The filters, for the hidden field of a button that leads back to this list.
    pub(super) fn query(&self) -> String {
        self.given.encode()
    }
}

/// Leads back to a list with the filters of [`Listing::query`].
pub(super) fn done_with_filters(admin: &Admin, path: &str, done: &str) -> Result<Response> {
    let filters = admin.given("filters").unwrap_or_default();
    let filters = Params::parse(filters.as_bytes()).unwrap_or_default();
    let query = filters.without(&["done", "lang"]).with("done", done).encode();
    see_other(&format!("{path}?{query}"))
}

/// A moment in UTC, as pages show it or as RFC 3339 writes it: `2026-11-21`, `2026-11-21 09:30`,
/// `2026-11-21T09:30:00Z`.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{}:00Z", text.replacen(' ', "T", 1)),
        _ => text.to_owned(),
    };
    Timestamp::parse(&whole)
}

/// The names of the users of a list.
pub(super) struct Names(HashMap<String, String>);

impl Names {
    pub(super) async fn of(admin: &Admin, ids: Vec<&str>) -> Result<Self> {
        let ids: BTreeSet<&str> = ids.into_iter().collect();
        Ok(Self(users::names(&admin.app.db, &ids).await.map_err(failed)?))
    }

    /// The link to a user; any other id as it is.
    pub(super) fn cell(&self, id: &str) -> Cell {
        match self.0.get(id) {
            Some(name) => Cell::link(name.as_str(), format!("/admin/users/{id}")),
            None => Cell::Code(id.to_owned()),
        }
    }
}

/// The link to a client.
pub(super) fn client(id: &str) -> Cell {
    Cell::link(id, path_of(AdminSection::Clients.path(), id))
}

/// The link to the explanation of a request.
pub(super) fn request(id: Option<&str>) -> Cell {
    id.map_or(Cell::Nothing, |id| Cell::link(id, format!("/admin/explain?id={id}")))
}

/// The fields of a JSON object, a line each; those of an object in it by their path.
pub(super) fn details(detail: &Value) -> Cell {
    fn walk(path: &str, value: &Value, lines: &mut Vec<String>) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (name, value) in fields {
                    let dot = if path.is_empty() { "" } else { "." };
                    walk(&format!("{path}{dot}{name}"), value, lines);
                }
            }
            Value::Object(_) | Value::Null if path.is_empty() => {}
            Value::String(text) => lines.push(format!("{path}: {text}")),
            other => lines.push(format!("{path}: {other}")),
        }
    }
    let mut lines = vec![];
    walk("", detail, &mut lines);
    texts(lines.into_iter().map(Some))
}

/// The texts that there are, a line each.
pub(super) fn texts(texts: impl IntoIterator<Item = Option<String>>) -> Cell {
    let lines: Vec<String> = texts.into_iter().flatten().collect();
    if lines.is_empty() { Cell::Nothing } else { Cell::Lines(lines) }
}
