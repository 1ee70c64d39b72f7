//! Attacks on the profile, the password and the username of an account.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{assert_active, tokens, with_app};
use crate::support::{
    Backend, PASSWORD, Reply, TestServer, backend_tests,
    oauth::{AuthorizationRequest, AuthorizationResponse, first_party_app},
    send,
};

const PROFILE: &str = "/api/v1/account/profile";
const NEW: &str = "nine grey geese at dusk";

/// Every claim in use.
const ALL: (&str, &str) = (
    "PROPUSK_PROFILE__CLAIMS",
    "name,given_name,family_name,middle_name,nickname,preferred_username,profile,picture,website,gender,birthdate,\
     zoneinfo,locale,phone_number,phone_number_verified,address,updated_at",
);

backend_tests! {
    t210_a_profile_is_changed_by_its_owner_only,
    t211_the_owner_sets_no_field_of_the_server,
    t212_values_that_are_dangerous_or_long_are_refused,
    t213_forms_of_other_sites_change_no_account,
    t214_a_changed_password_ends_every_other_session,
}

async fn patch(server: &TestServer, path: &str, token: &str, body: &Value) -> Reply {
    send(server.request(Method::PATCH, path).bearer_auth(token).json(body)).await
}

async fn profile(server: &TestServer, token: &str) -> Value {
    let reply = server.get_as(PROFILE, token).await.expect(StatusCode::OK);
    reply.json()["data"].clone()
}

async fn t210_a_profile_is_changed_by_its_owner_only(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    let ann = server.login("ann").await.tokens();
    let bob = server.register("bob").await;
    patch(&server, PROFILE, &ann.access, &json!({ "name": "Ann" })).await.expect(StatusCode::OK);
    assert_eq!(profile(&server, &bob.access).await, json!({}));
    let other = json!({ "name": "Mallory", "sub": "x" });
    patch(&server, PROFILE, &bob.access, &other).await.expect_error(400, "VALIDATION_ERROR");
    // The token of an application reads claims at UserInfo, and changes nothing.
    let app = tokens(&server, "app", "openid profile", "ann").await.field("access_token");
    server.get_as(PROFILE, &app).await.expect_error(403, "INSUFFICIENT_SCOPE");
    let name = json!({ "name": "Mallory" });
    patch(&server, PROFILE, &app, &name).await.expect_error(403, "INSUFFICIENT_SCOPE");
    let password = json!({ "currentPassword": PASSWORD, "newPassword": NEW });
    let reply = server.post_json_as("/api/v1/account/password", &app, password).await;
    reply.expect_error(403, "INSUFFICIENT_SCOPE");
    let username = json!({ "currentPassword": PASSWORD, "username": "mallory" });
    let reply = patch(&server, "/api/v1/account/username", &app, &username).await;
    reply.expect_error(403, "INSUFFICIENT_SCOPE");
    assert_eq!(profile(&server, &ann.access).await, json!({ "name": "Ann" }));
}

async fn t211_the_owner_sets_no_field_of_the_server(backend: Backend) {
    let server = TestServer::with(backend, &[ALL]).await;
    let ann = server.register("ann").await;
    for (field, value) in [
        ("role", json!("admin")),
        ("email", json!("root@example.org")),
        ("email_verified", json!(true)),
        ("isVerified", json!(true)),
        ("phone_number_verified", json!(true)),
        ("updated_at", json!(0)),
        ("sub", json!("x")),
        ("disabled_at", Value::Null),
    ] {
        let body = json!({ "name": "Ann", field: value });
        let reply = patch(&server, PROFILE, &ann.access, &body).await;
        let reply = reply.expect_error(400, "VALIDATION_ERROR");
        assert!(reply.text.contains(field), "{reply:?}");
    }
    assert_eq!(profile(&server, &ann.access).await, json!({}));
    // The form reads its own fields only.
    let mut browser = server.logged_in("ann").await;
    let page = browser.open("/account/profile").await.expect(StatusCode::OK);
    let typed = [("role", "admin"), ("phone_number_verified", "true"), ("updated_at", "0")];
    browser.submit(&page, &typed).await.expect(StatusCode::OK);
    assert_eq!(profile(&server, &ann.access).await, json!({}));
    let session = server.get_as("/api/v1/auth/session", &ann.access).await.expect(StatusCode::OK);
    assert_eq!(session.json()["data"]["role"], "user");
}

async fn t212_values_that_are_dangerous_or_long_are_refused(backend: Backend) {
    let server = TestServer::with(backend, &[ALL]).await;
    let ann = server.register("ann").await;
    let long = "x".repeat(2_000);
    let wide = format!("https://example.org/{long}");
    for (claim, value) in [
        ("picture", "javascript:alert(1)"),
        ("picture", "JaVaScRiPt:alert(1)//https://example.org"),
        ("picture", "data:image/svg+xml,<svg onload=alert(1)>"),
        ("website", "http://example.org"),
        ("profile", "//example.org"),
        ("profile", wide.as_str()),
        ("name", long.as_str()),
        ("name", "Ann\u{202e}nimdA"),
        ("gender", long.as_str()),
        ("locale", long.as_str()),
        ("zoneinfo", long.as_str()),
        ("birthdate", long.as_str()),
        ("phone_number", long.as_str()),
    ] {
        let reply = patch(&server, PROFILE, &ann.access, &json!({ claim: value })).await;
        let reply = reply.expect_error(400, "VALIDATION_ERROR");
        assert!(reply.text.contains(claim) && !reply.text.contains(value), "{reply:?}");
    }
    let address = json!({ "address": { "formatted": long } });
    let reply = patch(&server, PROFILE, &ann.access, &address).await;
    assert!(reply.expect_error(400, "VALIDATION_ERROR").text.contains("address.formatted"));
    let twice = server.request(Method::PATCH, PROFILE).bearer_auth(&ann.access);
    let twice = twice.header("content-type", "application/json");
    let reply = send(twice.body(r#"{"name":"Ann","name":"Eve"}"#)).await;
    reply.expect_error(400, "VALIDATION_ERROR");
    assert_eq!(profile(&server, &ann.access).await, json!({}));
    // What is stored is escaped where it is shown.
    let name = json!({ "name": "\"><script>alert(1)</script>" });
    patch(&server, PROFILE, &ann.access, &name).await.expect(StatusCode::OK);
    let page = server.logged_in("ann").await.open("/account/profile").await;
    assert!(!page.expect(StatusCode::OK).text.contains("<script>alert"));
}

async fn t213_forms_of_other_sites_change_no_account(backend: Backend) {
    let server = TestServer::start(backend).await;
    let ann = server.register("ann").await;
    let mut browser = server.logged_in("ann").await;
    for (path, typed) in [
        ("/account/profile", vec![("name", "Mallory")]),
        ("/account/password", vec![("current_password", PASSWORD), ("password", NEW)]),
        ("/account/username", vec![("current_password", PASSWORD), ("username", "mallory")]),
    ] {
        // Without a token, with the token of another form, and with a right one from elsewhere.
        let request = server.request(Method::POST, path).form(&typed);
        browser.send(request).await.expect_page(403);
        let of_logout = browser.open("/oauth2/logout").await.expect(StatusCode::OK);
        let mut form = crate::support::oauth::Form::of(&of_logout.text);
        form.action = path.to_owned();
        browser.submit_form(form, &typed).await.expect_page(403);
        let page = browser.open(path).await.expect(StatusCode::OK);
        let from = ("sec-fetch-site", "cross-site");
        browser.submit_with(&page, &typed, from).await.expect_page(403);
    }
    assert_eq!(profile(&server, &ann.access).await, json!({}));
    server.login("ann").await.expect(StatusCode::OK);
    // Nor does a page of another site with the cookies of the JSON API.
    let cookie = format!("propusk_access={}", ann.access);
    let cross = server.request(Method::PATCH, PROFILE).json(&json!({ "name": "Mallory" }));
    let cross = cross.header("cookie", cookie).header("sec-fetch-site", "cross-site");
    send(cross).await.expect_error(403, "CROSS_SITE_REQUEST");
}

async fn t214_a_changed_password_ends_every_other_session(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    let app = tokens(&server, "app", "openid offline_access", "ann").await;
    assert_active(&server, "app", &app).await;
    let api = server.login("ann").await.tokens();
    let stolen = server.logged_in("ann").await;
    let mut here = server.logged_in("ann").await;
    let old = here.cookies.clone();
    let is_out = async |cookies: &std::collections::HashMap<String, String>| {
        let mut browser = server.browser();
        browser.cookies.clone_from(cookies);
        let request = AuthorizationRequest::of("app", "openid").with("prompt", "none");
        let reply = browser.open(&request.path()).await;
        !AuthorizationResponse::of(reply.header("location")).fields.contains_key("code")
    };
    let page = here.open("/account/password").await.expect(StatusCode::OK);
    // A session alone is not enough.
    let wrong = [("current_password", "wrong horse battery"), ("password", NEW)];
    here.submit(&page, &wrong).await.expect_page(400);
    let weak = [("current_password", PASSWORD), ("password", "password1")];
    here.submit(&page, &weak).await.expect_page(400);
    let same = [("current_password", PASSWORD), ("password", PASSWORD)];
    here.submit(&page, &same).await.expect_page(400);
    assert!(!is_out(&stolen.cookies).await, "nothing has changed");
    server.clock.advance(Duration::from_secs(1));
    let typed = [("current_password", PASSWORD), ("password", NEW)];
    let done = here.submit(&page, &typed).await.expect(StatusCode::OK);
    assert!(done.header("set-cookie").contains("propusk_session="), "{done:?}");
    assert!(!is_out(&here.cookies).await, "this browser stays logged in");
    assert!(is_out(&old).await, "its old cookie does not");
    assert!(is_out(&stolen.cookies).await);
    super::assert_revoked(&server, "app", &app).await;
    server.verify(&api.access).await.expect_error(401, "INVALID_TOKEN");
    server.refresh(&api.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
    server.login("ann").await.expect_error(401, "INVALID_CREDENTIALS");

    // By the JSON API the session of the token goes on, and no browser.
    let body = json!({ "login": "ann", "password": NEW });
    let ann = server.post("/api/v1/auth/login", body.clone()).await.tokens();
    let other = server.post("/api/v1/auth/login", body).await.tokens();
    let path = "/api/v1/account/password";
    let change = |current: &str| json!({ "currentPassword": current, "newPassword": PASSWORD });
    let wrong = server.post_json_as(path, &ann.access, change("wrong horse battery")).await;
    wrong.expect_error(401, "INVALID_CREDENTIALS");
    server.post_json_as(path, &ann.access, change(NEW)).await.expect(StatusCode::OK);
    server.verify(&ann.access).await.expect(StatusCode::OK);
    server.refresh(&ann.refresh).await.expect(StatusCode::OK);
    server.verify(&other.access).await.expect_error(401, "INVALID_TOKEN");
    server.refresh(&other.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
    assert!(is_out(&here.cookies).await);
    server.login("ann").await.expect(StatusCode::OK);
    let changed = server.events().await;
    let changed = changed.iter().filter(|(kind, _)| kind == "user.password_changed");
    assert_eq!(changed.count(), 2);
}
