//! Denied requests.

use super::{Db, Error, Result, Row, Statement, statement::one};
use crate::{clock::Timestamp, model::denied_request::DeniedRequest};

/// Adds denied requests in one transaction.
pub async fn add(db: &Db, denied: Vec<DeniedRequest>) -> Result<()> {
    let mut tx = db.begin().await?;
    for request in denied {
        let diagnostics = serde_json::to_string(&request.diagnostics);
        let diagnostics = diagnostics.map_err(|error| Error::Corrupt(error.to_string()))?;
        let statement = Statement::new(
            "INSERT INTO denied_requests (request_id, at, call, status, code, reason, diagnostics, address, correlation_id) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (request_id) DO NOTHING",
        );
        tx.run(
            statement
                .bind(request.request_id)
                .bind(request.at)
                .bind(request.call)
                .bind(request.status)
                .bind(request.code)
                .bind(request.reason)
                .bind(diagnostics)
                .bind(request.address)
                .bind(request.correlation_id),
        )
        .await?;
    }
    tx.commit().await
}

/// Finds a denied request by its request id.
pub async fn by_id(db: &Db, request_id: &str) -> Result<Option<DeniedRequest>> {
    let statement = Statement::new(
        "SELECT request_id, at, call, status, code, reason, diagnostics, address, correlation_id FROM denied_requests \
         WHERE request_id = $1",
    );
    let rows = db.read(statement.bind(request_id)).await?;
    one(rows).map(|row| from_row(&row)).transpose()
}

/// Removes the denied requests before `oldest` and all but the newest `most`.
pub async fn sweep(db: &Db, oldest: Timestamp, most: i64) -> Result<()> {
    let statement = Statement::new(
        "DELETE FROM denied_requests WHERE at < $1 OR at <= COALESCE((SELECT at FROM denied_requests ORDER BY at DESC LIMIT 1 OFFSET $2), 0)",
    );
    db.write(statement.bind(oldest).bind(most)).await?;
    Ok(())
}

fn from_row(row: &Row) -> Result<DeniedRequest> {
    let diagnostics: String = row.get("diagnostics")?;
    Ok(DeniedRequest {
        request_id: row.get("request_id")?,
        at: Timestamp(row.get("at")?),
        call: row.get("call")?,
        status: row.get("status")?,
        code: row.get("code")?,
        reason: row.get("reason")?,
        diagnostics: serde_json::from_str(&diagnostics)
            .map_err(|error| Error::Corrupt(error.to_string()))?,
        address: row.get("address")?,
        correlation_id: row.get("correlation_id")?,
    })
}
