use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A TLS server on loopback that sends every request the same response, leaves the connection open
/// and counts its connections.
struct Outside {
    port: u16,
    connections: Arc<AtomicUsize>,
    folder: tempfile::TempDir,
}

impl Outside {
    async fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let names = ["app.example".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(names).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), cert.pem()).expect("written");
        let key =
            rustls_pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a server");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let connections = Arc::new(AtomicUsize::new(0));
        let (counted, acceptor, answer) =
            (Arc::clone(&connections), TlsAcceptor::from(Arc::new(tls)), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut head = vec![0; 8192];
                    let read = stream.read(&mut head).await.unwrap_or(0);
                    let _ =
                        stream.write_all(&answer(&String::from_utf8_lossy(&head[..read]))).await;
                    // Open until the client closes: the client must detect the end itself.
                    let _ = stream.read(&mut head).await;
                });
            }
        });
        Self { port, connections, folder }
    }

    fn config(&self, allowed: &[&str]) -> config::Outbound {
        config::Outbound {
            allowed_networks: allowed.iter().map(|net| net.parse().expect("a network")).collect(),
            ca_file: Some(self.folder.path().join("ca.pem")),
            timeout: Duration::from_millis(500),
            max_response_bytes: 1_000,
            max_concurrent: 4,
        }
    }

    /// A client with these allowed networks, for which every name resolves to loopback.
    fn client(&self, allowed: &[&str]) -> Outbound {
        let lookup: Lookup = Arc::new(|_| Box::pin(async { Ok(vec![Ipv4Addr::LOCALHOST.into()]) }));
        Outbound::with_lookup(&self.config(allowed), lookup).expect("a client")
    }

    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}/x", self.port)
    }
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: max-age=60\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

/// The beginning of a response that never ends.
const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";

const LOOPBACK: &[&str] = &["127.0.0.0/8"];

#[tokio::test]
async fn a_document_is_fetched_and_a_form_is_posted() {
    let outside = Outside::start(|_| ok("{}")).await;
    let client = outside.client(LOOPBACK);
    let fetched =
        client.get(&outside.url("app.example"), "application/json").await.expect("a document");
    assert_eq!(&fetched.body[..], b"{}");
    assert_eq!(fetched.content_type.as_deref(), Some("application/json"));
    assert_eq!(fetched.max_age, Some(Duration::from_secs(60)));
    let status =
        client.post_form(&outside.url("app.example"), &[("a", "b")]).await.expect("posted");
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn large_slow_and_redirecting_responses_fail() {
    let large = Outside::start(|_| ok(&"x".repeat(1_001))).await;
    let got = large.client(LOOPBACK).get(&large.url("app.example"), "*/*").await;
    assert!(matches!(got, Err(Error::TooLarge { .. })), "{got:?}");
    for part in ["", "HTTP/1.1 200 OK\r\n", HALF] {
        let slow = Outside::start(|_| part.into()).await;
        let got = slow.client(LOOPBACK).get(&slow.url("app.example"), "*/*").await;
        let why = got.expect_err("a timeout").to_string();
        assert_eq!(why, "request to app.example failed: timed out");
    }
    let endless = Outside::start(|_| {
        let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        answer.extend(b"64\r\n".iter().chain(&[b'x'; 100]).chain(b"\r\n").cycle().take(106 * 100));
        answer
    })
    .await;
    let got = endless.client(LOOPBACK).get(&endless.url("app.example"), "*/*").await;
    assert!(matches!(got, Err(Error::TooLarge { .. })), "{got:?}");
    let inside = Outside::start(|_| ok("secret")).await;
    let to = inside.url("127.0.0.1");
    let moved = Outside::start(move |_| {
        format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
    })
    .await;
    let got = moved.client(LOOPBACK).get(&moved.url("app.example"), "*/*").await;
    assert!(matches!(got, Err(Error::Status { status: 302, .. })), "{got:?}");
    assert_eq!(inside.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn requests_beyond_the_concurrency_limit_fail() {
    let slow = Outside::start(|_| HALF.into()).await;
    let client = slow.client(LOOPBACK);
    let urls: Vec<_> = (0..5).map(|n| slow.url("app.example") + &n.to_string()).collect();
    for _ in 0..2 {
        let all = join_all(urls.iter().map(|url| client.get(url, "*/*"))).await;
        let busy = |got: &&Result<Fetched, Error>| matches!(got, Err(Error::Busy));
        assert_eq!(all.iter().filter(busy).count(), 1, "four of five are allowed");
    }
    assert_eq!(slow.connections.load(Ordering::SeqCst), 8);
}

#[tokio::test]
async fn concurrent_requests_for_a_document_are_coalesced() {
    let outside = Outside::start(|_| ok("{}")).await;
    let client = outside.client(LOOPBACK);
    let url = outside.url("app.example");
    for rounds in 1..3 {
        // The first caller gives up before there is a response.
        let mut impatient = Box::pin(client.get(&url, "*/*"));
        assert!((&mut impatient).now_or_never().is_none());
        let all = join_all((0..50).map(|_| client.get(&url, "*/*")));
        let (all, ()) = tokio::join!(all, async { drop(impatient) });
        assert!(all.iter().all(|got| got.as_ref().is_ok_and(|got| got.body == "{}")));
        assert_eq!(outside.connections.load(Ordering::SeqCst), rounds);
    }
    // A failure is shared as well, but not cached here.
    let slow = Outside::start(|_| HALF.into()).await;
    let client = slow.client(LOOPBACK);
    let url = slow.url("app.example");
    for rounds in 1..3 {
        let all = join_all((0..50).map(|_| client.get(&url, "*/*"))).await;
        assert!(all.iter().all(|got| matches!(got, Err(Error::Failed { .. }))));
        assert_eq!(slow.connections.load(Ordering::SeqCst), rounds);
    }
}

#[tokio::test]
async fn t80_a_name_with_public_and_private_addresses_is_refused() {
    let inside = Outside::start(|_| ok("secret")).await;
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
        let client = Outbound::with_lookup(&inside.config(&[]), lookup).expect("a client");
        let got = client.get(&inside.url("app.example"), "*/*").await;
        let why = got.expect_err("it is refused").to_string();
        assert!(why.contains("not on the public Internet"), "{why}");
    }
    assert_eq!(inside.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn wrong_certificates_and_endless_headers_fail() {
    let outside = Outside::start(|_| ok("{}")).await;
    let got = outside.client(LOOPBACK).get(&outside.url("other.example"), "*/*").await;
    assert!(matches!(got, Err(Error::Failed { .. })), "its certificate is app.example's: {got:?}");
    let huge = Outside::start(|_| {
        let line = format!("x-more: {}\r\n", "x".repeat(1_000));
        format!("HTTP/1.1 200 OK\r\n{}", line.repeat(2_000)).into_bytes()
    })
    .await;
    let got = huge.client(LOOPBACK).get(&huge.url("app.example"), "*/*").await;
    assert!(matches!(got, Err(Error::Failed { .. })), "{got:?}");
    // Responses are not decompressed, whatever their Content-Encoding.
    let packed = Outside::start(|_| {
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\n\x1f\x8b\x08"
            .to_vec()
    })
    .await;
    let got = packed.client(LOOPBACK).get(&packed.url("app.example"), "*/*").await;
    assert_eq!(got.expect("an answer").body, &b"\x1f\x8b\x08"[..]);
}

#[tokio::test]
async fn t80_private_addresses_are_never_connected_to() {
    let inside = Outside::start(|_| ok("secret")).await;
    let client = inside.client(&[]);
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
        let got = client.get(&inside.url(host), "*/*").await;
        assert!(got.is_err(), "{host}");
        assert!(client.post_form(&inside.url(host), &[]).await.is_err(), "{host}");
    }
    assert_eq!(inside.connections.load(Ordering::SeqCst), 0);
    // The same listener is reachable when allowed: the test can fail.
    inside.client(LOOPBACK).get(&inside.url("app.example"), "*/*").await.expect("a document");
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
