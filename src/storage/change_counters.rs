//! The numbers of the last revocation and of the last changes of keys and of clients. One row each: the transaction that
//! takes the next number holds the row until it commits, so numbers are gapless and in commit order, and
//! one small query tells a process whether it has heard of everything.

use std::sync::atomic::Ordering;

use super::{Db, Lane, Result, Row, Statement, Tx, statement::one};

/// The numbers at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    pub revocations: i64,
    pub keys: i64,
    /// Also counts changes of resources, scopes and modules.
    pub clients: i64,
    /// No number of changes, but the name of the one copy in Redis that may be believed.
    pub replica_epoch: i64,
}

/// Which number to take.
#[derive(Clone, Copy, Debug)]
pub enum Counter {
    Revocations,
    Keys,
    Clients,
}

const READ: &str = "SELECT name, version FROM change_counters";

/// Reads the numbers.
pub async fn read(db: &Db) -> Result<Versions> {
    from_rows(db.read(Statement::new(READ)).await?)
}

/// As [`read`], by a connection that is the caller's own.
pub async fn read_on(lane: &mut Lane) -> Result<Versions> {
    from_rows(lane.run(Statement::new(READ)).await?)
}

fn from_rows(rows: Vec<Row>) -> Result<Versions> {
    let mut versions = Versions::default();
    for row in rows {
        let number = row.get("version")?;
        match row.get::<String>("name")?.as_str() {
            "revocations" => versions.revocations = number,
            "keys" => versions.keys = number,
            "clients" => versions.clients = number,
            "replica_epoch" => versions.replica_epoch = number,
            _ => {}
        }
    }
    Ok(versions)
}

/// Takes the next number; others who want one wait until this transaction has ended.
pub async fn next(tx: &mut Tx<'_>, counter: Counter) -> Result<i64> {
    advance(tx, counter, 1).await
}

/// Takes the next `count` numbers and gives the last of them.
pub async fn advance(tx: &mut Tx<'_>, counter: Counter, count: i64) -> Result<i64> {
    let name = match counter {
        Counter::Revocations => "revocations",
        Counter::Keys => "keys",
        Counter::Clients => "clients",
    };
    tx.took_number.store(true, Ordering::Release);
    let rows = tx
        .run(
            Statement::new(
                "UPDATE change_counters SET version = version + $2 WHERE name = $1 RETURNING version",
            )
            .bind(name)
            .bind(count),
        )
        .await?;
    one(rows)
        .ok_or_else(|| super::Error::Corrupt(format!("change_counters has no row {name}")))?
        .get("version")
}

/// Names the copy in Redis that may be believed from now on; `false` where somebody else has named one meanwhile.
pub async fn set_replica_epoch(db: &Db, before: i64, name: i64) -> Result<bool> {
    let statement = Statement::new(
        "UPDATE change_counters SET version = $2 \
         WHERE name = 'replica_epoch' AND version = $1 RETURNING version",
    );
    let rows = db.write(statement.bind(before).bind(name)).await?;
    Ok(!rows.is_empty())
}
