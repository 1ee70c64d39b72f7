//! Metrics in the OpenMetrics text format, which Prometheus scrapes.
//!
//! Each [`Metrics`] has a registry of its own, so that two servers in one process (tests) do not
//! share their counters. Series with a fixed set of labels exist from the start, at zero.

use std::{
    collections::HashSet,
    fmt,
    hash::Hash,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use http::{Method, StatusCode};
use prometheus_client::{
    encoding::{EncodeLabel as _, EncodeLabelSet, LabelSetEncoder, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Metric, Registry},
};

use super::process::Process;
use crate::{
    clock::Timestamp,
    limits::Limit,
    model::{client::Source, key::SigningAlgorithm, service_token::FailureKind},
};

/// A label set of one label with a fixed set of values.
trait Label: EncodeLabelSet + fmt::Debug + Copy + Eq + Hash + Send + Sync + 'static {
    const ALL: &[Self];
}

/// An enum that is a [`Label`]: one series per variant.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident: $key:literal { $($variant:ident = $value:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($variant),+ }

        impl Label for $name {
            const ALL: &[Self] = &[$(Self::$variant),+];
        }

        impl EncodeLabelSet for $name {
            fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
                let value = match self { $(Self::$variant => $value),+ };
                ($key, value).encode(encoder.encode_label())
            }
        }
    };
}

label! {
    /// The outcome of a login attempt.
    LoginOutcome: "outcome" {
        Ok = "ok",
        WrongCredentials = "wrong_credentials",
        SecondFactorRequired = "second_factor_required",
        DeletionPending = "deletion_pending",
        RateLimited = "rate_limited",
        Overloaded = "overloaded",
        Error = "error",
    }
}

label! {
    /// The outcome of checking the code of a second factor.
    FactorOutcome: "outcome" {
        Ok = "ok",
        WrongCode = "wrong_code",
        RateLimited = "rate_limited",
    }
}

label! {
    /// What became of a deletion that a user has requested.
    DeletionOutcome: "outcome" {
        Requested = "requested",
        Cancelled = "cancelled",
        Completed = "completed",
    }
}

label! {
    /// The outcome of a refresh. `Replayed`: a retry within the replay window got the same
    /// successor.
    RefreshOutcome: "outcome" {
        Rotated = "rotated",
        Replayed = "replayed",
        ReuseDetected = "reuse_detected",
        Invalid = "invalid",
        Error = "error",
    }
}

label! {
    /// The outcome of verifying a presented access token.
    TokenCheck: "outcome" { Ok = "ok", Refused = "refused" }
}

label! {
    /// The decision given to a gateway. `Renewed`: allowed, with a new access token.
    GatewayOutcome: "outcome" {
        Allowed = "allowed",
        Renewed = "renewed",
        NoToken = "no_token",
        InvalidToken = "invalid_token",
        InsufficientScope = "insufficient_scope",
        NeedsLogin = "needs_login",
        Error = "error",
    }
}

label! {
    /// The outcome of an attempt to deliver a logout token, or an event to a webhook. `Failed`: it
    /// will be sent again.
    DeliveryOutcome: "outcome" {
        Delivered = "delivered",
        Failed = "failed",
        Abandoned = "abandoned",
    }
}

label! {
    /// What became of device authorization requests. `WrongCode`: a user code that is unknown.
    DeviceOutcome: "outcome" {
        Requested = "requested",
        Approved = "approved",
        Denied = "denied",
        WrongCode = "wrong_code",
    }
}

label! {
    /// The answer of the user service to the creation of a profile.
    ProfileOutcome: "outcome" {
        Created = "created",
        Refused = "refused",
        Unavailable = "unavailable",
    }
}

/// What became of a login at another provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamOutcome {
    Ok,
    SecondFactorRequired,
    /// The identity is no user's: the user links it or registers.
    Unlinked,
    Registered,
    Linked,
    /// The provider has answered with an error.
    Denied,
    /// The answer is not for this browser, too late, or was used before.
    Stale,
    /// The account must not log in.
    Refused,
    /// The provider is not reached, or its answer breaks a rule.
    Failed,
}

impl UpstreamOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::SecondFactorRequired => "second_factor_required",
            Self::Unlinked => "unlinked",
            Self::Registered => "registered",
            Self::Linked => "linked",
            Self::Denied => "denied",
            Self::Stale => "stale",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// The name is the operator's, so that their number is bounded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    provider: String,
    outcome: &'static str,
}

/// What a customer service answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceOutcome {
    Ok,
    Failed(FailureKind),
}

impl ServiceOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed(kind) => kind.as_str(),
        }
    }
}

impl From<FailureKind> for ServiceOutcome {
    fn from(kind: FailureKind) -> Self {
        Self::Failed(kind)
    }
}

/// Both names are the operator's, so that their number is bounded. `resource`: empty for a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    service: String,
    resource: String,
    outcome: &'static str,
}

label! {
    /// What became of an attempt to send a mail. `Postponed`: it will be sent again.
    MailOutcome: "outcome" { Sent = "sent", Postponed = "postponed", Failed = "failed" }
}

label! {
    /// What a database statement does. `Transaction`: it is part of one with several.
    StatementKind: "kind" { Read = "read", Write = "write", Transaction = "transaction" }
}

impl Label for Limit {
    const ALL: &[Self] = &Self::ALL;
}

impl EncodeLabelSet for Limit {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("limit", self.as_str()).encode(encoder.encode_label())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: Arc<str>,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    grant: &'static str,
    client: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AlgorithmLabel {
    algorithm: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    route: Arc<str>,
    method: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GrpcLabels {
    method: &'static str,
    code: &'static str,
}

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// Upper bounds in seconds, from 100 µs to 10 s.
const BUCKETS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Distinct values of the label `route`; further routes are counted as `other`.
const MAX_ROUTES: usize = 256;

/// Distinct values of the label `method`; other methods are counted as the last.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];

/// One server's metrics.
pub struct Metrics {
    pub registrations: Counter,
    /// Runs of wrong passwords that began to delay or block logins.
    pub logins_delayed: Counter,
    pub logouts: Counter,
    pub argon2_duration: Histogram,
    pub argon2_waiting: Gauge,
    pub database_pool_size: Gauge,
    pub database_pool_idle: Gauge,
    pub revocation_entries: Gauge,
    /// Denied requests without a record: more arrived at once than are written.
    pub denied_requests_unrecorded: Counter,
    pub active_sessions: Gauge,
    pub outbox_events: Gauge,
    /// Events that are not published to Kafka yet.
    pub events_waiting: Gauge,
    /// The age of the oldest of them, in seconds.
    pub events_oldest: Gauge,
    pub events_published: Counter,
    pub events_failed: Counter,
    /// Accounts deleted because the user service refused them or was unavailable.
    pub compensations: Counter,
    /// Mails that wait to be sent.
    pub mails_queued: Gauge,
    mails: Family<MailOutcome, Counter>,
    profiles: Family<ProfileOutcome, Counter>,
    service_requests: Family<ServiceLabels, Counter>,
    service_revocations: Family<Vec<(&'static str, String)>, Counter>,
    upstream_logins: Family<UpstreamLabels, Counter>,
    redis_trusted: Family<Vec<(String, String)>, Gauge>,
    logout_deliveries: Family<DeliveryOutcome, Counter>,
    webhook_deliveries: Family<DeliveryOutcome, Counter>,
    /// Deliveries to webhooks that wait.
    pub webhooks_waiting: Gauge,
    /// The age of the oldest of them, in seconds.
    pub webhooks_oldest: Gauge,
    device_authorizations: Family<DeviceOutcome, Counter>,
    tokens_issued: Family<TokenLabels, Counter>,
    key_age: Family<AlgorithmLabel, Gauge>,
    key_rotation: Family<AlgorithmLabel, Gauge>,
    database_errors: Family<StatementKind, Counter>,
    database_duration: Durations<StatementKind>,
    logins: Family<LoginOutcome, Counter>,
    second_factors: Family<FactorOutcome, Counter>,
    account_deletions: Family<DeletionOutcome, Counter>,
    refreshes: Family<RefreshOutcome, Counter>,
    token_checks: Family<TokenCheck, Counter>,
    gateways: Family<GatewayOutcome, Counter>,
    rate_limited: Family<Limit, Counter>,
    http_requests: Family<HttpLabels, Counter>,
    http_duration: Durations<RouteLabels>,
    grpc_calls: Family<GrpcLabels, Counter>,
    grpc_duration: Durations<MethodLabel>,
    routes: RwLock<HashSet<Arc<str>>>,
    registry: Registry,
    /// The operating system's view, by the names that every Prometheus client library uses.
    process: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// The media type of [`Metrics::render`].
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// All metrics, at zero.
    // The encoder appends `_total` to the names of counters, and a full stop to the help texts.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("propusk");
        let r = &mut registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "The running version", build);
        let mut process = Registry::default();
        process.register_collector(Box::new(Process));
        Self {
            registrations: metric(r, "registrations", "Users registered"),
            logins_delayed: metric(
                r,
                "login_delays",
                "Runs of wrong passwords after which logins to an account are delayed or blocked",
            ),
            logouts: metric(r, "logouts", "Sessions revoked by logout"),
            argon2_duration: register(
                r,
                "argon2_duration_seconds",
                "Time spent computing a password hash, without queueing",
                seconds(),
            ),
            argon2_waiting: metric(r, "argon2_waiting", "Passwords waiting to be hashed"),
            database_pool_size: metric(r, "database_pool_size", "Pooled database connections"),
            database_pool_idle: metric(r, "database_pool_idle", "Idle database connections"),
            revocation_entries: metric(r, "revocation_entries", "Entries of the revocation list"),
            denied_requests_unrecorded: metric(
                r,
                "denied_requests_unrecorded",
                "Denied requests without a record, because too many arrived at once",
            ),
            active_sessions: metric(
                r,
                "active_sessions",
                "Sessions that are neither revoked nor expired, counted once a minute",
            ),
            outbox_events: metric(
                r,
                "outbox_events",
                "Events in the outbox, counted once a minute",
            ),
            events_waiting: metric(
                r,
                "events_waiting",
                "Events that wait to be published to Kafka",
            ),
            events_oldest: metric(
                r,
                "events_oldest_waiting_seconds",
                "Age of the oldest event that waits to be published to Kafka",
            ),
            events_published: metric(r, "events_published", "Events published to Kafka"),
            events_failed: metric(
                r,
                "events_failed",
                "Events that Kafka did not accept, now or for good",
            ),
            compensations: metric(
                r,
                "compensations",
                "Accounts deleted because the user service refused them or was unavailable",
            ),
            mails_queued: metric(r, "mails_queued", "Mails that wait, counted once a minute"),
            mails: family(r, "mails", "Attempts to send a mail, by outcome"),
            profiles: family(
                r,
                "user_service_answers",
                "Answers of the user service to the creation of a profile, by outcome",
            ),
            service_requests: metric(
                r,
                "service_requests",
                "Requests to customer services, by service, resource (empty: for a token) and outcome",
            ),
            service_revocations: metric(
                r,
                "service_revocations",
                "Attempts to revoke a token at a customer service, by service and outcome",
            ),
            upstream_logins: metric(
                r,
                "upstream_logins",
                "Logins at other providers, by provider and outcome",
            ),
            redis_trusted: metric(
                r,
                "redis_trusted",
                "1 if the Redis replica answers revocation checks, 0 if the database does",
            ),
            logout_deliveries: family(
                r,
                "backchannel_logout_deliveries",
                "Attempts to deliver a logout token, by outcome",
            ),
            webhook_deliveries: family(
                r,
                "webhook_deliveries",
                "Attempts to deliver an event to a webhook, by outcome",
            ),
            webhooks_waiting: metric(
                r,
                "webhook_deliveries_waiting",
                "Deliveries to webhooks that wait, counted once a minute",
            ),
            webhooks_oldest: metric(
                r,
                "webhook_deliveries_oldest_waiting_seconds",
                "Age of the oldest delivery to a webhook that waits",
            ),
            device_authorizations: family(
                r,
                "device_authorizations",
                "Device authorization requests, what their users decided, and wrong user codes, by outcome",
            ),
            tokens_issued: metric(
                r,
                "tokens_issued",
                "Access tokens issued, by grant and by how the client was registered",
            ),
            key_age: metric(
                r,
                "signing_key_age_seconds",
                "Time since the active signing key became active, by algorithm",
            ),
            key_rotation: metric(
                r,
                "signing_key_next_rotation_timestamp_seconds",
                "When the next signing key becomes active, by algorithm",
            ),
            database_errors: family(
                r,
                "database_errors",
                "Statements and commits that the database failed, by kind",
            ),
            database_duration: durations(
                r,
                "database_statement_duration_seconds",
                "Time of a database statement or commit, with queueing, by kind",
            ),
            logins: family(r, "logins", "Login attempts, by outcome"),
            account_deletions: family(
                r,
                "account_deletions",
                "Deletions of accounts by their users, by outcome",
            ),
            second_factors: family(r, "second_factors", "Codes of second factors, by outcome"),
            refreshes: family(
                r,
                "refreshes",
                "Refresh token requests, by outcome; `reuse_detected` revokes the session",
            ),
            token_checks: family(r, "token_checks", "Access tokens verified, by outcome"),
            gateways: family(r, "gateway_decisions", "Decisions given to gateways, by outcome"),
            rate_limited: family(r, "rate_limited", "Requests over a rate limit, by limit"),
            http_requests: metric(
                r,
                "http_requests",
                "HTTP requests, by route, method and status class",
            ),
            http_duration: durations(
                r,
                "http_request_duration_seconds",
                "Time from an HTTP request's header section to its response's, by route and method",
            ),
            grpc_calls: metric(r, "grpc_calls", "gRPC calls, by method and status code"),
            grpc_duration: durations(
                r,
                "grpc_call_duration_seconds",
                "Time from a gRPC call's header section to its response's, by method",
            ),
            routes: RwLock::default(),
            registry,
            process,
        }
    }

    /// Counts a login attempt.
    pub fn login(&self, outcome: LoginOutcome) {
        self.logins.get_or_create(&outcome).inc();
    }

    /// Counts a code of a second factor.
    pub fn account_deletion(&self, outcome: DeletionOutcome) {
        self.account_deletions.get_or_create(&outcome).inc();
    }

    pub fn second_factor(&self, outcome: FactorOutcome) {
        self.second_factors.get_or_create(&outcome).inc();
    }

    /// Counts a device authorization request, or a decision about one.
    pub fn device_authorization(&self, outcome: DeviceOutcome) {
        self.device_authorizations.get_or_create(&outcome).inc();
    }

    /// Counts a refresh token request.
    pub fn refresh(&self, outcome: RefreshOutcome) {
        self.refreshes.get_or_create(&outcome).inc();
    }

    /// Counts a verified access token.
    pub fn token_check(&self, outcome: TokenCheck) {
        self.token_checks.get_or_create(&outcome).inc();
    }

    /// Counts a decision given to a gateway.
    pub fn gateway(&self, outcome: GatewayOutcome) {
        self.gateways.get_or_create(&outcome).inc();
    }

    /// Counts a request rejected by a rate limit.
    pub fn rate_limited(&self, limit: Limit) {
        self.rate_limited.get_or_create(&limit).inc();
    }

    /// Counts an attempt to send a mail.
    pub fn mail(&self, outcome: MailOutcome) {
        self.mails.get_or_create(&outcome).inc();
    }

    /// Counts an answer of the user service.
    pub fn profile(&self, outcome: ProfileOutcome) {
        self.profiles.get_or_create(&outcome).inc();
    }

    /// Counts a request to a customer service. `resource`: empty for a token.
    pub fn service_request(&self, service: &str, resource: &str, outcome: ServiceOutcome) {
        let (service, resource) = (service.to_owned(), resource.to_owned());
        let labels = ServiceLabels { service, resource, outcome: outcome.as_str() };
        self.service_requests.get_or_create(&labels).inc();
    }

    /// Counts an attempt to revoke a token at a customer service.
    pub fn service_revocation(&self, service: &str, outcome: ServiceOutcome) {
        let labels =
            vec![("service", service.to_owned()), ("outcome", outcome.as_str().to_owned())];
        self.service_revocations.get_or_create(&labels).inc();
    }

    /// Counts a login at another provider.
    pub fn upstream_login(&self, provider: &str, outcome: UpstreamOutcome) {
        let labels = UpstreamLabels { provider: provider.to_owned(), outcome: outcome.as_str() };
        self.upstream_logins.get_or_create(&labels).inc();
    }

    /// Counts an attempt to deliver a logout token.
    pub fn logout_delivery(&self, outcome: DeliveryOutcome) {
        self.logout_deliveries.get_or_create(&outcome).inc();
    }

    /// Counts an attempt to deliver an event to a webhook.
    pub fn webhook_delivery(&self, outcome: DeliveryOutcome) {
        self.webhook_deliveries.get_or_create(&outcome).inc();
    }

    /// Counts an access token. `grant` is an OAuth grant type, `login` for the first-party API's
    /// register and login, or `on_behalf_of` for a back end's request over gRPC or JSON.
    pub fn token_issued(&self, grant: &'static str, client: Source) {
        self.tokens_issued.get_or_create(&TokenLabels { grant, client: client.as_str() }).inc();
    }

    /// Sets the age of a signing key, and when the next one takes over.
    pub fn signing_key(&self, algorithm: SigningAlgorithm, age: Duration, rotation: Timestamp) {
        let label = AlgorithmLabel { algorithm: algorithm.as_str() };
        let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        self.key_age.get_or_create(&label).set(age);
        self.key_rotation.get_or_create(&label).set(rotation.as_secs());
    }

    /// Sets whether the Redis replica is trusted, where there is one.
    pub fn redis_trusted(&self, is_trusted: bool) {
        self.redis_trusted.get_or_create(&vec![]).set(i64::from(is_trusted));
    }

    /// The time that statements of a kind take, in seconds, and the number that failed.
    pub fn statements(&self, kind: StatementKind) -> (Histogram, Counter) {
        let duration = self.database_duration.get_or_create(&kind).clone();
        (duration, self.database_errors.get_or_create(&kind).clone())
    }

    /// Counts an answered HTTP request. `route` is the route's pattern, never the requested path.
    pub fn http_request(&self, route: &str, method: &Method, status: StatusCode, took: Duration) {
        let route = self.route(route);
        let known = METHODS.iter().find(|known| **known == method.as_str());
        let status = match status.as_u16() / 100 {
            0 | 1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        let method: &'static str = known.unwrap_or(&METHODS[METHODS.len() - 1]);
        let labels = HttpLabels { route: Arc::clone(&route), method, status };
        self.http_requests.get_or_create(&labels).inc();
        let labels = RouteLabels { route, method };
        self.http_duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts an answered gRPC call. Both labels take a few dozen values.
    pub fn grpc_call(&self, method: &'static str, code: &'static str, took: Duration) {
        self.grpc_calls.get_or_create(&GrpcLabels { method, code }).inc();
        self.grpc_duration.get_or_create(&MethodLabel { method }).observe(took.as_secs_f64());
    }

    /// The label of a route, within [`MAX_ROUTES`].
    fn route(&self, name: &str) -> Arc<str> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let (known, is_full) = (routes.get(name).cloned(), routes.len() >= MAX_ROUTES);
        drop(routes);
        known.unwrap_or_else(|| {
            let label: Arc<str> = if is_full { "other" } else { name }.into();
            let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
            routes.insert(Arc::clone(&label));
            label
        })
    }

    /// All series in the OpenMetrics text format, to be served as [`Metrics::CONTENT_TYPE`].
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = text::encode_registry(&mut out, &self.registry)
            .and_then(|()| text::encode_registry(&mut out, &self.process))
            .and_then(|()| text::encode_eof(&mut out));
        out
    }
}

fn seconds() -> Histogram {
    Histogram::new(BUCKETS)
}

fn register<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn metric<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    register(registry, name, help, M::default())
}

fn durations<L>(registry: &mut Registry, name: &str, help: &str) -> Durations<L>
where
    L: EncodeLabelSet + Clone + fmt::Debug + Eq + Hash + Send + Sync + 'static,
{
    register(registry, name, help, Family::new_with_constructor(seconds as fn() -> Histogram))
}

/// A counter whose series exist from the start.
fn family<L: Label>(registry: &mut Registry, name: &str, help: &str) -> Family<L, Counter> {
    let family = Family::<L, Counter>::default();
    for label in L::ALL {
        drop(family.get_or_create(label));
    }
    register(registry, name, help, family)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_instances_do_not_share_series() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.login(LoginOutcome::WrongCredentials);
        one.refresh(RefreshOutcome::ReuseDetected);
        one.rate_limited(Limit::Register);
        one.token_check(TokenCheck::Refused);
        one.revocation_entries.set(3);
        for (series, value) in [
            ("propusk_logins_total{outcome=\"wrong_credentials\"}", 1),
            ("propusk_refreshes_total{outcome=\"reuse_detected\"}", 1),
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
    fn every_metric_has_help_and_type_from_the_start() {
        let metrics = Metrics::new();
        let took = Duration::from_millis(3);
        metrics.http_request("/api/v1/auth/login", &Method::POST, StatusCode::OK, took);
        let text = metrics.render();
        for name in [
            "registrations",
            "login_delays",
            "logins",
            "refreshes",
            "logouts",
            "token_checks",
            "gateway_decisions",
            "rate_limited",
            "http_requests",
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
        assert!(text.contains("\npropusk_logins_total{outcome=\"ok\"} 0\n"), "{text}");
    }

    #[test]
    fn requests_are_counted_by_route_method_and_status_class() {
        let metrics = Metrics::new();
        let took = Duration::from_millis(3);
        for status in [StatusCode::OK, StatusCode::CREATED, StatusCode::NOT_FOUND] {
            metrics.http_request("/a", &Method::GET, status, took);
        }
        let brew = Method::from_bytes(b"BREW").unwrap();
        metrics.http_request("/a", &brew, StatusCode::METHOD_NOT_ALLOWED, took);
        let text = metrics.render();
        for line in [
            "propusk_http_requests_total{route=\"/a\",method=\"GET\",status=\"2xx\"} 2",
            "propusk_http_requests_total{route=\"/a\",method=\"GET\",status=\"4xx\"} 1",
            "propusk_http_requests_total{route=\"/a\",method=\"other\",status=\"4xx\"} 1",
            "propusk_http_request_duration_seconds_bucket{le=\"0.0025\",route=\"/a\",method=\"GET\"} 0",
            "propusk_http_request_duration_seconds_bucket{le=\"0.005\",route=\"/a\",method=\"GET\"} 3",
            "propusk_http_request_duration_seconds_count{route=\"/a\",method=\"GET\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn routes_beyond_the_limit_are_counted_as_other() {
        let metrics = Metrics::new();
        for route in 0..10_000 {
            let took = Duration::from_millis(1);
            metrics.http_request(&route.to_string(), &Method::GET, StatusCode::OK, took);
        }
        assert!(metrics.routes.read().unwrap().len() <= MAX_ROUTES + 1);
        assert!(metrics.render().contains("{route=\"other\",method=\"GET\",status=\"2xx\"} 9744"));
    }
}
