//! Attacks by mail: on verification, password reset and the change of an address.

use std::time::Duration;

use propusk::storage::Statement;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{assert_revoked, tokens};
use crate::support::{
    Backend, PASSWORD, Reply, TestServer, backend_tests,
    mail::{MAILS, ReceivedMail},
    oauth::{first_party_app, web_app},
    send,
};

const NEW_PASSWORD: &str = "nine grey owls before noon";

backend_tests! {
    t58_a_password_is_reset_by_the_mailed_token_only,
    t59_links_begin_with_the_issuer_whatever_the_headers,
    t60_a_reset_link_changes_a_password_once,
    t60_a_reset_link_dies_with_a_change,
    t68_mails_tell_no_user_apart,
    t70_the_owner_of_an_address_ends_what_its_registrant_had,
    t75_an_address_is_changed_with_the_password_only,
    t195_nobody_is_bombed_with_mails,
    t197_no_token_of_a_mail_is_in_the_database,
    t198_codes_of_mails_cannot_be_guessed,
    t199_a_hijacked_account_returns_to_its_owner,
}

const RESET: &str = "/api/v1/auth/password/reset";

impl TestServer {
    async fn request_reset(&self, email: &str) -> Reply {
        self.post(&format!("{RESET}/request"), json!({ "email": email })).await
    }

    /// The mail of a new request.
    async fn reset_mail(&self, email: &str) -> ReceivedMail {
        self.request_reset(email).await.expect(StatusCode::ACCEPTED);
        let mail = self.mail_to(email).await;
        assert_eq!(mail.subject, "Reset your password");
        mail
    }

    async fn reset(&self, token: &str, password: &str) -> Reply {
        self.post(RESET, json!({ "token": token, "password": password })).await
    }

    async fn login_by(&self, login: &str, password: &str) -> Reply {
        let body = json!({ "login": login, "password": password });
        self.post("/api/v1/auth/login", body).await
    }

    async fn api(&self, path: &str, access_token: &str, body: Value) -> Reply {
        let path = format!("/api/v1/auth/{path}");
        send(self.request(Method::POST, &path).bearer_auth(access_token).json(&body)).await
    }

    /// A user with a verified address.
    async fn verified(&self, name: &str) -> crate::support::Tokens {
        let user = self.register(name).await;
        let code = self.mail_to(&format!("{name}@example.org")).await.code();
        self.api("email/verify", &user.access, json!({ "code": code }))
            .await
            .expect(StatusCode::OK);
        user
    }

    async fn count(&self, sql: &'static str) -> i64 {
        let rows = self.app.db.read(Statement::new(sql)).await.expect("rows");
        rows[0].get("n").expect("a number")
    }
}

async fn t58_a_password_is_reset_by_the_mailed_token_only(backend: Backend) {
    let server = TestServer::with(backend, &[MAILS]).await;
    let ann = server.register("ann").await;
    let verification = server.mail_to("ann@example.org").await.token();
    // The step before is skipped, or its token is of another kind or another spelling.
    for token in ["", "a", &"A".repeat(43), &verification, &ann.access] {
        server.reset(token, NEW_PASSWORD).await.expect_error(400, "INVALID_EMAIL_TOKEN");
    }
    let mail = server.reset_mail("ann@example.org").await;
    let token = mail.token();
    for token in [format!("{token}="), token.to_lowercase(), token[..42].to_owned()] {
        server.reset(&token, NEW_PASSWORD).await.expect_error(400, "INVALID_EMAIL_TOKEN");
    }
    for body in
        [json!({ "password": NEW_PASSWORD }), json!({ "token": null, "password": PASSWORD })]
    {
        server.post(RESET, body).await.expect_error(400, "VALIDATION_ERROR");
    }
    let mut browser = server.browser();
    let page = browser.open("/password/reset").await;
    let typed = [("token", "forged"), ("password", NEW_PASSWORD), ("email", "ann@example.org")];
    browser.submit(&page, &typed).await.expect_page(400);
    // The link of the mail, requested by a scanner and by HEAD.
    for method in [Method::GET, Method::HEAD, Method::GET] {
        send(server.request(method, &mail.path())).await.expect(StatusCode::OK);
    }
    // A form of another site.
    let form = [("token", token.as_str()), ("password", NEW_PASSWORD)];
    let foreign = server.request(Method::POST, "/password/reset").form(&form);
    let foreign = foreign.header("sec-fetch-site", "cross-site").header("accept", "text/html");
    send(foreign).await.expect(StatusCode::FORBIDDEN);
    server.login("ann").await.expect(StatusCode::OK);
    server.reset(&token, NEW_PASSWORD).await.expect(StatusCode::OK);
    // Nor does a reset token verify or change an address.
    let other = server.reset_mail("ann@example.org").await.token();
    let verify = json!({ "token": other, "newPassword": PASSWORD });
    let reply = server.post("/api/v1/auth/email/verify", verify).await;
    reply.expect_error(400, "INVALID_EMAIL_TOKEN");
}

async fn t59_links_begin_with_the_issuer_whatever_the_headers(backend: Backend) {
    let settings = [
        MAILS,
        ("PROPUSK_SERVER__ISSUER", "http://auth.localhost"),
        ("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let server = TestServer::with(backend, &settings).await;
    server.register("ann").await;
    let forged = [
        ("host", "evil.example"),
        ("forwarded", "host=evil.example;proto=http"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "http"),
        ("x-original-host", "evil.example"),
        ("origin", "https://evil.example"),
        ("referer", "https://evil.example/"),
    ];
    let body = json!({ "email": "ann@example.org" });
    for (name, value) in forged {
        let request = server.request(Method::POST, &format!("{RESET}/request"));
        let reply = send(request.header(name, value).json(&body)).await;
        assert!(reply.status == StatusCode::ACCEPTED || name == "host", "{name}: {reply:?}");
    }
    let target = format!("https://evil.example{RESET}/request?host=evil.example");
    let path = target.trim_start_matches("https://evil.example");
    server.post(path, body).await.expect(StatusCode::ACCEPTED);
    let mails = server.mails_to("ann@example.org").await;
    assert!(mails.len() >= forged.len(), "{}", mails.len());
    for mail in mails {
        assert!(mail.url().as_str().starts_with("http://auth.localhost/"), "{}", mail.text);
        for body in [&mail.text, &mail.html, &mail.raw] {
            assert!(!body.contains("evil"), "{body}");
        }
    }
}

async fn t60_a_reset_link_changes_a_password_once(backend: Backend) {
    let one = TestServer::with(backend, &[MAILS]).await;
    let other = one.another(&[MAILS]).await;
    one.register("ann").await;
    let mail = one.reset_mail("ann@example.org").await;
    let token = mail.token();
    let passwords: Vec<String> = (0..10).map(|n| format!("{n} {NEW_PASSWORD}")).collect();
    let attempts = passwords.iter().enumerate().map(|(n, password)| {
        let server = if n % 2 == 0 { &one } else { &other };
        server.reset(&token, password)
    });
    let replies = futures_util::future::join_all(attempts).await;
    let done: Vec<_> = replies.iter().filter(|reply| reply.status == StatusCode::OK).collect();
    assert_eq!(done.len(), 1, "{replies:?}");
    let mut works = 0;
    for (password, reply) in passwords.iter().zip(&replies) {
        let login = one.login_by("ann", password).await;
        assert_eq!(login.status == StatusCode::OK, reply.status == StatusCode::OK);
        works += usize::from(login.status == StatusCode::OK);
    }
    assert_eq!(works, 1);
    let changed = "SELECT COUNT(*) AS n FROM outbox WHERE type = 'user.password_changed'";
    assert_eq!(one.count(changed).await, 1);
    let notices = one.mails_to("ann@example.org").await;
    let notices = notices.iter().filter(|mail| mail.subject == "Your password was changed");
    assert_eq!(notices.count(), 1);
    // In two browsers.
    let mail = one.reset_mail("ann@example.org").await;
    let (mut first, mut second) = (one.browser(), one.browser());
    let (page, later) = (first.open(&mail.path()).await, second.open(&mail.path()).await);
    first.submit(&page, &[("password", PASSWORD)]).await.expect(StatusCode::OK);
    second.submit(&later, &[("password", NEW_PASSWORD)]).await.expect_page(400);
    one.login("ann").await.expect(StatusCode::OK);
}

async fn t60_a_reset_link_dies_with_a_change(backend: Backend) {
    let server = TestServer::with(backend, &[MAILS]).await;
    let root = server.admin("root").await;
    server.verified("ann").await;
    let id = root.get("/users?username=ann").await.text_of("/items/0/id");
    // A password that an administrator sets.
    let first = server.reset_mail("ann@example.org").await.token();
    let second = server.reset_mail("ann@example.org").await.token();
    let body = json!({ "password": PASSWORD });
    root.post(&format!("/users/{id}/password"), body).await.data();
    server.reset(&first, NEW_PASSWORD).await.expect_error(400, "INVALID_EMAIL_TOKEN");
    // One of two links was used.
    server.reset(&second, NEW_PASSWORD).await.expect_error(400, "INVALID_EMAIL_TOKEN");
    let first = server.reset_mail("ann@example.org").await.token();
    let second = server.reset_mail("ann@example.org").await.token();
    server.reset(&first, PASSWORD).await.expect(StatusCode::OK);
    server.reset(&second, NEW_PASSWORD).await.expect_error(400, "INVALID_EMAIL_TOKEN");
    // The address was changed, by the user and by an administrator.
    let user = server.login("ann").await.expect(StatusCode::OK).tokens();
    let token = server.reset_mail("ann@example.org").await.token();
    let change = json!({ "email": "anna@example.org", "password": PASSWORD });
    server.api("email/change", &user.access, change).await.expect(StatusCode::ACCEPTED);
    let confirm = server.mail_to("anna@example.org").await.token();
    let confirm = json!({ "token": confirm });
    server.api("email/change/confirm", &user.access, confirm).await.expect(StatusCode::OK);
    server.reset(&token, NEW_PASSWORD).await.expect_error(400, "INVALID_EMAIL_TOKEN");
    let token = server.reset_mail("anna@example.org").await.token();
    let body = json!({ "email": "ann@example.org" });
    root.patch(&format!("/users/{id}"), body).await.expect(StatusCode::OK);
    server.reset(&token, NEW_PASSWORD).await.expect_error(400, "INVALID_EMAIL_TOKEN");
    // The account was disabled.
    let token = server.reset_mail("ann@example.org").await.token();
    root.post(&format!("/users/{id}/disable"), json!({})).await.data();
    server.reset(&token, NEW_PASSWORD).await.expect_error(400, "INVALID_EMAIL_TOKEN");
    let before = server.mails().await.len();
    server.request_reset("ann@example.org").await.expect(StatusCode::ACCEPTED);
    assert_eq!(server.mails().await.len(), before, "a disabled account gets no mail");
}

/// Status, body and header names, without what differs between any two responses.
fn shape(reply: &Reply) -> (StatusCode, String, Vec<String>) {
    let names = reply.headers.keys().map(ToString::to_string).collect();
    (reply.status, reply.text.clone(), names)
}

async fn t68_mails_tell_no_user_apart(backend: Backend) {
    let settings =
        [MAILS, ("PROPUSK_REGISTRATION__CONFIRM_EMAIL", "on"), ("PROPUSK_LIMITS__ENABLED", "true")];
    let server = TestServer::with(backend, &settings).await;
    let register = async |email: &str| {
        let body = json!({ "email": email, "password": PASSWORD });
        server.post("/api/v1/auth/register", body).await
    };
    register("ann@example.org").await.expect(StatusCode::ACCEPTED);
    let token = server.mail_to("ann@example.org").await.token();
    let body = json!({ "token": token, "password": PASSWORD });
    let confirmed = server.post("/api/v1/auth/register/confirm", body).await;
    confirmed.expect(StatusCode::CREATED);
    let rows = async || {
        let mut counts = vec![];
        for sql in [
            "SELECT COUNT(*) AS n FROM mails",
            "SELECT COUNT(*) AS n FROM email_tokens",
            "SELECT COUNT(*) AS n FROM audit_log",
            "SELECT COUNT(*) AS n FROM outbox",
            "SELECT COUNT(*) AS n FROM users",
            "SELECT CAST(SUM(count) AS BIGINT) AS n FROM mail_quotas",
        ] {
            counts.push(server.count(sql).await);
        }
        counts
    };
    let difference = |after: Vec<i64>, before: Vec<i64>| -> Vec<i64> {
        after.iter().zip(before).map(|(after, before)| after - before).collect()
    };
    let (known, unknown) = ("ann@example.org", "eve@example.org");
    let mut outcomes = vec![];
    for email in [known, unknown] {
        let before = rows().await;
        let reset = server.request_reset(email).await;
        let middle = rows().await;
        let registration = register(email).await;
        let after = rows().await;
        let mut browser = server.browser();
        let page = browser.open("/password/reset").await;
        let page = browser.submit(&page, &[("email", email)]).await.expect(StatusCode::OK);
        outcomes.push((
            (shape(&reset), difference(middle.clone(), before)),
            (shape(&registration), difference(after, middle)),
            (page.status, page.text),
        ));
    }
    assert_eq!(outcomes[0], outcomes[1]);
    assert_eq!(outcomes[0].0.0.0, StatusCode::ACCEPTED);
    // The one difference is in the mailboxes.
    let told: Vec<_> =
        server.mails_to(known).await.into_iter().map(|mail| mail.subject).skip(1).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    let told = server.mails_to(unknown).await;
    assert_eq!(told.len(), 1, "the registration: {told:?}");
    assert_eq!(told[0].subject, "Confirm your registration");
    // Nor do invalid addresses tell anything but that.
    server.request_reset("nobody").await.expect_error(400, "VALIDATION_ERROR");
}

async fn t70_the_owner_of_an_address_ends_what_its_registrant_had(backend: Backend) {
    let server = TestServer::with(backend, &[MAILS]).await;
    server.client("app", web_app()).await;
    // Eve registers the address of Ann and Bob, and gets tokens of an application that stay valid
    // without her browser.
    for (name, by_link) in [("ann", true), ("bob", false)] {
        let eve = server.register(name).await;
        let eves = tokens(&server, "app", "openid offline_access", name).await;
        server.set_up_totp(&eve.access).await;
        let email = format!("{name}@example.org");
        let mail = server.mail_to(&email).await;
        // The owner's click in her own browser does not confirm Eve's account as it is.
        let mut owner = server.browser();
        let page = owner.open(&mail.path()).await.expect(StatusCode::OK);
        owner.submit(&page, &[("password", "")]).await.expect_page(400);
        // Nor where she is logged in to another account.
        server.register(&format!("{name}2")).await;
        let mut owner = server.logged_in(&format!("{name}2")).await;
        let page = owner.open(&mail.path()).await.expect(StatusCode::OK);
        assert!(page.text.contains("name=\"password\""), "{page:?}");
        owner.submit(&page, &[]).await.expect_page(400);
        let claims = server.get_as("/api/v1/auth/session", &eve.access).await;
        claims.expect(StatusCode::OK);
        if by_link {
            let page = owner.open(&format!("{}&new=1", mail.path())).await;
            let done = owner.submit(&page, &[("password", NEW_PASSWORD)]).await;
            done.expect(StatusCode::OK);
        } else {
            let token = server.reset_mail(&email).await.token();
            server.reset(&token, NEW_PASSWORD).await.expect(StatusCode::OK);
        }
        server.login_by(name, PASSWORD).await.expect_error(401, "INVALID_CREDENTIALS");
        server.verify(&eve.access).await.expect(StatusCode::UNAUTHORIZED);
        server.refresh(&eve.refresh).await.expect(StatusCode::UNAUTHORIZED);
        assert_revoked(&server, "app", &eves).await;
        // Her second factor is gone too: it is not asked for.
        let user = server.login_by(name, NEW_PASSWORD).await.expect(StatusCode::OK);
        assert_eq!(user.json()["data"]["user"]["isVerified"], true);
        // What the owner has not consented to, she is asked.
        assert_eq!(server.count("SELECT COUNT(*) AS n FROM consents").await, 0);
        // Eve's code of the verification is of no use.
        let code = json!({ "token": mail.token(), "password": PASSWORD });
        let reply = server.post("/api/v1/auth/email/verify", code).await;
        reply.expect_error(400, "INVALID_EMAIL_TOKEN");
    }
    // A user who asserts it of themselves.
    let body = json!({
        "email": "kim@example.org", "password": PASSWORD, "isVerified": true, "email_verified": true,
    });
    let reply = server.post("/api/v1/auth/register", body).await;
    if reply.status == StatusCode::CREATED {
        assert_eq!(reply.json()["data"]["user"]["isVerified"], false);
    }
}

async fn t75_an_address_is_changed_with_the_password_only(backend: Backend) {
    let settings = [MAILS, ("PROPUSK_LIMITS__ENABLED", "true")];
    let server = TestServer::with(backend, &settings).await;
    let ann = server.register("ann").await;
    server.client("app", first_party_app()).await;
    let change = async |access: &str, password: &str| {
        let body = json!({ "email": "eve@example.org", "password": password });
        server.api("email/change", access, body).await
    };
    change("", PASSWORD).await.expect_error(401, "INVALID_TOKEN");
    // An application's token, whatever its scope.
    let app = tokens(&server, "app", "openid email profile", "ann").await;
    let access = app.field("access_token");
    change(&access, PASSWORD).await.expect_error(403, "INSUFFICIENT_SCOPE");
    let mut browser = server.logged_in("ann").await;
    let page = browser.open("/email/change").await;
    let typed = [("email", "eve@example.org"), ("password", "guess")];
    let again = browser.submit(&page, &typed).await.expect_page(400);
    assert!(again.text.contains("Wrong password"), "{again:?}");
    let mut refused = 0;
    for _ in 0..20 {
        let reply = change(&ann.access, "guess").await;
        refused += usize::from(reply.status == StatusCode::TOO_MANY_REQUESTS);
        assert!(matches!(reply.status.as_u16(), 401 | 429), "{reply:?}");
    }
    assert!(refused >= 5, "guesses of the password are limited as at the login");
    assert_eq!(server.mails_to("eve@example.org").await.len(), 0);
}

async fn t195_nobody_is_bombed_with_mails(backend: Backend) {
    let settings = [
        MAILS,
        ("PROPUSK_LIMITS__ENABLED", "true"),
        ("PROPUSK_MAIL__PER_ADDRESS_PER_HOUR", "3"),
        ("PROPUSK_MAIL__PER_NETWORK_PER_HOUR", "14"),
    ];
    let one = TestServer::with(backend, &settings).await;
    let other = one.another(&settings).await;
    let ann = one.register("ann").await;
    assert_eq!(one.mails().await.len(), 1);
    // By two processes at once; a differently written address is the same one.
    let spellings = ["ann@example.org", "ANN@EXAMPLE.ORG", "Ann@example.org"];
    let requests = (0..8).map(|n| {
        let server = if n % 2 == 0 { &one } else { &other };
        server.request_reset(spellings[n % 3])
    });
    for reply in futures_util::future::join_all(requests).await {
        reply.expect(StatusCode::ACCEPTED);
    }
    assert_eq!(one.mails().await.len(), 3, "with the mail of the registration");
    let again = one.api("email/verification", &ann.access, json!({})).await;
    again.expect_error(429, "TOO_MANY_REQUESTS");
    // The network has requested nine (the refused one is not kept): five more.
    let requests = (0..8).map(|n| {
        let server = if n % 2 == 0 { &one } else { &other };
        async move { server.request_reset(&format!("somebody{n}@example.net")).await.status }
    });
    let statuses = futures_util::future::join_all(requests).await;
    let accepted = statuses.iter().filter(|status| **status == StatusCode::ACCEPTED).count();
    assert_eq!(accepted, 5, "{statuses:?}");
    one.request_reset("ann@example.org").await.expect_error(429, "TOO_MANY_REQUESTS");
    // A notice is not held back by what an untrusted caller has used up.
    one.clock.advance(Duration::from_secs(3_601));
    one.request_reset("ann@example.org").await.expect(StatusCode::ACCEPTED);
    assert_eq!(one.mails().await.len(), 4);
}

/// Everything in the tables that mails leave something in.
async fn dump(server: &TestServer) -> String {
    let mut all = String::new();
    for sql in [
        "SELECT id || kind || COALESCE(payload, '') || COALESCE(error, '') AS n FROM mails",
        "SELECT id || purpose || email || COALESCE(detail, '') AS n FROM email_tokens",
        "SELECT action || detail AS n FROM audit_log",
        "SELECT data AS n FROM outbox",
    ] {
        let rows = server.app.db.read(Statement::new(sql)).await.expect("rows");
        for row in rows {
            all.push_str(&row.get::<String>("n").expect("text"));
        }
    }
    all
}

async fn t197_no_token_of_a_mail_is_in_the_database(backend: Backend) {
    let smtp = crate::support::process::free_port().to_string();
    let unreachable = [
        ("PROPUSK_MAIL__DELIVERY", "smtp"),
        ("PROPUSK_MAIL__HOST", "127.0.0.1"),
        ("PROPUSK_MAIL__PORT", smtp.as_str()),
        ("PROPUSK_MAIL__TLS", "none"),
        ("PROPUSK_MAIL__FROM", "no-reply@example.com"),
        ("PROPUSK_REGISTRATION__CONFIRM_EMAIL", "off"),
    ];
    let waiting = TestServer::with(backend, &unreachable).await;
    waiting.register("ann").await;
    waiting.request_reset("ann@example.org").await.expect(StatusCode::ACCEPTED);
    assert_eq!(waiting.count("SELECT COUNT(*) AS n FROM mails WHERE payload IS NOT NULL").await, 2);
    let queued = dump(&waiting).await;
    // Another process delivers them.
    let server = waiting.another(&[MAILS]).await;
    waiting.stop().await;
    server.clock.advance(Duration::from_secs(2 * 3_600));
    let mails = server.mails_to("ann@example.org").await;
    // The reset was worth half an hour.
    assert_eq!(mails.len(), 1, "{mails:?}");
    let sent = dump(&server).await;
    for (token, code) in mails.iter().map(|mail| (mail.token(), mail.code())) {
        for text in [&queued, &sent] {
            assert!(!text.contains(&token) && !text.contains(&code), "{text}");
        }
    }
    assert!(!queued.contains("ann@example.org\"}"), "{queued}");
    assert_eq!(server.count("SELECT COUNT(*) AS n FROM mails WHERE payload IS NOT NULL").await, 0);
}

async fn t198_codes_of_mails_cannot_be_guessed(backend: Backend) {
    let server = TestServer::with(backend, &[MAILS]).await;
    let ann = server.register("ann").await;
    let code = server.mail_to("ann@example.org").await.code();
    let guess = async |code: String| {
        server.api("email/verify", &ann.access, json!({ "code": code })).await.status
    };
    let right: u64 = code.parse().expect("digits");
    let wrong = (0..30).map(|n| guess(format!("{:08}", (right + 1 + n) % 100_000_000)));
    for status in futures_util::future::join_all(wrong).await {
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }
    // Five of them were compared; the right one comes too late.
    assert_eq!(guess(code).await, StatusCode::BAD_REQUEST);
    assert_eq!(server.count("SELECT MAX(attempts) AS n FROM email_tokens").await, 5);
    // Another user's code is of no use.
    server.register("bob").await;
    let bobs = server.mail_to("bob@example.org").await.code();
    assert_eq!(guess(bobs).await, StatusCode::BAD_REQUEST);
    server.api("email/verification", &ann.access, json!({})).await.expect(StatusCode::ACCEPTED);
    let code = server.mail_to("ann@example.org").await.code();
    assert_eq!(guess(code).await, StatusCode::OK);
}

async fn t199_a_hijacked_account_returns_to_its_owner(backend: Backend) {
    let server = TestServer::with(backend, &[MAILS]).await;
    server.verified("ann").await;
    // Eve knows the password. She changes the address, confirms it, and sets a password of her own.
    let eve = server.login("ann").await.expect(StatusCode::OK).tokens();
    let change = json!({ "email": "eve@example.org", "password": PASSWORD });
    server.api("email/change", &eve.access, change).await.expect(StatusCode::ACCEPTED);
    let warning = server.mail_to("ann@example.org").await;
    assert_eq!(warning.subject, "Your email address is to be changed");
    let confirm = server.mail_to("eve@example.org").await.token();
    let confirm = json!({ "token": confirm });
    server.api("email/change/confirm", &eve.access, confirm).await.expect(StatusCode::OK);
    let token = server.reset_mail("eve@example.org").await.token();
    server.reset(&token, "a password that eve has chosen").await.expect(StatusCode::OK);
    let reply = server.login_by("ann", "a password that eve has chosen").await;
    let eve = reply.expect(StatusCode::OK).tokens();
    server.set_up_totp(&eve.access).await;
    // The owner of the old address objects, days later: Eve's second factor is not asked for.
    server.clock.advance(Duration::from_secs(3 * 24 * 3_600));
    let mails = server.mails_to("ann@example.org").await;
    let changed = mails.iter().find(|mail| mail.subject == "Your email address was changed");
    let changed = changed.expect("a notice");
    let mut ann = server.browser();
    let page = ann.open(&changed.path()).await.expect(StatusCode::OK);
    ann.submit(&page, &[("password", NEW_PASSWORD)]).await.expect(StatusCode::OK);
    server.verify(&eve.access).await.expect(StatusCode::UNAUTHORIZED);
    server.refresh(&eve.refresh).await.expect(StatusCode::UNAUTHORIZED);
    let reply = server.login_by("ann@example.org", NEW_PASSWORD).await;
    let user = reply.expect(StatusCode::OK).json()["data"]["user"].clone();
    assert_eq!((&user["email"], &user["isVerified"]), (&json!("ann@example.org"), &json!(true)));
    // Each objection works once, and the other one with it.
    for mail in [changed, &warning] {
        ann.open(&mail.path()).await.expect_page(400);
    }

    // Another person cannot be made to confirm an address for this account: the account would be
    // known by that person's address.
    let mallory = server.login_by("ann", NEW_PASSWORD).await.tokens();
    let change = json!({ "email": "bob@example.net", "password": NEW_PASSWORD });
    server.api("email/change", &mallory.access, change).await.expect(StatusCode::ACCEPTED);
    let mail = server.mail_to("bob@example.net").await;
    server.register("bob").await;
    let mut bob = server.logged_in("bob").await;
    let page = bob.open(&mail.path()).await.expect(StatusCode::OK);
    bob.submit(&page, &[("password", PASSWORD)]).await.expect_page(400);
    let user = server.login_by("ann", NEW_PASSWORD).await.json()["data"]["user"].clone();
    assert_eq!(user["email"], "ann@example.org");
}
