//! Autocommit statements: a few connections, each owned by a worker task, run statements from one
//! queue.
//!
//! sqlx's pool pings a connection each time it is returned: a second round trip per statement. A
//! worker's connection is never returned to anybody. And a statement that was sent is completed,
//! even if its caller stops waiting.

use std::{sync::Arc, time::Duration};

use sqlx::{
    Connection as _, PgConnection, SqliteConnection, postgres::PgConnectOptions,
    sqlite::SqliteConnectOptions,
};
use tokio::sync::oneshot;

use super::{Error, Result, Row, Statement};

/// Statements that may be queued; beyond it callers wait to enqueue.
const QUEUE: usize = 1024;

/// The queue of the workers.
#[derive(Clone, Debug)]
pub struct AutocommitPool {
    jobs: async_channel::Sender<Job>,
    options: Arc<ConnectOptions>,
    connect_timeout: Duration,
}

#[derive(Debug)]
struct Job {
    statement: Statement,
    answer: oneshot::Sender<Result<Vec<Row>>>,
}

/// How a connection is made.
#[derive(Debug)]
pub enum ConnectOptions {
    Postgres(PgConnectOptions),
    Sqlite(SqliteConnectOptions),
}

/// A connection with a single owner. It is opened by the first statement, and again after a
/// statement that broke it.
#[derive(Debug)]
pub struct DedicatedConnection {
    options: Arc<ConnectOptions>,
    connect_timeout: Duration,
    connection: Option<Connection>,
}

#[derive(Debug)]
enum Connection {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl AutocommitPool {
    /// Starts `count` workers; each opens its connection within `connect_timeout`.
    pub fn open(options: ConnectOptions, count: u32, connect_timeout: Duration) -> Self {
        let (jobs, queue) = async_channel::bounded(QUEUE);
        let pool = Self { jobs, options: Arc::new(options), connect_timeout };
        for _ in 0..count {
            tokio::spawn(work(pool.dedicated(), queue.clone()));
        }
        pool
    }

    /// A connection beside those of the workers, for a caller that must not queue.
    pub fn dedicated(&self) -> DedicatedConnection {
        DedicatedConnection {
            options: Arc::clone(&self.options),
            connect_timeout: self.connect_timeout,
            connection: None,
        }
    }

    /// Runs a statement on the next free connection.
    pub async fn run(&self, statement: Statement) -> Result<Vec<Row>> {
        let (answer, rows) = oneshot::channel();
        self.jobs.send(Job { statement, answer }).await.map_err(|_| Error::closed())?;
        rows.await.map_err(|_| Error::closed())?
    }

    /// Accepts no more statements; those in the queue are still run.
    pub fn close(&self) {
        self.jobs.close();
    }
}

async fn work(mut connection: DedicatedConnection, queue: async_channel::Receiver<Job>) {
    while let Ok(Job { statement, answer }) = queue.recv().await {
        if answer.is_closed() {
            continue; // its caller stopped waiting before it was sent
        }
        let _ = answer.send(connection.run(statement).await);
    }
    match connection.connection {
        Some(Connection::Postgres(connection)) => drop(connection.close().await),
        Some(Connection::Sqlite(connection)) => drop(connection.close().await),
        None => {}
    }
}

impl DedicatedConnection {
    /// Runs a statement.
    ///
    /// # Errors
    /// [`Error::Database`]; where it broke the connection, the next statement opens a new one.
    pub async fn run(&mut self, statement: Statement) -> Result<Vec<Row>> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let connecting = tokio::time::timeout(self.connect_timeout, connect(&self.options));
                let timed_out = |_| Error::Database(sqlx::Error::PoolTimedOut);
                self.connection.insert(connecting.await.map_err(timed_out)??)
            }
        };
        let result = match connection {
            Connection::Postgres(connection) => statement.on_postgres(connection).await,
            Connection::Sqlite(connection) => statement.on_sqlite(connection).await,
        };
        if matches!(&result, Err(Error::Database(error)) if error.as_database_error().is_none()) {
            self.connection = None;
        }
        result
    }
}

async fn connect(options: &ConnectOptions) -> Result<Connection> {
    Ok(match options {
        ConnectOptions::Postgres(options) => {
            Connection::Postgres(PgConnection::connect_with(options).await?)
        }
        ConnectOptions::Sqlite(options) => {
            Connection::Sqlite(SqliteConnection::connect_with(options).await?)
        }
    })
}
