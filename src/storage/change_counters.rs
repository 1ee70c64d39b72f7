//! Change counters: the versions of the revocation list, of keys and of clients. The transaction
//! that takes the next version locks the row until it commits, so versions are gapless and in
//! commit order, and one small query tells a process whether its caches are current.

use super::{Db, DedicatedConnection, Result, Row, Statement, Tx, statement::one};

/// The versions at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    pub revocations: i64,
    pub keys: i64,
    /// Also counts changes of resources, scopes, modules and trusted issuers.
    pub clients: i64,
    /// Not a counter: the epoch of the only Redis replica that is trusted; 0 for none.
    pub replica_epoch: i64,
}

/// A counter that can be advanced.
#[derive(Clone, Copy, Debug)]
pub enum Counter {
    Revocations,
    Keys,
    Clients,
}

const READ: &str = "SELECT name, version FROM change_counters";

/// Reads all versions.
pub async fn read(db: &Db) -> Result<Versions> {
    from_rows(db.read(Statement::new(READ)).await?)
}

/// As [`read`], on a dedicated connection.
pub async fn read_on(connection: &mut DedicatedConnection) -> Result<Versions> {
    from_rows(connection.read(Statement::new(READ)).await?)
}

fn from_rows(rows: Vec<Row>) -> Result<Versions> {
    let mut versions = Versions::default();
    for row in rows {
        let version = row.get("version")?;
        match row.get::<String>("name")?.as_str() {
            "revocations" => versions.revocations = version,
            "keys" => versions.keys = version,
            "clients" => versions.clients = version,
            "replica_epoch" => versions.replica_epoch = version,
            _ => {}
        }
    }
    Ok(versions)
}

/// Takes the next version. Other transactions that advance the counter wait until this one ends.
pub async fn next(tx: &mut Tx, counter: Counter) -> Result<i64> {
    advance(tx, counter, 1).await
}

/// Takes the next `count` versions and returns the last one.
pub async fn advance(tx: &mut Tx, counter: Counter, count: i64) -> Result<i64> {
    let name = match counter {
        Counter::Revocations => "revocations",
        Counter::Keys => "keys",
        Counter::Clients => "clients",
    };
    tx.notify_on_commit();
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

/// Sets the epoch of the Redis replica that is trusted from now on; `false` if it was changed since
/// `previous` was read.
pub async fn set_replica_epoch(db: &Db, previous: i64, epoch: i64) -> Result<bool> {
    let statement = Statement::new(
        "UPDATE change_counters SET version = $2 \
         WHERE name = 'replica_epoch' AND version = $1 RETURNING version",
    );
    let rows = db.write(statement.bind(previous).bind(epoch)).await?;
    Ok(!rows.is_empty())
}
