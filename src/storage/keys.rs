//! Key rows. Private keys are encrypted before they are passed to this module.

use super::{Db, Result, Row, Statement, Tx, change_counters};
use crate::{
    clock::Timestamp,
    model::key::{KeyAlgorithm, KeyRecord},
};

/// Every key, oldest first.
pub async fn all(db: &Db) -> Result<Vec<KeyRecord>> {
    db.read(Statement::new(ALL)).await?.iter().map(from_row).collect()
}

/// As [`all`], for a transaction that changes keys: other changes of keys wait until it ends.
pub async fn lock(tx: &mut Tx) -> Result<Vec<KeyRecord>> {
    change_counters::next(tx, change_counters::Counter::Keys).await?;
    tx.run(Statement::new(ALL)).await?.iter().map(from_row).collect()
}

const ALL: &str = "SELECT id, number, algorithm, public_jwk, private_jwe, created_at, activates_at, retires_at, \
                   banned_at FROM keys ORDER BY number";

/// Adds a key.
pub async fn insert(tx: &mut Tx, key: &KeyRecord) -> Result<()> {
    tx.run(
        Statement::new(
            "INSERT INTO keys (id, number, algorithm, public_jwk, private_jwe, created_at, activates_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(key.id.as_str())
        .bind(key.number)
        .bind(key.algorithm.as_str())
        .bind(key.public_jwk.as_deref())
        .bind(key.private_jwe.as_str())
        .bind(key.created_at)
        .bind(key.activates_at),
    )
    .await?;
    Ok(())
}

/// Updates the activation, retirement and ban times of a key.
pub async fn update(tx: &mut Tx, key: &KeyRecord) -> Result<()> {
    tx.run(
        Statement::new(
            "UPDATE keys SET activates_at = $2, retires_at = $3, banned_at = $4 WHERE id = $1",
        )
        .bind(key.id.as_str())
        .bind(key.activates_at)
        .bind(key.retires_at)
        .bind(key.banned_at),
    )
    .await?;
    Ok(())
}

/// Removes an obsolete key.
pub async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    tx.run(Statement::new("DELETE FROM keys WHERE id = $1").bind(id)).await?;
    Ok(())
}

fn from_row(row: &Row) -> Result<KeyRecord> {
    let algorithm: String = row.get("algorithm")?;
    Ok(KeyRecord {
        id: row.get("id")?,
        number: row.get("number")?,
        algorithm: KeyAlgorithm::parse(&algorithm)
            .ok_or_else(|| super::Error::Corrupt(format!("key algorithm {algorithm:?}")))?,
        public_jwk: row.get("public_jwk")?,
        private_jwe: row.get("private_jwe")?,
        created_at: Timestamp(row.get("created_at")?),
        activates_at: Timestamp(row.get("activates_at")?),
        retires_at: row.get::<Option<i64>>("retires_at")?.map(Timestamp),
        banned_at: row.get::<Option<i64>>("banned_at")?.map(Timestamp),
    })
}
