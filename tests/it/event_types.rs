//! The types of events: what is written to the outbox is what the AsyncAPI document says.

use std::{collections::BTreeSet, fs, path::Path};

use propusk::{
    flows::admin::{
        access::Precondition,
        users::{self, UserChanges},
    },
    model::{
        actor::Actor,
        event_types::{EVENT_TYPES, Shape, asyncapi},
        user::Role,
    },
};
use serde_json::Value;

use crate::support::{Backend, TestServer, backend_tests};

backend_tests! { every_event_in_the_outbox_matches_its_schema }

/// What is wrong with the data of an event.
fn faults(kind: &str, data: &Value) -> Vec<String> {
    let Some(event) = EVENT_TYPES.iter().find(|event| event.kind == kind) else {
        return vec![format!("{kind} is not listed")];
    };
    let data = data.as_object().expect("an object");
    let mut found = vec![];
    for field in event.fields {
        let Some(value) = data.get(field.name) else {
            if field.shape != Shape::Rare {
                found.push(format!("{kind}: no {}", field.name));
            }
            continue;
        };
        let fits = match field.shape {
            Shape::Text => value.is_string(),
            Shape::OptionalText | Shape::OptionalTime | Shape::Rare => {
                value.is_string() || value.is_null()
            }
            Shape::Boolean => value.is_boolean(),
            Shape::Texts => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
        };
        if !fits {
            found.push(format!("{kind}: {} is {value}", field.name));
        }
    }
    let is_known = |name: &&String| !event.fields.iter().any(|field| field.name == **name);
    found.extend(data.keys().filter(is_known).map(|name| format!("{kind}: unlisted {name}")));
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
    let found: Vec<String> = events.iter().flat_map(|(kind, data)| faults(kind, data)).collect();
    assert!(found.is_empty(), "{found:#?}");
    let seen: BTreeSet<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    assert!(seen.len() >= 12, "{seen:?}");
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
