//! Webhook endpoints, as administrators and operators manage them. [`crate::flows::webhooks`]
//! delivers to them.

use std::time::Duration;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    app::App,
    clock::Timestamp,
    error::{Error, FieldError},
    flows::{
        admin::{
            access::Precondition,
            idempotency::{self, Created, IdempotentRequest},
        },
        webhooks::{Sent, new_secret, sealed, send},
    },
    model::{
        actor::Actor,
        event::Event,
        event_types::EVENT_TYPES,
        webhook::{Delivery, DisabledFor, MOST_WEBHOOKS, Webhook, WebhookSettings},
    },
    storage::{
        self, AuditedTx,
        relay::{self, OutboxRow},
        webhook_deliveries::{self as deliveries, DeliveryFilter},
        webhooks as rows,
    },
};

/// The type of the event that a test sends. It is in no outbox.
pub const TEST_EVENT: &str = "webhook.test";

/// How long the previous secret may stay valid.
const LONGEST_OVERLAP: Duration = Duration::from_secs(30 * 86_400);

/// The endpoint of that id.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn by_id(app: &App, id: &str) -> Result<Webhook, Error> {
    rows::by_id(&app.db, id).await?.ok_or(Error::NotFound("webhook"))
}

/// Adds an endpoint; generates its id unless one is given. Returns its secret.
///
/// # Errors
/// [`Error::Validation`]; [`Error::Conflict`] for an id that is taken, and where there are
/// [`MOST_WEBHOOKS`]; [`Error::KeyReused`]; [`Error::NotFound`] where an earlier request has added
/// the endpoint and it was deleted since.
pub async fn create(
    app: &App,
    id: Option<String>,
    settings: WebhookSettings,
    request: Option<IdempotentRequest>,
    actor: &Actor,
) -> Result<Created<(Webhook, Option<String>)>, Error> {
    let id = id.unwrap_or_else(|| app.new_id());
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(1..=64).contains(&id.len()) || !id.bytes().all(fits) {
        return Err(Error::field("id", "must be 1 to 64 of a-z, 0-9 and -"));
    }
    check(app, &settings)?;
    let secret = new_secret(app);
    let encrypted = sealed(app, &id, &secret)?;
    let mut tx = app.begin(actor).await?;
    if let Some(earlier) = idempotency::claim(&mut tx, request.as_ref(), &id).await? {
        tx.rollback().await?;
        return Ok(Created::earlier(by_id(app, &earlier).await?).with_secret(None));
    }
    if rows::count(&mut tx).await? >= MOST_WEBHOOKS {
        return Err(Error::Conflict("there are 100 webhooks, the most: delete one first"));
    }
    let now = tx.now();
    let webhook = Webhook {
        id,
        settings,
        secret: encrypted,
        old_secret: None,
        old_secret_expires_at: None,
        failures: 0,
        failing_since: None,
        retry_at: Timestamp(0),
        created_at: now,
        updated_at: now,
        disabled_at: None,
        disabled_for: None,
    };
    rows::insert(&mut tx, &webhook).await.map_err(|error| match error {
        storage::Error::Conflict(_) => Error::Conflict("a webhook of this id exists: update it"),
        other => other.into(),
    })?;
    audit(&mut tx, "webhook.add", &webhook.id, json!({ "after": described(&webhook) })).await?;
    tx.commit().await?;
    Ok(Created::now(webhook).with_secret(Some(shown(secret))))
}

/// Replaces the settings of an endpoint. With another URL it counts as one that has not failed.
///
/// # Errors
/// [`Error::Validation`]; [`Error::NotFound`]; [`Error::Changed`].
pub async fn update(
    app: &App,
    id: &str,
    precondition: &Precondition,
    settings: WebhookSettings,
    actor: &Actor,
) -> Result<Webhook, Error> {
    check(app, &settings)?;
    let mut tx = app.begin(actor).await?;
    let mut webhook = lock(&mut tx, id).await?;
    precondition.check(webhook.updated_at)?;
    let before = described(&webhook);
    if webhook.settings.url != settings.url {
        forget_failures(&mut webhook);
    }
    webhook.settings = settings;
    let detail = json!({ "before": before, "after": described(&webhook) });
    let webhook = touch(&mut tx, webhook, "webhook.set", detail).await?;
    commit(app, tx).await?;
    Ok(webhook)
}

/// Disables an endpoint: nothing is sent to it, and later events are not queued for it. What was
/// queued waits until it is enabled, or expires. A disabled endpoint stays as it is.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn disable(app: &App, id: &str, actor: &Actor) -> Result<Webhook, Error> {
    let mut tx = app.begin(actor).await?;
    let mut webhook = lock(&mut tx, id).await?;
    if webhook.disabled_at.is_some() {
        return Ok(webhook);
    }
    webhook.disabled_at = Some(tx.now());
    webhook.disabled_for = Some(DisabledFor::Operator);
    let detail = json!({ "reason": DisabledFor::Operator.as_str() });
    let webhook = touch(&mut tx, webhook, "webhook.disable", detail).await?;
    tx.event(&Event::webhook_disabled(id, DisabledFor::Operator)).await?;
    tx.commit().await?;
    Ok(webhook)
}

/// Enables a disabled endpoint, as one that has not failed. An enabled endpoint stays as it is.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn enable(app: &App, id: &str, actor: &Actor) -> Result<Webhook, Error> {
    let mut tx = app.begin(actor).await?;
    let mut webhook = lock(&mut tx, id).await?;
    if webhook.disabled_at.is_none() {
        return Ok(webhook);
    }
    webhook.disabled_at = None;
    webhook.disabled_for = None;
    forget_failures(&mut webhook);
    let webhook = touch(&mut tx, webhook, "webhook.enable", json!({})).await?;
    commit(app, tx).await?;
    Ok(webhook)
}

/// Deletes an endpoint with its deliveries.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Changed`].
pub async fn delete(
    app: &App,
    id: &str,
    precondition: &Precondition,
    actor: &Actor,
) -> Result<(), Error> {
    let mut tx = app.begin(actor).await?;
    let webhook = lock(&mut tx, id).await?;
    precondition.check(webhook.updated_at)?;
    rows::remove(&mut tx, id).await?;
    audit(&mut tx, "webhook.remove", id, json!({ "before": described(&webhook) })).await?;
    Ok(tx.commit().await?)
}

/// Gives an endpoint a new secret; for `overlap` requests are signed with the previous one as well.
/// Returns the endpoint and the secret.
///
/// # Errors
/// [`Error::Validation`]; [`Error::NotFound`].
pub async fn rotate_secret(
    app: &App,
    id: &str,
    overlap: Duration,
    actor: &Actor,
) -> Result<(Webhook, String), Error> {
    if overlap > LONGEST_OVERLAP {
        return Err(Error::field("overlapSeconds", "must be at most 30 days (2592000)"));
    }
    let secret = new_secret(app);
    let encrypted = sealed(app, id, &secret)?;
    let mut tx = app.begin(actor).await?;
    let mut webhook = lock(&mut tx, id).await?;
    let previous = std::mem::replace(&mut webhook.secret, encrypted);
    let keeps = !overlap.is_zero();
    webhook.old_secret = keeps.then_some(previous);
    webhook.old_secret_expires_at = keeps.then(|| tx.now() + overlap);
    let detail = json!({ "overlapSeconds": overlap.as_secs() });
    let webhook = touch(&mut tx, webhook, "webhook.rotate_secret", detail).await?;
    tx.commit().await?;
    Ok((webhook, shown(secret)))
}

/// Sends a test event to an endpoint, also to a disabled one, and waits for the response. It is
/// sent once.
///
/// # Errors
/// [`Error::NotFound`]. What the endpoint does is no error.
pub async fn test(app: &App, id: &str, actor: &Actor) -> Result<Sent, Error> {
    let webhook = by_id(app, id).await?;
    let event = OutboxRow {
        number: 0,
        id: app.new_id(),
        kind: TEST_EVENT.to_owned(),
        subject: webhook.id.clone(),
        data: json!({ "webhookId": webhook.id }).to_string(),
        correlation_id: actor.correlation_id().map(str::to_owned),
        created_at: app.clock.now(),
        published_at: None,
        refused: None,
        saga_id: None,
    };
    let mut tx = app.begin(actor).await?;
    audit(&mut tx, "webhook.test", id, json!({ "eventId": event.id })).await?;
    tx.commit().await?;
    send(app, &webhook, &event).await
}

/// The delivery of an event to an endpoint.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn delivery(app: &App, id: &str, event_id: &str) -> Result<Delivery, Error> {
    by_id(app, id).await?;
    let not_found = Error::NotFound("delivery");
    if event_id.contains('\0') {
        return Err(not_found);
    }
    let filter =
        DeliveryFilter { event_id: Some(event_id.to_owned()), ..DeliveryFilter::default() };
    let found = deliveries::page(&app.db, id, &filter, i64::MAX, 1).await?;
    found.into_iter().next().ok_or(not_found)
}

/// Has an event delivered again, whatever became of the first delivery, and at once, though the
/// endpoint is backing off. It has the same `webhook-id`.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] where it cannot be sent.
pub async fn resend(app: &App, id: &str, event_id: &str, actor: &Actor) -> Result<Delivery, Error> {
    let config = &app.config.webhooks;
    if !config.enabled {
        return Err(Error::Conflict("nothing is delivered: set webhooks.enabled first"));
    }
    let mut tx = app.begin(actor).await?;
    let mut webhook = lock(&mut tx, id).await?;
    if webhook.disabled_at.is_some() {
        return Err(Error::Conflict("the webhook is disabled: enable it first"));
    }
    let now = tx.now();
    let expires_at = now + config.max_age;
    let delivery = deliveries::resend(&mut tx, id, event_id, now, expires_at).await?;
    let delivery = delivery.ok_or(Error::NotFound("delivery"))?;
    if !relay::exists(&mut tx, event_id).await? {
        return Err(Error::Conflict("the outbox does not have the event any more"));
    }
    // As it was but for the time: its ETag stays.
    webhook.retry_at = Timestamp(0);
    rows::update(&mut tx, &webhook).await?;
    audit(&mut tx, "webhook.resend", id, json!({ "eventId": event_id })).await?;
    commit(app, tx).await?;
    Ok(delivery)
}

/// Reads an endpoint for a change that other changes of it wait for.
async fn lock(tx: &mut AuditedTx, id: &str) -> Result<Webhook, Error> {
    let found = rows::lock(tx, id).await?;
    // The lock may have waited for another change.
    tx.read_clock();
    found.ok_or(Error::NotFound("webhook"))
}

async fn touch(
    tx: &mut AuditedTx,
    mut webhook: Webhook,
    action: &'static str,
    detail: Value,
) -> storage::Result<Webhook> {
    webhook.updated_at = tx.now().past(webhook.updated_at);
    rows::update(tx, &webhook).await?;
    audit(tx, action, &webhook.id, detail).await?;
    Ok(webhook)
}

/// Commits what may make deliveries due.
async fn commit(app: &App, tx: AuditedTx) -> Result<(), Error> {
    tx.commit().await?;
    app.webhooks_waiting.notify_one();
    Ok(())
}

fn forget_failures(webhook: &mut Webhook) {
    webhook.failures = 0;
    webhook.failing_since = None;
    webhook.retry_at = Timestamp(0);
}

/// A secret that leaves the server.
fn shown(secret: Zeroizing<String>) -> String {
    secret.as_str().to_owned()
}

async fn audit(
    tx: &mut AuditedTx,
    action: &'static str,
    id: &str,
    mut detail: Value,
) -> storage::Result<()> {
    detail["webhookId"] = id.into();
    tx.audit(action, None, detail).await
}

fn described(webhook: &Webhook) -> Value {
    let WebhookSettings { url, description, event_types } = &webhook.settings;
    json!({ "url": url, "description": description, "eventTypes": event_types })
}

fn check(app: &App, settings: &WebhookSettings) -> Result<(), Vec<FieldError>> {
    let mut found = vec![];
    let mut refuse = |field, message: String| found.push(FieldError { field, message });
    let WebhookSettings { url, description, event_types } = settings;
    if let Err(why) = app.outbound.check_webhook(url) {
        refuse("url", why.to_string());
    }
    if description.chars().count() > 200 || description.contains(char::is_control) {
        let rule = "must be at most 200 characters, without control characters";
        refuse("description", rule.to_owned());
    }
    let is_known = |name: &String| EVENT_TYPES.iter().any(|event| event.kind == name);
    if let Some(unknown) = event_types.iter().find(|name| !is_known(name)) {
        let known: Vec<&str> = EVENT_TYPES.iter().map(|event| event.kind).collect();
        let shown: String = unknown.chars().take(64).collect();
        let known = known.join(", ");
        refuse("eventTypes", format!("unknown type {shown:?}; the types are {known}"));
    } else if event_types.iter().enumerate().any(|(at, one)| event_types[..at].contains(one)) {
        refuse("eventTypes", "must name each type once".to_owned());
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}
