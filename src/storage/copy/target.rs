//! The PostgreSQL side: one transaction.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, PgConnection, Row as _,
    postgres::{PgDatabaseError, PgRow},
};

use super::{
    CopyError,
    rows::{Digest, Kind},
    source::LastNumber,
    tables::{Column, Layout, Reference, Table, quoted},
};
use crate::storage::{Error, migrate};

/// Nothing bounds the statements of a copy but a wait for locks: those are held by processes that
/// should not be there. A peer that has vanished releases the locks of this transaction.
const SETTINGS: &str = "SET LOCAL statement_timeout = 0; \
     SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = '10s'; \
     SET LOCAL tcp_keepalives_idle = 30; SET LOCAL tcp_keepalives_interval = 10; \
     SET LOCAL tcp_keepalives_count = 3";

/// Migrates an empty database, or accepts one that was migrated and has no rows; locks its tables
/// and removes the rows that migrations insert, which the source has as well.
pub async fn prepare(
    connection: &mut PgConnection,
    reference: &mut Reference,
    is_pooled: bool,
) -> Result<Vec<Table>, CopyError> {
    run(connection, SETTINGS.to_owned()).await?;
    if is_pooled {
        run(connection, "DEALLOCATE ALL".to_owned()).await?;
    }
    let lock = format!("SELECT pg_advisory_xact_lock({})", migrate::LOCK);
    run(connection, lock).await?;
    check(connection, reference).await?;
    let mut migrator = migrate::postgres_migrator();
    migrator.set_locking(false).run(&mut *connection).await.map_err(Error::from)?;
    if is_pooled {
        // The migrator's prepared statements are named: none may be left for the next user.
        run(connection, "DEALLOCATE ALL".to_owned()).await?;
    }
    let tables = tables(connection, &reference.tables).await?;
    let names: Vec<_> = tables.iter().map(|table| quoted(&table.name)).collect();
    run(connection, format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", names.join(", "))).await?;
    let mut filled = vec![];
    for table in &tables {
        let inserted = reference.digest(table).await?;
        if has_more_rows(connection, table, inserted.rows()).await?
            || digest(connection, table).await.map_err(CopyError::Target)? != inserted
        {
            filled.push(table.name.as_str());
        }
    }
    if !filled.is_empty() {
        filled.sort_unstable();
        return Err(CopyError::NotEmpty(filled.join(", ")));
    }
    for table in tables.iter().rev() {
        run(connection, format!("DELETE FROM {}", quoted(&table.name))).await?;
    }
    Ok(tables)
}

/// Refuses a database that has another schema.
async fn check(connection: &mut PgConnection, reference: &Reference) -> Result<(), CopyError> {
    let sql = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema()";
    let rows = select(connection, sql.to_owned()).await?;
    let names = rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<BTreeSet<String>>>();
    let names = names.map_err(CopyError::Target)?;
    if !names.contains("_sqlx_migrations") {
        let taken = reference.tables.iter().find(|table| names.contains(&table.name));
        return taken.map_or(Ok(()), |table| Err(CopyError::ForeignTable(table.name.clone())));
    }
    let sql = "SELECT version, checksum FROM _sqlx_migrations WHERE success";
    let rows = select(connection, sql.to_owned()).await?;
    let applied = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    let applied = applied.collect::<sqlx::Result<Vec<(i64, Vec<u8>)>>>();
    let applied = applied.map_err(CopyError::Target)?;
    migrate::compare(&migrate::postgres_migrator(), &applied)
        .map_err(|problem| CopyError::Schema { side: "target", problem })
}

/// The tables with the column types of PostgreSQL's catalogue.
async fn tables(
    connection: &mut PgConnection,
    layouts: &[Layout],
) -> Result<Vec<Table>, CopyError> {
    let sql = "SELECT table_name::text, column_name::text, data_type::text, is_identity = 'YES' \
               FROM information_schema.columns WHERE table_schema = current_schema()";
    let mut found: BTreeMap<String, BTreeMap<String, (String, bool)>> = BTreeMap::new();
    for row in select(connection, sql.to_owned()).await? {
        let column = || {
            let described = (row.try_get(2)?, row.try_get(3)?);
            sqlx::Result::Ok((
                row.try_get::<String, _>(0)?,
                row.try_get::<String, _>(1)?,
                described,
            ))
        };
        let (table, column, described) = column().map_err(CopyError::Target)?;
        found.entry(table).or_default().insert(column, described);
    }
    layouts.iter().map(|layout| table(layout, found.get(&layout.name))).collect()
}

fn table(
    layout: &Layout,
    found: Option<&BTreeMap<String, (String, bool)>>,
) -> Result<Table, CopyError> {
    let name = &layout.name;
    let schema = |problem| CopyError::Schema { side: "target", problem };
    let found = found.ok_or_else(|| schema(format!("there is no table {name}")))?;
    if found.len() != layout.columns.len() {
        return Err(schema(format!("the columns of the table {name} were changed by hand")));
    }
    let mut table =
        Table { name: name.clone(), columns: vec![], key: layout.key.clone(), identity: None };
    for column in &layout.columns {
        let absent = || schema(format!("the table {name} has no column {column}"));
        let (data_type, is_identity) = found.get(column).ok_or_else(absent)?;
        let unknown =
            || schema(format!("the type {data_type} of {name}.{column} is not supported"));
        let kind = Kind::of(data_type).ok_or_else(unknown)?;
        if *is_identity {
            table.identity = Some(table.columns.len());
        }
        table.columns.push(Column { name: column.clone(), kind });
    }
    Ok(table)
}

/// Whether a table has more rows than that, without counting all of them.
async fn has_more_rows(
    connection: &mut PgConnection,
    table: &Table,
    than: u64,
) -> Result<bool, CopyError> {
    let sql = format!("SELECT 1 FROM {} OFFSET {than} LIMIT 1", quoted(&table.name));
    Ok(!select(connection, sql).await?.is_empty())
}

/// New rows get numbers that no row of the source has had. Unlike `setval`, this is undone with
/// the transaction.
pub async fn continue_numbers(
    connection: &mut PgConnection,
    numbers: &[LastNumber<'_>],
) -> Result<(), CopyError> {
    for LastNumber { table, column, number } in numbers {
        let (table, column, next) =
            (quoted(table), quoted(column), number.saturating_add(1).max(1));
        let sql = format!("ALTER TABLE {table} ALTER COLUMN {column} RESTART WITH {next}");
        run(connection, sql).await?;
    }
    Ok(())
}

/// The replica in Redis belongs to the source, whose servers may write to it again: servers on the
/// target create one of their own.
pub async fn distrust_replica(connection: &mut PgConnection) -> Result<(), CopyError> {
    let sql = "UPDATE change_counters SET version = 0 WHERE name = 'replica_epoch'";
    run(connection, sql.to_owned()).await
}

/// Plans of the first queries are those of a filled database.
pub async fn analyze(connection: &mut PgConnection, tables: &[Table]) -> Result<(), CopyError> {
    let names: Vec<_> = tables.iter().map(|table| quoted(&table.name)).collect();
    run(connection, format!("ANALYZE {}", names.join(", "))).await
}

/// The digest of a table's rows as PostgreSQL returns them.
pub async fn digest(connection: &mut PgConnection, table: &Table) -> sqlx::Result<Digest> {
    let mut digest = Digest::default();
    let query = sqlx::query(AssertSqlSafe(table.select_statement())).persistent(false);
    let mut rows = query.fetch(connection);
    while let Some(row) = rows.try_next().await? {
        digest.add_postgres(table, &row)?;
    }
    Ok(digest)
}

async fn select(connection: &mut PgConnection, sql: String) -> Result<Vec<PgRow>, CopyError> {
    let query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
    query.fetch_all(connection).await.map_err(failed)
}

async fn run(connection: &mut PgConnection, sql: String) -> Result<(), CopyError> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop).map_err(failed)
}

fn failed(error: sqlx::Error) -> CopyError {
    let code = error.as_database_error().and_then(|error| error.code());
    // lock_not_available
    if code.as_deref() == Some("55P03") { CopyError::TargetBusy } else { CopyError::Target(error) }
}

/// The error of a `COPY`, with its line. Values are named where a row that is referred to is
/// missing, by its key; others may be secret.
pub fn rejected(table: &Table, error: sqlx::Error) -> CopyError {
    let refused = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
        .map(|error| {
            let detail = error.detail().filter(|_| error.code() == "23503");
            [Some(error.message()), detail, error.r#where()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join("; ")
        });
    match refused {
        Some(problem) => CopyError::Rejected { table: table.name.clone(), problem },
        None => CopyError::Target(error),
    }
}
