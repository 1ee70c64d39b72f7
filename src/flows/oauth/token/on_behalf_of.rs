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
        outbox, sessions as rows,
        sessions::{Credential, NewSession},
        users,
    },
};

const DISABLED: &str = "the account is disabled";

/// How the account stood when its session was to be stored.
enum Standing {
    Good,
    Unknown,
    Disabled,
}

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
    let (user_id, event_id) = (user_id.to_owned(), app.new_id());
    let by = Actor::caller(actor, caller);
    let standing = app
        .db
        .transaction(move |mut tx| {
            Box::pin(async move {
                // Held, so that whoever disables the account meanwhile ends this session as well.
                let Some(user) = users::lock_shared(&mut tx, &user_id).await? else {
                    return Ok(Standing::Unknown);
                };
                if user.disabled_at.is_some() {
                    return Ok(Standing::Disabled);
                }
                let event = Event::session_created(&row.subject, &row.id, &row.client_id);
                let detail = json!({ "sessionId": row.id, "scope": row.scope.to_string() });
                rows::insert(&mut tx, row, now).await?;
                outbox::add(&mut tx, event_id, &event, by.correlation_id(), now).await?;
                by.note(&mut tx, "session.vouched", Some(&user_id), detail, now).await?;
                Ok(Standing::Good)
            })
        })
        .await?;
    match standing {
        Standing::Good => {}
        Standing::Unknown => return Err(Error::NotFound("account")),
        Standing::Disabled => return Err(Error::Conflict(DISABLED)),
    }
    // Read again, for what its tokens say of the person.
    let session = rows::by_id(&app.db, &id).await?;
    let session = session.filter(|session| session.is_live(now));
    let session = session.ok_or(Error::Conflict(DISABLED))?;
    issue::for_session(app, client, session, scope, refresh.as_ref(), now).await
}
