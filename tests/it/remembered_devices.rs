//! Browsers in which a user is not asked for the second factor.

use std::time::Duration;

use propusk::{
    flows::{
        accounts::second_factors,
        admin::{
            access::Precondition,
            roles,
            users::{self, UserChanges},
        },
        maintenance,
    },
    model::{
        actor::Actor,
        user::{Role, RoleSettings},
    },
    storage::Statement,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    Backend, PASSWORD, Reply, TestServer, backend_tests,
    mail::MAILS,
    oauth::{AuthorizationRequest, AuthorizationResponse, Browser, Form, first_party_app, payload},
    second_factor::{Authenticator, next_step},
};

const COOKIE: &str = "propusk_remembered";
const DAY: Duration = Duration::from_secs(24 * 3_600);
const MFA: &str = "urn:propusk:acr:mfa";

backend_tests! {
    a_device_is_remembered_listed_and_forgotten,
    two_users_of_one_browser_are_remembered,
    a_device_without_its_device_cookie_can_be_remembered_again,
    an_application_lists_and_forgets_remembered_devices,
    remembering_is_offered_where_the_factor_is_a_choice,
    t235_a_remembered_device_needs_password_user_and_browser,
    t236_a_remembered_device_is_forgotten_with_what_it_stands_for,
    t237_a_remembered_device_is_no_second_factor,
}

/// A browser in which `name` has logged in with a code and is remembered. It is logged out again.
async fn remembered<'a>(server: &'a TestServer, name: &str, app: &Authenticator) -> Browser<'a> {
    let mut browser = server.browser();
    remember(&mut browser, name, app).await;
    browser
}

async fn remember(browser: &mut Browser<'_>, name: &str, app: &Authenticator) {
    let page = browser.open_second_step("/login", name).await;
    let code = app.code(&browser.server.clock);
    next_step(browser.server);
    let reply = browser.submit(&page, &[("code", &code), ("remember", "1")]).await;
    reply.expect(StatusCode::SEE_OTHER);
    assert_eq!(browser.cookies[COOKIE].len(), 43);
    browser.cookies.remove("propusk_session");
}

/// Sends login and password; returns where that leads.
async fn first_step(browser: &mut Browser<'_>, name: &str) -> String {
    let page = browser.open("/login").await.expect(StatusCode::OK);
    let reply = browser.submit(&page, &[("login", name), ("password", PASSWORD)]).await;
    reply.expect(StatusCode::SEE_OTHER).header("location").to_owned()
}

async fn is_asked(browser: &mut Browser<'_>, name: &str) -> bool {
    match first_step(browser, name).await.as_str() {
        "/login/second-factor" => true,
        "/account" => false,
        other => panic!("leads to {other}"),
    }
}

async fn count(server: &TestServer) -> usize {
    let statement = Statement::new("SELECT id FROM remembered_devices");
    server.app.db.read(statement).await.expect("rows").len()
}

/// The form of a page that has this action.
fn form_to(page: &Reply, action: &str) -> Form {
    let (_, rest) = page.text.split_once(&format!("action=\"{action}\"")).expect("a form");
    Form::of(&format!("<form method=\"post\" action=\"{action}\"{rest}"))
}

async fn a_device_is_remembered_listed_and_forgotten(backend: Backend) {
    let server = TestServer::start(backend).await;
    let (app, codes) = server.register_with_totp("ann").await;
    let mut browser = server.browser();
    let page = browser.open_second_step("/login", "ann").await;
    let text = page.text.replace(['\u{2068}', '\u{2069}'], "");
    assert!(text.contains("Do not ask again on this device for 30 days"), "{page:?}");
    // A wrong code keeps the choice, and remembers nothing.
    let wrong = app.wrong_code(&server.clock);
    let again = browser.submit(&page, &[("code", &wrong), ("remember", "1")]).await;
    let again = again.expect_page(400);
    assert!(again.text.contains("value=\"1\" checked"), "{again:?}");
    assert_eq!((browser.cookies.get(COOKIE), count(&server).await), (None, 0));
    // Without the choice nothing is remembered either.
    browser.log_in_with("/login", "ann", &app).await;
    assert_eq!((browser.cookies.get(COOKIE), count(&server).await), (None, 0));

    let mut browser = server.browser();
    let page = browser.open_second_step("/login", "ann").await;
    let typed = [("code", codes[0].as_str()), ("remember", "1")];
    let reply = browser.submit(&page, &typed).await.expect(StatusCode::SEE_OTHER);
    let cookies = reply.headers.get_all("set-cookie").iter();
    let set = cookies.filter_map(|line| line.to_str().ok()).find(|line| line.starts_with(COOKIE));
    let set = set.expect("a cookie");
    for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=2592000"] {
        assert!(set.contains(part), "{part}: {set}");
    }
    browser.cookies.remove("propusk_session");
    assert!(!is_asked(&mut browser, "ann").await);
    let page = browser.open("/account/security").await.expect(StatusCode::OK);
    assert!(
        page.text.replace(['\u{2068}', '\u{2069}'], "").contains("until 2026-12-21"),
        "{page:?}"
    );
    let forget = form_to(&page, "/account/security/forget");
    // Another user's form forgets nothing.
    server.register("eve").await;
    let mut eve = server.logged_in("eve").await;
    let mut stolen = forget.clone();
    stolen.hidden.retain(|(name, _)| name == "id");
    eve.submit_form(stolen, &[]).await.expect_page(403);
    assert_eq!(count(&server).await, 1);
    browser.submit_form(forget.clone(), &[]).await.expect(StatusCode::SEE_OTHER);
    browser.submit_form(forget, &[]).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(count(&server).await, 0);
    browser.cookies.remove("propusk_session");
    assert!(is_asked(&mut browser, "ann").await);
    let statement = Statement::new("SELECT action FROM audit_log WHERE action LIKE 'device.%'");
    assert_eq!(server.app.db.read(statement).await.expect("rows").len(), 2);

    // It ends, and maintenance removes it.
    let mut browser = remembered(&server, "ann", &app).await;
    server.clock.advance(30 * DAY - Duration::from_secs(60));
    assert!(!is_asked(&mut browser, "ann").await);
    browser.cookies.remove("propusk_session");
    server.clock.advance(Duration::from_secs(60));
    assert!(is_asked(&mut browser, "ann").await);
    maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(count(&server).await, 0);
}

async fn two_users_of_one_browser_are_remembered(backend: Backend) {
    let server = TestServer::start(backend).await;
    let (ann, _) = server.register_with_totp("ann").await;
    let (bob, _) = server.register_with_totp("bob").await;
    let mut browser = remembered(&server, "ann", &ann).await;
    assert!(is_asked(&mut browser, "bob").await, "ann's device is not bob's");
    let first = browser.cookies[COOKIE].clone();
    remember(&mut browser, "bob", &bob).await;
    assert_ne!(browser.cookies[COOKIE], first, "a new value each time");
    for name in ["ann", "bob"] {
        assert!(!is_asked(&mut browser, name).await, "{name}");
        browser.cookies.remove("propusk_session");
    }
    // Again in the same browser: one entry, not two.
    browser.cookies.remove(COOKIE);
    remember(&mut browser, "ann", &ann).await;
    assert_eq!(count(&server).await, 2);
    // Bounded: the oldest is removed.
    for _ in 0..20 {
        remembered(&server, "ann", &ann).await;
    }
    assert_eq!(count(&server).await, 21);
    browser.cookies.remove("propusk_session");
    assert!(is_asked(&mut browser, "ann").await);
}

async fn remembering_is_offered_where_the_factor_is_a_choice(backend: Backend) {
    let off = ("PROPUSK_SECOND_FACTORS__REMEMBER_FOR", "0s");
    let server = TestServer::start(backend).await;
    let (app, _) = server.register_with_totp("ann").await;
    let mut known = remembered(&server, "ann", &app).await;
    let without = server.another(&[off]).await;
    let mut browser = without.browser();
    browser.cookies = known.cookies.clone();
    assert!(is_asked(&mut browser, "ann").await, "the setting ends what was remembered");
    let page = browser.open("/login/second-factor").await.expect(StatusCode::OK);
    assert!(!page.text.contains("name=\"remember\""), "{page:?}");
    let code = app.code(&server.clock);
    next_step(&server);
    let forced = browser.submit(&page, &[("code", &code), ("remember", "1")]).await;
    forced.expect(StatusCode::SEE_OTHER);
    assert_eq!(count(&server).await, 1, "nothing was added");

    // A step-up, of a user who is logged in, offers it neither.
    assert!(!is_asked(&mut known, "ann").await);
    let page = known.open("/login/second-factor").await.expect(StatusCode::OK);
    assert!(!page.text.contains("name=\"remember\""), "{page:?}");
}

async fn t235_a_remembered_device_needs_password_user_and_browser(backend: Backend) {
    let server = TestServer::start(backend).await;
    let (app, _) = server.register_with_totp("ann").await;
    server.register_with_totp("eve").await;
    let mut ann = remembered(&server, "ann", &app).await;
    // The password first, as ever.
    let page = ann.open("/login").await;
    let wrong = [("login", "ann"), ("password", "a guess that is quite wrong")];
    ann.submit(&page, &wrong).await.expect_page(400);
    // Another user there, and the cookie elsewhere.
    assert!(is_asked(&mut ann, "eve").await);
    let mut elsewhere = server.browser();
    elsewhere.cookies.insert(COOKIE.to_owned(), ann.cookies[COOKIE].clone());
    assert!(is_asked(&mut elsewhere, "ann").await, "without the device cookie");
    // A guess, one that is too long, and the stored hash.
    let statement = Statement::new("SELECT token_hash FROM remembered_devices");
    let rows = server.app.db.read(statement).await.expect("rows");
    let stored: Vec<u8> = rows[0].get("token_hash").expect("a hash");
    assert_eq!(stored.len(), 32, "the cookie itself is not stored");
    for guess in ["A".repeat(43), "A".repeat(5_000)] {
        let mut guesser = server.browser();
        guesser.cookies = ann.cookies.clone();
        guesser.cookies.insert(COOKIE.to_owned(), guess);
        assert!(is_asked(&mut guesser, "ann").await);
    }
    // The JSON API remembers no device.
    server.login("ann").await.expect_error(403, "MFA_REQUIRED");
    assert!(!is_asked(&mut ann, "ann").await, "where it is remembered");
}

async fn t236_a_remembered_device_is_forgotten_with_what_it_stands_for(backend: Backend) {
    let server = TestServer::with(backend, &[MAILS]).await;
    let admin = server.admin("root").await;
    let (app, _) = server.register_with_totp("ann").await;
    let id = users::find(&server.app, "ann").await.expect("known").id;
    let path = format!("/users/{id}");
    // The reset of an account that is not verified removes the factors too.
    let verified = UserChanges { is_verified: Some(true), ..UserChanges::default() };
    let (any, operator) = (Precondition::Any, Actor::operator());
    users::update(&server.app, &id, &any, verified, &operator).await.expect("verified");
    let remembers = async || {
        remembered(&server, "ann", &app).await;
        assert_eq!(count(&server).await, 1);
    };
    // A new password: by an administrator, and by the user.
    remembers().await;
    let body = json!({ "password": PASSWORD });
    admin.post(&format!("{path}/password"), body).await.expect(StatusCode::OK);
    assert_eq!(count(&server).await, 0, "password by an administrator");
    remembers().await;
    server.post("/api/v1/auth/password/reset/request", json!({ "email": "ann@example.org" })).await;
    let token = server.mail_to("ann@example.org").await.token();
    let body = json!({ "token": token, "password": PASSWORD });
    server.post("/api/v1/auth/password/reset", body).await.expect(StatusCode::OK);
    assert_eq!(count(&server).await, 0, "reset of the password");
    // A logout everywhere: by an administrator, and of all other sessions by the user.
    remembers().await;
    let admin = server.admin_as("root").await;
    admin.post(&format!("{path}/logout"), Value::Null).await;
    assert_eq!(count(&server).await, 0, "logout everywhere");
    remembers().await;
    let tokens = server.login_with("ann", &app).await;
    let others = "/api/v1/account/sessions/revoke-others";
    server.post_as(others, &tokens.access).await;
    assert_eq!(count(&server).await, 0, "all other sessions");
    // The factor itself: removed by the user, and reset by an operator.
    remembers().await;
    let tokens = server.login_with("ann", &app).await;
    let factors = "/api/v1/account/second-factors";
    let list = server.get_as(factors, &tokens.access).await.data();
    let factor = list["factors"][0]["id"].as_str().expect("an id").to_owned();
    server.delete_as(&format!("{factors}/{factor}"), &tokens.access).await.expect(StatusCode::OK);
    assert_eq!(count(&server).await, 0, "the factor was removed");
    let tokens = server.login("ann").await.expect(StatusCode::OK).tokens();
    let (app, _) = server.set_up_totp(&tokens.access).await;
    let mut browser = remembered(&server, "ann", &app).await;
    second_factors::reset(&server.app, &id, &Actor::operator()).await.expect("reset");
    assert_eq!(count(&server).await, 0, "the factors were reset");
    // A cookie that is left over opens nothing once there is a factor again.
    let tokens = server.login("ann").await.expect(StatusCode::OK).tokens();
    let (app, _) = server.set_up_totp(&tokens.access).await;
    assert!(is_asked(&mut browser, "ann").await);
    remembered(&server, "ann", &app).await;
    users::disable(&server.app, &id, &Actor::operator()).await.expect("disabled");
    assert_eq!(count(&server).await, 0, "the user was disabled");
}

async fn t237_a_remembered_device_is_no_second_factor(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("app", first_party_app()).await;
    let (app, _) = server.register_with_totp("ann").await;
    let mut ann = remembered(&server, "ann", &app).await;
    assert!(!is_asked(&mut ann, "ann").await);
    // The session says its methods and class.
    let request = AuthorizationRequest::of("app", "openid");
    let answer = ann.authorize(&request, "ann").await;
    let tokens = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    let claims = payload(&tokens.field("id_token"));
    assert_eq!(
        (&claims["acr"], &claims["amr"]),
        (&json!("urn:propusk:acr:password"), &json!(["pwd"]))
    );
    // A request for a class, and a sensitive change, ask.
    let strong = AuthorizationRequest::of("app", "openid").with("acr_values", MFA);
    let to = ann.open(&strong.path()).await.expect(StatusCode::SEE_OTHER);
    assert!(to.header("location").starts_with("/login/second-factor"), "{to:?}");
    let silent = strong.with("prompt", "none");
    let refused = ann.open(&silent.path()).await;
    AuthorizationResponse::of(refused.header("location")).expect_error("login_required");
    for page in ["/account/security/totp", "/account/export", "/account/password"] {
        let to = ann.open(page).await;
        let location = to.header("location");
        assert!(location.starts_with("/login/second-factor"), "{page}: {location}");
    }
    // A role that requires a factor asks at every login.
    let settings = RoleSettings { description: String::new(), require_second_factor: true };
    let by = Actor::operator();
    roles::put(&server.app, Role::user(), settings, &by).await.expect("changed");
    ann.cookies.remove("propusk_session");
    assert!(is_asked(&mut ann, "ann").await);
    let page = ann.open("/login/second-factor").await.expect(StatusCode::OK);
    assert!(!page.text.contains("name=\"remember\""), "{page:?}");
    let code = app.code(&server.clock);
    let before = count(&server).await;
    let reply = ann.submit(&page, &[("code", &code), ("remember", "1")]).await;
    reply.expect(StatusCode::SEE_OTHER);
    assert_eq!(count(&server).await, before, "nothing was added");
}

/// The cookie of the device ends by itself, before one that is younger.
async fn a_device_without_its_device_cookie_can_be_remembered_again(backend: Backend) {
    let server = TestServer::start(backend).await;
    let (app, _) = server.register_with_totp("ann").await;
    let mut browser = remembered(&server, "ann", &app).await;
    assert!(browser.cookies.remove("propusk_device").is_some());
    remember(&mut browser, "ann", &app).await;
    assert!(!is_asked(&mut browser, "ann").await);
    assert_eq!(count(&server).await, 1);
}

async fn an_application_lists_and_forgets_remembered_devices(backend: Backend) {
    const PATH: &str = "/api/v1/account/remembered-devices";
    let server = TestServer::start(backend).await;
    let (app, _) = server.register_with_totp("ann").await;
    let mut browser = remembered(&server, "ann", &app).await;
    assert!(!is_asked(&mut browser, "ann").await);
    let ann = server.login_with("ann", &app).await;
    let listed = server.get_as(PATH, &ann.access).await.expect(StatusCode::OK).data();
    let [device] = listed.as_array().expect("a list").as_slice() else { panic!("{listed}") };
    assert!(device["lastUsedAt"].is_string(), "{device}");
    // Thirty days after it was remembered.
    assert_eq!(device["expiresAt"], "2026-12-21T00:01:00Z", "{device}");
    let one = format!("{PATH}/{}", device["id"].as_str().expect("an id"));
    // Another user's are not found.
    let eve = server.register("eve").await;
    let none = server.get_as(PATH, &eve.access).await.expect(StatusCode::OK).data();
    assert_eq!(none, json!([]));
    server.delete_as(&one, &eve.access).await.expect_error(404, "NOT_FOUND");
    server.delete_as(&one, &ann.access).await.expect(StatusCode::OK);
    server.delete_as(&one, &ann.access).await.expect_error(404, "NOT_FOUND");
    browser.cookies.remove("propusk_session");
    assert!(is_asked(&mut browser, "ann").await);
}
