//! The client credentials grant (RFC 6749 §4.4).

use super::TokenResponse;
use crate::{
    app::App,
    error::Error,
    flows::{
        oauth::resources::{self, Target, is_about_the_user},
        tokens::issue,
    },
    model::{catalogue::Catalogue, client::Client},
    oauth::{
        access_token::NewAccessToken, error::OAuthError, scope::Scope, thumbprint::Thumbprint,
        token_request::ClientCredentialsRequest,
    },
};

/// Issues an access token, without a session and without a refresh token (§4.4.3).
pub(crate) async fn issue(
    app: &App,
    client: &Client,
    request: &ClientCredentialsRequest,
    key: Option<Thumbprint>,
) -> Result<TokenResponse, Error> {
    let target = resources::target(app, client, &request.resources).await?;
    let catalogue = app.directory.catalogue(&app.db).await?;
    let scope = scope(client, &catalogue, &target, request.scope.as_ref())?;
    let grant = NewAccessToken {
        issuer: &app.config.server.issuer,
        audience: target.audience(app),
        subject: &client.id,
        client_id: &client.id,
        scope: scope.clone(),
        session: None,
        auth_time: None,
        acr: None,
        amr: &[],
        email: None,
        role: None,
        modules: None,
        user_id: None,
        until: None,
        key,
    };
    let (access_token, expires_in) = issue::access_token(app, client, grant).await?;
    Ok(TokenResponse {
        access_token,
        is_bound: key.is_some(),
        expires_in,
        scope,
        refresh_token: None,
        id_token: None,
        session: None,
        issued_token_type: None,
    })
}

/// The requested scope, if the client may request all of it; the default scope if none was
/// requested. Scopes of a user (`openid` and the like, and every module's scope) are excluded.
fn scope(
    client: &Client,
    catalogue: &Catalogue,
    target: &Target,
    requested: Option<&Scope>,
) -> Result<Scope, OAuthError> {
    let may = target.may_ask(client);
    let is_of_users = |token: &str| is_about_the_user(token) || catalogue.is_of_a_module(token);
    let may = may.filter(|token| !is_of_users(token));
    match requested {
        Some(requested) if requested.is_subset_of(&may) => Ok(requested.clone()),
        Some(_) => Err(OAuthError::invalid_scope(
            "the client may not request this scope for this resource",
        )),
        None => Ok(target.default_scope(&may)),
    }
}
