//! `/oauth2/jwks`: the public keys (RFC 7517 §5), for everybody who verifies our tokens.

use poem::{
    Request, Response, Result, handler,
    http::{StatusCode, header},
};

use crate::http::{assets::is_current, context::Context};

/// The key set. It is built when the keys change; here it is only handed out.
#[handler]
pub fn jwks(request: &Request) -> Result<Response> {
    let app = &Context::of(request)?.app;
    let jwks = app.keys.ring().jwks.clone();
    let current = is_current(request.headers(), &jwks.etag);
    let mut response = if current {
        Response::builder().status(StatusCode::NOT_MODIFIED).finish()
    } else {
        Response::builder().header(header::CONTENT_TYPE, "application/jwk-set+json").body(jwks.body)
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, jwks.etag);
    headers.insert(header::CACHE_CONTROL, jwks.cache_control);
    Ok(response)
}
