//! Deliveries of logout tokens: no client delays another one's.

use std::time::Duration;

use propusk::{
    model::client::{Metadata, Source},
    storage::Statement,
};
use reqwest::StatusCode;

use crate::support::{
    Backend, TestServer, backend_tests,
    external_server::ExternalServer,
    oauth::{AuthorizationRequest, Browser, first_party_app},
};

backend_tests! {
    t101_silent_clients_do_not_delay_the_logout_of_another,
    t101_a_client_that_fails_backs_off_alone,
    a_clock_that_was_ahead_delays_no_delivery,
}

/// A server on which outbound requests outlast every wait of these tests.
async fn start(backend: Backend, external: &ExternalServer) -> TestServer {
    let settings = external.settings();
    let mut settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    settings.push(("PROPUSK_OUTBOUND__TIMEOUT", "10m"));
    let server = TestServer::with(backend, &settings).await;
    server.register("ann").await;
    server
}

/// A client that is told of logouts at `/{id}`.
async fn client(server: &TestServer, external: &ExternalServer, id: &str) {
    let uri = Some(format!("{}/{id}", external.base));
    server.client(id, Metadata { backchannel_logout_uri: uri, ..first_party_app() }).await;
}

async fn sessions(browser: &mut Browser<'_>, id: &str, count: usize) {
    for _ in 0..count {
        let answer = browser.authorize(&AuthorizationRequest::of(id, "openid"), "ann").await;
        let code = answer.code();
        browser.server.exchange_code(id, code).await.expect(StatusCode::OK);
    }
}

async fn log_out(browser: &mut Browser<'_>) {
    let page = browser.open("/oauth2/logout").await.expect(StatusCode::OK);
    browser.submit(&page, &[("decision", "logout")]).await.expect(StatusCode::OK);
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect(what);
}

async fn t101_silent_clients_do_not_delay_the_logout_of_another(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = start(backend, &external).await;
    let mut ann = server.logged_in("ann").await;
    // More sessions than the server has deliveries at a time, and more clients than workers.
    client(&server, &external, "silent").await;
    external.silence("/silent");
    sessions(&mut ann, "silent", 20).await;
    for n in 0..12 {
        let id = format!("self{n}");
        client(&server, &external, &id).await;
        external.silence(&format!("/{id}"));
        sessions(&mut ann, &id, 1).await;
        server.change_client(&id, |client| client.source = Source::Registration).await;
    }
    client(&server, &external, "other").await;
    external.put("/other", 200, "", "");
    sessions(&mut ann, "other", 40).await;
    log_out(&mut ann).await;
    until("all of the other client's are delivered", async || external.count("/other") == 40).await;
    until("the silent one is asked", async || external.count("/silent") == 2).await;
}

async fn a_clock_that_was_ahead_delays_no_delivery(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = start(backend, &external).await;
    let now = server.clock.now();
    for (id, status) in [("failing", 500), ("refusing", 400)] {
        client(&server, &external, id).await;
        external.put(&format!("/{id}"), status, "", "");
    }
    server.clock.set(now + Duration::from_secs(365 * 86_400));
    let mut ann = server.logged_in("ann").await;
    for id in ["failing", "refusing"] {
        sessions(&mut ann, id, 1).await;
    }
    log_out(&mut ann).await;
    let postponed = async || {
        // The lease of a delivery that is under way lasts for a minute.
        let statement =
            Statement::new("SELECT id FROM logout_deliveries WHERE next_attempt_at = $1");
        let after_a_pause = server.clock.now() + Duration::from_secs(5);
        server.app.db.read(statement.bind(after_a_pause)).await.expect("rows").len() == 2
    };
    until("both are to be told later", postponed).await;
    for id in ["failing", "refusing"] {
        external.put(&format!("/{id}"), 200, "", "");
    }
    server.clock.set(now);
    for id in ["failing", "refusing"] {
        until("it is told again", async || {
            server.app.logouts_waiting.notify_one();
            external.count(&format!("/{id}")) == 2
        })
        .await;
    }
}

async fn t101_a_client_that_fails_backs_off_alone(backend: Backend) {
    let external = ExternalServer::start().await;
    let server = start(backend, &external).await;
    for id in ["failing", "other"] {
        client(&server, &external, id).await;
    }
    external.put("/failing", 500, "", "");
    external.put("/other", 200, "", "");
    let is_backing_off = async || {
        let statement = Statement::new("SELECT failures FROM logout_back_offs");
        let rows = server.app.db.read(statement).await.expect("rows");
        let failures = rows.iter().map(|row| row.get::<i64>("failures").expect("a number"));
        failures.eq([1])
    };
    for round in 1..=3 {
        let mut ann = server.logged_in("ann").await;
        for id in ["failing", "other"] {
            sessions(&mut ann, id, 1).await;
        }
        log_out(&mut ann).await;
        until("the other is told at once", async || external.count("/other") == round).await;
        until("the failing one backs off", &is_backing_off).await;
        assert_eq!(external.count("/failing"), 1, "nothing is sent to it meanwhile");
    }
    external.put("/failing", 200, "", "");
    server.clock.advance(Duration::from_secs(5));
    server.app.logouts_waiting.notify_one();
    until("it is told of all three", async || external.count("/failing") == 4).await;
    until("and is no more backing off", async || !is_backing_off().await).await;
    until("nothing is left", async || {
        let left = Statement::new("SELECT id FROM logout_deliveries");
        server.app.db.read(left).await.expect("rows").is_empty()
    })
    .await;
}
