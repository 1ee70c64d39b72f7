//! A client in another language, built from the files in `proto/` alone.

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use propusk::clock::Clock;
use reqwest::StatusCode;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use super::{back_end, id_of};
use crate::support::{Backend, Database, PASSWORD, TestServer, oauth::SECRET};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python and its gRPC library: run ./dev/test"]
async fn a_python_client_calls_every_method() {
    let folder = std::env::var("PROPUSK_TEST_CLIENTS_DIR")
        .expect("PROPUSK_TEST_CLIENTS_DIR names no folder with the libraries: run ./dev/test");
    let folder = PathBuf::from(folder);
    let database = Arc::new(Database::prepared_by_system_time(Backend::Sqlite).await);
    let settings = [("PROPUSK_GRPC__LISTEN", "127.0.0.1:0")];
    let server = TestServer::on(database, Clock::system(), &settings).await;
    server.register("ann").await;
    server.client("backend", back_end()).await;
    let scope = "propusk:tokens propusk:users propusk:users:verify propusk:revocations propusk:check \
                 propusk:services";
    let token = server.client_token("backend", scope).await;
    let address = server.grpc.expect("a gRPC listener").to_string();
    let proto = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proto");
    let running = Command::new(folder.join("python/bin/python"))
        .current_dir(&folder)
        .args(["grpc_client.py", &address])
        .arg(&proto)
        .args([&token, &id_of(&server, "ann").await, PASSWORD])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(120), running)
        .await
        .expect("it ends within 2 minutes")
        .expect("it starts");
    let response = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && response.trim_end().ends_with("steps passed"),
        "{}\n{response}\n{complained}",
        output.status
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python and its gRPC library: run ./dev/test"]
async fn the_python_verifier_refuses_a_revoked_token_at_once() {
    let python = std::env::var("PROPUSK_TEST_CLIENTS_DIR")
        .expect("PROPUSK_TEST_CLIENTS_DIR names no folder with the libraries: run ./dev/test");
    let server = TestServer::at_its_issuer(&[("PROPUSK_GRPC__LISTEN", "127.0.0.1:0")]).await;
    server.client("gateway", back_end()).await;
    let (ann, eve) = (server.register("ann").await.access, server.register("eve").await.access);
    let example = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/verifier-python");
    let mut running = Command::new(PathBuf::from(python).join("python/bin/python"))
        .arg(example.join("verifier.py"))
        .env("ISSUER", &server.base)
        .env("AUDIENCE", server.app.config.audience())
        .env("PROPUSK_GRPC", server.grpc.expect("a gRPC listener").to_string())
        .env("CLIENT_SECRET", SECRET)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let mut input = running.stdin.take().expect("a pipe");
    let mut lines = BufReader::new(running.stdout.take().expect("a pipe")).lines();
    let ready = lines.next_line().await.expect("text").unwrap_or_default();
    assert!(ready.starts_with("ready at "), "{ready}");
    let mut verdict = async |token: &str| {
        input.write_all(format!("{token}\n").as_bytes()).await.expect("a pipe");
        lines.next_line().await.expect("text").expect("a line")
    };
    let valid = format!("valid: {}", id_of(&server, "ann").await);
    assert_eq!(verdict(&ann).await, valid);
    let (head, signature) = ann.rsplit_once('.').expect("a JWT");
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    assert!(verdict(&forged).await.starts_with("refused: "), "a forged signature");
    server.post_as("/api/v1/auth/logout", &ann).await.expect(StatusCode::OK);
    // The change arrives by itself.
    let refused = async {
        while verdict(&ann).await != "refused: revoked" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refused).await.expect("the revocation arrives");
    assert_eq!(verdict(&eve).await, format!("valid: {}", id_of(&server, "eve").await));
}
