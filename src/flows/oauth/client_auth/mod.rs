//! Client authentication (RFC 6749 §2.3) at the token endpoint and its neighbours.

mod assertion;

pub(crate) use assertion::diagnostic;

use std::{net::IpAddr, sync::Arc};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::{
    app::App,
    caches::verified_tokens::Verified,
    clock::Timestamp,
    diagnostics,
    directory::CachedClient,
    error::Error,
    flows::{admin::clients, tokens::verify},
    ids::ClientId,
    limits::{Key, Limit, RetryAfter},
    model::{
        actor::RequestContext,
        client::{AuthMethod, Client, FIRST_PARTY},
    },
    oauth::{error::OAuthError, jwt::InvalidToken},
};

/// The scope of a back end that asks for tokens of users.
pub const TOKENS: &str = "propusk:tokens";

/// The client credentials of a request: one authentication method, never two.
#[derive(Debug)]
pub enum ClientCredentials {
    /// A public client only identifies itself (`none`).
    Absent {
        client_id: ClientId,
    },
    Secret {
        client_id: ClientId,
        secret: String,
    },
    /// `private_key_jwt` (OpenID Connect Core §9).
    Assertion {
        client_id: ClientId,
        jwt: String,
    },
}

/// How fresh the cached data of a client must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// At least as fresh as the last commit before the request.
    Now,
    /// The cached client may be older: the statement that follows checks its
    /// [`CachedClient::version`].
    CheckedLater,
}

impl ClientCredentials {
    const fn name(&self) -> &'static str {
        match self {
            Self::Absent { .. } => "none",
            Self::Secret { .. } => "secret",
            Self::Assertion { .. } => "assertion",
        }
    }

    /// The client that the credentials claim to be of.
    pub fn client_id(&self) -> &ClientId {
        match self {
            Self::Absent { client_id }
            | Self::Secret { client_id, .. }
            | Self::Assertion { client_id, .. } => client_id,
        }
    }
}

/// The client that an assertion claims to be from, if the request has no `client_id`; not verified.
pub fn claimed_client(jwt: &str) -> Option<ClientId> {
    assertion::claimed_client(jwt).map(Into::into)
}

/// Authenticates the client.
///
/// # Errors
/// `invalid_client`, which does not tell an unknown client from wrong credentials, but says what is
/// wrong with an assertion that the client has signed;
/// [`Error::TooMany`] after too many failures from this network.
pub async fn authenticate(
    app: &App,
    credentials: &ClientCredentials,
    freshness: Freshness,
    caller: &RequestContext,
) -> Result<CachedClient, Error> {
    let known = attempt(app, credentials, freshness, caller).await?;
    diagnostics::identify_client(&known.client.id);
    Ok(known)
}

/// The client that an access token with this scope was issued to, for a service of this server.
///
/// # Errors
/// As [`verify::verify_with`]; `insufficient_scope` for a self-registered client, which is untrusted.
pub async fn by_access_token(
    app: &App,
    token: &str,
    scope: &'static str,
) -> Result<(Arc<Verified>, CachedClient), Error> {
    let verified = verify::verify_with(app, token, scope).await?;
    let known = app.client(&verified.claims.client_id).await?;
    let known = known.ok_or(Error::InvalidToken(InvalidToken("its client no longer exists")))?;
    must_be_trusted(&known, scope)?;
    Ok((verified, known))
}

/// Refuses self-registered clients the services of this server.
///
/// # Errors
/// `insufficient_scope`
pub fn must_be_trusted(known: &CachedClient, scope: &str) -> Result<(), OAuthError> {
    if known.client.source.is_self_registered() { Err(lacks(scope)) } else { Ok(()) }
}

/// The client may not have this scope.
pub fn lacks(scope: &str) -> OAuthError {
    OAuthError::insufficient_scope(format!("the client lacks the scope {scope}"))
}

async fn attempt(
    app: &App,
    credentials: &ClientCredentials,
    freshness: Freshness,
    caller: &RequestContext,
) -> Result<CachedClient, Error> {
    let network = Key::address(caller.address);
    // A network that has used up its failures causes no database access.
    app.limits
        .client_auth
        .peek(&network, app.clock.now())
        .map_err(|RetryAfter(wait)| Error::TooMany(wait))?;
    let id = credentials.client_id();
    let remembered = match freshness {
        Freshness::CheckedLater => app.directory.cached(id),
        Freshness::Now => None,
    };
    if let Some(known) = remembered.filter(may_be) {
        let refused = match verify(app, &known.client, credentials, caller.address).await {
            Ok(()) => return Ok(known),
            Err(refused @ Error::OAuth(_)) => refused,
            Err(other) => return Err(other),
        };
        // The client may have another secret since this process cached it.
        app.sync().await?;
        if app.directory.version() == known.version {
            note(credentials, Some(&known));
            return Err(refused);
        }
    }
    let known = clients::find(app, id, caller.address).await?;
    let Some(known) = known.filter(may_be) else {
        app.admit(Limit::ClientAuth, &network)?;
        note(credentials, None);
        return Err(refused());
    };
    let verified = verify(app, &known.client, credentials, caller.address).await;
    if verified.is_err() {
        note(credentials, Some(&known));
    }
    verified.map(|()| known)
}

/// Records which client was rejected.
fn note(credentials: &ClientCredentials, known: Option<&CachedClient>) {
    diagnostics::record("client.id", credentials.client_id());
    diagnostics::record("client.presented", credentials.name());
    diagnostics::record("client.found_and_enabled", known.is_some());
    if let Some(known) = known {
        let method = known.client.metadata.token_endpoint_auth_method;
        diagnostics::record("client.registered_method", format_args!("{method:?}"));
    }
}

/// The client of the first-party API never authenticates.
fn may_be(known: &CachedClient) -> bool {
    known.client.disabled_at.is_none() && known.client.id != FIRST_PARTY
}

/// Verifies that the credentials authenticate the client; failures are counted.
///
/// # Errors
/// `invalid_client`
async fn verify(
    app: &App,
    client: &Client,
    credentials: &ClientCredentials,
    address: IpAddr,
) -> Result<(), Error> {
    let (now, network) = (app.clock.now(), &Key::address(address));
    let method = client.metadata.token_endpoint_auth_method;
    if let (ClientCredentials::Assertion { jwt, .. }, AuthMethod::PrivateKeyJwt) =
        (credentials, method)
    {
        // Signatures cannot be guessed: counting after verification is enough.
        let verified = assertion::verify(app, client, jwt, now, address).await;
        if let Err(Error::OAuth(_)) = &verified {
            app.admit(Limit::ClientAuth, network)?;
        }
        return verified;
    }
    // Counted before verification and refunded on success, so that concurrent guesses are limited
    // too. Nothing is awaited in between, so the concurrent requests of a busy gateway do not limit
    // each other.
    app.admit(Limit::ClientAuth, network)?;
    let right = match credentials {
        ClientCredentials::Absent { .. } => method == AuthMethod::None,
        ClientCredentials::Secret { secret, .. } => {
            method.has_secret() && has_secret(client, secret, now)
        }
        ClientCredentials::Assertion { .. } => false,
    };
    if !right {
        return Err(refused());
    }
    app.limits.client_auth.refund(network);
    Ok(())
}

/// Counts a request that stores something for a self-registered client: against its network and,
/// if only the client itself can have sent it, against the client. The id of a public client is
/// everybody's.
///
/// # Errors
/// [`Error::TooMany`].
pub(crate) fn admit_write(app: &App, client: &Client, address: IpAddr) -> Result<(), Error> {
    if !client.source.is_self_registered() {
        return Ok(());
    }
    if !client.is_public() {
        app.admit(Limit::Writes, &Key::client(&client.id))?;
    }
    app.admit(Limit::Writes, &Key::address(address))
}

/// Whether this is one of the client's valid secrets, in constant time.
pub(crate) fn has_secret(client: &Client, secret: &str, now: Timestamp) -> bool {
    let hash = Sha256::digest(secret);
    let right = client
        .secrets
        .iter()
        .filter(|known| known.expires_at.is_none_or(|at| at > now))
        .fold(Choice::from(0), |right, known| right | known.hash.as_slice().ct_eq(&hash));
    right.into()
}

pub(crate) fn refused() -> Error {
    OAuthError::invalid_client("unknown client or invalid client authentication").into()
}
