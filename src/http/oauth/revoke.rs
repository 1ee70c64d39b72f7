//! `POST /oauth2/revoke` (RFC 7009). 200 comes after the revocation holds on every process.

use poem::{Body, Request, Response, Result, handler, http::StatusCode};

use crate::{
    api_error::ApiError,
    flows::oauth::revoke as decision,
    http::{client_auth, context::Context},
    oauth::error::OAuthError,
};

/// Revokes a client's own token, of either kind: `token_type_hint` is not needed, since a token shows what it is.
#[handler]
pub async fn revoke(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let (params, known) = client_auth::authenticated(request, body).await?;
    let token = params
        .get("token")
        .ok_or_else(|| ApiError::from(OAuthError::invalid_request("token is missing")))?;
    decision::revoke(app, &known.client, token, caller).await.map_err(ApiError::from)?;
    Ok(Response::builder().status(StatusCode::OK).finish())
}
