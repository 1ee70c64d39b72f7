//! PostgreSQL that falls silent, restarts, is demoted, or terminates connections.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use propusk::{
    clock::Clock,
    storage::{Row, Statement},
};
use reqwest::StatusCode;

use super::{Load, expect_unavailable, print, ready, register};
use crate::support::{
    Backend, Database, START, TestServer,
    chromium::until,
    postgres::{Postgres, at, run_beside, run_in, terminate_sessions},
    proxy::Proxy,
};

/// Short timeouts, so that the tests are short, and connections as in production.
const SETTINGS: [(&str, &str); 4] = [
    ("PROPUSK_DATABASE__MAX_CONNECTIONS", "12"),
    ("PROPUSK_DATABASE__CONNECT_TIMEOUT", "2s"),
    ("PROPUSK_DATABASE__ACQUIRE_TIMEOUT", "3s"),
    ("PROPUSK_DATABASE__STATEMENT_TIMEOUT", "2s"),
];

/// The defaults, which the tests' own settings override.
const DEFAULTS: [(&str, &str); 4] = [
    ("PROPUSK_DATABASE__MAX_CONNECTIONS", "12"),
    ("PROPUSK_DATABASE__CONNECT_TIMEOUT", "3s"),
    ("PROPUSK_DATABASE__ACQUIRE_TIMEOUT", "3s"),
    ("PROPUSK_DATABASE__STATEMENT_TIMEOUT", "3s"),
];

/// A server whose connections to its database go through a proxy.
async fn behind_a_proxy(settings: &[(&str, &str)]) -> (TestServer, Proxy) {
    let mut database = Database::prepared(Backend::Postgres).await;
    let url = url::Url::parse(database.url.as_ref().expect("a URL")).expect("a URL");
    let proxy = Proxy::start(format!("127.0.0.1:{}", url.port().expect("a port"))).await;
    database.url = Some(at(url.as_str(), proxy.address.port()));
    let server = TestServer::on(Arc::new(database), Clock::fake(START), settings).await;
    (server, proxy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn silent_connections_are_replaced_within_five_seconds() {
    let (server, proxy) = behind_a_proxy(&DEFAULTS).await;
    let load = Load::start(&server, 6).await;
    load.recovered(load.elapsed()).await;
    let fault = load.elapsed();
    proxy.silence();
    let recovered = load.recovered(fault).await;
    let first = load.first_success(fault) - fault;
    assert!(first < Duration::from_secs(5), "{first:?}");
    print(&format!("silent connections: first success after {:.2} s", first.as_secs_f64()));
    load.finish(&server, "silent connections", fault, recovered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn a_silent_server_is_answered_503_and_used_once_it_is_back() {
    let (server, proxy) = behind_a_proxy(&SETTINGS).await;
    let tokens = server.register("ann").await;
    let load = Load::start(&server, 4).await;
    load.recovered(load.elapsed()).await;
    let silent = load.elapsed();
    proxy.silence_all();
    load.not_ready(silent).await;
    let (login, registration) = (server.login("ann"), register(&server, "bob"));
    let (verification, refresh) = (server.verify(&tokens.access), server.refresh(&tokens.refresh));
    let replies = tokio::join!(login, registration, verification, refresh);
    [replies.0, replies.1, replies.2, replies.3].into_iter().for_each(expect_unavailable);
    let fault = load.elapsed();
    proxy.open();
    let recovered = load.recovered(fault).await;
    load.finish(&server, "silent server, back", fault, recovered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn a_server_that_refuses_connections_is_used_once_it_accepts() {
    let (server, proxy) = behind_a_proxy(&SETTINGS).await;
    let load = Load::start(&server, 4).await;
    load.recovered(load.elapsed()).await;
    let refused = load.elapsed();
    proxy.refuse();
    load.not_ready(refused).await;
    expect_unavailable(server.login("user0").await);
    let fault = load.elapsed();
    proxy.open();
    let recovered = load.recovered(fault).await;
    load.finish(&server, "refused connections, accepted again", fault, recovered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn a_restart_loses_nothing_that_was_acknowledged() {
    let mut postgres = Postgres::start().await;
    let database = Database { url: Some(postgres.url()), ..Database::new(Backend::Sqlite).await };
    let mut settings = SETTINGS.to_vec();
    settings.extend([
        ("PROPUSK_KEYS__ALGORITHMS", "ES256"),
        ("PROPUSK_TOKENS__SIGNING_ALGORITHM", "ES256"),
    ]);
    let server = TestServer::on(Arc::new(database), Clock::fake(START), &settings).await;
    let load = Load::start(&server, 4).await;
    load.recovered(load.elapsed()).await;
    let mut fault = load.elapsed();
    let mut recovered = fault;
    for by in ["INT", "QUIT"] {
        let stopped = load.elapsed();
        postgres.stop(by).await;
        load.not_ready(stopped).await;
        expect_unavailable(server.login("user0").await);
        postgres.start_again().await;
        fault = load.elapsed();
        recovered = load.recovered(fault).await;
    }
    load.finish(&server, "fast shutdown and crash, started again", fault, recovered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn terminated_connections_fail_at_most_one_request() {
    let server = TestServer::with(Backend::Postgres, &SETTINGS).await;
    let url = server.database.url.clone().expect("a URL");
    let mut tokens = server.register("ann").await;
    let mut failures = [0; 3];
    let mut terminated = 0;
    for _ in 0..5 {
        // All connections are in use once.
        join_all((0..24).map(|_| server.login("ann"))).await;
        terminated += terminate_sessions(&url).await;
        let before: usize = failures.iter().sum();
        for _ in 0..12 {
            let refreshed = server.refresh(&tokens.refresh).await;
            if refreshed.status == StatusCode::OK {
                tokens = refreshed.tokens();
            } else {
                expect_unavailable(refreshed);
                failures[2] += 1;
            }
            let (verified, logged_in) = (server.verify(&tokens.access), server.login("ann"));
            for (kind, reply) in [verified.await, logged_in.await].into_iter().enumerate() {
                if reply.status != StatusCode::OK {
                    expect_unavailable(reply);
                    failures[kind] += 1;
                }
            }
        }
        let failed = failures.iter().sum::<usize>() - before;
        assert!(failed <= 1, "{failures:?}");
    }
    print(&format!("{terminated} terminated connections: failed {failures:?}"));
    // Reads are run again, and a transaction begins on another connection.
    assert_eq!(failures[..2], [0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn a_read_only_server_is_not_ready_and_its_connections_are_dropped() {
    let server = TestServer::with(Backend::Postgres, &SETTINGS).await;
    let url = server.database.url.clone().expect("a URL");
    let tokens = server.register("ann").await;
    ready(&server).await.expect(StatusCode::OK);

    run_beside(&url, "ALTER DATABASE {} SET default_transaction_read_only = on").await;
    terminate_sessions(&url).await;
    // Every connection is opened again, by a session that cannot write.
    for _ in 0..3 {
        let names: Vec<_> = (0..12).map(|n| format!("bob{n}")).collect();
        let replies = join_all(names.iter().map(|name| register(&server, name))).await;
        replies.into_iter().for_each(expect_unavailable);
    }
    until("it is not ready", || async {
        (ready(&server).await.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    expect_unavailable(ready(&server).await);
    expect_unavailable(server.login("ann").await);
    server.verify(&tokens.access).await.expect(StatusCode::OK);

    // Only new sessions can write again: those that were refused must not be kept.
    run_beside(&url, "ALTER DATABASE {} RESET default_transaction_read_only").await;
    let mut failures = 0;
    while register(&server, &format!("carl{failures}")).await.status != StatusCode::CREATED {
        failures += 1;
        assert!(failures <= 12, "connections that cannot write were kept");
    }
    until("it is ready", || async {
        (ready(&server).await.status == StatusCode::OK).then_some(())
    })
    .await;
    print(&format!("read-only, writable again: failed {failures} registrations"));
}

/// PostgreSQL reports a full disk as SQLSTATE 53100; triggers do so here, since filling a disk of its
/// own would need a mount.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn a_full_server_is_answered_503_until_it_has_room() {
    let server = TestServer::with(Backend::Postgres, &SETTINGS).await;
    let url = server.database.url.clone().expect("a URL");
    let tokens = server.register("ann").await;
    ready(&server).await.expect(StatusCode::OK);
    run_in(
        &url,
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         RAISE EXCEPTION 'could not extend file: No space left on device' \
         USING ERRCODE = '53100'; END $$",
    )
    .await;
    let tables = ["users", "sessions", "outbox", "denied_requests"];
    for table in tables {
        let trigger = format!("CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON {table}");
        run_in(&url, &format!("{trigger} FOR EACH ROW EXECUTE FUNCTION no_room()")).await;
    }
    let replies = join_all((0..8).map(|_| register(&server, "bob"))).await;
    replies.into_iter().for_each(expect_unavailable);
    expect_unavailable(server.refresh(&tokens.refresh).await);
    expect_unavailable(server.login("ann").await);
    server.verify(&tokens.access).await.expect(StatusCode::OK);
    until("it is not ready", || async {
        (ready(&server).await.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;

    for table in tables {
        run_in(&url, &format!("DROP TRIGGER full_disk ON {table}")).await;
    }
    // Nothing was half done: the name is free, and the refresh token is unused.
    assert_eq!(register(&server, "bob").await.status, StatusCode::CREATED);
    server.refresh(&tokens.refresh).await.expect(StatusCode::OK);
    until("it is ready", || async {
        (ready(&server).await.status == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn connections_have_a_maximum_age() {
    let settings = [("PROPUSK_DATABASE__MAX_LIFETIME", "1ms")];
    let server = TestServer::with(Backend::Postgres, &settings).await;
    let db = &server.app.db;
    let statement = || Statement::new("SELECT CAST(pg_backend_pid() AS BIGINT) AS pid");
    let pid = |rows: Vec<Row>| rows[0].get::<i64>("pid").expect("a number");
    let (mut reading, mut writing) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..20 {
        reading.insert(pid(db.read(statement()).await.expect("the database answers")));
        let mut tx = db.begin().await.expect("a transaction");
        writing.insert(pid(tx.run(statement()).await.expect("the database answers")));
        tx.commit().await.expect("committed");
    }
    // There are eight connections in all.
    assert!(reading.len() > 8 && writing.len() > 8, "{reading:?} {writing:?}");
}
