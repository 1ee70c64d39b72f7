//! `private_key_jwt`: a client signs who it is (RFC 7523 §2.2, RFC 10070). Each assertion is good once, on all processes.

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    jose::{Assertion, ClientJwt},
    model::{client::Client, key::SigningAlgorithm},
    storage::single_use::{self, Kind},
};

/// Whether the assertion is the client's, good now, and was never seen before.
///
/// # Errors
/// [`Error::Unavailable`] where it cannot be noted that it was seen.
pub(crate) async fn proves(
    app: &App,
    client: &Client,
    jwt: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    let Some((jwt, claims)) = read(app, client, jwt, now) else {
        return Ok(false);
    };
    let registered = client.metadata.token_endpoint_auth_signing_alg;
    let allowed = registered.map_or_else(|| SigningAlgorithm::ALL.to_vec(), |only| vec![only]);
    let (keys, now) = (&app.client_keys, app.clock.now());
    if !keys.verifies(&app.outbound, now, client, &jwt, &allowed).await {
        return Ok(false);
    }
    // Last: only what the client really signed takes up room.
    let (kind, until) = (Kind::ClientAssertion, claims.retained_until());
    Ok(single_use::claim(&app.db, kind, &client.id, &claims.jti, until).await?)
}

fn read<'a>(
    app: &App,
    client: &Client,
    jwt: &'a str,
    now: Timestamp,
) -> Option<(ClientJwt<'a>, Assertion)> {
    let jwt = ClientJwt::parse(jwt).ok()?;
    // A signed authorization request passes through browsers: it must not prove who the client is (RFC 9101 §10.8).
    if jwt.typ().is_some_and(|typ| typ == "oauth-authz-req+jwt") {
        return None;
    }
    let claims: Assertion = jwt.claims().ok()?;
    claims.check(&client.id, &app.config.server.issuer, now).ok()?;
    Some((jwt, claims))
}

/// Whom an assertion says to come from; believed by nobody yet.
pub(crate) fn claimed_client(jwt: &str) -> Option<String> {
    let claims: Assertion = ClientJwt::parse(jwt).ok()?.claims().ok()?;
    Some(claims.sub)
}
