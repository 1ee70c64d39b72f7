//! CORS (Fetch Standard, HTTP-CORS protocol: <https://fetch.spec.whatwg.org/#http-cors-protocol>),
//! for browser-based applications. An origin is allowed if an enabled client has registered it, and
//! never with credentials, so that cookies are not used. The HTML pages have no CORS.

use poem::{
    Endpoint, IntoResponse, Request, Response, Result,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
};

use super::context::{Context, from_poem};

/// The allowed origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Every origin: the resource is public.
    Any,
    /// The origins that enabled clients have registered.
    Registered,
}

/// How long a browser may cache the response to a preflight request, in seconds.
const MAX_AGE: &str = "3600";

/// An endpoint that answers preflight requests and adds CORS headers.
pub struct Cors<E> {
    pub origins: Origins,
    /// The methods for `Allow` and `Access-Control-Allow-Methods`.
    pub methods: String,
    pub inner: E,
}

impl<E: Endpoint> Endpoint for Cors<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let allowed = self.allowed(&request).await?;
        if *request.method() == Method::OPTIONS {
            let mut response = Response::builder().status(StatusCode::NO_CONTENT).finish();
            let headers = response.headers_mut();
            let methods =
                HeaderValue::from_str(&self.methods).unwrap_or(HeaderValue::from_static("OPTIONS"));
            headers.insert(header::ALLOW, methods.clone());
            if let Some(origin) = allowed {
                let fixed = [
                    (
                        header::ACCESS_CONTROL_ALLOW_HEADERS,
                        // MCP clients send the last one with every request.
                        "authorization, content-type, dpop, x-correlation-id, traceparent, mcp-protocol-version",
                    ),
                    (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
                ];
                for (name, value) in fixed {
                    headers.insert(name, HeaderValue::from_static(value));
                }
                headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
                allow(headers, origin);
            }
            return Ok(response);
        }
        // An error must be a response with CORS headers too, so that the application can read it.
        let mut response = match self.inner.call(request).await {
            Ok(response) => response.into_response(),
            Err(error) => from_poem(error).into_response(),
        };
        if let Some(origin) = allowed {
            allow(response.headers_mut(), origin);
        }
        Ok(response)
    }
}

impl<E> Cors<E> {
    async fn allowed(&self, request: &Request) -> Result<Option<HeaderValue>> {
        let Some(origin) = request.headers().get(header::ORIGIN) else {
            return Ok(None);
        };
        if self.origins == Origins::Any {
            return Ok(Some(HeaderValue::from_static("*")));
        }
        let app = &Context::of(request)?.app;
        let known = match origin.to_str() {
            Ok(text) => app.directory.has_origin(&app.db, text).await,
            Err(_) => return Ok(None),
        };
        // If the database is unavailable, the origin is not allowed; the endpoint reports the
        // error.
        Ok(known.unwrap_or(false).then(|| origin.clone()))
    }
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    if origin != "*" {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("www-authenticate, x-request-id, retry-after"),
    );
}
