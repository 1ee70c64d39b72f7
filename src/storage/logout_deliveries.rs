//! The queue of logout tokens (OpenID Connect Back-Channel Logout §2.5).
//! [`super::sessions::revoke_all`] adds deliveries in the transaction that revokes the sessions.

use std::time::Duration;

use super::{Db, Error, Result, Statement};
use crate::{
    clock::Timestamp,
    ids::{ClientId, SessionId},
    model::client::Source,
};

/// A logout token to deliver to a client.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub id: String,
    pub client_id: ClientId,
    pub subject: String,
    pub session_id: SessionId,
    /// The number of attempts, including this one.
    pub attempts: i64,
}

/// A client with due deliveries.
#[derive(Clone, Debug)]
pub struct DueClient {
    pub client_id: ClientId,
    pub source: Source,
    /// How often in a row it did not respond.
    pub failures: i64,
}

/// No delivery is postponed for longer: a time further ahead is one of a clock that was ahead, and
/// does not count.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3_600);

/// The clients with due deliveries that are not backing off, the longest waiting first.
pub async fn due_clients(db: &Db, now: Timestamp) -> Result<Vec<DueClient>> {
    let due = Statement::new(
        "SELECT d.client_id, c.source, COALESCE(b.failures, 0) AS failures, MIN(d.next_attempt_at) AS since \
         FROM logout_deliveries d JOIN clients c ON c.id = d.client_id \
         LEFT JOIN logout_back_offs b ON b.client_id = d.client_id \
         WHERE (d.next_attempt_at <= $1 OR d.next_attempt_at > $2) \
         AND (COALESCE(b.retry_at, 0) <= $1 OR b.retry_at > $2) \
         GROUP BY d.client_id, c.source, b.failures ORDER BY since",
    );
    let rows = db.read(due.bind(now).bind(now + LONGEST_PAUSE)).await?;
    rows.iter()
        .map(|row| {
            let source: String = row.get("source")?;
            let corrupt = || Error::Corrupt(format!("client source {source}"));
            Ok(DueClient {
                client_id: row.get("client_id")?,
                source: Source::parse(&source).ok_or_else(corrupt)?,
                failures: row.get("failures")?,
            })
        })
        .collect()
}

/// Takes up to `most` due deliveries of a client. The next attempt moves forward by `lease`, so
/// that one process sends a delivery and another one takes over if that process stops.
pub async fn take(
    db: &Db,
    client_id: &ClientId,
    now: Timestamp,
    lease: Duration,
    most: i64,
) -> Result<Vec<Delivery>> {
    let rows = db
        .write(
            Statement::new(
                "UPDATE logout_deliveries SET attempts = attempts + 1, next_attempt_at = $3 \
                 WHERE (next_attempt_at <= $2 OR next_attempt_at > $5) AND id IN (SELECT id FROM logout_deliveries \
                 WHERE client_id = $1 AND (next_attempt_at <= $2 OR next_attempt_at > $5) ORDER BY next_attempt_at, id LIMIT $4) \
                 RETURNING id, client_id, subject, session_id, attempts",
            )
            .bind(client_id)
            .bind(now)
            .bind(now + lease)
            .bind(most)
            .bind(now + LONGEST_PAUSE),
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Delivery {
                id: row.get("id")?,
                client_id: row.get("client_id")?,
                subject: row.get("subject")?,
                session_id: row.get("session_id")?,
                attempts: row.get("attempts")?,
            })
        })
        .collect()
}

/// Nothing is sent to a client before `retry_at`, after so many failures in a row.
pub async fn back_off(
    db: &Db,
    client_id: &ClientId,
    failures: i64,
    retry_at: Timestamp,
) -> Result<()> {
    db.write(
        Statement::new(
            "INSERT INTO logout_back_offs (client_id, failures, retry_at) \
             SELECT id, $2, $3 FROM clients WHERE id = $1 \
             ON CONFLICT (client_id) DO UPDATE SET failures = excluded.failures, retry_at = excluded.retry_at",
        )
        .bind(client_id)
        .bind(failures)
        .bind(retry_at),
    )
    .await?;
    Ok(())
}

/// The client has responded.
pub async fn forget_failures(db: &Db, client_id: &ClientId) -> Result<()> {
    let statement = Statement::new("DELETE FROM logout_back_offs WHERE client_id = $1");
    db.write(statement.bind(client_id)).await?;
    Ok(())
}

/// Removes the deliveries of a client that were queued before; returns the number removed.
pub async fn remove_old(db: &Db, client_id: &ClientId, before: Timestamp) -> Result<usize> {
    let statement = Statement::new(
        "DELETE FROM logout_deliveries WHERE client_id = $1 AND created_at < $2 RETURNING id",
    );
    Ok(db.write(statement.bind(client_id).bind(before)).await?.len())
}

/// Sets the time of the next attempt.
pub async fn postpone(db: &Db, id: &str, next_attempt_at: Timestamp) -> Result<()> {
    db.write(
        Statement::new("UPDATE logout_deliveries SET next_attempt_at = $2 WHERE id = $1")
            .bind(id)
            .bind(next_attempt_at),
    )
    .await?;
    Ok(())
}

/// Removes a delivery that succeeded or is abandoned.
pub async fn remove(db: &Db, id: &str) -> Result<()> {
    db.write(Statement::new("DELETE FROM logout_deliveries WHERE id = $1").bind(id)).await?;
    Ok(())
}
