//! The tables of Propusk, as its migrations create them.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{
    AssertSqlSafe, Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions,
};

use super::{
    rows::{Digest, Kind},
    source,
};
use crate::storage::migrate;

/// A table, with the column types of PostgreSQL.
#[derive(Debug)]
pub struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    /// The places of the primary key's columns.
    pub key: Vec<usize>,
    /// The column that PostgreSQL numbers.
    pub identity: Option<usize>,
}

#[derive(Debug)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
}

impl Table {
    /// The names of the columns, quoted: both databases return them in this order.
    fn column_list(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|column| quoted(&column.name)).collect();
        names.join(", ")
    }

    pub fn select_statement(&self) -> String {
        format!("SELECT {} FROM {}", self.column_list(), quoted(&self.name))
    }

    /// Values of identity columns are taken as they are.
    pub fn copy_statement(&self) -> String {
        let (name, columns) = (quoted(&self.name), self.column_list());
        format!("COPY {name} ({columns}) FROM STDIN (FORMAT binary)")
    }
}

/// An identifier, as both databases take it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table by its names alone.
#[derive(Debug)]
pub struct Layout {
    pub name: String,
    pub columns: Vec<String>,
    pub key: Vec<usize>,
    references: BTreeSet<String>,
}

/// A database in memory with the schema of this program and the rows that migrations insert.
pub struct Reference {
    connection: SqliteConnection,
    /// Those that others refer to come first.
    pub tables: Vec<Layout>,
}

impl Reference {
    pub async fn create() -> sqlx::Result<Self> {
        let options = SqliteConnectOptions::new().in_memory(true);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let migrated = migrate::sqlite_migrator().run(&mut connection).await;
        migrated.map_err(|error| sqlx::Error::Migrate(Box::new(error)))?;
        let mut tables = vec![];
        for name in names(&mut connection).await? {
            tables.push(layout(&mut connection, name).await?);
        }
        let tables = in_order(tables)?;
        Ok(Self { connection, tables })
    }

    /// The digest of the rows that migrations insert.
    pub async fn digest(&mut self, table: &Table) -> Result<Digest, super::CopyError> {
        source::digest(&mut self.connection, table).await
    }
}

/// The tables of an SQLite database, without those of SQLite and of the migrations.
pub async fn names(connection: &mut SqliteConnection) -> sqlx::Result<Vec<String>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' \
               AND name NOT LIKE 'sqlite!_%' ESCAPE '!' AND name <> '_sqlx_migrations' ORDER BY name";
    let rows = sqlx::query(sql).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// The columns of a table, and the tables that it refers to.
pub async fn layout(connection: &mut SqliteConnection, name: String) -> sqlx::Result<Layout> {
    let sql = format!("SELECT name, pk FROM pragma_table_info({}) ORDER BY cid", literal(&name));
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *connection).await?;
    let (mut columns, mut key) = (vec![], vec![]);
    for row in rows {
        let place: i64 = row.try_get(1)?;
        if place > 0 {
            key.push((place, columns.len()));
        }
        columns.push(row.try_get(0)?);
    }
    key.sort_unstable();
    let sql = format!("SELECT \"table\" FROM pragma_foreign_key_list({})", literal(&name));
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(connection).await?;
    let references = rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>()?;
    let key = key.into_iter().map(|(_, at)| at).collect();
    Ok(Layout { name, columns, key, references })
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Each table after those that it refers to; rows that refer to their own table are checked when
/// all of them are there.
fn in_order(tables: Vec<Layout>) -> sqlx::Result<Vec<Layout>> {
    let mut waiting: BTreeMap<String, Layout> =
        tables.into_iter().map(|table| (table.name.clone(), table)).collect();
    let mut ordered = vec![];
    while !waiting.is_empty() {
        let is_ready = |table: &&Layout| {
            let others = table.references.iter().filter(|name| **name != table.name);
            others.into_iter().all(|name| !waiting.contains_key(name))
        };
        let ready: Vec<_> =
            waiting.values().filter(is_ready).map(|table| table.name.clone()).collect();
        if ready.is_empty() {
            let names: Vec<_> = waiting.into_keys().collect();
            let message = format!("tables refer to each other: {}", names.join(", "));
            return Err(sqlx::Error::Protocol(message));
        }
        ordered.extend(ready.iter().filter_map(|name| waiting.remove(name)));
    }
    Ok(ordered)
}
