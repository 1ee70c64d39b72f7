//! A client in another language, built from the files in `proto/` alone.

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use propusk::clock::Clock;
use tokio::process::Command;

use super::{back_end, id_of};
use crate::support::{Backend, Database, PASSWORD, TestServer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python and its gRPC library: run ./dev/test"]
async fn a_python_client_calls_every_method() {
    let folder = std::env::var("PROPUSK_TEST_CLIENTS_DIR")
        .expect("PROPUSK_TEST_CLIENTS_DIR names no folder with the libraries: run ./dev/test");
    let folder = PathBuf::from(folder);
    let database = Arc::new(Database::new(Backend::Sqlite).await);
    let settings = [("PROPUSK_GRPC__LISTEN", "127.0.0.1:0")];
    let server = TestServer::on(database, Clock::system(), &settings).await;
    server.register("ann").await;
    server.client("backend", back_end()).await;
    let scope =
        "propusk:tokens propusk:users propusk:users:verify propusk:revocations propusk:check";
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
