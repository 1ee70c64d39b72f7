//! `POST /oauth2/token` (RFC 6749 §3.2). The order of the checks: the request's form, the client, the
//! grant type, the grant.

use base64::{Engine, engine::general_purpose::STANDARD};
use poem::{
    Body, IntoResponse, Request, RequestBody, Response, Result, handler,
    http::{HeaderMap, header},
    web::Json,
};
use serde::Serialize;

use super::params::Params;
use crate::{
    flows::client_credentials::{self, authenticate},
    http::{
        context::Context,
        error::{ApiError, ErrorCode},
    },
    limits::{Key, Limit},
    oauth::scope::Scope,
};

/// RFC 6749 §5.1
#[derive(Serialize)]
struct TokenResponse {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    scope: String,
}

/// Issues tokens to clients.
#[handler]
pub async fn token(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    app.admit(Limit::Address, &Key::address(caller.address))
        .map_err(ApiError::from)?;
    let params = Params::from_body(request, &mut RequestBody::new(body)).await?;
    let (id, secret) = client_secret(request.headers(), &params)?;
    let client = authenticate(app, &id, &secret, caller)
        .await
        .map_err(ApiError::from)?
        .ok_or_else(invalid_client)?;
    match params.get("grant_type") {
        Some("client_credentials") => {}
        Some(_) => {
            return Err(bad(
                "unsupported_grant_type",
                "this server knows the grant client_credentials",
            )
            .into());
        }
        None => return Err(bad("invalid_request", "grant_type is missing").into()),
    }
    let asked = params
        .get("scope")
        .map(Scope::parse)
        .transpose()
        .map_err(|why| bad("invalid_scope", why))?;
    let issued = client_credentials::issue(app, &client, asked)
        .await
        .map_err(ApiError::from)?;
    let issued =
        issued.ok_or_else(|| bad("invalid_scope", "this client may not ask for that scope"))?;
    let response = TokenResponse {
        access_token: issued.access_token,
        token_type: "Bearer",
        expires_in: issued.expires_in,
        scope: issued.scope.to_string(),
    };
    // Cache-Control: no-store comes from the edge (RFC 6749 §5.1).
    Ok(Json(response).into_response())
}

/// The client's id and secret, from the Authorization header or the form (RFC 6749 §2.3.1), never both.
fn client_secret(headers: &HeaderMap, params: &Params) -> Result<(String, String), ApiError> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let in_form = params.get("client_secret");
    match (given.next(), in_form) {
        (Some(_), Some(_)) => Err(bad(
            "invalid_request",
            "authenticate the client in one way, not two",
        )),
        (Some(value), None) if given.next().is_none() => {
            let (id, secret) = basic(value.as_bytes()).ok_or_else(invalid_client)?;
            if params.get("client_id").is_some_and(|named| named != id) {
                return Err(bad(
                    "invalid_request",
                    "client_id is not the authenticated client",
                ));
            }
            Ok((id, secret))
        }
        (Some(_), None) => Err(bad("invalid_request", "send one Authorization header")),
        (None, Some(secret)) => {
            let id = params
                .get("client_id")
                .ok_or_else(|| bad("invalid_request", "client_id is missing"))?;
            Ok((id.to_owned(), secret.to_owned()))
        }
        (None, None) => Err(invalid_client()),
    }
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
        let pair = format!("v={text}");
        url::form_urlencoded::parse(pair.as_bytes())
            .next()
            .map(|(_, value)| value.into_owned())
    };
    Some((form_decode(id)?, form_decode(secret)?))
}

fn invalid_client() -> ApiError {
    ApiError {
        challenge: Some("Basic realm=\"propusk\"".to_owned()),
        ..ApiError::new(
            ErrorCode::InvalidCredentials,
            "the client is unknown or its secret is wrong",
        )
        .oauth("invalid_client")
    }
}

fn bad(error: &'static str, message: &str) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, message).oauth(error)
}
