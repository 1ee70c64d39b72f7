//! The terms of a deployment.

use propusk::storage::Statement;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Backend, PASSWORD, TestServer, backend_tests,
    oauth::{AuthorizationRequest, AuthorizationResponse, device_app, first_party_app},
    second_factor::next_step,
    send,
};

const REGISTER: &str = "/api/v1/auth/register";
const TERMS: &str = "/api/v1/account/terms";

backend_tests! {
    terms_are_accepted_at_the_registration,
    a_new_version_is_accepted_at_the_next_login,
    t238_nobody_continues_without_the_terms,
}

/// The settings of terms in this version.
fn terms(version: &str) -> [(&str, &str); 2] {
    [
        ("PROPUSK_REGISTRATION__TERMS__VERSION", version),
        ("PROPUSK_REGISTRATION__TERMS__URL", "https://example.com/terms"),
    ]
}

fn registration(name: &str, accepted: Option<&str>) -> Value {
    json!({
        "email": format!("{name}@example.org"), "username": name, "password": PASSWORD,
        "acceptedTerms": accepted,
    })
}

/// What the database has of a user.
async fn stored(server: &TestServer, name: &str) -> Option<String> {
    let statement = Statement::new("SELECT terms_version FROM users WHERE username = $1");
    let rows = server.app.db.read(statement.bind(name)).await.expect("rows");
    rows[0].get("terms_version").expect("a version")
}

async fn terms_are_accepted_at_the_registration(backend: Backend) {
    let server = TestServer::with(backend, &terms("2026-11")).await;
    for accepted in [None, Some(""), Some("2026-10")] {
        let reply = server.post(REGISTER, registration("ann", accepted)).await;
        let reply = reply.expect_error(400, "VALIDATION_ERROR");
        let detail = &reply.json()["details"][0];
        assert_eq!(detail["field"], "acceptedTerms");
        let message = detail["message"].as_str().expect("text");
        assert!(message.contains("2026-11") && message.contains("https://example.com/terms"));
    }
    // With every other field that is at fault.
    let body = json!({ "email": "no address", "password": "short" });
    let reply = server.post(REGISTER, body).await.expect_error(400, "VALIDATION_ERROR");
    let all = reply.json()["details"].to_string();
    for field in ["email", "password", "acceptedTerms"] {
        assert!(all.contains(&format!("\"{field}\"")), "{all}");
    }
    // The older API has no such field.
    let body = json!({ "email": "ann@example.org", "password": PASSWORD });
    server.post("/auth/register", body).await.expect_error(400, "VALIDATION_ERROR");
    assert_eq!(server.events().await, []);

    let done = server.post(REGISTER, registration("ann", Some("2026-11"))).await;
    let tokens = done.expect(StatusCode::CREATED).tokens();
    assert_eq!(stored(&server, "ann").await.as_deref(), Some("2026-11"));
    let own = server.get_as(TERMS, &tokens.access).await.expect(StatusCode::OK).data();
    assert_eq!(
        (&own["version"], &own["acceptedVersion"], &own["acceptedAt"], &own["due"]),
        (&json!("2026-11"), &json!("2026-11"), &json!("2026-11-21T00:00:00Z"), &json!(false))
    );
    let exported = server.get_as("/api/v1/account/export", &tokens.access).await.data();
    let accepted = json!({ "version": "2026-11", "at": "2026-11-21T00:00:00Z" });
    assert_eq!(exported["account"]["acceptedTerms"], accepted);

    // On the page: a box with the link.
    let mut bob = server.browser();
    let page = bob.open("/register").await.expect(StatusCode::OK);
    assert!(page.text.contains("href=\"https://example.com/terms\""), "{page:?}");
    let typed = [("email", "bob@example.org"), ("username", "bob"), ("password", PASSWORD)];
    let again = bob.submit(&page, &typed).await.expect_page(400);
    assert!(again.text.contains("Accept the terms of use to continue"), "{again:?}");
    let mut ticked = typed.to_vec();
    ticked.push(("accepted_terms", "2026-11"));
    let done = bob.submit(&again, &ticked).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(done.header("location"), "/account");
    bob.open("/account").await.expect(StatusCode::OK);

    // Without terms nothing is asked, and nothing to accept.
    let without = TestServer::start(backend).await;
    let tokens = without.register("ann").await;
    let own = without.get_as(TERMS, &tokens.access).await.data();
    assert_eq!((&own["version"], &own["due"]), (&Value::Null, &json!(false)));
    let body = json!({ "acceptedTerms": "2026-11" });
    without.post_json_as(TERMS, &tokens.access, body).await.expect_error(409, "CONFLICT");
    let page = without.browser().open("/register").await;
    assert!(!page.text.contains("accepted_terms"), "{page:?}");
}

async fn a_new_version_is_accepted_at_the_next_login(backend: Backend) {
    let before = TestServer::start(backend).await;
    before.client("app", first_party_app()).await;
    let (app, _) = before.register_with_totp("ann").await;
    let server = before.another(&terms("2026-11")).await;
    let request = AuthorizationRequest::of("app", "openid");
    let mut ann = server.browser();
    let to = ann.open(&request.path()).await.expect(StatusCode::SEE_OTHER);
    // After password and second factor.
    let back = ann.log_in_with(to.header("location"), "ann", &app).await;
    let to = ann.open(&back).await.expect(StatusCode::SEE_OTHER);
    assert!(to.header("location").starts_with("/terms?return_to=%2Foauth2"), "{to:?}");
    let page = ann.open(to.header("location")).await.expect(StatusCode::OK);
    assert!(page.text.contains("Please accept the terms of use"), "{page:?}");
    let again = ann.submit(&page, &[]).await.expect_page(400);
    let to = ann.submit(&again, &[("accepted_terms", "2026-11")]).await;
    let to = to.expect(StatusCode::SEE_OTHER);
    let answer = ann.open(to.header("location")).await;
    AuthorizationResponse::of(answer.header("location")).code();
    assert_eq!(stored(&server, "ann").await.as_deref(), Some("2026-11"));
    let updated =
        server.events().await.into_iter().any(|(kind, data)| {
            kind == "user.updated" && data["fields"] == json!(["acceptedTerms"])
        });
    assert!(updated, "an event");
    // Once per version.
    let answer = ann.open(&request.path()).await;
    AuthorizationResponse::of(answer.header("location")).code();
    ann.open("/terms").await.expect(StatusCode::SEE_OTHER);

    // The JSON API logs in, and says that they are due.
    let next = before.another(&terms("2027-01")).await;
    next_step(&before);
    let token = next.first_step("ann").await;
    let tokens = next.second_step(&token, &app.code(&before.clock)).await;
    let tokens = tokens.expect(StatusCode::OK).tokens();
    let own = next.get_as(TERMS, &tokens.access).await.data();
    assert_eq!((&own["acceptedVersion"], &own["due"]), (&json!("2026-11"), &json!(true)));
    let old = json!({ "acceptedTerms": "2026-11" });
    next.post_json_as(TERMS, &tokens.access, old).await.expect_error(400, "VALIDATION_ERROR");
    let new = json!({ "acceptedTerms": "2027-01" });
    next.post_json_as(TERMS, &tokens.access, new).await.expect(StatusCode::OK);
    assert_eq!(next.get_as(TERMS, &tokens.access).await.data()["due"], false);
    // Administrators see it.
    let admin = before.admin("root").await;
    let list = admin.get("/users?username=ann").await.data();
    assert_eq!(list["items"][0]["termsVersion"], "2027-01");
}

async fn t238_nobody_continues_without_the_terms(backend: Backend) {
    let before = TestServer::start(backend).await;
    before.client("app", first_party_app()).await;
    before.client("tv", device_app()).await;
    before.register("ann").await;
    // A session of before the terms.
    let mut ann = before.logged_in("ann").await;
    let server = before.another(&terms("2026-11")).await;
    let cookies = ann.cookies.clone();
    ann = server.browser();
    ann.cookies = cookies;
    let request = AuthorizationRequest::of("app", "openid");
    for path in [request.path(), "/session/start".to_owned(), "/account".to_owned()] {
        let to = ann.open(&path).await.expect(StatusCode::SEE_OTHER);
        assert!(to.header("location").starts_with("/terms"), "{path}: {to:?}");
        assert_eq!(to.header("set-cookie"), "", "no session: {to:?}");
    }
    let refused = ann.open(&request.clone().with("prompt", "none").path()).await;
    AuthorizationResponse::of(refused.header("location")).expect_error("interaction_required");
    let codes = server.device_codes("tv", "openid").await;
    let entered = ann.enter_code(&codes.user).await.expect(StatusCode::SEE_OTHER);
    let to = ann.open(entered.header("location")).await.expect(StatusCode::SEE_OTHER);
    assert!(to.header("location").starts_with("/terms"), "{to:?}");
    // Not by a form of another site, in another browser, or of another version.
    let page = ann.open("/terms").await.expect(StatusCode::OK);
    let old = ann.submit(&page, &[("accepted_terms", "2026-10")]).await;
    old.expect_page(400);
    let forged = server.request(Method::POST, "/terms").form(&[("accepted_terms", "2026-11")]);
    let forged = ann.send(forged.header("sec-fetch-site", "cross-site")).await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);
    let anonymous = server.request(Method::POST, "/terms").form(&[("accepted_terms", "2026-11")]);
    let anonymous = send(anonymous).await;
    assert_eq!(anonymous.header("location"), "/login");
    assert_eq!(stored(&server, "ann").await, None);
    let leads = ann.open("/terms?return_to=https%3A%2F%2Fevil.test%2F").await;
    let done = ann.submit(&leads, &[("accepted_terms", "2026-11")]).await;
    assert_eq!(done.header("location"), "/account");
}
