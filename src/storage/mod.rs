//! The only place with SQL. [`Db`] and [`Tx`] run one query text on either backend; the files beside
//! this one hold the statements, one file per noun.
//!
//! Absence is `Option`, a broken named constraint is [`Error::Conflict`], all else [`Error::Database`].

pub mod audit;
mod audited;
pub mod browser_sessions;
pub mod catalogue;
pub mod change_counters;
pub mod clients;
pub mod consents;
pub mod denied_requests;
pub mod idempotency;
pub mod initial_access_tokens;
pub mod keys;
mod lanes;
pub mod logout_deliveries;
mod migrate;
pub mod modules;
pub mod outbox;
pub mod pushed_requests;
pub mod revocations;
pub mod roles;
pub mod sessions;
pub mod single_use;
mod sqlite;
mod statement;
pub mod users;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use sqlx::{
    Connection, PgConnection, Postgres, SqliteConnection, Transaction,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
};
use tokio::sync::{mpsc, oneshot};

use self::lanes::{Lanes, To};
pub use self::statement::{Row, Statement};
pub use self::{audited::AuditedTx, lanes::Lane};

use crate::config;

/// Why a statement or transaction did not succeed. Nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A uniqueness rule of the named column was broken.
    #[error("{0} exists already")]
    Conflict(Conflict),
    /// The database failed or cannot be reached; the cause is for the log only.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// What stands in a row cannot be read as what it should be.
    #[error("stored data: {0}")]
    Corrupt(String),
    /// What a row shall refer to is not there.
    #[error("there is no such {0}")]
    Unknown(&'static str),
    /// The migrations could not be applied.
    #[error("migration: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The transaction held the only writing connection for too long without using it.
    #[error(
        "the transaction was idle for longer than database.acquire_timeout and was rolled back"
    )]
    TimedOut,
    /// The data folder or a file in it.
    #[error("{0}")]
    Folder(String),
}

/// The uniqueness rules that callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// `users.email_canonical`
    Email,
    /// `users.username_canonical`
    Username,
    /// Any other key.
    Other,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Email => "email",
            Self::Username => "username",
            Self::Other => "key",
        })
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    fn closed() -> Self {
        Self::Database(sqlx::Error::PoolClosed)
    }

    /// Whether this process itself has closed the database ([`Db::close`]).
    pub const fn is_closed(&self) -> bool {
        matches!(self, Self::Database(sqlx::Error::PoolClosed))
    }

    /// PostgreSQL names the constraint, SQLite the column in its message; both contain the column's name.
    fn from_sqlx(error: sqlx::Error) -> Self {
        let Some(database) = error.as_database_error().filter(|e| e.is_unique_violation()) else {
            return Self::Database(error);
        };
        let name = database.constraint().unwrap_or(database.message());
        Self::Conflict(if name.contains("email_canonical") {
            Conflict::Email
        } else if name.contains("username_canonical") {
            Conflict::Username
        } else {
            Conflict::Other
        })
    }
}

/// A database: PostgreSQL, or an SQLite file.
#[derive(Clone, Debug)]
pub struct Db {
    backend: Backend,
    announcements: Arc<OnceLock<Announcements>>,
}

/// Hears of every commit that took a number from [`change_counters`]. The caller of that transaction is answered once the sender
/// was used or dropped.
pub type Announcements = mpsc::Sender<oneshot::Sender<()>>;

#[derive(Clone, Debug)]
enum Backend {
    /// Lone statements take the lanes, transactions the pool.
    Postgres {
        lanes: Lanes,
        pool: PgPool,
    },
    Sqlite(sqlite::Sqlite),
}

/// An open transaction. Dropping it rolls it back; so does an error that leaves the function that owns
/// it.
///
/// SQLite has one writing connection, which the transaction holds until it ends. Begin no second one, and
/// call neither [`Db::write`] nor anything that does, while holding a transaction: it would wait for the
/// connection that its own caller has. Nothing hangs for good: a transaction that runs no statement for
/// `database.acquire_timeout` is rolled back, and all it does after that is [`Error::TimedOut`].
/// PostgreSQL gives the second transaction a connection of its own, up to the size of the pool.
#[derive(Debug)]
pub struct Tx<'c> {
    connection: Connected<'c>,
    /// Whether it changed a counter that other processes must hear of.
    notifies: Arc<AtomicBool>,
    announcements: Arc<OnceLock<Announcements>>,
}

#[derive(Debug)]
enum Connected<'c> {
    Postgres(&'c mut PgConnection),
    Sqlite(&'c mut SqliteConnection),
    Owned(Transaction<'static, Postgres>),
    Lent(sqlite::Loan),
}

impl Db {
    /// Opens the database the configuration names; an SQLite file is made where there is none.
    ///
    /// # Errors
    /// [`Error::Database`] where it cannot be reached, [`Error::Folder`] where its file cannot be made.
    pub async fn open(config: &config::Config) -> Result<Self> {
        let url = config.database_url();
        let database = &config.database;
        if url.starts_with("sqlite:") {
            let sqlite = sqlite::Sqlite::open(url.parse()?, database.acquire_timeout).await?;
            return Ok(Self::of(Backend::Sqlite(sqlite)));
        }
        let options: PgConnectOptions = url.parse()?;
        let options = options.application_name("propusk");
        // Two are the revocation list's own (`Db::lane`).
        let shared = database.max_connections.saturating_sub(2);
        let for_statements = (shared / 2).max(1);
        let pool = PgPoolOptions::new()
            .max_connections(shared.saturating_sub(for_statements).max(1))
            .acquire_timeout(database.acquire_timeout)
            .idle_timeout(Duration::from_secs(600))
            // A dead connection shows itself at its first statement; testing each costs 10–20 %.
            .test_before_acquire(false)
            .connect_with(options.clone())
            .await?;
        let lanes = Lanes::open(To::Postgres(options), for_statements, database.acquire_timeout);
        Ok(Self::of(Backend::Postgres { lanes, pool }))
    }

    fn of(backend: Backend) -> Self {
        Self { backend, announcements: Arc::default() }
    }

    /// From now on every commit that took a number is announced before its caller is answered.
    pub fn announce_to(&self, announcements: Announcements) {
        // Set once, by the one revocation list of the process.
        let _ = self.announcements.set(announcements);
    }

    /// Applies the migrations that are missing. Safe where several processes start at once.
    ///
    /// # Errors
    /// [`Error::Migrate`] where the schema is newer than this program or was altered.
    pub async fn migrate(&self) -> Result<()> {
        match &self.backend {
            Backend::Postgres { pool, .. } => migrate::postgres(pool).await,
            Backend::Sqlite(sqlite) => migrate::sqlite(sqlite).await,
        }
    }

    /// How many migrations are still to be applied.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn pending_migrations(&self) -> Result<usize> {
        migrate::pending(self).await
    }

    /// Runs a reading statement.
    pub async fn read(&self, statement: Statement) -> Result<Vec<Row>> {
        match &self.backend {
            Backend::Postgres { lanes, .. } => lanes.run(statement).await,
            Backend::Sqlite(sqlite) => sqlite.read(statement).await,
        }
    }

    /// A connection of one's own, for reading.
    pub fn lane(&self) -> Lane {
        match &self.backend {
            Backend::Postgres { lanes, .. } => lanes.one_more(),
            Backend::Sqlite(sqlite) => sqlite.lane(),
        }
    }

    /// Runs one writing statement in a transaction of its own; answers after the commit.
    pub async fn write(&self, statement: Statement) -> Result<Vec<Row>> {
        match &self.backend {
            Backend::Postgres { lanes, .. } => lanes.run(statement).await,
            Backend::Sqlite(sqlite) => sqlite.write(statement).await,
        }
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`Error::Database`] where no connection is free within `database.acquire_timeout`.
    pub async fn begin(&self) -> Result<Tx<'static>> {
        let connection = match &self.backend {
            Backend::Postgres { pool, .. } => Connected::Owned(pool.begin().await?),
            Backend::Sqlite(sqlite) => Connected::Lent(sqlite.borrow().await?),
        };
        let announcements = Arc::clone(&self.announcements);
        Ok(Tx { connection, notifies: Arc::default(), announcements })
    }

    /// Runs `work` in one transaction: all of it is kept when it returns `Ok` and the commit succeeded,
    /// nothing otherwise. A refusal that must persist something is therefore an `Ok`.
    pub async fn transaction<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(Tx<'c>) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        let took_number = Arc::new(AtomicBool::new(false));
        let value = match &self.backend {
            Backend::Postgres { pool, .. } => {
                let mut connection = pool.acquire().await?;
                let mut transaction = connection.begin().await?;
                let tx = Tx {
                    connection: Connected::Postgres(&mut transaction),
                    notifies: Arc::clone(&took_number),
                    announcements: Arc::default(),
                };
                let value = work(tx).await?;
                transaction.commit().await?;
                value
            }
            Backend::Sqlite(sqlite) => sqlite.transaction(work, Arc::clone(&took_number)).await?,
        };
        if took_number.load(Ordering::Acquire) {
            notify(&self.announcements).await;
        }
        Ok(value)
    }

    /// The same database for those who carry the announcements: they end when nobody else uses it any more.
    pub fn unannounced(&self) -> Self {
        Self::of(self.backend.clone())
    }

    /// The connections for transactions that are open and, of these, idle. SQLite has the one.
    pub fn pool_size(&self) -> (u32, usize) {
        match &self.backend {
            Backend::Postgres { pool, .. } => (pool.size(), pool.num_idle()),
            Backend::Sqlite(_) => (1, 0),
        }
    }

    /// `postgres` or `sqlite`.
    pub const fn kind(&self) -> &'static str {
        match self.backend {
            Backend::Postgres { .. } => "postgres",
            Backend::Sqlite(_) => "sqlite",
        }
    }

    /// Finishes what was queued and closes every connection.
    pub async fn close(&self) {
        match &self.backend {
            Backend::Postgres { lanes, pool } => {
                lanes.close();
                pool.close().await;
            }
            Backend::Sqlite(sqlite) => sqlite.close().await,
        }
    }
}

/// The pattern of `LIKE … ESCAPE '!'` for texts that begin so.
fn starting_with(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if matches!(c, '!' | '%' | '_') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// Publishes a commit; comes back once everyone who must hear of it has.
async fn notify(announcements: &OnceLock<Announcements>) {
    let Some(announcements) = announcements.get() else {
        return;
    };
    let (heard, done) = oneshot::channel();
    if announcements.send(heard).await.is_ok() {
        let _ = done.await;
    }
}

impl Tx<'_> {
    /// Runs a statement within the transaction.
    ///
    /// # Errors
    /// As the statement's; on PostgreSQL nothing but a rollback is possible after an error.
    pub async fn run(&mut self, statement: Statement) -> Result<Vec<Row>> {
        match &mut self.connection {
            Connected::Postgres(connection) => statement.on_postgres(connection).await,
            Connected::Sqlite(connection) => statement.on_sqlite(connection).await,
            Connected::Owned(transaction) => statement.on_postgres(transaction).await,
            Connected::Lent(loan) => loan.run(statement).await,
        }
    }

    /// Has the commit published to the other processes.
    fn notify_on_commit(&mut self) {
        self.notifies.store(true, Ordering::Release);
    }

    /// Keeps the changes: comes back once they are durable and, where a change counter moved, every
    /// process has been notified.
    ///
    /// # Errors
    /// [`Error::Database`] or [`Error::TimedOut`]: nothing was kept.
    pub async fn commit(self) -> Result<()> {
        let Self { connection, notifies, announcements } = self;
        match connection {
            Connected::Owned(transaction) => transaction.commit().await?,
            Connected::Lent(loan) => loan.commit().await?,
            // The owner of the borrowed connection commits.
            Connected::Postgres(_) | Connected::Sqlite(_) => {}
        }
        if notifies.load(Ordering::Acquire) {
            notify(&announcements).await;
        }
        Ok(())
    }
}
