//! The revocation list's rows.

use super::{
    Db, Result, Statement, Tx,
    heads::{self, Head},
};
use crate::{
    clock::Timestamp,
    model::revocation::{Revocation, Written},
};

/// Adds an entry and gives its number. Take it last in a transaction: the next revocation of any process
/// waits for this one's commit.
pub async fn add(tx: &mut Tx<'_>, entry: &Revocation, reason: &str, now: Timestamp) -> Result<i64> {
    let number = heads::next(tx, Head::Revocations).await?;
    let written = entry.written();
    tx.run(
        Statement::new(
            "INSERT INTO revocations (number, kind, target, scope, issued_before, reason, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(number)
        .bind(written.kind)
        .bind(written.id)
        .bind(written.scope)
        .bind(written.issued_until)
        .bind(reason)
        .bind(now)
        .bind(entry.expires_at),
    )
    .await?;
    Ok(number)
}

/// An entry with its place in the list.
#[derive(Clone, Debug)]
pub struct Numbered {
    pub number: i64,
    pub entry: Revocation,
}

/// The live entries behind a number, in order.
pub async fn since(db: &Db, number: i64, now: Timestamp) -> Result<Vec<Numbered>> {
    let rows = db
        .read(
            Statement::new(
                "SELECT number, kind, target, scope, issued_before, expires_at FROM revocations \
                 WHERE number > $1 AND expires_at > $2 ORDER BY number",
            )
            .bind(number)
            .bind(now),
        )
        .await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        let expires_at = Timestamp(row.get("expires_at")?);
        let written = Written {
            kind: row.get("kind")?,
            id: row.get("target")?,
            scope: row.get("scope")?,
            issued_until: row.get("issued_before")?,
            expires_at: expires_at.as_secs(),
        };
        let kind = written.kind.clone();
        let entry = written.read().ok_or_else(|| {
            super::Error::Corrupt(format!("a revocation of the unknown kind {kind}"))
        })?;
        entries.push(Numbered {
            number: row.get("number")?,
            entry: Revocation {
                expires_at,
                ..entry
            },
        });
    }
    Ok(entries)
}

/// Removes entries that can hit nothing any more, and tells their numbers.
pub async fn sweep(db: &Db, now: Timestamp) -> Result<Vec<i64>> {
    let statement =
        Statement::new("DELETE FROM revocations WHERE expires_at <= $1 RETURNING number");
    let rows = db.write(statement.bind(now)).await?;
    rows.iter().map(|row| row.get("number")).collect()
}
