//! Lanes: connections that each belong to a task of their own and run lone statements from one queue.
//!
//! sqlx's pool asks a connection whether it is well each time it comes back, a second round trip for
//! every statement; a lane is never handed over. And a statement that was begun is finished, whoever
//! stops waiting for it.

use std::time::Duration;

use sqlx::{
    Connection, PgConnection, SqliteConnection, postgres::PgConnectOptions,
    sqlite::SqliteConnectOptions,
};
use tokio::sync::oneshot;

use super::{Error, Result, Row, Statement};

/// Statements that may wait; beyond it callers wait to enqueue.
const QUEUE: usize = 1024;

/// Statements go in, rows come out.
#[derive(Clone, Debug)]
pub struct Lanes {
    jobs: async_channel::Sender<Job>,
}

#[derive(Debug)]
struct Job {
    statement: Statement,
    answer: oneshot::Sender<Result<Vec<Row>>>,
}

/// How a lane gets its connection.
#[derive(Clone, Debug)]
pub enum To {
    Postgres(PgConnectOptions),
    Sqlite(SqliteConnectOptions),
}

enum Link {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Lanes {
    /// Starts the lanes; each connects with its first statement, within `patience`.
    pub fn open(to: &To, count: u32, patience: Duration) -> Self {
        let (jobs, queue) = async_channel::bounded(QUEUE);
        for _ in 0..count {
            tokio::spawn(lane(to.clone(), queue.clone(), patience));
        }
        Self { jobs }
    }

    /// Runs a statement on the next free lane.
    pub async fn run(&self, statement: Statement) -> Result<Vec<Row>> {
        let (answer, rows) = oneshot::channel();
        self.jobs
            .send(Job { statement, answer })
            .await
            .map_err(|_| Error::closed())?;
        rows.await.map_err(|_| Error::closed())?
    }

    /// Takes no more statements; those that wait are still run.
    pub fn close(&self) {
        self.jobs.close();
    }
}

async fn lane(to: To, queue: async_channel::Receiver<Job>, patience: Duration) {
    let mut link = None;
    while let Ok(Job { statement, answer }) = queue.recv().await {
        if answer.is_closed() {
            continue; // nobody waits any more, and nothing was begun
        }
        let result = run(&mut link, &to, statement, patience).await;
        // Whatever broke the connection, the next statement gets a new one.
        if matches!(&result, Err(Error::Database(error)) if error.as_database_error().is_none()) {
            link = None;
        }
        let _ = answer.send(result);
    }
    match link {
        Some(Link::Postgres(connection)) => drop(connection.close().await),
        Some(Link::Sqlite(connection)) => drop(connection.close().await),
        None => {}
    }
}

async fn run(
    link: &mut Option<Link>,
    to: &To,
    statement: Statement,
    patience: Duration,
) -> Result<Vec<Row>> {
    let link = match link {
        Some(link) => link,
        None => {
            let connected = tokio::time::timeout(patience, connect(to)).await;
            link.insert(connected.map_err(|_| Error::Database(sqlx::Error::PoolTimedOut))??)
        }
    };
    match link {
        Link::Postgres(connection) => statement.on_postgres(connection).await,
        Link::Sqlite(connection) => statement.on_sqlite(connection).await,
    }
}

async fn connect(to: &To) -> Result<Link> {
    Ok(match to {
        To::Postgres(options) => Link::Postgres(PgConnection::connect_with(options).await?),
        To::Sqlite(options) => Link::Sqlite(SqliteConnection::connect_with(options).await?),
    })
}
