//! What fails around the server: its database. Meanwhile requests are answered 503 with
//! Retry-After, readiness follows, and nothing that was acknowledged is lost.
//!
//! Each test prints its figures on standard error, also when it succeeds.

mod sqlite;

use std::{io::Write as _, time::Instant};

use serde_json::json;

use crate::support::{PASSWORD, Reply, TestServer};

#[allow(clippy::disallowed_methods)] // measures durations
fn now() -> Instant {
    Instant::now()
}

/// Prints a line past the capture of the test harness.
fn print(line: &str) {
    let _ = writeln!(std::io::stderr(), "robustness: {line}");
}

/// 503 with Retry-After, in the envelope.
#[track_caller]
fn expect_unavailable(reply: Reply) {
    let reply = reply.expect_error(503, "SERVICE_UNAVAILABLE");
    assert!(reply.header("retry-after").parse::<u64>().is_ok_and(|s| s > 0), "{reply:?}");
}

async fn ready(server: &TestServer) -> Reply {
    server.get("/api/v1/auth/health/ready").await
}

async fn register(server: &TestServer, name: &str) -> Reply {
    let email = format!("{name}@example.org");
    let body = json!({ "email": email, "username": name, "password": PASSWORD });
    server.post("/api/v1/auth/register", body).await
}
