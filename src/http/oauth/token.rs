//! `POST /oauth2/token` (RFC 6749 §3.2). The order of the checks: the request's form, the client, the
//! grant type, the grant.

use poem::{Body, IntoResponse, Request, RequestBody, Response, Result, handler, web::Json};
use serde::Serialize;

use super::params;
use crate::{
    api_error::ApiError,
    flows::oauth::token as grants,
    http::{client_auth, context::Context},
};

/// RFC 6749 §5.1
#[derive(Serialize)]
struct TokenResponse {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
}

/// Issues tokens to clients.
#[handler]
pub async fn token(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let params = params::from_body(request, &mut RequestBody::new(body)).await?;
    let presented = client_auth::presented(request.headers(), &params).map_err(ApiError::from)?;
    client_auth::limit_strangers(app, caller, &presented)?;
    let issued = grants::issue(app, &presented, &params, caller).await.map_err(ApiError::from)?;
    let response = TokenResponse {
        access_token: issued.access_token,
        token_type: "Bearer",
        expires_in: issued.expires_in,
        scope: issued.scope.to_string(),
        refresh_token: issued.refresh_token,
        id_token: issued.id_token,
    };
    // Cache-Control: no-store comes from the edge (RFC 6749 §5.1).
    Ok(Json(response).into_response())
}
