//! The revocation list through the admin API.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    Backend, TestServer, backend_tests,
    oauth::{first_party_app, payload},
};

backend_tests! {
    a_revocation_matches_exactly_its_target,
    an_idempotency_key_revokes_once,
}

async fn a_revocation_matches_exactly_its_target(backend: Backend) {
    let server = TestServer::start(backend).await;
    let other = server.another(&[]).await;
    server.client("app", first_party_app()).await;
    let admin = server.admin("root").await;
    let bystander = server.register("vera").await;
    let nora = server.register("nora").await;
    let claim = |token: &str, name: &str| payload(token)[name].as_str().expect("text").to_owned();
    let revoke = async |kind: &str, target: String, scope: Option<&str>| {
        let created = admin
            .post(
                "/revocations",
                json!({ "kind": kind, "target": target, "scope": scope, "reason": "lost" }),
            )
            .await
            .expect(StatusCode::CREATED)
            .data();
        assert_eq!(
            (&created["kind"], &created["target"], &created["reason"]),
            (&json!(kind), &json!(target), &json!("lost"))
        );
        created
    };
    let gone = async |token: &str| {
        for server in [&other, &server] {
            server.verify(token).await.expect_error(401, "INVALID_TOKEN");
            server.verify(&bystander.access).await.expect(StatusCode::OK);
        }
    };
    let again = async |refresh: &str| {
        server.clock.advance(Duration::from_secs(2));
        server.refresh(refresh).await.expect(StatusCode::OK).tokens()
    };
    let one = revoke("token", claim(&nora.access, "jti"), None).await;
    gone(&nora.access).await;
    let nora = again(&nora.refresh).await;
    server.verify(&nora.access).await.expect(StatusCode::OK);
    let two = revoke("subject", claim(&nora.access, "sub"), None).await;
    assert!(two["number"].as_i64() > one["number"].as_i64());
    assert_eq!(two["issuedUntil"], "2026-11-21T00:00:05Z");
    gone(&nora.access).await;
    let nora = again(&nora.refresh).await;
    revoke("scope", claim(&nora.access, "sub"), Some("email")).await;
    gone(&nora.access).await;
    let nora = again(&nora.refresh).await;
    revoke("scope", claim(&nora.access, "sub"), Some("api:read")).await;
    server.verify(&nora.access).await.expect(StatusCode::OK);
    revoke("session", claim(&nora.access, "sid"), None).await;
    gone(&nora.access).await;
    server.refresh(&nora.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
    let service = server.service("bot", "api:read").await;
    server.verify(&service.token).await.expect(StatusCode::OK);
    revoke("client", "bot".to_owned(), None).await;
    gone(&service.token).await;

    let all = admin.all("/revocations").await;
    assert!(
        all.is_sorted_by(|a, b| a["number"].as_i64() > b["number"].as_i64()),
        "the newest first"
    );
    assert_eq!(admin.all("/revocations?kind=client").await.len(), 1);
    assert_eq!(admin.all("/revocations?target=bot").await.len(), 1);
    assert_eq!(admin.all("/revocations?kind=subject&target=bot").await.len(), 0);
    for bad in [
        json!({ "kind": "key", "target": "x" }),
        json!({ "kind": "scope", "target": "x" }),
        json!({ "kind": "token", "target": "x", "scope": "y" }),
        json!({ "kind": "token", "target": "" }),
        json!({ "kind": "scope", "target": "x", "scope": "a b" }),
        json!({ "kind": "token", "target": "x", "reason": "a\nb" }),
        json!({ "kind": "token" }),
    ] {
        admin.post("/revocations", bad).await.expect_error(400, "VALIDATION_ERROR");
    }
    let line = &admin.all("/audit?action=revocation.add&subject=bot").await[0];
    assert_eq!(line["detail"], json!({ "kind": "client", "scope": null, "reason": "lost" }));
}

async fn an_idempotency_key_revokes_once(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let body = json!({ "kind": "token", "target": "01a1fca5-0ae5-741a-b136-32b4b1af948c" });
    let replies =
        join_all((0..10).map(|_| admin.post_once("k", "/revocations", body.clone()))).await;
    let numbers: Vec<Value> = replies.iter().map(|reply| reply.data()["number"].clone()).collect();
    assert!(numbers.iter().all(|number| *number == numbers[0]), "{numbers:?}");
    assert_eq!(
        replies.iter().filter(|reply| reply.header("idempotency-replayed").is_empty()).count(),
        1
    );
    assert_eq!(admin.all("/revocations?kind=token").await.len(), 1);
}
