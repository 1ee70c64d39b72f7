//! `/api/v1/admin/webhooks`: endpoints that events are posted to, and what was sent to them.

use std::time::Duration;

use poem_openapi::registry::MetaSchema;
use serde_json::Value;

use super::{
    params::QueryValue,
    prelude::*,
    reply::{Conflict, Create, JsonBody},
};
use crate::{
    flows::{admin::webhooks, webhooks::Sent},
    model::webhook::{Delivery, DeliveryState, Webhook, WebhookSettings},
    storage::{
        webhook_deliveries::{self as deliveries, DeliveryFilter},
        webhooks as rows,
    },
};

#[derive(Clone, Debug, Default)]
pub struct WebhooksApi;

#[OpenApi(prefix_path = "/api/v1/admin/webhooks", tag = "Tag::Administration")]
impl WebhooksApi {
    /// List webhooks
    ///
    /// In order of their ids.
    #[oai(path = "/", method = "get", operation_id = "adminListWebhooks")]
    async fn list(&self, admin: Admin, page: Paging) -> List<WebhookData> {
        let after = page.after().unwrap_or_default();
        let found = rows::page(&admin.app.db, after, page.rows()).await;
        Ok(page.answer("webhooks", found, |webhook| webhook.id.clone())?)
    }

    /// Add a webhook
    ///
    /// It gets the events from now on. Its secret is in this response only.
    #[oai(path = "/", method = "post", operation_id = "adminCreateWebhook")]
    async fn create(
        &self,
        admin: Admin,
        idempotency_key: IdempotencyKey,
        body: Body<CreateWebhook>,
    ) -> Create<WebhookWithSecret, Conflict> {
        let request = idempotency_key.request(&admin, "webhook.add", &body.0)?;
        let Body(CreateWebhook { id, settings }) = body;
        let settings = settings.into();
        let created = webhooks::create(&admin.app, id, settings, request, &admin.actor).await?;
        Ok(created.into())
    }

    /// Get a webhook
    ///
    /// The `ETag` of the response goes into `If-Match` of a change.
    #[oai(path = "/:id", method = "get", operation_id = "adminGetWebhook")]
    async fn get(&self, admin: Admin, id: Path) -> Get<WebhookData> {
        Ok(WithEtag::new("webhook", webhooks::by_id(&admin.app, &id.0).await?))
    }

    /// Replace a webhook's settings
    ///
    /// Deliveries that wait are sent to the new URL.
    #[oai(path = "/:id", method = "put", operation_id = "adminReplaceWebhook")]
    async fn replace(
        &self,
        admin: Admin,
        id: Path,
        if_match: IfMatch,
        body: Body<WebhookSettingsData>,
    ) -> Update<WebhookData> {
        let settings = body.0.into();
        let update = webhooks::update(&admin.app, &id.0, &if_match.0, settings, &admin.actor);
        Ok(WithEtag::new("replaced", update.await?))
    }

    /// Delete a webhook
    ///
    /// Its deliveries are deleted.
    #[oai(path = "/:id", method = "delete", operation_id = "adminDeleteWebhook")]
    async fn delete(&self, admin: Admin, id: Path, if_match: IfMatch) -> Delete {
        webhooks::delete(&admin.app, &id.0, &if_match.0, &admin.actor).await?;
        Ok(deleted())
    }

    /// Disable a webhook
    ///
    /// Nothing is sent to it. Later events are not queued for it; deliveries that wait are kept
    /// until they expire.
    #[oai(path = "/:id/disable", method = "post", operation_id = "adminDisableWebhook")]
    async fn disable(&self, admin: Admin, id: Path) -> Act<WithEtag<WebhookData>> {
        let webhook = webhooks::disable(&admin.app, &id.0, &admin.actor).await?;
        Ok(WithEtag::new("disabled", webhook))
    }

    /// Enable a webhook
    ///
    /// Deliveries that wait are sent.
    #[oai(path = "/:id/enable", method = "post", operation_id = "adminEnableWebhook")]
    async fn enable(&self, admin: Admin, id: Path) -> Act<WithEtag<WebhookData>> {
        let webhook = webhooks::enable(&admin.app, &id.0, &admin.actor).await?;
        Ok(WithEtag::new("enabled", webhook))
    }

    /// Rotate a webhook's secret
    ///
    /// The new secret is in this response only. Until the overlap ends, requests are signed with
    /// both secrets.
    #[oai(path = "/:id/secret", method = "post", operation_id = "adminRotateWebhookSecret")]
    async fn rotate_secret(
        &self,
        admin: Admin,
        id: Path,
        body: Body<RotateWebhookSecret>,
    ) -> Act<WithEtag<WebhookWithSecret>, JsonBody> {
        let overlap = Duration::from_secs(body.0.overlap_seconds.into());
        let rotated = webhooks::rotate_secret(&admin.app, &id.0, overlap, &admin.actor).await?;
        let (webhook, secret) = rotated;
        Ok(WithEtag::new("rotated", (webhook, Some(secret))))
    }

    /// Send a test event
    ///
    /// Sends an event of the type `webhook.test` once, also to a disabled webhook, and responds
    /// with what the endpoint has responded.
    #[oai(path = "/:id/test", method = "post", operation_id = "adminTestWebhook")]
    async fn test(&self, admin: Admin, id: Path) -> Act<Answer<WebhookTest>> {
        let sent = webhooks::test(&admin.app, &id.0, &admin.actor).await?;
        Ok(Answer::new("sent", sent.into()))
    }

    /// List a webhook's deliveries
    ///
    /// The newest first. A delivery is listed from when its event is queued until
    /// `webhooks.retention` after it is finished.
    #[oai(path = "/:id/deliveries", method = "get", operation_id = "adminListWebhookDeliveries")]
    async fn deliveries(
        &self,
        admin: Admin,
        id: Path,
        /// What became of it.
        state: Query<DeliveryState>,
        /// The type of the event, such as `user.created`.
        #[oai(name = "type")]
        event_type: Query<String>,
        /// The first moment at which it was queued (RFC 3339).
        since: Query<Timestamp>,
        page: Paging,
    ) -> List<DeliveryData, NotFound> {
        webhooks::by_id(&admin.app, &id.0).await?;
        let filter = DeliveryFilter {
            event_id: None,
            state: state.0,
            event_type: event_type.0,
            since: since.0,
        };
        let before = page.after_number().unwrap_or(i64::MAX);
        let found = deliveries::page(&admin.app.db, &id.0, &filter, before, page.rows()).await;
        Ok(page.answer("deliveries", found, |delivery| delivery.number.to_string())?)
    }

    /// Get a delivery
    ///
    /// With the status or error of its last attempt, and when the next one is due.
    #[oai(
        path = "/:id/deliveries/:event",
        method = "get",
        operation_id = "adminGetWebhookDelivery"
    )]
    async fn delivery(
        &self,
        admin: Admin,
        id: Path,
        event: Path,
    ) -> Reply<Answer<DeliveryData>, (Read, NotFound)> {
        let delivery = webhooks::delivery(&admin.app, &id.0, &event.0).await?;
        Ok(Answer::new("delivery", delivery.into()))
    }

    /// Resend an event
    ///
    /// At once and under the same `webhook-id`, whatever became of the delivery, and though the
    /// endpoint is backing off.
    #[oai(
        path = "/:id/deliveries/:event/resend",
        method = "post",
        operation_id = "adminResendWebhookDelivery"
    )]
    async fn resend(
        &self,
        admin: Admin,
        id: Path,
        event: Path,
    ) -> Act<Answer<DeliveryData>, Conflict> {
        let delivery = webhooks::resend(&admin.app, &id.0, &event.0, &admin.actor).await?;
        Ok(Answer::new("queued", delivery.into()))
    }
}

/// A webhook.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Webhook", example)]
pub struct WebhookData {
    pub id: String,
    pub settings: WebhookSettingsData,
    /// Failed attempts since the last success.
    pub failures: i64,
    /// When the first of them was (RFC 3339).
    pub failing_since: Option<String>,
    /// Nothing is sent before (RFC 3339): it has failed, or asked for it.
    pub retry_at: Option<String>,
    /// When the previous secret expires (RFC 3339).
    pub old_secret_expires_at: Option<String>,
    /// Creation time (RFC 3339).
    pub created_at: String,
    /// Time of the last change (RFC 3339).
    pub updated_at: String,
    /// When it was disabled (RFC 3339); null: it is enabled.
    pub disabled_at: Option<String>,
    /// Why it was disabled: `operator` (or an administrator), `gone` (it responded with 410), or
    /// `failing` (every attempt has failed for `webhooks.disable_after`).
    pub disabled_for: Option<String>,
}

impl From<Webhook> for WebhookData {
    fn from(webhook: Webhook) -> Self {
        let is_waiting = webhook.retry_at > Timestamp(0);
        Self {
            id: webhook.id,
            settings: webhook.settings.into(),
            failures: webhook.failures,
            failing_since: webhook.failing_since.map(Timestamp::rfc3339),
            retry_at: is_waiting.then(|| webhook.retry_at.rfc3339()),
            old_secret_expires_at: webhook.old_secret_expires_at.map(Timestamp::rfc3339),
            created_at: webhook.created_at.rfc3339(),
            updated_at: webhook.updated_at.rfc3339(),
            disabled_at: webhook.disabled_at.map(Timestamp::rfc3339),
            disabled_for: webhook.disabled_for.map(|reason| reason.as_str().to_owned()),
        }
    }
}

example!(WebhookData, {
    "id": "crm",
    "settings": {
        "url": "https://crm.example.com/hook",
        "description": "The CRM",
        "eventTypes": ["user.created", "user.deleted"]
    },
    "failures": 0,
    "failingSince": null,
    "retryAt": null,
    "oldSecretExpiresAt": null,
    "createdAt": "2026-11-21T04:22:00Z",
    "updatedAt": "2026-11-21T04:22:00Z",
    "disabledAt": null,
    "disabledFor": null
});

/// What an operator decides about a webhook.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(rename_all = "camelCase", rename = "WebhookSettings", example)]
pub struct WebhookSettingsData {
    /// https; http within `outbound.allowed_networks`. At most 2048 characters.
    pub url: String,
    /// At most 200 characters.
    #[serde(default)]
    #[oai(default)]
    pub description: String,
    /// The types of the events that it gets, such as `user.created`; empty: every type.
    #[serde(default)]
    #[oai(default)]
    pub event_types: Vec<String>,
}

impl From<WebhookSettings> for WebhookSettingsData {
    fn from(settings: WebhookSettings) -> Self {
        let WebhookSettings { url, description, event_types } = settings;
        Self { url, description, event_types }
    }
}

impl From<WebhookSettingsData> for WebhookSettings {
    fn from(settings: WebhookSettingsData) -> Self {
        let WebhookSettingsData { url, description, event_types } = settings;
        Self { url, description, event_types }
    }
}

impl Example for WebhookSettingsData {
    fn example() -> Self {
        WebhookData::example().settings
    }
}

/// The webhook to add.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(skip_serializing_if_is_none, example)]
pub struct CreateWebhook {
    /// 1 to 64 of `a-z`, `0-9` and `-`. Generated if absent.
    pub id: Option<String>,
    pub settings: WebhookSettingsData,
}

impl Example for CreateWebhook {
    fn example() -> Self {
        Self { id: Some("crm".to_owned()), settings: Example::example() }
    }
}

/// A webhook, with the secret that was generated.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(skip_serializing_if_is_none, example)]
pub struct WebhookWithSecret {
    pub webhook: WebhookData,
    /// Shown once and stored encrypted only; absent unless this request has generated it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl From<(Webhook, Option<String>)> for WebhookWithSecret {
    fn from((webhook, secret): (Webhook, Option<String>)) -> Self {
        Self { webhook: webhook.into(), secret }
    }
}

impl Example for WebhookWithSecret {
    fn example() -> Self {
        let secret = Some("whsec_bm90aGluZyB0byBzZWUgaGVyZQ...".to_owned());
        Self { webhook: Example::example(), secret }
    }
}

/// How to rotate a secret.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[oai(rename_all = "camelCase")]
pub struct RotateWebhookSecret {
    /// Seconds for which requests are signed with the previous secret as well, at most 30 days.
    #[serde(default)]
    #[oai(default)]
    pub overlap_seconds: u32,
}

/// What a webhook has responded to a test event.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct WebhookTest {
    /// Whether it has accepted the event.
    pub accepted: bool,
    /// The HTTP status; null: it has not responded.
    pub status: Option<u16>,
    /// Why it was not accepted.
    pub error: Option<String>,
}

impl From<Sent> for WebhookTest {
    fn from(sent: Sent) -> Self {
        Self { accepted: sent.error.is_none(), status: sent.status, error: sent.error }
    }
}

example!(WebhookTest, { "accepted": false, "status": 500, "error": "status 500" });

/// What became of a delivery.
#[derive(Clone, Copy, Debug, Enum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[oai(rename_all = "snake_case", rename = "WebhookDeliveryState")]
pub enum DeliveryStateData {
    /// It will be sent, perhaps again.
    Pending,
    /// The endpoint has accepted it.
    Delivered,
    /// It was not accepted, and is not sent any more.
    Abandoned,
}

impl QueryValue for DeliveryState {
    fn schema() -> MetaSchema {
        let names = ["pending", "delivered", "abandoned"];
        MetaSchema { enum_items: names.map(Value::from).into(), ..MetaSchema::new("string") }
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        Self::parse(text).ok_or("must be pending, delivered or abandoned")
    }
}

/// The delivery of an event to a webhook.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "WebhookDelivery", example)]
pub struct DeliveryData {
    /// The event's id, which is the `webhook-id`.
    pub event_id: String,
    pub event_type: String,
    pub state: DeliveryStateData,
    /// The number of attempts, including one that is under way.
    pub attempts: i64,
    /// When its event was queued (RFC 3339).
    pub created_at: String,
    /// When the last attempt began (RFC 3339).
    pub attempted_at: Option<String>,
    /// The HTTP status of the last attempt.
    pub status: Option<i64>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When the next attempt may begin (RFC 3339).
    pub next_attempt_at: Option<String>,
    /// When it was delivered or abandoned (RFC 3339).
    pub finished_at: Option<String>,
}

impl From<Delivery> for DeliveryData {
    fn from(delivery: Delivery) -> Self {
        let is_pending = delivery.state == DeliveryState::Pending;
        Self {
            event_id: delivery.event_id,
            event_type: delivery.event_type,
            state: match delivery.state {
                DeliveryState::Pending => DeliveryStateData::Pending,
                DeliveryState::Delivered => DeliveryStateData::Delivered,
                DeliveryState::Abandoned => DeliveryStateData::Abandoned,
            },
            attempts: delivery.attempts,
            created_at: delivery.created_at.rfc3339(),
            attempted_at: delivery.attempted_at.map(Timestamp::rfc3339),
            status: delivery.status,
            error: delivery.error,
            next_attempt_at: is_pending.then(|| delivery.next_attempt_at.rfc3339()),
            finished_at: delivery.finished_at.map(Timestamp::rfc3339),
        }
    }
}

example!(DeliveryData, {
    "eventId": "019aa6f2-8a00-7c1c-9d4e-0f6ad8c1b001",
    "eventType": "user.created",
    "state": "pending",
    "attempts": 1,
    "createdAt": "2026-11-21T04:22:00Z",
    "attemptedAt": "2026-11-21T04:22:01Z",
    "status": 500,
    "error": "status 500",
    "nextAttemptAt": "2026-11-21T04:22:06Z",
    "finishedAt": null
});
