//! `/forward-auth`: a gateway presents the credentials of a request before forwarding it; 200
//! allows the request. Every method is accepted, and no body is read.

use poem::{
    Endpoint, Request, Response, Result,
    http::{Method, uri::PathAndQuery},
};
use poem_openapi::{Enum, Object};

use super::{
    api::Tag,
    context::{Context, from_poem},
    operation::{Operation, Security},
};
use crate::{
    forward_auth::{self, OriginalRequest},
    request_context::is_from_trusted_proxy,
};

/// The endpoint for gateways that describe the original request by headers.
pub fn operation() -> Operation {
    let by_headers = ForwardAuth::ByHeaders;
    Operation::new(Method::GET, "/forward-auth", "forwardAuth", Tag::Gateways, by_headers)
        .about(
            "Authorize a request",
            "For nginx auth_request, Traefik, Caddy and Envoy, by any method. With a bearer token, or with the cookies of a \
             session, which are renewed on the way. Every response has all identity headers, empty where there is no value, so \
             that a proxy that copies them overwrites what the client sent.",
        )
        .every_method()
        .security(Security::AccessToken)
        .query::<ForwardAuthRequirements>()
        .empty(
            200,
            "The request is allowed; `X-Propusk-User`, `-Email`, `-Email-Verified`, `-Role`, `-Scope`, `-Client`, `-Session` and \
             `-Modules` identify the caller.",
        )
        .empty(303, "The browser must log in.")
        .api_errors(&[400, 401, 403, 429, 503])
}

/// The parameters of the query; [`forward_auth`] parses them.
#[derive(Object)]
struct ForwardAuthRequirements {
    /// Scopes that the token must have, separated by spaces; may be repeated.
    scope: Option<String>,
    /// Modules that the token must grant; may be repeated.
    #[oai(default)]
    module: Vec<String>,
    /// Resources that the token may be for instead of this server's own API; may be repeated.
    #[oai(default)]
    audience: Vec<String>,
    /// Maximum authentication age in seconds (RFC 9470).
    #[oai(validator(minimum(value = "30")))]
    max_age: Option<u64>,
    /// Required authentication context classes (RFC 9470).
    acr: Option<String>,
    /// What a browser gets that is not logged in: a redirect, the URL in `X-Propusk-Location`, or
    /// neither.
    redirect: Option<Redirect>,
    /// `header`: renewed cookies are in `X-Propusk-Set-Access` and `X-Propusk-Set-Refresh` as well.
    cookies: Option<RenewedCookies>,
}

/// The response to a browser that is not logged in.
#[derive(Enum)]
#[oai(rename = "ForwardAuthRedirect", rename_all = "lowercase")]
enum Redirect {
    Login,
    Header,
    Never,
}

/// Where renewed cookies are returned besides `Set-Cookie`.
#[derive(Enum)]
#[oai(rename_all = "lowercase")]
enum RenewedCookies {
    Header,
}

/// The path prefix for Envoy, which appends the path of the original request. The requirements, the
/// query of other gateways, are the first segment after it, so that no path can be taken for them.
pub const ENVOY_PREFIX: &str = "/forward-auth/envoy/";

/// The endpoint. The original request is described by headers, or for Envoy by the path.
#[derive(Clone, Copy, Debug)]
pub enum ForwardAuth {
    ByHeaders,
    ByPath,
}

impl Endpoint for ForwardAuth {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let answered = self.answer(&request).await;
        Ok(answered.unwrap_or_else(|error| forward_auth::error_response(from_poem(error))))
    }
}

impl ForwardAuth {
    async fn answer(self, request: &Request) -> Result<Response> {
        let Context { app, caller } = Context::of(request)?;
        let (query, path) = match self {
            Self::ByHeaders => (request.uri().query().unwrap_or_default(), None),
            Self::ByPath => {
                let all = request.uri().path_and_query();
                let all = all.map_or("", PathAndQuery::as_str);
                let (query, path) = split(all.strip_prefix(ENVOY_PREFIX).unwrap_or_default());
                (query, Some(path))
            }
        };
        let header_text = |name: &str| {
            let value = request.headers().get(name);
            value.map(|value| value.to_str().unwrap_or_default())
        };
        let method = match self {
            // nginx always sends GET, whatever the original method.
            Self::ByHeaders => {
                header_text("x-forwarded-method").or_else(|| header_text("x-original-method"))
            }
            Self::ByPath => None,
        };
        let original = OriginalRequest {
            requirements: query,
            method: method.unwrap_or(request.method().as_str()),
            headers: request.headers(),
            url: &|| original_url(request, path).filter(|_| is_from_trusted_proxy(app, request)),
        };
        Ok(forward_auth::answer(app, &original, caller).await?)
    }
}

/// Splits the rest of Envoy's path into the requirements (`-` for none) and the original path.
fn split(rest: &str) -> (&str, &str) {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (query, path) = rest.split_at(end);
    (if query == "-" { "" } else { query }, path)
}

/// The URL that the browser requested, from the headers of the gateway.
fn original_url(request: &Request, path: Option<&str>) -> Option<String> {
    let header_text = |name: &str| request.headers().get(name)?.to_str().ok();
    if let Some(url) = header_text("x-original-url").filter(|_| path.is_none()) {
        return Some(url.to_owned());
    }
    let (scheme, host, uri) = match path {
        Some(path) => (header_text("x-forwarded-proto")?, header_text("host")?, path),
        None => (
            header_text("x-forwarded-proto")?,
            header_text("x-forwarded-host")?,
            header_text("x-forwarded-uri")?,
        ),
    };
    Some(format!("{scheme}://{host}{uri}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_never_taken_for_requirements() {
        assert_eq!(split("-/a?scope=b"), ("", "/a?scope=b"));
        assert_eq!(split("module=crm/a/b?c"), ("module=crm", "/a/b?c"));
        assert_eq!(split("module=crm//evil"), ("module=crm", "//evil"));
        assert_eq!(split("module=crm?module=x"), ("module=crm", "?module=x"));
        assert_eq!(split("-"), ("", ""));
        assert_eq!(split("-*"), ("-*", ""), "an unknown parameter");
    }
}
