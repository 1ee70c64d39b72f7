//! What fails around the server: its database. Meanwhile requests are answered 503 with
//! Retry-After, readiness follows, and nothing that was acknowledged is lost.
//!
//! Each test prints its figures on standard error, also when it succeeds.

mod pgbouncer;
mod postgres;
mod sqlite;

use std::{
    collections::BTreeMap,
    io::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{PASSWORD, Reply, TestServer, Tokens, send};

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

/// One request of a load.
#[derive(Clone, Debug)]
struct Sample {
    kind: &'static str,
    /// Both since the load began.
    began: Duration,
    ended: Duration,
    is_ok: bool,
}

/// Clients that register, log in, verify and refresh without a pause until they are stopped. What
/// fails must be 503 with Retry-After.
struct Load {
    began: Instant,
    stop: Arc<AtomicBool>,
    samples: Arc<Mutex<Vec<Sample>>>,
    /// Users whose registration was acknowledged.
    registered: Arc<Mutex<Vec<String>>>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

/// The requests of a load without its server, so that tasks can own them.
#[derive(Clone)]
struct Caller {
    http: reqwest::Client,
    base: String,
    began: Instant,
    stop: Arc<AtomicBool>,
    samples: Arc<Mutex<Vec<Sample>>>,
    registered: Arc<Mutex<Vec<String>>>,
}

impl Caller {
    async fn send(&self, kind: &'static str, request: reqwest::RequestBuilder) -> Option<Reply> {
        let began = self.began.elapsed();
        let reply = send(request).await;
        let is_ok = reply.status.is_success();
        if !is_ok && kind != "ready" {
            expect_unavailable(Reply {
                status: reply.status,
                headers: reply.headers.clone(),
                text: reply.text.clone(),
            });
        }
        let sample = Sample { kind, began, ended: self.began.elapsed(), is_ok };
        self.samples.lock().expect("no panic").push(sample);
        is_ok.then_some(reply)
    }

    async fn post(&self, kind: &'static str, path: &str, body: serde_json::Value) -> Option<Reply> {
        let request = self.http.request(Method::POST, format!("{}{path}", self.base));
        self.send(kind, request.json(&body)).await
    }

    async fn run(self, n: usize, mut tokens: Tokens) {
        let mut round = 0;
        while !self.stop.load(Ordering::Acquire) {
            round += 1;
            let verify = self.http.get(format!("{}/api/v1/auth/verify", self.base));
            self.send("verify", verify.bearer_auth(&tokens.access)).await;
            let body = json!({ "login": format!("user{n}"), "password": PASSWORD });
            self.post("login", "/api/v1/auth/login", body).await;
            let body = json!({ "refreshToken": tokens.refresh });
            if let Some(reply) = self.post("refresh", "/api/v1/auth/token/refresh", body).await {
                tokens = reply.tokens();
            }
            let name = format!("user{n}x{round}");
            let email = format!("{name}@example.org");
            let body = json!({ "email": email, "username": name, "password": PASSWORD });
            if self.post("register", "/api/v1/auth/register", body).await.is_some() {
                self.registered.lock().expect("no panic").push(name);
            }
        }
    }

    async fn watch_readiness(self) {
        while !self.stop.load(Ordering::Acquire) {
            let request = self.http.get(format!("{}/api/v1/auth/health/ready", self.base));
            self.send("ready", request).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Load {
    async fn start(server: &TestServer, clients: usize) -> Self {
        let caller = Caller {
            http: server.http.clone(),
            base: server.base.clone(),
            began: now(),
            stop: Arc::default(),
            samples: Arc::default(),
            registered: Arc::default(),
        };
        let mut tasks = vec![tokio::spawn(caller.clone().watch_readiness())];
        for n in 0..clients {
            let tokens = server.register(&format!("user{n}")).await;
            tasks.push(tokio::spawn(caller.clone().run(n, tokens)));
        }
        let Caller { began, stop, samples, registered, .. } = caller;
        Self { began, stop, samples, registered, clients: tasks }
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// When a request that began after `since` succeeded first.
    fn first_success(&self, since: Duration) -> Duration {
        let samples = self.samples.lock().expect("no panic");
        let after = samples.iter().filter(|sample| sample.is_ok && sample.began >= since);
        after.map(|sample| sample.ended).min().expect("a success")
    }

    /// Polls until each kind of request that began after `since` has succeeded; returns when the
    /// last of them did first.
    async fn recovered(&self, since: Duration) -> Duration {
        const KINDS: [&str; 5] = ["verify", "login", "refresh", "register", "ready"];
        for _ in 0..1_200 {
            {
                let samples = self.samples.lock().expect("no panic");
                let first = |kind| {
                    let ok = samples.iter().filter(|s| s.kind == kind && s.began >= since);
                    ok.filter(|s| s.is_ok).map(|s| s.ended).min()
                };
                let firsts: Vec<_> = KINDS.into_iter().filter_map(first).collect();
                if firsts.len() == KINDS.len() {
                    return firsts.into_iter().max().expect("five");
                }
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("not recovered after 30 s");
    }

    /// Polls until readiness was refused after `since`.
    async fn not_ready(&self, since: Duration) {
        let not_ready = |s: &Sample| s.kind == "ready" && !s.is_ok && s.ended >= since;
        for _ in 0..1_200 {
            if self.samples.lock().expect("no panic").iter().any(not_ready) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("still ready after 30 s");
    }

    /// Ends the load, prints its figures and checks that every acknowledged user can log in.
    async fn finish(self, server: &TestServer, what: &str, fault: Duration, recovered: Duration) {
        self.stop.store(true, Ordering::Release);
        for client in self.clients {
            client.await.expect("every failure is 503 with Retry-After");
        }
        let samples = self.samples.lock().expect("no panic").clone();
        let mut failures: BTreeMap<&str, usize> = BTreeMap::new();
        let mut longest = Duration::ZERO;
        for sample in &samples {
            longest = longest.max(sample.ended - sample.began);
            if !sample.is_ok {
                *failures.entry(sample.kind).or_default() += 1;
            }
        }
        let registered = self.registered.lock().expect("no panic").clone();
        print(&format!(
            "{what}: recovered {:.2} s after the fault; {} requests, failed {failures:?}, longest {:.2} s; \
             {} registrations acknowledged",
            (recovered.saturating_sub(fault)).as_secs_f64(),
            samples.len(),
            longest.as_secs_f64(),
            registered.len(),
        ));
        for name in registered {
            server.login(&name).await.expect(StatusCode::OK);
        }
    }
}
