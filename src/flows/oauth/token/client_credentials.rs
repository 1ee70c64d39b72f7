//! A client that acts for itself (RFC 6749 §4.4).

use super::TokenResponse;
use crate::{
    app::App,
    error::Error,
    flows::{
        oauth::resources::{self, Target, is_about_a_person},
        tokens::issue,
    },
    model::{catalogue::Catalogue, client::Client},
    oauth::{access_token::NewAccessToken, error::OAuthError, params::Params, scope::Scope},
};

/// Issues a token. There is no session and no refresh token (§4.4.3): the client can ask again.
pub(crate) async fn issue(
    app: &App,
    client: &Client,
    params: &Params,
) -> Result<TokenResponse, Error> {
    let asked = params.get("scope").map(Scope::parse).transpose();
    let asked = asked.map_err(OAuthError::invalid_scope)?;
    let target = resources::target(app, client, params.all("resource")).await?;
    let catalogue = app.directory.catalogue(&app.db).await?;
    let scope = scope(client, &catalogue, &target, asked)?;
    let grant = NewAccessToken {
        issuer: &app.config.server.issuer,
        audience: target.audience(app),
        subject: &client.id,
        client_id: &client.id,
        scope: scope.clone(),
        session: None,
        auth_time: None,
        email: None,
        role: None,
        modules: None,
        until: None,
    };
    let (access_token, expires_in) = issue::access_token(app, client, grant).await?;
    Ok(TokenResponse { access_token, expires_in, scope, refresh_token: None, id_token: None })
}

/// What was asked for, if the client may have all of it; where nothing was, what it gets by default. What belongs to a
/// person (`openid` and the like, and every module's scope) means nothing here.
fn scope(
    client: &Client,
    catalogue: &Catalogue,
    target: &Target,
    asked: Option<Scope>,
) -> Result<Scope, OAuthError> {
    let may = target.may_ask(client);
    // Modules are people's.
    let is_a_persons =
        |token: &str| is_about_a_person(token) || catalogue.modules_with(token).next().is_some();
    let may = may.filter(|token| !is_a_persons(token));
    match asked.filter(|asked| !asked.is_empty()) {
        Some(asked) if asked.is_subset_of(&may) => Ok(asked),
        Some(_) => Err(OAuthError::invalid_scope("this client may not ask for that scope (there)")),
        None => Ok(target.default_scope(&may)),
    }
}
