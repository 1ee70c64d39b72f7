//! Events as messages: CloudEvents 1.0 in the binary or the structured content mode of its Kafka
//! protocol binding.

use rdkafka::message::{Header, OwnedHeaders};
use serde_json::{Value, json};

use crate::{
    config::{Config, KafkaEncoding, Provisioning},
    flows::cloud_event::{self, MEDIA_TYPE, attributes},
    model::event_types,
    storage::relay::OutboxRow,
};

/// The largest value that is copied into the dead-letter topic, in bytes.
pub const COPIED: usize = 256 * 1024;

/// A message to be sent.
#[derive(Debug)]
pub struct Message {
    pub topic: String,
    pub key: String,
    pub headers: Vec<(&'static str, String)>,
    /// `None`: a tombstone.
    pub value: Option<Vec<u8>>,
}

impl Message {
    pub fn headers(&self) -> OwnedHeaders {
        let headers = OwnedHeaders::new_with_capacity(self.headers.len());
        self.headers.iter().fold(headers, |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        })
    }

    /// The copy for the dead-letter topic.
    pub fn refused(&self, config: &Config, why: &str) -> Self {
        let own = [("error", why.to_owned()), ("topic", self.topic.clone())];
        Self {
            topic: config.kafka.topics.dead_letter.clone(),
            key: self.key.clone(),
            headers: own.into_iter().chain(self.headers.clone()).collect(),
            value: self.value.clone().filter(|value| value.len() <= COPIED),
        }
    }
}

/// The messages of an event, in the order in which they are sent.
pub fn of(row: &OutboxRow, config: &Config) -> Vec<Message> {
    let topics = &config.kafka.topics;
    let data: Value = serde_json::from_str(&row.data).unwrap_or_default();
    let mut messages = vec![structured(row, config, &topics.events, &row.kind, data.clone())];
    match row.kind.as_str() {
        "user.created" if asks_for_a_profile(row, config) => {
            let data = profile(row, data);
            debug_assert_eq!(event_types::check_profile(&data), Ok(()), "user.create");
            messages.push(match config.kafka.encoding {
                KafkaEncoding::Binary => Message {
                    topic: topics.user_create.clone(),
                    key: row.subject.clone(),
                    headers: binary_headers(row, config, "user.create"),
                    value: Some(data.to_string().into_bytes()),
                },
                KafkaEncoding::Structured => {
                    structured(row, config, &topics.user_create, "user.create", data)
                }
            });
        }
        "user.deleted" if config.user_service.mode != Provisioning::Grpc => {
            messages.push(Message {
                topic: topics.user_create.clone(),
                key: row.subject.clone(),
                headers: binary_headers(row, config, "user.deleted"),
                value: None,
            });
        }
        _ => {}
    }
    messages
}

/// With a user service that may refuse an account: of the accounts it may refuse.
fn asks_for_a_profile(row: &OutboxRow, config: &Config) -> bool {
    match config.user_service.mode {
        Provisioning::Off => true,
        Provisioning::Kafka => row.saga_id.is_some(),
        // It is called.
        Provisioning::Grpc => false,
    }
}

/// The data of `user.create`.
fn profile(row: &OutboxRow, created: Value) -> Value {
    let field = |name: &str| created.get(name).cloned().unwrap_or_default();
    json!({
        "id": row.subject,
        "userId": row.subject,
        "username": field("username"),
        "email": field("email"),
        "role": field("role"),
        "isVerified": field("isVerified").as_bool().unwrap_or(false),
        "createdAt": row.created_at.rfc3339(),
        "correlationId": row.correlation_id,
        "sagaId": row.saga_id,
        "externalId": field("externalId"),
    })
}

fn binary_headers(row: &OutboxRow, config: &Config, kind: &str) -> Vec<(&'static str, String)> {
    let named = attributes(row, &config.server.issuer, kind).into_iter().map(|(name, value)| {
        let name = match name {
            "specversion" => "ce_specversion",
            "type" => "ce_type",
            "source" => "ce_source",
            "id" => "ce_id",
            "subject" => "ce_subject",
            "time" => "ce_time",
            _ => "ce_correlationid",
        };
        (name, value)
    });
    named.chain([("content-type", "application/json".to_owned())]).collect()
}

fn structured(row: &OutboxRow, config: &Config, topic: &str, kind: &str, data: Value) -> Message {
    Message {
        topic: topic.to_owned(),
        key: row.subject.clone(),
        headers: vec![("content-type", MEDIA_TYPE.to_owned())],
        value: Some(cloud_event::structured(row, &config.server.issuer, kind, data)),
    }
}
