//! Pushed authorization requests (RFC 9126): the client sends its request in advance, and the
//! browser carries a reference.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::request::{self, Refused};
use crate::{
    app::App,
    directory::CachedClient,
    error::Error,
    flows::{admin::clients::document, oauth::client_auth, tokens::dpop},
    ids::{BrowserSessionId, ClientId},
    model::{actor::RequestContext, client::Client},
    oauth::{
        authorization_request::RequestSource,
        error::OAuthError,
        params::{Parameters, Params},
    },
    storage::pushed_requests,
};

/// RFC 9126 §2.2
const PREFIX: &str = "urn:ietf:params:oauth:request_uri:";

/// The parameters that authenticate the client and are not part of the request.
const CREDENTIALS: [&str; 4] =
    ["client_secret", "client_assertion", "client_assertion_type", "resume"];

/// Longer requests are rejected: they would be stored for untrusted clients.
const LONGEST: usize = 16 * 1024;

/// A reference to a stored request.
#[derive(Debug)]
pub struct Pushed {
    pub request_uri: String,
    /// Seconds.
    pub expires_in: u64,
}

/// Validates an authenticated client's request as the authorization endpoint does, and stores it. A
/// DPoP proof that comes with it binds the code to its key (RFC 9449 §10.1).
///
/// # Errors
/// The errors of the authorization endpoint, in the form of the token endpoint (§2.3);
/// [`Error::TooMany`].
pub async fn push(
    app: &App,
    known: &CachedClient,
    params: &Params,
    proof: Option<&dpop::Presented>,
    caller: &RequestContext,
) -> Result<Pushed, Error> {
    let request = params.without(&CREDENTIALS);
    let request = match request.get("client_id") {
        Some(_) => request,
        None => request.with("client_id", known.client.id.as_str()),
    };
    let source = RequestSource::of(&request)?;
    if source.request_uri.is_some() {
        return Err(OAuthError::invalid_request(
            "`request_uri` must not be pushed (RFC 9126 section 2.1)",
        )
        .into());
    }
    if source.client_id != known.client.id.as_str() {
        return Err(
            OAuthError::invalid_request("`client_id` must be the authenticated client").into()
        );
    }
    // The parameters are stored; the signature of a signed request is verified here, once.
    let object = source.request.as_deref();
    let effective = request::open(app, &known.client, &request, object).await?;
    let effective = with_key(app, &known.client, effective.params, proof, caller).await?;
    let encoded = effective.encode();
    if encoded.len() > LONGEST {
        return Err(OAuthError::invalid_request("the request must be at most 16384 bytes").into());
    }
    match request::read_effective(app, known.clone(), effective, None).await {
        Ok(_) => {}
        Err(Refused::Page(error)) => return Err(error),
        Err(Refused::Callback(_, error)) => return Err(error.into()),
    }
    client_auth::admit_write(app, &known.client, caller.address)?;
    let secret = app.rng.bytes::<32>();
    let ttl = app.config.authorization.pushed_request_ttl;
    let expires_at = app.clock.now() + ttl;
    let id = Sha256::digest(secret).into();
    document::keep(app, &known.client, caller.address).await?;
    pushed_requests::insert(&app.db, id, &known.client.id, &encoded, expires_at).await?;
    Ok(Pushed {
        request_uri: format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret)),
        expires_in: ttl.as_secs(),
    })
}

/// The request with the key that the client has proven to have.
async fn with_key(
    app: &App,
    client: &Client,
    request: Params,
    proof: Option<&dpop::Presented>,
    caller: &RequestContext,
) -> Result<Params, Error> {
    if proof.is_none() {
        return Ok(request);
    }
    let Some(key) = dpop::of_client(app, client, proof, caller).await? else {
        return Ok(request);
    };
    let key = key.to_string();
    match request.get("dpop_jkt") {
        Some(named) if named != key => {
            Err(OAuthError::invalid_dpop_proof("`dpop_jkt` is not the key of the DPoP proof")
                .into())
        }
        Some(_) => Ok(request),
        None => Ok(request.with("dpop_jkt", key)),
    }
}

/// Where a request comes from that was pushed.
#[derive(Debug)]
pub struct Origin {
    /// The id of its row.
    pub id: [u8; 32],
    /// The browser session that used it.
    pub used_by: Option<BrowserSessionId>,
}

fn gone() -> OAuthError {
    OAuthError::invalid_request_uri(
        "`request_uri` is unknown, expired or used: start again from the application",
    )
}

impl Origin {
    /// A user who presses a button twice or reloads the page gets an answer again; any other
    /// browser does not (RFC 9126 §4). `browser_session_id`: `None` if nobody is logged in.
    ///
    /// # Errors
    /// `invalid_request_uri`
    pub fn check(&self, browser_session_id: Option<&BrowserSessionId>) -> Result<(), OAuthError> {
        match &self.used_by {
            Some(used_by) if browser_session_id != Some(used_by) => Err(gone()),
            _ => Ok(()),
        }
    }
}

/// The request of a reference.
pub(crate) async fn find(
    app: &App,
    client_id: &ClientId,
    request_uri: &str,
) -> Result<(Params, Origin), Error> {
    let Some(secret) = request_uri.strip_prefix(PREFIX) else {
        return Err(OAuthError::request_uri_not_supported(
            "`request_uri` must be from the pushed authorization request endpoint",
        )
        .into());
    };
    let secret: Vec<u8> = URL_SAFE_NO_PAD.decode(secret).map_err(|_| gone())?;
    let id: [u8; 32] = Sha256::digest(secret).into();
    let found = pushed_requests::find(&app.db, id, client_id, app.clock.now()).await?;
    let found = found.ok_or_else(gone)?;
    let params =
        Params::parse(found.parameters.as_bytes()).map_err(|why| Error::Unavailable(why.into()))?;
    Ok((params, Origin { id, used_by: found.used_by }))
}
