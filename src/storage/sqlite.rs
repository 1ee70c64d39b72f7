//! SQLite: one task, the writer, owns the only writing connection and commits in groups. Whatever
//! is queued goes into one `BEGIN IMMEDIATE`, and every caller is answered after the COMMIT: as
//! durable as a commit each (`synchronous=FULL`), for a fraction of the disk syncs.
//!
//! A transaction borrows the connection ([`Loan`]) inside a savepoint of its own. The connection
//! itself never leaves the writer: the borrower sends statements and gets rows. So nothing a
//! borrower does (it is dropped, its future is no longer polled, it waits for something else) can
//! keep the connection.

use std::{
    collections::VecDeque,
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Connection, SqliteConnection,
    error::DatabaseError,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, Sleep},
};

use super::{
    Error, Result, Row, ServerRegistration, Statement,
    autocommit::{Access, AutocommitPool, Connects, DedicatedConnection},
    files,
};

/// Jobs that may be queued; beyond it callers wait to enqueue.
const QUEUE: usize = 1024;
/// Reading connections.
const READERS: u32 = 4;
/// Jobs per commit.
const GROUP: usize = 256;

#[derive(Clone, Debug)]
pub struct Sqlite {
    readers: AutocommitPool,
    jobs: mpsc::Sender<Job>,
    path: Arc<PathBuf>,
}

enum Job {
    /// An autocommit statement: atomic by itself, or made so where it is compound.
    Statement(Statement, oneshot::Sender<Result<Vec<Row>>>),
    /// A transaction asks for the connection.
    Borrow(oneshot::Sender<Result<Loan>>),
    /// Answered once everything before it is committed and the file is closed.
    Close(oneshot::Sender<()>),
}

/// The writing connection, lent for one transaction. Dropping the loan rolls the transaction back.
#[derive(Debug)]
pub struct Loan {
    requests: mpsc::Sender<Request>,
    /// Whether a statement's failure has rolled it back already.
    has_ended: bool,
}

#[derive(Debug)]
enum Request {
    Run(Statement, oneshot::Sender<Result<Vec<Row>>>),
    /// Answered after the COMMIT of the group.
    Commit(oneshot::Sender<Result<()>>),
    /// Answered after the COMMIT of the group, since the transaction may have read its changes.
    Rollback(oneshot::Sender<Result<()>>),
}

/// How a loan ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Returned {
    Committed,
    RolledBack,
    /// The borrower was idle for too long.
    TimedOut,
}

impl Loan {
    pub async fn run(&mut self, statement: Statement) -> Result<Vec<Row>> {
        let (answer, rows) = oneshot::channel();
        self.ask(Request::Run(statement, answer)).await?;
        let result = rows.await.map_err(|_| Error::TimedOut)?;
        self.has_ended |= matches!(&result, Err(Error::Database(error)) if ends_transaction(error));
        result
    }

    /// Once this was polled, the changes are committed even if the caller stops waiting.
    pub async fn commit(self) -> Result<()> {
        let (answer, committed) = oneshot::channel();
        self.ask(Request::Commit(answer)).await?;
        committed.await.map_err(|_| Error::TimedOut)?
    }

    /// Discards the changes; returns once what the transaction has read is committed.
    pub async fn rollback(self) -> Result<()> {
        if self.has_ended {
            return Ok(());
        }
        let (answer, rolled_back) = oneshot::channel();
        self.ask(Request::Rollback(answer)).await?;
        rolled_back.await.map_err(|_| Error::TimedOut)?
    }

    async fn ask(&self, request: Request) -> Result<()> {
        self.requests.send(request).await.map_err(|_| Error::TimedOut)
    }
}

/// Answers a caller once the group has ended; `None`: committed.
type Answer = Box<dyn FnOnce(Option<sqlx::Error>) + Send>;

fn answering<T: Send + 'static>(result: Result<T>, to: oneshot::Sender<Result<T>>) -> Answer {
    Box::new(move |failure| {
        // The changes of a caller that stopped waiting are kept all the same.
        let _ = to.send(match failure {
            None => result,
            Some(error) => Err(Error::Database(error)),
        });
    })
}

impl Sqlite {
    /// `timeout` bounds the wait for locks of other programs, for a reading connection, and the
    /// time a transaction may be idle. With `may_create`, a missing file is created.
    pub async fn open(
        options: SqliteConnectOptions,
        timeout: Duration,
        may_create: bool,
    ) -> Result<Self> {
        let path = options.get_filename().to_owned();
        if may_create {
            create(&path)?;
        } else if !path.exists() {
            return Err(Error::NoFile(path));
        }
        let options = options
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(timeout)
            // A savepoint keeps the pages that it changes, in a file otherwise.
            .pragma("temp_store", "memory")
            // A wait for another program's lock would count as a slow statement.
            .disable_statement_logging();
        let opening = tokio::time::timeout(timeout, open_new(&options)).await;
        let opened = opening.map_err(|_| {
            Error::Folder(format!(
                "the database {} is locked by another program: wait for it to finish, or stop it",
                path.display()
            ))
        })?;
        let writer = opened.map_err(|error| unwritable(&path, &error))?;
        let reading = options.pragma("query_only", "on");
        let readers = AutocommitPool::open(Connects::Sqlite(Arc::new(reading)), READERS, timeout);
        let (jobs, queue) = mpsc::channel(QUEUE);
        tokio::spawn(write_in_groups(writer, queue, timeout));
        Ok(Self { readers, jobs, path: Arc::new(path) })
    }

    pub async fn read(&self, statement: Statement) -> Result<Vec<Row>> {
        self.readers.run(statement, Access::Read).await
    }

    pub fn dedicated_connection(&self) -> DedicatedConnection {
        self.readers.dedicated()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Each server process has a shared lock; the first one could have had an exclusive one.
    pub fn register_server(&self) -> io::Result<ServerRegistration> {
        let file = files::open_lock(&self.path.with_extension("serve.lock"))?;
        let is_only = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => return Err(error),
        };
        if is_only {
            file.unlock()?;
        }
        // Another server that starts has the exclusive lock for a moment.
        for _ in 0..50 {
            match file.try_lock_shared() {
                Ok(()) => return Ok(ServerRegistration { is_only, _lock: Some(file) }),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        let message = "`propusk move` copies the database; wait for it to finish";
        Err(io::Error::new(io::ErrorKind::WouldBlock, message))
    }

    pub async fn write(&self, statement: Statement) -> Result<Vec<Row>> {
        let (answer, result) = oneshot::channel();
        self.submit(Job::Statement(statement, answer)).await?;
        result.await.map_err(|_| Error::closed())?
    }

    /// Waits for the writing connection.
    pub async fn borrow(&self) -> Result<Loan> {
        let (lend, lent) = oneshot::channel();
        self.submit(Job::Borrow(lend)).await?;
        lent.await.map_err(|_| Error::closed())?
    }

    pub async fn close(&self) {
        let (answer, done) = oneshot::channel();
        if self.submit(Job::Close(answer)).await.is_ok() {
            let _ = done.await;
        }
        self.readers.close();
    }

    async fn submit(&self, job: Job) -> Result<()> {
        self.jobs.send(job).await.map_err(|_| Error::closed())
    }
}

/// Keeps servers from starting on a database until the file is closed; `None` if one is running.
pub fn keep_servers_out(path: &Path) -> io::Result<Option<File>> {
    let file = files::open_lock(&path.with_extension("serve.lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Creates the folder and the file where they do not exist.
fn create(path: &Path) -> Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        files::create_folder(folder).map_err(|error| {
            Error::Folder(format!(
                "cannot create the data folder {} ({error}): make its parent writable for this user, or set data_dir",
                folder.display()
            ))
        })?;
    }
    files::create_database(path).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &dyn std::error::Error) -> Error {
    Error::Folder(format!(
        "cannot open the database {} for writing ({error}): make its folder writable for this user, or set data_dir",
        path.display()
    ))
}

/// Opens the file, which may be new. One of several programs that do so switches it to WAL mode;
/// SQLite fails the others at once with `SQLITE_BUSY`, without the busy timeout that applies to
/// every other lock.
async fn open_new(options: &SqliteConnectOptions) -> sqlx::Result<SqliteConnection> {
    loop {
        match SqliteConnection::connect_with(options).await {
            Err(sqlx::Error::Database(error)) if is_busy(&*error) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => return other,
        }
    }
}

/// The primary result code, without the reason in its higher bits (SQLite's documentation,
/// "Result and Error Codes").
fn result_code(error: &dyn DatabaseError) -> Option<u32> {
    Some(error.code()?.parse::<u32>().ok()? & 0xff)
}

/// `SQLITE_BUSY`
pub fn is_busy(error: &dyn DatabaseError) -> bool {
    result_code(error) == Some(5)
}

/// `SQLITE_CONSTRAINT`
pub fn is_constraint(error: &dyn DatabaseError) -> bool {
    result_code(error) == Some(19)
}

/// Whether the connection is to be opened again.
pub fn breaks_connection(error: &Error) -> bool {
    let Error::Database(error) = error else {
        return false;
    };
    let Some(error) = error.as_database_error() else {
        return true;
    };
    // SQLITE_READONLY, SQLITE_IOERR, SQLITE_CORRUPT, SQLITE_CANTOPEN, SQLITE_NOTADB
    matches!(result_code(error), Some(8 | 10 | 11 | 14 | 26))
}

/// Whether SQLite may have rolled back the whole transaction and not only the statement.
fn ends_transaction(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else {
        return true;
    };
    // SQLITE_BUSY, SQLITE_NOMEM, SQLITE_INTERRUPT, SQLITE_IOERR, SQLITE_FULL
    matches!(result_code(error), Some(5 | 7 | 9 | 10 | 13))
}

/// The result for the caller, and what ends the group: the changes of the others may be gone, and a
/// further statement would be committed on its own.
fn checked<T>(result: Result<T>) -> (Result<T>, Result<(), sqlx::Error>) {
    match result {
        Err(Error::Database(error)) if ends_transaction(&error) => {
            let text = error.to_string();
            (Err(Error::Database(error)), Err(sqlx::Error::Protocol(text)))
        }
        result => (result, Ok(())),
    }
}

async fn write_in_groups(
    mut connection: SqliteConnection,
    mut queue: mpsc::Receiver<Job>,
    idle_timeout: Duration,
) {
    let mut received = Vec::with_capacity(GROUP);
    let mut group = VecDeque::with_capacity(GROUP);
    let mut closing = None;
    let mut idle = IdleTimer::new(idle_timeout);
    while closing.is_none() {
        if group.is_empty() && queue.recv_many(&mut received, GROUP).await == 0 {
            break;
        }
        group.extend(received.drain(..));
        let mut answers: Vec<Answer> = Vec::with_capacity(group.len());
        let outcome = match begin(&mut connection).await {
            Ok(()) => {
                let (answers, closing) = (&mut answers, &mut closing);
                run_group(&mut connection, &mut group, answers, closing, &mut idle).await
            }
            Err(error) => {
                let text = error.to_string();
                for job in group.drain(..) {
                    refuse(job, &text);
                }
                Err(error)
            }
        };
        if let Err(error) = outcome {
            // No rest of the transaction may leak into the next group, which begins with the jobs
            // that are left.
            let _ = execute(&mut connection, "ROLLBACK").await;
            let text = error.to_string();
            for answer in answers {
                answer(Some(sqlx::Error::Protocol(text.clone())));
            }
        } else {
            for answer in answers {
                answer(None);
            }
        }
    }
    queue.close();
    for job in group {
        refuse(job, "the database was closed");
    }
    while let Some(job) = queue.recv().await {
        refuse(job, "the database was closed");
    }
    let _ = connection.close().await;
    if let Some(done) = closing {
        let _: Result<(), ()> = done.send(());
    }
}

/// Runs the group, or its jobs up to a transaction that timed out: those before it have waited long
/// enough, and the rest is the next group.
async fn run_group(
    connection: &mut SqliteConnection,
    group: &mut VecDeque<Job>,
    answers: &mut Vec<Answer>,
    closing: &mut Option<oneshot::Sender<()>>,
    idle: &mut IdleTimer,
) -> Result<(), sqlx::Error> {
    let mut has_savepoint = false;
    while let Some(job) = group.pop_front() {
        match job {
            Job::Statement(statement, to) => {
                let (result, group) = checked(statement.on_sqlite(&mut *connection).await);
                let is_partial = statement.is_compound() && result.is_err() && group.is_ok();
                answers.push(answering(result, to));
                group?;
                if is_partial {
                    execute(connection, "ROLLBACK TO compound; RELEASE compound").await?;
                }
            }
            // A caller that no longer waits needs no transaction.
            Job::Borrow(borrower) if borrower.is_closed() => {}
            Job::Borrow(borrower) => {
                let returned =
                    lend(connection, &mut has_savepoint, borrower, answers, idle).await?;
                if returned == Returned::TimedOut {
                    break;
                }
            }
            Job::Close(done) => *closing = Some(done),
        }
    }
    execute(connection, "COMMIT").await
}

/// Serves one borrower until it commits, is dropped, or is idle for too long.
///
/// The savepoint stays open and is replaced by that of the next borrower in one round trip to
/// SQLite's thread; the COMMIT releases the last one.
async fn lend(
    connection: &mut SqliteConnection,
    has_savepoint: &mut bool,
    borrower: oneshot::Sender<Result<Loan>>,
    answers: &mut Vec<Answer>,
    idle: &mut IdleTimer,
) -> Result<Returned, sqlx::Error> {
    let savepoint = if *has_savepoint { "RELEASE job; SAVEPOINT job" } else { "SAVEPOINT job" };
    *has_savepoint = true;
    if let Err(error) = execute(connection, savepoint).await {
        let text = error.to_string();
        let _ = borrower.send(Err(Error::Database(sqlx::Error::Protocol(text))));
        return Err(error);
    }
    let (requests, mut received) = mpsc::channel(1);
    // Where the borrower has gone meanwhile, the channel is closed, and the first request is
    // `None`.
    let _ = borrower.send(Ok(Loan { requests, has_ended: false }));
    let returned = loop {
        idle.restart();
        let request = tokio::select! {
            biased;
            request = received.recv() => request,
            () = idle.expired() => {
                tracing::warn!(timeout = ?idle.timeout, "transaction rolled back: idle for too long");
                break Returned::TimedOut;
            }
        };
        match request {
            Some(Request::Run(statement, answer)) => {
                let (result, group) = checked(statement.on_sqlite(&mut *connection).await);
                // A statement whose caller stopped waiting was run all the same.
                let _ = answer.send(result);
                group?;
            }
            Some(Request::Commit(answer)) => {
                answers.push(answering(Ok(()), answer));
                break Returned::Committed;
            }
            Some(Request::Rollback(answer)) => {
                answers.push(answering(Ok(()), answer));
                break Returned::RolledBack;
            }
            None => break Returned::RolledBack,
        }
    };
    // From here on the borrower's requests fail.
    drop(received);
    if returned != Returned::Committed {
        execute(connection, "ROLLBACK TO job").await?;
    }
    Ok(returned)
}

/// How long a borrower has been idle. One timer serves all loans and is armed again only when it
/// fires: arming it for each statement would cost as much as the statement's way to the writer.
struct IdleTimer {
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    since: Instant,
}

impl IdleTimer {
    fn new(timeout: Duration) -> Self {
        Self { timeout, timer: Box::pin(tokio::time::sleep(timeout)), since: now() }
    }

    fn restart(&mut self) {
        self.since = now();
    }

    async fn expired(&mut self) {
        loop {
            self.timer.as_mut().await;
            let deadline = self.since + self.timeout;
            if deadline <= now() {
                return;
            }
            self.timer.as_mut().reset(deadline);
        }
    }
}

#[allow(clippy::disallowed_methods)] // measures a duration
fn now() -> Instant {
    Instant::now()
}

fn refuse(job: Job, why: &str) {
    let error = || sqlx::Error::Protocol(why.to_owned());
    match job {
        Job::Statement(_, to) => drop(to.send(Err(Error::Database(error())))),
        Job::Borrow(to) => drop(to.send(Err(Error::Database(error())))),
        Job::Close(done) => drop(done.send(())),
    }
}

async fn begin(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    // IMMEDIATE takes the write lock at once, so that no job fails halfway because another process
    // (the command line) wrote in between.
    execute(connection, "BEGIN IMMEDIATE").await
}

async fn execute(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(connection).await.map(drop)
}
