//! Results of requests with an `Idempotency-Key`, stored in the transaction that created them.

use std::time::Duration;

use super::{Db, Error, Result, Statement, Tx, statement::one};
use crate::clock::Timestamp;

/// How long a retry finds the result of the first request.
const RETENTION: Duration = Duration::from_secs(24 * 3_600);

/// A request with an idempotency key.
#[derive(Clone, Debug)]
pub struct Call {
    /// The caller; keys of different callers are independent.
    pub actor: String,
    pub key_hash: [u8; 32],
    /// Detects a different request with the same key.
    pub request_hash: [u8; 32],
}

/// The outcome of claiming a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The first request: proceed.
    First,
    /// The same request succeeded before and created this id.
    Before(String),
    /// A different request used this key.
    Other,
}

/// Claims the key for the result of this transaction. One statement: of concurrent requests one
/// inserts the row, and the others wait for its commit and find it. Expired rows are replaced.
pub async fn claim(tx: &mut Tx, call: &Call, resource: &str, now: Timestamp) -> Result<Claim> {
    let claimed = tx
        .run(
            Statement::new(
                "INSERT INTO idempotency_keys (actor, key_hash, request_hash, resource, expires_at) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (actor, key_hash) DO UPDATE SET \
                 request_hash = excluded.request_hash, resource = excluded.resource, expires_at = excluded.expires_at \
                 WHERE idempotency_keys.expires_at <= $6 RETURNING resource",
            )
            .bind(call.actor.as_str())
            .bind(call.key_hash)
            .bind(call.request_hash)
            .bind(resource)
            .bind(now + RETENTION)
            .bind(now),
        )
        .await?;
    if !claimed.is_empty() {
        return Ok(Claim::First);
    }
    let rows = tx
        .run(
            Statement::new(
                "SELECT request_hash, resource FROM idempotency_keys WHERE actor = $1 AND key_hash = $2",
            )
            .bind(call.actor.as_str())
            .bind(call.key_hash),
        )
        .await?;
    let row =
        one(rows).ok_or_else(|| Error::Corrupt("an idempotency key disappeared".to_owned()))?;
    if row.get::<Vec<u8>>("request_hash")? == call.request_hash {
        Ok(Claim::Before(row.get("resource")?))
    } else {
        Ok(Claim::Other)
    }
}

/// Stores the id of the result under a key that this transaction has claimed.
pub async fn settle(tx: &mut Tx, call: &Call, resource: &str) -> Result<()> {
    tx.run(
        Statement::new(
            "UPDATE idempotency_keys SET resource = $3 WHERE actor = $1 AND key_hash = $2",
        )
        .bind(call.actor.as_str())
        .bind(call.key_hash)
        .bind(resource),
    )
    .await?;
    Ok(())
}

/// Removes up to `most` expired keys; returns the number removed.
pub async fn sweep(db: &Db, now: Timestamp, most: i64) -> Result<usize> {
    let rows = db
        .write(
            Statement::new(
                "DELETE FROM idempotency_keys WHERE (actor, key_hash) IN \
                 (SELECT actor, key_hash FROM idempotency_keys WHERE expires_at <= $1 LIMIT $2) RETURNING actor",
            )
            .bind(now)
            .bind(most),
        )
        .await?;
    Ok(rows.len())
}
