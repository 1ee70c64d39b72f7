//! `/oauth2/token`: client credentials of the demo client.

use std::time::Duration;

use futures_util::future::join_all;
use propusk::{flows::admin::bootstrap, storage::Statement};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{Backend, PASSWORD, Reply, TestServer, backend_tests, send};

const TOKEN: &str = "/oauth2/token";

/// A server with its demo client, and the client's secret.
async fn with_demo(backend: Backend, settings: &[(&str, &str)]) -> (TestServer, String) {
    let server = TestServer::with(backend, settings).await;
    let first = bootstrap::set_up(&server.app).await.expect("set up");
    let (id, secret) = first.and_then(|first| first.demo_client).expect("a demo client");
    assert_eq!(id, "demo");
    (server, secret)
}

/// A form, with Basic authentication if a secret is given.
async fn ask(server: &TestServer, basic: Option<(&str, &str)>, form: &str) -> Reply {
    let mut request = server
        .request(Method::POST, TOKEN)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.to_owned());
    if let Some((id, secret)) = basic {
        request = request.basic_auth(id, Some(secret));
    }
    send(request).await
}

/// Fails the test unless this is that error of RFC 6749 §5.2.
#[track_caller]
fn expect_oauth_error(reply: &Reply, status: u16, error: &str) {
    assert_eq!(reply.status.as_u16(), status, "{reply:?}");
    let json = reply.json();
    assert_eq!(json["error"], error, "{reply:?}");
    assert!(json["error_description"].is_string(), "{reply:?}");
    assert_eq!(json["access_token"], Value::Null, "{reply:?}");
    assert_eq!(reply.header("cache-control"), "no-store");
}

const GRANT: &str = "grant_type=client_credentials";

backend_tests! {
    a_client_authenticates_by_header_or_form,
    failed_client_authentication_gets_no_token,
    basic_credentials_are_form_encoded,
    t05_the_token_endpoint_refuses_repeated_parameters,
    an_invalid_token_request_gets_the_specific_error,
    t19_client_secret_guessing_is_rate_limited,
    t83_no_token_response_or_event_contains_a_secret,
}

async fn a_client_authenticates_by_header_or_form(backend: Backend) {
    let (server, secret) = with_demo(backend, &[]).await;
    let in_form = format!("{GRANT}&client_id=demo&client_secret={secret}");
    let by_header = ask(&server, Some(("demo", &secret)), GRANT).await;
    let by_form = ask(&server, None, &in_form).await;
    for reply in [by_header, by_form] {
        let reply = reply.expect(StatusCode::OK);
        assert_eq!(reply.header("cache-control"), "no-store", "RFC 6749 §5.1");
        let json = reply.json();
        assert_eq!((&json["token_type"], &json["expires_in"]), (&"Bearer".into(), &900.into()));
        assert_eq!(json["scope"], "demo:read demo:write");
        assert_eq!(json["refresh_token"], Value::Null, "RFC 6749 §4.4.3");
        let verified = server
            .verify(json["access_token"].as_str().expect("a token"))
            .await
            .expect(StatusCode::OK)
            .json();
        let data = &verified["data"];
        assert_eq!((&data["clientId"], &data["sessionId"]), (&"demo".into(), &Value::Null));
        assert_eq!(
            (&data["user"]["id"], &data["user"]["email"], &data["user"]["role"]),
            (&"demo".into(), &Value::Null, &Value::Null)
        );
        assert_eq!(data["scope"], "demo:read demo:write");
        let session = server
            .get_as("/api/v1/auth/session", json["access_token"].as_str().expect("a token"))
            .await;
        assert_eq!(
            session.expect(StatusCode::OK).json()["data"],
            Value::Null,
            "a client has no user"
        );
    }
    let narrower =
        ask(&server, Some(("demo", &secret)), &format!("{GRANT}&scope=demo%3Aread")).await;
    assert_eq!(narrower.expect(StatusCode::OK).json()["scope"], "demo:read");
}

async fn failed_client_authentication_gets_no_token(backend: Backend) {
    let (server, secret) = with_demo(backend, &[]).await;
    let wrong = |id: &'static str, secret: &'static str| (id, secret);
    for (id, secret) in [
        wrong("demo", "wrong"),
        wrong("demo", ""),
        wrong("nobody", "wrong"),
        wrong("propusk", ""),
        wrong("propusk", "x"),
        wrong("demo%00", "wrong"),
        wrong("%00", "%00"),
    ] {
        let reply = ask(&server, Some((id, secret)), GRANT).await;
        expect_oauth_error(&reply, 401, "invalid_client");
        assert!(reply.header("www-authenticate").starts_with("Basic"), "RFC 6749 §5.2: {reply:?}");
    }
    let replies = [
        ask(&server, None, GRANT).await,
        ask(&server, None, &format!("{GRANT}&client_id=demo")).await,
        ask(&server, None, &format!("{GRANT}&client_id=demo&client_secret=wrong")).await,
        ask(&server, None, &format!("{GRANT}&client_id=demo&client_secret={}", &secret[1..])).await,
    ];
    for reply in replies {
        // Without an Authorization header there is nothing to challenge.
        expect_oauth_error(&reply, 400, "invalid_client");
        assert_eq!(reply.header("www-authenticate"), "", "{reply:?}");
    }
    let request = server.request(Method::POST, TOKEN).bearer_auth(&secret);
    let reply =
        send(request.header("content-type", "application/x-www-form-urlencoded").body(GRANT)).await;
    expect_oauth_error(&reply, 401, "invalid_client");
}

async fn basic_credentials_are_form_encoded(backend: Backend) {
    const ODD: &str = "50% of a+b & c=\u{e9}:~";
    let (server, _) = with_demo(backend, &[]).await;
    server
        .change_client("demo", |client| client.secrets[0].hash = Sha256::digest(ODD).to_vec())
        .await;
    let encoded: String = url::form_urlencoded::byte_serialize(ODD.as_bytes()).collect();
    for (id, secret) in [("demo", encoded.clone()), ("%64emo", encoded.replace('+', "%20"))] {
        ask(&server, Some((id, &secret)), GRANT).await.expect(StatusCode::OK);
    }
    // Unencoded it is another secret; and nothing may follow it.
    for wrong in [
        ODD,
        &encoded[1..],
        &format!("{encoded}&x=y"),
        &format!("{encoded}%26"),
        &format!("{encoded}:"),
    ] {
        expect_oauth_error(
            &ask(&server, Some(("demo", wrong)), GRANT).await,
            401,
            "invalid_client",
        );
    }
    let in_form = format!("{GRANT}&client_id=demo&client_secret={encoded}");
    ask(&server, None, &in_form).await.expect(StatusCode::OK);
}

async fn t05_the_token_endpoint_refuses_repeated_parameters(backend: Backend) {
    let (server, secret) = with_demo(backend, &[]).await;
    for form in [
        format!("{GRANT}&{GRANT}"),
        format!("{GRANT}&grant_type=password"),
        format!("{GRANT}&scope=demo:read&scope=demo:write"),
        format!("{GRANT}&%73cope=demo:read&scope=demo:read"),
        format!("{GRANT}&client_id=demo&client_id=demo"),
        format!("{GRANT}&unknown=1&unknown=1"),
    ] {
        let reply = ask(&server, Some(("demo", &secret)), &form).await;
        expect_oauth_error(&reply, 400, "invalid_request");
    }
    // A parameter in the URL is ignored by this endpoint (RFC 6749 §3.2).
    let request = server
        .request(Method::POST, "/oauth2/token?grant_type=client_credentials")
        .basic_auth("demo", Some(&secret));
    let reply =
        send(request.header("content-type", "application/x-www-form-urlencoded").body("")).await;
    expect_oauth_error(&reply, 400, "invalid_request");
}

async fn an_invalid_token_request_gets_the_specific_error(backend: Backend) {
    let (server, secret) = with_demo(backend, &[]).await;
    let demo = Some(("demo", secret.as_str()));
    let cases = [
        (demo, String::new(), "invalid_request"),
        (demo, "grant_type=".to_owned(), "invalid_request"),
        (demo, "grant_type=password&username=vera&password=x".to_owned(), "unsupported_grant_type"),
        (demo, "grant_type=authorization_code".to_owned(), "invalid_request"),
        (demo, "grant_type=authorization_code&code=x".to_owned(), "invalid_grant"),
        (demo, "grant_type=refresh_token".to_owned(), "invalid_request"),
        (demo, "grant_type=refresh_token&refresh_token=x".to_owned(), "invalid_grant"),
        (demo, "grant_type=CLIENT_CREDENTIALS".to_owned(), "unsupported_grant_type"),
        (demo, format!("{GRANT}&scope=admin"), "invalid_scope"),
        (demo, format!("{GRANT}&scope=demo:read+openid"), "invalid_scope"),
        (demo, format!("{GRANT}&scope=demo:read%22"), "invalid_scope"),
        // RFC 6749 §2.3: one authentication method in a request.
        (demo, format!("{GRANT}&client_id=demo&client_secret={secret}"), "invalid_request"),
        (demo, format!("{GRANT}&client_secret=other"), "invalid_request"),
        (demo, format!("{GRANT}&client_id=other"), "invalid_request"),
        (None, format!("{GRANT}&client_secret={secret}"), "invalid_request"),
        (demo, format!("{GRANT}&scope=%ff"), "invalid_request"),
        (demo, format!("{GRANT}&scope=%"), "invalid_request"),
    ];
    for (basic, form, error) in cases {
        let reply = ask(&server, basic, &form).await;
        assert!(!reply.text.contains(&secret), "{reply:?}");
        expect_oauth_error(&reply, 400, error);
    }
    let json = server
        .request(Method::POST, TOKEN)
        .basic_auth("demo", Some(&secret))
        .header("content-type", "application/json");
    expect_oauth_error(
        &send(json.body(r#"{"grant_type":"client_credentials"}"#)).await,
        400,
        "invalid_request",
    );
}

async fn t19_client_secret_guessing_is_rate_limited(backend: Backend) {
    let settings = [
        ("PROPUSK_LIMITS__ENABLED", "true"),
        ("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.1/32"),
        ("PROPUSK_LIMITS__ADDRESS_BURST", "100000"),
        ("PROPUSK_LIMITS__ADDRESS_PER_MINUTE", "100000"),
    ];
    let (server, secret) = with_demo(backend, &settings).await;
    let from = |address: &'static str, secret: String| {
        let request = server.request(Method::POST, TOKEN).header("x-forwarded-for", address);
        let request = request
            .header("content-type", "application/x-www-form-urlencoded")
            .basic_auth("demo", Some(secret));
        send(request.body(GRANT))
    };
    let (mut looked_at, mut stopped) = (0, 0);
    for hundred in 0..10 {
        for reply in
            join_all((0..100).map(|n| from("198.51.100.7", format!("guess-{hundred}-{n}")))).await
        {
            match reply.status.as_u16() {
                401 => looked_at += 1,
                429 => {
                    let wait: u64 = reply.header("retry-after").parse().expect("seconds");
                    assert!((1..=60).contains(&wait), "{reply:?}");
                    stopped += 1;
                }
                _ => panic!("{reply:?}"),
            }
        }
    }
    assert_eq!((looked_at, stopped), (60, 940), "exactly the burst is checked");
    let reply = from("198.51.100.7", secret.clone()).await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS, "even the right secret is refused now");
    from("203.0.113.9", secret.clone()).await.expect(StatusCode::OK);
    server.clock.advance(Duration::from_secs(60));
    from("198.51.100.7", secret).await.expect(StatusCode::OK);
}

async fn t83_no_token_response_or_event_contains_a_secret(backend: Backend) {
    let (server, secret) = with_demo(backend, &[]).await;
    let in_form = format!("{GRANT}&client_id=demo&client_secret={secret}");
    let guess = "a guess that is quite wrong";
    let body = serde_json::json!({ "email": "vera@example.org", "username": "vera", "password": PASSWORD });
    let login = serde_json::json!({ "login": "vera", "password": guess });
    let first = server.post("/api/v1/auth/register", body).await.expect(StatusCode::CREATED);
    let tokens = first.tokens();
    let mut replies = vec![
        first,
        server.login("vera").await,
        server.post("/api/v1/auth/login", login).await,
        server.refresh(&tokens.refresh).await,
        server.verify(&tokens.access).await,
        server.get_as("/api/v1/auth/session", &tokens.access).await,
        ask(&server, None, &in_form).await.expect(StatusCode::OK),
        ask(&server, None, &format!("{in_form}&scope=admin")).await,
        ask(&server, Some(("demo", &secret)), &in_form).await,
        server.post_as("/api/v1/auth/logout", &tokens.access).await.expect(StatusCode::OK),
    ];
    for path in ["/", "/docs", "/openapi.json", "/oauth2/jwks", "/api/v1/auth/health"] {
        replies.push(server.get(path).await);
    }
    let secrets = [&secret, guess];
    for reply in &replies {
        let headers = format!("{:?}", reply.headers);
        for secret in secrets {
            assert!(!reply.text.contains(secret) && !headers.contains(secret), "{reply:?}");
        }
    }
    // The example in the API document is this very password; no response may repeat it.
    assert!(!replies[..10].iter().any(|reply| reply.text.contains(PASSWORD)));
    let kept = server
        .app
        .db
        .read(Statement::new(
            "SELECT data AS text FROM outbox UNION ALL SELECT detail AS text FROM audit_log",
        ))
        .await;
    let kept: Vec<String> =
        kept.expect("rows").iter().map(|row| row.get("text").expect("text")).collect();
    assert!(kept.len() >= 6, "events and audit entries: {kept:?}");
    for text in &kept {
        for secret in [&secret, guess, PASSWORD, &tokens.refresh, &tokens.access, "$argon2"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
