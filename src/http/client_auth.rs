//! Client authentication of a request (RFC 6749 §2.3): the Authorization header or the form, never
//! both.

use base64::{Engine, engine::general_purpose::STANDARD};
use poem::{
    Body, Request, RequestBody,
    http::{HeaderMap, header},
};

use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    directory::CachedClient,
    error::Error,
    flows::oauth::client_auth::{ClientCredentials, Freshness, authenticate, claimed_client},
    http::{context::Context, oauth::params},
    limits::{Key, Limit},
    model::actor::RequestContext,
    oauth::{error::OAuthError, params::Parameters, requests::ClientParameters},
};

/// The client credentials of a request.
///
/// # Errors
/// `invalid_request` if the request uses more than one authentication method, `invalid_client` if
/// it names no client.
pub fn credentials(
    headers: &HeaderMap,
    form: ClientParameters,
) -> Result<ClientCredentials, OAuthError> {
    let mut authorization = headers.get_all(header::AUTHORIZATION).iter();
    let has_assertion = form.client_assertion.is_some() || form.client_assertion_type.is_some();
    // Not even a malformed method beside a valid one is accepted (Keycloak CVE-2026-16093).
    if form.client_assertion.as_ref().is_some_and(|jwt| jwt.ends_with('.')) {
        return Err(OAuthError::invalid_client("`client_assertion` must be signed"));
    }
    let methods =
        [headers.contains_key(header::AUTHORIZATION), form.client_secret.is_some(), has_assertion];
    if methods.into_iter().filter(|used| *used).count() > 1 {
        return Err(OAuthError::invalid_request("use a single client authentication method"));
    }
    if has_assertion {
        return assertion(form);
    }
    match (authorization.next(), form.client_secret.map(|secret| secret.0)) {
        (Some(value), _) if authorization.next().is_none() => {
            let (client_id, secret) = basic(value.as_bytes()).ok_or_else(|| {
                OAuthError::invalid_client(
                    "the Authorization header must be `Basic` with client id and secret",
                )
            })?;
            if form.client_id.is_some_and(|named| named != client_id) {
                return Err(OAuthError::invalid_request(
                    "`client_id` must be the authenticated client",
                ));
            }
            Ok(ClientCredentials::Secret { client_id: client_id.into(), secret })
        }
        (Some(_), _) => Err(OAuthError::invalid_request("duplicate Authorization header")),
        (None, Some(secret)) => match form.client_id {
            Some(client_id) => {
                Ok(ClientCredentials::Secret { client_id: client_id.into(), secret })
            }
            None => Err(OAuthError::invalid_request("`client_id` is missing")),
        },
        (None, None) => match form.client_id {
            Some(client_id) => Ok(ClientCredentials::Absent { client_id: client_id.into() }),
            None => Err(OAuthError::invalid_client("client authentication is missing")),
        },
    }
}

/// The typed request in a form, and the authenticated client that sent it.
///
/// # Errors
/// As [`credentials`], [`authenticate`] and [`Parameters::of`].
pub async fn authenticated<T: Parameters>(
    request: &Request,
    body: Body,
) -> poem::Result<(T, CachedClient)> {
    let Context { app, caller } = Context::of(request)?;
    let params = params::from_body(request, &mut RequestBody::new(body)).await?;
    let form = ClientParameters::of(&params).map_err(ApiError::from)?;
    let refused = |error| refused(request.headers(), error);
    let credentials =
        credentials(request.headers(), form).map_err(|error| refused(error.into()))?;
    limit_unauthenticated(app, caller, &credentials)?;
    let known = authenticate(app, &credentials, Freshness::Now, caller).await.map_err(refused)?;
    Ok((T::of(&params).map_err(ApiError::from)?, known))
}

/// The response to failed client authentication (RFC 6749 §5.2): 401 with a challenge answers an
/// Authorization header. Without one it is 400, since HTTP clients react to a challenge before the
/// application reads the error.
pub fn refused(headers: &HeaderMap, error: Error) -> ApiError {
    let error = ApiError::from(error);
    if error.code != ErrorCode::InvalidClient || headers.contains_key(header::AUTHORIZATION) {
        return error;
    }
    ApiError { code: ErrorCode::BadRequest, challenge: None, ..error }
}

/// Counts a request without client authentication against its network. Authenticating clients serve
/// many users from one address; their failures are counted instead.
///
/// # Errors
/// 429
pub fn limit_unauthenticated(
    app: &App,
    caller: &RequestContext,
    credentials: &ClientCredentials,
) -> Result<(), ApiError> {
    match credentials {
        ClientCredentials::Absent { .. } => {
            Ok(app.admit(Limit::Address, &Key::address(caller.address))?)
        }
        ClientCredentials::Secret { .. } | ClientCredentials::Assertion { .. } => Ok(()),
    }
}

/// `private_key_jwt` (RFC 7521 §4.2).
fn assertion(form: ClientParameters) -> Result<ClientCredentials, OAuthError> {
    const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let Some(jwt) = form.client_assertion else {
        return Err(OAuthError::invalid_request("`client_assertion` is missing"));
    };
    if form.client_assertion_type.as_deref() != Some(TYPE) {
        let refused = format!("`client_assertion_type` must be `{TYPE}`");
        return Err(OAuthError::invalid_request(refused));
    }
    let client_id = form.client_id.map(Into::into).or_else(|| claimed_client(&jwt));
    let client_id = client_id.ok_or_else(|| {
        OAuthError::invalid_client("`client_assertion` must be a JWT whose `sub` is the client_id")
    })?;
    Ok(ClientCredentials::Assertion { client_id, jwt })
}

/// `Basic` with form-encoded id and secret (RFC 6749 §2.3.1).
fn basic(value: &[u8]) -> Option<(String, String)> {
    let value = std::str::from_utf8(value).ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    let form_decode = |text: &str| {
        // An encoded value has no `&`; in one that was sent unencoded it is part of the value.
        let pair = format!("v={}", text.replace('&', "%26"));
        url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned())
    };
    Some((form_decode(id)?, form_decode(secret)?))
}
