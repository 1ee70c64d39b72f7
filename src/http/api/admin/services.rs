//! `/api/v1/admin/service-tokens`: stored tokens of customer services, and connected accounts.

use super::prelude::*;
use crate::{
    flows::services, http::api::data::Nothing, ids::UserId, model::service_token,
    storage::service_tokens as rows,
};

#[derive(Clone, Debug, Default)]
pub struct ServiceTokensApi;

#[OpenApi(prefix_path = "/api/v1/admin/service-tokens", tag = "Tag::Administration")]
impl ServiceTokensApi {
    /// List tokens of customer services
    ///
    /// What is stored of each, by service and user; never a token. A token of a user ends with the
    /// session that it is bound to.
    #[oai(path = "/", method = "get", operation_id = "adminListServiceTokens")]
    async fn list(
        &self,
        admin: Admin,
        /// A user's id.
        user: Query<String>,
        page: Paging,
    ) -> List<ServiceTokenDetails> {
        let app = &admin.app;
        let after = page.after().and_then(|after| after.split_once('/')).unwrap_or_default();
        let user = user.0.map(UserId::from);
        let found = rows::page(&app.db, user.as_ref(), after, page.rows(), app.clock.now()).await;
        let key = |row: &service_token::ServiceToken| format!("{}/{}", row.service, row.subject);
        Ok(page.answer("service tokens", found, key)?)
    }

    /// Remove a token of a customer service
    ///
    /// The next call requests another one. An account that the user has connected is disconnected.
    #[oai(path = "/:service", method = "delete", operation_id = "adminRemoveServiceToken")]
    async fn remove(
        &self,
        admin: Admin,
        service: Path,
        /// The subject of the token; absent: the service's own.
        subject: Query<String>,
    ) -> Act<Answer<Nothing>> {
        let subject = subject.0.as_deref().unwrap_or_default();
        services::remove(&admin.app, &service.0, subject, &admin.actor).await?;
        Ok(Answer::new("removed", Nothing {}))
    }
}

/// What is stored of a token of a customer service.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct ServiceTokenDetails {
    /// The name of the service.
    pub service: String,
    /// Whose token it is; null: the service's own, for all users.
    pub subject: Option<String>,
    /// The user; null where the subject has no account here.
    pub user_id: Option<String>,
    /// Whether the user has connected an account at the service.
    pub is_connected: bool,
    /// When the access token was requested (RFC 3339).
    pub obtained_at: Option<String>,
    /// When it expires (RFC 3339); null: there is none.
    pub expires_at: Option<String>,
    /// Failed requests in a row.
    pub failures: i64,
    /// The kind of the last of them: `failed`, `unavailable` or `timeout`.
    pub failure: Option<String>,
    /// When the service is asked again at the earliest (RFC 3339).
    pub retry_at: Option<String>,
}

impl From<service_token::ServiceToken> for ServiceTokenDetails {
    fn from(row: service_token::ServiceToken) -> Self {
        Self {
            service: row.service,
            subject: Some(row.subject).filter(|subject| !subject.is_empty()),
            user_id: row.user_id.map(Into::into),
            is_connected: row.browser_session_id.is_some(),
            obtained_at: row.obtained_at.map(Timestamp::rfc3339),
            expires_at: row.expires_at.filter(|at| at.micros() > 0).map(Timestamp::rfc3339),
            failures: row.failures,
            failure: row.failure.map(|kind| kind.as_str().to_owned()),
            retry_at: row.retry_at.map(Timestamp::rfc3339),
        }
    }
}

example!(ServiceTokenDetails, {
    "service": "crm",
    "subject": null,
    "userId": null,
    "isConnected": false,
    "obtainedAt": "2026-11-21T04:22:00Z",
    "expiresAt": "2026-11-21T05:22:00Z",
    "failures": 0,
    "failure": null,
    "retryAt": null
});
