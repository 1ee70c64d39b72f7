//! Overload: the surplus is refused, other requests are served, memory stays flat.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    Backend, Database, PASSWORD, Reply, TestServer, backend_tests,
    process::{Process, peak_memory},
    send,
};

/// Where Linux has what it knows about the process.
fn proc_folder(server: &Process) -> PathBuf {
    let address = server.base.strip_prefix("http://").expect("an address");
    let is_it = |environment: Vec<u8>| {
        let setting = format!("PROPUSK_SERVER__LISTEN={address}");
        environment.split(|byte| *byte == 0).any(|variable| variable == setting.as_bytes())
    };
    std::fs::read_dir("/proc")
        .expect("Linux")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| std::fs::read(path.join("environ")).is_ok_and(is_it))
        .expect("the process")
}

/// The peak memory of the process, in MiB. Tests about memory measure a separate process: in this
/// one other tests run, and freed memory leaves no trace.
pub fn peak(server: &Process) -> usize {
    let folder = proc_folder(server);
    let id = folder.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("its id");
    usize::try_from(peak_memory(id).expect("it runs") / 1024).expect("it fits")
}

/// A frame (RFC 9113 §4.1).
pub fn h2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The connection preface of a client (RFC 9113 §3.4).
pub fn h2_preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(h2_frame(4, 0, 0, &[]));
    bytes
}

/// A header field as HPACK's literal without indexing (RFC 7541 §6.2.2): texts under 127 bytes.
pub fn h2_field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let length = u8::try_from(text.len()).expect("a short text");
        assert!(length < 127, "{text}");
        [&[length], text.as_bytes()].concat()
    };
    [vec![0], text(name), text(value)].concat()
}

/// Resident memory of this process, which includes the server, in MiB.
fn memory() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = text.split_whitespace().nth(1).expect("resident").parse().expect("a number");
    pages * 4 / 1024
}

/// Sends bytes as they are and reads until the server closes.
async fn raw(server: &TestServer, bytes: &[u8]) -> String {
    raw_to(&server.base, bytes).await
}

async fn raw_to(base: &str, bytes: &[u8]) -> String {
    let address = base.strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    // The timeout is for a server that neither answers nor closes: what was received is checked
    // then.
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn login_from(server: &TestServer, login: &str, password: &str, forwarded: &str) -> Reply {
    let body = json!({ "login": login, "password": password });
    let mut headers = HeaderMap::new();
    if !forwarded.is_empty() {
        headers.insert("x-forwarded-for", forwarded.parse().expect("a header"));
    }
    send(server.request(Method::POST, "/api/v1/auth/login").headers(headers).json(&body)).await
}

fn count(replies: &[Reply]) -> HashMap<u16, usize> {
    replies.iter().fold(HashMap::new(), |mut counts, reply| {
        *counts.entry(reply.status.as_u16()).or_default() += 1;
        counts
    })
}

const LIMITED: [(&str, &str); 3] = [
    ("PROPUSK_LIMITS__ENABLED", "true"),
    ("PROPUSK_LIMITS__ADDRESS_BURST", "10"),
    ("PROPUSK_LOGIN__WRONG_PASSWORDS", "100"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t65_a_client_header_cannot_change_the_rate_limit_key() {
    let server = TestServer::with(Backend::Sqlite, &LIMITED).await;
    let spoofed = (0..30).map(|n| {
        let server = &server;
        let forwarded = match n % 3 {
            0 => format!("198.51.100.{n}"),
            1 => format!("nonsense{n}, , 1.2.3.4.5"),
            _ => format!("10.0.0.1, 203.0.113.{n}"),
        };
        async move { login_from(server, &format!("nobody{n}"), PASSWORD, &forwarded).await }
    });
    let replies = join_all(spoofed).await;
    assert_eq!(count(&replies), HashMap::from([(401, 10), (429, 20)]));
    let refused = replies.into_iter().find(|reply| reply.status == 429).expect("one");
    let seconds: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
    refused.expect_error(429, "TOO_MANY_REQUESTS");
    server.clock.advance(Duration::from_secs(seconds));
    login_from(&server, "nobody", PASSWORD, "").await.expect_error(401, "INVALID_CREDENTIALS");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t65_clients_behind_a_trusted_proxy_are_limited_by_network() {
    let mut settings = LIMITED.to_vec();
    settings.push(("PROPUSK_SERVER__TRUSTED_PROXIES", "127.0.0.1"));
    let server = TestServer::with(Backend::Sqlite, &settings).await;
    let mut replies = vec![];
    for n in 0..20 {
        // Entries left of the proxy's own are invented by the client.
        let forwarded = format!("192.0.2.{n}, 2001:db8:1:2::{n:x}");
        replies.push(login_from(&server, "nobody", PASSWORD, &forwarded).await);
    }
    assert_eq!(count(&replies), HashMap::from([(401, 10), (429, 10)]), "one /64 is one client");
    // The proxy's entry is not an address: the proxy itself is counted.
    let mut replies = vec![];
    for n in 0..20 {
        let forwarded = [
            format!("198.51.100.{n}, unknown"),
            format!("198.51.100.{n}, 1.2.3.{}", 256 + n),
            format!("198.51.100.{n}, _hidden{n}"),
            format!("198.51.100.{n}, "),
        ];
        replies.push(login_from(&server, "nobody", PASSWORD, &forwarded[n % 4]).await);
    }
    assert_eq!(count(&replies), HashMap::from([(401, 10), (429, 10)]));
    login_from(&server, "nobody", PASSWORD, "2001:db8:1:3::1")
        .await
        .expect_error(401, "INVALID_CREDENTIALS");
    login_from(&server, "nobody", PASSWORD, "198.51.100.7")
        .await
        .expect_error(401, "INVALID_CREDENTIALS");
}

backend_tests! {
    t74_a_flood_of_logins_is_shed_while_others_are_served,
}

async fn t74_a_flood_of_logins_is_shed_while_others_are_served(backend: Backend) {
    let settings = [
        ("PROPUSK_PASSWORDS__MEMORY_KIB", "19456"),
        ("PROPUSK_PASSWORDS__ITERATIONS", "2"),
        ("PROPUSK_PASSWORDS__PERMITS", "1"),
        ("PROPUSK_PASSWORDS__QUEUE", "8"),
    ];
    let server = TestServer::with(backend, &settings).await;
    let tokens = server.register("vera").await;
    let before = memory();
    let flood = join_all((0..500).map(|_| server.login("vera")));
    let others = async {
        for _ in 0..100 {
            server.verify(&tokens.access).await.expect(StatusCode::OK);
        }
        memory()
    };
    let (replies, during) = tokio::join!(flood, others);
    let counts = count(&replies);
    assert!(counts[&200] >= 9, "queued logins are served: {counts:?}");
    assert!(counts[&503] > 300, "the surplus is refused: {counts:?}");
    assert_eq!(counts[&200] + counts[&503], 500, "{counts:?}");
    let turned_away = replies.into_iter().find(|reply| reply.status == 503).expect("one");
    assert!(!turned_away.header("retry-after").is_empty());
    turned_away.expect_error(503, "OVERLOADED");
    // One permit's 19 MiB and the buffers of 500 connections; 500 concurrent hashes would be 9.5
    // GiB.
    assert!(during.saturating_sub(before) < 500, "{before} MiB, then {during} MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t85_an_endless_body_is_cut_off_early() {
    // Large enough for what is parsed below.
    let settings = [("PROPUSK_SERVER__MAX_BODY_BYTES", "2097152")];
    let server = TestServer::with(Backend::Sqlite, &settings).await;
    let head = "POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let announced =
        raw(&server, format!("{head}Content-Length: 104857600\r\n\r\n").as_bytes()).await;
    assert!(announced.starts_with("HTTP/1.1 413"), "refused by its Content-Length: {announced}");

    let chunk = vec![b' '; 1024 * 1024];
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..100 {
        chunked.extend_from_slice(b"100000\r\n");
        chunked.extend_from_slice(&chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    let answer = raw(&server, &chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{} bytes: {answer}", chunked.len());

    let many: String = (0..100_000).map(|n| format!("\"f{n}\":1,")).collect();
    let deep = format!("{}{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    for body in [format!("{{{many}\"login\":1}}"), deep, "[".repeat(100_000)] {
        let request = server
            .request(Method::POST, "/api/v1/auth/login")
            .header("content-type", "application/json")
            .body(body);
        let reply = send(request).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{reply:?}");
    }
    let form: String = (0..100_000).map(|n| format!("p{n}=1&")).collect();
    let scopes = format!("grant_type=client_credentials&scope={}", "a+".repeat(100_000));
    for body in [form, scopes] {
        let request = server.request(Method::POST, "/oauth2/token");
        let reply =
            send(request.header("content-type", "application/x-www-form-urlencoded").body(body))
                .await;
        assert!(reply.status.is_client_error(), "{reply:?}");
    }
}

/// The server process, and its peak memory at the last measurement.
struct Watched {
    server: Process,
    http: reqwest::Client,
    peak: usize,
    _database: Database,
}

impl Watched {
    /// Measured after 500 connections and one password hash of `password_kib`: they are not under
    /// test.
    async fn start(password_kib: &str) -> Self {
        let database = Database::new(Backend::Sqlite).await;
        let settings = [
            ("PROPUSK_PASSWORDS__MEMORY_KIB", password_kib),
            ("PROPUSK_PASSWORDS__PERMITS", "1"),
            ("PROPUSK_PASSWORDS__QUEUE", "8"),
            ("PROPUSK_LIMITS__ENABLED", "true"),
            ("PROPUSK_LIMITS__TRACKED", "1000"),
            ("PROPUSK_LIMITS__ADDRESS_BURST", "1000000"),
            ("PROPUSK_LOG__LEVEL", "error"),
        ];
        let mut watched = Self {
            server: Process::serve(&database, &settings).await,
            http: reqwest::Client::new(),
            peak: 0,
            _database: database,
        };
        join_all((0..500).map(|_| watched.verify("x"))).await;
        watched.login("warm").await;
        watched.peak = peak(&watched.server);
        watched
    }

    async fn get(&self, path: &str) -> Reply {
        send(self.http.get(format!("{}{path}", self.server.base))).await
    }

    async fn verify(&self, token: &str) -> Reply {
        let url = format!("{}/api/v1/auth/verify", self.server.base);
        send(self.http.get(url).bearer_auth(token)).await
    }

    async fn login(&self, name: &str) -> Reply {
        let url = format!("{}/api/v1/auth/login", self.server.base);
        let body = json!({ "login": name, "password": PASSWORD });
        send(self.http.post(url).json(&body)).await
    }

    #[track_caller]
    fn assert_flat(&self, most: usize) {
        let (before, now) = (self.peak, peak(&self.server));
        assert!(now <= before + most, "{before} MiB before, {now} MiB after");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t74_the_memory_of_a_login_flood_is_bounded_by_permits() {
    let watched = Watched::start("19456").await;
    let names: Vec<_> = (0..500).map(|n| format!("somebody{n}")).collect();
    let replies = join_all(names.iter().map(|name| watched.login(name))).await;
    let counts = count(&replies);
    assert_eq!(counts[&401] + counts[&503], 500, "{counts:?}");
    assert!(counts[&503] > 300, "{counts:?}");
    // A second concurrent hash would be 19 MiB more.
    watched.assert_flat(15);
}

/// The threads of a process that hash passwords: name, scheduling policy, clock ticks of CPU time.
fn hashing_threads(server: &Process) -> Vec<(String, u8, u64)> {
    let tasks = std::fs::read_dir(proc_folder(server).join("task")).expect("its threads");
    let mut threads: Vec<_> = tasks
        .map(|task| std::fs::read_to_string(task.expect("a thread").path().join("stat")))
        .filter_map(|stat| {
            // proc_pid_stat(5): "id (name) state …", where the state is field 3.
            // A thread may have ended meanwhile.
            let stat = stat.ok()?;
            let (head, fields) = stat.rsplit_once(") ").expect("a name");
            let name = head.split_once('(').expect("a name").1.to_owned();
            let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
            let field = |number: usize| fields[number - 3].parse::<u64>().expect("a number");
            let policy = u8::try_from(field(41)).expect("a policy");
            name.starts_with("argon2-").then_some((name, policy, field(14) + field(15)))
        })
        .collect();
    threads.sort();
    threads
}

#[tokio::test]
async fn passwords_are_hashed_by_threads_that_yield_to_others() {
    const OTHER: u8 = 0;
    const IDLE: u8 = 5;
    let policies = async |permits| {
        let database = Database::new(Backend::Sqlite).await;
        let settings = [
            ("PROPUSK_PASSWORDS__MEMORY_KIB", "19456"),
            ("PROPUSK_PASSWORDS__ITERATIONS", "4"),
            ("PROPUSK_PASSWORDS__PERMITS", permits),
        ];
        let server = Process::serve(&database, &settings).await;
        let body = json!({ "email": "a@example.org", "username": "alice", "password": PASSWORD });
        let url = format!("{}/api/v1/auth/register", server.base);
        let reply = send(reqwest::Client::new().post(url).json(&body)).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{reply:?}");
        let threads = hashing_threads(&server);
        let ticks: u64 = threads.iter().map(|(_, _, ticks)| ticks).sum();
        assert!(ticks > 0, "the hash was not computed on {threads:?}");
        threads.into_iter().map(|(name, policy, _)| (name, policy)).collect::<Vec<_>>()
    };
    let names = |threads: &[(&str, u8)]| -> Vec<(String, u8)> {
        threads.iter().map(|(name, policy)| ((*name).to_owned(), *policy)).collect()
    };
    let three = [("argon2-0", IDLE), ("argon2-1", IDLE), ("argon2-reserve", OTHER)];
    assert_eq!(policies("3").await, names(&three));
    assert_eq!(policies("1").await, names(&[("argon2-0", OTHER)]), "no other would make progress");
    // The default depends on the machine and its quotas.
    assert!(!policies("0").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t85_a_body_of_100_megabytes_is_not_buffered() {
    let watched = Watched::start("19456").await;
    let mut chunked =
        b"POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
                        Transfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    for _ in 0..100 {
        chunked.extend_from_slice(b"100000\r\n");
        chunked.extend_from_slice(&vec![b' '; 1024 * 1024]);
        chunked.extend_from_slice(b"\r\n");
    }
    let answer = raw_to(&watched.server.base, &chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    watched.assert_flat(15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t86_unlimited_distinct_names_leave_memory_flat() {
    let watched = Watched::start("64").await;
    // Each request names another key; some another path or account.
    let ask = |from: usize| {
        let watched = &watched;
        async move {
            for n in from..from + 1_000 {
                let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": format!("kid{n}") });
                let header = URL_SAFE_NO_PAD.encode(header.to_string());
                let token = format!("{header}.e30.{}", "A".repeat(86));
                watched.verify(&token).await.expect_error(401, "INVALID_TOKEN");
                if n % 5 == 0 {
                    watched.get(&format!("/nowhere/{n}?lang=x{n}")).await;
                }
                if n % 10 == 0 {
                    watched.login(&format!("nobody{n}")).await;
                }
            }
        }
    };
    join_all((0..10).map(|chunk| ask(chunk * 1_000))).await;
    watched.assert_flat(15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t90_ambiguous_body_lengths_close_the_connection() {
    let server = TestServer::start(Backend::Sqlite).await;
    let head = "POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let smuggled = "GET /oauth2/jwks HTTP/1.1\r\nHost: a\r\n\r\n";
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        "Content-Length: 2, 2\r\n\r\n{}",
        "Content-Length: +2\r\n\r\n{}",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ] {
        let answer = raw(&server, format!("{head}{lengths}{smuggled}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{lengths:?}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1").count(),
            1,
            "the smuggled request is not answered: {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t52_a_giant_header_is_refused() {
    let server = TestServer::start(Backend::Sqlite).await;
    let giant = format!(
        "GET /api/v1/auth/verify HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(1_000_000)
    );
    let answer = raw(&server, giant.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let dots = format!(
        "GET /api/v1/auth/verify HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n",
        ".".repeat(1_000_000)
    );
    let answer = raw(&server, dots.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many: String = (0..2_000).map(|n| format!("X{n}: y\r\n")).collect();
    let answer = raw(&server, format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    server.get("/oauth2/jwks").await.expect(StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t86_unknown_names_are_neither_cached_nor_metric_labels() {
    let server = TestServer::start(Backend::Sqlite).await;
    for n in 0..300 {
        server.get(&format!("/nowhere/{n}?lang=x{n}")).await;
        let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": format!("kid{n}") });
        let token = format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header.to_string()));
        server.verify(&token).await.expect_error(401, "INVALID_TOKEN");
    }
    assert_eq!(server.app.verified_tokens.len(), 0, "only verified tokens are cached");
    let metrics = server.app.metrics.render();
    assert!(metrics.contains("unmatched"), "{metrics}");
    assert!(!metrics.contains("nowhere"), "an unknown path is no label");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t91_an_http2_rapid_reset_is_cut_off_and_others_are_served() {
    let server = TestServer::start(Backend::Sqlite).await;
    let tokens = server.register("vera").await;
    let address = server.base.strip_prefix("http://").expect("an address");
    // :method GET, :scheme http, :path and :authority, whose names are in the static table
    let path = b"/api/v1/auth/session";
    let mut head = vec![0x82, 0x86, 0x04, path.len() as u8];
    head.extend_from_slice(path);
    head.extend_from_slice(&[0x01, 1, b'a']);
    let flood = async {
        let (mut read, mut write) =
            TcpStream::connect(address).await.expect("connected").into_split();
        let writing = tokio::spawn(async move {
            let _ = write.write_all(&h2_preface()).await;
            for n in 0.. {
                let mut pair = h2_frame(1, 5, 2 * n + 1, &head);
                pair.extend(h2_frame(3, 0, 2 * n + 1, &8_u32.to_be_bytes()));
                if write.write_all(&pair).await.is_err() {
                    return n;
                }
            }
            0
        });
        let mut sink = vec![];
        // A vulnerable server would go on for ever; this one stops within thousands of resets.
        let closed = tokio::time::timeout(Duration::from_secs(20), read.read_to_end(&mut sink));
        assert!(closed.await.is_ok(), "the connection is closed");
        drop(read);
        writing.await.expect("the flood")
    };
    let others = async {
        for _ in 0..100 {
            server.verify(&tokens.access).await.expect(StatusCode::OK);
        }
    };
    let (resets, ()) = tokio::join!(flood, others);
    assert!(resets > 0, "some resets were sent");
    server.verify(&tokens.access).await.expect(StatusCode::OK);
}
