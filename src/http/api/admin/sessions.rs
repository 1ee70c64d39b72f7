//! `/api/v1/admin/sessions`: who is logged in where.

use poem_openapi::{Object, OpenApi, types::Example};
use serde::{Deserialize, Serialize};

use super::{
    guard::Admin,
    params::{Cursor, Limit, Page, Path, Query},
};
use crate::{
    error::Error,
    flows::sessions::end,
    http::{
        api::{Chapter, data::Nothing},
        context::Context,
        failure::{Failure, codes},
        json::Answer,
    },
    model::session,
    storage::{sessions as rows, sessions::SessionFilter},
};

#[derive(Clone, Debug)]
pub struct SessionsApi;

codes!(ListErrors: Validation, InvalidToken, InsufficientScope, RequestTimeout, Internal, Unavailable);
codes!(GetErrors: Validation, InvalidToken, InsufficientScope, NotFound, RequestTimeout, Internal, Unavailable);
codes!(EndErrors: Validation, InvalidToken, InsufficientScope, CrossSite, NotFound, RequestTimeout, Internal, Unavailable);

/// A session: one login of one subject at one client.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "SessionOverview", example)]
pub struct SessionOverview {
    /// The `sid` of its tokens.
    pub id: String,
    /// The `sub` of its tokens.
    pub subject: String,
    /// Whose it is; null where the subject has no account here.
    pub user_id: Option<String>,
    /// The client that its tokens were issued to.
    pub client_id: String,
    /// What they may carry, separated by spaces.
    pub scope: String,
    /// When it began (RFC 3339).
    pub created_at: String,
    /// When the person logged in (RFC 3339).
    pub authenticated_at: String,
    /// When its tokens were renewed last (RFC 3339).
    pub renewed_at: String,
    /// When it ends if nobody renews its tokens before (RFC 3339).
    pub expires_at: String,
    /// When it was ended (RFC 3339); null where it was not.
    pub ended_at: Option<String>,
    /// Why it was ended.
    pub ended_for: Option<String>,
    /// Where it was begun from.
    pub address: Option<String>,
    /// What the browser or program called itself.
    pub user_agent: Option<String>,
}

impl From<session::SessionOverview> for SessionOverview {
    fn from(session: session::SessionOverview) -> Self {
        Self {
            id: session.id,
            subject: session.subject,
            user_id: session.user_id,
            client_id: session.client_id,
            scope: session.scope.to_string(),
            created_at: session.created_at.rfc3339(),
            authenticated_at: session.authenticated_at.rfc3339(),
            renewed_at: session.rotated_at.rfc3339(),
            expires_at: session.idle_expires_at.min(session.expires_at).rfc3339(),
            ended_at: session.revoked_at.map(|at| at.rfc3339()),
            ended_for: session.revocation_reason,
            address: session.address,
            user_agent: session.user_agent,
        }
    }
}

impl Example for SessionOverview {
    fn example() -> Self {
        Self {
            id: "01a1fca5-0ae5-7b80-9fd0-a1b74eb40fb7".to_owned(),
            subject: "01a1fca5-0ae5-741a-b136-32b4b1af948c".to_owned(),
            user_id: Some("01a1fca5-0ae5-741a-b136-32b4b1af948c".to_owned()),
            client_id: "shop".to_owned(),
            scope: "openid profile".to_owned(),
            created_at: "2026-11-21T04:22:00Z".to_owned(),
            authenticated_at: "2026-11-21T04:22:00Z".to_owned(),
            renewed_at: "2026-11-21T04:36:00Z".to_owned(),
            expires_at: "2026-11-28T04:36:00Z".to_owned(),
            ended_at: None,
            ended_for: None,
            address: Some("192.0.2.7".to_owned()),
            user_agent: Some("Mozilla/5.0".to_owned()),
        }
    }
}

#[OpenApi(prefix_path = "/api/v1/admin/sessions", tag = "Chapter::Administration")]
impl SessionsApi {
    /// List sessions
    ///
    /// The newest first. Sessions that have expired altogether are forgotten after a while.
    #[oai(path = "/", method = "get", operation_id = "adminListSessions")]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        context: Context,
        _admin: Admin,
        /// A user's id.
        user: Query<String>,
        /// A client's id.
        client: Query<String>,
        /// Whether the session can still be renewed.
        live: Query<bool>,
        /// How many a page shall have.
        limit: Query<Limit>,
        /// The `nextCursor` of the page before.
        cursor: Cursor,
    ) -> Result<Answer<Page<SessionOverview>>, Failure<ListErrors>> {
        let filter = SessionFilter { user_id: user.0, client_id: client.0, live: live.0 };
        let app = &context.app;
        // Every id is a UUID, and comes before this.
        let before = cursor.after().unwrap_or("~");
        let most = Cursor::most(&limit);
        let found = rows::page(&app.db, &filter, before, most, app.clock.now()).await;
        let found = found.map_err(Error::from)?;
        let page = cursor.page(&limit, found, |session| session.id.clone(), From::from)?;
        Ok(Answer::new("sessions", page))
    }

    /// Read a session
    #[oai(path = "/:id", method = "get", operation_id = "adminGetSession")]
    async fn get(
        &self,
        context: Context,
        _admin: Admin,
        id: Path,
    ) -> Result<Answer<SessionOverview>, Failure<GetErrors>> {
        let found = rows::overview_of(&context.app.db, &id.0).await;
        let found = found.map_err(Error::from)?;
        let session = found.ok_or(Error::NotFound("session"))?;
        Ok(Answer::new("the session", session.into()))
    }

    /// End a session
    ///
    /// Its tokens are refused at once, and its client hears of the logout where it wants to. A session that has ended is left
    /// as it is.
    #[oai(path = "/:id", method = "delete", operation_id = "adminEndSession")]
    async fn end(
        &self,
        context: Context,
        Admin(by): Admin,
        id: Path,
    ) -> Result<Answer<Nothing>, Failure<EndErrors>> {
        end::close(&context.app, &id.0, &by).await?;
        Ok(Answer::new("ended", Nothing {}))
    }
}
