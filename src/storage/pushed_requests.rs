//! Pushed authorization requests (RFC 9126).

use super::{Db, Result, Statement, statement::one};
use crate::clock::Timestamp;

/// Adds a request under the hash of its reference.
pub async fn insert(
    db: &Db,
    id: [u8; 32],
    client_id: &str,
    parameters: &str,
    expires_at: Timestamp,
) -> Result<()> {
    db.write(
        Statement::new(
            "INSERT INTO pushed_requests (id, client_id, parameters, expires_at) VALUES ($1, $2, $3, $4)",
        )
        .bind(id)
        .bind(client_id)
        .bind(parameters)
        .bind(expires_at),
    )
    .await?;
    Ok(())
}

/// The parameters of an unexpired request of this client.
pub async fn find(
    db: &Db,
    id: [u8; 32],
    client_id: &str,
    now: Timestamp,
) -> Result<Option<String>> {
    let rows = db
        .read(
            Statement::new(
                "SELECT parameters FROM pushed_requests WHERE id = $1 AND client_id = $2 AND expires_at > $3",
            )
            .bind(id)
            .bind(client_id)
            .bind(now),
        )
        .await?;
    one(rows).map(|row| row.get("parameters")).transpose()
}

/// Consumes a request (RFC 9126 §4); `false` if it was consumed already.
pub async fn take(db: &Db, id: [u8; 32]) -> Result<bool> {
    let rows = db
        .write(
            Statement::new("DELETE FROM pushed_requests WHERE id = $1 RETURNING client_id")
                .bind(id),
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Removes up to `most` expired requests; returns the number removed.
pub async fn sweep(db: &Db, now: Timestamp, most: i64) -> Result<usize> {
    let rows = db
        .write(
            Statement::new(
                "DELETE FROM pushed_requests WHERE id IN \
                 (SELECT id FROM pushed_requests WHERE expires_at <= $1 LIMIT $2) RETURNING client_id",
            )
            .bind(now)
            .bind(most),
        )
        .await?;
    Ok(rows.len())
}
