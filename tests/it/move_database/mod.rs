//! `propusk move`: an SQLite deployment goes on with PostgreSQL.

mod contents;
mod faults;
mod refusals;
mod rows;

use std::{fs, path::PathBuf, process::Output, sync::Arc};

use propusk::{clock::Clock, storage::Statement};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::Connection as _;

use self::contents::{Contents, of_postgres, of_sqlite};
use crate::support::{
    Backend, Database, START, TestServer,
    chromium::until,
    documentation::{Page, run_commands_on},
    oauth::{AuthorizationRequest, web_app},
    process::{command, run},
    redis::Redis,
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn file_of(database: &Database) -> PathBuf {
    database.folder.path().join("propusk.db")
}

fn wal_of(database: &Database) -> PathBuf {
    database.folder.path().join("propusk.db-wal")
}

/// Stops a server; returns once everything is in the file: of connections that are closed at the
/// same time none may be the last one.
async fn stop(server: TestServer) -> Arc<Database> {
    let database = server.stop().await;
    let is_closed = || async {
        let mut connection = contents::sqlite(&file_of(&database)).await;
        let checkpoint = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)");
        checkpoint.execute(&mut connection).await.expect("a checkpoint");
        connection.close().await.expect("closed");
        (!wal_of(&database).exists()).then_some(())
    };
    until("the end of the last connection", is_closed).await;
    database
}

/// An empty PostgreSQL database for the server that goes on, which has a copy of the master key.
async fn target_for(source: &Database) -> Database {
    let target = Database::new(Backend::Postgres).await;
    let key = |database: &Database| database.folder.path().join("master.key");
    fs::copy(key(source), key(&target)).expect("the master key");
    target
}

fn url(database: &Database) -> &str {
    database.url.as_deref().expect("a PostgreSQL database")
}

fn move_to(source: &Database, target: &str) -> Output {
    run(source, &[("PROPUSK_MOVE_TO", target)], &["move"])
}

#[track_caller]
fn moves(source: &Database, target: &Database) -> String {
    let output = move_to(source, url(target));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout)
}

#[track_caller]
fn assert_fails(output: &Output, code: i32, says: &[&str]) {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
    for message in says {
        assert!(stderr.contains(message), "{message:?} is not in: {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// What `propusk audit list` prints.
fn audit(database: &Database) -> Value {
    let output = run(database, &[], &["audit", "list", "--limit", "500", "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

async fn log_out(server: &TestServer, access: &str) {
    server.post_as("/api/v1/auth/logout", access).await.expect(StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn sessions_and_keys_go_on_after_a_move() {
    let server = TestServer::start(Backend::Sqlite).await;
    server.client("app", web_app()).await;
    server.module("reports", "reports:read", None, true).await;
    let vera = server.register("vera").await;
    server.switch(&vera.access, "reports", "enable").await.expect(StatusCode::OK);
    let nora = server.register("nora").await;
    let revoked = server.login("nora").await.tokens();
    log_out(&server, &revoked.access).await;
    let mut browser = server.browser();
    let request = AuthorizationRequest::of("app", "openid offline_access");
    let code = browser.authorize(&request, "vera").await.code().to_owned();
    let oauth = server.exchange_code("app", &code).await.expect(StatusCode::OK);
    let jwks = server.get("/oauth2/jwks").await.text;
    let (events, entries) = (server.events().await, audit(&server.database));
    assert!(events.len() >= 2 && entries.as_array().is_some_and(|entries| entries.len() >= 4));

    let source = stop(server).await;
    let before = fs::read(file_of(&source)).expect("the file");
    let target = target_for(&source).await;
    let printed = moves(&source, &target);
    assert!(fs::read(file_of(&source)).expect("the file") == before, "the source was changed");
    assert!(!wal_of(&source).exists(), "it was closed");
    for says in ["every table was read from both databases again", "1. Set database.url"] {
        assert!(printed.contains(says), "{says} is not in {printed}");
    }

    let server = TestServer::on(Arc::new(target), Clock::fake(START), &[]).await;
    assert_eq!(server.get("/oauth2/jwks").await.text, jwks);
    assert_eq!((server.events().await, audit(&server.database)), (events, entries));
    for tokens in [&vera, &nora] {
        server.verify(&tokens.access).await.expect(StatusCode::OK);
        let next = server.refresh(&tokens.refresh).await.expect(StatusCode::OK).tokens();
        server.refresh(&next.refresh).await.expect(StatusCode::OK);
    }
    server.verify(&revoked.access).await.expect_error(401, "INVALID_TOKEN");
    server.refresh(&revoked.refresh).await.expect(StatusCode::UNAUTHORIZED);
    server.refresh_as("app", &oauth.field("refresh_token")).await.expect(StatusCode::OK);
    assert_eq!(server.introspect("app", &oauth.field("access_token")).await["active"], true);
    let session = server.login("vera").await.expect(StatusCode::OK).tokens();
    let session = server.get_as("/api/v1/auth/session", &session.access).await;
    assert!(session.text.contains("reports"), "{session:?}");
    let taken = json!({ "email": "nora@example.org", "password": crate::support::PASSWORD });
    server.post("/api/v1/auth/register", taken).await.expect(StatusCode::CONFLICT);
    // A revocation continues the list.
    log_out(&server, &nora.access).await;
    server.verify(&nora.access).await.expect_error(401, "INVALID_TOKEN");
    server.register("zoe").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL and Redis: run ./dev/test"]
async fn the_copy_shares_no_redis_replica_with_its_source() {
    let redis = Redis::start(&[]);
    let url = redis.url();
    let settings = [("PROPUSK_REDIS__URL", url.as_str())];
    let trusted = async |server: &TestServer| {
        let is_trusted = || {
            let replica = server.app.revocations.replica.as_ref();
            replica.expect("Redis is configured").is_trusted()
        };
        until("Redis is trusted", || async { is_trusted().then_some(()) }).await;
    };
    let epoch = async |server: &TestServer| -> i64 {
        let sql = "SELECT version FROM change_counters WHERE name = 'replica_epoch'";
        let rows = server.app.db.read(Statement::new(sql)).await.expect("rows");
        rows[0].get("version").expect("a number")
    };
    let server = TestServer::with(Backend::Sqlite, &settings).await;
    server.register("vera").await;
    trusted(&server).await;
    let of_the_source = epoch(&server).await;
    assert_ne!(of_the_source, 0);
    let source = stop(server).await;
    let target = target_for(&source).await;
    moves(&source, &target);
    // Not the one of the source, whose replica may still be in Redis: none.
    let counters = &of_postgres(self::url(&target)).await["change_counters"];
    let none = "7265706C6963615F65706F6368 30"; // 'replica_epoch', '0'
    assert!(counters.iter().any(|row| row == none), "{counters:?}");

    let one = TestServer::on(Arc::new(target), Clock::fake(START), &settings).await;
    trusted(&one).await;
    let of_the_copy = epoch(&one).await;
    assert!(of_the_copy != of_the_source && of_the_copy != 0, "{of_the_copy}");
    let other = one.another(&settings).await;
    // By mistake a server runs on the SQLite file again: its revocations take the same numbers.
    let mistaken = TestServer::on(source, Clock::fake(START), &settings).await;
    for _ in 0..20 {
        let here = mistaken.login("vera").await.tokens();
        let there = one.login("vera").await.tokens();
        tokio::join!(log_out(&mistaken, &here.access), log_out(&one, &there.access));
        for server in [&one, &other] {
            server.verify(&there.access).await.expect_error(401, "INVALID_TOKEN");
        }
    }
}

/// Numbers, digests, paths and URLs differ from run to run.
fn pattern(line: &str) -> String {
    let is_hex = |word: &str| word.len() == 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let word = |word: &str| match word {
        _ if is_hex(word) => "DIGEST".to_owned(),
        _ if word.bytes().all(|byte| byte.is_ascii_digit()) => "NUMBER".to_owned(),
        _ if word.contains("://") => "URL".to_owned(),
        _ if word.contains("master.key") => "PATH".to_owned(),
        _ => word.to_owned(),
    };
    line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// The example of docs/move.md, as a reader would copy it, prints what the page shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn the_example_of_the_move_page_runs_verbatim() {
    let page = Page::read("docs/move.md");
    let source = Database::prepared_by_system_time(Backend::Sqlite).await;
    let target = target_for(&source).await;
    let example =
        page.block("move").replace("postgres://propusk:secret@db.example/propusk", url(&target));
    let printed = run_commands_on(&source, &[], &example);
    let printed: Vec<_> = printed.lines().map(pattern).collect();
    let shown = page.block("output");
    for line in shown.lines().filter(|line| !line.trim().is_empty() && *line != "…") {
        assert!(printed.contains(&pattern(line)), "{line:?} is not in {printed:#?}");
    }
}
