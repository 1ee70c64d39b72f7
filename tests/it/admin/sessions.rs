//! Sessions through the admin API.

use std::time::Duration;

use propusk::{model::client::Metadata, storage::Statement};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    Backend, TestServer, backend_tests,
    oauth::{AuthorizationRequest, first_party_app},
};

backend_tests! {
    sessions_are_listed_by_filter_and_revoked_at_once,
}

async fn sessions_are_listed_by_filter_and_revoked_at_once(backend: Backend) {
    let server = TestServer::start(backend).await;
    let response = Metadata {
        backchannel_logout_uri: Some("https://app.example/logout".to_owned()),
        ..first_party_app()
    };
    server.client("app", response).await;
    let admin = server.admin("root").await;
    let tokens = server.register("nora").await;
    let user = admin.get("/users?username=nora").await.text_of("/items/0/id");
    let mut nora = server.logged_in("nora").await;
    let request = AuthorizationRequest::of("app", "openid offline_access");
    server.clock.advance(Duration::from_secs(1));
    let answer = nora.authorize(&request, "nora").await;
    nora.authorize(&request, "nora").await; // a code that nobody redeems is no session
    let granted = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);

    let list = admin.all(&format!("/sessions?user={user}")).await;
    assert_eq!(list.len(), 2, "{list:?}");
    assert_eq!(
        (&list[0]["clientId"], &list[1]["clientId"]),
        (&json!("app"), &json!("propusk")),
        "the newest first"
    );
    assert_eq!(list[0]["scope"], "openid offline_access");
    assert_eq!(list[1]["userId"], user.as_str());
    assert_eq!(list[1]["endedAt"], Value::Null);
    assert_eq!(list[1]["address"], "127.0.0.1");
    assert_eq!(admin.all("/sessions?client=app").await, list[..1]);
    assert_eq!(admin.all(&format!("/sessions?user={user}&live=true")).await, list);
    assert_eq!(admin.all(&format!("/sessions?user={user}&live=false")).await.len(), 0);

    let id = list[0]["id"].as_str().expect("an id");
    assert_eq!(admin.get(&format!("/sessions/{id}")).await.data(), list[0]);
    for _ in 0..2 {
        admin.delete(&format!("/sessions/{id}")).await.expect(StatusCode::OK);
    }
    assert_eq!(
        server.introspect("app", &granted.field("access_token")).await,
        json!({ "active": false })
    );
    server
        .refresh_as("app", &granted.field("refresh_token"))
        .await
        .expect_oauth_error(400, "invalid_grant");
    server.verify(&tokens.access).await.expect(StatusCode::OK);
    let ended = admin.get(&format!("/sessions/{id}")).await.data();
    assert_eq!(
        (&ended["endedFor"], &ended["endedAt"]),
        (&json!("revoked_by_admin"), &json!("2026-11-21T00:00:03Z"))
    );
    assert_eq!(admin.all(&format!("/sessions?user={user}&live=false")).await, [ended]);
    let ends = server
        .events()
        .await
        .into_iter()
        .filter(|(kind, data)| kind == "session.revoked" && data["sessionId"] == id)
        .count();
    assert_eq!(ends, 1);
    let waiting = server
        .app
        .db
        .read(Statement::new("SELECT session_id FROM logout_deliveries"))
        .await
        .expect("rows");
    assert_eq!(waiting.len(), 1, "the application is notified");
    let line = &admin.all("/audit?action=session.end").await[0];
    assert_ne!(line["actor"], user.as_str());
    assert_eq!(line["detail"], json!({ "sessionId": id, "reason": "revoked_by_admin" }));

    server.clock.advance(Duration::from_secs(8 * 86_400));
    let admin = server.admin_as("root").await;
    assert_eq!(
        admin.all(&format!("/sessions?user={user}&live=true")).await.len(),
        0,
        "idle for a week"
    );
    assert_eq!(admin.all(&format!("/sessions?user={user}&live=false")).await.len(), 2);
    admin.get("/sessions/nothing").await.expect_error(404, "NOT_FOUND");
    admin.delete("/sessions/nothing").await.expect_error(404, "NOT_FOUND");
    admin.get("/sessions/%00").await.expect_error(404, "NOT_FOUND");
}
