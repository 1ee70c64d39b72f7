//! Registration and login against attempts to pass for another user.

use std::{collections::HashMap, time::Duration};

use futures_util::future::join_all;
use propusk::storage::Statement;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Backend, PASSWORD, Reply, TestServer, backend_tests};

const REGISTER: &str = "/api/v1/auth/register";
const LOGIN: &str = "/api/v1/auth/login";

/// All messages of a reply about a field, joined.
fn messages_for(reply: &Reply, field: &str) -> String {
    let json = reply.json();
    let details = json["details"].as_array().cloned().unwrap_or_default();
    let of_field = details.iter().filter(|detail| detail["field"] == field);
    let sentences = of_field.map(|detail| detail["message"].as_str().expect("a sentence"));
    sentences.collect::<Vec<_>>().join(" ")
}

/// An error's body without what differs in each.
fn without_id(reply: &Reply) -> Value {
    let mut json = reply.json();
    let id = json.as_object_mut().and_then(|body| body.remove("requestId"));
    assert!(id.is_some(), "{reply:?}");
    json
}

async fn count_created(server: &TestServer) -> usize {
    let events = server.events().await;
    events.iter().filter(|(kind, _)| kind == "user.created").count()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

backend_tests! {
    a_refused_registration_lists_the_broken_rules_per_field,
    t41_500_concurrent_logins_each_get_their_own_user,
    t68_known_and_unknown_users_get_the_same_answer_and_work,
    t69_100_variants_of_one_email_create_one_account,
    t69_100_variants_of_one_username_create_one_account,
    t69_a_username_cannot_be_the_email_of_another_user,
    t71_an_email_with_several_recipients_is_refused,
    t72_disabled_registration_is_off_on_every_transport,
    t73_a_megabyte_password_is_refused_before_hashing,
    t73_passwords_are_not_truncated,
    passwords_are_normalized_and_keep_their_spaces,
    only_a_refused_account_is_a_user_create_error,
    t94_a_database_failure_gives_a_generic_error,
}

async fn a_refused_registration_lists_the_broken_rules_per_field(backend: Backend) {
    let server = TestServer::start(backend).await;
    let cases = [
        ("short", "at least 8 characters"),
        ("password1", "too easy to guess"),
        ("vera.lindqvist@example.org", "Do not use your email address"),
        ("veralindqvist77", "Do not use your email address"),
    ];
    for (password, rule) in cases {
        let body = json!({ "email": "vera.lindqvist@example.org", "username": "veralindqvist77", "password": password });
        let reply = server.post(REGISTER, body).await.expect_error(400, "VALIDATION_ERROR");
        let message = messages_for(&reply, "password");
        assert!(message.contains(rule), "{password}: {message}");
    }
    let body = json!({ "email": "no address", "username": "a b", "password": "short" });
    let reply = server.post(REGISTER, body).await.expect_error(400, "VALIDATION_ERROR");
    assert!(messages_for(&reply, "email").contains("no spaces"), "{reply:?}");
    assert!(messages_for(&reply, "username").contains("letters, digits"), "{reply:?}");
    let message = messages_for(&reply, "password");
    assert!(
        message.contains("at least 8") && message.contains("too easy"),
        "every broken rule: {message}"
    );
    assert_eq!(server.events().await, [], "nothing was kept");
}

async fn t41_500_concurrent_logins_each_get_their_own_user(backend: Backend) {
    let settings = [
        ("PROPUSK_PASSWORDS__QUEUE", "1000"),
        ("PROPUSK_PASSWORDS__QUEUE_TIMEOUT", "60s"),
        ("PROPUSK_DATABASE__ACQUIRE_TIMEOUT", "60s"),
    ];
    let server = TestServer::with(backend, &settings).await;
    let mut ids = HashMap::new();
    for number in 0..25 {
        let name = format!("user{number}");
        let body = json!({ "email": format!("{name}@example.org"), "username": name, "password": PASSWORD });
        let reply = server.post(REGISTER, body).await.expect(StatusCode::CREATED);
        ids.insert(name, reply.json()["data"]["user"]["id"].clone());
    }
    let logins = (0..500).map(|n| {
        let (server, ids) = (&server, &ids);
        async move {
            let name = format!("user{}", n % 25);
            let reply = server.login(&name).await.expect(StatusCode::OK);
            assert_eq!(reply.json()["data"]["user"]["id"], ids[&name], "of the answer");
            let verified =
                server.verify(&reply.tokens().access).await.expect(StatusCode::OK).json();
            assert_eq!(verified["data"]["user"]["id"], ids[&name], "of the access token");
            assert_eq!(verified["data"]["user"]["email"], format!("{name}@example.org"));
            let next = server.refresh(&reply.tokens().refresh).await.expect(StatusCode::OK);
            assert_eq!(next.json()["data"]["user"]["id"], ids[&name], "of the refresh token");
            verified["data"]["sessionId"].as_str().expect("an id").to_owned()
        }
    });
    let mut sessions = join_all(logins).await;
    sessions.sort();
    sessions.dedup();
    assert_eq!(sessions.len(), 500, "a session each");
}

async fn t68_known_and_unknown_users_get_the_same_answer_and_work(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("vera").await;
    let attempt = |login: &'static str| {
        let body = json!({ "login": login, "password": "a guess that is quite wrong" });
        server.post(LOGIN, body)
    };
    for (known, unknown) in [("vera", "nora"), ("vera@example.org", "nora@example.org")] {
        let mut answers = vec![];
        for login in [known, unknown] {
            let before = server.app.hasher.hashes();
            let reply = attempt(login).await.expect_error(401, "INVALID_CREDENTIALS");
            assert_eq!(server.app.hasher.hashes() - before, 1, "{login}: one hash");
            answers.push(reply);
        }
        assert_eq!(without_id(&answers[0]), without_id(&answers[1]));
        assert_eq!(answers[0].text.len(), answers[1].text.len());
        let names = |reply: &Reply| {
            let mut names: Vec<_> = reply.headers.keys().map(ToString::to_string).collect();
            names.sort();
            names
        };
        assert_eq!(names(&answers[0]), names(&answers[1]), "the same headers");
    }
}

async fn t69_100_variants_of_one_email_create_one_account(backend: Backend) {
    let server = TestServer::start(backend).await;
    // Case, full-width forms, the Kelvin sign, surrounding white space.
    let addresses = [
        "kate@example.org",
        "KATE@EXAMPLE.ORG",
        "Kate@example.org",
        " kate@example.org ",
        "\u{ff4b}ate@example.org",
        "\u{212a}ate@example.org",
        "kate@\u{ff45}xample.org",
        "kAtE@eXaMpLe.OrG",
    ];
    let attempts = (0..100).map(|n| {
        let body = json!({ "email": addresses[n % addresses.len()], "password": PASSWORD });
        server.post(REGISTER, body)
    });
    let mut created = 0;
    for reply in join_all(attempts).await {
        if reply.status == StatusCode::CREATED {
            created += 1;
        } else {
            reply.expect_error(409, "EMAIL_ALREADY_EXISTS");
        }
    }
    assert_eq!(created, 1, "exactly one account");
    assert_eq!(count_created(&server).await, 1, "exactly one user.created");
    server.login("KATE@example.ORG").await.expect(StatusCode::OK);
}

async fn t69_100_variants_of_one_username_create_one_account(backend: Backend) {
    let server = TestServer::start(backend).await;
    let names = ["kate", "KATE", "Kate", "\u{ff4b}ate", "\u{212a}ate", " kate "];
    let attempts = (0..100).map(|n| {
        let body = json!({ "email": format!("kate{n}@example.org"), "username": names[n % names.len()], "password": PASSWORD });
        server.post(REGISTER, body)
    });
    let mut created = 0;
    for reply in join_all(attempts).await {
        if reply.status == StatusCode::CREATED {
            created += 1;
        } else {
            reply.expect_error(409, "USERNAME_ALREADY_EXISTS");
        }
    }
    assert_eq!((created, count_created(&server).await), (1, 1), "one account, one event");
}

async fn t69_a_username_cannot_be_the_email_of_another_user(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("vera").await;
    for name in ["vera@example.org", "vera\u{ff20}example.org", "@vera"] {
        let body =
            json!({ "email": "mallory@example.org", "username": name, "password": PASSWORD });
        let reply = server.post(REGISTER, body).await.expect_error(400, "VALIDATION_ERROR");
        assert!(!messages_for(&reply, "username").is_empty(), "{name}: {reply:?}");
    }
    assert_eq!(count_created(&server).await, 1);
}

async fn t71_an_email_with_several_recipients_is_refused(backend: Backend) {
    let server = TestServer::start(backend).await;
    let addresses = [
        "a@x.org,b@evil.org",
        "a@x,b@evil",
        "a@x.org;b@evil.org",
        "a@x.org b@evil.org",
        "a@x@evil.org",
        "a@@x.org",
        "a@x.org\r\nBcc: b@evil.org",
        "a@x.org\nb@evil.org",
        "a@x.org\rb",
        "\"a@x.org\"@evil.org",
        "a@x.org\u{ff20}evil.org",
        "a@x.org\u{ff0c}b",
        "<a@x.org>",
        "A <a@x.org>",
        "a@[127.0.0.1]",
        "a@x.org\u{2028}b",
        "a@x.org\0b",
        "a@x.org\u{85}b",
        "@x.org",
        "a@",
        "a",
        "",
        " ",
        ".a@x.org",
        "a..b@x.org",
        "a@-x.org",
        "a@x..org",
    ];
    for address in addresses {
        let body = json!({ "email": address, "password": PASSWORD });
        let reply = server.post(REGISTER, body).await.expect_error(400, "VALIDATION_ERROR");
        assert!(!messages_for(&reply, "email").is_empty(), "{address:?}: {reply:?}");
    }
    assert_eq!(server.events().await, [], "no user was created");
}

async fn t72_disabled_registration_is_off_on_every_transport(backend: Backend) {
    let server = TestServer::with(backend, &[("PROPUSK_REGISTRATION__MODE", "closed")]).await;
    for path in [REGISTER, "/auth/register"] {
        for delivery in ["body", "cookie"] {
            let body = json!({ "email": "vera@example.org", "username": "vera", "password": PASSWORD, "delivery": delivery });
            let reply = server.post(path, body).await.expect_error(403, "REGISTRATION_DISABLED");
            assert_eq!(reply.header("set-cookie"), "");
        }
    }
    assert_eq!(server.events().await, []);
    assert_eq!(server.app.hasher.hashes(), 0, "nothing was hashed");
    server.login("vera").await.expect_error(401, "INVALID_CREDENTIALS");
}

async fn t73_a_megabyte_password_is_refused_before_hashing(backend: Backend) {
    let server = TestServer::start(backend).await;
    server.register("vera").await;
    let before = server.app.hasher.hashes();
    for length in [1025, 60_000] {
        let password = "x1y2z3 ".repeat(length)[..length].to_owned();
        for (path, name) in [(REGISTER, "nora"), (LOGIN, "vera")] {
            let body = json!({ "email": format!("{name}@example.org"), "password": password });
            let reply = server.post(path, body).await.expect_error(400, "VALIDATION_ERROR");
            assert!(
                messages_for(&reply, "password").contains("at most 1024"),
                "{length}: {}",
                reply.text
            );
            assert!(reply.text.len() < 1000, "it is not repeated");
        }
    }
    for (path, name) in [(REGISTER, "nora"), (LOGIN, "vera")] {
        let password = "x1y2z3 ".repeat(150_000);
        let body = json!({ "email": format!("{name}@example.org"), "password": password });
        server.post(path, body).await.expect_error(413, "PAYLOAD_TOO_LARGE");
    }
    assert_eq!(server.app.hasher.hashes(), before, "nothing was hashed");
    let longest = "seven blue herons at dawn. ".repeat(40)[..1024].to_owned();
    let body = json!({ "email": "nora@example.org", "password": longest });
    server.post(REGISTER, body).await.expect(StatusCode::CREATED);
    assert_eq!(server.app.hasher.hashes(), before + 1, "1024 bytes are a password");
}

async fn t73_passwords_are_not_truncated(backend: Backend) {
    let server = TestServer::start(backend).await;
    for length in [80, 256, 1024] {
        let email = format!("vera{length}@example.org");
        let common = "seven blue herons at dawn. ".repeat(40)[..length - 1].to_owned();
        let attempt = |path: &'static str, last: char| {
            server.post(path, json!({ "email": email, "password": format!("{common}{last}") }))
        };
        attempt(REGISTER, '1').await.expect(StatusCode::CREATED);
        attempt(LOGIN, '2').await.expect_error(401, "INVALID_CREDENTIALS");
        let shorter = json!({ "email": email, "password": common });
        server.post(LOGIN, shorter).await.expect_error(401, "INVALID_CREDENTIALS");
        attempt(LOGIN, '1').await.expect(StatusCode::OK);
    }
}

async fn passwords_are_normalized_and_keep_their_spaces(backend: Backend) {
    let server = TestServer::start(backend).await;
    let body = |password: &str| json!({ "email": "vera@example.org", "password": password });
    server.post(REGISTER, body(" c\u{e9}leste  heron at dawn ")).await.expect(StatusCode::CREATED);
    server.post(LOGIN, body(" ce\u{301}leste  heron at dawn ")).await.expect(StatusCode::OK);
    for other in [
        "c\u{e9}leste  heron at dawn",
        " c\u{e9}leste heron at dawn ",
        " C\u{e9}leste  heron at dawn ",
    ] {
        server.post(LOGIN, body(other)).await.expect_error(401, "INVALID_CREDENTIALS");
    }
}

async fn t94_a_database_failure_gives_a_generic_error(backend: Backend) {
    let server = TestServer::start(backend).await;
    let tokens = server.register("vera").await;
    let alter = |sql: &'static str| server.app.db.write(Statement::new(sql));
    alter("ALTER TABLE users RENAME TO people").await.expect("renamed");
    alter("ALTER TABLE sessions RENAME TO sittings").await.expect("renamed");
    let new = json!({ "email": "nora@example.org", "password": PASSWORD });
    let replies = [
        server.login("vera").await.expect_error(503, "SERVICE_UNAVAILABLE"),
        server.post(REGISTER, new.clone()).await.expect_error(503, "SERVICE_UNAVAILABLE"),
        server.refresh(&tokens.refresh).await.expect_error(503, "SERVICE_UNAVAILABLE"),
        server
            .post_as("/api/v1/auth/logout", &tokens.access)
            .await
            .expect_error(503, "SERVICE_UNAVAILABLE"),
        server
            .get_as("/api/v1/auth/session", &tokens.access)
            .await
            .expect_error(503, "SERVICE_UNAVAILABLE"),
    ];
    for reply in replies {
        let text = reply.text.to_lowercase();
        for inner in [
            "users", "sessions", "table", "relation", "column", "sql", "sqlite", "postgres",
            "database", "insert", "select",
        ] {
            assert!(!text.contains(inner), "{inner:?} in {text}");
        }
    }
    alter("ALTER TABLE sittings RENAME TO sessions").await.expect("renamed");
    alter("ALTER TABLE people RENAME TO users").await.expect("renamed");
    server.login("vera").await.expect(StatusCode::OK);
    server.post(REGISTER, new).await.expect(StatusCode::CREATED);
    server.refresh(&tokens.refresh).await.expect(StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t68_known_and_unknown_users_take_the_same_time() {
    // The bound is generous and the measurement is repeated, because the machine may be busy; a
    // response without the hash would be off by a factor of ten.
    let settings =
        [("PROPUSK_PASSWORDS__MEMORY_KIB", "16384"), ("PROPUSK_PASSWORDS__ITERATIONS", "2")];
    let server = TestServer::with(Backend::Sqlite, &settings).await;
    server.register("vera").await;
    let mut ratios = vec![];
    for _ in 0..5 {
        let mut times = [vec![], vec![]];
        for _ in 0..21 {
            for (login, times) in ["vera", "nora"].into_iter().zip(&mut times) {
                let body = json!({ "login": login, "password": "a guess that is quite wrong" });
                // A real duration: the server's clock stands still.
                #[allow(clippy::disallowed_methods)]
                let started = std::time::Instant::now();
                server.post(LOGIN, body).await.expect_error(401, "INVALID_CREDENTIALS");
                times.push(started.elapsed());
            }
        }
        let [known, unknown] = times.map(median);
        let ratio = known.as_secs_f64() / unknown.as_secs_f64();
        if (0.8..1.25).contains(&ratio) {
            return;
        }
        ratios.push(ratio);
    }
    panic!("known over unknown user, medians: {ratios:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_on_the_blocklist_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("blocklist");
    std::fs::write(&list, "winter festival in tromso\n").expect("a file");
    let list = list.display().to_string();
    let settings = [("PROPUSK_PASSWORDS__BLOCKLIST_FILE", list.as_str())];
    let server = TestServer::with(Backend::Sqlite, &settings).await;
    let body = json!({ "email": "vera@example.org", "password": "Winter Festival in Tromso" });
    let reply = server.post(REGISTER, body).await.expect_error(400, "VALIDATION_ERROR");
    let message = messages_for(&reply, "password");
    assert!(message.contains("list that attackers try first"), "{message}");
}

async fn only_a_refused_account_is_a_user_create_error(backend: Backend) {
    let server = TestServer::start(backend).await;
    let alter = async |sql: &'static str| {
        server.app.db.write(Statement::new(sql)).await.expect(sql);
    };
    let (adding, removing) = match backend {
        Backend::Sqlite => (
            "CREATE TRIGGER rule BEFORE INSERT ON users WHEN NEW.email LIKE '%@example.org' \
             BEGIN SELECT RAISE(ABORT, 'not this one'); END",
            "DROP TRIGGER rule",
        ),
        Backend::Postgres => (
            "ALTER TABLE users ADD CONSTRAINT rule CHECK (email NOT LIKE '%@example.org')",
            "ALTER TABLE users DROP CONSTRAINT rule",
        ),
    };
    let new = json!({ "email": "nora@example.org", "password": PASSWORD });
    // A rule of the operator's.
    alter(adding).await;
    server.post(REGISTER, new.clone()).await.expect_error(400, "USER_CREATE_ERROR");
    alter(removing).await;
    // What the operator has to repair is 503.
    alter("ALTER TABLE outbox RENAME TO lost").await;
    let reply = server.post(REGISTER, new.clone()).await.expect_error(503, "SERVICE_UNAVAILABLE");
    assert_ne!(reply.header("retry-after"), "", "{reply:?}");
    alter("ALTER TABLE lost RENAME TO outbox").await;
    server.post(REGISTER, new).await.expect(StatusCode::CREATED);
}
