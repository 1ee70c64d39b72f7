//! Attacks on an authorization server, by the numbers of `docs/threats.md`.

mod access;
mod admin;
mod assertions;
mod back_ends;
mod browsers;
mod clients;
mod codes;
mod device;
mod dpop;
mod email;
mod exchange;
mod front_channel;
pub mod gateway;
mod grpc;
mod logins;
mod modules;
mod profile;
mod second_factors;
mod self_service;
mod sessions;

use propusk::{model::client::Metadata, storage::Statement};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    Backend, Reply, TestServer,
    oauth::{AuthorizationRequest, first_party_app},
};

/// A server with `ann` and the client `app`.
async fn with_app(backend: Backend, metadata: Metadata) -> TestServer {
    let server = TestServer::start(backend).await;
    server.client("app", metadata).await;
    server.register("ann").await;
    server
}

/// Two servers on one database, with `ann` and the first-party client `app`.
async fn two_servers(backend: Backend) -> (TestServer, TestServer) {
    let one = TestServer::start(backend).await;
    let other = one.another(&[]).await;
    one.client("app", first_party_app()).await;
    one.register("ann").await;
    (one, other)
}

/// The token response for a user who completes a client's request in a new browser.
async fn tokens(server: &TestServer, id: &str, scope: &str, name: &str) -> Reply {
    let request = AuthorizationRequest::of(id, scope);
    let answer = server.browser().authorize(&request, name).await;
    server.exchange_code(id, answer.code()).await.expect(StatusCode::OK)
}

/// The number of authorization codes ever issued.
async fn codes(server: &TestServer) -> i64 {
    let statement =
        Statement::new("SELECT count(*) AS n FROM sessions WHERE code_hash IS NOT NULL");
    let rows = server.app.db.read(statement).await.expect("rows");
    rows[0].get("n").expect("a number")
}

/// The introspection response for an invalid token.
fn inactive() -> Value {
    json!({ "active": false })
}

/// Fails the test if any of a client's tokens is still valid.
async fn assert_revoked(server: &TestServer, id: &str, tokens: &Reply) {
    let (access, refresh) = (tokens.field("access_token"), tokens.field("refresh_token"));
    assert_eq!(server.introspect(id, &access).await, inactive());
    assert_eq!(server.introspect(id, &refresh).await, inactive());
    server.get_as("/oauth2/userinfo", &access).await.expect(StatusCode::UNAUTHORIZED);
    server.refresh_as(id, &refresh).await.expect_oauth_error(400, "invalid_grant");
}

/// Fails the test unless the access token is valid.
async fn assert_active(server: &TestServer, id: &str, tokens: &Reply) {
    let access = tokens.field("access_token");
    assert_eq!(server.introspect(id, &access).await["active"], true);
    server.get_as("/oauth2/userinfo", &access).await.expect(StatusCode::OK);
}
