//! Logs and metrics.
//!
//! Metrics belong to an instance, so that two servers in one process (tests) do not share them. Every
//! handle is registered beforehand: counting is one atomic operation, and each series is there from the start.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use http::{Method, StatusCode};
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt as _,
    fmt::{MakeWriter, format},
    util::SubscriberInitExt as _,
};

use crate::{
    config::{self, LogFormat},
    limits::Limit,
};

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(
        "log.level: `{level}` is no filter: {why}. Write a level (error, warn, info, debug, trace) or levels by module, like `info,propusk::flows=debug`"
    )]
    Level { level: String, why: String },
    #[error("the log was set up already")]
    Twice,
}

/// PostgreSQL's notices are for those who type SQL: at every start one would say that a table is there already.
const QUIET: &str = "sqlx::postgres::notice=warn";

/// Sends this process's log to standard error. Once a process.
///
/// # Errors
/// Where the level is no filter, or the log was set up before.
pub fn init_logs(config: &config::Log) -> Result<(), LogError> {
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let dispatch = log_to(config, std::io::stderr, colours)?;
    dispatch.try_init().map_err(|_| LogError::Twice)
}

/// The log as [`init_logs`] makes it, to any writer: one event a line, whatever the values hold.
///
/// # Errors
/// Where the level is no filter.
pub fn log_to<W>(
    config: &config::Log,
    writer: W,
    colours: bool,
) -> Result<tracing::Dispatch, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        .parse(format!("{QUIET},{}", config.level))
        .map_err(|error| LogError::Level { level: config.level.clone(), why: error.to_string() })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match config.format {
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(true).with_span_list(false).into()
        }
        LogFormat::Human => builder
            .with_ansi(colours)
            .fmt_fields(format::debug_fn(write_field).delimited(" "))
            .into(),
    })
}

fn write_field(
    writer: &mut format::Writer<'_>,
    field: &tracing::field::Field,
    value: &dyn fmt::Debug,
) -> fmt::Result {
    let mut escaped = Escaped(writer);
    match field.name() {
        "message" => write!(escaped, "{value:?}"),
        name => write!(escaped, "{name}={value:?}"),
    }
}

/// Writes control characters as escapes: a value can neither begin a line of its own nor speak to the
/// terminal. Bidirectional controls too, which make a line read as something else.
struct Escaped<'a, 'w>(&'a mut format::Writer<'w>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '\n' | '\r' | '\t' => write!(self.0, "{}", c.escape_default())?,
                '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    write!(self.0, "{}", c.escape_unicode())?;
                }
                c if c.is_control() => write!(self.0, "{}", c.escape_unicode())?,
                c => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// An enum of the values that a label takes.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($variant),+ }

        impl $name {
            const TEXTS: &[&str] = &[$($text),+];
        }
    };
}

labels! {
    /// How a login ended.
    LoginOutcome {
        Ok = "ok",
        WrongCredentials = "wrong_credentials",
        RateLimited = "rate_limited",
        Overloaded = "overloaded",
        Error = "error",
    }
}

labels! {
    /// How a refresh ended. `Replayed`: the same successor to a retry within the window.
    RefreshOutcome {
        Rotated = "rotated",
        Replayed = "replayed",
        Theft = "theft",
        Invalid = "invalid",
        Error = "error",
    }
}

labels! {
    /// What became of a presented access token.
    TokenCheck { Ok = "ok", Refused = "refused" }
}

labels! {
    /// What a gateway was told. `Renewed`: allowed, with an access token that was made on the way.
    GatewayOutcome {
        Allowed = "allowed",
        Renewed = "renewed",
        NoToken = "no_token",
        InvalidToken = "invalid_token",
        InsufficientScope = "insufficient_scope",
        NeedsLogin = "needs_login",
        Error = "error",
    }
}

/// Seconds, from 100 µs to 10 s.
const BUCKETS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Routes that are told apart; more are counted as `other`.
const MAX_ROUTES: usize = 256;

/// One server's metrics.
pub struct Metrics {
    pub registrations: Counter,
    pub logouts: Counter,
    pub argon2_duration: Histogram,
    pub argon2_waiting: Gauge,
    pub database_pool_size: Gauge,
    pub database_pool_idle: Gauge,
    pub revocation_entries: Gauge,
    logins: Vec<Counter>,
    refreshes: Vec<Counter>,
    token_checks: Vec<Counter>,
    /// Refused requests of which nothing is kept: more came at once than are written.
    pub refusals_unwritten: Counter,
    gateways: Vec<Counter>,
    rate_limited: Vec<Counter>,
    routes: RwLock<HashMap<Box<str>, Arc<Route>>>,
    methods: RwLock<HashMap<(&'static str, &'static str), Calls>>,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let builder = PrometheusBuilder::new();
        let matcher = Matcher::Suffix("_duration_seconds".to_owned());
        let recorder = builder
            .set_buckets_for_metric(matcher, &BUCKETS)
            // Only an empty list of buckets is an error.
            .unwrap_or_default()
            .build_recorder();
        let counter = |name, help| described_counters(&recorder, name, help, None);
        let labelled = |name, help, label, texts| {
            described_counters(&recorder, name, help, Some((label, texts)))
        };
        let one = |name, help| counter(name, help).pop().unwrap_or(Counter::noop());
        let gauge = |name: &'static str, help: &'static str| {
            recorder.describe_gauge(name.into(), None, help.into());
            recorder.register_gauge(&Key::from_static_name(name), &METADATA)
        };
        let histogram = |name: &'static str, help: &'static str| {
            recorder.describe_histogram(name.into(), None, help.into());
            recorder.register_histogram(&Key::from_static_name(name), &METADATA)
        };
        let limits = Limit::ALL.map(Limit::as_str);
        recorder.describe_counter(
            HTTP_REQUESTS.into(),
            None,
            "Requests answered, by route, method and class of status.".into(),
        );
        recorder.describe_counter(
            GRPC_CALLS.into(),
            None,
            "gRPC calls answered, by method and code.".into(),
        );
        recorder.describe_histogram(
            GRPC_DURATION.into(),
            None,
            "Seconds from a gRPC call's head to its answer's head, by method.".into(),
        );
        recorder.describe_histogram(
            HTTP_DURATION.into(),
            None,
            "Seconds from a request's head to its answer's head, by route.".into(),
        );
        Self {
            registrations: one("propusk_registrations_total", "Accounts that were made."),
            logouts: one("propusk_logouts_total", "Sessions that ended by logging out."),
            argon2_duration: histogram(
                "propusk_argon2_duration_seconds",
                "Seconds that a password hash took, without the waiting.",
            ),
            argon2_waiting: gauge("propusk_argon2_waiting", "Passwords that wait to be hashed."),
            database_pool_size: gauge("propusk_database_pool_size", "Connections to the database."),
            database_pool_idle: gauge(
                "propusk_database_pool_idle",
                "Connections to the database that nobody uses.",
            ),
            revocation_entries: gauge(
                "propusk_revocation_entries",
                "Entries on the revocation list.",
            ),
            logins: labelled(
                "propusk_logins_total",
                "Attempts to log in, by outcome.",
                "outcome",
                LoginOutcome::TEXTS,
            ),
            refreshes: labelled(
                "propusk_refreshes_total",
                "Uses of refresh tokens, by outcome. `theft` ended a session.",
                "outcome",
                RefreshOutcome::TEXTS,
            ),
            token_checks: labelled(
                "propusk_token_checks_total",
                "Access tokens that were presented, by outcome.",
                "outcome",
                TokenCheck::TEXTS,
            ),
            refusals_unwritten: one(
                "propusk_refusals_unwritten_total",
                "Refused requests of which nothing is kept, because more came at once than are written.",
            ),
            gateways: labelled(
                "propusk_gateway_decisions_total",
                "Answers to gateways (forward-auth), by outcome.",
                "outcome",
                GatewayOutcome::TEXTS,
            ),
            rate_limited: labelled(
                "propusk_rate_limited_total",
                "Requests refused for their rate, by limit.",
                "limit",
                &limits,
            ),
            routes: RwLock::default(),
            methods: RwLock::default(),
            handle: recorder.handle(),
            recorder,
        }
    }

    /// Counts a login.
    pub fn login(&self, outcome: LoginOutcome) {
        self.logins[outcome as usize].increment(1);
    }

    /// Counts a use of a refresh token.
    pub fn refresh(&self, outcome: RefreshOutcome) {
        self.refreshes[outcome as usize].increment(1);
    }

    /// Counts a presented access token.
    pub fn token_check(&self, outcome: TokenCheck) {
        self.token_checks[outcome as usize].increment(1);
    }

    /// Counts an answer to a gateway.
    pub fn gateway(&self, outcome: GatewayOutcome) {
        self.gateways[outcome as usize].increment(1);
    }

    /// Counts a request refused for its rate.
    pub fn rate_limited(&self, limit: Limit) {
        self.rate_limited[limit as usize].increment(1);
    }

    /// Counts an answered request. `route` is the route's pattern, never the path that was asked for.
    pub fn http_request(&self, route: &str, method: &Method, status: StatusCode, took: Duration) {
        let route = self.route(route);
        route.duration.record(took);
        let method = METHODS.iter().position(|known| *known == method.as_str());
        let method = method.unwrap_or(METHODS.len() - 1);
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        let counter = route.requests[method][class].get_or_init(|| {
            let labels = vec![
                Label::new("route", route.name.clone()),
                Label::from_static_parts("method", METHODS[method]),
                Label::from_static_parts("status", CLASSES[class]),
            ];
            let key = Key::from_parts(HTTP_REQUESTS, labels);
            self.recorder.register_counter(&key, &METADATA)
        });
        counter.increment(1);
    }

    /// Counts an answered gRPC call. Both texts are among a few dozen.
    pub fn grpc_call(&self, method: &'static str, code: &'static str, took: Duration) {
        let methods = self.methods.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = methods.get(&(method, code)) {
            return calls.count(took);
        }
        drop(methods);
        let label = || Label::from_static_parts("method", method);
        let labels = vec![label(), Label::from_static_parts("code", code)];
        let counted = Key::from_parts(GRPC_CALLS, labels);
        let timed = Key::from_parts(GRPC_DURATION, vec![label()]);
        let mut methods = self.methods.write().unwrap_or_else(PoisonError::into_inner);
        let calls = methods.entry((method, code)).or_insert_with(|| Calls {
            duration: self.recorder.register_histogram(&timed, &METADATA),
            answered: self.recorder.register_counter(&counted, &METADATA),
        });
        calls.count(took);
    }

    fn route(&self, name: &str) -> Arc<Route> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let is_full = routes.len() >= MAX_ROUTES;
        if let Some(route) = routes.get(name) {
            return route.clone();
        }
        drop(routes);
        let name = if is_full { "other" } else { name };
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let route = routes.entry(name.into()).or_insert_with(|| {
            let label = Label::new("route", name.to_owned());
            let key = Key::from_parts(HTTP_DURATION, vec![label]);
            Arc::new(Route {
                name: name.to_owned(),
                duration: self.recorder.register_histogram(&key, &METADATA),
                requests: Default::default(),
            })
        });
        route.clone()
    }

    /// Everything in Prometheus' text format 0.0.4, to be served as [`Metrics::CONTENT_TYPE`].
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// The media type of [`Metrics::render`].
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Folds what the histograms have collected; their memory grows until it is called. Every few seconds.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

const HTTP_REQUESTS: &str = "propusk_http_requests_total";
const HTTP_DURATION: &str = "propusk_http_request_duration_seconds";
const GRPC_CALLS: &str = "propusk_grpc_calls_total";
const GRPC_DURATION: &str = "propusk_grpc_call_duration_seconds";
const METADATA: Metadata<'_> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Others than these are counted as the last.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The handles of one gRPC method's calls that ended with one code.
struct Calls {
    duration: Histogram,
    answered: Counter,
}

impl Calls {
    fn count(&self, took: Duration) {
        self.duration.record(took);
        self.answered.increment(1);
    }
}

/// One route's handles; its counters are registered at their first use.
struct Route {
    name: String,
    duration: Histogram,
    requests: [[OnceLock<Counter>; CLASSES.len()]; METHODS.len()],
}

/// One counter, or one for each value of the label, in their order.
fn described_counters(
    recorder: &PrometheusRecorder,
    name: &'static str,
    help: &'static str,
    label: Option<(&'static str, &[&'static str])>,
) -> Vec<Counter> {
    recorder.describe_counter(name.into(), None, help.into());
    let register = |labels| recorder.register_counter(&Key::from_parts(name, labels), &METADATA);
    match label {
        None => vec![register(Vec::new())],
        Some((label, texts)) => {
            texts.iter().map(|text| register(vec![Label::from_static_parts(label, text)])).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the log says of a hostile username.
    fn log_of(format: LogFormat, level: &str) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let level = level.to_owned();
        let log = log_to(&config::Log { format, level }, move || writer.clone(), false).unwrap();
        tracing::dispatcher::with_default(&log, || {
            let hostile = "eve\r\nINFO admin\u{1b}[2J\u{9b}1m\u{202e}\u{7f}";
            let span = tracing::info_span!("request", path = %hostile);
            let _inside = span.enter();
            tracing::info!(username = %hostile, agent = ?hostile, raw = hostile, "login of {hostile}");
            tracing::debug!("a detail");
        });
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_username_cannot_forge_a_line_or_speak_to_the_terminal() {
        for format in [LogFormat::Human, LogFormat::Json] {
            let log = log_of(format, "info");
            assert_eq!(log.lines().count(), 1, "{log}");
            assert!(log.ends_with('\n'));
            let line = log.trim_end_matches('\n');
            let is_c0 = |c: char| c < ' ';
            assert!(!line.contains(is_c0), "{line:?}");
            if format == LogFormat::Human {
                assert!(!line.contains(char::is_control), "{line:?}");
                assert!(!line.contains('\u{202e}'), "{line:?}");
                assert!(line.contains("login of eve\\r\\nINFO admin\\u{1b}[2J"), "{line}");
                assert!(line.contains(" username=eve\\r\\n"), "{line}");
            }
        }
    }

    #[test]
    fn json_logs_are_one_object_a_line_with_their_fields_on_top() {
        let log = log_of(LogFormat::Json, "info");
        let line: serde_json::Value = serde_json::from_str(&log).unwrap();
        assert_eq!(line["level"], "INFO");
        assert!(line["username"].as_str().unwrap().starts_with("eve\r\n"));
        assert_eq!(line["span"]["name"], "request");
    }

    #[test]
    fn the_level_decides_and_a_bad_one_names_its_key() {
        assert!(!log_of(LogFormat::Human, "info").contains("a detail"));
        assert!(log_of(LogFormat::Human, "warn,propusk=debug").contains("a detail"));
        let level = "propusk=loud".to_owned();
        let format = LogFormat::Human;
        let error = log_to(&config::Log { format, level }, io::sink, false).unwrap_err();
        assert!(error.to_string().starts_with("log.level: `propusk=loud`"), "{error}");
    }

    #[test]
    fn two_instances_do_not_share() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.login(LoginOutcome::WrongCredentials);
        one.refresh(RefreshOutcome::Theft);
        one.rate_limited(Limit::Register);
        one.token_check(TokenCheck::Refused);
        one.revocation_entries.set(3.0);
        for (series, value) in [
            ("propusk_logins_total{outcome=\"wrong_credentials\"}", 1),
            ("propusk_refreshes_total{outcome=\"theft\"}", 1),
            ("propusk_rate_limited_total{limit=\"register\"}", 1),
            ("propusk_token_checks_total{outcome=\"refused\"}", 1),
            ("propusk_revocation_entries", 3),
        ] {
            let has = |metrics: &Metrics, value| {
                let line = format!("{series} {value}");
                metrics.render().lines().any(|found| found == line)
            };
            assert!(has(&one, value), "{series}\n{}", one.render());
            assert!(has(&other, 0), "{series}");
        }
    }

    #[test]
    fn every_metric_has_its_help_from_the_start() {
        let metrics = Metrics::new();
        let took = Duration::from_millis(3);
        metrics.http_request("/api/v1/auth/login", &Method::POST, StatusCode::OK, took);
        let text = metrics.render();
        for name in [
            "registrations_total",
            "logins_total",
            "refreshes_total",
            "logouts_total",
            "token_checks_total",
            "gateway_decisions_total",
            "rate_limited_total",
            "http_requests_total",
            "http_request_duration_seconds",
            "argon2_duration_seconds",
            "argon2_waiting",
            "database_pool_size",
            "database_pool_idle",
            "revocation_entries",
        ] {
            assert!(text.contains(&format!("# HELP propusk_{name} ")), "{name}\n{text}");
            assert!(text.contains(&format!("# TYPE propusk_{name} ")), "{name}");
        }
        assert!(text.contains("propusk_argon2_duration_seconds_bucket{le=\"0.0001\"} 0"), "{text}");
    }

    #[test]
    fn requests_are_counted_by_route_method_and_class() {
        let metrics = Metrics::new();
        let took = Duration::from_millis(3);
        for status in [StatusCode::OK, StatusCode::CREATED, StatusCode::NOT_FOUND] {
            metrics.http_request("/a", &Method::GET, status, took);
        }
        let brew = Method::from_bytes(b"BREW").unwrap();
        metrics.http_request("/a", &brew, StatusCode::METHOD_NOT_ALLOWED, took);
        metrics.upkeep();
        let text = metrics.render();
        for line in [
            "propusk_http_requests_total{route=\"/a\",method=\"GET\",status=\"2xx\"} 2",
            "propusk_http_requests_total{route=\"/a\",method=\"GET\",status=\"4xx\"} 1",
            "propusk_http_requests_total{route=\"/a\",method=\"other\",status=\"4xx\"} 1",
            "propusk_http_request_duration_seconds_bucket{route=\"/a\",le=\"0.0025\"} 0",
            "propusk_http_request_duration_seconds_bucket{route=\"/a\",le=\"0.005\"} 4",
            "propusk_http_request_duration_seconds_count{route=\"/a\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn more_routes_than_any_server_has_are_counted_as_one() {
        let metrics = Metrics::new();
        for route in 0..10_000 {
            let took = Duration::from_millis(1);
            metrics.http_request(&route.to_string(), &Method::GET, StatusCode::OK, took);
        }
        assert!(metrics.routes.read().unwrap().len() <= MAX_ROUTES + 1);
        assert!(metrics.render().contains("{route=\"other\",method=\"GET\",status=\"2xx\"} 9744"));
    }
}
