//! Where a request says which client sent it (RFC 6749 §2.3): in the Authorization header or in its form, never in both.

use base64::{Engine, engine::general_purpose::STANDARD};
use poem::{
    Body, Request, RequestBody,
    http::{HeaderMap, header},
};

use crate::{
    api_error::ApiError,
    app::App,
    directory::CachedClient,
    flows::oauth::client_auth::{Freshness, Presented, authenticate, claimed_client},
    http::{context::Context, oauth::params},
    limits::{Key, Limit},
    model::actor::RequestContext,
    oauth::{error::OAuthError, params::Params},
};

/// What the request shows.
///
/// # Errors
/// `invalid_request` where it authenticates in two ways, `invalid_client` where in none.
pub fn presented(headers: &HeaderMap, params: &Params) -> Result<Presented, OAuthError> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let client_id = params.get("client_id");
    let assertion = params.get("client_assertion");
    let ways = [
        headers.contains_key(header::AUTHORIZATION),
        params.get("client_secret").is_some(),
        assertion.is_some() || params.get("client_assertion_type").is_some(),
    ];
    // Not even a broken way beside a right one is taken (Keycloak CVE-2026-16093).
    if assertion.is_some_and(|jwt| jwt.ends_with('.')) {
        return Err(OAuthError::invalid_client("the client assertion is not signed"));
    }
    if ways.into_iter().filter(|way| *way).count() > 1 {
        return Err(OAuthError::invalid_request("authenticate the client in one way, not two"));
    }
    if ways[2] {
        return asserted(params);
    }
    match (given.next(), params.get("client_secret")) {
        (Some(value), _) if given.next().is_none() => {
            let (id, secret) = basic(value.as_bytes()).ok_or_else(|| {
                OAuthError::invalid_client(
                    "the Authorization header is not Basic with id and secret",
                )
            })?;
            if client_id.is_some_and(|named| named != id) {
                return Err(OAuthError::invalid_request(
                    "client_id is not the authenticated client",
                ));
            }
            Ok(Presented::Secret { client_id: id, secret })
        }
        (Some(_), _) => Err(OAuthError::invalid_request("send one Authorization header")),
        (None, secret) => {
            let client_id = client_id
                .ok_or_else(|| match secret {
                    Some(_) => OAuthError::invalid_request("client_id is missing"),
                    None => OAuthError::invalid_client("the client does not say who it is"),
                })?
                .to_owned();
            Ok(match secret {
                Some(secret) => Presented::Secret { client_id, secret: secret.to_owned() },
                None => Presented::Nothing { client_id },
            })
        }
    }
}

/// The form of a request, and the client that sent it and has proven so.
///
/// # Errors
/// As [`presented`] and [`authenticate`].
pub async fn authenticated(request: &Request, body: Body) -> poem::Result<(Params, CachedClient)> {
    let Context { app, caller } = Context::of(request)?;
    let params = params::from_body(request, &mut RequestBody::new(body)).await?;
    let presented = presented(request.headers(), &params).map_err(ApiError::from)?;
    limit_strangers(app, caller, &presented)?;
    let known =
        authenticate(app, &presented, Freshness::Now, caller).await.map_err(ApiError::from)?;
    Ok((params, known))
}

/// Counts a request of a client that proves nothing against its network. Those that authenticate serve many people from
/// one address; their failures are counted instead.
///
/// # Errors
/// 429
pub fn limit_strangers(
    app: &App,
    caller: &RequestContext,
    presented: &Presented,
) -> Result<(), ApiError> {
    match presented {
        Presented::Nothing { .. } => Ok(app.admit(Limit::Address, &Key::address(caller.address))?),
        Presented::Secret { .. } | Presented::Assertion { .. } => Ok(()),
    }
}

/// `private_key_jwt` (RFC 7521 §4.2).
fn asserted(params: &Params) -> Result<Presented, OAuthError> {
    const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let Some(jwt) = params.get("client_assertion") else {
        return Err(OAuthError::invalid_request("client_assertion is missing"));
    };
    if params.get("client_assertion_type") != Some(TYPE) {
        return Err(OAuthError::invalid_request(format!("client_assertion_type is {TYPE}")));
    }
    let claimed = claimed_client(jwt);
    let named = params.get("client_id").map(str::to_owned);
    let client_id = named
        .or(claimed)
        .ok_or_else(|| OAuthError::invalid_client("the client assertion cannot be read"))?;
    Ok(Presented::Assertion { client_id, jwt: jwt.to_owned() })
}

/// `Basic` with the id and the secret form-encoded within, as RFC 6749 §2.3.1 wants it.
fn basic(value: &[u8]) -> Option<(String, String)> {
    let value = std::str::from_utf8(value).ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    let form_decode = |text: &str| {
        // Encoded there is no `&`. What comes as it is does not end there.
        let pair = format!("v={}", text.replace('&', "%26"));
        url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned())
    };
    Some((form_decode(id)?, form_decode(secret)?))
}
