//! `[services.NAME]`: the outside services of a customer (docs/customer-services.md). Their names
//! are the operator's, so that the defaults are here, once for all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    time::Duration,
};

use serde::Deserialize;
use url::Url;

use super::{
    Config, empty_is_none,
    named::{NamedSection, Problem},
};
use crate::model::projection::Projection;

/// The services by name.
pub type Services = BTreeMap<String, Service>;

/// The section of all services.
const SECTION: &str = "services";

/// How services and their resources are configured.
pub(super) const NAMED: NamedSection = NamedSection {
    name: SECTION,
    keys: SERVICE,
    nested: Some(("resource", RESOURCE)),
    secret: &["client_secret", "password", "refresh_token"],
};

/// Every key of a service with its default; `config.default.toml` explains them.
const SERVICE: &str = r#"
token_url = ""
grant = "client_credentials"
client_id = ""
client_secret = ""
private_key_file = ""
key_id = ""
auth = "basic"
assertion_audience = ""
scope = ""
audience = ""
username = ""
password = ""
refresh_token = ""
subject = "service"
authorization_url = ""
revocation_url = ""
renew_before = "60s"
timeout = "5s"
clients = []
"#;

/// Every key of a resource with its default.
const RESOURCE: &str = r#"
url = ""
method = "GET"
query = {}
fields = []
scope = ""
cache = "0s"
"#;

/// An outside service whose tokens are obtained and renewed here.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub token_url: String,
    pub grant: ServiceGrant,
    pub client_id: String,
    pub client_secret: String,
    #[serde(deserialize_with = "empty_is_none")]
    pub private_key_file: Option<PathBuf>,
    /// The `kid` of what the private key signs; empty: none.
    pub key_id: String,
    pub auth: ServiceAuth,
    /// As written, possibly empty; [`Service::assertion_audience`] resolves it.
    assertion_audience: String,
    pub scope: String,
    pub audience: String,
    /// With `password`, for the grant `password`.
    pub username: String,
    pub password: String,
    /// The first one of a service that rotates them.
    pub refresh_token: String,
    pub subject: ServiceSubject,
    /// Where users connect an account; empty: they cannot.
    pub authorization_url: String,
    /// Where tokens of users are revoked (RFC 7009); empty: they are only forgotten.
    pub revocation_url: String,
    #[serde(with = "humantime_serde")]
    pub renew_before: Duration,
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// The clients that may have its tokens.
    pub clients: Vec<String>,
    #[serde(default, rename = "resource")]
    pub resources: BTreeMap<String, ServiceResource>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service({})", self.token_url)
    }
}

impl Service {
    /// The `aud` of assertions.
    pub fn assertion_audience(&self) -> &str {
        match self.assertion_audience.as_str() {
            "" => &self.token_url,
            audience => audience,
        }
    }

    /// Whether each user has a token of their own.
    pub fn is_per_user(&self) -> bool {
        self.subject == ServiceSubject::User
    }

    /// Whether tokens that are removed here are revoked there.
    pub fn revokes(&self) -> bool {
        !self.revocation_url.is_empty()
    }

    /// Whether users connect an account there.
    pub fn is_connected(&self) -> bool {
        !self.authorization_url.is_empty()
    }
}

/// How a token is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceGrant {
    ClientCredentials,
    RefreshToken,
    /// RFC 7523 §2.1
    #[serde(rename = "jwt-bearer")]
    JwtBearer,
    /// RFC 8693
    #[serde(rename = "token-exchange")]
    TokenExchange,
    Password,
}

impl ServiceGrant {
    /// As in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::RefreshToken => "refresh_token",
            Self::JwtBearer => "jwt-bearer",
            Self::TokenExchange => "token-exchange",
            Self::Password => "password",
        }
    }
}

/// How this server authenticates at the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceAuth {
    /// `client_secret_basic`
    Basic,
    /// `client_secret_post`
    Post,
    PrivateKeyJwt,
}

/// Whose tokens they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceSubject {
    /// One for everybody.
    Service,
    User,
}

/// Data of a service that logged-in users may read, field by field.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceResource {
    pub url: String,
    pub method: ResourceMethod,
    pub query: BTreeMap<String, String>,
    pub fields: Vec<String>,
    /// What the user's access token must have; empty: to be one of this server's own API.
    pub scope: String,
    #[serde(with = "humantime_serde")]
    pub cache: Duration,
}

/// How a resource is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ResourceMethod {
    Get,
    Post,
}

/// What is wrong with the services.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let mut found = vec![];
    for (name, service) in &config.services {
        check(name, service, &mut found);
        for (resource, settings) in &service.resources {
            let section = format!("{SECTION}.{name}.resource.{resource}");
            check_resource(&section, settings, &mut found);
        }
    }
    found
}

fn check(name: &str, service: &Service, found: &mut Vec<Problem>) {
    let mut wrong =
        |key: &str, problem: String| found.push((format!("{SECTION}.{name}.{key}"), problem));
    let required = |reason: &str| format!("is required by {reason}");
    for (key, url) in [
        ("token_url", &service.token_url),
        ("authorization_url", &service.authorization_url),
        ("revocation_url", &service.revocation_url),
    ] {
        let is_unset = url.is_empty() && key != "token_url";
        if !is_unset && !is_https(url) {
            wrong(key, "must be an https URL like https://crm.example.org/oauth/token".to_owned());
        }
    }
    if service.client_id.is_empty() {
        wrong("client_id", "is required: the id of this server at the service".to_owned());
    }
    let has_secret = !service.client_secret.is_empty();
    let needs_key = match (service.auth, service.grant) {
        (ServiceAuth::PrivateKeyJwt, _) => Some("auth = \"private_key_jwt\""),
        (_, ServiceGrant::JwtBearer) => Some("grant = \"jwt-bearer\""),
        (_, ServiceGrant::TokenExchange) => Some("grant = \"token-exchange\""),
        _ => None,
    };
    match (service.auth, has_secret) {
        (ServiceAuth::Basic | ServiceAuth::Post, false) => {
            let how = "is required by auth = \"basic\" and \"post\"; keep it out of the file by \
                       PROPUSK_SERVICES__…__CLIENT_SECRET_FILE";
            wrong("client_secret", how.to_owned());
        }
        (ServiceAuth::PrivateKeyJwt, true) => {
            wrong("client_secret", "has no use with auth = \"private_key_jwt\"".to_owned());
        }
        _ => {}
    }
    match (&service.private_key_file, needs_key) {
        (None, Some(reason)) => wrong("private_key_file", required(reason)),
        (Some(_), None) => {
            let why = "has no use: auth is not \"private_key_jwt\" and the grant signs nothing";
            wrong("private_key_file", why.to_owned());
        }
        (Some(path), Some(_)) if !path.is_file() => {
            let path = path.display();
            wrong("private_key_file", format!("file not found: {path}; name an existing file"));
        }
        _ => {}
    }
    let is_password = service.grant == ServiceGrant::Password;
    for (key, value) in [("username", &service.username), ("password", &service.password)] {
        match (is_password, value.is_empty()) {
            (true, true) => wrong(key, required("grant = \"password\"")),
            (false, false) => wrong(key, "has no use without grant = \"password\"".to_owned()),
            _ => {}
        }
    }
    check_subject(service, &mut wrong);
    let seconds = Duration::from_secs;
    if !(seconds(1)..=seconds(24 * 3600)).contains(&service.renew_before) {
        wrong("renew_before", "must be from 1s to 24h".to_owned());
    }
    if !(Duration::from_millis(100)..=seconds(20)).contains(&service.timeout) {
        wrong("timeout", "must be from 100ms to 20s".to_owned());
    }
    let unique: BTreeSet<&String> = service.clients.iter().collect();
    if unique.len() != service.clients.len() || unique.contains(&String::new()) {
        wrong("clients", "must be ids of clients, each once".to_owned());
    }
}

fn check_subject(service: &Service, wrong: &mut impl FnMut(&str, String)) {
    let may_be_of_users = matches!(
        service.grant,
        ServiceGrant::RefreshToken | ServiceGrant::JwtBearer | ServiceGrant::TokenExchange
    );
    if service.is_per_user() && !may_be_of_users {
        let how =
            "\"user\" requires grant = \"refresh_token\", \"jwt-bearer\" or \"token-exchange\"";
        wrong("subject", how.to_owned());
    }
    if service.revokes() && !service.is_per_user() {
        let why = "requires subject = \"user\": the service's own token is not revoked";
        wrong("revocation_url", why.to_owned());
    }
    let connects = service.is_per_user() && service.grant == ServiceGrant::RefreshToken;
    match (connects, service.is_connected()) {
        (true, false) => {
            let why = "is required by subject = \"user\" and grant = \"refresh_token\": users connect their accounts there";
            wrong("authorization_url", why.to_owned());
        }
        (false, true) => {
            let why = "requires subject = \"user\" and grant = \"refresh_token\"";
            wrong("authorization_url", why.to_owned());
        }
        _ => {}
    }
    let has_first = !service.refresh_token.is_empty();
    match (service.grant == ServiceGrant::RefreshToken && !service.is_per_user(), has_first) {
        (true, false) => {
            let why = "is required by grant = \"refresh_token\": the first one, from the service";
            wrong("refresh_token", why.to_owned());
        }
        (false, true) => {
            let why = "requires grant = \"refresh_token\" and subject = \"service\"";
            wrong("refresh_token", why.to_owned());
        }
        _ => {}
    }
}

fn check_resource(section: &str, resource: &ServiceResource, found: &mut Vec<Problem>) {
    let mut wrong = |key: &str, problem: String| found.push((format!("{section}.{key}"), problem));
    if !is_https(&resource.url.replace("/{sub}", "/x")) {
        let example = "must be an https URL like https://crm.example.org/customers/{sub}";
        wrong("url", example.to_owned());
    } else if has_unknown_braces(&resource.url.replace("/{sub}", "/"))
        || resource
            .url
            .split("/{sub}")
            .skip(1)
            .any(|rest| !rest.is_empty() && !rest.starts_with(['/', '?']))
    {
        wrong(
            "url",
            "may have {sub}, the user's id, as a whole segment of its path only".to_owned(),
        );
    }
    if resource.query.values().any(|value| has_unknown_braces(&value.replace("{sub}", ""))) {
        wrong("query", "may have {sub}, the user's id, and no other braces".to_owned());
    }
    if resource.fields.is_empty() {
        wrong("fields", "is required: the fields of the answer that users get".to_owned());
    } else if let Err(problem) = Projection::parse(resource.fields.iter().map(String::as_str)) {
        wrong("fields", problem);
    }
    if resource.scope.contains(char::is_whitespace) {
        wrong("scope", "must be one scope".to_owned());
    }
    if resource.cache > Duration::from_secs(3600) {
        wrong("cache", "must be from 0s to 1h".to_owned());
    }
}

fn has_unknown_braces(text: &str) -> bool {
    text.contains(['{', '}'])
}

pub(super) fn is_https(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        url.scheme() == "https"
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none()
    })
}
