//! Tokens for a person whom a client vouches for, without a login: the gRPC TokenService's. The client is trusted with
//! that by its scope, so nobody is asked for consent.

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
    oauth::{error::OAuthError, params::Params, scope::Scope},
    storage::{
        sessions as rows,
        sessions::{Credential, NewSession},
        users,
    },
};

const DISABLED: &str = "the account is disabled";

/// Opens a session of the client for the account. `params` may have `scope` and `resource`; `actor` is the subject of the
/// token that was called with.
///
/// # Errors
/// `invalid_scope` and `invalid_target` for what the client may not ask for; [`Error::NotFound`] where there is no such
/// account, [`Error::Conflict`] where it is disabled.
pub async fn issue(
    app: &App,
    client: &Client,
    user_id: &str,
    params: &Params,
    actor: &str,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    let asked = params.get("scope").map(Scope::parse).transpose();
    let asked = asked.map_err(OAuthError::invalid_scope)?;
    let target = resources::target(app, client, params.all("resource")).await?;
    let may = target.may_ask(client);
    let scope = match asked {
        Some(asked) if asked.is_subset_of(&may) => asked,
        Some(_) => {
            let refused = "this client may not ask for that scope (there)";
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
        authenticated_at: now,
        idle_expires_at,
        expires_at,
        offline: true,
        details: SessionDetails { resource: target.names(), ..SessionDetails::default() },
        address: Some(caller.address.to_string()),
        user_agent: caller.user_agent.clone(),
    };
    let mut tx = app.begin(&Actor::caller(actor, caller)).await?;
    // Locked, so that disabling the account meanwhile revokes this session as well.
    let user = users::lock_shared(&mut tx, user_id).await?.ok_or(Error::NotFound("account"))?;
    if user.disabled_at.is_some() {
        return Err(Error::Conflict(DISABLED));
    }
    let event = Event::session_created(&row.subject, &row.id, &row.client_id);
    let detail = json!({ "sessionId": row.id, "scope": row.scope.to_string() });
    rows::insert(&mut tx, row, now).await?;
    tx.event(&event).await?;
    tx.audit("session.vouched", Some(user_id), detail).await?;
    tx.commit().await?;
    // Read again, for what its tokens say of the person.
    let session = rows::by_id(&app.db, &id).await?;
    let session = session.filter(|session| session.is_live(now));
    let session = session.ok_or(Error::Conflict(DISABLED))?;
    issue::for_session(app, client, session, scope, refresh.as_ref(), now).await
}
