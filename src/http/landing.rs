//! `/`: what this server is and where its doors are, for whoever opens the address in a browser.

use askama::Template;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_LANGUAGE, SET_COOKIE, VARY},
};
use poem::{Endpoint, Request, Response, Result, Route, get};

use super::{
    assets::{Asset, Coding, STATIC_PAGE_CSP, fixed_answer, page_headers},
    pages,
    views::{ICON, Locale, REVEAL, SHEET, SUBMIT, Style, language_cookie},
};

#[derive(Template)]
#[template(path = "landing.html")]
struct LandingPage {
    style: &'static Style,
    lang: &'static str,
    t: &'static Locale,
    version: &'static str,
    registration: bool,
    /// Who is logged in.
    visitor: Option<String>,
}

/// The page; for strangers it is rendered once in every language.
struct Landing {
    registration: bool,
    for_strangers: Vec<(&'static Locale, HeaderMap, Bytes)>,
}

impl Landing {
    fn new(registration: bool) -> Result<Self, askama::Error> {
        let page = |t: &'static Locale| {
            render(t, registration, None).map(|(headers, body)| (t, headers, body))
        };
        let for_strangers = Locale::all().iter().map(page);
        Ok(Self { registration, for_strangers: for_strangers.collect::<Result<_, _>>()? })
    }
}

fn render(
    t: &'static Locale,
    registration: bool,
    visitor: Option<String>,
) -> Result<(HeaderMap, Bytes), askama::Error> {
    let page = LandingPage {
        style: Style::get(),
        lang: t.tag(),
        t,
        version: env!("CARGO_PKG_VERSION"),
        registration,
        visitor,
    };
    let mut headers = page_headers(STATIC_PAGE_CSP);
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(t.tag()));
    headers.insert(VARY, HeaderValue::from_static("accept-language, cookie"));
    if t.is_chosen() {
        headers.insert(SET_COOKIE, language_cookie(t));
    }
    Ok((headers, Bytes::from(page.render()?)))
}

impl Endpoint for Landing {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let wanted = Locale::of_request(&request, None);
        if let Some(visitor) = pages::visitor(&request).await {
            let page = render(wanted, self.registration, Some(visitor));
            return pages::rendered(page.map(|(headers, body)| fixed_answer(&headers, &body)));
        }
        let page = self.for_strangers.iter().find(|(t, ..)| std::ptr::eq(*t, wanted));
        Ok(page.map_or_else(Response::default, |(_, headers, body)| fixed_answer(headers, body)))
    }
}

/// Adds `/` and the files every page of ours loads to `route`. `registration`: whether people may register by themselves.
///
/// # Errors
/// Where a page cannot be rendered, which only a broken build can cause.
pub fn route(route: Route, registration: bool) -> Result<Route, askama::Error> {
    let style = Style::get();
    let script = "text/javascript; charset=utf-8";
    let files = [
        (&style.sheet, "text/css; charset=utf-8", SHEET),
        (&style.icon, "image/svg+xml", ICON),
        (&style.reveal, script, REVEAL),
        (&style.submit, script, SUBMIT),
    ];
    let route = route.at("/", get(Landing::new(registration)?));
    Ok(files.into_iter().fold(route, |route, (at, media_type, file)| {
        route.at(at, get(Asset::new(media_type, Coding::Identity, file)))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_page_speaks_the_language_asked_for_and_carries_its_headers() {
        let client = poem::test::TestClient::new(route(Route::new(), true).unwrap());
        let plain = client.get("/").send().await;
        plain.assert_status_is_ok();
        for (name, value) in [
            ("content-language", "en"),
            ("vary", "accept-language, cookie"),
            ("content-security-policy", STATIC_PAGE_CSP),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            plain.assert_header(name, value);
        }
        plain.assert_header_is_not_exist("set-cookie");
        let russian = client.get("/").header("accept-language", "ru").send().await;
        russian.assert_header("content-language", "ru");
        let html = russian.0.into_body().into_string().await.unwrap();
        assert!(html.contains("<html lang=\"ru\"") && html.contains("href=\"/register\""));
        let chosen = client.get("/?lang=en").header("accept-language", "ru").send().await;
        chosen.assert_header("content-language", "en");
        chosen.assert_header(
            "set-cookie",
            "lang=en; Path=/; Max-Age=31536000; SameSite=Lax; HttpOnly",
        );
        client.head("/").send().await.assert_status_is_ok();
    }

    #[tokio::test]
    async fn a_server_that_registers_nobody_does_not_offer_it() {
        let client = poem::test::TestClient::new(route(Route::new(), false).unwrap());
        let html = client.get("/").send().await.0.into_body().into_string();
        assert!(!html.await.unwrap().contains("/register"));
    }
}
