//! Invalid input: the error envelope has a code and the field at fault, and never repeats the
//! input.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{Backend, PASSWORD, Reply, TestServer, backend_tests, send};

const REGISTER: &str = "/api/v1/auth/register";
const LOGIN: &str = "/api/v1/auth/login";
const REFRESH: &str = "/api/v1/auth/token/refresh";
const LOGOUT: &str = "/api/v1/auth/logout";

/// Stands for a password in every invalid request; no response may repeat it.
const CANARY: &str = "canary-9f3a-tell-nobody";

/// An invalid body, and the code and field that the response must name.
type Bad = (&'static str, Vec<u8>, &'static str, Option<&'static str>);

fn bad_bodies() -> Vec<Bad> {
    let long = "a".repeat(60_000);
    let mut cases: Vec<Bad> = vec![];
    let mut add = |path, body: &str, code, field| {
        let body = body.replace("CANARY", CANARY).replace("LONG", &long);
        cases.push((path, body.into_bytes(), code, field));
    };
    let (malformed, invalid) = ("MALFORMED_JSON", "VALIDATION_ERROR");

    for path in [REGISTER, LOGIN, REFRESH, LOGOUT] {
        add(path, r#"{"password":"CANARY""#, malformed, None);
        add(path, r#"{"password":"CANARY}"#, malformed, None);
        add(path, r#"{'password':'CANARY'}"#, malformed, None);
        add(path, "CANARY", malformed, None);
        add(path, "password=CANARY", malformed, None);
        add(path, "\u{feff}{\"password\":\"CANARY\"}", malformed, None);
        add(path, "   ", malformed, None);
        add(path, r#"["CANARY","CANARY"]"#, invalid, None);
        add(path, r#"[{"email":"a@example.org","password":"CANARY"}]"#, invalid, None);
        add(path, r#""CANARY""#, invalid, None);
        add(path, "null", invalid, None);
        add(path, "true", invalid, None);
        add(path, "17", invalid, None);
    }
    for (path, login) in [(REGISTER, "email"), (LOGIN, "login")] {
        let mut with =
            |body: &str, field| add(path, &body.replace("LOGIN", login), invalid, Some(field));
        // The identifiers of a login are optional each.
        let first = if path == LOGIN { "password" } else { login };
        with("", first);
        with("{}", first);
        with(r#"{"password":"CANARY"}"#, login);
        with(r#"{"LOGIN":"vera@example.org"}"#, "password");
        with(r#"{"LOGIN":7,"password":"CANARY"}"#, login);
        with(r#"{"LOGIN":null,"password":"CANARY"}"#, login);
        with(r#"{"LOGIN":["CANARY"],"password":"CANARY"}"#, login);
        with(r#"{"LOGIN":{"a":1},"password":"CANARY"}"#, login);
        with(r#"{"LOGIN":"vera@example.org","password":90210903}"#, "password");
        with(r#"{"LOGIN":"vera@example.org","password":null}"#, "password");
        with(r#"{"LOGIN":"vera@example.org","password":true}"#, "password");
        with(r#"{"LOGIN":"vera@example.org","password":["CANARY"]}"#, "password");
        with(r#"{"LOGIN":"vera@example.org","password":{"is":"CANARY"}}"#, "password");
        with(r#"{"LOGIN":"a@example.org","LOGIN":"b@example.org","password":"CANARY"}"#, login);
        with(r#"{"LOGIN":"a@example.org","password":"CANARY","password":"CANARY2"}"#, "password");
        with(r#"{"LOGIN":"a@example.org","password":"CANARY","delivery":"CANARY"}"#, "delivery");
        with(r#"{"LOGIN":"a@example.org","password":"CANARY","delivery":null}"#, "delivery");
        with(r#"{"LOGIN":"a@example.org","password":"CANARY","delivery":1}"#, "delivery");
        with(r#"{"LOGIN":"LONG","password":"CANARY"}"#, login);
        with(r#"{"LOGIN":"vera@example.org","password":"CANARYLONG"}"#, "password");
    }
    add(
        REGISTER,
        r#"{"email":"a@example.org","username":7,"password":"CANARY"}"#,
        invalid,
        Some("username"),
    );
    add(
        REGISTER,
        r#"{"email":"a@example.org","username":"LONG","password":"CANARY"}"#,
        invalid,
        Some("username"),
    );
    add(
        REGISTER,
        r#"{"email":"a@example.org","username":"a\u0000bc","password":"CANARY"}"#,
        invalid,
        Some("username"),
    );
    add(REGISTER, r#"{"email":"a\u0000@example.org","password":"CANARY"}"#, invalid, Some("email"));
    for absent in ["", " ", r"\u00a0"] {
        let body = r#"{"login":"ABSENT","email":"ABSENT","username":null,"password":"CANARY"}"#;
        add(LOGIN, &body.replace("ABSENT", absent), invalid, Some("login"));
    }
    for field in ["email", "username"] {
        let body = r#"{"FIELD":"LONG","login":"vera","password":"CANARY"}"#;
        add(LOGIN, &body.replace("FIELD", field), invalid, Some(field));
    }
    add(LOGIN, r#"{"Login":"vera","Password":"CANARY"}"#, invalid, Some("password"));
    add(LOGIN, r#"{"login":"vera","password":"CANARY"}{}"#, malformed, None);
    for (path, name) in [(REGISTER, "email"), (LOGIN, "login")] {
        let body = format!(r#"{{"{name}":"a@example.org","password":"CANARY\ud800"}}"#);
        add(path, &body, malformed, None);
    }
    add(REFRESH, r#"{"refreshToken":"CANARY"},"#, malformed, None);
    for path in [REFRESH, LOGOUT] {
        add(path, r#"{"refreshToken":7}"#, invalid, Some("refreshToken"));
        add(path, r#"{"refreshToken":["CANARY"]}"#, invalid, Some("refreshToken"));
        add(path, r#"{"refreshToken":"a","refreshToken":"b"}"#, invalid, Some("refreshToken"));
    }
    add(REFRESH, r#"{"refreshToken":"a","delivery":"CANARY"}"#, invalid, Some("delivery"));
    cases.push((
        LOGIN,
        b"{\"login\":\"vera\",\"password\":\"canary-9f3a-tell-nobody\xff\"}".to_vec(),
        malformed,
        None,
    ));
    cases.push((REGISTER, b"\xff\xfe{\0".to_vec(), malformed, None));
    cases
}

/// Fails the test unless the error is in its envelope, without anything of what was sent.
#[track_caller]
fn expect_bad(reply: Reply, status: u16, code: &str, field: Option<&str>, sent: &str) {
    let reply = reply.expect_error(status, code);
    assert_eq!(reply.header("content-type"), "application/json");
    let json = reply.json();
    let fields: Vec<_> =
        json["details"].as_array().into_iter().flatten().map(|detail| &detail["field"]).collect();
    match field {
        Some(field) => assert_eq!(fields, [field], "{sent}: {reply:?}"),
        None => assert!(fields.is_empty(), "{sent}: {reply:?}"),
    }
    let all = format!("{} {:?}", reply.text, reply.headers);
    for secret in [CANARY, "90210903"] {
        assert!(!all.contains(secret), "{sent}: {all}");
    }
    assert!(reply.text.len() < 1000, "{sent}: {} bytes", reply.text.len());
}

backend_tests! {
    an_invalid_body_gets_an_error_envelope_naming_the_field,
    unstorable_logins_and_tokens_get_an_ordinary_401,
    t76_a_body_with_another_content_type_is_refused,
}

async fn an_invalid_body_gets_an_error_envelope_naming_the_field(backend: Backend) {
    let server = TestServer::start(backend).await;
    for (path, body, code, field) in bad_bodies() {
        let sent = format!("{path} {:.80}", String::from_utf8_lossy(&body));
        let request = server.request(Method::POST, path).header("content-type", "application/json");
        expect_bad(send(request.body(body)).await, 400, code, field, &sent);
    }
    assert_eq!(server.events().await, [], "none of them had an effect");
    server.register("vera").await;
}

async fn unstorable_logins_and_tokens_get_an_ordinary_401(backend: Backend) {
    let server = TestServer::start(backend).await;
    let login = |login: &str| server.post(LOGIN, json!({ "login": login, "password": CANARY }));
    for name in [
        "a\0b",
        "\0@example.org",
        "' OR 1=1 --",
        "%",
        "\u{202e}arev",
        "\u{1f511}",
        "a@b@c",
        &"\u{fdfa}".repeat(300),
    ] {
        login(name).await.expect_error(401, "INVALID_CREDENTIALS");
    }
    let long = "a".repeat(60_000);
    for token in ["", "prt_", "prt_\0", "made up", "prt_AAAA", long.as_str()] {
        server.refresh(token).await.expect_error(401, "INVALID_REFRESH_TOKEN");
        let reply = server.post(LOGOUT, json!({ "refreshToken": token })).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{reply:?}");
    }
    server.post(REFRESH, json!({})).await.expect_error(401, "INVALID_REFRESH_TOKEN");
    server
        .post(REFRESH, json!({ "refreshToken": null }))
        .await
        .expect_error(401, "INVALID_REFRESH_TOKEN");
    server.post(LOGOUT, json!({})).await.expect_error(401, "INVALID_TOKEN");
}

async fn t76_a_body_with_another_content_type_is_refused(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("vera").await;
    let body = json!({ "login": "vera", "password": PASSWORD, "delivery": "cookie" }).to_string();
    let as_type = |kind: Option<&str>| {
        let request = server.request(Method::POST, LOGIN).body(body.clone());
        send(match kind {
            Some(kind) => request.header("content-type", kind),
            None => request,
        })
    };
    let others = [
        "text/plain",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
        "application/jsonx",
        "application/",
        "application/json, text/plain",
        "",
    ];
    for kind in others.map(Some).into_iter().chain([None]) {
        let reply = as_type(kind).await.expect_error(415, "UNSUPPORTED_MEDIA_TYPE");
        assert_eq!(reply.header("set-cookie"), "", "{kind:?}");
    }
    for kind in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/problem+json",
    ] {
        as_type(Some(kind)).await.expect(StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversized_body_is_refused_with_or_without_a_length() {
    let server =
        TestServer::with(Backend::Sqlite, &[("PROPUSK_SERVER__MAX_BODY_BYTES", "2000")]).await;
    server.register("vera").await;
    let body =
        |length: usize| json!({ "login": "vera", "password": PASSWORD, "x": "y".repeat(length) });
    server.post(LOGIN, body(1000)).await.expect(StatusCode::OK);
    let reply = server.post(LOGIN, body(2000)).await;
    let reply = reply.expect_error(413, "PAYLOAD_TOO_LARGE");
    assert_eq!(reply.header("connection"), "close", "the rest is not read");
    let stream = format!("POST {LOGIN} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
    let chunk = format!("3e8\r\n{}\r\n", " ".repeat(1000)).repeat(3);
    let answer =
        raw(&server.base, &format!("{stream}Transfer-Encoding: chunked\r\n\r\n{chunk}")).await;
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.contains("PAYLOAD_TOO_LARGE"),
        "{answer}"
    );
}

/// Sends bytes and reads the answer until the server closes.
async fn raw(base: &str, request: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = base.strip_prefix("http://").expect("an address");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}
