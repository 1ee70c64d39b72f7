//! The profile, the password and the username of an account.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Backend, PASSWORD, Reply, TestServer, backend_tests,
    documentation::{Page, run_commands},
    oauth::{AuthorizationRequest, first_party_app, payload, web_app},
    second_factor::next_step,
    send,
};

const PROFILE: &str = "/api/v1/account/profile";
const NEW: &str = "nine grey geese at dusk";

/// Every claim of OpenID Connect Core §5.1 that is not about the email address.
const CLAIMS: [&str; 17] = [
    "name",
    "given_name",
    "family_name",
    "middle_name",
    "nickname",
    "preferred_username",
    "profile",
    "picture",
    "website",
    "gender",
    "birthdate",
    "zoneinfo",
    "locale",
    "phone_number",
    "phone_number_verified",
    "address",
    "updated_at",
];

async fn with_all(backend: Backend) -> TestServer {
    let claims = CLAIMS.join(",");
    TestServer::with(backend, &[("PROPUSK_PROFILE__CLAIMS", claims.as_str())]).await
}

fn filled() -> Value {
    json!({
        "name": "Ann Lee Brown", "given_name": "Ann", "family_name": "Brown", "middle_name": "Lee",
        "nickname": "Annie", "preferred_username": "annie", "profile": "https://example.org/ann",
        "picture": "https://example.org/ann.png", "website": "https://ann.example/",
        "gender": "female", "birthdate": "1990-12-31", "zoneinfo": "Europe/Paris",
        "locale": "en-GB", "phone_number": "+4930901820",
        "address": { "street_address": "1 Main Street", "locality": "Berlin", "country": "DE" },
    })
}

backend_tests! {
    every_claim_of_core_5_4_is_released_by_its_scope,
    claims_are_released_one_by_one_and_in_id_tokens,
    updated_at_is_the_time_of_the_last_change,
    a_deployment_without_claims_has_no_profiles,
    administrators_change_profiles_with_a_precondition,
    the_profile_page_stores_names_errors_and_keeps_input,
    parallel_changes_of_a_profile_lose_nothing,
    a_change_of_the_password_takes_the_second_factor,
    of_parallel_changes_to_one_username_one_succeeds,
    the_username_page_changes_and_removes_it,
    password_managers_find_the_page,
}

async fn patch(server: &TestServer, path: &str, token: &str, body: &Value) -> Reply {
    send(server.request(Method::PATCH, path).bearer_auth(token).json(body)).await
}

/// The claims at UserInfo for a scope, and the ID token.
async fn claims(server: &TestServer, request: &AuthorizationRequest) -> (Value, Value) {
    let answer = server.browser().authorize(request, "ann").await;
    let tokens = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    let info = server.get_as("/oauth2/userinfo", &tokens.field("access_token")).await;
    (info.expect(StatusCode::OK).json(), payload(&tokens.field("id_token")))
}

async fn with_ann(backend: Backend) -> (TestServer, String) {
    let server = with_all(backend).await;
    let mut app = first_party_app();
    app.scope =
        propusk::oauth::scope::Scope::parse("openid profile email address phone").expect("a scope");
    server.client("app", app).await;
    let ann = server.register("ann").await.access;
    patch(&server, PROFILE, &ann, &filled()).await.expect(StatusCode::OK);
    (server, ann)
}

async fn every_claim_of_core_5_4_is_released_by_its_scope(backend: Backend) {
    let (server, _) = with_ann(backend).await;
    let discovery = server.get("/.well-known/openid-configuration").await.json();
    let lists = |list: &str, name: &str| {
        discovery[list].as_array().expect("a list").iter().any(|one| one == name)
    };
    for name in CLAIMS.into_iter().chain(["email", "email_verified"]) {
        assert!(lists("claims_supported", name), "{name}");
    }
    let by_scope: [(&str, &[&str]); 4] = [
        ("profile", &CLAIMS[..13]),
        ("phone", &["phone_number", "phone_number_verified"]),
        ("address", &["address"]),
        ("email", &["email", "email_verified"]),
    ];
    let mut expected = filled();
    expected["phone_number_verified"] = false.into();
    for (scope, names) in by_scope {
        assert!(lists("scopes_supported", scope), "{scope}");
        let request = AuthorizationRequest::of("app", &format!("openid {scope}"));
        let (info, id_token) = claims(&server, &request).await;
        for name in names {
            assert!(info.get(name).is_some(), "{scope}: {name} is missing in {info}");
            if scope != "email" {
                assert_eq!(info[name], expected[name], "{name}");
            }
            assert_eq!(id_token.get(name), None, "UserInfo has it");
        }
        let updated = usize::from(scope == "profile");
        assert_eq!(info.as_object().expect("claims").len(), 1 + names.len() + updated, "{info}");
    }
    let (info, _) = claims(&server, &AuthorizationRequest::of("app", "openid")).await;
    assert_eq!(info.as_object().expect("claims").len(), 1, "only sub: {info}");
}

async fn claims_are_released_one_by_one_and_in_id_tokens(backend: Backend) {
    let (server, ann) = with_ann(backend).await;
    let wanted = json!({
        "userinfo": { "birthdate": null },
        "id_token": { "name": { "essential": true }, "address": null },
    });
    let request = AuthorizationRequest::of("app", "openid").with("claims", &wanted.to_string());
    let (info, id_token) = claims(&server, &request).await;
    assert_eq!((&info["birthdate"], info.get("name")), (&json!("1990-12-31"), None));
    assert_eq!(id_token["name"], "Ann Lee Brown");
    assert_eq!(id_token["address"], filled()["address"]);
    assert_eq!((id_token.get("birthdate"), id_token.get("nickname")), (None, None));
    server.change_client("app", |client| client.metadata.claims_in_id_token = true).await;
    let (_, id_token) = claims(&server, &AuthorizationRequest::of("app", "openid phone")).await;
    assert_eq!(id_token["phone_number"], "+4930901820");
    // Without a value there is no claim; the username is the fallback of one.
    let none = json!({ "preferred_username": null, "picture": null, "address": null });
    patch(&server, PROFILE, &ann, &none).await.expect(StatusCode::OK);
    let request = AuthorizationRequest::of("app", "openid profile address");
    let (info, _) = claims(&server, &request).await;
    assert_eq!(info["preferred_username"], "ann");
    assert_eq!((info.get("picture"), info.get("address")), (None, None));
    // A client that may not request the scope gets no claim of it.
    server.change_client("app", |client| client.metadata = web_app()).await;
    let wanted = json!({ "userinfo": { "phone_number": null, "name": null } });
    let request = AuthorizationRequest::of("app", "openid").with("claims", &wanted.to_string());
    let (info, _) = claims(&server, &request).await;
    assert_eq!((info.get("phone_number"), &info["name"]), (None, &json!("Ann Lee Brown")));
}

async fn updated_at_is_the_time_of_the_last_change(backend: Backend) {
    let server = with_all(backend).await;
    server.client("app", first_party_app()).await;
    let ann = server.register("ann").await.access;
    let request = AuthorizationRequest::of("app", "openid profile");
    let updated = async || claims(&server, &request).await.0["updated_at"].as_i64();
    let registered = server.clock.now().as_secs();
    let later = || server.clock.advance(Duration::from_secs(60));
    later();
    assert_eq!(updated().await, Some(registered));
    patch(&server, PROFILE, &ann, &json!({ "name": "Ann" })).await.expect(StatusCode::OK);
    let first = server.clock.now().as_secs();
    later();
    assert_eq!(updated().await, Some(first));
    // The same value is no change, and a login is none.
    patch(&server, PROFILE, &ann, &json!({ "name": "Ann" })).await.expect(StatusCode::OK);
    server.login("ann").await.expect(StatusCode::OK);
    assert_eq!(updated().await, Some(first));
    let body = json!({ "username": "anna", "currentPassword": PASSWORD });
    patch(&server, "/api/v1/account/username", &ann, &body).await.expect(StatusCode::OK);
    let second = server.clock.now().as_secs();
    later();
    let body = json!({ "username": "ann", "currentPassword": PASSWORD });
    patch(&server, "/api/v1/account/username", &ann, &body).await.expect(StatusCode::OK);
    let third = server.clock.now().as_secs();
    assert!(second < third);
    assert_eq!(updated().await, Some(third));
}

async fn a_deployment_without_claims_has_no_profiles(backend: Backend) {
    let server = TestServer::with(backend, &[("PROPUSK_PROFILE__CLAIMS", "")]).await;
    server.client("app", first_party_app()).await;
    let ann = server.register("ann").await.access;
    assert_eq!(server.get_as(PROFILE, &ann).await.json()["data"], json!({}));
    let name = json!({ "name": "Ann" });
    patch(&server, PROFILE, &ann, &name).await.expect_error(400, "VALIDATION_ERROR");
    let mut browser = server.logged_in("ann").await;
    browser.open("/account/profile").await.expect_page(404);
    let account = browser.open("/account").await.expect(StatusCode::OK);
    assert!(!account.text.contains("/account/profile"));
    assert!(account.text.contains("/account/password"));
    let (info, _) = claims(&server, &AuthorizationRequest::of("app", "openid profile")).await;
    assert_eq!(info["preferred_username"], "ann");
    assert_eq!(info.as_object().expect("claims").len(), 2);
    let discovery = server.get("/.well-known/openid-configuration").await.text;
    assert!(!discovery.contains("\"phone\"") && !discovery.contains("zoneinfo"), "{discovery}");
}

async fn administrators_change_profiles_with_a_precondition(backend: Backend) {
    let server = with_all(backend).await;
    server.register("ann").await;
    let root = server.admin("root").await;
    let found = root.get("/users?username=ann").await.expect(StatusCode::OK);
    let id = found.text_of("/items/0/id");
    let path = format!("/users/{id}");
    let reply = root.get(&path).await.expect(StatusCode::OK);
    let etag = reply.header("etag").to_owned();
    let body =
        json!({ "profile": { "phone_number": "+4930901820", "phone_number_verified": true } });
    let changed = root.patch_if(&etag, &path, body.clone()).await.expect(StatusCode::OK);
    assert_eq!(changed.data()["profile"], body["profile"]);
    assert_ne!(changed.header("etag"), etag);
    root.patch_if(&etag, &path, json!({ "profile": { "name": "Ann" } }))
        .await
        .expect_error(412, "PRECONDITION_FAILED");
    let wrong = json!({ "profile": { "locale": "not a tag" } });
    root.patch(&path, wrong).await.expect_error(400, "VALIDATION_ERROR");
    let events = server.events().await;
    let (_, event) = events.iter().rfind(|(kind, _)| kind == "user.updated").expect("an event");
    assert_eq!(event["fields"], json!(["phone_number", "phone_number_verified"]));
    // The log has the names of the claims.
    let log = root.get("/audit?action=user.updated").await.expect(StatusCode::OK).text;
    assert!(log.contains("phone_number_verified") && !log.contains("4930901820"), "{log}");
}

async fn the_profile_page_stores_names_errors_and_keeps_input(backend: Backend) {
    let server = with_all(backend).await;
    let ann = server.register("ann").await.access;
    let mut browser = server.browser();
    let login = browser.open("/account/profile").await.expect(StatusCode::SEE_OTHER);
    let login = login.header("location").to_owned();
    let back = browser.log_in(&login, "ann").await;
    let page = browser.open(back.header("location")).await.expect(StatusCode::OK);
    assert!(page.text.contains("<textarea id=\"address-street_address\""), "{page:?}");
    let typed =
        [("name", "Ann Brown"), ("picture", "http://example.org/a.png"), ("locale", "english!")];
    let again = browser.submit(&page, &typed).await.expect_page(400);
    for part in ["value=\"Ann Brown\"", "id=\"picture-error\"", "id=\"locale-error\""] {
        assert!(again.text.contains(part), "{part}: {again:?}");
    }
    assert_eq!(server.get_as(PROFILE, &ann).await.json()["data"], json!({}));
    let typed = [
        ("name", "Ann Brown"),
        ("picture", ""),
        ("locale", "en-gb"),
        ("address.locality", "Berlin"),
        ("address.country", ""),
    ];
    let saved = browser.submit(&again, &typed).await.expect(StatusCode::OK);
    assert!(saved.text.contains("role=\"status\""), "{saved:?}");
    let stored =
        json!({ "name": "Ann Brown", "locale": "en-GB", "address": { "locality": "Berlin" } });
    assert_eq!(server.get_as(PROFILE, &ann).await.json()["data"], stored);
    let typed = [("name", ""), ("locale", "en-GB"), ("address.locality", " ")];
    browser.submit(&saved, &typed).await.expect(StatusCode::OK);
    assert_eq!(server.get_as(PROFILE, &ann).await.json()["data"], json!({ "locale": "en-GB" }));
}

async fn parallel_changes_of_a_profile_lose_nothing(backend: Backend) {
    let server = with_all(backend).await;
    let ann = server.register("ann").await.access;
    let names = ["name", "given_name", "family_name", "middle_name", "nickname"];
    let changes = names.map(|name| {
        let (server, ann) = (&server, &ann);
        async move { patch(server, PROFILE, ann, &json!({ name: "Ann" })).await }
    });
    for reply in futures_util::future::join_all(changes).await {
        reply.expect(StatusCode::OK);
    }
    let stored = server.get_as(PROFILE, &ann).await.json()["data"].clone();
    assert_eq!(stored.as_object().expect("claims").len(), names.len(), "{stored}");
}

async fn a_change_of_the_password_takes_the_second_factor(backend: Backend) {
    let server = TestServer::start(backend).await;
    let before = server.register("ann").await;
    let mut old = server.logged_in("ann").await;
    let (app, _) = server.set_up_totp(&before.access).await;
    let path = "/api/v1/account/password";
    let body = json!({ "currentPassword": PASSWORD, "newPassword": NEW });
    let refused = server.post_json_as(path, &before.access, body.clone()).await;
    refused.expect_error(401, "INSUFFICIENT_USER_AUTHENTICATION");
    for page in ["/account/password", "/account/username"] {
        let reply = old.open(page).await.expect(StatusCode::SEE_OTHER);
        assert!(reply.header("location").starts_with("/login/second-factor?return_to="));
    }
    let ann = server.login_with("ann", &app).await;
    server.clock.advance(Duration::from_secs(660));
    let refused = server.post_json_as(path, &ann.access, body.clone()).await;
    refused.expect_error(401, "INSUFFICIENT_USER_AUTHENTICATION");
    next_step(&server);
    let ann = server.login_with("ann", &app).await;
    server.post_json_as(path, &ann.access, body).await.expect(StatusCode::OK);
    old.open("/account/password").await.expect(StatusCode::SEE_OTHER);
}

async fn of_parallel_changes_to_one_username_one_succeeds(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut users = vec![];
    for name in ["ann", "bob", "eve", "joe"] {
        users.push(server.register(name).await.access);
    }
    let path = "/api/v1/account/username";
    let body = |name: &str| json!({ "username": name, "currentPassword": PASSWORD });
    let changes = users.iter().map(|token| {
        let (server, body) = (&server, body("Same.Name"));
        async move { patch(server, path, token, &body).await }
    });
    let replies = futures_util::future::join_all(changes).await;
    let changed = replies.iter().filter(|reply| reply.status == StatusCode::OK).count();
    let taken =
        replies.iter().filter(|reply| reply.text.contains("USERNAME_ALREADY_EXISTS")).count();
    assert_eq!((changed, taken), (1, 3));
    // The old name is free at once, and case does not tell names apart.
    patch(&server, path, &users[0], &body("ann2")).await.expect(StatusCode::OK);
    patch(&server, path, &users[1], &body("ANN")).await.expect(StatusCode::OK);
    patch(&server, path, &users[2], &body("ann"))
        .await
        .expect_error(409, "USERNAME_ALREADY_EXISTS");
    patch(&server, path, &users[2], &body("e")).await.expect_error(400, "VALIDATION_ERROR");
    let wrong = json!({ "username": "eve3", "currentPassword": "wrong horse battery" });
    patch(&server, path, &users[2], &wrong).await.expect_error(401, "INVALID_CREDENTIALS");
    let gone = patch(&server, path, &users[0], &json!({ "username": null })).await;
    gone.expect_error(400, "VALIDATION_ERROR");
    let none = json!({ "username": null, "currentPassword": PASSWORD });
    let reply = patch(&server, path, &users[0], &none).await.expect(StatusCode::OK);
    assert_eq!(reply.json()["data"]["username"], Value::Null);
    server.login("ann@example.org").await.expect(StatusCode::OK);
}

async fn the_username_page_changes_and_removes_it(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("ann").await;
    server.register("bob").await;
    let mut ann = server.logged_in("ann").await;
    let page = ann.open("/account/username").await.expect(StatusCode::OK);
    let submit = |name| [("username", name), ("current_password", PASSWORD)];
    for name in ["bob", "a b", "x"] {
        let again = ann.submit(&page, &submit(name)).await.expect_page(400);
        assert!(again.text.contains("id=\"username-error\""), "{again:?}");
    }
    ann.submit(&page, &submit("anna")).await.expect(StatusCode::SEE_OTHER);
    server.login("anna").await.expect(StatusCode::OK);
    server.login("ann").await.expect_error(401, "INVALID_CREDENTIALS");
    assert!(ann.open("/account").await.text.contains("anna"), "the session goes on");
    ann.submit(&page, &submit("")).await.expect(StatusCode::SEE_OTHER);
    server.login("anna").await.expect_error(401, "INVALID_CREDENTIALS");
}

/// W3C, A Well-Known URL for Changing Passwords §3; Detecting the reliability of HTTP status codes.
async fn password_managers_find_the_page(backend: Backend) {
    let server = TestServer::start(backend).await;
    let reply = server.get("/.well-known/change-password").await.expect(StatusCode::SEE_OTHER);
    assert_eq!(reply.header("location"), "/account/password");
    let unknown = "/.well-known/resource-that-should-not-exist-whose-status-code-should-not-be-200";
    server.get(unknown).await.expect(StatusCode::NOT_FOUND);
    server.browser().open(unknown).await.expect(StatusCode::NOT_FOUND);
    // A user who is not logged in comes back to the page.
    server.register("ann").await;
    let mut ann = server.browser();
    let login = ann.open("/account/password").await.expect(StatusCode::SEE_OTHER);
    let back = ann.log_in(login.header("location"), "ann").await;
    assert_eq!(back.header("location"), "/account/password");
}

/// The example of docs/profile.md, as a reader would copy it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_the_profile_page_runs_verbatim() {
    let server = TestServer::start(Backend::Sqlite).await;
    let example = Page::read("docs/profile.md").block("profile");
    let printed = run_commands(&server, &format!("BASE={}\n{example}", server.base));
    assert!(printed.contains("\"name\":\"Vera Brown\""), "{printed}");
    assert!(printed.contains("\"zoneinfo\":\"Europe/Paris\""), "{printed}");
    assert!(printed.contains("The password is changed."), "{printed}");
}
