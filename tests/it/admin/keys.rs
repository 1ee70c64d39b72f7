//! Signing keys through the admin API.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Backend, TestServer, backend_tests, oauth::header, send};

/// The ids of the ES256 keys in this state.
fn signing(keys: &[Value], state: &str) -> Vec<String> {
    let fits = |key: &&Value| key["algorithm"] == "ES256" && key["state"] == state;
    let ids = keys.iter().filter(fits);
    ids.map(|key| key["id"].as_str().expect("an id").to_owned()).collect()
}

backend_tests! {
    rotated_and_banned_signing_keys_take_effect_at_once,
}

async fn rotated_and_banned_signing_keys_take_effect_at_once(backend: Backend) {
    let server = TestServer::start(backend).await;
    let other = server.another(&[]).await;
    let admin = server.admin("root").await;
    let keys = admin.all("/keys").await;
    let first = signing(&keys, "active")[0].clone();
    assert!(
        keys.iter().all(|key| key.get("privateJwe").is_none() && key["retiresAt"].is_null()),
        "{keys:?}"
    );
    let rotated = admin
        .post_once("k", "/keys/rotate", json!({ "algorithm": "ES256" }))
        .await
        .expect(StatusCode::OK);
    let next = signing(rotated.data().as_array().expect("keys"), "next");
    assert_eq!(next.len(), 1);
    let again = admin
        .post_once("k", "/keys/rotate", json!({ "algorithm": "ES256" }))
        .await
        .expect(StatusCode::OK);
    assert_eq!((again.header("idempotency-replayed"), again.data()), ("true", rotated.data()));
    admin
        .post_once("k", "/keys/rotate", json!({ "algorithm": "ES256", "atOnce": true }))
        .await
        .expect_error(422, "IDEMPOTENCY_KEY_REUSED");
    admin
        .post("/keys/rotate", json!({ "algorithm": "none" }))
        .await
        .expect_error(400, "VALIDATION_ERROR");

    let tokens = server.register("nora").await;
    assert_eq!(header(&tokens.access)["kid"], first.as_str());
    let ban = admin.post(&format!("/keys/{first}/ban"), json!({})).await.expect(StatusCode::OK);
    assert_eq!(ban.data()["key"]["state"], "banned");
    assert_eq!(ban.data()["refusedSince"], "2026-11-21T00:00:02Z");
    for server in [&other, &server] {
        server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
    }
    // The administrator's own token was signed by it.
    admin.get("/keys").await.expect_error(401, "INVALID_TOKEN");
    let admin = server.admin_as("root").await;
    assert_ne!(header(&admin.token)["kid"], first.as_str());
    admin.post(&format!("/keys/{first}/ban"), json!({})).await.expect(StatusCode::OK);
    assert_eq!(admin.all("/audit?action=keys.ban").await.len(), 1, "it was banned already");
    assert_eq!(admin.all("/revocations?kind=key").await[0]["target"], first.as_str());
    let chain = admin
        .all("/keys")
        .await
        .into_iter()
        .find(|key| key["algorithm"] == "refresh-chain")
        .expect("one");
    admin
        .post(&format!("/keys/{}/ban", chain["id"].as_str().expect("an id")), json!({}))
        .await
        .expect_error(409, "CONFLICT");
    admin.post("/keys/nothing/ban", json!({})).await.expect_error(404, "NOT_FOUND");
    send(admin.request(Method::POST, "/keys/rotate")).await.expect(StatusCode::OK);
}
