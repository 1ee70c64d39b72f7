//! The outbox: events, written in the transaction of the change they describe.

use serde_json::json;

use super::{Db, Result, Statement, Tx, statement::one};
use crate::{
    clock::Timestamp,
    model::{event::Event, event_types},
};

/// In debug builds, and so in every test of every flow, an event that does not match its schema
/// panics.
fn must_match_its_schema(event: &Event) {
    if cfg!(debug_assertions) {
        let checked = event_types::check(event.kind, &event.data);
        assert_eq!(checked, Ok(()), "src/model/event_types.rs has the fields of every event");
    }
}

/// Adds an event.
pub async fn add(
    tx: &mut Tx,
    id: String,
    event: &Event,
    correlation_id: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    tx.run(insertion(id, event, correlation_id, now)).await?;
    Ok(())
}

/// The statement of [`add`], fit for [`Statement::followed_by`].
pub(super) fn insertion(
    id: String,
    event: &Event,
    correlation_id: Option<&str>,
    now: Timestamp,
) -> Statement {
    must_match_its_schema(event);
    Statement::new(
        "INSERT INTO outbox (id, type, subject, data, correlation_id, created_at) \
         SELECT $1, $2, $3, $4, $5, $6",
    )
    .bind(id)
    .bind(event.kind)
    .bind(event.subject.as_str())
    .bind(event.data.to_string())
    .bind(correlation_id)
    .bind(now)
}

/// Adds events under these ids. One statement, whatever their number.
pub async fn add_all(tx: &mut Tx, events: &[(String, Event)], now: Timestamp) -> Result<()> {
    events.iter().for_each(|(_, event)| must_match_its_schema(event));
    let rows: Vec<_> = events
        .iter()
        .map(|(id, event)| {
            json!({ "id": id, "type": event.kind, "subject": event.subject, "data": event.data.to_string() })
        })
        .collect();
    let rows =
        serde_json::to_string(&rows).map_err(|error| super::Error::Corrupt(error.to_string()))?;
    let statement = Statement::new(
        "INSERT INTO outbox (id, type, subject, data, created_at) \
         SELECT value ->> 'id', value ->> 'type', value ->> 'subject', value ->> 'data', $2 FROM json_each($1)",
    )
    .for_postgres(
        "INSERT INTO outbox (id, type, subject, data, created_at) \
         SELECT t.id, t.type, t.subject, t.data, $2 FROM json_to_recordset(CAST($1 AS json)) \
         AS t (id TEXT, type TEXT, subject TEXT, data TEXT)",
    );
    tx.run(statement.bind(rows).bind(now)).await?;
    Ok(())
}

/// The number of events.
pub async fn count(db: &Db) -> Result<i64> {
    let rows = db.read(Statement::new("SELECT COUNT(*) AS n FROM outbox")).await?;
    one(rows).map_or(Ok(0), |row| row.get("n"))
}

/// What a sweep keeps, however old it is and however much.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    /// What is not published to Kafka: nothing else has it.
    pub unpublished: bool,
    /// What webhooks wait for, of the events since then.
    pub for_webhooks_since: Option<Timestamp>,
}

/// Removes the events before `oldest` and all but the newest `most`, so that the outbox is bounded.
pub async fn sweep(db: &Db, oldest: Timestamp, most: i64, kept: Kept) -> Result<()> {
    let statement = Statement::new(
        "DELETE FROM outbox WHERE (created_at < $1 OR number <= (SELECT MAX(number) FROM outbox) - $2)",
    )
    .bind(oldest)
    .bind(most)
    .only_if(kept.unpublished, "AND published_at IS NOT NULL")
    .filter(
        "AND (created_at < $ OR (webhooks_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM webhook_deliveries d \
         WHERE d.event_id = outbox.id AND d.state = 'pending')))",
        kept.for_webhooks_since,
    );
    db.write(statement).await?;
    Ok(())
}
