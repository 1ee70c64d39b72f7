//! Tokens for a client that acts for itself (RFC 6749 §4.4).

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    app::App,
    flows::{Caller, Error},
    limits::{Key, Limit},
    model::client::Client,
    oauth::{
        access_token::{AccessClaims, Grant},
        scope::Scope,
    },
    storage::clients,
};

/// An access token and what it allows.
#[derive(Debug)]
pub struct ClientToken {
    pub access_token: String,
    /// Seconds (RFC 6749 §5.1).
    pub expires_in: u64,
    pub scope: Scope,
}

/// Finds the client that the id and secret belong to; `None` where they belong to none.
///
/// # Errors
/// [`Error::TooMany`] after too many failures from this network.
pub async fn authenticate(
    app: &App,
    id: &str,
    secret: &str,
    caller: &Caller,
) -> Result<Option<Client>, Error> {
    // Counted before the secret is looked at, and forgiven where it was right: guesses at once are no way round.
    let network = Key::address(caller.address);
    app.admit(Limit::ClientAuth, &network)?;
    let client = clients::by_id(&app.db, id)
        .await?
        .filter(|client| client.disabled_at.is_none());
    let presented = Sha256::digest(secret);
    let right = client
        .as_ref()
        .and_then(|client| client.secret_hash.as_ref())
        .is_some_and(|hash| bool::from(hash.as_slice().ct_eq(&presented)));
    if right {
        app.limits.client_auth.refund(&network);
    }
    Ok(client.filter(|_| right))
}

/// Issues a token; `None` where the client asks for a scope that it may not have.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn issue(
    app: &App,
    client: &Client,
    asked: Option<Scope>,
) -> Result<Option<ClientToken>, Error> {
    let scope = match asked {
        Some(asked) if !asked.is_subset_of(&client.scope) => return Ok(None),
        Some(asked) if !asked.is_empty() => asked,
        _ => client.scope.clone(),
    };
    let now = app.clock.now();
    let grant = Grant {
        issuer: &app.config.server.issuer,
        audience: app.config.audience(),
        subject: &client.id,
        client_id: &client.id,
        scope: scope.to_string(),
        session: None,
        auth_time: None,
        email: None,
        role: None,
    };
    let claims = AccessClaims::new(grant, app.new_id(), now, app.config.tokens.access_ttl);
    let access_token = app
        .keys
        .sign(&claims, app.config.tokens.signing_algorithm, now)
        .await?;
    Ok(Some(ClientToken {
        access_token,
        expires_in: app.config.tokens.access_ttl.as_secs(),
        scope,
    }))
}
