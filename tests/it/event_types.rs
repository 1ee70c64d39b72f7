//! The types of events: what is written to the outbox is what the AsyncAPI document says.

use std::{collections::BTreeSet, fs, path::Path};

use propusk::{
    flows::admin::{
        access::Precondition,
        users::{self, UserChanges},
    },
    model::{
        actor::Actor,
        event::Event,
        event_types::{EVENT_TYPES, asyncapi, check},
        user::Role,
    },
};
use serde_json::Value;

use crate::support::{Backend, TestServer, backend_tests};

backend_tests! { every_event_in_the_outbox_matches_its_schema }

/// The schema of the data of each type of events, as the committed document has it.
fn schemas() -> Value {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/asyncapi.json");
    let document = fs::read_to_string(document).expect("the document");
    let document: Value = serde_json::from_str(&document).expect("JSON");
    document["channels"]["events"]["messages"].clone()
}

/// What is wrong with the data of an event, by its JSON Schema.
fn faults(schemas: &Value, kind: &str, data: &Value) -> Vec<String> {
    let message = &schemas[kind.replace('.', "_")];
    let schema = &message["payload"]["properties"]["data"];
    let Some(properties) = schema["properties"].as_object() else {
        return vec![format!("{kind} is not in the document")];
    };
    let data = data.as_object().expect("an object");
    let required = schema["required"].as_array().expect("names").iter();
    let required = required.map(|name| name.as_str().expect("a name"));
    let absent = required.filter(|name| !data.contains_key(*name));
    let mut found: Vec<String> = absent.map(|name| format!("{kind}: no {name}")).collect();
    for (name, value) in data {
        let Some(property) = properties.get(name) else {
            found.push(format!("{kind}: {name} is not in the document"));
            continue;
        };
        let is = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let allowed = &property["type"];
        if allowed != is && !allowed.as_array().is_some_and(|all| all.iter().any(|one| one == is)) {
            found.push(format!("{kind}: {name} is {value}"));
        }
        let items = &property["items"]["type"];
        if value
            .as_array()
            .is_some_and(|all| items != "string" || !all.iter().all(Value::is_string))
        {
            found.push(format!("{kind}: {name} is {value}"));
        }
    }
    found
}

async fn every_event_in_the_outbox_matches_its_schema(backend: Backend) {
    let server = TestServer::with(backend, &[]).await;
    let (app, operator) = (&server.app, Actor::operator());
    server.module("crm", "crm:read", None, true).await;
    let ann = server.register("ann").await;
    server.register("bob").await;
    server.switch(&ann.access, "crm", "enable").await.expect(reqwest::StatusCode::OK);
    server.switch(&ann.access, "crm", "disable").await.expect(reqwest::StatusCode::OK);
    let logout = server.post_as("/api/v1/auth/logout", &ann.access).await;
    logout.expect(reqwest::StatusCode::OK);
    let id = users::find(app, "bob").await.expect("bob").id;
    let changes = UserChanges { username: Some(None), ..UserChanges::default() };
    users::update(app, &id, &Precondition::Any, changes, &operator).await.expect("changed");
    users::set_role(app, &id, Role::admin(), &operator).await.expect("changed");
    users::set_role(app, &id, Role::user(), &operator).await.expect_err("the last administrator");
    users::set_password(app, &id, "eleven grey cranes at dusk", &operator).await.expect("set");
    users::log_out(app, &id, &operator).await.expect("logged out");
    let ann = users::find(app, "ann").await.expect("ann").id;
    users::disable(app, &ann, &operator).await.expect("disabled");
    users::enable(app, &ann, &operator).await.expect("enabled");
    users::delete(app, &ann, &Precondition::Any, &operator).await.expect("deleted");

    let events = server.events().await;
    let schemas = schemas();
    let found = events.iter().flat_map(|(kind, data)| faults(&schemas, kind, data));
    let found: Vec<String> = found.collect();
    assert!(found.is_empty(), "{found:#?}");
    let seen: BTreeSet<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    assert!(seen.len() >= 12, "{seen:?}");
}

#[test]
fn an_event_that_does_not_match_its_schema_is_found() {
    let event = Event::session_created("ann", &"s1".into(), &"spa".into());
    assert_eq!(check(event.kind, &event.data), Ok(()));
    let changed = |change: fn(&mut Value)| {
        let mut data = event.data.clone();
        change(&mut data);
        check(event.kind, &data).expect_err("it does not match")
    };
    let absent = changed(|data| drop(data.as_object_mut().expect("an object").remove("clientId")));
    assert_eq!(absent, "session.created: there is no clientId");
    let unlisted = changed(|data| data["address"] = "127.0.0.1".into());
    assert_eq!(unlisted, "session.created: address is not listed");
    let wrong = changed(|data| data["sessionId"] = Value::Null);
    assert_eq!(wrong, "session.created: sessionId must not be null");
    assert!(check("session.made", &event.data).is_err());
}

#[tokio::test]
#[cfg(debug_assertions)]
#[should_panic(expected = "secret is not listed")]
async fn no_event_with_an_unlisted_field_is_written() {
    let server = TestServer::start(Backend::Sqlite).await;
    let mut event = Event::session_created("ann", &"s1".into(), &"spa".into());
    event.data["secret"] = "1".into();
    let mut tx = server.app.begin(&Actor::operator()).await.expect("a transaction");
    let _ = tx.event(&event).await;
}

#[test]
fn every_type_of_the_source_is_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = fs::read_to_string(root.join("src/model/event.rs")).expect("the source");
    let is_type = |text: &&str| {
        let parts = text.split_once('.');
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        parts.is_some_and(|(noun, verb)| is_word(noun) && is_word(verb))
    };
    let named: BTreeSet<&str> = source.split('"').skip(1).step_by(2).filter(is_type).collect();
    let listed: BTreeSet<&str> = EVENT_TYPES.iter().map(|event| event.kind).collect();
    assert_eq!(named, listed);
}

#[test]
fn the_asyncapi_document_is_fresh() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/asyncapi.json");
    let committed = fs::read_to_string(file).unwrap_or_default();
    let fresh = serde_json::to_string_pretty(&asyncapi()).expect("JSON") + "\n";
    let how = "cargo run -- events asyncapi > openapi/asyncapi.json";
    assert!(committed == fresh, "openapi/asyncapi.json is stale: {how}");
}
