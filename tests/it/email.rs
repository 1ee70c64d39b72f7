//! Verification and change of email addresses, password reset and confirmed registration: on the
//! pages and by the JSON API. The mails are read in the folder for development.

use std::time::Duration;

use propusk::model::client::Metadata;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Backend, PASSWORD, Reply, TestServer, backend_tests,
    mail::MAILS,
    oauth::{AuthorizationRequest, AuthorizationResponse, device_app, first_party_app, web_app},
    send,
};

const NEW_PASSWORD: &str = "nine grey owls before noon";

backend_tests! {
    an_address_is_verified_by_its_code,
    an_address_is_verified_by_its_link,
    a_reset_ends_every_session,
    a_change_is_confirmed_at_the_new_address,
    registrations_are_confirmed_by_mail,
    a_client_can_require_a_verified_address,
    administrators_changes_are_told_by_mail,
    a_login_from_a_new_device_is_told_by_mail,
    without_mails_nothing_is_offered_that_needs_one,
}

impl TestServer {
    /// The user of an access token, as the first-party API returns them at the next login.
    async fn user(&self, login: &str, password: &str) -> Value {
        let body = json!({ "login": login, "password": password });
        let reply = self.post("/api/v1/auth/login", body).await.expect(StatusCode::OK);
        reply.json()["data"]["user"].clone()
    }

    async fn post_with(&self, path: &str, access_token: &str, body: Value) -> Reply {
        send(self.request(Method::POST, path).bearer_auth(access_token).json(&body)).await
    }
}

async fn an_address_is_verified_by_its_code(backend: Backend) {
    let server = TestServer::with(backend, &[MAILS]).await;
    let ann = server.register("ann").await;
    let mail = server.mail_to("ann@example.org").await;
    assert_eq!(mail.subject, "Confirm your email address");
    assert!(mail.raw.contains("Auto-Submitted: auto-generated"), "{}", mail.raw);
    let verify = async |code: &str| {
        server.post_with("/api/v1/auth/email/verify", &ann.access, json!({ "code": code })).await
    };
    verify("1").await.expect_error(400, "VALIDATION_ERROR");
    let wrong = if mail.code() == "00000000" { "00000001" } else { "00000000" };
    verify(wrong).await.expect_error(400, "VALIDATION_ERROR");
    assert_eq!(server.user("ann", PASSWORD).await["isVerified"], false);
    // Another mail has another code; both are valid until one was used.
    let again = server.post_with("/api/v1/auth/email/verification", &ann.access, json!({})).await;
    again.expect(StatusCode::ACCEPTED);
    let other = server.mail_to("ann@example.org").await;
    assert_ne!(other.code(), mail.code());
    let typed = format!("{} {}", &mail.code()[..4], &mail.code()[4..]);
    verify(&typed).await.expect(StatusCode::OK);
    assert_eq!(server.user("ann", PASSWORD).await["isVerified"], true);
    verify(&other.code()).await.expect_error(400, "VALIDATION_ERROR");
    let again = server.post_with("/api/v1/auth/email/verification", &ann.access, json!({})).await;
    again.expect_error(409, "CONFLICT");
    let events = server.events().await;
    let updated = events.iter().find(|(kind, _)| kind == "user.updated").expect("an event");
    assert_eq!(updated.1["fields"], json!(["isVerified"]));

    // The claim.
    server.client("app", first_party_app()).await;
    let request = AuthorizationRequest::of("app", "openid email");
    let answer = server.browser().authorize(&request, "ann").await;
    let tokens = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    let info = server.get_as("/oauth2/userinfo", &tokens.field("access_token")).await;
    assert_eq!(info.json()["email_verified"], true);
}

async fn an_address_is_verified_by_its_link(backend: Backend) {
    let server = TestServer::with(backend, &[MAILS]).await;
    // The mail is in the language of the page.
    let mut ann = server.browser();
    let page = ann.open("/register?lang=ru").await;
    let typed = [("email", "ann@example.org"), ("username", "ann"), ("password", PASSWORD)];
    ann.submit(&page, &typed).await.expect(StatusCode::SEE_OTHER);
    let mail = server.mail_to("ann@example.org").await;
    assert_eq!(mail.subject, "Подтвердите адрес почты");
    let account = ann.open("/account").await;
    assert!(account.text.contains("/email/verify"), "{account:?}");

    // Opening it, as scanners do, changes nothing, however often.
    for _ in 0..2 {
        let mut scanner = server.browser();
        let page = scanner.open(&mail.path()).await.expect(StatusCode::OK);
        assert!(page.text.contains("<html lang=\"ru\">"), "{page:?}");
        assert!(page.text.contains("name=\"password\""), "{page:?}");
        send(server.request(Method::HEAD, &mail.path())).await.expect(StatusCode::OK);
    }
    assert_eq!(server.user("ann", PASSWORD).await["isVerified"], false);

    // Elsewhere it takes the password.
    let mut phone = server.browser();
    let page = phone.open(&mail.path()).await;
    let again = phone.submit(&page, &[("password", "wrong")]).await.expect_page(400);
    assert!(again.text.contains("Неверный пароль"), "{again:?}");
    phone.submit(&again, &[("password", "")]).await.expect_page(400);
    assert_eq!(server.user("ann", PASSWORD).await["isVerified"], false);
    // Where its user is logged in, a button.
    let page = ann.open(&mail.path()).await.expect(StatusCode::OK);
    assert!(!page.text.contains("name=\"password\""), "{page:?}");
    let done = ann.submit(&page, &[]).await.expect(StatusCode::OK);
    assert!(done.text.contains("Адрес подтверждён"), "{done:?}");
    assert_eq!(server.user("ann", PASSWORD).await["isVerified"], true);
    // The other page is from before.
    phone.submit(&again, &[("password", PASSWORD)]).await.expect_page(400);
    ann.open(&mail.path()).await.expect(StatusCode::OK);
    ann.open("/email/verify").await.expect(StatusCode::SEE_OTHER);

    // By the API: with the password, in English.
    server.register("bob").await;
    let mail = server.mail_to("bob@example.org").await;
    let verify = async |body: Value| server.post("/api/v1/auth/email/verify", body).await;
    verify(json!({ "token": mail.token() })).await.expect_error(400, "VALIDATION_ERROR");
    let wrong = json!({ "token": mail.token(), "password": NEW_PASSWORD });
    verify(wrong).await.expect_error(401, "INVALID_CREDENTIALS");
    let right = json!({ "token": mail.token(), "password": PASSWORD });
    verify(right.clone()).await.expect(StatusCode::OK);
    assert_eq!(server.user("bob", PASSWORD).await["isVerified"], true);
    verify(right).await.expect_error(400, "INVALID_EMAIL_TOKEN");

    // It expires.
    server.register("eve").await;
    let mail = server.mail_to("eve@example.org").await;
    server.clock.advance(Duration::from_secs(24 * 3_600 + 1));
    let late = json!({ "token": mail.token(), "password": PASSWORD });
    verify(late).await.expect_error(400, "INVALID_EMAIL_TOKEN");
}

async fn a_reset_ends_every_session(backend: Backend) {
    let server = TestServer::with(backend, &[MAILS]).await;
    server.client("app", first_party_app()).await;
    let ann = server.register("ann").await;
    let mut old = server.logged_in("ann").await;
    let request = AuthorizationRequest::of("app", "openid offline_access");
    let answer = old.authorize(&request, "ann").await;
    let tokens = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);

    let mut browser = server.browser();
    let login = browser.open("/login").await;
    assert!(login.text.contains("href=\"/password/reset\""), "{login:?}");
    let page = browser.open("/password/reset").await;
    browser.submit(&page, &[("email", "not an address")]).await.expect_page(400);
    let sent = browser.submit(&page, &[("email", "Ann@Example.org")]).await;
    assert!(sent.text.contains("mail with a link is on its way"), "{sent:?}");
    let mail = server.mail_to("ann@example.org").await;
    assert_eq!(mail.subject, "Reset your password");
    let page = browser.open(&mail.path()).await.expect(StatusCode::OK);
    assert!(page.text.contains("ann@example.org"), "{page:?}");
    let weak = browser.submit(&page, &[("password", "ann@example.org")]).await.expect_page(400);
    let done = browser.submit(&weak, &[("password", NEW_PASSWORD)]).await.expect(StatusCode::OK);
    assert!(done.text.contains("Your password is set"), "{done:?}");
    // Nobody is logged in by it: a second factor is asked for at the next login.
    assert!(browser.cookies.keys().all(|name| !name.contains("session")), "{:?}", browser.cookies);

    server.verify(&ann.access).await.expect(StatusCode::UNAUTHORIZED);
    server.refresh(&ann.refresh).await.expect(StatusCode::UNAUTHORIZED);
    let (access, refresh) = (tokens.field("access_token"), tokens.field("refresh_token"));
    server.get_as("/oauth2/userinfo", &access).await.expect(StatusCode::UNAUTHORIZED);
    server.refresh_as("app", &refresh).await.expect_oauth_error(400, "invalid_grant");
    let page = old.open("/login").await;
    assert!(page.text.contains("name=\"password\""), "the browser is logged out: {page:?}");
    server.login("ann").await.expect_error(401, "INVALID_CREDENTIALS");
    let user = server.user("ann", NEW_PASSWORD).await;
    assert_eq!(user["isVerified"], true, "the mail has arrived");
    let notice = server.mail_to("ann@example.org").await;
    assert_eq!(notice.subject, "Your password was changed");
    let kinds: Vec<_> = server.events().await.into_iter().map(|(kind, _)| kind).collect();
    assert!(kinds.contains(&"user.password_changed".to_owned()), "{kinds:?}");

    // By the API; a link is valid for half an hour.
    let path = "/api/v1/auth/password/reset";
    let request = async || {
        let body = json!({ "email": "ann@example.org" });
        let path = format!("{path}/request");
        server.post(&path, body).await.expect(StatusCode::ACCEPTED);
        server.mail_to("ann@example.org").await.token()
    };
    let token = request().await;
    server.clock.advance(Duration::from_secs(30 * 60 + 1));
    let reset = async |token: &str| {
        server.post(path, json!({ "token": token, "password": PASSWORD })).await
    };
    reset(&token).await.expect_error(400, "INVALID_EMAIL_TOKEN");
    reset(&request().await).await.expect(StatusCode::OK);
    server.login("ann").await.expect(StatusCode::OK);
}

async fn a_change_is_confirmed_at_the_new_address(backend: Backend) {
    let server = TestServer::with(backend, &[MAILS]).await;
    let ann = server.register("ann").await;
    let verified = server.mail_to("ann@example.org").await.code();
    let verify = json!({ "code": verified });
    server.post_with("/api/v1/auth/email/verify", &ann.access, verify).await;
    server.register("bob").await;

    let mut browser = server.logged_in("ann").await;
    let page = browser.open("/email/change").await.expect(StatusCode::OK);
    let typed = [("email", "anna@example.net"), ("password", PASSWORD)];
    browser.submit(&page, &typed).await.expect(StatusCode::OK);
    let mail = server.mail_to("anna@example.net").await;
    assert_eq!(mail.subject, "Confirm your new email address");
    let old = server.mail_to("ann@example.org").await;
    assert_eq!(old.subject, "Your email address is to be changed");
    assert!(old.text.contains("a•••@e•••") && !old.text.contains("anna@"), "{}", old.text);
    // Until then nothing has changed.
    assert_eq!(server.user("ann", PASSWORD).await["email"], "ann@example.org");
    let page = browser.open(&mail.path()).await.expect(StatusCode::OK);
    assert_eq!(server.user("ann", PASSWORD).await["email"], "ann@example.org");
    let done = browser.submit(&page, &[]).await.expect(StatusCode::OK);
    assert!(done.text.contains("Your email is changed"), "{done:?}");
    let user = server.user("anna@example.net", PASSWORD).await;
    assert_eq!((&user["email"], &user["isVerified"]), (&json!("anna@example.net"), &json!(true)));
    server.login("ann@example.org").await.expect_error(401, "INVALID_CREDENTIALS");
    assert_eq!(server.mail_to("ann@example.org").await.subject, "Your email address was changed");
    // Those who were logged in still are.
    server.verify(&ann.access).await.expect(StatusCode::OK);

    // By the API. The response is the same for an address that is another account's; its owner is
    // told.
    let change = async |email: &str| {
        let body = json!({ "email": email, "password": PASSWORD });
        server.post_with("/api/v1/auth/email/change", &ann.access, body).await
    };
    change("anna@example.net").await.expect_error(400, "VALIDATION_ERROR");
    let taken = change("bob@example.org").await.expect(StatusCode::ACCEPTED);
    let free = change("new@example.org").await.expect(StatusCode::ACCEPTED);
    assert_eq!(taken.text, free.text);
    let told = server.mail_to("bob@example.org").await;
    assert_eq!(told.subject, "You have an account already");
    let token = server.mail_to("new@example.org").await.token();
    // Meanwhile another person has registered it.
    let body = json!({ "email": "new@example.org", "password": PASSWORD });
    server.post("/api/v1/auth/register", body).await.expect(StatusCode::CREATED);
    let confirm = json!({ "token": token, "password": PASSWORD });
    let reply = server.post("/api/v1/auth/email/change/confirm", confirm.clone()).await;
    reply.expect_error(409, "EMAIL_ALREADY_EXISTS");
    assert_eq!(server.user("ann", PASSWORD).await["email"], "anna@example.net");
}

async fn registrations_are_confirmed_by_mail(backend: Backend) {
    let settings = [MAILS, ("PROPUSK_REGISTRATION__CONFIRM_EMAIL", "on")];
    let server = TestServer::with(backend, &settings).await;
    let register = async |email: &str, username: &str| {
        let body = json!({ "email": email, "username": username, "password": PASSWORD });
        server.post("/api/v1/auth/register", body).await
    };
    let free = register("ann@example.org", "ann").await.expect(StatusCode::ACCEPTED);
    let mail = server.mail_to("ann@example.org").await;
    assert_eq!(mail.subject, "Confirm your registration");
    assert_eq!(server.events().await.len(), 0, "there is no account yet");
    server.login("ann").await.expect_error(401, "INVALID_CREDENTIALS");
    let confirm = async |body: Value| server.post("/api/v1/auth/register/confirm", body).await;
    let wrong = json!({ "token": mail.token(), "password": NEW_PASSWORD });
    confirm(wrong).await.expect_error(401, "INVALID_CREDENTIALS");
    let right = json!({ "token": mail.token(), "password": PASSWORD });
    let tokens = confirm(right.clone()).await.expect(StatusCode::CREATED);
    assert_eq!(tokens.json()["data"]["user"]["isVerified"], true);
    server.verify(&tokens.tokens().access).await.expect(StatusCode::OK);
    confirm(right).await.expect_error(400, "INVALID_EMAIL_TOKEN");
    let created = server.events().await.into_iter().next().expect("an event");
    assert_eq!((created.0.as_str(), &created.1["isVerified"]), ("user.created", &json!(true)));

    // The address is taken: the same response; its owner is told.
    let taken = register("ann@example.org", "eve").await.expect(StatusCode::ACCEPTED);
    assert_eq!(taken.text, free.text);
    let told = server.mail_to("ann@example.org").await;
    assert_eq!(told.subject, "You have an account already");
    register("eve@example.org", "ann").await.expect_error(409, "USERNAME_ALREADY_EXISTS");
    // What was not registered can be.
    register("eve@example.org", "eve").await.expect(StatusCode::ACCEPTED);

    // On the pages, on the way to an application; the owner of the mailbox does not know the
    // password.
    server.client("app", web_app()).await;
    let request = AuthorizationRequest::of("app", "openid").with("prompt", "create");
    let mut bob = server.browser();
    let to_register = bob.open(&request.path()).await;
    let page = bob.open(to_register.header("location")).await;
    let typed = [("email", "bob@example.org"), ("username", "bob"), ("password", PASSWORD)];
    let sent = bob.submit(&page, &typed).await.expect(StatusCode::OK);
    assert!(sent.text.contains("Check your mailbox"), "{sent:?}");
    let mail = server.mail_to("bob@example.org").await;
    let page = bob.open(&mail.path()).await.expect(StatusCode::OK);
    bob.submit(&page, &[("password", "wrong")]).await.expect_page(400);
    let page = bob.open(&format!("{}&new=1", mail.path())).await;
    let reply = bob.submit(&page, &[("password", NEW_PASSWORD)]).await;
    let back = reply.expect(StatusCode::SEE_OTHER).header("location").to_owned();
    let consent = bob.open(&back).await.expect(StatusCode::OK);
    assert!(consent.text.contains("name=\"decision\""), "{consent:?}");
    let account = bob.open("/account").await;
    assert!(account.text.contains("You are logged in"), "{account:?}");
    server.login("bob").await.expect_error(401, "INVALID_CREDENTIALS");
    assert_eq!(server.user("bob", NEW_PASSWORD).await["isVerified"], true);
}

async fn a_client_can_require_a_verified_address(backend: Backend) {
    let server = TestServer::with(backend, &[MAILS]).await;
    let required = |metadata| Metadata { require_verified_email: true, ..metadata };
    server.client("app", required(web_app())).await;
    server.client("tv", required(device_app())).await;
    server.register("ann").await;
    let request = AuthorizationRequest::of("app", "openid");
    let mut ann = server.logged_in("ann").await;
    let silent = ann.open(&request.clone().with("prompt", "none").path()).await;
    AuthorizationResponse::of(silent.header("location")).expect_error("interaction_required");
    let codes = server.device_codes("tv", "openid").await;
    let entered = ann.enter_code(&codes.user).await.expect(StatusCode::SEE_OTHER);
    let to_verify = ann.open(entered.header("location")).await.expect(StatusCode::SEE_OTHER);
    assert!(to_verify.header("location").starts_with("/email/verify?return_to=%2Fdevice"));

    let reply = ann.open(&request.path()).await.expect(StatusCode::SEE_OTHER);
    let location = reply.header("location").to_owned();
    assert!(location.starts_with("/email/verify?return_to="), "{location}");
    let page = ann.open(&location).await.expect(StatusCode::OK);
    let page = ann.submit(&page, &[("resend", "1")]).await.expect(StatusCode::OK);
    assert!(page.text.contains("Check your mailbox"), "{page:?}");
    assert_eq!(server.mails_to("ann@example.org").await.len(), 2);
    ann.submit(&page, &[("code", "12")]).await.expect_page(400);
    let code = server.mail_to("ann@example.org").await.code();
    let back = ann.submit(&page, &[("code", &code)]).await.expect(StatusCode::SEE_OTHER);
    assert!(back.header("location").starts_with("/oauth2/authorize?"), "{back:?}");
    ann.authorize(&request, "ann").await.code();
    ann.decide(&codes, "allow").await;

    // Without mails nobody can do anything about it but an administrator.
    let silent = server.another(&[("PROPUSK_MAIL__DELIVERY", "off")]).await;
    server.register("bob").await;
    let mut bob = silent.logged_in("bob").await;
    let reply = bob.open(&request.path()).await.expect(StatusCode::SEE_OTHER);
    let answer = AuthorizationResponse::of(reply.header("location"));
    answer.expect_error("access_denied");
}

async fn administrators_changes_are_told_by_mail(backend: Backend) {
    let server = TestServer::with(backend, &[MAILS]).await;
    let root = server.admin("root").await;
    server.register("ann").await;
    let found = root.get("/users?username=ann").await;
    let id = found.text_of("/items/0/id");
    let path = format!("/users/{id}");
    root.patch(&path, json!({ "isVerified": true })).await.expect(StatusCode::OK);
    root.patch(&path, json!({ "email": "anna@example.org" })).await.expect(StatusCode::OK);
    let told = server.mail_to("ann@example.org").await;
    assert_eq!(told.subject, "Your email address was changed");
    assert!(told.text.contains("administrator") && !told.text.contains("token="), "{}", told.text);
    root.post(&format!("{path}/password"), json!({ "password": NEW_PASSWORD })).await;
    let told = server.mail_to("anna@example.org").await;
    assert_eq!(told.subject, "Your password was changed");

    let mails = root.all("/mails").await;
    assert!(mails.len() >= 4, "{mails:?}");
    assert!(mails.iter().all(|mail| mail["state"] == "sent"), "{mails:?}");
    assert!(!format!("{mails:?}").contains('@'), "{mails:?}");
    assert_eq!(root.all("/mails?state=failed").await.len(), 0);
    root.get("/mails?state=lost").await.expect_error(400, "VALIDATION_ERROR");
}

async fn without_mails_nothing_is_offered_that_needs_one(backend: Backend) {
    let server = TestServer::start(backend).await;
    let ann = server.register("ann").await;
    let mut browser = server.browser();
    let login = browser.open("/login").await;
    assert!(!login.text.contains("/password/reset"), "{login:?}");
    browser.open("/password/reset").await.expect_page(403);
    let mut browser = server.logged_in("ann").await;
    let account = browser.open("/account").await;
    assert!(!account.text.contains("/email/"), "{account:?}");
    browser.open("/email/change").await.expect_page(403);
    for (path, body) in [
        ("email/verification", json!({})),
        ("email/change", json!({ "email": "a@example.org", "password": PASSWORD })),
        ("password/reset/request", json!({ "email": "ann@example.org" })),
    ] {
        let path = format!("/api/v1/auth/{path}");
        server.post_with(&path, &ann.access, body).await.expect_error(403, "MAIL_DISABLED");
    }
    assert_eq!(server.mails().await.len(), 0);
}

async fn a_login_from_a_new_device_is_told_by_mail(backend: Backend) {
    const FIREFOX: &str =
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:132.0) Gecko/20100101 Firefox/132.0";
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let settings = [MAILS, ("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.0/8")];
    let server = TestServer::with(backend, &settings).await;
    let silent = [&settings[..], &[("PROPUSK_LOGIN__NEW_DEVICE_MAIL", "false")]].concat();
    let silent = server.another(&silent).await;
    server.register("ann").await;
    let log_in = async |at: &TestServer, address: &str, agent: &str| {
        let body = json!({ "login": "ann", "password": PASSWORD });
        let request = at.request(Method::POST, "/api/v1/auth/login").json(&body);
        let request = request.header("x-forwarded-for", address).header("user-agent", agent);
        send(request).await.expect(StatusCode::OK);
    };
    let told = async || {
        let mut mails = server.mails_to("ann@example.org").await;
        mails.retain(|mail| mail.subject == "A login from a new device");
        mails
    };
    // Where she has registered.
    log_in(&server, "127.0.0.1", FIREFOX).await;
    assert_eq!(told().await.len(), 0);
    // A new browser in a new network; then it is known, wherever it goes.
    let mut browser = server.browser();
    for address in ["192.0.2.1", "192.0.2.1", "192.0.2.77"] {
        browser.cookies.remove("propusk_session");
        let page = browser.open("/login").await;
        let mut fields = vec![("login", "ann"), ("password", PASSWORD)];
        let csrf = crate::support::oauth::Form::of(&page.text).field("csrf").to_owned();
        fields.push(("csrf", &csrf));
        let request = server.request(Method::POST, "/login").form(&fields);
        let request = request.header("x-forwarded-for", address).header("user-agent", FIREFOX);
        browser.send(request).await.expect(StatusCode::SEE_OTHER);
        assert_eq!(told().await.len(), 1, "{address}");
    }
    let mail = told().await.remove(0);
    for line in ["Time: 2026-11-21 00:00 UTC", "Browser: Firefox, Windows", "IP address: 192.0.2.1"]
    {
        assert!(mail.text.contains(line) && mail.html.contains(line), "{line}: {}", mail.text);
    }
    // Once a day, and nothing that the caller has chosen.
    log_in(&server, "198.51.100.1", FIREFOX).await;
    assert_eq!(told().await.len(), 1);
    server.clock.advance(DAY);
    log_in(&silent, "198.51.100.2", FIREFOX).await;
    assert_eq!(told().await.len(), 1, "switched off");
    log_in(&server, "198.51.100.3", "call +1 900 555 0100").await;
    let mails = told().await;
    assert_eq!(mails.len(), 2);
    assert!(mails[1].text.contains("Browser: another program"), "{}", mails[1].text);
    assert!(!mails[1].text.contains("900"), "{}", mails[1].text);
}
