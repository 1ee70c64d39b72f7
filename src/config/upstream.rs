//! `[upstream.NAME]`: other OpenID providers at which users log in (docs/upstream.md).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    time::Duration,
};

use serde::Deserialize;
use url::{Host, Url};

use super::{
    Config, empty_is_none,
    named::{NamedSection, Problem},
    services::ServiceAuth,
};
use crate::model::catalogue::in_language;

/// The providers by name.
pub type Upstream = BTreeMap<String, Provider>;

/// The section of all providers.
const SECTION: &str = "upstream";

/// How providers are configured.
pub(super) const NAMED: NamedSection =
    NamedSection { name: SECTION, keys: PROVIDER, nested: None, secret: &["client_secret"] };

/// Every key of a provider with its default; `config.default.toml` explains them.
const PROVIDER: &str = r#"
issuer = ""
client_id = ""
client_secret = ""
private_key_file = ""
key_id = ""
token_endpoint_auth_method = "client_secret_basic"
assertion_audience = ""
scope = "openid profile email"
display_name = {}
order = 0
username_claim = "preferred_username"
email_claim = "email"
email_verified_claim = "email_verified"
registration = true
registration_without_invitation = false
trust_email = false
mfa_acr_values = []
mfa_amr_values = []
timeout = "5s"
"#;

/// An OpenID provider at which users of this server log in.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    pub issuer: String,
    pub client_id: String,
    pub client_secret: String,
    #[serde(deserialize_with = "empty_is_none")]
    pub private_key_file: Option<PathBuf>,
    /// The `kid` of assertions; empty: none.
    pub key_id: String,
    pub token_endpoint_auth_method: ProviderAuth,
    /// As written, possibly empty; [`Provider::assertion_audience`] resolves it.
    assertion_audience: String,
    pub scope: String,
    /// By language; [`Provider::name`] chooses one.
    display_name: BTreeMap<String, String>,
    pub order: i64,
    pub username_claim: String,
    pub email_claim: String,
    pub email_verified_claim: String,
    /// Whether its users may get an account here, where the server allows registration.
    pub registration: bool,
    /// Whether its users need no invitation where `registration.mode` is `invitation`.
    pub registration_without_invitation: bool,
    /// Whether an address that the provider has verified counts as verified here.
    pub trust_email: bool,
    pub mfa_acr_values: Vec<String>,
    pub mfa_amr_values: Vec<String>,
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Provider({})", self.issuer)
    }
}

impl Provider {
    /// The `aud` of assertions.
    pub fn assertion_audience(&self) -> &str {
        match self.assertion_audience.as_str() {
            "" => &self.issuer,
            audience => audience,
        }
    }

    /// The name to show in a language; `fallback` where none is configured.
    pub fn name<'a>(&'a self, language: &str, fallback: &'a str) -> &'a str {
        let names = &self.display_name;
        let name = in_language(names, language).or_else(|| Some(names.values().next()?.as_str()));
        name.unwrap_or(fallback)
    }

    /// How this server authenticates at the token endpoint; `None`: it is a public client.
    pub const fn auth(&self) -> Option<ServiceAuth> {
        match self.token_endpoint_auth_method {
            ProviderAuth::ClientSecretBasic => Some(ServiceAuth::Basic),
            ProviderAuth::ClientSecretPost => Some(ServiceAuth::Post),
            ProviderAuth::PrivateKeyJwt => Some(ServiceAuth::PrivateKeyJwt),
            ProviderAuth::None => None,
        }
    }
}

/// How this server authenticates at a provider (OpenID Connect Core §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderAuth {
    ClientSecretBasic,
    ClientSecretPost,
    PrivateKeyJwt,
    None,
}

/// What is wrong with the providers.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let mut found = vec![];
    let mut issuers = BTreeSet::new();
    for (name, provider) in &config.upstream {
        check(config, name, provider, &mut found);
        if !issuers.insert(provider.issuer.as_str()) {
            let why = "is the issuer of another provider as well: its users would be the same";
            found.push((format!("{SECTION}.{name}.issuer"), why.to_owned()));
        }
    }
    found
}

fn check(config: &Config, name: &str, provider: &Provider, found: &mut Vec<Problem>) {
    let mut wrong =
        |key: &str, problem: &str| found.push((format!("{SECTION}.{name}.{key}"), problem.into()));
    if !is_issuer(&provider.issuer, config.is_local()) {
        let how = "must be an https URL without query and fragment, as the provider writes it in \
                   its metadata; http is for loopback while server.issuer and server.listen are on \
                   loopback";
        wrong("issuer", how);
    } else if provider.issuer == config.server.issuer {
        wrong("issuer", "must be another server than this one");
    }
    if provider.client_id.is_empty() {
        wrong("client_id", "is required: the id of this server at the provider");
    }
    let has_secret = !provider.client_secret.is_empty();
    match (provider.auth(), has_secret) {
        (Some(ServiceAuth::Basic | ServiceAuth::Post), false) => {
            let how = "is required by token_endpoint_auth_method = \"client_secret_basic\" and \
                       \"client_secret_post\"; keep it out of the file by \
                       PROPUSK_UPSTREAM__…__CLIENT_SECRET_FILE";
            wrong("client_secret", how);
        }
        (Some(ServiceAuth::PrivateKeyJwt) | None, true) => {
            wrong("client_secret", "has no use with this token_endpoint_auth_method");
        }
        _ => {}
    }
    let needs_key = provider.auth() == Some(ServiceAuth::PrivateKeyJwt);
    match &provider.private_key_file {
        None if needs_key => {
            let how = "is required by token_endpoint_auth_method = \"private_key_jwt\"";
            wrong("private_key_file", how);
        }
        Some(_) if !needs_key => {
            let why = "has no use without token_endpoint_auth_method = \"private_key_jwt\"";
            wrong("private_key_file", why);
        }
        Some(path) if !path.is_file() => {
            let how = format!("file not found: {}; name an existing file", path.display());
            wrong("private_key_file", &how);
        }
        _ => {}
    }
    if !provider.scope.split(' ').any(|scope| scope == "openid") {
        wrong("scope", "must contain \"openid\"");
    }
    for (language, text) in &provider.display_name {
        if !is_language_tag(language) {
            wrong("display_name", "must be by language: { en = \"…\", ru = \"…\" }");
        } else if !(1..=64).contains(&text.chars().count()) || text.contains(char::is_control) {
            wrong("display_name", "must have 1 to 64 characters in each language");
        }
    }
    for (key, claim) in [
        ("username_claim", &provider.username_claim),
        ("email_claim", &provider.email_claim),
        ("email_verified_claim", &provider.email_verified_claim),
    ] {
        if claim.is_empty() {
            wrong(key, "must be the name of a claim");
        }
    }
    if !(Duration::from_millis(100)..=Duration::from_secs(20)).contains(&provider.timeout) {
        wrong("timeout", "must be from 100ms to 20s");
    }
}

/// Roughly; a language that no page has is never chosen.
fn is_language_tag(text: &str) -> bool {
    (2..=35).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// OpenID Connect Discovery §3: https, without query and fragment. `is_local`: http on loopback too.
fn is_issuer(text: &str, is_local: bool) -> bool {
    if super::services::is_https(text) {
        return !text.contains('?');
    }
    let is_loopback = |url: &Url| match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        _ => false,
    };
    is_local
        && !text.contains(['?', '#', '@'])
        && Url::parse(text).is_ok_and(|url| url.scheme() == "http" && is_loopback(&url))
}
