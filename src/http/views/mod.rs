//! The HTML pages: each is a struct here, a template in `templates/` and messages in `locales/`.
//! They work without scripts; the two small scripts only add convenience.

mod account;
mod admin;
mod consent;
mod device;
mod email;
mod locale;
pub mod mail;
mod messages;
mod profile;
mod second_factor;
mod self_service;
mod services;
mod terms;
mod upstream;

use std::{borrow::Cow, sync::OnceLock};

use http::{
    HeaderValue, Method, StatusCode, Uri,
    header::{CONTENT_LANGUAGE, SET_COOKIE, VARY},
};
use poem::Response;
use url::{Url, form_urlencoded};

pub use self::{
    account::{Account, AccountLink, LoggedOut, Login, Logout, Problem, Register, SelectAccount},
    admin::{
        AdminForm, AdminPage, AdminSection, Block, Cell, Code, Facts, Field, FormMethod, Input,
        Table, Tone,
    },
    consent::{Consent, ScopeLine},
    device::{DeviceCode, DeviceConsent, DeviceFacts, DeviceResult, Outcome},
    email::{EmailForm, EmailOutcome, EmailResult, EmailStep, Secret},
    locale::{LANGUAGE_COOKIE, Locale},
    messages::{Destination, ErrorPage, ErrorTitle, FormPost, Leaving},
    profile::{ChangePassword, ChangeUsername, ProfileField, ProfileForm},
    second_factor::{
        AddPasskey, ConfirmChange, DeviceLine, FactorLine, FactorQuestion, PasskeyForm,
        RecoveryCodes, SecondFactor, Security, SetUpFactor,
    },
    self_service::{
        ApplicationLine, Applications, ConsentLine, DeleteAccount, DeletionOutcome, DeletionResult,
        ExportAccount, ModuleLine, Modules, RestoreAccount, SessionLine, Sessions,
    },
    services::{Connect, ConnectionLine, ConnectionNotice, Connections},
    terms::{AcceptTerms, TermsBox},
    upstream::{IdentityLine, ProviderLink, UnlinkedIdentity},
};
use super::assets::{fingerprint, page_headers};

pub(super) const SHEET: &[u8] = include_bytes!("../../../assets/propusk.css");
pub(super) const ICON: &[u8] = include_bytes!("../../../assets/favicon.svg");
pub(super) const REVEAL: &[u8] = include_bytes!("../../../assets/reveal.js");
pub(super) const PASSKEY: &[u8] = include_bytes!("../../../assets/passkey.js");
pub(super) const SUBMIT: &[u8] = include_bytes!("../../../assets/submit.js");

/// The paths of the files that the pages load.
pub struct AssetUrls {
    /// The style sheet.
    pub style_sheet: String,
    /// The favicon.
    pub icon: String,
    /// The script that shows and hides a password.
    pub reveal: String,
    /// The script that asks the browser for passkeys.
    pub passkey: String,
    /// The script that submits a form on load.
    pub submit: String,
}

impl AssetUrls {
    /// The paths; each contains a fingerprint of the file, so that browsers may cache it forever.
    pub fn get() -> &'static Self {
        static URLS: OnceLock<AssetUrls> = OnceLock::new();
        URLS.get_or_init(|| Self {
            style_sheet: format!("/assets/propusk-{}.css", fingerprint(SHEET)),
            icon: format!("/assets/favicon-{}.svg", fingerprint(ICON)),
            reveal: format!("/assets/reveal-{}.js", fingerprint(REVEAL)),
            passkey: format!("/assets/passkey-{}.js", fingerprint(PASSKEY)),
            submit: format!("/assets/submit-{}.js", fingerprint(SUBMIT)),
        })
    }
}

/// The hidden fields of every form.
#[derive(Clone, Copy, Debug)]
pub struct Form<'a> {
    /// The CSRF token.
    pub csrf: &'a str,
    /// Where to continue afterwards, a path of this server.
    pub return_to: Option<&'a str>,
}

/// The application that a page shows.
#[derive(Clone, Copy, Debug)]
pub struct ClientCard<'a> {
    pub name: &'a str,
    /// A `data:` URI. Never `https:`: loading it would reveal the user to the application before
    /// they consented to anything.
    pub logo: Option<&'a str>,
    pub uri: Option<&'a str>,
    pub policy_uri: Option<&'a str>,
    pub tos_uri: Option<&'a str>,
}

impl ClientCard<'_> {
    /// The first letter of the name, shown in place of a missing logo.
    fn letter(&self) -> String {
        let first = self.name.chars().find(|c| c.is_alphanumeric());
        first.map_or_else(|| "?".to_owned(), |c| c.to_uppercase().collect())
    }

    fn picture(&self) -> Option<&str> {
        self.logo.filter(|logo| logo.starts_with("data:image/"))
    }
}

/// Where the forms of a page lead (CSP `form-action`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FormAction {
    /// To this server.
    #[default]
    ThisServer,
    /// To this server, which may redirect the browser to an application, or to the application.
    ///
    /// Chromium checks the whole chain of redirects after a form against `form-action`, silently.
    /// Where an application redirects on to (a private-use scheme, http on loopback) is not known
    /// here, and CSP has no source that matches every scheme: the policy has no `form-action`.
    Application,
}

/// The Content-Security-Policy of a page with forms: no inline script or style, no resources from
/// other hosts, no framing.
fn policy(script: bool, form_action: FormAction) -> String {
    let mut policy =
        "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; \
         frame-ancestors 'none'"
            .to_owned();
    if form_action == FormAction::ThisServer {
        policy.push_str("; form-action 'self'");
    }
    if script {
        policy.push_str("; script-src 'self'");
    }
    policy
}

/// The URL of a page: its path and its query parameters.
pub type PageUrl<'a> = (Cow<'a, str>, Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// The URL of a page that can be requested again; `None` for one that a form was sent to, and for a
/// path that a browser would read as a host.
pub fn page_url(method: &Method, uri: &Uri) -> Option<PageUrl<'static>> {
    let path = uri.path();
    if method != Method::GET || path.starts_with("//") || path.contains('\\') {
        return None;
    }
    let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    Some((path.to_owned().into(), query.into_owned().map(|(n, v)| (n.into(), v.into())).collect()))
}

/// `path` with the `return_to` of the form, such as `/login?return_to=…`.
fn url_with_return_to<'a>(path: &'static str, form: &Form<'a>) -> PageUrl<'a> {
    let query = form.return_to.map(|to| ("return_to".into(), to.into()));
    (path.into(), query.into_iter().collect())
}

/// A link to a page in one of the languages.
#[derive(Debug)]
pub struct LanguageLink {
    pub tag: &'static str,
    pub name: &'static str,
    pub href: String,
    /// Whether the page is in it.
    pub is_current: bool,
}

/// The links to a page in every language; none where there is one language only.
pub fn language_links(t: &Locale, url: Option<PageUrl<'_>>) -> Vec<LanguageLink> {
    let Some((path, query)) = url else { return vec![] };
    let kept: Vec<_> = query.iter().filter(|(name, _)| name != "lang").collect();
    let link = |(tag, name, is_current)| {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(kept.iter().map(|(name, value)| (name, value)))
            .append_pair("lang", tag)
            .finish();
        LanguageLink { tag, name, href: format!("{path}?{query}"), is_current }
    };
    let links: Vec<LanguageLink> = t.languages().map(link).collect();
    if links.len() > 1 { links } else { vec![] }
}

/// The response with a page. A language chosen by link is kept in a cookie for the next page.
fn page_response(t: &Locale, status: StatusCode, policy: &str, body: String) -> Response {
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

/// The `Set-Cookie` value that keeps the language for a year.
pub(super) fn language_cookie(t: &Locale) -> HeaderValue {
    let cookie = format!("lang={}; Path=/; Max-Age=31536000; SameSite=Lax; HttpOnly", t.tag());
    // A tag has letters, digits and hyphens.
    HeaderValue::from_str(&cookie).unwrap_or(HeaderValue::from_static("lang=en"))
}

/// Renders a view by a template: `page!(View, "view.html", script: bool)`. In the template, `v` is
/// the view and `t` the locale.
macro_rules! page {
    ($view:ident, $path:literal, script: $script:expr) => {
        const _: () = {
            #[derive(askama::Template)]
            #[template(path = $path)]
            struct Page<'a> {
                assets: &'static $crate::http::views::AssetUrls,
                lang: &'static str,
                languages: Vec<$crate::http::views::LanguageLink>,
                look: &'static $crate::branding::Branding,
                t: &'static $crate::http::views::Locale,
                v: &'a $view<'a>,
            }

            impl $view<'_> {
                /// Renders the page in the language of `t`. `form_action`: where its forms lead.
                ///
                /// # Errors
                /// If the template fails to render, which indicates a bug.
                pub fn render(
                    &self,
                    t: &'static $crate::http::views::Locale,
                    status: http::StatusCode,
                    form_action: $crate::http::views::FormAction,
                ) -> Result<poem::Response, askama::Error> {
                    let page = Page {
                        assets: $crate::http::views::AssetUrls::get(),
                        lang: t.tag(),
                        languages: $crate::http::views::language_links(t, self.url()),
                        look: t.branding(),
                        t,
                        v: self,
                    };
                    let body = askama::Template::render(&page)?;
                    let policy = $crate::http::views::policy($script, form_action);
                    Ok($crate::http::views::page_response(t, status, &policy, body))
                }
            }
        };
    };
}
use page;

/// `uri` if a page may link to it: an `http` or `https` URL, never `javascript:` and the like.
fn web_link(uri: Option<&str>) -> Option<&str> {
    uri.filter(|uri| {
        Url::parse(uri).is_ok_and(|url| ["https", "http"].contains(&url.scheme()) && url.has_host())
    })
}

#[cfg(test)]
mod tests;
