//! The queue of logout tokens (OpenID Connect Back-Channel Logout §2.5).
//! [`super::sessions::revoke_all`] adds deliveries in the transaction that revokes the sessions.

use std::time::Duration;

use super::{Db, Result, Statement};
use crate::clock::Timestamp;

/// A logout token to deliver to a client.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub id: String,
    pub client_id: String,
    pub subject: String,
    pub session_id: String,
    /// The number of attempts, including this one.
    pub attempts: i64,
}

/// Whether a delivery is due.
pub async fn any_due(db: &Db, now: Timestamp) -> Result<bool> {
    let due =
        Statement::new("SELECT id FROM logout_deliveries WHERE next_attempt_at <= $1 LIMIT 1");
    Ok(!db.read(due.bind(now)).await?.is_empty())
}

/// Takes up to `most` due deliveries. The next attempt moves forward by `lease`, so that one
/// process sends a delivery and another one takes over if that process stops.
pub async fn take(db: &Db, now: Timestamp, lease: Duration, most: i64) -> Result<Vec<Delivery>> {
    let rows = db
        .write(
            Statement::new(
                "UPDATE logout_deliveries SET attempts = attempts + 1, next_attempt_at = $2 WHERE next_attempt_at <= $1 AND id IN \
                 (SELECT id FROM logout_deliveries WHERE next_attempt_at <= $1 ORDER BY next_attempt_at LIMIT $3) \
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
