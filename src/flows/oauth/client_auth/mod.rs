//! Client authentication (RFC 6749 §2.3): who asks at the token endpoint and its neighbours.

mod assertion;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::{
    app::App,
    clock::Timestamp,
    diagnostics,
    directory::CachedClient,
    error::Error,
    flows::admin::clients,
    limits::{Key, Limit, RetryAfter},
    model::{
        actor::RequestContext,
        client::{AuthMethod, Client, FIRST_PARTY},
    },
    oauth::error::OAuthError,
};

/// What a request shows to prove which client sent it; one way, never two.
#[derive(Debug)]
pub enum Presented {
    /// A public client only says who it is.
    Nothing {
        client_id: String,
    },
    Secret {
        client_id: String,
        secret: String,
    },
    /// `private_key_jwt` (OpenID Connect Core §9).
    Assertion {
        client_id: String,
        jwt: String,
    },
}

/// How much this process must ask before it believes what it remembers of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The client is as it was committed before the request came.
    Now,
    /// The client may be older: the statement that follows checks its [`CachedClient::version`] by itself.
    CheckedLater,
}

impl Presented {
    const fn name(&self) -> &'static str {
        match self {
            Self::Nothing { .. } => "nothing",
            Self::Secret { .. } => "a secret",
            Self::Assertion { .. } => "an assertion",
        }
    }

    fn client_id(&self) -> &str {
        match self {
            Self::Nothing { client_id }
            | Self::Secret { client_id, .. }
            | Self::Assertion { client_id, .. } => client_id,
        }
    }
}

/// Whom an assertion says to come from, where the request does not say so beside it; believed by nobody yet.
pub fn claimed_client(jwt: &str) -> Option<String> {
    assertion::claimed_client(jwt)
}

/// Finds the client and checks its proof.
///
/// # Errors
/// `invalid_client`, never saying whether the client or its proof was wrong; [`Error::TooMany`] after too many failures
/// from this network.
pub async fn authenticate(
    app: &App,
    presented: &Presented,
    freshness: Freshness,
    caller: &RequestContext,
) -> Result<CachedClient, Error> {
    let network = Key::address(caller.address);
    // Who has used up their failures does not even get a look at the database.
    app.limits
        .client_auth
        .peek(&network, app.clock.now())
        .map_err(|RetryAfter(wait)| Error::TooMany(wait))?;
    let id = presented.client_id();
    let remembered = match freshness {
        Freshness::CheckedLater => app.directory.cached(id),
        Freshness::Now => None,
    };
    if let Some(known) = remembered.filter(may_be) {
        if proves(app, &known.client, presented, &network).await? {
            return Ok(known);
        }
        // It may have another secret since this process read it.
        app.sync().await?;
        if app.directory.version() == known.version {
            return Err(refused());
        }
    }
    let known = clients::find(app, id, caller.address).await?;
    let known = known.filter(may_be);
    let right = match &known {
        Some(known) => proves(app, &known.client, presented, &network).await?,
        None => {
            app.admit(Limit::ClientAuth, &network)?;
            false
        }
    };
    if !right {
        note(presented, known.as_ref());
    }
    known.filter(|_| right).ok_or_else(refused)
}

/// Who was refused, for those who are asked why.
fn note(presented: &Presented, known: Option<&CachedClient>) {
    diagnostics::record("client.id", presented.client_id());
    diagnostics::record("client.shown", presented.name());
    diagnostics::record("client.known_and_enabled", known.is_some());
    if let Some(known) = known {
        let method = known.client.metadata.token_endpoint_auth_method;
        diagnostics::record("client.registered_method", format_args!("{method:?}"));
    }
}

/// The first-party API's client never comes as a client.
fn may_be(known: &CachedClient) -> bool {
    known.client.disabled_at.is_none() && known.client.id != FIRST_PARTY
}

/// Whether the client's proof is right; a wrong one counts.
async fn proves(
    app: &App,
    client: &Client,
    presented: &Presented,
    network: &Key,
) -> Result<bool, Error> {
    let now = app.clock.now();
    let method = client.metadata.token_endpoint_auth_method;
    if let (Presented::Assertion { jwt, .. }, AuthMethod::PrivateKeyJwt) = (presented, method) {
        // Nobody guesses a signature: counting after the look is enough.
        let right = assertion::proves(app, client, jwt, now).await?;
        if !right {
            app.admit(Limit::ClientAuth, network)?;
        }
        return Ok(right);
    }
    // Counted before the look, and forgiven where it was right: guesses at once are no way round. Nothing is awaited in
    // between, so a busy gateway's own requests do not stand in each other's way.
    app.admit(Limit::ClientAuth, network)?;
    let right = match presented {
        Presented::Nothing { .. } => method == AuthMethod::None,
        Presented::Secret { secret, .. } => method.has_secret() && has_secret(client, secret, now),
        Presented::Assertion { .. } => false,
    };
    if right {
        app.limits.client_auth.refund(network);
    }
    Ok(right)
}

/// Whether this is one of the client's live secrets, in the same time whichever it is.
pub(crate) fn has_secret(client: &Client, secret: &str, now: Timestamp) -> bool {
    let presented = Sha256::digest(secret);
    let right = client
        .secrets
        .iter()
        .filter(|known| known.expires_at.is_none_or(|at| at > now))
        .fold(Choice::from(0), |right, known| right | known.hash.as_slice().ct_eq(&presented));
    right.into()
}

fn refused() -> Error {
    OAuthError::invalid_client("the client is unknown, or its authentication is wrong").into()
}
