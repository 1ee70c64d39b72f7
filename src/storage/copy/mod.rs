//! Copies an SQLite database to PostgreSQL and compares the two (`propusk move`).
//!
//! The source is locked against writers, and against servers, until the end. On PostgreSQL
//! everything is one transaction, migrations included: it is committed once every table was read
//! back from both databases and found equal. So a copy that fails, or whose process ends, leaves
//! the target as it was.
//!
//! Nothing here names a table, but for the epoch of the Redis replica: the tables and columns are
//! those that the migrations create in a database in memory (`tables::Reference`).

mod rows;
mod source;
mod tables;
mod target;

use futures_util::{TryFutureExt as _, TryStreamExt as _, try_join};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};

use self::{
    rows::{CopyBuffer, Digest, Problem},
    source::Source,
    tables::{Reference, Table},
};
use super::{Error, postgres::Server};
use crate::config::Config;

/// Rows of one `COPY`: PostgreSQL keeps the checks of their foreign keys in memory until its end.
const BATCH: u64 = 50_000;
/// Rows between two reports of progress.
const REPORT_EVERY: u64 = 1_000;

/// Why nothing was copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is no source, or it has no tables.
    #[error("there is no database of Propusk in {0}")]
    NoSource(String),
    /// A server process is registered with the source.
    #[error("a server is running on {0}: stop it first, so that nothing it writes is lost")]
    Running(String),
    /// Another program holds the write lock of the source.
    #[error("another program writes to {0}: wait for it to finish, or stop it")]
    Busy(String),
    /// The schema is not the one of this program.
    #[error("the schema of the {side} is not the one of this version: {problem}")]
    Schema {
        /// `source` or `target`.
        side: &'static str,
        /// What differs, and what to do.
        problem: String,
    },
    /// A table of the target has a name that the migrations need.
    #[error(
        "the target has a table {0} that Propusk's migrations did not create: name an empty database"
    )]
    ForeignTable(String),
    /// The target has rows beside those that the migrations insert.
    #[error("the target is not empty: it has rows in {0}; name an empty database")]
    NotEmpty(String),
    /// The target does not answer, or refuses the user.
    #[error(
        "cannot connect to PostgreSQL ({0}): is it running, and are the URL and its password right?"
    )]
    Unreachable(#[source] Error),
    /// Another process uses the target.
    #[error(
        "another process has locked tables of the target: stop the server or `propusk move` there"
    )]
    TargetBusy,
    /// A value that PostgreSQL cannot store as the column's type.
    #[error(
        "table {table}, row {key}: {column} {problem}; correct the row and run the command again"
    )]
    Value {
        /// The table of the row.
        table: String,
        /// The primary key of the row.
        key: String,
        /// The column of the value.
        column: String,
        /// Why it cannot be stored.
        problem: Problem,
    },
    /// PostgreSQL refused rows of a table.
    #[error("table {table}: PostgreSQL refused rows: {problem}")]
    Rejected {
        /// The table whose rows were sent.
        table: String,
        /// What PostgreSQL says, with the line of the batch.
        problem: String,
    },
    /// What was read back from PostgreSQL is not what SQLite has.
    #[error(
        "table {table} differs after the copy: SQLite has {source_rows} row(s) with digest {source_digest}, \
         PostgreSQL {target_rows} with {target_digest}; look for triggers and rules in the target"
    )]
    Differs {
        /// The table.
        table: String,
        /// The number of rows that SQLite has.
        source_rows: u64,
        /// The beginning of their digest.
        source_digest: String,
        /// The number of rows that PostgreSQL returns.
        target_rows: u64,
        /// The beginning of their digest.
        target_digest: String,
    },
    /// SQLite failed.
    #[error("the source cannot be read: {0}")]
    Source(#[source] sqlx::Error),
    /// PostgreSQL failed or is unreachable.
    #[error("PostgreSQL: {0}")]
    Target(#[source] sqlx::Error),
    /// The answer to the COMMIT did not arrive.
    #[error(
        "the commit was not confirmed ({0}): run the command again; if the copy was kept, it reports that the \
         target is not empty"
    )]
    Unconfirmed(#[source] sqlx::Error),
    /// Any other failure.
    #[error(transparent)]
    Storage(#[from] Error),
}

/// How far a copy has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The table that is copied or compared.
    pub table: &'a str,
    /// Rows copied so far; `None` while the table is compared.
    pub copied: Option<u64>,
    /// All its rows.
    pub rows: u64,
}

/// A table that was copied and found equal.
#[derive(Debug)]
pub struct CopiedTable {
    /// Its name, the same in both databases.
    pub name: String,
    /// The number of its rows.
    pub rows: u64,
    /// Of all rows, whatever their order: SHA-256 in hexadecimal digits.
    pub digest: String,
}

/// What was copied.
#[derive(Debug)]
pub struct Copied {
    /// Every table of Propusk, by name.
    pub tables: Vec<CopiedTable>,
    /// Tables of the source that are not Propusk's; they were not copied.
    pub left_out: Vec<String>,
}

/// Copies the configured SQLite database to an empty PostgreSQL database, for which the settings of
/// connections are those of the configuration as well.
///
/// # Errors
/// [`CopyError`]; then the target is as it was, except after [`CopyError::Unconfirmed`].
pub async fn run(
    config: &Config,
    target_url: &str,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Copied, CopyError> {
    let settings = &config.database;
    let options: PgConnectOptions = target_url.parse().map_err(CopyError::Target)?;
    let mut reference = Reference::create().await.map_err(CopyError::Source)?;
    let url = config.database_url();
    let mut source = Source::open(&url, settings.acquire_timeout).await?;
    let left_out = source.check(&reference).await?;
    // A slow statement is what is expected here.
    let options = options.disable_statement_logging();
    let server = Server::new(options, settings);
    let mut connection = server.connect().await.map_err(CopyError::Unreachable)?;
    let mut transaction = connection.begin().await.map_err(CopyError::Target)?;
    let is_pooled = !server.has_prepared_statements();
    let tables = target::prepare(&mut transaction, &mut reference, is_pooled).await?;
    for table in &tables {
        copy(&mut source, &mut transaction, table, &mut progress).await?;
    }
    let numbers = source.last_numbers(&tables).await?;
    target::continue_numbers(&mut transaction, &numbers).await?;
    let mut copied = vec![];
    for table in &tables {
        copied.push(compare(&mut source, &mut transaction, table, &mut progress).await?);
    }
    copied.sort_by(|a, b| a.name.cmp(&b.name));
    target::distrust_replica(&mut transaction).await?;
    target::analyze(&mut transaction, &tables).await?;
    transaction.commit().await.map_err(CopyError::Unconfirmed)?;
    let _ = connection.close().await;
    source.close().await;
    Ok(Copied { tables: copied, left_out })
}

/// Copies the rows of a table, as a stream: neither side holds more than a buffer of them.
async fn copy(
    source: &mut Source,
    target: &mut PgConnection,
    table: &Table,
    progress: &mut impl FnMut(Progress<'_>),
) -> Result<(), CopyError> {
    let name = table.name.as_str();
    let rows = source.count(table).await?;
    let rejected = |error| target::rejected(table, error);
    let statement = table.copy_statement();
    let mut stream = source.rows(table);
    let mut copied = 0;
    while copied < rows {
        let mut batch = target.copy_in_raw(&statement).await.map_err(rejected)?;
        let mut buffer = CopyBuffer::new();
        let end = rows.min(copied + BATCH);
        while copied < end {
            let Some(row) = stream.try_next().await.map_err(CopyError::Source)? else {
                break;
            };
            if let Err(error) = buffer.add(table, &row) {
                let _ = batch.abort("a value cannot be stored").await;
                return Err(error);
            }
            drop(row);
            copied += 1;
            if buffer.is_full() {
                batch.send(buffer.bytes()).await.map_err(rejected)?;
                buffer.clear();
            }
            if copied.is_multiple_of(REPORT_EVERY) {
                progress(Progress { table: name, copied: Some(copied), rows });
            }
        }
        buffer.finish();
        batch.send(buffer.bytes()).await.map_err(rejected)?;
        batch.finish().await.map_err(rejected)?;
        if copied < end {
            break; // the comparison finds out
        }
    }
    progress(Progress { table: name, copied: Some(copied), rows });
    Ok(())
}

/// Reads a table from both databases again, at the same time, and compares all rows.
async fn compare(
    source: &mut Source,
    target: &mut PgConnection,
    table: &Table,
    progress: &mut impl FnMut(Progress<'_>),
) -> Result<CopiedTable, CopyError> {
    let rows = source.count(table).await?;
    progress(Progress { table: &table.name, copied: None, rows });
    let (here, there): (Digest, Digest) = try_join!(
        source::digest(&mut source.connection, table),
        target::digest(target, table).map_err(CopyError::Target)
    )?;
    if here != there {
        return Err(CopyError::Differs {
            table: table.name.clone(),
            source_rows: here.rows(),
            source_digest: here.short(),
            target_rows: there.rows(),
            target_digest: there.short(),
        });
    }
    Ok(CopiedTable { name: table.name.clone(), rows: here.rows(), digest: here.hex() })
}
