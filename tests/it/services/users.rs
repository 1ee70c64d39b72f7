//! Tokens of users at a service: accounts that they connect, and assertions about them.

use std::time::Duration;

use propusk::{
    flows::admin::users,
    model::actor::Actor,
    storage::{Row, Statement},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    access_token, profile, seconds_later, skew, stored, token_as, wait_for_requests, with_service,
};
use crate::support::{
    Backend, Reply, TestServer, backend_tests,
    chromium::{Chromium, until},
    customer_service::CustomerService,
    oauth::{Browser, Form},
    process, send,
};

backend_tests! {
    requires "Node.js":
    t187_a_connection_is_made_in_the_browser_that_began_it,
    t188_tokens_of_a_user_end_with_the_session,
    a_connection_that_the_service_ends_is_removed,
    a_token_by_assertion_is_for_users_who_are_logged_in,
    the_operator_sees_and_removes_tokens,
}

/// The settings of a service at which users connect accounts.
pub(super) const CONNECTED: [(&str, &str); 4] = [
    ("GRANT", "refresh_token"),
    ("SUBJECT", "user"),
    ("AUTHORIZATION_URL", "/authorize"),
    ("TIMEOUT", "20s"),
];

/// The id of a user.
pub(super) async fn id_of(server: &TestServer, name: &str) -> String {
    users::find(&server.app, name).await.expect("known").id.into()
}

/// Begins to connect an account; returns where the browser is sent.
pub(super) async fn begin(browser: &mut Browser<'_>) -> String {
    let page = browser.open("/services/crm/connect").await.expect(StatusCode::OK);
    let sent = browser.submit(&page, &[]).await.expect(StatusCode::SEE_OTHER);
    sent.header("location").to_owned()
}

/// What the user's decision at the service leads back to: the path of the callback.
pub(super) async fn decide(service: &CustomerService, location: &str, decision: &str) -> String {
    let page = service.page(location).await;
    let (_, link) = page.split_once(&format!("id=\"{decision}\" href=\"")).expect("a link");
    let link = link.split('"').next().expect("a URL").replace("&amp;", "&");
    let url = url::Url::parse(&link).expect("a URL");
    format!("{}?{}", url.path(), url.query().expect("a query"))
}

/// Connects the account of a user who is logged in in this browser.
pub(super) async fn connect(browser: &mut Browser<'_>, service: &CustomerService) -> String {
    let callback = decide(service, &begin(browser).await, "allow").await;
    expect_notice(browser.open(&callback).await, "connected");
    callback
}

#[track_caller]
pub(super) fn expect_notice(reply: Reply, notice: &str) {
    let reply = reply.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), format!("/services?notice={notice}"));
}

pub(super) async fn token_of(server: &TestServer, user_id: &str) -> Reply {
    token_as(server, "shop", json!({ "userId": user_id })).await
}

/// The actions of the audit log about connections, with their actors.
pub(super) async fn audited(server: &TestServer) -> Vec<(String, String)> {
    let statement = Statement::new(
        "SELECT action, actor FROM audit_log WHERE action LIKE 'service.%' ORDER BY number",
    );
    let rows = server.app.db.read(statement).await.expect("rows");
    let text = |row: &Row, name: &str| row.get::<String>(name).expect("text");
    rows.iter().map(|row| (text(row, "action"), text(row, "actor"))).collect()
}

async fn t187_a_connection_is_made_in_the_browser_that_began_it(backend: Backend) {
    let service = CustomerService::start().await;
    let server = with_service(backend, &service, &CONNECTED).await;
    let tokens = server.register("ann").await;
    server.register("eve").await;
    let ann = id_of(&server, "ann").await;
    token_of(&server, &ann).await.expect_error(409, "SERVICE_NOT_CONNECTED");
    token_as(&server, "shop", json!({})).await.expect_error(400, "VALIDATION_ERROR");
    profile(&server, &tokens.access).await.expect_error(409, "SERVICE_NOT_CONNECTED");
    // Who is not logged in, logs in first and comes back.
    let mut browser = server.browser();
    let login = browser.open("/services/crm/connect").await.expect(StatusCode::SEE_OTHER);
    let back = browser.log_in(login.header("location"), "ann").await;
    assert_eq!(back.header("location"), "/services/crm/connect");
    browser.open("/services/none/connect").await.expect_page(404);

    // A link connects nothing, and a form only with the token of this session.
    let page = browser.open("/services/crm/connect").await.expect(StatusCode::OK);
    let mut form = Form::of(&page.text);
    form.hidden.clear();
    browser.submit_form(form, &[]).await.expect_page(403);
    let mut eve = server.logged_in("eve").await;
    eve.submit_form(Form::of(&page.text), &[]).await.expect_page(403);

    // The callback with a state of another browser, none, a changed or an old one; without a
    // session.
    let location = begin(&mut browser).await;
    assert!(location.starts_with(&format!("{}/authorize?response_type=code", service.base)));
    let callback = decide(&service, &location, "allow").await;
    expect_notice(eve.open(&callback).await, "stale");
    let changed = callback.replace("state=", "state=A");
    expect_notice(browser.open(&changed).await, "stale");
    expect_notice(browser.open("/services/crm/callback?code=x").await, "stale");
    let login = server.browser().open(&callback).await.expect(StatusCode::SEE_OTHER);
    assert!(login.header("location").starts_with("/login"));
    server.clock.advance(Duration::from_secs(601));
    expect_notice(browser.open(&callback).await, "stale");
    assert_eq!((service.token_requests().await, stored(&server).await.len()), (0, 0));
    let denied = decide(&service, &begin(&mut browser).await, "deny").await;
    expect_notice(browser.open(&denied).await, "denied");

    let callback = connect(&mut browser, &service).await;
    let tokens = server.login("ann").await.tokens();
    let first = access_token(&token_of(&server, &ann).await);
    assert!(first.starts_with("at-vera-"), "{first}");
    assert_eq!(profile(&server, &tokens.access).await.json()["data"]["subject"], "vera");
    // The code was used; the connection stays.
    expect_notice(browser.open(&callback).await, "failed");
    assert_eq!(access_token(&token_of(&server, &ann).await), first);
    let eve_id = id_of(&server, "eve").await;
    token_of(&server, &eve_id).await.expect_error(409, "SERVICE_NOT_CONNECTED");
    for wrong in ["", "a\0b"] {
        token_of(&server, wrong).await.expect_error(400, "VALIDATION_ERROR");
    }
    // Renewed by the rotated refresh token.
    seconds_later(&server, 3_600);
    assert_ne!(access_token(&token_of(&server, &ann).await), first);
    seconds_later(&server, 3_600);
    access_token(&token_of(&server, &ann).await);

    // The user sees it and removes it, in the page and by the API.
    let page = browser.open("/services").await.expect(StatusCode::OK);
    assert!(page.text.contains("disconnect-crm") && !page.text.contains("connect-crm\" href"));
    let eve_page = eve.open("/services").await.expect(StatusCode::OK);
    assert!(eve_page.text.contains("connect-crm\" href"));
    expect_notice(browser.submit(&page, &[]).await, "removed");
    token_of(&server, &ann).await.expect_error(409, "SERVICE_NOT_CONNECTED");
    connect(&mut browser, &service).await;
    let tokens = server.login("ann").await.tokens();
    let list =
        async || server.get_as("/api/v1/services", &tokens.access).await.json()["data"].clone();
    let connected = list().await;
    assert_eq!(connected[0]["service"], "crm");
    assert_eq!(connected[0]["connectUrl"], "/services/crm/connect");
    assert!(connected[0]["connectedAt"].is_string(), "{connected}");
    let remove = || {
        let path = "/api/v1/services/crm/connection";
        send(server.request(Method::DELETE, path).bearer_auth(&tokens.access))
    };
    remove().await.expect(StatusCode::OK);
    remove().await.expect_error(404, "NOT_FOUND");
    assert_eq!(list().await[0]["connectedAt"], Value::Null);
    let by_ann = |action: &str| (format!("service.{action}"), ann.clone());
    let all = ["connected", "disconnected", "connected", "disconnected"].map(by_ann);
    assert_eq!(audited(&server).await, all);
}

async fn t188_tokens_of_a_user_end_with_the_session(backend: Backend) {
    let service = CustomerService::start().await;
    let server = with_service(backend, &service, &CONNECTED).await;
    for (n, way) in ["logout", "disable", "delete", "expiry"].into_iter().enumerate() {
        let name = format!("user{n}");
        server.register(&name).await;
        let id = id_of(&server, &name).await;
        let mut browser = server.logged_in(&name).await;
        connect(&mut browser, &service).await;
        access_token(&token_of(&server, &id).await);
        assert_eq!(stored(&server).await.len(), 1);
        match way {
            "logout" => {
                let page = browser.open("/oauth2/logout").await.expect(StatusCode::OK);
                browser.submit(&page, &[("decision", "logout")]).await;
            }
            "disable" => {
                let disabled =
                    users::disable(&server.app, &id.as_str().into(), &Actor::operator()).await;
                disabled.expect("disabled");
            }
            "delete" => {
                use propusk::flows::admin::access::Precondition;
                let deleted = users::delete(
                    &server.app,
                    &id.as_str().into(),
                    &Precondition::Any,
                    &Actor::operator(),
                )
                .await;
                deleted.expect("deleted");
            }
            _ => {
                seconds_later(&server, 7 * 24 * 3_600 + 1);
                token_of(&server, &id).await.expect_error(409, "SERVICE_NOT_CONNECTED");
                propusk::flows::maintenance::sweep(&server.app).await.expect("swept");
            }
        }
        assert!(stored(&server).await.is_empty(), "{way}");
        token_of(&server, &id).await.expect_error(409, "SERVICE_NOT_CONNECTED");
    }
    // A logout while a token is being renewed: nobody gets it, and it is not stored.
    server.register("ann").await;
    let ann = id_of(&server, "ann").await;
    let mut browser = server.logged_in("ann").await;
    connect(&mut browser, &service).await;
    seconds_later(&server, 3_600);
    service.set(json!({ "token": { "delay": 2_000 } })).await;
    let before = service.token_requests().await;
    let log_out = async {
        until("the request", || async { (service.token_requests().await > before).then_some(()) })
            .await;
        let page = browser.open("/oauth2/logout").await.expect(StatusCode::OK);
        browser.submit(&page, &[("decision", "logout")]).await;
    };
    let (reply, ()) = tokio::join!(token_of(&server, &ann), log_out);
    reply.expect_error(409, "SERVICE_NOT_CONNECTED");
    assert!(stored(&server).await.is_empty());
    // As is a connection.
    let mut browser = server.logged_in("ann").await;
    let callback = decide(&service, &begin(&mut browser).await, "allow").await;
    let before = service.token_requests().await;
    let mut other = Browser { server: &server, cookies: browser.cookies.clone() };
    let log_out = async {
        until("the request", || async { (service.token_requests().await > before).then_some(()) })
            .await;
        let page = other.open("/oauth2/logout").await.expect(StatusCode::OK);
        other.submit(&page, &[("decision", "logout")]).await;
    };
    let (reply, ()) = tokio::join!(browser.open(&callback), log_out);
    expect_notice(reply, "failed");
    assert!(stored(&server).await.is_empty());
}

async fn a_connection_that_the_service_ends_is_removed(backend: Backend) {
    let mut service = CustomerService::start().await;
    let server = with_service(backend, &service, &CONNECTED).await;
    server.register("ann").await;
    let ann = id_of(&server, "ann").await;
    connect(&mut server.logged_in("ann").await, &service).await;
    // Unavailable: the connection stays, and nobody asks for a while, for no user.
    seconds_later(&server, 3_600);
    service.set(json!({ "token": { "mode": 503 } })).await;
    token_of(&server, &ann).await.expect_error(503, "SERVICE_UNAVAILABLE");
    token_of(&server, &ann).await.expect_error(503, "SERVICE_UNAVAILABLE");
    assert_eq!(service.token_requests().await, 2);
    seconds_later(&server, 61);
    service.set(json!({ "token": { "mode": "ok" } })).await;
    access_token(&token_of(&server, &ann).await);
    // It does not know the refresh token any more.
    service.stop().await;
    service.start_again().await;
    service.set(json!({ "skew": skew() })).await;
    seconds_later(&server, 3_600);
    token_of(&server, &ann).await.expect_error(409, "SERVICE_NOT_CONNECTED");
    token_of(&server, &ann).await.expect_error(409, "SERVICE_NOT_CONNECTED");
    assert_eq!(service.token_requests().await, 1);
    let last = audited(&server).await.pop();
    assert_eq!(last, Some(("service.disconnected".to_owned(), "service:crm".to_owned())));
}

async fn a_token_by_assertion_is_for_users_who_are_logged_in(backend: Backend) {
    let service = CustomerService::start().await;
    let more =
        [("GRANT", "jwt-bearer"), ("SUBJECT", "user"), ("PRIVATE_KEY_FILE", "file:assertions.pem")];
    let server = with_service(backend, &service, &more).await;
    let tokens = server.register("ann").await;
    let ann = id_of(&server, "ann").await;
    let data = profile(&server, &tokens.access).await.expect(StatusCode::OK).json();
    assert_eq!(data["data"]["subject"], ann.as_str());
    access_token(&token_of(&server, &ann).await);
    assert_eq!(service.token_requests().await, 1);
    assert_eq!(stored(&server).await[0].0, ann);
    // There is no account to connect.
    server.logged_in("ann").await.open("/services/crm/connect").await.expect_page(404);
    // The session ends by its logout, in one transaction.
    let logout = server.request(Method::POST, "/api/v1/auth/logout").bearer_auth(&tokens.access);
    send(logout).await.expect(StatusCode::OK);
    assert!(stored(&server).await.is_empty());
    // The browser's login is no session of a client.
    token_of(&server, &ann).await.expect_error(409, "SERVICE_NOT_CONNECTED");
    server.login("ann").await.expect(StatusCode::OK);
    access_token(&token_of(&server, &ann).await);
    wait_for_requests(&service, 2).await;
}

async fn the_operator_sees_and_removes_tokens(backend: Backend) {
    let service = CustomerService::start().await;
    let server = with_service(backend, &service, &CONNECTED).await;
    let admin = server.admin("root").await;
    connect(&mut server.logged_in("root").await, &service).await;
    let id = id_of(&server, "root").await;
    let rows = admin.all("/service-tokens").await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((&rows[0]["service"], &rows[0]["subject"]), (&json!("crm"), &json!(id)));
    assert_eq!(rows[0]["isConnected"], true);
    assert!(!format!("{rows:?}").contains("at-vera"));
    assert_eq!(admin.all("/service-tokens?user=none").await.len(), 0);
    let path = format!("/service-tokens/crm?subject={id}");
    admin.delete(&path).await.expect(StatusCode::OK);
    admin.delete(&path).await.expect_error(404, "NOT_FOUND");
    assert!(stored(&server).await.is_empty());
    let last = audited(&server).await.pop();
    assert_eq!(last, Some(("service.token_removed".to_owned(), id)));

    // By command, with the service's own token.
    let settings = service.settings(&[]);
    let settings: Vec<_> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let run = |args: &[&str]| {
        let output = process::run(&server.database, &settings, args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!format!("{text}{error}").contains("canary"), "{text}{error}");
        (output.status.success(), text, error)
    };
    let (fine, text, error) = run(&["service", "check", "crm"]);
    assert!(
        fine && text.contains("service crm gave a token; it is valid for 359"),
        "{text}{error}"
    );
    let (_, text, _) = run(&["service", "list", "--json"]);
    let listed: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&listed[0]["name"], &listed[0]["state"]), (&json!("crm"), &json!("valid")));
    let (_, text, _) = run(&["service", "list"]);
    assert!(text.contains("crm   client_credentials  service  valid"), "{text}");
    let (_, text, _) = run(&["service", "show", "crm"]);
    assert!(text.contains("tokenUrl") && text.contains("profile"), "{text}");
    let (_, text, _) = run(&["service", "tokens"]);
    assert!(text.contains("crm"), "{text}");
    assert!(run(&["service", "remove", "crm"]).0);
    let (fine, _, error) = run(&["service", "remove", "crm"]);
    assert!(!fine && error.contains("there is no such token"), "{error}");
    service.set(json!({ "token": { "mode": 401 } })).await;
    let (fine, _, error) = run(&["service", "check", "crm"]);
    assert!(!fine && error.contains("the token endpoint responded with status 401"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn an_account_is_connected_in_a_real_browser() {
    let service = CustomerService::start().await;
    let address = process::free_address();
    let issuer = format!("http://{address}");
    let mut settings = service.settings(&CONNECTED);
    settings.push(("PROPUSK_SERVER__LISTEN".to_owned(), address));
    settings.push(("PROPUSK_SERVER__ISSUER".to_owned(), issuer.clone()));
    let settings: Vec<_> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let server = TestServer::with(Backend::Sqlite, &settings).await;
    server.client("shop", super::back_end()).await;
    server.register("vera").await;
    let browser = Chromium::open("ru").await;
    browser.look(320, 640, "dark").await;
    let narrow = async |heading: &str| {
        browser.text_is("h1", heading).await;
        let wide = "return document.documentElement.scrollWidth";
        assert_eq!(browser.run(wide).await, 320, "{heading}: no horizontal overflow");
    };
    browser.go(&format!("{issuer}/services")).await;
    browser.type_into("#login", "vera").await;
    browser.type_into("#password", crate::support::PASSWORD).await;
    browser.click("form[method=post] button[type=submit]").await;
    narrow("Подключённые аккаунты").await;
    browser.click("#connect-crm").await;
    narrow("Подключить \u{2068}crm\u{2069}").await;
    browser.click("#continue").await;
    // At the service.
    browser.click("#allow").await;
    browser.text_is("#notice", "Аккаунт подключён.").await;
    narrow("Подключённые аккаунты").await;
    let vera = id_of(&server, "vera").await;
    let token = access_token(&token_of(&server, &vera).await);
    assert!(token.starts_with("at-vera-"), "{token}");
    let page = browser.run("return document.documentElement.outerHTML").await.to_string();
    assert!(!page.contains(&token) && !page.contains("rt-"), "{page}");
    browser.click("#disconnect-crm").await;
    browser.text_is("#notice", "Аккаунт отключён.").await;
    token_of(&server, &vera).await.expect_error(409, "SERVICE_NOT_CONNECTED");
    browser.click("#connect-crm").await;
    browser.click("#continue").await;
    browser.click("#deny").await;
    browser.text_is("#notice", "Сервис не разрешил подключение.").await;
    browser.close().await;
}
