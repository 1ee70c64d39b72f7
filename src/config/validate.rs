//! Validation of values that have the right type: invalid, contradictory or unsafe ones.

use std::{path::Path, time::Duration};

use url::Url;

use super::{
    ClientAuth, Config, Provisioning, SaslMechanism, Tls, is_loopback, login, mail, profile,
    registration, second_factors, webhooks,
};
use crate::model::key::LONGEST_SESSION_LIFE;

/// A key, and what is wrong with its value and how to fix it.
type Problem = (&'static str, String);

const MINUTE: Duration = Duration::from_secs(60);
/// Beyond any use, and safe to add to any time.
const LONGEST: Duration = Duration::from_secs(36_500 * 24 * 60 * 60);
/// OWASP's minimum memory for Argon2id with two iterations.
const MIN_MEMORY_KIB: u32 = 19_456;

pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    issuer(config, &mut found);
    server(config, &mut found);
    database(config, &mut found);
    redis(config, &mut found);
    kafka(config, &mut found);
    user_service(config, &mut found);
    mail::problems(config, &mut found);
    webhooks::problems(config, &mut found);
    gateway(config, &mut found);
    master_key(config, &mut found);
    lifetimes(config, &mut found);
    keys(config, &mut found);
    passwords(config, &mut found);
    second_factors::problems(config, &mut found);
    login::problems(config, &mut found);
    profile::problems(config, &mut found);
    registration::problems(config, &mut found);
    numbers(config, &mut found);
    rest(config, &mut found);
    found
}

fn issuer(config: &Config, found: &mut Vec<Problem>) {
    let issuer = config.server.issuer.as_str();
    let example = "use one like https://auth.example.com";
    let mut wrong = |problem: String| found.push(("server.issuer", problem));
    let url = match Url::parse(issuer) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        _ => return wrong(format!("is not an absolute https URL; {example}")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return wrong(format!("must not contain a user name or password; {example}"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong(format!("must not contain a query or fragment; {example}"));
    }
    if url.path() != "/" {
        return wrong(format!(
            "must not have a path: pages, cookies and /.well-known are at the root of a host; {example}"
        ));
    }
    // Issuers are compared as strings (RFC 9207 §2.4): there must be one canonical encoding.
    let normal = url.as_str().trim_end_matches('/');
    if issuer.ends_with('/') {
        return wrong(format!("must not end in a slash; use {normal}"));
    }
    if issuer != normal {
        return wrong(format!("is not in its canonical form; use {normal}"));
    }
    let loopback = is_loopback(&url);
    if url.scheme() == "http" && !loopback {
        wrong(format!(
            "{issuer} would transmit passwords and tokens in the clear; set server.issuer to an https \
             URL (http is allowed on 127.0.0.1, [::1] and localhost only)"
        ));
    } else if !is_loopback_address(config) && config.is_default("server.issuer") {
        wrong(format!(
            "server.listen is {}, beyond loopback, but the issuer is the default; \
             set server.issuer to the https URL that clients use",
            config.server.listen
        ));
    }
}

fn is_loopback_address(config: &Config) -> bool {
    config.server.listen.ip().to_canonical().is_loopback()
}

fn server(config: &Config, found: &mut Vec<Problem>) {
    let server = &config.server;
    if !(8192..=1_048_576).contains(&server.max_header_bytes) {
        found.push(("server.max_header_bytes", "must be from 8192 to 1048576".to_owned()));
    }
    let largest = server.max_body_bytes.max(server.max_admin_body_bytes);
    if server.max_body_bytes_in_flight / 4 < largest {
        found.push((
            "server.max_body_bytes_in_flight",
            format!(
                "must be at least four times the largest body ({}): a client network may hold a quarter",
                largest.saturating_mul(4)
            ),
        ));
    }
    if !(1024..=67_108_864).contains(&config.grpc.max_message_bytes) {
        found.push(("grpc.max_message_bytes", "must be from 1024 to 67108864".to_owned()));
    }
    // Port 0 lets the system choose a free port; two of those differ.
    if config.metrics.listen == Some(server.listen) && server.listen.port() != 0 {
        found.push((
            "metrics.listen",
            "is the same as server.listen; choose another port".to_owned(),
        ));
    }
    if let Some(listen) = config.grpc.listen.filter(|listen| listen.port() != 0) {
        for (key, other) in
            [("server.listen", Some(server.listen)), ("metrics.listen", config.metrics.listen)]
        {
            if other == Some(listen) {
                let problem = format!("is the same as {key}; choose another port");
                found.push(("grpc.listen", problem));
            }
        }
    }
    tls(&SERVER_TLS, &server.tls, found);
    tls(&GRPC_TLS, &config.grpc.tls, found);
    let files = [
        ("passwords.blocklist_file", &config.passwords.blocklist_file),
        ("clients.file", &config.clients.file),
        ("modules.file", &config.modules.file),
        ("bootstrap.admin_password_file", &config.bootstrap.admin_password_file),
        ("outbound.ca_file", &config.outbound.ca_file),
    ];
    for (key, path) in files {
        if let Some(path) = path {
            must_be_file(key, path, found);
        }
    }
}

/// The keys of a listener's TLS.
struct TlsKeys {
    certificate: &'static str,
    key: &'static str,
    client_ca: &'static str,
    client_auth: &'static str,
}

const SERVER_TLS: TlsKeys = TlsKeys {
    certificate: "server.tls.certificate",
    key: "server.tls.key",
    client_ca: "server.tls.client_ca",
    client_auth: "server.tls.client_auth",
};

const GRPC_TLS: TlsKeys = TlsKeys {
    certificate: "grpc.tls.certificate",
    key: "grpc.tls.key",
    client_ca: "grpc.tls.client_ca",
    client_auth: "grpc.tls.client_auth",
};

fn tls(keys: &TlsKeys, tls: &Tls, found: &mut Vec<Problem>) {
    let TlsKeys { certificate, key, .. } = keys;
    let half = |set: &str, missing| {
        let problem = format!("is not set although {set} is; set both or neither");
        (missing, problem)
    };
    match (&tls.certificate, &tls.key) {
        (Some(_), None) => found.push(half(certificate, *key)),
        (None, Some(_)) => found.push(half(key, *certificate)),
        _ => {}
    }
    if tls.client_auth != ClientAuth::Off {
        if tls.certificate.is_none() {
            let problem =
                format!("requires TLS: set {certificate} and {key}, or set this to \"off\"");
            found.push((keys.client_auth, problem));
        }
        if tls.client_ca.is_none() {
            let problem = format!(
                "is required by {}; name a PEM file of certificate authorities",
                keys.client_auth
            );
            found.push((keys.client_ca, problem));
        }
    }
    let files = [
        (keys.certificate, &tls.certificate),
        (keys.key, &tls.key),
        (keys.client_ca, &tls.client_ca),
    ];
    for (key, path) in files {
        if let Some(path) = path {
            must_be_file(key, path, found);
        }
    }
}

fn must_be_file(key: &'static str, path: &Path, found: &mut Vec<Problem>) {
    if !path.is_file() {
        let path = path.display();
        found.push((key, format!("file not found: {path}; name an existing file")));
    }
}

fn database(config: &Config, found: &mut Vec<Problem>) {
    let url = config.database.url.as_str();
    let postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let right = match url.strip_prefix("sqlite://") {
        // A plain path: an in-memory database would be a separate one for each connection.
        Some(path) => !path.is_empty() && !path.contains([':', '?']),
        None => url.is_empty() || (postgres && Url::parse(url).is_ok()),
    };
    if !right {
        // Without the value: it may contain a password.
        found.push((
            "database.url",
            "is not a supported database URL; use postgres://user:password@host/database \
             (special characters percent-encoded), sqlite:///path/to/file.db, \
             or leave it empty for SQLite in data_dir"
                .to_owned(),
        ));
    }
    if config.data_dir.as_os_str().is_empty() {
        found.push(("data_dir", "is empty; name a directory, like ./data".to_owned()));
    }
}

fn redis(config: &Config, found: &mut Vec<Problem>) {
    let redis = &config.redis;
    let is_redis = |text: &str| {
        let url = Url::parse(text).ok();
        url.is_some_and(|url| matches!(url.scheme(), "redis" | "rediss") && url.has_host())
    };
    // Without the value: it may contain a password.
    if !redis.url.is_empty() && !is_redis(&redis.url) {
        let example = "is not a URL like redis://user:password@host:6379/0 or rediss://host:6380/0";
        found.push(("redis.url", example.to_owned()));
    }
    if !redis.sentinels.iter().all(|one| is_redis(one)) {
        let example = "must be URLs like redis://sentinel-1:26379".to_owned();
        found.push(("redis.sentinels", example));
    }
    if !redis.sentinels.is_empty() && redis.url.is_empty() {
        let missing = "requires redis.url: redis://NAME, with the Sentinels' name of the master";
        found.push(("redis.sentinels", missing.to_owned()));
    }
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:{}-".contains(&b);
    if redis.prefix.is_empty() || redis.prefix.len() > 64 || !redis.prefix.bytes().all(is_allowed) {
        let rule = "must be 1 to 64 characters: letters, digits and ._:{}-".to_owned();
        found.push(("redis.prefix", rule));
    }
    if !(Duration::from_millis(10)..=Duration::from_secs(1)).contains(&redis.timeout) {
        found.push(("redis.timeout", "must be from 10ms to 1s".to_owned()));
    }
    if !(Duration::from_millis(10)..=Duration::from_secs(10)).contains(&redis.connect_timeout) {
        found.push(("redis.connect_timeout", "must be from 10ms to 10s".to_owned()));
    }
}

fn kafka(config: &Config, found: &mut Vec<Problem>) {
    let kafka = &config.kafka;
    let mut wrong = |key, problem: &str| found.push((key, problem.to_owned()));
    let is_broker = |text: &String| {
        let parts = text.rsplit_once(':');
        parts.is_some_and(|(host, port)| {
            let is_host = |c: char| !c.is_whitespace() && !"/@,".contains(c);
            !host.is_empty() && host.chars().all(is_host) && port.parse::<u16>().is_ok()
        })
    };
    if !kafka.brokers.iter().all(is_broker) {
        wrong("kafka.brokers", "must be a list of HOST:PORT, like [\"kafka-1:9092\"]");
    }
    if config.publishes_events() {
        if !cfg!(feature = "kafka") {
            let how = "this binary was built without Kafka: build it with `--features kafka`";
            wrong("kafka.brokers", how);
        }
        if !config.database.prepared_statements {
            let why = "requires database.prepared_statements = true: one process publishes, which holds a \
                       lock of its PostgreSQL session, and a pooler would give it another session";
            wrong("kafka.brokers", why);
        }
    } else if config.user_service.mode == Provisioning::Kafka {
        wrong("user_service.mode", "requires kafka.brokers");
    }
    if kafka.ca_file.is_some() && !kafka.security.has_tls() {
        wrong("kafka.ca_file", "requires kafka.security = \"tls\" or \"sasl_tls\"");
    }
    if kafka.security.has_sasl() {
        let takes_token = kafka.sasl_mechanism == SaslMechanism::OauthBearer;
        if takes_token && kafka.create_topics {
            let why = "does not work with kafka.sasl_mechanism = \"OAUTHBEARER\": create the topics in advance";
            wrong("kafka.create_topics", why);
        }
        if takes_token && kafka.token_file.is_none() {
            wrong("kafka.token_file", "is required by kafka.sasl_mechanism = \"OAUTHBEARER\"");
        }
        if !takes_token && kafka.username.is_empty() {
            wrong("kafka.username", "is required by kafka.security; set kafka.password, too");
        }
        if !takes_token && kafka.password.is_empty() {
            wrong("kafka.password", "is required by kafka.security");
        }
    } else if !kafka.password.is_empty() {
        let how = "requires kafka.security = \"sasl_tls\" or \"sasl_plaintext\"";
        wrong("kafka.password", how);
    }
    let topics = &kafka.topics;
    let named = [
        ("kafka.topics.events", &topics.events),
        ("kafka.topics.user_create", &topics.user_create),
        ("kafka.topics.user_create_close", &topics.user_create_close),
        ("kafka.topics.user_create_done", &topics.user_create_done),
        ("kafka.topics.dead_letter", &topics.dead_letter),
    ];
    // Kafka's own rule.
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    for (at, (key, topic)) in named.iter().enumerate() {
        let is_name = (1..=249).contains(&topic.len()) && topic.bytes().all(is_allowed);
        if !is_name || matches!(topic.as_str(), "." | "..") {
            wrong(*key, "must be 1 to 249 characters: letters, digits and ._-");
        } else if named[..at].iter().any(|(_, other)| other == topic) {
            wrong(*key, "is the name of another topic; each needs its own");
        }
    }
    for (key, name) in [("kafka.group", &kafka.group), ("kafka.client_id", &kafka.client_id)] {
        if name.is_empty() || name.len() > 249 || name.contains(char::is_control) {
            wrong(key, "must be 1 to 249 characters, without control characters");
        }
    }
    if !(MINUTE..=90 * 24 * 60 * MINUTE).contains(&kafka.close_window) {
        wrong("kafka.close_window", "must be from 1m to 90d");
    }
    let files = [("kafka.ca_file", &kafka.ca_file), ("kafka.token_file", &kafka.token_file)];
    for (key, path) in files {
        if let Some(path) = path {
            must_be_file(key, path, found);
        }
    }
}

fn user_service(config: &Config, found: &mut Vec<Problem>) {
    let service = &config.user_service;
    let mut wrong = |key, problem: &str| found.push((key, problem.to_owned()));
    let url = Url::parse(&service.url).ok();
    let is_http = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    if service.url.is_empty() {
        if service.mode == Provisioning::Grpc {
            wrong("user_service.url", "is required by user_service.mode = \"grpc\"");
        }
    } else if !url.is_some_and(|url| is_http(&url)) {
        wrong("user_service.url", "must be a URL like https://users.internal:50051");
    }
    if service.retries > 5 {
        wrong("user_service.retries", "must be from 0 to 5");
    } else if service.timeout.is_zero()
        || service.timeout.saturating_mul(service.retries + 1) > Duration::from_secs(25)
    {
        let why =
            "must be longer than 0s, and all attempts together (user_service.retries) at most 25s";
        wrong("user_service.timeout", why);
    }
    if service.certificate.is_some() != service.key.is_some() {
        let how = "is set without user_service.key, or the key without it; set both or neither";
        wrong("user_service.certificate", how);
    }
    if !(MINUTE..=90 * 24 * 60 * MINUTE).contains(&service.deadline) {
        wrong("user_service.deadline", "must be from 1m to 90d");
    }
    let files = [
        ("user_service.ca_file", &service.ca_file),
        ("user_service.certificate", &service.certificate),
        ("user_service.key", &service.key),
        ("user_service.token_file", &service.token_file),
    ];
    for (key, path) in files {
        if let Some(path) = path {
            must_be_file(key, path, found);
        }
    }
}

fn gateway(config: &Config, found: &mut Vec<Problem>) {
    let Ok(issuer) = Url::parse(&config.server.issuer) else {
        return;
    };
    let gateway = &config.gateway;
    let within = |url: &Url, domain: &str| {
        let host = url.domain().unwrap_or_default();
        let before = host.strip_suffix(domain);
        before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    if let Some(domain) = config.cookie_domain() {
        let is_name = Url::parse(&format!("https://{domain}"))
            .is_ok_and(|url| url.domain() == Some(domain) && url.path() == "/");
        // Browsers reject cookies for a whole top-level domain.
        if !is_name || domain.starts_with('.') || (!domain.contains('.') && domain != "localhost") {
            let example = "is not a domain; use one like example.com".to_owned();
            found.push(("gateway.cookie_domain", example));
        } else if !within(&issuer, domain) {
            let problem = "does not contain the issuer's host; browsers would reject the cookies";
            found.push(("gateway.cookie_domain", problem.to_owned()));
        }
    }
    for origin in &gateway.origins {
        let Ok(url) = Url::parse(origin) else {
            let problem =
                format!("{origin:?} is not an origin; use one like https://app.example.com");
            found.push(("gateway.origins", problem));
            continue;
        };
        let normal = url.origin().ascii_serialization();
        if !matches!(url.scheme(), "http" | "https") || normal != *origin {
            let problem =
                format!("{origin:?} is not an origin in its canonical form; use {normal}");
            found.push(("gateway.origins", problem));
        } else if url.scheme() != issuer.scheme() {
            let problem =
                format!("{origin} must have the same scheme as the issuer, for the cookies");
            found.push(("gateway.origins", problem));
        } else if url.host() != issuer.host()
            && !config.cookie_domain().is_some_and(|domain| within(&url, domain))
        {
            let problem = format!(
                "{origin} would not receive the cookies: use the issuer's host, or set gateway.cookie_domain"
            );
            found.push(("gateway.origins", problem));
        }
    }
}

fn master_key(config: &Config, found: &mut Vec<Problem>) {
    if config.is_loopback_issuer() || !config.issuer_is_https() {
        return;
    }
    let how = "create one with `head -c 32 /dev/urandom > FILE; chmod 600 FILE` \
               and set secrets.master_key_file";
    match &config.secrets.master_key_file {
        None => found.push((
            "secrets.master_key_file",
            format!("is required unless the issuer is on loopback; {how}"),
        )),
        Some(path) if !path.is_file() => found.push((
            "secrets.master_key_file",
            format!("file not found: {}; {how}", path.display()),
        )),
        Some(_) => {}
    }
}

fn lifetimes(config: &Config, found: &mut Vec<Problem>) {
    let tokens = &config.tokens;
    if !(MINUTE..=60 * MINUTE).contains(&tokens.access_ttl) {
        found.push(("tokens.access_ttl", "must be from 1m to 1h".to_owned()));
    }
    if tokens.refresh_idle_ttl > tokens.refresh_max_ttl {
        found
            .push(("tokens.refresh_idle_ttl", "must be at most tokens.refresh_max_ttl".to_owned()));
    }
    if tokens.refresh_max_ttl > LONGEST_SESSION_LIFE {
        found.push((
            "tokens.refresh_max_ttl",
            "must be at most a year: keys are not kept for longer sessions".to_owned(),
        ));
    }
    if tokens.replay_window > 5 * MINUTE {
        found.push(("tokens.replay_window", "must be from 0s (off) to 5m".to_owned()));
    }
    let authorization = &config.authorization;
    let idle = authorization.browser_session_idle;
    if !idle.is_zero() && !(10 * MINUTE..=authorization.browser_session_ttl).contains(&idle) {
        let rule = "must be 0s (off), or from 10m to authorization.browser_session_ttl".to_owned();
        found.push(("authorization.browser_session_idle", rule));
    }
    let second = Duration::from_secs(1);
    // Codes must be short-lived (RFC 6749 §4.1.2, §10.5); a minute suffices for any redirect.
    for (key, value, least, most, range) in [
        ("authorization.code_ttl", authorization.code_ttl, second, MINUTE, "1s to 60s"),
        (
            "authorization.pushed_request_ttl",
            authorization.pushed_request_ttl,
            5 * second,
            60 * MINUTE,
            "5s to 1h",
        ),
        (
            "authorization.browser_session_ttl",
            authorization.browser_session_ttl,
            MINUTE,
            90 * 24 * 60 * MINUTE,
            "1m to 90d",
        ),
        ("device.code_ttl", config.device.code_ttl, MINUTE, 30 * MINUTE, "1m to 30m"),
        ("device.interval", config.device.interval, second, MINUTE, "1s to 60s"),
        (
            "client_registration.unused_ttl",
            config.client_registration.unused_ttl,
            MINUTE,
            LONGEST,
            "1m to 100 years",
        ),
    ] {
        if !(least..=most).contains(&value) {
            found.push((key, format!("must be from {range}")));
        }
    }
    let keys = &config.keys;
    if keys.publish_ahead >= keys.rotate_every {
        found.push(("keys.publish_ahead", "must be shorter than keys.rotate_every".to_owned()));
    }
    if keys.publish_ahead < keys.jwks_max_age {
        found.push((
            "keys.publish_ahead",
            "must be at least keys.jwks_max_age, or verifiers encounter unknown keys".to_owned(),
        ));
    }
    if config.accounts.deletion_grace > Duration::from_secs(365 * 86_400) {
        found.push(("accounts.deletion_grace", "must be at most 365d".to_owned()));
    }
    let server = &config.server;
    let durations = [
        ("server.header_timeout", server.header_timeout, false),
        ("server.idle_timeout", server.idle_timeout, false),
        ("server.handshake_timeout", server.handshake_timeout, false),
        ("server.request_timeout", server.request_timeout, false),
        ("server.shutdown_grace", server.shutdown_grace, true),
        ("grpc.request_timeout", config.grpc.request_timeout, false),
        ("database.connect_timeout", config.database.connect_timeout, false),
        ("database.acquire_timeout", config.database.acquire_timeout, false),
        ("database.statement_timeout", config.database.statement_timeout, false),
        ("database.max_lifetime", config.database.max_lifetime, false),
        ("outbound.timeout", config.outbound.timeout, false),
        ("tokens.refresh_idle_ttl", tokens.refresh_idle_ttl, false),
        ("tokens.refresh_max_ttl", tokens.refresh_max_ttl, false),
        ("keys.rotate_every", keys.rotate_every, false),
        ("keys.publish_ahead", keys.publish_ahead, false),
        ("keys.jwks_max_age", keys.jwks_max_age, true),
        ("passwords.queue_timeout", config.passwords.queue_timeout, false),
        ("events.retention", config.events.retention, false),
        ("audit.retention", config.audit.retention, false),
    ];
    for (key, value, may_be_zero) in durations {
        if value.is_zero() && !may_be_zero {
            found.push((key, "must be longer than 0s".to_owned()));
        }
        if value > LONGEST {
            found.push((key, "must be at most 36500d".to_owned()));
        }
    }
}

fn keys(config: &Config, found: &mut Vec<Problem>) {
    let algorithms = &config.keys.algorithms;
    let has_duplicates =
        algorithms.iter().enumerate().any(|(at, algorithm)| algorithms[..at].contains(algorithm));
    if algorithms.is_empty() || has_duplicates {
        found.push((
            "keys.algorithms",
            "must list at least one of ES256, RS256, PS256 and EdDSA (or Ed25519, its newer name), without duplicates"
                .to_owned(),
        ));
    }
    let signing = config.tokens.signing_algorithm;
    if !algorithms.contains(&signing.of_key()) {
        let signing = signing.as_str();
        found.push((
            "tokens.signing_algorithm",
            format!("has no keys: add \"{signing}\" to keys.algorithms"),
        ));
    }
}

fn passwords(config: &Config, found: &mut Vec<Problem>) {
    let passwords = &config.passwords;
    if !(8..=64).contains(&passwords.min_length) {
        found.push(("passwords.min_length", "must be from 8 to 64".to_owned()));
    }
    if passwords.min_strength > 4 {
        found.push(("passwords.min_strength", "must be from 0 to 4".to_owned()));
    }
    // RFC 9106 §3.1: at least eight KiB per lane, at most 2^24 - 1 lanes.
    if u64::from(passwords.memory_kib) < 8 * u64::from(passwords.parallelism) {
        found.push((
            "passwords.memory_kib",
            "must be at least 8 times passwords.parallelism".to_owned(),
        ));
    } else if passwords.memory_kib < MIN_MEMORY_KIB && !config.is_local() {
        found.push((
            "passwords.memory_kib",
            format!("must be at least {MIN_MEMORY_KIB}: with less, GPUs guess passwords quickly"),
        ));
    }
    if !(1..=0x00ff_ffff).contains(&passwords.parallelism) {
        found.push(("passwords.parallelism", "must be from 1 to 16777215".to_owned()));
    }
}

fn numbers(config: &Config, found: &mut Vec<Problem>) {
    let limits = &config.limits;
    let numbers = [
        ("server.max_connections", config.server.max_connections == 0),
        ("server.max_body_bytes", config.server.max_body_bytes == 0),
        ("server.max_admin_body_bytes", config.server.max_admin_body_bytes == 0),
        ("grpc.max_connections", config.grpc.max_connections == 0),
        ("database.max_connections", config.database.max_connections == 0),
        ("passwords.iterations", config.passwords.iterations == 0),
        ("limits.address_per_minute", limits.address_per_minute == 0),
        ("limits.address_burst", limits.address_burst == 0),
        ("limits.client_auth_failures_per_minute", limits.client_auth_failures_per_minute == 0),
        ("limits.client_auth_failures_burst", limits.client_auth_failures_burst == 0),
        ("limits.register_per_address_per_hour", limits.register_per_address_per_hour == 0),
        ("limits.register_per_address_burst", limits.register_per_address_burst == 0),
        ("limits.writes_per_minute", limits.writes_per_minute == 0),
        ("limits.writes_burst", limits.writes_burst == 0),
        ("limits.wrong_device_codes_per_minute", limits.wrong_device_codes_per_minute == 0),
        ("limits.wrong_device_codes_burst", limits.wrong_device_codes_burst == 0),
        ("device.max_pending_per_network", config.device.max_pending_per_network == 0),
        ("limits.tracked", limits.tracked == 0),
        ("outbound.max_response_bytes", config.outbound.max_response_bytes == 0),
        ("outbound.max_concurrent", config.outbound.max_concurrent == 0),
        ("events.max_rows", config.events.max_rows == 0),
        ("audit.max_rows", config.audit.max_rows == 0),
    ];
    for (key, is_zero) in numbers {
        if is_zero {
            found.push((key, "must be at least 1".to_owned()));
        }
    }
}

fn rest(config: &Config, found: &mut Vec<Problem>) {
    if let Err(problem) = config.log.filter() {
        found.push(("log.level", problem));
    }
    // RFC 3986 §3.1; URIs are compared with their scheme in lower case.
    let is_scheme = |text: &String| {
        text.starts_with(|c: char| c.is_ascii_lowercase())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
    };
    let schemes = &config.client_registration.private_use_schemes;
    if let Some(wrong) = schemes.iter().find(|scheme| !is_scheme(scheme)) {
        found.push((
            "client_registration.private_use_schemes",
            format!("{wrong:?} is not a URI scheme in lower case, like \"cursor\""),
        ));
    }
    let email = &config.bootstrap.admin_email;
    let parts = email.split_once('@');
    if !parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty()) {
        found.push((
            "bootstrap.admin_email",
            "is not an email address; use one like admin@example.com".to_owned(),
        ));
    }
}
