//! Webhook endpoints, and how they do. [`super::webhook_deliveries`] has what is sent to them.

use super::{Db, Error, Result, Row, Statement, Tx, statement::one};
use crate::{
    clock::Timestamp,
    model::webhook::{DisabledFor, Webhook, WebhookSettings},
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, url, description, event_types, secret, old_secret, old_secret_expires_at, failures, \
             failing_since, retry_at, created_at, updated_at, disabled_at, disabled_for FROM webhooks ",
            $rest
        )
    };
}

/// Up to `most` endpoints with ids above `after`, in order.
pub async fn page(db: &Db, after: &str, most: i64) -> Result<Vec<Webhook>> {
    let statement = Statement::new(select!("WHERE id > $1 ORDER BY id LIMIT $2"));
    db.read(statement.bind(after).bind(most)).await?.iter().map(webhook).collect()
}

/// Finds an endpoint by its id.
pub async fn by_id(db: &Db, id: &str) -> Result<Option<Webhook>> {
    // PostgreSQL rejects statements with NUL in a text value; no endpoint has such an id.
    if id.contains('\0') {
        return Ok(None);
    }
    let statement = Statement::new(select!("WHERE id = $1")).bind(id);
    one(db.read(statement).await?).map(|row| webhook(&row)).transpose()
}

/// As [`by_id`], for a transaction that changes the endpoint: other changes wait until it ends.
pub async fn lock(tx: &mut Tx, id: &str) -> Result<Option<Webhook>> {
    if id.contains('\0') {
        return Ok(None);
    }
    let statement = Statement::new(select!("WHERE id = $1"));
    let statement = statement.locking(select!("WHERE id = $1 FOR UPDATE")).bind(id);
    one(tx.run(statement).await?).map(|row| webhook(&row)).transpose()
}

/// The enabled endpoints, for a transaction that queues deliveries: none is deleted until it ends.
pub async fn enabled(tx: &mut Tx) -> Result<Vec<Webhook>> {
    let statement = Statement::new(select!("WHERE disabled_at IS NULL ORDER BY id"));
    let statement =
        statement.locking(select!("WHERE disabled_at IS NULL ORDER BY id FOR KEY SHARE"));
    tx.run(statement).await?.iter().map(webhook).collect()
}

/// The number of endpoints.
pub async fn count(tx: &mut Tx) -> Result<i64> {
    let rows = tx.run(Statement::new("SELECT COUNT(*) AS n FROM webhooks")).await?;
    one(rows).map_or(Ok(0), |row| row.get("n"))
}

/// Adds an endpoint.
///
/// # Errors
/// [`Error::Conflict`] if the id is taken.
pub async fn insert(tx: &mut Tx, webhook: &Webhook) -> Result<()> {
    let statement = Statement::new(
        "INSERT INTO webhooks (id, url, description, event_types, secret, failures, retry_at, created_at, \
         updated_at) VALUES ($1, $2, $3, $4, $5, 0, 0, $6, $6)",
    );
    let statement = statement
        .bind(webhook.id.as_str())
        .bind(webhook.settings.url.as_str())
        .bind(webhook.settings.description.as_str())
        .bind(to_json(&webhook.settings.event_types)?)
        .bind(webhook.secret.as_str())
        .bind(webhook.created_at);
    tx.run(statement).await?;
    Ok(())
}

/// Updates every column of an endpoint found by [`lock`] but its id and creation time.
pub async fn update(tx: &mut Tx, webhook: &Webhook) -> Result<()> {
    let statement = Statement::new(
        "UPDATE webhooks SET url = $2, description = $3, event_types = $4, secret = $5, old_secret = $6, \
         old_secret_expires_at = $7, failures = $8, failing_since = $9, retry_at = $10, updated_at = $11, \
         disabled_at = $12, disabled_for = $13 WHERE id = $1",
    );
    let statement = statement
        .bind(webhook.id.as_str())
        .bind(webhook.settings.url.as_str())
        .bind(webhook.settings.description.as_str())
        .bind(to_json(&webhook.settings.event_types)?)
        .bind(webhook.secret.as_str())
        .bind(webhook.old_secret.as_deref())
        .bind(webhook.old_secret_expires_at)
        .bind(webhook.failures)
        .bind(webhook.failing_since)
        .bind(webhook.retry_at)
        .bind(webhook.updated_at)
        .bind(webhook.disabled_at)
        .bind(webhook.disabled_for.map(DisabledFor::as_str));
    tx.run(statement).await?;
    Ok(())
}

/// Removes an endpoint with its deliveries.
pub async fn remove(tx: &mut Tx, id: &str) -> Result<()> {
    tx.run(Statement::new("DELETE FROM webhooks WHERE id = $1").bind(id)).await?;
    Ok(())
}

/// An endpoint with due deliveries.
#[derive(Clone, Debug)]
pub struct Due {
    pub id: String,
    /// Failed attempts since the last success.
    pub failures: i64,
}

/// The enabled endpoints with due deliveries that are not backing off, the longest waiting first.
pub async fn due(db: &Db, now: Timestamp) -> Result<Vec<Due>> {
    let statement = Statement::new(
        "SELECT id, failures FROM (SELECT w.id, w.failures, (SELECT MIN(d.next_attempt_at) FROM webhook_deliveries d \
         WHERE d.webhook_id = w.id AND d.state = 'pending') AS since FROM webhooks w \
         WHERE w.disabled_at IS NULL AND w.retry_at <= $1) AS waiting WHERE since <= $1 ORDER BY since",
    );
    let rows = db.read(statement.bind(now)).await?;
    let due = |row: &Row| Ok(Due { id: row.get("id")?, failures: row.get("failures")? });
    rows.iter().map(due).collect()
}

/// Whether this caller may try an endpoint that was failing; others wait until `until`.
pub async fn claim_probe(db: &Db, id: &str, now: Timestamp, until: Timestamp) -> Result<bool> {
    let statement = Statement::new(
        "UPDATE webhooks SET retry_at = $3 WHERE id = $1 AND retry_at <= $2 AND disabled_at IS NULL RETURNING id",
    );
    let rows = db.write(statement.bind(id).bind(now).bind(until)).await?;
    Ok(!rows.is_empty())
}

/// Records a failed attempt: nothing is sent before `retry_at`. Returns since when every attempt has
/// failed; `None` if the endpoint was deleted.
pub async fn back_off(
    db: &Db,
    id: &str,
    now: Timestamp,
    retry_at: Timestamp,
) -> Result<Option<Timestamp>> {
    let statement = Statement::new(
        "UPDATE webhooks SET failures = failures + 1, failing_since = COALESCE(failing_since, $2), retry_at = $3 \
         WHERE id = $1 RETURNING failing_since",
    );
    let rows = db.write(statement.bind(id).bind(now).bind(retry_at)).await?;
    one(rows).map(|row| row.get("failing_since").map(Timestamp)).transpose()
}

/// Nothing is sent before `retry_at`, as the endpoint has asked for.
pub async fn pause(db: &Db, id: &str, retry_at: Timestamp) -> Result<()> {
    let statement = Statement::new("UPDATE webhooks SET retry_at = $2 WHERE id = $1");
    db.write(statement.bind(id).bind(retry_at)).await?;
    Ok(())
}

/// The endpoint has accepted a delivery.
pub async fn recover(db: &Db, id: &str) -> Result<()> {
    let statement = Statement::new(
        "UPDATE webhooks SET failures = 0, failing_since = NULL, retry_at = 0 WHERE id = $1",
    );
    db.write(statement.bind(id)).await?;
    Ok(())
}

fn to_json(event_types: &[String]) -> Result<String> {
    serde_json::to_string(event_types).map_err(|error| Error::Corrupt(error.to_string()))
}

fn webhook(row: &Row) -> Result<Webhook> {
    let event_types: String = row.get("event_types")?;
    let disabled_for: Option<String> = row.get("disabled_for")?;
    let corrupt = |what: String| Error::Corrupt(format!("webhook: {what}"));
    let reason = |text: String| DisabledFor::parse(&text).ok_or_else(|| corrupt(text));
    let time =
        |column| row.get::<Option<i64>>(column).map(|micros: Option<i64>| micros.map(Timestamp));
    Ok(Webhook {
        id: row.get("id")?,
        settings: WebhookSettings {
            url: row.get("url")?,
            description: row.get("description")?,
            event_types: serde_json::from_str(&event_types)
                .map_err(|error| corrupt(error.to_string()))?,
        },
        secret: row.get("secret")?,
        old_secret: row.get("old_secret")?,
        old_secret_expires_at: time("old_secret_expires_at")?,
        failures: row.get("failures")?,
        failing_since: time("failing_since")?,
        retry_at: Timestamp(row.get("retry_at")?),
        created_at: Timestamp(row.get("created_at")?),
        updated_at: Timestamp(row.get("updated_at")?),
        disabled_at: time("disabled_at")?,
        disabled_for: disabled_for.map(reason).transpose()?,
    })
}
