//! Events as CloudEvents 1.0: what Kafka and webhooks carry.

use serde_json::{Map, Value};

use crate::storage::relay::OutboxRow;

/// The media type of [`structured`].
pub const MEDIA_TYPE: &str = "application/cloudevents+json; charset=UTF-8";

/// The attributes of an event, in the order of the specification. `source`: the issuer.
pub fn attributes(row: &OutboxRow, source: &str, kind: &str) -> Vec<(&'static str, String)> {
    let mut attributes = vec![
        ("specversion", "1.0".to_owned()),
        ("type", kind.to_owned()),
        ("source", source.to_owned()),
        ("id", row.id.clone()),
        ("subject", row.subject.clone()),
        ("time", row.created_at.rfc3339()),
    ];
    if let Some(id) = &row.correlation_id {
        attributes.push(("correlationid", id.clone()));
    }
    attributes
}

/// An event in the structured content mode: one JSON document.
pub fn structured(row: &OutboxRow, source: &str, kind: &str, data: Value) -> Vec<u8> {
    let attributes = attributes(row, source, kind).into_iter();
    let mut event: Map<String, Value> =
        attributes.map(|(name, value)| (name.to_owned(), value.into())).collect();
    event.insert("datacontenttype".to_owned(), "application/json".into());
    event.insert("data".to_owned(), data);
    Value::Object(event).to_string().into_bytes()
}
