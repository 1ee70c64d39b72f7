//! The deletion of an account by its user, with a grace period.

use std::time::Duration;

use propusk::{
    flows::{accounts::deletion, admin::users, maintenance},
    storage::Statement,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Backend, PASSWORD, Reply, TestServer, backend_tests,
    mail::{MAILS, ReceivedMail},
    oauth::{AuthorizationRequest, web_app},
    second_factor::next_step,
    send,
};

const DELETION: &str = "/api/v1/account/deletion";
const DAY: u64 = 86_400;
const NEW_PASSWORD: &str = "nine grey owls before noon";

backend_tests! {
    an_account_is_deleted_after_its_grace,
    a_login_keeps_the_account_by_the_api,
    an_account_is_deleted_and_kept_on_the_pages,
    without_a_grace_an_account_is_deleted_at_once,
    administrators_see_end_and_outlast_deletions,
    mails_recover_an_account_that_waits_for_deletion,
    a_deletion_that_fails_holds_up_no_other,
}

impl TestServer {
    /// Cancels a deletion.
    pub async fn keep(&self, token: &str) -> Reply {
        let body = json!({ "cancelToken": token });
        send(self.request(Method::DELETE, DELETION).json(&body)).await
    }
}

/// The token of a login that is answered with the offer to keep the account.
#[track_caller]
pub fn offered(reply: Reply) -> String {
    let reply = reply.expect_error(403, "ACCOUNT_DELETION_PENDING");
    assert_eq!(reply.header("set-cookie"), "", "{reply:?}");
    let deletion = &reply.json()["deletion"];
    assert!(deletion["deletionAt"].is_string() && deletion["expiresIn"] == 600, "{reply:?}");
    deletion["cancelToken"].as_str().expect("a token").to_owned()
}

async fn events(server: &TestServer, prefix: &str) -> Vec<String> {
    let all = server.events().await.into_iter().map(|(kind, _)| kind);
    all.filter(|kind| kind.starts_with(prefix)).collect()
}

async fn an_account_is_deleted_after_its_grace(backend: Backend) {
    let server = TestServer::with(backend, &[MAILS]).await;
    let other = server.another(&[MAILS]).await;
    server.client("app", web_app()).await;
    let admin = other.admin("root").await;
    let ann = server.register("ann").await;
    let id = users::find(&server.app, "ann").await.expect("known").id;
    let mut browser = server.browser();
    let answer = browser.authorize(&AuthorizationRequest::of("app", "openid"), "ann").await;
    let app = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);

    let data = server.post_as(DELETION, &ann.access).await.expect(StatusCode::OK).data();
    let at = (server.clock.now() + Duration::from_secs(14 * DAY)).rfc3339();
    assert_eq!(data["deletionAt"], at.as_str());
    // Everything ends at once, at every process.
    for at in [&server, &other] {
        at.verify(&ann.access).await.expect_error(401, "INVALID_TOKEN");
        at.refresh(&ann.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
        assert_eq!(at.introspect("app", &app.field("access_token")).await["active"], false);
    }
    let refresh = server.refresh_as("app", &app.field("refresh_token")).await;
    refresh.expect_oauth_error(400, "invalid_grant");
    assert!(browser.open("/account").await.header("location").starts_with("/login"));
    let mail = server.mail_to("ann@example.org").await;
    assert!(mail.text.contains("2026-12-05"), "{mail:?}");
    let seen = admin.get(&format!("/users/{id}")).await.expect(StatusCode::OK).data();
    assert_eq!(seen["deletionAt"], at.as_str());
    assert!(seen["disabledAt"].is_string(), "{seen}");
    let told = events(&server, "user.d").await;
    assert_eq!(told, ["user.disabled", "user.deletion_requested"]);

    // A second before, nothing; afterwards two processes delete it once.
    server.clock.advance(Duration::from_secs(14 * DAY - 1));
    maintenance::sweep(&server.app).await.expect("swept");
    offered(server.login("ann").await);
    server.clock.advance(Duration::from_secs(1));
    let (one, two) = tokio::join!(maintenance::sweep(&server.app), maintenance::sweep(&other.app));
    one.and(two).expect("swept");
    let told = events(&server, "user.deleted").await;
    assert_eq!(told, ["user.deleted"]);
    server.login("ann").await.expect_error(401, "INVALID_CREDENTIALS");
    admin_again(&other).await.get(&format!("/users/{id}")).await.expect_error(404, "NOT_FOUND");
    server.register("ann").await;
    assert_ne!(users::find(&server.app, "ann").await.expect("new").id, id);
    let metrics = [&server, &other].map(|one| one.app.metrics.render()).concat();
    let completed = "propusk_account_deletions_total{outcome=\"completed\"} 1";
    assert_eq!(metrics.matches(completed).count(), 1, "{metrics}");
}

/// The administrator after a time for which no session lasts.
async fn admin_again(server: &TestServer) -> crate::support::admin::AdminApi<'_> {
    server.admin_as("root").await
}

async fn a_login_keeps_the_account_by_the_api(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.admin("root").await;
    let ann = server.register("ann").await;
    server.post_as(DELETION, &ann.access).await.expect(StatusCode::OK);
    let token = offered(server.login("ann").await);
    let kept = server.keep(&token).await.expect(StatusCode::OK);
    assert_eq!(kept.header("set-cookie"), "");
    server.keep(&token).await.expect_error(401, "INVALID_MFA_TOKEN");
    // The sessions of before stay revoked.
    server.verify(&ann.access).await.expect_error(401, "INVALID_TOKEN");
    server.login("ann").await.expect(StatusCode::OK);
    let told = events(&server, "user.").await;
    let told: Vec<&str> =
        told.iter().map(String::as_str).skip_while(|k| *k != "user.disabled").collect();
    assert_eq!(
        told,
        ["user.disabled", "user.deletion_requested", "user.enabled", "user.deletion_cancelled"]
    );

    // A token cancels the deletion that it was issued for, and no later one.
    server.clock.advance(Duration::from_secs(1));
    let ann = server.login("ann").await.expect(StatusCode::OK).tokens();
    server.post_as(DELETION, &ann.access).await.expect(StatusCode::OK);
    server.keep(&token).await.expect_error(401, "INVALID_MFA_TOKEN");
    let token = offered(server.login("ann").await);
    server.keep(&token).await.expect(StatusCode::OK);

    server.clock.advance(Duration::from_secs(15 * DAY));
    maintenance::sweep(&server.app).await.expect("swept");
    server.login("ann").await.expect(StatusCode::OK);

    // With a second factor, the password alone is offered nothing.
    let (app, _) = server.register_with_totp("bob").await;
    let bob = server.login_with("bob", &app).await;
    server.post_as(DELETION, &bob.access).await.expect(StatusCode::OK);
    let first = server.first_step("bob").await;
    server.keep(&first).await.expect_error(401, "INVALID_MFA_TOKEN");
    let code = app.code(&server.clock);
    let token = offered(server.second_step(&first, &code).await);
    server.second_step(&first, &code).await.expect_error(401, "INVALID_CODE");
    server.keep(&token).await.expect(StatusCode::OK);
    next_step(&server);
    server.login_with("bob", &app).await;
}

async fn an_account_is_deleted_and_kept_on_the_pages(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.admin("root").await;
    server.register("ann").await;
    let mut ann = server.logged_in("ann").await;
    assert!(ann.open("/account").await.text.contains("href=\"/account/delete\""));
    let page = ann.open("/account/delete").await.expect(StatusCode::OK);
    assert!(page.text.contains("2026-12-05"), "{page:?}");
    let page = ann.submit(&page, &[]).await.expect(StatusCode::OK);
    assert!(page.text.contains("Your account will be deleted"), "{page:?}");
    assert!(!ann.cookies.contains_key("propusk_session"), "{:?}", ann.cookies);

    // A login leads to the question and opens no session.
    let reply = ann.log_in("/login?return_to=%2Faccount%2Fsessions", "ann").await;
    assert_eq!(reply.header("location"), "/account/restore");
    assert!(!ann.cookies.contains_key("propusk_session"), "{:?}", ann.cookies);
    // Another cookie of this name, as a page of another path can set, is passed over.
    let login = ann.cookies["propusk_login"].clone();
    ann.cookies.insert("propusk_login".to_owned(), format!("other; propusk_login={login}"));
    let page = ann.open("/account/restore?lang=ru").await.expect(StatusCode::OK);
    assert!(page.text.contains("Сохранить ваш аккаунт?"), "{page:?}");
    let page = ann.submit(&page, &[]).await.expect(StatusCode::OK);
    assert!(page.text.contains("Ваш аккаунт сохранён"), "{page:?}");
    assert_eq!(ann.open("/account/restore").await.header("location"), "/login");
    assert_eq!(ann.log_in("/login", "ann").await.header("location"), "/account");

    // A browser with a second factor.
    let (app, _) = server.register_with_totp("bob").await;
    let mut bob = server.browser();
    bob.log_in_with("/login", "bob", &app).await;
    let page = bob.open("/account/delete").await.expect(StatusCode::OK);
    bob.submit(&page, &[]).await.expect(StatusCode::OK);
    assert_eq!(bob.log_in_with("/login", "bob", &app).await, "/account/restore");
    let page = bob.open("/account/restore").await.expect(StatusCode::OK);
    bob.submit(&page, &[]).await.expect(StatusCode::OK);
    assert_eq!(bob.log_in_with("/login", "bob", &app).await, "/account");
}

async fn without_a_grace_an_account_is_deleted_at_once(backend: Backend) {
    let settings = [("PROPUSK_ACCOUNTS__DELETION_GRACE", "0s")];
    let server = TestServer::with(backend, &settings).await;
    server.admin("root").await;
    let ann = server.register("ann").await;
    let data = server.post_as(DELETION, &ann.access).await.expect(StatusCode::OK).data();
    assert_eq!(data["deletionAt"], server.clock.now().rfc3339().as_str());
    server.login("ann").await.expect_error(401, "INVALID_CREDENTIALS");
    server.verify(&ann.access).await.expect_error(401, "INVALID_TOKEN");
    assert_eq!(events(&server, "user.d").await, ["user.deleted"]);
    server.register("bob").await;
    let mut bob = server.logged_in("bob").await;
    let page = bob.open("/account/delete").await.expect(StatusCode::OK);
    assert!(page.text.contains("cannot be restored"), "{page:?}");
    let page = bob.submit(&page, &[]).await.expect(StatusCode::OK);
    assert!(page.text.contains("Your account is deleted"), "{page:?}");
    server.login("bob").await.expect_error(401, "INVALID_CREDENTIALS");
}

async fn administrators_see_end_and_outlast_deletions(backend: Backend) {
    let server = TestServer::start(backend).await;
    let root = server.admin("root").await;
    // The last administrator stays.
    let reply = server.post_as(DELETION, &root.token).await.expect_error(409, "CONFLICT");
    assert!(reply.text.contains("last enabled administrator"), "{reply:?}");
    let mut browser = server.logged_in("root").await;
    let page = browser.open("/account/delete").await.expect(StatusCode::OK);
    let page = browser.submit(&page, &[]).await.expect_page(409);
    assert!(page.text.contains("You are the last administrator"), "{page:?}");

    let state = async |id: &str| {
        let user = root.get(&format!("/users/{id}")).await.expect(StatusCode::OK).data();
        (user["disabledAt"].is_string(), user["deletionAt"].is_string())
    };
    // An administrator enables the account: the deletion is off.
    let ann = server.register("ann").await;
    let id = users::find(&server.app, "ann").await.expect("known").id;
    server.post_as(DELETION, &ann.access).await.expect(StatusCode::OK);
    assert_eq!(state(&id).await, (true, true));
    root.post(&format!("/users/{id}/enable"), Value::Null).await.expect(StatusCode::OK);
    assert_eq!(state(&id).await, (false, false));
    // An administrator disables it: the user cannot keep it.
    let ann = server.login("ann").await.expect(StatusCode::OK).tokens();
    server.post_as(DELETION, &ann.access).await.expect(StatusCode::OK);
    let token = offered(server.login("ann").await);
    server.clock.advance(Duration::from_secs(1));
    root.post(&format!("/users/{id}/disable"), Value::Null).await.expect(StatusCode::OK);
    assert_eq!(state(&id).await, (true, true));
    server.keep(&token).await.expect_error(401, "INVALID_MFA_TOKEN");
    server.login("ann").await.expect_error(401, "INVALID_CREDENTIALS");
    // The second administrator may go, and root is the last one then.
    let other = server.admin("second").await;
    server.post_as(DELETION, &other.token).await.expect(StatusCode::OK);
    let root_again = server.login("root").await.tokens();
    server.post_as(DELETION, &root_again.access).await.expect_error(409, "CONFLICT");
    server.clock.advance(Duration::from_secs(15 * DAY));
    maintenance::sweep(&server.app).await.expect("swept");
    for name in ["ann", "second"] {
        let body = json!({ "login": name, "password": PASSWORD });
        let reply = server.post("/api/v1/auth/login", body).await;
        reply.expect_error(401, "INVALID_CREDENTIALS");
    }
    assert_eq!(events(&server, "user.deleted").await.len(), 2);
}

async fn mails_recover_an_account_that_waits_for_deletion(backend: Backend) {
    let server = TestServer::with(backend, &[MAILS]).await;
    let root = server.admin("root").await;
    let log_in = async |login: &str| {
        let body = json!({ "login": login, "password": NEW_PASSWORD });
        server.post("/api/v1/auth/login", body).await
    };
    // The tokens of all mails so far.
    let request_reset = async |name: &str| {
        let email = format!("{name}@example.org");
        let body = json!({ "email": email });
        let reply = server.post("/api/v1/auth/password/reset/request", body).await;
        reply.expect(StatusCode::ACCEPTED);
        let mut mails = server.mails_to(&email).await;
        mails.retain(|mail| mail.subject == "Reset your password");
        mails.iter().map(ReceivedMail::token).collect::<Vec<_>>()
    };
    let reset = async |token: &str| {
        let body = json!({ "token": token, "password": NEW_PASSWORD });
        server.post("/api/v1/auth/password/reset", body).await
    };
    // Ann has forgotten her password.
    let ann = server.register("ann").await;
    server.post_as(DELETION, &ann.access).await.expect(StatusCode::OK);
    let tokens = request_reset("ann").await;
    assert_eq!(tokens.len(), 1);
    reset(&tokens[0]).await.expect(StatusCode::OK);
    let token = offered(log_in("ann").await);
    server.keep(&token).await.expect(StatusCode::OK);
    log_in("ann").await.expect(StatusCode::OK);

    // An administrator has disabled the account meanwhile: nothing recovers it.
    let bob = server.register("bob").await;
    server.post_as(DELETION, &bob.access).await.expect(StatusCode::OK);
    let tokens = request_reset("bob").await;
    let id = users::find(&server.app, "bob").await.expect("known").id;
    server.clock.advance(Duration::from_secs(1));
    root.post(&format!("/users/{id}/disable"), Value::Null).await.expect(StatusCode::OK);
    reset(&tokens[0]).await.expect_error(400, "INVALID_EMAIL_TOKEN");
    assert_eq!(request_reset("bob").await, tokens);

    // Mallory has the password of Eve: another address, another password, and the deletion.
    let eve = server.register("eve").await;
    let code = server.mail_to("eve@example.org").await.code();
    let verified =
        server.post_json_as("/api/v1/auth/email/verify", &eve.access, json!({ "code": code }));
    verified.await.expect(StatusCode::OK);
    let change = json!({ "email": "mallory@example.net", "password": PASSWORD });
    let changed = server.post_json_as("/api/v1/auth/email/change", &eve.access, change);
    changed.await.expect(StatusCode::ACCEPTED);
    let confirm = json!({ "token": server.mail_to("mallory@example.net").await.token() });
    let confirmed = server.post_json_as("/api/v1/auth/email/change/confirm", &eve.access, confirm);
    confirmed.await.expect(StatusCode::OK);
    let new = "eleven grey cranes at dusk";
    let body = json!({ "currentPassword": PASSWORD, "newPassword": new });
    let changed = server.post_json_as("/api/v1/account/password", &eve.access, body).await;
    changed.expect(StatusCode::OK);
    let body = json!({ "login": "eve", "password": new });
    let mallory = server.post("/api/v1/auth/login", body).await.expect(StatusCode::OK).tokens();
    server.post_as(DELETION, &mallory.access).await.expect(StatusCode::OK);
    let mails = server.mails_to("eve@example.org").await;
    let changed = mails.iter().find(|mail| mail.subject == "Your email address was changed");
    let token = changed.expect("a notice").token();
    // Her objection cancels the deletion.
    server.clock.advance(Duration::from_secs(6 * DAY));
    let body = json!({ "token": token, "password": NEW_PASSWORD });
    let objected = server.post("/api/v1/auth/email/change/object", body).await;
    objected.expect(StatusCode::OK);
    log_in("eve@example.org").await.expect(StatusCode::OK);
    let told = events(&server, "user.").await;
    for kind in ["user.enabled", "user.deletion_cancelled"] {
        assert_eq!(told.iter().filter(|told| *told == kind).count(), 2, "{kind}: {told:?}");
    }
    let audit =
        Statement::new("SELECT subject FROM audit_log WHERE action = 'user.deletion_cancelled'");
    assert_eq!(server.app.db.read(audit).await.expect("rows").len(), 2);
    let metrics = server.app.metrics.render();
    let cancelled = "propusk_account_deletions_total{outcome=\"cancelled\"} 2";
    assert!(metrics.contains(cancelled), "{metrics}");
    server.clock.advance(Duration::from_secs(15 * DAY));
    maintenance::sweep(&server.app).await.expect("swept");
    log_in("eve").await.expect(StatusCode::OK);
    assert_eq!(events(&server, "user.deleted").await.len(), 1, "of Bob");
}

async fn a_deletion_that_fails_holds_up_no_other(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.admin("root").await;
    let mut ids = vec![];
    for name in ["ann", "bob", "eve"] {
        let user = server.register(name).await;
        ids.push(users::find(&server.app, name).await.expect("known").id);
        server.post_as(DELETION, &user.access).await.expect(StatusCode::OK);
        server.clock.advance(Duration::from_secs(1));
    }
    // What is stored of the first one cannot be read.
    let ann = ids[0].as_str();
    let sql = "DELETE FROM profiles WHERE user_id = $1";
    server.app.db.write(Statement::new(sql).bind(ann)).await.expect("removed");
    let damage = "INSERT INTO profiles (user_id, claims, updated_at) VALUES ($1, 'none', 0)";
    server.app.db.write(Statement::new(damage).bind(ann)).await.expect("damaged");
    server.clock.advance(Duration::from_secs(15 * DAY));
    // However few are read at once.
    deletion::sweep(&server.app, 1).await.expect("swept");
    assert_eq!(events(&server, "user.deleted").await.len(), 2);
    maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(events(&server, "user.deleted").await.len(), 2);
    server.app.db.write(Statement::new(sql).bind(ann)).await.expect("repaired");
    maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(events(&server, "user.deleted").await.len(), 3);
}
