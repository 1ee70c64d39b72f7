//! The audit log.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Backend, TestServer, backend_tests, send};

backend_tests! {
    the_audit_log_records_actor_change_origin_and_time,
}

async fn the_audit_log_records_actor_change_origin_and_time(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let root = admin.get("/users?username=root").await.text_of("/items/0/id");
    server.register("nora").await;
    let nora = admin.get("/users?username=nora").await.text_of("/items/0/id");
    server.clock.advance(Duration::from_secs(60));
    let request = admin
        .request(Method::PATCH, &format!("/users/{nora}"))
        .header("if-match", "*")
        .header("x-correlation-id", "test-1");
    let reply = send(
        request.json(&json!({ "email": "nora@example.com", "username": "nora", "role": "admin" })),
    )
    .await
    .expect(StatusCode::OK);
    let lines = admin.all(&format!("/audit?subject={nora}&action=user.updated")).await;
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    assert_eq!(line["actor"], root.as_str());
    assert_eq!(line["address"], "127.0.0.1");
    assert_eq!(line["requestId"], reply.header("x-request-id"));
    assert_eq!(line["correlationId"], "test-1");
    assert_eq!(line["at"], "2026-11-21T00:01:02Z");
    let changed = json!({ "email": { "from": "nora@example.org", "to": "nora@example.com" }, "role": { "from": "user", "to": "admin" } });
    assert_eq!(line["detail"], changed, "unchanged fields are not recorded");

    let numbers = async |path: &str| -> Vec<i64> {
        admin
            .all(path)
            .await
            .iter()
            .map(|line: &Value| line["number"].as_i64().expect("a number"))
            .collect()
    };
    let all = numbers("/audit").await;
    assert!(all.len() > 4 && all.is_sorted_by(|a, b| a > b), "the newest first: {all:?}");
    assert_eq!(numbers("/audit?from=2026-11-21T00:01:00Z").await.len(), 1);
    assert_eq!(numbers("/audit?from=2026-11-21T03:01:00%2B03:00").await.len(), 1);
    assert_eq!(numbers("/audit?to=2026-11-21T00:01:02Z").await.len(), all.len() - 1);
    assert_eq!(
        numbers(&format!("/audit?actor={root}")).await.len(),
        3,
        "registered, logged in, changed a user"
    );
    assert_eq!(numbers("/audit?actor=cli").await.len(), 1);
    // An entry by the request that a user quotes, also among the others of its time.
    let id = reply.header("x-request-id");
    assert_eq!(admin.all(&format!("/audit?requestId={id}")).await, std::slice::from_ref(line));
    let last = id.strip_suffix(|_: char| true).expect("an id");
    let other = if id.ends_with('0') { "1" } else { "0" };
    assert_eq!(numbers(&format!("/audit?requestId={last}{other}")).await, [0; 0]);
    assert_eq!(numbers("/audit?requestId=nothing").await, [0; 0]);
    let here = numbers("/audit?address=127.0.0.1&actor=cli").await;
    assert_eq!(here, [0; 0], "a command has no address");
    assert_eq!(numbers("/audit?address=127.0.0.1").await.len(), all.len() - 1);
    assert_eq!(numbers("/audit?address=192.0.2.1").await, [0; 0]);
    admin.get("/audit?from=yesterday").await.expect_error(400, "VALIDATION_ERROR");
}
