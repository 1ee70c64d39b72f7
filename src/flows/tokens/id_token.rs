//! ID tokens: issued to clients, and accepted again as hints.

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    flows::tokens::{
        claims::{self, Place},
        issue::TokenLifetimes,
        scope::Allowed,
    },
    model::{client::Client, key::SigningAlgorithm, session::Session},
    oauth::{
        id_token::{IdClaims, at_hash},
        jwt::{TokenType, Unverified},
    },
};

/// The algorithm of what is signed for a client: the one it registered, else RS256 (OpenID Connect
/// Registration §2, RFC 9701 §6), else the first one that is configured.
pub fn algorithm(app: &App, registered: Option<SigningAlgorithm>) -> SigningAlgorithm {
    let held = &app.config.keys.algorithms;
    registered
        .filter(|algorithm| held.contains(&algorithm.of_key()))
        .or_else(|| held.iter().copied().find(|a| *a == SigningAlgorithm::Rs256))
        .or_else(|| held.first().copied())
        .unwrap_or(SigningAlgorithm::Rs256)
}

/// The ID token of a session at this moment.
pub(crate) async fn of_session(
    app: &App,
    client: &Client,
    session: &Session,
    allowed: &Allowed,
    access_token: &str,
    now: Timestamp,
) -> Result<String, Error> {
    let algorithm = algorithm(app, client.metadata.id_token_signed_response_alg);
    let details = &session.details;
    let mut user_claims = claims::of(app, client, session, &allowed.scope, Place::IdToken).await?;
    if let Some(user) = session.profile() {
        user_claims.extend(claims::standing(client, &user, &allowed.modules));
        // Of the client's own user it may know everything: it has said so itself.
        let external = details.external_user.as_ref();
        user_claims.extend(external.map(|user| ("user_id".to_owned(), user.id.clone().into())));
    }
    let claims = IdClaims {
        iss: app.config.server.issuer.clone(),
        sub: session.subject.clone(),
        aud: client.id.as_str().to_owned(),
        exp: (now + TokenLifetimes::of(app, client).access).as_secs(),
        iat: now.as_secs(),
        auth_time: session.authenticated_at.map(Timestamp::as_secs),
        nonce: details.nonce.clone(),
        acr: details.acr.clone(),
        amr: details.amr.clone(),
        at_hash: Some(at_hash(access_token, algorithm.as_str())),
        sid: session.id.clone(),
        user_claims,
    };
    Ok(app.keys.sign(TokenType::Id, &claims, algorithm, now).await?)
}

/// Verifies an `id_token_hint` (Core §3.1.2.1, RP-Initiated Logout §2). It may have expired: it
/// names the user, and grants nothing. `None` where this server did not issue it.
pub fn hint(app: &App, token: &str) -> Option<IdClaims> {
    let token = Unverified::parse(token, TokenType::Id).ok()?;
    if app.keys.ring().verify(&token) != Some(true) {
        return None;
    }
    let claims: IdClaims = token.claims().ok()?;
    (claims.iss == app.config.server.issuer).then_some(claims)
}
