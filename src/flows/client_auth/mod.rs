//! Client authentication (RFC 6749 §2.3): who asks at the token endpoint and its neighbours.

mod assertion;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::{
    app::App,
    clock::Timestamp,
    directory::Known,
    flows::{Caller, Error},
    limits::{Key, Limit},
    model::client::{AuthMethod, Client, FIRST_PARTY},
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
    /// The client may be older: the statement that follows checks its [`Known::version`] by itself.
    CheckedLater,
}

impl Presented {
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
    caller: &Caller,
) -> Result<Known, Error> {
    // Counted before the proof is looked at, and forgiven where it was right: guesses at once are no way round.
    let network = Key::address(caller.address);
    app.admit(Limit::ClientAuth, &network)?;
    let id = presented.client_id();
    let known = match freshness {
        Freshness::CheckedLater => app.directory.remembered(id),
        Freshness::Now => None,
    };
    let known = match known {
        Some(known) => Some(known).filter(|known| known.client.disabled_at.is_none()),
        None => app.client(id).await?,
    };
    let known = known.filter(|known| known.client.id != FIRST_PARTY);
    let Some(known) = known else {
        return Err(refused());
    };
    if !proves(app, &known.client, presented).await? {
        return Err(refused());
    }
    app.limits.client_auth.refund(&network);
    Ok(known)
}

async fn proves(app: &App, client: &Client, presented: &Presented) -> Result<bool, Error> {
    let now = app.clock.now();
    let method = client.metadata.token_endpoint_auth_method;
    match presented {
        Presented::Nothing { .. } => Ok(method == AuthMethod::None),
        Presented::Secret { secret, .. } => {
            Ok(method.has_secret() && has_secret(client, secret, now))
        }
        Presented::Assertion { jwt, .. } if method == AuthMethod::PrivateKeyJwt => {
            assertion::proves(app, client, jwt, now).await
        }
        Presented::Assertion { .. } => Ok(false),
    }
}

/// Whether this is one of the client's live secrets, in the same time whichever it is.
fn has_secret(client: &Client, secret: &str, now: Timestamp) -> bool {
    let presented = Sha256::digest(secret);
    let right = client
        .secrets
        .iter()
        .filter(|known| known.expires_at.is_none_or(|at| at > now))
        .fold(Choice::from(0), |right, known| {
            right | known.hash.as_slice().ct_eq(&presented)
        });
    right.into()
}

fn refused() -> Error {
    OAuthError::invalid_client("the client is unknown, or its authentication is wrong").into()
}
