//! The metrics: what is measured, by names that docs/operation.md explains.

use std::{collections::BTreeSet, time::Duration};

use propusk::{flows::maintenance, keys::Rotation, model::client::Metadata};
use reqwest::StatusCode;

use crate::support::{
    Backend, Database, PASSWORD, TestServer, backend_tests,
    chromium::until,
    external_server::ExternalServer,
    oauth::{AuthorizationRequest, first_party_app},
    process::{Process, free_address},
    redis::Redis,
};

/// The value of a series.
#[track_caller]
fn value(metrics: &str, series: &str) -> f64 {
    let found = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let found = found.unwrap_or_else(|| panic!("no {series} in:\n{metrics}"));
    found.parse().expect("a number")
}

/// A server with its metrics listener.
async fn with_listener(backend: Backend, settings: &[(&str, &str)]) -> (TestServer, String) {
    let address = free_address();
    let own = ("PROPUSK_METRICS__LISTEN", address.as_str());
    let settings: Vec<_> = settings.iter().copied().chain([own]).collect();
    let server = TestServer::with(backend, &settings).await;
    (server, format!("http://{address}/metrics"))
}

async fn scrape(url: &str) -> String {
    let answer = reqwest::get(url).await.expect("an answer");
    answer.text().await.expect("text")
}

backend_tests! {
    tokens_sessions_events_and_statements_are_counted,
    signing_keys_tell_their_age_and_next_rotation,
    deliveries_of_logout_tokens_are_counted_by_outcome,
}

async fn tokens_sessions_events_and_statements_are_counted(backend: Backend) {
    let (server, url) = with_listener(backend, &[]).await;
    let tokens = server.register("vera").await;
    server.refresh(&tokens.refresh).await.expect(StatusCode::OK);
    server.register("nora").await;
    server.service("shop", "shop:read").await;
    let other = server.login("nora").await.expect(StatusCode::OK).tokens();
    maintenance::count_rows(&server.app).await.expect("counted");
    let metrics = scrape(&url).await;
    for (series, expected) in [
        ("tokens_issued_total{grant=\"login\",client=\"built_in\"}", 3.0),
        ("tokens_issued_total{grant=\"refresh_token\",client=\"built_in\"}", 1.0),
        ("tokens_issued_total{grant=\"client_credentials\",client=\"operator\"}", 1.0),
        ("active_sessions", 3.0),
        ("database_errors_total{kind=\"read\"}", 0.0),
        ("database_errors_total{kind=\"transaction\"}", 0.0),
        ("build_info{version=\"0.1.0\"}", 1.0),
    ] {
        assert_eq!(value(&metrics, &format!("propusk_{series}")), expected, "{series}");
    }
    assert!(value(&metrics, "propusk_outbox_events") >= 4.0);
    for kind in ["read", "write", "transaction"] {
        let series =
            format!("propusk_database_statement_duration_seconds_count{{kind=\"{kind}\"}}");
        assert!(value(&metrics, &series) > 0.0, "{kind}");
    }
    let route = "route=\"/api/v1/auth/login\",method=\"POST\"";
    let series = format!("propusk_http_request_duration_seconds_count{{{route}}}");
    assert_eq!(value(&metrics, &series), 1.0);
    assert!(!metrics.contains("propusk_redis_trusted{"), "there is no Redis to trust");

    let logout = server.http.post(format!("{}/api/v1/auth/logout", server.base));
    logout.bearer_auth(&other.access).send().await.expect("an answer");
    maintenance::count_rows(&server.app).await.expect("counted");
    assert_eq!(value(&scrape(&url).await, "propusk_active_sessions"), 2.0);

    // What the database fails is counted; a violated constraint is its answer.
    let taken = server.post(
        "/api/v1/auth/register",
        serde_json::json!({ "email": "vera@example.org", "password": PASSWORD }),
    );
    taken.await.expect(StatusCode::CONFLICT);
    assert_eq!(
        value(&scrape(&url).await, "propusk_database_errors_total{kind=\"transaction\"}"),
        0.0
    );
    let rubbish = propusk::storage::Statement::new("SELECT nothing FROM nowhere");
    server.app.db.read(rubbish).await.expect_err("no such table");
    assert_eq!(value(&scrape(&url).await, "propusk_database_errors_total{kind=\"read\"}"), 1.0);
}

async fn signing_keys_tell_their_age_and_next_rotation(backend: Backend) {
    let settings = [
        ("PROPUSK_KEYS__ROTATE_EVERY", "30d"),
        ("PROPUSK_KEYS__PUBLISH_AHEAD", "1d"),
        ("PROPUSK_KEYS__ALGORITHMS", "ES256,RS256"),
    ];
    let (server, url) = with_listener(backend, &settings).await;
    let since = server.clock.now();
    let age =
        |metrics: &str| value(metrics, "propusk_signing_key_age_seconds{algorithm=\"ES256\"}");
    let next = |metrics: &str| {
        let series = "propusk_signing_key_next_rotation_timestamp_seconds{algorithm=\"ES256\"}";
        value(metrics, series)
    };
    let day = Duration::from_secs(86_400);
    let metrics = scrape(&url).await;
    assert_eq!((age(&metrics), next(&metrics)), (0.0, (since + 30 * day).as_secs() as f64));
    server.clock.advance(10 * day);
    assert_eq!(age(&scrape(&url).await), (10 * day).as_secs_f64());
    let app = &server.app;
    let by = propusk::model::actor::Actor::operator();
    let rotation = Rotation { only: None, at_once: false, call: None };
    let rotated = app.keys.rotate(&app.db, &app.clock, &app.rng, rotation, &by).await;
    rotated.expect("rotated");
    let metrics = scrape(&url).await;
    assert_eq!(next(&metrics), (since + 11 * day).as_secs() as f64);
    server.clock.advance(2 * day);
    assert_eq!(age(&scrape(&url).await), day.as_secs_f64());
}

async fn deliveries_of_logout_tokens_are_counted_by_outcome(backend: Backend) {
    let external = ExternalServer::start().await;
    let settings = external.settings();
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let (server, url) = with_listener(backend, &settings).await;
    server.register("ann").await;
    let mut ann = server.logged_in("ann").await;
    for (id, status) in [("up", 200), ("down", 500)] {
        external.put(&format!("/{id}"), status, "", "");
        let uri = Some(format!("{}/{id}", external.base));
        let metadata = Metadata { backchannel_logout_uri: uri, ..first_party_app() };
        server.client(id, metadata).await;
        let answer = ann.authorize(&AuthorizationRequest::of(id, "openid"), "ann").await;
        server.exchange_code(id, answer.code()).await.expect(StatusCode::OK);
    }
    let page = ann.open("/oauth2/logout").await.expect(StatusCode::OK);
    ann.submit(&page, &[("decision", "logout")]).await.expect(StatusCode::OK);
    let counts = until("both deliveries were attempted", || async {
        let metrics = scrape(&url).await;
        let count = |outcome: &str| {
            let label = format!("{{outcome=\"{outcome}\"}}");
            value(&metrics, &format!("propusk_backchannel_logout_deliveries_total{label}"))
        };
        let counts = ["delivered", "failed", "abandoned"].map(count);
        (counts[0] + counts[1] >= 2.0).then_some(counts)
    });
    assert_eq!(counts.await, [1.0, 1.0, 0.0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Redis: run ./dev/test"]
async fn metrics_tell_whether_redis_is_trusted() {
    let mut redis = Redis::start(&[]);
    let settings = [("PROPUSK_REDIS__URL", redis.url())];
    let settings = settings.each_ref().map(|(key, value)| (*key, value.as_str()));
    let (server, url) = with_listener(Backend::Sqlite, &settings).await;
    let is = |wanted: f64| {
        let url = &url;
        move || async move {
            (value(&scrape(url).await, "propusk_redis_trusted{}") == wanted).then_some(())
        }
    };
    until("Redis is trusted", is(1.0)).await;
    redis.kill();
    server.verify("rubbish").await;
    until("Redis is not trusted", is(0.0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_is_measured_and_every_metric_is_documented() {
    let database = Database::new(Backend::Sqlite).await;
    let address = free_address();
    let settings = [("PROPUSK_METRICS__LISTEN", address.as_str())];
    let server = Process::serve(&database, &settings).await;
    let metrics = scrape(&format!("http://{address}/metrics")).await;
    assert!(metrics.ends_with("# EOF\n") && metrics.matches("# EOF").count() == 1, "{metrics}");
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_threads",
    ] {
        assert!(value(&metrics, name) > 0.0, "{name}");
    }
    let started = value(&metrics, "process_start_time_seconds");
    let now = propusk::clock::Clock::system().now().as_secs() as f64;
    assert!((now - 600.0..=now + 5.0).contains(&started), "{started} is not just before {now}");
    assert!(server.terminate().await.success());

    let exist: BTreeSet<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let page = include_str!("../../docs/operation.md");
    let documented: BTreeSet<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `p"))
        .filter_map(|line| line.split('`').nth(1))
        .collect();
    let undocumented: Vec<_> = exist.difference(&documented).collect();
    assert!(undocumented.is_empty(), "not in docs/operation.md: {undocumented:?}");
    // A metric without a series is left out.
    let unused = [
        "propusk_grpc_call_duration_seconds",
        "propusk_grpc_calls",
        "propusk_redis_trusted",
        "propusk_service_requests",
        "propusk_service_revocations",
        "propusk_tokens_issued",
        "propusk_upstream_logins",
    ];
    let absent: Vec<_> = documented.difference(&exist).copied().collect();
    assert_eq!(absent, unused, "documented in docs/operation.md");
}
