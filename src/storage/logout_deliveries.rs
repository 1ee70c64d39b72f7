//! Logout tokens on their way to clients (OpenID Connect Back-Channel Logout §2.5).

use std::time::Duration;

use super::{Db, Result, Statement, Tx};
use crate::clock::Timestamp;

/// A client that is to hear of a session's end.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub id: String,
    pub client_id: String,
    pub subject: String,
    pub session_id: String,
    /// How often it was tried, this time included.
    pub attempts: i64,
}

/// Puts a delivery among those that wait, in the transaction that ends the session.
pub async fn insert(tx: &mut Tx<'_>, delivery: &Delivery, now: Timestamp) -> Result<()> {
    tx.run(
        Statement::new(
            "INSERT INTO logout_deliveries (id, client_id, subject, session_id, attempts, next_at, created_at) \
             VALUES ($1, $2, $3, $4, 0, $5, $5)",
        )
        .bind(delivery.id.as_str())
        .bind(delivery.client_id.as_str())
        .bind(delivery.subject.as_str())
        .bind(delivery.session_id.as_str())
        .bind(now),
    )
    .await?;
    Ok(())
}

/// Takes up to `most` deliveries that are due. Taking one pushes its next attempt forward by `lease`, so that of several
/// processes one sends it, and another takes over where that one dies.
pub async fn take(db: &Db, now: Timestamp, lease: Duration, most: i64) -> Result<Vec<Delivery>> {
    let rows = db
        .write(
            Statement::new(
                "UPDATE logout_deliveries SET attempts = attempts + 1, next_at = $2 WHERE next_at <= $1 AND id IN \
                 (SELECT id FROM logout_deliveries WHERE next_at <= $1 ORDER BY next_at LIMIT $3) \
                 RETURNING id, client_id, subject, session_id, attempts",
            )
            .bind(now)
            .bind(now + lease)
            .bind(most),
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

/// Tries again at that time.
pub async fn postpone(db: &Db, id: &str, next_at: Timestamp) -> Result<()> {
    db.write(
        Statement::new("UPDATE logout_deliveries SET next_at = $2 WHERE id = $1")
            .bind(id)
            .bind(next_at),
    )
    .await?;
    Ok(())
}

/// Removes a delivery that arrived, or that is given up.
pub async fn remove(db: &Db, id: &str) -> Result<()> {
    db.write(Statement::new("DELETE FROM logout_deliveries WHERE id = $1").bind(id))
        .await?;
    Ok(())
}
