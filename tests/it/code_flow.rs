//! The authorization code flow from the first redirect to the logout.

use propusk::storage::Statement;
use reqwest::StatusCode;

use crate::support::{
    Backend, TestServer, backend_tests,
    oauth::{
        AuthorizationRequest, CALLBACK, VERIFIER, first_party_app, header, payload, public_app,
        web_app,
    },
};

backend_tests! {
    the_code_flow_issues_tokens_after_login_and_consent,
    a_public_client_is_bound_by_pkce_alone,
    a_logout_with_a_hint_revokes_the_sessions_of_the_browser,
}

async fn the_code_flow_issues_tokens_after_login_and_consent(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("app", web_app()).await;
    server.register("ann").await;
    let mut ann = server.browser();

    let request = AuthorizationRequest::of("app", "openid email offline_access api:read admin");
    let answer = ann.authorize(&request, "ann").await;
    assert_eq!(answer.fields["state"], "a state");
    assert_eq!(answer.fields["iss"], server.app.config.server.issuer, "RFC 9207");

    let reply = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    let json = reply.json();
    assert_eq!((&json["token_type"], &json["expires_in"]), (&"Bearer".into(), &900.into()));
    assert_eq!(
        json["scope"], "openid email offline_access api:read",
        "the response has the reduced scope"
    );
    let (access, id) = (reply.field("access_token"), reply.field("id_token"));
    assert_eq!(
        (header(&access)["typ"].as_str(), header(&id)["alg"].as_str()),
        (Some("at+jwt"), Some("RS256"))
    );
    let claims = payload(&id);
    assert_eq!((&claims["aud"], &claims["nonce"]), (&"app".into(), &"a nonce".into()));
    assert_eq!(claims["sid"], payload(&access)["sid"]);
    assert_eq!(claims["amr"], serde_json::json!(["pwd"]));
    assert_eq!(claims["auth_time"], server.clock.now().as_secs());

    let response = server.get_as("/oauth2/userinfo", &access).await.expect(StatusCode::OK).json();
    assert_eq!(
        (&response["sub"], &response["email"], &response["email_verified"]),
        (&claims["sub"], &"ann@example.org".into(), &false.into())
    );
    assert_eq!(server.introspect("app", &access).await["active"], true);

    let refreshed =
        server.refresh_as("app", &reply.field("refresh_token")).await.expect(StatusCode::OK);
    assert_ne!(refreshed.field("refresh_token"), reply.field("refresh_token"));
    assert_eq!(payload(&refreshed.field("id_token"))["auth_time"], claims["auth_time"]);

    // The consent is remembered: the second time no page is shown.
    let again = ann.open(&request.path()).await.expect(StatusCode::SEE_OTHER);
    assert!(again.header("location").starts_with(CALLBACK), "{again:?}");
}

async fn a_public_client_is_bound_by_pkce_alone(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("spa", public_app()).await;
    server.register("ann").await;
    let answer =
        server.browser().authorize(&AuthorizationRequest::of("spa", "openid"), "ann").await;
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", "spa"),
        ("code", answer.code()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    let reply = server.form("/oauth2/token", &fields).await.expect(StatusCode::OK);
    assert_eq!(reply.json()["scope"], "openid");
    let fields = [("client_id", "spa"), ("token", &reply.field("refresh_token"))];
    server.form("/oauth2/revoke", &fields).await.expect(StatusCode::OK);
    let access = reply.field("access_token");
    server.get_as("/oauth2/userinfo", &access).await.expect(StatusCode::UNAUTHORIZED);
}

async fn a_logout_with_a_hint_revokes_the_sessions_of_the_browser(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("app", first_party_app()).await;
    server.register("ann").await;
    let mut ann = server.browser();
    let tied = ann.authorize(&AuthorizationRequest::of("app", "openid api:read"), "ann").await;
    let tied = server.exchange_code("app", tied.code()).await.expect(StatusCode::OK);
    let offline =
        ann.authorize(&AuthorizationRequest::of("app", "openid offline_access"), "ann").await;
    let offline = server.exchange_code("app", offline.code()).await.expect(StatusCode::OK);

    let to = format!(
        "/oauth2/logout?id_token_hint={}&post_logout_redirect_uri=https%3A%2F%2Fapp.example%2Fbye&state=s",
        tied.field("id_token")
    );
    let reply = ann.open(&to).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), "https://app.example/bye?state=s");
    server
        .refresh_as("app", &tied.field("refresh_token"))
        .await
        .expect_oauth_error(400, "invalid_grant");
    assert_eq!(
        server.introspect("app", &tied.field("access_token")).await,
        serde_json::json!({ "active": false })
    );
    server.refresh_as("app", &offline.field("refresh_token")).await.expect(StatusCode::OK);
    let request = ann.open(&AuthorizationRequest::of("app", "openid").path()).await;
    assert!(request.header("location").starts_with("/login"), "{request:?}");
}

/// The statements that PostgreSQL has run for this server's database, without BEGIN, COMMIT and the
/// background task that looks for pending logout deliveries.
pub async fn statements(server: &TestServer) -> i64 {
    statements_but(server, "logout_deliveries").await
}

/// As [`statements`], without those that match a regular expression.
pub async fn statements_but(server: &TestServer, excluded: &str) -> i64 {
    // Created in this database, and only read for its own texts: the view holds the statements of
    // every test.
    const COUNT: &str = "WITH ours AS MATERIALIZED (SELECT calls, query FROM pg_stat_statements \
         WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())) \
         SELECT COALESCE(sum(calls), 0)::bigint AS n FROM ours \
         WHERE query ~* '^(select|insert|update|delete|with)' AND query !~ 'pg_stat_statements' AND query !~ $1";
    let rows = server.app.db.read(Statement::new(COUNT).bind(excluded)).await;
    rows.expect("the count")[0].get("n").expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn a_code_flow_of_a_logged_in_user_takes_four_statements() {
    const CLIENTS: [&str; 6] = ["app0", "app1", "app2", "app3", "app4", "app5"];
    let server = TestServer::start(Backend::Postgres).await;
    for client in CLIENTS {
        server.client(client, first_party_app()).await;
    }
    server.register("ann").await;
    let extension = Statement::new("CREATE EXTENSION IF NOT EXISTS pg_stat_statements");
    server.app.db.write(extension).await.expect("pg_stat_statements, which ./dev/test loads");
    let mut ann = server.logged_in("ann").await;
    // A background sweep may fall into a count and only adds to it: the smallest of several counts
    // is the flow's.
    let (mut first, mut again) = (i64::MAX, i64::MAX);
    for client in CLIENTS {
        let request = AuthorizationRequest::of(client, "openid api:read");
        for smallest in [&mut first, &mut again] {
            let before = statements(&server).await;
            let answer = ann.authorize(&request, "ann").await;
            server.exchange_code(client, answer.code()).await.expect(StatusCode::OK);
            *smallest = (*smallest).min(statements(&server).await - before);
        }
    }
    assert!(first <= 7, "{first} statements where the client is new");
    assert_eq!(again, 4);
}
