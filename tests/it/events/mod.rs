//! Events on Kafka: a real broker, and kafkajs as the consumer.

mod kills;
mod provisioning;
mod relay;

use std::{collections::BTreeMap, time::Duration};

use propusk::storage::Statement;

use crate::support::{TestServer, kafka::Received};

/// The events of the outbox in order: subject and id.
async fn outbox(server: &TestServer) -> Vec<(String, String)> {
    let statement = Statement::new("SELECT subject, id FROM outbox ORDER BY number");
    let rows = server.app.db.read(statement).await.expect("the outbox");
    let event = |row: &propusk::storage::Row| {
        (row.get("subject").expect("a subject"), row.get("id").expect("an id"))
    };
    rows.iter().map(event).collect()
}

/// The ids of each subject, in order.
fn by_subject(events: &[(String, String)]) -> BTreeMap<String, Vec<String>> {
    let mut ordered: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (subject, id) in events {
        ordered.entry(subject.clone()).or_default().push(id.clone());
    }
    ordered
}

/// What a consumer that ignores known ids has seen in a topic, per key and in order.
fn first_seen(messages: &[Received], topic: &str) -> BTreeMap<String, Vec<String>> {
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in messages.iter().filter(|message| message.topic == topic) {
        let ids = seen.entry(message.key.clone().expect("a key")).or_default();
        let id = message.id();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    seen
}

async fn unpublished(server: &TestServer) -> i64 {
    let statement = Statement::new("SELECT COUNT(*) AS n FROM outbox WHERE published_at IS NULL");
    let rows = server.app.db.read(statement).await.expect("the outbox");
    rows[0].get("n").expect("a count")
}

/// Polls: Kafka acknowledges to the relay, not to the test.
async fn all_published(server: &TestServer) {
    for _ in 0..1_200 {
        if unpublished(server).await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("events are not published after a minute");
}
