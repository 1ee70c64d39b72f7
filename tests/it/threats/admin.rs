//! Attacks on the admin API.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use propusk::{
    model::client::{Metadata, Source},
    oauth::scope::Scope,
    storage::Statement,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{assert_active, assert_revoked, tokens, two_servers, with_app};
use crate::support::{
    Backend, PASSWORD, TestServer, backend_tests,
    oauth::{
        AuthorizationRequest, AuthorizationResponse, Browser, CALLBACK, first_party_app, payload,
        web_app,
    },
    send,
};

backend_tests! {
    t38_reusing_a_deleted_email_creates_a_new_subject,
    t38_logins_racing_a_deletion_leave_nothing_behind,
    t81_a_cursor_is_bound_to_its_list_and_sorting_is_fixed,
    t82_admin_scopes_bound_services_and_users_alike,
    t76_cross_site_admin_requests_with_cookies_are_refused,
    t83_no_admin_response_log_or_event_contains_a_secret,
    t87_the_page_size_must_be_1_to_200,
}

async fn t38_reusing_a_deleted_email_creates_a_new_subject(backend: Backend) {
    let (one, other) = two_servers(backend).await;
    let metadata = Metadata {
        backchannel_logout_uri: Some("https://shop.example/logout".to_owned()),
        ..web_app()
    };
    one.client("shop", metadata).await;
    let root = one.admin("root").await;
    let mut ann = one.logged_in("ann").await;
    let request = AuthorizationRequest::of("shop", "openid offline_access api:read");
    let answer = ann.authorize(&request, "ann").await;
    let granted = one.exchange_code("shop", answer.code()).await.expect(StatusCode::OK);
    let waiting = ann.authorize(&request, "ann").await;
    let own = one.login("ann").await.expect(StatusCode::OK).tokens();
    assert_active(&other, "shop", &granted).await;
    let id = root.get("/users?username=ann").await.text_of("/items/0/id");
    root.delete(&format!("/users/{id}")).await.expect(StatusCode::OK);
    for server in [&other, &one] {
        assert_revoked(server, "shop", &granted).await;
        server.exchange_code("shop", waiting.code()).await.expect_oauth_error(400, "invalid_grant");
        server.verify(&own.access).await.expect_error(401, "INVALID_TOKEN");
        server.refresh(&own.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
        let mut here = Browser { server, cookies: ann.cookies.clone() };
        let reply = here.open(&request.clone().with("prompt", "none").path()).await;
        AuthorizationResponse::of(reply.header("location")).expect_error("login_required");
    }
    let response = one
        .app
        .db
        .read(Statement::new("SELECT subject FROM logout_deliveries WHERE client_id = 'shop'"))
        .await
        .expect("rows");
    assert_eq!(response.len(), 1, "the application is notified of the deleted user's logout");
    assert_eq!(response[0].get::<String>("subject").expect("text"), id);
    let new = one.register("ann").await;
    let sub = payload(&new.access)["sub"].clone();
    assert_ne!(sub, id.as_str());
    assert_revoked(&other, "shop", &granted).await;
    let mut ann = one.logged_in("ann").await;
    let reply = ann.open(&request.with("prompt", "none").path()).await;
    AuthorizationResponse::of(reply.header("location")).expect_error("consent_required");
    assert_eq!(
        root.all(&format!("/sessions?user={}", sub.as_str().expect("an id"))).await.len(),
        1
    );
    assert_eq!(root.all(&format!("/sessions?user={id}")).await.len(), 0);
}

async fn t38_logins_racing_a_deletion_leave_nothing_behind(backend: Backend) {
    let (one, other) = two_servers(backend).await;
    let root = one.admin("root").await;
    for round in 0..6 {
        let name = format!("eve{round}");
        let first = one.register(&name).await;
        let path = format!(
            "/users/{}",
            root.get(&format!("/users?username={name}")).await.text_of("/items/0/id")
        );
        let (logins, refreshed, deleted) = tokio::join!(
            join_all((0..4).map(|n| if n % 2 == 0 {
                one.login(&name)
            } else {
                other.login(&name)
            })),
            other.refresh(&first.refresh),
            root.delete(&path)
        );
        deleted.expect(StatusCode::OK);
        for reply in
            logins.iter().chain([&refreshed]).filter(|reply| reply.status == StatusCode::OK)
        {
            for server in [&one, &other] {
                server.verify(&reply.tokens().access).await.expect_error(401, "INVALID_TOKEN");
                server
                    .refresh(&reply.tokens().refresh)
                    .await
                    .expect_error(401, "INVALID_REFRESH_TOKEN");
            }
        }
        other.verify(&first.access).await.expect_error(401, "INVALID_TOKEN");
    }
}

async fn t81_a_cursor_is_bound_to_its_list_and_sorting_is_fixed(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    for name in ["ann", "bob", "cid"] {
        server.register(name).await;
    }
    let page = admin.get("/users?limit=2").await;
    let cursor = page.text_of("/nextCursor");
    let next = admin.get(&format!("/users?limit=1&cursor={cursor}")).await.expect(StatusCode::OK);
    assert_eq!(next.data()["items"].as_array().map(Vec::len), Some(1), "the page size may change");
    for at in 0..cursor.len() {
        let mut forged = cursor.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).expect("text");
        admin.get(&format!("/users?cursor={forged}")).await.expect_error(400, "VALIDATION_ERROR");
    }
    let made_up =
        ["", "x", "AAAA", "MDAwMDAwMDAwMDAwMDAwMDAxYTFmY2E1", "%27%20OR%201=1", "%00", "..%2F.."];
    let foreign = [
        format!("/sessions?cursor={cursor}"),
        format!("/audit?cursor={cursor}"),
        format!("/users?role=user&cursor={cursor}"),
        format!("/users?cursor={cursor}="),
    ];
    for path in made_up.iter().map(|text| format!("/users?cursor={text}")).chain(foreign) {
        admin.get(&path).await.expect_error(400, "VALIDATION_ERROR");
    }
    for unknown in [
        "sort=email",
        "order=password_hash",
        "sort=id%3B--",
        "fields=passwordHash",
        "offset=1",
        "Limit=1",
        "limit=1&limit=2",
        "email=a&email=b",
        "=",
        "role",
    ] {
        let reply =
            admin.get(&format!("/users?{unknown}")).await.expect_error(400, "VALIDATION_ERROR");
        let field = reply.json()["details"][0]["field"].clone();
        let named = unknown.split('=').next().filter(|name| !name.is_empty()).unwrap_or("?");
        assert_eq!(field, named, "{reply:?}");
    }
    admin.get("/users/x?limit=1").await.expect_error(400, "VALIDATION_ERROR");
}

async fn t82_admin_scopes_bound_services_and_users_alike(backend: Backend) {
    let metadata = Metadata {
        scope: Scope::parse("openid propusk:admin").expect("a scope"),
        ..first_party_app()
    };
    let server = with_app(backend, metadata).await;
    let writer = server.service("writer", "propusk:admin").await;
    let reader = server.service("reader", "propusk:admin:read").await;
    let other = server.service("other", "api:read").await;
    let document = server.get("/openapi.json").await.json();
    let mut seen = 0;
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let Some(path) = path.strip_prefix("/api/v1/admin") else {
            continue;
        };
        let parts =
            path.split('/').map(|part| if part.starts_with('{') { "nothing" } else { part });
        let path = parts.collect::<Vec<_>>().join("/");
        for method in operations.as_object().expect("operations").keys() {
            seen += 1;
            let method: Method = method.to_uppercase().parse().expect("a method");
            let reads = method == Method::GET;
            let reply = send(reader.request(method.clone(), &path).json(&json!({}))).await;
            assert_eq!(reply.status == StatusCode::FORBIDDEN, !reads, "{method} {path}: {reply:?}");
            if !reads {
                assert_eq!(
                    reply.header("www-authenticate"),
                    "Bearer error=\"insufficient_scope\", scope=\"propusk:admin\""
                );
            }
            let reply = send(other.request(method.clone(), &path).json(&json!({}))).await;
            reply.expect_error(403, "INSUFFICIENT_SCOPE");
            let reply = send(writer.request(method.clone(), &path).json(&json!({}))).await;
            assert!(
                ![401, 403, 500, 503].contains(&reply.status.as_u16()),
                "{method} {path}: {reply:?}"
            );
        }
    }
    assert!(seen > 40, "the document lists the operations");
    // A client's token has a user: without the admin role it is refused, whatever its scope.
    let granted = tokens(&server, "app", "openid propusk:admin", "ann").await;
    let call = async |token: &str| {
        send(server.request(Method::GET, "/api/v1/admin/users").bearer_auth(token)).await
    };
    call(&granted.field("access_token")).await.expect_error(403, "INSUFFICIENT_SCOPE");
    server.promote("root").await;
    let granted = tokens(&server, "app", "openid", "root").await;
    call(&granted.field("access_token")).await.expect_error(403, "INSUFFICIENT_SCOPE");
    let granted = tokens(&server, "app", "openid propusk:admin", "root").await;
    call(&granted.field("access_token")).await.expect(StatusCode::OK);
    // So is a token for another audience, and one of a user whose role was removed.
    let root = server.admin_as("root").await;
    server.promote("second").await;
    let second = server.admin_as("second").await;
    let id = second.get("/users?username=root").await.text_of("/items/0/id");
    second.patch(&format!("/users/{id}"), json!({ "role": "user" })).await.expect(StatusCode::OK);
    root.get("/users").await.expect_error(401, "INVALID_TOKEN");
    call(&granted.field("access_token")).await.expect_error(401, "INVALID_TOKEN");
}

async fn t76_cross_site_admin_requests_with_cookies_are_refused(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.promote("root").await;
    let body = json!({ "login": "root", "password": PASSWORD, "delivery": "cookie" });
    let mut browser = server.browser();
    let login = server.request(Method::POST, "/api/v1/auth/login").json(&body);
    browser.send(login).await.expect(StatusCode::OK);
    let read = server.request(Method::GET, "/api/v1/admin/users");
    browser.send(read).await.expect(StatusCode::OK);
    let account = json!({ "email": "eve@example.org", "role": "admin" });
    let make = || server.request(Method::POST, "/api/v1/admin/users").json(&account);
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        browser.send(make().header(name, value)).await.expect_error(403, "CROSS_SITE_REQUEST");
    }
    browser.send(make().header("sec-fetch-site", "same-origin")).await.expect(StatusCode::CREATED);
}

async fn t83_no_admin_response_log_or_event_contains_a_secret(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let body = json!({ "email": "nora@example.org", "username": "nora" });
    let created = admin.post_once("k", "/users", body.clone()).await.expect(StatusCode::CREATED);
    let id = created.text_of("/user/id");
    let set = admin.post(&format!("/users/{id}/password"), json!({})).await.expect(StatusCode::OK);
    let own = "nine grey otters at noon";
    admin
        .post(&format!("/users/{id}/password"), json!({ "password": own }))
        .await
        .expect(StatusCode::OK);
    let client = json!({ "id": "bot", "metadata": { "scope": "api:read", "grant_types": ["client_credentials"] } });
    let bot = admin.post_once("c", "/clients", client.clone()).await.expect(StatusCode::CREATED);
    let rotated = admin
        .post("/clients/bot/secret", json!({ "overlapSeconds": 60 }))
        .await
        .expect(StatusCode::OK);
    let hash = |secret: &str| Sha256::digest(secret).to_vec();
    let hashes = [bot.text_of("/secret"), rotated.text_of("/secret")].map(|secret| hash(&secret));
    let mut response = vec![
        admin.post_once("k", "/users", body).await.text,
        admin.post_once("c", "/clients", client).await.text,
    ];
    response.push(
        admin
            .patch("/clients/bot", json!({ "metadata": { "client_name": "Bot" } }))
            .await
            .expect(StatusCode::OK)
            .text,
    );
    let mut secrets = vec![
        created.text_of("/password"),
        set.text_of("/password"),
        own.to_owned(),
        "$argon2".to_owned(),
        bot.text_of("/secret"),
        rotated.text_of("/secret"),
    ];
    secrets.extend(["privateJwe".to_owned(), "private_jwe".to_owned(), "secret_hash".to_owned()]);
    secrets.extend(hashes.iter().flat_map(|hash| {
        [hash.iter().map(|byte| format!("{byte:02x}")).collect(), URL_SAFE_NO_PAD.encode(hash)]
    }));
    for path in [
        "/users",
        "/sessions",
        "/audit",
        "/clients",
        "/clients/bot",
        "/keys",
        "/revocations",
        &format!("/users/{id}"),
    ] {
        response.push(admin.get(path).await.expect(StatusCode::OK).text);
    }
    response.push(
        Value::from_iter(server.events().await.into_iter().map(|(_, data)| data)).to_string(),
    );
    for secret in &secrets {
        for text in &response {
            assert!(!text.contains(secret.as_str()), "{secret} in {text}");
        }
    }
}

async fn t87_the_page_size_must_be_1_to_200(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let root = admin.get("/users").await.text_of("/items/0/id");
    let history = format!("/users/{root}/grant-history");
    for list in [
        "/users",
        "/sessions",
        "/audit",
        "/clients",
        "/issuers",
        "/modules",
        "/roles",
        "/keys",
        "/revocations",
        &history,
    ] {
        for bad in [
            "0",
            "-1",
            "201",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551616",
            "1e2",
            "1.0",
            "0x10",
            "",
            "%2B5",
            "+5",
            "five",
            "%D9%A3",
            "1%00",
        ] {
            admin.get(&format!("{list}?limit={bad}")).await.expect_error(400, "VALIDATION_ERROR");
        }
        for good in ["1", "200"] {
            admin.get(&format!("{list}?limit={good}")).await.expect(StatusCode::OK);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t82_a_self_registered_client_has_no_admin_access() {
    let settings = [
        ("PROPUSK_CLIENT_REGISTRATION__SCOPES", "openid,propusk:admin"),
        ("PROPUSK_CLIENT_REGISTRATION__MODE", "open"),
    ];
    let server = TestServer::with(Backend::Sqlite, &settings).await;
    for scope in [json!("openid propusk:admin propusk:admin:read"), Value::Null] {
        let body = json!({ "redirect_uris": [CALLBACK], "scope": scope });
        let created = server.post("/oauth2/register", body).await;
        assert_eq!(created.expect(StatusCode::CREATED).json()["scope"], "openid");
    }
    // Even if the scope were in the database, it would not count.
    let service = server.service("keeper", "propusk:admin").await;
    service.get("/users").await.expect(StatusCode::OK);
    let changed = server.change_client("keeper", |client| client.source = Source::Registration);
    changed.await;
    service.get("/users").await.expect_error(403, "INSUFFICIENT_SCOPE");
}
