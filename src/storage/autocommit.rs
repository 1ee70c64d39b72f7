//! Autocommit statements: a few connections, each owned by a worker task, run statements from one
//! queue. A statement that was sent is completed, even if its caller stops waiting.

use std::{sync::Arc, time::Duration};

use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Error, Result, Row, Statement,
    postgres::{Server, Session},
    sqlite,
};

/// Statements that may be queued; beyond it callers wait to enqueue.
const QUEUE: usize = 1024;

/// The queue of the workers.
#[derive(Clone, Debug)]
pub struct AutocommitPool {
    jobs: async_channel::Sender<Job>,
    connects: Connects,
    acquire_timeout: Duration,
}

#[derive(Debug)]
struct Job {
    statement: Statement,
    access: Access,
    queued_at: Instant,
    answer: oneshot::Sender<Result<Vec<Row>>>,
}

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It can be run again where its connection was lost.
    Read,
    Write,
}

/// How a connection is made.
#[derive(Clone, Debug)]
pub enum Connects {
    Postgres(Arc<Server>),
    Sqlite(Arc<SqliteConnectOptions>),
}

/// A connection with a single owner. It is opened by the first statement, and again once it is lost
/// or too old.
#[derive(Debug)]
pub struct DedicatedConnection {
    connects: Connects,
    acquire_timeout: Duration,
    connection: Option<Connection>,
}

#[derive(Debug)]
enum Connection {
    Postgres(Session),
    Sqlite(SqliteConnection),
}

impl AutocommitPool {
    /// Starts `count` workers. A statement that none has taken within `acquire_timeout` is not run.
    pub fn open(connects: Connects, count: u32, acquire_timeout: Duration) -> Self {
        let (jobs, queue) = async_channel::bounded(QUEUE);
        let pool = Self { jobs, connects, acquire_timeout };
        for _ in 0..count {
            tokio::spawn(work(pool.dedicated(), queue.clone()));
        }
        pool
    }

    /// A connection beside those of the workers, for a caller that must not queue.
    pub fn dedicated(&self) -> DedicatedConnection {
        DedicatedConnection {
            connects: self.connects.clone(),
            acquire_timeout: self.acquire_timeout,
            connection: None,
        }
    }

    /// Runs a statement on the next free connection.
    pub async fn run(&self, statement: Statement, access: Access) -> Result<Vec<Row>> {
        let (answer, rows) = oneshot::channel();
        let job = Job { statement, access, queued_at: now(), answer };
        // Workers that refuse what has waited for too long make room in time.
        self.jobs.send(job).await.map_err(|_| Error::closed())?;
        rows.await.map_err(|_| Error::closed())?
    }

    /// Accepts no more statements; those in the queue are still run.
    pub fn close(&self) {
        self.jobs.close();
    }
}

#[allow(clippy::disallowed_methods)] // measures durations
fn now() -> Instant {
    Instant::now()
}

async fn work(mut connection: DedicatedConnection, queue: async_channel::Receiver<Job>) {
    while let Ok(Job { statement, access, queued_at, answer }) = queue.recv().await {
        if answer.is_closed() {
            continue; // its caller stopped waiting before it was sent
        }
        let result = if queued_at.elapsed() > connection.acquire_timeout {
            Err(Error::Database(sqlx::Error::PoolTimedOut))
        } else {
            connection.run(&statement, access).await
        };
        let _ = answer.send(result);
    }
    match connection.connection {
        Some(Connection::Postgres(session)) => session.close().await,
        Some(Connection::Sqlite(connection)) => drop(connection.close().await),
        None => {}
    }
}

impl DedicatedConnection {
    /// Runs a statement that reads.
    ///
    /// # Errors
    /// [`Error::Database`]; where it broke the connection, the next statement opens a new one.
    pub async fn read(&mut self, statement: Statement) -> Result<Vec<Row>> {
        self.run(&statement, Access::Read).await
    }

    async fn run(&mut self, statement: &Statement, access: Access) -> Result<Vec<Row>> {
        let was_open = self.is_alive().await;
        let result = self.attempt(statement).await;
        if result.is_err() && was_open && access == Access::Read && !self.is_fit() {
            return self.attempt(statement).await;
        }
        result
    }

    async fn attempt(&mut self, statement: &Statement) -> Result<Vec<Row>> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(connect(&self.connects, self.acquire_timeout).await?),
        };
        let result = match connection {
            Connection::Postgres(session) => session.run(statement).await,
            Connection::Sqlite(connection) => {
                let result = statement.on_sqlite(connection).await;
                if result.as_ref().is_err_and(sqlite::breaks_connection) {
                    self.connection = None;
                }
                return result;
            }
        };
        if !self.is_fit() {
            self.connection = None;
        }
        result
    }

    fn is_fit(&self) -> bool {
        match &self.connection {
            Some(Connection::Postgres(session)) => session.is_fit(),
            Some(Connection::Sqlite(_)) => true,
            None => false,
        }
    }

    /// Whether the connection is open and, if it was idle, answers; otherwise it is dropped.
    async fn is_alive(&mut self) -> bool {
        let is_alive = match &mut self.connection {
            Some(Connection::Postgres(session)) => session.is_alive().await,
            Some(Connection::Sqlite(_)) => true,
            None => false,
        };
        if !is_alive {
            self.connection = None;
        }
        is_alive
    }
}

async fn connect(connects: &Connects, acquire_timeout: Duration) -> Result<Connection> {
    Ok(match connects {
        Connects::Postgres(server) => Connection::Postgres(Session::open(server).await?),
        Connects::Sqlite(options) => {
            let connecting = SqliteConnection::connect_with(options);
            let timed_out = |_| Error::Database(sqlx::Error::PoolTimedOut);
            Connection::Sqlite(
                tokio::time::timeout(acquire_timeout, connecting).await.map_err(timed_out)??,
            )
        }
    })
}
