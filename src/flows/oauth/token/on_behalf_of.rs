//! On-behalf-of issuance: tokens for a user without a login, for the gRPC TokenService. The client
//! is trusted with it by its scope, so there is no consent.

use serde_json::json;

use super::TokenResponse;
use crate::{
    app::App,
    error::Error,
    flows::{
        oauth::resources,
        tokens::{
            issue::{self, TokenLifetimes},
            subject,
        },
    },
    model::{
        actor::{Actor, RequestContext},
        client::{Client, GrantType},
        event::Event,
        session::SessionDetails,
    },
    oauth::{error::OAuthError, scope::Scope},
    storage::{
        sessions as rows,
        sessions::{Credential, NewSession},
        users,
    },
};

const DISABLED: &str = "the user is disabled";

/// What a client requests on behalf of a user.
#[derive(Clone, Debug)]
pub struct OnBehalfOfRequest {
    pub user_id: String,
    pub scope: Option<Scope>,
    pub resources: Vec<String>,
}

/// Opens a session of the client for the user; `actor` is the subject of the token that the call
/// was made with.
///
/// # Errors
/// `invalid_scope` and `invalid_target` for what the client may not request; [`Error::NotFound`]
/// for an unknown user, [`Error::Conflict`] for a disabled one.
pub async fn issue(
    app: &App,
    client: &Client,
    request: &OnBehalfOfRequest,
    actor: &str,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    let user_id = request.user_id.as_str();
    let target = resources::target(app, client, &request.resources).await?;
    let may = target.may_ask(client);
    let scope = match &request.scope {
        Some(requested) if requested.is_subset_of(&may) => requested.clone(),
        Some(_) => {
            let refused = "the client may not request this scope for this resource";
            return Err(OAuthError::invalid_scope(refused).into());
        }
        None => target.default_scope(&may),
    };

    let (id, now) = (app.new_id(), app.clock.now());
    let refresh = if client.may(GrantType::RefreshToken) {
        Some(issue::first_refresh_token(app, &id, now)?)
    } else {
        None
    };
    let (idle_expires_at, expires_at) =
        TokenLifetimes::of(app, client).of_session_with(refresh.as_ref(), now);
    let row = NewSession {
        id: id.clone(),
        subject: subject::subject(app, client, user_id)?,
        user_id: Some(user_id.to_owned()),
        client_id: client.id.clone(),
        browser_session_id: None,
        scope: scope.clone(),
        credential: match &refresh {
            Some(token) => {
                Credential::Refresh { chain_key: token.chain_key, first_hash: token.hash() }
            }
            None => Credential::Nothing,
        },
        // The user was authenticated by the client, if at all: not a login here.
        authenticated_at: None,
        idle_expires_at,
        expires_at,
        offline: true,
        details: SessionDetails { resource: target.names(), ..SessionDetails::default() },
        address: Some(caller.address.to_string()),
        user_agent: caller.user_agent.clone(),
    };
    let mut tx = app.begin(&Actor::caller(actor, caller)).await?;
    // Locked, so that disabling the user concurrently revokes this session as well.
    let user = users::lock_shared(&mut tx, user_id).await?.ok_or(Error::NotFound("user"))?;
    if user.disabled_at.is_some() {
        return Err(Error::Conflict(DISABLED));
    }
    let event = Event::session_created(&row.subject, &row.id, &row.client_id);
    let detail = json!({ "sessionId": row.id, "scope": row.scope.to_string() });
    rows::insert(&mut tx, row, now).await?;
    tx.event(&event).await?;
    tx.audit("session.issue_on_behalf_of", Some(user_id), detail).await?;
    tx.commit().await?;
    // Read again, for the claims of the user.
    let session = rows::by_id(&app.db, &id).await?;
    let session = session.filter(|session| session.is_live(now));
    let session = session.ok_or(Error::Conflict(DISABLED))?;
    let issued = issue::for_session(app, client, session, scope, refresh.as_ref(), now).await?;
    app.metrics.token_issued("on_behalf_of", client.source);
    Ok(issued)
}
