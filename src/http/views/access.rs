//! What an application may do, and the end of it: consent and logout.

use std::borrow::Cow;

use url::form_urlencoded;

use super::{Address, ClientCard, Form, Locale, page, web_link};

/// One thing that an application asks for.
#[derive(Clone, Debug)]
pub struct ScopeLine {
    /// The scope as the protocol names it.
    pub name: String,
    /// The module it belongs to, as people call it.
    pub module: Option<String>,
    /// What it means, in the reader's language; without it, our words for the scopes of OpenID Connect, else the name itself.
    pub text: Option<String>,
    /// Whether it was granted before.
    pub known: bool,
}

impl ScopeLine {
    fn meaning(&self, t: &Locale) -> Option<Cow<'_, str>> {
        let given = self.text.as_deref().map(Cow::Borrowed);
        given.or_else(|| t.scope(&self.name))
    }
}

/// The question whether an application may have what it asks for.
#[derive(Debug)]
pub struct Consent<'a> {
    pub form: Form<'a>,
    /// The authorization request as a query, sent back with the answer.
    pub request: &'a str,
    pub client: ClientCard<'a>,
    /// Who is asked, as they know themselves.
    pub account: &'a str,
    /// Where another account can be logged in to for this request.
    pub other_account: &'a str,
    pub scopes: Vec<ScopeLine>,
    /// The host of the redirect URI.
    pub redirect_host: &'a str,
    /// The answer goes to a program on this device: any program there could have asked.
    pub local_redirect: bool,
    /// The application registered by itself: its name is what it says of itself.
    pub unverified: bool,
    /// The host of a client_id that is a URL (OAuth Client ID Metadata Document).
    pub client_host: Option<&'a str>,
    /// The API that the access is for (RFC 8707).
    pub resource: Option<&'a str>,
}

impl Consent<'_> {
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

    fn address(&self) -> Option<Address<'_>> {
        let query = form_urlencoded::parse(self.request.as_bytes());
        Some(("/oauth2/authorize", query.collect()))
    }
}

page!(Consent, "consent.html", script: false);

/// The question whether to log out.
#[derive(Debug)]
pub struct Logout<'a> {
    pub form: Form<'a>,
    /// The application that asks for it.
    pub client: Option<&'a str>,
    pub account: Option<&'a str>,
    /// The parameters of the request, sent back with the answer.
    pub hidden: Vec<(&'a str, &'a str)>,
}

impl Logout<'_> {
    fn address(&self) -> Option<Address<'_>> {
        let query = self.hidden.iter();
        let query = query.map(|(name, value)| ((*name).into(), (*value).into()));
        Some(("/oauth2/logout", query.collect()))
    }
}

page!(Logout, "logout.html", script: false);

/// After a logout.
#[derive(Debug)]
pub struct LoggedOut<'a> {
    /// The application that asked for it, and its home page.
    pub client: Option<(&'a str, &'a str)>,
}

impl LoggedOut<'_> {
    fn next(&self) -> Option<(&str, &str)> {
        let (name, uri) = self.client?;
        Some((name, web_link(Some(uri))?))
    }

    fn address(&self) -> Option<Address<'_>> {
        None
    }
}

page!(LoggedOut, "logged_out.html", script: false);
