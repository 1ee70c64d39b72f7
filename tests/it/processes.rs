//! The binary as separate processes: killed, started concurrently, stopped.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use propusk::{config::Config, storage::Db};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    Backend, Database, PASSWORD, backend_tests, chromium::until, oauth::header, process::Process,
};

async fn post(
    http: &reqwest::Client,
    base: &str,
    path: &str,
    body: Value,
) -> Option<(StatusCode, Value)> {
    let reply = http.post(format!("{base}/api/v1/auth{path}")).json(&body).send().await.ok()?;
    Some((reply.status(), reply.json().await.ok()?))
}

async fn login(base: &str, name: &str) -> (StatusCode, Value) {
    let body = json!({ "login": name, "password": PASSWORD });
    post(&reqwest::Client::new(), base, "/login", body).await.expect("an answer")
}

async fn refresh(base: &str, token: &str) -> (StatusCode, Value) {
    let body = json!({ "refreshToken": token });
    post(&reqwest::Client::new(), base, "/token/refresh", body).await.expect("an answer")
}

async fn register(base: &str, name: &str) -> String {
    let body =
        json!({ "email": format!("{name}@example.org"), "username": name, "password": PASSWORD });
    let (status, json) =
        post(&reqwest::Client::new(), base, "/register", body).await.expect("an answer");
    assert_eq!(status, StatusCode::CREATED, "{json}");
    json["data"]["refreshToken"].as_str().expect("a token").to_owned()
}

/// What clients were acknowledged before the server died: by username, the latest refresh token.
type Acknowledged = Arc<Mutex<HashMap<String, String>>>;

/// Registers one account after another and refreshes each a few times, until the server is gone.
async fn client(base: String, name: String, acknowledged: Acknowledged) {
    let http = reqwest::Client::new();
    for n in 0.. {
        let user = format!("{name}n{n}");
        let body = json!({ "email": format!("{user}@example.org"), "username": user, "password": PASSWORD });
        let Some((status, json)) = post(&http, &base, "/register", body).await else {
            return;
        };
        assert_eq!(status, StatusCode::CREATED, "{json}");
        let mut token = json["data"]["refreshToken"].as_str().expect("a token").to_owned();
        acknowledged.lock().expect("no panic").insert(user.clone(), token.clone());
        for _ in 0..5 {
            let body = json!({ "refreshToken": token });
            let Some((status, json)) = post(&http, &base, "/token/refresh", body).await else {
                return;
            };
            assert_eq!(status, StatusCode::OK, "{json}");
            token = json["data"]["refreshToken"].as_str().expect("a token").to_owned();
            acknowledged.lock().expect("no panic").insert(user.clone(), token.clone());
        }
    }
}

backend_tests! {
    acknowledged_changes_survive_kill_9,
    t27_an_old_refresh_token_is_refused_after_kill_9,
    concurrently_started_processes_share_schema_and_keys,
    t25_two_processes_agree_on_one_successor,
    a_user_disabled_by_the_cli_is_refused_by_the_server,
    a_rotation_by_the_cli_reaches_idle_servers,
}

async fn acknowledged_changes_survive_kill_9(backend: Backend) {
    let database = Database::new(backend).await;
    // A rotation may have been committed but not acknowledged: its client still holds the
    // predecessor.
    let settings = [("PROPUSK_TOKENS__REPLAY_WINDOW", "5m")];
    let acknowledged = Acknowledged::default();
    for round in 0..3 {
        let server = Process::serve(&database, &settings).await;
        let clients: Vec<_> = (0..8)
            .map(|n| {
                tokio::spawn(client(
                    server.base.clone(),
                    format!("r{round}c{n}"),
                    Arc::clone(&acknowledged),
                ))
            })
            .collect();
        let before = acknowledged.lock().expect("no panic").len();
        while acknowledged.lock().expect("no panic").len() < before + 40 + 17 * round {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        server.kill();
        for client in clients {
            client.await.expect("no panic in the client");
        }
    }
    let server = Process::serve(&database, &settings).await;
    let acknowledged = acknowledged.lock().expect("no panic").clone();
    let all = acknowledged.iter().map(|(user, token)| {
        let base = &server.base;
        async move {
            assert_eq!(login(base, user).await.0, StatusCode::OK, "{user} cannot log in");
            let (status, json) = refresh(base, token).await;
            assert_eq!(status, StatusCode::OK, "{user}'s token was lost: {json}");
        }
    });
    join_all(all).await;
}

async fn t27_an_old_refresh_token_is_refused_after_kill_9(backend: Backend) {
    let database = Database::new(backend).await;
    let settings = [("PROPUSK_TOKENS__REPLAY_WINDOW", "0s")];
    let server = Process::serve(&database, &settings).await;
    let first = register(&server.base, "vera").await;
    let (status, json) = refresh(&server.base, &first).await;
    assert_eq!(status, StatusCode::OK);
    let second = json["data"]["refreshToken"].as_str().expect("a token").to_owned();
    server.kill();
    let server = Process::serve(&database, &settings).await;
    assert_eq!(refresh(&server.base, &first).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(
        refresh(&server.base, &second).await.0,
        StatusCode::UNAUTHORIZED,
        "the session is revoked"
    );
}

async fn concurrently_started_processes_share_schema_and_keys(backend: Backend) {
    let database = Database::new(backend).await;
    let servers = join_all((0..3).map(|_| Process::serve(&database, &[]))).await;
    let mut sets = vec![];
    for server in &servers {
        let jwks = reqwest::get(format!("{}/oauth2/jwks", server.base)).await.expect("an answer");
        sets.push(jwks.text().await.expect("text"));
    }
    assert!(sets.iter().all(|set| *set == sets[0]), "{sets:?}");
    let token = register(&servers[0].base, "vera").await;
    assert_eq!(refresh(&servers[1].base, &token).await.0, StatusCode::OK);
}

async fn t25_two_processes_agree_on_one_successor(backend: Backend) {
    let database = Database::new(backend).await;
    let (one, other) = tokio::join!(Process::serve(&database, &[]), Process::serve(&database, &[]));
    let token = register(&one.base, "vera").await;
    let all = (0..100).map(|n| refresh(if n % 2 == 0 { &one.base } else { &other.base }, &token));
    let answers = join_all(all).await;
    let first = &answers[0].1["data"]["refreshToken"];
    assert!(first.is_string(), "{answers:?}");
    for (status, json) in &answers {
        assert_eq!((*status, &json["data"]["refreshToken"]), (StatusCode::OK, first));
    }
}

async fn a_user_disabled_by_the_cli_is_refused_by_the_server(backend: Backend) {
    let database = Database::new(backend).await;
    let server = Process::serve(&database, &[]).await;
    let token = register(&server.base, "vera").await;
    let (_, json) = refresh(&server.base, &token).await;
    let access = json["data"]["accessToken"].as_str().expect("a token");
    let verify = || {
        reqwest::Client::new()
            .get(format!("{}/api/v1/auth/verify", server.base))
            .bearer_auth(access)
            .send()
    };
    assert_eq!(verify().await.expect("an answer").status(), StatusCode::OK);
    let output = crate::support::process::run(&database, &[], &["user", "disable", "vera"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(verify().await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    assert_eq!(login(&server.base, "vera").await.0, StatusCode::UNAUTHORIZED);
}

async fn a_rotation_by_the_cli_reaches_idle_servers(backend: Backend) {
    let database = Database::new(backend).await;
    let settings = [("PROPUSK_KEYS__ALGORITHMS", "ES256")];
    let server = Process::serve(&database, &settings).await;
    let idle = Process::serve(&database, &settings).await;
    register(&server.base, "vera").await;
    let signer = async || {
        let (_, json) = login(&server.base, "vera").await;
        header(json["data"]["accessToken"].as_str().expect("a token"))["kid"].clone()
    };
    let before = signer().await;
    let output = crate::support::process::run(&database, &settings, &["keys", "rotate", "--now"]);
    assert!(output.status.success(), "{output:?}");
    let jwks = reqwest::get(format!("{}/oauth2/jwks", idle.base)).await.expect("an answer");
    let jwks: Value = jwks.json().await.expect("JSON");
    assert_eq!(jwks["keys"].as_array().expect("keys").len(), 2, "{jwks}");
    // No token is checked, and no key set fetched, at this one.
    until("the new key signs", || async { (signer().await != before).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_finishes_accepted_requests_and_exits_with_0() {
    let database = Database::new(crate::support::Backend::Sqlite).await;
    let server = Process::serve(&database, &[("PROPUSK_SERVER__SHUTDOWN_GRACE", "20s")]).await;
    let address = server.base.replace("http://", "");
    let body = json!({ "email": "vera@example.org", "username": "vera", "password": PASSWORD });
    let body = body.to_string();
    let head = format!(
        "POST /api/v1/auth/register HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut client = TcpStream::connect(&address).await.expect("a connection");
    client.write_all(head.as_bytes()).await.expect("sent");
    // The server asks for the body, so the request is under way; then connections are refused, so
    // the signal has arrived.
    let mut request = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    client.read_exact(&mut request).await.expect("an answer");
    assert!(request.starts_with(b"HTTP/1.1 100"), "{request:?}");
    let ending = tokio::spawn(server.terminate());
    until("the end of listening", || async { TcpStream::connect(&address).await.err() }).await;
    client.write_all(body.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let status = ending.await.expect("its end");
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_creation_of_a_sqlite_file_is_serialized() {
    for _ in 0..20 {
        let database = Database::new(Backend::Sqlite).await;
        let config = Config::load(None, database.settings().into_iter());
        let config = Arc::new(config.expect("a good configuration"));
        let opening = (0..8).map(|_| {
            let config = Arc::clone(&config);
            tokio::spawn(async move { Db::open(&config).await.map(drop) })
        });
        for opened in join_all(opening).await {
            opened.expect("a task").expect("it opens");
        }
    }
}
