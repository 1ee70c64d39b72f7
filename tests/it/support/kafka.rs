//! Kafka: the broker that `./dev/test` starts, brokers that a test kills, and kafkajs as the reader
//! and writer of topics.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child as Node, ChildStdin, ChildStdout},
};

use super::process::{ending_with_us, free_port};

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run ./dev/test"))
}

/// The broker that `./dev/test` has started, for topics of a test's own.
pub fn shared_broker() -> String {
    variable("PROPUSK_TEST_KAFKA_BROKER")
}

/// A broker for one test; killed when it is dropped.
pub struct Broker {
    child: Child,
    folder: TempDir,
    pub address: String,
    /// Where it asks for TLS and SASL, if it does.
    pub secured: Option<String>,
}

/// The credentials of the user `propusk` at a broker that asks for them: PLAIN and SCRAM.
pub const PASSWORD: &str = "secret";

impl Broker {
    pub async fn start() -> Self {
        Self::with(None).await
    }

    /// One that has a second address, with TLS by this key and certificate (PEM) and with SASL.
    pub async fn start_secured(key_and_certificate: &str) -> Self {
        Self::with(Some(key_and_certificate)).await
    }

    async fn with(key_and_certificate: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (port, controller) = (free_port().to_string(), free_port().to_string());
        let secure = free_port().to_string();
        let mut properties = include_str!("../../kafka/server.properties").to_owned();
        if let Some(pem) = key_and_certificate {
            fs::write(path("keystore.pem"), pem).expect("a file");
            properties.push_str(include_str!("../../kafka/secured.properties"));
        }
        let properties = properties
            .replace("@PORT@", &port)
            .replace("@CONTROLLER@", &controller)
            .replace("@SECURE@", &secure)
            .replace("@KEYSTORE@", &path("keystore.pem"))
            .replace("@FOLDER@", &path("logs"));
        fs::write(path("server.properties"), properties).expect("a file");
        let address = format!("127.0.0.1:{port}");
        let secured = key_and_certificate.map(|_| format!("127.0.0.1:{secure}"));
        let mut broker = Self { child: spawn(&folder), folder, address, secured };
        broker.wait().await;
        broker
    }

    /// kill -9
    pub fn kill(&mut self) {
        self.child.kill().expect("a child");
        self.child.wait().expect("its end");
    }

    /// SIGTERM, and waits until it has ended.
    pub fn stop(&mut self) {
        let id = self.child.id().to_string();
        Command::new("kill").arg(id).status().expect("kill runs");
        self.child.wait().expect("its end");
    }

    /// Starts it again with what it has on disk.
    pub async fn restart(&mut self) {
        self.child = spawn(&self.folder);
        self.wait().await;
    }

    /// Polls: another process cannot be awaited otherwise.
    async fn wait(&mut self) {
        for _ in 0..1_200 {
            if tokio::net::TcpStream::connect(&self.address).await.is_ok() {
                return;
            }
            if let Some(status) = self.child.try_wait().expect("a child") {
                let log = fs::read_to_string(self.folder.path().join("log")).expect("the log");
                panic!("Kafka exited with {status}: {log}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("Kafka does not listen after a minute");
    }
}

fn spawn(folder: &TempDir) -> Child {
    let log = fs::File::create(folder.path().join("log")).expect("a log");
    let run = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/run");
    ending_with_us(run)
        .arg(variable("PROPUSK_TEST_KAFKA_LIBS"))
        .arg(folder.path().join("server.properties"))
        .args(["SCRAM-SHA-256", "SCRAM-SHA-512"].iter().flat_map(|mechanism| {
            ["--add-scram".to_owned(), format!("{mechanism}=[name=propusk,password={PASSWORD}]")]
        }))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("Java runs")
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A message as kafkajs gives it.
#[derive(Clone, Debug, Deserialize)]
pub struct Received {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub headers: std::collections::BTreeMap<String, String>,
    /// `None`: a tombstone.
    pub value: Option<String>,
}

impl Received {
    /// The value as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        let value = self.value.as_deref().unwrap_or_else(|| panic!("a tombstone: {self:?}"));
        serde_json::from_str(value).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// The CloudEvents `id`, in either content mode.
    #[track_caller]
    pub fn id(&self) -> String {
        let from_headers = self.headers.get("ce_id").cloned();
        from_headers.unwrap_or_else(|| self.json()["id"].as_str().expect("an id").to_owned())
    }
}

fn node(arguments: &[&str]) -> (Node, ChildStdin, Lines<BufReader<ChildStdout>>) {
    let folder = PathBuf::from(variable("PROPUSK_TEST_CLIENTS_DIR"));
    let mut child = tokio::process::Command::from(ending_with_us("node"))
        .arg(folder.join("kafka.mjs"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("Node.js runs");
    let input = child.stdin.take().expect("its input");
    let output = BufReader::new(child.stdout.take().expect("its output")).lines();
    (child, input, output)
}

/// A kafkajs consumer, from the beginning of its topics.
pub struct Reader {
    _child: Node,
    _input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// What has been read so far.
    pub messages: Vec<Received>,
}

impl Reader {
    /// Begins to read once the topics exist.
    pub fn start(broker: &str, topics: &[&str]) -> Self {
        let arguments: Vec<&str> = ["consume", broker].iter().chain(topics).copied().collect();
        let (child, input, lines) = node(&arguments);
        Self { _child: child, _input: input, lines, messages: vec![] }
    }

    /// Reads until the condition holds.
    pub async fn until(&mut self, holds: impl Fn(&[Received]) -> bool) -> &[Received] {
        while !holds(&self.messages) {
            let line = tokio::time::timeout(Duration::from_secs(90), self.lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("no further message: {:#?}", self.messages));
            let line = line.expect("its output").expect("Node.js runs");
            self.messages.push(serde_json::from_str(&line).expect("a message"));
        }
        &self.messages
    }
}

/// `examples/user-service`, running.
pub struct UserService {
    _child: Node,
    lines: Lines<BufReader<ChildStdout>>,
}

impl UserService {
    /// Refuses accounts with email addresses of this domain.
    pub fn start(broker: &str, topics: &Topics, refused_domain: &str) -> Self {
        let folder = PathBuf::from(variable("PROPUSK_TEST_CLIENTS_DIR"));
        let example =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/user-service/service.mjs");
        // Beside the libraries that it imports.
        let script = folder.join(format!("{}.mjs", topics.events));
        fs::copy(example, &script).expect("a copy");
        let mut child = tokio::process::Command::from(ending_with_us("node"))
            .arg(script)
            .current_dir(folder)
            .env("KAFKA_BROKER", broker)
            .env("TOPIC_CREATE", &topics.user_create)
            .env("TOPIC_CLOSE", &topics.user_create_close)
            .env("TOPIC_DONE", &topics.user_create_done)
            .env("GROUP", format!("{}.user-service", topics.events))
            .env("REFUSED_DOMAIN", refused_domain)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Node.js runs");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { _child: child, lines }
    }

    /// Its next decision.
    pub async fn next(&mut self) -> Value {
        loop {
            let line = tokio::time::timeout(Duration::from_secs(90), self.lines.next_line()).await;
            let line = line.expect("a decision").expect("its output").expect("Node.js runs");
            let value: Value = serde_json::from_str(&line).expect("JSON");
            // Its library logs to standard output, too.
            if value.get("level").is_none() {
                return value;
            }
        }
    }
}

/// Sends messages by kafkajs: `{ topic, key, headers, value }`.
pub async fn produce(broker: &str, messages: &[Value]) {
    let (_child, mut input, mut lines) = node(&["produce", broker]);
    for message in messages {
        input.write_all(format!("{message}\n").as_bytes()).await.expect("written");
        let sent = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
        let sent = sent.expect("Kafka answers").expect("its output");
        assert_eq!(sent.as_deref(), Some("\"sent\""));
    }
}

/// Creates a topic with a configuration of its own.
pub async fn create_topic(broker: &str, name: &str, config: &Value) {
    let config = config.to_string();
    let (_child, _input, mut lines) = node(&["topic", broker, name, &config]);
    let created = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
    let created = created.expect("Kafka answers").expect("its output");
    assert_eq!(created.as_deref(), Some("\"created\""));
}

/// Topics and a consumer group that no other test has.
pub struct Topics {
    pub events: String,
    pub user_create: String,
    pub user_create_close: String,
    pub user_create_done: String,
    pub dead_letter: String,
}

impl Topics {
    pub fn new() -> Self {
        let mut bytes = [0; 8];
        propusk::clock::Rng::system().fill(&mut bytes);
        let prefix = format!("t{:016x}", u64::from_be_bytes(bytes));
        let topic = |name| format!("{prefix}.{name}");
        Self {
            events: topic("events"),
            user_create: topic("user.create"),
            user_create_close: topic("user.create.close"),
            user_create_done: topic("user.create.done"),
            dead_letter: topic("dead-letter"),
        }
    }

    /// The settings of servers that use them.
    pub fn settings<'a>(&'a self, broker: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![
            ("PROPUSK_KAFKA__BROKERS", broker),
            ("PROPUSK_KAFKA__GROUP", &self.events),
            ("PROPUSK_KAFKA__CREATE_TOPICS", "true"),
            ("PROPUSK_KAFKA__TOPICS__EVENTS", &self.events),
            ("PROPUSK_KAFKA__TOPICS__USER_CREATE", &self.user_create),
            ("PROPUSK_KAFKA__TOPICS__USER_CREATE_CLOSE", &self.user_create_close),
            ("PROPUSK_KAFKA__TOPICS__USER_CREATE_DONE", &self.user_create_done),
            ("PROPUSK_KAFKA__TOPICS__DEAD_LETTER", &self.dead_letter),
        ]
    }
}
