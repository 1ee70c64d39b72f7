//! Second factors: adding, using and losing them, on the pages, by the JSON API and for operators.

use std::{sync::Arc, time::Duration};

use propusk::{
    clock::Clock,
    flows::admin::{clients, roles, users},
    grpc::proto::v1::VerifyPasswordRequest,
    model::{
        actor::Actor,
        client::Metadata,
        user::{Role, RoleSettings},
    },
    oauth::scope::Scope,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    readme::{blocks, sh},
    support::{
        Backend, Database, PASSWORD, Reply, TestServer, backend_tests,
        chromium::Chromium,
        grpc::expect_refused,
        oauth::{
            AuthorizationRequest, AuthorizationResponse, Browser, Form, changed, device_app,
            first_party_app, payload, web_app,
        },
        process::run,
        second_factor::{Authenticator, codes_of, next_step},
        send,
    },
};

const FACTORS: &str = "/api/v1/account/second-factors";
const MFA: &str = "urn:propusk:acr:mfa";

backend_tests! {
    an_authenticator_app_is_added_used_and_removed_by_the_api,
    an_authenticator_app_is_added_used_and_removed_on_the_pages,
    a_role_that_requires_a_factor_leads_to_its_set_up,
    a_request_for_a_class_asks_for_the_second_step_only,
    a_client_that_requires_a_factor_gets_no_login_without,
    operators_see_and_reset_factors,
    a_back_end_verifies_password_and_code,
}

async fn require_of_role(server: &TestServer, role: &str) {
    let settings = RoleSettings { description: String::new(), require_second_factor: true };
    let role = Role::parse(role).expect("a role");
    roles::put(&server.app, role, settings, &Actor::operator()).await.expect("changed");
}

async fn audit(server: &TestServer, action: &str) -> usize {
    let statement =
        propusk::storage::Statement::new("SELECT subject FROM audit_log WHERE action = $1");
    server.app.db.read(statement.bind(action)).await.expect("rows").len()
}

async fn an_authenticator_app_is_added_used_and_removed_by_the_api(backend: Backend) {
    let server = TestServer::start(backend).await;
    let first = server.register("ann").await;
    let session = server.get_as("/api/v1/auth/session", &first.access).await.data();
    assert_eq!(
        (&session["acr"], &session["amr"]),
        (&json!("urn:propusk:acr:password"), &json!(["pwd"]))
    );
    let begun = server.post_as(&format!("{FACTORS}/totp"), &first.access).await.data();
    let uri = begun["uri"].as_str().expect("a URI");
    assert!(uri.starts_with("otpauth://totp/127.0.0.1:ann%40example.org?secret="), "{uri}");
    assert!(begun["qrCode"].as_str().expect("SVG").starts_with("<svg "), "{begun}");
    let app = Authenticator::of(begun["secret"].as_str().expect("a secret"));
    let confirm = async |code: &str, name: &str| {
        let body = json!({ "setupToken": begun["setupToken"], "code": code, "name": name });
        server.post_json_as(&format!("{FACTORS}/totp/confirm"), &first.access, body).await
    };
    // It does not count before a code confirms it.
    server.login("ann").await.expect(StatusCode::OK);
    confirm(&app.wrong_code(&server.clock), "").await.expect_error(401, "INVALID_CODE");
    confirm(&app.code(&server.clock), &"x".repeat(65)).await.expect_error(400, "VALIDATION_ERROR");
    let added = confirm(&app.code(&server.clock), "My phone").await.expect(StatusCode::CREATED);
    assert_eq!(added.text_of("/factor/name"), "My phone");
    let codes = codes_of(&added);
    assert_eq!(codes.len(), 10, "{codes:?}");
    next_step(&server);
    // The set-up is confirmed once, and the login without the factor changes nothing any more.
    let again = confirm(&app.code(&server.clock), "").await;
    again.expect_error(401, "INSUFFICIENT_USER_AUTHENTICATION");

    let reply = server.login("ann").await.expect_error(403, "MFA_REQUIRED");
    let mfa = &reply.json()["mfa"];
    assert_eq!(mfa["methods"], json!(["totp", "recovery_code"]));
    assert_eq!((&mfa["setupRequired"], &mfa["expiresIn"]), (&json!(false), &json!(600)));
    assert_eq!(reply.header("set-cookie"), "");
    let token = mfa["mfaToken"].as_str().expect("a token").to_owned();
    let wrong = app.wrong_code(&server.clock);
    server.second_step(&token, &wrong).await.expect_error(401, "INVALID_CODE");
    server.second_step(&token, "not a code").await.expect_error(401, "INVALID_CODE");
    let code = app.code(&server.clock);
    let spaced = format!("{} {}", &code[..3], &code[3..]);
    let tokens = server.second_step(&token, &spaced).await.expect(StatusCode::OK).tokens();
    let claims = payload(&tokens.access);
    assert_eq!((&claims["acr"], &claims["amr"]), (&json!(MFA), &json!(["pwd", "otp", "mfa"])));
    assert_eq!(claims["auth_time"], server.clock.now().as_secs());
    let refreshed = server.refresh(&tokens.refresh).await.expect(StatusCode::OK).tokens();
    assert_eq!(payload(&refreshed.access)["acr"], MFA);
    let session = server.get_as("/api/v1/auth/session", &refreshed.access).await.data();
    assert_eq!((&session["acr"], &session["amr"]), (&json!(MFA), &json!(["pwd", "otp", "mfa"])));
    assert!(session["authenticatedAt"].is_string(), "{session}");

    // A recovery code works once.
    let token = server.first_step("ann").await;
    let by_code = server.second_step(&token, &codes[0].to_uppercase()).await;
    let by_code = by_code.expect(StatusCode::OK).tokens();
    assert_eq!(payload(&by_code.access)["amr"], json!(["pwd", "mfa"]));
    server.second_step(&token, &codes[0]).await.expect_error(401, "INVALID_CODE");
    let list = server.get_as(FACTORS, &by_code.access).await.data();
    assert_eq!((&list["recoveryCodes"], &list["required"]), (&json!(9), &json!(false)));
    assert!(list["factors"][0]["lastUsedAt"].is_string(), "{list}");
    let renewed = server.post_as(&format!("{FACTORS}/recovery-codes"), &by_code.access).await;
    let renewed = codes_of(&renewed.expect(StatusCode::CREATED));
    server.second_step(&token, &codes[1]).await.expect_error(401, "INVALID_CODE");
    server.second_step(&token, &renewed[1]).await.expect(StatusCode::OK);

    let id = list["factors"][0]["id"].as_str().expect("an id");
    let path = format!("{FACTORS}/{id}");
    server
        .delete_as(&format!("{FACTORS}/nothing"), &by_code.access)
        .await
        .expect_error(404, "NOT_FOUND");
    server.delete_as(&path, &by_code.access).await.expect(StatusCode::OK);
    server.login("ann").await.expect(StatusCode::OK);
    server.second_step(&token, &renewed[2]).await.expect_error(401, "INVALID_CODE");
    let list = server.get_as(FACTORS, &by_code.access).await.data();
    assert_eq!(list, json!({ "factors": [], "recoveryCodes": 0, "required": false }));
    let events: Vec<_> = server.events().await.into_iter().map(|(kind, _)| kind).collect();
    for kind in [
        "factor.added",
        "factor.recovery_code_used",
        "factor.recovery_codes_renewed",
        "factor.removed",
    ] {
        assert!(events.iter().any(|event| event == kind), "{kind}: {events:?}");
        assert!(audit(&server, kind).await > 0, "{kind}");
    }
    let metrics = server.app.metrics.render();
    for line in [
        "propusk_logins_total{outcome=\"second_factor_required\"} 2",
        "propusk_second_factors_total{outcome=\"ok\"} 3",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
}

/// The text of a page without Unicode isolates.
fn plain(page: &Reply) -> String {
    page.text.replace(['\u{2068}', '\u{2069}'], "")
}

/// The page that a login by password leads to, with its form sent.
async fn send_code(browser: &mut Browser<'_>, page: &Reply, code: &str) -> Reply {
    browser.submit(page, &[("code", code)]).await
}

async fn an_authenticator_app_is_added_used_and_removed_on_the_pages(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    let mut ann = server.browser();
    let to_login = ann.open("/account/security").await.expect(StatusCode::SEE_OTHER);
    let back = ann.log_in(to_login.header("location"), "ann").await;
    assert_eq!(back.header("location"), "/account/security");
    let page = ann.open("/account/security").await.expect(StatusCode::OK);
    assert!(page.text.contains("You log in with your password only"), "{page:?}");
    assert!(ann.open("/account").await.text.contains("href=\"/account/security\""));
    let page = ann.open("/account/security/totp").await.expect(StatusCode::OK);
    assert!(page.text.contains("<svg ") && page.text.contains("otpauth://totp/"), "{page:?}");
    assert!(!page.header("content-security-policy").contains("unsafe"), "{page:?}");
    let (_, rest) = page.text.split_once("<p class=\"codes\"><code>").expect("the secret");
    let app = Authenticator::of(rest.split('<').next().expect("the secret"));
    let wrong = [("code", app.wrong_code(&server.clock)), ("name", "Pocket".to_owned())];
    let typed: Vec<_> = wrong.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let again = ann.submit(&page, &typed).await.expect(StatusCode::BAD_REQUEST);
    assert!(again.text.contains("Wrong code") && again.text.contains("Pocket"), "{again:?}");
    assert_eq!(Form::of(&again.text).action, "/account/security/totp");
    let before = ann.cookies["propusk_session"].clone();
    let right = app.code(&server.clock);
    let shown = ann.submit(&again, &[("code", &right), ("name", "Pocket")]).await;
    let shown = shown.expect(StatusCode::OK);
    let codes: Vec<_> = shown
        .text
        .split("<li><code>")
        .skip(1)
        .map(|rest| rest.split('<').next().expect("a code").to_owned())
        .collect();
    assert_eq!(codes.len(), 10, "{shown:?}");
    assert_ne!(ann.cookies["propusk_session"], before, "a new cookie after the second factor");
    let list = ann.open("/account/security").await.expect(StatusCode::OK);
    assert!(list.text.contains("Pocket") && plain(&list).contains("10 unused"), "{list:?}");
    next_step(&server);

    // Another browser needs both; wrong codes leave the form in place, in both languages.
    let mut phone = server.browser();
    let page = phone.open_second_step("/login?lang=ru", "ann").await;
    assert!(page.text.contains("Введите код"), "{page:?}");
    assert!(!phone.cookies.contains_key("propusk_session"), "no session yet");
    let wrong = send_code(&mut phone, &page, &app.wrong_code(&server.clock)).await;
    assert!(wrong.expect(StatusCode::BAD_REQUEST).text.contains("Неверный код"));
    let empty = send_code(&mut phone, &page, " ").await.expect(StatusCode::BAD_REQUEST);
    let done = send_code(&mut phone, &empty, &app.code(&server.clock)).await;
    assert_eq!(done.expect(StatusCode::SEE_OTHER).header("location"), "/account");
    assert!(!phone.cookies.contains_key("propusk_login"), "{:?}", phone.cookies);
    assert!(phone.open("/account").await.text.contains("Вы вошли"));
    next_step(&server);
    // A recovery code does as well.
    let mut lost = server.browser();
    let page = lost.open_second_step("/login", "ann").await;
    send_code(&mut lost, &page, &codes[3]).await.expect(StatusCode::SEE_OTHER);
    let list = lost.open("/account/security").await;
    assert!(plain(&list).contains("9 unused"), "{list:?}");
    let page = lost.open("/account/security/recovery-codes").await.expect(StatusCode::OK);
    let renewed = lost.submit(&page, &[]).await.expect(StatusCode::OK);
    assert!(renewed.text.contains("Save your recovery codes") && !renewed.text.contains(&codes[4]));

    // A change needs a recent login with the factor.
    server.clock.advance(Duration::from_secs(601));
    let list = lost.open("/account/security").await;
    let (_, rest) = list.text.split_once("/account/security/remove?id=").expect("a link");
    let url = format!("/account/security/remove?id={}", rest.split('"').next().expect("an id"));
    let to_login =
        lost.open(&url).await.expect(StatusCode::SEE_OTHER).header("location").to_owned();
    assert!(to_login.starts_with("/login?return_to=") && to_login.ends_with("&reauthenticate=1"));
    assert_eq!(lost.log_in_with(&to_login, "ann", &app).await, url);
    let page = lost.open(&url).await.expect(StatusCode::OK);
    assert!(page.text.contains("only second factor"), "{page:?}");
    let removed = lost.submit(&page, &[]).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(removed.header("location"), "/account/security");
    server.logged_in("ann").await;
}

async fn a_role_that_requires_a_factor_leads_to_its_set_up(backend: Backend) {
    let server = TestServer::start(backend).await;
    let ann = server.register("ann").await;
    server.register("bob").await;
    server.client("app", first_party_app()).await;
    let mut old = server.logged_in("bob").await;
    require_of_role(&server, "user").await;
    // By the API.
    let reply = server.login("ann").await.expect_error(403, "MFA_REQUIRED");
    let mfa = &reply.json()["mfa"];
    assert_eq!((&mfa["methods"], &mfa["setupRequired"]), (&json!([]), &json!(true)));
    let token = mfa["mfaToken"].as_str().expect("a token");
    server.second_step(token, "123456").await.expect_error(401, "INVALID_CODE");
    let body = json!({ "mfaToken": token });
    let begun = server.post("/api/v1/auth/login/mfa/setup", body).await.expect(StatusCode::OK);
    let app = Authenticator::of(&begun.text_of("/secret"));
    let body = |code: &str| json!({ "mfaToken": token, "code": code, "setupToken": begun.text_of("/setupToken"), "name": "Phone" });
    let path = "/api/v1/auth/login/mfa";
    server.post(path, body(&app.wrong_code(&server.clock))).await.expect_error(401, "INVALID_CODE");
    let done = server.post(path, body(&app.code(&server.clock))).await.expect(StatusCode::OK);
    assert_eq!(codes_of(&done).len(), 10);
    assert_eq!(payload(&done.tokens().access)["acr"], MFA);
    next_step(&server);
    server.login_with("ann", &app).await;
    // A registration creates the account, and no session before the factor.
    let body = json!({ "email": "eve@example.org", "username": "eve", "password": PASSWORD });
    let reply = server.post("/api/v1/auth/register", body).await;
    let reply = reply.expect_error(403, "MFA_REQUIRED");
    assert_eq!(reply.json()["mfa"]["setupRequired"], true);
    let body = json!({ "mfaToken": reply.json()["mfa"]["mfaToken"] });
    server.post("/api/v1/auth/login/mfa/setup", body).await.expect(StatusCode::OK);
    server.login("eve").await.expect_error(403, "MFA_REQUIRED");
    // The last factor stays while the role requires it.
    let tokens = server.login_with("ann", &app).await;
    let list = server.get_as(FACTORS, &tokens.access).await.data();
    assert_eq!(list["required"], true);
    let path = format!("{FACTORS}/{}", list["factors"][0]["id"].as_str().expect("an id"));
    server.delete_as(&path, &tokens.access).await.expect_error(409, "CONFLICT");
    drop(ann);

    // On the pages, within an authorization request.
    let request = AuthorizationRequest::of("app", "openid");
    let mut bob = server.browser();
    let to_login = bob.open(&request.path()).await.header("location").to_owned();
    let page = bob.open_second_step(&to_login, "bob").await;
    assert!(page.text.contains("must be protected"), "{page:?}");
    let setup = Form::of(&page.text).field("setup_token").to_owned();
    assert!(!setup.is_empty());
    let (_, rest) = page.text.split_once("<p class=\"codes\"><code>").expect("the secret");
    let app = Authenticator::of(rest.split('<').next().expect("the secret"));
    let code = app.code(&server.clock);
    let shown = bob.submit(&page, &[("code", &code)]).await.expect(StatusCode::OK);
    let (_, next) = shown.text.split_once("<a class=\"button\" href=\"").expect("a link");
    let next = next.split('"').next().expect("a URL").replace("&#38;", "&");
    let answer = AuthorizationResponse::of(bob.open(&next).await.header("location"));
    let tokens = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    let id = payload(&tokens.field("id_token"));
    assert_eq!((&id["acr"], &id["amr"]), (&json!(MFA), &json!(["pwd", "otp", "mfa"])));
    // A session of before leads there too.
    next_step(&server);
    let reply = old.open(&request.path()).await.expect(StatusCode::SEE_OTHER);
    let page = old.open(reply.header("location")).await.expect(StatusCode::OK);
    let back = old.submit(&page, &[("code", &app.code(&server.clock))]).await;
    let answer = old.open(back.expect(StatusCode::SEE_OTHER).header("location")).await;
    AuthorizationResponse::of(answer.header("location")).code();
}

/// The parameters of an ID token about the login.
fn login_of(reply: &Reply) -> (Value, Value) {
    let claims = payload(&reply.field("id_token"));
    (claims["acr"].clone(), claims["amr"].clone())
}

async fn a_request_for_a_class_asks_for_the_second_step_only(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("app", first_party_app()).await;
    let mut ann = server.browser();
    let tokens = server.register("ann").await;
    ann.log_in("/login", "ann").await;
    let logged_in = server.clock.now().as_secs();
    let (app, _) = server.set_up_totp(&tokens.access).await;
    let request = AuthorizationRequest::of("app", "openid");
    let essential = |value: &str| {
        json!({ "id_token": { "acr": { "essential": true, "value": value } } }).to_string()
    };
    // A session of before the factor is good enough where nobody asks.
    let plain = ann.open(&request.path()).await;
    let code = AuthorizationResponse::of(plain.header("location"));
    let reply = server.exchange_code("app", code.code()).await.expect(StatusCode::OK);
    assert_eq!(login_of(&reply), (json!("urn:propusk:acr:password"), json!(["pwd"])));
    let password_first = format!("urn:propusk:acr:password {MFA}");
    let asked = request.clone().with("acr_values", &password_first);
    AuthorizationResponse::of(ann.open(&asked.path()).await.header("location")).code();
    // `prompt=none` cannot ask; a preference is none of its errors.
    let none = |request: &AuthorizationRequest| request.clone().with("prompt", "none");
    let wanted = request.clone().with("acr_values", MFA);
    let reply = ann.open(&none(&wanted).path()).await;
    AuthorizationResponse::of(reply.header("location")).expect_error("login_required");
    let preferred = request.clone().with("acr_values", &format!("{MFA} urn:propusk:acr:password"));
    AuthorizationResponse::of(ann.open(&none(&preferred).path()).await.header("location")).code();
    let unknown = request.clone().with("claims", &essential("urn:example:gold"));
    let reply = ann.open(&unknown.path()).await;
    AuthorizationResponse::of(reply.header("location"))
        .expect_error("unmet_authentication_requirements");
    let claims = request.clone().with("claims", &essential(MFA));
    for asked in [&wanted, &preferred, &claims] {
        let reply = ann.open(&asked.path()).await.expect(StatusCode::SEE_OTHER);
        assert!(reply.header("location").starts_with("/login/second-factor?"), "{reply:?}");
    }
    server.clock.advance(Duration::from_secs(60));
    let reply = ann.open(&claims.path()).await;
    let page = ann.open(reply.header("location")).await.expect(StatusCode::OK);
    assert!(!page.text.contains("name=\"password\""), "the second step only: {page:?}");
    let back = send_code(&mut ann, &page, &app.code(&server.clock)).await;
    let reply = ann.open(back.expect(StatusCode::SEE_OTHER).header("location")).await;
    let code = AuthorizationResponse::of(reply.header("location"));
    let reply = server.exchange_code("app", code.code()).await.expect(StatusCode::OK);
    assert_eq!(login_of(&reply), (json!(MFA), json!(["pwd", "otp", "mfa"])));
    let access = reply.field("access_token");
    let claims = payload(&access);
    assert_eq!((&claims["acr"], &claims["auth_time"]), (&json!(MFA), &json!(logged_in)));
    let seen = server.introspect("app", &access).await;
    assert_eq!(
        (&seen["acr"], &seen["amr"], &seen["auth_time"]),
        (&json!(MFA), &json!(["pwd", "otp", "mfa"]), &json!(logged_in))
    );
    // From then on the session is of that class; `max_age` asks for both steps.
    AuthorizationResponse::of(ann.open(&none(&wanted).path()).await.header("location")).code();
    let old = wanted.with("max_age", "60");
    let reply = ann.open(&old.path()).await.expect(StatusCode::SEE_OTHER);
    let login = reply.header("location").to_owned();
    assert!(login.starts_with("/login?") && login.ends_with("&reauthenticate=1"), "{login}");
    next_step(&server);
    let back = ann.log_in_with(&login, "ann", &app).await;
    AuthorizationResponse::of(ann.open(&back).await.header("location")).code();
    let discovery = server.get("/.well-known/openid-configuration").await.json();
    assert_eq!(discovery["acr_values_supported"], json!([MFA, "urn:propusk:acr:password"]));
    // A gateway that requires the class (RFC 9470).
    let mut bob = server.browser();
    let tokens = server.register("bob").await;
    bob.log_in("/login", "bob").await;
    bob.open("/session/start").await.expect(StatusCode::SEE_OTHER);
    let (app, _) = server.set_up_totp(&tokens.access).await;
    // As nginx asks for a page.
    let ask = |server: &TestServer| {
        let request = server.request(Method::GET, &format!("/forward-auth?acr={MFA}"));
        let request = request.header("accept", "text/html").header("sec-fetch-mode", "navigate");
        let request =
            request.header("x-forwarded-method", "GET").header("x-forwarded-proto", "http");
        let host = server.base.trim_start_matches("http://").to_owned();
        request.header("x-forwarded-host", host).header("x-forwarded-uri", "/docs")
    };
    let reply = bob.send(ask(&server)).await.expect(StatusCode::SEE_OTHER);
    let start = reply.header("location").to_owned();
    assert!(start.contains("acr_values=urn"), "{start}");
    let start = &start[start.find("/session/start").expect("a path")..];
    let step = bob.open(start).await.expect(StatusCode::SEE_OTHER).header("location").to_owned();
    let page = bob.open(&step).await.expect(StatusCode::OK);
    let back = send_code(&mut bob, &page, &app.code(&server.clock)).await;
    let back = back.expect(StatusCode::SEE_OTHER).header("location").to_owned();
    bob.open(&back).await.expect(StatusCode::SEE_OTHER);
    bob.send(ask(&server)).await.expect(StatusCode::OK);
}

async fn a_client_that_requires_a_factor_gets_no_login_without(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    server.client("app", first_party_app()).await;
    server.client("tv", device_app()).await;
    let by = Actor::operator();
    for id in ["app", "tv"] {
        let change = changed(|metadata| metadata.require_second_factor = true);
        clients::update(
            &server.app,
            &id.into(),
            &propusk::flows::admin::access::Precondition::Any,
            change,
            &by,
        )
        .await
        .expect("changed");
    }
    let mut ann = server.logged_in("ann").await;
    let codes = server.device_codes("tv", "openid").await;
    let entered = ann.enter_code(&codes.user).await.expect(StatusCode::SEE_OTHER);
    let reply = ann.open(entered.header("location")).await.expect(StatusCode::SEE_OTHER);
    let page = ann.open(reply.header("location")).await.expect(StatusCode::OK);
    let (_, rest) = page.text.split_once("<p class=\"codes\"><code>").expect("the secret");
    let app = Authenticator::of(rest.split('<').next().expect("the secret"));
    // An old login is not enough to add a factor.
    server.clock.advance(Duration::from_secs(601));
    let stale = ann.submit(&page, &[("code", &app.code(&server.clock))]).await;
    assert!(stale.header("location").ends_with("&reauthenticate=1"), "{stale:?}");
    let request = AuthorizationRequest::of("app", "openid");
    let answer = ann.open(&request.clone().with("prompt", "none").path()).await;
    AuthorizationResponse::of(answer.header("location")).expect_error("login_required");
    let reply = ann.open(&request.path()).await;
    let again = ann.open(reply.header("location")).await.expect(StatusCode::SEE_OTHER);
    let back = ann.log_in(again.header("location"), "ann").await;
    let reply = ann.open(back.header("location")).await.expect(StatusCode::SEE_OTHER);
    let page = ann.open(reply.header("location")).await.expect(StatusCode::OK);
    let (_, rest) = page.text.split_once("<p class=\"codes\"><code>").expect("the secret");
    let app = Authenticator::of(rest.split('<').next().expect("the secret"));
    ann.submit(&page, &[("code", &app.code(&server.clock))]).await.expect(StatusCode::OK);
    AuthorizationResponse::of(ann.open(&request.path()).await.header("location")).code();
    let codes = server.device_codes("tv", "openid").await;
    ann.decide(&codes, "allow").await;
    let tokens = server.poll("tv", &codes).await.expect(StatusCode::OK);
    assert_eq!(payload(&tokens.field("id_token"))["acr"], MFA);
}

async fn operators_see_and_reset_factors(backend: Backend) {
    let server = TestServer::start(backend).await;
    let (app, _) = server.register_with_totp("ann").await;
    let admin = server.admin("root").await;
    let id = users::find(&server.app, "ann").await.expect("known").id;
    let seen = admin.get(&format!("/users/{id}/factors")).await.expect(StatusCode::OK).data();
    assert_eq!((&seen["factors"][0]["kind"], &seen["recoveryCodes"]), (&json!("totp"), &json!(10)));
    assert!(!seen.to_string().contains("secret"), "{seen}");
    admin.get("/users/nobody/factors").await.expect_error(404, "NOT_FOUND");
    let listed = run(&server.database, &[], &["user", "factors", "ann", "--json"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("\"kind\": \"totp\""), "{listed:?}");
    let waiting = server.first_step("ann").await;
    admin.delete(&format!("/users/{id}/factors")).await.expect(StatusCode::OK);
    // Neither the waiting login nor a code of before opens a session.
    server.second_step(&waiting, &app.code(&server.clock)).await.expect_error(401, "INVALID_CODE");
    let tokens = server.login("ann").await.expect(StatusCode::OK).tokens();
    server.set_up_totp(&tokens.access).await;
    let reset = run(&server.database, &[], &["user", "reset-factors", "ann"]);
    assert!(reset.status.success(), "{reset:?}");
    server.login("ann").await.expect(StatusCode::OK);
    assert_eq!(audit(&server, "factor.reset").await, 2);
    assert!(server.events().await.iter().filter(|(kind, _)| kind == "factor.reset").count() == 2);
    // What requires a factor.
    let body = json!({ "name": "auditor", "requireSecondFactor": true });
    let created = admin.post("/roles", body).await.expect(StatusCode::CREATED);
    assert_eq!(created.data()["requireSecondFactor"], true);
    let body = json!({ "requireSecondFactor": false });
    let changed = admin.patch("/roles/auditor", body).await.expect(StatusCode::OK);
    assert_eq!(changed.data()["requireSecondFactor"], false);
    let added = run(&server.database, &[], &["role", "add", "auditor", "--require-second-factor"]);
    assert!(added.status.success(), "{added:?}");
    let role = admin.get("/roles/auditor").await.data();
    assert_eq!(role["requireSecondFactor"], true);
    server.client("app", web_app()).await;
    let set = run(&server.database, &[], &["client", "set", "app", "--require-second-factor"]);
    assert!(set.status.success(), "{set:?}");
    let client = admin.get("/clients/app").await.data();
    assert!(client.to_string().contains("\"require_second_factor\":true"), "{client}");
}

async fn a_back_end_verifies_password_and_code(backend: Backend) {
    let server = TestServer::with_grpc(backend, &[]).await;
    let (app, codes) = server.register_with_totp("ann").await;
    let scope = Scope::parse("propusk:users:verify").expect("a scope");
    server.client("backend", Metadata { scope, ..web_app() }).await;
    let caller = server.client_caller("backend", "propusk:users:verify").await;
    let verify = async |code: Option<&str>| {
        let request = VerifyPasswordRequest {
            login: "ann".to_owned(),
            password: PASSWORD.to_owned(),
            code: code.map(str::to_owned),
        };
        caller.users().verify_password(request).await
    };
    expect_refused(verify(None).await, Code::FailedPrecondition, "MFA_REQUIRED");
    let wrong = app.wrong_code(&server.clock);
    expect_refused(verify(Some(&wrong)).await, Code::InvalidArgument, "INVALID_CODE");
    let code = app.code(&server.clock);
    assert_eq!(verify(Some(&code)).await.expect("right").into_inner().email, "ann@example.org");
    expect_refused(verify(Some(&code)).await, Code::InvalidArgument, "INVALID_CODE");
    verify(Some(&codes[0])).await.expect("right");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_calls_log_in_with_two_factors() {
    let database = Arc::new(Database::prepared_by_system_time(Backend::Sqlite).await);
    let server = TestServer::on(database, Clock::system(), &[]).await;
    let page = include_str!("../../docs/second-factors.md");
    let base = server.base.clone();
    let script = blocks(page, "sh second-factors");
    let (done, printed) =
        tokio::task::spawn_blocking(move || sh(&script, &base, &[])).await.expect("it ends");
    assert!(done, "it stopped:\n{printed}");
    assert!(printed.contains("urn:propusk:acr:mfa"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_names_the_step_that_a_login_lacks() {
    let server = TestServer::start(Backend::Sqlite).await;
    let (app, _) = server.register_with_totp("ann").await;
    let token = server.first_step("ann").await;
    let reply = server.second_step(&token, &app.wrong_code(&server.clock)).await;
    let id = reply.header("x-request-id").to_owned();
    while server.app.denied_requests.write().await.expect("written") > 0 {}
    let explained = server.app.denied_requests.explain(&id).await.expect("known");
    let shown = format!("{explained:?}");
    assert!(shown.contains("second_factor.code"), "{shown}");
    // The language of the page of the second step follows the link.
    let reply = send(server.request(Method::GET, "/login/second-factor")).await;
    assert_eq!(reply.expect(StatusCode::SEE_OTHER).header("location"), "/login");
}

/// What `fetch` in a page gets: `[status, body]`.
async fn fetched(browser: &Chromium, path: &str, body: &str) -> Value {
    let script = format!(
        "const done = arguments[arguments.length - 1]; \
         fetch('{path}', {{ method: 'POST', headers: {{ 'content-type': 'application/json' }}, body: JSON.stringify({body}) }}) \
         .then(async answer => done([answer.status, await answer.json()]))"
    );
    browser.ask("execute/async", json!({ "script": script, "args": [] })).await.expect("it runs")
}

/// The amr of the newest browser session.
async fn newest_amr(server: &TestServer) -> String {
    let statement = "SELECT amr FROM browser_sessions WHERE revoked_at IS NULL ORDER BY authenticated_at DESC, id DESC LIMIT 1";
    let rows = server.app.db.read(propusk::storage::Statement::new(statement)).await.expect("rows");
    rows[0].get("amr").expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: run ./dev/test"]
async fn t200_a_passkey_logs_in_alone_and_as_second_factor_and_each_answer_once() {
    let address = crate::support::process::free_address();
    let port = address.rsplit(':').next().expect("a port");
    let issuer = format!("http://localhost:{port}");
    let settings =
        [("PROPUSK_SERVER__LISTEN", address.as_str()), ("PROPUSK_SERVER__ISSUER", issuer.as_str())];
    let server = TestServer::with(Backend::Sqlite, &settings).await;
    server.register("vera").await;
    let browser = Chromium::open("en").await;
    browser.devtools("WebAuthn.enable", json!({})).await;
    let authenticator = json!({ "options": {
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true,
        "isUserVerified": true, "automaticPresenceSimulation": true,
    } });
    let added = browser.devtools("WebAuthn.addVirtualAuthenticator", authenticator).await;
    // One that does not recognise its user answers nothing, not even what the login form asks for on
    // load (conditional mediation), which it otherwise answers at once.
    let recognises = async |user: bool| {
        let set = json!({ "authenticatorId": added["authenticatorId"], "isUserVerified": user });
        browser.devtools("WebAuthn.setUserVerified", set).await;
    };
    let heading = |text: &'static str| browser.text_is("h1", text);
    let log_out = async || {
        server.clock.advance(Duration::from_secs(1));
        browser.go(&format!("{issuer}/oauth2/logout")).await;
        browser.click("button[value=logout]").await;
        heading("You are logged out").await;
        browser.go(&format!("{issuer}/login")).await;
    };
    let by_passkey = async || {
        let click = "document.querySelector('form[data-ceremony=login] button')?.click()";
        // The page may be on its way already.
        let _ = browser.ask("execute/sync", json!({ "script": click, "args": [] })).await;
    };
    browser.go(&format!("{issuer}/login")).await;
    let completes = "return document.querySelector('#login').autocomplete";
    assert_eq!(browser.run(completes).await, "username webauthn");
    browser.type_into("#login", "vera").await;
    browser.type_into("#password", PASSWORD).await;
    browser.click("form[action='/login'] button[type=submit]").await;
    heading("You are logged in").await;
    browser.go(&format!("{issuer}/account/security/passkey")).await;
    browser.type_into("#name", "Laptop").await;
    browser.click("form[data-ceremony=create] button").await;
    heading("Save your recovery codes").await;
    assert_eq!(newest_amr(&server).await, "pwd user mfa");
    browser.go(&format!("{issuer}/account/security")).await;
    assert!(browser.text(".factors").await.contains("Laptop"));

    // Alone.
    log_out().await;
    by_passkey().await;
    heading("You are logged in").await;
    assert_eq!(newest_amr(&server).await, "hwk user mfa");
    // After the password.
    recognises(false).await;
    log_out().await;
    browser.type_into("#login", "vera").await;
    browser.type_into("#password", PASSWORD).await;
    browser.click("form[action='/login'] button[type=submit]").await;
    heading("Enter your code").await;
    // In the form of the code; it holds for the passkey too.
    browser.click("#remember").await;
    recognises(true).await;
    browser.click("form[data-ceremony=get] button").await;
    heading("You are logged in").await;
    assert_eq!(newest_amr(&server).await, "pwd hwk user mfa");
    browser.go(&format!("{issuer}/account/security")).await;
    assert!(browser.text("#devices + p + .factors").await.contains("Linux"));

    // By the JSON API; an answer is accepted once.
    browser.go(&format!("{issuer}/docs")).await;
    let asked = fetched(&browser, "/api/v1/auth/login/passkey/options", "{}").await;
    let (token, options) = (&asked[1]["data"]["passkeyToken"], &asked[1]["data"]["options"]);
    let script = format!(
        "const done = arguments[arguments.length - 1]; \
         navigator.credentials.get({{ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON({options}) }}) \
         .then(credential => done(credential.toJSON()), error => done(String(error)))"
    );
    let credential = browser.ask("execute/async", json!({ "script": script, "args": [] })).await;
    let credential = credential.expect("it runs");
    let body = json!({ "passkeyToken": token, "credential": credential });
    let path = "/api/v1/auth/login/passkey";
    for wrong in [
        json!({ "passkeyToken": "x", "credential": credential }),
        json!({ "passkeyToken": token, "credential": {} }),
    ] {
        server.post(path, wrong).await.expect_error(401, "INVALID_PASSKEY");
    }
    let before = newest_counter(&server).await;
    let done = server.post(path, body.clone()).await.expect(StatusCode::OK);
    assert_eq!(payload(&done.tokens().access)["amr"], json!(["hwk", "user", "mfa"]));
    server.post(path, body).await.expect_error(401, "INVALID_PASSKEY");
    assert!(newest_counter(&server).await > before, "the signature counter is kept");
    // A clone has an older counter.
    let raised = "UPDATE second_factors SET credential = json_set(credential, '$.cred.counter', 1000000) RETURNING id";
    let raised = server.app.db.write(propusk::storage::Statement::new(raised)).await;
    assert_eq!(raised.expect("written").len(), 1);
    log_out().await;
    by_passkey().await;
    let problem = browser.text("#problem").await;
    assert!(problem.contains("This passkey was not accepted"), "{problem}");
    recognises(false).await;
    browser.close().await;
}

async fn newest_counter(server: &TestServer) -> i64 {
    let statement = "SELECT json_extract(credential, '$.cred.counter') AS n FROM second_factors";
    let rows = server.app.db.read(propusk::storage::Statement::new(statement)).await.expect("rows");
    rows[0].get("n").expect("a number")
}
