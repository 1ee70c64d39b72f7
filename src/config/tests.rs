use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use super::{
    Config, DEFAULT_TOML, LogFormat, RegistrationMode, SigningAlgorithm, UserRegistration, mask_url,
};

fn load(file: Option<&Path>, env: &[(&str, &str)]) -> Result<Config, String> {
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::load(file, env).map_err(|error| error.to_string())
}

fn load_text(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("my.toml");
    fs::write(&path, text).unwrap();
    load(Some(&path), env)
}

#[test]
fn the_reference_configuration_and_the_struct_have_the_same_keys() {
    // `deny_unknown_fields` and the absence of serde defaults make loading prove both directions.
    let config = load(None, &[]).unwrap();
    let lines = DEFAULT_TOML.lines().filter(|line| !line.starts_with('#'));
    let keys = lines.filter(|line| line.contains(" = ")).count();
    assert_eq!(keys, config.settings.len());

    assert_eq!(config.tokens.access_ttl, Duration::from_secs(900));
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.database_url(), "sqlite://./data/propusk.db");
    assert_eq!(config.master_key_path(), Path::new("./data/master.key"));
    assert_eq!(config.audience(), "http://127.0.0.1:8080");
    assert!(config.is_loopback_issuer() && !config.issuer_is_https());
    assert_eq!(config.passwords.permits, 0);
    assert!(config.server.tls.certificate.is_none());
}

#[test]
fn every_key_has_a_comment() {
    let mut explained = false;
    for line in DEFAULT_TOML.lines() {
        explained = match line {
            line if line.starts_with("# ") => true,
            line if line.contains(" = ") => {
                assert!(explained, "no comment above {line}");
                true
            }
            _ => false,
        };
    }
}

#[test]
fn render_has_every_key_and_reads_back() {
    let config = load(None, &[("PROPUSK_LOG__FORMAT", "json")]).unwrap();
    let rendered = config.render();
    assert!(rendered.contains("format = \"json\"  # PROPUSK_LOG__FORMAT\n"));
    assert!(rendered.contains("listen = \"127.0.0.1:9464\"  # default\n"));
    let mut read: toml::Table = toml::from_str(&rendered).unwrap();
    read["log"]["format"] = "human".into();
    assert_eq!(read, toml::from_str(DEFAULT_TOML).unwrap());
    let again = load_text(&rendered, &[]).unwrap();
    assert_eq!(again.log.format, LogFormat::Json);
}

#[test]
fn the_environment_overrides_the_file() {
    let config = load_text(
        "data_dir = '/srv'\n[tokens]\naccess_ttl = '5m'\nrefresh_idle_ttl = '1d'\n[server.tls]\nclient_auth = 'off'",
        &[
            ("PROPUSK_DATA_DIR", "/var/lib/propusk"),
            ("PROPUSK_TOKENS__ACCESS_TTL", "10m"),
            ("PROPUSK_KEYS__ALGORITHMS", "ES256, EdDSA"),
            ("PROPUSK_LIMITS__ENABLED", "false"),
            ("PROPUSK_PASSWORDS__PERMITS", "3"),
            ("PROPUSK_SERVER__TRUSTED_PROXIES", "10.0.0.0/8,192.0.2.1"),
            ("PROPUSK_SERVER__TLS__CLIENT_AUTH", "off"),
            ("PROPUSK_METRICS__LISTEN", ""),
            ("PROPUSK_SERVER__LISTEN", "localhost:0"),
            ("UNRELATED", "1"),
        ],
    )
    .unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/propusk"));
    assert_eq!(config.tokens.access_ttl, Duration::from_secs(600));
    assert_eq!(config.tokens.refresh_idle_ttl, Duration::from_secs(86_400));
    let algorithms = [SigningAlgorithm::Es256, SigningAlgorithm::EdDsa];
    assert_eq!(config.keys.algorithms, algorithms);
    assert!(!config.limits.enabled);
    assert_eq!(config.passwords.permits, 3);
    let proxies: Vec<String> =
        config.server.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "192.0.2.1/32"]);
    assert_eq!(config.metrics.listen, None);
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:0");
    assert_eq!(config.source("data_dir"), "PROPUSK_DATA_DIR");
    assert!(config.source("tokens.refresh_idle_ttl").ends_with("my.toml"));
}

#[test]
fn a_variable_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("named.toml");
    fs::write(&path, "[registration]\nmode = \"closed\"").unwrap();
    let config = load(None, &[("PROPUSK_CONFIG", path.to_str().unwrap())]).unwrap();
    assert_eq!(config.registration.mode, UserRegistration::Closed);

    let error = load(None, &[("PROPUSK_CONFIG", "/no/such.toml")]).unwrap_err();
    assert!(error.contains("/no/such.toml: cannot read the file: No such file"), "{error}");
}

#[test]
fn secrets_are_read_from_files_and_masked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("url");
    fs::write(&path, "postgres://propusk:canary@db/propusk\n").unwrap();
    let path = path.to_str().unwrap();
    let config = load(None, &[("PROPUSK_DATABASE__URL_FILE", path)]).unwrap();
    assert_eq!(config.database_url(), "postgres://propusk:canary@db/propusk");
    let shown = format!("{config:?}{:?}{}", config.database, config.render());
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.contains("postgres://propusk:***@db/propusk"), "{shown}");
    assert!(shown.contains(&format!("# PROPUSK_DATABASE__URL_FILE, {path}")));

    let both = [("PROPUSK_DATABASE__URL_FILE", path), ("PROPUSK_DATABASE__URL", "")];
    assert!(load(None, &both).unwrap_err().contains("unset one of them"));
    let missing = [("PROPUSK_DATABASE__URL_FILE", "/no/such")];
    assert!(load(None, &missing).unwrap_err().contains("must name a file that contains the value"));
    // A key that ends in `_file` itself is not mistaken for the variant.
    let key = [("PROPUSK_SECRETS__MASTER_KEY_FILE", path)];
    assert_eq!(load(None, &key).unwrap().master_key_path(), Path::new(path));
}

#[test]
fn no_message_contains_a_password() {
    let wrong = [
        ("[database]\nurl = \"postgres://u:canary@db/x", None),
        ("[database]\nurl = ['canary']", None),
        ("", Some("mysql://u:canary@db/x")),
        ("", Some("postgres://u:canary@db:port/x")),
    ];
    for (text, url) in wrong {
        let env: Vec<_> = url.map(|url| ("PROPUSK_DATABASE__URL", url)).into_iter().collect();
        let error = load_text(text, &env).unwrap_err();
        assert!(!error.contains("canary"), "{error}");
    }
    assert_eq!(
        mask_url("postgres://u@h/d?password=canary&sslmode=require"),
        "postgres://u@h/d?password=***&sslmode=require"
    );
    assert_eq!(mask_url("canary"), "***");
    assert_eq!(mask_url("sqlite:///x.db"), "sqlite:///x.db");
}

#[test]
fn unknown_keys_are_reported_with_the_likely_one() {
    type Unknown = (&'static str, &'static [(&'static str, &'static str)], &'static str);
    let cases: &[Unknown] = &[
        ("[server]\nlisten_on = 'x'", &[], "server.listen_on ("),
        ("[server]\nlissen = 'x'", &[], "my.toml): unknown key; did you mean server.listen?"),
        ("issuer = 'x'", &[], "unknown key; did you mean server.issuer?"),
        ("[sever]\nlisten = 'x'", &[], "unknown section; did you mean server?"),
        ("[zzzzzzzzz]", &[], "unknown section; `propusk config show` lists"),
        ("server = 3", &[], "is a section, not a key; write `[server]`"),
        ("[server\n", &[], "my.toml: line 1: invalid TOML: "),
        ("data_dir = 'x'\n\nlevel = \n", &[], "my.toml: line 3: invalid TOML: "),
        ("", &[("PROPUSK_SERVER_LISTEN", "x")], "did you mean PROPUSK_SERVER__LISTEN?"),
        (
            "",
            &[("PROPUSK_DATABASE__ULR_FILE", "x")],
            "PROPUSK_DATABASE__ULR_FILE: unknown variable",
        ),
        ("", &[("PROPUSK_SERVER_PORT", "80")], "PROPUSK_SERVER_PORT: unknown variable"),
        ("", &[("PROPUSK_XYZZY", "x")], "PROPUSK_XYZZY: unknown variable; variables are named"),
    ];
    for (text, env, expected) in cases {
        let error = load_text(text, env).unwrap_err();
        assert!(error.contains(expected), "{text:?} {env:?}: {error}");
    }
}

#[test]
fn kubernetes_service_variables_are_ignored() {
    let env = [
        "PROPUSK_SERVICE_HOST",
        "PROPUSK_SERVICE_PORT",
        "PROPUSK_SERVICE_PORT_HTTP",
        "PROPUSK_PORT",
        "PROPUSK_PORT_8080_TCP",
        "PROPUSK_PORT_8080_TCP_ADDR",
        "PROPUSK_DB_PORT_5432_TCP_PROTO",
        "PROPUSK_TEST_POSTGRES_URL",
    ];
    let env: Vec<_> = env.iter().map(|name| (*name, "tcp://10.0.0.1:80")).collect();
    load(None, &env).unwrap();
}

#[test]
fn all_problems_are_reported_together() {
    let error = load_text(
        "x = 1\n[server]\nmax_connections = 'many'\n[log]\nformat = 'xml'",
        &[("PROPUSK_LIMITS__ENABLED", "yes"), ("PROPUSK_TOKENS__ACCESS_TTL", "fifteen")],
    )
    .unwrap_err();
    assert_eq!(error.lines().count(), 6, "{error}");
    assert!(
        error.contains(
            "limits.enabled (PROPUSK_LIMITS__ENABLED): must be true or false, not \"yes\""
        ),
        "{error}"
    );
    assert!(error.contains("must be an integer, like 10000, not \"many\""), "{error}");
    assert!(error.contains("unknown variant `xml`, expected `human` or `json`"), "{error}");
    assert!(error.contains("the default is \"15m\""), "{error}");
}

/// Variables, the invalid key, and a part of its error.
type Case = (&'static [(&'static str, &'static str)], &'static str, &'static str);

const PUBLIC: (&str, &str) = ("PROPUSK_SERVER__ISSUER", "https://auth.example.com");

const INVALID: &[Case] = &[
    (&[("PROPUSK_KAFKA__BROKERS", "kafka")], "kafka.brokers", "HOST:PORT"),
    (&[("PROPUSK_KAFKA__TOPICS__EVENTS", "a b")], "kafka.topics.events", "letters, digits"),
    (&[("PROPUSK_KAFKA__TOPICS__DEAD_LETTER", "user.create")], "kafka.topics.dead_letter", "own"),
    (
        &[("PROPUSK_KAFKA__TOPICS__USER_CREATE_DONE", "user.create")],
        "kafka.topics.user_create_done",
        "own",
    ),
    (&[("PROPUSK_KAFKA__CLOSE_WINDOW", "1s")], "kafka.close_window", "1m to 90d"),
    (&[("PROPUSK_KAFKA__GROUP", "")], "kafka.group", "1 to 249"),
    (&[("PROPUSK_USER_SERVICE__MODE", "kafka")], "user_service.mode", "requires kafka.brokers"),
    (&[("PROPUSK_USER_SERVICE__MODE", "grpc")], "user_service.url", "is required"),
    (&[("PROPUSK_USER_SERVICE__URL", "users:50051")], "user_service.url", "https://users.internal"),
    (&[("PROPUSK_USER_SERVICE__RETRIES", "9")], "user_service.retries", "0 to 5"),
    (&[("PROPUSK_USER_SERVICE__TIMEOUT", "20s")], "user_service.timeout", "at most 25s"),
    (&[("PROPUSK_USER_SERVICE__DEADLINE", "1s")], "user_service.deadline", "1m to 90d"),
    (&[("PROPUSK_USER_SERVICE__CA_FILE", "/no/such")], "user_service.ca_file", "file not found"),
    (
        &[("PROPUSK_SERVER__ISSUER", "auth.example.com")],
        "server.issuer",
        "not an absolute https URL",
    ),
    (
        &[("PROPUSK_SERVER__ISSUER", "ftp://example.com")],
        "server.issuer",
        "not an absolute https URL",
    ),
    (
        &[("PROPUSK_SERVER__ISSUER", "http://auth.example.com")],
        "server.issuer",
        "set server.issuer to an https URL",
    ),
    (
        &[("PROPUSK_SERVER__ISSUER", "https://u@example.com")],
        "server.issuer",
        "must not contain a user name",
    ),
    (
        &[("PROPUSK_SERVER__ISSUER", "https://example.com?x")],
        "server.issuer",
        "must not contain a query",
    ),
    (
        &[("PROPUSK_SERVER__ISSUER", "https://example.com#x")],
        "server.issuer",
        "must not contain a query",
    ),
    (
        &[("PROPUSK_SERVER__ISSUER", "https://example.com/auth")],
        "server.issuer",
        "must not have a path",
    ),
    (
        &[("PROPUSK_SERVER__ISSUER", "http://localhost:1/")],
        "server.issuer",
        "end in a slash; use http://localhost:1",
    ),
    (
        &[("PROPUSK_SERVER__ISSUER", "https://Example.com:443")],
        "server.issuer",
        "use https://example.com",
    ),
    (
        &[("PROPUSK_SERVER__LISTEN", "0.0.0.0:8080")],
        "server.issuer",
        "set server.issuer to the https URL",
    ),
    (
        &[("PROPUSK_CLIENT_REGISTRATION__PRIVATE_USE_SCHEMES", "cursor,Cursor://")],
        "client_registration.private_use_schemes",
        "is not a URI scheme",
    ),
    (&[("PROPUSK_SERVER__LISTEN", "8080")], "server.listen", "use one like 127.0.0.1:8080"),
    (&[("PROPUSK_METRICS__LISTEN", "127.0.0.1")], "metrics.listen", "use one like 127.0.0.1:8080"),
    (&[("PROPUSK_METRICS__LISTEN", "127.0.0.1:8080")], "metrics.listen", "choose another port"),
    (
        &[("PROPUSK_SERVER__TRUSTED_PROXIES", "ten")],
        "server.trusted_proxies",
        "use one like 10.0.0.0/8",
    ),
    (
        &[("PROPUSK_SERVER__MAX_HEADER_BYTES", "100")],
        "server.max_header_bytes",
        "from 8192 to 1048576",
    ),
    (&[("PROPUSK_SERVER__MAX_CONNECTIONS", "0")], "server.max_connections", "at least 1"),
    (&[("PROPUSK_SERVER__MAX_BODY_BYTES", "-1")], "server.max_body_bytes", "an integer"),
    (&[("PROPUSK_SERVER__REQUEST_TIMEOUT", "0s")], "server.request_timeout", "longer than 0s"),
    (&[("PROPUSK_AUDIT__RETENTION", "1000years")], "audit.retention", "at most 36500d"),
    (
        &[("PROPUSK_SERVER__TLS__CERTIFICATE", "Cargo.toml")],
        "server.tls.key",
        "set both or neither",
    ),
    (
        &[("PROPUSK_SERVER__TLS__KEY", "Cargo.toml")],
        "server.tls.certificate",
        "set both or neither",
    ),
    (
        &[("PROPUSK_SERVER__TLS__CLIENT_CA", "/no/such")],
        "server.tls.client_ca",
        "file not found: /no/such",
    ),
    (&[("PROPUSK_SERVER__TLS__CLIENT_AUTH", "required")], "server.tls.client_auth", "requires TLS"),
    (
        &[("PROPUSK_SERVER__TLS__CLIENT_AUTH", "optional")],
        "server.tls.client_ca",
        "name a PEM file",
    ),
    (
        &[("PROPUSK_SERVER__TLS__CLIENT_AUTH", "maybe")],
        "server.tls.client_auth",
        "expected one of `off`, `optional`, `required`",
    ),
    (
        &[("PROPUSK_GRPC__TLS__KEY", "Cargo.toml")],
        "grpc.tls.certificate",
        "is not set although grpc.tls.key is; set both or neither",
    ),
    (
        &[("PROPUSK_GRPC__TLS__CLIENT_AUTH", "optional")],
        "grpc.tls.client_auth",
        "set grpc.tls.certificate and grpc.tls.key",
    ),
    (
        &[("PROPUSK_GRPC__TLS__CLIENT_CA", "/no/such")],
        "grpc.tls.client_ca",
        "file not found: /no/such",
    ),
    (&[("PROPUSK_GRPC__LISTEN", "127.0.0.1:8080")], "grpc.listen", "is the same as server.listen"),
    (&[("PROPUSK_GRPC__LISTEN", "127.0.0.1:9464")], "grpc.listen", "is the same as metrics.listen"),
    (&[("PROPUSK_GRPC__MAX_MESSAGE_BYTES", "100")], "grpc.max_message_bytes", "from 1024"),
    (&[("PROPUSK_DATABASE__URL", "mysql://x")], "database.url", "use postgres://"),
    (&[("PROPUSK_DATABASE__URL", "sqlite::memory:")], "database.url", "use postgres://"),
    (&[("PROPUSK_DATABASE__MAX_CONNECTIONS", "0")], "database.max_connections", "at least 1"),
    (&[("PROPUSK_DATA_DIR", "")], "data_dir", "name a directory"),
    (&[PUBLIC], "secrets.master_key_file", "head -c 32 /dev/urandom > FILE; chmod 600 FILE"),
    (
        &[PUBLIC, ("PROPUSK_SECRETS__MASTER_KEY_FILE", "/no/such")],
        "secrets.master_key_file",
        "file not found: /no/such",
    ),
    (
        &[PUBLIC, ("PROPUSK_PASSWORDS__MEMORY_KIB", "19000")],
        "passwords.memory_kib",
        "at least 19456",
    ),
    (
        &[("PROPUSK_PASSWORDS__MEMORY_KIB", "7")],
        "passwords.memory_kib",
        "8 times passwords.parallelism",
    ),
    (&[("PROPUSK_PASSWORDS__PARALLELISM", "0")], "passwords.parallelism", "from 1"),
    (&[("PROPUSK_PASSWORDS__ITERATIONS", "0")], "passwords.iterations", "at least 1"),
    (&[("PROPUSK_PASSWORDS__MIN_LENGTH", "7")], "passwords.min_length", "from 8 to 64"),
    (&[("PROPUSK_PASSWORDS__MIN_LENGTH", "65")], "passwords.min_length", "from 8 to 64"),
    (&[("PROPUSK_PASSWORDS__MIN_STRENGTH", "5")], "passwords.min_strength", "from 0 to 4"),
    (
        &[("PROPUSK_PASSWORDS__BLOCKLIST_FILE", "/no/such")],
        "passwords.blocklist_file",
        "file not found",
    ),
    (
        &[("PROPUSK_AUTHORIZATION__BROWSER_SESSION_IDLE", "8d")],
        "authorization.browser_session_idle",
        "from 10m to authorization.browser_session_ttl",
    ),
    (&[("PROPUSK_LOGIN__WRONG_PASSWORDS", "0")], "login.wrong_passwords", "from 1 to 100"),
    (&[("PROPUSK_LOGIN__DELAY", "16m")], "login.delay", "from 1s to login.max_delay"),
    (&[("PROPUSK_LOGIN__MAX_DELAY", "25h")], "login.max_delay", "at most 24h"),
    (
        &[("PROPUSK_LOGIN__FORGET_AFTER", "14m")],
        "login.forget_after",
        "from login.max_delay to 30d",
    ),
    (
        &[("PROPUSK_LOGIN__MAX_WRONG_PASSWORDS", "4")],
        "login.max_wrong_passwords",
        "at least login.wrong_passwords",
    ),
    (&[("PROPUSK_TOKENS__ACCESS_TTL", "59s")], "tokens.access_ttl", "from 1m to 1h"),
    (&[("PROPUSK_TOKENS__ACCESS_TTL", "61m")], "tokens.access_ttl", "from 1m to 1h"),
    (
        &[("PROPUSK_TOKENS__REFRESH_IDLE_TTL", "31d")],
        "tokens.refresh_idle_ttl",
        "at most tokens.refresh_max_ttl",
    ),
    (&[("PROPUSK_TOKENS__REPLAY_WINDOW", "301s")], "tokens.replay_window", "0s (off) to 5m"),
    (
        &[("PROPUSK_TOKENS__SIGNING_ALGORITHM", "PS256")],
        "tokens.signing_algorithm",
        "add \"PS256\" to keys.algorithms",
    ),
    (
        &[("PROPUSK_TOKENS__SIGNING_ALGORITHM", "none")],
        "tokens.signing_algorithm",
        "unknown variant `none`",
    ),
    (&[("PROPUSK_KEYS__ALGORITHMS", "ES256,ES256")], "keys.algorithms", "without duplicates"),
    (&[("PROPUSK_KEYS__ALGORITHMS", "")], "keys.algorithms", "at least one"),
    (
        &[("PROPUSK_KEYS__PUBLISH_AHEAD", "90d")],
        "keys.publish_ahead",
        "shorter than keys.rotate_every",
    ),
    (&[("PROPUSK_KEYS__PUBLISH_AHEAD", "4m")], "keys.publish_ahead", "at least keys.jwks_max_age"),
    (&[("PROPUSK_LIMITS__ADDRESS_BURST", "0")], "limits.address_burst", "at least 1"),
    (&[("PROPUSK_LIMITS__TRACKED", "5000000000x")], "limits.tracked", "an integer"),
    (&[("PROPUSK_LOG__LEVEL", "a=b=info")], "log.level", "is not a valid filter"),
    (&[("PROPUSK_LOG__LEVEL", "warning")], "log.level", "`warning` is not a level: use warn"),
    (&[("PROPUSK_LOG__LEVEL", "info,propusk")], "log.level", "`propusk` is not a level"),
    (&[("PROPUSK_LOG__LEVEL", "propusk=verbose")], "log.level", "`verbose` is not a level"),
    (&[("PROPUSK_LOG__LEVEL", "")], "log.level", "a level is missing"),
    (
        &[("PROPUSK_BOOTSTRAP__ADMIN_PASSWORD_FILE", "/nowhere/password")],
        "bootstrap.admin_password_file",
        "file not found",
    ),
    (
        &[("PROPUSK_GATEWAY__COOKIE_DOMAIN", "https://localhost")],
        "gateway.cookie_domain",
        "use one like example.com",
    ),
    (
        &[PUBLIC, ("PROPUSK_GATEWAY__COOKIE_DOMAIN", "com")],
        "gateway.cookie_domain",
        "is not a domain",
    ),
    (
        &[PUBLIC, ("PROPUSK_GATEWAY__COOKIE_DOMAIN", "ample.com")],
        "gateway.cookie_domain",
        "browsers would reject",
    ),
    (
        &[("PROPUSK_GATEWAY__ORIGINS", "http://127.0.0.1:80")],
        "gateway.origins",
        "use http://127.0.0.1",
    ),
    (
        &[("PROPUSK_GATEWAY__ORIGINS", "https://127.0.0.1:9000")],
        "gateway.origins",
        "the same scheme as the issuer",
    ),
    (
        &[PUBLIC, ("PROPUSK_GATEWAY__ORIGINS", "https://app.example.com")],
        "gateway.origins",
        "would not receive the cookies",
    ),
    (
        &[
            PUBLIC,
            ("PROPUSK_GATEWAY__COOKIE_DOMAIN", "example.com"),
            ("PROPUSK_GATEWAY__ORIGINS", "https://app.example.net"),
        ],
        "gateway.origins",
        "would not receive the cookies",
    ),
    (&[("PROPUSK_WEBHOOKS__TIMEOUT", "61s")], "webhooks.timeout", "must be from 1s to 60s"),
    (&[("PROPUSK_WEBHOOKS__MAX_AGE", "31d")], "webhooks.max_age", "must be from 1m to 30d"),
    (&[("PROPUSK_WEBHOOKS__CONCURRENCY", "1")], "webhooks.concurrency", "must be from 2 to 256"),
    (&[("PROPUSK_WEBHOOKS__MAX_ATTEMPTS", "0")], "webhooks.max_attempts", "must be from 1 to 100"),
    (&[("PROPUSK_PAGES__OPERATOR", "a\nb")], "pages.operator", "without control characters"),
    (
        &[("PROPUSK_BOOTSTRAP__ADMIN_EMAIL", "admin")],
        "bootstrap.admin_email",
        "is not an email address",
    ),
];

#[test]
fn invalid_values_are_reported_with_the_fix() {
    for (env, key, expected) in INVALID {
        let Err(error) = load(None, env) else {
            panic!("{env:?} was accepted");
        };
        let line = error.lines().find(|line| line.trim_start().starts_with(&format!("{key} (")));
        assert!(line.is_some_and(|line| line.contains(expected)), "{env:?}: {error}");
    }
    let keys: BTreeSet<_> = INVALID.iter().map(|(_, key, _)| key).collect();
    assert!(keys.len() > 25);
}

#[test]
fn the_settings_of_kafka_fit_together() {
    let brokers = ("PROPUSK_KAFKA__BROKERS", "kafka-1:9092,[::1]:9092");
    let valid = load(None, &[brokers]);
    if !cfg!(feature = "kafka") {
        let error = valid.unwrap_err();
        assert!(error.contains("--features kafka"), "{error}");
        return;
    }
    let config = valid.unwrap();
    assert_eq!(config.kafka.brokers, ["kafka-1:9092", "[::1]:9092"]);
    assert!(config.publishes_events() && !load(None, &[]).unwrap().publishes_events());
    let sasl = ("PROPUSK_KAFKA__SECURITY", "sasl_tls");
    let user = ("PROPUSK_KAFKA__USERNAME", "propusk");
    let password = ("PROPUSK_KAFKA__PASSWORD", "canary");
    let config = load(None, &[brokers, sasl, user, password]).unwrap();
    let shown = format!("{config:?}{:?}", config.kafka);
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.contains("password = \"***\""), "{shown}");
    let oauth = ("PROPUSK_KAFKA__SASL_MECHANISM", "OAUTHBEARER");
    let pooler = ("PROPUSK_DATABASE__PREPARED_STATEMENTS", "false");
    let invalid: [(&[(&str, &str)], &str); 5] = [
        (&[brokers, sasl, user], "kafka.password"),
        (&[brokers, sasl, password], "kafka.username"),
        (&[brokers, sasl, oauth], "kafka.token_file"),
        (&[brokers, password], "kafka.password"),
        (&[brokers, pooler], "kafka.brokers"),
    ];
    for (env, key) in invalid {
        let error = load(None, env).unwrap_err();
        assert!(error.contains(&format!("{key} (")) && !error.contains("canary"), "{error}");
    }
}

#[test]
fn safe_values_are_accepted() {
    let loopback = [
        "https://127.0.0.1:8443",
        "http://localhost",
        "http://auth.localhost:3000",
        "http://[::1]:8080",
        "http://127.0.0.2:1",
    ];
    for issuer in loopback {
        let env = [("PROPUSK_SERVER__ISSUER", issuer), ("PROPUSK_PASSWORDS__MEMORY_KIB", "8")];
        let config = load(None, &env).unwrap();
        assert!(config.is_loopback_issuer());
    }
    // A container's port published on the host's loopback.
    load(
        None,
        &[
            ("PROPUSK_SERVER__LISTEN", "0.0.0.0:8080"),
            ("PROPUSK_SERVER__ISSUER", "http://127.0.0.1:8080"),
        ],
    )
    .unwrap();

    let key = tempfile::NamedTempFile::new().unwrap();
    let env = [
        PUBLIC,
        ("PROPUSK_SERVER__LISTEN", "[::]:8080"),
        ("PROPUSK_SECRETS__MASTER_KEY_FILE", key.path().to_str().unwrap()),
    ];
    let config = load(None, &env).unwrap();
    assert!(config.issuer_is_https() && !config.is_loopback_issuer());
    assert_eq!(config.audience(), "https://auth.example.com");
}

#[test]
fn an_issuer_that_is_not_set_follows_a_listener_on_loopback() {
    const LISTEN: &str = "PROPUSK_SERVER__LISTEN";
    const CERTIFICATE: &str = "PROPUSK_SERVER__TLS__CERTIFICATE";
    let issuer = |env: &[(&str, &str)]| load(None, env).unwrap().server.issuer;
    for (address, expected) in [
        ("127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("localhost:9000", "http://127.0.0.1:9000"),
        ("[::1]:9000", "http://[::1]:9000"),
        ("127.0.0.1:80", "http://127.0.0.1"),
        // A port that is not known before the server listens.
        ("127.0.0.1:0", "http://127.0.0.1:8080"),
    ] {
        assert_eq!(issuer(&[(LISTEN, address)]), expected, "{address}");
    }
    let own = ("PROPUSK_SERVER__ISSUER", "http://localhost:3000");
    assert_eq!(issuer(&[(LISTEN, "127.0.0.1:9000"), own]), "http://localhost:3000");

    // With a certificate it speaks https only.
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let tls = [("PROPUSK_SERVER__TLS__KEY", path), (CERTIFICATE, path)];
    assert_eq!(issuer(&[tls[0], tls[1], (LISTEN, "[::1]:8443")]), "https://[::1]:8443");
    assert_eq!(issuer(&tls), "https://127.0.0.1:8080");

    let config = load(None, &[(LISTEN, "127.0.0.1:9000")]).unwrap();
    let rendered = config.render();
    let line = "issuer = \"http://127.0.0.1:9000\"  # PROPUSK_SERVER__LISTEN\n";
    assert!(rendered.contains(line), "{rendered}");
    let error = load(None, &[(LISTEN, "127.0.0.1:9000"), ("PROPUSK_SERVER__ISSUER", "rubbish")]);
    assert!(error.unwrap_err().contains("server.issuer (PROPUSK_SERVER__ISSUER)"));
}

#[test]
fn t108_a_listener_beyond_loopback_has_no_development_defaults() {
    const ISSUER: (&str, &str) = ("PROPUSK_SERVER__ISSUER", "http://localhost:8080");
    let on = |listen, more: &[(&str, &str)]| {
        load(None, &[&[ISSUER, ("PROPUSK_SERVER__LISTEN", listen)][..], more].concat())
    };
    for listen in ["127.0.0.1:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080"] {
        let config = on(listen, &[]).unwrap();
        assert!(config.is_local(), "{listen}");
        assert_eq!(config.registration_mode(), RegistrationMode::Open, "{listen}");
        assert!(config.takes_metadata_documents(), "{listen}");
    }
    let cheap = ("PROPUSK_PASSWORDS__MEMORY_KIB", "8");
    for listen in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080"] {
        let config = on(listen, &[]).unwrap();
        assert!(!config.is_local(), "{listen}");
        assert_eq!(config.registration_mode(), RegistrationMode::Off, "{listen}");
        assert!(!config.takes_metadata_documents(), "{listen}");
        assert!(on(listen, &[cheap]).unwrap_err().contains("passwords.memory_kib"), "{listen}");
        let open = [("PROPUSK_CLIENT_REGISTRATION__MODE", "open")];
        let config = on(listen, &open).unwrap();
        assert_eq!(config.registration_mode(), RegistrationMode::Open, "what is set applies");
    }
}

const CRM: &str = r#"
[services.crm]
token_url = "https://crm.example.org/token"
client_id = "propusk"
client_secret = "canary"
[services.crm.resource.profile]
url = "https://crm.example.org/customers/{sub}"
query = { kind = "short" }
fields = ["name", "contracts[].number"]
"#;

#[test]
fn services_are_configured_by_file_and_environment() {
    let config = load_text(CRM, &[("PROPUSK_SERVICES__CRM__SCOPE", "read write")]).unwrap();
    let crm = &config.services["crm"];
    assert_eq!((crm.scope.as_str(), crm.timeout), ("read write", Duration::from_secs(5)));
    assert_eq!(crm.assertion_audience(), "https://crm.example.org/token");
    assert_eq!(crm.resources["profile"].query["kind"], "short");

    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "canary\n").unwrap();
    let env = [
        ("PROPUSK_SERVICES__ERP_2__TOKEN_URL", "https://erp.example.org/token"),
        ("PROPUSK_SERVICES__ERP_2__CLIENT_ID", "propusk"),
        ("PROPUSK_SERVICES__ERP_2__CLIENT_SECRET_FILE", secret.to_str().unwrap()),
        ("PROPUSK_SERVICES__ERP_2__CLIENTS", "one, two"),
        ("PROPUSK_SERVICES__ERP_2__RESOURCE__ORDERS__URL", "https://erp.example.org/orders"),
        ("PROPUSK_SERVICES__ERP_2__RESOURCE__ORDERS__QUERY", "customer={sub},kind=a=b"),
        ("PROPUSK_SERVICES__ERP_2__RESOURCE__ORDERS__FIELDS", "orders[].number"),
    ];
    let config = load_text(CRM, &env).unwrap();
    assert_eq!(config.services.len(), 2);
    let erp = &config.services["erp_2"];
    assert_eq!((erp.client_secret.as_str(), erp.clients.len()), ("canary", 2));
    let query = &erp.resources["orders"].query;
    assert_eq!((query["customer"].as_str(), query["kind"].as_str()), ("{sub}", "a=b"));
    // The secrets of both are masked, and the rest reads back.
    let rendered = config.render();
    assert!(!rendered.contains("canary"), "{rendered}");
    assert!(
        rendered.contains("client_secret = \"***\"  # PROPUSK_SERVICES__ERP_2__CLIENT_SECRET_FILE")
    );
    let again = load_text(&rendered, &[]).unwrap();
    assert_eq!(again.services["erp_2"].resources["orders"].fields, ["orders[].number"]);
}

#[test]
fn problems_of_services_name_the_key_and_no_secret() {
    let cases: &[(&str, &str, &str)] = &[
        ("PROPUSK_SERVICES__CRM__TOKEN_URL", "http://crm.example.org", "services.crm.token_url ("),
        ("PROPUSK_SERVICES__CRM__CLIENT_ID", "", "services.crm.client_id ("),
        ("PROPUSK_SERVICES__CRM__CLIENT_SECRET", "", "services.crm.client_secret ("),
        ("PROPUSK_SERVICES__CRM__AUTH", "private_key_jwt", "services.crm.private_key_file ("),
        (
            "PROPUSK_SERVICES__CRM__AUTH",
            "digest",
            "services.crm.auth (PROPUSK_SERVICES__CRM__AUTH)",
        ),
        ("PROPUSK_SERVICES__CRM__GRANT", "jwt-bearer", "services.crm.private_key_file ("),
        ("PROPUSK_SERVICES__CRM__GRANT", "password", "services.crm.username ("),
        ("PROPUSK_SERVICES__CRM__GRANT", "refresh_token", "services.crm.refresh_token ("),
        ("PROPUSK_SERVICES__CRM__PASSWORD", "canary", "services.crm.password ("),
        ("PROPUSK_SERVICES__CRM__SUBJECT", "user", "services.crm.subject ("),
        (
            "PROPUSK_SERVICES__CRM__AUTHORIZATION_URL",
            "https://x.org/a",
            "services.crm.authorization_url (",
        ),
        ("PROPUSK_SERVICES__CRM__REVOCATION_URL", "http://x.org", "services.crm.revocation_url ("),
        ("PROPUSK_SERVICES__CRM__REVOCATION_URL", "https://x.org/r", "requires subject = \"user\""),
        ("PROPUSK_SERVICES__CRM__PRIVATE_KEY_FILE", "/no/such", "services.crm.private_key_file ("),
        ("PROPUSK_SERVICES__CRM__TIMEOUT", "1m", "must be from 100ms to 20s"),
        ("PROPUSK_SERVICES__CRM__RENEW_BEFORE", "soon", "services.crm.renew_before ("),
        ("PROPUSK_SERVICES__CRM__TOKN_URL", "x", "did you mean PROPUSK_SERVICES__CRM__TOKEN_URL?"),
        ("PROPUSK_SERVICES__CRM__RESOURCE__PROFILE__FIELDS", "a,a.b", "contradicts another field"),
        ("PROPUSK_SERVICES__CRM__RESOURCE__PROFILE__FIELDS", "", ".profile.fields ("),
        ("PROPUSK_SERVICES__CRM__RESOURCE__PROFILE__URL", "https://x.org/{id}", ".profile.url ("),
        ("PROPUSK_SERVICES__CRM__RESOURCE__PROFILE__URL", "https://x.org/a{sub}", ".profile.url ("),
        ("PROPUSK_SERVICES__CRM__RESOURCE__PROFILE__QUERY", "a={email}", ".profile.query ("),
        ("PROPUSK_SERVICES__CRM__RESOURCE__PROFILE__QUERY", "a", "must be a table"),
        ("PROPUSK_SERVICES__CRM__RESOURCE__PROFILE__METHOD", "PUT", ".profile.method ("),
        ("PROPUSK_SERVICES__2CRM__CLIENT_ID", "x", "the name `2crm` must be 1 to 32 of a-z"),
    ];
    for (name, value, expected) in cases {
        let error = load_text(CRM, &[(name, value)]).unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
        assert!(!error.contains("canary"), "{name}: {error}");
    }
    for (text, expected) in [
        ("services = 3", "services ("),
        ("[services]\ncrm = 3", "services.crm ("),
        ("[services.Crm]\nscope = 'x'", "the name `Crm` must be"),
        ("[services.crm.resource]\nprofile = 3", "services.crm.resource"),
        ("[services.crm]\ntoken_uri = 'x'", "services.crm.token_uri ("),
    ] {
        let error = load_text(text, &[]).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

/// The section `name` of the reference configuration shows exactly the keys with their defaults.
fn shows_every_key(section: &super::named::NamedSection, nested: &str) {
    let header = format!("[{}]", section.name);
    let lines = DEFAULT_TOML.lines().skip_while(|line| **line != *header).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let lines = lines.filter_map(|line| line.strip_prefix("#     "));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    let text = text.replace("NAME", "crm").replace("RESOURCE", "profile");
    let shown: toml::Table = toml::from_str(&text).unwrap();
    let known = section.defaults_for(&["crm", nested, "profile"]).unwrap();
    for (key, setting) in &known {
        let names = key.split('.');
        let value = names.fold(Some(&toml::Value::Table(shown.clone())).cloned(), |value, name| {
            value?.get(name).cloned()
        });
        assert_eq!(value.as_ref(), Some(&setting.value), "{key}");
    }
    let count = text.lines().filter(|line| line.contains(" = ")).count();
    assert_eq!(count, known.len());
}

#[test]
fn the_reference_configuration_shows_every_key_of_a_service_and_of_a_provider() {
    shows_every_key(&super::services::NAMED, "resource");
    shows_every_key(&super::upstream::NAMED, "");
}

const PROVIDER: &str = r#"
[upstream.acme]
issuer = "https://login.acme.example"
client_id = "propusk"
client_secret = "canary"
display_name = { en = "Acme", ru = "Акме" }
"#;

#[test]
fn login_providers_are_configured_by_file_and_environment() {
    let more = [
        ("PROPUSK_UPSTREAM__OTHER__ISSUER", "https://other.example/tenant"),
        ("PROPUSK_UPSTREAM__OTHER__CLIENT_ID", "1"),
        ("PROPUSK_UPSTREAM__OTHER__TOKEN_ENDPOINT_AUTH_METHOD", "none"),
        ("PROPUSK_UPSTREAM__OTHER__DISPLAY_NAME", "en=The other"),
    ];
    let config = load_text(PROVIDER, &more).unwrap();
    let acme = &config.upstream["acme"];
    assert_eq!((acme.name("ru", "acme"), acme.name("en", "acme")), ("Акме", "Acme"));
    assert_eq!(acme.scope, "openid profile email");
    assert!(!acme.trust_email && acme.registration);
    assert_eq!(acme.assertion_audience(), "https://login.acme.example");
    let other = &config.upstream["other"];
    assert_eq!((other.name("ru", "other"), other.auth()), ("The other", None));
    assert!(!config.render().contains("canary"), "{}", config.render());
    let again = load_text(&config.render(), &[]).unwrap();
    assert_eq!(again.upstream["other"].issuer, "https://other.example/tenant");
}

#[test]
fn problems_of_login_providers_name_the_key_and_no_secret() {
    let cases: &[(&str, &str, &str)] = &[
        ("ISSUER", "http://login.acme.example", "upstream.acme.issuer ("),
        ("ISSUER", "https://login.acme.example?a=b", "upstream.acme.issuer ("),
        ("ISSUER", "", "upstream.acme.issuer ("),
        ("CLIENT_ID", "", "upstream.acme.client_id ("),
        ("CLIENT_SECRET", "", "upstream.acme.client_secret ("),
        ("TOKEN_ENDPOINT_AUTH_METHOD", "private_key_jwt", "upstream.acme.private_key_file ("),
        ("TOKEN_ENDPOINT_AUTH_METHOD", "none", "upstream.acme.client_secret ("),
        ("TOKEN_ENDPOINT_AUTH_METHOD", "basic", "upstream.acme.token_endpoint_auth_method ("),
        ("SCOPE", "email", "upstream.acme.scope ("),
        ("DISPLAY_NAME", "d_e=Acme", "upstream.acme.display_name ("),
        ("EMAIL_CLAIM", "", "upstream.acme.email_claim ("),
        ("TIMEOUT", "1m", "must be from 100ms to 20s"),
        ("TRUST_EMAIL", "maybe", "upstream.acme.trust_email ("),
        ("TRUST_MAIL", "true", "did you mean PROPUSK_UPSTREAM__ACME__TRUST_EMAIL?"),
    ];
    for (key, value, expected) in cases {
        let name = format!("PROPUSK_UPSTREAM__ACME__{key}");
        let error = load_text(PROVIDER, &[(&name, value)]).unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
        assert!(!error.contains("canary"), "{name}: {error}");
    }
    let twice = PROVIDER.replace("[upstream.acme]", "[upstream.second]");
    let error = load_text(&format!("{PROVIDER}{twice}"), &[]).unwrap_err();
    assert!(error.contains("upstream.second.issuer ("), "{error}");
}

#[test]
fn addresses_register_at_allowed_domains_only() {
    use crate::model::user::Email;
    let domains = "Example.ORG, пример.рф, xn--strae-oqa.example";
    let config = load(None, &[("PROPUSK_REGISTRATION__ALLOWED_DOMAINS", domains)]).unwrap();
    let admits = |text: &str| config.registration.admits(&Email::parse(text).unwrap());
    for allowed in [
        "a@example.org",
        "A@EXAMPLE.ORG",
        "a@xn--e1afmkfd.xn--p1ai",
        "a@пример.рф",
        "a@straße.example",
    ] {
        assert!(admits(allowed), "{allowed}");
    }
    for refused in
        ["a@sub.example.org", "a@example.org.evil.test", "a@xexample.org", "a@strasse.example"]
    {
        assert!(!admits(refused), "{refused}");
    }
    for wrong in [r#"["a@example.org"]"#, r#"[""]"#, r#"["*.example.org"]"#] {
        let error = load(None, &[("PROPUSK_REGISTRATION__ALLOWED_DOMAINS", wrong)]).unwrap_err();
        assert!(error.contains("registration.allowed_domains"), "{error}");
    }
    let old = load(None, &[("PROPUSK_REGISTRATION__ENABLED", "false")]).unwrap_err();
    assert!(old.contains("PROPUSK_REGISTRATION__ENABLED"), "{old}");
}
