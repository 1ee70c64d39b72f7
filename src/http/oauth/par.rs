//! `POST /oauth2/par` (RFC 9126): a client hands over its authorization request.

use poem::{Body, IntoResponse, Request, Response, Result, handler, http::StatusCode, web::Json};
use serde_json::json;

use crate::{
    api_error::ApiError,
    flows::oauth::authorize::pushed,
    http::{client_auth, context::Context},
};

/// Keeps an authenticated client's request and answers with its reference.
#[handler]
pub async fn push(request: &Request, body: Body) -> Result<Response> {
    let app = &Context::of(request)?.app;
    let (params, known) = client_auth::authenticated(request, body).await?;
    let pushed = pushed::push(app, &known, &params).await.map_err(ApiError::from)?;
    let answer = json!({ "request_uri": pushed.request_uri, "expires_in": pushed.expires_in });
    Ok(Json(answer).with_status(StatusCode::CREATED).into_response())
}
