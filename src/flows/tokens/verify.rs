//! Is this access token good, here and now?

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::{
    app::App,
    diagnostics,
    error::Error,
    oauth::{
        access_token::AccessClaims,
        error::OAuthError,
        jwt::{InvalidToken, MAX_LENGTH, TokenType, Unverified},
    },
    telemetry::TokenCheck,
};

/// A token whose signature and shape are good.
#[derive(Debug)]
pub struct Verified {
    pub claims: AccessClaims,
    /// The key that signed it; it may be banned later.
    pub kid: String,
}

/// Checks a token: its signature (remembered from an earlier time, perhaps), its claims and the clock, and
/// the revocation list as the database has it now.
///
/// # Errors
/// [`Error::InvalidToken`], or [`Error::Unavailable`] where the revocation list cannot be asked.
pub async fn verify(app: &App, token: &str) -> Result<Arc<Verified>, Error> {
    let outcome = attempt(app, token).await;
    app.metrics.token_check(if outcome.is_ok() { TokenCheck::Ok } else { TokenCheck::Refused });
    outcome
}

async fn attempt(app: &App, token: &str) -> Result<Arc<Verified>, Error> {
    if token.len() > MAX_LENGTH {
        return Err(Error::InvalidToken(InvalidToken("it is not a token of this server")));
    }
    // First, because it brings the keys that were made or banned meanwhile.
    app.sync().await?;
    let verified = inspect(app, token).map_err(Error::InvalidToken)?;
    let audience = app.config.audience();
    verified.claims.check_audience(audience).map_err(|why| {
        note(&verified);
        diagnostics::fact("needed.audience", audience);
        Error::InvalidToken(why)
    })?;
    Ok(verified)
}

/// As [`verify`], for a call of this server's own that a scope opens.
///
/// # Errors
/// As [`verify`]; `insufficient_scope`.
pub async fn verify_with(app: &App, token: &str, scope: &str) -> Result<Arc<Verified>, Error> {
    let verified = verify(app, token).await?;
    if verified.claims.scope.contains(scope) {
        return Ok(verified);
    }
    note(&verified);
    diagnostics::fact("needed.scope", scope);
    Err(OAuthError::insufficient_scope(format!("the token lacks the scope {scope}")).into())
}

/// Checks a token as far as this process has heard ([`App::sync`] first), whomever it is meant for.
///
/// # Errors
/// The first rule it breaks.
pub fn inspect(app: &App, token: &str) -> Result<Arc<Verified>, InvalidToken> {
    if token.len() > MAX_LENGTH {
        return Err(InvalidToken("it is not a token of this server"));
    }
    let hash: [u8; 32] = Sha256::digest(token).into();
    let verified = match app.verified.get(&hash) {
        Some(remembered) => remembered,
        None => {
            let token = Unverified::parse(token, TokenType::Access)?;
            let verified = Arc::new(signature_and_shape(app, &token)?);
            app.verified.insert(hash, Arc::clone(&verified));
            verified
        }
    };
    still_good(app, &verified)?;
    Ok(verified)
}

/// Whether a token that was good is so still, as far as this process has heard: for what goes on after it was shown.
///
/// # Errors
/// The first rule it breaks.
pub fn still_good(app: &App, verified: &Verified) -> Result<(), InvalidToken> {
    let issuer = &app.config.server.issuer;
    let checked = verified.claims.check(issuer, app.clock.now());
    let checked =
        checked.and_then(|()| match app.revocations.revoked_by(&verified.claims, &verified.kid) {
            Some(kind) => {
                diagnostics::fact("revoked_by", format!("an entry of the kind {kind}"));
                Err(InvalidToken("it was revoked"))
            }
            None => Ok(()),
        });
    if checked.is_err() {
        note(verified);
    }
    checked
}

/// A token whose signature was found good before, whatever became of it since.
pub fn remembered(app: &App, token: &str) -> Option<Arc<Verified>> {
    let hash: [u8; 32] = Sha256::digest(token).into();
    app.verified.get(&hash)
}

/// What a refused token was, for those who are asked why.
pub(crate) fn note(verified: &Verified) {
    let claims = &verified.claims;
    diagnostics::fact("token.jti", &claims.jti);
    diagnostics::fact("token.sub", &claims.sub);
    diagnostics::fact("token.client_id", &claims.client_id);
    diagnostics::fact("token.sid", claims.sid.as_deref().unwrap_or("none"));
    diagnostics::fact("token.scope", &claims.scope);
    diagnostics::fact("token.iat", claims.iat);
    diagnostics::fact("token.exp", claims.exp);
    diagnostics::fact("token.kid", &verified.kid);
}

fn signature_and_shape(app: &App, token: &Unverified<'_>) -> Result<Verified, InvalidToken> {
    match app.keys.ring().verify(token) {
        Some(true) => Ok(Verified { claims: token.claims()?, kid: token.header.kid.clone() }),
        Some(false) => Err(InvalidToken("its signature is wrong")),
        None => Err(InvalidToken("it was signed by an unknown key")),
    }
}
