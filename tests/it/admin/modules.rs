//! Modules and their grants through the admin API.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Backend, TestServer, backend_tests, oauth::payload, send};

fn crm(scopes: &[&str]) -> Value {
    json!({ "names": { "en": "Customers", "ru": "Клиенты" }, "descriptions": { "en": "All about them" }, "scopes": scopes })
}

backend_tests! {
    a_module_is_created_granted_withdrawn_and_audited,
    a_reduced_or_deleted_module_is_refused_at_once,
}

async fn a_module_is_created_granted_withdrawn_and_audited(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let root = admin.get("/users?username=root").await.text_of("/items/0/id");
    let body = json!({ "id": "crm", "settings": crm(&["crm:read", "crm:write"]) });
    let created = admin.post_once("k", "/modules", body.clone()).await.expect(StatusCode::CREATED);
    assert_eq!(created.data()["selfService"], false);
    let again = admin.post_once("k", "/modules", body.clone()).await.expect(StatusCode::CREATED);
    assert_eq!((again.header("idempotency-replayed"), again.data()), ("true", created.data()));
    admin.post("/modules", body).await.expect_error(409, "CONFLICT");
    assert_eq!(admin.get("/modules/crm").await.data(), created.data());

    server.register("nora").await;
    let nora = admin.get("/users?username=nora").await.text_of("/items/0/id");
    let path = format!("/users/{nora}/grants/crm");
    let put = async |body: Value| send(admin.request(Method::PUT, &path).json(&body)).await;
    let granted =
        put(json!({ "validUntil": "2026-12-01T00:00:00+00:00" })).await.expect(StatusCode::OK);
    let grant = granted.data();
    assert_eq!(
        (&grant["moduleId"], &grant["grantedBy"], &grant["validUntil"], &grant["isClosed"]),
        (&json!("crm"), &json!(root), &json!("2026-12-01T00:00:00Z"), &json!(false))
    );
    assert_eq!(
        put(json!({ "validUntil": "2026-12-01T00:00:00Z" })).await.data(),
        grant,
        "a repeated grant records nothing"
    );
    let tokens = server.login("nora").await.expect(StatusCode::OK).tokens();
    let scope = payload(&tokens.access)["scope"].as_str().expect("a scope").to_owned();
    assert!(scope.contains("crm:write"), "{scope}");
    assert_eq!(admin.all("/modules/crm/grants").await, std::slice::from_ref(&grant));
    assert_eq!(admin.get(&format!("/users/{nora}/grants")).await.data(), json!([grant]));

    server.clock.advance(Duration::from_secs(3_600));
    let admin = server.admin_as("root").await;
    for _ in 0..2 {
        send(admin.request(Method::DELETE, &path)).await.expect(StatusCode::OK);
    }
    server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
    assert_eq!(admin.get(&format!("/users/{nora}/grants")).await.data(), json!([]));
    let then = admin.get(&format!("/users/{nora}/grants?at=2026-11-21T00:30:00Z")).await.data();
    assert_eq!((&then[0]["moduleId"], &then[0]["endedBy"]), (&json!("crm"), &json!(root)));
    for _ in 0..3 {
        server.clock.advance(Duration::from_secs(60));
        send(admin.request(Method::PUT, &path).json(&json!({}))).await.expect(StatusCode::OK);
        server.clock.advance(Duration::from_secs(60));
        send(admin.request(Method::DELETE, &path)).await.expect(StatusCode::OK);
    }
    let history = admin.all(&format!("/users/{nora}/grant-history")).await;
    assert_eq!(history.len(), 4);
    assert!(history.iter().all(|grant| grant["isClosed"] == true));
    assert!(
        history.is_sorted_by(|a, b| a["validFrom"].as_str() > b["validFrom"].as_str()),
        "the newest first: {history:?}"
    );
    let actions: Vec<Value> = admin
        .all(&format!("/audit?subject={nora}&actor={root}"))
        .await
        .iter()
        .map(|line| line["action"].clone())
        .collect();
    assert_eq!(actions.len(), 8);

    for (path, code) in [
        (format!("/users/{nora}/grants/nothing"), "MODULE_NOT_FOUND"),
        ("/users/nobody/grants/crm".to_owned(), "NOT_FOUND"),
    ] {
        send(admin.request(Method::PUT, &path).json(&json!({}))).await.expect_error(404, code);
        send(admin.request(Method::DELETE, &path)).await.expect_error(404, code);
    }
    for bad in [
        json!({ "validUntil": "soon" }),
        json!({ "validUntil": "2020-01-01T00:00:00Z" }),
        json!({ "until": "2027-01-01T00:00:00Z" }),
    ] {
        send(admin.request(Method::PUT, &path).json(&bad))
            .await
            .expect_error(400, "VALIDATION_ERROR");
    }
    for path in ["/users/nobody/grants", "/users/nobody/grant-history"] {
        admin.get(path).await.expect_error(404, "NOT_FOUND");
    }
}

async fn a_reduced_or_deleted_module_is_refused_at_once(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let created = admin
        .post("/modules", json!({ "id": "crm", "settings": crm(&["crm:read", "crm:write"]) }))
        .await
        .expect(StatusCode::CREATED);
    admin
        .post("/modules", json!({ "id": "wiki", "settings": crm(&["wiki:read"]) }))
        .await
        .expect(StatusCode::CREATED);
    server.register("nora").await;
    let nora = admin.get("/users?username=nora").await.text_of("/items/0/id");
    for module in ["crm", "wiki"] {
        send(
            admin.request(Method::PUT, &format!("/users/{nora}/grants/{module}")).json(&json!({})),
        )
        .await
        .expect(StatusCode::OK);
    }
    let tokens = server.login("nora").await.expect(StatusCode::OK).tokens();
    let put = async |etag: &str, settings: Value| {
        send(admin.request(Method::PUT, "/modules/crm").header("if-match", etag).json(&settings))
            .await
    };
    let changed = put(created.header("etag"), crm(&["crm:read"])).await.expect(StatusCode::OK);
    assert_eq!(changed.data()["scopes"], json!(["crm:read"]));
    put(created.header("etag"), crm(&["crm:read"])).await.expect_error(412, "PRECONDITION_FAILED");
    server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
    send(admin.request(Method::PUT, "/modules/crm").json(&crm(&["crm:read"])))
        .await
        .expect_error(428, "PRECONDITION_REQUIRED");
    for bad in [
        crm(&[]),
        crm(&["openid"]),
        crm(&["propusk:admin"]),
        crm(&["a b"]),
        json!({ "names": {}, "scopes": ["crm:read"] }),
        json!({ "scopes": ["crm:read"] }),
    ] {
        put("*", bad).await.expect_error(400, "VALIDATION_ERROR");
    }
    server.clock.advance(Duration::from_secs(3));
    let tokens = server.refresh(&tokens.refresh).await.expect(StatusCode::OK).tokens();
    server.verify(&tokens.access).await.expect(StatusCode::OK);
    assert_eq!(admin.all("/modules").await.len(), 2);
    admin.delete("/modules/wiki").await.expect(StatusCode::OK);
    server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
    admin.get("/modules/wiki").await.expect_error(404, "MODULE_NOT_FOUND");
    admin.delete("/modules/wiki").await.expect_error(404, "MODULE_NOT_FOUND");
    send(
        admin
            .request(Method::PUT, "/modules/wiki")
            .header("if-match", "*")
            .json(&crm(&["wiki:read"])),
    )
    .await
    .expect_error(404, "MODULE_NOT_FOUND");
    admin.get("/modules/wiki/grants").await.expect_error(404, "MODULE_NOT_FOUND");
    let detail = admin.all("/audit?action=module.put").await[0]["detail"].clone();
    assert_eq!(
        (&detail["before"]["scope"], &detail["after"]["scope"]),
        (&json!("crm:read crm:write"), &json!("crm:read"))
    );
}
