//! The UserInfo endpoint (OpenID Connect Core §5.3).

use serde_json::{Map, Value};

use crate::{
    app::App,
    directory::CachedClient,
    error::Error,
    flows::tokens::{
        claims::{self, Place},
        dpop, scope, verify,
    },
    oauth::{error::OAuthError, jwt::InvalidToken},
    storage::sessions,
};

/// The claims about the user, and the client that the token was issued to.
#[derive(Debug)]
pub struct UserInfo {
    pub claims: Map<String, Value>,
    pub known: CachedClient,
}

/// Reads the claims for an access token.
///
/// # Errors
/// [`Error::InvalidToken`]; `invalid_dpop_proof`; `insufficient_scope` without `openid`.
pub async fn userinfo(
    app: &App,
    token: &str,
    proof: Option<&dpop::Presented>,
) -> Result<UserInfo, Error> {
    let verified = verify::verify_sent(app, token, proof).await?;
    let claims = &verified.claims;
    let scope = &claims.scope;
    if !scope.contains("openid") {
        return Err(OAuthError::insufficient_scope("the token lacks the scope `openid`").into());
    }
    let gone = || Error::InvalidToken(InvalidToken("the session has been revoked"));
    let sid = claims.sid.as_ref().ok_or_else(gone)?;
    let now = app.clock.now();
    let session = sessions::by_id(&app.db, sid)
        .await?
        .filter(|session| session.is_live(now))
        .ok_or_else(gone)?;
    let known = app.client(&claims.client_id).await?.ok_or_else(gone)?;
    let user = &session.profile().ok_or_else(gone)?;
    let mut response = Map::new();
    response.insert("sub".to_owned(), session.subject.clone().into());
    let client = &known.client;
    response.extend(claims::of(app, client, &session, scope, Place::UserInfo).await?);
    let allowed = scope::allowed_in(app, &session, scope, now).await?;
    response.extend(claims::standing(client, user, &allowed.modules));
    Ok(UserInfo { claims: response, known })
}
