//! What the relay to Kafka reads and marks: the events that are not published yet. Events as they
//! are listed and sent.

use std::{
    fs::{File, TryLockError},
    time::Duration,
};

use super::{
    Backend, Db, Error, Result, Statement, Tx, files,
    postgres::Session,
    statement::{Row, one},
};
use crate::clock::Timestamp;

/// Names the advisory lock of the publishing process ("relay" in ASCII).
const LOCK: i64 = 0x0072_656c_6179;

/// How long PostgreSQL may take to find out that the machine of the publishing process has vanished:
/// an idle connection is probed after two seconds, twice, and an answer that is not acknowledged is
/// given up after as long. A process that was killed closes its connection.
pub const VANISHED: Duration = Duration::from_secs(4);

/// The settings of the relay's session that make it so.
const KEEP_ALIVE: &str = "SELECT set_config('tcp_keepalives_idle', '2', false), \
                          set_config('tcp_keepalives_interval', '1', false), \
                          set_config('tcp_keepalives_count', '2', false), \
                          set_config('tcp_user_timeout', '4000', false)";

/// An event of the outbox.
#[derive(Clone, Debug)]
pub struct OutboxRow {
    pub number: i64,
    /// CloudEvents `id`.
    pub id: String,
    /// CloudEvents `type`.
    pub kind: String,
    /// A user id: the ordering key.
    pub subject: String,
    /// JSON.
    pub data: String,
    pub correlation_id: Option<String>,
    pub created_at: Timestamp,
    pub published_at: Option<Timestamp>,
    /// Why Kafka refused it for good.
    pub refused: Option<String>,
    /// The saga of the registration, if this is its `user.created`.
    pub saga_id: Option<String>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT o.number, o.id, o.type, o.subject, o.data, o.correlation_id, o.created_at, o.published_at, \
             o.refused, s.id AS saga_id \
             FROM outbox o LEFT JOIN sagas s ON o.type = 'user.created' AND s.user_id = o.subject ",
            $rest
        )
    };
}

fn from_row(row: &Row) -> Result<OutboxRow> {
    Ok(OutboxRow {
        number: row.get("number")?,
        id: row.get("id")?,
        kind: row.get("type")?,
        subject: row.get("subject")?,
        data: row.get("data")?,
        correlation_id: row.get("correlation_id")?,
        created_at: Timestamp(row.get("created_at")?),
        published_at: row.get::<Option<i64>>("published_at")?.map(Timestamp),
        refused: row.get("refused")?,
        saga_id: row.get("saga_id")?,
    })
}

/// The connection of a process that publishes, or would. PostgreSQL holds the lock for as long as
/// the connection lives, so a process that has died or lost its connection publishes no more;
/// processes on one SQLite file have the lock of a file beside it.
#[derive(Debug)]
pub struct RelayConnection {
    db: Db,
    session: Option<Session>,
    file: Option<File>,
}

impl RelayConnection {
    pub fn new(db: &Db) -> Self {
        Self { db: db.clone(), session: None, file: None }
    }

    /// Whether this process is the one that publishes: until a statement on this connection fails,
    /// or it is dropped.
    ///
    /// # Errors
    /// [`Error::Database`]; [`Error::Folder`] where the file cannot be locked.
    pub async fn acquire(&mut self) -> Result<bool> {
        match &self.db.backend {
            Backend::Postgres { pool, .. } => {
                let mut kept = self.session.take();
                if let Some(session) = &mut kept
                    && !session.is_alive().await
                {
                    kept = None;
                }
                let session = match kept {
                    Some(session) => session,
                    None => {
                        let mut session = Session::open(pool.shared_server()).await?;
                        session.run(&Statement::new(KEEP_ALIVE)).await?;
                        session
                    }
                };
                let session = self.session.insert(session);
                let lock = Statement::new("SELECT pg_try_advisory_lock($1) AS held").bind(LOCK);
                one(session.run(&lock).await?).map_or(Ok(false), |row| row.get("held"))
            }
            Backend::Sqlite(sqlite) => {
                let unusable = |error: std::io::Error| {
                    Error::Folder(format!("cannot lock the file of the relay: {error}"))
                };
                if self.file.is_some() {
                    return Ok(true);
                }
                let file = files::open_lock(&sqlite.path().with_extension("relay.lock"));
                let file = file.map_err(unusable)?;
                match file.try_lock() {
                    Ok(()) => self.file = Some(file),
                    Err(TryLockError::WouldBlock) => return Ok(false),
                    Err(TryLockError::Error(error)) => return Err(unusable(error)),
                }
                Ok(true)
            }
        }
    }

    /// Fails where the lock may be lost.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn check(&mut self) -> Result<()> {
        self.run(Statement::new("SELECT 1 AS one")).await.map(drop)
    }

    async fn run(&mut self, statement: Statement) -> Result<Vec<Row>> {
        match &self.db.backend {
            Backend::Postgres { .. } => {
                let session = self.session.as_mut().ok_or_else(Error::closed)?;
                let rows = session.run(&statement).await;
                if rows.is_err() {
                    // Closed: the lock is released.
                    self.session = None;
                }
                rows
            }
            Backend::Sqlite(_) => self.db.read(statement).await,
        }
    }

    /// Up to `most` events that are not published, in order. On PostgreSQL an event may appear with
    /// a number below those already read: its transaction took longer. Events of one user whose
    /// changes waited for one another have the order of their commits.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn unpublished(&mut self, most: i64) -> Result<Vec<OutboxRow>> {
        let statement =
            Statement::new(select!("WHERE o.published_at IS NULL ORDER BY o.number LIMIT $1"));
        self.run(statement.bind(most)).await?.iter().map(from_row).collect()
    }

    /// Marks events that Kafka has acknowledged, and the sagas that they begin, whose profiles must
    /// exist at `deadline`, if there is one.
    ///
    /// # Errors
    /// [`Error::Database`]: they will be published again.
    pub async fn mark(
        &mut self,
        events: &[&OutboxRow],
        now: Timestamp,
        deadline: Option<Timestamp>,
    ) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        // Ids are UUIDs.
        let sagas: Vec<&str> = events.iter().filter_map(|event| event.saga_id.as_deref()).collect();
        if !sagas.is_empty() {
            macro_rules! update {
                ($list:literal) => {
                    concat!(
                        "UPDATE sagas SET state = 'published', step = 'answer', \
                         next_at = COALESCE($2, next_at) WHERE state = 'started' AND step = 'publish' AND id IN (",
                        $list,
                        ")"
                    )
                };
            }
            let statement = Statement::new(update!("SELECT value FROM json_each($1)"))
                .locking(update!("SELECT json_array_elements_text(CAST($1 AS json))"));
            self.write(statement.bind(format!("{sagas:?}")).bind(deadline.map(|at| at.0))).await?;
        }
        let numbers: Vec<i64> = events.iter().map(|event| event.number).collect();
        let list = format!("{numbers:?}"); // a JSON array
        macro_rules! update {
            ($list:literal) => {
                concat!("UPDATE outbox SET published_at = $1 WHERE number IN (", $list, ")")
            };
        }
        let statement = Statement::new(update!("SELECT value FROM json_each($2)")).locking(
            update!("SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST($2 AS json))"),
        );
        self.write(statement.bind(now).bind(list)).await
    }

    /// Marks an event that Kafka refuses for good.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn mark_refused(&mut self, number: i64, why: &str, now: Timestamp) -> Result<()> {
        let statement =
            Statement::new("UPDATE outbox SET published_at = $1, refused = $2 WHERE number = $3");
        self.write(statement.bind(now).bind(why).bind(number)).await
    }

    async fn write(&mut self, statement: Statement) -> Result<()> {
        match &self.db.backend {
            Backend::Postgres { .. } => self.run(statement).await?,
            Backend::Sqlite(_) => self.db.write(statement).await?,
        };
        Ok(())
    }
}

/// The events that wait to be published.
#[derive(Clone, Copy, Debug)]
pub struct Backlog {
    pub count: i64,
    pub oldest: Option<Timestamp>,
}

/// Counts the events that are not published.
pub async fn backlog(db: &Db) -> Result<Backlog> {
    let statement = Statement::new(
        "SELECT COUNT(*) AS n, MIN(created_at) AS oldest FROM outbox WHERE published_at IS NULL",
    );
    let Some(row) = one(db.read(statement).await?) else {
        return Ok(Backlog { count: 0, oldest: None });
    };
    let oldest: Option<i64> = row.get("oldest")?;
    Ok(Backlog { count: row.get("n")?, oldest: oldest.map(Timestamp) })
}

/// Counts the events among the newest `most` that Kafka refused for good.
pub async fn count_refused(db: &Db, most: i64) -> Result<i64> {
    let statement = Statement::new(
        "SELECT COUNT(*) AS n FROM outbox WHERE refused IS NOT NULL \
         AND number > (SELECT COALESCE(MAX(number), 0) FROM outbox) - $1",
    );
    one(db.read(statement.bind(most)).await?).map_or(Ok(0), |row| row.get("n"))
}

/// Filters of [`page`] and [`replay`]; `None` matches every event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    pub id: Option<String>,
    pub subject: Option<String>,
    pub kind: Option<String>,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// Only those that Kafka refused for good.
    pub refused: bool,
}

/// Up to `most` matching events with numbers below `before`, the newest first.
pub async fn page(db: &Db, filter: &EventFilter, before: i64, most: i64) -> Result<Vec<OutboxRow>> {
    let statement = Statement::new(select!("WHERE o.number < $1"))
        .bind(before)
        .filter("AND o.id = $", filter.id.as_deref())
        .filter("AND o.subject = $", filter.subject.as_deref())
        .filter("AND o.type = $", filter.kind.as_deref())
        .filter("AND o.created_at >= $", filter.from)
        .filter("AND o.created_at < $", filter.to)
        .only_if(filter.refused, "AND o.refused IS NOT NULL")
        .with("ORDER BY o.number DESC LIMIT $", most);
    db.read(statement).await?.iter().map(from_row).collect()
}

/// The event of this id.
pub async fn by_id(db: &Db, id: &str) -> Result<Option<OutboxRow>> {
    let statement = Statement::new(select!("WHERE o.id = $1")).bind(id);
    one(db.read(statement).await?).map(|row| from_row(&row)).transpose()
}

/// Whether the outbox has the event of this id.
pub async fn exists(tx: &mut Tx, id: &str) -> Result<bool> {
    let statement = Statement::new("SELECT number FROM outbox WHERE id = $1");
    Ok(!tx.run(statement.bind(id)).await?.is_empty())
}

/// Has matching events published again, under the same ids; returns their number.
pub async fn replay(tx: &mut Tx, filter: &EventFilter) -> Result<usize> {
    let statement = Statement::new(
        "UPDATE outbox SET published_at = NULL, refused = NULL WHERE published_at IS NOT NULL AND number > $1",
    )
    .bind(0_i64)
    .filter("AND id = $", filter.id.as_deref())
    .filter("AND subject = $", filter.subject.as_deref())
    .filter("AND type = $", filter.kind.as_deref())
    .filter("AND created_at >= $", filter.from)
    .filter("AND created_at < $", filter.to)
    .only_if(filter.refused, "AND refused IS NOT NULL")
    .only_if(true, "RETURNING number");
    Ok(tx.run(statement).await?.len())
}
