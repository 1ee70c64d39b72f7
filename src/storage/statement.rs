//! A statement as a value (text and parameters), and a row of either backend.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use sqlx::{
    AssertSqlSafe, ColumnIndex, Database, Decode, PgConnection, Postgres, Row as _, Sqlite,
    SqliteConnection, Type, error::BoxDynError, postgres::PgRow, sqlite::SqliteRow,
};

use super::{Error, Result};
use crate::ids::{BrowserSessionId, ClientId, SessionId, UserId};

/// SQL text with its parameters `$1`, `$2`, …; the text is the same for both backends.
#[derive(Debug)]
pub struct Statement {
    /// Composed of constants of this program; every value from outside is a parameter.
    sql: Cow<'static, str>,
    locking: Option<Cow<'static, str>>,
    values: Vec<Value>,
    /// Whether the text for SQLite is several statements.
    is_compound: bool,
    /// Whether it filters a list: PostgreSQL is to plan it for its values each time, since a value
    /// may be that of one row or of most.
    has_filters: bool,
}

/// The column types that both backends share.
#[derive(Debug)]
pub enum Value {
    Text(Option<String>),
    Int(Option<i64>),
    Bytes(Option<Vec<u8>>),
    Bool(bool),
}

/// The statement as a query of sqlx for one database: the same text, but different types.
macro_rules! bound {
    ($statement:expr, $sql:expr, $database:ty) => {
        $statement.values.iter().fold(
            sqlx::query::<$database>(AssertSqlSafe($sql)),
            |query, value| match value {
                Value::Text(value) => query.bind(value.clone()),
                Value::Int(value) => query.bind(*value),
                Value::Bytes(value) => query.bind(value.clone()),
                Value::Bool(value) => query.bind(*value),
            },
        )
    };
}

impl Statement {
    pub fn new(sql: &'static str) -> Self {
        Self {
            sql: Cow::Borrowed(sql),
            locking: None,
            values: Vec::with_capacity(8),
            is_compound: false,
            has_filters: false,
        }
    }

    /// The same statement for PostgreSQL, with the row locks that concurrent writers require.
    /// SQLite has a single writer and no syntax for row locks.
    pub(super) fn locking(mut self, sql: &'static str) -> Self {
        self.locking = Some(Cow::Borrowed(sql));
        self
    }

    /// The same statement in the words of PostgreSQL, where the two have functions of their own.
    pub(super) fn for_postgres(self, sql: &'static str) -> Self {
        self.locking(sql)
    }

    /// Binds the next parameter.
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Appends a text whose only `$` is the placeholder of the value.
    pub(super) fn with(mut self, text: &'static str, value: impl Into<Value>) -> Self {
        self = self.bind(value);
        let place = format!("${}", self.values.len());
        let sql = self.sql.to_mut();
        sql.push(' ');
        sql.push_str(&text.replacen('$', &place, 1));
        self
    }

    /// As [`Statement::with`] if there is a value: a filter of a list. Each combination of filters
    /// is a text of its own, for whose values the database plans the best index.
    pub(super) fn filter(mut self, text: &'static str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => {
                self.has_filters = true;
                self.with(text, value)
            }
            None => self,
        }
    }

    /// Appends a text without a parameter.
    pub(super) fn only_if(mut self, applies: bool, text: &'static str) -> Self {
        if applies {
            let sql = self.sql.to_mut();
            sql.push(' ');
            sql.push_str(text);
        }
        self
    }

    /// Adds inserts that are run if this statement, which has a RETURNING, has changed a row. All
    /// of them take effect or none: a single statement in PostgreSQL, a text of several in SQLite.
    /// Each is an `INSERT … SELECT` without a WHERE.
    pub fn followed_by(mut self, inserts: Vec<Self>) -> Self {
        let mut postgres = format!("WITH changed AS ({})", self.postgres_text());
        let mut sqlite = format!("SAVEPOINT compound; {}", self.sql);
        for (number, insert) in inserts.into_iter().enumerate() {
            let text = renumbered(&insert.postgres_text(), self.values.len());
            let exists = "WHERE EXISTS (SELECT 1 FROM changed)";
            postgres.push_str(&format!(", then{number} AS ({text} {exists})"));
            let text = renumbered(&insert.sql, self.values.len());
            // The rows that the statement before has changed.
            sqlite.push_str(&format!("; {text} WHERE changes() > 0"));
            self.values.extend(insert.values);
        }
        postgres.push_str(" SELECT * FROM changed");
        sqlite.push_str("; RELEASE compound");
        self.sql = Cow::Owned(sqlite);
        self.locking = Some(Cow::Owned(postgres));
        self.is_compound = true;
        self
    }

    /// Whether the text for SQLite is several statements, with the savepoint `compound` around them
    /// that a failure leaves open.
    pub(super) const fn is_compound(&self) -> bool {
        self.is_compound
    }

    fn postgres_text(&self) -> Cow<'static, str> {
        self.locking.as_ref().unwrap_or(&self.sql).clone()
    }

    /// Whether it has no parameters, so that it can be sent without being prepared.
    pub(super) fn has_no_values(&self) -> bool {
        self.values.is_empty()
    }

    /// `may_be_named`: prepared under a name on its first use, and again found under it, unless it
    /// filters a list.
    pub(super) async fn on_postgres(
        &self,
        connection: &mut PgConnection,
        may_be_named: bool,
    ) -> Result<Vec<Row>> {
        let (sql, is_named) = (self.postgres_text(), may_be_named && !self.has_filters);
        let rows = bound!(self, sql, Postgres).persistent(is_named).fetch_all(connection).await;
        Ok(rows.map_err(Error::from_sqlx)?.into_iter().map(Row::Postgres).collect())
    }

    /// Runs it as text, without preparing it: one round trip.
    pub(super) async fn on_postgres_unprepared(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<Row>> {
        let sql = self.postgres_text();
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await;
        Ok(rows.map_err(Error::from_sqlx)?.into_iter().map(Row::Postgres).collect())
    }

    pub(super) async fn on_sqlite(&self, connection: &mut SqliteConnection) -> Result<Vec<Row>> {
        let rows = bound!(self, self.sql.clone(), Sqlite).fetch_all(connection).await;
        Ok(rows.map_err(Error::from_sqlx)?.into_iter().map(Row::Sqlite).collect())
    }
}

/// The text with each placeholder's number moved by so many.
fn renumbered(sql: &str, by: usize) -> String {
    let mut parts = sql.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = part.split_at(digits);
        text.push('$');
        match number.parse::<usize>() {
            Ok(number) => text.push_str(&(number + by).to_string()),
            Err(_) => text.push_str(number),
        }
        text.push_str(rest);
    }
    text
}

/// A row of a result.
#[derive(Debug)]
pub enum Row {
    Postgres(PgRow),
    Sqlite(SqliteRow),
}

impl Row {
    /// The value of the named column.
    ///
    /// # Errors
    /// [`Error::Database`] if the column is missing or has another type.
    pub fn get<T>(&self, column: &str) -> Result<T>
    where
        T: for<'r> Decode<'r, Postgres>
            + Type<Postgres>
            + for<'r> Decode<'r, Sqlite>
            + Type<Sqlite>,
        for<'c> &'c str: ColumnIndex<PgRow> + ColumnIndex<SqliteRow>,
    {
        Ok(match self {
            Self::Postgres(row) => row.try_get(column)?,
            Self::Sqlite(row) => row.try_get(column)?,
        })
    }
}

/// Rows as JSON: one parameter for all of them, whatever their number.
pub(super) fn json<T: Serialize>(rows: &[T]) -> Result<String> {
    serde_json::to_string(rows).map_err(|error| Error::Corrupt(error.to_string()))
}

/// Bytes within [`json`], as the `unhex` of SQLite and the `decode` of PostgreSQL read them.
pub(super) fn hex<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
    let text: String = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
    serializer.serialize_str(&text)
}

/// As [`hex`].
pub(super) fn optional_hex<S: Serializer>(
    bytes: &Option<[u8; 32]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => hex(bytes, serializer),
        None => serializer.serialize_none(),
    }
}

/// The row of a result that has at most one.
pub(super) fn one(rows: Vec<Row>) -> Option<Row> {
    rows.into_iter().next()
}

macro_rules! value_from {
    ($($from:ty => $variant:ident($convert:expr)),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant($convert(value))
            }
        })*
    };
}

value_from! {
    String => Text(Some),
    Option<String> => Text(std::convert::identity),
    &str => Text(|v: &str| Some(v.to_owned())),
    Option<&str> => Text(|v: Option<&str>| v.map(str::to_owned)),
    i64 => Int(Some),
    Option<i64> => Int(std::convert::identity),
    Option<Vec<u8>> => Bytes(std::convert::identity),
    [u8; 32] => Bytes(|v: [u8; 32]| Some(v.to_vec())),
    bool => Bool(std::convert::identity),
    crate::clock::Timestamp => Int(|v: crate::clock::Timestamp| Some(v.0)),
    Option<crate::clock::Timestamp> => Int(|v: Option<crate::clock::Timestamp>| v.map(|v| v.0)),
}

/// A column of text that holds an id.
macro_rules! ids {
    ($($id:ty),* $(,)?) => {
        $(
            value_from! {
                $id => Text(|v: $id| Some(v.into())),
                &$id => Text(|v: &$id| Some(v.as_str().to_owned())),
                Option<$id> => Text(|v: Option<$id>| v.map(Into::into)),
                Option<&$id> => Text(|v: Option<&$id>| v.map(|v| v.as_str().to_owned())),
            }

            impl<DB: Database> Type<DB> for $id
            where
                String: Type<DB>,
            {
                fn type_info() -> DB::TypeInfo {
                    String::type_info()
                }

                fn compatible(ty: &DB::TypeInfo) -> bool {
                    String::compatible(ty)
                }
            }

            impl<'r, DB: Database> Decode<'r, DB> for $id
            where
                String: Decode<'r, DB>,
            {
                fn decode(value: DB::ValueRef<'r>) -> std::result::Result<Self, BoxDynError> {
                    String::decode(value).map(Self::from)
                }
            }
        )*
    };
}

ids! { UserId, ClientId, SessionId, BrowserSessionId }
