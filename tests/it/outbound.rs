//! The SSRF-safe HTTP client, against a server that answers as it is told.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, future::join_all};
use http::StatusCode;
use propusk::{
    config,
    outbound::{Error, Fetched, Lookup, Outbound},
};

use crate::support::external_server::ExternalServer;

/// A server with this response at `/x`, byte for byte.
async fn serving(response: impl Into<Vec<u8>>) -> ExternalServer {
    let server = ExternalServer::start().await;
    server.put_raw("/x", response);
    server
}

fn config_of(server: &ExternalServer, allowed: &[&str]) -> config::Outbound {
    config::Outbound {
        allowed_networks: allowed.iter().map(|net| net.parse().expect("a network")).collect(),
        ca_file: Some(server.ca_file()),
        timeout: Duration::from_millis(500),
        max_response_bytes: 1_000,
        max_concurrent: 4,
    }
}

/// A client with these allowed networks, for which every name resolves to loopback.
fn client_of(server: &ExternalServer, allowed: &[&str]) -> Outbound {
    let lookup: Lookup = Arc::new(|_| Box::pin(async { Ok(vec![Ipv4Addr::LOCALHOST.into()]) }));
    Outbound::with_lookup(&config_of(server, allowed), false, lookup).expect("a client")
}

fn url_of(server: &ExternalServer, host: &str) -> String {
    server.url(host) + "/x"
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: max-age=60\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

/// The beginning of a response that never ends.
const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";

const LOOPBACK: &[&str] = &["127.0.0.0/8"];

#[tokio::test]
async fn a_document_is_fetched_and_a_form_is_posted() {
    let outside = serving(ok("{}")).await;
    let client = client_of(&outside, LOOPBACK);
    let fetched =
        client.get(&url_of(&outside, "app.example"), "application/json").await.expect("a document");
    assert_eq!(&fetched.body[..], b"{}");
    assert_eq!(fetched.content_type.as_deref(), Some("application/json"));
    assert_eq!(fetched.max_age, Some(Duration::from_secs(60)));
    let status =
        client.post_form(&url_of(&outside, "app.example"), &[("a", "b")]).await.expect("posted");
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn large_slow_and_redirecting_responses_fail() {
    let large = serving(ok(&"x".repeat(1_001))).await;
    let got = client_of(&large, LOOPBACK).get(&url_of(&large, "app.example"), "*/*").await;
    assert!(matches!(got, Err(Error::TooLarge { .. })), "{got:?}");
    for part in ["", "HTTP/1.1 200 OK\r\n", HALF] {
        let slow = serving(part).await;
        let got = client_of(&slow, LOOPBACK).get(&url_of(&slow, "app.example"), "*/*").await;
        let why = got.expect_err("a timeout").to_string();
        assert_eq!(why, "request to app.example failed: timed out");
    }
    let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    answer.extend(b"64\r\n".iter().chain(&[b'x'; 100]).chain(b"\r\n").cycle().take(106 * 100));
    let endless = serving(answer).await;
    let got = client_of(&endless, LOOPBACK).get(&url_of(&endless, "app.example"), "*/*").await;
    assert!(matches!(got, Err(Error::TooLarge { .. })), "{got:?}");
    let inside = serving(ok("secret")).await;
    let to = url_of(&inside, "127.0.0.1");
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
    let moved = serving(answer).await;
    let got = client_of(&moved, LOOPBACK).get(&url_of(&moved, "app.example"), "*/*").await;
    assert!(matches!(got, Err(Error::Status { status: 302, .. })), "{got:?}");
    assert_eq!(inside.connection_count(), 0);
}

#[tokio::test]
async fn requests_beyond_the_concurrency_limit_fail() {
    let slow = serving(HALF).await;
    let client = client_of(&slow, LOOPBACK);
    let urls: Vec<_> = (0..5).map(|n| url_of(&slow, "app.example") + &n.to_string()).collect();
    (0..5).for_each(|n| slow.put_raw(&format!("/x{n}"), HALF));
    for _ in 0..2 {
        let all = join_all(urls.iter().map(|url| client.get(url, "*/*"))).await;
        let busy = |got: &&Result<Fetched, Error>| matches!(got, Err(Error::Busy));
        assert_eq!(all.iter().filter(busy).count(), 1, "four of five are allowed");
    }
    assert_eq!(slow.connection_count(), 8);
}

#[tokio::test]
async fn concurrent_requests_for_a_document_are_coalesced() {
    let outside = serving(ok("{}")).await;
    let client = client_of(&outside, LOOPBACK);
    let url = url_of(&outside, "app.example");
    for rounds in 1..3 {
        // The first caller gives up before there is a response.
        let mut impatient = Box::pin(client.get(&url, "*/*"));
        assert!((&mut impatient).now_or_never().is_none());
        let all = join_all((0..50).map(|_| client.get(&url, "*/*")));
        let (all, ()) = tokio::join!(all, async { drop(impatient) });
        assert!(all.iter().all(|got| got.as_ref().is_ok_and(|got| got.body == "{}")));
        assert_eq!(outside.connection_count(), rounds);
    }
    // A failure is shared as well, but not cached here.
    let slow = serving(HALF).await;
    let client = client_of(&slow, LOOPBACK);
    let url = url_of(&slow, "app.example");
    for rounds in 1..3 {
        let all = join_all((0..50).map(|_| client.get(&url, "*/*"))).await;
        assert!(all.iter().all(|got| matches!(got, Err(Error::TimedOut { .. }))));
        assert_eq!(slow.connection_count(), rounds);
    }
}

#[tokio::test]
async fn t80_a_name_with_public_and_private_addresses_is_refused() {
    let inside = serving(ok("secret")).await;
    let outside: IpAddr = "93.184.216.34".parse().expect("an address");
    for found in [
        vec![],
        vec![outside, Ipv4Addr::LOCALHOST.into()],
        vec![Ipv4Addr::LOCALHOST.into(), outside],
        vec!["::ffff:127.0.0.1".parse().expect("an address")],
    ] {
        let lookup: Lookup = Arc::new(move |_| {
            let found = found.clone();
            Box::pin(async move { Ok(found) })
        });
        let client =
            Outbound::with_lookup(&config_of(&inside, &[]), false, lookup).expect("a client");
        let got = client.get(&url_of(&inside, "app.example"), "*/*").await;
        let why = got.expect_err("it is refused").to_string();
        assert!(why.contains("not on the public Internet"), "{why}");
    }
    assert_eq!(inside.connection_count(), 0);
}

#[tokio::test]
async fn wrong_certificates_and_endless_headers_fail() {
    let outside = serving(ok("{}")).await;
    let got = client_of(&outside, LOOPBACK).get(&url_of(&outside, "other.example"), "*/*").await;
    assert!(matches!(got, Err(Error::Failed { .. })), "its certificate is app.example's: {got:?}");
    let line = format!("x-more: {}\r\n", "x".repeat(1_000));
    let huge = serving(format!("HTTP/1.1 200 OK\r\n{}", line.repeat(2_000))).await;
    let got = client_of(&huge, LOOPBACK).get(&url_of(&huge, "app.example"), "*/*").await;
    assert!(matches!(got, Err(Error::Failed { .. })), "{got:?}");
    // Responses are not decompressed, whatever their Content-Encoding.
    let answer =
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\n\x1f\x8b\x08";
    let packed = serving(answer).await;
    let got = client_of(&packed, LOOPBACK).get(&url_of(&packed, "app.example"), "*/*").await;
    assert_eq!(got.expect("an answer").body, &b"\x1f\x8b\x08"[..]);
}

#[tokio::test]
async fn t80_private_addresses_are_never_connected_to() {
    let inside = serving(ok("secret")).await;
    let client = client_of(&inside, &[]);
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "LOCALHOST",
        "a.localhost",
        "app.example",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "db.internal",
    ] {
        let got = client.get(&url_of(&inside, host), "*/*").await;
        assert!(got.is_err(), "{host}");
        assert!(client.post_form(&url_of(&inside, host), &[]).await.is_err(), "{host}");
    }
    assert_eq!(inside.connection_count(), 0);
    // The same listener is reachable when allowed: the test can fail.
    client_of(&inside, LOOPBACK)
        .get(&url_of(&inside, "app.example"), "*/*")
        .await
        .expect("a document");
    for url in [
        "http://app.example/",
        "ftp://app.example/",
        "https://u:p@app.example/",
        "https://app.example/#f",
        "https://",
        "/x",
        "javascript:x",
    ] {
        assert!(client.check(url).is_err(), "{url}");
    }
}
