//! The queue of mails, and how many may be sent.

use std::time::Duration;

use super::{Db, Error, Result, Row, Statement, Tx, statement::one};
use crate::{clock::Timestamp, ids::UserId, model::mail::MailState};

/// A mail to queue.
#[derive(Debug)]
pub struct NewMail<'a> {
    pub id: &'a str,
    pub kind: &'static str,
    pub user_id: Option<&'a UserId>,
    pub recipient_hash: [u8; 32],
    /// Encrypted.
    pub payload: Option<String>,
    /// [`MailState::Queued`] or [`MailState::Suppressed`].
    pub state: MailState,
    pub expires_at: Timestamp,
}

/// A mail that a process has taken to send it.
#[derive(Clone, Debug)]
pub struct QueuedMail {
    pub id: String,
    pub payload: String,
    /// The number of attempts, including this one.
    pub attempts: i64,
    pub expires_at: Timestamp,
}

/// A mail as administrators see it.
#[derive(Clone, Debug)]
pub struct ListedMail {
    pub id: String,
    pub kind: String,
    pub user_id: Option<UserId>,
    pub state: MailState,
    pub attempts: i64,
    pub created_at: Timestamp,
    pub next_attempt_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub error: Option<String>,
}

/// Queues a mail.
pub async fn insert(tx: &mut Tx, new: NewMail<'_>, now: Timestamp) -> Result<()> {
    tx.run(
        Statement::new(
            "INSERT INTO mails (id, kind, user_id, recipient_hash, payload, state, attempts, next_attempt_at, \
             created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $7, $8)",
        )
        .bind(new.id)
        .bind(new.kind)
        .bind(new.user_id)
        .bind(new.recipient_hash)
        .bind(new.payload)
        .bind(new.state.as_str())
        .bind(now)
        .bind(new.expires_at),
    )
    .await?;
    Ok(())
}

/// Takes up to `most` due mails. The next attempt moves forward by `lease`, so that one process
/// sends a mail and another one takes over if that process stops.
pub async fn take(db: &Db, now: Timestamp, lease: Duration, most: i64) -> Result<Vec<QueuedMail>> {
    let rows = db
        .write(
            Statement::new(
                "UPDATE mails SET attempts = attempts + 1, next_attempt_at = $2 WHERE state = 'queued' \
                 AND next_attempt_at <= $1 AND payload IS NOT NULL AND id IN (SELECT id FROM mails \
                 WHERE state = 'queued' AND next_attempt_at <= $1 ORDER BY next_attempt_at, id LIMIT $3) \
                 RETURNING id, payload, attempts, expires_at",
            )
            .bind(now)
            .bind(now + lease)
            .bind(most),
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(QueuedMail {
                id: row.get("id")?,
                payload: row.get("payload")?,
                attempts: row.get("attempts")?,
                expires_at: Timestamp(row.get("expires_at")?),
            })
        })
        .collect()
}

/// Records what became of a mail; its content is gone.
pub async fn finish(
    db: &Db,
    id: &str,
    state: MailState,
    error: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    db.write(
        Statement::new(
            "UPDATE mails SET state = $2, error = $3, finished_at = $4, payload = NULL WHERE id = $1",
        )
        .bind(id)
        .bind(state.as_str())
        .bind(error)
        .bind(now),
    )
    .await?;
    Ok(())
}

/// Sets the time of the next attempt.
pub async fn postpone(db: &Db, id: &str, next: Timestamp, error: &str) -> Result<()> {
    db.write(
        Statement::new(
            "UPDATE mails SET next_attempt_at = $2, error = $3 WHERE id = $1 AND state = 'queued'",
        )
        .bind(id)
        .bind(next)
        .bind(error),
    )
    .await?;
    Ok(())
}

/// The number of mails that wait.
pub async fn count_queued(db: &Db) -> Result<i64> {
    let statement = Statement::new("SELECT COUNT(*) AS count FROM mails WHERE state = 'queued'");
    one(db.read(statement).await?).map_or(Ok(0), |row| row.get("count"))
}

/// Up to `most` mails with ids below `before`, the newest first; of one state, or all that were
/// meant to be sent.
pub async fn page(
    db: &Db,
    state: Option<MailState>,
    before: &str,
    most: i64,
) -> Result<Vec<ListedMail>> {
    let statement = Statement::new(
        "SELECT id, kind, user_id, state, attempts, created_at, next_attempt_at, finished_at, error FROM mails \
         WHERE id < $1",
    )
    .bind(before)
    .only_if(state.is_none(), "AND state <> 'suppressed'")
    .filter("AND state = $", state.map(MailState::as_str))
    .with("ORDER BY id DESC LIMIT $", most);
    db.read(statement).await?.iter().map(listed).collect()
}

/// Up to `most` mails to a user, the newest first.
pub async fn of_user(db: &Db, user_id: &UserId, most: i64) -> Result<Vec<ListedMail>> {
    let statement = Statement::new(
        "SELECT id, kind, user_id, state, attempts, created_at, next_attempt_at, finished_at, error FROM mails \
         WHERE user_id = $1 ORDER BY id DESC LIMIT $2",
    );
    let rows = db.read(statement.bind(user_id).bind(most)).await?;
    rows.iter().map(listed).collect()
}

fn listed(row: &Row) -> Result<ListedMail> {
    let state: String = row.get("state")?;
    Ok(ListedMail {
        id: row.get("id")?,
        kind: row.get("kind")?,
        user_id: row.get("user_id")?,
        state: MailState::parse(&state).ok_or_else(|| Error::Corrupt(format!("mail {state}")))?,
        attempts: row.get("attempts")?,
        created_at: Timestamp(row.get("created_at")?),
        next_attempt_at: Timestamp(row.get("next_attempt_at")?),
        finished_at: row.get::<Option<i64>>("finished_at")?.map(Timestamp),
        error: row.get("error")?,
    })
}

/// Counts one against a quota, whose window begins with the first; returns the count and the end of
/// the window. The row stays locked until the transaction ends, so that parallel requests of all
/// processes are counted.
pub async fn count(
    tx: &mut Tx,
    id: [u8; 32],
    window: Duration,
    now: Timestamp,
) -> Result<(i64, Timestamp)> {
    let rows = tx
        .run(
            Statement::new(
                "INSERT INTO mail_quotas (id, count, expires_at) VALUES ($1, 1, $3) \
                 ON CONFLICT (id) DO UPDATE SET \
                 count = CASE WHEN mail_quotas.expires_at <= $2 THEN 1 ELSE mail_quotas.count + 1 END, \
                 expires_at = CASE WHEN mail_quotas.expires_at <= $2 THEN $3 ELSE mail_quotas.expires_at END \
                 RETURNING count, expires_at",
            )
            .bind(id)
            .bind(now)
            .bind(now + window),
        )
        .await?;
    let row = one(rows).ok_or_else(|| Error::Corrupt("no quota".to_owned()))?;
    Ok((row.get("count")?, Timestamp(row.get("expires_at")?)))
}

/// Removes up to `most` mails created before `oldest`.
pub async fn sweep(db: &Db, oldest: Timestamp, most: i64) -> Result<usize> {
    let statement = Statement::new(
        "DELETE FROM mails WHERE id IN (SELECT id FROM mails WHERE created_at < $1 LIMIT $2) RETURNING id",
    );
    Ok(db.write(statement.bind(oldest).bind(most)).await?.len())
}

/// Removes up to `most` quotas whose window is over.
pub async fn sweep_quotas(db: &Db, now: Timestamp, most: i64) -> Result<usize> {
    let statement = Statement::new(
        "DELETE FROM mail_quotas WHERE id IN (SELECT id FROM mail_quotas WHERE expires_at <= $1 LIMIT $2) \
         RETURNING count",
    );
    Ok(db.write(statement.bind(now).bind(most)).await?.len())
}
