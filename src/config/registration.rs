//! `[registration]`: who may get an account.

use serde::Deserialize;

use super::{Config, Switch, services::is_https};
use crate::model::user::Email;

/// See `config.default.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    pub mode: UserRegistration,
    /// As written; empty: any.
    pub allowed_domains: Vec<String>,
    pub max_invitations: u32,
    /// As written; [`Config::confirms_registrations`] resolves `Auto`.
    pub confirm_email: Switch,
    pub terms: Terms,
}

/// See `config.default.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Empty: there are none.
    pub version: String,
    pub url: String,
    /// Empty: not shown.
    pub privacy_url: String,
}

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserRegistration {
    Open,
    /// Users with an invitation.
    Invitation,
    /// No user.
    Closed,
}

impl Registration {
    /// Whether users may register without an invitation.
    pub fn is_open(&self) -> bool {
        self.mode == UserRegistration::Open
    }

    /// The terms in force that users accept, if there are any.
    pub fn required_terms(&self) -> Option<&Terms> {
        (!self.terms.version.is_empty()).then_some(&self.terms)
    }

    /// Whether addresses of this domain may be registered without an invitation. Subdomains are
    /// domains of their own.
    pub fn admits(&self, email: &Email) -> bool {
        let domain = email.canonical.rsplit_once('@').and_then(|(_, domain)| ascii(domain));
        self.allowed_domains.is_empty()
            || domain.is_some_and(|domain| {
                self.allowed_domains.iter().any(|one| ascii(one).as_deref() == Some(&domain))
            })
    }
}

/// The A-labels of a domain in lower case (UTS #46).
fn ascii(domain: &str) -> Option<String> {
    idna::domain_to_ascii(domain).ok().filter(|domain| !domain.is_empty())
}

/// What is wrong with the values.
pub(super) fn problems(config: &Config, found: &mut Vec<(&'static str, String)>) {
    let settings = &config.registration;
    let is_domain =
        |text: &String| Email::parse(&format!("a@{text}")).is_ok() && ascii(text).is_some();
    if !settings.allowed_domains.iter().all(is_domain) || settings.allowed_domains.len() > 1_000 {
        let rule = "must be at most 1000 domains of email addresses, like [\"example.org\"]";
        found.push(("registration.allowed_domains", rule.to_owned()));
    }
    let Terms { version, url, privacy_url } = &settings.terms;
    if version.len() > 64 || version.contains(|c: char| !c.is_ascii_graphic()) {
        let rule = "must be at most 64 visible ASCII characters, like \"2026-11\"";
        found.push(("registration.terms.version", rule.to_owned()));
    }
    if version.is_empty() != url.is_empty() {
        let rule = "and registration.terms.version are set together or not at all";
        found.push(("registration.terms.url", rule.to_owned()));
    }
    for (key, url) in
        [("registration.terms.url", url), ("registration.terms.privacy_url", privacy_url)]
    {
        if !url.is_empty() && !is_https(url) {
            found.push((key, "must be an https URL".to_owned()));
        }
    }
    if !(1..=100_000).contains(&settings.max_invitations) {
        found.push(("registration.max_invitations", "must be from 1 to 100000".to_owned()));
    }
}
