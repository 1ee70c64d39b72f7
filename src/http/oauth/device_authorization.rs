//! `POST /oauth2/device_authorization` (RFC 8628 §3.1): a device asks for its codes.

use poem::{Body, IntoResponse, Request, Response, Result, handler, http::Method, web::Json};
use poem_openapi::Object;
use serde::Serialize;

use crate::{
    api_error::ApiError,
    flows::oauth::device,
    http::{
        api::Tag,
        client_auth,
        context::Context,
        cors::Origins,
        operation::{Operation, Security},
    },
    oauth::requests::DeviceAuthorizationRequest,
};

/// The device authorization endpoint.
pub fn operation() -> Operation {
    Operation::new(
        Method::POST,
        "/oauth2/device_authorization",
        "authorizeDevice",
        Tag::OAuth,
        authorize,
    )
    .about(
        "Request codes for a device",
        "RFC 8628 §3.1. The device shows `user_code` and `verification_uri`, and polls the token endpoint with `device_code` \
         until its user has decided.",
    )
    .cross_origin(Origins::Registered)
    .form::<DeviceAuthorizationRequest>()
    .security(Security::AnyClient)
    .json::<DeviceAuthorization>(200, "The codes.")
    .errors(&[400, 401, 429, 503])
}

/// The response to a device authorization request (RFC 8628 §3.2).
#[derive(Serialize, Object)]
struct DeviceAuthorization {
    /// For the token endpoint; a secret of the device.
    device_code: String,
    /// What the user enters, as `XXXX-XXXX`.
    user_code: String,
    /// Where the user enters it.
    verification_uri: String,
    /// The same with the user code, for a QR code.
    verification_uri_complete: String,
    /// Seconds that both codes are valid.
    expires_in: u64,
    /// Seconds to wait between two polls.
    interval: u64,
}

/// Stores the request of a device and returns its codes.
#[handler]
pub async fn authorize(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let (asked, known) =
        client_auth::authenticated::<DeviceAuthorizationRequest>(request, body).await?;
    let codes = device::request(app, &known, &asked, caller).await.map_err(ApiError::from)?;
    let verification_uri = format!("{}{}", app.config.server.issuer, device::PAGE);
    let user_code = codes.user_code.shown();
    let answer = DeviceAuthorization {
        device_code: codes.device_code,
        verification_uri_complete: format!("{verification_uri}?user_code={user_code}"),
        verification_uri,
        user_code,
        expires_in: codes.expires_in.as_secs(),
        interval: codes.interval.as_secs(),
    };
    Ok(Json(answer).into_response())
}
