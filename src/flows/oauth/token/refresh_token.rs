//! The refresh token grant (RFC 6749 §6): the chain of [`tokens::refresh`], for the client it belongs to.

use super::{TokenResponse, authorization_code::narrow};
use crate::{
    app::App,
    error::Error,
    flows::{
        oauth::resources,
        tokens::{
            issue::{self, TokenLifetimes},
            refresh::{self, Refreshed},
        },
    },
    model::{actor::RequestContext, client::Client},
    oauth::{error::OAuthError, params::Params, scope::Scope},
};

/// Exchanges a refresh token of an authenticated client. `scope` and `resource` may narrow this one access token; the session
/// keeps its own.
///
/// # Errors
/// `invalid_grant` for every token that is not good, whatever the reason; `invalid_scope` and `invalid_target`.
pub async fn refresh(
    app: &App,
    client: &Client,
    params: &Params,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    let issued = exchange(app, client, params, caller).await;
    issued.map_err(|error| match error {
        Error::InvalidRefreshToken => OAuthError::invalid_grant(
            "the refresh token is unknown, expired, revoked or used, or belongs to another client",
        )
        .into(),
        other => other,
    })
}

async fn exchange(
    app: &App,
    client: &Client,
    params: &Params,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    let presented = params
        .get("refresh_token")
        .ok_or_else(|| OAuthError::invalid_request("refresh_token is missing"))?;
    let asked = params.get("scope").map(Scope::parse).transpose();
    let asked = asked.map_err(OAuthError::invalid_scope)?;
    let asked = asked.filter(|asked| !asked.is_empty());
    let named: Vec<&str> = params.all("resource").collect();

    // What was never granted is refused before anything moves: the refresh token stays good.
    if asked.is_some() || !named.is_empty() {
        let mut session = refresh::peek(app, presented, &client.id).await?;
        if asked.as_ref().is_some_and(|asked| !asked.is_subset_of(&session.scope)) {
            let refused = "the session was not granted that scope";
            return Err(OAuthError::invalid_scope(refused).into());
        }
        narrow(&mut session, &named)?;
        resources::still_open(app, client, &session.details.resource).await?;
    }
    let lifetimes = TokenLifetimes::of(app, client);
    let Refreshed { mut session, successor } =
        refresh::refresh(app, presented, &client.id, lifetimes, caller).await?;
    narrow(&mut session, &named)?;
    // Core §12.2: a refreshed ID token has none.
    session.details.nonce = None;
    let scope = asked.unwrap_or_else(|| session.scope.clone());
    let now = app.clock.now();
    issue::for_session(app, client, session, scope, Some(&successor), now).await
}
