//! Sagas of registrations.

use std::time::Duration;

use super::{Db, Error, Result, Row, Statement, Tx, statement::one};
use crate::{
    clock::Timestamp,
    ids::UserId,
    model::saga::{Saga, SagaState},
};

macro_rules! columns {
    () => {
        "id, user_id, correlation_id, state, attempts, next_at, created_at, closed_at"
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM sagas WHERE user_id = $1 AND kind = 'registration'",
            $rest
        )
    };
}

/// A saga to be added.
#[derive(Debug)]
pub struct NewSaga<'a> {
    pub id: &'a str,
    pub user_id: &'a UserId,
    pub correlation_id: Option<&'a str>,
    /// `publish`, or `create`: by a call, which this process makes until `lease_until`.
    pub step: &'static str,
    pub next_at: Timestamp,
    pub lease_until: Option<Timestamp>,
}

/// Adds the saga of an account that the transaction creates.
pub async fn open(tx: &mut Tx, new: NewSaga<'_>, now: Timestamp) -> Result<()> {
    tx.run(
        Statement::new(
            "INSERT INTO sagas (id, kind, user_id, correlation_id, state, step, attempts, next_at, lease_until, created_at) \
             VALUES ($1, 'registration', $2, $3, $4, $5, 0, $6, $7, $8)",
        )
        .bind(new.id)
        .bind(new.user_id)
        .bind(new.correlation_id)
        .bind(SagaState::Started.as_str())
        .bind(new.step)
        .bind(new.next_at)
        .bind(new.lease_until)
        .bind(now),
    )
    .await?;
    Ok(())
}

/// The saga of a user.
pub async fn of_user(db: &Db, user_id: &UserId) -> Result<Option<Saga>> {
    // PostgreSQL rejects statements with NUL in a text value; no user has such an id.
    if user_id.contains('\0') {
        return Ok(None);
    }
    let rows = db.read(Statement::new(select!("")).bind(user_id)).await?;
    one(rows).map(|row| from_row(&row)).transpose()
}

/// As [`of_user`]; the saga does not change until the transaction ends.
pub async fn lock(tx: &mut Tx, user_id: &UserId) -> Result<Option<Saga>> {
    let statement = Statement::new(select!("")).locking(select!(" FOR UPDATE")).bind(user_id);
    one(tx.run(statement).await?).map(|row| from_row(&row)).transpose()
}

fn from_row(row: &Row) -> Result<Saga> {
    let state: String = row.get("state")?;
    let corrupt = || Error::Corrupt(format!("saga state {state}"));
    Ok(Saga {
        id: row.get("id")?,
        user_id: row.get("user_id")?,
        correlation_id: row.get("correlation_id")?,
        state: SagaState::parse(&state).ok_or_else(corrupt)?,
        attempts: row.get("attempts")?,
        next_at: Timestamp(row.get("next_at")?),
        created_at: Timestamp(row.get("created_at")?),
        closed_at: row.get::<Option<i64>>("closed_at")?.map(Timestamp),
    })
}

/// Closes a saga found by [`lock`].
pub async fn close(tx: &mut Tx, id: &str, state: SagaState, now: Timestamp) -> Result<()> {
    tx.run(
        Statement::new(
            "UPDATE sagas SET state = $2, step = 'none', closed_at = $3, lease_until = NULL WHERE id = $1",
        )
        .bind(id)
        .bind(state.as_str())
        .bind(now),
    )
    .await?;
    Ok(())
}

/// Begins to compensate a saga found by [`lock`]: the profile is to be deleted, by a process that
/// takes it at `next_at`.
pub async fn begin_compensation(tx: &mut Tx, id: &str, next_at: Timestamp) -> Result<()> {
    tx.run(
        Statement::new(
            "UPDATE sagas SET state = $2, step = 'delete', attempts = 0, next_at = $3, lease_until = NULL WHERE id = $1",
        )
        .bind(id)
        .bind(SagaState::Compensating.as_str())
        .bind(next_at),
    )
    .await?;
    Ok(())
}

/// Takes up to `most` sagas whose next call is due and that no process works on. Another process
/// takes one over when its lease has lapsed.
pub async fn take(db: &Db, now: Timestamp, lease: Duration, most: i64) -> Result<Vec<Saga>> {
    macro_rules! update {
        ($lock:literal) => {
            concat!(
                "UPDATE sagas SET lease_until = $2, attempts = attempts + 1 WHERE id IN (SELECT id FROM sagas \
                 WHERE closed_at IS NULL AND step IN ('create', 'delete') AND next_at <= $1 \
                 AND (lease_until IS NULL OR lease_until <= $1) ORDER BY next_at LIMIT $3",
                $lock,
                ") RETURNING ",
                columns!()
            )
        };
    }
    let statement = Statement::new(update!("")).locking(update!(" FOR UPDATE SKIP LOCKED"));
    let taken = db.write(statement.bind(now).bind(now + lease).bind(most)).await?;
    taken.iter().map(from_row).collect()
}

/// Postpones the next call of a saga.
pub async fn postpone(db: &Db, id: &str, next_at: Timestamp) -> Result<()> {
    let statement = Statement::new(
        "UPDATE sagas SET next_at = $2, lease_until = NULL WHERE id = $1 AND closed_at IS NULL",
    );
    db.write(statement.bind(id).bind(next_at)).await?;
    Ok(())
}

/// The users of up to `most` published sagas whose time has passed.
pub async fn expired(db: &Db, now: Timestamp, most: i64) -> Result<Vec<UserId>> {
    let statement = Statement::new(
        "SELECT user_id FROM sagas WHERE closed_at IS NULL AND next_at <= $1 AND state = 'published' \
         ORDER BY next_at LIMIT $2",
    );
    let rows = db.read(statement.bind(now).bind(most)).await?;
    rows.iter().map(|row| row.get("user_id")).collect()
}

/// Closes sagas whose time has passed: their accounts stay. A saga that is not published yet
/// waits.
pub async fn close_expired(db: &Db, now: Timestamp) -> Result<()> {
    db.write(
        Statement::new(
            "UPDATE sagas SET state = 'closed', step = 'none', closed_at = $1 \
             WHERE closed_at IS NULL AND next_at <= $1 AND state = 'published'",
        )
        .bind(now),
    )
    .await?;
    Ok(())
}

/// Removes up to `most` sagas that were closed before `oldest`; returns their number.
pub async fn sweep(db: &Db, oldest: Timestamp, most: i64) -> Result<usize> {
    let statement = Statement::new(
        "DELETE FROM sagas WHERE id IN (SELECT id FROM sagas WHERE closed_at < $1 LIMIT $2) RETURNING id",
    );
    Ok(db.write(statement.bind(oldest).bind(most)).await?.len())
}
