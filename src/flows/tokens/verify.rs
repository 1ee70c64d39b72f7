//! Whether an access token is valid now.

use std::sync::Arc;

use crate::{
    app::App,
    caches::verified_tokens::Verified,
    diagnostics,
    error::Error,
    flows::tokens::dpop,
    model::client::is_built_in,
    oauth::{
        error::OAuthError,
        jwt::{InvalidToken, MAX_LENGTH, TokenType, Unverified},
    },
    telemetry::TokenCheck,
};

/// Verifies a token: its signature (cached from an earlier request, perhaps), its claims and the
/// clock, and the revocation list as the database has it now.
///
/// # Errors
/// [`Error::InvalidToken`], or [`Error::Unavailable`] where the revocation list cannot be read.
pub async fn verify(app: &App, token: &str) -> Result<Arc<Verified>, Error> {
    verify_sent(app, token, None).await
}

/// As [`verify`], for a token that is sent with a DPoP proof (RFC 9449 §7.1); one without must be a
/// bearer token.
///
/// # Errors
/// As [`verify`]; `invalid_dpop_proof`, [`Error::TooMany`].
pub async fn verify_sent(
    app: &App,
    token: &str,
    proof: Option<&dpop::Presented>,
) -> Result<Arc<Verified>, Error> {
    let outcome = attempt(app, token, proof).await;
    app.metrics.token_check(if outcome.is_ok() { TokenCheck::Ok } else { TokenCheck::Refused });
    outcome
}

async fn attempt(
    app: &App,
    token: &str,
    proof: Option<&dpop::Presented>,
) -> Result<Arc<Verified>, Error> {
    if token.len() > MAX_LENGTH {
        return Err(Error::InvalidToken(InvalidToken("it is not a token of this server")));
    }
    // First, because it brings the keys that were added or banned meanwhile.
    app.sync().await?;
    let verified = inspect(app, token).map_err(Error::InvalidToken)?;
    let audience = app.config.audience();
    verified.claims.check_audience(audience).map_err(|why| {
        note(&verified);
        diagnostics::record("needed.audience", audience);
        Error::InvalidToken(why)
    })?;
    identify(&verified);
    match proof {
        Some(proof) => dpop::of_token(app, &verified, token, proof).await?,
        None => dpop::must_be_bearer(&verified).map_err(Error::InvalidToken)?,
    }
    Ok(verified)
}

/// Says whose request it is that presents this token.
pub(crate) fn identify(verified: &Verified) {
    let claims = &verified.claims;
    diagnostics::identify_client(&claims.client_id);
    // The `sub` of a client's own token is the client (RFC 9068 §2.2).
    if claims.sub != claims.client_id.as_str() {
        diagnostics::identify_user(&claims.sub);
    }
}

/// As [`verify`], for an operation of this server that requires a scope.
///
/// # Errors
/// As [`verify`]; `insufficient_scope`.
pub async fn verify_with(app: &App, token: &str, scope: &str) -> Result<Arc<Verified>, Error> {
    let verified = verify(app, token).await?;
    if verified.claims.scope.contains(scope) {
        return Ok(verified);
    }
    note(&verified);
    diagnostics::record("needed.scope", scope);
    Err(OAuthError::insufficient_scope(format!("the token lacks the scope {scope}")).into())
}

/// As [`verify`], for an operation on the account of the token's user: only the tokens of this API
/// act for a whole account, whatever the scope of others.
///
/// # Errors
/// As [`verify`]; `insufficient_scope`.
pub async fn verify_account(app: &App, token: &str) -> Result<Arc<Verified>, Error> {
    let verified = verify(app, token).await?;
    must_be_of_account(&verified)?;
    Ok(verified)
}

/// Whether a token acts for a user's whole account: a built-in client's, in a session.
///
/// # Errors
/// `insufficient_scope`.
pub(crate) fn must_be_of_account(verified: &Verified) -> Result<(), Error> {
    if is_built_in(&verified.claims.client_id) && verified.claims.sid.is_some() {
        return Ok(());
    }
    note(verified);
    diagnostics::record("needed.client", "a built-in one");
    let why = "the token was issued to another client: this operation requires a token of this API, from \
               POST /api/v1/auth/login";
    Err(OAuthError::insufficient_scope(why.to_owned()).into())
}

/// Verifies a token by what this process has in memory ([`App::sync`] first), whatever its
/// audience.
///
/// # Errors
/// The first rule it breaks.
pub fn inspect(app: &App, token: &str) -> Result<Arc<Verified>, InvalidToken> {
    if token.len() > MAX_LENGTH {
        return Err(InvalidToken("it is not a token of this server"));
    }
    let verified = app.verified_tokens.get_or_verify(token, || {
        signature_and_shape(app, &Unverified::parse(token, TokenType::Access)?)
    })?;
    still_valid(app, &verified)?;
    Ok(verified)
}

/// Whether a token that was verified is still valid, by what this process has in memory: for
/// streams that outlast it.
///
/// # Errors
/// The first rule it breaks.
pub fn still_valid(app: &App, verified: &Verified) -> Result<(), InvalidToken> {
    let issuer = &app.config.server.issuer;
    let checked = verified.claims.check(issuer, app.clock.now());
    let checked =
        checked.and_then(|()| match app.revocations.revoked_by(&verified.claims, &verified.kid) {
            Some(kind) => {
                diagnostics::record("revoked_by", format!("an entry of the kind {kind}"));
                Err(InvalidToken("revoked"))
            }
            None => Ok(()),
        });
    if checked.is_err() {
        note(verified);
    }
    checked
}

/// Records what a denied token says.
pub(crate) fn note(verified: &Verified) {
    let claims = &verified.claims;
    diagnostics::record("token.jti", &claims.jti);
    diagnostics::record("token.sub", &claims.sub);
    diagnostics::record("token.client_id", &claims.client_id);
    diagnostics::record("token.sid", claims.sid.as_deref().unwrap_or("none"));
    diagnostics::record("token.scope", &claims.scope);
    diagnostics::record("token.iat", claims.iat);
    diagnostics::record("token.exp", claims.exp);
    diagnostics::record("token.kid", &verified.kid);
}

fn signature_and_shape(app: &App, token: &Unverified<'_>) -> Result<Verified, InvalidToken> {
    match app.keys.ring().verify(token) {
        Some(true) => Ok(Verified { claims: token.claims()?, kid: token.header.kid.clone() }),
        Some(false) => Err(InvalidToken("wrong signature")),
        None => Err(InvalidToken("signed by an unknown key")),
    }
}
