//! User accounts through the admin API.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Backend, PASSWORD, TestServer, backend_tests, send};

/// The values of a field, in order.
fn column(items: &[Value], name: &str) -> Vec<String> {
    let text = |item: &Value| item[name].as_str().unwrap_or_default().to_owned();
    items.iter().map(text).collect()
}

backend_tests! {
    an_administrator_manages_user_accounts,
    a_generated_password_is_shown_once_and_works,
    a_disabled_user_is_refused_until_enabled_again,
    lists_are_paginated_and_filtered,
    concurrent_user_changes_conflict_by_etag,
    an_idempotency_key_creates_one_user,
    the_last_administrator_and_oneself_cannot_be_deleted,
    an_email_change_to_a_taken_address_is_refused,
}

async fn an_administrator_manages_user_accounts(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let body = json!({ "email": "Nora@example.org", "username": "nora", "password": PASSWORD });
    let created = admin.post("/users", body).await.expect(StatusCode::CREATED);
    assert_eq!(created.data().get("password"), None, "a chosen password is not returned");
    let id = created.text_of("/user/id");
    let path = format!("/users/{id}");
    let read = admin.get(&path).await.expect(StatusCode::OK);
    assert_eq!(read.data(), created.data()["user"]);
    assert_eq!(read.data()["email"], "Nora@example.org");
    assert_eq!(read.data()["role"], "user");
    assert_eq!(read.data()["lastLoginAt"], Value::Null);
    assert_eq!(read.header("etag"), created.header("etag"));
    let tokens = server.login("nora").await.expect(StatusCode::OK).tokens();

    let changed = admin
        .patch_if(
            read.header("etag"),
            &path,
            json!({ "email": "nora@example.com", "username": null, "isVerified": true }),
        )
        .await;
    let data = changed.data();
    assert_eq!(
        (&data["email"], &data["username"], &data["isVerified"]),
        (&json!("nora@example.com"), &Value::Null, &json!(true))
    );
    assert_ne!(changed.header("etag"), read.header("etag"));
    server.login("nora").await.expect_error(401, "INVALID_CREDENTIALS");
    server.login("nora@example.com").await.expect(StatusCode::OK);
    server.verify(&tokens.access).await.expect(StatusCode::OK);
    let again = admin.patch(&path, json!({ "email": "nora@example.net" })).await;
    assert_eq!(again.data()["isVerified"], false, "the new email is unverified");

    let removed =
        send(admin.request(Method::DELETE, &path).header("if-match", again.header("etag"))).await;
    removed.expect(StatusCode::OK);
    admin.get(&path).await.expect_error(404, "NOT_FOUND");
    admin.delete(&path).await.expect_error(404, "NOT_FOUND");
    server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
    server.login("nora@example.net").await.expect_error(401, "INVALID_CREDENTIALS");
    let kinds: Vec<String> = server
        .events()
        .await
        .into_iter()
        .filter(|(_, data)| data["userId"] == id)
        .map(|(kind, _)| kind)
        .collect();
    assert_eq!(
        kinds,
        [
            "user.created",
            "session.created",
            "user.updated",
            "session.created",
            "user.updated",
            "user.deleted"
        ]
    );
}

async fn a_generated_password_is_shown_once_and_works(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let body = json!({ "email": "nora@example.org", "role": "admin" });
    let created = admin.post_once("k1", "/users", body.clone()).await.expect(StatusCode::CREATED);
    let password = created.text_of("/password");
    let login = json!({ "login": "nora@example.org", "password": password });
    server.post("/api/v1/auth/login", login.clone()).await.expect(StatusCode::OK);
    let again = admin.post_once("k1", "/users", body).await.expect(StatusCode::CREATED);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.data().get("password"), None);
    assert_eq!(again.text_of("/user/id"), created.text_of("/user/id"));

    let path = format!("/users/{}/password", created.text_of("/user/id"));
    let reply = admin.post(&path, json!({})).await.expect(StatusCode::OK);
    server.post("/api/v1/auth/login", login).await.expect_error(401, "INVALID_CREDENTIALS");
    let login = json!({ "login": "nora@example.org", "password": reply.text_of("/password") });
    let tokens = server.post("/api/v1/auth/login", login).await.expect(StatusCode::OK).tokens();
    let reply = admin.post(&path, json!({ "password": PASSWORD })).await.expect(StatusCode::OK);
    assert_eq!(reply.data().get("password"), None);
    server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
    server.login("nora@example.org").await.expect(StatusCode::OK);
    admin.post(&path, json!({ "password": "short" })).await.expect_error(400, "VALIDATION_ERROR");
}

async fn a_disabled_user_is_refused_until_enabled_again(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let tokens = server.register("nora").await;
    let id = admin.get("/users?username=nora").await.text_of("/items/0/id");
    for _ in 0..2 {
        let reply =
            admin.post(&format!("/users/{id}/disable"), json!({})).await.expect(StatusCode::OK);
        assert_eq!(reply.data()["disabledAt"], "2026-11-21T00:00:02Z");
    }
    server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
    server.login("nora").await.expect_error(401, "INVALID_CREDENTIALS");
    let reply = admin.post(&format!("/users/{id}/enable"), json!({})).await.expect(StatusCode::OK);
    assert_eq!(reply.data()["disabledAt"], Value::Null);
    server.refresh(&tokens.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
    let tokens = server.login("nora").await.expect(StatusCode::OK).tokens();
    let browser = server.logged_in("nora").await;
    admin.post(&format!("/users/{id}/logout"), json!({})).await.expect(StatusCode::OK);
    server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
    let mut browser = browser;
    let page = browser.open("/login").await;
    assert!(page.text.contains("name=\"password\""), "the browser is logged out too: {page:?}");
    server.login("nora").await.expect(StatusCode::OK);
    let lines = admin
        .all(&format!(
            "/audit?subject={id}&actor={}",
            admin.get("/users?username=root").await.text_of("/items/0/id")
        ))
        .await;
    assert_eq!(column(&lines, "action"), ["user.logged_out", "user.enabled", "user.disabled"]);
}

async fn lists_are_paginated_and_filtered(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    for name in ["abel", "ab_c", "abc", "berta", "cesar"] {
        server.clock.advance(Duration::from_millis(5));
        server.register(name).await;
    }
    let names = async |path: &str| column(&admin.all(path).await, "username");
    assert_eq!(names("/users").await, ["root", "abel", "ab_c", "abc", "berta", "cesar"]);
    assert_eq!(names("/users?username=ab*").await, ["abel", "ab_c", "abc"]);
    assert_eq!(names("/users?username=AB_*").await, ["ab_c"], "LIKE wildcards are escaped");
    assert_eq!(names("/users?username=%25*").await, [""; 0]);
    assert_eq!(names("/users?email=Abc%40example.org").await, ["abc"]);
    assert_eq!(names("/users?email=ab*&username=abel").await, ["abel"]);
    assert_eq!(names("/users?role=admin").await, ["root"]);
    assert_eq!(names("/users?role=nobody").await, [""; 0]);
    let id = admin.get("/users?username=berta").await.text_of("/items/0/id");
    admin.post(&format!("/users/{id}/disable"), json!({})).await.expect(StatusCode::OK);
    assert_eq!(names("/users?disabled=true").await, ["berta"]);
    assert_eq!(names("/users?disabled=false").await.len(), 5);
    admin.get("/users?disabled=yes").await.expect_error(400, "VALIDATION_ERROR");
}

async fn concurrent_user_changes_conflict_by_etag(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    server.register("nora").await;
    let id = admin.get("/users?username=nora").await.text_of("/items/0/id");
    let path = format!("/users/{id}");
    let etag = admin.get(&path).await.header("etag").to_owned();
    let changes =
        (0..10).map(|n| admin.patch_if(&etag, &path, json!({ "username": format!("nora{n}") })));
    let statuses: Vec<u16> =
        join_all(changes).await.iter().map(|reply| reply.status.as_u16()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 9, "{statuses:?}");
    admin
        .patch_if(&etag, &path, json!({ "role": "admin" }))
        .await
        .expect_error(412, "PRECONDITION_FAILED");
    let late = send(admin.request(Method::DELETE, &path).header("if-match", etag.as_str())).await;
    late.expect_error(412, "PRECONDITION_FAILED");
    let request = admin.request(Method::PATCH, &path).json(&json!({ "role": "admin" }));
    send(request).await.expect_error(428, "PRECONDITION_REQUIRED");
    send(admin.request(Method::DELETE, &path)).await.expect_error(428, "PRECONDITION_REQUIRED");
    let now = admin.get(&path).await.header("etag").to_owned();
    admin
        .patch_if(&format!("W/{now}"), &path, json!({ "role": "admin" }))
        .await
        .expect_error(412, "PRECONDITION_FAILED");
    admin
        .patch_if(now.trim_matches('"'), &path, json!({ "role": "admin" }))
        .await
        .expect_error(400, "VALIDATION_ERROR");
    let both = format!("{etag}, {now}");
    admin.patch_if(&both, &path, json!({ "role": "admin" })).await.expect(StatusCode::OK);
    assert_eq!(
        admin
            .patch(&path, json!({ "rank": "admin" }))
            .await
            .expect_error(400, "VALIDATION_ERROR")
            .json()["details"][0]["field"],
        "rank"
    );
}

async fn an_idempotency_key_creates_one_user(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let body = json!({ "email": "nora@example.org" });
    let calls = (0..20).map(|_| admin.post_once("a-key", "/users", body.clone()));
    let replies = join_all(calls).await;
    let created: BTreeSet<String> = replies.iter().map(|reply| reply.text_of("/user/id")).collect();
    assert_eq!(created.len(), 1);
    let fresh: Vec<_> =
        replies.iter().filter(|reply| reply.header("idempotency-replayed").is_empty()).collect();
    assert_eq!(fresh.len(), 1, "one call creates it");
    assert!(
        replies.iter().filter(|reply| reply.data().get("password").is_some()).count() == 1,
        "and returns the password"
    );
    admin
        .post_once("a-key", "/users", json!({ "email": "vera@example.org" }))
        .await
        .expect_error(422, "IDEMPOTENCY_KEY_REUSED");
    admin
        .post_once("another", "/users", body.clone())
        .await
        .expect_error(409, "EMAIL_ALREADY_EXISTS");
    // The same key of another caller is another key.
    let other = server.service("keeper", "propusk:admin").await;
    other
        .post_once("a-key", "/users", json!({ "email": "vera@example.org" }))
        .await
        .expect(StatusCode::CREATED);
    for bad in ["", "two words", &"k".repeat(129)] {
        admin.post_once(bad, "/users", body.clone()).await.expect_error(400, "VALIDATION_ERROR");
    }
    let twice = admin
        .request(Method::POST, "/users")
        .header("idempotency-key", "a")
        .header("idempotency-key", "b")
        .json(&body);
    send(twice).await.expect_error(400, "VALIDATION_ERROR");
    // A failed call stores no key.
    admin
        .post_once("third", "/users", json!({ "email": "nora@example.org" }))
        .await
        .expect_error(409, "EMAIL_ALREADY_EXISTS");
    admin
        .post_once("third", "/users", json!({ "email": "olga@example.org" }))
        .await
        .expect(StatusCode::CREATED);
    // The created user may be gone; after a day the key is gone too.
    admin.delete(&format!("/users/{}", created.first().expect("one"))).await.expect(StatusCode::OK);
    admin.post_once("a-key", "/users", body.clone()).await.expect_error(404, "NOT_FOUND");
    server.clock.advance(Duration::from_secs(24 * 3_600));
    let admin = server.admin_as("root").await;
    admin.post_once("a-key", "/users", body).await.expect(StatusCode::CREATED);
}

async fn the_last_administrator_and_oneself_cannot_be_deleted(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let id = admin.get("/users?username=root").await.text_of("/items/0/id");
    let path = format!("/users/{id}");
    admin.delete(&path).await.expect_error(409, "CONFLICT");
    admin.post(&format!("{path}/disable"), json!({})).await.expect_error(409, "CONFLICT");
    admin.patch(&path, json!({ "role": "user" })).await.expect_error(409, "CONFLICT");
    admin.patch(&path, json!({ "role": "admin", "username": "boss" })).await.expect(StatusCode::OK);
    // A service has no account of its own, and still cannot disable every administrator.
    let service = server.service("keeper", "propusk:admin").await;
    service.delete(&path).await.expect_error(409, "CONFLICT");
    service.post(&format!("{path}/disable"), json!({})).await.expect_error(409, "CONFLICT");
    service.patch(&path, json!({ "role": "user" })).await.expect_error(409, "CONFLICT");
    // Of two administrators who delete each other at the same time, one stays.
    let other = server.promote("other").await;
    let second = server.admin_as("other").await;
    let (there, here) = (format!("/users/{other}"), path.clone());
    let demotion = json!({ "role": "user" });
    let (one, two) =
        tokio::join!(admin.patch(&there, demotion.clone()), second.patch(&here, demotion));
    let admins = service.all("/users?role=admin&disabled=false").await;
    assert_eq!(admins.len(), 1, "{one:?} {two:?}");
}

async fn an_email_change_to_a_taken_address_is_refused(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    server.register("nora").await;
    let id = admin.get("/users?username=nora").await.text_of("/items/0/id");
    let path = format!("/users/{id}");
    admin
        .patch(&path, json!({ "email": "ROOT@example.org" }))
        .await
        .expect_error(409, "EMAIL_ALREADY_EXISTS");
    admin
        .patch(&path, json!({ "username": "Root" }))
        .await
        .expect_error(409, "USERNAME_ALREADY_EXISTS");
    for bad in [
        json!({ "email": "nobody" }),
        json!({ "email": "a@x,b@evil" }),
        json!({ "username": "a@b.c" }),
        json!({ "role": "Big Boss" }),
        json!({ "role": 1 }),
        json!([]),
    ] {
        admin.patch(&path, bad).await.expect_error(400, "VALIDATION_ERROR");
    }
    let etag = admin.get(&path).await.header("etag").to_owned();
    let same =
        admin.patch(&path, json!({ "email": "nora@example.org" })).await.expect(StatusCode::OK);
    assert_eq!(same.header("etag"), etag, "nothing has changed");
    assert_eq!(admin.all("/audit?action=user.updated").await.len(), 1, "only root's own promotion");
}
