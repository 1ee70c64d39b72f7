//! `kill -9` at each step of the saga by gRPC: another process takes it over, and neither side has
//! an orphan.

use std::{sync::Arc, time::Duration};

use propusk::{clock::Clock, storage::Statement, user_service::proto::CreateUserRequest};
use reqwest::StatusCode;
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::Code;

use super::{Gate, Mood, Service, settings};
use crate::support::{
    Backend, Database, PASSWORD, TestServer, backend_tests,
    hold::Hold,
    process::{Process, free_address, free_port},
};

backend_tests! { a_kill_at_any_step_of_the_saga_leaves_no_orphan }

/// Where the process is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// The account is committed, and the service does not know it.
    BeforeTheCall,
    DuringTheCall,
    /// The service has created the profile and not answered.
    ProfileCreated,
    /// The answer is read and not committed.
    BeforeTheCommit,
    /// The service is unavailable, which is read and not committed.
    BeforeTheCompensation,
    /// The account is deleted.
    BeforeTheDeletion,
    /// The profile is deleted, too, and the service has not answered.
    ProfileDeleted,
    /// The service has answered, which is not committed.
    BeforeTheEnd,
}

async fn a_kill_at_any_step_of_the_saga_leaves_no_orphan(backend: Backend) {
    use Step::*;
    let database = Arc::new(Database::new(backend).await);
    // What the service answers before the kill and to the process that takes over, the state of
    // the saga in between, and what becomes of the account.
    let cases = [
        (BeforeTheCall, Mood::Creates, Mood::Creates, "started", true),
        (DuringTheCall, Mood::Creates, Mood::Creates, "started", true),
        (DuringTheCall, Mood::Creates, Mood::Refuses(Code::InvalidArgument), "started", false),
        (ProfileCreated, Mood::Creates, Mood::Repeats, "started", true),
        // It has changed its mind.
        (ProfileCreated, Mood::Creates, Mood::Refuses(Code::PermissionDenied), "started", false),
        (BeforeTheCommit, Mood::Creates, Mood::Creates, "started", true),
        (BeforeTheCommit, Mood::Refuses(Code::PermissionDenied), Mood::Creates, "started", true),
        (BeforeTheCompensation, Mood::Fails, Mood::Fails, "started", false),
        (BeforeTheDeletion, Mood::Fails, Mood::Creates, "compensating", false),
        (ProfileDeleted, Mood::Fails, Mood::Creates, "compensating", false),
        (BeforeTheEnd, Mood::Fails, Mood::Creates, "compensating", false),
    ];
    for (number, (step, before, after, state, stays)) in cases.into_iter().enumerate() {
        let context = format!("{step:?}, {before:?}, {after:?}");
        let name = format!("user{number}");
        let (service, port) = (Service::new(), free_port());
        let url = format!("http://127.0.0.1:{port}");
        service.set(before);
        let listening = kill_at(step, &service, port, &database, &name).await;

        // Another process takes the saga over once its lease has lapsed, not before.
        service.set(after);
        let now = Clock::system().now();
        let other = TestServer::on(Arc::clone(&database), Clock::fake(now), &settings(&url)).await;
        let (user_id, begun) = saga(&other).await;
        assert_eq!(begun, state, "{context}");
        let login = other.login(&name).await;
        if state == "started" {
            let pending = login.expect_error(503, "ACCOUNT_PENDING");
            assert!(!pending.header("retry-after").is_empty(), "{pending:?}");
        } else {
            assert_eq!(login.status, StatusCode::UNAUTHORIZED, "{context}");
        }
        assert_eq!(saga(&other).await.1, state, "{context}: the lease has not lapsed");
        other.clock.advance(Duration::from_secs(31));
        let end = if stays { "closed" } else { "compensated" };
        until_state(&other, end, &context).await;
        let login = other.login(&name).await;
        assert_eq!(login.status.is_success(), stays, "{context}: {login:?}");
        let expected: Vec<String> = stays.then(|| user_id.clone()).into_iter().collect();
        assert_eq!(service.profiles(), expected, "{context}");
        let calls = service.0.calls.lock().unwrap().clone();
        let one_saga = |call: &CreateUserRequest| call.saga_id == calls[0].saga_id;
        assert!(calls.iter().all(one_saga), "{context}: {calls:?}");
        let events = other.events().await;
        let deleted = events.iter().filter(|(kind, data)| {
            kind == "user.deleted" && data["userId"] == user_id && data["reason"] == "compensated"
        });
        assert_eq!(deleted.count(), usize::from(!stays), "{context}");
        other.stop().await;
        listening.abort();
    }
}

/// Registers an account at a process of its own and kills the process there. Returns the service,
/// which listens then.
async fn kill_at(
    step: Step,
    service: &Service,
    port: u16,
    database: &Database,
    name: &str,
) -> JoinHandle<()> {
    let (url, metrics) = (format!("http://127.0.0.1:{port}"), free_address());
    let mut settings = settings(&url);
    settings.push(("PROPUSK_METRICS__LISTEN", &metrics));
    let process = Process::serve(database, &settings).await;
    let register = || {
        let email = format!("{name}@example.org");
        let body = json!({ "email": email, "username": name, "password": PASSWORD });
        let url = format!("{}/api/v1/auth/register", process.base);
        tokio::spawn(reqwest::Client::new().post(url).json(&body).send())
    };
    if step == Step::BeforeTheCall {
        // It connects, and nobody reads the call.
        let deaf = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        let registering = register();
        let _connection = deaf.accept().await.expect("a connection");
        process.kill();
        assert!(registering.await.expect("a task").is_err(), "nobody was answered");
        drop(deaf);
        return service.listen(port).await;
    }
    let gate = match step {
        Step::ProfileCreated => Gate::Created,
        Step::BeforeTheDeletion | Step::BeforeTheEnd => Gate::Delete,
        Step::ProfileDeleted => Gate::Deleted,
        _ => Gate::Create,
    };
    service.hold(gate).await;
    let listening = service.listen(port).await;
    let registering = register();
    service.reached(gate, 1).await;
    let mut hold = None;
    if let Step::BeforeTheCommit | Step::BeforeTheCompensation | Step::BeforeTheEnd = step {
        let mut taken = Hold::take(database, &["users", "sagas"]).await;
        service.release(gate);
        if step == Step::BeforeTheEnd {
            service.reached(Gate::Deleted, 1).await;
        } else {
            answered(&metrics).await;
        }
        taken.blocks().await;
        hold = Some(taken);
    }
    process.kill();
    match hold {
        Some(hold) => hold.end_with_the_sessions().await,
        None => service.release(gate),
    }
    assert!(registering.await.expect("a task").is_err(), "nobody was answered");
    listening
}

/// Polls until the process has read the answer to CreateUser.
async fn answered(metrics: &str) {
    let is_answer = |line: &&str| {
        let count = line.strip_prefix("propusk_user_service_answers_total{");
        count.is_some_and(|count| !count.ends_with(" 0"))
    };
    for _ in 0..1_200 {
        let text = reqwest::get(format!("http://{metrics}/metrics")).await.expect("an answer");
        let text = text.text().await.expect("metrics");
        if text.lines().find(is_answer).is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the process has no answer after 30 s");
}

/// The user and the state of the newest saga.
async fn saga(server: &TestServer) -> (String, String) {
    let newest = Statement::new("SELECT user_id, state FROM sagas ORDER BY id DESC LIMIT 1");
    let rows = server.app.db.read(newest).await.expect("sagas");
    (rows[0].get("user_id").expect("an id"), rows[0].get("state").expect("a state"))
}

/// Polls until the worker has brought the newest saga there.
async fn until_state(server: &TestServer, state: &str, context: &str) {
    for _ in 0..1_200 {
        if saga(server).await.1 == state {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{context}: the saga is {:?} after 30 s", saga(server).await);
}
