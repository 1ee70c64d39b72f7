//! docs/quickstarts/axum.md, followed as it is written.
#![allow(clippy::disallowed_methods)] // The server is a process of its own, in real time.

#[path = "../../../clients/rust/tests/kit/support/quickstart.rs"]
mod quickstart;
#[path = "../../../clients/rust/tests/kit/support/server.rs"]
#[allow(dead_code)] // The tests of the kit need more of it.
mod server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quickstart_of_axum_runs_from_its_own_text() {
    quickstart::follow("axum", env!("CARGO_BIN_EXE_propusk-example-axum")).await;
}
