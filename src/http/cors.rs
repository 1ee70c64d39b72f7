//! Cross-origin calls (Fetch §3.2), for applications that run in browsers and hold no secret. An origin is let in where
//! an enabled client has registered it; never with credentials, so that no cookie ever counts. Pages have none of this.

use poem::{
    Endpoint, IntoResponse, Request, Response, Result,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
};

use super::context::{Context, from_poem};

/// Whom to let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Everybody: what stands there is public anyway.
    Any,
    /// Those that clients have registered.
    Registered,
}

/// How long a browser may remember the answer to a preflight, in seconds.
const MAX_AGE: &str = "3600";

/// An endpoint that other origins may call.
pub struct Cors<E> {
    pub origins: Origins,
    pub methods: &'static str,
    pub inner: E,
}

impl<E: Endpoint> Endpoint for Cors<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let allowed = self.allowed(&request).await?;
        if *request.method() == Method::OPTIONS {
            let mut response = Response::builder().status(StatusCode::NO_CONTENT).finish();
            let headers = response.headers_mut();
            headers.insert(header::ALLOW, HeaderValue::from_static(self.methods));
            if let Some(origin) = allowed {
                let fixed = [
                    (header::ACCESS_CONTROL_ALLOW_METHODS, self.methods),
                    (
                        header::ACCESS_CONTROL_ALLOW_HEADERS,
                        // The last is what MCP clients send with everything.
                        "authorization, content-type, x-correlation-id, traceparent, mcp-protocol-version",
                    ),
                    (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
                ];
                for (name, value) in fixed {
                    headers.insert(name, HeaderValue::from_static(value));
                }
                allow(headers, origin);
            }
            return Ok(response);
        }
        // A refusal is a response here, so that the application may read it.
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
        // A database that is away is the endpoint's to answer; here it only means no permission.
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
