//! Token introspection (RFC 7662), for the clients that a token was issued to or is meant for.

use serde::Serialize;

use crate::{
    app::App,
    clock::Timestamp,
    diagnostics,
    error::Error,
    flows::tokens::{refresh, scope, verify},
    ids::{ClientId, SessionId},
    model::client::Client,
    oauth::{
        access_token::{AccessClaims, ActorClaim, Audience},
        refresh_token::RefreshToken,
        thumbprint::Confirmation,
    },
};

/// RFC 7662 §2.2. An inactive token has no other member.
#[derive(Debug, Default, Serialize)]
pub struct Introspection {
    pub active: bool,
    #[serde(flatten)]
    pub facts: Option<Facts>,
}

/// The members of an active token.
#[derive(Debug, Serialize)]
pub struct Facts {
    pub iss: String,
    pub sub: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<Audience>,
    pub client_id: ClientId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_type: Option<&'static str>,
    pub iat: i64,
    pub exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    /// RFC 9470 §6.2
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// As in the access token, from here on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email_verified: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modules: Option<Vec<String>>,
    /// Who acts for the subject (RFC 8693 §4.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<ActorClaim>,
    /// The key that the token is bound to (RFC 9449 §6.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
}

/// Introspects a token for an authenticated client. A token that the client may not know of is
/// inactive (§2.2, threat T33): a token is introspected by the client it was issued to, and by
/// those whose introspection audiences have its audience.
///
/// Call this after the client was authenticated with `Freshness::Now`: the
/// revocation list of this process is synced then.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn introspect(app: &App, client: &Client, token: &str) -> Result<Introspection, Error> {
    if RefreshToken::parse(token).is_some() {
        return refresh_token(app, client, token).await;
    }
    let facts = match verify::inspect(app, token) {
        Ok(verified) if may_know(app, client, &verified.claims) => {
            Some(Facts::of(verified.claims.clone()))
        }
        refused => {
            diagnostics::record("introspected_by", &client.id);
            if let Ok(verified) = &refused {
                verify::note(verified);
            }
            let why = refused.err().map_or("the client may not introspect this token", |why| why.0);
            diagnostics::denied("inactive", why);
            None
        }
    };
    Ok(Introspection { active: facts.is_some(), facts })
}

/// Only the current refresh token is active, and only for its own client.
async fn refresh_token(app: &App, client: &Client, token: &str) -> Result<Introspection, Error> {
    let current = RefreshToken::parse(token).map(|token| token.hash());
    let session = match refresh::peek(app, token, &client.id).await {
        Ok(session) if current.is_some_and(|hash| session.current_hash == hash) => session,
        Ok(_) | Err(Error::InvalidRefreshToken) => return Ok(Introspection::default()),
        Err(error) => return Err(error),
    };
    let allowed = scope::allowed_in(app, &session, &session.scope, app.clock.now()).await?;
    let facts = Facts {
        iss: app.config.server.issuer.clone(),
        sub: session.subject,
        aud: None,
        client_id: session.client_id,
        scope: allowed.scope.non_empty(),
        token_type: None,
        iat: session.rotated_at.as_secs(),
        exp: session.idle_expires_at.as_secs(),
        jti: None,
        sid: Some(session.id),
        auth_time: session.authenticated_at.map(Timestamp::as_secs),
        acr: session.details.acr,
        amr: session.details.amr,
        user_id: session.details.external_user.map(|user| user.id),
        email: None,
        email_verified: None,
        role: None,
        modules: None,
        act: None,
        cnf: None,
    };
    Ok(Introspection { active: true, facts: Some(facts) })
}

fn may_know(app: &App, client: &Client, claims: &AccessClaims) -> bool {
    let audiences = &client.metadata.introspection_audiences;
    let own_api = app.config.audience();
    claims.client_id == client.id
        || claims.aud.contains(&client.id)
        || audiences.iter().any(|one| one == "*" || claims.aud.contains(one))
        // The issuer names this server's own API.
        || (claims.aud.contains(own_api) && audiences.contains(&app.config.server.issuer))
}

impl Facts {
    fn of(claims: AccessClaims) -> Self {
        Self {
            iss: claims.iss,
            sub: claims.sub,
            aud: Some(claims.aud),
            client_id: claims.client_id,
            scope: claims.scope.non_empty(),
            token_type: Some(if claims.cnf.is_some() { "DPoP" } else { "Bearer" }),
            iat: claims.iat,
            exp: claims.exp,
            jti: Some(claims.jti),
            sid: claims.sid,
            auth_time: claims.auth_time,
            acr: claims.acr,
            amr: claims.amr,
            user_id: claims.user_id,
            email: claims.email,
            email_verified: claims.email_verified,
            role: claims.role,
            modules: claims.modules,
            act: claims.act,
            cnf: claims.cnf,
        }
    }
}
