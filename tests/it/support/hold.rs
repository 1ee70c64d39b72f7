//! What keeps a server from committing: a gate for tests that stop it at a step.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

use super::Database;

/// While it is held, no other process changes the rows that the tables had (PostgreSQL) or writes
/// at all (SQLite). Both go on reading.
pub enum Hold {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Hold {
    pub async fn take(database: &Database, tables: &[&str]) -> Self {
        match &database.url {
            Some(url) => {
                let mut connection = PgConnection::connect(url).await.expect("PostgreSQL");
                let lock = tables.iter().map(|table| format!("SELECT 1 FROM {table} FOR UPDATE;"));
                let lock = AssertSqlSafe(format!("BEGIN;{}", lock.collect::<String>()));
                sqlx::raw_sql(lock).execute(&mut connection).await.expect("locked");
                Self::Postgres(connection)
            }
            None => {
                let file = database.folder.path().join("propusk.db");
                let url = format!("sqlite://{}", file.display());
                let mut connection = SqliteConnection::connect(&url).await.expect("a file");
                let lock = "PRAGMA busy_timeout = 20000; BEGIN IMMEDIATE";
                sqlx::raw_sql(lock).execute(&mut connection).await.expect("locked");
                Self::Sqlite(connection)
            }
        }
    }

    /// Polls until a statement waits for it. SQLite does not tell.
    pub async fn blocks(&mut self) {
        let Self::Postgres(connection) = self else { return };
        let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                       AND application_name = 'propusk' AND datname = current_database()";
        for _ in 0..1_200 {
            let count: i64 = sqlx::query_scalar(waiting)
                .fetch_one(&mut *connection)
                .await
                .expect("the sessions");
            if count > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("no statement waits for the lock after 30 s");
    }

    /// Ends it once the processes that wait for it are killed.
    pub async fn end_with_the_sessions(self) {
        match self {
            Self::Postgres(mut connection) => {
                // Otherwise the statement that waits would still be completed.
                let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                           WHERE application_name = 'propusk' AND datname = current_database()";
                sqlx::raw_sql(end).execute(&mut connection).await.expect("ended");
                connection.close().await.expect("closed");
            }
            Self::Sqlite(connection) => connection.close().await.expect("closed"),
        }
    }
}
