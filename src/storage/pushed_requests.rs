//! Pushed authorization requests (RFC 9126).

use super::{Db, Result, Row, Statement, statement::one};
use crate::{
    clock::Timestamp,
    ids::{BrowserSessionId, ClientId},
};

/// Adds a request under the hash of its reference.
pub async fn insert(
    db: &Db,
    id: [u8; 32],
    client_id: &ClientId,
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

/// A stored request.
#[derive(Debug)]
pub struct PushedRequest {
    /// Form-encoded.
    pub parameters: String,
    /// The browser session that used it.
    pub used_by: Option<BrowserSessionId>,
}

/// An unexpired request of this client.
pub async fn find(
    db: &Db,
    id: [u8; 32],
    client_id: &ClientId,
    now: Timestamp,
) -> Result<Option<PushedRequest>> {
    let rows = db
        .read(
            Statement::new(
                "SELECT parameters, used_by FROM pushed_requests WHERE id = $1 AND client_id = $2 AND expires_at > $3",
            )
            .bind(id)
            .bind(client_id)
            .bind(now),
        )
        .await?;
    let read = |row: &Row| {
        Ok(PushedRequest { parameters: row.get("parameters")?, used_by: row.get("used_by")? })
    };
    one(rows).as_ref().map(read).transpose()
}

/// Uses a request in a browser session (RFC 9126 §4); `false` if another one has used it, or if it
/// was removed. One statement decides between simultaneous uses.
pub async fn take(db: &Db, id: [u8; 32], browser_session_id: &BrowserSessionId) -> Result<bool> {
    let rows = db
        .write(
            Statement::new(
                "UPDATE pushed_requests SET used_by = $2 \
                 WHERE id = $1 AND (used_by IS NULL OR used_by = $2) RETURNING client_id",
            )
            .bind(id)
            .bind(browser_session_id),
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
