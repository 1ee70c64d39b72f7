//! PgBouncer in transaction mode between the server and PostgreSQL.

use std::sync::Arc;

use futures_util::future::join_all;
use propusk::clock::Clock;
use reqwest::StatusCode;

use super::print;
use crate::support::{
    Backend, Database, START, TestServer,
    oauth::{AuthorizationRequest, web_app},
    postgres::PgBouncer,
};

const SETTINGS: [(&str, &str); 3] = [
    ("PROPUSK_DATABASE__PREPARED_STATEMENTS", "false"),
    ("PROPUSK_KEYS__ALGORITHMS", "ES256"),
    ("PROPUSK_TOKENS__SIGNING_ALGORITHM", "ES256"),
];

/// A login, the code flow, refreshes and a logout, by a user of their own.
async fn everything(server: &TestServer, name: &str) {
    let tokens = server.register(name).await;
    server.verify(&tokens.access).await.expect(StatusCode::OK);
    let tokens = server.refresh(&tokens.refresh).await.expect(StatusCode::OK).tokens();
    let request = AuthorizationRequest::of("app", "openid email offline_access api:read");
    let answer = server.browser().authorize(&request, name).await;
    let reply = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    let refresh_token = reply.field("refresh_token");
    let reply = server.refresh_as("app", &refresh_token).await.expect(StatusCode::OK);
    assert_eq!(server.introspect("app", &reply.field("access_token")).await["active"], true);
    server.login(name).await.expect(StatusCode::OK);
    server.post_as("/api/v1/auth/logout", &tokens.access).await.expect(StatusCode::OK);
    server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL and PgBouncer: run ./dev/test"]
async fn pgbouncer_in_transaction_mode_serves_two_processes() {
    let mut database = Database::new(Backend::Postgres).await;
    let direct = database.url.clone().expect("a URL");
    // Fewer connections than the processes have: each statement may meet another one.
    let bouncer = PgBouncer::start(&direct, 3).await;
    database.url = Some(bouncer.url(&direct));
    let database = Arc::new(database);
    // The first one migrates through the pooler; the second one meets what it has left.
    let one = TestServer::on(Arc::clone(&database), Clock::fake(START), &SETTINGS).await;
    let other = one.another(&SETTINGS).await;
    one.client("app", web_app()).await;
    for round in 0..3 {
        let users = (0..4).flat_map(|n| [(&one, n), (&other, n + 4)]);
        let users = users.map(|(server, n)| async move {
            everything(server, &format!("user{round}x{n}")).await;
        });
        join_all(users).await;
    }
    print("PgBouncer in transaction mode: 24 users, 3 connections, no error");
}
