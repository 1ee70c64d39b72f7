//! Connections to PostgreSQL whose every wait is bounded, and the pool that transactions use.
//!
//! A peer may fall silent: it crashed, a firewall dropped its state, a proxy was paused. Neither
//! TCP nor PostgreSQL reports that while a reply is awaited, so each statement has a timeout on
//! this side, beside PostgreSQL's own `statement_timeout`, which releases what a slow statement has
//! locked.
//!
//! What breaks one connection (a restart, a failover, a firewall) usually breaks all. So the first
//! failure counts for all: connections that were opened before it are replaced before their next
//! use, instead of failing one statement each.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::{Error, Result, Row, Statement};
use crate::config;

/// A connection that was idle for longer is checked before it is relied on.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// The timeout of that check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// How much longer this side waits than PostgreSQL, so that PostgreSQL's own timeout is reported.
const REPORT: Duration = Duration::from_millis(500);

/// Read-only servers replace all connections at most this often: each of their failures would.
const READ_ONLY_EVERY: Duration = Duration::from_secs(1);

/// How connections are made, and what bounds them.
#[derive(Debug)]
pub struct Server {
    options: PgConnectOptions,
    connect_timeout: Duration,
    acquire_timeout: Duration,
    statement_timeout: Duration,
    max_lifetime: Duration,
    /// `false`: every statement runs in a transaction and is prepared without a name, since a
    /// pooler may give each transaction another connection.
    prepared_statements: bool,
    /// Sent on each new connection where prepared statements are named.
    settings: String,
    /// Begins a transaction.
    begin: String,
    /// How often connections were lost.
    losses: AtomicU64,
    read_only_since: Mutex<Option<Instant>>,
}

/// What an error says about the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Usable,
    /// This connection must not be used again.
    Unusable,
    /// Nor may those that were opened before.
    AllLost,
    /// As [`Verdict::AllLost`]: the server is read-only, another one may have become the primary.
    ReadOnly,
}

/// Classifies by SQLSTATE (PostgreSQL's documentation, appendix A).
fn verdict(error: &Error) -> Verdict {
    let Error::Database(error) = error else {
        return Verdict::Usable;
    };
    let Some(error) = error.as_database_error() else {
        return Verdict::AllLost; // input/output, protocol, TLS
    };
    match error.code().as_deref().unwrap_or_default() {
        "25006" => Verdict::ReadOnly,
        // admin_shutdown, crash_shutdown, cannot_connect_now, idle_session_timeout
        "57P01" | "57P02" | "57P03" | "57P05" => Verdict::AllLost,
        // database_dropped, idle_in_transaction_session_timeout; a prepared statement that a pooler
        // has left elsewhere, or that another client has left here
        "57P04" | "25P03" | "26000" | "42P05" => Verdict::Unusable,
        code if code.starts_with("08") => Verdict::AllLost, // connection exception
        // insufficient resources (disk full, out of memory), system error
        code if code.starts_with("53") || code.starts_with("58") => Verdict::Unusable,
        _ => Verdict::Usable,
    }
}

fn timed_out(setting: &str) -> Error {
    let message = format!("PostgreSQL did not answer within {setting}");
    Error::Database(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, message)))
}

impl Server {
    pub fn new(options: PgConnectOptions, config: &config::Database) -> Self {
        let statement = config.statement_timeout.as_millis().max(1);
        let idle = config.acquire_timeout.as_millis().max(1);
        let begin = if config.prepared_statements {
            "BEGIN".to_owned()
        } else {
            // A session setting would apply to the next client of the pooled connection.
            format!(
                "BEGIN; SET LOCAL statement_timeout = {statement}; \
                 SET LOCAL idle_in_transaction_session_timeout = {idle}"
            )
        };
        Self {
            // PgBouncer refuses start-up parameters that it does not know.
            options: options.application_name("propusk").extra_float_digits(None),
            connect_timeout: config.connect_timeout,
            acquire_timeout: config.acquire_timeout,
            statement_timeout: config.statement_timeout,
            max_lifetime: config.max_lifetime,
            prepared_statements: config.prepared_statements,
            // The server, too, finds out about a peer that has vanished, and releases its locks.
            settings: format!(
                "SET statement_timeout = {statement}; \
                 SET idle_in_transaction_session_timeout = {idle}; \
                 SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; \
                 SET tcp_keepalives_count = 3"
            ),
            begin,
            losses: AtomicU64::new(0),
            read_only_since: Mutex::new(None),
        }
    }

    /// A connection without timeouts of its statements, for migrations.
    pub async fn connect(&self) -> Result<PgConnection> {
        let connecting = PgConnection::connect_with(&self.options);
        let connected = timeout(self.connect_timeout, connecting).await;
        Ok(connected.map_err(|_| timed_out("database.connect_timeout"))??)
    }

    pub const fn has_prepared_statements(&self) -> bool {
        self.prepared_statements
    }

    /// Connections opened when `losses` was read, or before, are lost.
    fn lose(&self, losses: u64) {
        // Where it has moved meanwhile, they were replaced for another one's failure.
        let moved =
            self.losses.compare_exchange(losses, losses + 1, Ordering::AcqRel, Ordering::Acquire);
        if moved.is_ok() {
            tracing::warn!("connection to PostgreSQL lost; opening new ones");
        }
    }

    fn is_newly_read_only(&self) -> bool {
        let mut since = self.read_only_since.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = since.is_none_or(|since| since.elapsed() >= READ_ONLY_EVERY);
        if is_new {
            *since = Some(now());
        }
        is_new
    }
}

#[allow(clippy::disallowed_methods)] // measures durations
fn now() -> Instant {
    Instant::now()
}

/// A connection.
#[derive(Debug)]
pub struct Session {
    connection: PgConnection,
    server: Arc<Server>,
    opened_at: Instant,
    used_at: Instant,
    /// [`Server::losses`] before it was opened.
    losses: u64,
    /// Set while a statement runs, and for good by what makes the connection unusable.
    is_broken: bool,
}

impl Session {
    pub async fn open(server: &Arc<Server>) -> Result<Self> {
        let losses = server.losses.load(Ordering::Acquire);
        let connection = server.connect().await?;
        let server = Arc::clone(server);
        let (opened_at, used_at) = (now(), now());
        let mut session = Self { connection, server, opened_at, used_at, losses, is_broken: false };
        if session.server.prepared_statements {
            let settings = session.server.settings.clone();
            session.execute(settings).await?;
        }
        Ok(session)
    }

    /// Whether nothing speaks against using it again.
    pub fn is_fit(&self) -> bool {
        !self.is_broken
            && self.losses == self.server.losses.load(Ordering::Acquire)
            && self.opened_at.elapsed() < self.server.max_lifetime
    }

    /// As [`Session::is_fit`], and, if it was idle, its peer answers.
    pub async fn is_alive(&mut self) -> bool {
        if !self.is_fit() {
            return false;
        }
        if self.used_at.elapsed() < TRUSTED_IDLE {
            return true;
        }
        self.is_broken = true;
        let pinged = timeout(CHECK_TIMEOUT, self.connection.ping()).await;
        let pinged = pinged.map(|pinged| pinged.map_err(Error::Database));
        self.finish(pinged, "one second").is_ok()
    }

    /// Runs a statement in a transaction of its own.
    pub async fn run(&mut self, statement: &Statement) -> Result<Vec<Row>> {
        if self.server.prepared_statements {
            return self.run_in_transaction(statement).await;
        }
        if statement.has_no_values() {
            let within = self.start()?;
            let result =
                timeout(within, statement.on_postgres_unprepared(&mut self.connection)).await;
            return self.finish(result, "database.statement_timeout");
        }
        // sqlx prepares and executes in two steps; only in a transaction both meet the same
        // connection behind the pooler.
        self.begin().await?;
        match self.run_in_transaction(statement).await {
            Ok(rows) => self.execute("COMMIT".to_owned()).await.map(|()| rows),
            Err(error) => {
                // Otherwise closing it rolls back.
                if !self.is_broken {
                    let _ = self.execute("ROLLBACK".to_owned()).await;
                }
                Err(error)
            }
        }
    }

    /// Runs a statement in the open transaction, if there is one.
    async fn run_in_transaction(&mut self, statement: &Statement) -> Result<Vec<Row>> {
        let within = self.start()?;
        let may_be_named = self.server.prepared_statements;
        let result =
            timeout(within, statement.on_postgres(&mut self.connection, may_be_named)).await;
        self.finish(result, "database.statement_timeout")
    }

    async fn begin(&mut self) -> Result<()> {
        let begin = self.server.begin.clone();
        self.execute(begin).await
    }

    /// Runs statements that return no rows, as text.
    async fn execute(&mut self, sql: String) -> Result<()> {
        let within = self.start()?;
        let executing = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection);
        let result = timeout(within, executing).await;
        let result = result.map(|done| done.map(drop).map_err(Error::Database));
        self.finish(result, "database.statement_timeout")
    }

    /// The timeout of the next statement.
    fn start(&mut self) -> Result<Duration> {
        if self.is_broken {
            let message = "the connection to PostgreSQL was lost";
            return Err(Error::Database(sqlx::Error::Io(io::Error::other(message))));
        }
        // Until it has finished, also if the caller stops waiting: its answer would be taken for
        // that of the next statement.
        self.is_broken = true;
        Ok(self.server.statement_timeout.saturating_add(REPORT))
    }

    fn finish<T>(
        &mut self,
        result: Result<Result<T>, tokio::time::error::Elapsed>,
        setting: &str,
    ) -> Result<T> {
        self.used_at = now();
        let result = result.unwrap_or_else(|_| Err(timed_out(setting)));
        let verdict = result.as_ref().err().map_or(Verdict::Usable, verdict);
        let all_lost = match verdict {
            Verdict::AllLost => true,
            Verdict::ReadOnly => self.server.is_newly_read_only(),
            Verdict::Usable | Verdict::Unusable => false,
        };
        if all_lost {
            self.server.lose(self.losses);
        }
        self.is_broken = verdict != Verdict::Usable;
        result
    }

    /// Tells PostgreSQL, and closes it.
    pub async fn close(self) {
        if !self.is_broken {
            let _ = timeout(CHECK_TIMEOUT, self.connection.close()).await;
        }
    }
}

/// The connections that transactions use, one each.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    server: Arc<Server>,
    size: u32,
    permits: Arc<Semaphore>,
    /// The one used last is used next, so that the others age.
    idle: Mutex<Vec<Session>>,
}

impl Pool {
    /// Opens the first of at most `size` connections.
    pub async fn open(server: Arc<Server>, size: u32) -> Result<Self> {
        let first = Session::open(&server).await?;
        let permits = Arc::new(Semaphore::new(size as usize));
        Ok(Self(Arc::new(Shared { server, size, permits, idle: Mutex::new(vec![first]) })))
    }

    pub fn server(&self) -> &Server {
        &self.0.server
    }

    pub fn shared_server(&self) -> &Arc<Server> {
        &self.0.server
    }

    /// Begins a transaction. A connection that turns out to be lost is replaced: nothing has
    /// happened on it yet.
    pub async fn begin(&self) -> Result<Transaction> {
        let shared = &self.0;
        let permit = Arc::clone(&shared.permits).acquire_owned();
        let permit = timeout(shared.server.acquire_timeout, permit)
            .await
            .map_err(|_| Error::Database(sqlx::Error::PoolTimedOut))?
            .map_err(|_| Error::closed())?;
        let in_transaction = |session| Transaction {
            session: Some(session),
            has_failed: false,
            pool: self.clone(),
            permit: Some(permit),
        };
        while let Some(mut session) = self.next_idle() {
            if session.is_alive().await && session.begin().await.is_ok() {
                return Ok(in_transaction(session));
            }
        }
        let mut session = Session::open(&shared.server).await?;
        session.begin().await?;
        Ok(in_transaction(session))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_idle(&self) -> Option<Session> {
        self.idle().pop()
    }

    fn release(&self, session: Session) {
        if session.is_fit() && !self.0.permits.is_closed() {
            let mut idle = self.idle();
            idle.retain(Session::is_fit);
            idle.push(session);
        }
    }

    /// The numbers of open and of idle connections.
    pub fn size(&self) -> (u32, usize) {
        let idle = self.idle().len();
        let lent = (self.0.size as usize).saturating_sub(self.0.permits.available_permits());
        (u32::try_from(lent + idle).unwrap_or(u32::MAX), idle)
    }

    /// Waits for the open transactions, no longer than one may wait for a connection, and closes
    /// every connection.
    pub async fn close(&self) {
        let all = self.0.permits.acquire_many(self.0.size);
        let _ = timeout(self.0.server.acquire_timeout, all).await;
        self.0.permits.close();
        let idle = std::mem::take(&mut *self.idle());
        for session in idle {
            session.close().await;
        }
    }
}

/// An open transaction. Dropping it rolls it back.
#[derive(Debug)]
pub struct Transaction {
    session: Option<Session>,
    /// Whether a statement failed: PostgreSQL answers COMMIT with a rollback then.
    has_failed: bool,
    pool: Pool,
    permit: Option<OwnedSemaphorePermit>,
}

impl Transaction {
    pub async fn run(&mut self, statement: &Statement) -> Result<Vec<Row>> {
        let session = self.session.as_mut().ok_or_else(Error::closed)?;
        let result = session.run_in_transaction(statement).await;
        self.has_failed |= result.is_err();
        result
    }

    pub async fn commit(mut self) -> Result<()> {
        if self.has_failed {
            let message = "a statement of the transaction has failed: it was rolled back";
            return Err(Error::Database(sqlx::Error::Protocol(message.to_owned())));
        }
        self.end("COMMIT").await
    }

    pub async fn rollback(mut self) -> Result<()> {
        self.end("ROLLBACK").await
    }

    async fn end(&mut self, sql: &str) -> Result<()> {
        let mut session = self.session.take().ok_or_else(Error::closed)?;
        session.execute(sql.to_owned()).await?;
        self.pool.release(session);
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(mut session) = self.session.take().filter(|session| !session.is_broken) else {
            return; // closing the connection rolls back
        };
        let (pool, permit) = (self.pool.clone(), self.permit.take());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if session.execute("ROLLBACK".to_owned()).await.is_ok() {
                    pool.release(session);
                }
                drop(permit);
            });
        }
    }
}
