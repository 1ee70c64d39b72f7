//! The configuration, as documented in `config.default.toml`.
//!
//! That file is the reference configuration and the only place with defaults; [`Config::load`]
//! overrides them with the operator's file and the `PROPUSK_…` environment and validates the
//! result.

pub mod colors;
mod load;
mod login;
mod mail;
mod named;
mod older_service;
mod pages;
mod profile;
mod registration;
mod second_factors;
pub mod services;
#[cfg(test)]
mod tests;
pub mod upstream;
mod validate;
mod webhooks;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error as _};
use tracing_subscriber::EnvFilter;
use url::Url;

use self::load::{Setting, Source};
pub use self::{
    load::{ConfigError, environment},
    login::Login,
    mail::{Delivery, Mail, Sender, SmtpTls},
    older_service::IgnoredVariable,
    pages::{Pages, SchemeColors},
    profile::Profile,
    registration::{Registration, Terms, UserRegistration},
    second_factors::SecondFactors,
    webhooks::Webhooks,
};
use crate::model::{
    client::{AssertionAudience, GrantType},
    key::SigningAlgorithm,
};

/// The reference configuration, and the source of every default.
pub const DEFAULT_TOML: &str = include_str!("../../config.default.toml");

/// `[accounts]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    /// Zero: accounts are deleted at once.
    #[serde(with = "humantime_serde")]
    pub deletion_grace: Duration,
}

/// The effective, validated configuration. `config.default.toml` documents the keys and their
/// units.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub data_dir: PathBuf,
    pub server: Server,
    pub grpc: Grpc,
    pub metrics: Metrics,
    pub database: Database,
    pub redis: Redis,
    pub secrets: Secrets,
    pub tokens: Tokens,
    pub authorization: Authorization,
    pub device: Device,
    pub clients: Clients,
    pub client_auth: ClientAuthentication,
    pub gateway: Gateway,
    pub modules: Modules,
    pub client_registration: ClientRegistration,
    pub outbound: Outbound,
    pub keys: Keys,
    pub passwords: Passwords,
    pub accounts: Accounts,
    pub second_factors: SecondFactors,
    pub login: Login,
    pub registration: Registration,
    pub profile: Profile,
    pub pages: Pages,
    pub mail: Mail,
    pub limits: Limits,
    pub events: Retention,
    pub kafka: Kafka,
    pub webhooks: Webhooks,
    pub user_service: UserService,
    /// Those that are configured have all keys.
    #[serde(default)]
    pub services: services::Services,
    /// As for services.
    #[serde(default)]
    pub upstream: upstream::Upstream,
    pub audit: Retention,
    /// Diagnostics of denied requests.
    pub explain: Retention,
    pub log: Log,
    pub bootstrap: Bootstrap,
    /// Each key's value as written and its source, for messages and `config show`.
    #[serde(skip)]
    settings: BTreeMap<String, Setting>,
    /// Variables of the older auth service that are set, while their counterparts are not.
    #[serde(skip)]
    pub ignored_variables: Vec<IgnoredVariable>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    #[serde(deserialize_with = "socket_address")]
    pub listen: SocketAddr,
    /// Without a trailing slash, in the normal form of the URL standard.
    pub issuer: String,
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    pub reuse_port: bool,
    pub max_connections: usize,
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    pub max_header_bytes: usize,
    pub max_body_bytes: usize,
    pub max_admin_body_bytes: usize,
    pub max_body_bytes_in_flight: usize,
    #[serde(with = "humantime_serde")]
    pub shutdown_grace: Duration,
    pub tls: Tls,
}

/// TLS of a listener; off while `certificate` and `key`, which are set together, are `None`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    #[serde(deserialize_with = "empty_is_none")]
    pub certificate: Option<PathBuf>,
    #[serde(deserialize_with = "empty_is_none")]
    pub key: Option<PathBuf>,
    #[serde(deserialize_with = "empty_is_none")]
    pub client_ca: Option<PathBuf>,
    pub client_auth: ClientAuth,
}

/// Whether a client certificate is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    Off,
    Optional,
    Required,
}

/// The gRPC listener; timeouts not listed here are those of [`Server`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grpc {
    /// `None`: no gRPC listener.
    #[serde(deserialize_with = "optional_socket_address")]
    pub listen: Option<SocketAddr>,
    pub max_connections: usize,
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    pub max_message_bytes: usize,
    pub tls: Tls,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// `None`: no metrics listener.
    #[serde(deserialize_with = "optional_socket_address")]
    pub listen: Option<SocketAddr>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// As written, possibly empty; [`Config::database_url`] resolves it.
    pub url: String,
    pub max_connections: u32,
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub acquire_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub statement_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub max_lifetime: Duration,
    pub prepared_statements: bool,
    pub migrate_at_start: bool,
}

/// The replica of the revocation list (see [`crate::revocation::redis`]).
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Empty: no Redis.
    pub url: String,
    /// Sentinels to query for the master, whose name is the host of `url`.
    pub sentinels: Vec<String>,
    pub prefix: String,
    #[serde(deserialize_with = "empty_is_none")]
    pub ca_file: Option<PathBuf>,
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis({})", mask_url(&self.url))
    }
}

/// Where events are published (see `crate::events`).
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// `host:port`; empty: no Kafka.
    pub brokers: Vec<String>,
    pub security: KafkaSecurity,
    #[serde(deserialize_with = "empty_is_none")]
    pub ca_file: Option<PathBuf>,
    pub sasl_mechanism: SaslMechanism,
    pub username: String,
    pub password: String,
    /// With the token of `OAUTHBEARER`.
    #[serde(deserialize_with = "empty_is_none")]
    pub token_file: Option<PathBuf>,
    pub client_id: String,
    /// The consumer group of this deployment.
    pub group: String,
    pub encoding: KafkaEncoding,
    pub compression: KafkaCompression,
    pub create_topics: bool,
    /// How long after a registration it may be compensated.
    #[serde(with = "humantime_serde")]
    pub close_window: Duration,
    pub topics: KafkaTopics,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kafka({:?})", self.brokers)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaTopics {
    pub events: String,
    pub user_create: String,
    pub user_create_close: String,
    pub user_create_done: String,
    pub dead_letter: String,
}

/// How connections to Kafka are secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KafkaSecurity {
    Plaintext,
    Tls,
    SaslPlaintext,
    SaslTls,
}

impl KafkaSecurity {
    pub const fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::SaslTls)
    }

    pub const fn has_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslTls)
    }
}

/// How this server authenticates to Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum SaslMechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

impl SaslMechanism {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

/// The content mode of `user.create` (CloudEvents' Kafka binding §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KafkaEncoding {
    Binary,
    Structured,
}

/// How messages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KafkaCompression {
    None,
    Gzip,
    Lz4,
    Snappy,
}

impl KafkaCompression {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Lz4 => "lz4",
            Self::Snappy => "snappy",
        }
    }
}

/// The service that creates a profile for each account (see `crate::flows::provisioning`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserService {
    pub mode: Provisioning,
    /// http or https; empty: none.
    pub url: String,
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    pub retries: u32,
    #[serde(deserialize_with = "empty_is_none")]
    pub ca_file: Option<PathBuf>,
    #[serde(deserialize_with = "empty_is_none")]
    pub certificate: Option<PathBuf>,
    #[serde(deserialize_with = "empty_is_none")]
    pub key: Option<PathBuf>,
    #[serde(deserialize_with = "empty_is_none")]
    pub token_file: Option<PathBuf>,
    pub on_failure: OnFailure,
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    pub on_deadline: OnDeadline,
}

/// What becomes of a registration while the user service is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is undone.
    Refuse,
    /// The profile is created later.
    Later,
}

/// What becomes of an account whose profile was not created in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDeadline {
    Keep,
    /// It is deleted.
    Compensate,
}

/// How the user service learns of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provisioning {
    Off,
    /// It is called at the registration.
    Grpc,
    /// It consumes `user.create`, and may refuse with `user.create.close`.
    Kafka,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// `None`: `master.key` in the data directory; [`Config::master_key_path`] resolves it.
    #[serde(deserialize_with = "empty_is_none")]
    pub master_key_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    #[serde(with = "humantime_serde")]
    pub access_ttl: Duration,
    #[serde(with = "humantime_serde")]
    pub refresh_idle_ttl: Duration,
    #[serde(with = "humantime_serde")]
    pub refresh_max_ttl: Duration,
    /// Zero: any reuse of a refresh token revokes the session.
    #[serde(with = "humantime_serde")]
    pub replay_window: Duration,
    /// As written, possibly empty; [`Config::audience`] resolves it.
    pub audience: String,
    pub signing_algorithm: SigningAlgorithm,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    #[serde(with = "humantime_serde")]
    pub code_ttl: Duration,
    #[serde(with = "humantime_serde")]
    pub pushed_request_ttl: Duration,
    #[serde(with = "humantime_serde")]
    pub browser_session_ttl: Duration,
    /// Zero: however long it is not used.
    #[serde(with = "humantime_serde")]
    pub browser_session_idle: Duration,
    /// Whether a request without PKCE needs a `nonce`.
    pub require_nonce: bool,
}

/// The device authorization grant (RFC 8628).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    #[serde(with = "humantime_serde")]
    pub code_ttl: Duration,
    /// How long a device waits between two polls.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Of one client, unless an operator's client has authenticated.
    pub max_pending_per_network: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clients {
    /// `clients.toml`, applied at start.
    #[serde(deserialize_with = "empty_is_none")]
    pub file: Option<PathBuf>,
}

/// How clients authenticate.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientAuthentication {
    /// For clients without an audience of their own.
    pub assertion_audience: AssertionAudience,
}

/// Applications behind a gateway (see [`crate::flows::gateway`]).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Serialised origins: scheme, host, and the port unless it is the default one.
    pub origins: Vec<String>,
    /// As written, possibly empty; [`Config::cookie_domain`] resolves it.
    pub cookie_domain: String,
    /// Resources whose tokens `/forward-auth` accepts without `?audience=`.
    pub audiences: Vec<String>,
    /// Whether `X-Propusk-Email` is sent for an address that was not verified.
    pub unverified_email: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modules {
    /// `modules.toml`, applied at start.
    #[serde(deserialize_with = "empty_is_none")]
    pub file: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientRegistration {
    /// As written; [`Config::registration_mode`] resolves `Auto`.
    pub mode: RegistrationMode,
    /// As written; [`Config::takes_metadata_documents`] resolves `Auto`.
    pub metadata_documents: Switch,
    pub scopes: Vec<String>,
    pub resources: Vec<String>,
    #[serde(with = "humantime_serde")]
    pub unused_ttl: Duration,
    pub max_clients: u64,
    pub max_clients_per_network: u64,
    pub grant_types: Vec<GrantType>,
    /// Schemes of redirect URIs that are not reversed domain names.
    pub private_use_schemes: Vec<String>,
    pub require_pkce: bool,
}

/// Requests to URLs from untrusted client metadata (see [`crate::outbound`]).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbound {
    #[serde(deserialize_with = "networks")]
    pub allowed_networks: Vec<IpNet>,
    #[serde(deserialize_with = "empty_is_none")]
    pub ca_file: Option<PathBuf>,
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    pub max_response_bytes: usize,
    pub max_concurrent: usize,
}

/// Who may register a client (RFC 7591).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistrationMode {
    /// Open while issuer and listener are on loopback, else off.
    Auto,
    Off,
    /// Holders of an initial access token.
    Token,
    Open,
}

/// On, off, or dependent on the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// On while issuer and listener are on loopback, else off.
    Auto,
    On,
    Off,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Never empty, without duplicates; both names of Ed25519 are `EdDSA` here.
    #[serde(deserialize_with = "key_algorithms")]
    pub algorithms: Vec<SigningAlgorithm>,
    #[serde(with = "humantime_serde")]
    pub rotate_every: Duration,
    #[serde(with = "humantime_serde")]
    pub publish_ahead: Duration,
    #[serde(with = "humantime_serde")]
    pub jwks_max_age: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passwords {
    /// Characters (Unicode scalar values).
    pub min_length: usize,
    /// A zxcvbn score, 0 to 4.
    pub min_strength: u8,
    #[serde(deserialize_with = "empty_is_none")]
    pub blocklist_file: Option<PathBuf>,
    #[serde(deserialize_with = "empty_is_none")]
    pub breached_folder: Option<PathBuf>,
    pub memory_kib: u32,
    pub iterations: u32,
    pub parallelism: u32,
    /// 0: depending on the CPU cores, as `password::Hasher` resolves it.
    pub permits: usize,
    pub queue: usize,
    #[serde(with = "humantime_serde")]
    pub queue_timeout: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub enabled: bool,
    pub address_per_minute: u32,
    pub address_burst: u32,
    pub client_auth_failures_per_minute: u32,
    pub client_auth_failures_burst: u32,
    pub register_per_address_per_hour: u32,
    pub register_per_address_burst: u32,
    pub writes_per_minute: u32,
    pub writes_burst: u32,
    pub wrong_device_codes_per_minute: u32,
    pub wrong_device_codes_burst: u32,
    pub exchange_per_client_per_minute: u32,
    pub exchange_per_client_burst: u32,
    pub proofs_per_key_per_minute: u32,
    pub proofs_per_key_burst: u32,
    pub tracked: usize,
}

/// Maximum age and number of the rows of a log.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
    pub max_rows: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    /// A valid tracing filter.
    pub level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Human,
    Json,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    pub admin_email: String,
    /// `None`: a password is generated.
    #[serde(deserialize_with = "empty_is_none")]
    pub admin_password_file: Option<PathBuf>,
    pub demo_client: bool,
}

/// The levels of a log, as they are written.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Log {
    /// `log.level` as a filter.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn filter(&self) -> Result<EnvFilter, String> {
        let example = "use error, warn, info, debug or trace, or set levels per module: \
                       info,propusk::flows=debug";
        // The parser takes a word that is no level for the name of a module, to be logged at every
        // level, and then nothing else is logged.
        for directive in self.level.split(',') {
            let level = directive.rsplit('=').next().unwrap_or(directive).trim();
            if !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) {
                return Err(match level.to_ascii_lowercase().as_str() {
                    "warning" => format!("`{level}` is not a level: use warn"),
                    "" => format!("a level is missing; {example}"),
                    _ => format!("`{level}` is not a level; {example}"),
                });
            }
        }
        // PostgreSQL's notices are for interactive SQL: each start would log that a table already
        // exists.
        let directives = format!("sqlx::postgres::notice=warn,{}", self.level);
        let filter = EnvFilter::builder().parse(directives);
        filter.map_err(|error| format!("is not a valid filter: {error}; {example}"))
    }
}

impl Config {
    /// Whether the issuer is on loopback: a loopback address or a `localhost` name.
    pub fn is_loopback_issuer(&self) -> bool {
        Url::parse(&self.server.issuer).is_ok_and(|url| is_loopback(&url))
    }

    /// Whether the defaults for development apply: the issuer is on loopback, and nobody else can
    /// reach the listener.
    pub fn is_local(&self) -> bool {
        self.is_loopback_issuer() && self.server.listen.ip().to_canonical().is_loopback()
    }

    /// Whether cookies can be `Secure` and have the `__Host-` prefix.
    pub fn issuer_is_https(&self) -> bool {
        self.server.issuer.starts_with("https://")
    }

    /// Who may register a client.
    pub fn registration_mode(&self) -> RegistrationMode {
        match self.client_registration.mode {
            RegistrationMode::Auto if self.is_local() => RegistrationMode::Open,
            RegistrationMode::Auto => RegistrationMode::Off,
            mode => mode,
        }
    }

    /// Whether a client_id may be the URL of a Client ID Metadata Document.
    pub fn takes_metadata_documents(&self) -> bool {
        match self.client_registration.metadata_documents {
            Switch::Auto => self.is_local(),
            switch => switch == Switch::On,
        }
    }

    /// Whether events are published to Kafka.
    pub fn publishes_events(&self) -> bool {
        !self.kafka.brokers.is_empty()
    }

    /// The longest path and query, in bytes, that the server sends a browser to at its own origin:
    /// what `server.max_header_bytes` leaves beside cookies and other headers. At least 4096.
    pub fn max_url_length(&self) -> usize {
        const OTHER_HEADERS: usize = 4096;
        self.server.max_header_bytes.saturating_sub(OTHER_HEADERS)
    }

    /// The database to connect to: `database.url`, else SQLite in the data directory. May contain a
    /// password; [`mask_url`] makes it printable.
    pub fn database_url(&self) -> String {
        if !self.database.url.is_empty() {
            return self.database.url.clone();
        }
        format!("sqlite://{}", self.data_dir.join("propusk.db").display())
    }

    /// The file with the master key, which encrypts the signing keys.
    pub fn master_key_path(&self) -> PathBuf {
        let given = self.secrets.master_key_file.clone();
        given.unwrap_or_else(|| self.data_dir.join("master.key"))
    }

    /// The `aud` of access tokens for this server's own API.
    pub fn audience(&self) -> &str {
        match self.tokens.audience.as_str() {
            "" => &self.server.issuer,
            audience => audience,
        }
    }

    /// The `Domain` of the session's cookies; `None` for the issuer's host only.
    pub fn cookie_domain(&self) -> Option<&str> {
        let domain = self.gateway.cookie_domain.as_str();
        (!domain.is_empty()).then_some(domain)
    }

    /// The effective configuration as TOML, each key with its source as a comment and with
    /// passwords masked, as `propusk config show` prints it.
    pub fn render(&self) -> String {
        load::render(&self.settings)
    }

    /// The source of a key (`"server.listen"`), for messages about its value.
    pub fn source(&self, key: &str) -> String {
        let source = self.settings.get(key).map(|setting| &setting.source);
        source.unwrap_or(&Source::Default).to_string()
    }

    /// Whether a key has its default.
    pub fn is_default(&self, key: &str) -> bool {
        let setting = self.settings.get(key);
        setting.is_none_or(|setting| setting.source == Source::Default)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render())
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("url", &mask_url(&self.url))
            .field("max_connections", &self.max_connections)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("migrate_at_start", &self.migrate_at_start)
            .finish()
    }
}

/// A database URL with its passwords replaced by `***`.
pub fn mask_url(text: &str) -> String {
    if text.is_empty() || text.starts_with("sqlite:") {
        return text.to_owned();
    }
    let Ok(mut url) = Url::parse(text) else {
        return "***".to_owned();
    };
    // An error here means a URL without an authority, which has no password either.
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return "***".to_owned();
    }
    // sqlx also accepts the password as a query parameter.
    let is_secret = |name: &str| name.to_ascii_lowercase().contains("password");
    if url.query_pairs().any(|(name, _)| is_secret(&name)) {
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let masked = pairs.iter().map(|(name, value)| {
            let value = if is_secret(name) { "***" } else { value };
            (name.as_str(), value)
        });
        url.query_pairs_mut().clear().extend_pairs(masked);
    }
    url.into()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

fn empty_is_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    let text = String::deserialize(from)?;
    Ok((!text.is_empty()).then(|| text.into()))
}

fn socket_address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    parse_socket_address(&text).ok_or_else(|| not_an_address(&text))
}

fn optional_socket_address<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Ok(None);
    }
    let address = parse_socket_address(&text).ok_or_else(|| not_an_address(&text))?;
    Ok(Some(address))
}

fn parse_socket_address(text: &str) -> Option<SocketAddr> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric.parse().ok()
}

fn not_an_address<E: serde::de::Error>(text: &str) -> E {
    E::custom(format!(
        "`{text}` is not an IP address and port; use one like 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080"
    ))
}

fn key_algorithms<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<SigningAlgorithm>, D::Error> {
    let named = Vec::<SigningAlgorithm>::deserialize(from)?;
    Ok(named.into_iter().map(SigningAlgorithm::of_key).collect())
}

/// Networks or single addresses.
fn networks<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    let parse = |text: &String| {
        let network = text.parse::<IpNet>().ok();
        let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        network.ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is not a network; use one like 10.0.0.0/8 or 2001:db8::/32"
            ))
        })
    };
    Vec::<String>::deserialize(from)?.iter().map(parse).collect()
}
