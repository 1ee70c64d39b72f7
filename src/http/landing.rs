//! `/`: what this server is and where its doors are, for whoever opens the address in a browser.

use std::sync::OnceLock;

use askama::Template;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT_LANGUAGE, CONTENT_LANGUAGE, VARY},
};
use poem::{Endpoint, Request, Response, Result, Route, get};

use super::assets::{Asset, Coding, STATIC_PAGE_CSP, fingerprint, fixed_answer, page_headers};

const STYLE: &[u8] = include_bytes!("../../assets/propusk.css");
const ICON: &[u8] = include_bytes!("../../assets/favicon.svg");

/// The addresses of what every page of ours loads.
pub struct Style {
    /// The style sheet.
    pub sheet: String,
    /// The icon of the browser's tab.
    pub icon: String,
}

impl Style {
    /// The addresses; they carry a fingerprint of the files compiled in.
    pub fn get() -> &'static Self {
        static STYLE_FILES: OnceLock<Style> = OnceLock::new();
        STYLE_FILES.get_or_init(|| Self {
            sheet: format!("/assets/propusk-{}.css", fingerprint(STYLE)),
            icon: format!("/assets/favicon-{}.svg", fingerprint(ICON)),
        })
    }
}

/// The languages of our pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English, where nothing better is asked for.
    English,
    /// Russian.
    Russian,
}

impl Language {
    const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Russian => "ru",
        }
    }

    fn from_tag(tag: &str) -> Option<Self> {
        let primary = tag.split(['-', '_']).next().unwrap_or(tag);
        [Self::English, Self::Russian]
            .into_iter()
            .find(|language| primary.eq_ignore_ascii_case(language.tag()))
    }

    /// The language `?lang=` names, else the best of Accept-Language (RFC 9110 §12.5.4), else English.
    pub fn of(request: &Request) -> Self {
        let asked = request
            .uri()
            .query()
            .into_iter()
            .flat_map(|query| query.split('&'))
            .find_map(|pair| pair.strip_prefix("lang="))
            .and_then(Self::from_tag);
        asked
            .or_else(|| {
                request
                    .headers()
                    .get(ACCEPT_LANGUAGE)?
                    .to_str()
                    .ok()
                    .and_then(Self::preferred)
            })
            .unwrap_or(Self::English)
    }

    /// The first of the highest weights that we have; a weight of 0 or one that is no number excludes.
    fn preferred(header: &str) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        for range in header.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let Some(language) = parts.next().and_then(Self::from_tag) else {
                continue;
            };
            let weight = match parts.find_map(|part| part.strip_prefix("q=")) {
                None => 1.0,
                Some(text) => text.parse::<f32>().unwrap_or(0.0),
            };
            if weight > 0.0 && best.is_none_or(|(found, _)| weight > found) {
                best = Some((weight, language));
            }
        }
        best.map(|(_, language)| language)
    }
}

/// The words of the page in one language.
struct Words {
    title: &'static str,
    lead: &'static str,
    open_docs: &'static str,
    see_document: &'static str,
    doors: &'static str,
    door_docs: &'static str,
    door_openapi: &'static str,
    door_jwks: &'static str,
    door_health: &'static str,
    how: &'static str,
    steps: [(&'static str, &'static str); 3],
    visitor: &'static str,
    visitor_text: &'static str,
    other_language: &'static str,
    other_tag: &'static str,
    skip: &'static str,
    version: &'static str,
}

const ENGLISH: Words = Words {
    title: "One pass for every door",
    lead: "Propusk signs people in and issues the tokens their applications work with. \
           This is a running server; its documentation is one step away.",
    open_docs: "Open the API documentation",
    see_document: "OpenAPI document",
    doors: "Doors of this server",
    door_docs: "Every call described, with a button to try it",
    door_openapi: "The same as an OpenAPI 3.0 document, for your tools",
    door_jwks: "Public keys to verify access tokens with, by yourself",
    door_health: "Whether the server and its database are well",
    how: "How a pass works",
    steps: [
        (
            "Log in",
            "An application exchanges an email or username and a password for two tokens.",
        ),
        (
            "Call",
            "The access token is short-lived and signed; any service can verify it with the public keys.",
        ),
        (
            "Renew or end",
            "The refresh token renews it without asking again. Logging out ends both at once.",
        ),
    ],
    visitor: "Not a developer?",
    visitor_text: "You were probably led here by an application you use. Nothing is asked of you on this page: \
                   go back to the application and log in from there.",
    other_language: "Русский",
    other_tag: "ru",
    skip: "Skip to content",
    version: "Version",
};

const RUSSIAN: Words = Words {
    title: "Один пропуск на все двери",
    lead: "Propusk проверяет, кто входит, и выдаёт токены, с которыми работают приложения. \
           Этот сервер запущен; до документации один шаг.",
    open_docs: "Открыть документацию API",
    see_document: "Документ OpenAPI",
    doors: "Двери этого сервера",
    door_docs: "Описание каждого вызова; любой можно тут же попробовать",
    door_openapi: "То же самое как документ OpenAPI 3.0 — для ваших инструментов",
    door_jwks: "Открытые ключи, чтобы самостоятельно проверять токены доступа",
    door_health: "Исправны ли сервер и его база данных",
    how: "Как работает пропуск",
    steps: [
        (
            "Вход",
            "Приложение передаёт почту или имя пользователя и пароль и получает два токена.",
        ),
        (
            "Вызов",
            "Токен доступа подписан и живёт недолго; проверить его открытым ключом может любой сервис.",
        ),
        (
            "Продление или выход",
            "Токен обновления продлевает доступ без нового входа. Выход сразу прекращает действие обоих токенов.",
        ),
    ],
    visitor: "Вы не разработчик?",
    visitor_text: "Скорее всего, сюда вас привело приложение, которым вы пользуетесь. На этой странице ничего делать не нужно: \
                   вернитесь в приложение и войдите оттуда.",
    other_language: "English",
    other_tag: "en",
    skip: "Перейти к содержанию",
    version: "Версия",
};

#[derive(Template)]
#[template(path = "landing.html")]
struct LandingPage {
    style: &'static Style,
    lang: &'static str,
    version: &'static str,
    words: &'static Words,
}

struct Landing {
    english: (HeaderMap, Bytes),
    russian: (HeaderMap, Bytes),
}

impl Landing {
    fn render(
        language: Language,
        words: &'static Words,
    ) -> Result<(HeaderMap, Bytes), askama::Error> {
        let page = LandingPage {
            style: Style::get(),
            lang: language.tag(),
            version: env!("CARGO_PKG_VERSION"),
            words,
        };
        let mut headers = page_headers(STATIC_PAGE_CSP);
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
        headers.insert(VARY, HeaderValue::from_static("accept-language"));
        Ok((headers, Bytes::from(page.render()?)))
    }
}

impl Endpoint for Landing {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let (headers, body) = match Language::of(&request) {
            Language::English => &self.english,
            Language::Russian => &self.russian,
        };
        Ok(fixed_answer(headers, body))
    }
}

/// Adds `/` and the files every page of ours loads to `route`.
///
/// # Errors
/// Where a page cannot be rendered, which only a broken build can cause.
pub fn route(route: Route) -> Result<Route, askama::Error> {
    let landing = Landing {
        english: Landing::render(Language::English, &ENGLISH)?,
        russian: Landing::render(Language::Russian, &RUSSIAN)?,
    };
    let style = Style::get();
    Ok(route
        .at("/", get(landing))
        .at(
            &style.sheet,
            get(Asset::new(
                "text/css; charset=utf-8",
                Coding::Identity,
                STYLE,
            )),
        )
        .at(
            &style.icon,
            get(Asset::new("image/svg+xml", Coding::Identity, ICON)),
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_best_one_we_have() {
        let best = |header| Language::preferred(header);
        assert_eq!(best("ru-RU,ru;q=0.9,en;q=0.8"), Some(Language::Russian));
        assert_eq!(best("de, en;q=0.5, ru;q=0.4"), Some(Language::English));
        assert_eq!(best("en;q=0.1, RU;q=0.2"), Some(Language::Russian));
        assert_eq!(best("ru;q=0, de"), None);
        assert_eq!(best("ru;q=x"), None);
        assert_eq!(best("rus"), None);
        assert_eq!(best(""), None);
    }

    #[tokio::test]
    async fn the_page_speaks_the_language_asked_for_and_carries_its_headers() {
        let client = poem::test::TestClient::new(route(Route::new()).unwrap());
        let plain = client.get("/").send().await;
        plain.assert_status_is_ok();
        for (name, value) in [
            ("content-language", "en"),
            ("vary", "accept-language"),
            ("content-security-policy", STATIC_PAGE_CSP),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            plain.assert_header(name, value);
        }
        let russian = client.get("/").header("accept-language", "ru").send().await;
        russian.assert_header("content-language", "ru");
        assert!(
            russian
                .0
                .into_body()
                .into_string()
                .await
                .unwrap()
                .contains("<html lang=\"ru\"")
        );
        let chosen = client
            .get("/?lang=en")
            .header("accept-language", "ru")
            .send()
            .await;
        chosen.assert_header("content-language", "en");
        client.head("/").send().await.assert_status_is_ok();
    }
}
