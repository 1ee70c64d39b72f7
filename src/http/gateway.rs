//! `/forward-auth`, for gateways that ask over HTTP. Any method will do, and no body is read.

use poem::{Endpoint, Request, Response, Result, http::uri::PathAndQuery};

use super::context::{Context, from_poem};
use crate::{
    forward_auth::{self, Told},
    request_context,
};

/// Where Envoy's requests arrive: it puts the path of the request itself behind this. What stands between the two is the query
/// of the other gateways; it comes first, so that nobody's path can stand for it.
pub const ENVOY: &str = "/forward-auth/envoy/";

/// The call, for gateways that name the request by headers and for Envoy.
#[derive(Clone, Copy, Debug)]
pub enum ForwardAuth {
    ByHeaders,
    ByPath,
}

impl Endpoint for ForwardAuth {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let answered = self.answer(&request).await;
        Ok(answered.unwrap_or_else(|error| forward_auth::refused(from_poem(error))))
    }
}

impl ForwardAuth {
    async fn answer(self, request: &Request) -> Result<Response> {
        let Context { app, caller } = Context::of(request)?;
        let (asked, path) = match self {
            Self::ByHeaders => (request.uri().query().unwrap_or_default(), None),
            Self::ByPath => {
                let all = request.uri().path_and_query();
                let all = all.map_or("", PathAndQuery::as_str);
                let (asked, path) = split(all.strip_prefix(ENVOY).unwrap_or_default());
                (asked, Some(path))
            }
        };
        let text = |name: &str| {
            let value = request.headers().get(name);
            value.map(|value| value.to_str().unwrap_or_default())
        };
        let method = match self {
            // nginx itself sends GET, whatever it was asked.
            Self::ByHeaders => text("x-forwarded-method").or_else(|| text("x-original-method")),
            Self::ByPath => None,
        };
        let told = Told {
            demands: asked,
            method: method.unwrap_or(request.method().as_str()),
            headers: request.headers(),
            url: &|| {
                original(request, path)
                    .filter(|_| request_context::is_from_trusted_proxy(app, request))
            },
        };
        Ok(forward_auth::answer(app, &told, caller).await?)
    }
}

/// What a gateway's address asks for, and the path of the request behind it.
fn split(rest: &str) -> (&str, &str) {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (asked, path) = rest.split_at(end);
    (if asked == "-" { "" } else { asked }, path)
}

/// The address that the browser asked for, as the gateway tells it.
fn original(request: &Request, path: Option<&str>) -> Option<String> {
    let text = |name: &str| request.headers().get(name)?.to_str().ok();
    if let Some(url) = text("x-original-url").filter(|_| path.is_none()) {
        return Some(url.to_owned());
    }
    let (scheme, host, uri) = match path {
        Some(path) => (text("x-forwarded-proto")?, text("host")?, path),
        None => (text("x-forwarded-proto")?, text("x-forwarded-host")?, text("x-forwarded-uri")?),
    };
    Some(format!("{scheme}://{host}{uri}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_request_never_stands_for_a_demand() {
        assert_eq!(split("-/a?scope=b"), ("", "/a?scope=b"));
        assert_eq!(split("module=crm/a/b?c"), ("module=crm", "/a/b?c"));
        assert_eq!(split("module=crm//evil"), ("module=crm", "//evil"));
        assert_eq!(split("module=crm?module=x"), ("module=crm", "?module=x"));
        assert_eq!(split("-"), ("", ""));
        assert_eq!(split("-*"), ("-*", ""), "which is no demand that is known");
    }
}
