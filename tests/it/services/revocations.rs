//! What is removed here is revoked at the service (RFC 7009).

use std::time::Duration;

use propusk::{
    flows::admin::{access::Precondition, users},
    model::actor::Actor,
    storage::Statement,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{
    users::{CONNECTED, audited, begin, connect, decide, expect_notice, id_of, token_of},
    with_service,
};
use crate::support::{
    Backend, TestServer, backend_tests, chromium::until, customer_service::CustomerService,
    oauth::Browser,
};

backend_tests! {
    requires "Node.js":
    t227_a_removed_token_is_revoked_at_its_service,
    t228_a_service_that_revokes_nothing_delays_nothing,
}

/// A service at which users connect accounts, with a revocation endpoint.
async fn revocable(backend: Backend, service: &CustomerService) -> TestServer {
    let more = [&CONNECTED[..], &[("REVOCATION_URL", "/revoke"), ("TIMEOUT", "2s")]].concat();
    with_service(backend, service, &more).await
}

/// Removes the user's connection on the page.
async fn disconnect(browser: &mut Browser<'_>) {
    let page = browser.open("/services").await.expect(StatusCode::OK);
    expect_notice(browser.submit(&page, &[]).await, "removed");
}

async fn log_out(browser: &mut Browser<'_>) {
    let page = browser.open("/oauth2/logout").await.expect(StatusCode::OK);
    browser.submit(&page, &[("decision", "logout")]).await;
}

/// The attempts and the seconds until the next one of the revocation that waits.
async fn waiting(server: &TestServer) -> Option<(i64, i64)> {
    let statement = Statement::new("SELECT attempts, next_attempt_at FROM service_revocations");
    let rows = server.app.db.read(statement).await.expect("rows");
    let row = rows.first()?;
    let at: i64 = row.get("next_attempt_at").expect("a time");
    let seconds = (at - server.clock.now().micros()) / 1_000_000;
    Some((row.get("attempts").expect("a number"), seconds))
}

async fn until_waiting(server: &TestServer, expected: Option<(i64, i64)>) {
    let what = format!("{expected:?}");
    until(&what, || async { (waiting(server).await == expected).then_some(()) }).await;
}

/// The next attempt is due.
fn later(server: &TestServer, seconds: u64) {
    server.clock.advance(Duration::from_secs(seconds));
    server.app.services.revocations_waiting.notify_one();
}

async fn until_revoked(service: &CustomerService, count: u64) {
    until(&format!("{count} revoked"), || async {
        (service.state().await["revokedFamilies"] == count).then_some(())
    })
    .await;
}

async fn t227_a_removed_token_is_revoked_at_its_service(backend: Backend) {
    let service = CustomerService::start().await;
    let server = revocable(backend, &service).await;
    server.register("ann").await;
    let ann = id_of(&server, "ann").await;
    let mut browser = server.logged_in("ann").await;
    connect(&mut browser, &service).await;
    assert_eq!(waiting(&server).await, None);
    service.set(json!({ "revocation": { "mode": 503 } })).await;
    disconnect(&mut browser).await;
    until_waiting(&server, Some((1, 5))).await;
    assert_eq!(service.state().await["revokedFamilies"], 0);
    service.set(json!({ "revocation": { "mode": "ok" } })).await;
    later(&server, 5);
    until_revoked(&service, 1).await;
    until_waiting(&server, None).await;
    let by_service = ("service.revoked".to_owned(), "service:crm".to_owned());
    let actions = ["connected", "disconnected"].map(|one| (format!("service.{one}"), ann.clone()));
    assert_eq!(audited(&server).await, [&actions[..], &[by_service]].concat());

    // The session ends, and the user is deleted.
    connect(&mut browser, &service).await;
    log_out(&mut browser).await;
    until_revoked(&service, 2).await;
    let mut browser = server.logged_in("ann").await;
    connect(&mut browser, &service).await;
    users::delete(&server.app, &ann.as_str().into(), &Precondition::Any, &Actor::operator())
        .await
        .expect("gone");
    until_revoked(&service, 3).await;

    // The service issues a token to a user who has logged out meanwhile.
    server.register("eve").await;
    let mut browser = server.logged_in("eve").await;
    let callback = decide(&service, &begin(&mut browser).await, "allow").await;
    service.set(json!({ "token": { "delay": 1_000 } })).await;
    let before = service.token_requests().await;
    let mut other = Browser { server: &server, cookies: browser.cookies.clone() };
    let leave = async {
        until("the request", || async { (service.token_requests().await > before).then_some(()) })
            .await;
        log_out(&mut other).await;
    };
    let (reply, ()) = tokio::join!(browser.open(&callback), leave);
    expect_notice(reply, "failed");
    until_revoked(&service, 4).await;
    until_waiting(&server, None).await;
    let hints = service.state().await["revocationRequests"].clone();
    assert_eq!(hints, Value::from(vec!["refresh_token"; 5]));
}

async fn t228_a_service_that_revokes_nothing_delays_nothing(backend: Backend) {
    let service = CustomerService::start().await;
    let server = revocable(backend, &service).await;
    server.register("ann").await;
    let ann = id_of(&server, "ann").await;
    let mut browser = server.logged_in("ann").await;
    connect(&mut browser, &service).await;
    service.set(json!({ "revocation": { "mode": "slow" } })).await;
    disconnect(&mut browser).await;
    // The answer came before the first attempt has ended.
    assert!(waiting(&server).await.is_some_and(|(_, seconds)| seconds != 5));
    token_of(&server, &ann).await.expect_error(409, "SERVICE_NOT_CONNECTED");
    until_waiting(&server, Some((1, 5))).await;
    let ways = [(json!("drop"), 5, 30), (json!(429), 30, 120), (json!("redirect"), 120, 600)];
    for (n, (mode, wait, next)) in (2..).zip(ways.into_iter().chain([(json!(401), 600, 3_600)])) {
        service.set(json!({ "revocation": { "mode": mode } })).await;
        later(&server, wait);
        until_waiting(&server, Some((n, next))).await;
    }
    // The last attempt.
    later(&server, 3_600);
    until_waiting(&server, None).await;
    let state = service.state().await;
    assert_eq!(state["revocationRequests"].as_array().map(Vec::len), Some(6));
    assert_eq!(state["revokedFamilies"], 0);
    let last = audited(&server).await.pop().expect("an entry");
    assert_eq!(last.0, "service.revocation_abandoned");
    let metrics = server.app.metrics.render();
    for (outcome, count) in [("timeout", 1), ("unavailable", 2), ("failed", 3)] {
        let line = format!("service=\"crm\",outcome=\"{outcome}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
}
