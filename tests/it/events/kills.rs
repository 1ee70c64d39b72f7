//! `kill -9` at each step of the saga by Kafka, and of the process that publishes: another one takes
//! over, and neither side has an orphan.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use propusk::{
    clock::Clock,
    storage::{Db, Statement, relay::RelayConnection},
};
use reqwest::StatusCode;
use serde_json::json;

use super::{all_published, by_subject, first_seen, outbox};
use crate::support::{
    Backend, Database, PASSWORD, TestServer, backend_tests,
    hold::Hold,
    kafka::{Reader, Received, Topics, produce, shared_broker},
    process::Process,
};

backend_tests! {
    requires "Kafka":
    a_kill_at_any_step_of_the_saga_by_kafka_leaves_no_orphan,
    a_killed_relay_is_replaced_and_keeps_the_order,
}

/// Registers at a process; returns whether it was answered.
async fn register(base: &str, name: &str) -> bool {
    let email = format!("{name}@example.org");
    let body = json!({ "email": email, "username": name, "password": PASSWORD });
    let request = reqwest::Client::new().post(format!("{base}/api/v1/auth/register"));
    let reply = request.json(&body).send().await;
    reply.is_ok_and(|reply| reply.status() == StatusCode::CREATED)
}

/// The ids of the accounts for which a service has profiles that creates one for every
/// `user.create`, forgets it at a tombstone, and has never one again after that.
fn profiles(messages: &[Received], topics: &Topics) -> BTreeSet<String> {
    let (mut profiles, mut deleted) = (BTreeSet::new(), BTreeSet::new());
    for message in messages.iter().filter(|one| one.topic == topics.user_create) {
        let id = message.key.clone().expect("a key");
        if message.value.is_none() {
            profiles.remove(&id);
            deleted.insert(id);
        } else if !deleted.contains(&id) {
            profiles.insert(id);
        }
    }
    profiles
}

/// The key of the `user.create` of a user, once it is there.
async fn announced(reader: &mut Reader, topics: &Topics, name: &str) -> String {
    let is_of = |one: &Received| {
        one.topic == topics.user_create && one.value.is_some() && one.json()["username"] == name
    };
    let messages = reader.until(|messages| messages.iter().any(is_of)).await;
    let found = messages.iter().find(|one| is_of(one)).expect("it is there");
    found.key.clone().expect("a key")
}

/// Has the user service refuse an account, behind a message that goes to the dead-letter topic
/// before: once it is there, the refusal is the next that a process works on.
async fn refuse(broker: &str, topics: &Topics, reader: &mut Reader, id: &str) {
    let close =
        |value: &str| json!({ "topic": topics.user_create_close, "key": id, "value": value });
    let refusal = json!({ "id": id, "reason": "name not allowed" }).to_string();
    produce(broker, &[close("unreadable"), close(&refusal)]).await;
    dead_letter(reader, topics, id, "unreadable").await;
}

async fn dead_letter(reader: &mut Reader, topics: &Topics, id: &str, value: &str) {
    let is_there = |messages: &[Received]| {
        messages.iter().any(|one| {
            one.topic == topics.dead_letter
                && one.key.as_deref() == Some(id)
                && one.value.as_deref() == Some(value)
        })
    };
    reader.until(is_there).await;
}

async fn a_kill_at_any_step_of_the_saga_by_kafka_leaves_no_orphan(backend: Backend) {
    let (broker, topics) = (shared_broker(), Topics::new());
    let database = Arc::new(Database::new(backend).await);
    let mut settings = topics.settings(&broker);
    settings.push(("PROPUSK_USER_SERVICE__MODE", "kafka"));
    let all = [topics.user_create.as_str(), topics.events.as_str(), topics.dead_letter.as_str()];

    // The account is committed, and not announced: this process reaches no broker.
    let mut unreachable = settings.clone();
    unreachable.retain(|(name, _)| *name != "PROPUSK_KAFKA__BROKERS");
    unreachable.push(("PROPUSK_KAFKA__BROKERS", "127.0.0.1:1"));
    let process = Process::serve(&database, &unreachable).await;
    assert!(register(&process.base, "ann").await);
    process.kill();

    // Another one announces it, and works on the refusal, which is not committed. (Between the
    // announcement and its mark: `a_kill_before_the_mark_repeats_events_under_the_same_id`.)
    let process = Process::serve(&database, &settings).await;
    let mut reader = Reader::start(&broker, &all);
    let ann = announced(&mut reader, &topics, "ann").await;
    assert!(register(&process.base, "bob").await);
    let bob = announced(&mut reader, &topics, "bob").await;
    assert!(register(&process.base, "eve").await);
    let eve = announced(&mut reader, &topics, "eve").await;
    let mut hold = Hold::take(&database, &["users"]).await;
    refuse(&broker, &topics, &mut reader, &ann).await;
    hold.blocks().await;
    process.kill();
    hold.end_with_the_sessions().await;

    // A member of the same group is given the refusal again.
    let process = Process::serve(&database, &settings).await;
    let db = database.open().await;
    gone(&db, &ann).await;
    process.kill();

    // Committed, while its offset and `user.deleted` are not in Kafka: this process does not
    // publish, and is in a group of its own, so that the next one has the message once more.
    let mut relay = RelayConnection::new(&db);
    for _ in 0..200 {
        // PostgreSQL takes a moment to find the end of the process.
        if relay.acquire().await.expect("the database") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(relay.acquire().await.expect("the database"));
    let mut alone = settings.clone();
    alone.retain(|(name, _)| *name != "PROPUSK_KAFKA__GROUP");
    let group = format!("{}.alone", topics.events);
    alone.push(("PROPUSK_KAFKA__GROUP", &group));
    let process = Process::serve(&database, &alone).await;
    refuse(&broker, &topics, &mut reader, &bob).await;
    gone(&db, &bob).await;
    process.kill();
    let waiting = relay.unpublished(100).await.expect("the outbox");
    assert!(waiting.iter().any(|one| one.kind == "user.deleted" && one.subject == bob));
    drop(relay);
    db.close().await;

    let server = TestServer::on(Arc::clone(&database), Clock::system(), &settings).await;
    // Behind every message that there is for these keys.
    for id in [&ann, &bob] {
        let last = json!({ "topic": topics.user_create_close, "key": id, "value": "last" });
        produce(&broker, &[last]).await;
        dead_letter(&mut reader, &topics, id, "last").await;
    }
    all_published(&server).await;
    let written = outbox(&server).await;
    let distinct = |messages: &[Received]| {
        first_seen(messages, &topics.events).values().map(Vec::len).sum::<usize>()
    };
    let tombstones = |messages: &[Received]| {
        let keys = messages.iter().filter(|one| one.value.is_none());
        keys.filter_map(|one| one.key.clone()).collect::<BTreeSet<_>>().len()
    };
    let is_complete =
        |messages: &[Received]| distinct(messages) == written.len() && tombstones(messages) == 2;
    let messages = reader.until(is_complete).await;
    assert_eq!(first_seen(messages, &topics.events), by_subject(&written));
    // Without the administrator of the first start.
    let accounts = "SELECT id FROM users WHERE id IN (SELECT user_id FROM sagas)";
    let rows = server.app.db.read(Statement::new(accounts)).await.expect("users");
    let accounts: BTreeSet<String> = rows.iter().map(|row| row.get("id").expect("an id")).collect();
    assert_eq!(accounts, BTreeSet::from([eve.clone()]));
    assert_eq!(profiles(messages, &topics), accounts);
    let sagas = Statement::new("SELECT user_id, state FROM sagas");
    let sagas = server.app.db.read(sagas).await.expect("sagas");
    let state = |row: &propusk::storage::Row| -> (String, String) {
        (row.get("user_id").expect("an id"), row.get("state").expect("a state"))
    };
    let sagas: BTreeMap<String, String> = sagas.iter().map(state).collect();
    let expected = [(ann, "compensated"), (bob, "compensated"), (eve, "published")];
    assert_eq!(sagas, expected.map(|(id, state)| (id, state.to_owned())).into());
    // Each account is deleted once, however often its refusal was delivered.
    let events = server.events().await;
    let deleted = events.iter().filter(|(kind, _)| kind == "user.deleted");
    assert_eq!(deleted.count(), 2);
    let entries =
        "SELECT action FROM audit_log WHERE action LIKE 'user.%ed' AND actor = 'user-service'";
    let entries = server.app.db.read(Statement::new(entries)).await.expect("the audit log");
    let entries = entries.iter().map(|row| row.get::<String>("action").expect("an action"));
    assert_eq!(entries.collect::<Vec<_>>(), ["user.compensated"; 2]);
}

/// Polls until an account is deleted.
async fn gone(db: &Db, id: &str) {
    for _ in 0..1_200 {
        let rows = db.read(Statement::new("SELECT id FROM users WHERE id = $1").bind(id)).await;
        if rows.expect("users").is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the account is still there after a minute");
}

/// Polls until one of the processes publishes.
async fn publishing(processes: &[&Process]) -> usize {
    for _ in 0..1_200 {
        let is_publishing = |one: &&Process| one.stderr().contains("publishing events to Kafka");
        if let Some(at) = processes.iter().position(is_publishing) {
            return at;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no process publishes after 30 s");
}

/// `src/events/relay.rs` adds up what a takeover takes at most; this prints what it took.
#[allow(clippy::disallowed_methods)] // measures a duration
async fn a_killed_relay_is_replaced_and_keeps_the_order(backend: Backend) {
    let (broker, topics) = (shared_broker(), Topics::new());
    let database = Arc::new(Database::new(backend).await);
    let settings = topics.settings(&broker);
    let mut processes = vec![
        Process::serve(&database, &settings).await,
        Process::serve(&database, &settings).await,
    ];
    let publisher = publishing(&processes.iter().collect::<Vec<_>>()).await;
    let publisher = processes.remove(publisher);
    let other = processes.remove(0);
    let names = ["ann", "bob", "eve", "joe"];
    for name in names {
        assert!(register(&other.base, name).await);
    }
    publisher.kill();
    let began = Instant::now();
    // Events of the same users, some of which the relay that is gone may have sent.
    let logins = names.map(|name| {
        let url = format!("{}/api/v1/auth/login", other.base);
        tokio::spawn(async move {
            for _ in 0..4 {
                let body = json!({ "login": name, "password": PASSWORD });
                let reply = reqwest::Client::new().post(&url).json(&body).send().await;
                assert_eq!(reply.expect("an answer").status(), StatusCode::OK);
            }
        })
    });
    publishing(&[&other]).await;
    println!("{backend:?}: the relay was taken over after {:?}", began.elapsed());
    for login in logins {
        login.await.expect("a task");
    }
    let server = TestServer::on(Arc::clone(&database), Clock::system(), &[]).await;
    all_published(&server).await;
    let written = outbox(&server).await;
    assert!(written.len() >= names.len() * (2 + 4));
    let mut reader = Reader::start(&broker, &[&topics.events]);
    let is_complete = |messages: &[Received]| {
        first_seen(messages, &topics.events).values().map(Vec::len).sum::<usize>() == written.len()
    };
    let messages = reader.until(is_complete).await;
    assert_eq!(first_seen(messages, &topics.events), by_subject(&written));
}
