//! The consumer of `user.create.close`, by which the user service refuses an account, and of
//! `user.create.done`, by which it confirms a profile.
//!
//! Every process consumes, as a member of one group. The offset of a message is stored after the
//! commit of what it caused, so that a crash repeats the message; a repeated one changes nothing.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    Message as _,
    consumer::{Consumer as _, StreamConsumer},
    error::KafkaResult,
    message::{BorrowedMessage, Header, Headers as _, OwnedHeaders},
    producer::FutureRecord,
    util::Timeout,
};
use serde_json::{Map, Value};

use super::{
    kafka::{self, Context, Producer},
    messages::COPIED,
};
use crate::{
    app::App,
    config::OnDeadline,
    flows::provisioning::{self, Outcome, ServiceReply},
};

/// How long a failure of Kafka or of the database is waited for.
const RETRY: Duration = Duration::from_secs(1);

/// The longest `reason` that is kept, in characters.
const REASON: usize = 500;

/// Runs until it is dropped.
pub async fn run(app: Arc<App>) {
    loop {
        if let Err(error) = consume(&app).await {
            tracing::warn!(%error, "consuming replies of the user service failed; will retry");
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn consume(app: &App) -> KafkaResult<()> {
    let config = &app.config.kafka;
    let consumer: StreamConsumer<Context> = kafka::client(config)
        .set("group.id", &config.group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.offset.store", "false")
        .set("auto.commit.interval.ms", "500")
        // After a kill another process has its partitions within this time; the default is 45 s.
        .set("session.timeout.ms", "10000")
        .create_with_context(Context::new(config))?;
    let mut topics = vec![config.topics.user_create_close.as_str()];
    if app.config.user_service.on_deadline == OnDeadline::Compensate {
        topics.push(&config.topics.user_create_done);
    }
    consumer.subscribe(&topics)?;
    let dead_letters = kafka::producer(config)?;
    let mut reported = false;
    loop {
        let message = match consumer.recv().await {
            Ok(message) => message,
            Err(error) => {
                // librdkafka reconnects by itself; the topic may not exist yet.
                if !reported {
                    tracing::warn!(%error, "replies of the user service cannot be consumed; will retry");
                }
                reported = true;
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        reported = false;
        let rejected = match parse(&message) {
            Ok(reply) => match decide(app, &reply, message.topic()).await {
                Outcome::Compensated | Outcome::Confirmed | Outcome::AlreadyDone => None,
                Outcome::Rejected(why) => Some(why),
            },
            Err(why) => {
                tracing::warn!(
                    partition = message.partition(),
                    offset = message.offset(),
                    why,
                    "a message of the user service cannot be read"
                );
                Some(why)
            }
        };
        if let Some(why) = rejected {
            bury(app, &dead_letters, &message, why).await;
        }
        consumer.store_offset_from_message(&message)?;
    }
}

/// What follows from a message, once the database works.
async fn decide(app: &App, reply: &ServiceReply, topic: &str) -> Outcome {
    let confirms = topic == app.config.kafka.topics.user_create_done;
    loop {
        let outcome = match confirms {
            true => provisioning::confirm_profile(app, reply).await,
            false => provisioning::compensate(app, reply).await,
        };
        match outcome {
            Ok(outcome) => return outcome,
            Err(error) => {
                let user_id = reply.user_id.as_str();
                tracing::error!(%error, user_id, "concluding a registration failed; will retry");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Reads a message tolerantly: plain JSON, or a CloudEvent in binary or structured mode.
fn parse(message: &BorrowedMessage<'_>) -> Result<ServiceReply, &'static str> {
    let key = message.key().and_then(|key| std::str::from_utf8(key).ok());
    reply(message.payload().unwrap_or_default(), key)
}

fn reply(value: &[u8], key: Option<&str>) -> Result<ServiceReply, &'static str> {
    let value: Value = serde_json::from_slice(value).map_err(|_| "the value is not JSON")?;
    let Value::Object(fields) = value else {
        return Err("the value is not a JSON object");
    };
    let (event, data) = match (fields.get("specversion"), fields.get("data")) {
        // A structured event's own `id` is not the user's.
        (Some(_), Some(Value::Object(data))) => (Some(&fields), data),
        (Some(_), _) => return Err("the event has no data"),
        _ => (None, &fields),
    };
    let id = ["id", "userId", "user_id"].iter().find_map(|name| text(data, name));
    let id = id.or_else(|| key.map(str::to_owned)).filter(|id| !id.is_empty());
    let correlation_id = text(data, "correlationId")
        .or_else(|| event.and_then(|event| text(event, "correlationid")));
    Ok(ServiceReply {
        user_id: id.ok_or("there is no user id, in the value or as the key")?.into(),
        saga_id: text(data, "sagaId"),
        reason: text(data, "reason").map(|reason| reason.chars().take(REASON).collect()),
        correlation_id: correlation_id.map(|id| id.chars().take(128).collect()),
    })
}

/// A text, or a number as text.
fn text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    match fields.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Copies a message to the dead-letter topic, with what is wrong and where it is.
async fn bury(app: &App, producer: &Producer, message: &BorrowedMessage<'_>, why: &str) {
    let own = [
        ("error", why.to_owned()),
        ("topic", message.topic().to_owned()),
        ("partition", message.partition().to_string()),
        ("offset", message.offset().to_string()),
    ];
    let mut headers = own.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    });
    for header in message.headers().into_iter().flat_map(|headers| headers.iter()) {
        headers = headers.insert(header);
    }
    loop {
        let topic = &app.config.kafka.topics.dead_letter;
        let mut record = FutureRecord::to(topic).headers(headers.clone());
        if let Some(key) = message.key() {
            record = record.key(key);
        }
        if let Some(value) = message.payload().filter(|value| value.len() <= COPIED) {
            record = record.payload(value);
        }
        match producer.send(record, Timeout::Never).await {
            Ok(_) => return,
            Err((error, _)) => {
                tracing::warn!(%error, "a dead letter was not accepted; will retry");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::reply;

    fn id(value: &str, key: Option<&str>) -> Result<String, &'static str> {
        reply(value.as_bytes(), key).map(|reply| reply.user_id.into())
    }

    #[test]
    fn a_reply_is_read_in_every_form() {
        assert_eq!(id(r#"{"id":"a","userId":"b"}"#, Some("k")).unwrap(), "a");
        assert_eq!(id(r#"{"userId":"b","more":[1]}"#, None).unwrap(), "b");
        assert_eq!(id(r#"{"user_id":7}"#, None).unwrap(), "7");
        assert_eq!(id(r#"{"reason":"no"}"#, Some("k")).unwrap(), "k");
        let event = r#"{"specversion":"1.0","id":"e","correlationid":"c","data":{"user_id":"u"}}"#;
        let read = reply(event.as_bytes(), Some("k")).unwrap();
        assert_eq!((read.user_id.as_str(), read.correlation_id.as_deref()), ("u", Some("c")));
        let all = r#"{"id":"a","sagaId":"s","reason":"taken","correlationId":"c"}"#;
        let read = reply(all.as_bytes(), None).unwrap();
        assert_eq!(read.saga_id.as_deref(), Some("s"));
        assert_eq!(read.reason.as_deref(), Some("taken"));
        assert_eq!(read.correlation_id.as_deref(), Some("c"));
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for value in ["", "close", "[]", "7", "{", r#"{"specversion":"1.0","id":"e"}"#] {
            assert!(id(value, Some("k")).is_err(), "{value}");
        }
        assert!(id("{}", None).is_err());
        assert!(id(r#"{"id":""}"#, None).is_err());
    }
}
