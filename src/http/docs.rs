//! `/docs`: Swagger UI over `/openapi.json`. poem-openapi's own page is 1.6 MB of inline script, cloned at each request
//! and impossible under a policy without `unsafe-inline`; this one is a small page with cached files.

use askama::Template;
use bytes::Bytes;
use http::HeaderMap;
use poem::{Endpoint, Request, Response, Result, Route, get};

use super::{
    assets::{Asset, Coding, fingerprint, fixed_answer, page_headers},
    views::Style,
};

/// The version in `assets/swagger-ui`; part of the files' addresses.
const SWAGGER_UI_VERSION: &str = "5.35.0";

const BUNDLE: &[u8] = include_bytes!("../../assets/swagger-ui/swagger-ui-bundle.js.gz");
const STYLE: &[u8] = include_bytes!("../../assets/swagger-ui/swagger-ui.css.gz");
const START: &[u8] = include_bytes!("../../assets/docs.js");
const REDIRECT: &[u8] = include_bytes!("../../assets/docs-redirect.js");

/// Neither inline script nor inline style (Swagger UI sets its styles through the DOM), no other host. Calls tried from the page go to this server alone.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; \
     form-action 'none'";

#[derive(Template)]
#[template(path = "docs.html")]
struct DocsPage {
    style: &'static Style,
    lang: &'static str,
    version: &'static str,
    files: String,
    start: String,
}

/// Where the Authorize button's login comes back to.
#[derive(Template)]
#[template(path = "docs_redirect.html")]
struct RedirectPage {
    style: &'static Style,
    lang: &'static str,
    script: String,
}

/// A page that is the same for everyone.
struct FixedPage {
    headers: HeaderMap,
    body: Bytes,
}

impl Endpoint for FixedPage {
    type Output = Response;

    async fn call(&self, _: Request) -> Result<Response> {
        Ok(fixed_answer(&self.headers, &self.body))
    }
}

/// Adds `/docs` and its files to `route`.
///
/// # Errors
/// Where the page cannot be rendered, which only a broken build can cause.
pub fn route(route: Route) -> Result<Route, askama::Error> {
    let files = format!("/docs/assets/{SWAGGER_UI_VERSION}");
    let start = format!("/docs/assets/docs-{}.js", fingerprint(START));
    let page = DocsPage {
        style: Style::get(),
        lang: "en",
        version: env!("CARGO_PKG_VERSION"),
        files: files.clone(),
        start: start.clone(),
    };
    let body = Bytes::from(page.render()?);
    let receive = format!("/docs/assets/docs-redirect-{}.js", fingerprint(REDIRECT));
    let receiver = RedirectPage { style: Style::get(), lang: "en", script: receive.clone() };
    let receiver = Bytes::from(receiver.render()?);
    let script = "text/javascript; charset=utf-8";
    Ok(route
        .at("/docs", get(FixedPage { headers: page_headers(CSP), body }))
        .at(format!("{files}/swagger-ui-bundle.js"), get(Asset::new(script, Coding::Gzip, BUNDLE)))
        .at(
            format!("{files}/swagger-ui.css"),
            get(Asset::new("text/css; charset=utf-8", Coding::Gzip, STYLE)),
        )
        .at("/docs/oauth2-redirect", get(FixedPage { headers: page_headers(CSP), body: receiver }))
        .at(receive, get(Asset::new(script, Coding::Identity, REDIRECT)))
        .at(start, get(Asset::new(script, Coding::Identity, START))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_file_the_page_names_is_served_by_us() {
        let route = super::super::landing::route(route(Route::new()).unwrap(), true).unwrap();
        let client = poem::test::TestClient::new(route);
        let page = client.get("/docs").send().await;
        page.assert_status_is_ok();
        page.assert_header("content-security-policy", CSP);
        let html = page.0.into_body().into_string().await.unwrap();
        assert!(!html.contains("http://") && !html.contains("https://"), "no outside host");
        assert!(!html.contains("<script>") && !html.contains("<style"), "nothing inline");
        let named: Vec<&str> = html
            .split('"')
            .filter(|part| part.starts_with('/') && part.contains("assets/"))
            .collect();
        assert_eq!(named.len(), 5, "{named:?}");
        for file in named {
            let answer = client.get(file).send().await;
            answer.assert_status_is_ok();
            answer.assert_header("cache-control", "public, max-age=31536000, immutable");
        }
    }

    #[test]
    fn the_version_is_the_one_that_lies_there() {
        let readme = include_str!("../../assets/swagger-ui/README.md");
        assert!(readme.starts_with(&format!("# Swagger UI {SWAGGER_UI_VERSION},")));
    }
}
