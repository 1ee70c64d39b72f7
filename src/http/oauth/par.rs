//! `POST /oauth2/par` (RFC 9126): a client pushes its authorization request.

use poem::{
    Body, IntoResponse, Request, Response, Result, handler,
    http::{Method, StatusCode},
    web::Json,
};
use poem_openapi::Object;
use serde::Serialize;

use super::params;
use crate::{
    api_error::ApiError,
    credentials::dpop_proof,
    flows::oauth::authorize::pushed,
    http::{
        api::Tag,
        client_auth,
        context::Context,
        cors::Origins,
        operation::{Operation, Security},
    },
    oauth::{
        authorization_request::{AuthorizationParameters, ResponseParameters, SignedRequest},
        params::Params,
    },
};

/// The pushed authorization request endpoint.
pub fn operation() -> Operation {
    Operation::new(Method::POST, "/oauth2/par", "pushAuthorizationRequest", Tag::OAuth, push)
        .about(
            "Push an authorization request",
            "RFC 9126. Takes the parameters of the authorization endpoint and returns a `request_uri`, which is valid once.",
        )
        .cross_origin(Origins::Registered)
        .form::<AuthorizationParameters>()
        .form::<ResponseParameters>()
        .form::<SignedRequest>()
        .example("max_age", 3600)
        .security(Security::AnyClient)
        .json::<PushedRequest>(201, "The request was stored.")
        .errors(&[400, 401, 429, 503])
}

/// The response to a pushed authorization request (RFC 9126 §2.2).
#[derive(Serialize, Object)]
struct PushedRequest {
    /// The reference for the authorization endpoint.
    request_uri: String,
    /// Seconds.
    expires_in: u64,
}

/// Stores the request of an authenticated client and returns its reference.
#[handler]
pub async fn push(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let (params, known) = client_auth::authenticated::<Params>(request, body).await?;
    let proof = dpop_proof(request.headers())?.map(|proof| params::presented(request, app, proof));
    let pushed = pushed::push(app, &known, &params, proof.as_ref(), caller).await;
    let pushed = pushed.map_err(ApiError::from)?;
    let answer = PushedRequest { request_uri: pushed.request_uri, expires_in: pushed.expires_in };
    Ok(Json(answer).with_status(StatusCode::CREATED).into_response())
}
