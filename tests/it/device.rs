//! The device authorization grant (RFC 8628): a device shows a code, its user enters it in a
//! browser, and the device polls until the user has decided.

use std::{process::Stdio, sync::Arc, time::Duration};

use propusk::{
    clock::Clock,
    flows::maintenance,
    model::client::{AuthMethod, Consent, GrantType, Metadata},
    oauth::scope::Scope,
    storage::Statement,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::support::{
    Backend, Database, Reply, TestServer, backend_tests,
    chromium::Chromium,
    oauth::{DeviceCodes, device_app, payload, web_app},
    process, send,
};

const ENDPOINT: &str = "/oauth2/device_authorization";

/// What the device calls itself.
const AGENT: &str = "ExampleTV/9.0 (Living room)";

backend_tests! {
    a_device_gets_tokens_after_its_user_allowed_it,
    a_user_who_is_not_logged_in_logs_in_first,
    a_denied_request_ends_the_polling,
    an_expired_code_has_its_own_page,
    a_used_code_has_its_own_page,
    tokens_carry_what_the_user_may_have,
    a_confidential_client_authenticates_for_its_codes,
    a_first_party_client_is_confirmed_without_a_consent,
    a_client_that_demands_a_newer_login_gets_one,
    another_account_in_the_same_browser_decides,
    any_process_answers_a_poll,
    offline_access_outlives_the_browser_session,
    pending_polls_are_no_denied_requests,
    expired_requests_are_removed,
    only_registered_clients_get_codes,
    self_registered_clients_need_permission,
}

/// A server with `ann` and the public client `tv`.
async fn with_tv(backend: Backend) -> TestServer {
    with(backend, device_app()).await
}

async fn with(backend: Backend, metadata: Metadata) -> TestServer {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    server.client("tv", metadata).await;
    server
}

/// As many seconds as the device must wait.
fn wait(server: &TestServer) {
    server.clock.advance(Duration::from_secs(5));
}

/// A column of the session that the token is of.
async fn of_session(server: &TestServer, access_token: &str, column: &str) -> Option<String> {
    let statement = Statement::new(
        "SELECT address, user_agent, browser_session_id FROM sessions WHERE id = $1",
    );
    let sid = payload(access_token)["sid"].as_str().expect("a session").to_owned();
    let rows = server.app.db.read(statement.bind(sid)).await.expect("rows");
    rows[0].get(column).expect("a column")
}

async fn audited(server: &TestServer, action: &str) -> Vec<Value> {
    let statement = Statement::new("SELECT detail FROM audit_log WHERE action = $1");
    let rows = server.app.db.read(statement.bind(action)).await.expect("rows");
    let detail = |row: &propusk::storage::Row| row.get::<String>("detail").expect("text");
    rows.iter().map(|row| serde_json::from_str(&detail(row)).expect("JSON")).collect()
}

async fn a_device_gets_tokens_after_its_user_allowed_it(backend: Backend) {
    let server = with_tv(backend).await;
    let issuer = server.app.config.server.issuer.clone();
    let metadata = server.get("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(metadata["device_authorization_endpoint"], format!("{issuer}{ENDPOINT}"));
    let grants = metadata["grant_types_supported"].as_array().expect("a list");
    assert!(grants.contains(&GrantType::DeviceCode.as_str().into()), "{grants:?}");

    let fields = [("client_id", "tv"), ("scope", "openid email api:read")];
    let request = server.request(Method::POST, ENDPOINT).header("user-agent", AGENT);
    let reply = send(request.form(&fields)).await.expect(StatusCode::OK);
    assert_eq!(reply.header("cache-control"), "no-store");
    let json = reply.json();
    assert_eq!((&json["expires_in"], &json["interval"]), (&600.into(), &5.into()));
    assert_eq!(json["verification_uri"], format!("{issuer}/device"));
    let codes = DeviceCodes::of(reply);
    let complete = format!("{issuer}/device?user_code={}", codes.user);
    assert_eq!(json["verification_uri_complete"], complete);
    let is_letter = |c: char| "BCDFGHJKLMNPQRSTVWXZ".contains(c);
    let (first, second) = codes.user.split_once('-').expect("a hyphen");
    assert!(first.len() == 4 && second.len() == 4, "{}", codes.user);
    assert!(first.chars().chain(second.chars()).all(is_letter), "{}", codes.user);

    server.poll("tv", &codes).await.expect_oauth_error(400, "authorization_pending");
    let mut ann = server.logged_in("ann").await;
    let auth_time = server.clock.now().as_secs();
    wait(&server);
    server.poll("tv", &codes).await.expect_oauth_error(400, "authorization_pending");
    // Typed in lower case, with a space.
    let typed = codes.user.to_lowercase().replace('-', " ");
    let entered = ann.enter_code(&typed).await.expect(StatusCode::SEE_OTHER);
    let page = ann.open(entered.header("location")).await.expect(StatusCode::OK);
    let done = ann.submit(&page, &[("decision", "allow")]).await.expect(StatusCode::OK);
    assert!(done.text.contains("Your device is connected"), "{done:?}");

    wait(&server);
    let granted = server.poll("tv", &codes).await.expect(StatusCode::OK);
    assert_eq!(granted.field("scope"), "openid email api:read");
    let (access, id) =
        (payload(&granted.field("access_token")), payload(&granted.field("id_token")));
    assert_eq!((&access["client_id"], &id["aud"]), (&"tv".into(), &"tv".into()));
    assert_eq!((&id["auth_time"], &id["amr"]), (&auth_time.into(), &json!(["pwd"])));
    assert_eq!(id["acr"], "urn:propusk:acr:password");
    assert_eq!((&id["sub"], &id["sid"]), (&access["sub"], &access["sid"]));
    let token = granted.field("access_token");
    let user = server.get_as("/oauth2/userinfo", &token).await.expect(StatusCode::OK).json();
    assert_eq!(user["email"], "ann@example.org");
    let refresh = granted.field("refresh_token");
    let fields =
        [("grant_type", "refresh_token"), ("client_id", "tv"), ("refresh_token", refresh.as_str())];
    server.form("/oauth2/token", &fields).await.expect(StatusCode::OK);
    // The session is one of the device, bound to the browser that allowed it.
    assert_eq!(of_session(&server, &token, "user_agent").await.as_deref(), Some(AGENT));
    assert!(of_session(&server, &token, "browser_session_id").await.is_some());

    let events = server.events().await;
    for kind in ["consent.granted", "session.created"] {
        let of_tv = events.iter().filter(|(name, data)| name == kind && data["clientId"] == "tv");
        assert_eq!(of_tv.count(), 1, "{kind}: {events:?}");
    }
    let approved = audited(&server, "device.approve").await;
    assert_eq!(approved.len(), 1);
    assert_eq!((&approved[0]["clientId"], &approved[0]["sessionId"]), (&"tv".into(), &id["sid"]));
    assert_eq!(approved[0]["deviceAddress"], "127.0.0.1");
    let metrics = server.app.metrics.render();
    for line in [
        "propusk_device_authorizations_total{outcome=\"requested\"} 1",
        "propusk_device_authorizations_total{outcome=\"approved\"} 1",
        "propusk_tokens_issued_total{grant=\"urn:ietf:params:oauth:grant-type:device_code\",client=\"operator\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
}

async fn a_user_who_is_not_logged_in_logs_in_first(backend: Backend) {
    let server = with_tv(backend).await;
    let codes = server.device_codes("tv", "openid").await;
    let mut ann = server.browser();
    // A code that cannot be one needs no login.
    let wrong = ann.enter_code("no code").await.expect_page(400);
    assert!(
        wrong.text.contains("This code is not valid") && wrong.text.contains("value=\"no code\"")
    );
    let empty = ann.enter_code("").await.expect_page(400);
    assert!(empty.text.contains("Fill in all required fields"), "{empty:?}");
    // One that might be is looked up for a user only.
    for code in ["BCDF-GHJK", codes.user.as_str()] {
        let to_login = ann.enter_code(code).await.expect(StatusCode::SEE_OTHER);
        let expected = format!("/login?return_to=%2Fdevice%3Fuser_code%3D{code}");
        assert_eq!(to_login.header("location"), expected);
    }
    let back =
        ann.log_in(&format!("/login?return_to=/device?user_code={}", codes.user), "ann").await;
    let page = ann.open(back.header("location")).await.expect(StatusCode::OK);
    assert!(page.text.contains("Check that your device shows this code"), "{page:?}");
    assert!(page.text.contains(&format!("value=\"{}\"", codes.user)), "{page:?}");
    let code = ("user_code", codes.user.as_str());
    let entered = ann.submit(&page, &[code]).await.expect(StatusCode::SEE_OTHER);
    let page = ann.open(entered.header("location")).await.expect(StatusCode::OK);
    // In Russian, by the link of the page.
    let russian = ann.open(&format!("{}&lang=ru", entered.header("location"))).await;
    assert!(russian.text.contains("Это устройство сейчас перед вами?"), "{russian:?}");
    let done = ann.submit(&page, &[("decision", "allow")]).await.expect(StatusCode::OK);
    assert!(done.text.contains("Устройство подключено"), "{done:?}");
    server.poll("tv", &codes).await.expect(StatusCode::OK);
}

async fn a_denied_request_ends_the_polling(backend: Backend) {
    let server = with_tv(backend).await;
    let codes = server.device_codes("tv", "openid").await;
    let mut ann = server.logged_in("ann").await;
    let done = ann.decide(&codes, "deny").await;
    assert!(done.text.contains("You denied the request"), "{done:?}");
    for _ in 0..2 {
        server.poll("tv", &codes).await.expect_oauth_error(400, "access_denied");
    }
    assert_eq!(audited(&server, "device.deny").await.len(), 1);
    assert!(audited(&server, "consent.grant").await.is_empty());
    assert_eq!(server.app.metrics.render().matches("{outcome=\"denied\"} 1").count(), 1);
}

async fn an_expired_code_has_its_own_page(backend: Backend) {
    let server = with_tv(backend).await;
    let (codes, open) =
        (server.device_codes("tv", "openid").await, server.device_codes("tv", "openid").await);
    let mut ann = server.logged_in("ann").await;
    let page = ann.device_page(&open).await;
    server.clock.advance(Duration::from_secs(600));
    let expired = "This code has expired";
    for late in [
        ann.enter_code(&codes.user).await,
        ann.submit(&page, &[("decision", "allow")]).await,
        ann.open(&format!("/device/confirm?user_code={}", open.user)).await,
    ] {
        assert!(late.expect_page(400).text.contains(expired));
    }
    for codes in [&codes, &open] {
        server.poll("tv", codes).await.expect_oauth_error(400, "expired_token");
    }
    // Approved in time, and polled too late.
    let codes = server.device_codes("tv", "openid").await;
    ann.decide(&codes, "allow").await;
    server.clock.advance(Duration::from_secs(600));
    server.poll("tv", &codes).await.expect_oauth_error(400, "expired_token");
    assert!(
        !server
            .events()
            .await
            .iter()
            .any(|(_, data)| data["clientId"] == "tv" && data["sessionId"].is_string())
    );
}

async fn a_used_code_has_its_own_page(backend: Backend) {
    let server = with_tv(backend).await;
    let mut ann = server.logged_in("ann").await;
    for (decision, shown) in
        [("allow", "Your device is connected"), ("deny", "You denied the request")]
    {
        let codes = server.device_codes("tv", "openid").await;
        let page = ann.device_page(&codes).await;
        ann.submit(&page, &[("decision", decision)]).await.expect(StatusCode::OK);
        let used = ann.enter_code(&codes.user).await.expect_page(400);
        assert!(used.text.contains("This code has been used"), "{used:?}");
        // A second press of the button changes nothing.
        let other = if decision == "allow" { "deny" } else { "allow" };
        let again = ann.submit(&page, &[("decision", other)]).await.expect(StatusCode::OK);
        assert!(again.text.contains(shown), "{again:?}");
        let again = ann.open(&format!("/device/confirm?user_code={}", codes.user)).await;
        assert!(again.expect(StatusCode::OK).text.contains(shown));
        let poll = server.poll("tv", &codes).await;
        assert_eq!(poll.status == StatusCode::OK, decision == "allow", "{poll:?}");
    }
    let page = ann.device_page(&server.device_codes("tv", "openid").await).await;
    ann.submit(&page, &[("decision", "perhaps")]).await.expect_page(400);
}

/// The rules of the authorization code flow: roles, modules, resources.
async fn tokens_carry_what_the_user_may_have(backend: Backend) {
    let scope = "openid api:read crm:read propusk:admin";
    let tv = Metadata { scope: Scope::parse(scope).expect("a scope"), ..device_app() };
    let server = with(backend, tv).await;
    server.module("crm", "crm:read", None, true).await;
    let bob = server.register("bob").await;
    server.switch(&bob.access, "crm", "enable").await.expect(StatusCode::OK);
    for (name, expected, module) in
        [("ann", "openid api:read", false), ("bob", "openid api:read crm:read", true)]
    {
        let codes = server.device_codes("tv", scope).await;
        let mut browser = server.logged_in(name).await;
        let page = browser.device_page(&codes).await;
        assert_eq!(page.text.contains("The crm"), module, "{page:?}");
        assert!(!page.text.contains("propusk:admin"), "{page:?}");
        browser.submit(&page, &[("decision", "allow")]).await.expect(StatusCode::OK);
        let granted = server.poll("tv", &codes).await.expect(StatusCode::OK);
        assert_eq!(granted.field("scope"), expected);
    }
    // Nothing is left: the user is told, and the device goes on waiting.
    let codes = server.device_codes("tv", "propusk:admin").await;
    let mut ann = server.logged_in("ann").await;
    let entered = ann.enter_code(&codes.user).await.expect(StatusCode::SEE_OTHER);
    let refused = ann.open(entered.header("location")).await.expect_page(400);
    assert!(refused.text.contains("none of the requested scopes"), "{refused:?}");
    server.poll("tv", &codes).await.expect_oauth_error(400, "authorization_pending");
    for (name, value, error) in [
        ("scope", "unknown", "invalid_scope"),
        ("scope", "\"", "invalid_scope"),
        ("resource", "https://other.example/", "invalid_target"),
    ] {
        let fields = [("client_id", "tv"), (name, value)];
        server.form(ENDPOINT, &fields).await.expect_oauth_error(400, error);
    }
}

async fn a_confidential_client_authenticates_for_its_codes(backend: Backend) {
    let kiosk = Metadata {
        token_endpoint_auth_method: AuthMethod::ClientSecretBasic,
        grant_types: vec![GrantType::DeviceCode],
        ..device_app()
    };
    let server = with(backend, kiosk).await;
    let fields = [("client_id", "tv"), ("scope", "openid")];
    server.form(ENDPOINT, &fields).await.expect_oauth_error(400, "invalid_client");
    let codes = DeviceCodes::of(server.form_as(ENDPOINT, "tv", &fields).await);
    let mut ann = server.logged_in("ann").await;
    ann.decide(&codes, "allow").await;
    server.poll("tv", &codes).await.expect_oauth_error(400, "invalid_client");
    let fields =
        [("grant_type", GrantType::DeviceCode.as_str()), ("device_code", codes.device.as_str())];
    let request = server.request(Method::POST, "/oauth2/token").basic_auth("tv", Some("wrong"));
    send(request.form(&fields)).await.expect_oauth_error(401, "invalid_client");
    let granted = server.form_as("/oauth2/token", "tv", &fields).await.expect(StatusCode::OK);
    assert_eq!(granted.json()["refresh_token"], Value::Null, "not registered for it");
}

async fn a_first_party_client_is_confirmed_without_a_consent(backend: Backend) {
    let server = with(backend, Metadata { consent: Consent::Implicit, ..device_app() }).await;
    let codes = server.device_codes("tv", "openid email").await;
    let mut ann = server.logged_in("ann").await;
    ann.decide(&codes, "allow").await;
    server.poll("tv", &codes).await.expect(StatusCode::OK);
    assert!(audited(&server, "consent.grant").await.is_empty());
}

async fn a_client_that_demands_a_newer_login_gets_one(backend: Backend) {
    let server = with(backend, Metadata { default_max_age: Some(60), ..device_app() }).await;
    let mut ann = server.logged_in("ann").await;
    server.clock.advance(Duration::from_secs(120));
    let codes = server.device_codes("tv", "openid").await;
    let entered = ann.enter_code(&codes.user).await.expect(StatusCode::SEE_OTHER);
    let to_login = ann.open(entered.header("location")).await.expect(StatusCode::SEE_OTHER);
    let to_login = to_login.header("location").to_owned();
    assert!(to_login.starts_with("/login?") && to_login.ends_with("&reauthenticate=1"));
    let back = ann.log_in(&to_login, "ann").await;
    assert_eq!(back.header("location"), format!("/device?user_code={}", codes.user));
    ann.decide(&codes, "allow").await;
    let granted = server.poll("tv", &codes).await.expect(StatusCode::OK);
    let auth_time = payload(&granted.field("id_token"))["auth_time"].as_i64();
    assert_eq!(auth_time, Some(server.clock.now().as_secs()));
}

async fn another_account_in_the_same_browser_decides(backend: Backend) {
    let server = with_tv(backend).await;
    server.register("bob").await;
    let codes = server.device_codes("tv", "openid").await;
    let mut browser = server.logged_in("ann").await;
    let page = browser.device_page(&codes).await;
    let (_, rest) = page.text.split_once("<bdi>ann</bdi> <a href=\"").expect("a link");
    let other = rest.split('"').next().expect("an address").replace("&#38;", "&");
    let back = browser.log_in(&other, "bob").await;
    assert_eq!(back.header("location"), format!("/device?user_code={}", codes.user));
    // The page of Ann's session is not valid any more.
    let stale = browser.submit(&page, &[("decision", "allow")]).await.expect_page(403);
    assert!(stale.text.contains("This form is no longer valid"), "{stale:?}");
    browser.decide(&codes, "allow").await;
    let granted = server.poll("tv", &codes).await.expect(StatusCode::OK);
    let token = granted.field("access_token");
    let user = server.get_as("/oauth2/userinfo", &token).await.expect(StatusCode::OK).json();
    assert_eq!(user["preferred_username"], Value::Null, "without the scope profile");
    let bob = propusk::flows::admin::users::find(&server.app, "bob").await.expect("known");
    assert_eq!(user["sub"], bob.id.as_str());
}

async fn any_process_answers_a_poll(backend: Backend) {
    let one = with_tv(backend).await;
    let other = one.another(&[]).await;
    let codes = one.device_codes("tv", "openid").await;
    one.poll("tv", &codes).await.expect_oauth_error(400, "authorization_pending");
    wait(&one);
    other.poll("tv", &codes).await.expect_oauth_error(400, "authorization_pending");
    other.logged_in("ann").await.decide(&codes, "allow").await;
    // Clients were changed meanwhile.
    other.client("another", web_app()).await;
    one.poll("tv", &codes).await.expect(StatusCode::OK);
}

async fn offline_access_outlives_the_browser_session(backend: Backend) {
    let server = with_tv(backend).await;
    for (scope, lives) in [("openid", false), ("openid offline_access", true)] {
        let codes = server.device_codes("tv", scope).await;
        let mut ann = server.logged_in("ann").await;
        ann.decide(&codes, "allow").await;
        let granted = server.poll("tv", &codes).await.expect(StatusCode::OK);
        let page = ann.open("/oauth2/logout").await;
        ann.submit(&page, &[("decision", "logout")]).await.expect(StatusCode::OK);
        let token = granted.field("refresh_token");
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", "tv"),
            ("refresh_token", token.as_str()),
        ];
        let refreshed = server.form("/oauth2/token", &fields).await;
        assert_eq!(refreshed.status == StatusCode::OK, lives, "{scope}: {refreshed:?}");
    }
}

async fn pending_polls_are_no_denied_requests(backend: Backend) {
    let server = with_tv(backend).await;
    let admin = server.admin("root").await.token;
    let codes = server.device_codes("tv", "openid").await;
    let explain = async |reply: &Reply| {
        let id = reply.header("x-request-id");
        server.get_as(&format!("/api/v1/admin/explain/{id}"), &admin).await
    };
    let pending = server.poll("tv", &codes).await;
    explain(&pending).await.expect(StatusCode::NOT_FOUND);
    let fast = server.poll("tv", &codes).await.expect_oauth_error(400, "slow_down");
    let kept = explain(&fast).await.expect(StatusCode::OK).json();
    let diagnostics = kept["data"]["diagnostics"].to_string();
    assert!(diagnostics.contains("10 s") && diagnostics.contains("pending"), "{kept}");
    // A wrong code on the page.
    let mut ann = server.logged_in("ann").await;
    let wrong = ann.enter_code("BCDF-GHJK").await.expect_page(400);
    let kept = explain(&wrong).await.expect(StatusCode::OK).json();
    assert_eq!(kept["data"]["code"], "wrong_user_code", "{kept}");
    server.clock.advance(Duration::from_secs(600));
    let late = ann.enter_code(&codes.user).await.expect_page(400);
    let kept = explain(&late).await.expect(StatusCode::OK).json();
    assert_eq!(kept["data"]["reason"], "the request has expired", "{kept}");
}

async fn expired_requests_are_removed(backend: Backend) {
    let server = with_tv(backend).await;
    let count = async || {
        let statement = Statement::new("SELECT count(*) AS n FROM device_authorizations");
        let rows = server.app.db.read(statement).await.expect("rows");
        rows[0].get::<i64>("n").expect("a number")
    };
    server.device_codes("tv", "openid").await;
    server.clock.advance(Duration::from_secs(300));
    let second = server.device_codes("tv", "openid").await;
    server.clock.advance(Duration::from_secs(300));
    maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(count().await, 1);
    server.logged_in("ann").await.decide(&second, "allow").await;
    server.clock.advance(Duration::from_secs(300));
    maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(count().await, 0);
    server.poll("tv", &second).await.expect_oauth_error(400, "invalid_grant");
}

async fn only_registered_clients_get_codes(backend: Backend) {
    let server = with_tv(backend).await;
    server.client("app", web_app()).await;
    let fields = [("scope", "openid")];
    let reply = server.form_as(ENDPOINT, "app", &fields).await;
    reply.expect_oauth_error(400, "unauthorized_client");
    let fields = [("grant_type", GrantType::DeviceCode.as_str()), ("device_code", "pdc_x")];
    let reply = server.form_as("/oauth2/token", "app", &fields).await;
    reply.expect_oauth_error(400, "unauthorized_client");
    let unknown = DeviceCodes { device: "pdc_x".to_owned(), user: String::new() };
    server.poll("tv", &unknown).await.expect_oauth_error(400, "invalid_grant");
    server.form(ENDPOINT, &[("scope", "openid")]).await.expect_oauth_error(400, "invalid_client");

    // By command: without a redirect URI, and by the short name.
    let propusk = |args: &[&str]| process::run(&server.database, &[], args);
    let args = ["client", "add", "box", "--public", "--grant", "device_code"];
    let added = propusk(&[&args[..], &["--grant", "refresh_token"]].concat());
    let shown = String::from_utf8(added.stdout).expect("text");
    assert!(added.status.success(), "{shown}");
    assert!(shown.contains(ENDPOINT) && shown.contains("-d client_id=box"), "{shown}");
    let show = propusk(&["client", "show", "box", "--json"]);
    let json: Value = serde_json::from_slice(&show.stdout).expect("JSON");
    assert_eq!(json["grant_types"], json!([GrantType::DeviceCode.as_str(), "refresh_token"]));
    assert_eq!(json["scope"], "openid profile email offline_access");
    let codes = server.device_codes("box", "openid").await;
    server.logged_in("ann").await.decide(&codes, "allow").await;
    server.poll("box", &codes).await.expect(StatusCode::OK);
    let refused = propusk(&["client", "add", "bad", "--public", "--grant", "refresh_token"]);
    let why = String::from_utf8(refused.stderr).expect("text");
    assert!(why.contains("requires authorization_code or device_code"), "{why}");
    // Without the grant, its pending codes are worth nothing.
    let codes = server.device_codes("box", "openid").await;
    let mut ann = server.logged_in("ann").await;
    let entered = ann.enter_code(&codes.user).await.expect(StatusCode::SEE_OTHER);
    let args = ["client", "set", "box", "--redirect-uri", "https://box.example/cb"];
    let changed = propusk(&[&args[..], &["--grant", "authorization_code"]].concat());
    assert!(changed.status.success(), "{changed:?}");
    ann.open(entered.header("location")).await.expect_page(400);
    server.poll("box", &codes).await.expect_oauth_error(400, "unauthorized_client");
}

async fn self_registered_clients_need_permission(backend: Backend) {
    let grant = GrantType::DeviceCode.as_str();
    let metadata = json!({
        "client_name": "A program", "token_endpoint_auth_method": "none", "grant_types": [grant], "response_types": [],
    });
    let register = async |server: &TestServer| {
        let request = server.request(Method::POST, "/oauth2/register");
        send(request.json(&metadata)).await
    };
    let server = TestServer::start(backend).await;
    register(&server).await.expect(StatusCode::BAD_REQUEST);
    let setting = ("PROPUSK_CLIENT_REGISTRATION__GRANT_TYPES", grant);
    let server = TestServer::with(backend, &[setting]).await;
    server.register("ann").await;
    let id = register(&server).await.expect(StatusCode::CREATED).field("client_id");
    let codes = server.device_codes(&id, "openid").await;
    let mut ann = server.logged_in("ann").await;
    let page = ann.device_page(&codes).await;
    assert!(page.text.contains("This application is not verified"), "{page:?}");
    ann.submit(&page, &[("decision", "allow")]).await.expect(StatusCode::OK);
    server.poll(&id, &codes).await.expect(StatusCode::OK);
}

/// The script of docs/devices.md, as a reader would copy it.
fn script() -> &'static str {
    let (_, rest) = include_str!("../../docs/devices.md").split_once("```sh device\n").expect("it");
    rest.split_once("\n```").expect("its end").0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_script_logs_in() {
    let database = Arc::new(Database::prepared_by_system_time(Backend::Sqlite).await);
    let settings = [("PROPUSK_DEVICE__INTERVAL", "1s")];
    let server = TestServer::on(database, Clock::system(), &settings).await;
    server.register("ann").await;
    server.client("tv", device_app()).await;
    for (decision, expected) in
        [("allow", "Logged in: {\"sub\":"), ("deny", "stopped: access_denied")]
    {
        let mut shell = Command::new("sh");
        shell.args(["-c", script()]).env("BASE", &server.base).kill_on_drop(true);
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut shell = shell.spawn().expect("sh");
        let mut lines = BufReader::new(shell.stdout.take().expect("a pipe")).lines();
        let line = lines.next_line().await.expect("text").expect("a line");
        let user = line.rsplit(' ').next().expect("a code").to_owned();
        let codes = DeviceCodes { device: String::new(), user };
        server.logged_in("ann").await.decide(&codes, decision).await;
        let rest = lines.next_line().await.expect("text").unwrap_or_default();
        let output = shell.wait_with_output().await.expect("it ends");
        let printed = format!("{rest}{}", String::from_utf8_lossy(&output.stderr));
        assert!(printed.contains(expected), "{line}\n{printed}");
        assert_eq!(output.status.success(), decision == "allow");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn a_code_is_entered_in_a_real_browser() {
    let address = process::free_address();
    let issuer = format!("http://{address}");
    let settings =
        [("PROPUSK_SERVER__LISTEN", address.as_str()), ("PROPUSK_SERVER__ISSUER", issuer.as_str())];
    let server = TestServer::with(Backend::Sqlite, &settings).await;
    server.register("vera").await;
    server.client("tv", device_app()).await;
    let codes = server.device_codes("tv", "openid email").await;
    let browser = Chromium::open("ru").await;
    browser.look(320, 640, "dark").await;
    let narrow = async |heading: &str| {
        browser.text_is("h1", heading).await;
        let wide = "return document.documentElement.scrollWidth";
        assert_eq!(browser.run(wide).await, 320, "{heading}: no horizontal overflow");
    };
    browser.go(&format!("{issuer}/device")).await;
    narrow("Подключить устройство").await;
    browser.type_into("#user_code", &codes.user.to_lowercase()).await;
    browser.click("button[type=submit]").await;
    browser.type_into("#login", "vera").await;
    browser.type_into("#password", crate::support::PASSWORD).await;
    browser.click("form[method=post] button[type=submit]").await;
    narrow("Подключить устройство").await;
    let value = browser.run("return document.querySelector('#user_code').value").await;
    assert_eq!(value, codes.user.as_str());
    browser.click("button[type=submit]").await;
    narrow("Разрешить приложению «\u{2068}Example TV\u{2069}» доступ к аккаунту на устройстве?")
        .await;
    assert_eq!(browser.text("dd .code").await, codes.user);
    browser.click("button[value=allow]").await;
    narrow("Устройство подключено").await;
    server.poll("tv", &codes).await.expect(StatusCode::OK);
    browser.close().await;
}
