//! `/api/v1/admin/audit`: the audit log.

use serde_json::{Value, json};

use super::prelude::*;
use crate::storage::audit::{self, AuditFilter};

#[derive(Clone, Debug, Default)]
pub struct AuditApi;

#[OpenApi(prefix_path = "/api/v1/admin/audit", tag = "Tag::Administration")]
impl AuditApi {
    /// List audit entries
    ///
    /// The newest first.
    #[oai(path = "/", method = "get", operation_id = "adminListAuditEntries")]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        admin: Admin,
        /// Who acted: a user's id, a client's id, or `cli`.
        actor: Query<String>,
        /// The id of what was acted on.
        subject: Query<String>,
        /// An action, such as `user.updated`.
        action: Query<String>,
        /// The actor's IP address.
        address: Query<String>,
        /// The `X-Request-Id` of a response.
        #[oai(name = "requestId")]
        request_id: Query<String>,
        /// The first moment (RFC 3339).
        from: Query<Timestamp>,
        /// The moment after the last (RFC 3339).
        to: Query<Timestamp>,
        page: Paging,
    ) -> List<AuditEntry> {
        let filter = AuditFilter {
            actor: actor.0,
            subject: subject.0,
            action: action.0,
            address: address.0,
            request_id: request_id.0,
            from: from.0,
            to: to.0,
        };
        let before = page.after_number().unwrap_or(i64::MAX);
        let found = audit::page(&admin.app.db, &filter, before, page.rows()).await;
        Ok(page.answer("audit entries", found, |line| line.number.to_string())?)
    }
}

/// An entry of the audit log.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct AuditEntry {
    /// Ascending in order of insertion.
    pub number: i64,
    /// Time of the action (RFC 3339).
    pub at: String,
    /// What was done, such as `user.updated`.
    pub action: String,
    /// Who acted: a user's id, a client's id, or `cli`.
    pub actor: String,
    /// The id of what was acted on.
    pub subject: Option<String>,
    /// The actor's IP address.
    pub address: Option<String>,
    /// The `X-Request-Id` of the response.
    pub request_id: Option<String>,
    /// The `X-Correlation-Id`, as in logs and events.
    pub correlation_id: Option<String>,
    /// What has changed; never a secret.
    pub detail: Value,
}

impl From<audit::AuditEntry> for AuditEntry {
    fn from(line: audit::AuditEntry) -> Self {
        Self {
            number: line.number,
            at: line.at.rfc3339(),
            action: line.action,
            actor: line.actor,
            subject: line.subject,
            address: line.address,
            request_id: line.request_id,
            correlation_id: line.correlation_id,
            // Some entries have no detail.
            detail: match line.detail {
                Value::Null => json!({}),
                detail => detail,
            },
        }
    }
}

example!(AuditEntry, {
    "number": 412,
    "at": "2026-11-21T04:22:00Z",
    "action": "user.updated",
    "actor": "01a1fca5-0ae5-7b80-9fd0-a1b74eb40fb7",
    "subject": "01a1fca5-0ae5-741a-b136-32b4b1af948c",
    "address": "192.0.2.7",
    "requestId": "01a1fca5-0ae5-7f2c-8d4e-0b6c5a3e9d21",
    "correlationId": "01a1fca5-0ae5-7f2c-8d4e-0b6c5a3e9d21",
    "detail": { "role": { "from": "user", "to": "admin" } }
});
