//! The token endpoint's decisions (RFC 6749 §3.2). What all grants share stands here, in its order: the client proves
//! who it is, may use this grant, and gets an answer only after everything was committed.

mod authorization_code;
mod client_credentials;
pub mod on_behalf_of;
mod refresh_token;

pub use refresh_token::refresh;

pub use crate::flows::tokens::issue::TokenResponse;

use crate::{
    app::App,
    diagnostics,
    directory::CachedClient,
    error::Error,
    flows::oauth::client_auth::{self, Freshness, Presented},
    model::{actor::RequestContext, client::GrantType},
    oauth::{error::OAuthError, params::Params},
};

/// Answers a token request.
///
/// # Errors
/// [`Error::OAuth`] with the code of RFC 6749 §5.2 that applies.
pub async fn issue(
    app: &App,
    presented: &Presented,
    params: &Params,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    let grant = grant_type(params)?;
    let issued = issue_by(app, grant, presented, params, caller).await;
    if issued.is_err() {
        diagnostics::record("grant_type", format_args!("{grant:?}"));
        diagnostics::record("scope.asked", params.get("scope").unwrap_or("(none)"));
    }
    issued
}

async fn issue_by(
    app: &App,
    grant: GrantType,
    presented: &Presented,
    params: &Params,
    caller: &RequestContext,
) -> Result<TokenResponse, Error> {
    if grant == GrantType::AuthorizationCode && !matches!(presented, Presented::Assertion { .. }) {
        // One statement fewer: redeeming checks that the client is still as it was authenticated. An assertion is good
        // once, so it cannot be looked at a second time.
        let client = authenticated(app, presented, grant, Freshness::CheckedLater, caller).await?;
        if let Some(issued) = authorization_code::exchange(app, &client, params, caller).await? {
            return Ok(issued);
        }
    }
    let client = authenticated(app, presented, grant, Freshness::Now, caller).await?;
    match grant {
        GrantType::AuthorizationCode => authorization_code::exchange(app, &client, params, caller)
            .await?
            // The client was changed twice in a moment.
            .ok_or_else(|| OAuthError::temporarily_unavailable("try again").into()),
        GrantType::RefreshToken => {
            refresh_token::refresh(app, &client.client, params, caller).await
        }
        GrantType::ClientCredentials => {
            client_credentials::issue(app, &client.client, params).await
        }
    }
}

fn grant_type(params: &Params) -> Result<GrantType, OAuthError> {
    match params.get("grant_type") {
        Some("authorization_code") => Ok(GrantType::AuthorizationCode),
        Some("refresh_token") => Ok(GrantType::RefreshToken),
        Some("client_credentials") => Ok(GrantType::ClientCredentials),
        Some(_) => Err(OAuthError::unsupported_grant_type(
            "this server knows authorization_code, refresh_token and client_credentials",
        )),
        None => Err(OAuthError::invalid_request("grant_type is missing")),
    }
}

async fn authenticated(
    app: &App,
    presented: &Presented,
    grant: GrantType,
    freshness: Freshness,
    caller: &RequestContext,
) -> Result<CachedClient, Error> {
    let known = client_auth::authenticate(app, presented, freshness, caller).await?;
    if known.client.may(grant) {
        Ok(known)
    } else {
        Err(OAuthError::unauthorized_client("this client was not registered for that grant").into())
    }
}
