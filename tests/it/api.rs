//! Paths and methods, headers, and the responses of verify, session and health.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Backend, PASSWORD, Reply, TestServer, backend_tests, send};

const REGISTER: &str = "/api/v1/auth/register";
const LOGIN: &str = "/api/v1/auth/login";
const REFRESH: &str = "/api/v1/auth/token/refresh";
const LOGOUT: &str = "/api/v1/auth/logout";

backend_tests! {
    t92_a_forged_host_header_has_no_effect,
    verify_and_session_return_the_token_owner,
    health_reports_liveness_and_readiness,
}

async fn t92_a_forged_host_header_has_no_effect(backend: Backend) {
    let server = TestServer::start(backend).await;
    let account = json!({ "email": "vera@example.org", "username": "vera", "password": PASSWORD });
    let foreign = |method: Method, path: &str| {
        let request = server
            .request(method, path)
            .header("host", "evil.example")
            .header("forwarded", "host=evil.example;proto=https");
        request
            .header("x-forwarded-host", "evil.example")
            .header("x-forwarded-proto", "https")
            .header("x-original-host", "evil.example")
    };
    let created =
        send(foreign(Method::POST, REGISTER).json(&account)).await.expect(StatusCode::CREATED);
    let payload = created.tokens().access.split('.').nth(1).expect("a payload").to_owned();
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON");
    assert_eq!(
        (&claims["iss"], &claims["aud"]),
        (&"http://127.0.0.1:8080".into(), &"http://127.0.0.1:8080".into())
    );
    server.verify(&created.tokens().access).await.expect(StatusCode::OK);
    for path in ["/oauth2/jwks", "/openapi.json", "/", "/docs", "/nothing", "/api/v1/auth/session"]
    {
        let (ours, theirs) = (server.get(path).await, send(foreign(Method::GET, path)).await);
        assert_eq!(ours.status, theirs.status, "{path}");
        let all = format!("{} {:?}", theirs.text, theirs.headers);
        assert!(!all.contains("evil"), "{path}: {all}");
        if ours.status == StatusCode::OK {
            assert_eq!(ours.text, theirs.text, "{path}");
        }
    }
}

async fn verify_and_session_return_the_token_owner(backend: Backend) {
    let server = TestServer::start(backend).await;
    let created = server
        .post(
            REGISTER,
            json!({ "email": "Vera@Example.org", "username": "Vera", "password": PASSWORD }),
        )
        .await;
    let created = created.expect(StatusCode::CREATED);
    let (tokens, data) = (created.tokens(), created.json()["data"].clone());
    assert_eq!(
        (&data["tokenType"], &data["expiresIn"], &data["refreshExpiresIn"]),
        (&"Bearer".into(), &900.into(), &604_800.into())
    );
    let user = &data["user"];
    assert_eq!(
        (&user["email"], &user["username"], &user["role"]),
        (&"Vera@Example.org".into(), &"Vera".into(), &"user".into())
    );
    assert_eq!(
        (&user["isVerified"], &user["createdAt"]),
        (&false.into(), &"2026-11-21T00:00:00Z".into())
    );

    let verified =
        server.verify(&tokens.access).await.expect(StatusCode::OK).json()["data"].clone();
    assert_eq!(
        verified["user"],
        json!({ "id": user["id"], "email": "Vera@Example.org", "role": "user" })
    );
    assert_eq!(
        (&verified["clientId"], &verified["scope"]),
        (&"propusk".into(), &"openid profile email".into())
    );
    assert!(verified["sessionId"].as_str().is_some_and(|id| id.len() == 36), "{verified}");
    assert_eq!(verified["expiresAt"], "2026-11-21T00:15:00Z");

    let session = server
        .get_as("/api/v1/auth/session", &tokens.access)
        .await
        .expect(StatusCode::OK)
        .json()["data"]
        .clone();
    let expected = json!({ "userId": user["id"], "email": "Vera@Example.org", "username": "Vera", "role": "user",
        "scopes": ["openid", "profile", "email"], "modules": [], "expiresAt": "2026-11-21T00:15:00Z",
        "authenticatedAt": "2026-11-21T00:00:00Z", "acr": "urn:propusk:acr:password", "amr": ["pwd"] });
    assert_eq!(session, expected);
    let anonymous = |reply: Reply| {
        let json = reply.expect(StatusCode::OK).json();
        assert!(json.get("data").is_some_and(Value::is_null), "data is present and null: {json}");
    };
    anonymous(server.get("/api/v1/auth/session").await);
    anonymous(server.get_as("/api/v1/auth/session", "made.up.token").await);

    let unknown = server.get("/api/v1/auth/verify").await.expect_error(401, "INVALID_TOKEN");
    assert_eq!(
        unknown.header("www-authenticate"),
        "Bearer",
        "RFC 6750 §3.1: no error where there was no token"
    );
    let bad = server.verify("made.up.token").await.expect_error(401, "INVALID_TOKEN");
    assert!(bad.header("www-authenticate").contains("error=\"invalid_token\""), "{bad:?}");
    server.clock.advance(Duration::from_secs(16 * 60));
    server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
    anonymous(server.get_as("/api/v1/auth/session", &tokens.access).await);
}

async fn health_reports_liveness_and_readiness(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.clock.advance(Duration::from_secs(75));
    for path in ["/api/v1/auth/health", "/api/v1/auth/health/live", "/api/v1/auth/health/ready"] {
        let data = server.get(path).await.expect(StatusCode::OK).json()["data"].clone();
        assert_eq!(
            (&data["status"], &data["service"], &data["uptime"]),
            (&"ok".into(), &"propusk".into(), &75.into()),
            "{path}"
        );
        assert_eq!(
            (&data["timestamp"], &data["version"]),
            (&"2026-11-21T00:01:15Z".into(), &env!("CARGO_PKG_VERSION").into())
        );
    }
    server.app.db.close().await;
    server.get("/api/v1/auth/health/live").await.expect(StatusCode::OK);
    server.get("/api/v1/auth/health/ready").await.expect_error(503, "SERVICE_UNAVAILABLE");
    let data =
        server.get("/api/v1/auth/health").await.expect(StatusCode::OK).json()["data"].clone();
    assert_eq!(data["status"], "degraded", "{data}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_path_is_404_and_an_unknown_method_is_405() {
    let server = TestServer::start(Backend::Sqlite).await;
    for path in [
        "/nothing",
        "/api/v1/auth",
        "/api/v1/auth/nothing",
        "/api/v1/auth/register/x",
        "/auth/verify",
        "/auth",
        "/oauth2/nothing",
        "/api/v1/nothing",
        "/metrics",
        "//api/v1/auth/health",
        "/api/v1/auth/../auth/health/x",
        "/%00",
        "/docs/nothing",
    ] {
        let reply = server.get(path).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}: {reply:?}");
        assert_eq!(reply.header("content-type"), "application/json");
        if !path.starts_with("/oauth2/") {
            reply.expect_error(404, "NOT_FOUND");
        }
    }
    let cases = [
        ("GET", REGISTER, "POST"),
        ("PUT", LOGIN, "POST"),
        ("DELETE", REFRESH, "POST"),
        ("GET", LOGOUT, "DELETE, POST"),
        ("POST", "/api/v1/auth/verify", "GET, HEAD"),
        ("PATCH", "/api/v1/auth/session", "GET, HEAD"),
        ("POST", "/api/v1/auth/health", "GET, HEAD"),
        ("POST", "/auth/health", "GET, HEAD"),
        ("GET", "/auth/login", "POST"),
        ("BREW", LOGIN, "POST"),
        ("OPTIONS", LOGIN, "POST"),
        ("TRACE", LOGIN, "POST"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
        ("POST", "/oauth2/jwks", "GET, HEAD, OPTIONS"),
        ("GET", "/oauth2/token", "OPTIONS, POST"),
    ];
    for (method, path, allowed) in cases {
        let reply =
            send(server.request(Method::from_bytes(method.as_bytes()).expect("a method"), path))
                .await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}: {reply:?}");
        let mut methods: Vec<_> = reply.header("allow").split(", ").collect();
        methods.sort_unstable();
        assert_eq!(methods.join(", "), allowed, "{method} {path}: {reply:?}");
        if !path.starts_with("/oauth2/") {
            reply.expect_error(405, "METHOD_NOT_ALLOWED");
        }
    }
    for path in ["/api/v1/auth/health", "/openapi.json", "/oauth2/jwks", "/"] {
        let reply = send(server.request(Method::HEAD, path)).await.expect(StatusCode::OK);
        assert_eq!(reply.text, "", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_response_has_a_request_id_and_the_correlation_id() {
    let server = TestServer::start(Backend::Sqlite).await;
    let with = |name: &'static str, value: &[u8]| {
        let value = reqwest::header::HeaderValue::from_bytes(value).expect("a header's value");
        send(server.request(Method::GET, "/api/v1/auth/health/live").header(name, value))
    };
    let replies = join_all((0..200).map(|_| with("x-request-id", b"mine"))).await;
    let ids: HashSet<_> = replies.iter().map(|reply| reply.header("x-request-id")).collect();
    assert_eq!(ids.len(), 200, "each id is unique");
    assert!(!ids.contains("mine"), "a caller cannot choose it");

    let longest = "a".repeat(128);
    for good in ["a", "order-17_b.2", longest.as_str()] {
        assert_eq!(
            with("x-correlation-id", good.as_bytes()).await.header("x-correlation-id"),
            good
        );
    }
    let too_long = "a".repeat(129);
    for bad in ["", "a b", "a\"b", "<b>", "a,b", "\u{e9}", "a;b=c", "a/b", too_long.as_str()] {
        let reply = with("x-correlation-id", bad.as_bytes()).await.expect(StatusCode::OK);
        assert_eq!(reply.header("x-correlation-id"), reply.header("x-request-id"), "{bad:?}");
    }
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let reply = with("traceparent", format!("00-{trace}-00f067aa0ba902b7-01").as_bytes()).await;
    assert_eq!(reply.header("x-correlation-id"), trace);
    let upper = trace.to_uppercase();
    for bad in [
        format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
        format!("00-{upper}-00f067aa0ba902b7-01"),
        format!("00-{trace}x-1-01"),
        "00".to_owned(),
    ] {
        let reply = with("traceparent", bad.as_bytes()).await;
        assert_eq!(reply.header("x-correlation-id"), reply.header("x-request-id"), "{bad}");
    }
    let request = server.request(Method::GET, "/nothing").header("x-correlation-id", "mine");
    let reply =
        send(request.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))).await;
    assert_eq!(
        reply.header("x-correlation-id"),
        "mine",
        "the caller's id takes precedence, in errors too"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t84_no_other_origin_can_read_a_response() {
    let server = TestServer::start(Backend::Sqlite).await;
    let access = server.register("vera").await.access;
    let paths = [
        LOGIN,
        "/api/v1/auth/session",
        "/api/v1/auth/verify",
        "/oauth2/jwks",
        "/oauth2/token",
        "/openapi.json",
        "/",
        "/nothing",
    ];
    for origin in [
        "https://evil.example",
        "null",
        "http://127.0.0.1:8081",
        "http://127.0.0.1:8080.evil.example",
    ] {
        for path in paths {
            for method in [Method::GET, Method::POST, Method::OPTIONS] {
                let request = server
                    .request(method.clone(), path)
                    .header("origin", origin)
                    .bearer_auth(&access);
                let request = request
                    .header("access-control-request-method", "POST")
                    .header("access-control-request-headers", "authorization");
                let reply = send(request).await;
                let allowing = reply
                    .headers
                    .keys()
                    .find(|name| name.as_str().starts_with("access-control-allow"));
                if path == "/oauth2/jwks" {
                    // Public keys are readable from every origin, and never with credentials.
                    let credentials = reply.headers.get("access-control-allow-credentials");
                    assert_eq!(credentials, None, "{reply:?}");
                    continue;
                }
                assert_eq!(allowing, None, "{method} {path} from {origin}: {reply:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_forbid_caching_and_content_sniffing() {
    let server = TestServer::start(Backend::Sqlite).await;
    let tokens = server.register("vera").await;
    let replies = [
        server.login("vera").await,
        server.login("nobody").await,
        server.verify(&tokens.access).await,
        server.verify("x").await,
        server.refresh(&tokens.refresh).await,
        server.get("/api/v1/auth/session").await,
        server.get("/api/v1/auth/health").await,
        server.get("/nothing").await,
        server.get(LOGIN).await,
        server.post("/oauth2/token", json!({})).await,
        server.post_as(LOGOUT, &tokens.access).await,
        server.post(REGISTER, json!([])).await,
    ];
    for reply in replies {
        assert_eq!(
            (reply.header("cache-control"), reply.header("x-content-type-options")),
            ("no-store", "nosniff"),
            "{reply:?}"
        );
        assert_eq!(
            reply.header("strict-transport-security"),
            "",
            "not on plain http: RFC 6797 §7.2"
        );
        for telling in ["server", "x-powered-by"] {
            assert_eq!(reply.header(telling), "", "{telling}");
        }
    }
}
