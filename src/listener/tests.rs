//! Tests over real loopback sockets, with short timeouts and generous bounds.
#![allow(clippy::disallowed_methods)] // measures durations

use std::{
    io::ErrorKind,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use poem::{EndpointExt, Route, get, handler, post, web::Data};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Notify, oneshot},
    task::JoinHandle,
};

use super::*;

const LONG: Duration = Duration::from_secs(10);
const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";

fn options() -> Options {
    Options {
        listen: ([127, 0, 0, 1], 0).into(),
        setting: "server.listen",
        reuse_port: false,
        socket_activation: false,
        max_connections: 100,
        header_timeout: LONG,
        idle_timeout: LONG,
        handshake_timeout: LONG,
        request_timeout: LONG,
        max_header_bytes: 16 * 1024,
        shutdown_grace: LONG,
        tls: None,
    }
}

#[handler]
fn hello(remote: &RemoteAddr, request: &Request) -> String {
    assert!(remote.as_socket_addr().is_some_and(|peer| peer.ip().is_loopback()));
    format!("hello over {}", request.scheme())
}

#[handler]
async fn echo(body: Vec<u8>) -> Vec<u8> {
    body
}

#[handler]
async fn slow(entered: Data<&Arc<Notify>>, _body: Vec<u8>) -> &'static str {
    entered.notify_one();
    sleep(Duration::from_millis(300)).await;
    "slow but done"
}

#[handler]
fn broken() -> &'static str {
    panic!("as the test asks")
}

#[handler]
fn large() -> Vec<u8> {
    vec![b'x'; 64 << 20]
}

#[handler]
fn thumbprint(certificate: Option<Data<&ClientCertificate>>) -> String {
    let Some(certificate) = certificate else {
        return "none".into();
    };
    certificate.sha256.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Running {
    address: SocketAddr,
    /// Notified when `/slow` begins.
    entered: Arc<Notify>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ListenError>>,
}

fn start(options: Options) -> Running {
    let bound = bind(&options).unwrap();
    let address = bound.local_addr();
    let (stop, stopped) = oneshot::channel();
    let entered = Arc::new(Notify::new());
    let routes = Route::new()
        .at("/hello", get(hello))
        .at("/echo", post(echo))
        .at("/slow", get(slow).post(slow))
        .at("/broken", get(broken))
        .at("/large", get(large))
        .at("/thumbprint", get(thumbprint))
        .data(Arc::clone(&entered))
        .with(RequestTimeout(options.request_timeout));
    let task = tokio::spawn(bound.serve(routes, async {
        let _ = stopped.await;
    }));
    Running { address, entered, stop: Some(stop), task }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `text` and reads until the server closes.
    async fn exchange(&self, text: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_ref()).await.unwrap();
        to_end(&mut stream).await
    }
}

async fn to_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("not closed").unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until `end` arrives; the connection stays open.
async fn until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = String::new();
    let mut bytes = [0; 1024];
    while !text.contains(end) {
        let read = timeout(LONG, stream.read(&mut bytes)).await.expect("no answer").unwrap();
        assert_ne!(read, 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    text
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[tokio::test]
async fn slow_headers_time_out_and_delay_nobody() {
    let server = start(Options { header_timeout: millis(200), ..options() });
    let began = Instant::now();
    // one silent, one stalled, one sending byte by byte
    assert_eq!(server.exchange("").await, "");
    assert_eq!(server.exchange("GET /hello HTTP/1.1\r\nHos").await, "");
    let (mut read, mut write) = server.connect().await.into_split();
    let drip = tokio::spawn(async move {
        write.write_all(b"GET /hello HTTP/1.1\r\n").await.unwrap();
        while write.write_all(b"x: y\r\n").await.is_ok() {
            sleep(millis(20)).await;
        }
    });
    let mut rest = Vec::new();
    let _ = timeout(LONG, read.read_to_end(&mut rest)).await.expect("not closed");
    assert_eq!(rest, b"");
    drip.await.unwrap();
    assert!(began.elapsed() < millis(5000));
    // on a kept-alive connection the timeout starts with the header section, not with the idle time
    let mut stream = server.connect().await;
    stream.write_all(HELLO.as_bytes()).await.unwrap();
    until(&mut stream, "hello over http").await;
    sleep(millis(300)).await;
    stream.write_all(HELLO.as_bytes()).await.unwrap();
    until(&mut stream, "hello over http").await;
    stream.write_all(b"GET /").await.unwrap();
    assert_eq!(to_end(&mut stream).await, "");
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let server = start(Options { idle_timeout: millis(150), ..options() });
    let began = Instant::now();
    let mut stream = server.connect().await;
    for _ in 0..4 {
        stream.write_all(HELLO.as_bytes()).await.unwrap();
        until(&mut stream, "hello over http").await;
        sleep(millis(70)).await; // each less than the idle timeout, more in total
    }
    assert_eq!(to_end(&mut stream).await, "");
    // a request longer than the idle timeout is not idle
    let mut stream = server.connect().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    until(&mut stream, "slow but done").await;
    assert_eq!(to_end(&mut stream).await, "");
    // HTTP/2 closes gracefully (GOAWAY, type 7)
    let mut stream = server.connect().await;
    stream.write_all(&h2_preface()).await.unwrap();
    let mut bytes = Vec::new();
    timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("not closed").unwrap();
    assert!(h2_frames(&bytes).contains(&7));
    assert!(began.elapsed() < millis(6000));
}

#[tokio::test]
async fn a_response_that_is_not_read_is_aborted() {
    let server = start(Options {
        max_connections: 1,
        idle_timeout: millis(150),
        request_timeout: millis(150),
        ..options()
    });
    let mut stream = server.connect().await;
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    // the only connection permit is free again once it has been aborted
    let mut next = server.connect().await;
    next.write_all(HELLO.as_bytes()).await.unwrap();
    until(&mut next, "hello over http").await;
    drop(next);
    let mut bytes = Vec::new();
    let _ = timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("not closed");
    assert!(bytes.len() < 64 << 20);
    // while a slow reader receives all of it
    let mut stream = server.connect().await;
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let (mut total, mut chunk) = (0, vec![0; 4 << 20]);
    while total < 64 << 20 {
        total += timeout(LONG, stream.read(&mut chunk)).await.unwrap().unwrap();
        sleep(millis(2)).await;
    }
}

#[tokio::test]
async fn t90_ambiguous_lengths_are_refused() {
    let server = start(options());
    let smuggled = "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "transfer-encoding:chunked\r\nx: y\r\nCONTENT-LENGTH:\t5 \r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: \r\n",
        "Content-Length : 5\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "X: y\r\n Content-Length: 5\r\n",
    ] {
        for end in ["\r\n", "\n"] {
            let headers = headers.replace("\r\n", end);
            let request =
                format!("POST /echo HTTP/1.1{end}Host: x{end}{headers}{end}0\r\n\r\n{smuggled}");
            let answer = server.exchange(&request).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?} got {answer:?}");
            assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{request:?} got {answer:?}");
        }
    }
    // byte by byte
    let mut stream = server.connect().await;
    let request =
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n";
    for byte in request.bytes() {
        if stream.write_all(&[byte]).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(to_end(&mut stream).await.starts_with("HTTP/1.1 400 "));
    // after valid requests of each kind on the same connection, pipelined
    let sound = "\r\nPOST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 24\r\n\r\ncontent-length: 1\r\n\r\nabc\
                 POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5;a=b\r\nfirst\r\n1A\r\n\r\nContent-Length: second\r\n\r\n0\r\nContent-Length: 9\r\n\r\n\
                 GET /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    let answer = server.exchange(format!("{sound}{request}")).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 400 ").count(), 1, "{answer}");
    assert!(answer.contains("\r\n\r\nabc"), "{answer}");
    assert!(answer.contains("firs"), "{answer}");
}

#[tokio::test]
async fn t106_only_the_http2_preface_ends_the_checks() {
    let server = start(Options { header_timeout: millis(300), ..options() });
    let smuggling = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
                     0\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
    // `PRI` is a method like any other on HTTP/1.
    let answer =
        server.exchange(format!("PRI /hello HTTP/1.1\r\nHost: x\r\n\r\n{smuggling}")).await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 400 ").count(), 1, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 2, "{answer}");
    // and its header section times out like any other
    let mut stream = server.connect().await;
    stream.write_all(b"PRI /hello HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    assert_eq!(to_end(&mut stream).await, "");
}

#[tokio::test]
async fn t106_ambiguous_chunk_lines_are_refused() {
    let server = start(options());
    let head = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let zeros = "0".repeat(300);
    let next = "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
    for body in [
        format!("{zeros}5\r\nhello\r\n0\r\n\r\n"),
        format!("5;{zeros}\r\nhello\r\n0\r\n\r\n"),
        format!("0\r\nX: {zeros}\r\n\r\n"),
        "0\r\nX: y\n\r\n\r\n".to_owned(),
    ] {
        let answer = server.exchange(format!("{head}{body}{next}")).await;
        assert!(!answer.contains("HTTP/1.1 200"), "{body:?} got {answer:?}");
        assert!(answer.matches("HTTP/1.1").count() <= 1, "{body:?} got {answer:?}");
    }
}

#[tokio::test]
async fn t52_oversized_header_sections_are_answered_431() {
    let server = start(options());
    let dots = ".".repeat(1_000_000);
    let request = format!("GET /hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {dots}\r\n\r\n");
    let (mut read, mut write) = server.connect().await.into_split();
    let writing =
        tokio::spawn(async move { write.write_all(request.as_bytes()).await.map(|()| write) });
    let mut answer = [0; 12];
    timeout(LONG, read.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
    let _ = writing.await.unwrap();
    let many = format!("GET /hello HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(101));
    assert!(server.exchange(many).await.starts_with("HTTP/1.1 431 "));
    let fits = format!(
        "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\nA: {}\r\n\r\n",
        &dots[..15_000]
    );
    assert!(server.exchange(fits).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn the_connection_cap_holds_and_recovers() {
    let server = start(Options { max_connections: 2, ..options() });
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    for stream in [&mut first, &mut second] {
        stream.write_all(HELLO.as_bytes()).await.unwrap();
        until(stream, "hello over http").await;
    }
    let mut third = server.connect().await;
    third.write_all(HELLO.as_bytes()).await.unwrap();
    let mut byte = [0];
    assert!(timeout(millis(200), third.read(&mut byte)).await.is_err(), "served beyond the cap");
    drop(first);
    until(&mut third, "hello over http").await;
}

#[tokio::test]
async fn a_shutdown_finishes_accepted_requests() {
    let mut server = start(options());
    let mut idle = server.connect().await;
    idle.write_all(HELLO.as_bytes()).await.unwrap();
    until(&mut idle, "hello over http").await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    server.entered.notified().await;
    let began = Instant::now();
    server.stop.take().unwrap().send(()).unwrap();
    assert_eq!(to_end(&mut idle).await, "");
    let refused = TcpStream::connect(server.address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let answer = to_end(&mut busy).await;
    assert!(answer.contains("slow but done") && answer.contains("connection: close"), "{answer}");
    drop((idle, busy));
    timeout(LONG, server.task).await.unwrap().unwrap().unwrap();
    assert!(began.elapsed() < millis(5000));
}

#[tokio::test]
async fn a_shutdown_aborts_requests_after_its_grace() {
    let mut server = start(Options { shutdown_grace: millis(50), ..options() });
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    server.entered.notified().await;
    server.stop.take().unwrap().send(()).unwrap();
    timeout(LONG, server.task).await.unwrap().unwrap().unwrap();
    let mut rest = Vec::new();
    let _ = timeout(LONG, busy.read_to_end(&mut rest)).await.expect("not closed");
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn requests_that_do_not_arrive_are_answered_408() {
    let server = start(Options { request_timeout: millis(100), ..options() });
    for request in [
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nstall",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nstall",
    ] {
        let answer = server.exchange(request).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn requests_that_arrived_and_take_too_long_are_answered_503() {
    let server = start(Options { request_timeout: millis(100), ..options() });
    for request in [
        "GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "POST /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let answer = server.exchange(request).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
}

#[tokio::test]
async fn a_panic_is_answered_500_and_the_connection_stays_open() {
    let bare = bind(&options()).unwrap();
    let bare_address = bare.local_addr();
    tokio::spawn(bare.serve(
        Route::new().at("/broken", get(broken)).at("/hello", get(hello)),
        std::future::pending(),
    ));
    let server = start(options());
    for address in [server.address, bare_address] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /broken HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let answer = until(&mut stream, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(!answer.contains("as the test asks"));
        stream.write_all(HELLO.as_bytes()).await.unwrap();
        until(&mut stream, "hello over http").await;
    }
}

fn h2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn h2_preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(h2_frame(4, 0, 0, &[]));
    bytes
}

/// The types of the frames in `bytes`.
fn h2_frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [a, b, c, kind, ..] = *bytes {
        kinds.push(kind);
        bytes = bytes.get(9 + u32::from_be_bytes([0, a, b, c]) as usize..).unwrap_or_default();
    }
    kinds
}

/// Sends the output of `flood`, piece by piece, until the server closes; whether it did in time.
async fn flooded(address: SocketAddr, flood: impl Fn(u32) -> Vec<u8> + Send + 'static) -> bool {
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let writing = tokio::spawn(async move {
        if write.write_all(&h2_preface()).await.is_err() {
            return;
        }
        for n in 0.. {
            let piece: Vec<u8> = (n * 100..(n + 1) * 100).flat_map(&flood).collect();
            if write.write_all(&piece).await.is_err() {
                return;
            }
        }
    });
    let mut sink = Vec::new();
    let closed = timeout(LONG, read.read_to_end(&mut sink)).await.is_ok();
    writing.abort();
    closed
}

#[tokio::test]
async fn t91_http2_floods_are_closed_and_others_are_served() {
    // GET http /hello, without indexing
    let head = [0x82, 0x86, 0x04, 6, b'/', b'h', b'e', b'l', b'l', b'o', 0x01, 1, b'x'];
    let server = start(options());
    let done = Arc::new(AtomicBool::new(false));
    let other = tokio::spawn({
        let (done, address) = (done.clone(), server.address);
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let mut longest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let began = Instant::now();
                stream.write_all(HELLO.as_bytes()).await.unwrap();
                until(&mut stream, "hello over http").await;
                longest = longest.max(began.elapsed());
            }
            longest
        }
    });
    let rapid_reset = flooded(server.address, move |n| {
        let mut pair = h2_frame(1, 5, 2 * n + 1, &head);
        pair.extend(h2_frame(3, 0, 2 * n + 1, &8u32.to_be_bytes()));
        pair
    });
    assert!(rapid_reset.await, "rapid reset");
    let continuation = flooded(server.address, move |n| {
        let header = [&[0x00, 1, b'a', 100][..], &[b'b'; 100]].concat();
        if n == 0 { h2_frame(1, 1, 1, &head) } else { h2_frame(9, 0, 1, &header) }
    });
    assert!(continuation.await, "continuation flood");
    let self_made_errors = flooded(server.address, move |n| {
        let mut pair = h2_frame(1, 4, 2 * n + 1, &head);
        pair.extend(h2_frame(8, 0, 2 * n + 1, &0u32.to_be_bytes()));
        pair
    });
    assert!(self_made_errors.await, "flood of stream errors");
    done.store(true, Ordering::Relaxed);
    assert!(other.await.unwrap() < millis(2000));
    // and a legitimate client is answered
    let mut stream = server.connect().await;
    stream.write_all(&h2_preface()).await.unwrap();
    stream.write_all(&h2_frame(1, 5, 1, &head)).await.unwrap();
    until(&mut stream, "hello over http").await;
}

struct Issuer(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

impl Issuer {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Self(rcgen::CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }
}

#[tokio::test]
async fn tls_passes_the_client_certificate_to_handlers() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let issuer = Issuer::new();
    let (server_certificate, server_key) = issuer.issue("localhost");
    let (certificate, key) = issuer.issue("client");
    let ca = file("ca.pem", issuer.0.pem());
    let chain = file("server.pem", server_certificate.pem());
    let private = file("server.key", server_key.serialize_pem());

    let mut roots = rustls::RootCertStore::empty();
    roots.add(issuer.0.der().clone()).unwrap();
    let client = |alpn: &[u8], with_certificate: bool| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone());
        let mut config = if with_certificate {
            let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
            builder.with_client_auth_cert(vec![certificate.der().clone()], key.into()).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        tokio_rustls::TlsConnector::from(Arc::new(config))
    };
    let name = || rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let request = "GET /thumbprint HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    let optional = tls_config(&chain, &private, Some(&ca), false).unwrap();
    let server =
        start(Options { tls: Some(optional), handshake_timeout: millis(200), ..options() });
    let expected: String = {
        use sha2::Digest;
        sha2::Sha256::digest(certificate.der()).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    for (with_certificate, expected) in [(true, expected.as_str()), (false, "none")] {
        let connector = client(b"http/1.1", with_certificate);
        let mut stream = connector.connect(name(), server.connect().await).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = to_end(&mut stream).await;
        assert!(answer.ends_with(expected), "{answer}");
    }
    // HTTP/2 by ALPN, and the scheme
    let connector = client(b"h2", false);
    let mut stream = connector.connect(name(), server.connect().await).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let head = [0x82, 0x87, 0x04, 6, b'/', b'h', b'e', b'l', b'l', b'o', 0x01, 1, b'x'];
    stream.write_all(&[h2_preface(), h2_frame(1, 5, 1, &head)].concat()).await.unwrap();
    until(&mut stream, "hello over https").await;
    // a missing handshake
    assert_eq!(server.exchange("").await, "");

    let required = tls_config(&chain, &private, Some(&ca), true).unwrap();
    let server = start(Options { tls: Some(required), ..options() });
    let connector = client(b"http/1.1", false);
    let refused = async {
        let mut stream = connector.connect(name(), server.connect().await).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut Vec::new()).await
    };
    assert!(refused.await.is_err());

    // each error names its fix
    let error_of = |certificate: &Path, key: &Path, ca: Option<&Path>| {
        tls_config(certificate, key, ca, false).unwrap_err().to_string()
    };
    let absent = folder.path().join("absent.pem");
    assert!(error_of(&absent, &private, None).contains("cannot read"));
    assert!(error_of(&chain, &absent, None).contains("absent.pem"));
    let empty = file("empty.pem", "nothing".into());
    assert!(error_of(&empty, &private, None).contains("contains no certificate"));
    assert!(error_of(&chain, &chain, None).contains("contains no private key"));
    assert!(error_of(&chain, &private, Some(&private)).contains("contains no certificate"));
    let binary = folder.path().join("binary.der");
    std::fs::write(&binary, certificate.der()).unwrap();
    assert!(error_of(&binary, &private, None).contains("contains no certificate"));
    let foreign = file("client.key", key.serialize_pem());
    assert!(error_of(&chain, &foreign, None).contains("does not match"));
}

#[tokio::test]
async fn an_unavailable_address_is_reported_with_the_fix() {
    let bound = bind(&options()).unwrap();
    let error_of = |options: &Options| bind(options).map(|_| ()).unwrap_err().to_string();
    let taken = error_of(&Options { listen: bound.local_addr(), ..options() });
    assert!(taken.contains("is in use by another process"), "{taken}");
    let elsewhere = error_of(&Options { listen: ([192, 0, 2, 1], 0).into(), ..options() });
    assert!(elsewhere.contains("not an address of a local interface"), "{elsewhere}");
}

#[tokio::test]
async fn two_processes_may_share_a_port() {
    let first = bind(&Options { reuse_port: true, ..options() }).unwrap();
    let shared = Options { listen: first.local_addr(), reuse_port: true, ..options() };
    assert_eq!(bind(&shared).unwrap().local_addr(), first.local_addr());
}
