//! The schema's history, compiled in. `include_str!` instead of sqlx's macro keeps its macros out of the build.

use std::borrow::Cow;

use sqlx::{
    Connection, PgPool, SqlStr, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::SqliteConnectOptions,
};

use super::{Db, Error, Result, Statement, sqlite::Sqlite};

macro_rules! migrations {
    ($backend:literal: $($version:literal $name:literal),+ $(,)?) => {
        Migrator::with_migrations(vec![$(Migration::new(
            $version,
            Cow::Borrowed($name),
            MigrationType::Simple,
            SqlStr::from_static(include_str!(concat!(
                "../../migrations/", $backend, "/", $name, ".sql"
            ))),
            false,
        )),+])
    };
}

fn postgres_migrations() -> Migrator {
    migrations!(
        "postgres": 1 "0001_first_storey", 2 "0002_oauth", 3 "0003_modules_and_admin"
    )
}

fn sqlite_migrations() -> Migrator {
    migrations!(
        "sqlite": 1 "0001_first_storey", 2 "0002_oauth", 3 "0003_modules_and_admin"
    )
}

/// sqlx holds an advisory lock meanwhile, so that processes that start together take turns.
pub async fn postgres(pool: &PgPool) -> Result<()> {
    Ok(postgres_migrations().run(pool).await?)
}

/// SQLite has no advisory lock: a lock on a file beside the database does the same.
pub async fn sqlite(sqlite: &Sqlite) -> Result<()> {
    let path = sqlite.path().to_owned();
    let lock_path = path.with_extension("migrate.lock");
    let lock = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::create(&lock_path)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    })
    .await
    .map_err(|error| Error::Folder(error.to_string()))?
    .map_err(|error| Error::Folder(format!("the migration lock in the data folder: {error}")))?;
    let options = SqliteConnectOptions::new().filename(&path).foreign_keys(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let outcome = sqlite_migrations().run(&mut connection).await;
    connection.close().await?;
    drop(lock);
    Ok(outcome?)
}

/// Counts the migrations that the database has not seen.
pub async fn pending(db: &Db) -> Result<usize> {
    let known = match db.kind() {
        "postgres" => postgres_migrations(),
        _ => sqlite_migrations(),
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
        return Ok(known.iter().count());
    }
    let applied =
        db.read(Statement::new("SELECT count(*) AS n FROM _sqlx_migrations WHERE success")).await?;
    Ok(known.iter().count().saturating_sub(usize::try_from(count(applied)?).unwrap_or(0)))
}
