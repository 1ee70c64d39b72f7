//! `/api/v1/admin/events`: the outbox.

use serde_json::{Value, json};

use super::prelude::*;
use crate::storage::relay::{self, EventFilter, OutboxRow};

#[derive(Clone, Debug, Default)]
pub struct EventsApi;

#[OpenApi(prefix_path = "/api/v1/admin/events", tag = "Tag::Administration")]
impl EventsApi {
    /// List events
    ///
    /// The newest first; they are kept for `events.retention`.
    #[oai(path = "/", method = "get", operation_id = "adminListEvents")]
    async fn list(
        &self,
        admin: Admin,
        /// The type, such as `user.created`.
        #[oai(name = "type")]
        event_type: Query<String>,
        /// The user's id, or the pairwise `sub` of a session.
        subject: Query<String>,
        /// The first moment (RFC 3339).
        from: Query<Timestamp>,
        /// The moment after the last (RFC 3339).
        to: Query<Timestamp>,
        page: Paging,
    ) -> List<EventData> {
        let filter = EventFilter {
            kind: event_type.0,
            subject: subject.0,
            from: from.0,
            to: to.0,
            ..EventFilter::default()
        };
        let before = page.after_number().unwrap_or(i64::MAX);
        let found = relay::page(&admin.app.db, &filter, before, page.rows()).await;
        Ok(page.answer("events", found, |event| event.number.to_string())?)
    }
}

/// An event of the outbox.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "Event", example)]
pub struct EventData {
    /// The CloudEvents `id`: the same in every message.
    pub id: String,
    /// The type, such as `user.created`.
    #[oai(rename = "type")]
    pub r#type: String,
    /// Whom it is about: the user's id, the pairwise `sub` of a session, or a webhook's id.
    pub subject: String,
    /// Time of the change (RFC 3339).
    pub time: String,
    /// The `X-Correlation-Id`, as in logs and the audit log.
    pub correlation_id: Option<String>,
    /// When Kafka acknowledged it (RFC 3339).
    pub published_at: Option<String>,
    /// Why Kafka refused it for good.
    pub refused: Option<String>,
    /// As the AsyncAPI document says; never a secret.
    pub data: Value,
}

impl From<OutboxRow> for EventData {
    fn from(row: OutboxRow) -> Self {
        Self {
            id: row.id,
            r#type: row.kind,
            subject: row.subject,
            time: row.created_at.rfc3339(),
            correlation_id: row.correlation_id,
            published_at: row.published_at.map(Timestamp::rfc3339),
            refused: row.refused,
            data: serde_json::from_str(&row.data).unwrap_or_else(|_| json!({})),
        }
    }
}

example!(EventData, {
    "id": "019aa6f2-8a00-7c1c-9d4e-0f6ad8c1b001",
    "type": "session.created",
    "subject": "019aa6f2-8a00-7001-8001-000000000001",
    "time": "2026-11-21T04:22:00Z",
    "correlationId": "01a1fca5-0ae5-7f2c-8d4e-0b6c5a3e9d21",
    "publishedAt": null,
    "refused": null,
    "data": {
        "userId": "019aa6f2-8a00-7001-8001-000000000001",
        "sessionId": "019aa6f2-8a00-7001-8001-000000000002",
        "clientId": "shop"
    }
});
