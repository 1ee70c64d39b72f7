//! The migrations, compiled in. build.rs lists them; sqlx's macro would need its `macros` feature.

use std::borrow::Cow;

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, SqlStr, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::SqliteConnectOptions,
};

use super::{Db, Error, Result, Statement, files, postgres::Server, sqlite::Sqlite};

/// Names the lock of the migrations behind a pooler ("propusk" in ASCII).
pub const LOCK: i64 = 0x0070_726f_7075_736b;

// `POSTGRES` and `SQLITE`: every file in `migrations/`, listed by build.rs.
include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

fn migrator(migrations: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migrations = migrations.iter().map(|&(version, name, sql)| {
        let (name, sql) = (Cow::Borrowed(name), SqlStr::from_static(sql));
        Migration::new(version, name, MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

/// The migrations of PostgreSQL.
pub fn postgres_migrator() -> Migrator {
    migrator(POSTGRES)
}

/// The migrations of SQLite.
pub fn sqlite_migrator() -> Migrator {
    migrator(SQLITE)
}

/// sqlx holds an advisory lock meanwhile, so that processes that start at the same time take turns.
/// A migration may take longer than a statement of a request, so nothing bounds it.
pub async fn postgres(server: &Server) -> Result<()> {
    let mut connection = server.connect().await?;
    if server.has_prepared_statements() {
        migrator(POSTGRES).run(&mut connection).await?;
    } else {
        behind_a_pooler(&mut connection).await?;
    }
    drop(connection.close().await);
    Ok(())
}

/// All in one transaction, which has one connection behind the pooler, under a lock that ends with
/// it. The migrator's prepared statements are named: none may be left for the next user of the
/// connection.
async fn behind_a_pooler(connection: &mut PgConnection) -> Result<()> {
    let mut transaction = connection.begin().await?;
    let lock = format!("DEALLOCATE ALL; SELECT pg_advisory_xact_lock({LOCK})");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *transaction).await?;
    let mut migrator = migrator(POSTGRES);
    migrator.set_locking(false).run(&mut *transaction).await?;
    sqlx::raw_sql("DEALLOCATE ALL").execute(&mut *transaction).await?;
    Ok(transaction.commit().await?)
}

/// SQLite has no advisory locks: a lock on a file next to the database serves the same purpose.
pub async fn sqlite(sqlite: &Sqlite) -> Result<()> {
    let path = sqlite.path().to_owned();
    let lock_path = path.with_extension("migrate.lock");
    let lock = tokio::task::spawn_blocking(move || {
        let file = files::open_lock(&lock_path)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    })
    .await
    .map_err(|error| Error::Folder(error.to_string()))?
    .map_err(|error| {
        Error::Folder(format!("cannot lock the file for migrations in the data folder: {error}"))
    })?;
    let options = SqliteConnectOptions::new().filename(&path).foreign_keys(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let outcome = migrator(SQLITE).run(&mut connection).await;
    connection.close().await?;
    drop(lock);
    Ok(outcome?)
}

/// Compares the applied migrations, by version and checksum, with those of this program.
///
/// # Errors
/// What differs, and what to do about it.
pub fn compare(known: &Migrator, applied: &[(i64, Vec<u8>)]) -> std::result::Result<(), String> {
    if let Some((newer, _)) = applied.iter().find(|(version, _)| !known.version_exists(*version)) {
        return Err(format!(
            "it has the migration {newer} of a newer version: use the program of that version"
        ));
    }
    let checksum = |version: i64| {
        let found = applied.iter().find(|(applied, _)| *applied == version);
        found.map(|(_, checksum)| checksum.as_slice())
    };
    let pending = known.iter().filter(|known| checksum(known.version).is_none()).count();
    if pending > 0 {
        return Err(format!(
            "{pending} migration(s) are pending: run `propusk migrate` there first"
        ));
    }
    match known.iter().find(|known| checksum(known.version) != Some(&*known.checksum)) {
        Some(changed) => Err(format!("the migration {} was changed", changed.version)),
        None => Ok(()),
    }
}

/// The number of migrations that are not applied yet; `None` where none is: the database is empty.
pub async fn pending(db: &Db) -> Result<Option<usize>> {
    let known = match db.kind() {
        "postgres" => POSTGRES.len(),
        _ => SQLITE.len(),
    };
    let table = match db.kind() {
        "postgres" => {
            "SELECT CAST(count(*) AS BIGINT) AS n FROM pg_tables WHERE tablename = '_sqlx_migrations'"
        }
        _ => "SELECT count(*) AS n FROM sqlite_master WHERE name = '_sqlx_migrations'",
    };
    let count =
        |rows: Vec<super::Row>| -> Result<i64> { rows.first().map_or(Ok(0), |row| row.get("n")) };
    if count(db.read(Statement::new(table)).await?)? == 0 {
        return Ok(None);
    }
    let applied =
        db.read(Statement::new("SELECT count(*) AS n FROM _sqlx_migrations WHERE success")).await?;
    let applied = usize::try_from(count(applied)?).unwrap_or(0);
    Ok((applied > 0).then(|| known.saturating_sub(applied)))
}
