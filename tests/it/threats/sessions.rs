//! Attacks on sessions, their revocation, and the steps that lead to one.

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt, future::join_all, stream};
use propusk::{
    flows::{admin::users, tokens::verify},
    model::{actor::Actor, key::LONGEST_TOKEN_LIFE, session::RevocationReason},
    storage::{Statement, consents, sessions},
};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::sync::Notify;

use super::{assert_active, assert_revoked, codes, inactive, tokens, two_servers, with_app};
use crate::support::{
    Backend, PASSWORD, Reply, TestServer, backend_tests,
    oauth::{
        AuthorizationRequest, AuthorizationResponse, Browser, Form, first_party_app, payload,
        web_app,
    },
    send,
};

/// The number of sessions that are revoked while they are refreshed, and the number of refreshes
/// that race each revocation.
const RACES: (usize, usize) = (1_000, 10);

/// One session that is refreshed at one server and revoked at the other at the same moment. Returns
/// all the tokens that were issued.
async fn race(servers: [&TestServer; 2], cookies: HashMap<String, String>, n: usize) -> Vec<Reply> {
    let [one, other] = servers;
    let mut ann = Browser { server: one, cookies };
    let request = AuthorizationRequest::of("app", "api:read offline_access");
    let reply = ann.open(&request.path()).await;
    let answer = AuthorizationResponse::of(reply.header("location"));
    let first = one.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    let refresh = first.field("refresh_token");
    let access = first.field("access_token");
    let refreshes = join_all((0..RACES.1).map(|_| one.refresh_as("app", &refresh)));
    let revoke = async {
        // The revocation starts at a varying point of the refreshes.
        for _ in 0..n % 40 {
            tokio::task::yield_now().await;
        }
        let fields = [("token", refresh.as_str())];
        let reply = other.form_as("/oauth2/revoke", "app", &fields).await;
        reply.expect(StatusCode::OK);
        // From here on the first token must be refused, even while refreshes are in flight.
        for server in servers {
            server.app.sync().await.expect("fresh");
            assert!(verify::inspect(&server.app, &access).is_err());
        }
    };
    let (replies, ()) = tokio::join!(refreshes, revoke);
    let mut granted = vec![first];
    granted.extend(replies.into_iter().filter(|reply| match reply.status.as_u16() {
        200 => true,
        400 => false,
        _ => panic!("{reply:?}"),
    }));
    granted
}

/// The login page, shown also to a logged-in user.
const AGAIN: &str = "/login?return_to=%2Foauth2%2Fauthorize%3Fclient_id%3Dapp";

async fn disable(server: &TestServer, name: &str) {
    let user = users::find(&server.app, name).await.expect("known");
    users::disable(&server.app, &user.id, &Actor::operator()).await.expect("disabled");
}

/// Withdraws a user's consent for a client.
async fn withdraw(server: &TestServer, name: &str, client: &'static str) {
    let user = users::find(&server.app, name).await.expect("known").id;
    let now = server.clock.now();
    let mut tx = server.app.db.begin().await.expect("a transaction");
    let client = client.into();
    consents::withdraw(&mut tx, &user, &client).await.expect("withdrawn");
    let of = sessions::SessionSelector::UserAtClient(&user, &client);
    let reason = RevocationReason::ConsentWithdrawn;
    let until = now + LONGEST_TOKEN_LIFE;
    sessions::revoke_all(&mut tx, of, reason, now, until).await.expect("revoked");
    tx.commit().await.expect("withdrawn");
}

backend_tests! {
    t29_a_revocation_racing_refreshes_revokes_the_family,
    t30_a_revocation_that_cannot_be_stored_is_503,
    t31_revoking_offline_access_keeps_the_browser_session,
    t32_a_disabled_user_is_refused_by_every_grant_and_endpoint,
    t35_a_login_replaces_the_session_cookie,
    t37_withdrawn_consent_is_asked_for_again,
    t57_an_empty_form_advances_no_step,
    t70_a_reset_removes_access_of_a_prior_registrant,
    t70_codes_racing_a_password_reset_open_no_session,
    t76_cross_site_forms_neither_log_in_nor_consent,
    t77_prompt_and_max_age_cannot_be_bypassed,
}

async fn t29_a_revocation_racing_refreshes_revokes_the_family(backend: Backend) {
    let (one, other) = two_servers(backend).await;
    let cookies = one.logged_in("ann").await.cookies;
    let races = (0..RACES.0).map(|n| race([&one, &other], cookies.clone(), n));
    let granted: Vec<Vec<Reply>> = stream::iter(races).buffer_unordered(16).collect().await;
    for server in [&one, &other] {
        server.app.sync().await.expect("fresh");
        for reply in granted.iter().flatten() {
            assert!(
                verify::inspect(&server.app, &reply.field("access_token")).is_err(),
                "{reply:?}"
            );
        }
    }
    let last: Vec<&Reply> = granted.iter().filter_map(|replies| replies.last()).collect();
    for batch in last.chunks(16) {
        join_all(batch.iter().map(async |reply| {
            other
                .refresh_as("app", &reply.field("refresh_token"))
                .await
                .expect_oauth_error(400, "invalid_grant")
        }))
        .await;
    }
    let refreshed = granted.iter().filter(|replies| replies.len() > 1).count();
    assert!((1..RACES.0).contains(&refreshed), "both outcomes of the race occur: {refreshed}");
    let live = one
        .app
        .db
        .read(Statement::new(
            "SELECT id FROM sessions WHERE revoked_at IS NULL AND client_id = 'app'",
        ))
        .await
        .expect("rows");
    assert!(live.is_empty());
}

async fn t30_a_revocation_that_cannot_be_stored_is_503(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    let granted = tokens(&server, "app", "openid offline_access", "ann").await;
    server
        .app
        .db
        .write(Statement::new("ALTER TABLE revocations RENAME TO gone"))
        .await
        .expect("renamed");
    for token in [granted.field("refresh_token"), granted.field("access_token")] {
        let reply = server.form_as("/oauth2/revoke", "app", &[("token", &token)]).await;
        reply.expect_oauth_error(503, "temporarily_unavailable");
    }
    server
        .app
        .db
        .write(Statement::new("ALTER TABLE gone RENAME TO revocations"))
        .await
        .expect("renamed");
    assert_active(&server, "app", &granted).await;
    let next =
        server.refresh_as("app", &granted.field("refresh_token")).await.expect(StatusCode::OK);
    server
        .form_as("/oauth2/revoke", "app", &[("token", &next.field("refresh_token"))])
        .await
        .expect(StatusCode::OK);
    assert_revoked(&server, "app", &next).await;
}

async fn t31_revoking_offline_access_keeps_the_browser_session(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    let mut ann = server.logged_in("ann").await;
    let mut granted = vec![];
    for scope in ["openid offline_access", "openid offline_access", "openid"] {
        let answer = ann.authorize(&AuthorizationRequest::of("app", scope), "ann").await;
        granted.push(server.exchange_code("app", answer.code()).await.expect(StatusCode::OK));
    }
    let next =
        server.refresh_as("app", &granted[0].field("refresh_token")).await.expect(StatusCode::OK);
    server
        .form_as("/oauth2/revoke", "app", &[("token", &next.field("refresh_token"))])
        .await
        .expect(StatusCode::OK);
    assert_revoked(&server, "app", &granted[0]).await;
    assert_revoked(&server, "app", &next).await;
    // A single access token; its session continues.
    let access = granted[1].field("access_token");
    server
        .form_as(
            "/oauth2/revoke",
            "app",
            &[("token", &access), ("token_type_hint", "refresh_token")],
        )
        .await
        .expect(StatusCode::OK);
    assert_eq!(server.introspect("app", &access).await, inactive());
    let fresh =
        server.refresh_as("app", &granted[1].field("refresh_token")).await.expect(StatusCode::OK);
    assert_active(&server, "app", &fresh).await;
    assert_active(&server, "app", &granted[2]).await;
    let reply =
        ann.open(&AuthorizationRequest::of("app", "openid").with("prompt", "none").path()).await;
    AuthorizationResponse::of(reply.header("location")).code();
}

async fn t32_a_disabled_user_is_refused_by_every_grant_and_endpoint(backend: Backend) {
    let (one, other) = two_servers(backend).await;
    let mut ann = one.logged_in("ann").await;
    let request = AuthorizationRequest::of("app", "openid offline_access");
    let answer = ann.authorize(&request, "ann").await;
    let granted = one.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    let waiting = ann.authorize(&request, "ann").await;
    let consent_page = ann
        .open(&AuthorizationRequest::of("app", "openid email").with("prompt", "consent").path())
        .await;
    let own = one.login("ann").await.expect(StatusCode::OK).tokens();
    for server in [&one, &other] {
        assert_active(server, "app", &granted).await;
    }
    disable(&one, "ann").await;
    for server in [&other, &one] {
        assert_revoked(server, "app", &granted).await;
        server.exchange_code("app", waiting.code()).await.expect_oauth_error(400, "invalid_grant");
        server.verify(&own.access).await.expect_error(401, "INVALID_TOKEN");
        server.refresh(&own.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
        let mut here = Browser { server, cookies: ann.cookies.clone() };
        let reply = here.open(&request.path()).await;
        assert!(reply.header("location").starts_with("/login"), "{reply:?}");
        let reply = here.open(&request.clone().with("prompt", "none").path()).await;
        AuthorizationResponse::of(reply.header("location")).expect_error("login_required");
        let page = here.open("/login").await;
        assert!(page.text.contains("name=\"password\""), "no user is logged in: {page:?}");
        here.submit(&page, &[("login", "ann"), ("password", PASSWORD)]).await.expect_page(400);
        server.login("ann").await.expect_error(401, "INVALID_CREDENTIALS");
    }
    ann.submit(&consent_page, &[("decision", "allow")]).await.expect_page(403);
    // After the user is enabled again, earlier tokens stay revoked.
    let user = users::find(&one.app, "ann").await.expect("ann");
    users::enable(&one.app, &user.id, &Actor::operator()).await.expect("enabled");
    assert_revoked(&other, "app", &granted).await;
    other.exchange_code("app", waiting.code()).await.expect_oauth_error(400, "invalid_grant");
    let reply = ann.open(&request.path()).await;
    assert!(reply.header("location").starts_with("/login"), "{reply:?}");
}

async fn t35_a_login_replaces_the_session_cookie(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    server.register("bob").await;
    let request = AuthorizationRequest::of("app", "openid").with("prompt", "none");
    let is_out = async |cookie: &str| {
        let mut browser = server.browser();
        browser.cookies.insert("propusk_session".to_owned(), cookie.to_owned());
        let reply = browser.open(&request.path()).await;
        AuthorizationResponse::of(reply.header("location")).fields.get("error").cloned()
            == Some("login_required".to_owned())
    };
    // An invented cookie, and a valid one of the attacker's account.
    let mallory = server.logged_in("bob").await.cookies["propusk_session"].clone();
    for planted in ["a cookie of my own".replace(' ', "-"), "A".repeat(43), mallory] {
        let mut ann = server.browser();
        ann.cookies.insert("propusk_session".to_owned(), planted.clone());
        let reply = ann.log_in(AGAIN, "ann").await;
        let issued = ann.cookies["propusk_session"].clone();
        assert!(issued != planted && issued.len() == 43, "{reply:?}");
        assert!(is_out(&planted).await, "{planted}");
        assert!(!is_out(&issued).await);
        // The same user again: another new cookie.
        ann.log_in(AGAIN, "ann").await;
        assert_ne!(ann.cookies["propusk_session"], issued);
        assert!(is_out(&issued).await);
    }
    // The first user's sessions at this browser are revoked when another user logs in there.
    let mut shared = server.browser();
    let answer = shared.authorize(&AuthorizationRequest::of("app", "openid"), "ann").await;
    let granted = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    shared.log_in(AGAIN, "bob").await;
    assert_revoked(&server, "app", &granted).await;
    let answer = shared.authorize(&AuthorizationRequest::of("app", "openid"), "bob").await;
    let of_bob = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    assert_ne!(
        payload(&of_bob.field("id_token"))["sub"],
        payload(&granted.field("id_token"))["sub"]
    );
}

async fn t37_withdrawn_consent_is_asked_for_again(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let mut ann = server.browser();
    let request = AuthorizationRequest::of("app", "openid offline_access");
    let answer = ann.authorize(&request, "ann").await;
    let granted = server.exchange_code("app", answer.code()).await.expect(StatusCode::OK);
    let silent = request.clone().with("prompt", "none");
    let waiting = AuthorizationResponse::of(ann.open(&silent.path()).await.header("location"));
    waiting.code();
    withdraw(&server, "ann", "app").await;
    let reply = ann.open(&silent.path()).await;
    AuthorizationResponse::of(reply.header("location")).expect_error("consent_required");
    let page = ann.open(&request.path()).await.expect(StatusCode::OK);
    assert!(page.text.contains("name=\"decision\""), "{page:?}");
    assert_revoked(&server, "app", &granted).await;
    server.exchange_code("app", waiting.code()).await.expect_oauth_error(400, "invalid_grant");
}

async fn t57_an_empty_form_advances_no_step(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let mut ann = server.logged_in("ann").await;
    let select = ann
        .open(&AuthorizationRequest::of("app", "openid").with("prompt", "select_account").path())
        .await;
    let pages = [
        ann.open(AGAIN).await,
        ann.open("/register").await,
        ann.open(&AuthorizationRequest::of("app", "openid").path()).await,
        ann.open(select.header("location")).await,
        ann.open("/oauth2/logout").await,
    ];
    let mut forms: Vec<Form> = pages.iter().map(|page| Form::of(&page.text)).collect();
    for form in &mut forms {
        // Unchanged with nothing typed; then with the CSRF token only; then empty.
        for kept in [None, Some("csrf"), Some("")] {
            if let Some(kept) = kept {
                form.hidden.retain(|(name, _)| name == kept);
            }
            let cookies = ann.cookies.clone();
            let reply = ann.submit_form(form.clone(), &[]).await;
            let to_itself = reply.header("location").starts_with("/oauth2/logout")
                || reply.header("location") == "/login";
            assert!(reply.status.is_client_error() || to_itself, "{form:?}: {reply:?}");
            assert_eq!(ann.cookies, cookies, "{form:?}: {reply:?}");
        }
        let bare = server
            .request(Method::POST, &form.action)
            .header("content-type", "application/x-www-form-urlencoded");
        let reply = ann.send(bare).await;
        assert!(
            reply.status.is_client_error()
                || reply.header("location").starts_with("/oauth2/logout"),
            "{reply:?}"
        );
        let reply = ann.send(server.request(Method::POST, &form.action)).await;
        assert!(reply.status.is_client_error(), "{reply:?}");
    }
    for path in ["/oauth2/token", "/oauth2/par", "/oauth2/introspect", "/oauth2/revoke"] {
        server.form_as(path, "app", &[]).await.expect_oauth_error(400, "invalid_request");
        server.form(path, &[]).await.expect_oauth_error(400, "invalid_client");
    }
    server.form("/oauth2/userinfo", &[]).await.expect(StatusCode::UNAUTHORIZED);
    for path in ["/register", "/login", "/token/refresh", "/logout"] {
        for body in [json!({}), json!(null), json!([])] {
            let reply = server.post(&format!("/api/v1/auth{path}"), body).await;
            assert!(reply.status.is_client_error(), "{path}: {reply:?}");
        }
    }
    assert_eq!(codes(&server).await, 0);
    assert_eq!(
        ann.open(&AuthorizationRequest::of("app", "openid").path()).await.status,
        StatusCode::OK,
        "still logged in, and asked"
    );
}

async fn t70_a_reset_removes_access_of_a_prior_registrant(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    // Mallory registers the victim's email, and claims that it is verified.
    let body = json!({ "email": "victim@example.org", "username": "mine", "password": PASSWORD });
    let mut claimed = body.clone();
    for name in ["email_verified", "isVerified", "is_verified", "role"] {
        claimed[name] = if name == "role" { "admin".into() } else { true.into() };
    }
    let reply = server.post("/api/v1/auth/register", claimed).await;
    let own = if reply.status == StatusCode::CREATED {
        reply
    } else {
        server.post("/api/v1/auth/register", body).await.expect(StatusCode::CREATED)
    }
    .tokens();
    let mut mallory = server.browser();
    let page = mallory.open("/register").await;
    mallory
        .submit(
            &page,
            &[
                ("email", "second@example.org"),
                ("username", "second"),
                ("password", PASSWORD),
                ("email_verified", "true"),
                ("is_verified", "1"),
                ("role", "admin"),
            ],
        )
        .await
        .expect(StatusCode::SEE_OTHER);
    for name in ["mine", "second"] {
        let response = tokens(&server, "app", "openid email", name).await;
        let response = server
            .get_as("/oauth2/userinfo", &response.field("access_token"))
            .await
            .expect(StatusCode::OK)
            .json();
        assert_eq!(response["email_verified"], false, "{response}");
        let user = users::find(&server.app, name).await.expect("known");
        assert_eq!((user.is_verified, user.role.as_str()), (false, "user"));
    }
    let mut mallory = server.logged_in("mine").await;
    let request = AuthorizationRequest::of("app", "openid offline_access");
    let granted = server
        .exchange_code("app", mallory.authorize(&request, "mine").await.code())
        .await
        .expect(StatusCode::OK);
    let waiting = mallory.authorize(&request, "mine").await;
    // The owner of the email resets the password.
    let user = users::find(&server.app, "victim@example.org").await.expect("known");
    users::set_password(&server.app, &user.id, "nine grey geese before noon", &Actor::operator())
        .await
        .expect("changed");
    assert_revoked(&server, "app", &granted).await;
    server.exchange_code("app", waiting.code()).await.expect_oauth_error(400, "invalid_grant");
    server.verify(&own.access).await.expect_error(401, "INVALID_TOKEN");
    server.refresh(&own.refresh).await.expect_error(401, "INVALID_REFRESH_TOKEN");
    let reply = mallory.open(&request.path()).await;
    assert!(reply.header("location").starts_with("/login"), "{reply:?}");
    let page = mallory.open("/login").await;
    mallory.submit(&page, &[("login", "mine"), ("password", PASSWORD)]).await.expect_page(400);
    server.login("victim@example.org").await.expect_error(401, "INVALID_CREDENTIALS");
}

async fn t70_codes_racing_a_password_reset_open_no_session(backend: Backend) {
    let server = with_app(backend, first_party_app()).await;
    let user = users::find(&server.app, "ann").await.expect("ann");
    let (mut opened, mut stopped) = (0, 0);
    for n in 0..8 {
        server.clock.advance(Duration::from_secs(1));
        // The attacker, logged in with the old password, requests and exchanges codes as fast as
        // possible.
        let password = format!("nine grey geese before noon {n}");
        let cookies = {
            let mut browser = server.browser();
            let page = browser.open("/login").await;
            let old = if n == 0 {
                PASSWORD.to_owned()
            } else {
                format!("nine grey geese before noon {}", n - 1)
            };
            browser
                .submit(&page, &[("login", "ann"), ("password", &old)])
                .await
                .expect(StatusCode::SEE_OTHER);
            browser.cookies
        };
        let begun = Notify::new();
        let attack = join_all((0..8).map(|_| async {
            let mut browser = Browser { server: &server, cookies: cookies.clone() };
            let mut granted = vec![];
            for _ in 0..20 {
                let reply = browser
                    .open(
                        &AuthorizationRequest::of("app", "openid offline_access")
                            .with("prompt", "none")
                            .path(),
                    )
                    .await;
                let Some(code) =
                    AuthorizationResponse::of(reply.header("location")).fields.remove("code")
                else {
                    break;
                };
                let reply = server.exchange_code("app", &code).await;
                if reply.status == StatusCode::OK {
                    begun.notify_one();
                    granted.push(reply);
                }
            }
            granted
        }));
        let reset = async {
            begun.notified().await;
            users::set_password(&server.app, &user.id, &password, &Actor::operator()).await
        };
        let (granted, reset) = tokio::join!(attack, reset);
        reset.expect("changed");
        for granted in granted {
            opened += granted.len();
            stopped += usize::from(granted.len() < 20);
            for reply in granted {
                assert_revoked(&server, "app", &reply).await;
            }
        }
    }
    assert!(opened > 8 && stopped > 8, "both outcomes of the race occur: {opened}, {stopped}");
}

async fn t76_cross_site_forms_neither_log_in_nor_consent(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let issuer = server.app.config.server.issuer.clone();
    let foreign = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "unknown"),
        ("origin", "https://evil.example"),
        ("origin", "http://127.0.0.1:8080.evil.example"),
    ];
    let mut ann = server.browser();
    let typed = [("login", "ann"), ("password", PASSWORD)];
    let page = ann.open("/login").await;
    let register = ann.open("/register").await;
    for header in foreign {
        ann.submit_with(&page, &typed, header).await.expect_page(403);
        let account = [("email", "new@example.org"), ("password", PASSWORD)];
        ann.submit_with(&register, &account, header).await.expect_page(403);
        // A form made by another site has no CSRF token.
        let post = server.request(Method::POST, "/login").header(header.0, header.1).form(&typed);
        send(post).await.expect_page(403);
        assert!(!ann.cookies.contains_key("propusk_session"));
    }
    // A page of no origin, in a browser without Fetch Metadata, has no CSRF token either.
    let post = server.request(Method::POST, "/login").header("origin", "null").form(&typed);
    ann.send(post).await.expect_page(403);
    assert!(!ann.cookies.contains_key("propusk_session"));
    // Login CSRF: the attacker's own form and CSRF token in the victim's browser.
    let mut mallory = server.browser();
    let theirs = mallory.open("/login").await;
    ann.submit(&theirs, &typed).await.expect_page(403);
    server.browser().submit(&theirs, &typed).await.expect_page(403);
    ann.submit_with(&page, &typed, ("origin", &issuer)).await.expect(StatusCode::SEE_OTHER);

    let page =
        ann.open(&AuthorizationRequest::of("app", "openid").path()).await.expect(StatusCode::OK);
    let logout = ann.open("/oauth2/logout").await;
    let to = ann
        .open(&AuthorizationRequest::of("app", "openid").with("prompt", "select_account").path())
        .await;
    let select = ann.open(to.header("location")).await;
    for header in foreign {
        ann.submit_with(&page, &[("decision", "allow")], header).await.expect_page(403);
        ann.submit_with(&logout, &[("decision", "logout")], header).await.expect_page(403);
        ann.submit_with(&select, &[("choice", "continue")], header).await.expect_page(403);
        let fields = [("decision", "allow"), ("request", Form::of(&page.text).field("request"))]
            .map(|(n, v)| (n.to_owned(), v.to_owned()));
        ann.send(server.request(Method::POST, "/consent").header(header.0, header.1).form(&fields))
            .await
            .expect_page(403);
    }
    // A CSRF token for one kind of form is invalid for another.
    for (taken, granted) in [(&select, &page), (&logout, &page), (&page, &logout), (&page, &select)]
    {
        let mut form = Form::of(&granted.text);
        let csrf = Form::of(&taken.text).field("csrf").to_owned();
        form.hidden.retain(|(name, _)| name != "csrf");
        ann.submit_form(form, &[("csrf", &csrf), ("decision", "allow"), ("choice", "continue")])
            .await
            .expect_page(403);
    }
    // JSON under another content type, or sent to a form.
    let json = server
        .request(Method::POST, "/login")
        .header("content-type", "text/plain")
        .body(json!({ "login": "ann", "password": PASSWORD }).to_string());
    send(json).await.expect_page(400);
    assert_eq!(codes(&server).await, 0);
    ann.submit_with(&page, &[("decision", "allow")], ("sec-fetch-site", "same-origin"))
        .await
        .expect(StatusCode::SEE_OTHER);
}

async fn t77_prompt_and_max_age_cannot_be_bypassed(backend: Backend) {
    let server = with_app(backend, web_app()).await;
    let authorization = AuthorizationRequest::of("app", "openid");
    let silent = authorization.clone().with("prompt", "none");
    let mut ann = server.browser();
    let error = async |browser: &mut Browser<'_>, request: &AuthorizationRequest, error: &str| {
        let reply = browser.open(&request.path()).await.expect(StatusCode::SEE_OTHER);
        AuthorizationResponse::of(reply.header("location")).expect_error(error);
    };
    let asks_for_login = async |browser: &mut Browser<'_>, request: &AuthorizationRequest| {
        let reply = browser.open(&request.path()).await.expect(StatusCode::SEE_OTHER);
        assert!(reply.header("location").starts_with("/login"), "{reply:?}");
        reply
    };
    error(&mut ann, &silent, "login_required").await;
    ann.log_in(AGAIN, "ann").await;
    error(&mut ann, &silent, "consent_required").await;
    let answer = ann.authorize(&authorization, "ann").await;
    let first = payload(&server.exchange_code("app", answer.code()).await.field("id_token"));
    AuthorizationResponse::of(ann.open(&silent.path()).await.header("location")).code();
    error(&mut ann, &silent.clone().with("max_age", "0"), "login_required").await;

    for request in [
        authorization.clone().with("prompt", "login"),
        authorization.clone().with("max_age", "0"),
        authorization.clone().with("prompt", "login consent"),
    ] {
        server.clock.advance(Duration::from_secs(10));
        asks_for_login(&mut ann, &request).await;
        // Repeating the request without a login does not help, nor does the response to another
        // request's login.
        asks_for_login(&mut ann, &request).await;
        ann.log_in(AGAIN, "ann").await;
        asks_for_login(&mut ann, &request).await;
        let answer = ann.authorize(&request, "ann").await;
        let claims = payload(&server.exchange_code("app", answer.code()).await.field("id_token"));
        assert_eq!(claims["auth_time"], server.clock.now().as_secs(), "{request:?}");
        assert!(claims["auth_time"].as_i64() > first["auth_time"].as_i64());
        // The next request asks again.
        asks_for_login(&mut ann, &request).await;
    }
    // The age is counted from the login, in seconds.
    ann.log_in(AGAIN, "ann").await;
    server.clock.advance(Duration::from_secs(60));
    let aged = |seconds: &str| silent.clone().with("max_age", seconds);
    AuthorizationResponse::of(ann.open(&aged("60").path()).await.header("location")).code();
    error(&mut ann, &aged("59"), "login_required").await;
    asks_for_login(&mut ann, &authorization.clone().with("max_age", "59")).await;
    for bad in ["-1", "+60", "soon", "1.5", "60s"] {
        error(&mut ann, &authorization.clone().with("max_age", bad), "invalid_request").await;
    }
    // Another account than the hinted one is refused, silently or not.
    server.register("bob").await;
    let hint = server
        .exchange_code("app", server.browser().authorize(&authorization, "bob").await.code())
        .await
        .field("id_token");
    error(&mut ann, &silent.clone().with("id_token_hint", &hint), "login_required").await;
    asks_for_login(&mut ann, &authorization.clone().with("id_token_hint", &hint)).await;
    for (prompt, wanted) in [
        ("none login", "invalid_request"),
        ("none consent", "invalid_request"),
        ("maybe", "invalid_request"),
    ] {
        error(&mut ann, &authorization.clone().with("prompt", prompt), wanted).await;
    }
    let page = ann
        .open(&authorization.clone().with("prompt", "consent").path())
        .await
        .expect(StatusCode::OK);
    assert!(page.text.contains("name=\"decision\""), "asked despite the earlier consent: {page:?}");
    let select = ann.open(&authorization.clone().with("prompt", "select_account").path()).await;
    assert!(select.header("location").starts_with("/select-account"), "{select:?}");
    let create = ann.open(&authorization.clone().with("prompt", "create").path()).await;
    assert!(create.header("location").starts_with("/register"), "{create:?}");
}
