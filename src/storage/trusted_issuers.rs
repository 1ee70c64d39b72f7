//! Trusted issuers, and their subjects that are linked to users. Each change of an issuer takes the
//! next version of the clients.

use super::{
    Db, Error, Result, Row, Statement, Tx,
    change_counters::{self, Counter},
    statement::one,
};
use crate::{
    clock::Timestamp,
    ids::UserId,
    model::trusted_issuer::{IssuerSettings, LinkedSubject, TrustedIssuer},
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, issuer, settings, created_at, updated_at, disabled_at FROM trusted_issuers ",
            $rest
        )
    };
}

/// Every issuer, ordered by id.
pub async fn all(db: &Db) -> Result<Vec<TrustedIssuer>> {
    db.read(Statement::new(select!("ORDER BY id"))).await?.iter().map(issuer).collect()
}

/// Up to `most` issuers with ids above `after`, in order.
pub async fn page(db: &Db, after: &str, most: i64) -> Result<Vec<TrustedIssuer>> {
    let statement = Statement::new(select!("WHERE id > $1 ORDER BY id LIMIT $2"));
    db.read(statement.bind(after).bind(most)).await?.iter().map(issuer).collect()
}

/// Finds an issuer by its id.
pub async fn by_id(db: &Db, id: &str) -> Result<Option<TrustedIssuer>> {
    // PostgreSQL rejects statements with NUL in a text value; no issuer has such an id.
    if id.contains('\0') {
        return Ok(None);
    }
    let statement = Statement::new(select!("WHERE id = $1")).bind(id);
    one(db.read(statement).await?).map(|row| issuer(&row)).transpose()
}

/// As [`by_id`], for a transaction that changes the issuer: other changes of issuers wait until it
/// ends.
pub async fn lock(tx: &mut Tx, id: &str) -> Result<Option<TrustedIssuer>> {
    change_counters::next(tx, Counter::Clients).await?;
    if id.contains('\0') {
        return Ok(None);
    }
    let statement = Statement::new(select!("WHERE id = $1")).bind(id);
    one(tx.run(statement).await?).map(|row| issuer(&row)).transpose()
}

/// Adds an issuer whose id was found free by [`lock`].
///
/// # Errors
/// [`Error::Conflict`] if another one has the same `issuer`.
pub async fn insert(tx: &mut Tx, issuer: &TrustedIssuer) -> Result<()> {
    let statement = Statement::new(
        "INSERT INTO trusted_issuers (id, issuer, settings, created_at, updated_at, disabled_at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    );
    let statement = statement
        .bind(issuer.id.as_str())
        .bind(issuer.issuer.as_str())
        .bind(to_json(&issuer.settings)?)
        .bind(issuer.created_at)
        .bind(issuer.updated_at)
        .bind(issuer.disabled_at);
    tx.run(statement).await?;
    Ok(())
}

/// Updates every mutable column of an issuer found by [`lock`].
pub async fn update(tx: &mut Tx, issuer: &TrustedIssuer) -> Result<()> {
    let statement = Statement::new(
        "UPDATE trusted_issuers SET settings = $2, updated_at = $3, disabled_at = $4 WHERE id = $1",
    );
    let statement = statement
        .bind(issuer.id.as_str())
        .bind(to_json(&issuer.settings)?)
        .bind(issuer.updated_at)
        .bind(issuer.disabled_at);
    tx.run(statement).await?;
    Ok(())
}

/// Removes an issuer found by [`lock`], with its links.
pub async fn remove(tx: &mut Tx, id: &str) -> Result<()> {
    tx.run(Statement::new("DELETE FROM trusted_issuers WHERE id = $1").bind(id)).await?;
    Ok(())
}

/// Links a subject to a user.
///
/// # Errors
/// [`Error::Conflict`] if it is linked already.
pub async fn link(tx: &mut Tx, link: &LinkedSubject) -> Result<()> {
    let statement = Statement::new(
        "INSERT INTO linked_subjects (issuer_id, subject, user_id, created_at) VALUES ($1, $2, $3, $4)",
    );
    let statement = statement
        .bind(link.issuer_id.as_str())
        .bind(link.subject.as_str())
        .bind(link.user_id.as_str())
        .bind(link.created_at);
    tx.run(statement).await?;
    Ok(())
}

/// Removes a link; gives the user it was to.
pub async fn unlink(tx: &mut Tx, issuer_id: &str, subject: &str) -> Result<Option<UserId>> {
    let statement = Statement::new(
        "DELETE FROM linked_subjects WHERE issuer_id = $1 AND subject = $2 RETURNING user_id",
    );
    let rows = tx.run(statement.bind(issuer_id).bind(subject)).await?;
    one(rows).map(|row| row.get("user_id")).transpose()
}

/// Up to `most` links of an issuer with subjects above `after`, in order.
pub async fn links(db: &Db, issuer_id: &str, after: &str, most: i64) -> Result<Vec<LinkedSubject>> {
    let statement = Statement::new(
        "SELECT issuer_id, subject, user_id, created_at FROM linked_subjects \
         WHERE issuer_id = $1 AND subject > $2 ORDER BY subject LIMIT $3",
    );
    let rows = db.read(statement.bind(issuer_id).bind(after).bind(most)).await?;
    rows.iter().map(linked).collect()
}

/// Up to `most` links to a user.
pub async fn links_of_user(db: &Db, user_id: &UserId, most: i64) -> Result<Vec<LinkedSubject>> {
    let statement = Statement::new(
        "SELECT issuer_id, subject, user_id, created_at FROM linked_subjects WHERE user_id = $1 \
         ORDER BY issuer_id, subject LIMIT $2",
    );
    let rows = db.read(statement.bind(user_id).bind(most)).await?;
    rows.iter().map(linked).collect()
}

/// The user that a subject is linked to. The link cannot be removed until the transaction ends.
pub async fn linked_user(tx: &mut Tx, issuer_id: &str, subject: &str) -> Result<Option<UserId>> {
    // PostgreSQL rejects statements with NUL in a text value; no link has such a subject.
    if subject.contains('\0') {
        return Ok(None);
    }
    macro_rules! select_link {
        ($lock:literal) => {
            concat!(
                "SELECT user_id FROM linked_subjects WHERE issuer_id = $1 AND subject = $2",
                $lock
            )
        };
    }
    let statement = Statement::new(select_link!("")).locking(select_link!(" FOR SHARE"));
    let rows = tx.run(statement.bind(issuer_id).bind(subject)).await?;
    one(rows).map(|row| row.get("user_id")).transpose()
}

fn to_json(settings: &IssuerSettings) -> Result<String> {
    serde_json::to_string(settings).map_err(|error| Error::Corrupt(error.to_string()))
}

fn issuer(row: &Row) -> Result<TrustedIssuer> {
    let settings: String = row.get("settings")?;
    Ok(TrustedIssuer {
        id: row.get("id")?,
        issuer: row.get("issuer")?,
        settings: serde_json::from_str(&settings)
            .map_err(|error| Error::Corrupt(format!("trusted issuer: {error}")))?,
        created_at: Timestamp(row.get("created_at")?),
        updated_at: Timestamp(row.get("updated_at")?),
        disabled_at: row.get::<Option<i64>>("disabled_at")?.map(Timestamp),
    })
}

fn linked(row: &Row) -> Result<LinkedSubject> {
    Ok(LinkedSubject {
        issuer_id: row.get("issuer_id")?,
        subject: row.get("subject")?,
        user_id: row.get("user_id")?,
        created_at: Timestamp(row.get("created_at")?),
    })
}
