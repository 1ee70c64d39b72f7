//! `/oauth2/userinfo` by GET and POST (OpenID Connect Core §5.3), as JSON or signed.

use poem::{
    Body, IntoResponse, Request, RequestBody, Response, Result, handler,
    http::{Method, StatusCode},
    web::Json,
};

use super::params;
use crate::{
    api_error::{ApiError, ErrorCode},
    credentials::bearer,
    error::Error,
    flows::oauth::userinfo as decision,
    http::context::Context,
    oauth::jwt::TokenType,
};

/// Tells the bearer of an access token about its person.
#[handler]
pub async fn userinfo(request: &Request, body: Body) -> Result<Response> {
    let app = &Context::of(request)?.app;
    let token = access_token(request, body).await?;
    let found = decision::userinfo(app, &token).await.map_err(|error| challenged(error.into()))?;
    let client = &found.known.client;
    let Some(algorithm) = client.metadata.userinfo_signed_response_alg else {
        return Ok(Json(found.claims).into_response());
    };
    let mut claims = found.claims;
    // Core §5.3.2: signed, it says who made it and for whom.
    claims.insert("iss".to_owned(), app.config.server.issuer.clone().into());
    claims.insert("aud".to_owned(), client.id.clone().into());
    let token = app
        .keys
        .sign(TokenType::UserInfo, &claims, algorithm, app.clock.now())
        .await
        .map_err(|error| ApiError::from(Error::from(error)))?;
    Ok(token.with_content_type("application/jwt").with_status(StatusCode::OK).into_response())
}

/// From the header, or from the form of a POST (RFC 6750 §2.1, §2.2); never from the address, never from both.
async fn access_token(request: &Request, body: Body) -> Result<String> {
    let in_header = bearer(request.headers())?;
    let essence = request.content_type().unwrap_or_default();
    let is_form =
        essence.trim().to_ascii_lowercase().starts_with("application/x-www-form-urlencoded");
    let in_form = if *request.method() == Method::POST && is_form {
        let params = params::from_body(request, &mut RequestBody::new(body)).await?;
        params.get("access_token").map(str::to_owned)
    } else {
        None
    };
    match (in_header, in_form) {
        (Some(_), Some(_)) => Err(ApiError {
            challenge: Some("Bearer error=\"invalid_request\"".to_owned()),
            ..ApiError::new(ErrorCode::BadRequest, "send the access token once")
                .oauth("invalid_request")
        }
        .into()),
        (Some(token), None) | (None, Some(token)) => Ok(token),
        (None, None) => Err(ApiError::from(Error::NoToken).into()),
    }
}

/// RFC 6750 §3: the error stands in WWW-Authenticate as well.
fn challenged(mut error: ApiError) -> ApiError {
    if error.code == ErrorCode::InsufficientScope {
        error.challenge = Some("Bearer error=\"insufficient_scope\", scope=\"openid\"".to_owned());
    }
    error
}
