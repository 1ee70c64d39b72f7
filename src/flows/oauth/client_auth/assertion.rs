//! `private_key_jwt`: client authentication by a signed assertion (RFC 7523 §2.2, RFC 10070). Each
//! assertion is accepted once, across all processes.

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    jose::{Assertion, ClientJwt},
    model::{client::Client, key::SigningAlgorithm},
    storage::single_use::{self, Kind},
};

/// Whether the assertion is signed by the client, valid now, and was never presented before.
///
/// # Errors
/// [`Error::Unavailable`] if its `jti` cannot be stored.
pub(crate) async fn is_valid(
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
    // Last: only a `jti` that the client signed is stored.
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
    // A signed authorization request passes through browsers: it must not authenticate the client
    // (RFC 9101 §10.8). RFC 10070 defines `client-authentication+jwt`; assertions of other types,
    // or of none, are RFC 7523's.
    if jwt.typ().is_some_and(|typ| typ == "oauth-authz-req+jwt") {
        return None;
    }
    let claims: Assertion = jwt.claims().ok()?;
    claims.check(&client.id, &app.config.server.issuer, now).ok()?;
    Some((jwt, claims))
}

/// The client that an assertion claims to be from; not verified.
pub(crate) fn claimed_client(jwt: &str) -> Option<String> {
    let claims: Assertion = ClientJwt::parse(jwt).ok()?.claims().ok()?;
    Some(claims.sub)
}
