//! Why a request was denied.

use std::time::Duration;

use propusk::{
    flows::admin::users,
    model::{actor::Actor, client::GrantType},
    storage::Statement,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    Backend, Reply, TestServer, backend_tests,
    oauth::{AuthorizationRequest, first_party_app},
    send,
};

/// What the admin API returns of a denied request.
async fn explained(server: &TestServer, admin: &str, refused: &Reply) -> Value {
    let id = refused.header("x-request-id");
    let response = server.get_as(&format!("/api/v1/admin/explain/{id}"), admin).await;
    response.expect(StatusCode::OK).json()["data"].clone()
}

backend_tests! {
    every_denied_request_is_explained_by_rule_and_diagnostics,
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
        "the code is unknown, expired or used",
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
        "the code is unknown, expired or used",
        vec![
            ("code.exchanged", "false"),
            ("code.expired", "false"),
            ("code.mismatch", "redirect_uri, code_verifier, or the account"),
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
            assert_eq!(response["facts"][name], *value, "{response}");
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
    assert_eq!(response["facts"]["client.id"], "app");
    let id = refused[1].0.header("x-request-id").to_owned();
    let output = crate::support::process::run(&server.database, &[], &["explain", &id]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success()
            && text.contains("client.presented: secret")
            && text.contains("401 invalid_client"),
        "{text} {output:?}"
    );
    let output = crate::support::process::run(&server.database, &[], &["explain", "nothing"]);
    assert_eq!(output.status.code(), Some(1));
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
        .find_map(|line| line.strip_prefix("propusk_refusals_unwritten_total "))
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
