//! `private_key_jwt`: client authentication by a signed assertion (RFC 7523 §2.2, RFC 10070). Each
//! assertion is accepted once, across all processes.

use std::{fmt::Display, net::IpAddr};

use crate::{
    app::App,
    clock::Timestamp,
    diagnostics,
    error::Error,
    jose::ClientJwt,
    model::client::{AssertionAudience, Client},
    oauth::error::OAuthError,
    storage::single_use::{self, Kind},
};

/// Verifies that the assertion is signed by the client, valid now, and was never presented before.
/// Each failed check is recorded for `explain`. Once the signature is verified, the client itself
/// asks, and is told what is wrong.
///
/// # Errors
/// `invalid_client`; [`Error::Unavailable`] if its `jti` cannot be stored, [`Error::TooMany`] if it
/// may not be.
pub(crate) async fn verify(
    app: &App,
    client: &Client,
    jwt: &str,
    now: Timestamp,
    address: IpAddr,
) -> Result<(), Error> {
    let jwt = ClientJwt::parse(jwt).map_err(|why| unproven("assertion.format", why))?;
    // A signed authorization request passes through browsers: it must not authenticate the client
    // (RFC 9101 §10.8). RFC 10070 defines `client-authentication+jwt`; assertions of other types,
    // or of none, are RFC 7523's.
    if jwt.typ().is_some_and(|typ| typ == "oauth-authz-req+jwt") {
        return Err(unproven("assertion.typ", "`typ` must not be `oauth-authz-req+jwt`"));
    }
    let only = client.metadata.token_endpoint_auth_signing_alg;
    let verified = app.client_keys.verify(&app.outbound, now, client, &jwt, only).await;
    verified.map_err(|why| unproven("assertion.signature", why))?;
    let claims = jwt.assertion().map_err(|why| refused(vec![("assertion.claims", why)]))?;
    let violations = {
        let sub = (claims.sub == client.id.as_str(), "must be the client_id");
        claims.violations(&client.id, sub, &audiences(app, client), now)
    };
    if !violations.is_empty() {
        let named = violations.into_iter().map(|(claim, why)| (diagnostic(claim), why));
        return Err(refused(named.collect()));
    }
    // Last: only a `jti` that the client signed is stored.
    super::admit_write(app, client, address)?;
    let (kind, until) = (Kind::ClientAssertion, claims.retained_until());
    if single_use::claim(&app.db, kind, &client.id, &claims.jti, until).await? {
        return Ok(());
    }
    let why = "`jti` was used before: each assertion is accepted once";
    Err(refused(vec![("assertion.jti", why.to_owned())]))
}

/// The audiences that an assertion of the client may have.
fn audiences(app: &App, client: &Client) -> Vec<String> {
    let issuer = &app.config.server.issuer;
    let own = client.metadata.assertion_audience;
    match own.unwrap_or(app.config.client_auth.assertion_audience) {
        AssertionAudience::Issuer => vec![issuer.clone()],
        AssertionAudience::IssuerOrTokenEndpoint => {
            vec![issuer.clone(), format!("{issuer}/oauth2/token")]
        }
    }
}

/// The name of the diagnostic about a claim.
pub(crate) fn diagnostic(claim: &str) -> &'static str {
    match claim {
        "iss" => "assertion.iss",
        "sub" => "assertion.sub",
        "aud" => "assertion.aud",
        "exp" => "assertion.exp",
        "iat" => "assertion.iat",
        "nbf" => "assertion.nbf",
        _ => "assertion.jti",
    }
}

/// The caller has not proven to be the client, and is told nothing.
fn unproven(check: &'static str, why: impl Display) -> Error {
    diagnostics::record(check, why);
    super::refused()
}

/// The caller is the client.
fn refused(found: Vec<(&'static str, String)>) -> Error {
    for (check, why) in &found {
        diagnostics::record(check, why);
    }
    let lines: Vec<String> = found.into_iter().map(|(_, why)| why).collect();
    OAuthError::invalid_client(format!("invalid client assertion: {}", lines.join("; "))).into()
}

/// The client that an assertion claims to be from; not verified.
pub(crate) fn claimed_client(jwt: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Claims {
        sub: String,
    }
    let claims: Claims = ClientJwt::parse(jwt).ok()?.claims().ok()?;
    Some(claims.sub)
}
