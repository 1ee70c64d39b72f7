//! Statements that concurrent requests share (docs/adr/0031-shared-statements.md): each request
//! gets its own outcome, as if it had been alone.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use propusk::{
    app::App,
    clock::{Clock, Rng},
    config::Config,
    ids::SessionId,
    model::{
        actor::Actor,
        client::FIRST_PARTY,
        event::Event,
        session::{RevocationReason, Session, SessionDetails},
    },
    oauth::scope::Scope,
    storage::{
        self, Db, Statement, audit, outbox,
        sessions::{self, Credential, NewSession},
    },
};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{Backend, Database, START, backend_tests};

backend_tests! {
    concurrent_refreshes_get_each_their_own_session,
    a_stolen_token_beside_the_clients_own_request_gets_nothing,
    concurrent_reads_find_each_their_own_session,
    a_session_that_is_refused_takes_no_other_with_it,
}

const MANY: u8 = 60;
const HOUR: Duration = Duration::from_secs(60 * 60);

async fn open(database: &Database) -> Arc<App> {
    let config = Config::load(None, database.settings().into_iter()).expect("a good configuration");
    App::open(config, Clock::fake(START), Rng::system()).await.expect("it opens")
}

fn id(number: u8) -> SessionId {
    format!("019aa6f2-8a00-7000-8000-{number:012}").into()
}

fn hash(number: u8) -> [u8; 32] {
    [number; 32]
}

fn new_session(number: u8, subject: &str) -> NewSession {
    NewSession {
        id: id(number),
        subject: subject.to_owned(),
        user_id: None,
        client_id: FIRST_PARTY.into(),
        browser_session_id: None,
        scope: Scope::default(),
        credential: Credential::Refresh { chain_key: 1, first_hash: hash(number) },
        authenticated_at: None,
        idle_expires_at: START + HOUR,
        expires_at: START + HOUR,
        offline: true,
        details: SessionDetails::default(),
        address: None,
        user_agent: None,
    }
}

/// Adds sessions with the numbers 0 to [`MANY`].
async fn with_sessions(backend: Backend) -> (Database, Arc<App>) {
    let database = Database::prepared(backend).await;
    let app = open(&database).await;
    let mut tx = app.db.begin().await.expect("a transaction");
    for number in 0..MANY {
        let new = new_session(number, &format!("bench:{number}"));
        sessions::insert(&mut tx, new, START).await.expect("it is added");
    }
    tx.commit().await.expect("they are kept");
    (database, app)
}

/// Exchanges the first token of a session for the one of a hash.
async fn rotate(
    db: &Db,
    number: u8,
    client: &str,
    presented: u8,
    successor: u8,
) -> Option<Session> {
    let (id, presented, successor) = (id(number), hash(presented), hash(successor));
    let client = client.into();
    let rotated = sessions::rotate(db, &id, &client, presented, successor, START, START + HOUR);
    rotated.await.expect("the database answers")
}

async fn concurrent_refreshes_get_each_their_own_session(backend: Backend) {
    let (_database, app) = with_sessions(backend).await;
    // Of each session: the token twice, and another one's.
    let requests = (0..MANY).flat_map(|n| [(n, n), (n, n), (n, n.wrapping_add(1))]);
    let rotated = requests.map(|(number, presented)| {
        rotate(&app.db, number, FIRST_PARTY, presented, presented + 100)
    });
    let rotated = join_all(rotated).await;
    for (number, outcomes) in (0..MANY).zip(rotated.chunks(3)) {
        let [one, same, other] = outcomes else { panic!("three of each") };
        assert!(other.is_none(), "{number}: a token of another session");
        assert!(one.is_some() != same.is_some(), "{number}: one of two equal requests");
        let session = one.as_ref().or(same.as_ref()).expect("one of them");
        assert_eq!(session.id, id(number));
        assert_eq!(session.subject, format!("bench:{number}"));
        assert_eq!(session.current_hash, hash(number + 100));
        assert_eq!(session.generation, 1);
    }
}

async fn a_stolen_token_beside_the_clients_own_request_gets_nothing(backend: Backend) {
    let (_database, app) = with_sessions(backend).await;
    let requests = (0..MANY).flat_map(|n| [(n, "propusk-docs"), (n, FIRST_PARTY)]);
    let rotated = requests.map(|(n, client)| rotate(&app.db, n, client, n, n + 100));
    let rotated = join_all(rotated).await;
    for (number, outcomes) in (0..MANY).zip(rotated.chunks(2)) {
        let [thief, own] = outcomes else { panic!("two of each") };
        assert!(thief.is_none(), "{number}: another client");
        assert_eq!(own.as_ref().map(|session| session.id.as_str()), Some(id(number).as_str()));
    }
}

async fn concurrent_reads_find_each_their_own_session(backend: Backend) {
    let (_database, app) = with_sessions(backend).await;
    let ids = (0..MANY).flat_map(|n| [id(n), id(n), id(n + MANY), format!("{}\0", id(n)).into()]);
    let found = join_all(ids.map(|id| {
        let db = &app.db;
        async move { sessions::by_id(db, &id).await.expect("the database answers") }
    }));
    for (number, outcomes) in (0..MANY).zip(found.await.chunks(4)) {
        let [one, same, none, invalid] = outcomes else { panic!("four of each") };
        for found in [one, same] {
            assert_eq!(found.as_ref().map(|session| &session.id), Some(&id(number)));
        }
        assert!(none.is_none() && invalid.is_none(), "{number}");
    }
}

/// Has the database refuse sessions of the subject `refused`.
async fn refuse(db: &Db, backend: Backend) {
    let statements: &[&'static str] = match backend {
        Backend::Sqlite => &["CREATE TRIGGER refuse BEFORE INSERT ON sessions \
             WHEN NEW.subject = 'refused' BEGIN SELECT RAISE(ABORT, 'refused'); END"],
        Backend::Postgres => &[
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN RAISE EXCEPTION ''refused''; END'",
            "CREATE TRIGGER refuse BEFORE INSERT ON sessions FOR EACH ROW \
             WHEN (NEW.subject = 'refused') EXECUTE FUNCTION refuse()",
        ],
    };
    for statement in statements {
        db.write(Statement::new(statement)).await.expect("the database accepts it");
    }
}

async fn a_session_that_is_refused_takes_no_other_with_it(backend: Backend) {
    let database = Database::prepared(backend).await;
    let app = open(&database).await;
    refuse(&app.db, backend).await;
    let is_refused = |number: u8| number % 7 == 3;
    let opened = (0..MANY).map(|number| {
        let app = &app;
        async move {
            let own = format!("bench:{number}");
            let subject = if is_refused(number) { "refused" } else { &own };
            let write = app
                .write(Actor::operator())
                .event(&Event::session_created(subject, &id(number), &FIRST_PARTY.into()))
                .audit("test", Some(subject), json!({ "number": number }));
            sessions::open(write, new_session(number, subject), START).await
        }
    });
    let opened: Vec<storage::Result<_>> = join_all(opened).await;
    let mut kept = 0;
    for (number, outcome) in (0..MANY).zip(opened) {
        let found = sessions::by_id(&app.db, &id(number)).await.expect("the database answers");
        if is_refused(number) {
            outcome.expect_err("it is refused");
            assert!(found.is_none(), "{number}");
        } else {
            let session = outcome.expect("the others are added").expect("there is no account");
            assert_eq!((session.id, session.subject), (id(number), format!("bench:{number}")));
            assert!(found.is_some(), "{number}");
            kept += 1;
        }
    }
    let filter =
        audit::AuditFilter { action: Some("test".to_owned()), ..audit::AuditFilter::default() };
    let entries = audit::page(&app.db, &filter, i64::MAX, 100).await.expect("the database answers");
    assert_eq!(entries.len(), kept, "an entry for each");
    let numbers: std::collections::BTreeSet<_> =
        entries.iter().map(|entry| entry.detail["number"].as_u64()).collect();
    assert_eq!(numbers.len(), kept, "its own");
    assert_eq!(
        outbox::count(&app.db).await.expect("the database answers"),
        i64::try_from(kept).expect("a small number")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL: run ./dev/test"]
async fn a_locked_session_keeps_no_other_refresh_waiting() {
    let (_database, app) = with_sessions(Backend::Postgres).await;
    let mut tx = app.db.begin().await.expect("a transaction");
    let revoked = sessions::revoke(&mut tx, &id(0), RevocationReason::Logout, START).await;
    assert!(revoked.expect("the database answers"));
    let locked = tokio::spawn({
        let db = app.db.clone();
        async move { rotate(&db, 0, FIRST_PARTY, 0, 100).await }
    });
    let others = join_all((1..MANY).map(|n| rotate(&app.db, n, FIRST_PARTY, n, n + 100)));
    let others = timeout(Duration::from_secs(20), others).await.expect("they do not wait");
    assert!(others.iter().all(Option::is_some));
    assert!(!locked.is_finished(), "it waits for the revocation");
    tx.commit().await.expect("it is revoked");
    assert!(locked.await.expect("it ends").is_none(), "the session was revoked");
}
