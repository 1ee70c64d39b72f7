//! A customer service in a process of its own: `tests/clients/customer_service.mjs`.

use std::process::Stdio;

use rcgen::{CertifiedKey, KeyPair, PKCS_ECDSA_P256_SHA256, generate_simple_self_signed};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// The secret has what form-encoding changes (RFC 6749 §2.3.1).
pub const CLIENT_ID: &str = "pro pusk:1";
pub const CLIENT_SECRET: &str = "canary-secret%+ä&=:";

/// A running service; killed when it is dropped.
pub struct CustomerService {
    /// `https://127.0.0.1:port`
    pub base: String,
    folder: TempDir,
    http: reqwest::Client,
    child: Child,
}

impl CustomerService {
    pub async fn start() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("ca.pem"), cert.pem()).expect("written");
        std::fs::write(path("key.pem"), signing_key.serialize_pem()).expect("written");
        let assertions = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        std::fs::write(path("assertions.pem"), assertions.serialize_pem()).expect("written");
        let ca = reqwest::Certificate::from_pem(cert.pem().as_bytes()).expect("a certificate");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().add_root_certificate(ca).build().expect("a client");
        let (child, base) = Self::spawn(&folder, &assertions.public_key_pem(), 0).await;
        std::fs::write(path("public.pem"), assertions.public_key_pem()).expect("written");
        Self { base, folder, http, child }
    }

    async fn spawn(folder: &TempDir, public_key: &str, port: u16) -> (Child, String) {
        let path = |name: &str| folder.path().join(name);
        let settings = json!({
            "certificate": path("ca.pem"), "key": path("key.pem"), "clientId": CLIENT_ID,
            "clientSecret": CLIENT_SECRET, "publicKey": public_key, "port": port,
        });
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new("node")
            .arg(root.join("tests/clients/customer_service.mjs"))
            .arg(settings.to_string())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Node.js runs");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let line = lines.next_line().await.expect("its output").expect("a line");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        (child, line["base"].as_str().expect("a URL").to_owned())
    }

    /// kill -9: nothing listens any more.
    pub async fn stop(&mut self) {
        self.child.kill().await.expect("killed");
    }

    /// Starts again at the same port, without what it knew.
    pub async fn start_again(&mut self) {
        let public = self.folder.path().join("public.pem");
        let public = std::fs::read_to_string(public).expect("the key");
        let port = self.base.rsplit(':').next().and_then(|port| port.parse().ok());
        let (child, base) = Self::spawn(&self.folder, &public, port.expect("a port")).await;
        assert_eq!(base, self.base);
        self.child = child;
    }

    /// What was requested so far.
    pub async fn state(&self) -> Value {
        let sent = self.http.get(format!("{}/control", self.base)).send().await;
        sent.expect("an answer").json().await.expect("JSON")
    }

    /// Changes how it answers.
    pub async fn set(&self, change: Value) {
        let request = self.http.post(format!("{}/control", self.base));
        request.body(change.to_string()).send().await.expect("an answer");
    }

    /// A page, as a browser would get it.
    pub async fn page(&self, url: &str) -> String {
        let sent = self.http.get(url).send().await.expect("an answer");
        sent.text().await.expect("a page")
    }

    /// The number of token requests so far.
    pub async fn token_requests(&self) -> usize {
        self.state().await["tokenRequests"].as_array().expect("a list").len()
    }

    /// The number of requests to its API so far.
    pub async fn api_requests(&self) -> usize {
        self.state().await["apiRequests"].as_array().expect("a list").len()
    }

    /// The settings of the service `crm`, for the clients `shop`.
    pub fn settings(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let base = self.base.as_str();
        let mut all: Vec<(String, String)> = vec![
            ("PROPUSK_OUTBOUND__ALLOWED_NETWORKS".to_owned(), "127.0.0.0/8".to_owned()),
            ("PROPUSK_OUTBOUND__CA_FILE".to_owned(), file("ca.pem")),
        ];
        let mut add = |key: &str, value: &str| {
            let key = format!("PROPUSK_SERVICES__CRM__{key}");
            all.retain(|(known, _)| *known != key);
            // A value that starts with `/` is a path at the service; `file:` one of its files.
            let value = match value.strip_prefix("file:") {
                Some(name) => file(name),
                None if value.starts_with('/') => format!("{base}{value}"),
                None => value.to_owned(),
            };
            all.push((key, value));
        };
        for (key, value) in [
            ("TOKEN_URL", "/token"),
            ("CLIENT_ID", CLIENT_ID),
            ("CLIENT_SECRET", CLIENT_SECRET),
            ("SCOPE", "customers:read"),
            ("CLIENTS", "shop"),
            ("TIMEOUT", "2s"),
            ("RESOURCE__PROFILE__URL", "/customers/{sub}"),
            ("RESOURCE__PROFILE__QUERY", "customer={sub}"),
            (
                "RESOURCE__PROFILE__FIELDS",
                "name,subject,path,customer,contracts[].number,nested,missing[].x",
            ),
        ] {
            add(key, value);
        }
        for (key, value) in more {
            add(key, value);
        }
        all
    }
}
