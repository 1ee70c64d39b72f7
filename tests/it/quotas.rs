//! Nobody exhausts what all share: quotas of users, of self-registered clients and of their
//! networks.

use std::time::Duration;

use propusk::storage::Statement;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Backend, PASSWORD, Reply, TestServer, backend_tests,
    dpop::Key,
    oauth::{AuthorizationRequest, CALLBACK, SECRET, changed, first_party_app, public_app},
    send,
};

backend_tests! {
    t102_registrations_do_not_end_cors_for_another_origin,
    t102_an_origin_is_allowed_while_an_enabled_client_has_it,
    t102_one_network_cannot_close_registration,
    t102_pushed_requests_of_self_registered_clients_are_limited,
    t102_revocations_of_a_self_registered_client_are_limited,
    t102_dpop_proofs_of_a_self_registered_client_are_limited,
    t102_logins_and_module_changes_of_a_user_are_limited,
    t102_codes_of_a_user_at_a_client_are_limited,
}

const LIMITED: [(&str, &str); 4] = [
    ("PROPUSK_LIMITS__ENABLED", "true"),
    ("PROPUSK_LIMITS__WRITES_BURST", "5"),
    ("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.1"),
    ("PROPUSK_CLIENT_REGISTRATION__GRANT_TYPES", "authorization_code,client_credentials"),
];

async fn register_from(server: &TestServer, address: &str, metadata: Value) -> Reply {
    let request = server.request(Method::POST, "/oauth2/register");
    send(request.header("x-forwarded-for", address).json(&metadata)).await
}

/// A self-registered confidential client: its id and secret.
async fn registered(server: &TestServer, address: &str) -> (String, String) {
    let grants = ["authorization_code", "client_credentials"];
    let metadata = json!({ "redirect_uris": [CALLBACK], "grant_types": grants });
    let reply = register_from(server, address, metadata).await.expect(StatusCode::CREATED).json();
    let text = |name: &str| reply[name].as_str().expect("text").to_owned();
    (text("client_id"), text("client_secret"))
}

async fn form_from(
    server: &TestServer,
    address: &str,
    path: &str,
    (id, secret): (&str, &str),
    fields: &[(impl serde::Serialize, impl serde::Serialize)],
) -> Reply {
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name, value)).collect();
    let request = server.request(Method::POST, path).header("x-forwarded-for", address);
    send(request.basic_auth(id, Some(secret)).form(&fields)).await
}

#[track_caller]
fn expect_limited(reply: &Reply) {
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS, "{reply:?}");
    let seconds: u64 = reply.header("retry-after").parse().expect("seconds");
    assert!(seconds > 0, "{reply:?}");
}

async fn count(server: &TestServer, table: &'static str) -> i64 {
    let statement = match table {
        "single_use_ids" => Statement::new("SELECT count(*) AS n FROM single_use_ids"),
        "pushed_requests" => Statement::new("SELECT count(*) AS n FROM pushed_requests"),
        "revocations" => Statement::new("SELECT count(*) AS n FROM revocations"),
        other => panic!("no statement for {other}"),
    };
    server.app.db.read(statement).await.expect("rows")[0].get("n").expect("a number")
}

async fn allowed_origin(server: &TestServer, origin: &str) -> String {
    let request = server.request(Method::POST, "/oauth2/token").header("origin", origin);
    send(request).await.header("access-control-allow-origin").to_owned()
}

async fn t102_registrations_do_not_end_cors_for_another_origin(backend: Backend) {
    let server = TestServer::start(backend).await;
    // Ids in the order of the attack: the victim's is the last.
    server.client("zz-spa", public_app()).await;
    for n in 0..110 {
        let metadata = json!({
            "redirect_uris": [format!("https://evil{n}.example/cb")],
            "client_uri": "https://app.example/about",
        });
        register_from(&server, "192.0.2.1", metadata).await.expect(StatusCode::CREATED);
    }
    assert_eq!(allowed_origin(&server, "https://app.example").await, "https://app.example");
    assert_eq!(allowed_origin(&server, "https://evil7.example").await, "https://evil7.example");
}

async fn t102_an_origin_is_allowed_while_an_enabled_client_has_it(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("spa", public_app()).await;
    for origin in ["https://app.example:8443", "https://app.example.evil.example", "null", "%"] {
        assert_eq!(allowed_origin(&server, origin).await, "", "{origin}");
    }
    let origin = "https://app.example";
    assert_eq!(allowed_origin(&server, origin).await, origin);
    server.change_client("spa", |client| client.disabled_at = Some(client.created_at)).await;
    assert_eq!(allowed_origin(&server, origin).await, "", "of a disabled client");
    server.change_client("spa", |client| client.disabled_at = None).await;
    let moved = changed(|metadata| {
        metadata.redirect_uris = vec!["https://new.example/cb".to_owned()];
        metadata.allowed_origins = vec!["https://other.example:8443".to_owned()];
    });
    server
        .change_client("spa", |client| client.metadata = moved(&client.metadata).expect("fine"))
        .await;
    assert_eq!(allowed_origin(&server, origin).await, "", "of an earlier redirect URI");
    for origin in ["https://new.example", "https://other.example:8443"] {
        assert_eq!(allowed_origin(&server, origin).await, origin);
    }
}

async fn t102_one_network_cannot_close_registration(backend: Backend) {
    let settings = [
        ("PROPUSK_CLIENT_REGISTRATION__MAX_CLIENTS", "7"),
        ("PROPUSK_CLIENT_REGISTRATION__MAX_CLIENTS_PER_NETWORK", "3"),
        ("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let server = TestServer::with(backend, &settings).await;
    let metadata = || json!({ "redirect_uris": [CALLBACK] });
    let mut first = Value::Null;
    for _ in 0..3 {
        let reply = register_from(&server, "192.0.2.1", metadata()).await;
        first = reply.expect(StatusCode::CREATED).json();
    }
    expect_limited(&register_from(&server, "192.0.2.1", metadata()).await);
    // One site has many /64 networks.
    for n in 0..3 {
        let address = format!("2001:db8:7:{n}::1");
        register_from(&server, &address, metadata()).await.expect(StatusCode::CREATED);
    }
    expect_limited(&register_from(&server, "2001:db8:7:9::1", metadata()).await);
    register_from(&server, "2001:db8:8::1", metadata()).await.expect(StatusCode::CREATED);
    // The limit for all.
    let full = register_from(&server, "192.0.2.2", metadata()).await;
    assert_eq!(
        full.expect(StatusCode::SERVICE_UNAVAILABLE).json()["error"],
        "temporarily_unavailable"
    );
    // A deleted registration makes room.
    let path = format!("/oauth2/register/{}", first["client_id"].as_str().expect("an id"));
    let token = first["registration_access_token"].as_str().expect("a token");
    let removed = send(server.request(Method::DELETE, &path).bearer_auth(token)).await;
    removed.expect(StatusCode::NO_CONTENT);
    register_from(&server, "192.0.2.1", metadata()).await.expect(StatusCode::CREATED);
}

async fn t102_pushed_requests_of_self_registered_clients_are_limited(backend: Backend) {
    let server = TestServer::with(backend, &LIMITED).await;
    server.client("app", first_party_app()).await;
    let push = async |address: &str, id: &str, secret: &str| {
        let request = AuthorizationRequest::of(id, "openid");
        form_from(&server, address, "/oauth2/par", (id, secret), &request.0).await
    };
    let (one, secret) = registered(&server, "192.0.2.1").await;
    let (two, other_secret) = registered(&server, "192.0.2.1").await;
    for _ in 0..5 {
        push("192.0.2.1", &one, &secret).await.expect(StatusCode::CREATED);
    }
    expect_limited(&push("192.0.2.1", &one, &secret).await);
    expect_limited(&push("198.51.100.1", &one, &secret).await);
    expect_limited(&push("192.0.2.1", &two, &other_secret).await);
    push("198.51.100.1", &two, &other_secret).await.expect(StatusCode::CREATED);
    assert_eq!(count(&server, "pushed_requests").await, 6);
    // An operator's client serves many users.
    for _ in 0..20 {
        push("192.0.2.1", "app", SECRET).await.expect(StatusCode::CREATED);
    }
    server.clock.advance(Duration::from_secs(1));
    push("192.0.2.1", &one, &secret).await.expect(StatusCode::CREATED);
}

/// Each is stored, and a key costs nothing.
async fn t102_dpop_proofs_of_a_self_registered_client_are_limited(backend: Backend) {
    let server = TestServer::with(backend, &LIMITED).await;
    server.client("app", first_party_app()).await;
    let ask = async |address: &str, id: &str, secret: &str| {
        let proof = Key::new().proof(&server, "POST", "/oauth2/token");
        let request = server.request(Method::POST, "/oauth2/token").header("dpop", proof);
        let request = request.header("x-forwarded-for", address).basic_auth(id, Some(secret));
        send(request.form(&[("grant_type", "client_credentials")])).await
    };
    let (id, secret) = registered(&server, "192.0.2.1").await;
    for _ in 0..5 {
        ask("192.0.2.1", &id, &secret).await.expect(StatusCode::OK);
    }
    expect_limited(&ask("192.0.2.1", &id, &secret).await);
    expect_limited(&ask("198.51.100.1", &id, &secret).await);
    assert_eq!(count(&server, "single_use_ids").await, 5);
    for _ in 0..20 {
        ask("192.0.2.1", "app", SECRET).await.expect(StatusCode::OK);
    }
}

async fn t102_revocations_of_a_self_registered_client_are_limited(backend: Backend) {
    let server = TestServer::with(backend, &LIMITED).await;
    let (id, secret) = registered(&server, "192.0.2.1").await;
    let mut replies = vec![];
    for _ in 0..8 {
        let grant = [("grant_type", "client_credentials")];
        let issued = form_from(&server, "192.0.2.1", "/oauth2/token", (&id, &secret), &grant).await;
        let token = issued.expect(StatusCode::OK).field("access_token");
        let path = "/oauth2/revoke";
        let revoked = [("token", token.as_str())];
        replies.push(form_from(&server, "192.0.2.1", path, (&id, &secret), &revoked).await);
    }
    assert!(replies[..5].iter().all(|reply| reply.status == StatusCode::OK), "{replies:?}");
    replies[5..].iter().for_each(expect_limited);
    assert_eq!(count(&server, "revocations").await, 5);
}

async fn t102_logins_and_module_changes_of_a_user_are_limited(backend: Backend) {
    let server = TestServer::with(backend, &LIMITED).await;
    server.module("crm", "crm:read", None, true).await;
    let ann = server.register("ann").await;
    server.register("bob").await;
    for action in ["enable", "disable", "enable"] {
        server.switch(&ann.access, "crm", action).await.expect(StatusCode::OK);
        server.clock.advance(Duration::from_millis(1));
    }
    for _ in 0..2 {
        server.login("ann").await.expect(StatusCode::OK);
    }
    let refused = server.login("ann").await;
    expect_limited(&refused);
    refused.expect_error(429, "TOO_MANY_REQUESTS");
    expect_limited(&server.switch(&ann.access, "crm", "disable").await);
    let mut browser = server.browser();
    let page = browser.open("/login").await;
    let typed = [("login", "ann"), ("password", PASSWORD)];
    expect_limited(&browser.submit(&page, &typed).await);
    // Wrong guesses use up nothing of it, and nobody else waits.
    server.login("bob").await.expect(StatusCode::OK);
    server.clock.advance(Duration::from_secs(1));
    server.login("ann").await.expect(StatusCode::OK);
}

async fn t102_codes_of_a_user_at_a_client_are_limited(backend: Backend) {
    let server = TestServer::with(backend, &LIMITED).await;
    server.client("app", first_party_app()).await;
    server.client("other", first_party_app()).await;
    server.register("ann").await;
    let mut ann = server.logged_in("ann").await;
    let request = AuthorizationRequest::of("app", "openid");
    for _ in 0..5 {
        ann.authorize(&request, "ann").await.code();
    }
    expect_limited(&ann.open(&request.path()).await);
    ann.authorize(&AuthorizationRequest::of("other", "openid"), "ann").await.code();
}
