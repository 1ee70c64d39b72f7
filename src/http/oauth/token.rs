//! `POST /oauth2/token` (RFC 6749 §3.2). The order of the checks: the form and its grant type, the
//! client, the grant.

use poem::{
    Body, IntoResponse, Request, RequestBody, Response, Result, handler, http::Method, web::Json,
};
use poem_openapi::Object;
use serde::Serialize;

use super::params;
use crate::{
    api_error::ApiError,
    credentials::dpop_proof,
    flows::oauth::token as flow,
    http::{
        api::{Tag, data::TokenType},
        client_auth,
        context::Context,
        cors::Origins,
        operation::{Operation, Security},
    },
    oauth::{
        params::Parameters,
        requests::ClientParameters,
        token_request::{TokenForm, TokenRequest, TokenTypeIdentifier},
    },
};

/// The token endpoint.
pub fn operation() -> Operation {
    Operation::new(Method::POST, "/oauth2/token", "requestTokens", Tag::OAuth, token)
        .about(
            "Request tokens",
            "RFC 6749 §3.2. Refresh tokens rotate: each is valid once. A retry within seconds gets the same response; a later \
             reuse revokes the session. The JWT bearer grant (RFC 7523) is for back ends that keep their own users: \
             docs/back-ends.md. With a DPoP proof in the header `DPoP` (RFC 9449) the tokens are bound to its key: docs/dpop.md.",
        )
        .cross_origin(Origins::Registered)
        .form::<TokenForm>()
        .security(Security::AnyClient)
        .example("grant_type", "client_credentials")
        .json::<TokenBody>(200, "The tokens.")
        .errors(&[400, 401, 429, 503])
}

/// The response of the token endpoint (RFC 6749 §5.1).
#[derive(Serialize, Object)]
#[oai(rename = "OAuthTokens")]
struct TokenBody {
    /// A JWT access token (RFC 9068).
    access_token: String,
    /// The type of `access_token` in a token exchange (RFC 8693 §2.2.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<TokenTypeIdentifier>,
    /// `Bearer`; `DPoP` for one that is bound to the key of the request's DPoP proof; `N_A` for an ID-JAG, which is no access token.
    token_type: TokenType,
    /// Seconds.
    expires_in: u64,
    /// The scope of the access token, which may be narrower than requested; absent where it is
    /// empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// Replaces the previous refresh token.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// With the scope `openid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
}

/// Issues tokens to clients.
#[handler]
pub async fn token(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let params = params::from_body(request, &mut RequestBody::new(body)).await?;
    let client = ClientParameters::of(&params).map_err(ApiError::from)?;
    let refused = |error| client_auth::refused(request.headers(), error);
    let credentials = client_auth::credentials(request.headers(), client)
        .map_err(|error| refused(error.into()))?;
    client_auth::limit_unauthenticated(app, caller, &credentials)?;
    let form = TokenForm::of(&params).map_err(ApiError::from)?;
    let asked = TokenRequest::parse(form).map_err(ApiError::from)?;
    let proof = dpop_proof(request.headers())?.map(|proof| params::presented(request, app, proof));
    let issued = flow::issue(app, &credentials, &asked, proof.as_ref(), caller).await;
    let issued = issued.map_err(refused)?;
    let is_grant = issued.issued_token_type == Some(TokenTypeIdentifier::IdJag);
    let response = TokenBody {
        access_token: issued.access_token,
        issued_token_type: issued.issued_token_type,
        token_type: match issued.is_bound {
            _ if is_grant => TokenType::NotApplicable,
            true => TokenType::Dpop,
            false => TokenType::Bearer,
        },
        expires_in: issued.expires_in,
        scope: issued.scope.non_empty(),
        refresh_token: issued.refresh_token,
        id_token: issued.id_token,
    };
    // The request-context middleware adds Cache-Control: no-store (RFC 6749 §5.1).
    Ok(Json(response).into_response())
}
