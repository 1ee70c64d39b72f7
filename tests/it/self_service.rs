//! What users see of their account and do with it themselves: sessions, applications, modules.

use std::{sync::Arc, time::Duration};

use propusk::{clock::Clock, model::client::Metadata, storage::Statement};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    readme::{blocks, sh},
    support::{
        Backend, Database, PASSWORD, Reply, TestServer, Tokens, backend_tests,
        mail::MAILS,
        oauth::{AuthorizationRequest, Browser, Form, first_party_app, payload, web_app},
        send,
    },
};

const SESSIONS: &str = "/api/v1/account/sessions";
const APPLICATIONS: &str = "/api/v1/account/applications";
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0";

backend_tests! {
    a_user_sees_and_ends_sessions_by_the_api,
    all_other_sessions_end_but_those_in_use,
    sessions_are_ended_on_the_page,
    an_application_is_listed_and_withdrawn_by_the_api,
    an_application_is_withdrawn_on_the_page,
    modules_are_switched_on_the_page,
    the_account_page_leads_to_every_page,
    an_account_is_exported_by_the_api_and_on_the_page,
}

/// An application that is told of logouts; nobody listens there.
fn notified_app() -> Metadata {
    Metadata { backchannel_logout_uri: Some("https://app.example/logout".to_owned()), ..web_app() }
}

async fn count(server: &TestServer, statement: &'static str) -> i64 {
    let rows = server.app.db.read(Statement::new(statement)).await.expect("rows");
    rows[0].get("n").expect("a number")
}

const DELIVERIES: &str = "SELECT count(*) AS n FROM logout_deliveries";

/// A login by the API with a `User-Agent`.
async fn login_with_agent(server: &TestServer, name: &str, agent: &str) -> Tokens {
    let body = json!({ "login": name, "password": PASSWORD });
    let request = server.request(Method::POST, "/api/v1/auth/login").json(&body);
    send(request.header("user-agent", agent)).await.expect(StatusCode::OK).tokens()
}

/// The tokens of an application for the user of a browser.
async fn tokens_in(browser: &mut Browser<'_>, id: &str, scope: &str, name: &str) -> Tokens {
    let answer = browser.authorize(&AuthorizationRequest::of(id, scope), name).await;
    let reply = browser.server.exchange_code(id, answer.code()).await.expect(StatusCode::OK);
    Tokens { access: reply.field("access_token"), refresh: reply.field("refresh_token") }
}

fn sid(tokens: &Tokens) -> String {
    payload(&tokens.access)["sid"].as_str().expect("a session").to_owned()
}

#[track_caller]
fn by_id<'a>(list: &'a Value, id: &str) -> &'a Value {
    let found = list.as_array().expect("a list").iter().find(|one| one["id"] == id);
    found.unwrap_or_else(|| panic!("no {id}: {list}"))
}

/// The form of a page that contains a text.
#[track_caller]
fn form_with(page: &Reply, text: &str) -> Form {
    let mut forms = page.text.split("<form").skip(1);
    let form = forms.find(|form| form.split("</form").next().unwrap_or_default().contains(text));
    Form::of(&format!("<form{}", form.unwrap_or_else(|| panic!("no form with {text}: {page:?}"))))
}

async fn has_event(server: &TestServer, kind: &str) -> bool {
    server.events().await.iter().any(|(found, _)| found == kind)
}

async fn a_user_sees_and_ends_sessions_by_the_api(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("app", notified_app()).await;
    let first = server.register("ann").await;
    server.clock.advance(Duration::from_secs(60));
    let phone = login_with_agent(&server, "ann", FIREFOX).await;
    let mut browser = server.browser();
    let app = tokens_in(&mut browser, "app", "openid profile", "ann").await;

    let list = server.get_as(SESSIONS, &first.access).await.expect(StatusCode::OK).data();
    assert_eq!(list.as_array().expect("a list").len(), 4, "{list}");
    let own = by_id(&list, &sid(&first));
    assert_eq!((&own["current"], &own["clientId"]), (&json!(true), &json!("propusk")));
    let other = by_id(&list, &sid(&phone));
    assert_eq!(other["current"], false);
    assert_eq!((&other["browser"], &other["system"]), (&json!("Firefox"), &json!("Linux")));
    assert_eq!(other["address"], "127.0.0.1");
    assert!(other["createdAt"].as_str().expect("a time").starts_with("2026-11-21T00:01:00"));
    let application = by_id(&list, &sid(&app));
    assert_eq!(application["clientName"], "Example App");
    let browser_id = application["browserSessionId"].as_str().expect("a browser");
    let in_browser = by_id(&list, browser_id);
    assert_eq!((&in_browser["kind"], &in_browser["clientId"]), (&json!("browser"), &Value::Null));
    let one = server.get_as(&format!("{SESSIONS}/{browser_id}"), &first.access).await.data();
    assert_eq!(one, *in_browser);

    // One session of an application: its tokens are dead at once.
    let path = format!("{SESSIONS}/{}", sid(&phone));
    server.delete_as(&path, &first.access).await.expect(StatusCode::OK);
    server.verify(&phone.access).await.expect_error(401, "INVALID_TOKEN");
    server.refresh(&phone.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
    server.get_as(&path, &first.access).await.expect_error(404, "NOT_FOUND");
    server.delete_as(&path, &first.access).await.expect_error(404, "NOT_FOUND");
    let events = server.events().await;
    let (_, data) = events.last().expect("an event");
    assert_eq!((&data["sessionId"], &data["reason"]), (&json!(sid(&phone)), &json!("logout")));

    // A browser takes along what was opened in it, and the application is notified.
    server.clock.advance(Duration::from_secs(1));
    let path = format!("{SESSIONS}/{browser_id}");
    server.delete_as(&path, &first.access).await.expect(StatusCode::OK);
    assert_eq!(server.introspect("app", &app.access).await["active"], false);
    server.refresh_as("app", &app.refresh).await.expect_oauth_error(400, "invalid_grant");
    assert!(browser.open("/account").await.header("location").starts_with("/login"));
    assert!(has_event(&server, "browser.logged_out").await);
    assert_eq!(count(&server, DELIVERIES).await, 1);
    let left = server.get_as(SESSIONS, &first.access).await.data();
    assert_eq!(left.as_array().expect("a list").len(), 1, "{left}");
    server.verify(&first.access).await.expect(StatusCode::OK);
}

async fn all_other_sessions_end_but_those_in_use(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("app", notified_app()).await;
    let first = server.register("ann").await;
    let bob = server.register("bob").await;
    let phone = server.login("ann").await.tokens();
    let (mut one, mut two) = (server.browser(), server.browser());
    let in_one = tokens_in(&mut one, "app", "openid profile", "ann").await;
    let in_two = tokens_in(&mut two, "app", "openid profile", "ann").await;

    // In a browser: it stays with what was opened in it.
    let page = one.open("/account/sessions").await.expect(StatusCode::OK);
    let form = form_with(&page, "name=\"others\"");
    let reply = one.submit_form(form, &[("others", "1")]).await;
    assert_eq!(reply.header("location"), "/account/sessions");
    assert_eq!(server.introspect("app", &in_one.access).await["active"], true);
    server.refresh_as("app", &in_one.refresh).await.expect(StatusCode::OK);
    assert_eq!(server.introspect("app", &in_two.access).await["active"], false);
    server.refresh_as("app", &in_two.refresh).await.expect_oauth_error(400, "invalid_grant");
    for tokens in [&first, &phone] {
        server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
    }
    assert!(two.open("/account").await.header("location").starts_with("/login"));
    one.open("/account").await.expect(StatusCode::OK);
    server.verify(&bob.access).await.expect(StatusCode::OK);
    assert_eq!(count(&server, DELIVERIES).await, 1);
    assert!(has_event(&server, "user.others_logged_out").await);

    // By the API: the session of the token stays.
    server.clock.advance(Duration::from_secs(1));
    let laptop = server.login("ann").await.tokens();
    let path = format!("{SESSIONS}/revoke-others");
    let ended = server.post_as(&path, &laptop.access).await.expect(StatusCode::OK).data();
    assert_eq!(ended["ended"], 2, "the browser and its application");
    assert!(one.open("/account").await.header("location").starts_with("/login"));
    server.verify(&laptop.access).await.expect(StatusCode::OK);
    let audit = "SELECT count(*) AS n FROM audit_log WHERE action = 'session.end_others'";
    assert_eq!(count(&server, audit).await, 2);
    let ended = server.post_as(&path, &laptop.access).await.expect(StatusCode::OK).data();
    assert_eq!(ended["ended"], 0);
    assert_eq!(count(&server, audit).await, 2, "nothing ended: nothing to record");
}

async fn sessions_are_ended_on_the_page(backend: Backend) {
    let server = TestServer::start(backend).await;
    let api = server.register("ann").await;
    let mut elsewhere = server.logged_in("ann").await;
    let mut here = server.browser();
    let page = here.open("/account/sessions").await;
    let login = page.expect(StatusCode::SEE_OTHER).header("location").to_owned();
    assert_eq!(login, "/login?return_to=%2Faccount%2Fsessions");
    let reply = here.log_in(&login, "ann").await;
    let page = here.open(reply.header("location")).await.expect(StatusCode::OK);
    assert_eq!(page.text.matches("this device").count(), 1, "{page:?}");
    assert!(page.text.contains("Unknown device"), "the test's client names no browser: {page:?}");
    let russian = here.open("/account/sessions?lang=ru").await;
    assert!(russian.text.contains("Сеансы и устройства"), "{russian:?}");
    here.submit_form(form_with(&page, &sid(&api)), &[]).await.expect(StatusCode::SEE_OTHER);
    server.verify(&api.access).await.expect_error(401, "INVALID_TOKEN");
    // The form of the other browser is the only one left with an id.
    let page = here.open("/account/sessions").await;
    here.submit_form(form_with(&page, "name=\"id\""), &[]).await.expect(StatusCode::SEE_OTHER);
    assert!(elsewhere.open("/account").await.header("location").starts_with("/login"));
    let page = here.open("/account/sessions").await.expect(StatusCode::OK);
    assert!(!page.text.contains("<form"), "{page:?}");
    let form = Form { action: "/account/sessions".to_owned(), hidden: vec![] };
    here.submit_form(form, &[("others", "1")]).await.expect_page(403);
}

async fn an_application_is_listed_and_withdrawn_by_the_api(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("app", notified_app()).await;
    server.client("own", first_party_app()).await;
    server.client("unused", web_app()).await;
    let ann = server.register("ann").await;
    let mut browser = server.browser();
    let app = tokens_in(&mut browser, "app", "openid email", "ann").await;
    let own = tokens_in(&mut browser, "own", "openid", "ann").await;
    let request = AuthorizationRequest::of("app", "openid email");
    let waiting = browser.authorize(&request, "ann").await;

    let list = server.get_as(APPLICATIONS, &ann.access).await.expect(StatusCode::OK).data();
    let ids: Vec<_> = list.as_array().expect("a list").iter().map(|one| &one["clientId"]).collect();
    assert_eq!(ids, ["app", "own", "propusk"], "{list}");
    let path = format!("{APPLICATIONS}/app");
    let one = server.get_as(&path, &ann.access).await.data();
    assert_eq!(one, list[0]);
    assert_eq!((&one["name"], &one["sessions"]), (&json!("Example App"), &json!(1)));
    let scopes = &one["consents"][0]["scopes"];
    let expected = json!([
        { "name": "openid", "description": "Know who you are", "module": null },
        { "name": "email", "description": "See your email address", "module": null },
    ]);
    assert_eq!(*scopes, expected);
    assert!(one["lastUsedAt"].is_string() && one["consents"][0]["givenAt"].is_string(), "{one}");
    assert_eq!(list[1]["consents"], json!([]));
    server
        .get_as(&format!("{APPLICATIONS}/unused"), &ann.access)
        .await
        .expect_error(404, "NOT_FOUND");

    // Consent, session, tokens and a code that was not exchanged yet.
    server.delete_as(&path, &ann.access).await.expect(StatusCode::OK);
    assert_eq!(server.introspect("app", &app.access).await["active"], false);
    server.refresh_as("app", &app.refresh).await.expect_oauth_error(400, "invalid_grant");
    let late = server.exchange_code("app", waiting.code()).await;
    late.expect_oauth_error(400, "invalid_grant");
    let page = browser.open(&request.path()).await.expect(StatusCode::OK);
    assert!(page.text.contains("name=\"decision\""), "asked again: {page:?}");
    assert!(has_event(&server, "consent.withdrawn").await);
    assert_eq!(count(&server, DELIVERIES).await, 1);
    server.delete_as(&path, &ann.access).await.expect_error(404, "NOT_FOUND");
    let audit = "SELECT count(*) AS n FROM audit_log WHERE action = 'consent.withdrawn'";
    assert_eq!(count(&server, audit).await, 1);
    assert_eq!(server.introspect("own", &own.access).await["active"], true);

    // An application without a consent.
    server.clock.advance(Duration::from_secs(1));
    server.delete_as(&format!("{APPLICATIONS}/own"), &ann.access).await.expect(StatusCode::OK);
    assert_eq!(server.introspect("own", &own.access).await["active"], false);
    let list = server.get_as(APPLICATIONS, &ann.access).await.data();
    assert_eq!(list.as_array().expect("a list").len(), 1, "{list}");
}

async fn an_application_is_withdrawn_on_the_page(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.module("crm", "api:read", None, true).await;
    server.client("app", web_app()).await;
    let ann = server.register("ann").await;
    server.switch(&ann.access, "crm", "enable").await.expect(StatusCode::OK);
    let mut browser = server.browser();
    let app = tokens_in(&mut browser, "app", "openid api:read", "ann").await;
    let page = browser.open("/account/applications").await.expect(StatusCode::OK);
    for text in
        ["Example App", "Know who you are", "<strong>", "Allowed \u{2068}2026-11-21\u{2069}"]
    {
        assert!(page.text.contains(text), "{text}: {page:?}");
    }
    let reply = browser.submit_form(form_with(&page, "value=\"app\""), &[]).await;
    assert_eq!(reply.header("location"), "/account/applications");
    assert_eq!(server.introspect("app", &app.access).await["active"], false);
    let page = browser.open("/account/applications").await.expect(StatusCode::OK);
    assert!(!page.text.contains("Example App"), "{page:?}");
    // The browser is still logged in, and a form without a client is refused.
    let form = Form { action: "/account/applications".to_owned(), ..form_with(&page, "csrf") };
    let csrf = form.field("csrf").to_owned();
    let form = Form { hidden: vec![], ..form };
    browser.submit_form(form, &[("csrf", &csrf)]).await.expect_page(400);
}

async fn modules_are_switched_on_the_page(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.module("crm", "crm:read", None, true).await;
    server.module("billing", "billing:read", None, false).await;
    let ann = server.register("ann").await;
    let mut browser = server.logged_in("ann").await;
    let is_enabled = async || {
        let list = server.get_as("/api/v1/modules", &ann.access).await.data();
        by_id(&list, "crm")["enabled"] == true
    };
    let page = browser.open("/account/modules").await.expect(StatusCode::OK);
    assert!(page.text.contains("module-billing") && !page.text.contains("value=\"billing\""));
    let reply =
        browser.submit_form(form_with(&page, "value=\"crm\""), &[("action", "enable")]).await;
    assert_eq!(reply.header("location"), "/account/modules");
    assert!(is_enabled().await);
    let page = browser.open("/account/modules").await;
    let form = form_with(&page, "value=\"crm\"");
    browser.submit_form(form.clone(), &[("action", "disable")]).await.expect(StatusCode::SEE_OTHER);
    assert!(!is_enabled().await);
    let fields = [("module", "billing"), ("action", "enable")];
    browser.submit_form(form.clone(), &fields).await.expect_page(403);
    browser.submit_form(form, &[("action", "toggle")]).await.expect_page(400);
}

async fn the_account_page_leads_to_every_page(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let mut ann = server.browser();
    let login = ann.open("/account").await.header("location").to_owned();
    assert_eq!(login, "/login?return_to=%2Faccount");
    assert_eq!(ann.log_in(&login, "ann").await.header("location"), "/account");
    let page = ann.open("/account").await.expect(StatusCode::OK);
    let links = page.text.split("<li><p><a href=\"").skip(1);
    let links: Vec<_> = links.filter_map(|rest| rest.split('"').next()).collect();
    assert!(links.contains(&"/account/sessions") && links.contains(&"/account/security"));
    // There are no self-service modules, no mails and no services.
    for absent in ["/account/modules", "/email/change", "/services"] {
        assert!(!links.contains(&absent), "{links:?}");
    }
    for link in links {
        let page = ann.open(link).await;
        assert!(page.status == StatusCode::OK || page.header("location").starts_with("/login?"));
    }
    assert_eq!(server.logged_in("ann").await.open("/login").await.header("location"), "/account");
}

async fn an_account_is_exported_by_the_api_and_on_the_page(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.module("crm", "crm:read", None, true).await;
    server.client("app", web_app()).await;
    let ann = server.register("ann").await;
    server.switch(&ann.access, "crm", "enable").await.expect(StatusCode::OK);
    server.clock.advance(Duration::from_secs(1));
    server.switch(&ann.access, "crm", "disable").await.expect(StatusCode::OK);
    let mut browser = server.browser();
    tokens_in(&mut browser, "app", "openid", "ann").await;
    let path = "/api/v1/account/export";
    let data = server.get_as(path, &ann.access).await.expect(StatusCode::OK).data();
    assert_eq!(data["account"]["email"], "ann@example.org");
    assert_eq!(data["cut"], json!([]));
    for (list, length) in [
        ("browserSessions", 1),
        ("sessions", 2),
        ("consents", 1),
        ("modules", 1),
        ("secondFactors", 0),
        ("services", 0),
        ("identities", 0),
        ("linkedSubjects", 0),
        ("mails", 0),
    ] {
        assert_eq!(data[list].as_array().expect("a list").len(), length, "{list}: {data}");
    }
    assert_eq!(data["consents"][0]["clientId"], "app");
    assert_eq!(data["account"]["profile"], json!({}));
    let known = data["knownSources"].as_array().expect("a list").iter();
    let networks: Vec<_> = known.filter(|one| one["kind"] == "network").collect();
    assert_eq!(networks.len(), 1, "{data}");
    assert_eq!(networks[0]["network"], "127.0.0.1");
    assert!(data["modules"][0]["closedAt"].is_string(), "{data}");
    let actions: Vec<_> = data["auditLog"].as_array().expect("a list").iter().collect();
    assert!(actions.iter().any(|entry| entry["action"] == "user.login"), "{data}");

    // What somebody has done who was not logged in.
    let body = json!({ "email": "ann@example.org" });
    let with_mails = server.another(&[MAILS]).await;
    let requested = with_mails.post("/api/v1/auth/password/reset/request", body).await;
    requested.expect(StatusCode::ACCEPTED);
    let page = browser.open("/account/export").await.expect(StatusCode::OK);
    let file = browser.submit(&page, &[]).await.expect(StatusCode::OK);
    assert_eq!(
        file.header("content-disposition"),
        "attachment; filename=\"account-2026-11-21.json\""
    );
    let file = file.json();
    assert_eq!(file["account"], data["account"]);
    let mut entries = file["auditLog"].as_array().expect("a list").iter();
    let requested = entries.find(|entry| entry["action"] == "user.reset_requested");
    assert_eq!(requested.expect("an entry")["by"], "anonymous");
    let exported = "SELECT count(*) AS n FROM audit_log WHERE action = 'user.exported'";
    assert_eq!(count(&server, exported).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_calls_work() {
    let database = Arc::new(Database::prepared_by_system_time(Backend::Sqlite).await);
    let server = TestServer::on(database, Clock::system(), &[]).await;
    let page = include_str!("../../docs/account.md");
    let base = server.base.clone();
    let script = blocks(page, "sh account");
    let (done, printed) =
        tokio::task::spawn_blocking(move || sh(&script, &base, &[])).await.expect("it ends");
    assert!(done, "it stopped:\n{printed}");
    for text in ["Other sessions ended.", "INVALID_TOKEN", "auditLog", "deletionAt", "Logged in."] {
        assert!(printed.contains(text), "{text}:\n{printed}");
    }
}
