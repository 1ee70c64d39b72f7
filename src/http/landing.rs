//! `/`: the landing page, which describes the server and links to its main URLs.

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
    views::{
        AssetUrls, ICON, LanguageLink, Locale, PASSKEY, REVEAL, SHEET, SUBMIT, language_cookie,
        language_links,
    },
};
use crate::branding::Branding;

#[derive(Template)]
#[template(path = "landing.html")]
struct LandingPage<'a> {
    assets: &'static AssetUrls,
    lang: &'static str,
    languages: Vec<LanguageLink>,
    look: &'static Branding,
    t: &'static Locale,
    version: &'static str,
    settings: &'a Settings,
    /// The display name of the user who is logged in.
    user: Option<String>,
}

/// What the landing page shows of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Users may register.
    pub registration: bool,
    /// Who operates the deployment; empty: not shown.
    pub operator: String,
}

/// The landing page; without a session it is rendered once per locale.
struct Landing {
    settings: Settings,
    anonymous: Vec<(&'static Locale, HeaderMap, Bytes)>,
}

impl Landing {
    fn new(settings: Settings, look: &'static Branding) -> Result<Self, askama::Error> {
        let page = |t: &'static Locale| {
            render(t, &settings, None).map(|(headers, body)| (t, headers, body))
        };
        let anonymous = look.locales().iter().map(page).collect::<Result<_, _>>()?;
        Ok(Self { settings, anonymous })
    }
}

fn render(
    t: &'static Locale,
    settings: &Settings,
    user: Option<String>,
) -> Result<(HeaderMap, Bytes), askama::Error> {
    let page = LandingPage {
        assets: AssetUrls::get(),
        lang: t.tag(),
        languages: language_links(t, Some(("/".into(), vec![]))),
        look: t.branding(),
        t,
        version: env!("CARGO_PKG_VERSION"),
        settings,
        user,
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
        let locale = Locale::of_request(&request, None);
        if let Some(user) = pages::logged_in_user(&request).await {
            let page = render(locale, &self.settings, Some(user));
            return pages::rendered(page.map(|(headers, body)| fixed_answer(&headers, &body)));
        }
        let page = self.anonymous.iter().find(|(t, ..)| std::ptr::eq(*t, locale));
        Ok(page.map_or_else(Response::default, |(_, headers, body)| fixed_answer(headers, body)))
    }
}

/// Adds `/` and the files that all pages load to `route`.
///
/// # Errors
/// If a template fails to render, which indicates a bug.
pub fn route(
    route: Route,
    settings: Settings,
    look: &'static Branding,
) -> Result<Route, askama::Error> {
    let assets = AssetUrls::get();
    let script = "text/javascript; charset=utf-8";
    let files = [
        (&assets.style_sheet, "text/css; charset=utf-8", SHEET),
        (&assets.icon, "image/svg+xml", ICON),
        (&assets.reveal, script, REVEAL),
        (&assets.passkey, script, PASSKEY),
        (&assets.submit, script, SUBMIT),
    ];
    let route = route.at("/", get(Landing::new(settings, look)?));
    let route = files.into_iter().fold(route, |route, (at, media_type, file)| {
        route.at(at, get(Asset::new(media_type, Coding::Identity, file)))
    });
    Ok(look.files.iter().fold(route, |route, file| {
        route.at(&file.url, get(Asset::of_operator(file.media_type, &file.content)))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(registration: bool, operator: &str) -> poem::test::TestClient<Route> {
        let settings = Settings { registration, operator: operator.to_owned() };
        poem::test::TestClient::new(route(Route::new(), settings, Branding::ours()).unwrap())
    }

    #[tokio::test]
    async fn the_page_speaks_to_users_first_and_names_the_operator() {
        for (lang, developers) in [("en", "For developers"), ("ru", "Разработчикам")] {
            let client = client(true, "Example <Ltd>");
            let page = client.get(format!("/?lang={lang}")).send().await;
            let html = page.0.into_body().into_string().await.unwrap();
            assert!(html.contains("Example &#60;Ltd&#62;"), "{html}");
            let at = |part: &str| html.find(part).unwrap_or_else(|| panic!("{part} in {html}"));
            assert!(at("href=\"/login\"") < at("id=\"visitor\""));
            assert!(at("id=\"visitor\"") < at(developers));
            for technical in ["OAuth", "/docs", "OpenID"] {
                assert!(at(developers) < at(technical), "{technical}");
            }
        }
        let page = client(true, "").get("/").send().await;
        let html = page.0.into_body().into_string().await.unwrap();
        assert!(!html.contains("operated by"), "{html}");
    }

    #[tokio::test]
    async fn the_page_follows_the_language_and_has_security_headers() {
        let client = client(true, "");
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
    async fn the_page_offers_no_registration_if_it_is_disabled() {
        let client = client(false, "");
        let html = client.get("/").send().await.0.into_body().into_string();
        assert!(!html.await.unwrap().contains("/register"));
    }
}
