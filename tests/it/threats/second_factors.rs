//! Attacks on the second step of a login, and on what it is set up with.

use std::time::Duration;

use futures_util::future::join_all;
use propusk::{
    flows::admin::{roles, users},
    model::{
        actor::Actor,
        user::{Role, RoleSettings},
    },
    storage::Statement,
};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{
    Backend, PASSWORD, TestServer, backend_tests,
    oauth::{AuthorizationRequest, AuthorizationResponse, device_app, first_party_app, payload},
    second_factor::{Authenticator, codes_of, next_step},
    send,
};

const FACTORS: &str = "/api/v1/account/second-factors";

backend_tests! {
    t35_the_second_step_opens_a_new_session,
    t62_wrong_codes_are_counted_across_logins_and_processes,
    t63_of_20_parallel_uses_of_a_code_one_succeeds,
    t64_the_password_alone_opens_nothing,
    t75_a_change_of_factors_needs_a_fresh_strong_login,
    t200_a_first_step_is_worth_nothing_elsewhere,
    t201_a_recovery_code_is_used_once_by_its_user,
    t202_the_database_alone_reveals_no_factor,
    t203_a_session_is_never_of_a_class_it_did_not_reach,
    t204_a_required_factor_cannot_be_avoided,
}

async fn count(server: &TestServer, statement: &'static str) -> i64 {
    let rows = server.app.db.read(Statement::new(statement)).await.expect("rows");
    rows[0].get("n").expect("a number")
}

const SESSIONS: &str = "SELECT count(*) AS n FROM sessions";
const BROWSERS: &str = "SELECT count(*) AS n FROM browser_sessions";

async fn t35_the_second_step_opens_a_new_session(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("app", first_party_app()).await;
    let tokens = server.register("ann").await;
    let mut before = server.logged_in("ann").await;
    let (app, _) = server.set_up_totp(&tokens.access).await;
    let is_out = async |cookie: &str| {
        let mut browser = server.browser();
        browser.cookies.insert("propusk_session".to_owned(), cookie.to_owned());
        let request = AuthorizationRequest::of("app", "openid").with("prompt", "none");
        let reply = browser.open(&request.path()).await;
        !AuthorizationResponse::of(reply.header("location")).fields.contains_key("code")
    };
    // A cookie planted before the login, and the session that a step-up continues.
    let mut ann = server.browser();
    let planted = "A".repeat(43);
    ann.cookies.insert("propusk_session".to_owned(), planted.clone());
    ann.log_in_with("/login", "ann", &app).await;
    assert_ne!(ann.cookies["propusk_session"], planted);
    assert!(is_out(&planted).await && !is_out(&ann.cookies["propusk_session"]).await);
    let old = before.cookies["propusk_session"].clone();
    let page = before.open("/login/second-factor").await.expect(StatusCode::OK);
    before.submit(&page, &[("code", &app.code(&server.clock))]).await.expect(StatusCode::SEE_OTHER);
    let new = &before.cookies["propusk_session"];
    assert!(*new != old && is_out(&old).await && !is_out(new).await);
}

async fn t62_wrong_codes_are_counted_across_logins_and_processes(backend: Backend) {
    let settings = [("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.0/8")];
    let server = TestServer::with(backend, &settings).await;
    let other = server.another(&settings).await;
    let (app, codes) = server.register_with_totp("ann").await;
    let from = async |at: &TestServer, address: &str, token: &str, code: &str| {
        let body = json!({ "mfaToken": token, "code": code });
        let request = at.request(Method::POST, "/api/v1/auth/login/mfa").json(&body);
        send(request.header("x-forwarded-for", address)).await
    };
    // Ann has used her factor at home.
    let token = server.first_step("ann").await;
    let code = app.code(&server.clock);
    from(&server, "192.0.2.1", &token, &code).await.expect(StatusCode::OK);
    next_step(&server);
    // Mallory knows the password. Each guess is of a new login, process and network.
    for n in 0..5 {
        let at = if n % 2 == 0 { &server } else { &other };
        let token = at.first_step("ann").await;
        let wrong = app.wrong_code(&server.clock);
        let reply = from(at, &format!("198.51.100.{n}"), &token, &wrong).await;
        reply.expect_error(401, "INVALID_CODE");
    }
    let token = other.first_step("ann").await;
    for code in [app.code(&server.clock), codes[0].clone()] {
        let reply = from(&other, "198.51.100.99", &token, &code).await;
        let reply = reply.expect_error(429, "TOO_MANY_REQUESTS");
        assert_eq!(reply.header("retry-after"), "30", "the right code as well");
    }
    // At home Ann is not delayed, and her success does not reset what is counted elsewhere.
    let code = app.code(&server.clock);
    from(&other, "192.0.2.1", &token, &code).await.expect(StatusCode::OK);
    let reply = from(&server, "198.51.100.7", &token, &codes[0]).await;
    reply.expect_error(429, "TOO_MANY_REQUESTS");
    // Each further wrong code doubles the delay, up to the longest one.
    let mut waited = 0;
    for wrong in 1..=7 {
        let (token, code) = (server.first_step("ann").await, app.wrong_code(&server.clock));
        let wait: u64 = from(&server, "198.51.100.7", &token, &code)
            .await
            .expect_error(429, "TOO_MANY_REQUESTS")
            .header("retry-after")
            .parse()
            .expect("seconds");
        assert_eq!(wait, (30 << (wrong - 1)).min(900));
        waited = wait;
        server.clock.advance(Duration::from_secs(wait));
        let (token, code) = (server.first_step("ann").await, app.wrong_code(&server.clock));
        from(&server, "198.51.100.7", &token, &code).await.expect_error(401, "INVALID_CODE");
    }
    assert_eq!(waited, 900);
    // After that delay the owner gets in from anywhere.
    server.clock.advance(Duration::from_secs(900));
    let token = server.first_step("ann").await;
    let code = app.code(&server.clock);
    from(&server, "203.0.113.5", &token, &code).await.expect(StatusCode::OK);
    next_step(&server);
    // The networks of a user are bounded.
    let codes = {
        let tokens = server.login_with("ann", &app).await;
        codes_of(&server.post_as(&format!("{FACTORS}/recovery-codes"), &tokens.access).await)
    };
    for round in 0..2 {
        for (n, code) in codes.iter().enumerate() {
            let token = server.first_step("ann").await;
            let code = if round == 0 { code.clone() } else { app.code(&server.clock) };
            from(&server, &format!("203.0.113.{}", 10 * (round + 1) + n), &token, &code)
                .await
                .expect(StatusCode::OK);
            next_step(&server);
        }
    }
    let rows = count(&server, "SELECT count(*) AS n FROM known_sources").await;
    assert!(rows <= 32, "{rows}");
}

async fn t63_of_20_parallel_uses_of_a_code_one_succeeds(backend: Backend) {
    let generous = [("PROPUSK_SECOND_FACTORS__WRONG_CODES", "20")];
    let server = TestServer::with(backend, &generous).await;
    let other = server.another(&generous).await;
    let (app, codes) = server.register_with_totp("ann").await;
    let token = server.first_step("ann").await;
    let before = count(&server, SESSIONS).await;
    let code = app.code(&server.clock);
    for (kind, code) in
        [("totp", format!(" {} {} ", &code[..3], &code[3..])), ("recovery", codes[0].clone())]
    {
        let uses = (0..20).map(|n| if n % 2 == 0 { &server } else { &other });
        let replies = join_all(uses.map(|at| at.second_step(&token, &code))).await;
        let accepted = replies.iter().filter(|reply| reply.status == StatusCode::OK).count();
        assert_eq!(accepted, 1, "{kind}: {replies:?}");
    }
    assert_eq!(count(&server, SESSIONS).await, before + 2);
    // The next success forgets what the others were counted as.
    server.clock.advance(Duration::from_secs(120));
    let token = server.first_step("ann").await;
    server.second_step(&token, &codes[1]).await.expect(StatusCode::OK);
    let code = app.code(&server.clock);
    server.second_step(&token, &code).await.expect(StatusCode::OK);
    // Not again after a restart, nor the code of an earlier step.
    let database = server.stop().await;
    let restarted = TestServer::on(database, other.clock.clone(), &generous).await;
    let token = restarted.first_step("ann").await;
    let (earlier, later) = (app.code_in(&other.clock, -1), app.code_in(&other.clock, 1));
    for used in [&code, &earlier] {
        restarted.second_step(&token, used).await.expect_error(401, "INVALID_CODE");
    }
    restarted.second_step(&token, &later).await.expect(StatusCode::OK);
    restarted.second_step(&token, &code).await.expect_error(401, "INVALID_CODE");
}

async fn t64_the_password_alone_opens_nothing(backend: Backend) {
    let server = TestServer::with_grpc(backend, &[]).await;
    server.client("app", first_party_app()).await;
    server.client("tv", device_app()).await;
    server.register_with_totp("ann").await;
    let before = (count(&server, SESSIONS).await, count(&server, BROWSERS).await);
    // The JSON API, by body and by cookie, and the paths of the older service.
    for path in ["/api/v1/auth/login", "/auth/login"] {
        for delivery in ["body", "cookie"] {
            let body =
                json!({ "email": "ann@example.org", "password": PASSWORD, "delivery": delivery });
            let reply = server.post(path, body).await.expect_error(403, "MFA_REQUIRED");
            assert_eq!(reply.header("set-cookie"), "", "{reply:?}");
            assert!(!reply.text.contains("accessToken"), "{reply:?}");
        }
    }
    let token = server.first_step("ann").await;
    for bearer in [&token, "x"] {
        server.verify(bearer).await.expect_error(401, "INVALID_TOKEN");
        server.get_as("/oauth2/userinfo", bearer).await.expect(StatusCode::UNAUTHORIZED);
    }
    server.refresh(&token).await.expect_error(401, "INVALID_REFRESH_TOKEN");
    // The pages: the cookie of the first step is no session, anywhere.
    let mut ann = server.browser();
    ann.open_second_step("/login", "ann").await;
    let waiting = ann.cookies["propusk_login"].clone();
    assert!(!ann.cookies.contains_key("propusk_session"));
    for name in ["propusk_session", "propusk_access", "propusk_refresh"] {
        ann.cookies.insert(name.to_owned(), waiting.clone());
    }
    let request = AuthorizationRequest::of("app", "openid");
    let reply = ann.open(&request.path()).await.expect(StatusCode::SEE_OTHER);
    assert!(reply.header("location").starts_with("/login?"), "{reply:?}");
    let none = ann.open(&request.with("prompt", "none").path()).await;
    AuthorizationResponse::of(none.header("location")).expect_error("login_required");
    let start = ann.open("/session/start").await.expect(StatusCode::SEE_OTHER);
    assert!(start.header("location").starts_with("/login"), "{start:?}");
    let gateway = ann.send(server.request(Method::GET, "/forward-auth")).await;
    gateway.expect(StatusCode::UNAUTHORIZED);
    let codes = server.device_codes("tv", "openid").await;
    let entered = ann.enter_code(&codes.user).await.expect(StatusCode::SEE_OTHER);
    assert!(entered.header("location").starts_with("/login?"), "{entered:?}");
    for page in ["/account/security", "/account/security/totp", "/account/security/recovery-codes"]
    {
        let reply = ann.open(page).await.expect(StatusCode::SEE_OTHER);
        assert!(reply.header("location").starts_with("/login?"), "{reply:?}");
    }
    assert_eq!((count(&server, SESSIONS).await, count(&server, BROWSERS).await), before);
}

async fn t75_a_change_of_factors_needs_a_fresh_strong_login(backend: Backend) {
    let server = TestServer::start(backend).await;
    let old = server.register("ann").await;
    let mut browser = server.logged_in("ann").await;
    let begun = server.post_as(&format!("{FACTORS}/totp"), &old.access).await.data();
    // A token that was refreshed is of the login of before.
    server.clock.advance(Duration::from_secs(595));
    let fresh = server.login("ann").await.expect(StatusCode::OK).tokens();
    server.clock.advance(Duration::from_secs(6));
    let old = server.refresh(&old.refresh).await.expect(StatusCode::OK).tokens();
    let stale = server.post_as(&format!("{FACTORS}/totp"), &old.access).await;
    let stale = stale.expect_error(401, "INSUFFICIENT_USER_AUTHENTICATION");
    let challenge = stale.header("www-authenticate");
    assert!(
        challenge.starts_with("Bearer error=\"insufficient_user_authentication\"")
            && challenge.ends_with("max_age=\"600\""),
        "{challenge}"
    );
    let app = Authenticator::of(begun["secret"].as_str().expect("a secret"));
    let body = json!({ "setupToken": begun["setupToken"], "code": app.code(&server.clock) });
    let late = server.post_json_as(&format!("{FACTORS}/totp/confirm"), &old.access, body).await;
    late.expect_error(400, "VALIDATION_ERROR");
    let (app, _) = server.set_up_totp(&fresh.access).await;
    // The login was recent, and without the factor.
    let list = server.get_as(FACTORS, &fresh.access).await.data();
    let path = format!("{FACTORS}/{}", list["factors"][0]["id"].as_str().expect("an id"));
    for reply in [
        server.delete_as(&path, &fresh.access).await,
        server.post_as(&format!("{FACTORS}/totp"), &fresh.access).await,
        server.post_as(&format!("{FACTORS}/recovery-codes"), &fresh.access).await,
    ] {
        let reply = reply.expect_error(401, "INSUFFICIENT_USER_AUTHENTICATION");
        let challenge = reply.header("www-authenticate");
        assert!(challenge.ends_with("acr_values=\"urn:propusk:acr:mfa\""), "{challenge}");
    }
    // On the pages: both steps for an old login, the second for a recent one.
    for page in ["/account/security/totp", "/account/security/recovery-codes"] {
        let reply = browser.open(page).await.expect(StatusCode::SEE_OTHER);
        assert!(reply.header("location").ends_with("&reauthenticate=1"), "{reply:?}");
    }
    // Another user's factor, another client's token, another site's form.
    server.client("app", first_party_app()).await;
    let strong = server.login_with("ann", &app).await;
    let (mallorys, _) = server.register_with_totp("mallory").await;
    let mallory = server.login_with("mallory", &mallorys).await;
    server.delete_as(&path, &mallory.access).await.expect_error(404, "NOT_FOUND");
    let mut ann = server.browser();
    ann.log_in_with("/login", "ann", &app).await;
    let reply = ann.open(&AuthorizationRequest::of("app", "openid").path()).await;
    let code = AuthorizationResponse::of(reply.header("location"));
    let of_app = server.exchange_code("app", code.code()).await.field("access_token");
    server.get_as(FACTORS, &of_app).await.expect_error(403, "INSUFFICIENT_SCOPE");
    server.delete_as(&path, &of_app).await.expect_error(403, "INSUFFICIENT_SCOPE");
    let page = ann.open("/account/security/recovery-codes").await.expect(StatusCode::OK);
    let foreign = ann.submit_with(&page, &[], ("origin", "https://evil.example")).await;
    foreign.expect_page(403);
    server.delete_as(&path, &strong.access).await.expect(StatusCode::OK);
}

async fn t200_a_first_step_is_worth_nothing_elsewhere(backend: Backend) {
    let server = TestServer::start(backend).await;
    let other = server.another(&[]).await;
    let (app, _) = server.register_with_totp("ann").await;
    let (bobs, _) = server.register_with_totp("bob").await;
    let token = server.first_step("ann").await;
    let expired = |reply: crate::support::Reply| reply.expect_error(401, "INVALID_MFA_TOKEN");
    for forged in ["", "x", &"x".repeat(5000), &token[1..], &format!("{token}A")] {
        expired(server.second_step(forged, &app.code(&server.clock)).await);
    }
    // The code of another user; the token of a page at the API, and the other way round.
    server.second_step(&token, &bobs.code(&server.clock)).await.expect_error(401, "INVALID_CODE");
    let mut ann = server.browser();
    let page = ann.open_second_step("/login", "ann").await;
    let cookie = ann.cookies["propusk_login"].clone();
    expired(server.second_step(&cookie, &app.code(&server.clock)).await);
    ann.cookies.insert("propusk_login".to_owned(), token.clone());
    let reply = ann.submit(&page, &[("code", &app.code(&server.clock))]).await;
    assert_eq!(reply.expect(StatusCode::SEE_OTHER).header("location"), "/login");
    // A set-up does not replace the factor that the user has.
    let body = json!({ "mfaToken": token });
    server.post("/api/v1/auth/login/mfa/setup", body).await.expect_error(409, "CONFLICT");
    let tokens = server.register("eve").await;
    let begun = server.post_as(&format!("{FACTORS}/totp"), &tokens.access).await.data();
    let eves = Authenticator::of(begun["secret"].as_str().expect("a secret"));
    let body = json!({ "mfaToken": token, "setupToken": begun["setupToken"], "code": eves.code(&server.clock) });
    server.post("/api/v1/auth/login/mfa", body).await.expect_error(400, "VALIDATION_ERROR");
    // Too late; after a password change; after the account was disabled.
    let user = users::find(&server.app, "ann").await.expect("known");
    let by = Actor::operator();
    let late = server.first_step("ann").await;
    server.clock.advance(Duration::from_secs(601));
    expired(server.second_step(&late, &app.code(&server.clock)).await);
    let waiting = server.first_step("ann").await;
    users::set_password(&server.app, &user.id, PASSWORD, &by).await.expect("changed");
    expired(other.second_step(&waiting, &app.code(&server.clock)).await);
    let waiting = server.first_step("ann").await;
    users::disable(&server.app, &user.id, &by).await.expect("disabled");
    expired(other.second_step(&waiting, &app.code(&server.clock)).await);
}

async fn t201_a_recovery_code_is_used_once_by_its_user(backend: Backend) {
    let server = TestServer::start(backend).await;
    let (app, anns) = server.register_with_totp("ann").await;
    let (_, bobs) = server.register_with_totp("bob").await;
    let token = server.first_step("ann").await;
    server.second_step(&token, &bobs[0]).await.expect_error(401, "INVALID_CODE");
    server.second_step(&token, &anns[0]).await.expect(StatusCode::OK);
    server.second_step(&token, &anns[0]).await.expect_error(401, "INVALID_CODE");
    let strong = server.login_with("ann", &app).await;
    let path = format!("{FACTORS}/recovery-codes");
    let renewed = codes_of(&server.post_as(&path, &strong.access).await);
    assert!(renewed.iter().all(|code| !anns.contains(code)));
    server.second_step(&token, &anns[1]).await.expect_error(401, "INVALID_CODE");
    server.second_step(&token, &renewed[0]).await.expect(StatusCode::OK);
    // No list ever shows one.
    let list = server.get_as(FACTORS, &strong.access).await;
    assert!(renewed.iter().chain(&anns).all(|code| !list.text.contains(code)), "{list:?}");
}

async fn t202_the_database_alone_reveals_no_factor(backend: Backend) {
    let server = TestServer::start(backend).await;
    let tokens = server.register("ann").await;
    let begun = server.post_as(&format!("{FACTORS}/totp"), &tokens.access).await.data();
    let secret = begun["secret"].as_str().expect("a secret").to_owned();
    let app = Authenticator::of(&secret);
    let body = json!({ "setupToken": begun["setupToken"], "code": app.code(&server.clock) });
    let path = format!("{FACTORS}/totp/confirm");
    let added = server.post_json_as(&path, &tokens.access, body).await.expect(StatusCode::CREATED);
    let codes = codes_of(&added);
    next_step(&server);
    let (mallorys, _) = server.register_with_totp("mallory").await;
    let rows = server.app.db.read(Statement::new("SELECT secret_jwe FROM second_factors")).await;
    for row in rows.expect("rows") {
        let sealed: String = row.get("secret_jwe").expect("text");
        assert!(sealed.starts_with("ey") && !sealed.contains(&secret), "{sealed}");
    }
    let hashes = server.app.db.read(Statement::new("SELECT code_hash FROM recovery_codes")).await;
    for row in hashes.expect("rows") {
        let hash: Vec<u8> = row.get("code_hash").expect("bytes");
        let plain = |code: &String| code.as_bytes() == hash || sha2_of(code) == hash;
        assert!(hash.len() == 32 && !codes.iter().any(plain));
    }
    // Who can write to the database cannot move the secret of one factor to another.
    let moved = "UPDATE second_factors SET secret_jwe = (SELECT m.secret_jwe FROM second_factors m \
                 JOIN users u ON u.id = m.user_id WHERE u.username = 'mallory') \
                 WHERE user_id = (SELECT id FROM users WHERE username = 'ann') RETURNING id";
    assert_eq!(server.app.db.write(Statement::new(moved)).await.expect("moved").len(), 1);
    let token = server.first_step("ann").await;
    let code = mallorys.code(&server.clock);
    server.second_step(&token, &code).await.expect_error(503, "SERVICE_UNAVAILABLE");
}

fn sha2_of(code: &str) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    Sha256::digest(code.replace('-', "")).to_vec()
}

async fn t203_a_session_is_never_of_a_class_it_did_not_reach(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.client("app", first_party_app()).await;
    let tokens = server.register("ann").await;
    let mut ann = server.logged_in("ann").await;
    let (app, _) = server.set_up_totp(&tokens.access).await;
    let acr = "urn:propusk:acr:mfa";
    let request = AuthorizationRequest::of("app", "openid offline_access").with("acr_values", acr);
    let reply = ann.open(&request.path()).await.expect(StatusCode::SEE_OTHER);
    let step = reply.header("location").to_owned();
    // To return without a code, with the state of the pages, leads there again.
    let (_, back) = step.split_once("return_to=").expect("a request");
    let back = url::form_urlencoded::parse(format!("u={back}").as_bytes())
        .next()
        .map(|(_, url)| url.into_owned())
        .expect("a URL");
    for url in [back.clone(), format!("{back}&acr=mfa"), back.replace("resume=", "resume=A")] {
        let again = ann.open(&url).await.expect(StatusCode::SEE_OTHER);
        assert!(again.header("location").starts_with("/login/second-factor?"), "{again:?}");
    }
    // A code of the password-only session says so, and so do all its tokens.
    let plain = request.clone().without("acr_values");
    let reply = ann.open(&plain.path()).await;
    let code = AuthorizationResponse::of(reply.header("location"));
    let weak = server.exchange_code("app", code.code()).await.expect(StatusCode::OK);
    let page = ann.open(&step).await.expect(StatusCode::OK);
    ann.submit(&page, &[("code", &app.code(&server.clock))]).await.expect(StatusCode::SEE_OTHER);
    let refreshed = server.refresh_as("app", &weak.field("refresh_token")).await;
    let refreshed = refreshed.expect(StatusCode::OK);
    for token in [refreshed.field("access_token"), refreshed.field("id_token")] {
        assert_eq!(payload(&token)["acr"], "urn:propusk:acr:password");
        assert_eq!(payload(&token)["amr"], json!(["pwd"]));
    }
    // A session of the API was opened with the password, whatever the browser has reached.
    let session = server.get_as("/api/v1/auth/session", &tokens.access).await.data();
    assert_eq!(session["acr"], "urn:propusk:acr:password");
    let gateway = format!("/forward-auth?acr={acr}");
    server.get_as(&gateway, &tokens.access).await.expect(StatusCode::UNAUTHORIZED);
    let strong = server.app.clock.clone();
    strong.advance(Duration::from_secs(30));
    let tokens = server.login_with("ann", &app).await;
    server.get_as(&gateway, &tokens.access).await.expect(StatusCode::OK);
}

async fn t204_a_required_factor_cannot_be_avoided(backend: Backend) {
    let server = TestServer::with_grpc(backend, &[]).await;
    server.client("tv", device_app()).await;
    server.client("app", first_party_app()).await;
    server.register("ann").await;
    let mut ann = server.logged_in("ann").await;
    let settings = RoleSettings { description: String::new(), require_second_factor: true };
    let by = Actor::operator();
    roles::put(&server.app, Role::user(), settings, &by).await.expect("changed");
    server.login("ann").await.expect_error(403, "MFA_REQUIRED");
    // A browser that is logged in gets nothing new without a factor.
    let request = AuthorizationRequest::of("app", "openid");
    let reply = ann.open(&request.path()).await.expect(StatusCode::SEE_OTHER);
    assert!(reply.header("location").starts_with("/login/second-factor?"), "{reply:?}");
    let none = ann.open(&request.with("prompt", "none").path()).await;
    AuthorizationResponse::of(none.header("location")).expect_error("login_required");
    let start = ann.open("/session/start").await.expect(StatusCode::SEE_OTHER);
    assert!(start.header("location").starts_with("/login/second-factor?"), "{start:?}");
    let codes = server.device_codes("tv", "openid").await;
    let entered = ann.enter_code(&codes.user).await.expect(StatusCode::SEE_OTHER);
    let reply = ann.open(entered.header("location")).await.expect(StatusCode::SEE_OTHER);
    assert!(reply.header("location").starts_with("/login/second-factor?"), "{reply:?}");
    let decide = [("user_code", codes.user.as_str()), ("decision", "allow"), ("shown", "x")];
    let forced = ann.send(server.request(Method::POST, "/device/confirm").form(&decide)).await;
    assert_ne!(forced.status, StatusCode::OK, "{forced:?}");
    server.poll("tv", &codes).await.expect_oauth_error(400, "authorization_pending");
}
