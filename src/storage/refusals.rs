//! Requests that were refused.

use super::{Db, Error, Result, Row, Statement, statement::one};
use crate::{clock::Timestamp, model::refusal::Refusal};

/// Adds refusals in one transaction.
pub async fn add(db: &Db, refusals: Vec<Refusal>) -> Result<()> {
    db.transaction(move |mut tx| {
        Box::pin(async move {
            for refusal in refusals {
                let facts = serde_json::to_string(&refusal.facts);
                let facts = facts.map_err(|error| Error::Corrupt(error.to_string()))?;
                let statement = Statement::new(
                    "INSERT INTO denied_requests (request_id, at, call, status, code, reason, diagnostics, address, correlation_id) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (request_id) DO NOTHING",
                );
                tx.run(
                    statement
                        .bind(refusal.request_id)
                        .bind(refusal.at)
                        .bind(refusal.call)
                        .bind(refusal.status)
                        .bind(refusal.code)
                        .bind(refusal.reason)
                        .bind(facts)
                        .bind(refusal.address)
                        .bind(refusal.correlation_id),
                )
                .await?;
            }
            Ok(())
        })
    })
    .await
}

/// Finds a refusal by its request's id.
pub async fn by_id(db: &Db, request_id: &str) -> Result<Option<Refusal>> {
    let statement = Statement::new(
        "SELECT request_id, at, call, status, code, reason, diagnostics, address, correlation_id FROM denied_requests \
         WHERE request_id = $1",
    );
    let rows = db.read(statement.bind(request_id)).await?;
    one(rows).map(|row| refusal(&row)).transpose()
}

/// Removes the refusals before `oldest` and all but the newest `most`.
pub async fn sweep(db: &Db, oldest: Timestamp, most: i64) -> Result<()> {
    let statement = Statement::new(
        "DELETE FROM denied_requests WHERE at < $1 OR at <= COALESCE((SELECT at FROM denied_requests ORDER BY at DESC LIMIT 1 OFFSET $2), 0)",
    );
    db.write(statement.bind(oldest).bind(most)).await?;
    Ok(())
}

fn refusal(row: &Row) -> Result<Refusal> {
    let facts: String = row.get("diagnostics")?;
    Ok(Refusal {
        request_id: row.get("request_id")?,
        at: Timestamp(row.get("at")?),
        call: row.get("call")?,
        status: row.get("status")?,
        code: row.get("code")?,
        reason: row.get("reason")?,
        facts: serde_json::from_str(&facts).map_err(|error| Error::Corrupt(error.to_string()))?,
        address: row.get("address")?,
        correlation_id: row.get("correlation_id")?,
    })
}
