//! `/oauth2/register`: dynamic registration (RFC 7591 §3), and below it each client's registration (RFC 7592).

use poem::{
    Body, IntoResponse, Request, RequestBody, Response, Result, handler,
    http::StatusCode,
    web::{Json, Path},
};
use serde_json::json;

use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    credentials::bearer,
    error::Error,
    flows::admin::clients::{
        policy,
        registration::{self, Registered},
    },
    http::{context::Context, json as body},
    oauth::error::OAuthError,
};

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

/// Tells a client what it is registered with.
#[handler]
pub async fn read(request: &Request, Path(id): Path<String>) -> Result<Response> {
    let Context { app, .. } = Context::of(request)?;
    let bearer = bearer(request.headers())?;
    let registered = registration::read(app, &id, bearer.as_deref()).await;
    Ok(Json(describe(app, &registered.map_err(refused)?)).into_response())
}

/// Replaces what a client is registered with.
#[handler]
pub async fn replace(request: &Request, Path(id): Path<String>, body: Body) -> Result<Response> {
    let Context { app, caller } = Context::of(request)?;
    let bearer = bearer(request.headers())?;
    let bytes = read_json(request, body).await?;
    let registered = registration::replace(app, &id, bearer.as_deref(), &bytes, caller).await;
    Ok(Json(describe(app, &registered.map_err(refused)?)).into_response())
}

/// Removes a client.
#[handler]
pub async fn remove(request: &Request, Path(id): Path<String>) -> Result<Response> {
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
            "send the client's metadata as JSON, with Content-Type: application/json",
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
            "clients cannot register themselves here: ask the operator for a client",
        )
        .oauth("access_denied"),
        // RFC 7592 §2 speaks of bearer tokens, so the answer is that of RFC 6750 §3.
        Error::OAuth(error @ OAuthError { code: "invalid_token", .. }) => ApiError {
            challenge: Some("Bearer error=\"invalid_token\"".to_owned()),
            ..error.into()
        },
        other => other.into(),
    }
}
