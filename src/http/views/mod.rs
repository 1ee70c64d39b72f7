//! The pages people see: each is a plain struct here, a template of `templates/` and words of `locales/`. They work without
//! scripts; what the two small scripts of ours do is comfort.

mod access;
mod entry;
mod locale;
mod messages;

use std::{borrow::Cow, fmt::Write, sync::OnceLock};

use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_LANGUAGE, SET_COOKIE, VARY},
};
use poem::Response;
use url::{Url, form_urlencoded};

pub use self::{
    access::{Consent, LoggedOut, Logout, ScopeLine},
    entry::{Account, Login, Problem, Register, SelectAccount},
    locale::{LANGUAGE_COOKIE, Language, Locale},
    messages::{ErrorPage, ErrorTitle, FormPost},
};
use super::assets::{fingerprint, page_headers};

pub(super) const SHEET: &[u8] = include_bytes!("../../../assets/propusk.css");
pub(super) const ICON: &[u8] = include_bytes!("../../../assets/favicon.svg");
pub(super) const REVEAL: &[u8] = include_bytes!("../../../assets/reveal.js");
pub(super) const SUBMIT: &[u8] = include_bytes!("../../../assets/submit.js");

/// The addresses of what pages of ours load.
pub struct Style {
    /// The style sheet.
    pub sheet: String,
    /// The icon of the browser's tab.
    pub icon: String,
    /// The script that shows and hides a password.
    pub reveal: String,
    /// The script that sends a form by itself.
    pub submit: String,
}

impl Style {
    /// The addresses; they carry a fingerprint of the files compiled in.
    pub fn get() -> &'static Self {
        static STYLE_FILES: OnceLock<Style> = OnceLock::new();
        STYLE_FILES.get_or_init(|| Self {
            sheet: format!("/assets/propusk-{}.css", fingerprint(SHEET)),
            icon: format!("/assets/favicon-{}.svg", fingerprint(ICON)),
            reveal: format!("/assets/reveal-{}.js", fingerprint(REVEAL)),
            submit: format!("/assets/submit-{}.js", fingerprint(SUBMIT)),
        })
    }
}

/// What every form sends beside what is typed.
#[derive(Clone, Copy, Debug)]
pub struct Form<'a> {
    /// Proves that the form is ours and of this browser.
    pub csrf: &'a str,
    /// Where to go on afterwards, an address of ours.
    pub return_to: Option<&'a str>,
}

/// The application a page is about.
#[derive(Clone, Copy, Debug)]
pub struct ClientCard<'a> {
    pub name: &'a str,
    /// A `data:` URI. Never an address: loading it would tell the application's host who is looking, before they agreed to anything.
    pub logo: Option<&'a str>,
    pub uri: Option<&'a str>,
    pub policy_uri: Option<&'a str>,
    pub tos_uri: Option<&'a str>,
}

impl ClientCard<'_> {
    /// What stands for the application where it has no logo.
    fn letter(&self) -> String {
        let first = self.name.chars().find(|c| c.is_alphanumeric());
        first.map_or_else(|| "?".to_owned(), |c| c.to_uppercase().collect())
    }

    fn picture(&self) -> Option<&str> {
        self.logo.filter(|logo| logo.starts_with("data:image/"))
    }
}

/// Where the forms of a page may lead, in the words of CSP's `form-action`, beside this server itself.
#[derive(Clone, Debug, Default)]
pub struct FormAction {
    /// Sources; one that is none is left out.
    pub extra: Vec<String>,
}

impl FormAction {
    /// For a page whose form may end in a redirect to `redirect_uri`. Browsers hold the whole chain of redirects that a form begins
    /// against `form-action`, and an application's redirect URI often leads on to another host of its own: so the source is the
    /// scheme, and https beside it. An origin alone would also fail where it is `http://[::1]`, which CSP cannot say.
    pub fn to(redirect_uri: &str) -> Self {
        let Ok(url) = Url::parse(redirect_uri) else {
            return Self::default();
        };
        let mut extra = vec!["https:".to_owned()];
        if url.scheme() != "https" {
            extra.push(format!("{}:", url.scheme()));
        }
        Self { extra }
    }

    /// A source is a scheme, or a scheme and a host; nothing else gets into the header.
    fn is_source(text: &str) -> bool {
        let Some((scheme, rest)) = text.split_once(':') else {
            return false;
        };
        let plain = |text: &str, more: &[u8]| {
            text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
        };
        let host = rest.strip_prefix("//");
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && plain(scheme, b"+-.")
            && (rest.is_empty()
                || host.is_some_and(|host| !host.is_empty() && plain(host, b"-._:")))
    }
}

/// The policy of a page with forms. No inline script or style, nothing from another host, no frames.
fn policy(script: bool, form_action: &FormAction) -> String {
    let mut policy =
        "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; \
         frame-ancestors 'none'; form-action 'self'"
            .to_owned();
    for source in form_action.extra.iter().filter(|s| FormAction::is_source(s)) {
        let _ = write!(policy, " {source}"); // writing to a String cannot fail
    }
    if script {
        policy.push_str("; script-src 'self'");
    }
    policy
}

/// Where a page can be asked for again: a path of ours and its parameters.
type Address<'a> = (&'static str, Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// `/login?return_to=…`, and the like: a page that was asked for with where to go on afterwards.
fn with_return<'a>(path: &'static str, form: &Form<'a>) -> Address<'a> {
    let query = form.return_to.map(|to| ("return_to".into(), to.into()));
    (path, query.into_iter().collect())
}

/// A page in the other language.
fn switch(t: &Locale, (path, query): Address<'_>) -> String {
    let kept = query.into_iter().filter(|(name, _)| name != "lang");
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(kept)
        .append_pair("lang", t.language().other().tag())
        .finish();
    format!("{path}?{query}")
}

/// A page as an answer. What is chosen by a page's link is remembered by a cookie, so that the next page follows.
fn answer(t: &Locale, status: StatusCode, policy: &str, body: String) -> Response {
    let mut response = Response::from(body);
    response.set_status(status);
    let headers = response.headers_mut();
    *headers = page_headers(policy);
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(t.tag()));
    headers.insert(VARY, HeaderValue::from_static("accept-language, cookie"));
    if t.is_chosen() {
        headers.append(SET_COOKIE, language_cookie(t));
    }
    response
}

/// Remembers the language for a year.
pub(super) fn language_cookie(t: &Locale) -> HeaderValue {
    HeaderValue::from_static(match t.language() {
        Language::English => "lang=en; Path=/; Max-Age=31536000; SameSite=Lax; HttpOnly",
        Language::Russian => "lang=ru; Path=/; Max-Age=31536000; SameSite=Lax; HttpOnly",
    })
}

/// Gives a view its template: `page!(View, "view.html", script: bool)`. In the template, `v` is the view and `t` its words.
macro_rules! page {
    ($view:ident, $path:literal, script: $script:expr) => {
        const _: () = {
            #[derive(askama::Template)]
            #[template(path = $path)]
            struct Page<'a> {
                style: &'static $crate::http::views::Style,
                lang: &'static str,
                switch: Option<String>,
                t: &'static $crate::http::views::Locale,
                v: &'a $view<'a>,
            }

            impl $view<'_> {
                /// The page in the language of `t`. `form_action` says where its forms may lead beside this server.
                ///
                /// # Errors
                /// Where the template fails, which only a broken build can cause.
                pub fn render(
                    &self,
                    t: &'static $crate::http::views::Locale,
                    status: http::StatusCode,
                    form_action: &$crate::http::views::FormAction,
                ) -> Result<poem::Response, askama::Error> {
                    let page = Page {
                        style: $crate::http::views::Style::get(),
                        lang: t.tag(),
                        switch: self
                            .address()
                            .map(|address| $crate::http::views::switch(t, address)),
                        t,
                        v: self,
                    };
                    let body = askama::Template::render(&page)?;
                    let policy = $crate::http::views::policy($script, form_action);
                    Ok($crate::http::views::answer(t, status, &policy, body))
                }
            }
        };
    };
}
use page;

/// An address that a page may link to: a page of the web, never `javascript:` and the like.
fn web_link(uri: Option<&str>) -> Option<&str> {
    uri.filter(|uri| {
        Url::parse(uri).is_ok_and(|url| ["https", "http"].contains(&url.scheme()) && url.has_host())
    })
}

#[cfg(test)]
mod tests;
