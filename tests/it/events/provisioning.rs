//! The user service: it creates a profile for each account, and may refuse one.

use std::time::Duration;

use propusk::{
    flows::{
        admin::{access::Precondition, users},
        maintenance,
        provisioning::{self, Outcome, ServiceReply},
    },
    ids::UserId,
    model::{
        actor::Actor,
        saga::{Saga, SagaState},
        user::Role,
    },
    storage::{Statement, sagas},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    Backend, Database, PASSWORD, TestServer, backend_tests,
    kafka::{Reader, Received, Topics, UserService, create_topic, produce, shared_broker},
    process,
};

backend_tests! {
    requires "Kafka":
    a_profile_is_created_or_the_account_is_deleted,
    t165_late_forged_or_replayed_refusals_delete_no_account,
    t166_unreadable_messages_are_set_aside,
    an_account_whose_profile_is_not_confirmed_is_deleted,
    t168_confirmations_of_others_confirm_nothing,
    events_are_listed_and_published_again_by_command,
    with_grpc_no_profile_is_requested_by_kafka,
}

backend_tests! {
    a_saga_ends_when_its_time_has_passed,
    refusals_at_once_delete_an_account_once,
    every_way_to_create_an_account_opens_a_saga,
}

/// The settings of servers with a user service.
fn with_user_service<'a>(topics: &'a Topics, broker: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut settings = topics.settings(broker);
    settings.push(("PROPUSK_USER_SERVICE__MODE", "kafka"));
    settings
}

/// The same, where nobody listens.
const UNREACHABLE: [(&str, &str); 2] =
    [("PROPUSK_KAFKA__BROKERS", "127.0.0.1:1"), ("PROPUSK_USER_SERVICE__MODE", "kafka")];

async fn id_of(server: &TestServer, name: &str) -> UserId {
    users::find(&server.app, name).await.expect("a user").id
}

async fn saga_of(server: &TestServer, id: &UserId) -> Saga {
    sagas::of_user(&server.app.db, id).await.expect("the database").expect("a saga")
}

async fn exists(server: &TestServer, id: &UserId) -> bool {
    users::by_id(&server.app, id).await.is_ok()
}

/// Polls: the server consumes by itself.
async fn wait_until_gone(server: &TestServer, id: &UserId) {
    for _ in 0..1_200 {
        if !exists(server, id).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the account is still there after a minute");
}

async fn a_profile_is_created_or_the_account_is_deleted(backend: Backend) {
    let (broker, topics) = (shared_broker(), Topics::new());
    let server = TestServer::with(backend, &with_confirmations(&topics, &broker)).await;
    let other = server.another(&with_confirmations(&topics, &broker)).await;
    let mut service = UserService::start(&broker, &topics, "refused.example");

    server.register("ann").await;
    let ann = id_of(&server, "ann").await;
    let created = service.next().await;
    assert_eq!(created["created"], json!(ann));
    let profile =
        json!({ "username": "ann", "email": "ann@example.org", "since": "2026-11-21T00:00:00Z" });
    assert_eq!(created["profile"], profile);

    let body = json!({ "email": "bob@refused.example", "username": "bob", "password": PASSWORD });
    let reply = server.post("/api/v1/auth/register", body.clone()).await;
    let tokens = reply.expect(StatusCode::CREATED).tokens();
    let refused = service.next().await;
    let bob = UserId::from(refused["refused"].as_str().expect("an id"));
    wait_until_gone(&server, &bob).await;
    for server in [&server, &other] {
        server.verify(&tokens.access).await.expect_error(401, "INVALID_TOKEN");
        let reply = server.refresh(&tokens.refresh).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{reply:?}");
    }
    assert_eq!(server.login("bob").await.status, StatusCode::UNAUTHORIZED);

    // What others are told, under the correlation id of the registration.
    let mut reader = Reader::start(&broker, &[&topics.events, &topics.user_create]);
    let of_bob = |messages: &[Received], topic: &str| -> Vec<Received> {
        let of_bob =
            |one: &&Received| one.topic == topic && one.key.as_deref() == Some(bob.as_str());
        messages.iter().filter(of_bob).cloned().collect()
    };
    let is_told = |messages: &[Received]| {
        let deleted = |one: &Received| one.json()["type"] == "user.deleted";
        of_bob(messages, &topics.events).iter().any(deleted)
            && of_bob(messages, &topics.user_create).len() == 2
    };
    let messages = reader.until(is_told).await;
    let events = of_bob(messages, &topics.events);
    let of_kind = |kind: &str| {
        let found = events.iter().map(Received::json).find(|event| event["type"] == kind);
        found.unwrap_or_else(|| panic!("no {kind}: {events:?}"))
    };
    let (begun, deleted) = (of_kind("user.created"), of_kind("user.deleted"));
    let correlation = &begun["correlationid"];
    assert!(correlation.is_string());
    assert_eq!(&deleted["correlationid"], correlation);
    let data = json!({ "userId": bob, "reason": "compensated", "correlationId": correlation });
    assert_eq!(deleted["data"], data);
    let requests = of_bob(messages, &topics.user_create);
    let saga = saga_of(&server, &bob).await;
    assert_eq!(requests[0].json()["sagaId"], json!(saga.id));
    assert_eq!(requests[0].json()["correlationId"], *correlation);
    assert_eq!(requests[1].value, None, "a tombstone");

    // The states.
    assert_eq!(saga.state, SagaState::Compensated);
    assert!(saga.closed_at.is_some());
    until_state(&server, &ann, SagaState::Closed).await;
    let entry = "SELECT detail, correlation_id FROM audit_log WHERE action = 'user.compensated'";
    let rows = server.app.db.read(Statement::new(entry)).await.expect("the audit log");
    assert_eq!(rows.len(), 1);
    let detail: String = rows[0].get("detail").expect("a detail");
    let detail: Value = serde_json::from_str(&detail).expect("JSON");
    assert_eq!(detail, json!({ "reason": "email domain refused", "sagaId": saga.id }));
    assert_eq!(json!(rows[0].get::<String>("correlation_id").expect("an id")), *correlation);

    // The names are free again.
    let again = server.post("/api/v1/auth/register", body).await;
    again.expect(StatusCode::CREATED);
}

async fn t165_late_forged_or_replayed_refusals_delete_no_account(backend: Backend) {
    let (broker, topics) = (shared_broker(), Topics::new());
    let server = TestServer::with(backend, &with_user_service(&topics, &broker)).await;
    server.register("late").await;
    let late = id_of(&server, "late").await;
    server.clock.advance(Duration::from_secs(24 * 3_600));
    for name in ["root", "eve", "joe"] {
        server.register(name).await;
    }
    let (root, eve, joe) =
        (id_of(&server, "root").await, id_of(&server, "eve").await, id_of(&server, "joe").await);
    let operator = Actor::operator();
    users::set_role(&server.app, &root, Role::admin(), &operator).await.expect("an administrator");
    let other_saga = saga_of(&server, &joe).await.id;

    let close = |key: &str, value: Value| {
        let value = value.to_string();
        json!({ "topic": topics.user_create_close, "key": key, "value": value })
    };
    let rejected = [
        close(&late, json!({ "id": late, "reason": "late" })),
        close(&root, json!({ "id": root })),
        close(&eve, json!({ "id": eve, "sagaId": other_saga })),
        close("x", json!({ "id": "nobody" })),
    ];
    let accepted = close(&joe, json!({ "userId": joe, "sagaId": other_saga, "more": [1] }));
    let mut all = rejected.to_vec();
    all.extend([accepted.clone(), accepted]);
    produce(&broker, &all).await;
    wait_until_gone(&server, &joe).await;

    let mut reader = Reader::start(&broker, &[&topics.dead_letter]);
    let dead = reader.until(|messages| messages.len() == rejected.len()).await.to_vec();
    for id in [&late, &root, &eve] {
        assert!(exists(&server, id).await, "{id}");
    }
    for (key, why) in [
        (late.as_str(), "kafka.close_window has passed"),
        (root.as_str(), "the account is an administrator's"),
        (eve.as_str(), "the saga is another one"),
        ("x", "the account was not created for the user service"),
    ] {
        let dead = dead.iter().find(|one| one.key.as_deref() == Some(key));
        let dead = dead.unwrap_or_else(|| panic!("no dead letter of {key}"));
        assert_eq!(dead.headers["error"], why);
        assert_eq!(dead.headers["topic"], topics.user_create_close);
        assert!(dead.headers["offset"].parse::<i64>().is_ok());
        assert!(dead.headers["partition"].parse::<i32>().is_ok());
    }
    let entries = "SELECT subject FROM audit_log WHERE action = 'user.refusal_rejected'";
    let rows = server.app.db.read(Statement::new(entries)).await.expect("the audit log");
    assert_eq!(rows.len(), rejected.len());
    // Nothing that comes later is older: a refusal that is sent again has no effect.
    let refusal = ServiceReply {
        user_id: joe.clone(),
        saga_id: Some(other_saga),
        reason: None,
        correlation_id: None,
    };
    let again = provisioning::compensate(&server.app, &refusal).await.expect("an outcome");
    assert_eq!(again, Outcome::AlreadyDone);
}

async fn t166_unreadable_messages_are_set_aside(backend: Backend) {
    let (broker, topics) = (shared_broker(), Topics::new());
    let server = TestServer::with(backend, &with_user_service(&topics, &broker)).await;
    server.register("ann").await;
    let ann = id_of(&server, "ann").await;
    let values =
        ["close", "[]", "{", "null", r#"{"specversion":"1.0","id":"e"}"#, "\u{0}\u{1b}[2J"];
    let key = ann.as_str();
    let message = |value: &str| {
        let headers = json!({ "own": "kept" });
        json!({ "topic": topics.user_create_close, "key": key, "value": value, "headers": headers })
    };
    let mut messages: Vec<Value> = values.iter().map(|value| message(value)).collect();
    messages.push(json!({ "topic": topics.user_create_close, "key": key, "value": null }));
    let unreadable = messages.len();
    // One key is one partition: this one is read after all of them.
    let event = json!({
        "specversion": "1.0", "type": "user.create.close", "source": "/users", "id": "7",
        "data": { "user_id": ann, "reason": "no" },
    });
    messages.push(message(&event.to_string()));
    produce(&broker, &messages).await;
    wait_until_gone(&server, &ann).await;
    let mut reader = Reader::start(&broker, &[&topics.dead_letter]);
    let dead = reader.until(|messages| messages.len() >= unreadable).await;
    assert_eq!(dead.len(), unreadable);
    for (at, value) in values.iter().enumerate() {
        assert_eq!(dead[at].value.as_deref(), Some(*value));
        assert_eq!(dead[at].headers["own"], "kept");
        assert_eq!(dead[at].headers["offset"], at.to_string());
        assert!(!dead[at].headers["error"].is_empty());
    }
}

/// With a user service that confirms profiles, for which the server waits an hour.
fn with_confirmations<'a>(topics: &'a Topics, broker: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut settings = with_user_service(topics, broker);
    settings.push(("PROPUSK_USER_SERVICE__ON_DEADLINE", "compensate"));
    settings.push(("PROPUSK_USER_SERVICE__DEADLINE", "1h"));
    settings
}

const HOUR: Duration = Duration::from_secs(3_600);

/// Polls until the saga of a user is in this state.
async fn until_state(server: &TestServer, id: &UserId, state: SagaState) {
    for _ in 0..1_200 {
        if saga_of(server, id).await.state == state {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the saga is not {state:?} after a minute");
}

async fn an_account_whose_profile_is_not_confirmed_is_deleted(backend: Backend) {
    let (broker, topics) = (shared_broker(), Topics::new());
    // Registered while Kafka is away: the time begins with the announcement.
    let mut away = with_confirmations(&topics, &broker);
    away.retain(|(name, _)| *name != "PROPUSK_KAFKA__BROKERS");
    away.push(("PROPUSK_KAFKA__BROKERS", "127.0.0.1:1"));
    let first = TestServer::with(backend, &away).await;
    for name in ["ann", "bob", "root"] {
        first.register(name).await;
    }
    first.clock.advance(HOUR);
    maintenance::sweep(&first.app).await.expect("swept");
    let server = first.another(&with_confirmations(&topics, &broker)).await;
    first.stop().await;
    let id = async |name: &str| id_of(&server, name).await;
    let (ann, bob, root) = (id("ann").await, id("bob").await, id("root").await);
    users::set_role(&server.app, &root, Role::admin(), &Actor::operator()).await.expect("changed");
    for id in [&ann, &bob, &root] {
        until_state(&server, id, SagaState::Published).await;
    }
    let done = json!({ "id": ann, "sagaId": saga_of(&server, &ann).await.id }).to_string();
    let done = json!({ "topic": topics.user_create_done, "key": ann, "value": done });
    produce(&broker, &[done.clone(), done]).await;
    until_state(&server, &ann, SagaState::Closed).await;

    server.clock.advance(HOUR - Duration::from_secs(1));
    maintenance::sweep(&server.app).await.expect("swept");
    assert!(exists(&server, &bob).await, "the time has not passed");
    server.clock.advance(Duration::from_secs(1));
    maintenance::sweep(&server.app).await.expect("swept");
    assert!(exists(&server, &ann).await && exists(&server, &root).await);
    assert!(!exists(&server, &bob).await);
    assert_eq!(saga_of(&server, &bob).await.state, SagaState::Compensated);
    assert_eq!(saga_of(&server, &root).await.state, SagaState::Closed);
    let mut reader = Reader::start(&broker, &[&topics.user_create, &topics.events]);
    let is_of_bob = |one: &&Received| one.key.as_deref() == Some(bob.as_str());
    let is_told = |messages: &[Received]| {
        let mut of_bob = messages.iter().filter(is_of_bob);
        of_bob.clone().any(|one| one.value.is_none())
            && of_bob.any(|one| one.value.is_some() && one.json()["type"] == "user.deleted")
    };
    let messages = reader.until(is_told).await;
    let tombstones = messages.iter().filter(|one| one.value.is_none());
    assert_eq!(tombstones.count(), 1);
    let deleted = messages.iter().filter(is_of_bob).filter(|one| one.value.is_some());
    let deleted = deleted.map(Received::json).find(|event| event["type"] == "user.deleted");
    assert_eq!(deleted.expect("an event")["data"]["reason"], "compensated");
    let entry = "SELECT detail FROM audit_log WHERE action = 'user.compensated'";
    let rows = server.app.db.read(Statement::new(entry)).await.expect("the audit log");
    assert_eq!(rows.len(), 1);
    let detail: String = rows[0].get("detail").expect("a detail");
    assert!(detail.contains("no profile in time"), "{detail}");
}

async fn t168_confirmations_of_others_confirm_nothing(backend: Backend) {
    let (broker, topics) = (shared_broker(), Topics::new());
    let server = TestServer::with(backend, &with_confirmations(&topics, &broker)).await;
    for name in ["ann", "bob"] {
        server.register(name).await;
    }
    let (ann, bob) = (id_of(&server, "ann").await, id_of(&server, "bob").await);
    until_state(&server, &ann, SagaState::Published).await;
    until_state(&server, &bob, SagaState::Published).await;
    let operator = Actor::operator();
    users::delete(&server.app, &bob, &Precondition::Any, &operator).await.expect("deleted");
    let other_saga = saga_of(&server, &bob).await.id;
    let done = |key: &str, value: Value| json!({ "topic": topics.user_create_done, "key": key, "value": value.to_string() });
    let rejected = [
        done("1", json!({ "id": ann, "sagaId": other_saga })),
        done("2", json!({ "id": bob, "sagaId": other_saga })),
        done("3", json!({ "id": "nobody" })),
        done("4", json!([])),
    ];
    produce(&broker, &rejected).await;
    let mut reader = Reader::start(&broker, &[&topics.dead_letter]);
    let dead = reader.until(|messages| messages.len() == rejected.len()).await;
    let why = |key: &str| {
        let found = dead.iter().find(|one| one.key.as_deref() == Some(key));
        found.map(|one| one.headers["error"].clone())
    };
    assert_eq!(why("1").as_deref(), Some("the saga is another one"));
    assert_eq!(why("2").as_deref(), Some("the account is deleted"));
    assert_eq!(why("3").as_deref(), Some("the account was not created for the user service"));
    assert_eq!(why("4").as_deref(), Some("the value is not a JSON object"));
    assert_eq!(saga_of(&server, &ann).await.state, SagaState::Published);
    server.clock.advance(HOUR);
    maintenance::sweep(&server.app).await.expect("swept");
    assert!(!exists(&server, &ann).await);
}

async fn events_are_listed_and_published_again_by_command(backend: Backend) {
    let (broker, topics) = (shared_broker(), Topics::new());
    let settings = with_user_service(&topics, &broker);
    let server = TestServer::with(backend, &settings).await;
    server.register("ann").await;
    server.register("bob").await;
    let ann = id_of(&server, "ann").await;
    let mut reader = Reader::start(&broker, &[&topics.user_create]);
    reader.until(|messages| messages.len() == 2).await;

    let run = |args: &[&str]| {
        let output = process::run(&server.database, &settings, args);
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), stdout.into_owned(), stderr.into_owned())
    };
    let listed = run(&["events", "list", "--type", "user.created", "--json"]);
    let listed: Value = serde_json::from_str(&listed.1).unwrap_or_else(|_| panic!("{listed:?}"));
    assert_eq!(listed.as_array().expect("events").len(), 2);
    assert_eq!(listed[1]["subject"], ann.as_str());
    assert_eq!(listed[1]["data"]["email"], "ann@example.org");
    let dead = run(&["events", "dead-letter", "--json"]);
    assert_eq!(dead.1.trim(), "[]", "{dead:?}");

    let refused = run(&["events", "replay"]);
    assert_eq!(refused.0, Some(2), "{refused:?}");
    assert!(refused.2.contains("--all"), "{refused:?}");
    let again = run(&["events", "replay", "--user", &ann, "--type", "user.created"]);
    assert_eq!(again.1.trim(), "1 event(s) will be published again", "{again:?}");
    let messages = reader.until(|messages| messages.len() == 3).await;
    assert_eq!(messages[2].json()["username"], "ann");
    let first = messages[..2].iter().find(|one| one.json()["username"] == "ann").expect("ann");
    assert_eq!(messages[2].id(), first.id());
    assert_eq!(messages[2].value, first.value);

    let saga = run(&["user", "saga", "ann", "--json"]);
    let saga: Value = serde_json::from_str(&saga.1).unwrap_or_else(|_| panic!("{saga:?}"));
    assert_eq!(saga["userId"], ann.as_str());
    assert_eq!(saga["endsAt"], "2026-11-22T00:00:00Z");
}

async fn with_grpc_no_profile_is_requested_by_kafka(backend: Backend) {
    let (broker, topics) = (shared_broker(), Topics::new());
    let mut settings = topics.settings(&broker);
    settings.retain(|(name, _)| *name != "PROPUSK_KAFKA__CREATE_TOPICS");
    // Nobody listens there.
    settings.extend([
        ("PROPUSK_USER_SERVICE__MODE", "grpc"),
        ("PROPUSK_USER_SERVICE__URL", "http://127.0.0.1:1"),
        ("PROPUSK_USER_SERVICE__ON_FAILURE", "later"),
    ]);
    // A message in any other topic would wait for that topic.
    create_topic(&broker, &topics.events, &json!({})).await;
    let server = TestServer::with(backend, &settings).await;
    server.register("ann").await;
    let ann = id_of(&server, "ann").await;
    let mut reader = Reader::start(&broker, &[&topics.events]);
    let written = server.events().await.len();
    reader.until(|messages| messages.len() == written).await;
    // The saga is that of the calls.
    assert_eq!(saga_of(&server, &ann).await.state, SagaState::Started);
    let operator = Actor::operator();
    users::delete(&server.app, &ann, &Precondition::Any, &operator).await.expect("deleted");
    let written = server.events().await.len();
    reader.until(|messages| messages.len() == written).await;
    assert_eq!(reader.messages.last().expect("a message").json()["type"], "user.deleted");
    let mut waiting = 1_i64;
    for _ in 0..1_200 {
        let statement = "SELECT COUNT(*) AS n FROM outbox WHERE published_at IS NULL";
        let rows = server.app.db.read(Statement::new(statement)).await.expect("the outbox");
        waiting = rows[0].get("n").expect("a count");
        if waiting == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(waiting, 0, "nothing waits for another topic");
}

async fn a_saga_ends_when_its_time_has_passed(backend: Backend) {
    let server = TestServer::with(backend, &UNREACHABLE).await;
    server.register("ann").await;
    let ann = id_of(&server, "ann").await;
    assert_eq!(saga_of(&server, &ann).await.state, SagaState::Started);
    let day = Duration::from_secs(24 * 3_600);
    server.clock.advance(day);
    maintenance::sweep(&server.app).await.expect("swept");
    let state = saga_of(&server, &ann).await.state;
    assert_eq!(state, SagaState::Started, "the user service was not told yet");
    let published = Statement::new("UPDATE sagas SET state = 'published'");
    server.app.db.write(published).await.expect("published");
    maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(saga_of(&server, &ann).await.state, SagaState::Closed);
    // Kept as long as its events.
    server.clock.advance(6 * day);
    maintenance::sweep(&server.app).await.expect("swept");
    saga_of(&server, &ann).await;
    server.clock.advance(2 * day);
    maintenance::sweep(&server.app).await.expect("swept");
    assert!(sagas::of_user(&server.app.db, &ann).await.expect("the database").is_none());
    assert!(exists(&server, &ann).await);
}

async fn refusals_at_once_delete_an_account_once(backend: Backend) {
    let server = TestServer::with(backend, &UNREACHABLE).await;
    server.register("ann").await;
    let user_id = id_of(&server, "ann").await;
    let refusal = ServiceReply { user_id, saga_id: None, reason: None, correlation_id: None };
    let attempts = (0..8).map(|_| {
        let (app, refusal) = (server.app.clone(), refusal.clone());
        tokio::spawn(async move { provisioning::compensate(&app, &refusal).await })
    });
    let mut compensated = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        match attempt.await.expect("a task").expect("an outcome") {
            Outcome::Compensated => compensated += 1,
            Outcome::AlreadyDone | Outcome::Confirmed => {}
            Outcome::Rejected(why) => panic!("{why}"),
        }
    }
    assert_eq!(compensated, 1);
    let deleted = server.events().await.iter().filter(|(kind, _)| kind == "user.deleted").count();
    assert_eq!(deleted, 1);
}

async fn every_way_to_create_an_account_opens_a_saga(backend: Backend) {
    let server = TestServer::with(backend, &UNREACHABLE).await;
    server.register("api").await;
    let admin = server.admin("root").await;
    let body = json!({ "email": "admin.api@example.org" });
    let reply = admin.post("/users", body).await.expect(StatusCode::CREATED);
    let by_admin = reply.json()["data"]["user"]["id"].as_str().expect("an id").into();
    let run = |args: &[&str]| {
        let output = process::run(&server.database, &UNREACHABLE, args);
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    };
    run(&["user", "add", "cli@example.org"]);
    run(&["user", "add", "alone@example.org", "--no-provisioning"]);
    for id in [id_of(&server, "api").await, by_admin, id_of(&server, "cli@example.org").await] {
        assert_eq!(saga_of(&server, &id).await.state, SagaState::Started);
    }
    let shown = run(&["user", "saga", "alone@example.org"]);
    assert!(shown.contains("there is no such saga"), "{shown}");
    let id = id_of(&server, "api").await;
    let saga = admin.get(&format!("/users/{id}/saga")).await.expect(StatusCode::OK).json();
    assert_eq!(saga["data"]["userId"], json!(id));
    assert_eq!(saga["data"]["state"], "started");
    assert_eq!(saga["data"]["closedAt"], Value::Null);
    let none =
        admin.get(&format!("/users/{}/saga", id_of(&server, "alone@example.org").await)).await;
    none.expect_error(404, "NOT_FOUND");

    // Without a user service there is none.
    let database = Database::prepared(backend).await;
    let clock = server.clock.clone();
    let without = TestServer::on(database.into(), clock, &[]).await;
    without.register("ann").await;
    let rows = without.app.db.read(Statement::new("SELECT id FROM sagas")).await.expect("rows");
    assert!(rows.is_empty());
}
