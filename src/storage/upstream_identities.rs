//! Identities of users at other OpenID providers.

use super::{Db, Result, Row, Statement, Tx, statement::one};
use crate::{clock::Timestamp, ids::UserId, model::upstream_identity::UpstreamIdentity};

/// Links an identity to a user; `false` if it is linked already, or the user has another one of the
/// issuer.
pub async fn insert(tx: &mut Tx, identity: &UpstreamIdentity) -> Result<bool> {
    let statement = Statement::new(
        "INSERT INTO upstream_identities (id, user_id, issuer, subject, created_at, last_login_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING id",
    );
    let statement = statement
        .bind(identity.id.as_str())
        .bind(identity.user_id.as_str())
        .bind(identity.issuer.as_str())
        .bind(identity.subject.as_str())
        .bind(identity.created_at)
        .bind(identity.last_login_at);
    Ok(!tx.run(statement).await?.is_empty())
}

/// The identity of a subject.
pub async fn find(db: &Db, issuer: &str, subject: &str) -> Result<Option<UpstreamIdentity>> {
    let statement = Statement::new(
        "SELECT id, user_id, issuer, subject, created_at, last_login_at FROM upstream_identities \
         WHERE issuer = $1 AND subject = $2",
    );
    let rows = db.read(statement.bind(issuer).bind(subject)).await?;
    one(rows).map(|row| from_row(&row)).transpose()
}

/// The identities of a user, the oldest first. There is one of each issuer at most.
pub async fn of_user(db: &Db, user_id: &UserId) -> Result<Vec<UpstreamIdentity>> {
    db.read(Statement::new(OF_USER).bind(user_id)).await?.iter().map(from_row).collect()
}

const OF_USER: &str = "SELECT id, user_id, issuer, subject, created_at, last_login_at \
                       FROM upstream_identities WHERE user_id = $1 ORDER BY id";

/// How a user can log in besides one identity.
#[derive(Debug)]
pub struct OtherWays {
    pub password_hash: String,
    pub has_passkey: bool,
    /// The issuers of the other identities.
    pub issuers: Vec<String>,
}

/// How a user, whose row is locked, can log in without the identity `id`.
pub async fn other_ways(tx: &mut Tx, user_id: &UserId, id: &str) -> Result<Option<OtherWays>> {
    let statement = Statement::new(
        "SELECT password_hash, EXISTS (SELECT 1 FROM second_factors f WHERE f.user_id = users.id \
         AND f.kind = 'passkey') AS has_passkey FROM users WHERE id = $1",
    );
    let Some(user) = one(tx.run(statement.bind(user_id)).await?) else { return Ok(None) };
    let identities = tx.run(Statement::new(OF_USER).bind(user_id)).await?;
    let identities: Vec<_> = identities.iter().map(from_row).collect::<Result<_>>()?;
    let others = identities.into_iter().filter(|one| one.id != id);
    Ok(Some(OtherWays {
        password_hash: user.get("password_hash")?,
        has_passkey: user.get("has_passkey")?,
        issuers: others.map(|one| one.issuer).collect(),
    }))
}

/// Records a login; `false` if the identity is not the user's any more. The row stays locked.
pub async fn record_login(tx: &mut Tx, user_id: &UserId, id: &str, now: Timestamp) -> Result<bool> {
    let statement = Statement::new(
        "UPDATE upstream_identities SET last_login_at = $3 WHERE user_id = $1 AND id = $2 RETURNING id",
    );
    Ok(!tx.run(statement.bind(user_id).bind(id).bind(now)).await?.is_empty())
}

/// Removes an identity of a user; returns its issuer.
pub async fn remove(tx: &mut Tx, user_id: &UserId, id: &str) -> Result<Option<String>> {
    let statement = Statement::new(
        "DELETE FROM upstream_identities WHERE user_id = $1 AND id = $2 RETURNING issuer",
    );
    let rows = tx.run(statement.bind(user_id).bind(id)).await?;
    one(rows).map(|row| row.get("issuer")).transpose()
}

/// Removes the identities of a user that were linked at this time or later; returns id and issuer of
/// each.
pub async fn remove_since(
    tx: &mut Tx,
    user_id: &UserId,
    since: Timestamp,
) -> Result<Vec<(String, String)>> {
    let statement = Statement::new(
        "DELETE FROM upstream_identities WHERE user_id = $1 AND created_at >= $2 RETURNING id, issuer",
    );
    let rows = tx.run(statement.bind(user_id).bind(since)).await?;
    rows.iter().map(|row| Ok((row.get("id")?, row.get("issuer")?))).collect()
}

fn from_row(row: &Row) -> Result<UpstreamIdentity> {
    Ok(UpstreamIdentity {
        id: row.get("id")?,
        user_id: row.get("user_id")?,
        issuer: row.get("issuer")?,
        subject: row.get("subject")?,
        created_at: Timestamp(row.get("created_at")?),
        last_login_at: row.get::<Option<i64>>("last_login_at")?.map(Timestamp),
    })
}
