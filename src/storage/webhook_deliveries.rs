//! Deliveries of events to webhooks: one row per endpoint and event. The data of an event stay in
//! the outbox, so that what is blanked there is sent to nobody.

use serde_json::json;

use super::{
    Db, Error, Result, Row, Statement, Tx,
    statement::{json as json_rows, one},
};
use crate::{
    clock::Timestamp,
    model::webhook::{Delivery, DeliveryState},
};

/// An event that no deliveries were queued for yet.
#[derive(Clone, Debug)]
pub struct Unqueued {
    pub number: i64,
    pub id: String,
    pub kind: String,
    pub created_at: Timestamp,
}

/// Whether there are such events.
pub async fn has_unqueued(db: &Db) -> Result<bool> {
    let statement = Statement::new(
        "SELECT number FROM outbox WHERE webhooks_at IS NULL ORDER BY number LIMIT 1",
    );
    Ok(!db.read(statement).await?.is_empty())
}

/// Up to `most` such events, in order, which no other transaction queues until this one ends.
pub async fn unqueued(tx: &mut Tx, most: i64) -> Result<Vec<Unqueued>> {
    macro_rules! select {
        ($lock:literal) => {
            concat!(
                "SELECT number, id, type, created_at FROM outbox WHERE webhooks_at IS NULL \
                 ORDER BY number LIMIT $1",
                $lock
            )
        };
    }
    // Skipped are those that another process queues, or whose user is being deleted.
    let statement = Statement::new(select!("")).locking(select!(" FOR UPDATE SKIP LOCKED"));
    let rows = tx.run(statement.bind(most)).await?;
    rows.iter()
        .map(|row| {
            Ok(Unqueued {
                number: row.get("number")?,
                id: row.get("id")?,
                kind: row.get("type")?,
                created_at: Timestamp(row.get("created_at")?),
            })
        })
        .collect()
}

/// Queues deliveries, as endpoint and event, which expire at a time. One statement, whatever their
/// number.
pub async fn queue(
    tx: &mut Tx,
    new: &[(&str, &Unqueued)],
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = new
        .iter()
        .map(|(webhook, event)| json!({ "w": webhook, "id": event.id, "type": event.kind }))
        .collect();
    let rows = json_rows(&rows)?;
    macro_rules! insert {
        ($select:literal) => {
            concat!(
                "INSERT INTO webhook_deliveries (webhook_id, event_id, event_type, state, attempts, next_attempt_at, \
                 created_at, expires_at) ",
                $select,
                " ON CONFLICT (webhook_id, event_id) DO NOTHING"
            )
        };
    }
    let statement = Statement::new(insert!(
        "SELECT value ->> 'w', value ->> 'id', value ->> 'type', 'pending', 0, $2, $2, $3 FROM jsonb_each($1) \
         WHERE true"
    ))
    .for_postgres(insert!(
        "SELECT t.w, t.id, t.type, 'pending', 0, $2, $2, $3 FROM json_to_recordset(CAST($1 AS json)) \
         AS t (w TEXT, id TEXT, type TEXT)"
    ));
    tx.run(statement.bind(rows).bind(now).bind(expires_at)).await?;
    Ok(())
}

/// Marks events of [`unqueued`].
pub async fn mark_queued(tx: &mut Tx, events: &[Unqueued], now: Timestamp) -> Result<()> {
    let numbers: Vec<i64> = events.iter().map(|event| event.number).collect();
    let list = format!("{numbers:?}"); // a JSON array
    macro_rules! update {
        ($list:literal) => {
            concat!("UPDATE outbox SET webhooks_at = $1 WHERE number IN (", $list, ")")
        };
    }
    let statement = Statement::new(update!("SELECT value FROM json_each($2)")).for_postgres(
        update!("SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST($2 AS json))"),
    );
    tx.run(statement.bind(now).bind(list)).await?;
    Ok(())
}

macro_rules! columns {
    () => {
        "number, webhook_id, event_id, event_type, state, attempts, next_attempt_at, created_at, expires_at, \
         attempted_at, status, error, finished_at"
    };
}

/// Takes up to `most` due deliveries of an endpoint, in the order of their events. The next attempt
/// moves to `leased_until`, so that one process sends a delivery, and another one takes over if that
/// process stops.
pub async fn take(
    db: &Db,
    webhook_id: &str,
    now: Timestamp,
    leased_until: Timestamp,
    most: i64,
) -> Result<Vec<Delivery>> {
    let statement = Statement::new(concat!(
        "UPDATE webhook_deliveries SET attempts = attempts + 1, attempted_at = $2, next_attempt_at = $3 \
         WHERE state = 'pending' AND next_attempt_at <= $2 AND number IN (SELECT number FROM webhook_deliveries \
         WHERE webhook_id = $1 AND state = 'pending' AND next_attempt_at <= $2 \
         ORDER BY next_attempt_at, number LIMIT $4) RETURNING ",
        columns!()
    ));
    let rows = db.write(statement.bind(webhook_id).bind(now).bind(leased_until).bind(most)).await?;
    let mut taken = rows.iter().map(delivery).collect::<Result<Vec<_>>>()?;
    taken.sort_by_key(|delivery| delivery.number);
    Ok(taken)
}

/// The endpoint has accepted a delivery.
pub async fn deliver(db: &Db, number: i64, status: i64, now: Timestamp) -> Result<()> {
    let statement = Statement::new(
        "UPDATE webhook_deliveries SET state = 'delivered', status = $2, error = NULL, finished_at = $3 \
         WHERE number = $1",
    );
    db.write(statement.bind(number).bind(status).bind(now)).await?;
    Ok(())
}

/// Why an attempt failed.
#[derive(Clone, Debug)]
pub struct Failure {
    pub status: Option<i64>,
    pub error: String,
}

/// Records a failed attempt and the time of the next one.
pub async fn postpone(
    db: &Db,
    number: i64,
    failure: &Failure,
    next_attempt_at: Timestamp,
) -> Result<()> {
    // Another process may have delivered it since the lease has lapsed.
    let statement = Statement::new(
        "UPDATE webhook_deliveries SET status = $2, error = $3, next_attempt_at = $4 \
         WHERE number = $1 AND state = 'pending'",
    );
    let statement = statement.bind(number).bind(failure.status).bind(failure.error.as_str());
    db.write(statement.bind(next_attempt_at)).await?;
    Ok(())
}

/// Records a failed attempt that no other follows.
pub async fn abandon(db: &Db, number: i64, failure: &Failure, now: Timestamp) -> Result<()> {
    let statement = Statement::new(
        "UPDATE webhook_deliveries SET state = 'abandoned', status = $2, error = $3, finished_at = $4 \
         WHERE number = $1 AND state = 'pending'",
    );
    let statement = statement.bind(number).bind(failure.status).bind(failure.error.as_str());
    db.write(statement.bind(now)).await?;
    Ok(())
}

/// Has a delivery sent again, whatever became of it; `None` if there is none.
pub async fn resend(
    tx: &mut Tx,
    webhook_id: &str,
    event_id: &str,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<Option<Delivery>> {
    if event_id.contains('\0') {
        return Ok(None);
    }
    let statement = Statement::new(concat!(
        "UPDATE webhook_deliveries SET state = 'pending', attempts = 0, next_attempt_at = $3, expires_at = $4, \
         finished_at = NULL WHERE webhook_id = $1 AND event_id = $2 RETURNING ",
        columns!()
    ));
    let statement = statement.bind(webhook_id).bind(event_id).bind(now).bind(expires_at);
    one(tx.run(statement).await?).map(|row| delivery(&row)).transpose()
}

/// Filters of [`page`]; `None` matches every delivery.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    pub event_id: Option<String>,
    pub state: Option<DeliveryState>,
    pub event_type: Option<String>,
    /// Queued at or after this time.
    pub since: Option<Timestamp>,
}

/// Up to `most` matching deliveries of an endpoint with numbers below `before`, newest first.
pub async fn page(
    db: &Db,
    webhook_id: &str,
    filter: &DeliveryFilter,
    before: i64,
    most: i64,
) -> Result<Vec<Delivery>> {
    let statement = Statement::new(concat!(
        "SELECT ",
        columns!(),
        " FROM webhook_deliveries WHERE webhook_id = $1 AND number < $2"
    ))
    .bind(webhook_id)
    .bind(before)
    .filter("AND event_id = $", filter.event_id.as_deref())
    .filter("AND state = $", filter.state.map(DeliveryState::as_str))
    .filter("AND event_type = $", filter.event_type.as_deref())
    .filter("AND created_at >= $", filter.since)
    .with("ORDER BY number DESC LIMIT $", most);
    db.read(statement).await?.iter().map(delivery).collect()
}

/// The deliveries that wait.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    pub count: i64,
    /// When the oldest of them was queued.
    pub oldest: Option<Timestamp>,
}

/// Counts the deliveries that wait.
pub async fn waiting(db: &Db) -> Result<Waiting> {
    let statement = Statement::new(
        "SELECT COUNT(*) AS n, MIN(created_at) AS oldest FROM webhook_deliveries WHERE state = 'pending'",
    );
    let Some(row) = one(db.read(statement).await?) else {
        return Ok(Waiting { count: 0, oldest: None });
    };
    let oldest: Option<i64> = row.get("oldest")?;
    Ok(Waiting { count: row.get("n")?, oldest: oldest.map(Timestamp) })
}

/// Abandons up to `most` deliveries that have expired; returns their number.
pub async fn expire(db: &Db, now: Timestamp, most: i64) -> Result<usize> {
    let statement = Statement::new(
        "UPDATE webhook_deliveries SET state = 'abandoned', finished_at = $1, \
         error = COALESCE(error, 'expired before it was sent') WHERE state = 'pending' AND number IN \
         (SELECT number FROM webhook_deliveries WHERE state = 'pending' AND expires_at <= $1 LIMIT $2) \
         RETURNING number",
    );
    Ok(db.write(statement.bind(now).bind(most)).await?.len())
}

/// Removes up to `most` deliveries that were finished before `oldest`; returns their number.
pub async fn sweep(db: &Db, oldest: Timestamp, most: i64) -> Result<usize> {
    let statement = Statement::new(
        "DELETE FROM webhook_deliveries WHERE number IN (SELECT number FROM webhook_deliveries \
         WHERE finished_at < $1 LIMIT $2) RETURNING number",
    );
    Ok(db.write(statement.bind(oldest).bind(most)).await?.len())
}

/// Removes all but the newest `most`, waiting ones too; returns how many of those it removed.
pub async fn bound(db: &Db, most: i64) -> Result<usize> {
    let statement = Statement::new(
        "DELETE FROM webhook_deliveries WHERE number <= (SELECT MAX(number) FROM webhook_deliveries) - $1 \
         RETURNING state",
    );
    let rows = db.write(statement.bind(most)).await?;
    let states = rows.iter().map(|row| row.get::<String>("state")).collect::<Result<Vec<_>>>()?;
    Ok(states.iter().filter(|state| *state == DeliveryState::Pending.as_str()).count())
}

fn delivery(row: &Row) -> Result<Delivery> {
    let state: String = row.get("state")?;
    let time =
        |column| row.get::<Option<i64>>(column).map(|micros: Option<i64>| micros.map(Timestamp));
    Ok(Delivery {
        number: row.get("number")?,
        webhook_id: row.get("webhook_id")?,
        event_id: row.get("event_id")?,
        event_type: row.get("event_type")?,
        state: DeliveryState::parse(&state)
            .ok_or_else(|| Error::Corrupt(format!("delivery state {state}")))?,
        attempts: row.get("attempts")?,
        next_attempt_at: Timestamp(row.get("next_attempt_at")?),
        created_at: Timestamp(row.get("created_at")?),
        expires_at: Timestamp(row.get("expires_at")?),
        attempted_at: time("attempted_at")?,
        status: row.get("status")?,
        error: row.get("error")?,
        finished_at: time("finished_at")?,
    })
}
