//! Memory before authentication: the size of a request's body and the bytes of all bodies in
//! flight are bounded, on HTTP/1 and HTTP/2.

use std::time::Duration;

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    resource_limits::peak,
    support::{Backend, Database, TestServer, process::Process, send},
};

/// The largest body outside administration, and the largest of the admin API, in bytes.
const LARGEST: usize = 64 * 1024;
const LARGEST_OF_ADMINS: usize = 2 * 1024 * 1024;

const LOGIN: &str = "/api/v1/auth/login";

fn address(base: &str) -> &str {
    base.strip_prefix("http://").expect("an address")
}

/// A connection that has sent all of a login's body but the last byte.
async fn almost_sent(base: &str, length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address(base)).await.expect("connected");
    let head = format!(
        "POST {LOGIN} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("the header section");
    // An error means that the server has refused the body.
    let _ = stream.write_all(&vec![b' '; length - 1]).await;
    stream
}

async fn finished(mut stream: TcpStream) -> String {
    let _ = stream.write_all(b" ").await;
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect(what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t103_a_body_outside_administration_has_at_most_64_kib() {
    let server = TestServer::start(Backend::Sqlite).await;
    let admin = server.admin("boss").await.token;
    let padded = |body: String, length: usize| body.clone() + &" ".repeat(length - body.len());
    let login = json!({ "login": "nobody", "password": "nothing" }).to_string();
    let post = async |path: &str, body: String, token: &str| {
        let request = server.request(Method::POST, path).bearer_auth(token);
        send(request.header("content-type", "application/json").body(body)).await
    };
    let fits = post(LOGIN, padded(login.clone(), LARGEST), "x").await;
    fits.expect_error(401, "INVALID_CREDENTIALS");
    let refused = post(LOGIN, padded(login, LARGEST + 1), "x").await;
    refused.expect_error(413, "PAYLOAD_TOO_LARGE");
    let user = json!({ "email": "vera@example.org" }).to_string();
    let users = "/api/v1/admin/users";
    post(users, padded(user.clone(), LARGEST_OF_ADMINS), &admin).await.expect(StatusCode::CREATED);
    let refused = post(users, padded(user.clone(), LARGEST_OF_ADMINS + 1), &admin).await;
    refused.expect_error(413, "PAYLOAD_TOO_LARGE");
    // Nobody else's body is read there.
    let stranger = post(users, padded(user, LARGEST_OF_ADMINS + 1), "x").await;
    stranger.expect_error(401, "INVALID_TOKEN");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t103_bodies_in_flight_have_a_byte_budget() {
    // A quarter, for the one network of this test, is four of the largest bodies.
    let budget = (16 * LARGEST).to_string();
    let settings = [
        ("PROPUSK_SERVER__MAX_ADMIN_BODY_BYTES", "65536"),
        ("PROPUSK_SERVER__MAX_BODY_BYTES_IN_FLIGHT", budget.as_str()),
    ];
    let server = TestServer::with(Backend::Sqlite, &settings).await;
    let bodies = &server.app.bodies;
    let mut streams = vec![];
    for held in 1..=4 {
        streams.push(almost_sent(&server.base, LARGEST).await);
        until("the body is read", || bodies.in_flight() == held * LARGEST).await;
    }
    let refused = server.login("nobody").await;
    assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
    refused.expect_error(503, "OVERLOADED");
    // Requests without a body are answered.
    server.get("/oauth2/jwks").await.expect(StatusCode::OK);

    let answer = finished(streams.pop().expect("a stream")).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    until("the body is dropped", || bodies.in_flight() == 3 * LARGEST).await;
    server.login("nobody").await.expect_error(401, "INVALID_CREDENTIALS");
    // A client that goes away gives its bytes back.
    drop(streams);
    until("the bodies are dropped", || bodies.in_flight() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t103_bodies_in_flight_cost_little_memory() {
    let database = Database::new(Backend::Sqlite).await;
    let settings = [("PROPUSK_LOG__LEVEL", "error")];
    let server = Process::serve(&database, &settings).await;
    // What 100 connections and 200 streams cost without bodies is not under test.
    let base = server.base.as_str();
    join_all((0..100).map(|_| async { finished(almost_sent(base, 100).await).await })).await;
    streams(base, 200, 100).await;
    let before = peak(&server);

    for length in [LARGEST_OF_ADMINS, LARGEST] {
        let all = join_all((0..100).map(|_| almost_sent(base, length))).await;
        let answers = join_all(all.into_iter().map(finished)).await;
        assert_eq!(answers.len(), 100);
        let refused = streams(base, 200, length).await;
        // A quarter of 16 MiB holds 64 of the largest bodies.
        let at_least = if length > LARGEST { 200 } else { 136 };
        assert!(refused >= at_least, "{refused} of 200 streams were refused");
    }
    let after = peak(&server);
    assert!(after <= before + 40, "{before} MiB before, {after} MiB after");
}

/// Sends requests whose bodies lack their last byte over one HTTP/2 connection, until the server
/// has refused all but what it holds; the number of refusals.
async fn streams(base: &str, count: usize, length: usize) -> usize {
    let stream = TcpStream::connect(address(base)).await.expect("connected");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.expect("ready");
    let mut bodies = vec![];
    let mut answers = FuturesUnordered::new();
    for _ in 0..count {
        client = client.ready().await.expect("ready");
        let request = http::Request::post(format!("{base}{LOGIN}"))
            .header("content-type", "application/json")
            .header("content-length", length)
            .body(())
            .expect("a request");
        let (answer, mut body) = client.send_request(request, false).expect("sent");
        // An error means that the server has refused the stream.
        let _ = body.send_data(vec![b' '; length - 1].into(), false);
        bodies.push(body);
        answers.push(answer);
    }
    let held = if length > LARGEST { 0 } else { (4 * 1024 * 1024 / length).min(count) };
    let mut refused = 0;
    while refused < count - held {
        let answer = tokio::time::timeout(Duration::from_secs(30), answers.next());
        let answer = answer.await.expect("an answer in time").expect("one is left");
        let answer = answer.expect("a response");
        assert!(matches!(answer.status().as_u16(), 413 | 503), "{answer:?}");
        refused += 1;
    }
    drop(bodies);
    connection.abort();
    refused
}
