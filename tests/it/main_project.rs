//! `examples/main-project`, as its reader would run it, and the commands about its users.

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use josekit::jws;
use propusk::{clock::Clock, oauth::scope::Scope};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    back_ends::main_project,
    support::{
        Backend, Database, TestServer, backend_tests,
        oauth::SECRET,
        process::{command, free_address},
        send,
    },
};

/// A server at its issuer's URL, on the system clock that the programs read, with the back end `mp1`;
/// and the file with its key.
async fn with_main_project() -> (TestServer, String, PathBuf) {
    let database = Arc::new(Database::prepared_by_system_time(Backend::Sqlite).await);
    let address = free_address();
    let issuer = format!("http://{address}");
    let settings = [
        ("PROPUSK_GRPC__LISTEN", "127.0.0.1:0"),
        ("PROPUSK_SERVER__LISTEN", address.as_str()),
        ("PROPUSK_SERVER__ISSUER", issuer.as_str()),
    ];
    let server = TestServer::on(Arc::clone(&database), Clock::system(), &settings).await;
    let pair = jws::ES256.generate_key_pair().expect("a key");
    let mut metadata = main_project("mp1", &pair.to_jwk_key_pair());
    let scope = "orders:read propusk:tokens propusk:revocations";
    metadata.scope = Scope::parse(scope).expect("a scope");
    server.client("mp1", metadata).await;
    let key = database.folder.path().join("key.pem");
    std::fs::write(&key, pair.to_pem_private_key()).expect("a file");
    (server, issuer, key)
}

/// The folder with the libraries that `./dev/test` has installed.
fn libraries() -> PathBuf {
    let folder = std::env::var("PROPUSK_TEST_CLIENTS_DIR")
        .expect("PROPUSK_TEST_CLIENTS_DIR names no folder with the libraries: run ./dev/test");
    PathBuf::from(folder)
}

/// Runs a program to its end; gives what it printed.
async fn finished(program: &mut Command) -> String {
    let running = program.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(120), running)
        .await
        .expect("it ends within 2 minutes")
        .expect("it starts");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{printed}\n{complained}", output.status);
    printed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python and its gRPC library: run ./dev/test"]
async fn the_main_project_completes_by_each_of_three_ways() {
    let python = libraries().join("python/bin/python");
    let (server, issuer, key) = with_main_project().await;
    let example = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/main-project");
    let mut program = Command::new(python);
    program
        .arg(example.join("main_project.py"))
        .env("ISSUER", &issuer)
        .env("AUDIENCE", server.app.config.audience())
        .env("GRPC_ADDRESS", server.grpc.expect("a gRPC listener").to_string())
        .env("CLIENT_ID", "mp1")
        .env("CLIENT_SECRET", SECRET)
        .env("KEY_FILE", &key)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let printed = finished(&mut program).await;
    for way in ["gRPC", "JSON", "OAuth"] {
        let line = format!("{way}: registration, login, use, refresh, logout");
        assert!(printed.contains(&line), "{printed}");
    }
    assert!(printed.contains("The main project is complete"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js and its libraries: run ./dev/test"]
async fn openid_client_gets_tokens_by_the_jwt_bearer_grant() {
    let folder = libraries();
    let (_server, issuer, key) = with_main_project().await;
    let mut program = Command::new("node");
    program.current_dir(&folder).args(["back_end.mjs", &issuer, "mp1", SECRET]).arg(&key);
    let printed = finished(&mut program).await;
    assert!(printed.ends_with("all steps passed\n"), "{printed}");
}

backend_tests! {
    commands_manage_a_back_ends_user_by_sub,
}

async fn commands_manage_a_back_ends_user_by_sub(backend: Backend) {
    let server = TestServer::start(backend).await;
    let run = |arguments: &[&str]| {
        let output = command(&server.database, &[]).args(arguments).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let scope = "orders:read crm:read propusk:tokens";
    let add = ["client", "add", "mp1", "--subject-namespace", "mp1", "--scope", scope];
    let (done, printed, complained) = run(&add);
    assert!(done, "{complained}");
    let secret = printed.lines().find_map(|line| line.strip_prefix("secret (shown once): "));
    let secret = secret.expect("a secret").to_owned();
    let (_, shown, _) = run(&["client", "show", "mp1", "--json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["subject_namespace"], "mp1");
    let (done, _, complained) = run(&["client", "set", "mp1", "--subject-namespace", "M P"]);
    assert!(!done && complained.contains("subject_namespace"), "{complained}");

    server.module("crm", "crm:read", None, false).await;
    let issue = async || {
        let request =
            server.request(Method::POST, "/api/v1/tokens").basic_auth("mp1", Some(&secret));
        let reply = send(request.json(&json!({ "subject": "42" }))).await;
        let data = reply.expect(StatusCode::CREATED).data();
        assert_eq!(data["refreshToken"], Value::Null, "not registered for it");
        assert_eq!(data["refreshExpiresIn"], 0);
        let text = |name: &str| data[name].as_str().expect("text").to_owned();
        (text("accessToken"), text("scope"), text("sessionId"))
    };
    assert_eq!(issue().await.1, "orders:read");
    let (done, printed, complained) = run(&["module", "grant", "mp1:42", "crm"]);
    assert!(done && printed.contains("mp1:42"), "{complained}");
    let (access, scope, session) = issue().await;
    assert_eq!(scope, "orders:read crm:read");
    let (_, history, _) = run(&["module", "history", "mp1:42", "--json"]);
    assert!(history.contains("mp1:42"), "{history}");
    let (done, ..) = run(&["module", "withdraw", "mp1:42", "crm"]);
    assert!(done);
    server.verify(&access).await.expect_error(401, "INVALID_TOKEN");
    server.clock.advance(Duration::from_secs(3));
    // Neither an account nor a `sub` of a back end.
    let (done, _, complained) = run(&["module", "grant", "nobody", "crm"]);
    assert!(!done && complained.contains("there is no user"), "{complained}");

    let (access, ..) = issue().await;
    let (_, listed, _) = run(&["session", "list", "--subject", "mp1:42", "--all", "--json"]);
    assert!(listed.contains(&session), "{listed}");
    let (done, printed, complained) = run(&["session", "revoke", "--subject", "mp1:42"]);
    assert!(done && printed.contains("sessions of mp1:42"), "{complained}");
    server.verify(&access).await.expect_error(401, "INVALID_TOKEN");
    let (done, ..) = run(&["session", "revoke"]);
    assert!(!done, "neither a session nor a subject");
}
