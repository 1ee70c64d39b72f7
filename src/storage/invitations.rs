//! Invitations to register, each by the hash of its token.

use serde::{Deserialize, Serialize};

use super::{Db, Error, Result, Row, Statement, Tx, statement::one};
use crate::{
    clock::Timestamp,
    model::{
        invitation::Invitation,
        module::OpenGrant,
        user::{Role, User},
    },
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, email, is_mailed, role, modules, created_by, created_at, expires_at, used_at, used_by \
             FROM invitations ",
            $rest
        )
    };
}

/// A module grant as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredGrant {
    module: String,
    /// Microseconds since the epoch.
    until: Option<i64>,
}

/// Adds an invitation.
pub async fn insert(tx: &mut Tx, new: &Invitation, token_hash: [u8; 32]) -> Result<()> {
    let modules = new.modules.iter().map(|grant| StoredGrant {
        module: grant.module_id.clone(),
        until: grant.valid_until.map(Timestamp::micros),
    });
    let modules = serde_json::to_string(&modules.collect::<Vec<_>>());
    let modules = modules.map_err(|error| Error::Corrupt(error.to_string()))?;
    tx.run(
        Statement::new(
            "INSERT INTO invitations (id, token_hash, email, is_mailed, role, modules, created_by, created_at, \
             expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(new.id.as_str())
        .bind(token_hash)
        .bind(new.email.as_deref())
        .bind(new.is_mailed)
        .bind(new.role.as_str())
        .bind(modules)
        .bind(new.created_by.as_str())
        .bind(new.created_at)
        .bind(new.expires_at),
    )
    .await?;
    Ok(())
}

/// The number of invitations that can be used.
pub async fn count_open(tx: &mut Tx, now: Timestamp) -> Result<i64> {
    let statement = Statement::new(
        "SELECT COUNT(*) AS count FROM invitations WHERE used_at IS NULL AND expires_at > $1",
    );
    one(tx.run(statement.bind(now)).await?).map_or(Ok(0), |row| row.get("count"))
}

/// Up to `most` invitations with ids above `after`, in order.
pub async fn page(db: &Db, after: &str, most: i64) -> Result<Vec<Invitation>> {
    let statement = Statement::new(select!("WHERE id > $1 ORDER BY id LIMIT $2"));
    db.read(statement.bind(after).bind(most)).await?.iter().map(invitation).collect()
}

/// Finds an invitation by its id.
pub async fn by_id(db: &Db, id: &str) -> Result<Option<Invitation>> {
    // PostgreSQL rejects statements with NUL in a text value; no invitation has such an id.
    if id.contains('\0') {
        return Ok(None);
    }
    let statement = Statement::new(select!("WHERE id = $1")).bind(id);
    one(db.read(statement).await?).map(|row| invitation(&row)).transpose()
}

/// As [`by_id`], for a transaction that removes the invitation: it is not used until that ends.
pub async fn lock(tx: &mut Tx, id: &str) -> Result<Option<Invitation>> {
    if id.contains('\0') {
        return Ok(None);
    }
    let statement = Statement::new(select!("WHERE id = $1"));
    let statement = statement.locking(select!("WHERE id = $1 FOR UPDATE")).bind(id);
    one(tx.run(statement).await?).map(|row| invitation(&row)).transpose()
}

/// The invitation of a token, if it can be used.
pub async fn find(db: &Db, token_hash: [u8; 32], now: Timestamp) -> Result<Option<Invitation>> {
    let statement =
        Statement::new(select!("WHERE token_hash = $1 AND used_at IS NULL AND expires_at > $2"));
    let rows = db.read(statement.bind(token_hash).bind(now)).await?;
    one(rows).map(|row| invitation(&row)).transpose()
}

/// Marks an invitation as used by a new user; `false` if it was used or revoked, or has expired. Of
/// parallel registrations one succeeds: the others wait for its row.
pub async fn use_up(tx: &mut Tx, id: &str, user: &User, now: Timestamp) -> Result<bool> {
    let statement = Statement::new(
        "UPDATE invitations SET used_at = $3, used_by = $2 \
         WHERE id = $1 AND used_at IS NULL AND expires_at > $3 RETURNING id",
    );
    let statement = statement.bind(id).bind(user.id.as_str()).bind(now);
    Ok(!tx.run(statement).await?.is_empty())
}

/// Removes an invitation.
pub async fn remove(tx: &mut Tx, id: &str) -> Result<()> {
    tx.run(Statement::new("DELETE FROM invitations WHERE id = $1").bind(id)).await?;
    Ok(())
}

/// Removes up to `most` expired invitations, used or not; returns the number removed.
pub async fn sweep(db: &Db, now: Timestamp, most: i64) -> Result<usize> {
    let statement = Statement::new(
        "DELETE FROM invitations WHERE id IN (SELECT id FROM invitations WHERE expires_at <= $1 LIMIT $2) \
         RETURNING id",
    );
    Ok(db.write(statement.bind(now).bind(most)).await?.len())
}

fn invitation(row: &Row) -> Result<Invitation> {
    let id: String = row.get("id")?;
    let corrupt = || Error::Corrupt(format!("the invitation {id}"));
    let (role, modules): (String, String) = (row.get("role")?, row.get("modules")?);
    let modules: Vec<StoredGrant> = serde_json::from_str(&modules).map_err(|_| corrupt())?;
    let modules = modules.into_iter().map(|grant| OpenGrant {
        module_id: grant.module,
        valid_until: grant.until.map(Timestamp),
    });
    Ok(Invitation {
        email: row.get("email")?,
        is_mailed: row.get("is_mailed")?,
        role: Role::parse(&role).map_err(|_| corrupt())?,
        modules: modules.collect(),
        created_by: row.get("created_by")?,
        created_at: Timestamp(row.get("created_at")?),
        expires_at: Timestamp(row.get("expires_at")?),
        used_at: row.get::<Option<i64>>("used_at")?.map(Timestamp),
        used_by: row.get("used_by")?,
        id,
    })
}
