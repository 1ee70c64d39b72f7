//! `POST /oauth2/introspect` (RFC 7662), answered as JSON or, by Accept, as a signed JWT (RFC 9701).

use poem::{Body, IntoResponse, Request, Response, Result, handler, http::header, web::Json};
use serde_json::json;

use crate::{
    api_error::ApiError,
    error::Error,
    flows::{oauth::introspect as decision, tokens::id_token},
    http::{client_auth, context::Context},
    oauth::{error::OAuthError, jwt::TokenType},
};

const SIGNED: &str = "application/token-introspection+jwt";

/// Tells an authenticated client what a token is worth.
#[handler]
pub async fn introspect(request: &Request, body: Body) -> Result<Response> {
    let app = &Context::of(request)?.app;
    let (params, known) = client_auth::authenticated(request, body).await?;
    let client = &known.client;
    if client.is_public() {
        let refused = OAuthError::invalid_client("introspection is for clients that authenticate");
        return Err(ApiError::from(refused).into());
    }
    let token = params
        .get("token")
        .ok_or_else(|| ApiError::from(OAuthError::invalid_request("token is missing")))?;
    let answer = decision::introspect(app, client, token).await.map_err(ApiError::from)?;
    let accept = request.headers().get(header::ACCEPT);
    let wants_jwt =
        accept.is_some_and(|accept| accept.to_str().is_ok_and(|accept| accept.contains(SIGNED)));
    if !wants_jwt {
        return Ok(Json(answer).into_response());
    }
    let now = app.clock.now();
    let algorithm = id_token::algorithm(app, client.metadata.introspection_signed_response_alg);
    // RFC 9701 §5: the answer stands in one claim, so that it cannot be taken for an access token.
    let claims = json!({
        "iss": app.config.server.issuer,
        "aud": client.id,
        "iat": now.as_secs(),
        "token_introspection": answer,
    });
    let token = app
        .keys
        .sign(TokenType::Introspection, &claims, algorithm, now)
        .await
        .map_err(|error| ApiError::from(Error::from(error)))?;
    Ok(token.with_content_type(SIGNED).into_response())
}
