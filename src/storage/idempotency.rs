//! What was made under an `Idempotency-Key`, remembered in the transaction that made it.

use std::time::Duration;

use super::{Db, Error, Result, Statement, Tx, statement::one};
use crate::clock::Timestamp;

/// How long a retry finds what the first call made.
const KEPT: Duration = Duration::from_secs(24 * 3_600);

/// A call under a key.
#[derive(Clone, Debug)]
pub struct Call {
    /// Whoever calls: keys of two callers have nothing to do with one another.
    pub actor: String,
    pub key_hash: [u8; 32],
    /// Of what is asked, so that another request under the same key shows.
    pub request_hash: [u8; 32],
}

/// How a call under a key stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is the first: go on and make it.
    First,
    /// The same was made before, under this id.
    Before(String),
    /// Something else was asked under this key.
    Other,
}

/// Takes the key for what this transaction is about to make. One statement: of calls at the same time one gets the row, and
/// the others wait for that one's commit and find it. A row whose time is over counts as none.
pub async fn claim(tx: &mut Tx<'_>, call: &Call, resource: &str, now: Timestamp) -> Result<Claim> {
    let taken = tx
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
            .bind(now + KEPT)
            .bind(now),
        )
        .await?;
    if !taken.is_empty() {
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
    let row = one(rows).ok_or_else(|| Error::Corrupt("an idempotency key went".to_owned()))?;
    if row.get::<Vec<u8>>("request_hash")? == call.request_hash {
        Ok(Claim::Before(row.get("resource")?))
    } else {
        Ok(Claim::Other)
    }
}

/// Notes the id of what was made under a key that this transaction has taken.
pub async fn settle(tx: &mut Tx<'_>, call: &Call, resource: &str) -> Result<()> {
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

/// Removes up to `most` keys whose time is over; says how many went.
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
