//! Consent.

use std::borrow::Cow;

use url::form_urlencoded;

use super::{ClientCard, Form, Locale, PageUrl, page, web_link};

/// A requested scope.
#[derive(Clone, Debug)]
pub struct ScopeLine {
    /// The scope value.
    pub name: String,
    /// The display name of the module it belongs to.
    pub module: Option<String>,
    /// The configured description in the language of the page. Without it, the built-in description
    /// of an OpenID Connect scope is shown, else the name.
    pub text: Option<String>,
    /// Whether the user granted it to this client before.
    pub known: bool,
}

impl ScopeLine {
    /// What the scope allows, in words; `None`: nobody has described it.
    pub fn description(&self, t: &Locale) -> Option<Cow<'_, str>> {
        let given = self.text.as_deref().map(Cow::Borrowed);
        given.or_else(|| t.scope(&self.name))
    }
}

/// Asks the user to allow or deny a request.
#[derive(Debug)]
pub struct Consent<'a> {
    pub form: Form<'a>,
    /// The authorization request as a query string, sent back with the decision.
    pub request: &'a str,
    /// What the page shows, sent back with the decision.
    pub shown: &'a str,
    pub client: ClientCard<'a>,
    /// The username, else the email address.
    pub account: &'a str,
    /// The login page, for another account with this request.
    pub other_account: &'a str,
    pub scopes: Vec<ScopeLine>,
    /// The host of the redirect URI.
    pub redirect_host: &'a str,
    /// The redirect URI leads to a program on this device; any program there could have sent the
    /// request.
    pub local_redirect: bool,
    /// The client is self-registered: its name is not verified.
    pub unverified: bool,
    /// The host of a client_id that is a URL (OAuth Client ID Metadata Document).
    pub client_host: Option<&'a str>,
    /// The requested resource (RFC 8707).
    pub resource: Option<&'a str>,
}

impl Consent<'_> {
    /// What the user has not granted yet; if there is nothing new, everything.
    fn asked(&self) -> Vec<&ScopeLine> {
        self.scopes.iter().filter(|scope| !scope.known || self.are_all_known()).collect()
    }

    /// What the user has granted before, beside something new.
    fn granted(&self) -> Vec<&ScopeLine> {
        self.scopes.iter().filter(|scope| scope.known && !self.are_all_known()).collect()
    }

    fn are_all_known(&self) -> bool {
        !self.scopes.is_empty() && self.scopes.iter().all(|scope| scope.known)
    }

    fn links(&self, t: &Locale) -> Vec<(Cow<'static, str>, &str)> {
        [
            ("consent-website", self.client.uri),
            ("consent-privacy", self.client.policy_uri),
            ("consent-terms", self.client.tos_uri),
        ]
        .into_iter()
        .filter_map(|(key, uri)| Some((t.get(key), web_link(uri)?)))
        .collect()
    }

    fn url(&self) -> Option<PageUrl<'_>> {
        let query = form_urlencoded::parse(self.request.as_bytes());
        Some(("/oauth2/authorize".into(), query.collect()))
    }
}

page!(Consent, "consent.html", script: false);
