//! The outbox: events, written in the transaction of the change they describe.

use serde::Serialize;

use super::{
    Db, Result, Statement, Tx,
    statement::{json, one},
};
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

/// A new row.
#[derive(Debug, Serialize)]
pub(super) struct NewRow {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: String,
    data: String,
    correlation_id: Option<String>,
    created_at: i64,
}

impl NewRow {
    pub(super) fn new(
        id: String,
        event: &Event,
        correlation_id: Option<&str>,
        now: Timestamp,
    ) -> Self {
        must_match_its_schema(event);
        Self {
            id,
            kind: event.kind,
            subject: event.subject.clone(),
            data: event.data.to_string(),
            correlation_id: correlation_id.map(str::to_owned),
            created_at: now.0,
        }
    }

    /// The statement that adds it, fit for [`Statement::followed_by`].
    pub(super) fn insertion(self) -> Statement {
        Statement::new(
            "INSERT INTO outbox (id, type, subject, data, correlation_id, created_at) \
             SELECT $1, $2, $3, $4, $5, $6",
        )
        .bind(self.id)
        .bind(self.kind)
        .bind(self.subject)
        .bind(self.data)
        .bind(self.correlation_id)
        .bind(self.created_at)
    }

    /// As [`NewRow::insertion`], of any number of rows, in their order.
    pub(super) fn insertion_of_all(rows: &[&Self]) -> Result<Statement> {
        let statement = Statement::new(
            "INSERT INTO outbox (id, type, subject, data, correlation_id, created_at) \
             SELECT value ->> 'id', value ->> 'type', value ->> 'subject', value ->> 'data', \
             value ->> 'correlation_id', value ->> 'created_at' FROM jsonb_each($1)",
        )
        .for_postgres(
            "INSERT INTO outbox (id, type, subject, data, correlation_id, created_at) \
             SELECT t.id, t.type, t.subject, t.data, t.correlation_id, t.created_at \
             FROM json_to_recordset(CAST($1 AS json)) AS t (id TEXT, type TEXT, subject TEXT, data TEXT, \
             correlation_id TEXT, created_at BIGINT)",
        );
        Ok(statement.bind(json(rows)?))
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
    tx.run(NewRow::new(id, event, correlation_id, now).insertion()).await?;
    Ok(())
}

/// Adds events under these ids. One statement, whatever their number.
pub async fn add_all(tx: &mut Tx, events: &[(String, Event)], now: Timestamp) -> Result<()> {
    let row = |(id, event): &(String, Event)| NewRow::new(id.clone(), event, None, now);
    let rows: Vec<_> = events.iter().map(row).collect();
    tx.run(NewRow::insertion_of_all(&rows.iter().collect::<Vec<_>>())?).await?;
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
