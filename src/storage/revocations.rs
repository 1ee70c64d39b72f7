//! The revocation list's rows.

use super::{
    Db, Result, Statement, Tx,
    heads::{self, Head},
};
use crate::{
    clock::Timestamp,
    model::revocation::{Revocation, Target},
};

/// Adds an entry and gives its number. Take it last in a transaction: the next revocation of any process
/// waits for this one's commit.
pub async fn add(tx: &mut Tx<'_>, entry: &Revocation, reason: &str, now: Timestamp) -> Result<i64> {
    let number = heads::next(tx, Head::Revocations).await?;
    let (kind, target, issued_until) = entry.target.columns();
    tx.run(
        Statement::new(
            "INSERT INTO revocations (number, kind, target, issued_before, reason, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(number)
        .bind(kind)
        .bind(target)
        .bind(issued_until)
        .bind(reason)
        .bind(now)
        .bind(entry.expires_at),
    )
    .await?;
    Ok(number)
}

/// The live entries behind a number, in order.
pub async fn since(db: &Db, number: i64, now: Timestamp) -> Result<Vec<Revocation>> {
    let rows = db
        .read(
            Statement::new(
                "SELECT kind, target, issued_before, expires_at FROM revocations \
                 WHERE number > $1 AND expires_at > $2 ORDER BY number",
            )
            .bind(number)
            .bind(now),
        )
        .await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        let kind: String = row.get("kind")?;
        let target = Target::from_columns(&kind, row.get("target")?, row.get("issued_before")?)
            .ok_or_else(|| {
                super::Error::Corrupt(format!("a revocation of the unknown kind {kind}"))
            })?;
        entries.push(Revocation {
            target,
            expires_at: Timestamp(row.get("expires_at")?),
        });
    }
    Ok(entries)
}

/// Removes entries that can hit nothing any more.
pub async fn sweep(db: &Db, now: Timestamp) -> Result<()> {
    db.write(Statement::new("DELETE FROM revocations WHERE expires_at <= $1").bind(now))
        .await?;
    Ok(())
}
