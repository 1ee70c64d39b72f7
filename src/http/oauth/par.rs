//! `POST /oauth2/par` (RFC 9126): a client hands over its authorization request.

use poem::{
    Body, IntoResponse, Request, RequestBody, Response, Result, handler, http::StatusCode,
    web::Json,
};
use serde_json::json;

use super::params;
use crate::{
    flows::{
        authorize::pushed,
        client_auth::{self, Freshness},
    },
    http::{client_auth as shown, context::Context, error::ApiError},
};

/// Keeps an authenticated client's request and answers with its reference.
#[handler]
pub async fn push(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let params = params::from_body(request, &mut RequestBody::new(body)).await?;
    let presented = shown::presented(request.headers(), &params).map_err(ApiError::from)?;
    shown::limit_strangers(app, caller, &presented)?;
    let known = client_auth::authenticate(app, &presented, Freshness::Now, caller)
        .await
        .map_err(ApiError::from)?;
    let pushed = pushed::push(app, &known, &params)
        .await
        .map_err(ApiError::from)?;
    let answer = json!({ "request_uri": pushed.request_uri, "expires_in": pushed.expires_in });
    Ok(Json(answer)
        .with_status(StatusCode::CREATED)
        .into_response())
}
