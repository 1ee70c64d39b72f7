//! The audit log: who changed what, when, and from where.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::{Db, Error, Result, Row, Statement, Tx, statement::json};
use crate::{
    clock::Timestamp,
    model::{self, actor::Actor},
};

/// Records an audit entry by itself. `detail` must not contain secrets.
pub async fn add(
    db: &Db,
    actor: &Actor,
    action: &'static str,
    subject: &str,
    detail: Value,
    now: Timestamp,
) -> Result<()> {
    db.write(NewRow::new(actor, action, Some(subject), &detail, now).insertion()).await?;
    Ok(())
}

impl Actor {
    /// Records an audit entry. `detail` must not contain secrets.
    pub async fn note(
        &self,
        tx: &mut Tx,
        action: &'static str,
        subject: Option<&str>,
        detail: Value,
        now: Timestamp,
    ) -> Result<()> {
        tx.run(NewRow::new(self, action, subject, &detail, now).insertion()).await?;
        Ok(())
    }
}

/// A new row.
#[derive(Debug, Serialize)]
pub(super) struct NewRow {
    at: i64,
    action: &'static str,
    actor: String,
    subject: Option<String>,
    address: Option<String>,
    request_id: Option<String>,
    correlation_id: Option<String>,
    detail: String,
}

impl NewRow {
    /// `detail` must not contain secrets.
    pub(super) fn new(
        actor: &Actor,
        action: &'static str,
        subject: Option<&str>,
        detail: &Value,
        now: Timestamp,
    ) -> Self {
        let caller = actor.caller.as_ref();
        let request_id = caller.map(|caller| caller.request_id.as_str());
        // Without one from the caller it is the request's: stored once.
        let correlation_id = actor.correlation_id().filter(|id| Some(*id) != request_id);
        Self {
            at: now.0,
            action,
            actor: actor.actor.clone(),
            subject: subject.map(str::to_owned),
            address: caller.map(|caller| caller.address.to_string()),
            request_id: request_id.map(str::to_owned),
            correlation_id: correlation_id.map(str::to_owned),
            detail: detail.to_string(),
        }
    }

    /// The statement that adds it, fit for [`Statement::followed_by`].
    pub(super) fn insertion(self) -> Statement {
        Statement::new(
            "INSERT INTO audit_log (at, action, actor, subject, address, request_id, correlation_id, detail) \
             SELECT $1, $2, $3, $4, $5, $6, $7, $8",
        )
        .bind(self.at)
        .bind(self.action)
        .bind(self.actor)
        .bind(self.subject)
        .bind(self.address)
        .bind(self.request_id)
        .bind(self.correlation_id)
        .bind(self.detail)
    }

    /// As [`NewRow::insertion`], of any number of rows, in their order.
    pub(super) fn insertion_of_all(rows: &[&Self]) -> Result<Statement> {
        let statement = Statement::new(
            "INSERT INTO audit_log (at, action, actor, subject, address, request_id, correlation_id, detail) \
             SELECT value ->> 'at', value ->> 'action', value ->> 'actor', value ->> 'subject', \
             value ->> 'address', value ->> 'request_id', value ->> 'correlation_id', value ->> 'detail' \
             FROM jsonb_each($1)",
        )
        .for_postgres(
            "INSERT INTO audit_log (at, action, actor, subject, address, request_id, correlation_id, detail) \
             SELECT t.at, t.action, t.actor, t.subject, t.address, t.request_id, t.correlation_id, t.detail \
             FROM json_to_recordset(CAST($1 AS json)) AS t (at BIGINT, action TEXT, actor TEXT, subject TEXT, \
             address TEXT, request_id TEXT, correlation_id TEXT, detail TEXT)",
        );
        Ok(statement.bind(json(rows)?))
    }
}

/// An entry of the audit log.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    /// Increases with each entry.
    pub number: i64,
    pub at: Timestamp,
    pub action: String,
    pub actor: String,
    pub subject: Option<String>,
    pub address: Option<String>,
    pub request_id: Option<String>,
    pub correlation_id: Option<String>,
    pub detail: Value,
}

/// Filters of [`page`]; `None` matches every entry.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    pub actor: Option<String>,
    pub subject: Option<String>,
    pub action: Option<String>,
    /// The actor's IP address.
    pub address: Option<String>,
    pub request_id: Option<String>,
    /// At or after this time.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
}

/// Longer than any request takes: its entries are not younger than its id by more.
const LONGEST_REQUEST: Duration = Duration::from_secs(3_600);

/// Up to `most` matching entries with numbers below `before`, newest first.
pub async fn page(
    db: &Db,
    filter: &AuditFilter,
    before: i64,
    most: i64,
) -> Result<Vec<AuditEntry>> {
    // The id of a request has its time, by which the entries have an index.
    let begun = filter.request_id.as_deref().and_then(model::created_at);
    if filter.request_id.is_some() && begun.is_none() {
        return Ok(vec![]);
    }
    let statement = Statement::new(
        "SELECT number, at, action, actor, subject, address, request_id, \
         COALESCE(correlation_id, request_id) AS correlation_id, detail FROM audit_log \
         WHERE number < $1",
    )
    .bind(before)
    .filter("AND actor = $", filter.actor.as_deref())
    .filter("AND subject = $", filter.subject.as_deref())
    .filter("AND action = $", filter.action.as_deref())
    .filter("AND address = $", filter.address.as_deref())
    .filter("AND request_id = $", filter.request_id.as_deref())
    .filter("AND at >= $", begun)
    .filter("AND at < $", begun.map(|begun| begun + LONGEST_REQUEST))
    .filter("AND at >= $", filter.from)
    .filter("AND at < $", filter.to)
    .with("ORDER BY number DESC LIMIT $", most);
    db.read(statement).await?.iter().map(from_row).collect()
}

fn from_row(row: &Row) -> Result<AuditEntry> {
    let detail: String = row.get("detail")?;
    Ok(AuditEntry {
        number: row.get("number")?,
        at: Timestamp(row.get("at")?),
        action: row.get("action")?,
        actor: row.get("actor")?,
        subject: row.get("subject")?,
        address: row.get("address")?,
        request_id: row.get("request_id")?,
        correlation_id: row.get("correlation_id")?,
        detail: serde_json::from_str(&detail).map_err(|error| Error::Corrupt(error.to_string()))?,
    })
}

/// Removes the entries before `oldest` and all but the newest `most`.
pub async fn sweep(db: &Db, oldest: Timestamp, most: i64) -> Result<()> {
    db.write(
        Statement::new(
            "DELETE FROM audit_log WHERE at < $1 OR number <= (SELECT MAX(number) FROM audit_log) - $2",
        )
        .bind(oldest)
        .bind(most),
    )
    .await?;
    Ok(())
}
