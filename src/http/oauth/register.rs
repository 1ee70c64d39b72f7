//! `/oauth2/register`: dynamic client registration (RFC 7591 §3) and its management (RFC 7592).

use poem::{
    Body, EndpointExt, IntoResponse, Request, RequestBody, Response, Result, handler,
    http::{Method, StatusCode},
    web::{Json, Path},
};
use poem_openapi::Object;
use serde_json::json;

use super::jwks::JwkSet;
use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    credentials::bearer,
    error::Error,
    flows::admin::clients::{
        policy,
        registration::{self, Registered},
    },
    http::{
        api::Tag,
        context::Context,
        cors::Origins,
        json as body,
        operation::{Operation, Security},
    },
    ids::ClientId,
    oauth::error::OAuthError,
};

const CLIENT: &str = "/oauth2/register/{client_id}";

/// The registration endpoint and the client configuration endpoint.
pub fn operations() -> [Operation; 4] {
    let configuration = |method, id, endpoint| {
        Operation::new(method, CLIENT, id, Tag::OAuth, endpoint)
            .path_parameter("client_id", "The client.")
            .security(Security::RegistrationAccessToken)
    };
    let registered = "The registered client.";
    let off = "Registration is disabled.";
    [
        Operation::new(
            Method::POST,
            "/oauth2/register",
            "registerClient",
            Tag::OAuth,
            register,
        )
        .about(
            "Register a client",
            "RFC 7591, if the deployment allows it. Only this response has the client secret and the registration access token.",
        )
        // The origin of an application in a browser is unknown before it is registered.
        .cross_origin(Origins::Any)
        .security(Security::InitialAccessToken)
        .json_body::<ClientMetadata>()
        .json::<RegisteredClient>(201, registered)
        .errors(&[400, 401])
        .error(403, off)
        .errors(&[429])
        .error(503, "Temporarily unavailable, or there are too many clients."),
        configuration(Method::GET, "getClientRegistration", read.boxed())
            .about("Read a registration", "RFC 7592 §2.1")
            .json::<RegisteredClient>(200, registered)
            .errors(&[401])
            .error(403, off)
            .errors(&[503]),
        configuration(Method::PUT, "replaceClientRegistration", replace.boxed())
            .about("Replace a registration", "RFC 7592 §2.2. Omitted members are removed.")
            .json_body::<ClientMetadata>()
            .json::<RegisteredClient>(200, registered)
            .errors(&[400, 401])
            .error(403, off)
            .errors(&[503]),
        configuration(Method::DELETE, "deleteClientRegistration", remove.boxed())
            .about(
                "Delete a registration",
                "RFC 7592 §2.3. The client's sessions and tokens are revoked at once.",
            )
            .empty(204, "The client is deleted.")
            .errors(&[401])
            .error(403, off)
            .errors(&[503]),
    ]
}

/// Client metadata (RFC 7591 §2, OpenID Connect Registration §2). Unknown members are ignored.
#[derive(Object)]
#[oai(rename = "ClientRegistration")]
struct ClientMetadata {
    client_name: Option<String>,
    redirect_uris: Option<Vec<String>>,
    post_logout_redirect_uris: Option<Vec<String>>,
    grant_types: Option<Vec<String>>,
    response_types: Option<Vec<String>>,
    scope: Option<String>,
    token_endpoint_auth_method: Option<String>,
    application_type: Option<String>,
    jwks: Option<JwkSet>,
    jwks_uri: Option<String>,
    subject_type: Option<String>,
    sector_identifier_uri: Option<String>,
    id_token_signed_response_alg: Option<String>,
    /// Whether ID tokens have the claims that the scope covers.
    claims_in_id_token: Option<bool>,
    userinfo_signed_response_alg: Option<String>,
    backchannel_logout_uri: Option<String>,
    client_uri: Option<String>,
    logo_uri: Option<String>,
    policy_uri: Option<String>,
    tos_uri: Option<String>,
    contacts: Option<Vec<String>>,
}

/// A registered client (RFC 7591 §3.2.1, RFC 7592 §3).
#[derive(Object)]
struct RegisteredClient {
    client_id: String,
    client_id_issued_at: Option<i64>,
    /// Returned once, when it is issued.
    client_secret: Option<String>,
    /// 0: the secret does not expire.
    client_secret_expires_at: Option<i64>,
    registration_access_token: Option<String>,
    registration_client_uri: Option<String>,
    #[oai(flatten)]
    metadata: ClientMetadata,
}

/// Registers a client.
#[handler]
pub async fn register(request: &Request, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let bearer = bearer(request.headers())?;
    let bytes = read_json(request, body).await?;
    let registered = registration::register(app, bearer.as_deref(), &bytes, caller).await;
    let registered = registered.map_err(refused)?;
    let answer = Json(describe(app, &registered)).with_status(StatusCode::CREATED);
    Ok(answer.into_response())
}

/// Returns the registration of a client.
#[handler]
pub async fn read(request: &Request, Path(id): Path<ClientId>) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let bearer = bearer(request.headers())?;
    let registered = registration::read(app, &id, bearer.as_deref()).await;
    Ok(Json(describe(app, &registered.map_err(refused)?)).into_response())
}

/// Replaces the registration of a client.
#[handler]
pub async fn replace(request: &Request, Path(id): Path<ClientId>, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let bearer = bearer(request.headers())?;
    let bytes = read_json(request, body).await?;
    let registered = registration::replace(app, &id, bearer.as_deref(), &bytes, caller).await;
    Ok(Json(describe(app, &registered.map_err(refused)?)).into_response())
}

/// Deletes a client.
#[handler]
pub async fn remove(request: &Request, Path(id): Path<ClientId>) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let bearer = bearer(request.headers())?;
    registration::remove(app, &id, bearer.as_deref(), caller).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn read_json(request: &Request, given: Body) -> Result<bytes::Bytes> {
    let bytes = body::read(request, &mut RequestBody::new(given)).await?;
    if !body::is_json(request) {
        return Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "send the client metadata as JSON, with Content-Type: application/json",
        )
        .into());
    }
    Ok(bytes)
}

/// RFC 7591 §3.2.1, RFC 7592 §3
fn describe(app: &App, registered: &Registered) -> serde_json::Value {
    let client = &registered.client;
    let mut answer = policy::registered(&client.metadata);
    let issuer = &app.config.server.issuer;
    let mut say = |name: &str, value: serde_json::Value| answer.insert(name.to_owned(), value);
    say("client_id", client.id.as_str().into());
    say("client_id_issued_at", client.created_at.as_secs().into());
    if let Some(secret) = &registered.secret {
        say("client_secret", secret.as_str().into());
    }
    if !client.secrets.is_empty() {
        // It does not expire.
        say("client_secret_expires_at", 0.into());
    }
    say("registration_access_token", registered.token.as_str().into());
    let uri = format!("{issuer}/oauth2/register/{}", client.id);
    say("registration_client_uri", json!(uri));
    answer.into()
}

fn refused(error: Error) -> ApiError {
    match error {
        Error::RegistrationDisabled => ApiError::new(
            ErrorCode::RegistrationDisabled,
            "dynamic client registration is disabled: ask the operator to register the client",
        )
        .oauth("access_denied"),
        // RFC 7592 §2 uses bearer tokens, so the challenge is that of RFC 6750 §3.
        Error::OAuth(error @ OAuthError { code: "invalid_token", .. }) => ApiError {
            challenge: Some("Bearer error=\"invalid_token\"".to_owned()),
            ..error.into()
        },
        other => other.into(),
    }
}
