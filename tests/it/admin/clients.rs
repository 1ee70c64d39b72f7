//! Clients through the admin API.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Backend, Reply, TestServer, backend_tests, send};

/// The metadata of a service that acts for itself.
fn service(scope: &str) -> Value {
    json!({ "client_name": "A program", "scope": scope, "grant_types": ["client_credentials"] })
}

/// Requests a token with this secret.
async fn token(server: &TestServer, id: &str, secret: &str) -> Reply {
    let request = server.request(Method::POST, "/oauth2/token").basic_auth(id, Some(secret));
    send(request.form(&[("grant_type", "client_credentials")])).await
}

backend_tests! {
    a_client_is_created_changed_disabled_and_deleted,
    clients_are_listed_by_source_and_built_ins_protected,
    an_idempotency_key_creates_one_client_with_one_secret,
    concurrent_client_changes_conflict_by_etag,
}

async fn a_client_is_created_changed_disabled_and_deleted(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let created = admin
        .post("/clients", json!({ "id": "bot", "metadata": service("api:read api:write") }))
        .await
        .expect(StatusCode::CREATED);
    let secret = created.text_of("/secret");
    assert_eq!(created.data()["client"]["source"], "operator");
    let path = "/clients/bot";
    let read = admin.get(path).await.expect(StatusCode::OK);
    assert_eq!(read.data(), created.data()["client"]);
    assert_eq!(read.data()["metadata"]["scope"], "api:read api:write");
    assert_eq!(
        (&read.data()["hasSecret"], &read.data()["disabledAt"]),
        (&json!(true), &Value::Null)
    );
    let first = token(&server, "bot", &secret).await.expect(StatusCode::OK).field("access_token");
    server.verify(&first).await.expect(StatusCode::OK);

    let changed = admin
        .patch_if(
            read.header("etag"),
            path,
            json!({ "metadata": { "scope": "api:read", "client_name": null } }),
        )
        .await
        .expect(StatusCode::OK);
    let metadata = &changed.data()["client"]["metadata"];
    assert_eq!(
        (&metadata["scope"], &metadata["client_name"], &metadata["grant_types"]),
        (&json!("api:read"), &json!(""), &json!(["client_credentials"]))
    );
    assert_eq!(changed.data().get("secret"), None);
    server.verify(&first).await.expect_error(401, "INVALID_TOKEN");
    let line = &admin.all("/audit?subject=bot&action=client.set").await[0];
    assert_eq!(
        line["detail"],
        json!({ "scope": { "from": "api:read api:write", "to": "api:read" }, "client_name": { "from": "A program", "to": "" } })
    );
    admin
        .patch_if(read.header("etag"), path, json!({ "metadata": {} }))
        .await
        .expect_error(412, "PRECONDITION_FAILED");
    let replaced = send(
        admin
            .request(Method::PUT, path)
            .header("if-match", changed.header("etag"))
            .json(&json!({ "metadata": service("api:write") })),
    )
    .await
    .expect(StatusCode::OK);
    assert_eq!(replaced.data()["client"]["metadata"]["client_name"], "A program");
    for (method, body) in [
        (Method::PUT, json!({ "metadata": {} })),
        (Method::PATCH, json!({ "metadata": {} })),
        (Method::DELETE, json!({})),
    ] {
        send(admin.request(method, path).json(&body))
            .await
            .expect_error(428, "PRECONDITION_REQUIRED");
    }
    for bad in [
        json!({ "scope": 1 }),
        json!({ "redirect_uris": ["javascript:alert(1)"] }),
        json!({ "surprise": true }),
        json!({ "secret_hash": "x" }),
    ] {
        admin.patch(path, json!({ "metadata": bad })).await.expect_error(400, "VALIDATION_ERROR");
    }

    let rotated = admin
        .post("/clients/bot/secret", json!({ "overlapSeconds": 60 }))
        .await
        .expect(StatusCode::OK);
    assert_ne!(rotated.header("etag"), replaced.header("etag"));
    let next = rotated.text_of("/secret");
    server.clock.advance(Duration::from_secs(2));
    for good in [&secret, &next] {
        token(&server, "bot", good).await.expect(StatusCode::OK);
    }
    server.clock.advance(Duration::from_secs(60));
    token(&server, "bot", &secret).await.expect_oauth_error(401, "invalid_client");
    let access = token(&server, "bot", &next).await.expect(StatusCode::OK).field("access_token");
    for _ in 0..2 {
        admin.post("/clients/bot/disable", json!({})).await.expect(StatusCode::OK);
    }
    server.verify(&access).await.expect_error(401, "INVALID_TOKEN");
    token(&server, "bot", &next).await.expect_oauth_error(401, "invalid_client");
    assert_eq!(admin.all("/clients?disabled=true").await.len(), 1);
    let enabled = admin.post("/clients/bot/enable", json!({})).await.expect(StatusCode::OK);
    assert_eq!(enabled.data()["disabledAt"], Value::Null);
    token(&server, "bot", &next).await.expect(StatusCode::OK);
    send(admin.request(Method::DELETE, path).header("if-match", enabled.header("etag")))
        .await
        .expect(StatusCode::OK);
    token(&server, "bot", &next).await.expect_oauth_error(401, "invalid_client");
    for reply in [
        admin.get(path).await,
        admin.delete(path).await,
        admin.patch(path, json!({ "metadata": {} })).await,
        admin.post("/clients/bot/secret", json!({})).await,
    ] {
        reply.expect_error(404, "NOT_FOUND");
    }
}

async fn clients_are_listed_by_source_and_built_ins_protected(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    for n in 0..4 {
        admin
            .post("/clients", json!({ "id": format!("bot{n}"), "metadata": service("api:read") }))
            .await
            .expect(StatusCode::CREATED);
    }
    let ids = async |path: &str| -> Vec<String> {
        admin
            .all(path)
            .await
            .iter()
            .map(|client| client["id"].as_str().expect("an id").to_owned())
            .collect()
    };
    assert_eq!(ids("/clients?source=operator").await, ["bot0", "bot1", "bot2", "bot3"]);
    assert_eq!(ids("/clients?source=built_in").await, ["propusk", "propusk-docs"]);
    assert_eq!(ids("/clients").await.len(), 6);
    admin.get("/clients?source=nobody").await.expect_error(400, "VALIDATION_ERROR");
    let path = "/clients/propusk";
    admin.delete(path).await.expect_error(409, "CONFLICT");
    admin
        .patch(path, json!({ "metadata": { "scope": "openid" } }))
        .await
        .expect_error(409, "CONFLICT");
    admin.post("/clients/propusk/disable", json!({})).await.expect_error(409, "CONFLICT");
    admin.post("/clients/propusk/secret", json!({})).await.expect_error(409, "CONFLICT");
    admin
        .post("/clients", json!({ "id": "bot0", "metadata": service("api:read") }))
        .await
        .expect_error(409, "CONFLICT");
    let twice = admin
        .request(Method::POST, "/clients")
        .header("content-type", "application/json")
        .body(r#"{"metadata":{"scope":"a","scope":"b"}}"#);
    assert_eq!(
        send(twice).await.expect_error(400, "VALIDATION_ERROR").json()["details"][0]["field"],
        "scope"
    );
    for bad in [
        json!({}),
        json!({ "id": "a b", "metadata": service("x") }),
        json!({ "metadata": { "grant_types": ["implicit"] } }),
        json!({ "metadata": [] }),
    ] {
        admin.post("/clients", bad).await.expect_error(400, "VALIDATION_ERROR");
    }
}

async fn an_idempotency_key_creates_one_client_with_one_secret(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let body = json!({ "metadata": service("api:read") });
    let replies = join_all((0..20).map(|_| admin.post_once("k", "/clients", body.clone()))).await;
    let created: BTreeSet<String> =
        replies.iter().map(|reply| reply.text_of("/client/id")).collect();
    assert_eq!(created.len(), 1);
    let secrets: Vec<_> =
        replies.iter().filter(|reply| reply.data().get("secret").is_some()).collect();
    assert_eq!(secrets.len(), 1);
    assert_eq!(
        replies.iter().filter(|reply| reply.header("idempotency-replayed") == "true").count(),
        19
    );
    token(&server, created.first().expect("one"), &secrets[0].text_of("/secret"))
        .await
        .expect(StatusCode::OK);
    assert_eq!(admin.all("/clients?source=operator").await.len(), 1);
    // A resource of another kind under the same key is another request.
    admin
        .post_once("k", "/roles", json!({ "name": "editor" }))
        .await
        .expect_error(422, "IDEMPOTENCY_KEY_REUSED");
}

async fn concurrent_client_changes_conflict_by_etag(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let created = admin
        .post("/clients", json!({ "id": "bot", "metadata": service("api:read") }))
        .await
        .expect(StatusCode::CREATED);
    let changes = (0..8).map(|n| {
        admin.patch_if(
            created.header("etag"),
            "/clients/bot",
            json!({ "metadata": { "client_name": format!("name {n}") } }),
        )
    });
    let statuses: Vec<u16> =
        join_all(changes).await.iter().map(|reply| reply.status.as_u16()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 7, "{statuses:?}");
}
