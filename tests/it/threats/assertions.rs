//! Attacks on client authentication by signed assertions.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use josekit::{jwk::Jwk, jws};
use propusk::{
    flows::maintenance,
    model::client::{AuthMethod, Metadata},
    storage::Statement,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Backend, Reply, TestServer, backend_tests,
    oauth::{SECRET, sign, web_app},
    send,
};

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A client's key, which its metadata publishes.
fn key() -> Jwk {
    jws::ES256.generate_key_pair().expect("a key").to_jwk_key_pair()
}

fn signing_app(key: &Jwk) -> Metadata {
    let public = key.to_public_key().expect("a public key");
    Metadata {
        token_endpoint_auth_method: AuthMethod::PrivateKeyJwt,
        jwks: Some(json!({ "keys": [serde_json::to_value(public).expect("JSON")] })),
        ..web_app()
    }
}

/// The claims of a valid assertion; each has a `jti` of its own.
fn claims(server: &TestServer, jti: &str) -> Value {
    let now = server.clock.now().as_secs();
    json!({ "iss": "app", "sub": "app", "aud": server.app.config.server.issuer, "jti": jti, "iat": now, "exp": now + 60 })
}

fn assertion(key: &Jwk, claims: &Value) -> String {
    sign(key, &json!({ "alg": "ES256" }), claims)
}

/// Requests a token with an assertion and further parameters.
async fn ask(server: &TestServer, assertion: &str, beside: &[(&str, &str)]) -> Reply {
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", TYPE),
        ("client_assertion", assertion),
    ];
    server.form("/oauth2/token", &[&fields, beside].concat()).await
}

async fn with_signing_app(backend: Backend) -> (TestServer, Jwk) {
    let (server, key) = (TestServer::start(backend).await, key());
    server.client("app", signing_app(&key)).await;
    (server, key)
}

/// The number of stored assertion ids.
async fn remembered(server: &TestServer) -> i64 {
    let statement = Statement::new("SELECT count(*) AS n FROM single_use_ids");
    let rows = server.app.db.read(statement).await.expect("rows");
    rows[0].get("n").expect("a number")
}

backend_tests! {
    t18_only_the_registered_authentication_method_is_accepted,
    t18_an_assertion_with_a_foreign_key_is_refused,
    t20_an_assertion_is_single_use_across_servers_and_restarts,
    t21_an_assertion_audience_must_be_the_issuer_alone,
    t22_an_assertion_lives_five_minutes_and_is_then_forgotten,
}

async fn t18_only_the_registered_authentication_method_is_accepted(backend: Backend) {
    let (server, key) = with_signing_app(backend).await;
    server.client("secret", web_app()).await;
    ask(&server, &assertion(&key, &claims(&server, "good")), &[]).await.expect(StatusCode::OK);
    ask(&server, &assertion(&key, &claims(&server, "named")), &[("client_id", "app")])
        .await
        .expect(StatusCode::OK);
    // A secret beside an unsigned assertion.
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for alg in ["none", "None", "nOnE", "HS256"] {
        let unsigned =
            format!("{}.{}.", encode(json!({ "alg": alg })), encode(claims(&server, alg)));
        for beside in [
            &[][..],
            &[("client_id", "app")],
            &[("client_secret", SECRET)],
            &[("client_id", "app"), ("client_secret", SECRET)],
            &[("client_id", "secret"), ("client_secret", SECRET)],
        ] {
            ask(&server, &unsigned, beside).await.expect_oauth_error(400, "invalid_client");
        }
    }
    // Two methods at once, valid or not.
    let fresh = |jti: &str| assertion(&key, &claims(&server, jti));
    for (n, beside) in [
        &[("client_secret", SECRET)][..],
        &[("client_id", "app"), ("client_secret", SECRET)],
        &[("client_id", "secret"), ("client_secret", SECRET)],
    ]
    .into_iter()
    .enumerate()
    {
        ask(&server, &fresh(&format!("two-{n}")), beside)
            .await
            .expect_oauth_error(400, "invalid_request");
    }
    for (id, jti) in [("app", "a"), ("secret", "b")] {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", TYPE),
            ("client_assertion", &fresh(jti)),
        ];
        server
            .form_as("/oauth2/token", id, &fields)
            .await
            .expect_oauth_error(400, "invalid_request");
    }
    let fields =
        [("grant_type", "client_credentials"), ("client_id", "secret"), ("client_secret", SECRET)];
    server
        .form_as("/oauth2/token", "secret", &fields)
        .await
        .expect_oauth_error(400, "invalid_request");
    // Another method than the registered one.
    server
        .form_as("/oauth2/token", "app", &[("grant_type", "client_credentials")])
        .await
        .expect_oauth_error(401, "invalid_client");
    for id in ["app", "secret"] {
        server
            .form("/oauth2/token", &[("grant_type", "client_credentials"), ("client_id", id)])
            .await
            .expect_oauth_error(400, "invalid_client");
    }
    let mut other = claims(&server, "other");
    (other["iss"], other["sub"]) = ("secret".into(), "secret".into());
    ask(&server, &assertion(&key, &other), &[]).await.expect_oauth_error(400, "invalid_client");
    ask(&server, &fresh("for-app"), &[("client_id", "secret")])
        .await
        .expect_oauth_error(400, "invalid_client");
    // A signed authorization request passes through browsers (RFC 9101 §10.8).
    let request = sign(
        &key,
        &json!({ "alg": "ES256", "typ": "oauth-authz-req+jwt" }),
        &claims(&server, "request"),
    );
    ask(&server, &request, &[]).await.expect_oauth_error(400, "invalid_client");
    // Another assertion type, or none.
    let bare = fresh("bare");
    for kind in ["urn:ietf:params:oauth:client-assertion-type:saml2-bearer", "jwt", ""] {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", kind),
            ("client_assertion", &bare),
        ];
        server.form("/oauth2/token", &fields).await.expect_oauth_error(400, "invalid_request");
    }
    ask(&server, &bare, &[]).await.expect(StatusCode::OK);
    // The other endpoints accept the same authentication.
    for (path, field) in
        [("/oauth2/introspect", ("token", "x")), ("/oauth2/revoke", ("token", "x"))]
    {
        let good = fresh(path);
        let fields = [field, ("client_assertion_type", TYPE), ("client_assertion", &good)];
        server.form(path, &fields).await.expect(StatusCode::OK);
        server.form(path, &fields).await.expect_oauth_error(400, "invalid_client");
    }
}

async fn t18_an_assertion_with_a_foreign_key_is_refused(backend: Backend) {
    let (server, key) = with_signing_app(backend).await;
    let mallory = self::key();
    let public: Value =
        serde_json::to_value(mallory.to_public_key().expect("public")).expect("JSON");
    let good = claims(&server, "good");
    let headers = [
        json!({ "alg": "ES256" }),
        json!({ "alg": "ES256", "jwk": public }),
        json!({ "alg": "ES256", "jku": "https://evil.example/jwks" }),
        json!({ "alg": "ES256", "x5u": "https://evil.example/x" }),
        json!({ "alg": "ES256", "kid": "../x" }),
    ];
    for header in &headers {
        ask(&server, &sign(&mallory, header, &good), &[])
            .await
            .expect_oauth_error(400, "invalid_client");
    }
    let header = |more: Value| {
        let mut header = json!({ "alg": "ES256" });
        header
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        header
    };
    for more in [
        json!({ "crit": ["exp"], "exp": 1 }),
        json!({ "alg": "HS256" }),
        json!({ "alg": "RS256" }),
        json!({ "jwk": public }),
        json!({ "b64": false, "crit": ["b64"] }),
        json!({ "zip": "DEF" }),
    ] {
        ask(&server, &sign(&key, &header(more), &good), &[])
            .await
            .expect_oauth_error(400, "invalid_client");
    }
    let whole = assertion(&key, &good);
    let (message, signature) = whole.rsplit_once('.').expect("a signature");
    for changed in [
        &whole[1..],
        &whole[..whole.len() - 2],
        &format!("{whole}A"),
        &format!("{message}.{}", "A".repeat(86)),
        &format!("{whole}.{whole}"),
        "x",
        "a.b.c",
        &"a.".repeat(1_000),
        &"a".repeat(40_000),
    ] {
        ask(&server, changed, &[("client_id", "app")])
            .await
            .expect_oauth_error(400, "invalid_client");
    }
    let mut forged = good.clone();
    forged["jti"] = "forged".into();
    let forged = format!(
        "{}.{}.{signature}",
        message.split_once('.').expect("two").0,
        URL_SAFE_NO_PAD.encode(forged.to_string())
    );
    ask(&server, &forged, &[]).await.expect_oauth_error(400, "invalid_client");
    assert_eq!(remembered(&server).await, 0, "an assertion with a bad signature is not stored");
    ask(&server, &whole, &[]).await.expect(StatusCode::OK);
}

async fn t20_an_assertion_is_single_use_across_servers_and_restarts(backend: Backend) {
    let (one, key) = (TestServer::start(backend).await, self::key());
    let other = one.another(&[]).await;
    one.client("app", signing_app(&key)).await;
    one.client("second", signing_app(&key)).await;
    let used = assertion(&key, &claims(&one, "once"));
    ask(&one, &used, &[]).await.expect(StatusCode::OK);
    for server in [&one, &other] {
        ask(server, &used, &[]).await.expect_oauth_error(400, "invalid_client");
    }
    // The `jti` decides, whatever else differs; that of another client is another.
    let mut again = claims(&one, "once");
    again["exp"] = (again["exp"].as_i64().expect("seconds") + 30).into();
    ask(&other, &assertion(&key, &again), &[]).await.expect_oauth_error(400, "invalid_client");
    (again["iss"], again["sub"]) = ("second".into(), "second".into());
    ask(&other, &assertion(&key, &again), &[]).await.expect(StatusCode::OK);
    let raced = assertion(&key, &claims(&one, "raced"));
    let replies =
        join_all((0..40).map(|n| ask(if n % 2 == 0 { &one } else { &other }, &raced, &[]))).await;
    assert_eq!(
        replies.iter().filter(|reply| reply.status == StatusCode::OK).count(),
        1,
        "one of 40"
    );
    let clock = one.clock.clone();
    drop(other.stop().await);
    let database = one.stop().await;
    let restarted = TestServer::on(database, clock, &[]).await;
    for seen in [&used, &raced] {
        ask(&restarted, seen, &[]).await.expect_oauth_error(400, "invalid_client");
    }
    ask(&restarted, &assertion(&key, &claims(&restarted, "new")), &[]).await.expect(StatusCode::OK);
}

async fn t21_an_assertion_audience_must_be_the_issuer_alone(backend: Backend) {
    let (server, key) = with_signing_app(backend).await;
    let issuer = server.app.config.server.issuer.clone();
    let token = format!("{issuer}/oauth2/token");
    let with = |aud: Value, jti: &str| {
        let mut claims = claims(&server, jti);
        claims["aud"] = aud;
        assertion(&key, &claims)
    };
    let bad = [
        json!(token),
        json!([token]),
        json!([issuer, token]),
        json!([issuer, "https://other.example"]),
        json!([issuer, issuer]),
        json!(format!("{issuer}/")),
        json!("https://other.example"),
        json!(issuer.to_uppercase()),
        json!([]),
        json!(""),
        Value::Null,
        json!(1),
        json!({ "iss": issuer }),
    ];
    for (n, aud) in bad.into_iter().enumerate() {
        let reply =
            ask(&server, &with(aud.clone(), &format!("bad-{n}")), &[("client_id", "app")]).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{aud}: {reply:?}");
    }
    ask(&server, &with(json!(issuer), "text"), &[]).await.expect(StatusCode::OK);
    ask(&server, &with(json!([issuer]), "list"), &[]).await.expect(StatusCode::OK);
    // An ID token or an access token of the client is no assertion, nor is one that names another
    // client as its issuer.
    for (name, value) in [
        ("iss", json!("other")),
        ("sub", json!("other")),
        ("iss", Value::Null),
        ("sub", Value::Null),
        ("jti", Value::Null),
        ("jti", json!("")),
        ("jti", json!(7)),
        ("jti", json!("j".repeat(2_000))),
    ] {
        let mut claims = claims(&server, "x");
        claims[name] = value.clone();
        ask(&server, &assertion(&key, &claims), &[("client_id", "app")])
            .await
            .expect_oauth_error(400, "invalid_client");
    }
}

async fn t22_an_assertion_lives_five_minutes_and_is_then_forgotten(backend: Backend) {
    let (server, key) = with_signing_app(backend).await;
    let now = server.clock.now().as_secs();
    let with = |name: &str, value: Value, jti: &str| {
        let mut claims = claims(&server, jti);
        claims[name] = value;
        assertion(&key, &claims)
    };
    for (n, exp) in [
        json!(now + 3_600),
        json!(now + 331),
        json!(now - 31),
        json!(0),
        json!(-1),
        json!(9.3e18),
        json!(1e300),
        json!((now + 60).to_string()),
        Value::Null,
        json!(9_223_372_036_854_775_807_i64),
    ]
    .into_iter()
    .enumerate()
    {
        let reply =
            ask(&server, &with("exp", exp.clone(), &format!("exp-{n}")), &[("client_id", "app")])
                .await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{exp}: {reply:?}");
    }
    for (name, value) in [
        ("nbf", json!(now + 120)),
        ("iat", json!(now + 120)),
        ("nbf", json!("soon")),
        ("iat", json!("now")),
    ] {
        ask(&server, &with(name, value, &format!("future-{name}")), &[("client_id", "app")])
            .await
            .expect_oauth_error(400, "invalid_client");
    }
    assert_eq!(remembered(&server).await, 0, "a refused assertion is not stored");
    ask(&server, &with("exp", json!(now + 300), "five"), &[]).await.expect(StatusCode::OK);
    for n in 0..20 {
        ask(&server, &assertion(&key, &claims(&server, &format!("n{n}"))), &[])
            .await
            .expect(StatusCode::OK);
    }
    assert_eq!(remembered(&server).await, 21);
    // An assertion is never still valid but already forgotten.
    let last = with("exp", json!(now + 300), "five");
    for _ in 0..8 {
        server.clock.advance(Duration::from_secs(60));
        maintenance::sweep(&server.app).await.expect("swept");
        ask(&server, &last, &[]).await.expect_oauth_error(400, "invalid_client");
    }
    assert_eq!(remembered(&server).await, 0);
    let request = server
        .request(Method::POST, "/oauth2/token")
        .form(&[("client_assertion_type", TYPE), ("client_assertion", &last)]);
    send(request).await.expect_oauth_error(400, "invalid_request");
}
