//! Attacks on the pages and calls by which users look after their account.

use std::time::Duration;

use futures_util::future::join_all;
use propusk::{
    flows::admin::users,
    grpc::proto::v1::VerifyPasswordRequest,
    model::{actor::Actor, client::Metadata},
    oauth::scope::Scope,
    storage::Statement,
};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tonic::Code;

use super::{tokens, with_app};
use crate::{
    account_deletion::offered,
    support::{
        Backend, PASSWORD, TestServer, backend_tests,
        grpc::expect_refused,
        oauth::{AuthorizationRequest, Form, payload, web_app},
    },
};

const SESSIONS: &str = "/api/v1/account/sessions";
const APPLICATIONS: &str = "/api/v1/account/applications";
const DELETION: &str = "/api/v1/account/deletion";

backend_tests! {
    t205_a_session_or_consent_of_another_user_is_not_found,
    t206_no_token_outlives_a_withdrawn_consent_in_a_race,
    t207_a_deletion_needs_a_fresh_login_and_an_own_form,
    t208_a_login_during_the_grace_opens_nothing,
    t209_an_export_is_of_its_user_and_has_no_secrets,
}

async fn t205_a_session_or_consent_of_another_user_is_not_found(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let ann = server.login("ann").await.tokens();
    let bob = server.register("bob").await;
    let app = tokens(&server, "app", "openid", "ann").await.field("access_token");
    let list = server.get_as(SESSIONS, &ann.access).await.data();
    let ids: Vec<String> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(ids.len(), 4, "{list}");
    // By the API.
    for id in ids.iter().map(String::as_str).chain(["nothing", "%00", "'"]) {
        for method in [Method::GET, Method::DELETE] {
            let request = server.request(method, &format!("{SESSIONS}/{id}"));
            let reply = crate::support::send(request.bearer_auth(&bob.access)).await;
            reply.expect_error(404, "NOT_FOUND");
        }
    }
    let path = format!("{APPLICATIONS}/app");
    server.get_as(&path, &bob.access).await.expect_error(404, "NOT_FOUND");
    server.delete_as(&path, &bob.access).await.expect_error(404, "NOT_FOUND");
    let others = server.post_as(&format!("{SESSIONS}/revoke-others"), &bob.access).await;
    assert_eq!(others.expect(StatusCode::OK).data()["ended"], 0);
    // On the pages, and from a page of Ann's browser in Bob's.
    let mut browser = server.logged_in("bob").await;
    let page = browser.open("/account/applications").await.expect(StatusCode::OK);
    let csrf = Form::of(&page.text).field("csrf").to_owned();
    for id in &ids {
        let form = Form { action: "/account/sessions".to_owned(), hidden: vec![] };
        let fields = [("csrf", csrf.as_str()), ("id", id.as_str())];
        browser.submit_form(form, &fields).await.expect(StatusCode::SEE_OTHER);
    }
    let form = Form { action: "/account/applications".to_owned(), hidden: vec![] };
    let fields = [("csrf", csrf.as_str()), ("client_id", "app")];
    browser.submit_form(form, &fields).await.expect(StatusCode::SEE_OTHER);
    let mut anns = server.logged_in("ann").await;
    let page = anns.open("/account/sessions").await;
    browser.submit(&page, &[]).await.expect_page(403);
    // All of Ann's sessions are as they were.
    let left = server.get_as(SESSIONS, &ann.access).await.data();
    for id in &ids {
        assert!(left.as_array().expect("a list").iter().any(|one| one["id"] == id.as_str()));
    }
    assert_eq!(server.introspect("app", &app).await["active"], true);
    // A client's token ends nothing, also not its own user's.
    server.get_as(SESSIONS, &app).await.expect_error(403, "INSUFFICIENT_SCOPE");
    let path = format!("{SESSIONS}/{}", ids[0]);
    server.delete_as(&path, &app).await.expect_error(403, "INSUFFICIENT_SCOPE");
    // Another site's form has no effect on a browser that uses cookies.
    let body = json!({ "login": "ann", "password": PASSWORD, "delivery": "cookie" });
    let login = server.request(Method::POST, "/api/v1/auth/login").json(&body);
    let mut cookies = server.browser();
    cookies
        .send(login.header("origin", &server.app.config.server.issuer))
        .await
        .expect(StatusCode::OK);
    let forged = server.request(Method::POST, &format!("{SESSIONS}/revoke-others"));
    let forged = cookies.send(forged.header("origin", "https://evil.example")).await;
    forged.expect_error(403, "CROSS_SITE_REQUEST");
}

async fn t206_no_token_outlives_a_withdrawn_consent_in_a_race(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let other = server.another(&[]).await;
    let ann = server.login("ann").await.tokens();
    for _ in 0..4 {
        server.clock.advance(Duration::from_secs(20));
        let mut sessions = vec![];
        for _ in 0..3 {
            sessions.push(tokens(&server, "app", "openid", "ann").await.field("refresh_token"));
        }
        let request = AuthorizationRequest::of("app", "openid");
        let code = server.browser().authorize(&request, "ann").await;
        let at = |n: usize| if n.is_multiple_of(2) { &server } else { &other };
        let refreshes =
            join_all(sessions.iter().enumerate().map(|(n, token)| at(n).refresh_as("app", token)));
        let path = format!("{APPLICATIONS}/app");
        let (withdrawn, refreshed, exchanged) = tokio::join!(
            server.delete_as(&path, &ann.access),
            refreshes,
            other.exchange_code("app", code.code()),
        );
        withdrawn.expect(StatusCode::OK);
        // Whichever came first: nothing that anybody got is valid now, at any process.
        for reply in refreshed.into_iter().chain([exchanged]) {
            if reply.status != StatusCode::OK {
                continue;
            }
            for at in [&server, &other] {
                let answer = at.introspect("app", &reply.field("access_token")).await;
                assert_eq!(answer["active"], false, "{answer}");
                let again = at.refresh_as("app", &reply.field("refresh_token")).await;
                again.expect_oauth_error(400, "invalid_grant");
            }
            assert!(payload(&reply.field("access_token"))["sid"].is_string());
        }
        for token in &sessions {
            let reply = server.refresh_as("app", token).await;
            reply.expect_oauth_error(400, "invalid_grant");
        }
    }
}

async fn t207_a_deletion_needs_a_fresh_login_and_an_own_form(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    server.admin("root").await;
    let ann = server.login("ann").await.tokens();
    let mut browser = server.logged_in("ann").await;
    let page = browser.open("/account/delete").await.expect(StatusCode::OK);
    let is_enabled = async || {
        let user = users::find(&server.app, "ann").await.expect("known");
        user.disabled_at.is_none()
    };
    // Another site, another browser's token, no token.
    server.register("bob").await;
    let mut bobs = server.logged_in("bob").await;
    let theirs = bobs.open("/account/delete").await.expect(StatusCode::OK);
    browser.submit(&theirs, &[]).await.expect_page(403);
    let form = Form { action: "/account/delete".to_owned(), hidden: vec![] };
    browser.submit_form(form, &[]).await.expect_page(403);
    let reply = browser.submit_with(&page, &[], ("sec-fetch-site", "cross-site")).await;
    reply.expect_page(403);
    let body = json!({ "login": "ann", "password": PASSWORD, "delivery": "cookie" });
    let login = server.request(Method::POST, "/api/v1/auth/login").json(&body);
    let mut cookies = server.browser();
    cookies
        .send(login.header("origin", &server.app.config.server.issuer))
        .await
        .expect(StatusCode::OK);
    let forged = server.request(Method::POST, DELETION).header("origin", "https://evil.example");
    cookies.send(forged).await.expect_error(403, "CROSS_SITE_REQUEST");
    // A client's token, and one of no user.
    let app = tokens(&server, "app", "openid", "ann").await.field("access_token");
    server.post_as(DELETION, &app).await.expect_error(403, "INSUFFICIENT_SCOPE");
    assert!(is_enabled().await);
    // A login that is too old: led to the password, with the form that was fresh once as well.
    server.clock.advance(Duration::from_secs(601));
    let ann = server.refresh(&ann.refresh).await.expect(StatusCode::OK).tokens();
    let reply = server.post_as(DELETION, &ann.access).await;
    reply.expect_error(401, "INSUFFICIENT_USER_AUTHENTICATION");
    for reply in [browser.open("/account/delete").await, browser.submit(&page, &[]).await] {
        let location = reply.expect(StatusCode::SEE_OTHER).header("location").to_owned();
        assert_eq!(location, "/login?return_to=%2Faccount%2Fdelete&reauthenticate=1");
    }
    assert!(is_enabled().await);
    // A fresh login without the second factor that the user has.
    let bob = server.login("bob").await.expect(StatusCode::OK).tokens();
    let mut weak = server.logged_in("bob").await;
    server.set_up_totp(&bob.access).await;
    let reply = server.post_as(DELETION, &bob.access).await;
    reply.expect_error(401, "INSUFFICIENT_USER_AUTHENTICATION");
    let location = weak.open("/account/delete").await.header("location").to_owned();
    assert!(location.starts_with("/login/second-factor"), "{location}");
    let bob = users::find(&server.app, "bob").await.expect("known");
    assert!(bob.disabled_at.is_none());
}

async fn t208_a_login_during_the_grace_opens_nothing(backend: Backend) {
    let settings = [("PROPUSK_GRPC__LISTEN", "127.0.0.1:0")];
    let server = TestServer::with(backend, &settings).await;
    server.client("app", web_app()).await;
    server.admin("root").await;
    let ann = server.register("ann").await;
    server.register("bob").await;
    let request = AuthorizationRequest::of("app", "openid");
    let mut browser = server.browser();
    let waiting = browser.authorize(&request, "ann").await;
    server.post_as(DELETION, &ann.access).await.expect(StatusCode::OK);
    let sessions = async || {
        let statement = Statement::new(
            "SELECT (SELECT count(*) FROM sessions WHERE revoked_at IS NULL) \
             + (SELECT count(*) FROM browser_sessions WHERE revoked_at IS NULL) AS n",
        );
        let rows = server.app.db.read(statement).await.expect("rows");
        rows[0].get::<i64>("n").expect("a number")
    };
    let before = sessions().await;
    // A wrong password learns nothing, an earlier code and browser are worth nothing.
    let wrong = json!({ "login": "ann", "password": "wrong" });
    let reply = server.post("/api/v1/auth/login", wrong).await;
    reply.expect_error(401, "INVALID_CREDENTIALS");
    let late = server.exchange_code("app", waiting.code()).await;
    late.expect_oauth_error(400, "invalid_grant");
    let login = browser.open(&request.path()).await.header("location").to_owned();
    assert!(login.starts_with("/login"), "{login}");
    let reply = browser.log_in(&login, "ann").await;
    assert_eq!(reply.header("location"), "/account/restore");
    let reply = browser.open(&request.with("prompt", "none").path()).await;
    assert!(reply.header("location").contains("login_required"), "{reply:?}");
    // A back end does not learn that the password is right.
    let scope = Scope::parse("propusk:users:verify").expect("a scope");
    server.client("backend", Metadata { scope, ..web_app() }).await;
    let caller = server.client_caller("backend", "propusk:users:verify").await;
    let request = VerifyPasswordRequest {
        login: "ann".to_owned(),
        password: PASSWORD.to_owned(),
        code: None,
    };
    let refused = caller.users().verify_password(request).await;
    expect_refused(refused, Code::InvalidArgument, "INVALID_CREDENTIALS");
    // The offer is of its user, its password and its time, once, and no token of anything else.
    let token = offered(server.login("ann").await);
    server.verify(&token).await.expect_error(401, "INVALID_TOKEN");
    server.second_step(&token, "123456").await.expect_error(401, "INVALID_MFA_TOKEN");
    for forged in ["", "x", &token[..token.len() - 2], &format!("{token}A")] {
        server.keep(forged).await.expect_error(401, "INVALID_MFA_TOKEN");
    }
    server.clock.advance(Duration::from_secs(601));
    server.keep(&token).await.expect_error(401, "INVALID_MFA_TOKEN");
    let token = offered(server.login("ann").await);
    let id = users::find(&server.app, "ann").await.expect("known").id;
    let operator = Actor::operator();
    users::set_password(&server.app, &id, "nine grey geese at dusk", &operator).await.expect("set");
    server.keep(&token).await.expect_error(401, "INVALID_MFA_TOKEN");
    server.login("ann").await.expect_error(401, "INVALID_CREDENTIALS");
    // Its form of another site has no effect.
    browser.open("/account/restore").await;
    let form = Form { action: "/account/restore".to_owned(), hidden: vec![] };
    browser.submit_form(form, &[]).await.expect_page(403);
    assert_eq!(sessions().await, before);
    assert!(users::find(&server.app, "ann").await.expect("known").disabled_at.is_some());
}

async fn t209_an_export_is_of_its_user_and_has_no_secrets(backend: Backend) {
    const EXPORT: &str = "/api/v1/account/export";
    let server = with_app(backend, web_app()).await;
    let root = server.admin("root").await;
    let (app, codes) = server.register_with_totp("bob").await;
    let weak = server.login("ann").await.tokens();
    // A client's token, of this user or of itself.
    let client = tokens(&server, "app", "openid profile email", "ann").await;
    let reply = server.get_as(EXPORT, &client.field("access_token")).await;
    reply.expect_error(403, "INSUFFICIENT_SCOPE");
    let own = server.form_as("/oauth2/token", "app", &[("grant_type", "client_credentials")]).await;
    let reply = server.get_as(EXPORT, &own.field("access_token")).await;
    reply.expect_error(403, "INSUFFICIENT_SCOPE");
    // A form of another site or browser.
    let mut browser = server.logged_in("ann").await;
    let page = browser.open("/account/export").await.expect(StatusCode::OK);
    let form = Form { action: "/account/export".to_owned(), hidden: vec![] };
    browser.submit_form(form, &[]).await.expect_page(403);
    let reply = browser.submit_with(&page, &[], ("sec-fetch-site", "cross-site")).await;
    reply.expect_page(403);
    // What an administrator did is in it, and not where from or who.
    let bob = server.login_with("bob", &app).await;
    let id = users::find(&server.app, "bob").await.expect("known").id;
    let root_id = users::find(&server.app, "root").await.expect("known").id;
    root.post(&format!("/users/{id}/disable"), json!(null)).await.expect(StatusCode::OK);
    root.post(&format!("/users/{id}/enable"), json!(null)).await.expect(StatusCode::OK);
    server.get_as(EXPORT, &bob.access).await.expect_error(401, "INVALID_TOKEN");
    let bob = server.login_with("bob", &app).await;
    let reply = server.get_as(EXPORT, &bob.access).await.expect(StatusCode::OK);
    let disabled = "\"action\":\"user.disabled\"";
    assert!(reply.text.contains(disabled) && reply.text.contains("\"by\":\"operator\""));
    let ann = users::find(&server.app, "ann").await.expect("known").id;
    for other in [ann.as_str(), &root_id, "ann@example.org", "root@example.org"] {
        assert!(!reply.text.contains(other), "{other}: {reply:?}");
    }
    for secret in ["argon2", "secret_jwe", "token_hash", codes[0].as_str(), &bob.refresh] {
        assert!(!reply.text.contains(secret), "{secret}: {reply:?}");
    }
    // A login that is too old, or without the second factor.
    server.clock.advance(Duration::from_secs(601));
    let weak = server.refresh(&weak.refresh).await.expect(StatusCode::OK).tokens();
    let reply = server.get_as(EXPORT, &weak.access).await;
    reply.expect_error(401, "INSUFFICIENT_USER_AUTHENTICATION");
    for reply in [browser.open("/account/export").await, browser.submit(&page, &[]).await] {
        let location = reply.expect(StatusCode::SEE_OTHER).header("location").to_owned();
        assert_eq!(location, "/login?return_to=%2Faccount%2Fexport&reauthenticate=1");
    }
    let ann = server.login("ann").await.tokens();
    server.set_up_totp(&ann.access).await;
    let reply = server.get_as(EXPORT, &ann.access).await;
    reply.expect_error(401, "INSUFFICIENT_USER_AUTHENTICATION");
}
