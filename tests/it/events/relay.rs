//! The relay: every event at least once, those of a user in order, whatever stops in between.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use propusk::{
    clock::Clock,
    flows::{
        admin::{
            access::Precondition,
            users::{self, UserChanges},
        },
        maintenance,
    },
    ids::UserId,
    model::{actor::Actor, event::Event},
    storage::{self, Statement},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{all_published, by_subject, first_seen, outbox, unpublished};
use crate::support::{
    Backend, Database, PASSWORD, TestServer, backend_tests,
    hold::Hold,
    kafka::{
        Broker, PASSWORD as BROKER_PASSWORD, Reader, Received, Topics, create_topic, shared_broker,
    },
    process::Process,
};

backend_tests! {
    requires "Kafka":
    a_registration_is_published_as_event_and_as_profile_request,
    a_broker_killed_under_32_writers_loses_and_reorders_nothing,
    a_second_process_takes_over_the_relay,
    a_kill_before_the_mark_repeats_events_under_the_same_id,
    a_message_refused_for_good_goes_to_the_dead_letter_topic,
    a_refused_message_holds_up_and_reorders_no_other,
    a_graceful_stop_publishes_what_was_committed,
    users_and_events_agree_after_twenty_kills,
}

backend_tests! {
    retention_keeps_events_that_are_not_published,
    delayed_events_are_a_degraded_health_and_no_failure,
}

async fn a_registration_is_published_as_event_and_as_profile_request(backend: Backend) {
    let (broker, topics) = (shared_broker(), Topics::new());
    let server = TestServer::with(backend, &topics.settings(&broker)).await;
    server.register("ann").await;
    let ann = users::find(&server.app, "ann").await.expect("ann").id;
    // A deletion blanks the names in what is not published yet.
    all_published(&server).await;
    let operator = Actor::operator();
    users::delete(&server.app, &ann, &Precondition::Any, &operator).await.expect("deleted");
    let expected = outbox(&server).await;

    let mut reader = Reader::start(&broker, &[&topics.events, &topics.user_create]);
    let messages = reader.until(|messages| messages.len() == expected.len() + 2).await;
    assert_eq!(first_seen(messages, &topics.events), by_subject(&expected));

    // Every event is a structured CloudEvent.
    let events: Vec<_> = messages.iter().filter(|one| one.topic == topics.events).collect();
    for event in &events {
        let kind = "application/cloudevents+json; charset=UTF-8";
        assert_eq!(event.headers["content-type"], kind);
        let json = event.json();
        assert_eq!(json["specversion"], "1.0");
        assert_eq!(json["source"], server.app.config.server.issuer);
        assert_eq!(json["subject"], event.key.as_deref().expect("a key"));
        assert_eq!(json["time"], "2026-11-21T00:00:00Z");
        assert_eq!(json["datacontenttype"], "application/json");
    }
    let kinds: Vec<Value> = events.iter().map(|event| event.json()["type"].clone()).collect();
    assert_eq!(kinds.first().expect("events"), "user.created");
    assert!(kinds.contains(&json!("session.created")), "{kinds:?}");
    assert!(kinds.contains(&json!("user.deleted")), "{kinds:?}");

    // The request for a profile: binary, with the fields at the top of the value.
    let created: Vec<_> = messages.iter().filter(|one| one.topic == topics.user_create).collect();
    let [profile, tombstone] = created.as_slice() else { panic!("{created:?}") };
    let event = events[0].json();
    let header = |name: &str| profile.headers.get(name).map(String::as_str);
    assert_eq!(header("ce_specversion"), Some("1.0"));
    assert_eq!(header("ce_type"), Some("user.create"));
    assert_eq!(header("ce_source"), Some(server.app.config.server.issuer.as_str()));
    assert_eq!(header("ce_id"), event["id"].as_str());
    assert_eq!(header("ce_subject"), Some(ann.as_str()));
    assert_eq!(header("ce_time"), Some("2026-11-21T00:00:00Z"));
    assert_eq!(header("ce_correlationid"), event["correlationid"].as_str());
    assert_eq!(header("content-type"), Some("application/json"));
    assert_eq!(
        profile.json(),
        json!({
            "id": ann, "userId": ann, "username": "ann", "email": "ann@example.org",
            "role": "user", "isVerified": false, "createdAt": "2026-11-21T00:00:00Z",
            "correlationId": event["correlationid"], "sagaId": null, "externalId": null,
        })
    );
    // The account is gone, so is what compaction keeps of it.
    assert_eq!((tombstone.key.as_deref(), &tombstone.value), (Some(ann.as_str()), &None));
    assert!(tombstone.offset > profile.offset && tombstone.partition == profile.partition);

    let all = format!("{messages:?}");
    assert!(!all.contains(PASSWORD) && !all.contains("argon2"), "{all}");
    all_published(&server).await;
    let metrics = server.app.metrics.render();
    let published = format!("propusk_events_published_total {}", expected.len());
    assert!(metrics.lines().any(|line| line == published), "{metrics}");
}

/// Changes these users by 32 writers, until it is told to stop and each has changed a user a few
/// times. The changes of a user wait for one another.
async fn write_by_32(server: &TestServer, ids: &[UserId], stop: &Arc<AtomicBool>) {
    let writers = (0..32).map(|writer| {
        let (app, id) = (Arc::clone(&server.app), ids[writer % ids.len()].clone());
        let stop = Arc::clone(stop);
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(500));
            let mut round = 0;
            while round < 6 || !stop.load(Ordering::Relaxed) {
                let name = Some(Some(format!("w{writer}r{round}")));
                let changes = UserChanges { username: name, ..UserChanges::default() };
                let operator = Actor::operator();
                let changed = users::update(&app, &id, &Precondition::Any, changes, &operator);
                changed.await.expect("changed");
                round += 1;
                // A load, which must not be all that the machine does.
                tick.tick().await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("a writer");
    }
}

/// Registers four users; returns their ids.
async fn four_users(server: &TestServer) -> Vec<UserId> {
    let mut ids = vec![];
    for name in ["ann", "bob", "eve", "joe"] {
        server.register(name).await;
        ids.push(users::find(&server.app, name).await.expect("a user").id);
    }
    ids
}

/// An outage takes as long as the broker needs to start again; with PROPUSK_TEST_OUTAGE_SECONDS the
/// broker is stopped for so long before it is killed.
async fn a_broker_killed_under_32_writers_loses_and_reorders_nothing(backend: Backend) {
    let (mut broker, topics) = (Broker::start().await, Topics::new());
    let address = broker.address.clone();
    let mut settings = topics.settings(&address);
    settings.push(("PROPUSK_USER_SERVICE__MODE", "kafka"));
    let server = TestServer::with(backend, &settings).await;
    let ids = four_users(&server).await;
    let stop = Arc::new(AtomicBool::new(false));
    let outage = async {
        // Some are published before, some while it is down, some after.
        let mut reader = Reader::start(&address, &[&topics.events]);
        reader.until(|messages| !messages.is_empty()).await;
        if let Ok(seconds) = std::env::var("PROPUSK_TEST_OUTAGE_SECONDS") {
            broker.stop();
            tokio::time::sleep(Duration::from_secs(seconds.parse().expect("seconds"))).await;
            println!("{backend:?}: {} events wait after {seconds} s", unpublished(&server).await);
            broker.restart().await;
            let seen = reader.messages.len();
            reader.until(|messages| messages.len() > seen).await;
        }
        broker.kill();
        server.register("new").await;
        let reply = server.login("new").await;
        assert_eq!(reply.status, StatusCode::OK, "a login does not need Kafka");
        broker.restart().await;
        let seen = reader.messages.len();
        reader.until(|messages| messages.len() > seen).await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(write_by_32(&server, &ids, &stop), outage);
    all_published(&server).await;
    let expected = outbox(&server).await;
    assert!(expected.len() >= 32 * 6);
    let mut reader = Reader::start(&address, &[&topics.events]);
    let distinct = |messages: &[Received]| {
        first_seen(messages, &topics.events).values().map(Vec::len).sum::<usize>()
    };
    let messages = reader.until(|messages| distinct(messages) == expected.len()).await;
    assert_eq!(first_seen(messages, &topics.events), by_subject(&expected));
    println!("{backend:?}: {} events, {} messages", expected.len(), messages.len());
    // A stop does not wait for a broker that is gone.
    broker.kill();
    server.register("last").await;
    server.stop().await;
}

async fn a_second_process_takes_over_the_relay(backend: Backend) {
    let (broker, topics) = (shared_broker(), Topics::new());
    let first = TestServer::with(backend, &topics.settings(&broker)).await;
    let second = first.another(&topics.settings(&broker)).await;
    let mut reader = Reader::start(&broker, &[&topics.events]);
    for number in 0..10 {
        let server = if number % 2 == 0 { &first } else { &second };
        server.register(&format!("user{number}")).await;
    }
    let before = outbox(&second).await;
    reader.until(|messages| messages.len() >= before.len()).await;
    all_published(&second).await;
    // Two relays at work would have sent each event twice.
    let counts = [&first, &second].map(|server| server.app.metrics.events_published.get());
    assert!(counts.contains(&0), "one process publishes: {counts:?}");
    assert_eq!(counts.iter().sum::<u64>(), before.len() as u64);

    let (publishes, other) = if counts[0] > 0 { (first, second) } else { (second, first) };
    publishes.stop().await;
    other.register("later").await;
    all_published(&other).await;
    let expected = outbox(&other).await;
    let messages = reader.until(|messages| messages.len() >= expected.len()).await;
    assert_eq!(messages.len(), expected.len(), "no duplicate: nothing was interrupted");
    assert_eq!(first_seen(messages, &topics.events), by_subject(&expected));
}

async fn a_kill_before_the_mark_repeats_events_under_the_same_id(backend: Backend) {
    let (mut broker, topics) = (Broker::start().await, Topics::new());
    let address = broker.address.clone();
    let database = Database::new(backend).await;
    let settings = topics.settings(&address);
    let process = Process::serve(&database, &settings).await;
    let register = |base: String, name: &'static str| async move {
        let email = format!("{name}@example.org");
        let body = json!({ "email": email, "username": name, "password": PASSWORD });
        let request = reqwest::Client::new().post(format!("{base}/api/v1/auth/register"));
        let reply = request.json(&body).send().await.expect("an answer");
        assert_eq!(reply.status(), StatusCode::CREATED);
    };
    let mut reader = Reader::start(&address, &[&topics.user_create]);
    let of = |name: &'static str| {
        move |messages: &[Received]| {
            let email = json!(format!("{name}@example.org"));
            messages.iter().filter(|message| message.json()["email"] == email).count()
        }
    };
    register(process.base.clone(), "ann").await;
    reader.until(|messages| of("ann")(messages) == 1).await;

    // Sent once Kafka is back, acknowledged, and not marked.
    broker.kill();
    register(process.base.clone(), "bob").await;
    let hold = Hold::take(&database, &["outbox"]).await;
    broker.restart().await;
    reader.until(|messages| of("bob")(messages) == 1).await;
    process.kill();
    hold.end_with_the_sessions().await;

    let again = Process::serve(&database, &settings).await;
    register(again.base.clone(), "eve").await;
    let done = |messages: &[Received]| of("bob")(messages) == 2 && of("eve")(messages) == 1;
    let messages = reader.until(done).await;
    let bobs: Vec<_> = messages.iter().filter(|one| one.json()["username"] == "bob").collect();
    assert_eq!(bobs[0].id(), bobs[1].id());
    assert_eq!(bobs[0].value, bobs[1].value);
    assert_eq!(of("ann")(messages), 1, "what was marked is not sent again");
}

async fn a_message_refused_for_good_goes_to_the_dead_letter_topic(backend: Backend) {
    let (broker, topics) = (shared_broker(), Topics::new());
    // Small events fit, alone.
    create_topic(&broker, &topics.events, &json!({ "max.message.bytes": "750" })).await;
    let mut settings = topics.settings(&broker);
    settings.push(("PROPUSK_KAFKA__COMPRESSION", "none"));
    let server = TestServer::with(backend, &settings).await;
    server.register("ann").await;
    let label = "x".repeat(60);
    let email = format!("{label}@{label}.{label}.{label}.example");
    let body = json!({ "email": email, "username": "big", "password": PASSWORD });
    let reply = server.post("/api/v1/auth/register", body).await;
    reply.expect(StatusCode::CREATED);
    server.register("eve").await;
    all_published(&server).await;

    let topic = [topics.events.as_str(), topics.dead_letter.as_str(), topics.user_create.as_str()];
    let mut reader = Reader::start(&broker, &topic);
    let expected = outbox(&server).await;
    let ids = |messages: &[Received]| {
        let mut ids: Vec<String> = messages
            .iter()
            .filter(|one| one.topic != topics.user_create)
            .map(|one| match one.headers.get("ce_id") {
                Some(id) => id.clone(),
                None => one.json()["id"].as_str().expect("an id").to_owned(),
            })
            .collect();
        ids.sort();
        ids.dedup();
        ids
    };
    let created = |messages: &[Received]| {
        messages.iter().filter(|one| one.topic == topics.user_create).count()
    };
    let messages = reader.until(|all| ids(all).len() == expected.len() && created(all) >= 3).await;
    let dead: Vec<_> = messages.iter().filter(|one| one.topic == topics.dead_letter).collect();
    let [dead] = dead.as_slice() else { panic!("one message is too large: {dead:?}") };
    assert_eq!(dead.json()["data"]["email"], email);
    assert_eq!(dead.headers["topic"], topics.events);
    assert!(dead.headers["error"].contains("MessageSizeTooLarge"), "{dead:?}");
    let refused = "SELECT id FROM outbox WHERE refused IS NOT NULL";
    let rows = server.app.db.read(Statement::new(refused)).await.expect("the outbox");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<String>("id").expect("an id"), dead.json()["id"]);
}

async fn a_refused_message_holds_up_and_reorders_no_other(backend: Backend) {
    let (broker, topics) = (shared_broker(), Topics::new());
    // More than the batches of the relay.
    create_topic(&broker, &topics.events, &json!({ "max.message.bytes": "100000" })).await;
    let mut settings = topics.settings(&broker);
    settings.push(("PROPUSK_KAFKA__COMPRESSION", "none"));
    let server = TestServer::with(backend, &settings).await;
    let large = "x".repeat(200_000);
    let event = |number: usize| {
        let user = ["ann", "bob", "eve", "joe"][number % 4];
        let client = if number == 400 { &large } else { "spa" };
        (
            format!("e{number:04}"),
            Event::session_created(user, &format!("s{number}").into(), &client.into()),
        )
    };
    let events: Vec<_> = (0..800).map(event).collect();
    let mut tx = server.app.db.begin().await.expect("a transaction");
    storage::outbox::add_all(&mut tx, &events, server.clock.now()).await.expect("added");
    tx.commit().await.expect("committed");
    all_published(&server).await;

    let mut written = outbox(&server).await;
    written.retain(|(_, id)| id != "e0400");
    let mut reader = Reader::start(&broker, &[&topics.events, &topics.dead_letter]);
    let distinct = |messages: &[Received]| {
        first_seen(messages, &topics.events).values().map(Vec::len).sum::<usize>()
    };
    let is_dead = |one: &Received| one.topic == topics.dead_letter;
    let is_complete =
        |messages: &[Received]| distinct(messages) == written.len() && messages.iter().any(is_dead);
    let messages = reader.until(is_complete).await;
    assert_eq!(first_seen(messages, &topics.events), by_subject(&written));
    let of_others = messages.iter().filter(|one| one.key.as_deref() != Some("ann"));
    assert_eq!(of_others.count(), 600, "what others have is published once");
    let dead: Vec<_> = messages.iter().filter(|one| is_dead(one)).collect();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].json()["id"], "e0400");
    let refused = "SELECT id FROM outbox WHERE refused IS NOT NULL";
    let rows = server.app.db.read(Statement::new(refused)).await.expect("the outbox");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<String>("id").expect("an id"), "e0400");
}

async fn a_graceful_stop_publishes_what_was_committed(backend: Backend) {
    let (broker, topics) = (shared_broker(), Topics::new());
    let settings = topics.settings(&broker);
    let grace = ("PROPUSK_SERVER__SHUTDOWN_GRACE", "30s");
    let settings: Vec<_> = settings.into_iter().chain([grace]).collect();
    let server = TestServer::with(backend, &settings).await;
    server.register("first").await;
    all_published(&server).await;
    let clock = server.clock.clone();
    for number in 0..20 {
        server.register(&format!("user{number}")).await;
    }
    let database = server.stop().await;
    // Without Kafka: only what the stop has published is.
    let after = TestServer::on(database, clock, &[]).await;
    assert_eq!(unpublished(&after).await, 0);
}

async fn retention_keeps_events_that_are_not_published(backend: Backend) {
    // Nobody listens there.
    let kafka = ("PROPUSK_KAFKA__BROKERS", "127.0.0.1:1");
    let most = ("PROPUSK_EVENTS__MAX_ROWS", "1");
    let server = TestServer::with(backend, &[kafka, most]).await;
    server.register("ann").await;
    let events = outbox(&server).await;
    server.clock.advance(Duration::from_secs(8 * 24 * 3_600));
    maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(outbox(&server).await, events, "no event is lost");
    let published = "UPDATE outbox SET published_at = 1 WHERE type = 'user.created'";
    server.app.db.write(Statement::new(published)).await.expect("marked");
    maintenance::sweep(&server.app).await.expect("swept");
    assert_eq!(outbox(&server).await.len(), events.len() - 1);
    // Without Kafka age alone counts, as the outbox is for readers of the database then.
    let without = TestServer::on(server.database.clone(), Clock::fake(server.clock.now()), &[]);
    let without = without.await;
    maintenance::sweep(&without.app).await.expect("swept");
    assert_eq!(outbox(&without).await, []);
}

async fn delayed_events_are_a_degraded_health_and_no_failure(backend: Backend) {
    let kafka = ("PROPUSK_KAFKA__BROKERS", "127.0.0.1:1");
    let server = TestServer::with(backend, &[kafka]).await;
    server.register("ann").await;
    let health = server.get("/api/v1/auth/health").await.json();
    assert_eq!(health["data"]["status"], "ok");
    server.clock.advance(Duration::from_secs(61));
    // Polls: the backlog is measured every few seconds.
    let mut health = Value::Null;
    for _ in 0..600 {
        health = server.get("/api/v1/auth/health").await.json();
        if health["data"]["status"] == "degraded" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(health["data"]["message"], "events wait to be published to Kafka", "{health}");
    server.get("/api/v1/auth/health/ready").await.expect(StatusCode::OK);
    let waiting = outbox(&server).await.len();
    let metrics = server.app.metrics.render();
    for line in [
        format!("propusk_events_waiting {waiting}"),
        "propusk_events_oldest_waiting_seconds 61".to_owned(),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
}

async fn users_and_events_agree_after_twenty_kills(backend: Backend) {
    let (broker, topics) = (shared_broker(), Topics::new());
    let settings = topics.settings(&broker);
    let database = Arc::new(Database::new(backend).await);
    let mut answered = BTreeSet::new();
    for round in 0..20 {
        let process = Process::serve(&database, &settings).await;
        let registering = (0..4).map(|number| {
            let email = format!("r{round}n{number}@example.org");
            let url = format!("{}/api/v1/auth/register", process.base);
            let body = json!({ "email": email, "password": PASSWORD });
            tokio::spawn(async move {
                let reply = reqwest::Client::new().post(url).json(&body).send().await;
                let is_created = reply.is_ok_and(|reply| reply.status() == StatusCode::CREATED);
                is_created.then_some(email)
            })
        });
        let mut registering: Vec<_> = registering.collect();
        // Killed after none, one, two or three of four have been answered.
        for _ in 0..round % 4 {
            answered.extend(registering.remove(0).await.expect("a task"));
        }
        process.kill();
        for one in registering {
            answered.extend(one.await.expect("a task"));
        }
    }
    let server = TestServer::on(database, Clock::system(), &settings).await;
    all_published(&server).await;
    let rows = server.app.db.read(Statement::new("SELECT id, email FROM users")).await;
    let rows = rows.expect("users");
    let column = |name: &str| -> BTreeSet<String> {
        rows.iter().map(|row| row.get(name).expect("a text")).collect()
    };
    let (ids, emails) = (column("id"), column("email"));
    assert!(answered.is_subset(&emails), "an acknowledged account is there");
    assert!(answered.len() >= 30, "{answered:?}");
    let mut reader = Reader::start(&broker, &[&topics.events, &topics.user_create]);
    let created = |messages: &[Received], topic: &str| -> BTreeSet<String> {
        let is_creation = |one: &&Received| {
            one.topic == topic && (topic != topics.events || one.json()["type"] == "user.created")
        };
        messages.iter().filter(is_creation).map(|one| one.key.clone().expect("a key")).collect()
    };
    let both = [topics.events.as_str(), topics.user_create.as_str()];
    let is_complete = |messages: &[Received]| {
        both.iter().all(|topic| created(messages, topic).len() >= ids.len())
    };
    let messages = reader.until(is_complete).await;
    for topic in both {
        assert_eq!(created(messages, topic), ids, "{topic}");
    }
    assert_eq!(first_seen(messages, &topics.events).len(), ids.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: run ./dev/test"]
async fn the_relay_authenticates_by_tls_and_every_sasl_mechanism() {
    let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a key");
    let pem = key.signing_key.serialize_pem() + &key.cert.pem();
    let broker = Broker::start_secured(&pem).await;
    let address = broker.secured.clone().expect("an address");
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("a file");
        path.display().to_string()
    };
    let authority = file("ca.pem", &key.cert.pem());
    // Unsecured (RFC 7519 section 6), which a broker accepts unless it is told otherwise.
    let now = Clock::system().now().as_secs();
    let claims = json!({ "sub": "propusk", "iat": now, "exp": now + 3_600 });
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!("{}.{}.", part(json!({ "alg": "none" })), part(claims));
    let token = file("token", &token);
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] {
        let topics = Topics::new();
        for topic in [&topics.events, &topics.user_create, &topics.dead_letter] {
            create_topic(&broker.address, topic, &json!({})).await;
        }
        let mut settings = topics.settings(&address);
        settings.retain(|(name, _)| *name != "PROPUSK_KAFKA__CREATE_TOPICS");
        settings.extend([
            ("PROPUSK_KAFKA__SECURITY", "sasl_tls"),
            ("PROPUSK_KAFKA__CA_FILE", authority.as_str()),
            ("PROPUSK_KAFKA__SASL_MECHANISM", mechanism),
        ]);
        if mechanism == "OAUTHBEARER" {
            settings.push(("PROPUSK_KAFKA__TOKEN_FILE", token.as_str()));
        } else {
            settings.push(("PROPUSK_KAFKA__USERNAME", "propusk"));
            settings.push(("PROPUSK_KAFKA__PASSWORD", BROKER_PASSWORD));
        }
        let server = TestServer::with(Backend::Sqlite, &settings).await;
        server.register("ann").await;
        all_published(&server).await;
    }
}
