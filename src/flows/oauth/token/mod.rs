//! The token endpoint (RFC 6749 §3.2). What all grants share, in its order: the client
//! authenticates, may use the grant, and gets its response only after everything was committed.

mod authorization_code;
mod client_credentials;
mod device_code;
mod foreign;
mod id_jag;
mod jwt_bearer;
pub mod on_behalf_of;
mod refresh_token;
mod token_exchange;

pub use crate::flows::tokens::issue::TokenResponse;

use crate::{
    app::App,
    diagnostics,
    directory::CachedClient,
    error::Error,
    flows::{
        oauth::client_auth::{self, ClientCredentials, Freshness},
        tokens::dpop,
    },
    model::{
        actor::RequestContext,
        client::{Client, GrantType},
    },
    oauth::{
        error::OAuthError,
        thumbprint::Thumbprint,
        token_request::{RefreshTokenRequest, TokenRequest},
    },
};

/// Answers a token request.
///
/// # Errors
/// [`Error::OAuth`] with the code of RFC 6749 §5.2 that applies.
pub async fn issue(
    app: &App,
    credentials: &ClientCredentials,
    request: &TokenRequest,
    proof: Option<&dpop::Presented>,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    let issued = issue_by_grant(app, credentials, request, proof, caller).await;
    if issued.is_ok()
        && let Some(known) = app.directory.cached(credentials.client_id())
    {
        app.metrics.token_issued(request.grant_type().as_str(), known.client.source);
    }
    if issued.is_err() {
        diagnostics::record("grant_type", format_args!("{:?}", request.grant_type()));
        match request.scope() {
            Some(scope) => diagnostics::record("scope.requested", scope),
            None => diagnostics::record("scope.requested", "(none)"),
        }
    }
    issued
}

/// Exchanges a refresh token of a client that a service of this server has authenticated.
///
/// # Errors
/// As the refresh token grant; `unauthorized_client` without it.
pub async fn refresh(
    app: &App,
    client: &Client,
    request: &RefreshTokenRequest,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    must_have(client, GrantType::RefreshToken)?;
    dpop::must_be_bound(client, None)?;
    let refreshed = refresh_token::refresh(app, client, request, None, caller).await?;
    app.metrics.token_issued(GrantType::RefreshToken.as_str(), client.source);
    Ok(refreshed)
}

async fn issue_by_grant(
    app: &App,
    credentials: &ClientCredentials,
    request: &TokenRequest,
    proof: Option<&dpop::Presented>,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    let grant = request.grant_type();
    let authenticated = |freshness| authenticated(app, credentials, grant, freshness, caller);
    // As an assertion, a proof is accepted once.
    let with_key = async |freshness| -> Result<(CachedClient, Option<Thumbprint>), Error> {
        let known = authenticated(freshness).await?;
        let key = dpop::of_client(app, &known.client, proof, caller).await?;
        Ok((known, key))
    };
    match request {
        TokenRequest::AuthorizationCode(exchange) => {
            // One statement fewer: the exchange itself checks that the client has not changed since
            // it was authenticated. An assertion is accepted once, so it cannot be checked a second
            // time.
            let is_once = matches!(credentials, ClientCredentials::Assertion { .. });
            let freshness = if is_once { Freshness::Now } else { Freshness::CheckedLater };
            let (client, key) = with_key(freshness).await?;
            let issued = authorization_code::exchange(app, &client, exchange, key, caller).await?;
            if let Some(issued) = issued {
                return Ok(issued);
            }
            if !is_once {
                let client = authenticated(Freshness::Now).await?;
                let issued =
                    authorization_code::exchange(app, &client, exchange, key, caller).await?;
                if let Some(issued) = issued {
                    return Ok(issued);
                }
            }
            // The client was changed in this moment.
            Err(OAuthError::temporarily_unavailable("try again").into())
        }
        TokenRequest::RefreshToken(refresh) => {
            let (client, key) = with_key(Freshness::Now).await?;
            refresh_token::refresh(app, &client.client, refresh, key, caller).await
        }
        TokenRequest::ClientCredentials(request) => {
            let (client, key) = with_key(Freshness::Now).await?;
            client_credentials::issue(app, &client.client, request, key).await
        }
        TokenRequest::JwtBearer(request) => {
            let (client, key) = with_key(Freshness::Now).await?;
            jwt_bearer::issue(app, &client.client, request, key, caller).await
        }
        TokenRequest::TokenExchange(request) => {
            let (client, key) = with_key(Freshness::Now).await?;
            token_exchange::exchange(app, &client.client, request, key, caller).await
        }
        TokenRequest::DeviceCode(request) => {
            let (client, key) = with_key(Freshness::Now).await?;
            device_code::issue(app, &client, request, key, caller).await
        }
    }
}

async fn authenticated(
    app: &App,
    credentials: &ClientCredentials,
    grant: GrantType,
    freshness: Freshness,
    caller: &RequestContext,
) -> Result<CachedClient, Error> {
    let known = client_auth::authenticate(app, credentials, freshness, caller).await?;
    must_have(&known.client, grant)?;
    Ok(known)
}

fn must_have(client: &Client, grant: GrantType) -> Result<(), OAuthError> {
    if client.may(grant) {
        return Ok(());
    }
    Err(OAuthError::unauthorized_client("the client is not registered for this grant type"))
}
