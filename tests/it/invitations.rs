//! Registration by invitation, at allowed domains and not at all.

use std::time::Duration;

use futures_util::future::join_all;
use propusk::{
    flows::{accounts::register::Registration, admin::users, maintenance},
    model::{actor::Actor, user::Role},
    storage::Statement,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Backend, PASSWORD, Reply, TestServer, admin::AdminApi, backend_tests, documentation::Page,
    documentation::run_commands, mail::MAILS, oauth::payload, process::run, send,
};

const REGISTER: &str = "/api/v1/auth/register";
const INVITED: (&str, &str) = ("PROPUSK_REGISTRATION__MODE", "invitation");
const DAY: Duration = Duration::from_secs(24 * 3_600);

backend_tests! {
    an_invitation_is_created_listed_used_and_revoked,
    an_invitation_by_mail_verifies_the_address,
    an_invitation_grants_role_and_modules,
    an_invitation_survives_errors_on_the_page,
    an_invitation_is_used_by_the_confirmation,
    operators_invite_by_the_command_line,
    t229_an_unusable_invitation_has_one_answer,
    t230_of_parallel_registrations_with_an_invitation_one_succeeds,
    t231_an_invitation_is_for_its_address_and_role_only,
    t232_without_an_invitation_nobody_registers,
    t233_only_allowed_domains_register_without_an_invitation,
    t234_open_invitations_have_a_limit,
}

/// An administrator of a server that requires invitations.
async fn administrator(server: &TestServer) -> AdminApi<'_> {
    let new = Registration {
        email: "root@example.org".to_owned(),
        username: Some("root".to_owned()),
        password: PASSWORD.to_owned(),
    };
    let by = Actor::operator();
    users::create(&server.app, new, Role::admin(), None, &by).await.expect("an administrator");
    server.admin_as("root").await
}

/// Creates an invitation; returns its id and token.
async fn invite(admin: &AdminApi<'_>, body: Value) -> (String, String) {
    let reply = admin.post("/invitations", body).await.expect(StatusCode::CREATED);
    let link = reply.text_of("/link");
    let (_, token) = link.split_once("/register?invitation=").expect("a link");
    (reply.text_of("/invitation/id"), token.to_owned())
}

/// Registers by the JSON API.
async fn register(server: &TestServer, name: &str, invitation: Option<&str>) -> Reply {
    let body = json!({
        "email": format!("{name}@example.org"), "username": name, "password": PASSWORD,
        "invitation": invitation,
    });
    server.post(REGISTER, body).await
}

async fn count(server: &TestServer, statement: &'static str) -> i64 {
    let rows = server.app.db.read(Statement::new(statement)).await.expect("rows");
    rows[0].get("n").expect("a number")
}

const USERS: &str = "SELECT count(*) AS n FROM users";

async fn audited(server: &TestServer, action: &str) -> Vec<Value> {
    let statement =
        Statement::new("SELECT detail FROM audit_log WHERE action = $1 ORDER BY number");
    let rows = server.app.db.read(statement.bind(action)).await.expect("rows");
    let details = rows.iter().map(|row| row.get::<String>("detail").expect("a detail"));
    details.map(|detail| serde_json::from_str(&detail).expect("JSON")).collect()
}

async fn an_invitation_is_created_listed_used_and_revoked(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = administrator(&server).await;
    let body = json!({ "email": "Vera@example.org" });
    let created = admin.post_once("k", "/invitations", body.clone()).await;
    let created = created.expect(StatusCode::CREATED);
    let link = created.text_of("/link");
    let (base, token) = link.split_once("/register?invitation=").expect("a link");
    assert_eq!((base, token.len()), (server.app.config.server.issuer.as_str(), 43));
    let shown = created.data()["invitation"].clone();
    assert_eq!((&shown["email"], &shown["role"]), (&json!("Vera@example.org"), &json!("user")));
    assert_eq!(
        (&shown["isMailed"], &shown["createdAt"], &shown["expiresAt"], &shown["usedAt"]),
        (
            &json!(false),
            &json!("2026-11-21T00:00:00Z"),
            &json!("2026-11-28T00:00:00Z"),
            &Value::Null
        )
    );
    // A repetition creates no other one, and the link is not shown again.
    let again = admin.post_once("k", "/invitations", body).await.expect(StatusCode::CREATED);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!((&again.data()["invitation"], &again.data()["link"]), (&shown, &Value::Null));
    admin
        .post_once("k", "/invitations", json!({}))
        .await
        .expect_error(422, "IDEMPOTENCY_KEY_REUSED");
    for bad in [
        json!({ "email": "no address" }),
        json!({ "language": "de" }),
        json!({ "role": "nobody" }),
        json!({ "expiresIn": 59 }),
        json!({ "expiresIn": 90 * 86_400 + 1 }),
        json!({ "modules": [{ "moduleId": "crm" }] }),
        json!({ "uses": 2 }),
    ] {
        admin.post("/invitations", bad).await.expect_error(400, "VALIDATION_ERROR");
    }
    let taken = admin.post("/invitations", json!({ "email": "ROOT@example.org" })).await;
    taken.expect_error(409, "EMAIL_ALREADY_EXISTS");

    let id = shown["id"].as_str().expect("an id");
    let read = admin.get(&format!("/invitations/{id}")).await.expect(StatusCode::OK);
    assert_eq!((&read.data(), read.header("etag")), (&shown, created.header("etag")));
    assert!(!read.text.contains(token) && !admin.get("/invitations").await.text.contains(token));
    let done = register(&server, "vera", Some(token)).await.expect(StatusCode::CREATED);
    let user = &done.json()["data"]["user"];
    assert_eq!((&user["email"], &user["isVerified"]), (&json!("Vera@example.org"), &json!(false)));
    let used = admin.get(&format!("/invitations/{id}")).await.expect(StatusCode::OK);
    assert_eq!(used.data()["usedBy"], user["id"]);
    assert_eq!(used.data()["usedAt"], "2026-11-21T00:00:00Z");
    assert_eq!(audited(&server, "invitation.use").await, [json!({ "invitationId": id })]);

    // A revocation names the state that it knows, and the account stays.
    let (other, token) = invite(&admin, json!({})).await;
    assert_eq!(admin.all("/invitations").await.len(), 2);
    let path = format!("/invitations/{other}");
    send(admin.request(Method::DELETE, &path)).await.expect_error(428, "PRECONDITION_REQUIRED");
    let stale = admin.request(Method::DELETE, &path).header("if-match", "\"1\"");
    send(stale).await.expect_error(412, "PRECONDITION_FAILED");
    admin.delete(&path).await.expect(StatusCode::OK);
    admin.delete(&path).await.expect_error(404, "NOT_FOUND");
    register(&server, "eve", Some(&token)).await.expect_error(400, "INVALID_INVITATION");
    admin.delete(&format!("/invitations/{id}")).await.expect(StatusCode::OK);
    server.login("vera").await.expect(StatusCode::OK);
    let (added, revoked) =
        (audited(&server, "invitation.add").await, audited(&server, "invitation.revoke").await);
    assert_eq!((added.len(), revoked.len()), (2, 2));
    assert!(!format!("{added:?}{revoked:?}").to_lowercase().contains("vera"), "{added:?}");

    // Maintenance removes what has expired, used or not.
    invite(&admin, json!({ "expiresIn": 60 })).await;
    server.clock.advance(Duration::from_secs(61));
    maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(count(&server, "SELECT count(*) AS n FROM invitations").await, 0);
}

async fn an_invitation_by_mail_verifies_the_address(backend: Backend) {
    let settings = [MAILS, INVITED, ("PROPUSK_REGISTRATION__CONFIRM_EMAIL", "on")];
    let server = TestServer::with(backend, &settings).await;
    let admin = administrator(&server).await;
    let body = json!({ "email": "vera@example.org", "language": "ru" });
    let (id, token) = invite(&admin, body).await;
    let mail = server.mail_to("vera@example.org").await;
    assert_eq!(mail.subject, "Вас приглашают");
    assert!(mail.text.contains("2026-11-28") && mail.path().contains(&token), "{}", mail.text);
    // Opening it, as scanners do, uses nothing.
    for _ in 0..2 {
        let page = server.browser().open(&mail.path()).await.expect(StatusCode::OK);
        assert!(page.text.contains("<html lang=\"ru\">"), "{page:?}");
    }
    let mut vera = server.browser();
    let page = vera.open(&mail.path()).await.expect(StatusCode::OK);
    assert!(page.text.contains("value=\"vera@example.org\""), "{page:?}");
    assert!(page.text.contains(" readonly"), "the address cannot be changed: {page:?}");
    let typed = [("email", "vera@example.org"), ("username", "vera"), ("password", PASSWORD)];
    let done = vera.submit(&page, &typed).await.expect(StatusCode::SEE_OTHER);
    assert_eq!(done.header("location"), "/account");
    assert!(server.login("vera").await.json()["data"]["user"]["isVerified"] == true);
    assert_eq!(server.mails_to("vera@example.org").await.len(), 1, "no other mail");
    assert!(admin.get(&format!("/invitations/{id}")).await.data()["usedBy"].is_string());
    let again = server.browser().open(&mail.path()).await.expect_page(400);
    assert!(again.text.contains("Приглашение недействительно"), "{again:?}");
}

async fn an_invitation_grants_role_and_modules(backend: Backend) {
    let server = TestServer::start(backend).await;
    let admin = administrator(&server).await;
    for id in ["crm", "mail"] {
        server.module(id, &format!("{id}:read"), None, false).await;
    }
    admin.post("/roles", json!({ "name": "editor" })).await.expect(StatusCode::CREATED);
    let modules = json!([
        { "moduleId": "crm", "validUntil": "2026-11-23T00:00:00Z" },
        { "moduleId": "mail" },
    ]);
    let again = json!({ "modules": [{ "moduleId": "mail" }, { "moduleId": "mail" }] });
    admin.post("/invitations", again).await.expect_error(400, "VALIDATION_ERROR");
    let past = json!({ "modules": [{ "moduleId": "crm", "validUntil": "2026-11-21T00:00:00Z" }] });
    admin.post("/invitations", past).await.expect_error(400, "VALIDATION_ERROR");
    let (_, token) = invite(&admin, json!({ "role": "editor", "modules": modules })).await;
    let (_, late) = invite(&admin, json!({ "role": "editor", "modules": modules })).await;
    admin.delete("/roles/editor").await.expect_error(409, "CONFLICT");
    let reply = register(&server, "vera", Some(&token)).await.expect(StatusCode::CREATED);
    assert_eq!(reply.json()["data"]["user"]["role"], "editor");
    // The first token has what the user has.
    let claims = payload(&reply.tokens().access);
    assert_eq!((&claims["role"], &claims["modules"]), (&json!("editor"), &json!(["crm", "mail"])));
    let id = reply.json()["data"]["user"]["id"].as_str().expect("an id").to_owned();
    let grants = admin.get(&format!("/users/{id}/grants")).await.data();
    let grants = grants.as_array().expect("a list");
    let crm = grants.iter().find(|grant| grant["moduleId"] == "crm").expect("a grant");
    assert_eq!(crm["validUntil"], "2026-11-23T00:00:00Z");
    assert_ne!(crm["grantedBy"], id.as_str(), "the administrator has decided it");
    let kinds: Vec<_> = server.events().await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "module.enabled").count(), 2, "{kinds:?}");

    // A module that was deleted, and one whose end has passed, are left out.
    server.clock.advance(3 * DAY);
    let admin = server.admin_as("root").await;
    admin.delete("/modules/mail").await.expect(StatusCode::OK);
    let reply = register(&server, "nora", Some(&late)).await.expect(StatusCode::CREATED);
    let id = reply.json()["data"]["user"]["id"].as_str().expect("an id").to_owned();
    assert_eq!(admin.get(&format!("/users/{id}/grants")).await.data(), json!([]));
}

async fn an_invitation_survives_errors_on_the_page(backend: Backend) {
    let server = TestServer::with(backend, &[INVITED]).await;
    let admin = administrator(&server).await;
    let (_, token) = invite(&admin, json!({})).await;
    let mut vera = server.browser();
    let page = vera.open(&format!("/register?invitation={token}")).await.expect(StatusCode::OK);
    assert!(page.text.contains("You were invited") && !page.text.contains(" readonly"), "{page:?}");
    // The link to the other language has it too.
    assert!(page.text.contains(&format!("invitation={token}")), "{page:?}");
    let typed = [("email", "vera@example.org"), ("password", "short")];
    let again = vera.submit(&page, &typed).await.expect_page(400);
    assert!(again.text.contains("password-error"), "{again:?}");
    let typed = [("email", "vera@example.org"), ("username", "vera"), ("password", PASSWORD)];
    vera.submit(&again, &typed).await.expect(StatusCode::SEE_OTHER);
    server.login("vera").await.expect(StatusCode::OK);
    let used = vera.submit(&again, &typed).await.expect_page(400);
    assert!(used.text.contains("The invitation is not valid"), "{used:?}");
    assert_eq!(count(&server, USERS).await, 2);
}

async fn an_invitation_is_used_by_the_confirmation(backend: Backend) {
    let settings = [MAILS, INVITED, ("PROPUSK_REGISTRATION__CONFIRM_EMAIL", "on")];
    let server = TestServer::with(backend, &settings).await;
    let admin = administrator(&server).await;
    let (id, token) = invite(&admin, json!({})).await;
    // Any holder of the link may have entered the address: its owner confirms.
    for name in ["vera", "nora"] {
        register(&server, name, Some(&token)).await.expect(StatusCode::ACCEPTED);
    }
    assert_eq!(admin.get(&format!("/invitations/{id}")).await.data()["usedAt"], Value::Null);
    let confirm = async |name: &str| {
        let mail = server.mail_to(&format!("{name}@example.org")).await;
        let body = json!({ "token": mail.token(), "password": PASSWORD });
        server.post("/api/v1/auth/register/confirm", body).await
    };
    let done = confirm("nora").await.expect(StatusCode::CREATED);
    assert_eq!(done.json()["data"]["user"]["isVerified"], true);
    confirm("vera").await.expect_error(400, "INVALID_INVITATION");
    register(&server, "eve", Some(&token)).await.expect_error(400, "INVALID_INVITATION");
    assert_eq!(count(&server, USERS).await, 2);
}

async fn operators_invite_by_the_command_line(backend: Backend) {
    let server = TestServer::with(backend, &[INVITED]).await;
    let on_it = |args: &[&str]| {
        let output = run(&server.database, &[INVITED], args);
        let printed = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
    };
    server.module("crm", "crm:read", None, false).await;
    let module = "--module=crm=2027-01-31T00:00:00Z";
    let (done, printed) = on_it(&["invitation", "add", "vera@example.org", module]);
    assert!(done, "{printed}");
    let (_, token) = printed.split_once("/register?invitation=").expect("a link");
    let token = token.lines().next().expect("a token").to_owned();
    assert!(!printed.contains("will be sent"), "mails are off: {printed}");
    let (_, listed) = on_it(&["invitation", "list", "--json"]);
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed[0]["modules"][0]["validUntil"], "2027-01-31T00:00:00Z");
    assert_eq!(listed[0]["createdBy"], "cli");
    assert!(on_it(&["invitation", "list"]).1.contains("vera@example.org"));
    assert_eq!(token.len(), 43, "{printed}");
    for wrong in [
        &["invitation", "add", "--expires", "91d"][..],
        &["invitation", "add", "--module", "crm=tomorrow"],
        &["invitation", "add", "--role", "nobody"],
        &["invitation", "revoke", "nothing"],
    ] {
        let (done, printed) = on_it(wrong);
        assert!(!done, "{wrong:?}: {printed}");
    }
    let id = listed[0]["id"].as_str().expect("an id");
    let (done, printed) = on_it(&["invitation", "revoke", id]);
    assert!(done && printed.contains("revoked"), "{printed}");
    assert!(!on_it(&["invitation", "list"]).1.contains("vera@example.org"));
}

async fn t229_an_unusable_invitation_has_one_answer(backend: Backend) {
    let server = TestServer::with(backend, &[INVITED]).await;
    let admin = administrator(&server).await;
    let (_, used) = invite(&admin, json!({})).await;
    register(&server, "vera", Some(&used)).await.expect(StatusCode::CREATED);
    let (id, revoked) = invite(&admin, json!({})).await;
    admin.delete(&format!("/invitations/{id}")).await.expect(StatusCode::OK);
    let (_, expired) = invite(&admin, json!({ "expiresIn": 60 })).await;
    server.clock.advance(Duration::from_secs(60));
    let (guessed, long) = ("A".repeat(43), "A".repeat(10_000));
    let hashes = server.app.hasher.hashes();
    let mut answers = vec![];
    for token in [used.as_str(), &revoked, &expired, &guessed, &long, "", "\0"] {
        let reply = register(&server, "eve", Some(token)).await;
        let reply = reply.expect_error(400, "INVALID_INVITATION");
        let mut body = reply.json();
        body.as_object_mut().expect("an object").remove("requestId");
        answers.push(body);
        assert_eq!(reply.header("set-cookie"), "");
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(server.app.hasher.hashes(), hashes, "no work for a caller without an invitation");
    // What the database keeps opens nothing.
    let (_, token) = invite(&server.admin_as("root").await, json!({})).await;
    let rows = server.app.db.read(Statement::new("SELECT token_hash FROM invitations")).await;
    let stored: Vec<u8> = rows.expect("rows")[0].get("token_hash").expect("a hash");
    assert!(stored.len() == 32 && !stored.starts_with(&token.as_bytes()[..8]));
}

async fn t230_of_parallel_registrations_with_an_invitation_one_succeeds(backend: Backend) {
    let server = TestServer::with(backend, &[INVITED]).await;
    let other = server.another(&[INVITED]).await;
    let admin = administrator(&server).await;
    for round in 0..5 {
        let (_, token) = invite(&admin, json!({})).await;
        let before = count(&server, USERS).await;
        let tries = (0..8).map(|n| {
            let at = if n % 2 == 0 { &server } else { &other };
            let (name, token) = (format!("user{round}x{n}"), token.clone());
            async move { register(at, &name, Some(&token)).await }
        });
        let replies = join_all(tries).await;
        let created = replies.iter().filter(|reply| reply.status == StatusCode::CREATED);
        assert_eq!(created.count(), 1, "{replies:?}");
        for reply in replies.into_iter().filter(|reply| reply.status != StatusCode::CREATED) {
            reply.expect_error(400, "INVALID_INVITATION");
        }
        assert_eq!(count(&server, USERS).await, before + 1);
    }
    assert_eq!(audited(&server, "invitation.use").await.len(), 5);
}

async fn t231_an_invitation_is_for_its_address_and_role_only(backend: Backend) {
    let server = TestServer::with(backend, &[INVITED]).await;
    let admin = administrator(&server).await;
    let (id, token) = invite(&admin, json!({ "email": "vera@example.org" })).await;
    // Another address, and one that only looks like it.
    for email in ["eve@example.org", "vera@example.org.evil.test", "vera+1@example.org"] {
        let body = json!({
            "email": email, "password": PASSWORD, "invitation": token, "role": "admin",
        });
        let reply = server.post(REGISTER, body).await.expect_error(400, "VALIDATION_ERROR");
        assert_eq!(reply.json()["details"][0]["field"], "email", "{reply:?}");
    }
    let mut eve = server.browser();
    let page = eve.open(&format!("/register?invitation={token}")).await;
    let typed = [("email", "eve@example.org"), ("password", PASSWORD), ("role", "admin")];
    let refused = eve.submit(&page, &typed).await.expect_page(400);
    assert!(refused.text.contains("The invitation is for another address"), "{refused:?}");
    // It was not used up, and the address is stored as it was written.
    let body = json!({
        "email": "VERA@example.org", "username": "vera", "password": PASSWORD, "invitation": token,
        "role": "admin",
    });
    let done = server.post(REGISTER, body).await.expect(StatusCode::CREATED);
    let user = &done.json()["data"]["user"];
    assert_eq!((&user["email"], &user["role"]), (&json!("vera@example.org"), &json!("user")));
    assert_eq!(admin.get(&format!("/invitations/{id}")).await.data()["usedBy"], user["id"]);
    // A user who is no administrator creates none.
    let tokens = server.login("vera").await.tokens();
    let request = server.request(Method::POST, "/api/v1/admin/invitations");
    let request = request.bearer_auth(&tokens.access).json(&json!({ "role": "admin" }));
    send(request).await.expect_error(403, "INSUFFICIENT_SCOPE");
}

async fn t232_without_an_invitation_nobody_registers(backend: Backend) {
    let server = TestServer::with(backend, &[INVITED]).await;
    let admin = administrator(&server).await;
    let hashes = server.app.hasher.hashes();
    register(&server, "eve", None).await.expect_error(403, "INVITATION_REQUIRED");
    // Clients of the older service know no invitations.
    let body = json!({ "email": "eve@example.org", "password": PASSWORD });
    let old = server.post("/auth/register", body).await.expect_error(403, "INVITATION_REQUIRED");
    assert!(old.json()["message"].as_str().expect("text").contains("invitation"), "{old:?}");
    let mut eve = server.browser();
    let closed = eve.open("/register").await.expect_page(403);
    assert!(closed.text.contains("Registration by invitation"), "{closed:?}");
    let login = eve.open("/login").await.expect(StatusCode::OK);
    assert!(!login.text.contains("href=\"/register"), "{login:?}");
    let metadata = server.get("/.well-known/openid-configuration").await.json();
    let prompts = metadata["prompt_values_supported"].as_array().expect("a list").clone();
    assert!(!prompts.contains(&json!("create")), "{prompts:?}");
    assert_eq!(server.app.hasher.hashes(), hashes, "nothing was hashed");
    assert_eq!(count(&server, USERS).await, 1);

    // With a closed registration invitations are neither created nor accepted.
    let (_, token) = invite(&admin, json!({})).await;
    let closed = server.another(&[("PROPUSK_REGISTRATION__MODE", "closed")]).await;
    register(&closed, "eve", Some(&token)).await.expect_error(403, "REGISTRATION_DISABLED");
    let path = format!("/register?invitation={token}");
    closed.browser().open(&path).await.expect_page(403);
    let root = closed.admin_as("root").await;
    root.post("/invitations", json!({})).await.expect_error(409, "CONFLICT");
}

async fn t233_only_allowed_domains_register_without_an_invitation(backend: Backend) {
    let domains = ("PROPUSK_REGISTRATION__ALLOWED_DOMAINS", "example.org, пример.рф");
    let server = TestServer::with(backend, &[domains]).await;
    let admin = administrator(&server).await;
    let with = async |email: &str, invitation: Option<&str>| {
        let body = json!({ "email": email, "password": PASSWORD, "invitation": invitation });
        server.post(REGISTER, body).await
    };
    for email in [
        "eve@evil.test",
        "eve@sub.example.org",
        "eve@example.org.evil.test",
        "eve@notexample.org",
        "eve@exаmple.org",
    ] {
        let reply = with(email, None).await.expect_error(400, "VALIDATION_ERROR");
        let message = reply.json()["details"][0]["message"].as_str().expect("text").to_owned();
        assert!(message.contains("domain"), "{email}: {message}");
    }
    let mut eve = server.browser();
    let page = eve.open("/register?lang=ru").await;
    let typed = [("email", "eve@evil.test"), ("password", PASSWORD)];
    let refused = eve.submit(&page, &typed).await.expect_page(400);
    assert!(refused.text.contains("этого домена"), "{refused:?}");
    for email in ["vera@EXAMPLE.org", "vera@xn--e1afmkfd.xn--p1ai"] {
        with(email, None).await.expect(StatusCode::CREATED);
    }
    // An administrator has decided otherwise.
    let (_, token) = invite(&admin, json!({})).await;
    with("guest@elsewhere.test", Some(&token)).await.expect(StatusCode::CREATED);
}

async fn t234_open_invitations_have_a_limit(backend: Backend) {
    let most = ("PROPUSK_REGISTRATION__MAX_INVITATIONS", "2");
    let server = TestServer::with(backend, &[INVITED, most]).await;
    let admin = administrator(&server).await;
    let (id, _) = invite(&admin, json!({})).await;
    let (_, token) = invite(&admin, json!({ "expiresIn": 3600 })).await;
    let full = admin.post("/invitations", json!({})).await.expect_error(409, "CONFLICT");
    assert!(full.json()["message"].as_str().expect("text").contains("max_invitations"), "{full:?}");
    // Used, revoked and expired invitations do not count.
    register(&server, "vera", Some(&token)).await.expect(StatusCode::CREATED);
    invite(&admin, json!({ "expiresIn": 60 })).await;
    admin.delete(&format!("/invitations/{id}")).await.expect(StatusCode::OK);
    invite(&admin, json!({})).await;
    admin.post("/invitations", json!({})).await.expect_error(409, "CONFLICT");
    server.clock.advance(Duration::from_secs(60));
    invite(&server.admin_as("root").await, json!({})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_invitation_creates_an_account() {
    let server = TestServer::start(Backend::Sqlite).await;
    let page = Page::read("docs/registration.md");
    let settings = page.block("propusk.toml");
    std::fs::write(server.database.folder.path().join("propusk.toml"), settings).expect("written");
    let printed = run_commands(&server, &page.block("invite"));
    assert!(printed.contains("/register?invitation="), "{printed}");
    assert!(printed.contains("vera@example.org"), "{printed}");
}
