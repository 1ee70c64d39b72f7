//! DPoP (RFC 9449): whether the sender of a request has proven to have the key that its tokens are
//! bound to. A proof is accepted once, across all processes.

use crate::{
    app::App,
    caches::verified_tokens::Verified,
    diagnostics,
    dpop::Proof,
    error::Error,
    flows::oauth::client_auth,
    limits::{Key, Limit},
    model::{actor::RequestContext, client::Client},
    oauth::{error::OAuthError, jwt::InvalidToken, thumbprint::Thumbprint},
    storage::single_use::{self, Kind},
};

/// The `DPoP` header of a request, and the request that it must be about.
#[derive(Clone, Debug)]
pub struct Presented {
    pub proof: String,
    pub method: String,
    pub url: String,
}

/// The key that an authenticated client has proven to have, for the tokens it requests; `None`
/// without a proof.
///
/// # Errors
/// `invalid_dpop_proof`, also where a client that must send a proof sends none; [`Error::TooMany`]:
/// each proof is stored.
pub(crate) async fn of_client(
    app: &App,
    client: &Client,
    presented: Option<&Presented>,
    caller: &RequestContext,
) -> Result<Option<Thumbprint>, Error> {
    let key = match presented {
        Some(presented) => {
            client_auth::admit_write(app, client, caller.address)?;
            Some(prove(app, presented, None).await?)
        }
        None => None,
    };
    must_be_bound(client, key)?;
    Ok(key)
}

/// Refuses bearer tokens to a client that has registered for bound ones (RFC 9449 §5.2).
///
/// # Errors
/// `invalid_dpop_proof`
pub(crate) fn must_be_bound(client: &Client, key: Option<Thumbprint>) -> Result<(), OAuthError> {
    if key.is_some() || !client.metadata.dpop_bound_access_tokens {
        return Ok(());
    }
    Err(refused("the client gets no bearer tokens: send a DPoP proof to the token endpoint"))
}

/// Refuses what is bound to another key than the one that was proven.
///
/// # Errors
/// `invalid_dpop_proof` without a proof, `invalid_grant` for another key.
pub(crate) fn must_be_of(
    bound: Option<Thumbprint>,
    proven: Option<Thumbprint>,
    what: &str,
) -> Result<(), OAuthError> {
    match (bound, proven) {
        (None, _) => Ok(()),
        (Some(bound), Some(proven)) if bound == proven => Ok(()),
        (Some(bound), proven) => {
            diagnostics::record("dpop.bound_to", bound);
            match proven {
                Some(proven) => {
                    diagnostics::record("dpop.proven", proven);
                    Err(OAuthError::invalid_grant(format!("the {what} is bound to another key")))
                }
                None => Err(refused(format!("the {what} is bound to a key: send a DPoP proof"))),
            }
        }
    }
}

/// Checks that the sender of an access token has the key that the token is bound to.
///
/// # Errors
/// [`Error::InvalidToken`] for a token that is bound to another key, or to none;
/// `invalid_dpop_proof`; [`Error::TooMany`].
pub(crate) async fn of_token(
    app: &App,
    verified: &Verified,
    token: &str,
    presented: &Presented,
) -> Result<(), Error> {
    let Some(bound) = verified.claims.cnf else {
        let why = "it is a bearer token: send it by the scheme `Bearer`";
        return Err(Error::InvalidToken(InvalidToken(why)));
    };
    app.admit(Limit::Proofs, &Key::proof(&bound.jkt.0))?;
    prove(app, presented, Some((token, bound.jkt))).await.map(drop)
}

/// Refuses a bound token that comes without a proof (RFC 9449 §7.2).
///
/// # Errors
/// [`InvalidToken`]
pub fn must_be_bearer(verified: &Verified) -> Result<(), InvalidToken> {
    if verified.claims.cnf.is_none() {
        return Ok(());
    }
    diagnostics::record("token.cnf", "a DPoP key");
    Err(InvalidToken("it is bound to a DPoP key and no bearer token"))
}

/// Verifies a proof, and uses it up. With an access token, the key must be the token's: only the
/// owner of a token stores anything.
async fn prove(
    app: &App,
    presented: &Presented,
    token: Option<(&str, Thumbprint)>,
) -> Result<Thumbprint, Error> {
    let invalid = |why: InvalidToken| refused(format!("invalid DPoP proof: {why}"));
    let Presented { proof, method, url } = presented;
    let proof = Proof::parse(proof).map_err(invalid)?;
    let checked = proof.check(method, url, token.map(|(token, _)| token), app.clock.now());
    if checked.is_err() {
        diagnostics::record("dpop.method", method);
        diagnostics::record("dpop.url", url);
    }
    checked.map_err(invalid)?;
    if let Some((_, bound)) = token
        && bound != proof.key
    {
        diagnostics::record("dpop.bound_to", bound);
        diagnostics::record("dpop.proven", proof.key);
        return Err(Error::InvalidToken(InvalidToken("it is bound to another DPoP key")));
    }
    let (owner, until) = (proof.key.to_string(), proof.retained_until());
    if single_use::claim(&app.db, Kind::DpopProof, &owner, proof.jti(), until).await? {
        return Ok(proof.key);
    }
    Err(invalid(InvalidToken("`jti` was used before: each proof is accepted once")).into())
}

fn refused(why: impl Into<std::borrow::Cow<'static, str>>) -> OAuthError {
    let why = why.into();
    diagnostics::record("dpop.proof", &why);
    OAuthError::invalid_dpop_proof(why)
}
