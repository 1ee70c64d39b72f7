//! `[registration]`: who may get an account.

use serde::Deserialize;

use super::{Config, Switch};
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
}

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserRegistration {
    Open,
    /// Users with an invitation.
    Invitation,
    /// Nobody.
    Closed,
}

impl Registration {
    /// Whether anybody may register.
    pub fn is_open(&self) -> bool {
        self.mode == UserRegistration::Open
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
    let is_domain = |text: &String| Email::parse(&format!("a@{text}")).is_ok() && ascii(text).is_some();
    if !settings.allowed_domains.iter().all(is_domain) || settings.allowed_domains.len() > 1_000 {
        let rule = "must be at most 1000 domains of email addresses, like [\"example.org\"]";
        found.push(("registration.allowed_domains", rule.to_owned()));
    }
    if !(1..=100_000).contains(&settings.max_invitations) {
        found.push(("registration.max_invitations", "must be from 1 to 100000".to_owned()));
    }
}
