//! Transactions of the database: what is kept, what is rolled back, and who waits for whom.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use propusk::{
    app::App,
    clock::{Clock, Rng},
    config::Config,
    model::{
        actor::Actor,
        user::{Role, RoleSettings},
    },
    storage::{
        self, CommitNotifications, Db, Error, Statement, Tx, audit,
        change_counters::{self, Counter},
        roles,
    },
};
use serde_json::json;
use tokio::sync::mpsc;

use crate::support::{Backend, Database, START, backend_tests};

backend_tests! {
    a_dropped_transaction_is_rolled_back,
    an_error_rolls_a_transaction_back,
    a_change_and_its_audit_entry_are_one_commit,
    statements_that_follow_a_change_take_effect_with_it,
    a_commit_returns_once_everyone_was_notified,
    a_commit_waits_for_a_notification_so_long_at_most,
}

fn config(database: &Database) -> Config {
    Config::load(None, database.settings().into_iter()).expect("a good configuration")
}

async fn open(database: &Database) -> Db {
    Db::open(&config(database)).await.expect("the database opens")
}

fn role(name: &str) -> Role {
    Role::parse(name).expect("a good name")
}

async fn add(tx: &mut Tx, name: &str) -> storage::Result<()> {
    roles::insert(tx, &role(name), &RoleSettings::default(), START).await
}

async fn has(db: &Db, name: &str) -> bool {
    roles::by_name(db, name).await.expect("the database answers").is_some()
}

async fn a_dropped_transaction_is_rolled_back(backend: Backend) {
    let database = Database::prepared(backend).await;
    let db = open(&database).await;
    let mut tx = db.begin().await.expect("a transaction");
    add(&mut tx, "dropped").await.expect("a role is added");
    drop(tx);
    let mut tx = db.begin().await.expect("a transaction");
    add(&mut tx, "kept").await.expect("a role is added");
    tx.commit().await.expect("the commit succeeds");
    assert!(has(&db, "kept").await);
    assert!(!has(&db, "dropped").await);
}

async fn an_error_rolls_a_transaction_back(backend: Backend) {
    async fn add_twice(db: &Db) -> storage::Result<()> {
        let mut tx = db.begin().await?;
        add(&mut tx, "twice").await?;
        add(&mut tx, "twice").await?;
        tx.commit().await
    }
    let database = Database::prepared(backend).await;
    let db = open(&database).await;
    let error = add_twice(&db).await.expect_err("the name is unique");
    assert!(matches!(error, Error::Conflict(_)), "{error}");
    assert!(!has(&db, "twice").await);
}

async fn statements_that_follow_a_change_take_effect_with_it(backend: Backend) {
    const ADD: &str = "INSERT INTO roles (name, description, require_second_factor, created_at, updated_at) \
         SELECT $1, $2, FALSE, $3, $3";
    const ADD_FIRST: &str = "INSERT INTO roles (name, description, require_second_factor, created_at, updated_at) \
         SELECT $1, $2, FALSE, $3, $3 RETURNING name";
    const DESCRIBE: &str = "UPDATE roles SET description = $2 WHERE name = $1 RETURNING name";
    let row = |sql, name: &str| Statement::new(sql).bind(name).bind("of one change").bind(START);
    let database = Database::prepared(backend).await;
    let db = open(&database).await;

    let followed = row(ADD_FIRST, "a").followed_by(vec![row(ADD, "b"), row(ADD, "c")]);
    let rows = db.write(followed).await.expect("all are added");
    let names: Vec<String> = rows.iter().map(|row| row.get("name").expect("a name")).collect();
    assert_eq!(names, ["a"], "the rows are those of the change");
    assert!(has(&db, "b").await && has(&db, "c").await);

    // One that fails takes the others with it, and nobody else's statement of the same group.
    let failing = ["d", "e", "f"].map(|name| {
        db.write(
            row(ADD_FIRST, name).followed_by(vec![row(ADD, &format!("{name}2")), row(ADD, "a")]),
        )
    });
    let others = ["g", "h", "i"].map(|name| {
        db.write(row(ADD_FIRST, name).followed_by(vec![row(ADD, &format!("{name}2"))]))
    });
    let results = join_all(failing.into_iter().zip(others).map(|(failing, other)| async {
        let (failed, done) = tokio::join!(failing, other);
        done.expect("it is kept");
        failed.expect_err("the name is taken")
    }));
    for error in results.await {
        assert!(matches!(error, Error::Conflict(_)), "{error}");
    }
    for (lost, kept) in [("d", "g"), ("e2", "h2"), ("f", "i2")] {
        assert!(!has(&db, lost).await && has(&db, kept).await, "{lost}, {kept}");
    }

    // Nor does anything follow a change that finds no row.
    let nothing = Statement::new(DESCRIBE).bind("unknown").bind("new");
    let rows = db.write(nothing.followed_by(vec![row(ADD, "k"), row(ADD, "l")])).await;
    assert!(rows.expect("nothing to change").is_empty());
    assert!(!has(&db, "k").await && !has(&db, "l").await);
}

async fn a_change_and_its_audit_entry_are_one_commit(backend: Backend) {
    let database = Database::prepared(backend).await;
    let clock = Clock::fake(START);
    let app = App::open(config(&database), clock.clone(), Rng::system()).await.expect("it opens");
    let entries = async |app: &Arc<App>| {
        let filter =
            audit::AuditFilter { action: Some("test".to_owned()), ..audit::AuditFilter::default() };
        audit::page(&app.db, &filter, i64::MAX, 10).await.expect("the database answers")
    };
    let actor = Actor::operator();

    let mut tx = app.begin(&actor).await.expect("a transaction");
    add(&mut tx, "unseen").await.expect("a role is added");
    tx.audit("test", None, json!({})).await.expect("an entry is added");
    drop(tx);
    assert!(entries(&app).await.is_empty());

    clock.advance(Duration::from_secs(1));
    let mut tx = app.begin(&actor).await.expect("a transaction");
    assert_eq!(tx.now(), START + Duration::from_secs(1));
    // The time of a transaction stands until it asks for a later one.
    clock.advance(Duration::from_secs(1));
    assert_eq!(tx.now(), START + Duration::from_secs(1));
    add(&mut tx, "seen").await.expect("a role is added");
    tx.audit("test", Some("subject"), json!({ "n": 1 })).await.expect("an entry is added");
    assert_eq!(tx.read_clock(), START + Duration::from_secs(2));
    tx.commit().await.expect("the commit succeeds");

    let entries = entries(&app).await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].actor, "cli");
    assert_eq!(entries[0].subject.as_deref(), Some("subject"));
    assert_eq!(entries[0].at, START + Duration::from_secs(1));
    assert!(has(&app.db, "seen").await);
    assert!(!has(&app.db, "unseen").await);
}

async fn a_commit_returns_once_everyone_was_notified(backend: Backend) {
    let database = Database::prepared(backend).await;
    let db = open(&database).await;
    let (sender, mut commits) = mpsc::channel(1);
    db.notify_commits_to(CommitNotifications { sender, longest_wait: Duration::from_secs(60) });

    // No counter moved: nobody is notified.
    let mut tx = db.begin().await.expect("a transaction");
    add(&mut tx, "quiet").await.expect("a role is added");
    tx.commit().await.expect("the commit succeeds");
    assert!(commits.try_recv().is_err());

    let mut tx = db.begin().await.expect("a transaction");
    let version = change_counters::next(&mut tx, Counter::Clients).await.expect("the next version");
    let committing = tokio::spawn(tx.commit());
    let notified = commits.recv().await.expect("a notification");
    // It was sent after the commit, and the caller waits until it was dealt with.
    assert_eq!(change_counters::read(&db).await.expect("the versions").clients, version);
    assert!(!committing.is_finished());
    notified.send(()).expect("a commit waits");
    committing.await.expect("no panic").expect("the commit succeeds");

    // Rolled back: nobody is notified.
    let mut tx = db.begin().await.expect("a transaction");
    change_counters::next(&mut tx, Counter::Clients).await.expect("the next version");
    drop(tx);
    assert_eq!(change_counters::read(&db).await.expect("the versions").clients, version);
    assert!(commits.try_recv().is_err());
}

async fn a_commit_waits_for_a_notification_so_long_at_most(backend: Backend) {
    let database = Database::prepared(backend).await;
    let db = open(&database).await;
    let (sender, mut commits) = mpsc::channel(1);
    db.notify_commits_to(CommitNotifications { sender, longest_wait: Duration::from_millis(10) });
    // The second and third find the queue full, too.
    for _ in 0..3 {
        let mut tx = db.begin().await.expect("a transaction");
        change_counters::next(&mut tx, Counter::Clients).await.expect("the next version");
        tx.commit().await.expect("the commit succeeds");
    }
    let notified = commits.recv().await.expect("a notification");
    notified.send(()).expect_err("nobody waits for it");
}

/// How long a transaction may be idle in the tests below.
const IDLE: Duration = Duration::from_secs(1);

#[allow(clippy::disallowed_methods)] // measures durations
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

async fn sqlite() -> (Database, Db) {
    let database = Database::prepared(Backend::Sqlite).await;
    let mut settings = database.settings();
    settings.push(("PROPUSK_DATABASE__ACQUIRE_TIMEOUT".to_owned(), "1s".to_owned()));
    let config = Config::load(None, settings.into_iter()).expect("a good configuration");
    let db = Db::open(&config).await.expect("the database opens");
    (database, db)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_rolls_an_idle_transaction_back_and_goes_on() {
    let (_database, db) = sqlite().await;
    let mut idle = db.begin().await.expect("a transaction");
    let begun = now();
    add(&mut idle, "idle").await.expect("a role is added");
    // Other writers wait for the idle transaction, no longer than it may be idle.
    let mut tx = db.begin().await.expect("the next transaction");
    assert!(begun.elapsed() >= IDLE, "{:?}", begun.elapsed());
    add(&mut tx, "next").await.expect("a role is added");
    tx.commit().await.expect("the commit succeeds");

    let error = add(&mut idle, "late").await.expect_err("the transaction is gone");
    assert!(matches!(error, Error::TimedOut), "{error}");
    let error = idle.commit().await.expect_err("nothing can be committed");
    assert!(matches!(error, Error::TimedOut), "{error}");
    assert!(has(&db, "next").await);
    assert!(!has(&db, "idle").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_lets_a_transaction_work_for_longer_than_it_may_idle() {
    let (_database, db) = sqlite().await;
    let mut tx = db.begin().await.expect("a transaction");
    for n in 0..5 {
        tokio::time::sleep(IDLE * 3 / 10).await;
        add(&mut tx, &format!("role{n}")).await.expect("a role is added");
    }
    tx.commit().await.expect("the commit succeeds");
    assert!(has(&db, "role4").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_takes_the_connection_back_from_a_cancelled_task() {
    let (_database, db) = sqlite().await;
    let (holding, held) = tokio::sync::oneshot::channel();
    let holder = tokio::spawn({
        let db = db.clone();
        async move {
            let mut tx = db.begin().await.expect("a transaction");
            add(&mut tx, "cancelled").await.expect("a role is added");
            let _ = holding.send(());
            std::future::pending::<()>().await;
            drop(tx);
        }
    });
    held.await.expect("the task holds the transaction");
    let begun = now();
    holder.abort();
    let mut tx = db.begin().await.expect("the next transaction");
    assert!(begun.elapsed() < IDLE, "{:?}", begun.elapsed());
    add(&mut tx, "next").await.expect("a role is added");
    tx.commit().await.expect("the commit succeeds");
    assert!(has(&db, "next").await);
    assert!(!has(&db, "cancelled").await);
}

/// Adds `role<n>`, and commits it or drops the transaction; says whether it committed.
async fn add_one(db: &Db, n: usize) -> storage::Result<bool> {
    let mut tx = db.begin().await?;
    add(&mut tx, &format!("role{n}")).await?;
    if is_committed(n) {
        tx.commit().await?;
    }
    Ok(is_committed(n))
}

const fn is_committed(n: usize) -> bool {
    n % 10 != 3
}

#[tokio::test]
async fn sqlite_commits_waiting_transactions_as_one_group() {
    const MANY: usize = 100;
    let (_database, db) = sqlite().await;
    let first = db.begin().await.expect("a transaction");
    // They queue behind the first one, and so are one group: the last of it is held open.
    let transactions: Vec<_> = (0..MANY)
        .map(|n| {
            let db = db.clone();
            tokio::spawn(async move { add_one(&db, n).await })
        })
        .collect();
    let turns = async || {
        for _ in 0..MANY {
            tokio::task::yield_now().await;
        }
    };
    turns().await;
    let last = tokio::spawn({
        let db = db.clone();
        async move { db.begin().await }
    });
    turns().await;
    first.commit().await.expect("the commit succeeds");
    let mut last = last.await.expect("no panic").expect("the last transaction");
    add(&mut last, "last").await.expect("a role is added");
    // All before it have called `commit`; none is acknowledged, and nothing of it is visible.
    for (n, task) in transactions.iter().enumerate() {
        assert_eq!(task.is_finished(), !is_committed(n), "{n}");
    }
    assert!(!has(&db, "role0").await);

    last.commit().await.expect("the commit succeeds");
    for (n, outcome) in join_all(transactions).await.into_iter().enumerate() {
        let committed = outcome.expect("no panic").expect("the commit succeeds");
        assert_eq!(committed, is_committed(n));
        assert_eq!(has(&db, &format!("role{n}")).await, committed, "{n}");
    }
    assert!(has(&db, "last").await);
}
