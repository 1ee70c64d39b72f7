//! Connections to Kafka, as `[kafka]` describes them.

use std::{error::Error, path::PathBuf, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rdkafka::{
    ClientConfig, ClientContext,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    producer::FutureProducer,
};
use serde_json::Value;

use crate::config::{self, KafkaSecurity};

pub type Producer = FutureProducer<Context>;

/// The timeout of creating topics.
const CREATING: Duration = Duration::from_secs(10);

/// The most bytes of a batch with several messages. A topic refuses a batch above its
/// `max.message.bytes` with all that is in it; where that is larger than this, only a message that
/// is too large by itself is refused.
const BATCH_BYTES: u32 = 64 * 1024;

/// What librdkafka asks and tells.
#[derive(Clone, Debug)]
pub struct Context {
    token_file: Option<PathBuf>,
    principal: String,
}

impl Context {
    pub fn new(config: &config::Kafka) -> Self {
        Self { token_file: config.token_file.clone(), principal: config.username.clone() }
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // The broker that cannot be reached is reported by the relay, once.
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, message, "librdkafka");
            }
            _ => tracing::debug!(facility, message, "librdkafka"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka reports an error");
    }

    /// The token in `kafka.token_file`, until its `exp`.
    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let path = self.token_file.as_ref().ok_or("kafka.token_file is not set")?;
        let token = std::fs::read_to_string(path)?.trim().to_owned();
        let payload = token.split('.').nth(1).ok_or("kafka.token_file has no JWT")?;
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
        let expires = claims["exp"].as_i64().ok_or("the token has no exp")?;
        let subject = claims["sub"].as_str().unwrap_or_default();
        let principal = if self.principal.is_empty() { subject } else { &self.principal };
        Ok(OAuthToken {
            principal_name: principal.to_owned(),
            lifetime_ms: expires.saturating_mul(1_000),
            token,
        })
    }
}

impl ConsumerContext for Context {}

/// The settings that every client has.
pub fn client(config: &config::Kafka) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", config.brokers.join(","))
        .set("client.id", &config.client_id)
        .set("socket.keepalive.enable", "true")
        .set("reconnect.backoff.max.ms", "1000")
        .set(
            "security.protocol",
            match config.security {
                KafkaSecurity::Plaintext => "plaintext",
                KafkaSecurity::Tls => "ssl",
                KafkaSecurity::SaslPlaintext => "sasl_plaintext",
                KafkaSecurity::SaslTls => "sasl_ssl",
            },
        );
    if let Some(file) = &config.ca_file {
        client.set("ssl.ca.location", file.display().to_string());
    }
    if config.security.has_sasl() {
        client.set("sasl.mechanism", config.sasl_mechanism.as_str());
        if config.token_file.is_none() {
            client.set("sasl.username", &config.username).set("sasl.password", &config.password);
        }
    }
    client
}

/// A producer that keeps the order of the messages of a key and writes each once, whatever the
/// brokers do meanwhile. It gives no message up: while Kafka is away, they wait.
pub fn producer(config: &config::Kafka) -> KafkaResult<Producer> {
    client(config)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.codec", config.compression.as_str())
        .set("linger.ms", "5")
        .set("batch.size", BATCH_BYTES.to_string())
        // As Java's and kafkajs' default, so that every producer puts a key in the same partition.
        .set("partitioner", "murmur2_random")
        .set("message.timeout.ms", "0")
        .create_with_context(Context::new(config))
}

/// Creates the topics that do not exist.
///
/// # Errors
/// Names the topic and says why it was refused.
pub async fn create_topics(config: &config::Kafka) -> Result<(), String> {
    let admin: KafkaResult<AdminClient<Context>> =
        client(config).create_with_context(Context::new(config));
    let admin = admin.map_err(|error| error.to_string())?;
    let topics = &config.topics;
    // -1: the brokers' default.
    let new = |name| NewTopic::new(name, -1, TopicReplication::Fixed(-1));
    // Keeps the newest message of each user for as long as the account exists.
    let of_users = new(&topics.user_create).set("cleanup.policy", "compact,delete");
    let new = [
        new(&topics.events),
        of_users,
        new(&topics.user_create_close),
        new(&topics.user_create_done),
        new(&topics.dead_letter),
    ];
    let options = AdminOptions::new().request_timeout(Some(CREATING));
    let created = admin.create_topics(&new, &options).await.map_err(|error| error.to_string())?;
    let refused = created.into_iter().filter_map(Result::err);
    let mut refused = refused.filter(|(_, code)| *code != RDKafkaErrorCode::TopicAlreadyExists);
    match refused.next() {
        Some((topic, code)) => Err(format!("topic {topic} cannot be created: {code}")),
        None => Ok(()),
    }
}
