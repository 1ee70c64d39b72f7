//! Canaries: secrets are sent everywhere and must not leak anywhere.

use std::path::Path;

use reqwest::{Client, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    resource_limits::{h2_field, h2_frame, h2_preface},
    support::{Backend, Database, process::Process},
};

const CANARY: &str = "canary-of-the-password";

struct Exchange {
    http: Client,
    base: String,
    /// Every secret that was seen or sent.
    secrets: Vec<String>,
    /// The text of every error.
    errors: Vec<String>,
}

impl Exchange {
    async fn post(&mut self, path: &str, body: &Value, authorization: Option<String>) -> Value {
        let mut request = self
            .http
            .post(format!("{}{path}", self.base))
            .json(body)
            // Terminals accept U+009B as an escape, too.
            .header(header::USER_AGENT, "agent\u{9b}31m \"quoted\"".as_bytes())
            .header("cookie", "propusk_access=canary-in-a-cookie");
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let reply = request.send().await.expect("an answer");
        let status = reply.status();
        let text = reply.text().await.expect("text");
        if status.is_success() {
            let json: Value = serde_json::from_str(&text).expect("JSON");
            for name in ["accessToken", "refreshToken"] {
                self.secrets.extend(json["data"][name].as_str().map(str::to_owned));
            }
            return json;
        }
        self.errors.push(text);
        Value::Null
    }
}

/// Everything that a client can do with secrets, rightly and wrongly.
async fn exchange_secrets(base: &str) -> Exchange {
    let http = Client::new();
    let secrets = [
        CANARY,
        "canary-in-a-cookie",
        "canary-in-a-header",
        "canary-in-a-query",
        "canary-of-a-client",
    ]
    .map(str::to_owned)
    .into();
    let mut exchange_secrets = Exchange { http, base: base.to_owned(), secrets, errors: vec![] };
    let strange = "vera\r\nERROR forged\u{1b}[31m";
    let account = json!({ "email": "vera@example.org", "username": "vera", "password": CANARY });
    exchange_secrets.post("/api/v1/auth/register", &account, None).await;
    exchange_secrets.post("/api/v1/auth/register", &account, None).await;
    exchange_secrets
        .post("/api/v1/auth/register", &json!({ "email": strange, "password": CANARY }), None)
        .await;
    exchange_secrets
        .post("/api/v1/auth/register", &json!({ "email": "a@b.c", "password": [CANARY] }), None)
        .await;
    exchange_secrets
        .post("/api/v1/auth/login", &json!({ "login": strange, "password": CANARY }), None)
        .await;
    exchange_secrets
        .post(
            "/api/v1/auth/login",
            &json!({ "login": "vera", "password": format!("{CANARY} wrong") }),
            None,
        )
        .await;
    exchange_secrets
        .post(
            "/api/v1/auth/login",
            &json!({ "login": "vera", "password": CANARY }),
            Some("Bearer canary-in-a-header".into()),
        )
        .await;
    let login = json!({ "login": "vera", "password": CANARY });
    let first = exchange_secrets.post("/api/v1/auth/login", &login, None).await["data"].clone();
    let token = |data: &Value| json!({ "refreshToken": data["refreshToken"] });
    let second =
        exchange_secrets.post("/api/v1/auth/token/refresh", &token(&first), None).await["data"]
            .clone();
    let third =
        exchange_secrets.post("/api/v1/auth/token/refresh", &token(&second), None).await["data"]
            .clone();
    exchange_secrets.post("/api/v1/auth/token/refresh", &token(&first), None).await;
    let bearer =
        |data: &Value| Some(format!("Bearer {}", data["accessToken"].as_str().expect("a token")));
    exchange_secrets.post("/api/v1/auth/logout", &json!({}), bearer(&third)).await;
    let last = exchange_secrets.post("/api/v1/auth/login", &login, None).await["data"].clone();
    exchange_secrets.post("/api/v1/auth/logout", &json!({}), bearer(&last)).await;
    exchange_secrets
        .post("/api/v1/auth/logout", &json!({}), Some("Basic canary-in-a-header".into()))
        .await;
    let form = "grant_type=client_credentials&client_id=demo&client_secret=canary-of-a-client";
    let request = exchange_secrets
        .http
        .post(format!("{base}/oauth2/token"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let reply = request.body(form).send().await.expect("an answer");
    assert_eq!(reply.status(), StatusCode::BAD_REQUEST);
    exchange_secrets.errors.push(reply.text().await.expect("text"));
    assert!(
        exchange_secrets.errors.len() >= 8 && exchange_secrets.secrets.len() >= 12,
        "the visit succeeded"
    );
    exchange_secrets
}

/// A login over HTTP/2, whose library logs on its own.
async fn over_http_2(base: &str) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = base.strip_prefix("http://").expect("an address");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
    let head = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/api/v1/auth/login?password=canary-in-a-query"),
        ("content-type", "application/json"),
        ("authorization", "Bearer canary-in-a-header"),
        ("cookie", "propusk_access=canary-in-a-cookie"),
    ];
    let head: Vec<u8> = head.iter().flat_map(|(name, value)| h2_field(name, value)).collect();
    let body = json!({ "login": "vera", "password": format!("{CANARY} wrong") }).to_string();
    let mut request = h2_preface();
    request.extend(h2_frame(1, 4, 1, &head));
    request.extend(h2_frame(0, 1, 1, body.as_bytes()));
    stream.write_all(&request).await.expect("sent");
    let mut answer = vec![];
    while !String::from_utf8_lossy(&answer).contains("INVALID_CREDENTIALS") {
        let read = stream.read_buf(&mut answer).await.expect("an answer");
        assert!(read > 0, "closed: {}", String::from_utf8_lossy(&answer));
    }
}

fn assert_none(exchange_secrets: &Exchange, text: &str, place: &str) {
    for secret in &exchange_secrets.secrets {
        assert!(!text.contains(secret.as_str()), "{place} contains the secret {secret}: {text}");
        // Nor a sufficient part of it: a token's signature or the end of a chain's secret.
        if secret.len() > 60 {
            assert!(
                !text.contains(&secret[secret.len() - 24..]),
                "{place} contains a part of {secret}"
            );
        }
    }
    assert!(!text.contains("$argon2"), "{place} contains a password hash");
}

async fn rows_of(folder: &Path, sql: &'static str) -> String {
    use sqlx::{Connection, Row};
    let url = format!("sqlite://{}", folder.join("propusk.db").display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.expect("the database");
    let rows = sqlx::query(sql).fetch_all(&mut connection).await.expect("rows");
    rows.iter().map(|row| row.get::<String, _>(0) + "\n").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t88_no_secret_is_in_a_log_event_audit_entry_or_error() {
    for format in ["human", "json"] {
        let database = Database::new(Backend::Sqlite).await;
        let settings = [("PROPUSK_LOG__FORMAT", format), ("PROPUSK_LOG__LEVEL", "trace")];
        let server = Process::serve(&database, &settings).await;
        let exchange_secrets = exchange_secrets(&server.base).await;
        over_http_2(&server.base).await;
        let log = server.stderr();
        assert!(server.terminate().await.success());
        assert!(log.lines().count() > 20, "the log is not empty");
        assert!(log.contains("h2::"), "of HTTP/2 too");
        assert_none(&exchange_secrets, &log, &format!("the {format} log"));
        assert!(!log.contains('\u{1b}'), "no terminal escape gets into the log");
        assert!(!log.lines().any(|line| line.starts_with("ERROR forged")), "no log line is forged");
        if format == "json" {
            for line in log.lines() {
                serde_json::from_str::<Value>(line)
                    .unwrap_or_else(|_| panic!("one event per line: {line}"));
            }
        }
        for (place, sql) in [
            ("the outbox", "SELECT type || data FROM outbox"),
            (
                "the audit log",
                "SELECT action || actor || coalesce(subject, '') || detail FROM audit_log",
            ),
        ] {
            let rows = rows_of(database.folder.path(), sql).await;
            assert!(rows.lines().count() >= 4, "{place} is not empty: {rows}");
            assert_none(&exchange_secrets, &rows, place);
        }
        assert_none(&exchange_secrets, &exchange_secrets.errors.join("\n"), "an error");
        let stored = rows_of(
            database.folder.path(),
            "SELECT hex(current_hash) || coalesce(user_agent, '') FROM sessions UNION ALL SELECT private_jwe FROM keys",
        );
        assert_none(&exchange_secrets, &stored.await, "the database");
    }
}
