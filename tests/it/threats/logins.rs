//! Attacks on logins by password: guessing one, keeping its owner out, finding out who exists.

use std::{collections::HashMap, time::Duration};

use futures_util::future::join_all;
use propusk::{
    error::Error,
    flows::{
        accounts::login,
        admin::{access::Precondition, users},
        maintenance,
    },
    model::actor::Actor,
    storage::Statement,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    code_flow::statements,
    support::{
        Backend, PASSWORD, Reply, TestServer, backend_tests,
        documentation::{Page, run_commands},
        oauth::{AuthorizationRequest, DeviceCodes, device_app, first_party_app},
        send,
    },
};

backend_tests! {
    t61_guesses_share_one_limit_at_all_processes,
    t66_a_disabled_user_is_refused_by_every_grant,
    t67_guesses_elsewhere_do_not_delay_the_owner,
    t86_unknown_logins_share_a_bounded_number_of_rows,
    t215_a_run_of_guesses_tells_no_user_apart,
    t216_too_many_guesses_leave_known_devices_only,
    t217_a_known_device_is_known_for_its_users_only,
    t218_a_run_of_guesses_is_one_audit_entry_and_explained,
    t219_breached_passwords_are_refused_wherever_one_is_set,
    right_passwords_that_open_nothing_are_not_counted,
    a_new_password_makes_devices_and_networks_unknown,
    the_limits_of_the_documentation_are_in_force,
}

const LOGIN: &str = "/api/v1/auth/login";

/// Where somebody logs in who has never done so before.
const ELSEWHERE: &str = "198.51.100.7";

/// Limits, behind a proxy that says where a request comes from.
const LIMITED: [(&str, &str); 4] = [
    ("PROPUSK_LIMITS__ENABLED", "true"),
    ("PROPUSK_LIMITS__ADDRESS_BURST", "10000"),
    ("PROPUSK_PASSWORDS__QUEUE", "1000"),
    ("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.0/8"),
];

fn with<'a>(further: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&LIMITED[..], further].concat()
}

async fn log_in(server: &TestServer, address: &str, login: &str, password: &str) -> Reply {
    let body = json!({ "login": login, "password": password });
    let request = server.request(Method::POST, LOGIN).header("x-forwarded-for", address);
    send(request.json(&body)).await
}

async fn guess(server: &TestServer, login: &str) -> Reply {
    log_in(server, ELSEWHERE, login, "a guess that is wrong").await
}

/// The seconds to wait, as the header and a sentence say.
#[track_caller]
fn delay_of(reply: Reply) -> u64 {
    let reply = reply.expect_error(429, "TOO_MANY_REQUESTS");
    reply.header("retry-after").parse().expect("seconds")
}

async fn count(server: &TestServer, statement: &'static str) -> i64 {
    let rows = server.app.db.read(Statement::new(statement)).await.expect("rows");
    rows[0].get("n").expect("a number")
}

const GUESSES: &str = "SELECT count(*) AS n FROM guesses";

async fn t61_guesses_share_one_limit_at_all_processes(backend: Backend) {
    let server = TestServer::with(backend, &LIMITED).await;
    let other = server.another(&LIMITED).await;
    server.register("vera").await;
    let hashes = || server.app.hasher.hashes() + other.app.hasher.hashes();
    let before = hashes();
    let spellings = [
        "vera",
        "VERA",
        " vera ",
        "vera@example.org",
        "Vera@Example.ORG",
        "ｖera",
        " vera@example.org",
    ];
    let guesses = (0..200).map(|n| {
        let (at, login) = (if n % 2 == 0 { &server } else { &other }, spellings[n % 7]);
        let address = format!("198.51.100.{}", n % 100);
        async move { log_in(at, &address, login, "a wrong guess at it").await.status.as_u16() }
    });
    let mut counts: HashMap<u16, u64> = HashMap::new();
    for status in join_all(guesses).await {
        *counts.entry(status).or_default() += 1;
    }
    // Five, and one of each process that was checked before it counted.
    assert!((5..=7).contains(&counts[&401]), "{counts:?}");
    assert_eq!(counts[&401] + counts[&429], 200, "{counts:?}");
    assert_eq!(hashes() - before, counts[&401], "no further password was checked");
    // Each process knows what the other has counted.
    let waits = [delay_of(guess(&server, "vera").await), delay_of(guess(&other, "vera").await)];
    assert_eq!(waits[0], waits[1]);
}

async fn t67_guesses_elsewhere_do_not_delay_the_owner(backend: Backend) {
    let server = TestServer::with(backend, &LIMITED).await;
    server.register("ann").await;
    // A phone, which moves between networks.
    let mut phone = server.browser();
    let page = phone.open("/login").await;
    let typed = [("login", "ann"), ("password", PASSWORD)];
    phone
        .submit_with(&page, &typed, ("x-forwarded-for", "192.0.2.9"))
        .await
        .expect(StatusCode::SEE_OTHER);
    phone.cookies.remove("propusk_session");

    for _ in 0..5 {
        guess(&server, "ann").await.expect_error(401, "INVALID_CREDENTIALS");
    }
    let mut waits = vec![];
    for _ in 0..12 {
        // Nothing counts while nothing is checked, and the delay does not grow by asking.
        let wait = delay_of(guess(&server, "ann").await);
        assert_eq!(delay_of(guess(&server, "ann@example.org").await), wait);
        waits.push(wait);
        server.clock.advance(Duration::from_secs(wait));
        guess(&server, "ann").await.expect_error(401, "INVALID_CREDENTIALS");
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);

    // The owner gets in at once from a known network, and with a known device from anywhere.
    log_in(&server, "127.0.0.1", "ann", PASSWORD).await.expect(StatusCode::OK);
    let page = phone.open("/login").await;
    phone
        .submit_with(&page, &typed, ("x-forwarded-for", "203.0.113.5"))
        .await
        .expect(StatusCode::SEE_OTHER);
    // That does not help the attacker.
    assert_eq!(delay_of(guess(&server, "ann").await), 900);
    // At a new device in a new network the owner waits no longer than that, and reads how long.
    let mut new = server.browser();
    let page = new.open("/login").await;
    let reply = new.submit_with(&page, &typed, ("x-forwarded-for", "203.0.113.77")).await;
    let reply = reply.expect_page(429);
    assert_eq!(reply.header("retry-after"), "900");
    let text = reply.text.replace(['\u{2068}', '\u{2069}'], "");
    assert!(text.contains("Try again in 15 minutes."), "{text}");
    server.clock.advance(Duration::from_secs(900));
    log_in(&server, "203.0.113.77", "ann", PASSWORD).await.expect(StatusCode::OK);
    assert_eq!(count(&server, GUESSES).await, 0, "a success forgets");

    // A known network counts for itself, and is as limited.
    for _ in 0..5 {
        let reply = log_in(&server, "203.0.113.77", "ann", "a guess that is wrong").await;
        reply.expect_error(401, "INVALID_CREDENTIALS");
    }
    assert_eq!(delay_of(log_in(&server, "203.0.113.77", "ann", PASSWORD).await), 1);
    guess(&server, "ann").await.expect_error(401, "INVALID_CREDENTIALS");
    // After a quiet day as many are free as at first.
    server.clock.advance(Duration::from_secs(24 * 3600));
    for _ in 0..5 {
        guess(&server, "ann").await.expect_error(401, "INVALID_CREDENTIALS");
    }
    assert_eq!(delay_of(guess(&server, "ann").await), 1);
    // In the end nothing is left of them.
    server.clock.advance(Duration::from_secs(91 * 24 * 3600));
    maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(count(&server, GUESSES).await, 0);
    assert_eq!(count(&server, "SELECT count(*) AS n FROM known_sources").await, 0);
}

async fn t66_a_disabled_user_is_refused_by_every_grant(backend: Backend) {
    let server = TestServer::with(backend, &LIMITED).await;
    server.client("app", first_party_app()).await;
    server.client("tv", device_app()).await;
    let tokens = server.register("ann").await;
    let mut browser = server.logged_in("ann").await;
    let request = AuthorizationRequest::of("app", "openid offline_access");
    let code = browser.authorize(&request, "ann").await.code().to_owned();
    let used = browser.authorize(&request, "ann").await.code().to_owned();
    let refresh = server.exchange_code("app", &used).await.expect(StatusCode::OK);
    let refresh = refresh.json()["refresh_token"].as_str().expect("a token").to_owned();
    let codes: DeviceCodes = server.device_codes("tv", "openid").await;
    browser.decide(&codes, "allow").await;

    let ann = users::find(&server.app, "ann").await.expect("known");
    users::disable(&server.app, &ann.id, &Actor::operator()).await.expect("disabled");
    // As an unknown user or a wrong password.
    let disabled = server.login("ann").await.expect_error(401, "INVALID_CREDENTIALS");
    let unknown = server.login("nobody").await.expect_error(401, "INVALID_CREDENTIALS");
    assert_eq!(body(&disabled), body(&unknown));
    server.refresh(&tokens.refresh).await.expect(StatusCode::UNAUTHORIZED);
    server.verify(&tokens.access).await.expect(StatusCode::UNAUTHORIZED);
    server.exchange_code("app", &code).await.expect_oauth_error(400, "invalid_grant");
    server.refresh_as("app", &refresh).await.expect_oauth_error(400, "invalid_grant");
    let polled = server.poll("tv", &codes).await.expect(StatusCode::BAD_REQUEST);
    assert_ne!(polled.json()["error"], "authorization_pending", "{polled:?}");
    // The browser is logged out.
    let reply = browser.open(&request.path()).await.expect(StatusCode::SEE_OTHER);
    assert!(reply.header("location").contains("/login"), "{reply:?}");
    let page = browser.open("/login").await;
    let typed = [("login", "ann"), ("password", PASSWORD)];
    browser.submit(&page, &typed).await.expect_page(400);
}

fn body(reply: &Reply) -> Value {
    let mut body = reply.json();
    let object = body.as_object_mut().expect("an object");
    object.retain(|name, _| name != "requestId");
    if let Some(error) = object.get_mut("error").and_then(Value::as_object_mut) {
        error.remove("requestId");
    }
    body
}

async fn t86_unknown_logins_share_a_bounded_number_of_rows(backend: Backend) {
    let settings = with(&[("PROPUSK_LIMITS__TRACKED", "20")]);
    let server = TestServer::with(backend, &settings).await;
    server.register("ann").await;
    for _ in 0..5 {
        guess(&server, "ann").await.expect_error(401, "INVALID_CREDENTIALS");
    }
    for hundred in 0..3 {
        let guesses = (0..100).map(|n| {
            let (server, login) = (&server, format!("nobody{hundred}x{n}"));
            async move { guess(server, &login).await }
        });
        for reply in join_all(guesses).await {
            reply.expect_error(401, "INVALID_CREDENTIALS");
        }
    }
    let rows = count(&server, GUESSES).await;
    assert!((2..=21).contains(&rows), "{rows}");
    // None of them has displaced what is counted for a user.
    assert_eq!(delay_of(guess(&server, "ann").await), 1);
}

async fn t215_a_run_of_guesses_tells_no_user_apart(backend: Backend) {
    let settings = with(&[("PROPUSK_LOGIN__MAX_WRONG_PASSWORDS", "9")]);
    let server = TestServer::with(backend, &settings).await;
    let other = server.another(&settings).await;
    server.register("ann").await;
    server.register("zoe").await;
    let mut seen: Vec<Vec<(u16, String, Value)>> = vec![];
    // Before, between and after the others in the index, and disabled.
    let eve = server.register("eve").await;
    drop(eve);
    let id = users::find(&server.app, "eve").await.expect("known").id;
    users::disable(&server.app, &id, &Actor::operator()).await.expect("disabled");
    for login in ["ann", "zoe@example.org", "eve", "aaa", "mary", "zzz", "zzz@example.org"] {
        let mut answers = vec![];
        for n in 0..24 {
            let at = if n % 3 == 0 { &other } else { &server };
            let reply = guess(at, login).await;
            let wait = reply.header("retry-after").to_owned();
            if n % 2 == 1 {
                server.clock.advance(Duration::from_secs(wait.parse().unwrap_or(0)));
            }
            answers.push((reply.status.as_u16(), wait, body(&reply)));
        }
        seen.push(answers);
    }
    let statuses: Vec<u16> = seen[0].iter().map(|answer| answer.0).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 9, "{statuses:?}");
    for (n, answers) in seen.iter().enumerate() {
        assert_eq!(answers, &seen[0], "login {n}");
    }
}

async fn t216_too_many_guesses_leave_known_devices_only(backend: Backend) {
    let settings = with(&[
        ("PROPUSK_LOGIN__MAX_WRONG_PASSWORDS", "12"),
        ("PROPUSK_LOGIN__FORGET_AFTER", "1h"),
    ]);
    let server = TestServer::with(backend, &settings).await;
    server.register("ann").await;
    // However slow: each comes after the time in which the delays are forgotten.
    for _ in 0..12 {
        guess(&server, "ann").await.expect_error(401, "INVALID_CREDENTIALS");
        server.clock.advance(Duration::from_secs(3600));
    }
    for _ in 0..3 {
        let wait = delay_of(log_in(&server, ELSEWHERE, "ann", PASSWORD).await);
        assert_eq!(wait, 900, "the right password is not checked either");
        server.clock.advance(Duration::from_secs(24 * 3600));
    }
    // At home the owner is as before; then a new device is let in again.
    log_in(&server, "127.0.0.1", "ann", PASSWORD).await.expect(StatusCode::OK);
    log_in(&server, ELSEWHERE, "ann", PASSWORD).await.expect(StatusCode::OK);
    // Or there is a new password.
    for n in 0..12 {
        let reply = log_in(&server, &format!("203.0.113.{n}"), "ann", "a wrong guess").await;
        reply.expect_error(401, "INVALID_CREDENTIALS");
        server.clock.advance(Duration::from_secs(3600));
    }
    delay_of(log_in(&server, "203.0.113.1", "ann", PASSWORD).await);
    let id = users::find(&server.app, "ann").await.expect("known").id;
    let new = "eleven grey cranes at dusk";
    users::set_password(&server.app, &id, new, &Actor::operator()).await.expect("set");
    log_in(&server, "203.0.113.1", "ann", new).await.expect(StatusCode::OK);
}

async fn right_passwords_that_open_nothing_are_not_counted(backend: Backend) {
    let server = TestServer::with(backend, &LIMITED).await;
    let ann = server.register("ann").await;
    server.register("bob").await;
    for _ in 0..4 {
        guess(&server, "ann").await.expect_error(401, "INVALID_CREDENTIALS");
    }
    for _ in 0..8 {
        let body = json!({ "login": "ann", "username": "bob", "password": PASSWORD });
        let request = server.request(Method::POST, LOGIN).header("x-forwarded-for", ELSEWHERE);
        send(request.json(&body)).await.expect_error(400, "VALIDATION_ERROR");
    }
    server.post_as("/api/v1/account/deletion", &ann.access).await.expect(StatusCode::OK);
    for _ in 0..4 {
        guess(&server, "ann").await.expect_error(401, "INVALID_CREDENTIALS");
    }
    for _ in 0..8 {
        let reply = log_in(&server, ELSEWHERE, "ann", PASSWORD).await;
        reply.expect_error(403, "ACCOUNT_DELETION_PENDING");
    }
    // A back end learns nothing of the deletion: the right password is as a wrong one.
    let back_end = Actor::service("back-end", None);
    let verify =
        async || login::verify_password(&server.app, "ann", PASSWORD, None, &back_end).await;
    for _ in 0..5 {
        assert!(matches!(verify().await, Err(Error::InvalidCredentials)));
    }
    assert!(matches!(verify().await, Err(Error::TooMany(_))));
}

async fn a_new_password_makes_devices_and_networks_unknown(backend: Backend) {
    const KNOWN: &str = "SELECT count(*) AS n FROM known_sources";
    let server = TestServer::with(backend, &LIMITED).await;
    server.register("ann").await;
    log_in(&server, ELSEWHERE, "ann", PASSWORD).await.expect(StatusCode::OK);
    assert_eq!(count(&server, KNOWN).await, 2);
    // By the owner, at home.
    let ann = server.login("ann").await.tokens();
    let new = "eleven grey cranes at dusk";
    let body = json!({ "currentPassword": PASSWORD, "newPassword": new });
    let changed = server.post_json_as("/api/v1/account/password", &ann.access, body).await;
    changed.expect(StatusCode::OK);
    assert_eq!(count(&server, KNOWN).await, 1);
    // By an operator.
    let id = users::find(&server.app, "ann").await.expect("known").id;
    users::set_password(&server.app, &id, PASSWORD, &Actor::operator()).await.expect("set");
    assert_eq!(count(&server, KNOWN).await, 0);
}

async fn t217_a_known_device_is_known_for_its_users_only(backend: Backend) {
    let server = TestServer::with(backend, &LIMITED).await;
    server.register("ann").await;
    server.register("mallory").await;
    let mut browser = server.browser();
    let from = ("x-forwarded-for", ELSEWHERE);
    let typed = [("login", "mallory"), ("password", PASSWORD)];
    let page = browser.open("/login").await;
    browser.submit_with(&page, &typed, from).await.expect(StatusCode::SEE_OTHER);
    let device = browser.cookies["propusk_device"].clone();
    browser.cookies.remove("propusk_session");
    for _ in 0..5 {
        guess(&server, "ann").await.expect_error(401, "INVALID_CREDENTIALS");
    }
    // Mallory's device, a made-up one, and the hash that the database has.
    let hash = propusk::model::device::hash(&device);
    for cookie in [device.clone(), "A".repeat(43), hash] {
        browser.cookies.insert("propusk_device".to_owned(), cookie);
        let page = browser.open("/login").await;
        let typed = [("login", "ann"), ("password", PASSWORD)];
        browser.submit_with(&page, &typed, from).await.expect_page(429);
    }
    // The cookie opens nothing, stays the same, and is not in the database.
    let mut bare = server.browser();
    bare.cookies.insert("propusk_device".to_owned(), device.clone());
    let page = bare.open("/login").await.expect_page(200);
    assert!(page.text.contains("name=\"password\""));
    let typed = [("login", "mallory"), ("password", PASSWORD)];
    bare.submit_with(&page, &typed, ("x-forwarded-for", "192.0.2.44"))
        .await
        .expect(StatusCode::SEE_OTHER);
    assert_eq!(bare.cookies["propusk_device"], device);
    let statement = Statement::new("SELECT count(*) AS n FROM known_sources WHERE source LIKE $1");
    let rows = server.app.db.read(statement.bind(format!("%{device}%"))).await.expect("rows");
    assert_eq!(rows[0].get::<i64>("n").expect("a number"), 0);
    // What is known of a user goes with the user.
    for name in ["ann", "mallory"] {
        let id = users::find(&server.app, name).await.expect("known").id;
        users::delete(&server.app, &id, &Precondition::Any, &Actor::operator())
            .await
            .expect("deleted");
    }
    assert_eq!(count(&server, GUESSES).await, 0);
    assert_eq!(count(&server, "SELECT count(*) AS n FROM known_sources").await, 0);
}

async fn t218_a_run_of_guesses_is_one_audit_entry_and_explained(backend: Backend) {
    let settings = with(&[("PROPUSK_LOGIN__MAX_WRONG_PASSWORDS", "8")]);
    let server = TestServer::with(backend, &settings).await;
    server.register("ann").await;
    let mut last = guess(&server, "ann").await;
    for _ in 0..12 {
        let wait: u64 = last.header("retry-after").parse().unwrap_or(0);
        server.clock.advance(Duration::from_secs(wait));
        last = guess(&server, "ann").await;
    }
    let of = async |action: &str| {
        let statement = Statement::new("SELECT subject, actor FROM audit_log WHERE action = $1");
        let rows = server.app.db.read(statement.bind(action)).await.expect("rows");
        let text =
            |row: &propusk::storage::Row, column| row.get::<Option<String>>(column).expect("text");
        rows.iter().map(|row| (text(row, "subject"), text(row, "actor"))).collect::<Vec<_>>()
    };
    let id = users::find(&server.app, "ann").await.expect("known").id;
    let entry = (Some(id.into()), Some("anonymous".to_owned()));
    assert_eq!(of("login.delayed").await, std::slice::from_ref(&entry));
    assert_eq!(of("login.blocked").await, [entry]);
    let request = last.header("x-request-id").to_owned();
    let admin = server.admin("root").await;
    let explained = admin.get(&format!("/explain/{request}")).await;
    let text = explained.expect(StatusCode::OK).text;
    for expected in ["login.max_wrong_passwords", "login.source", "unknown"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let metrics = server.app.metrics.render();
    for line in
        ["propusk_login_delays_total 2", "propusk_rate_limited_total{limit=\"login_account\"}"]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

async fn t219_breached_passwords_are_refused_wherever_one_is_set(backend: Backend) {
    let folder = tempfile::tempdir().expect("a folder");
    let breached = "winter festival in tromso";
    let hash = openssl::sha::sha1(breached.as_bytes());
    let hash: String = hash.iter().map(|byte| format!("{byte:02X}")).collect();
    let file = folder.path().join(format!("{}.txt", &hash[..5]));
    std::fs::write(&file, format!("{}:1\r\n{}:42\r\n", "0".repeat(35), &hash[5..]))
        .expect("a file");
    let path = folder.path().display().to_string();
    let settings = [("PROPUSK_PASSWORDS__BREACHED_FOLDER", path.as_str())];
    let server = TestServer::with(backend, &settings).await;
    const REGISTER: &str = "/api/v1/auth/register";
    let new = json!({ "email": "vera@example.org", "password": breached });
    let refused = server.post(REGISTER, new.clone()).await.expect_error(400, "VALIDATION_ERROR");
    assert!(refused.text.contains("appeared in a data breach"), "{refused:?}");
    // Of a user who has another one. Passwords that are not in the folder's files are accepted.
    server.register("ann").await;
    let id = users::find(&server.app, "ann").await.expect("known").id;
    let error = users::set_password(&server.app, &id, breached, &Actor::operator()).await;
    let error = error.expect_err("breached");
    assert!(format!("{error:?}").contains("appeared in a data breach"), "{error:?}");
    // Logins do not read the folder: it may change while the server runs.
    std::fs::remove_file(&file).expect("removed");
    server.login("ann").await.expect(StatusCode::OK);
    server.post(REGISTER, new).await.expect(StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn a_login_without_wrong_guesses_takes_no_statement_more() {
    let server = TestServer::with(Backend::Postgres, &LIMITED).await;
    let extension = Statement::new("CREATE EXTENSION IF NOT EXISTS pg_stat_statements");
    server.app.db.write(extension).await.expect("pg_stat_statements, which ./dev/test loads");
    server.register("ann").await;
    let mut least = i64::MAX;
    for _ in 0..6 {
        let before = statements(&server).await;
        server.login("ann").await.expect(StatusCode::OK);
        least = least.min(statements(&server).await - before);
    }
    // The user with the guesses; modules; the login, the session, the event and the audit entry.
    assert_eq!(least, 2 + 4);
    assert_eq!(count(&server, GUESSES).await, 0);
}

async fn the_limits_of_the_documentation_are_in_force(backend: Backend) {
    let page = Page::read("docs/login-protection.md");
    let server = TestServer::with(backend, &LIMITED).await;
    server.register("ann").await;
    let commands = page.block("six wrong passwords").replace("http://localhost:8080", &server.base);
    assert!(commands.contains(&server.base));
    assert_eq!(run_commands(&server, &commands), page.block("answers"));
}
