//! `/oauth2/jwks`: the public keys (RFC 7517 §5) that verify tokens.

use poem::{
    Request, Response, Result, handler,
    http::{HeaderValue, Method, StatusCode, header},
};
use poem_openapi::{Object, types::Type};
use serde_json::Value;

use crate::http::{
    api::Tag, assets::is_current, context::Context, cors::Origins, operation::Operation,
};

/// The key set.
pub fn operation() -> Operation {
    Operation::new(Method::GET, "/oauth2/jwks", "getJwks", Tag::OAuth, jwks)
        .about(
            "Public keys",
            "The keys that verify this server's tokens (RFC 7517 §5); cache them as Cache-Control says.",
        )
        .cross_origin(Origins::Any)
        .response(
            200,
            "The key set.",
            &[("application/jwk-set+json", <JwkSet as Type>::schema_ref())],
        )
        .registering::<JwkSet>()
        .empty(304, "The key set has the ETag of If-None-Match.")
}

/// A JWK Set (RFC 7517 §5).
#[derive(Object)]
pub struct JwkSet {
    keys: Vec<Value>,
}

/// The key set is built when the keys change; here it is only returned. It has every key that any
/// process signs with, and none whose ban was acknowledged.
#[handler]
pub async fn jwks(request: &Request) -> Result<Response> {
    let app = &Context::of(request)?.app;
    // Without the database the last known keys are served, so that services that verify tokens
    // locally continue. They are not to be cached, because a key may have been banned meanwhile.
    let synced = app.sync_jwks().await;
    if let Err(error) = &synced {
        tracing::warn!(%error, "the database is unavailable: the last known keys are published");
    }
    let jwks = app.keys.ring().jwks.clone();
    let current = is_current(request.headers(), &jwks.etag);
    let mut response = if current {
        Response::builder().status(StatusCode::NOT_MODIFIED).finish()
    } else {
        Response::builder().header(header::CONTENT_TYPE, "application/jwk-set+json").body(jwks.body)
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, jwks.etag);
    let no_store = HeaderValue::from_static("no-store");
    headers.insert(header::CACHE_CONTROL, synced.map_or(no_store, |()| jwks.cache_control));
    Ok(response)
}
