//! `POST /oauth2/revoke` (RFC 7009). The response is sent after the revocation is effective in
//! every process.

use poem::{
    Body, Request, Response, Result, handler,
    http::{Method, StatusCode},
};

use crate::{
    api_error::ApiError,
    flows::oauth::revoke as flow,
    http::{
        api::Tag,
        client_auth,
        context::Context,
        cors::Origins,
        operation::{Operation, Security},
    },
    oauth::requests::RevocationRequest,
};

/// The revocation endpoint.
pub fn operation() -> Operation {
    Operation::new(Method::POST, "/oauth2/revoke", "revokeToken", Tag::OAuth, revoke)
        .about(
            "Revoke a token",
            "RFC 7009. Revoking a refresh token revokes its session with all access tokens. The response is sent after the \
             revocation is effective everywhere; for an invalid token it is 200 as well.",
        )
        .cross_origin(Origins::Registered)
        .form::<RevocationRequest>()
        .security(Security::AnyClient)
        .empty(200, "The token is revoked.")
        .errors(&[400, 401, 429, 503])
}

/// Revokes a client's own token of either type: `token_type_hint` is not needed, since the token
/// itself shows its type.
#[handler]
pub async fn revoke(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let (asked, known) = client_auth::authenticated::<RevocationRequest>(request, body).await?;
    flow::revoke(app, &known.client, &asked.token, caller).await.map_err(ApiError::from)?;
    Ok(Response::builder().status(StatusCode::OK).finish())
}
