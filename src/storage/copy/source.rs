//! The SQLite side: locked until it is closed, and only read.

use std::{collections::BTreeSet, fs::File, time::Duration};

use futures_util::{TryStreamExt as _, stream::BoxStream};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use super::{
    CopyError,
    rows::Digest,
    tables::{self, Reference, Table, quoted},
};
use crate::storage::{Error, migrate, sqlite};

/// A database that no server uses, and that nobody else can write to.
pub struct Source {
    pub connection: SqliteConnection,
    path: String,
    _servers_kept_out: File,
}

/// The number that an identity column continues from.
pub struct LastNumber<'a> {
    pub table: &'a str,
    pub column: &'a str,
    pub number: i64,
}

impl Source {
    /// Opens the file as it is; `timeout` bounds the wait for another writer.
    pub async fn open(url: &str, timeout: Duration) -> Result<Self, CopyError> {
        let options: SqliteConnectOptions = url.parse().map_err(CopyError::Source)?;
        let file = options.get_filename().to_owned();
        let path = file.display().to_string();
        if !file.is_file() {
            return Err(CopyError::NoSource(path));
        }
        let lock = sqlite::keep_servers_out(&file).map_err(|error| {
            Error::Folder(format!("cannot lock the file serve.lock beside {path}: {error}"))
        })?;
        let Some(lock) = lock else {
            return Err(CopyError::Running(path));
        };
        let options =
            options.create_if_missing(false).busy_timeout(timeout).disable_statement_logging();
        let connected = SqliteConnection::connect_with(&options).await;
        let mut connection = connected.map_err(CopyError::Source)?;
        // Other commands are no servers; this is the lock that they need to write.
        match sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await {
            Ok(_) => Ok(Self { connection, path, _servers_kept_out: lock }),
            Err(sqlx::Error::Database(error)) if sqlite::is_busy(&*error) => {
                Err(CopyError::Busy(path))
            }
            Err(error) => Err(CopyError::Source(error)),
        }
    }

    /// Compares the schema with the one of this program; returns the tables that are not in it.
    pub async fn check(&mut self, reference: &Reference) -> Result<Vec<String>, CopyError> {
        let failed = CopyError::Source;
        let schema = |problem| CopyError::Schema { side: "source", problem };
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'";
        if self.number(sql.to_owned()).await? != Some(1) {
            return Err(CopyError::NoSource(self.path.clone()));
        }
        let applied = sqlx::query("SELECT version, checksum FROM _sqlx_migrations WHERE success");
        let applied = applied.fetch_all(&mut self.connection).await.map_err(failed)?;
        let applied = applied.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let applied: Vec<(i64, Vec<u8>)> = applied.collect::<sqlx::Result<_>>().map_err(failed)?;
        migrate::compare(&migrate::sqlite_migrator(), &applied).map_err(schema)?;
        let names = tables::names(&mut self.connection).await.map_err(failed)?;
        for known in &reference.tables {
            let found = tables::layout(&mut self.connection, known.name.clone()).await;
            let found: BTreeSet<_> = found.map_err(failed)?.columns.into_iter().collect();
            if found != known.columns.iter().cloned().collect() {
                let name = &known.name;
                return Err(schema(format!(
                    "the columns of the table {name} were changed by hand"
                )));
            }
        }
        let is_known = |name: &String| reference.tables.iter().any(|known| known.name == *name);
        Ok(names.into_iter().filter(|name| !is_known(name)).collect())
    }

    /// The rows of a table.
    pub fn rows(&mut self, table: &Table) -> BoxStream<'_, sqlx::Result<SqliteRow>> {
        sqlx::query(AssertSqlSafe(table.select_statement())).fetch(&mut self.connection)
    }

    /// The number of rows of a table.
    pub async fn count(&mut self, table: &Table) -> Result<u64, CopyError> {
        let sql = format!("SELECT count(*) FROM {}", quoted(&table.name));
        let rows = self.number(sql).await?.unwrap_or_default();
        Ok(u64::try_from(rows).unwrap_or_default())
    }

    /// The largest number that each numbered table has given out, also to rows that were removed.
    pub async fn last_numbers<'a>(
        &mut self,
        tables: &'a [Table],
    ) -> Result<Vec<LastNumber<'a>>, CopyError> {
        let mut numbers = vec![];
        for table in tables {
            let Some(at) = table.identity else { continue };
            let (table, column) = (table.name.as_str(), table.columns[at].name.as_str());
            let largest = format!("SELECT max({}) FROM {}", quoted(column), quoted(table));
            let given_out = format!("SELECT seq FROM sqlite_sequence WHERE name = '{table}'");
            let number = self.number(largest).await?.max(self.number(given_out).await?);
            numbers.push(LastNumber { table, column, number: number.unwrap_or_default() });
        }
        Ok(numbers)
    }

    async fn number(&mut self, sql: String) -> Result<Option<i64>, CopyError> {
        let query = sqlx::query(AssertSqlSafe(sql));
        let row = query.fetch_optional(&mut self.connection).await.map_err(CopyError::Source)?;
        row.map_or(Ok(None), |row| row.try_get(0)).map_err(CopyError::Source)
    }

    /// Ends the lock.
    pub async fn close(mut self) {
        // Nothing was written; closing it would end the transaction as well.
        if let Err(error) = sqlx::query("ROLLBACK").execute(&mut self.connection).await {
            tracing::debug!(%error, path = self.path, "the source was not unlocked by a statement");
        }
        let _ = self.connection.close().await;
    }
}

/// The digest of a table's rows as SQLite returns them.
pub async fn digest(connection: &mut SqliteConnection, table: &Table) -> Result<Digest, CopyError> {
    let mut digest = Digest::default();
    let query = sqlx::query(AssertSqlSafe(table.select_statement()));
    let mut rows = query.fetch(connection);
    while let Some(row) = rows.try_next().await.map_err(CopyError::Source)? {
        digest.add_sqlite(table, &row)?;
    }
    Ok(digest)
}
