//! The refresh token grant (RFC 6749 §6): the chain of `flows::tokens::refresh`, for the client it
//! belongs to.

use super::{TokenResponse, authorization_code::narrow};
use crate::{
    app::App,
    error::Error,
    flows::{
        oauth::resources,
        tokens::{
            dpop,
            issue::{self, TokenLifetimes},
            refresh::{self, Refreshed},
        },
    },
    model::{actor::RequestContext, client::Client},
    oauth::{
        error::OAuthError, refresh_token::RefreshToken, thumbprint::Thumbprint,
        token_request::RefreshTokenRequest,
    },
};

/// Exchanges a refresh token of an authenticated client.
///
/// # Errors
/// `invalid_grant` for every invalid token, whatever the reason; `invalid_scope` and
/// `invalid_target`.
pub async fn refresh(
    app: &App,
    client: &Client,
    request: &RefreshTokenRequest,
    key: Option<Thumbprint>,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    let issued = exchange(app, client, request, key, caller).await;
    issued.map_err(|error| match error {
        Error::InvalidRefreshToken => OAuthError::invalid_grant(
            "the refresh token is unknown, expired, revoked or used, or was issued to another client",
        )
        .into(),
        other => other,
    })
}

async fn exchange(
    app: &App,
    client: &Client,
    request: &RefreshTokenRequest,
    key: Option<Thumbprint>,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    let RefreshTokenRequest { refresh_token: presented, scope: requested, resources: named } =
        request;
    // The token of a public client (RFC 9449 §5); the hash of the token covers what it is bound to.
    let bound = RefreshToken::parse(presented).and_then(|token| token.key);
    dpop::must_be_of(bound, key, "refresh token")?;
    // What was never granted is refused before the refresh token is rotated: it stays valid.
    if requested.is_some() || !named.is_empty() {
        let mut session = refresh::peek(app, presented, &client.id).await?;
        if requested.as_ref().is_some_and(|scope| !scope.is_subset_of(&session.scope)) {
            return Err(OAuthError::invalid_scope("`scope` exceeds the granted scope").into());
        }
        narrow(&mut session, named)?;
        resources::still_open(app, client, &session.details.resource).await?;
    }
    let lifetimes = TokenLifetimes::of(app, client);
    let Refreshed { mut session, successor, at } =
        refresh::refresh(app, presented, &client.id, lifetimes, caller).await?;
    narrow(&mut session, named)?;
    // Core §12.2: a refreshed ID token has none.
    session.details.nonce = None;
    let scope = requested.clone().unwrap_or_else(|| session.scope.clone());
    issue::for_session(app, client, session, scope, Some(&successor), key, at).await
}
