//! The only module with SQL. [`Db`] and [`Tx`] run the same statement text on both backends; the
//! other files of the module contain the statements, one file per noun.
//!
//! Absence is `Option`, a violated uniqueness constraint is [`Error::Conflict`], everything else is
//! [`Error::Database`].

pub mod applications;
pub mod audit;
mod audited;
mod autocommit;
pub mod browser_sessions;
pub mod catalogue;
pub mod change_counters;
pub mod clients;
pub mod consents;
pub mod copy;
pub mod denied_requests;
pub mod device_authorizations;
pub mod email_tokens;
pub mod files;
pub mod guesses;
pub mod idempotency;
pub mod imports;
pub mod initial_access_tokens;
pub mod invitations;
pub mod keys;
pub mod known_sources;
pub mod logout_deliveries;
pub mod mails;
mod measurements;
mod migrate;
pub mod modules;
pub mod outbox;
mod postgres;
pub mod profiles;
pub mod pushed_requests;
pub mod relay;
pub mod remembered_devices;
pub mod revocations;
pub mod roles;
pub mod sagas;
pub mod second_factors;
pub mod service_revocations;
pub mod service_tokens;
pub mod sessions;
pub mod shared;
mod shared_sessions;
pub mod single_use;
mod sqlite;
mod statement;
pub mod trusted_issuers;
pub mod upstream_identities;
pub mod users;
pub mod webhook_deliveries;
pub mod webhooks;
pub mod write_probe;

use std::{
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use sqlx::postgres::{PgConnectOptions, PgDatabaseError};
use tokio::sync::{mpsc, oneshot};

pub use self::statement::{Row, Statement};
pub use self::{
    audited::{AuditedTx, AuditedWrite},
    autocommit::DedicatedConnection,
    measurements::Measurements,
};
use self::{
    autocommit::{Access, AutocommitPool, Connects},
    shared_sessions::SharedSessions,
};

use crate::config;

/// Why a statement or a transaction failed. None of its changes were kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A uniqueness constraint was violated.
    #[error("this {0} already exists")]
    Conflict(Conflict),
    /// The database failed or is unreachable; the cause is logged and never sent to a client.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// A stored value cannot be parsed.
    #[error("invalid stored data: {0}")]
    Corrupt(String),
    /// A row that is referred to does not exist.
    #[error("{0} not found")]
    Unknown(&'static str),
    /// A migration failed.
    #[error("migration: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The transaction held the only writing connection for too long without using it.
    #[error(
        "the transaction was idle for longer than database.acquire_timeout and was rolled back"
    )]
    TimedOut,
    /// The data folder or a file in it cannot be used; the message says what to do.
    #[error("{0}")]
    Folder(String),
    /// There is no database file, and none may be created.
    #[error("there is no database {}", .0.display())]
    NoFile(PathBuf),
}

/// The uniqueness constraints that callers distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// `users.email_canonical`
    Email,
    /// `users.username_canonical`
    Username,
    /// Any other.
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

    /// The error of a statement that several callers share, for one more of them.
    fn for_another(&self) -> Self {
        match self {
            Self::Database(sqlx::Error::PoolClosed) => Self::closed(),
            Self::Database(sqlx::Error::PoolTimedOut) => Self::Database(sqlx::Error::PoolTimedOut),
            Self::Corrupt(what) => Self::Corrupt(what.clone()),
            error => Self::Database(sqlx::Error::Protocol(error.to_string())),
        }
    }

    /// Whether the database has answered that the statement failed, so that nothing of it is kept:
    /// not where the connection was lost or the answer did not come in time.
    fn is_answer(&self) -> bool {
        match self {
            Self::Database(error) => error.as_database_error().is_some(),
            Self::Conflict(_) => true,
            _ => false,
        }
    }

    /// Whether this process has closed the database itself ([`Db::close`]).
    pub const fn is_closed(&self) -> bool {
        matches!(self, Self::Database(sqlx::Error::PoolClosed))
    }

    /// Whether the database works and refuses these values: a constraint other than uniqueness, or
    /// a trigger. Everything else is the operator's trouble.
    pub fn is_refusal(&self) -> bool {
        let Self::Database(error) = self else {
            return matches!(self, Self::Unknown(_));
        };
        let Some(error) = error.as_database_error() else {
            return false;
        };
        match error.try_downcast_ref::<PgDatabaseError>() {
            // integrity constraint violation, raise_exception
            Some(error) => error.code().starts_with("23") || error.code() == "P0001",
            None => sqlite::is_constraint(error),
        }
    }

    /// PostgreSQL names the constraint, SQLite names the column in its message; both contain the
    /// column's name.
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

/// A database: PostgreSQL or an SQLite file.
#[derive(Clone, Debug)]
pub struct Db {
    backend: Backend,
    notifications: Arc<OnceLock<CommitNotifications>>,
    measurements: Arc<OnceLock<Measurements>>,
    sessions: Arc<SharedSessions>,
}

/// Receives a notification of every commit that moved a counter ([`change_counters`]).
#[derive(Debug)]
pub struct CommitNotifications {
    /// The caller of that transaction is answered once the sender in it is used or dropped, or
    /// after [`CommitNotifications::longest_wait`].
    pub sender: mpsc::Sender<oneshot::Sender<()>>,
    /// Counted from the commit.
    pub longest_wait: Duration,
}

/// A server process that uses a database, registered until this is dropped or the process ends.
#[derive(Debug)]
pub struct ServerRegistration {
    /// Whether no other server process uses the same SQLite file.
    pub is_only: bool,
    _lock: Option<File>,
}

#[derive(Clone, Debug)]
enum Backend {
    /// Autocommit statements and transactions have separate connections.
    Postgres {
        autocommit: AutocommitPool,
        pool: postgres::Pool,
    },
    Sqlite(sqlite::Sqlite),
}

/// An open transaction. Dropping it rolls it back; so does an error that leaves the function that
/// owns it.
///
/// SQLite has one writing connection, which the transaction holds until it ends. Begin no second
/// one, and call neither [`Db::write`] nor anything that does, while holding a transaction: it
/// would wait for the connection that its own caller has. Nothing hangs for good: a transaction
/// that runs no statement for `database.acquire_timeout` is rolled back, and all it does after that
/// is [`Error::TimedOut`]. PostgreSQL gives the second transaction a connection of its own, up to
/// the size of the pool.
#[derive(Debug)]
pub struct Tx {
    connection: Connected,
    /// Whether it moved a change counter, so that its commit is published.
    notifies: bool,
    notifications: Arc<OnceLock<CommitNotifications>>,
    measurements: Arc<OnceLock<Measurements>>,
}

#[derive(Debug)]
enum Connected {
    Postgres(postgres::Transaction),
    Sqlite(sqlite::Loan),
}

impl Db {
    /// Opens the configured database; an SQLite file is created if it does not exist.
    ///
    /// # Errors
    /// [`Error::Database`] if it is unreachable, [`Error::Folder`] if its file cannot be created.
    pub async fn open(config: &config::Config) -> Result<Self> {
        Self::connect(config, true).await
    }

    /// As [`Db::open`], but creates nothing.
    ///
    /// # Errors
    /// As [`Db::open`]; [`Error::NoFile`] if the file does not exist.
    pub async fn open_existing(config: &config::Config) -> Result<Self> {
        Self::connect(config, false).await
    }

    async fn connect(config: &config::Config, may_create: bool) -> Result<Self> {
        let url = config.database_url();
        let database = &config.database;
        if url.starts_with("sqlite:") {
            let timeout = database.acquire_timeout;
            let sqlite = sqlite::Sqlite::open(url.parse()?, timeout, may_create).await?;
            return Ok(Self::of(Backend::Sqlite(sqlite)));
        }
        let options: PgConnectOptions = url.parse()?;
        // Two belong to the revocation list (`Db::dedicated_connection`).
        let shared = database.max_connections.saturating_sub(2);
        let for_statements = (shared / 2).max(1);
        let for_transactions = shared.saturating_sub(for_statements).max(1);
        let server = Arc::new(postgres::Server::new(options, database));
        let pool = postgres::Pool::open(Arc::clone(&server), for_transactions).await?;
        let autocommit = AutocommitPool::open(
            Connects::Postgres(server),
            for_statements,
            database.acquire_timeout,
        );
        Ok(Self::of(Backend::Postgres { autocommit, pool }))
    }

    fn of(backend: Backend) -> Self {
        Self {
            backend,
            notifications: Arc::default(),
            measurements: Arc::default(),
            sessions: Arc::default(),
        }
    }

    /// From now on statements and commits are measured.
    pub fn measure_with(&self, measurements: Measurements) {
        // Set once, by the process's only server.
        let _ = self.measurements.set(measurements);
    }

    /// From now on every commit that moved a change counter is published before its caller is
    /// answered.
    pub fn notify_commits_to(&self, notifications: CommitNotifications) {
        // Set once, by the process's only revocation list.
        let _ = self.notifications.set(notifications);
    }

    /// Applies the pending migrations. Several processes may do so at the same time.
    ///
    /// # Errors
    /// [`Error::Migrate`] if the schema is newer than this program or was altered.
    pub async fn migrate(&self) -> Result<()> {
        match &self.backend {
            Backend::Postgres { pool, .. } => migrate::postgres(pool.server()).await,
            Backend::Sqlite(sqlite) => migrate::sqlite(sqlite).await,
        }
    }

    /// The number of pending migrations; `None` if the database is empty.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn pending_migrations(&self) -> Result<Option<usize>> {
        migrate::pending(self).await
    }

    /// The files of the database: none on PostgreSQL.
    pub fn files(&self) -> Vec<PathBuf> {
        let Backend::Sqlite(sqlite) = &self.backend else {
            return vec![];
        };
        let beside = |suffix| {
            let mut path = sqlite.path().as_os_str().to_owned();
            path.push(suffix);
            path.into()
        };
        ["", "-wal", "-shm"].map(beside).into()
    }

    /// Registers this server process with an SQLite file; PostgreSQL serves any number.
    ///
    /// # Errors
    /// Where the file beside the database cannot be locked.
    pub fn register_server(&self) -> io::Result<ServerRegistration> {
        match &self.backend {
            Backend::Postgres { .. } => Ok(ServerRegistration { is_only: true, _lock: None }),
            Backend::Sqlite(sqlite) => sqlite.register_server(),
        }
    }

    /// Runs a statement that reads; again, where its connection was lost.
    pub async fn read(&self, statement: Statement) -> Result<Vec<Row>> {
        let began = measurements::now();
        let rows = match &self.backend {
            Backend::Postgres { autocommit, .. } => autocommit.run(statement, Access::Read).await,
            Backend::Sqlite(sqlite) => sqlite.read(statement).await,
        };
        measurements::record(&self.measurements, |to| &to.read, began, &rows);
        rows
    }

    /// A connection for one caller, for reading.
    pub fn dedicated_connection(&self) -> DedicatedConnection {
        match &self.backend {
            Backend::Postgres { autocommit, .. } => autocommit.dedicated(),
            Backend::Sqlite(sqlite) => sqlite.dedicated_connection(),
        }
    }

    /// Runs a statement that writes, in a transaction of its own; returns after the commit.
    pub async fn write(&self, statement: Statement) -> Result<Vec<Row>> {
        let began = measurements::now();
        let rows = match &self.backend {
            Backend::Postgres { autocommit, .. } => autocommit.run(statement, Access::Write).await,
            Backend::Sqlite(sqlite) => sqlite.write(statement).await,
        };
        measurements::record(&self.measurements, |to| &to.write, began, &rows);
        rows
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`Error::Database`] where no connection is free within `database.acquire_timeout`.
    pub async fn begin(&self) -> Result<Tx> {
        let connection = match &self.backend {
            Backend::Postgres { pool, .. } => Connected::Postgres(pool.begin().await?),
            Backend::Sqlite(sqlite) => Connected::Sqlite(sqlite.borrow().await?),
        };
        let notifications = Arc::clone(&self.notifications);
        let measurements = Arc::clone(&self.measurements);
        Ok(Tx { connection, notifies: false, notifications, measurements })
    }

    /// The same database without the sender of notifications, for the tasks that receive them: the
    /// channel closes when nobody else uses the database.
    pub fn without_notifications(&self) -> Self {
        let measurements = Arc::clone(&self.measurements);
        Self { measurements, ..Self::of(self.backend.clone()) }
    }

    /// The numbers of open and of idle connections for transactions. SQLite has one.
    pub fn pool_size(&self) -> (u32, usize) {
        match &self.backend {
            Backend::Postgres { pool, .. } => pool.size(),
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

    /// Completes what is queued and closes every connection.
    pub async fn close(&self) {
        match &self.backend {
            Backend::Postgres { autocommit, pool } => {
                autocommit.close();
                pool.close().await;
            }
            Backend::Sqlite(sqlite) => sqlite.close().await,
        }
    }
}

/// The pattern of `LIKE … ESCAPE '!'` for texts with this prefix.
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

/// A commit that is durable, and that other processes may not have been notified of yet.
#[derive(Debug)]
#[must_use]
pub struct Committed {
    /// `None`: it moved no change counter.
    notifications: Option<Arc<OnceLock<CommitNotifications>>>,
}

impl Committed {
    /// Publishes the commit; returns once every process has been notified.
    pub async fn publish(self) {
        let Some(CommitNotifications { sender, longest_wait }) =
            self.notifications.as_ref().and_then(|notifications| notifications.get())
        else {
            return;
        };
        let (published, done) = oneshot::channel();
        let published = async {
            if sender.send(published).await.is_ok() {
                let _ = done.await;
            }
        };
        let _ = tokio::time::timeout(*longest_wait, published).await;
    }
}

impl Tx {
    /// Runs a statement within the transaction.
    ///
    /// # Errors
    /// As the statement's; on PostgreSQL nothing but a rollback is possible after an error.
    pub async fn run(&mut self, statement: Statement) -> Result<Vec<Row>> {
        let began = measurements::now();
        let rows = match &mut self.connection {
            Connected::Postgres(transaction) => transaction.run(&statement).await,
            Connected::Sqlite(loan) => loan.run(statement).await,
        };
        measurements::record(&self.measurements, |to| &to.transaction, began, &rows);
        rows
    }

    /// Has the commit published to the other processes.
    fn notify_on_commit(&mut self) {
        self.notifies = true;
    }

    /// Keeps the changes: comes back once they are durable and, where a change counter moved, every
    /// process has been notified.
    ///
    /// # Errors
    /// [`Error::Database`] or [`Error::TimedOut`]: nothing was kept.
    pub async fn commit(self) -> Result<()> {
        self.commit_only().await?.publish().await;
        Ok(())
    }

    /// As [`Tx::commit`], for a caller that lets others commit before it publishes.
    ///
    /// # Errors
    /// As [`Tx::commit`].
    pub async fn commit_only(self) -> Result<Committed> {
        let Self { connection, notifies, notifications, measurements } = self;
        let began = measurements::now();
        let committed = match connection {
            Connected::Postgres(transaction) => transaction.commit().await,
            Connected::Sqlite(loan) => loan.commit().await,
        };
        measurements::record(&measurements, |to| &to.transaction, began, &committed);
        committed?;
        Ok(Committed { notifications: notifies.then_some(notifications) })
    }

    /// Discards the changes; returns once everything that the transaction has read is committed. On
    /// SQLite it may have read the changes of a transaction in the same group: wait for them before
    /// reading them elsewhere or telling a caller about them.
    ///
    /// # Errors
    /// [`Error::Database`] if what it has read was not committed; [`Error::TimedOut`].
    pub async fn rollback(self) -> Result<()> {
        match self.connection {
            Connected::Postgres(transaction) => transaction.rollback().await,
            Connected::Sqlite(loan) => loan.rollback().await,
        }
    }
}
