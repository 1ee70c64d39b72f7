//! Why a request was denied.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use josekit::{
    jwk::{Jwk, alg::ec::EcCurve},
    jws::{self, JwsSigner},
};
use propusk::{
    flows::admin::users,
    model::{
        actor::Actor,
        client::{AuthMethod, GrantType, Metadata},
    },
    storage::Statement,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    Backend, Reply, TestServer, backend_tests,
    oauth::{AuthorizationRequest, CALLBACK, VERIFIER, first_party_app},
    send,
};

/// What the admin API returns of a denied request.
async fn explained(server: &TestServer, admin: &str, refused: &Reply) -> Value {
    let id = refused.header("x-request-id");
    let response = server.get_as(&format!("/api/v1/admin/explain/{id}"), admin).await;
    response.expect(StatusCode::OK).json()["data"].clone()
}

/// A client's key, and what it publishes.
fn client_key() -> (Jwk, Value) {
    let key = Jwk::generate_ec_key(EcCurve::P256).expect("a key");
    let public = key.to_public_key().expect("a public key");
    let mut public = serde_json::to_value(public).expect("JSON");
    public["kid"] = "one".into();
    (key, public)
}

/// A JWT of whatever claims.
fn sign(key: &Jwk, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&json!({ "alg": "ES256", "kid": "one" })), part(claims));
    let signer = jws::ES256.signer_from_jwk(key).expect("a signer");
    let signature = signer.sign(message.as_bytes()).expect("a signature");
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

backend_tests! {
    every_denied_request_is_explained_by_rule_and_diagnostics,
    each_failed_check_of_an_assertion_is_explained,
    a_code_that_does_not_fit_its_request_is_explained,
    a_denied_request_of_another_process_is_explained_and_pruned,
}

async fn every_denied_request_is_explained_by_rule_and_diagnostics(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut app = first_party_app();
    app.grant_types.push(GrantType::ClientCredentials);
    server.client("app", app).await;
    let ann = server.register("ann").await;
    let mut browser = server.logged_in("ann").await;
    let request = AuthorizationRequest::of("app", "openid api:read");

    let mut refused = vec![];
    // Another redirect URI than the registered one.
    let wrong =
        browser.open(&request.clone().with("redirect_uri", "https://evil.example/cb").path()).await;
    refused.push((
        wrong,
        "`redirect_uri` is not registered for this client",
        vec![
            ("redirect_uri.requested", "https://evil.example/cb"),
            ("redirect_uri.registered", "https://app.example/cb"),
        ],
    ));
    // A wrong secret.
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "app"),
        ("client_secret", "canary-secret"),
    ];
    let wrong = server.form("/oauth2/token", &form).await;
    refused.push((
        wrong,
        "unknown client or invalid client authentication",
        vec![
            ("client.id", "app"),
            ("client.presented", "secret"),
            ("client.found_and_enabled", "true"),
        ],
    ));
    // A scope that the client is not allowed.
    let form = [("grant_type", "client_credentials"), ("scope", "canary:scope")];
    let wrong = server.form_as("/oauth2/token", "app", &form).await;
    refused.push((
        wrong,
        "the client may not request this scope",
        vec![("grant_type", "ClientCredentials"), ("scope.requested", "canary:scope")],
    ));
    // A code that is used twice, and one with another verifier.
    let code = browser.authorize(&request, "ann").await.code().to_owned();
    let tokens = server.exchange_code("app", &code).await.expect(StatusCode::OK);
    let wrong = server.exchange_code("app", &code).await;
    refused.push((
        wrong,
        "the code was used before",
        vec![("code.exchanged", "true"), ("code.belongs_to_client", "true")],
    ));
    let code = browser.authorize(&request, "ann").await.code().to_owned();
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", "https://app.example/cb"),
        ("code_verifier", "another-verifier-another-verifier-another-verifier"),
    ];
    let wrong = server.form_as("/oauth2/token", "app", &form).await;
    refused.push((
        wrong,
        "`code_verifier` does not match the `code_challenge` of the request",
        vec![
            ("code.exchanged", "false"),
            ("code.expired", "false"),
            (
                "code.code_verifier",
                "`code_verifier` does not match the `code_challenge` of the request",
            ),
            ("code.redirect_uri", "matches"),
        ],
    ));
    // The tokens issued for the code that was used twice.
    let wrong = server.refresh_as("app", &tokens.field("refresh_token")).await;
    refused.push((
        wrong,
        "the refresh token is unknown, expired, revoked or used",
        vec![("session.ended", "true"), ("grant_type", "RefreshToken")],
    ));
    let wrong = server.get_as("/oauth2/userinfo", &tokens.field("access_token")).await;
    refused.push((
        wrong,
        "revoked",
        vec![("revoked_by", "an entry of the kind session"), ("token.client_id", "app")],
    ));
    // An introspection response that is only `inactive`.
    let wrong = server.form_as("/oauth2/introspect", "app", &[("token", &ann.access)]).await;
    refused.push((
        wrong,
        "the client may not introspect this token",
        vec![("introspected_by", "app"), ("token.client_id", "propusk")],
    ));
    // An error in a redirect, and one on an error page.
    let wrong = server.browser().open(&request.clone().with("prompt", "none").path()).await;
    refused.push((wrong, "no user is logged in", vec![]));
    let wrong = server.get_as("/oauth2/revocations", &ann.access).await;
    refused.push((
        wrong,
        "the token lacks the scope propusk:revocations",
        vec![("needed.scope", "propusk:revocations"), ("token.scope", "openid profile email")],
    ));
    let wrong = server.login("nobody").await;
    refused.push((wrong, "wrong login or password", vec![("login.account", "unknown")]));
    // The same response for a wrong password and for a disabled account; the explanation tells them
    // apart.
    let carol = server.register("carol").await;
    let wrong = server
        .post("/api/v1/auth/login", json!({"login": "carol", "password": "canary-password"}))
        .await;
    refused.push((
        wrong,
        "wrong login or password",
        vec![("login.account", "known"), ("login.password", "Wrong")],
    ));
    let user = users::find(&server.app, "carol").await.expect("known");
    users::disable(&server.app, &user.id, &Actor::operator()).await.expect("disabled");
    let wrong = server.login("carol").await;
    refused.push((
        wrong,
        "wrong login or password",
        vec![("login.password", "Right"), ("user.disabled", "true")],
    ));
    // A resource that is not in the catalogue.
    let form = [("grant_type", "client_credentials"), ("resource", "https://api.example/unknown")];
    let wrong = server.form_as("/oauth2/token", "app", &form).await;
    refused.push((
        wrong,
        "`resource` is unknown",
        vec![
            ("resource.requested", "https://api.example/unknown"),
            ("resource.allowed_for_client", "false"),
        ],
    ));
    server.clock.advance(Duration::from_secs(1_000));
    let wrong = server.verify(&ann.access).await;
    refused.push((wrong, "token expired", vec![("token.scope", "openid profile email")]));

    let admin = server.admin("root").await;
    for (reply, reason, facts) in &refused {
        let response = explained(&server, &admin.token, reply).await;
        assert!(
            response["reason"].as_str().is_some_and(|text| text.contains(reason)),
            "{reason}: {response}"
        );
        assert_eq!(response["status"], reply.status.as_u16().to_string(), "{response}");
        for (name, value) in facts {
            assert_eq!(response["diagnostics"][name], *value, "{response}");
        }
    }
    // A request that succeeded has no explanation, and others may not read one.
    let fine = server.get("/oauth2/jwks").await;
    let path = format!("/api/v1/admin/explain/{}", fine.header("x-request-id"));
    server.get_as(&path, &admin.token).await.expect_error(404, "NOT_FOUND");
    let bob = server.register("bob").await;
    let path = format!("/api/v1/admin/explain/{}", refused[0].0.header("x-request-id"));
    server.get_as(&path, &bob.access).await.expect_error(403, "INSUFFICIENT_SCOPE");

    // The stored diagnostics contain no secret, code or token.
    while server
        .app
        .db
        .read(Statement::new("SELECT COUNT(*) AS n FROM denied_requests"))
        .await
        .expect("read")[0]
        .get::<i64>("n")
        .expect("a number")
        < refused.len() as i64
    {
        server.app.denied_requests.write().await.expect("written");
    }
    let rows = server
        .app
        .db
        .read(Statement::new("SELECT reason, diagnostics FROM denied_requests"))
        .await
        .expect("read");
    for row in &rows {
        let text = row.get::<String>("reason").expect("text")
            + &row.get::<String>("diagnostics").expect("text");
        for secret in [
            "canary-secret",
            "canary-password",
            &carol.access,
            &code,
            &ann.access,
            &ann.refresh,
            "another-verifier",
            crate::support::PASSWORD,
        ] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    // Available at once in this process; later from the database, and on the command line.
    let response = explained(&server, &admin.token, &refused[1].0).await;
    assert_eq!(response["diagnostics"]["client.id"], "app");
    let id = refused[1].0.header("x-request-id").to_owned();
    let output = crate::support::process::run(&server.database, &[], &["explain", &id]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success()
            && text.contains("client.presented: secret")
            && text.contains("400 invalid_client"),
        "{text} {output:?}"
    );
    // As JSON: what is a number or a truth value has its type.
    let explain = |at: usize| {
        let reply: &Reply = &refused[at].0;
        let args = ["explain", reply.header("x-request-id"), "--json"];
        let output = crate::support::process::run(&server.database, &[], &args);
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let report = explain(1);
    assert_eq!((&report["status"], &report["code"]), (&json!(400), &json!("invalid_client")));
    assert_eq!(report["diagnostics"]["client.found_and_enabled"], true, "{report}");
    assert_eq!(report["diagnostics"]["client.id"], "app", "{report}");
    let report = explain(refused.len() - 1);
    assert!(report["diagnostics"]["token.exp"].is_i64(), "{report}");
    let output = crate::support::process::run(&server.database, &[], &["explain", "nothing"]);
    assert_eq!(output.status.code(), Some(1));
}

async fn each_failed_check_of_an_assertion_is_explained(backend: Backend) {
    let server = TestServer::start(backend).await;
    let ((key, public), (other, _)) = (client_key(), client_key());
    let app = Metadata {
        token_endpoint_auth_method: AuthMethod::PrivateKeyJwt,
        jwks: Some(json!({ "keys": [public] })),
        ..first_party_app()
    };
    server.client("app", app).await;
    let admin = server.admin("root").await;
    let (issuer, now) = (server.app.config.server.issuer.clone(), server.clock.now().as_secs());
    let good = json!({ "iss": "app", "sub": "app", "aud": issuer, "jti": "a", "exp": now + 60 });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        match value {
            Value::Null => claims.as_object_mut().and_then(|claims| claims.remove(name)),
            value => claims.as_object_mut().and_then(|c| c.insert(name.to_owned(), value)),
        };
        sign(&key, &claims)
    };
    let ask = async |assertion: &str| {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", "app"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion),
        ];
        server.form("/oauth2/token", &form).await
    };
    let used = sign(&key, &good);
    ask(&used).await.expect(StatusCode::OK);
    // Signed by the client: it is told, and so is the administrator.
    let aud = format!("`aud` must be {issuer} and nothing else");
    for (assertion, check, why) in [
        (with("iss", json!("me")), "assertion.iss", "`iss` must be the client_id"),
        (with("sub", json!("me")), "assertion.sub", "`sub` must be the client_id"),
        (with("aud", json!("https://other.example")), "assertion.aud", aud.as_str()),
        (with("exp", json!(now - 60)), "assertion.exp", "`exp` is in the past"),
        (
            with("exp", json!(now + 3_600)),
            "assertion.exp",
            "`exp` must be at most 5 minutes in the future",
        ),
        (with("iat", json!(now + 600)), "assertion.iat", "`iat` is in the future"),
        (with("nbf", json!(now + 600)), "assertion.nbf", "`nbf` is in the future"),
        (with("jti", json!("")), "assertion.jti", "`jti` must have 1 to 256 bytes"),
        (with("jti", Value::Null), "assertion.claims", "`jti` is missing"),
        (with("exp", json!("soon")), "assertion.claims", "`exp` has the wrong type"),
        (used, "assertion.jti", "`jti` was used before"),
    ] {
        let reply = ask(&assertion).await.expect_oauth_error(400, "invalid_client");
        assert!(reply.field("error_description").contains(why), "{why}: {reply:?}");
        let facts = explained(&server, &admin.token, &reply).await["diagnostics"].clone();
        assert!(facts[check].as_str().is_some_and(|fact| fact.contains(why)), "{why}: {facts}");
        assert_eq!(facts["client.id"], "app");
    }
    // Several at once, each named.
    let mut several = good.clone();
    (several["aud"], several["exp"]) = (json!([]), json!(1));
    let reply = ask(&sign(&key, &several)).await;
    let facts = explained(&server, &admin.token, &reply).await["diagnostics"].clone();
    assert!(facts["assertion.aud"].is_string() && facts["assertion.exp"].is_string(), "{facts}");
    // Anybody else is told nothing; the administrator is.
    let unsigned = sign(&key, &good);
    let (message, _) = unsigned.rsplit_once('.').expect("a signature");
    let unknown = {
        let (_, rest) = unsigned.split_once('.').expect("a header");
        format!("eyJhbGciOiJFUzI1NiIsImtpZCI6InR3byJ9.{rest}")
    };
    for (assertion, check, why) in [
        ("made up".to_owned(), "assertion.format", "not a signed JWT"),
        (sign(&other, &good), "assertion.signature", "does not match"),
        (format!("{message}.AAAA"), "assertion.signature", "does not match"),
        (unknown, "assertion.signature", "no key of the signer has this `kid`"),
    ] {
        let reply = ask(&assertion).await.expect_oauth_error(400, "invalid_client");
        let told = reply.field("error_description");
        assert_eq!(told, "unknown client or invalid client authentication", "{why}");
        let facts = explained(&server, &admin.token, &reply).await["diagnostics"].clone();
        assert!(facts[check].as_str().is_some_and(|fact| fact.contains(why)), "{why}: {facts}");
    }
}

async fn a_code_that_does_not_fit_its_request_is_explained(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("app", first_party_app()).await;
    server.client("other", first_party_app()).await;
    let bare = Metadata { require_pkce: Some(false), ..first_party_app() };
    server.client("bare", bare).await;
    server.register("ann").await;
    let admin = server.admin("root").await;
    let mut ann = server.logged_in("ann").await;
    let (uri, verifier) = (("redirect_uri", CALLBACK), ("code_verifier", VERIFIER));
    let (no_uri, no_verifier) = (("redirect_uri", ""), ("code_verifier", ""));
    let wrong = "another-verifier-another-verifier-another-verifier";
    const MISSING: &str = "`code_verifier` is missing: the request had a `code_challenge`";
    const DIFFERS: &str = "`code_verifier` does not match the `code_challenge` of the request";
    for (by, fields, check, why) in [
        ("app", [uri, no_verifier], "code.code_verifier", MISSING),
        ("app", [no_uri, no_verifier], "code.code_verifier", MISSING),
        ("app", [uri, ("code_verifier", wrong)], "code.code_verifier", DIFFERS),
        (
            "app",
            [("redirect_uri", "https://app.example/other"), verifier],
            "code.redirect_uri",
            "`redirect_uri` is not that of the request",
        ),
        ("other", [uri, verifier], "code.belongs_to_client", "issued to another client"),
        (
            "bare",
            [uri, verifier],
            "code.code_verifier",
            "`code_verifier` was sent, but the request had no `code_challenge`",
        ),
        (
            "bare",
            [no_uri, no_verifier],
            "code.redirect_uri",
            "`redirect_uri` is missing: it must be that of the request",
        ),
    ] {
        let mut request =
            AuthorizationRequest::of(if by == "other" { "app" } else { by }, "openid");
        if by == "bare" {
            request = request.without("code_challenge").without("code_challenge_method");
        }
        let code = ann.authorize(&request, "ann").await.code().to_owned();
        let form = [("grant_type", "authorization_code"), ("code", &code), fields[0], fields[1]];
        let reply = server.form_as("/oauth2/token", by, &form).await;
        let reply = reply.expect_oauth_error(400, "invalid_grant");
        assert!(reply.field("error_description").contains(why), "{why}: {reply:?}");
        let facts = explained(&server, &admin.token, &reply).await["diagnostics"].clone();
        let fact = facts[check].as_str().unwrap_or_default();
        assert!(fact.contains(why) || fact == "false", "{why}: {facts}");
        assert_eq!(facts["code.matches_session"], "true", "{facts}");
    }
    // What expired, was revoked or never was issued.
    let code = ann.authorize(&AuthorizationRequest::of("app", "openid"), "ann").await;
    let code = code.code().to_owned();
    server.clock.advance(Duration::from_secs(120));
    let late = server.exchange_code("app", &code).await.expect_oauth_error(400, "invalid_grant");
    assert_eq!(late.field("error_description"), "the code has expired");
    let altered = code.replacen("pac_", "pac_A", 1);
    let none = server.exchange_code("app", &altered[..code.len()]).await;
    let none = none.expect_oauth_error(400, "invalid_grant");
    assert!(none.field("error_description").contains("the code is unknown"), "{none:?}");
}

async fn a_denied_request_of_another_process_is_explained_and_pruned(backend: Backend) {
    let settings = [("PROPUSK_EXPLAIN__MAX_ROWS", "5")];
    let one = TestServer::with(backend, &settings).await;
    let other = one.another(&settings).await;
    let admin = one.admin("root").await;
    let refused = other.verify("rubbish").await;
    other.app.denied_requests.write().await.expect("written");
    assert_eq!(explained(&one, &admin.token, &refused).await["call"], "GET /api/v1/auth/verify");
    // Only the newest ones are kept, up to the limit.
    for _ in 0..9 {
        one.clock.advance(Duration::from_secs(1));
        other.verify("rubbish").await;
    }
    other.app.denied_requests.write().await.expect("written");
    propusk::flows::maintenance::sweep(&one.app).await.expect("swept");
    let count = one
        .app
        .db
        .read(Statement::new("SELECT COUNT(*) AS n FROM denied_requests"))
        .await
        .expect("read")[0]
        .get::<i64>("n");
    assert_eq!(count.expect("a number"), 5);
    let user = users::find(&one.app, "root").await.expect("known");
    assert!(
        users::disable(&one.app, &user.id, &Actor::operator()).await.is_err(),
        "the last administrator stays"
    );
    one.clock.advance(Duration::from_secs(8 * 86_400));
    propusk::flows::maintenance::sweep(&one.app).await.expect("swept");
    let count = one
        .app
        .db
        .read(Statement::new("SELECT COUNT(*) AS n FROM denied_requests"))
        .await
        .expect("read")[0]
        .get::<i64>("n");
    assert_eq!(count.expect("a number"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_denied_requests_stores_a_bounded_number_of_rows() {
    let server = TestServer::start(Backend::Sqlite).await;
    for _ in 0..40 {
        let asking = (0..100).map(|_| server.verify("rubbish"));
        futures_util::future::join_all(asking).await;
    }
    // Concurrent writers, beside the server's own: nothing is lost.
    let writers = (0..20).map(|_| server.app.denied_requests.write());
    for written in futures_util::future::join_all(writers).await {
        written.expect("written");
    }
    let count = server
        .app
        .db
        .read(Statement::new("SELECT COUNT(*) AS n FROM denied_requests"))
        .await
        .expect("read")[0]
        .get::<i64>("n")
        .expect("a number");
    let metrics = server.app.metrics.render();
    let unwritten = metrics
        .lines()
        .find_map(|line| line.strip_prefix("propusk_denied_requests_unrecorded_total "))
        .expect("a metric");
    let unwritten: i64 = unwritten.parse().expect("a number");
    assert_eq!(count + unwritten, 4_000, "every denied request is stored or counted");
    assert!(count >= 2_000, "{count}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overlong_method_is_truncated_in_diagnostics() {
    let server = TestServer::start(Backend::Sqlite).await;
    let method = reqwest::Method::from_bytes("X".repeat(4_000).as_bytes()).expect("a token");
    let url = format!("{}/oauth2/jwks", server.base);
    let reply = send(server.http.request(method, url)).await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    let refusal = server.app.denied_requests.explain(reply.header("x-request-id")).await;
    assert_eq!(refusal.expect("kept").call, "X".repeat(256));
}
