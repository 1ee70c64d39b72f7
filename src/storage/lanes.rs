//! Lanes: connections that each belong to a task of their own and run lone statements from one queue.
//!
//! sqlx's pool asks a connection whether it is well each time it comes back, a second round trip for
//! every statement; a lane is never handed over. And a statement that was begun is finished, whoever
//! stops waiting for it.

use std::{sync::Arc, time::Duration};

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
    to: Arc<To>,
    patience: Duration,
}

#[derive(Debug)]
struct Job {
    statement: Statement,
    answer: oneshot::Sender<Result<Vec<Row>>>,
}

/// How a lane gets its connection.
#[derive(Debug)]
pub enum To {
    Postgres(PgConnectOptions),
    Sqlite(SqliteConnectOptions),
}

/// A connection of one's own. It is made with the first statement, and anew after one that broke it.
#[derive(Debug)]
pub struct Lane {
    to: Arc<To>,
    patience: Duration,
    link: Option<Link>,
}

#[derive(Debug)]
enum Link {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Lanes {
    /// Starts the lanes; each connects within `patience`.
    pub fn open(to: To, count: u32, patience: Duration) -> Self {
        let (jobs, queue) = async_channel::bounded(QUEUE);
        let to = Arc::new(to);
        let lanes = Self { jobs, to, patience };
        for _ in 0..count {
            tokio::spawn(work(lanes.one_more(), queue.clone()));
        }
        lanes
    }

    /// A lane beside these, for one who asks all the time and shall wait behind nobody.
    pub fn one_more(&self) -> Lane {
        Lane { to: Arc::clone(&self.to), patience: self.patience, link: None }
    }

    /// Runs a statement on the next free lane.
    pub async fn run(&self, statement: Statement) -> Result<Vec<Row>> {
        let (answer, rows) = oneshot::channel();
        self.jobs.send(Job { statement, answer }).await.map_err(|_| Error::closed())?;
        rows.await.map_err(|_| Error::closed())?
    }

    /// Takes no more statements; those that wait are still run.
    pub fn close(&self) {
        self.jobs.close();
    }
}

async fn work(mut lane: Lane, queue: async_channel::Receiver<Job>) {
    while let Ok(Job { statement, answer }) = queue.recv().await {
        if answer.is_closed() {
            continue; // nobody waits any more, and nothing was begun
        }
        let _ = answer.send(lane.run(statement).await);
    }
    match lane.link {
        Some(Link::Postgres(connection)) => drop(connection.close().await),
        Some(Link::Sqlite(connection)) => drop(connection.close().await),
        None => {}
    }
}

impl Lane {
    /// Runs a statement.
    ///
    /// # Errors
    /// [`Error::Database`]; the next statement gets a new connection where this one broke.
    pub async fn run(&mut self, statement: Statement) -> Result<Vec<Row>> {
        let link = match &mut self.link {
            Some(link) => link,
            None => {
                let connected = tokio::time::timeout(self.patience, connect(&self.to)).await;
                self.link
                    .insert(connected.map_err(|_| Error::Database(sqlx::Error::PoolTimedOut))??)
            }
        };
        let result = match link {
            Link::Postgres(connection) => statement.on_postgres(connection).await,
            Link::Sqlite(connection) => statement.on_sqlite(connection).await,
        };
        if matches!(&result, Err(Error::Database(error)) if error.as_database_error().is_none()) {
            self.link = None;
        }
        result
    }
}

async fn connect(to: &To) -> Result<Link> {
    Ok(match to {
        To::Postgres(options) => Link::Postgres(PgConnection::connect_with(options).await?),
        To::Sqlite(options) => Link::Sqlite(SqliteConnection::connect_with(options).await?),
    })
}
