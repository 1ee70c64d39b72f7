//! The outbox: events, written in the transaction of the change they describe.

use super::{Db, Result, Statement, Tx, statement::one};
use crate::{clock::Timestamp, model::event::Event};

/// Adds an event.
pub async fn add(
    tx: &mut Tx,
    id: String,
    event: &Event,
    correlation_id: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    tx.run(
        Statement::new(
            "INSERT INTO outbox (id, type, subject, data, correlation_id, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(id)
        .bind(event.kind)
        .bind(event.subject.as_str())
        .bind(event.data.to_string())
        .bind(correlation_id)
        .bind(now),
    )
    .await?;
    Ok(())
}

/// The number of events.
pub async fn count(db: &Db) -> Result<i64> {
    let rows = db.read(Statement::new("SELECT COUNT(*) AS n FROM outbox")).await?;
    one(rows).map_or(Ok(0), |row| row.get("n"))
}

/// Removes the events before `oldest` and all but the newest `most`, so that the outbox is bounded.
pub async fn sweep(db: &Db, oldest: Timestamp, most: i64) -> Result<()> {
    db.write(
        Statement::new(
            "DELETE FROM outbox WHERE created_at < $1 OR number <= (SELECT MAX(number) FROM outbox) - $2",
        )
        .bind(oldest)
        .bind(most),
    )
    .await?;
    Ok(())
}
