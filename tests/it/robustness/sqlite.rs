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

/// No page can be added to the file, as on a full disk.
async fn fill(db: &Db) {
    write(db, "PRAGMA max_page_count = 1").await;
}

async fn make_room(db: &Db) {
    write(db, "PRAGMA max_page_count = 1073741823").await;
}

/// Another program that holds the lock for writing.
async fn lock(database: &Database) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(database.folder.path().join("propusk.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.expect("the file opens");
    sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.expect("the lock");
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_answered_503_and_loses_nothing() {
    let server = TestServer::start(Backend::Sqlite).await;
    ready(&server).await.expect(StatusCode::OK);
    fill(&server.app.db).await;
    // Free pages of the file are still used.
    let mut registered = vec![];
    let refused = loop {
        let name = format!("user{}", registered.len());
        let reply = register(&server, &name).await;
        if reply.status != StatusCode::CREATED {
            break reply;
        }
        registered.push(name);
        assert!(registered.len() < 2_000, "the file is not full");
    };
    expect_unavailable(refused);
    not_ready(&server).await;
    expect_unavailable(register(&server, "nora").await);

    make_room(&server.app.db).await;
    let began = now();
    register(&server, "nora").await.expect(StatusCode::CREATED);
    ready_again(&server).await;
    print(&format!(
        "full disk: {} registrations acknowledged before; ready {:.2} s after there was room",
        registered.len(),
        began.elapsed().as_secs_f64()
    ));
    for name in registered {
        server.login(&name).await.expect(StatusCode::OK);
    }
}

#[tokio::test]
async fn a_full_disk_undoes_the_whole_group_of_writes() {
    let server = TestServer::start(Backend::Sqlite).await;
    let db = &server.app.db;
    let description = async || {
        let statement = Statement::new("SELECT description FROM roles WHERE name = 'user'");
        let rows = db.read(statement).await.expect("the role");
        rows[0].get::<String>("description").expect("a text")
    };
    let before = description().await;
    fill(db).await;
    // They queue behind an open transaction, and so are one group.
    let first = db.begin().await.expect("a transaction");
    let spawn = |sql: &'static str, text: String| {
        let db = db.clone();
        tokio::spawn(async move { db.write(Statement::new(sql).bind(text)).await })
    };
    let turns = async || {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    let small =
        spawn("UPDATE roles SET description = $1 WHERE name = 'user'", "changed".to_owned());
    turns().await;
    let large = spawn(
        "INSERT INTO scopes (name, descriptions) VALUES ('large', $1)",
        "0".repeat(4 * 1024 * 1024),
    );
    turns().await;
    let after = tokio::spawn({
        let db = db.clone();
        async move {
            let mut tx = db.begin().await?;
            tx.run(Statement::new("UPDATE roles SET description = '' WHERE name = 'admin'"))
                .await?;
            tx.commit().await
        }
    });
    turns().await;
    first.commit().await.expect("the commit succeeds");
    large.await.expect("no panic").expect_err("it does not fit");
    after.await.expect("no panic").expect("it fits");
    // What was acknowledged is there, and what is there was acknowledged.
    let acknowledged = small.await.expect("no panic").is_ok();
    assert_eq!(description().await, if acknowledged { "changed".to_owned() } else { before });
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
