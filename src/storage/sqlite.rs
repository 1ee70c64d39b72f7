//! SQLite: one task owns the only writing connection and commits in groups. Whatever waits goes into
//! one `BEGIN IMMEDIATE`, and every caller is answered after the COMMIT: as durable as a commit each
//! (synchronous=FULL), at a fraction of the disk's syncs.

use std::{
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{
    Connection, SqliteConnection,
    error::DatabaseError,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Connected, Error, Result, Row, Statement, Tx,
    lanes::{Lane, Lanes, To},
};

/// Jobs that may wait; beyond it callers wait to enqueue.
const QUEUE: usize = 1024;
/// Connections that read.
const READERS: u32 = 4;
/// Jobs in one commit.
const GROUP: usize = 256;

#[derive(Clone, Debug)]
pub struct Sqlite {
    readers: Lanes,
    jobs: mpsc::Sender<Job>,
    path: Arc<PathBuf>,
}

enum Job {
    /// A lone statement is atomic by itself.
    Statement(Statement, oneshot::Sender<Result<Vec<Row>>>),
    Transaction(Box<dyn Work>),
    /// Answered once all that came before has been committed and the file closed.
    Close(oneshot::Sender<()>),
}

/// What to tell a caller once the group's fate is known; `None`: committed.
type Answer = Box<dyn FnOnce(Option<sqlx::Error>) + Send>;

trait Work: Send {
    /// Runs within a savepoint; `true` keeps its changes.
    fn run<'c>(
        self: Box<Self>,
        connection: &'c mut SqliteConnection,
    ) -> BoxFuture<'c, (bool, Answer)>;
}

struct Closure<F, T> {
    work: F,
    took_number: Arc<AtomicBool>,
    answer: oneshot::Sender<Result<T>>,
}

impl<F, T> Work for Closure<F, T>
where
    T: Send + 'static,
    F: for<'c> FnOnce(Tx<'c>) -> BoxFuture<'c, Result<T>> + Send + 'static,
{
    fn run<'c>(
        self: Box<Self>,
        connection: &'c mut SqliteConnection,
    ) -> BoxFuture<'c, (bool, Answer)> {
        Box::pin(async move {
            let Self { work, took_number, answer } = *self;
            let tx = Tx { connection: Connected::Sqlite(connection), took_number };
            let result = work(tx).await;
            (result.is_ok(), answering(result, answer))
        })
    }
}

fn answering<T: Send + 'static>(result: Result<T>, to: oneshot::Sender<Result<T>>) -> Answer {
    Box::new(move |failure| {
        // A caller that went away no longer needs its answer; its change stands.
        let _ = to.send(match failure {
            None => result,
            Some(error) => Err(Error::Database(error)),
        });
    })
}

impl Sqlite {
    pub async fn open(options: SqliteConnectOptions, busy: Duration) -> Result<Self> {
        let path = options.get_filename().to_owned();
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| {
                Error::Folder(format!(
                    "the data folder {} cannot be made ({error}): make it writable for this user, or set data_dir",
                    folder.display()
                ))
            })?;
        }
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(busy);
        let opening = tokio::time::timeout(busy, open_new(&options)).await;
        let opened = opening.map_err(|_| {
            Error::Folder(format!(
                "the database {} is locked by another program: wait until that has done its work, or stop it",
                path.display()
            ))
        })?;
        let writer = opened.map_err(|error| {
            Error::Folder(format!(
                "the database {} cannot be opened for writing ({error}): make its folder writable for this user, or set data_dir",
                path.display()
            ))
        })?;
        let reading = options.create_if_missing(false).pragma("query_only", "on");
        let readers = Lanes::open(To::Sqlite(reading), READERS, busy);
        let (jobs, queue) = mpsc::channel(QUEUE);
        tokio::spawn(write_in_groups(writer, queue));
        Ok(Self { readers, jobs, path: Arc::new(path) })
    }

    pub async fn read(&self, statement: Statement) -> Result<Vec<Row>> {
        self.readers.run(statement).await
    }

    pub fn lane(&self) -> Lane {
        self.readers.one_more()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub async fn write(&self, statement: Statement) -> Result<Vec<Row>> {
        let (answer, result) = oneshot::channel();
        self.submit(Job::Statement(statement, answer)).await?;
        result.await.map_err(|_| Error::closed())?
    }

    pub async fn transaction<T, F>(&self, work: F, took_number: Arc<AtomicBool>) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(Tx<'c>) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        let closure = Closure { work, took_number, answer };
        self.submit(Job::Transaction(Box::new(closure))).await?;
        result.await.map_err(|_| Error::closed())?
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

/// Opens the file, which may be new: of several programs one makes it a WAL, and SQLite lets the others fail where it lets them
/// wait for every other lock.
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

/// `SQLITE_BUSY`, for whichever reason: that stands in the bits above.
fn is_busy(error: &dyn DatabaseError) -> bool {
    let code = error.code().and_then(|code| code.parse::<u32>().ok());
    code.is_some_and(|code| code & 0xff == 5)
}

async fn write_in_groups(mut connection: SqliteConnection, mut queue: mpsc::Receiver<Job>) {
    let mut group = Vec::with_capacity(GROUP);
    let mut closing = None;
    while closing.is_none() && queue.recv_many(&mut group, GROUP).await > 0 {
        let mut answers: Vec<Answer> = Vec::with_capacity(group.len());
        let outcome = match begin(&mut connection).await {
            Ok(()) => run_group(&mut connection, &mut group, &mut answers, &mut closing).await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            // Whatever is left of the transaction must not leak into the next group.
            let _ = execute(&mut connection, "ROLLBACK").await;
            let text = error.to_string();
            for answer in answers {
                answer(Some(sqlx::Error::Protocol(text.clone())));
            }
            for job in group.drain(..) {
                refuse(job, &text);
            }
        } else {
            for answer in answers {
                answer(None);
            }
        }
    }
    queue.close();
    while let Some(job) = queue.recv().await {
        refuse(job, "the database was closed");
    }
    let _ = connection.close().await;
    if let Some(done) = closing {
        let _: Result<(), ()> = done.send(());
    }
}

async fn run_group(
    connection: &mut SqliteConnection,
    group: &mut Vec<Job>,
    answers: &mut Vec<Answer>,
    closing: &mut Option<oneshot::Sender<()>>,
) -> Result<(), sqlx::Error> {
    for job in group.drain(..) {
        match job {
            Job::Statement(statement, to) => {
                let result = statement.on_sqlite(&mut *connection).await;
                answers.push(answering(result, to));
            }
            Job::Transaction(work) => {
                execute(connection, "SAVEPOINT job").await?;
                // A panic in one caller's work must not end the writing of all others.
                let ran = AssertUnwindSafe(work.run(connection)).catch_unwind().await;
                let keep = match ran {
                    Ok((keep, answer)) => {
                        answers.push(answer);
                        keep
                    }
                    Err(_) => false,
                };
                if !keep {
                    execute(connection, "ROLLBACK TO job").await?;
                }
                execute(connection, "RELEASE job").await?;
            }
            Job::Close(done) => *closing = Some(done),
        }
    }
    execute(connection, "COMMIT").await
}

fn refuse(job: Job, why: &str) {
    let error = || sqlx::Error::Protocol(why.to_owned());
    match job {
        Job::Statement(_, to) => drop(to.send(Err(Error::Database(error())))),
        // Dropping the work drops its answer's sender: the caller sees a closed database.
        Job::Transaction(_) => {}
        Job::Close(done) => drop(done.send(())),
    }
}

async fn begin(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    // IMMEDIATE: the write lock is taken at once, so that no job fails halfway because another
    // process (the command line) wrote in between.
    execute(connection, "BEGIN IMMEDIATE").await
}

async fn execute(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(connection).await.map(drop)
}
