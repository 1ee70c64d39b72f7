//! Clients that an operator creates, changes and deletes by command.

use std::{process::Output, time::Duration};

use propusk::{
    flows::admin::{access::Precondition, clients},
    model::{
        actor::Actor,
        client::{GrantType, Metadata},
    },
    oauth::scope::Scope,
    storage::Statement,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Backend, Database, Reply, TestServer, backend_tests,
    oauth::{AuthorizationRequest, CALLBACK, VERIFIER, changed, web_app},
    process::{run, set_up},
    send,
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The standard output of a command that succeeded.
#[track_caller]
pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "nothing is logged");
    text(&output.stdout)
}

#[track_caller]
pub fn assert_refused(output: &Output, says: &[&str]) {
    let stderr = text(&output.stderr);
    assert!(!output.status.success(), "{}", text(&output.stdout));
    for message in says {
        assert!(stderr.contains(message), "{message:?} is not in: {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// The secret that was printed once.
#[track_caller]
fn secret_in(message: &str) -> String {
    let line = message.lines().find_map(|line| line.split_once("(shown once): "));
    line.unwrap_or_else(|| panic!("no secret: {message}")).1.to_owned()
}

pub fn shown(database: &Database, id: &str) -> Value {
    let message = stdout(&run(database, &[], &["client", "show", id, "--json"]));
    serde_json::from_str(&message).unwrap_or_else(|_| panic!("not JSON: {message}"))
}

pub async fn client_credentials(server: &TestServer, id: &str, secret: &str) -> Reply {
    let request = server.request(Method::POST, "/oauth2/token");
    let form = [("grant_type", "client_credentials")];
    send(request.basic_auth(id, Some(secret)).form(&form)).await
}

pub async fn rows(server: &TestServer, sql: &'static str) -> Vec<String> {
    let rows = server.app.db.read(Statement::new(sql)).await.expect("rows");
    rows.iter().map(|row| row.get("text").expect("text")).collect()
}

pub async fn clients_head(server: &TestServer) -> String {
    let numbers =
        "SELECT CAST(version AS TEXT) AS text FROM change_counters WHERE name = 'clients'";
    rows(server, numbers).await.remove(0)
}

/// A user's tokens at a client: access and refresh.
async fn tokens(server: &TestServer, client: &str, name: &str) -> (String, String) {
    let mut browser = server.browser();
    let request = AuthorizationRequest::of(client, "openid offline_access api:read");
    let answer = browser.authorize(&request, name).await;
    let json = server.exchange_code(client, answer.code()).await.expect(StatusCode::OK).json();
    let text = |name: &str| json[name].as_str().expect("a token").to_owned();
    (text("access_token"), text("refresh_token"))
}

#[track_caller]
pub fn expect_oauth_error(reply: &Reply, status: u16, error: &str) {
    assert_eq!(reply.status.as_u16(), status, "{reply:?}");
    assert_eq!(reply.json()["error"], error, "{reply:?}");
}

backend_tests! {
    clients_are_created_shown_changed_and_deleted,
    a_policy_violation_is_refused_with_its_reason,
    t04_the_cli_refuses_script_schemes_in_every_uri_field,
    built_in_clients_cannot_be_changed,
    both_secrets_are_valid_during_a_rotation,
    t32_a_disabled_or_deleted_client_is_refused_by_every_process,
    operator_changes_apply_to_the_next_request_everywhere,
    removing_a_scope_revokes_the_access_tokens_with_it,
    a_user_is_asked_again_after_consent_is_withdrawn,
    t83_a_client_secret_is_shown_once,
    client_invite_is_refused_while_registration_is_off,
    resources_and_scope_descriptions_are_managed,
    client_keys_are_read_from_a_file,
}

async fn clients_are_created_shown_changed_and_deleted(backend: Backend) {
    let server = TestServer::start(backend).await;
    let propusk = |args: &[&str]| run(&server.database, &[], args);
    // What is printed is of use to the client: curl signs no proofs.
    let bound = ["client", "add", "bound", "--scope", "api:read", "--require-dpop"];
    let bound = stdout(&propusk(&bound));
    assert!(bound.contains("DPoP proof") && !bound.contains("curl"), "{bound}");
    let added = stdout(&propusk(&[
        "client",
        "add",
        "shop",
        "--name",
        "The Shop",
        "--scope",
        "openid email api:read",
        "--redirect-uri",
        "https://shop.example/cb",
        "--redirect-uri",
        "https://shop.example/cb2",
        "--grant",
        "authorization_code",
        "--grant",
        "client_credentials",
        "--resource",
        "https://api.example/",
        "--access-ttl",
        "5m",
    ]));
    let secret = secret_in(&added);
    assert!(secret.len() >= 43, "256 bits: {secret}");
    client_credentials(&server, "shop", &secret).await.expect(StatusCode::OK);
    let json = shown(&server.database, "shop");
    assert_eq!(
        (&json["client_id"], &json["source"], &json["state"]),
        (&"shop".into(), &"operator".into(), &"enabled".into())
    );
    assert_eq!(
        json["redirect_uris"],
        json!(["https://shop.example/cb", "https://shop.example/cb2"])
    );
    assert_eq!(
        (&json["access_ttl"], &json["secrets"]),
        (&"5m".into(), &json!([{ "expires_at": null }]))
    );
    let listed = stdout(&propusk(&["client", "list"]));
    assert!(
        listed.contains("shop") && listed.contains("The Shop") && listed.contains("built_in"),
        "{listed}"
    );

    stdout(&propusk(&[
        "client",
        "set",
        "shop",
        "--name",
        "Der Laden",
        "--redirect-uri",
        "https://shop.example/only",
        "--logo-uri",
        "https://shop.example/logo.png",
        "--require-par",
        "--resource",
        "",
        "--access-ttl",
        "",
    ]));
    let json = shown(&server.database, "shop");
    assert_eq!(json["client_name"], "Der Laden");
    assert_eq!(json["redirect_uris"], json!(["https://shop.example/only"]));
    assert_eq!(
        (&json["scope"], &json["require_pushed_authorization_requests"], &json["resources"]),
        (&"openid email api:read".into(), &true.into(), &Value::Null)
    );
    assert_eq!(json["access_ttl"], Value::Null);
    client_credentials(&server, "shop", &secret).await.expect(StatusCode::OK);

    // A client that became public has no secret; one that became confidential again gets a new one.
    stdout(&propusk(&["client", "set", "shop", "--public", "--grant", "authorization_code"]));
    assert_eq!(shown(&server.database, "shop")["secrets"], json!([]));
    let again = stdout(&propusk(&[
        "client",
        "set",
        "shop",
        "--auth-method",
        "client_secret_basic",
        "--grant",
        "authorization_code",
        "--grant",
        "client_credentials",
    ]));
    let newer = secret_in(&again);
    client_credentials(&server, "shop", &newer).await.expect(StatusCode::OK);
    expect_oauth_error(&client_credentials(&server, "shop", &secret).await, 401, "invalid_client");

    stdout(&propusk(&["client", "remove", "shop"]));
    assert_refused(
        &propusk(&["client", "show", "shop"]),
        &["there is no such client", "client list"],
    );
    expect_oauth_error(&client_credentials(&server, "shop", &newer).await, 401, "invalid_client");
    let log = rows(&server, "SELECT action || ' ' || actor || ' ' || subject AS text FROM audit_log WHERE subject = 'shop' ORDER BY number").await;
    assert_eq!(
        log,
        [
            "client.add cli shop",
            "client.set cli shop",
            "client.set cli shop",
            "client.set cli shop",
            "client.remove cli shop"
        ]
    );
}

async fn a_policy_violation_is_refused_with_its_reason(backend: Backend) {
    let database = Database::new(backend).await;
    set_up(&database);
    let add = |args: &[&str]| {
        let args: Vec<_> =
            ["client", "add", "it", "--scope", "openid"].iter().chain(args).copied().collect();
        run(&database, &[], &args)
    };
    let web = ["--redirect-uri", "https://app.example/cb"];
    let with = |more: &[&str]| add(&[&web, more].concat());
    assert_refused(
        &add(&["--redirect-uri", "http://app.example/cb"]),
        &["redirect_uris: number 1", "https"],
    );
    assert_refused(&add(&["--redirect-uri", "com.example:/cb"]), &["redirect_uris", "native"]);
    assert_refused(&add(&["--grant", "authorization_code"]), &["redirect_uris"]);
    assert_refused(&with(&["--grant", "client_credentials"]), &["redirect_uris"]);
    assert_refused(
        &add(&["--grant", "refresh_token"]),
        &["refresh_token requires authorization_code"],
    );
    assert_refused(
        &with(&["--public", "--grant", "authorization_code", "--grant", "client_credentials"]),
        &["RFC 6749 section 4.4"],
    );
    assert_refused(&with(&["--public", "--no-pkce"]), &["require_pkce", "authenticates"]);
    assert_refused(&with(&["--scope", "api:read", "--no-pkce"]), &[]);
    assert_refused(&with(&["--auth-method", "private_key_jwt"]), &["jwks"]);
    assert_refused(
        &with(&["--jwks-uri", "https://127.0.0.1/jwks"]),
        &["jwks_uri", "public Internet"],
    );
    assert_refused(
        &with(&["--backchannel-logout-uri", "http://app.example/out"]),
        &["backchannel_logout_uri", "https"],
    );
    assert_refused(
        &with(&["--id-token-alg", "EdDSA"]),
        &["id_token_signed_response_alg", "ES256, RS256"],
    );
    assert_refused(&with(&["--access-ttl", "2h"]), &["access_ttl", "1h"]);
    assert_refused(&with(&["--access-ttl", "soon"]), &["15m"]);
    assert_refused(&with(&["--replay-window", "1h"]), &["replay_window"]);
    assert_refused(&with(&["--refresh-max-ttl", "800d"]), &["refresh_max_ttl"]);
    assert_refused(&with(&["--resource", "api"]), &["resources", "absolute URI"]);
    assert_refused(&with(&["--allowed-origin", "https://app.example/x"]), &["allowed_origins"]);
    assert_refused(
        &with(&["--pairwise", "--redirect-uri", "https://other.example/cb"]),
        &["sector_identifier_uri"],
    );
    assert_refused(&with(&["--name", "Bank\u{202e}knaB"]), &["client_name", "direction"]);
    assert_refused(&with(&["--name", &"x".repeat(101)]), &["client_name", "100"]);
    assert_refused(
        &run(&database, &[], &["client", "add", "no spaces", "--scope", "openid"]),
        &["letters, digits"],
    );
    assert_refused(
        &run(&database, &[], &["client", "add", "https://app.example/id", "--scope", "api"]),
        &["letters, digits"],
    );
    let many: Vec<_> = (0..501)
        .flat_map(|n| ["--redirect-uri".to_owned(), format!("https://app.example/{n}")])
        .collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_refused(&add(&many), &["redirect_uris", "at most 500"]);
    // None of these was stored.
    assert_refused(&run(&database, &[], &["client", "show", "it"]), &["there is no such client"]);
    stdout(&with(&["--no-pkce"]));
    assert_refused(&with(&[]), &["a client of this id exists"]);
    assert_refused(&run(&database, &[], &["client", "set", "it", "--public"]), &["require_pkce"]);
    assert_eq!(shown(&database, "it")["token_endpoint_auth_method"], "client_secret_basic");
}

async fn t04_the_cli_refuses_script_schemes_in_every_uri_field(backend: Backend) {
    let database = Database::new(backend).await;
    set_up(&database);
    let flags = [
        "--redirect-uri",
        "--post-logout-redirect-uri",
        "--client-uri",
        "--logo-uri",
        "--policy-uri",
        "--tos-uri",
        "--jwks-uri",
        "--sector-identifier-uri",
        "--backchannel-logout-uri",
    ];
    let uris = [
        "JaVaScRiPt:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "javascript://app.example/%0aalert(1)",
    ];
    for (flag, uri) in flags.into_iter().zip(uris.into_iter().cycle()) {
        let args = [
            "client",
            "add",
            "it",
            "--scope",
            "openid",
            "--redirect-uri",
            "https://app.example/cb",
            "--native",
            flag,
            uri,
        ];
        assert_refused(&run(&database, &[], &args), &[&flag[2..].replace('-', "_")]);
    }
}

async fn built_in_clients_cannot_be_changed(backend: Backend) {
    let database = Database::new(backend).await;
    set_up(&database);
    for id in ["propusk", "propusk-docs"] {
        for args in [
            &["client", "remove", id][..],
            &["client", "disable", id],
            &["client", "enable", id],
            &["client", "set", id, "--name", "x"],
            &["client", "rotate-secret", id],
        ] {
            assert_refused(&run(&database, &[], args), &["built in"]);
        }
    }
}

async fn both_secrets_are_valid_during_a_rotation(backend: Backend) {
    let server = TestServer::start(backend).await;
    let metadata = Metadata {
        scope: Scope::parse("api").expect("a scope"),
        grant_types: vec![GrantType::ClientCredentials],
        ..Metadata::default()
    };
    let (_, secret) =
        clients::create(&server.app, Some("robot".into()), metadata, None, &Actor::operator())
            .await
            .expect("added")
            .resource;
    let first = secret.expect("a secret");
    let hour = Duration::from_secs(3600);
    client_credentials(&server, "robot", &first).await.expect(StatusCode::OK);
    let (_, second) =
        clients::rotate_secret(&server.app, &"robot".into(), 24 * hour, &Actor::operator())
            .await
            .expect("rotated");
    let other = server.another(&[]).await;
    for server in [&server, &other] {
        for secret in [&first, &second] {
            client_credentials(server, "robot", secret).await.expect(StatusCode::OK);
        }
    }
    server.clock.advance(24 * hour - Duration::from_secs(1));
    client_credentials(&server, "robot", &first).await.expect(StatusCode::OK);
    server.clock.advance(Duration::from_secs(1));
    expect_oauth_error(&client_credentials(&server, "robot", &first).await, 401, "invalid_client");
    client_credentials(&server, "robot", &second).await.expect(StatusCode::OK);
    // Never three: the secret before the previous one is removed at once. Without an overlap, so is
    // the previous one.
    let (_, third) = clients::rotate_secret(&server.app, &"robot".into(), hour, &Actor::operator())
        .await
        .expect("rotated");
    let (_, fourth) =
        clients::rotate_secret(&server.app, &"robot".into(), hour, &Actor::operator())
            .await
            .expect("rotated");
    expect_oauth_error(&client_credentials(&other, "robot", &second).await, 401, "invalid_client");
    client_credentials(&other, "robot", &third).await.expect(StatusCode::OK);
    let (_, fifth) =
        clients::rotate_secret(&server.app, &"robot".into(), Duration::ZERO, &Actor::operator())
            .await
            .expect("rotated");
    expect_oauth_error(&client_credentials(&other, "robot", &fourth).await, 401, "invalid_client");
    client_credentials(&other, "robot", &fifth).await.expect(StatusCode::OK);
    assert!(
        clients::rotate_secret(&server.app, &"robot".into(), 24 * 91 * hour, &Actor::operator())
            .await
            .is_err()
    );
}

async fn t32_a_disabled_or_deleted_client_is_refused_by_every_process(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let other = server.another(&[]).await;
    let gateway = Metadata {
        introspection_audiences: vec!["*".to_owned()],
        grant_types: vec![GrantType::ClientCredentials],
        ..Metadata::default()
    };
    server.client("gateway", gateway).await;
    server.client("app", web_app()).await;
    for end in ["disable", "remove"] {
        let (access, refresh) = tokens(&server, "app", "ann").await;
        // A code that was not exchanged yet.
        let request = AuthorizationRequest::of("app", "openid");
        let open = server.browser().authorize(&request, "ann").await;
        assert_eq!(other.introspect("gateway", &access).await["active"], true);
        assert_eq!(other.introspect("app", &refresh).await["active"], true);
        match end {
            "disable" => {
                clients::disable(&server.app, &"app".into(), &Actor::operator())
                    .await
                    .expect("disabled");
            }
            _ => {
                clients::delete(&server.app, &"app".into(), &Precondition::Any, &Actor::operator())
                    .await
                    .expect("removed");
            }
        }
        for server in [&other, &server] {
            assert_eq!(
                server.introspect("gateway", &access).await,
                json!({ "active": false }),
                "{end}"
            );
            let userinfo = server.get_as("/oauth2/userinfo", &access).await;
            assert_eq!(userinfo.status, StatusCode::UNAUTHORIZED, "{end}: {userinfo:?}");
            expect_oauth_error(&server.refresh_as("app", &refresh).await, 401, "invalid_client");
            expect_oauth_error(
                &server.exchange_code("app", open.code()).await,
                401,
                "invalid_client",
            );
            let page = server.browser().open(&request.path()).await;
            assert_eq!(
                (page.status, page.header("location")),
                (StatusCode::BAD_REQUEST, ""),
                "{end}: {page:?}"
            );
        }
        if end == "disable" {
            clients::enable(&server.app, &"app".into(), &Actor::operator()).await.expect("enabled");
            expect_oauth_error(&other.refresh_as("app", &refresh).await, 400, "invalid_grant");
            expect_oauth_error(
                &other.exchange_code("app", open.code()).await,
                400,
                "invalid_grant",
            );
            assert_eq!(
                other.introspect("gateway", &access).await,
                json!({ "active": false }),
                "revoked tokens stay revoked"
            );
            server.clock.advance(Duration::from_secs(2));
        }
    }
}

async fn operator_changes_apply_to_the_next_request_everywhere(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    server.client("app", web_app()).await;
    let other = server.another(&[]).await;
    // Both processes have cached the client as it was, and learn of the change by these requests
    // only.
    for server in [&server, &other] {
        tokens(server, "app", "ann").await;
    }
    clients::update(
        &server.app,
        &"app".into(),
        &Precondition::Any,
        changed(|to| to.redirect_uris.push("https://app.example/new".to_owned())),
        &Actor::operator(),
    )
    .await
    .expect("changed");
    let request =
        AuthorizationRequest::of("app", "openid").with("redirect_uri", "https://app.example/new");
    other.browser().authorize(&request, "ann").await.code();
    clients::update(
        &server.app,
        &"app".into(),
        &Precondition::Any,
        changed(|to| to.redirect_uris.truncate(1)),
        &Actor::operator(),
    )
    .await
    .expect("changed");
    let page = other.browser().open(&request.path()).await;
    assert_eq!((page.status, page.header("location")), (StatusCode::BAD_REQUEST, ""), "{page:?}");

    let code = other.browser().authorize(&AuthorizationRequest::of("app", "openid"), "ann").await;
    let (_, secret) =
        clients::rotate_secret(&server.app, &"app".into(), Duration::ZERO, &Actor::operator())
            .await
            .expect("rotated");
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.code()),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    expect_oauth_error(&other.form_as("/oauth2/token", "app", &form).await, 401, "invalid_client");
    let request =
        other.request(Method::POST, "/oauth2/token").basic_auth("app", Some(&secret)).form(&form);
    send(request).await.expect(StatusCode::OK);
}

async fn removing_a_scope_revokes_the_access_tokens_with_it(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    server.client("app", web_app()).await;
    let (access, refresh) = tokens(&server, "app", "ann").await;
    clients::update(
        &server.app,
        &"app".into(),
        &Precondition::Any,
        changed(|to| to.client_name = "Another name".to_owned()),
        &Actor::operator(),
    )
    .await
    .expect("changed");
    assert_eq!(
        server.introspect("app", &access).await["active"],
        true,
        "a changed name asks for no consent"
    );
    clients::update(
        &server.app,
        &"app".into(),
        &Precondition::Any,
        changed(|to| to.scope = Scope::parse("openid offline_access").expect("a scope")),
        &Actor::operator(),
    )
    .await
    .expect("changed");
    assert_eq!(server.introspect("app", &access).await, json!({ "active": false }));
    server.clock.advance(Duration::from_secs(2));
    let refreshed = server.refresh_as("app", &refresh).await;
    assert!(!refreshed.text.contains("api:read"), "{refreshed:?}");
}

async fn a_user_is_asked_again_after_consent_is_withdrawn(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    server.register("bob").await;
    server.client("app", web_app()).await;
    server.client("other", web_app()).await;
    let (access, refresh) = tokens(&server, "app", "ann").await;
    let (elsewhere, _) = tokens(&server, "other", "ann").await;
    let (of_bob, _) = tokens(&server, "app", "bob").await;
    assert_refused(
        &run(&server.database, &[], &["user", "withdraw-consent", "nobody", "app"]),
        &["there is no user"],
    );
    assert_refused(
        &run(&server.database, &[], &["user", "withdraw-consent", "ann", "nothing"]),
        &["there is no such client"],
    );
    stdout(&run(&server.database, &[], &["user", "withdraw-consent", "ann", "app"]));
    assert_eq!(server.introspect("app", &access).await, json!({ "active": false }));
    expect_oauth_error(&server.refresh_as("app", &refresh).await, 400, "invalid_grant");
    assert_eq!(server.introspect("other", &elsewhere).await["active"], true);
    assert_eq!(server.introspect("app", &of_bob).await["active"], true);
    let mut ann = server.logged_in("ann").await;
    let page = ann.open(&AuthorizationRequest::of("app", "openid api:read").path()).await;
    assert!(page.text.contains("name=\"decision\""), "asked again: {page:?}");
    let events = server.events().await;
    let withdrawn = events
        .iter()
        .filter(|(kind, data)| kind == "consent.withdrawn" && data["clientId"] == "app")
        .count();
    assert_eq!(withdrawn, 1, "{events:?}");
}

async fn t83_a_client_secret_is_shown_once(backend: Backend) {
    let server = TestServer::start(backend).await;
    let propusk = |args: &[&str]| stdout(&run(&server.database, &[], args));
    let first = secret_in(&propusk(&["client", "add", "robot", "--scope", "api"]));
    let second = secret_in(&propusk(&["client", "rotate-secret", "robot"]));
    let invitation = secret_in(&propusk(&["client", "invite"]));
    let mut response = vec![
        propusk(&["client", "show", "robot"]),
        propusk(&["client", "show", "robot", "--json"]),
        propusk(&["client", "list"]),
        propusk(&["client", "list", "--json"]),
        propusk(&["client", "set", "robot", "--name", "R"]),
        propusk(&["client", "disable", "robot"]),
    ];
    response.push(client_credentials(&server, "robot", &second).await.text);
    response.extend(rows(&server, "SELECT data AS text FROM outbox UNION ALL SELECT detail AS text FROM audit_log UNION ALL SELECT metadata AS text FROM clients").await);
    assert!(response.len() > 12, "{response:?}");
    for text in &response {
        for secret in [&first, &second, &invitation] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    let hash = |secret: &str| {
        use sha2::Digest;
        sha2::Sha256::digest(secret).iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    assert!(!response.iter().any(|text| text.contains(&hash(&second))), "not its hash either");
}

async fn client_invite_is_refused_while_registration_is_off(backend: Backend) {
    let database = Database::new(backend).await;
    set_up(&database);
    let off = [("PROPUSK_CLIENT_REGISTRATION__MODE", "off")];
    assert_refused(
        &run(&database, &off, &["client", "invite"]),
        &["client_registration.mode", "set it to \"token\""],
    );
}

async fn resources_and_scope_descriptions_are_managed(backend: Backend) {
    let server = TestServer::start(backend).await;
    let propusk = |args: &[&str]| run(&server.database, &[], args);
    stdout(&propusk(&[
        "resource",
        "add",
        "https://api.example/",
        "--name",
        "The API",
        "--scope",
        "api:read api:write",
        "--default-scope",
        "api:read",
    ]));
    let listed = stdout(&propusk(&["resource", "list", "--json"]));
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(
        listed,
        json!([{ "id": "https://api.example/", "name": "The API", "scope": "api:read api:write", "default_scope": "api:read" }])
    );
    assert_refused(&propusk(&["resource", "add", "api", "--name", "x"]), &["absolute URI"]);
    assert_refused(
        &propusk(&["resource", "add", "https://b.example/#x", "--name", "x"]),
        &["fragment"],
    );
    assert_refused(
        &propusk(&[
            "resource",
            "add",
            "https://b.example/",
            "--name",
            "x",
            "--scope",
            "a",
            "--default-scope",
            "b",
        ]),
        &["default_scope"],
    );
    stdout(&propusk(&["scope", "describe", "api:read", "--en", "Read your things"]));
    stdout(&propusk(&["scope", "describe", "api:read", "--ru", "Читать ваши вещи"]));
    let listed: Value =
        serde_json::from_str(&stdout(&propusk(&["scope", "list", "--json"]))).expect("JSON");
    assert_eq!(
        listed,
        json!([{ "name": "api:read", "en": "Read your things", "ru": "Читать ваши вещи" }]),
        "one language keeps the other"
    );
    assert_refused(
        &propusk(&["scope", "describe", "two scopes", "--en", "x"]),
        &["a single scope"],
    );
    assert_refused(&propusk(&["scope", "describe", "api:write"]), &["--en"]);
    server.register("ann").await;
    server.client("app", web_app()).await;
    let page = server
        .logged_in("ann")
        .await
        .open(&AuthorizationRequest::of("app", "openid api:read").path())
        .await;
    assert!(page.text.contains("Read your things"), "{page:?}");
    stdout(&propusk(&["scope", "remove", "api:read"]));
    assert_refused(&propusk(&["scope", "remove", "api:read"]), &["there is no scope"]);
    stdout(&propusk(&["resource", "remove", "https://api.example/"]));
    assert_refused(
        &propusk(&["resource", "remove", "https://api.example/"]),
        &["there is no resource"],
    );
}

async fn client_keys_are_read_from_a_file(backend: Backend) {
    let database = Database::new(backend).await;
    set_up(&database);
    let path = database.folder.path().join("jwks.json");
    std::fs::write(&path, r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#).expect("written");
    let path = path.display().to_string();
    let add = |id: &str| {
        run(
            &database,
            &[],
            &[
                "client",
                "add",
                id,
                "--scope",
                "api",
                "--auth-method",
                "private_key_jwt",
                "--jwks-file",
                &path,
            ],
        )
    };
    let response = stdout(&add("signer"));
    assert!(!response.contains("secret"), "{response}");
    assert_eq!(shown(&database, "signer")["jwks"]["keys"][0]["kty"], "EC");
    std::fs::write(&path, r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}]}"#).expect("written");
    assert_refused(&add("leaker"), &["jwks", "private"]);
    assert_refused(
        &run(
            &database,
            &[],
            &[
                "client",
                "add",
                "x",
                "--scope",
                "api",
                "--auth-method",
                "private_key_jwt",
                "--jwks-file",
                "nothing.json",
            ],
        ),
        &["nothing.json"],
    );
}

#[tokio::test]
async fn a_generated_client_id_is_printed() {
    let database = Database::new(Backend::Sqlite).await;
    set_up(&database);
    let response = stdout(&run(&database, &[], &["client", "add", "--scope", "api"]));
    let id =
        response.lines().next().and_then(|line| line.rsplit(' ').next()).expect("an id").to_owned();
    let json = shown(&database, &id);
    assert_eq!(json["client_id"], id);
    assert_eq!(json["grant_types"], json!(["client_credentials"]), "without a redirect URI");
}
