//! Initial access tokens for dynamic client registration (RFC 7591 §3).

use super::{Db, Result, Statement, Tx};
use crate::clock::Timestamp;

/// Adds a token by its SHA-256.
pub async fn insert(
    tx: &mut Tx,
    id: &str,
    hash: &[u8],
    uses: u32,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<()> {
    tx.run(
        Statement::new(
            "INSERT INTO initial_access_tokens (id, token_hash, uses_left, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(id)
        .bind(Some(hash.to_vec()))
        .bind(i64::from(uses))
        .bind(now)
        .bind(expires_at),
    )
    .await?;
    Ok(())
}

/// Whether a token is unexpired and has uses left.
pub async fn is_valid(db: &Db, hash: &[u8], now: Timestamp) -> Result<bool> {
    let rows = db
        .read(
            Statement::new(
                "SELECT id FROM initial_access_tokens WHERE token_hash = $1 AND uses_left > 0 AND expires_at > $2",
            )
            .bind(Some(hash.to_vec()))
            .bind(now),
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Consumes one use of a token and returns its id; `None` if it is expired or used up. One
/// statement checks and decrements, so that two requests cannot share a use.
pub async fn take(tx: &mut Tx, hash: &[u8], now: Timestamp) -> Result<Option<String>> {
    let rows = tx
        .run(
            Statement::new(
                "UPDATE initial_access_tokens SET uses_left = uses_left - 1 \
                 WHERE token_hash = $1 AND uses_left > 0 AND expires_at > $2 RETURNING id",
            )
            .bind(Some(hash.to_vec()))
            .bind(now),
        )
        .await?;
    rows.first().map(|row| row.get("id")).transpose()
}

/// Removes up to `most` expired or used-up tokens; returns the number removed.
pub async fn sweep(db: &Db, now: Timestamp, most: i64) -> Result<usize> {
    let rows = db
        .write(
            Statement::new(
                "DELETE FROM initial_access_tokens WHERE id IN (SELECT id FROM initial_access_tokens \
                 WHERE expires_at <= $1 OR uses_left = 0 LIMIT $2) RETURNING id",
            )
            .bind(now)
            .bind(most),
        )
        .await?;
    Ok(rows.len())
}
