//! An SQLite file on a disk that is full, locked by another program, or read-only; and keys that
//! cannot sign.

use propusk::{
    clock::Clock,
    storage::{Db, Statement},
};
use reqwest::StatusCode;
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{expect_unavailable, now, print, ready, register};
use crate::support::{
    Backend, Database, PASSWORD, START, TestServer, backend_tests, chromium::until,
    process::Process,
};

async fn not_ready(server: &TestServer) {
    until("it is not ready", || async {
        (ready(server).await.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
}

async fn ready_again(server: &TestServer) {
    until("it is ready", || async { (ready(server).await.status == StatusCode::OK).then_some(()) })
        .await;
}

/// Runs a statement on the connection that writes.
async fn write(db: &Db, sql: &'static str) {
    db.write(Statement::new(sql)).await.expect(sql);
}

/// Another program that holds the lock for writing.
async fn lock(database: &Database) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(database.folder.path().join("propusk.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.expect("the file opens");
    sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.expect("the lock");
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_disk_is_answered_503() {
    let server = TestServer::start(Backend::Sqlite).await;
    let tokens = server.register("ann").await;
    write(&server.app.db, "PRAGMA query_only = on").await;
    not_ready(&server).await;
    expect_unavailable(register(&server, "bob").await);
    expect_unavailable(server.login("ann").await);
    server.verify(&tokens.access).await.expect(StatusCode::OK);
    let server = TestServer::on(server.stop().await, Clock::fake(START), &[]).await;
    server.verify(&tokens.access).await.expect(StatusCode::OK);
    register(&server, "bob").await.expect(StatusCode::CREATED);
    ready(&server).await.expect(StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_file_is_answered_503_and_not_serving() {
    let settings = [("PROPUSK_DATABASE__ACQUIRE_TIMEOUT", "500ms")];
    let server = TestServer::with_grpc(Backend::Sqlite, &settings).await;
    let tokens = server.register("ann").await;
    let mut health = HealthClient::new(server.anonymous().await.channel.clone());
    let mut serving = async || {
        let request = HealthCheckRequest { service: String::new() };
        let response = health.check(request).await.expect("an answer");
        response.into_inner().status()
    };
    assert_eq!(serving().await, ServingStatus::Serving);
    let locked = lock(&server.database).await;
    let began = now();
    expect_unavailable(register(&server, "bob").await);
    expect_unavailable(server.login("ann").await);
    let answered = began.elapsed();
    not_ready(&server).await;
    assert_eq!(serving().await, ServingStatus::NotServing);
    server.verify(&tokens.access).await.expect(StatusCode::OK);
    locked.close().await.expect("closed");
    register(&server, "bob").await.expect(StatusCode::CREATED);
    ready_again(&server).await;
    assert_eq!(serving().await, ServingStatus::Serving);
    print(&format!("locked file: two requests refused in {:.2} s", answered.as_secs_f64()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_has_the_reason_as_an_error() {
    let database = Database::new(Backend::Sqlite).await;
    let settings =
        [("PROPUSK_DATABASE__ACQUIRE_TIMEOUT", "500ms"), ("PROPUSK_LOG__FORMAT", "json")];
    let process = Process::serve(&database, &settings).await;
    let locked = lock(&database).await;
    let http = reqwest::Client::new();
    let body = serde_json::json!({ "email": "ann@example.org", "password": PASSWORD });
    let request = http.post(format!("{}/api/v1/auth/register", process.base)).json(&body);
    let reply = request.send().await.expect("an answer");
    assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
    until("it is not ready", || async {
        let request = http.get(format!("{}/api/v1/auth/health/ready", process.base));
        let reply = request.send().await.expect("an answer");
        (reply.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    let log = process.stderr();
    let line =
        |words: &[&str]| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(line(&["ERROR", "/api/v1/auth/register", "database is locked"]), "{log}");
    assert!(line(&["ERROR", "not ready", "database is locked"]), "{log}");
    drop(locked);
}

backend_tests! {
    without_an_active_key_the_server_is_not_ready,
}

async fn without_an_active_key_the_server_is_not_ready(backend: Backend) {
    let settings =
        [("PROPUSK_KEYS__ALGORITHMS", "ES256"), ("PROPUSK_TOKENS__SIGNING_ALGORITHM", "ES256")];
    let server = TestServer::with(backend, &settings).await;
    ready(&server).await.expect(StatusCode::OK);
    let app = &server.app;
    write(&app.db, "UPDATE keys SET banned_at = 1 WHERE public_jwk IS NOT NULL").await;
    app.keys.reload(&app.db, app.clock.now()).await.expect("reloaded");
    expect_unavailable(ready(&server).await);
    app.keys.maintain(&app.db, &app.clock, &app.rng).await.expect("new keys");
    ready(&server).await.expect(StatusCode::OK);
    register(&server, "ann").await.expect(StatusCode::CREATED);
}
