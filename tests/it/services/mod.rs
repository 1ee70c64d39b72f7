//! Customer services: their tokens for back ends, and their data for users. The service is a
//! process of its own.

mod documentation;
mod revocations;
mod tokens;
mod users;

use propusk::{
    clock::{Clock, Timestamp},
    model::client::{GrantType, Metadata},
    oauth::scope::Scope,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Backend, Reply, START, TestServer,
    chromium::until,
    customer_service::CustomerService,
    oauth::{SECRET, web_app},
    send,
};

/// A back end that may have tokens of services.
fn back_end() -> Metadata {
    Metadata {
        scope: Scope::parse("propusk:services").expect("a scope"),
        redirect_uris: vec![],
        post_logout_redirect_uris: vec![],
        grant_types: vec![GrantType::ClientCredentials],
        ..web_app()
    }
}

/// A server with the service `crm`, and the back end `shop`, which may have its tokens.
async fn with_service(
    backend: Backend,
    service: &CustomerService,
    more: &[(&str, &str)],
) -> TestServer {
    let settings = service.settings(more);
    let settings: Vec<_> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let server = TestServer::with_grpc(backend, &settings).await;
    server.client("shop", back_end()).await;
    service.set(json!({ "skew": skew() })).await;
    server
}

/// By how many seconds the clock of these tests is ahead of the service's.
fn skew() -> i64 {
    START.as_secs() - Clock::system().now().as_secs()
}

/// What a back end gets as a token of the service.
async fn token_as(server: &TestServer, client: &str, body: Value) -> Reply {
    let request = server.request(Method::POST, "/api/v1/services/crm/token");
    send(request.basic_auth(client, Some(SECRET)).json(&body)).await
}

/// A token of the service.
#[track_caller]
fn access_token(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{reply:?}");
    let data = &reply.json()["data"];
    assert_eq!(data.as_object().expect("an object").len(), 3, "{reply:?}");
    data["accessToken"].as_str().expect("a token").to_owned()
}

async fn token(server: &TestServer) -> Reply {
    token_as(server, "shop", json!({})).await
}

/// The answer about the user of an access token.
async fn profile(server: &TestServer, access_token: &str) -> Reply {
    server.get_as("/api/v1/services/crm/resources/profile", access_token).await
}

/// Waits until the service was asked for so many tokens, and answered.
async fn wait_for_requests(service: &CustomerService, count: usize) {
    until("a token request", || async {
        let state = service.state().await;
        let requests = state["tokenRequests"].as_array().expect("a list").len();
        assert!(requests <= count, "{requests} token requests instead of {count}");
        (requests == count && state["running"] == 0).then_some(())
    })
    .await;
}

/// All columns of the stored tokens.
async fn stored(server: &TestServer) -> Vec<(String, Option<String>)> {
    let statement = propusk::storage::Statement::new(
        "SELECT subject, sealed FROM service_tokens ORDER BY subject",
    );
    let rows = server.app.db.read(statement).await.expect("rows");
    rows.iter()
        .map(|row| (row.get("subject").expect("text"), row.get("sealed").expect("text")))
        .collect()
}

/// The time a test is at.
fn seconds_later(server: &TestServer, seconds: u64) -> Timestamp {
    server.clock.advance(std::time::Duration::from_secs(seconds));
    server.clock.now()
}
