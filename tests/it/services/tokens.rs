//! Tokens of a service for all users: one request for everybody, renewal, failures, grants.

use std::sync::Arc;

use futures_util::future::join_all;
use propusk::{clock::Clock, grpc::proto::v1::GetServiceTokenRequest, storage::Statement};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use tonic::Code;

use super::{
    access_token, back_end, profile, seconds_later, skew, stored, token, token_as,
    wait_for_requests, with_service,
};
use crate::support::{
    Backend, Database, TestServer, backend_tests,
    chromium::until,
    customer_service::{CLIENT_SECRET, CustomerService},
    oauth::{SECRET, web_app},
    process::Process,
    send,
};

backend_tests! {
    requires "Node.js":
    t180_a_thousand_callers_of_two_processes_cause_one_token_request,
    a_token_is_renewed_in_the_background_and_outlives_failures,
    t186_a_service_that_misbehaves_has_bounded_effects,
    every_grant_and_authentication_works_with_skewed_clocks,
    t181_the_database_alone_decrypts_no_token,
    t182_a_user_gets_the_listed_fields_only,
    t183_a_token_that_a_resource_refuses_is_replaced_once,
    t184_a_rotated_refresh_token_is_never_lost,
    t185_only_back_ends_that_are_named_get_a_token,
    t189_requests_to_services_stay_within_the_allowed_networks,
}

async fn t180_a_thousand_callers_of_two_processes_cause_one_token_request(backend: Backend) {
    let service = CustomerService::start().await;
    let settings = service.settings(&[("TIMEOUT", "20s")]);
    let settings: Vec<_> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let database = Arc::new(Database::new(backend).await);
    let own = TestServer::on(Arc::clone(&database), Clock::system(), &settings).await;
    own.client("shop", back_end()).await;
    own.stop().await;
    let mut more = settings.clone();
    more.push(("PROPUSK_SERVER__REQUEST_TIMEOUT", "120s"));
    let processes =
        [Process::serve(&database, &more).await, Process::serve(&database, &more).await];
    let http = reqwest::Client::new();
    let calls = (0..1_000).map(|n: usize| {
        let url = format!("{}/api/v1/services/crm/token", processes[n % 2].base);
        let request = http.post(url).basic_auth("shop", Some(SECRET)).json(&json!({}));
        async { access_token(&send(request).await) }
    });
    let mut tokens = join_all(calls).await;
    tokens.dedup();
    assert_eq!(tokens.len(), 1, "everybody gets the same token");
    assert_eq!(service.token_requests().await, 1);
    for process in processes {
        let log = process.stderr();
        assert!(!log.contains(&tokens[0]) && !log.contains("canary"), "{log}");
        process.kill();
    }
}

async fn a_token_is_renewed_in_the_background_and_outlives_failures(backend: Backend) {
    let mut service = CustomerService::start().await;
    let server = with_service(backend, &service, &[("AUDIENCE", "crm")]).await;
    let reply = token(&server).await;
    let first = access_token(&reply);
    // Given up a little earlier than the service says.
    assert_eq!(reply.json()["data"]["expiresIn"], 3_595);
    assert_eq!(reply.json()["data"]["tokenType"], "Bearer");
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(access_token(&token(&server).await), first);
    let state = service.state().await;
    assert_eq!(state["tokenRequests"], json!(["client_credentials"]));
    assert_eq!(state["parameters"], json!({ "scope": "customers:read", "audience": "crm" }));

    // A minute before its end it is renewed, while it is served.
    service.set(json!({ "token": { "mode": 500 } })).await;
    seconds_later(&server, 3_541);
    assert_eq!(access_token(&token(&server).await), first);
    wait_for_requests(&service, 2).await;
    until("the failure", || async {
        let statement = Statement::new("SELECT failures FROM service_tokens");
        let rows = server.app.db.read(statement).await.expect("rows");
        (rows[0].get::<i64>("failures").expect("a number") == 1).then_some(())
    })
    .await;
    // Renewal has failed a moment ago.
    assert_eq!(access_token(&token(&server).await), first);
    assert_eq!(service.token_requests().await, 2);
    service.set(json!({ "token": { "mode": "ok" } })).await;
    seconds_later(&server, 2);
    assert_eq!(access_token(&token(&server).await), first);
    let second = until("the new token", || async {
        let current = access_token(&token(&server).await);
        (current != first).then_some(current)
    })
    .await;
    assert_eq!(service.token_requests().await, 3);

    // Another process has it, too.
    let settings = service.settings(&[("AUDIENCE", "crm")]);
    let settings: Vec<_> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let other = server.another(&settings).await;
    assert_eq!(access_token(&token(&other).await), second);

    // A service that is down: the token is served to its end, then failures are remembered, longer
    // each time.
    service.stop().await;
    seconds_later(&server, 3_594);
    assert_eq!(access_token(&token(&server).await), second);
    until("the failure", || async {
        let statement = Statement::new("SELECT failures FROM service_tokens");
        let rows = server.app.db.read(statement).await.expect("rows");
        (rows[0].get::<i64>("failures").expect("a number") == 1).then_some(())
    })
    .await;
    for expected in [2, 4, 8, 16, 32, 60, 60] {
        seconds_later(&server, 61);
        let reply = token(&server).await.expect_error(503, "SERVICE_UNAVAILABLE");
        assert_eq!(reply.header("retry-after"), expected.to_string());
        let reply = token(&other).await.expect_error(503, "SERVICE_UNAVAILABLE");
        assert_eq!(reply.header("retry-after"), expected.to_string());
    }
    service.start_again().await;
    service.set(json!({ "skew": skew() })).await;
    assert_eq!(token(&server).await.status, 503);
    assert_eq!(service.token_requests().await, 0);
    seconds_later(&server, 60);
    access_token(&token(&other).await);
    assert_eq!(service.token_requests().await, 1);
    let metrics = server.app.metrics.render();
    let outcome = |outcome: &str| {
        format!(
            "propusk_service_requests_total{{service=\"crm\",resource=\"\",outcome=\"{outcome}\"}}"
        )
    };
    for name in ["ok", "failed", "unavailable"] {
        assert!(metrics.contains(&outcome(name)), "{metrics}");
    }
}

async fn t186_a_service_that_misbehaves_has_bounded_effects(backend: Backend) {
    let service = CustomerService::start().await;
    let server = with_service(backend, &service, &[]).await;
    server.register("ann").await;
    // Status, code and Retry-After of the answer.
    let cases: &[(Value, u16, &str, &str)] = &[
        (json!("slow"), 504, "SERVICE_TIMEOUT", ""),
        (json!("drop"), 503, "SERVICE_UNAVAILABLE", "2"),
        (json!(401), 502, "SERVICE_FAILED", ""),
        (json!(403), 502, "SERVICE_FAILED", ""),
        (json!(429), 503, "SERVICE_UNAVAILABLE", "17"),
        (json!(500), 502, "SERVICE_FAILED", ""),
        (json!("html"), 502, "SERVICE_FAILED", ""),
        (json!("huge"), 502, "SERVICE_FAILED", ""),
        (json!("redirect"), 502, "SERVICE_FAILED", ""),
    ];
    for (n, (mode, status, code, retry_after)) in cases.iter().enumerate() {
        service.set(json!({ "token": { "mode": mode } })).await;
        let reply = token(&server).await.expect_error(*status, code);
        assert_eq!(reply.header("retry-after").is_empty(), retry_after.is_empty(), "{mode}");
        assert!(!reply.text.contains("canary"), "{reply:?}");
        // Nobody asks again for a while, and nobody waits.
        token(&server).await.expect_error(503, "SERVICE_UNAVAILABLE");
        assert_eq!(service.token_requests().await, n + 1, "{mode}");
        seconds_later(&server, 61);
    }
    for wrong in [json!({ "type": "DPoP" }), json!({ "type": "Bearer", "expiresIn": 0 })] {
        service.set(json!({ "token": { "mode": "ok" } })).await;
        service.set(json!({ "token": wrong })).await;
        token(&server).await.expect_error(502, "SERVICE_FAILED");
        seconds_later(&server, 61);
    }
    service.set(json!({ "token": { "type": "bearer", "expiresIn": null } })).await;
    // The lifetime of a token that does not say it is assumed to be short.
    assert_eq!(token(&server).await.json()["data"]["expiresIn"], 295);

    // The same answers of a resource.
    service.set(json!({ "token": { "expiresIn": 100_000 } })).await;
    seconds_later(&server, 301);
    let ann = server.login("ann").await.tokens().access;
    for (mode, status, code, retry_after) in cases.iter().filter(|(mode, ..)| *mode != 401) {
        let before = service.api_requests().await;
        service.set(json!({ "api": { "mode": mode } })).await;
        let reply = profile(&server, &ann).await.expect_error(*status, code);
        assert_eq!(reply.header("retry-after"), *retry_after, "{mode}");
        assert!(!reply.text.contains("canary"), "{reply:?}");
        if matches!(status, 503 | 504) {
            profile(&server, &ann).await.expect_error(503, "SERVICE_UNAVAILABLE");
            assert_eq!(service.api_requests().await, before + 1, "{mode}");
        }
        seconds_later(&server, 61);
    }
    service.set(json!({ "api": { "mode": "ok" } })).await;
    profile(&server, &ann).await.expect(StatusCode::OK);

    // What the operator is told.
    service.set(json!({ "api": { "mode": 500 } })).await;
    let refused = profile(&server, &ann).await;
    let admin = server.admin("root").await;
    while server.app.denied_requests.write().await.expect("written") > 0 {}
    let id = refused.header("x-request-id").to_owned();
    let explained = admin.get(&format!("/explain/{id}")).await.json()["data"].to_string();
    for part in ["service.cause", "responded with status 500", "service.name", "crm"] {
        assert!(explained.contains(part), "{part}: {explained}");
    }
    assert!(!explained.contains("canary"), "{explained}");
}

async fn every_grant_and_authentication_works_with_skewed_clocks(backend: Backend) {
    let service = CustomerService::start().await;
    let key = [("PRIVATE_KEY_FILE", "file:assertions.pem")];
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);
    let cases: &[Case<'_>] = &[
        ("client_credentials", "post", &[]),
        ("client_credentials", "private_key_jwt", &key),
        ("refresh_token", "basic", &[("REFRESH_TOKEN", "first")]),
        ("jwt-bearer", "basic", &key),
        ("token-exchange", "private_key_jwt", &key),
        ("password", "post", &[("USERNAME", "tech"), ("PASSWORD", "p&ss wörd")]),
    ];
    // On one database: another grant is another token.
    let server = with_service(backend, &service, &[]).await;
    for (n, (grant, auth, more)) in cases.iter().enumerate() {
        // Another scope is another token, too.
        let mut settings = vec![("GRANT", *grant), ("AUTH", *auth), ("SCOPE", *auth)];
        settings.extend_from_slice(more);
        if *auth == "private_key_jwt" {
            settings.push(("CLIENT_SECRET", ""));
        }
        let settings = service.settings(&settings);
        let settings: Vec<_> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let server = server.another(&settings).await;
        // The service's clock is 30 seconds behind, or ahead.
        let ahead = if n % 2 == 0 { 29 } else { -29 };
        service.set(json!({ "skew": skew() + ahead })).await;
        let token = access_token(&token(&server).await);
        let whose = if *grant == "password" { "tech" } else { "pro" };
        assert!(token.starts_with(&format!("at-{whose}")), "{grant}: {token}");
        let state = service.state().await;
        assert_eq!(state["auth"], *auth, "{grant}");
    }
    assert_eq!(service.token_requests().await, cases.len());
}

async fn t181_the_database_alone_decrypts_no_token(backend: Backend) {
    let service = CustomerService::start().await;
    let more = [("GRANT", "refresh_token"), ("REFRESH_TOKEN", "first")];
    let server = with_service(backend, &service, &more).await;
    let token = access_token(&token(&server).await);
    let rows = stored(&server).await;
    let sealed = rows[0].1.clone().expect("a ciphertext");
    // A compact JWE: its only readable part is the header.
    let header = sealed.split('.').next().expect("a header");
    use base64::Engine as _;
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).expect("base64");
    let header: Value = serde_json::from_slice(&header).expect("JSON");
    assert_eq!((&header["alg"], &header["enc"]), (&json!("dir"), &json!("A256GCM")));
    for secret in [token.as_str(), "first", CLIENT_SECRET] {
        assert!(!format!("{rows:?}").contains(secret));
    }

    // A ciphertext that is moved to another row is worth nothing.
    let statement = "INSERT INTO service_tokens (service, subject, version, sealed, settings, obtained_at, renew_at, \
                     expires_at, failures, created_at) SELECT 'erp', '', version, sealed, settings, obtained_at, renew_at, \
                     expires_at, 0, 0 FROM service_tokens";
    server.app.db.write(Statement::new(statement)).await.expect("moved");
    let mut settings = service.settings(&more);
    for (key, value) in service.settings(&more) {
        settings.push((key.replace("__CRM__", "__ERP__"), value));
    }
    let settings: Vec<_> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let other = server.another(&settings).await;
    let moved = other.request(Method::POST, "/api/v1/services/erp/token");
    let moved = send(moved.basic_auth("shop", Some(SECRET)).json(&json!({}))).await;
    moved.expect_error(503, "SERVICE_UNAVAILABLE");

    // Nor with another master key.
    let keys = tempfile::tempdir().expect("a folder");
    let wrong = keys.path().join("master.key");
    std::fs::write(&wrong, [7; 32]).expect("written");
    let mut settings = server.database.settings();
    settings.push(("PROPUSK_SECRETS__MASTER_KEY_FILE".to_owned(), wrong.display().to_string()));
    let config = propusk::config::Config::load(None, settings.into_iter()).expect("settings");
    let opened =
        propusk::app::App::open(config, server.clock.clone(), propusk::clock::Rng::system());
    assert!(opened.await.is_err());
}

async fn t182_a_user_gets_the_listed_fields_only(backend: Backend) {
    let service = CustomerService::start().await;
    let more = [
        ("RESOURCE__PROFILE__CACHE", "30s"),
        ("RESOURCE__ORDERS__URL", "/orders"),
        ("RESOURCE__ORDERS__FIELDS", "name"),
        ("RESOURCE__ORDERS__SCOPE", "api:read"),
        ("RESOURCE__ORDERS__METHOD", "POST"),
    ];
    let server = with_service(backend, &service, &more).await;
    let ann = server.register("ann").await.access;
    let id = server.verify(&ann).await.json()["data"]["user"]["id"].clone();
    let reply = profile(&server, &ann).await.expect(StatusCode::OK);
    let expected = json!({
        "name": "Vera", "subject": "propusk", "path": format!("/customers/{}", id.as_str().expect("an id")),
        "customer": id, "contracts": [{ "number": "A-17" }, { "number": null }], "nested": null, "missing": null,
    });
    assert_eq!(reply.json()["data"], expected);
    assert!(!reply.text.contains("canary"), "{reply:?}");
    // Kept for this user, and for 30 seconds.
    assert_eq!(profile(&server, &ann).await.json()["data"], expected);
    assert_eq!(service.api_requests().await, 1);
    let eve = server.register("eve").await.access;
    assert_ne!(profile(&server, &eve).await.json()["data"]["customer"], id);
    seconds_later(&server, 31);
    profile(&server, &ann).await.expect(StatusCode::OK);
    assert_eq!(service.api_requests().await, 3);
    assert_eq!(service.token_requests().await, 1);

    let path = "/api/v1/services/crm/resources";
    server.get(&format!("{path}/profile")).await.expect_error(401, "INVALID_TOKEN");
    server.get_as(&format!("{path}/none"), &ann).await.expect_error(404, "NOT_FOUND");
    let unknown = server.get_as("/api/v1/services/none/resources/profile", &ann).await;
    unknown.expect_error(404, "NOT_FOUND");
    // A resource with a scope is for tokens that have it, of any client; one without is for logins
    // at this server's own API.
    let orders = |token: String| {
        let server = &server;
        async move { server.get_as(&format!("{path}/orders"), &token).await }
    };
    orders(ann.clone()).await.expect_error(403, "INSUFFICIENT_SCOPE");
    server.client("app", crate::support::oauth::first_party_app()).await;
    let request = crate::support::oauth::AuthorizationRequest::of("app", "openid api:read");
    let answer = server.browser().authorize(&request, "ann").await;
    let app = server.exchange_code("app", answer.code()).await.field("access_token");
    assert_eq!(orders(app.clone()).await.json()["data"], json!({ "name": "Vera" }));
    assert_eq!(service.state().await["apiRequests"][3], "POST /orders");
    profile(&server, &app).await.expect_error(403, "INSUFFICIENT_SCOPE");
    let own = server.client_token("app", "api:read").await;
    orders(own).await.expect_error(403, "INSUFFICIENT_SCOPE");
}

async fn t183_a_token_that_a_resource_refuses_is_replaced_once(backend: Backend) {
    let service = CustomerService::start().await;
    let server = with_service(backend, &service, &[]).await;
    let ann = server.register("ann").await.access;
    profile(&server, &ann).await.expect(StatusCode::OK);
    // The service forgets its tokens: all who notice get one new token.
    service.set(json!({ "revoke": true })).await;
    let replies = join_all((0..20).map(|_| profile(&server, &ann))).await;
    for reply in replies {
        reply.expect(StatusCode::OK);
    }
    assert_eq!(service.token_requests().await, 2);
    // A resource that refuses every token does not cause a token request for each call.
    seconds_later(&server, 11);
    service.set(json!({ "api": { "mode": 401 } })).await;
    for _ in 0..5 {
        profile(&server, &ann).await.expect_error(502, "SERVICE_FAILED");
    }
    assert_eq!(service.token_requests().await, 3);
    seconds_later(&server, 11);
    profile(&server, &ann).await.expect_error(502, "SERVICE_FAILED");
    assert_eq!(service.token_requests().await, 4);
}

async fn t184_a_rotated_refresh_token_is_never_lost(backend: Backend) {
    let service = CustomerService::start().await;
    let more = [("GRANT", "refresh_token"), ("REFRESH_TOKEN", "first")];
    let server = with_service(backend, &service, &more).await;
    let settings = service.settings(&more);
    let settings: Vec<_> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let other = server.another(&settings).await;
    // Each is used once, whichever process renews: a second use would revoke them all.
    for round in 1..=5 {
        let calls = (0..20).map(|n| token(if n % 2 == 0 { &server } else { &other }));
        let tokens: Vec<_> = join_all(calls).await.iter().map(access_token).collect();
        assert!(tokens.iter().all(|token| *token == tokens[0]));
        assert_eq!(service.token_requests().await, round);
        seconds_later(&server, 3_600);
    }
    // A caller that does not wait for the answer.
    service.set(json!({ "token": { "delay": 500 } })).await;
    let request = server.request(Method::POST, "/api/v1/services/crm/token");
    let request = request.basic_auth("shop", Some(SECRET)).json(&json!({}));
    let impatient = tokio::spawn(send(request));
    until("the request", || async { (service.token_requests().await == 6).then_some(()) }).await;
    impatient.abort();
    wait_for_requests(&service, 6).await;
    access_token(&token(&other).await);
    assert_eq!(service.token_requests().await, 6);
    seconds_later(&server, 3_600);
    // A service that keeps a refresh token does not send it again.
    service.set(json!({ "token": { "rotates": false } })).await;
    for round in 7..=8 {
        access_token(&token(&other).await);
        assert_eq!(service.token_requests().await, round);
        seconds_later(&server, 3_600);
    }
    // Another configured one replaces the stored one.
    let known = service.state().await["refreshTokens"].clone();
    let last = known.as_array().and_then(|all| all.last()).and_then(Value::as_str).expect("one");
    let settings = service.settings(&[("GRANT", "refresh_token"), ("REFRESH_TOKEN", last)]);
    let settings: Vec<_> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let third = server.another(&settings).await;
    access_token(&token(&third).await);
    let settings = service.settings(&[("GRANT", "refresh_token"), ("REFRESH_TOKEN", "unknown")]);
    let settings: Vec<_> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let fourth = server.another(&settings).await;
    seconds_later(&server, 3_600);
    token(&fourth).await.expect_error(502, "SERVICE_FAILED");
}

async fn t185_only_back_ends_that_are_named_get_a_token(backend: Backend) {
    let service = CustomerService::start().await;
    let server = with_service(backend, &service, &[("CLIENTS", "shop,plain")]).await;
    server.client("other", back_end()).await;
    server.client("plain", web_app()).await;
    let ann = server.register("ann").await.access;
    token_as(&server, "other", json!({})).await.expect_error(403, "UNAUTHORIZED_CLIENT");
    token_as(&server, "plain", json!({})).await.expect_error(403, "INSUFFICIENT_SCOPE");
    let post =
        |token: &str| server.request(Method::POST, "/api/v1/services/crm/token").bearer_auth(token);
    send(post(&ann)).await.expect_error(403, "INSUFFICIENT_SCOPE");
    send(server.request(Method::POST, "/api/v1/services/crm/token"))
        .await
        .expect_error(401, "INVALID_TOKEN");
    // A browser sends it with every POST.
    let own = server.client_token("shop", "propusk:services").await;
    for name in ["origin", "sec-fetch-site"] {
        let request = post(&own).header(name, "same-origin");
        send(request).await.expect_error(403, "UNAUTHORIZED_CLIENT");
    }
    for (body, status, code) in [
        (json!({ "userId": "x" }), 400, "VALIDATION_ERROR"),
        (json!({ "user": "x" }), 400, "VALIDATION_ERROR"),
    ] {
        token_as(&server, "shop", body).await.expect_error(status, code);
    }
    let unknown = server.request(Method::POST, "/api/v1/services/none/token");
    let unknown = send(unknown.basic_auth("shop", Some(SECRET))).await;
    unknown.expect_error(404, "NOT_FOUND");
    assert_eq!(service.token_requests().await, 0);

    let reply = send(post(&own)).await;
    let token = access_token(&reply);
    assert!(!reply.text.contains("rt-") && !reply.text.contains("canary"), "{reply:?}");
    assert_eq!(reply.header(header::CONTENT_TYPE.as_str()), "application/json");
    // By gRPC it is the same.
    let get = |service: &str, user_id: Option<&str>| GetServiceTokenRequest {
        service: service.to_owned(),
        user_id: user_id.map(str::to_owned),
    };
    let caller = server.client_caller("shop", "propusk:services").await;
    let answer = caller.services().get(get("crm", None)).await.expect("a token").into_inner();
    assert_eq!((answer.access_token, answer.token_type.as_str()), (token, "Bearer"));
    assert!((1..=3_595).contains(&answer.expires_in));
    for (request, code) in [
        (get("none", None), Code::NotFound),
        (get("", None), Code::InvalidArgument),
        (get("crm", Some("x")), Code::InvalidArgument),
    ] {
        let refused = caller.services().get(request).await.expect_err("refused");
        assert_eq!(refused.code(), code, "{refused:?}");
    }
    let other = server.client_caller("other", "propusk:services").await;
    let refused = other.services().get(get("crm", None)).await.expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused = server.anonymous().await.services().get(get("crm", None)).await;
    assert_eq!(refused.expect_err("refused").code(), Code::Unauthenticated);
    service.set(json!({ "token": { "mode": 500 } })).await;
    seconds_later(&server, 3_600);
    let caller = server.client_caller("shop", "propusk:services").await;
    let failed = caller.services().get(get("crm", None)).await.expect_err("a failure");
    assert_eq!(failed.code(), Code::Internal);
    let failed = caller.services().get(get("crm", None)).await.expect_err("a failure");
    assert_eq!(failed.code(), Code::Unavailable);
}

async fn t189_requests_to_services_stay_within_the_allowed_networks(backend: Backend) {
    let service = CustomerService::start().await;
    // Without outbound.allowed_networks an address on loopback is refused.
    let settings = service.settings(&[]);
    let settings: Vec<_> = settings
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .filter(|(key, _)| !key.contains("ALLOWED_NETWORKS"))
        .collect();
    let server = TestServer::with(backend, &settings).await;
    server.client("shop", back_end()).await;
    token(&server).await.expect_error(502, "SERVICE_FAILED");
    assert_eq!(service.token_requests().await, 0);

    // The id of a user, which a back end chooses, stays one segment and one parameter.
    let more = [("RESOURCE__PROFILE__SCOPE", "orders:read")];
    let server = with_service(backend, &service, &more).await;
    let metadata = propusk::model::client::Metadata {
        subject_namespace: Some("mp1".to_owned()),
        scope: propusk::oauth::scope::Scope::parse("orders:read propusk:tokens").expect("a scope"),
        ..back_end()
    };
    server.client("mp1", metadata).await;
    let id = "../../x?a=b&c=d#e%2f";
    let request = server.request(Method::POST, "/api/v1/tokens");
    let body = json!({ "subject": id, "scope": "orders:read" });
    let issued = send(request.basic_auth("mp1", Some(SECRET)).json(&body)).await;
    let user = issued.json()["data"]["accessToken"].as_str().expect("a token").to_owned();
    let data = profile(&server, &user).await.expect(StatusCode::OK).json()["data"].clone();
    assert_eq!(data["customer"], format!("mp1:{id}"));
    assert_eq!(data["path"], format!("/customers/mp1:{id}"));
}
