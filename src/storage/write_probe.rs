//! Whether the database can be written.

use super::{Db, Result, Statement};
use crate::clock::Timestamp;

/// Bytes written: several pages, so that a full disk is noticed.
const SIZE: usize = 16 * 1024;

/// Writes a row that needs room, and removes it in the same transaction.
///
/// # Errors
/// [`super::Error::Database`] where nothing can be written.
pub async fn run(db: &Db, id: &str, now: Timestamp) -> Result<()> {
    let mut tx = db.begin().await?;
    tx.run(
        Statement::new(
            "INSERT INTO denied_requests (request_id, at, call, status, code, reason, diagnostics) \
             VALUES ($1, $2, '', '', '', '', $3)",
        )
        .bind(id)
        .bind(now)
        .bind("0".repeat(SIZE)),
    )
    .await?;
    tx.run(Statement::new("DELETE FROM denied_requests WHERE request_id = $1").bind(id)).await?;
    tx.commit().await
}
