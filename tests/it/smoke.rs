//! The main path of the first-party API: register, log in, verify, refresh, log out.

use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Backend, PASSWORD, TestServer, backend_tests};

backend_tests! {
    a_user_registers_logs_in_refreshes_and_logs_out,
}

async fn a_user_registers_logs_in_refreshes_and_logs_out(backend: Backend) {
    let server = TestServer::start(backend).await;
    let first = server.register("vera").await;
    server.verify(&first.access).await.expect(StatusCode::OK);
    let again = json!({ "email": "VERA@example.org", "username": "vera", "password": PASSWORD });
    server.post("/api/v1/auth/register", again).await.expect_error(409, "EMAIL_ALREADY_EXISTS");
    let other = json!({ "email": "vera2@example.org", "username": "Vera", "password": PASSWORD });
    server.post("/api/v1/auth/register", other).await.expect_error(409, "USERNAME_ALREADY_EXISTS");

    server.login("vera").await.expect(StatusCode::OK);
    let tokens = server.login(" Vera@Example.org ").await.expect(StatusCode::OK).tokens();
    let next = server.refresh(&tokens.refresh).await.expect(StatusCode::OK).tokens();
    assert_ne!(next.refresh, tokens.refresh);
    let retry = server.refresh(&tokens.refresh).await.expect(StatusCode::OK).tokens();
    assert_eq!(retry.refresh, next.refresh, "a retry gets the same successor");

    server.post_as("/api/v1/auth/logout", &next.access).await.expect(StatusCode::OK);
    server.verify(&next.access).await.expect_error(401, "INVALID_TOKEN");
    server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
    server.refresh(&next.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
    server.verify(&first.access).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_server_shuts_down_cleanly() {
    TestServer::start(Backend::Sqlite).await.stop().await;
}
