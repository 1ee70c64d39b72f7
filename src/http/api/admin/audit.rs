//! `/api/v1/admin/audit`: who did what.

use poem_openapi::{Object, OpenApi, types::Example};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    guard::Admin,
    params::{Cursor, Limit, Page, Query},
};
use crate::{
    clock::Timestamp,
    error::Error,
    http::{
        api::Chapter,
        context::Context,
        failure::{Failure, codes},
        json::Answer,
    },
    storage::audit::{self, AuditEntry, AuditFilter},
};

#[derive(Clone, Debug)]
pub struct AuditApi;

codes!(ListErrors: Validation, InvalidToken, InsufficientScope, RequestTimeout, Internal, Unavailable);

/// A line of the audit log.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct AuditLine {
    /// Later lines have higher numbers.
    pub number: i64,
    /// When it was done (RFC 3339).
    pub at: String,
    /// What was done.
    pub action: String,
    /// Who did it: a user's id, a client's id, or `cli`.
    pub actor: String,
    /// To whom or what, by id.
    pub subject: Option<String>,
    /// From where.
    pub address: Option<String>,
    /// The `X-Request-Id` of the answer.
    pub request_id: Option<String>,
    /// The id that runs through logs and events.
    pub correlation_id: Option<String>,
    /// What has changed; never a secret.
    pub detail: Value,
}

impl From<AuditEntry> for AuditLine {
    fn from(line: AuditEntry) -> Self {
        Self {
            number: line.number,
            at: line.at.rfc3339(),
            action: line.action,
            actor: line.actor,
            subject: line.subject,
            address: line.address,
            request_id: line.request_id,
            correlation_id: line.correlation_id,
            // Some lines have nothing to tell.
            detail: match line.detail {
                Value::Null => json!({}),
                detail => detail,
            },
        }
    }
}

impl Example for AuditLine {
    fn example() -> Self {
        Self {
            number: 412,
            at: "2026-11-21T04:22:00Z".to_owned(),
            action: "user.updated".to_owned(),
            actor: "01a1fca5-0ae5-7b80-9fd0-a1b74eb40fb7".to_owned(),
            subject: Some("01a1fca5-0ae5-741a-b136-32b4b1af948c".to_owned()),
            address: Some("192.0.2.7".to_owned()),
            request_id: Some("01a1fca5-0ae5-7f2c-8d4e-0b6c5a3e9d21".to_owned()),
            correlation_id: Some("01a1fca5-0ae5-7f2c-8d4e-0b6c5a3e9d21".to_owned()),
            detail: json!({ "role": { "from": "user", "to": "admin" } }),
        }
    }
}

#[OpenApi(prefix_path = "/api/v1/admin/audit", tag = "Chapter::Administration")]
impl AuditApi {
    /// Read the audit log
    ///
    /// The newest lines first.
    #[oai(path = "/", method = "get", operation_id = "adminListAudit")]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        context: Context,
        _admin: Admin,
        /// Who did it: a user's id, a client's id, or `cli`.
        actor: Query<String>,
        /// To whom or what, by id.
        subject: Query<String>,
        /// What was done, such as `user.updated`.
        action: Query<String>,
        /// Of that moment or later (RFC 3339).
        from: Query<Timestamp>,
        /// Before that moment (RFC 3339).
        to: Query<Timestamp>,
        /// How many a page shall have.
        limit: Query<Limit>,
        /// The `nextCursor` of the page before.
        cursor: Cursor,
    ) -> Result<Answer<Page<AuditLine>>, Failure<ListErrors>> {
        let filter = AuditFilter {
            actor: actor.0,
            subject: subject.0,
            action: action.0,
            from: from.0,
            to: to.0,
        };
        let before = cursor.after_number().unwrap_or(i64::MAX);
        let found = audit::page(&context.app.db, &filter, before, Cursor::most(&limit)).await;
        let found = found.map_err(Error::from)?;
        let page = cursor.page(&limit, found, |line| line.number.to_string(), From::from)?;
        Ok(Answer::new("the audit log", page))
    }
}
