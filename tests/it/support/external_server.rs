//! A server of a third party on the Internet: https on loopback, with a certificate authority of
//! its own.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// Responses by path, with or without its query, byte for byte; `None` is never answered.
type Answers = Arc<Mutex<HashMap<String, Option<Vec<u8>>>>>;

/// Header section and body of each request, by path.
type Requests = Arc<Mutex<HashMap<String, Vec<(String, String)>>>>;

pub struct ExternalServer {
    /// `https://127.0.0.1:port`
    pub base: String,
    ca: TempDir,
    answers: Answers,
    connection_count: Arc<AtomicUsize>,
    requests: Requests,
}

impl ExternalServer {
    pub async fn start() -> Self {
        let names = ["127.0.0.1", "app.example"].map(str::to_owned);
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(names).expect("a certificate");
        let ca = tempfile::tempdir().expect("a folder");
        std::fs::write(ca.path().join("ca.pem"), cert.pem()).expect("written");
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
        let base = format!("https://{}", listener.local_addr().expect("an address"));
        let answers = Answers::default();
        let connection_count = Arc::new(AtomicUsize::new(0));
        let requests = Requests::default();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let (known, counted, posted) =
            (Arc::clone(&answers), Arc::clone(&connection_count), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (acceptor, known, posted) =
                    (acceptor.clone(), Arc::clone(&known), Arc::clone(&posted));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let request = read(&mut stream).await;
                    let (head, body) = request.split_once("\r\n\r\n").unwrap_or((&request, ""));
                    let path = head.split(' ').nth(1).unwrap_or_default();
                    let path = path.to_owned();
                    let request = (head.to_owned(), body.to_owned());
                    posted.lock().expect("no panic").entry(path.clone()).or_default().push(request);
                    let without_query = path.split('?').next().unwrap_or_default();
                    let answer = {
                        let known = known.lock().expect("no panic");
                        known.get(&path).or_else(|| known.get(without_query)).cloned()
                    };
                    let answer = answer.unwrap_or_else(|| Some(response(404, "", "")));
                    match answer {
                        Some(answer) => drop(stream.write_all(&answer).await),
                        None => std::future::pending().await,
                    }
                    // Open until the client closes: it must find the end of a response by itself.
                    let _ = stream.read(&mut [0; 1024]).await;
                });
            }
        });
        Self { base, ca, answers, connection_count, requests }
    }

    /// Sets the response at a path, as JSON unless the headers have another type. `headers`: whole
    /// lines, each with its end.
    pub fn put(&self, path: &str, status: u16, headers: &str, body: impl Into<String>) {
        let mut headers = headers.to_owned();
        if !headers.contains("Content-Type:") {
            headers.push_str("Content-Type: application/json\r\n");
        }
        self.put_raw(path, response(status, &headers, &body.into()));
    }

    /// Sets the response at a path, byte for byte. It may be the beginning of one: the connection
    /// stays open.
    pub fn put_raw(&self, path: &str, response: impl Into<Vec<u8>>) {
        let answer = Some(response.into());
        self.answers.lock().expect("no panic").insert(path.to_owned(), answer);
    }

    /// Never answers requests to a path.
    pub fn silence(&self, path: &str) {
        self.answers.lock().expect("no panic").insert(path.to_owned(), None);
    }

    /// The number of connections so far: one for each request, since responses end them.
    pub fn connection_count(&self) -> usize {
        self.connection_count.load(Ordering::SeqCst)
    }

    /// What was posted to a path last.
    pub fn posted(&self, path: &str) -> Option<String> {
        let requests = self.requests.lock().expect("no panic");
        requests.get(path)?.last().map(|(_, body)| body.clone())
    }

    /// Header section and body of each request to a path so far.
    pub fn requests(&self, path: &str) -> Vec<(String, String)> {
        self.requests.lock().expect("no panic").get(path).cloned().unwrap_or_default()
    }

    /// The number of requests to a path so far.
    pub fn count(&self, path: &str) -> usize {
        self.requests.lock().expect("no panic").get(path).map_or(0, Vec::len)
    }

    /// A URL of this server with another host.
    pub fn url(&self, host: &str) -> String {
        self.base.replace("127.0.0.1", host)
    }

    /// The certificate authority of its certificate, which is for 127.0.0.1 and app.example.
    pub fn ca_file(&self) -> PathBuf {
        self.ca.path().join("ca.pem")
    }

    /// The settings that let Propusk connect to this server.
    pub fn settings(&self) -> [(&'static str, String); 2] {
        let ca = self.ca_file().display().to_string();
        [
            ("PROPUSK_OUTBOUND__ALLOWED_NETWORKS", "127.0.0.0/8".to_owned()),
            ("PROPUSK_OUTBOUND__CA_FILE", ca),
        ]
    }
}

fn response(status: u16, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} OK\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

/// A request: its header section, and as much of a body as that announces.
async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut request = vec![];
    loop {
        let mut more = [0; 8192];
        let read = stream.read(&mut more).await.unwrap_or(0);
        request.extend_from_slice(&more[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            if read == 0 {
                return text;
            }
            continue;
        };
        let response = head.to_ascii_lowercase();
        let length = response
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next())
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        if read == 0 || body.len() >= length {
            return text;
        }
    }
}
