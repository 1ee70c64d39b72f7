//! `/docs`: Swagger UI for `/openapi.json`. The page of poem-openapi is 1.6 MB of inline script,
//! copied for each request and incompatible with a policy without `unsafe-inline`. This one is a
//! small page with cacheable files.

use askama::Template;
use bytes::Bytes;
use http::HeaderMap;
use poem::{Endpoint, Request, Response, Result, Route, get};

use super::{
    assets::{Asset, Coding, fingerprint, fixed_answer, page_headers},
    views::AssetUrls,
};
use crate::branding::Branding;

/// The version in `assets/swagger-ui`; part of the URLs of the files.
const SWAGGER_UI_VERSION: &str = "5.35.0";

const BUNDLE: &[u8] = include_bytes!("../../assets/swagger-ui/swagger-ui-bundle.js.gz");
const STYLE_SHEET: &[u8] = include_bytes!("../../assets/swagger-ui/swagger-ui.css.gz");
const INIT_SCRIPT: &[u8] = include_bytes!("../../assets/docs.js");
const REDIRECT_SCRIPT: &[u8] = include_bytes!("../../assets/docs-redirect.js");

/// No inline script or style (Swagger UI sets styles through the DOM), no other hosts. Requests
/// tried from the page go to this server only.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; \
     form-action 'none'";

#[derive(Template)]
#[template(path = "docs.html")]
struct DocsPage {
    assets: &'static AssetUrls,
    lang: &'static str,
    look: &'static Branding,
    version: &'static str,
    files: String,
    init_script: String,
}

/// The redirect URI of the login by the Authorize button.
#[derive(Template)]
#[template(path = "docs_redirect.html")]
struct RedirectPage {
    assets: &'static AssetUrls,
    lang: &'static str,
    look: &'static Branding,
    script: String,
}

/// A page that is the same for every request.
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
/// If a template fails to render, which indicates a bug.
pub fn route(route: Route, look: &'static Branding) -> Result<Route, askama::Error> {
    let files = format!("/docs/assets/{SWAGGER_UI_VERSION}");
    let init_script = format!("/docs/assets/docs-{}.js", fingerprint(INIT_SCRIPT));
    let page = DocsPage {
        assets: AssetUrls::get(),
        lang: "en",
        look,
        version: env!("CARGO_PKG_VERSION"),
        files: files.clone(),
        init_script: init_script.clone(),
    };
    let body = Bytes::from(page.render()?);
    let redirect_script = format!("/docs/assets/docs-redirect-{}.js", fingerprint(REDIRECT_SCRIPT));
    let redirect_page = RedirectPage {
        assets: AssetUrls::get(),
        lang: "en",
        look,
        script: redirect_script.clone(),
    };
    let redirect_page = Bytes::from(redirect_page.render()?);
    let script = "text/javascript; charset=utf-8";
    Ok(route
        .at("/docs", get(FixedPage { headers: page_headers(CSP), body }))
        .at(format!("{files}/swagger-ui-bundle.js"), get(Asset::new(script, Coding::Gzip, BUNDLE)))
        .at(
            format!("{files}/swagger-ui.css"),
            get(Asset::new("text/css; charset=utf-8", Coding::Gzip, STYLE_SHEET)),
        )
        .at(
            "/docs/oauth2-redirect",
            get(FixedPage { headers: page_headers(CSP), body: redirect_page }),
        )
        .at(redirect_script, get(Asset::new(script, Coding::Identity, REDIRECT_SCRIPT)))
        .at(init_script, get(Asset::new(script, Coding::Identity, INIT_SCRIPT))))
}

#[cfg(test)]
mod tests {
    use super::{super::landing::Settings, *};

    #[tokio::test]
    async fn every_file_of_the_page_is_served_by_this_server() {
        let look = Branding::ours();
        let docs = route(Route::new(), look).unwrap();
        let route = super::super::landing::route(docs, Settings::default(), look).unwrap();
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
    fn the_version_matches_the_files() {
        let readme = include_str!("../../assets/swagger-ui/README.md");
        assert!(readme.starts_with(&format!("# Swagger UI {SWAGGER_UI_VERSION},")));
    }
}
