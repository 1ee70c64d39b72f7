//! Initial access tokens (RFC 7591 §3): who may register a client where not everybody may.

use super::{Db, Result, Statement, Tx};
use crate::clock::Timestamp;

/// Keeps a token by its SHA-256.
pub async fn insert(
    tx: &mut Tx<'_>,
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

/// Whether a token could be used now.
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

/// Uses a token once, and gives its id; `None` where none is left. One statement looks and counts, so that no two can
/// share a use.
pub async fn take(tx: &mut Tx<'_>, hash: &[u8], now: Timestamp) -> Result<Option<String>> {
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

/// Removes up to `most` tokens that are good for nothing any more; says how many went.
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
