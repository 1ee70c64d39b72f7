//! Tokens in cookies: their attributes, what they authenticate, and where they do not count.

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Backend, PASSWORD, Reply, TestServer, backend_tests, send};

const REGISTER: &str = "/api/v1/auth/register";
const LOGIN: &str = "/api/v1/auth/login";
const REFRESH: &str = "/api/v1/auth/token/refresh";
const LOGOUT: &str = "/api/v1/auth/logout";
const ISSUER: &str = "https://id.example.org";

/// A parsed `Set-Cookie`: name, value, attributes in order.
#[derive(Debug, PartialEq, Eq)]
pub struct SetCookie {
    name: String,
    value: String,
    attributes: Vec<String>,
}

pub fn cookies(reply: &Reply) -> Vec<SetCookie> {
    let parse = |value: &reqwest::header::HeaderValue| {
        let text = value.to_str().expect("text").to_owned();
        let mut parts = text.split("; ").map(str::to_owned);
        let first = parts.next().expect("a pair");
        let (name, value) = first.split_once('=').expect("a pair");
        let mut attributes: Vec<_> = parts.collect();
        attributes.sort();
        SetCookie { name: name.to_owned(), value: value.to_owned(), attributes }
    };
    reply.headers.get_all("set-cookie").iter().map(parse).collect()
}

/// The `Cookie` header that a browser sends after a response.
pub fn jar(reply: &Reply) -> String {
    let pairs: Vec<_> =
        cookies(reply).iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
    pairs.join("; ")
}

/// Fails the test unless the cookies are these: names, lifetimes and the attributes that all have.
#[track_caller]
pub fn expect_cookies(reply: &Reply, names: [&str; 2], lives: [&str; 2]) {
    let secure = names[0].starts_with("__Host-");
    let found = cookies(reply);
    assert_eq!(found.len(), 2, "{reply:?}");
    for (cookie, (name, life)) in found.iter().zip(names.into_iter().zip(lives)) {
        assert_eq!(cookie.name, name);
        let mut expected = vec![
            "HttpOnly".to_owned(),
            format!("Max-Age={life}"),
            "Path=/".to_owned(),
            "SameSite=Lax".to_owned(),
        ];
        if secure {
            expected.push("Secure".to_owned());
        }
        assert_eq!(cookie.attributes, expected, "{name}");
        assert_eq!(cookie.value.is_empty(), life == "0", "{name}");
    }
}

pub const PLAIN: [&str; 2] = ["propusk_access", "propusk_refresh"];
const HOST: [&str; 2] = ["__Host-propusk_access", "__Host-propusk_refresh"];

/// A server behind https, as in production; the folder holds its master key.
pub async fn with_https(backend: Backend, more: &[(&str, &str)]) -> (TestServer, TempDir) {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("master.key");
    std::fs::write(&file, [7; 32]).expect("a file");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("private");
    let file = file.display().to_string();
    let settings = [
        ("PROPUSK_SERVER__ISSUER", ISSUER),
        ("PROPUSK_SECRETS__MASTER_KEY_FILE", file.as_str()),
        ("PROPUSK_PASSWORDS__MEMORY_KIB", "19456"),
        ("PROPUSK_PASSWORDS__ITERATIONS", "2"),
    ];
    let settings = [&settings, more].concat();
    (TestServer::with(backend, &settings).await, folder)
}

pub fn by_cookie(server: &TestServer, method: Method, path: &str, jar: &str) -> RequestBuilder {
    server.request(method, path).header("cookie", jar)
}

fn account() -> Value {
    json!({ "email": "vera@example.org", "username": "vera", "password": PASSWORD, "delivery": "cookie" })
}

fn login() -> Value {
    json!({ "login": "vera", "password": PASSWORD, "delivery": "cookie" })
}

backend_tests! {
    cookie_transport_hides_the_tokens_from_scripts,
    tokens_move_from_body_to_cookie_only_on_request,
    cookies_over_https_have_the_host_prefix,
    t76_a_cross_site_request_with_cookies_is_refused,
    a_bearer_token_takes_precedence_over_a_cookie,
}

async fn cookie_transport_hides_the_tokens_from_scripts(backend: Backend) {
    let server = TestServer::start(backend).await;
    let lives = ["900", "604800"];
    let registered = server.post(REGISTER, account()).await.expect(StatusCode::CREATED);
    let logged_in = server.post(LOGIN, login()).await.expect(StatusCode::OK);
    let older = server.post("/auth/login", login()).await.expect(StatusCode::OK);
    for reply in [&registered, &logged_in, &older] {
        expect_cookies(reply, PLAIN, lives);
        let data = &reply.json()["data"];
        assert_eq!((data.get("accessToken"), data.get("refreshToken")), (None, None), "{reply:?}");
        assert_eq!((&data["expiresIn"], &data["user"]["username"]), (&900.into(), &"vera".into()));
        for cookie in cookies(reply) {
            assert!(!reply.text.contains(&cookie.value), "a token is in the body");
        }
    }
    let first = jar(&logged_in);
    send(by_cookie(&server, Method::GET, "/api/v1/auth/verify", &first))
        .await
        .expect(StatusCode::OK);
    let session = send(by_cookie(&server, Method::GET, "/api/v1/auth/session", &first))
        .await
        .expect(StatusCode::OK);
    assert_eq!(session.json()["data"]["username"], "vera");

    // Without a body, and with an empty object: the new tokens go where the old one came from.
    let next = send(by_cookie(&server, Method::POST, REFRESH, &first)).await.expect(StatusCode::OK);
    expect_cookies(&next, PLAIN, lives);
    let retry = send(by_cookie(&server, Method::POST, REFRESH, &first).json(&json!({})))
        .await
        .expect(StatusCode::OK);
    assert_eq!(cookies(&retry)[1], cookies(&next)[1], "a retry gets the same successor");
    let second = jar(&next);
    assert_ne!(first, second);

    let out = send(by_cookie(&server, Method::POST, LOGOUT, &second)).await.expect(StatusCode::OK);
    expect_cookies(&out, PLAIN, ["0", "0"]);
    send(by_cookie(&server, Method::GET, "/api/v1/auth/verify", &second))
        .await
        .expect_error(401, "INVALID_TOKEN");
    send(by_cookie(&server, Method::POST, REFRESH, &second))
        .await
        .expect_error(401, "INVALID_REFRESH_TOKEN");
    let session = send(by_cookie(&server, Method::GET, "/api/v1/auth/session", &second)).await;
    assert_eq!(session.expect(StatusCode::OK).json()["data"], Value::Null);
    let others = send(by_cookie(&server, Method::GET, "/api/v1/auth/verify", &jar(&older))).await;
    others.expect(StatusCode::OK);
}

async fn tokens_move_from_body_to_cookie_only_on_request(backend: Backend) {
    let server = TestServer::start(backend).await;
    let body = server.register("vera").await;
    let reply = server.login("vera").await.expect(StatusCode::OK);
    assert_eq!(cookies(&reply), []);
    let refresh = json!({ "refreshToken": body.refresh, "delivery": "cookie" });
    let moved = server.post(REFRESH, refresh).await.expect(StatusCode::OK);
    expect_cookies(&moved, PLAIN, ["900", "604800"]);
    let back = send(
        by_cookie(&server, Method::POST, REFRESH, &jar(&moved))
            .json(&json!({ "delivery": "body" })),
    )
    .await;
    let back = back.expect(StatusCode::OK);
    assert_eq!(cookies(&back), []);
    server.verify(&back.tokens().access).await.expect(StatusCode::OK);
}

async fn cookies_over_https_have_the_host_prefix(backend: Backend) {
    let (server, _folder) = with_https(backend, &[]).await;
    let reply = server.post(REGISTER, account()).await.expect(StatusCode::CREATED);
    expect_cookies(&reply, HOST, ["900", "604800"]);
    assert_eq!(reply.header("strict-transport-security"), "max-age=31536000");
    send(by_cookie(&server, Method::GET, "/api/v1/auth/verify", &jar(&reply)))
        .await
        .expect(StatusCode::OK);
    let unbound = jar(&reply).replace("__Host-", "");
    send(by_cookie(&server, Method::GET, "/api/v1/auth/verify", &unbound))
        .await
        .expect_error(401, "INVALID_TOKEN");
    let next =
        send(by_cookie(&server, Method::POST, REFRESH, &jar(&reply)).header("origin", ISSUER))
            .await
            .expect(StatusCode::OK);
    expect_cookies(&next, HOST, ["900", "604800"]);
    let out =
        send(by_cookie(&server, Method::DELETE, LOGOUT, &jar(&next)).header("origin", ISSUER))
            .await
            .expect(StatusCode::OK);
    expect_cookies(&out, HOST, ["0", "0"]);
    for path in ["/", "/docs", "/openapi.json", "/oauth2/jwks", "/nothing", "/api/v1/auth/health"] {
        assert_eq!(
            server.get(path).await.header("strict-transport-security"),
            "max-age=31536000",
            "{path}"
        );
    }
}

async fn t76_a_cross_site_request_with_cookies_is_refused(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mine = jar(&server.post(REGISTER, account()).await.expect(StatusCode::CREATED));
    let foreign = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "odd"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:8081"),
        ("origin", "http://127.0.0.1:8080.evil.example"),
        ("origin", "https://127.0.0.1:8080"),
    ];
    for (name, value) in foreign {
        for (method, path) in [
            (Method::POST, REFRESH),
            (Method::POST, LOGOUT),
            (Method::DELETE, LOGOUT),
            (Method::POST, "/auth/logout"),
        ] {
            let reply = send(by_cookie(&server, method, path, &mine).header(name, value)).await;
            assert_eq!(
                cookies(&reply.expect_error(403, "CROSS_SITE_REQUEST")),
                [],
                "{path} {name}: {value}"
            );
        }
        // Login CSRF: the victim's browser gets the cookies of the attacker's account.
        for (path, body) in [(LOGIN, login()), (REGISTER, account()), ("/auth/login", login())] {
            let reply =
                send(server.request(Method::POST, path).json(&body).header(name, value)).await;
            assert_eq!(
                cookies(&reply.expect_error(403, "CROSS_SITE_REQUEST")),
                [],
                "{path} {name}: {value}"
            );
        }
    }
    send(by_cookie(&server, Method::GET, "/api/v1/auth/verify", &mine))
        .await
        .expect(StatusCode::OK);
    for (name, value) in [
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-site", "none"),
        ("origin", "http://127.0.0.1:8080"),
    ] {
        send(server.request(Method::POST, LOGIN).json(&login()).header(name, value))
            .await
            .expect(StatusCode::OK);
    }
    // A token in the request itself is not attached by the browser: any origin may present one.
    let body = json!({ "login": "vera", "password": PASSWORD });
    let request =
        server.request(Method::POST, LOGIN).json(&body).header("sec-fetch-site", "cross-site");
    let tokens = send(request).await.expect(StatusCode::OK).tokens();
    let request = server
        .request(Method::POST, LOGOUT)
        .bearer_auth(&tokens.access)
        .header("sec-fetch-site", "cross-site");
    send(request).await.expect(StatusCode::OK);
    let same =
        by_cookie(&server, Method::POST, LOGOUT, &mine).header("sec-fetch-site", "same-origin");
    send(same).await.expect(StatusCode::OK);
}

async fn a_bearer_token_takes_precedence_over_a_cookie(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mine = jar(&server.post(REGISTER, account()).await.expect(StatusCode::CREATED));
    let nora = server.register("nora").await;
    let reply = send(
        by_cookie(&server, Method::GET, "/api/v1/auth/session", &mine).bearer_auth(&nora.access),
    )
    .await;
    assert_eq!(reply.expect(StatusCode::OK).json()["data"]["username"], "nora");
    let reply = send(
        by_cookie(&server, Method::GET, "/api/v1/auth/verify", &mine).bearer_auth("made.up.token"),
    )
    .await;
    reply.expect_error(401, "INVALID_TOKEN");
    for bad in ["Basic dmVyYTp4", "Bearer", "Bearer ", "bearer", "Token x"] {
        let reply = send(
            by_cookie(&server, Method::GET, "/api/v1/auth/verify", &mine)
                .header("authorization", bad),
        )
        .await;
        let reply = reply.expect_error(401, "INVALID_TOKEN");
        assert!(reply.header("www-authenticate").starts_with("Bearer"), "{bad}");
    }
}
