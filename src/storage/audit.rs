//! The audit log: who changed what, when, and from where.

use serde_json::Value;

use super::{Db, Error, Result, Row, Statement, Tx};
use crate::{clock::Timestamp, model::actor::Actor};

/// Records an audit entry by itself. `detail` must not contain secrets.
pub async fn add(
    db: &Db,
    actor: &Actor,
    action: &'static str,
    subject: &str,
    detail: Value,
    now: Timestamp,
) -> Result<()> {
    db.write(actor.audit_entry(action, Some(subject), detail, now)).await?;
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
        tx.run(self.audit_entry(action, subject, detail, now)).await?;
        Ok(())
    }

    /// The statement of [`Actor::note`], fit for [`Statement::followed_by`].
    pub(super) fn audit_entry(
        &self,
        action: &'static str,
        subject: Option<&str>,
        detail: Value,
        now: Timestamp,
    ) -> Statement {
        let caller = self.caller.as_ref();
        Statement::new(
            "INSERT INTO audit_log (at, action, actor, subject, address, request_id, correlation_id, detail) \
             SELECT $1, $2, $3, $4, $5, $6, $7, $8",
        )
        .bind(now)
        .bind(action)
        .bind(self.actor.as_str())
        .bind(subject)
        .bind(caller.map(|caller| caller.address.to_string()))
        .bind(caller.map(|caller| caller.request_id.as_str()))
        .bind(self.correlation_id())
        .bind(detail.to_string())
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
    /// At or after this time.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
}

/// Up to `most` matching entries with numbers below `before`, newest first.
pub async fn page(
    db: &Db,
    filter: &AuditFilter,
    before: i64,
    most: i64,
) -> Result<Vec<AuditEntry>> {
    let statement = Statement::new(
        "SELECT number, at, action, actor, subject, address, request_id, correlation_id, detail FROM audit_log \
         WHERE number < $1",
    )
    .bind(before)
    .filter("AND actor = $", filter.actor.as_deref())
    .filter("AND subject = $", filter.subject.as_deref())
    .filter("AND action = $", filter.action.as_deref())
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
