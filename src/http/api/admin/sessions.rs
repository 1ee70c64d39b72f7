//! `/api/v1/admin/sessions`: sessions of users at clients.

use super::prelude::*;
use crate::{
    flows::sessions::end as sessions,
    http::api::data::Nothing,
    ids::SessionId,
    model::session,
    storage::{sessions as rows, sessions::SessionFilter},
};

#[derive(Clone, Debug, Default)]
pub struct SessionsApi;

#[OpenApi(prefix_path = "/api/v1/admin/sessions", tag = "Tag::Administration")]
impl SessionsApi {
    /// List sessions
    ///
    /// The newest first. Expired sessions are deleted after a while.
    #[oai(path = "/", method = "get", operation_id = "adminListSessions")]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        admin: Admin,
        /// A user's id.
        user: Query<String>,
        /// The `sub` of a user whom a back end keeps.
        subject: Query<String>,
        /// A client's id.
        client: Query<String>,
        /// Whether the session can still be refreshed.
        live: Query<bool>,
        page: Paging,
    ) -> List<SessionOverview> {
        let filter = SessionFilter {
            user_id: user.0.map(Into::into),
            subject: subject.0,
            client_id: client.0.map(Into::into),
            live: live.0,
        };
        let app = &admin.app;
        let before = page.after().unwrap_or(crate::model::AFTER_EVERY_ID);
        let found = rows::page(&app.db, &filter, before, page.rows(), app.clock.now()).await;
        Ok(page.answer("sessions", found, |session| session.id.to_string())?)
    }

    /// Get a session
    ///
    /// A revoked or expired session is found until it is deleted.
    #[oai(path = "/:id", method = "get", operation_id = "adminGetSession")]
    async fn get(
        &self,
        admin: Admin,
        id: Path<SessionId>,
    ) -> Reply<Answer<SessionOverview>, (Read, NotFound)> {
        let found = rows::overview_of(&admin.app.db, &id.0).await.map_err(Error::from)?;
        Ok(Answer::new("session", found.ok_or(Error::NotFound("session"))?.into()))
    }

    /// Revoke a session
    ///
    /// Its tokens are refused at once, and its client is notified of the logout if it has
    /// registered for that. A session that is revoked or expired stays as it is.
    #[oai(path = "/:id", method = "delete", operation_id = "adminRevokeSession")]
    async fn revoke(&self, admin: Admin, id: Path<SessionId>) -> Act<Answer<Nothing>> {
        sessions::close(&admin.app, &id.0, &admin.actor).await?;
        Ok(Answer::new("revoked", Nothing {}))
    }
}

/// A session of a subject at a client.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct SessionOverview {
    /// The `sid` of its tokens.
    pub id: String,
    /// The `sub` of its tokens.
    pub subject: String,
    /// The user; null where the subject has no account here.
    pub user_id: Option<String>,
    /// The client that its tokens were issued to.
    pub client_id: String,
    /// The scope that its tokens may have, separated by spaces.
    pub scope: String,
    /// Creation time (RFC 3339).
    pub created_at: String,
    /// When the user authenticated (RFC 3339); null: it was issued on behalf of the user.
    pub authenticated_at: Option<String>,
    /// Time of the last refresh (RFC 3339).
    pub renewed_at: String,
    /// When it expires unless it is refreshed (RFC 3339).
    pub expires_at: String,
    /// When it was revoked (RFC 3339); null: it was not.
    pub ended_at: Option<String>,
    /// Why it was revoked.
    pub ended_for: Option<String>,
    /// The IP address that opened it.
    pub address: Option<String>,
    /// The `User-Agent` that opened it.
    pub user_agent: Option<String>,
}

impl From<session::SessionOverview> for SessionOverview {
    fn from(session: session::SessionOverview) -> Self {
        Self {
            id: session.id.into(),
            subject: session.subject,
            user_id: session.user_id.map(Into::into),
            client_id: session.client_id.into(),
            scope: session.scope.to_string(),
            created_at: session.created_at.rfc3339(),
            authenticated_at: session.authenticated_at.map(Timestamp::rfc3339),
            renewed_at: session.rotated_at.rfc3339(),
            expires_at: session.idle_expires_at.min(session.expires_at).rfc3339(),
            ended_at: session.revoked_at.map(Timestamp::rfc3339),
            ended_for: session.revocation_reason,
            address: session.address,
            user_agent: session.user_agent,
        }
    }
}

example!(SessionOverview, {
    "id": "01a1fca5-0ae5-7b80-9fd0-a1b74eb40fb7",
    "subject": "01a1fca5-0ae5-741a-b136-32b4b1af948c",
    "userId": "01a1fca5-0ae5-741a-b136-32b4b1af948c",
    "clientId": "shop",
    "scope": "openid profile",
    "createdAt": "2026-11-21T04:22:00Z",
    "authenticatedAt": "2026-11-21T04:22:00Z",
    "renewedAt": "2026-11-21T04:36:00Z",
    "expiresAt": "2026-11-28T04:36:00Z",
    "endedAt": null,
    "endedFor": null,
    "address": "192.0.2.7",
    "userAgent": "Mozilla/5.0"
});
