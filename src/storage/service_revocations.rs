//! The queue of tokens that are to be revoked at customer services (RFC 7009). A trigger of
//! `service_tokens` adds them in the transaction that removes them there.

use std::time::Duration;

use super::{Db, Result, Row, Statement, Tx};
use crate::clock::Timestamp;

/// No revocation is postponed for longer: a time further ahead is one of a clock that was ahead,
/// and does not count.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// A token to revoke.
#[derive(Clone, Debug)]
pub struct ServiceRevocation {
    pub number: i64,
    pub service: String,
    /// Whose it was.
    pub subject: String,
    /// [`crate::model::service_token::Secrets`], as a JWE.
    pub sealed: String,
    /// The number of attempts, including this one.
    pub attempts: i64,
}

/// Whether there is something to do.
pub async fn is_due(db: &Db, now: Timestamp) -> Result<bool> {
    let statement = Statement::new(
        "SELECT number FROM service_revocations WHERE next_attempt_at <= $1 OR next_attempt_at > $2 LIMIT 1",
    );
    Ok(!db.read(statement.bind(now).bind(now + LONGEST_PAUSE)).await?.is_empty())
}

/// Takes up to `batch` that were attempted fewer than `most` times. The next attempt moves forward
/// by `lease`, so that one process sends a request, and another one takes over if that process
/// stops.
pub async fn take(
    db: &Db,
    now: Timestamp,
    lease: Duration,
    most: i64,
    batch: i64,
) -> Result<Vec<ServiceRevocation>> {
    let statement = Statement::new(
        "UPDATE service_revocations SET attempts = attempts + 1, next_attempt_at = $3 \
         WHERE (next_attempt_at <= $1 OR next_attempt_at > $2) AND number IN (SELECT number FROM service_revocations \
         WHERE (next_attempt_at <= $1 OR next_attempt_at > $2) AND attempts < $4 ORDER BY next_attempt_at, number LIMIT $5) \
         RETURNING number, service, subject, sealed, attempts",
    );
    let statement = statement.bind(now).bind(now + LONGEST_PAUSE).bind(now + lease);
    let rows = db.write(statement.bind(most).bind(batch)).await?;
    rows.iter().map(from_row).collect()
}

fn from_row(row: &Row) -> Result<ServiceRevocation> {
    Ok(ServiceRevocation {
        number: row.get("number")?,
        service: row.get("service")?,
        subject: row.get("subject")?,
        sealed: row.get("sealed")?,
        attempts: row.get("attempts")?,
    })
}

/// Sets the time of the next attempt.
pub async fn postpone(db: &Db, number: i64, next_attempt_at: Timestamp) -> Result<()> {
    let statement =
        Statement::new("UPDATE service_revocations SET next_attempt_at = $2 WHERE number = $1");
    db.write(statement.bind(number).bind(next_attempt_at)).await?;
    Ok(())
}

/// Postpones what is due at a service that does not respond. It counts as an attempt, so that
/// nothing waits there forever.
pub async fn back_off(db: &Db, service: &str, now: Timestamp, retry_at: Timestamp) -> Result<()> {
    let statement = Statement::new(
        "UPDATE service_revocations SET attempts = attempts + 1, next_attempt_at = $3 \
         WHERE service = $1 AND next_attempt_at <= $2",
    );
    db.write(statement.bind(service).bind(now).bind(retry_at)).await?;
    Ok(())
}

/// Removes one that has succeeded, or has no use.
pub async fn remove(tx: &mut Tx, number: i64) -> Result<()> {
    let statement = Statement::new("DELETE FROM service_revocations WHERE number = $1");
    tx.run(statement.bind(number)).await?;
    Ok(())
}

/// Removes up to `batch` that were attempted `most` times and are not being attempted.
pub async fn abandon(
    tx: &mut Tx,
    now: Timestamp,
    most: i64,
    batch: i64,
) -> Result<Vec<ServiceRevocation>> {
    let statement = Statement::new(
        "DELETE FROM service_revocations WHERE number IN (SELECT number FROM service_revocations \
         WHERE attempts >= $2 AND (next_attempt_at <= $1 OR next_attempt_at > $3) ORDER BY number LIMIT $4) \
         RETURNING number, service, subject, sealed, attempts",
    );
    let statement = statement.bind(now).bind(most).bind(now + LONGEST_PAUSE).bind(batch);
    tx.run(statement).await?.iter().map(from_row).collect()
}

/// Removes all: no service has an endpoint for them any more.
pub async fn clear(db: &Db) -> Result<()> {
    db.write(Statement::new("DELETE FROM service_revocations")).await?;
    Ok(())
}

/// Adds a token that could not be stored because its row is gone.
pub async fn add_unless_stored(
    db: &Db,
    service: &str,
    subject: &str,
    sealed: String,
) -> Result<()> {
    let statement = Statement::new(
        "INSERT INTO service_revocations (service, subject, sealed, attempts, next_attempt_at) \
         SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), 0, 0 \
         WHERE NOT EXISTS (SELECT 1 FROM service_tokens WHERE service = $1 AND subject = $2)",
    );
    db.write(statement.bind(service).bind(subject).bind(sealed)).await?;
    Ok(())
}
