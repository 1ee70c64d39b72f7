//! Roles through the admin API.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Backend, TestServer, backend_tests, send};

backend_tests! {
    a_role_is_created_assigned_and_deleted_when_unused,
}

async fn a_role_is_created_assigned_and_deleted_when_unused(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = server.admin("root").await;
    let body = json!({ "name": "editor", "description": "Writes." });
    let created = admin.post_once("k", "/roles", body.clone()).await.expect(StatusCode::CREATED);
    assert_eq!((&created.data()["users"], &created.data()["builtIn"]), (&json!(0), &json!(false)));
    assert_eq!(
        admin
            .post_once("k", "/roles", body.clone())
            .await
            .expect(StatusCode::CREATED)
            .header("idempotency-replayed"),
        "true"
    );
    admin.post("/roles", body).await.expect_error(409, "CONFLICT");
    for bad in [
        json!({ "name": "Big Boss" }),
        json!({}),
        json!({ "name": "x", "description": "a\nb" }),
        json!({ "name": "x", "power": 9 }),
    ] {
        admin.post("/roles", bad).await.expect_error(400, "VALIDATION_ERROR");
    }
    admin
        .post("/users", json!({ "email": "nora@example.org", "role": "editor" }))
        .await
        .expect(StatusCode::CREATED);
    let names: Vec<Value> =
        admin.all("/roles").await.iter().map(|role| role["name"].clone()).collect();
    assert_eq!(names, ["admin", "editor", "user"]);
    let read = admin.get("/roles/editor").await.expect(StatusCode::OK);
    assert_eq!(read.data()["users"], 1);
    assert_eq!(
        read.header("etag"),
        created.header("etag"),
        "a holder of the role cannot change it"
    );

    let changed = admin
        .patch_if(
            read.header("etag"),
            "/roles/editor",
            json!({ "description": "Writes and reads." }),
        )
        .await
        .expect(StatusCode::OK);
    assert_ne!(changed.header("etag"), read.header("etag"));
    admin
        .patch_if(read.header("etag"), "/roles/editor", json!({ "description": "Sleeps." }))
        .await
        .expect_error(412, "PRECONDITION_FAILED");
    send(admin.request(Method::DELETE, "/roles/editor"))
        .await
        .expect_error(428, "PRECONDITION_REQUIRED");
    admin.delete("/roles/editor").await.expect_error(409, "CONFLICT");
    let id = admin.get("/users?role=editor").await.text_of("/items/0/id");
    admin.patch(&format!("/users/{id}"), json!({ "role": "user" })).await.expect(StatusCode::OK);
    send(admin.request(Method::DELETE, "/roles/editor").header("if-match", read.header("etag")))
        .await
        .expect_error(412, "PRECONDITION_FAILED");
    admin.delete("/roles/editor").await.expect(StatusCode::OK);
    for reply in [
        admin.get("/roles/editor").await,
        admin.delete("/roles/editor").await,
        admin.patch("/roles/editor", json!({ "description": "" })).await,
        admin.get("/roles/Big%20Boss").await,
    ] {
        reply.expect_error(404, "NOT_FOUND");
    }
    for built_in in ["user", "admin"] {
        admin.delete(&format!("/roles/{built_in}")).await.expect_error(409, "CONFLICT");
    }
    admin
        .patch(&format!("/users/{id}"), json!({ "role": "editor" }))
        .await
        .expect_error(400, "VALIDATION_ERROR");
}
