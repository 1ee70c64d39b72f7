//! Browsers in which a user is not asked for the second factor, each by the hash of a cookie and of
//! the device cookie.

use super::{Db, Result, Row, Statement, Tx, statement::one};
use crate::{clock::Timestamp, ids::UserId, model::device::RememberedDevice};

/// Maximum number of remembered devices of a user; beyond it the oldest are removed.
const MOST: i64 = 20;

/// A device to remember.
#[derive(Debug)]
pub struct NewDevice<'a> {
    pub id: &'a str,
    pub user_id: &'a UserId,
    /// SHA-256 of the new cookie.
    pub token_hash: [u8; 32],
    /// The hash of the device cookie.
    pub device: &'a str,
    pub user_agent: Option<&'a str>,
    pub expires_at: Timestamp,
}

/// Remembers a device, in place of earlier rows of it for the user, by either cookie: the device
/// cookie may have ended before.
pub async fn insert(tx: &mut Tx, new: NewDevice<'_>, now: Timestamp) -> Result<()> {
    let statement = Statement::new(
        "DELETE FROM remembered_devices WHERE user_id = $1 AND (device = $2 OR token_hash = $3)",
    );
    tx.run(statement.bind(new.user_id).bind(new.device).bind(new.token_hash)).await?;
    tx.run(
        Statement::new(
            "INSERT INTO remembered_devices (id, user_id, token_hash, device, user_agent, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(new.id)
        .bind(new.user_id)
        .bind(new.token_hash)
        .bind(new.device)
        .bind(new.user_agent)
        .bind(now)
        .bind(new.expires_at),
    )
    .await?;
    let statement = Statement::new(
        "DELETE FROM remembered_devices WHERE user_id = $1 AND id NOT IN \
         (SELECT r.id FROM remembered_devices r WHERE r.user_id = $1 ORDER BY r.created_at DESC, r.id DESC LIMIT $2)",
    );
    tx.run(statement.bind(new.user_id).bind(MOST)).await?;
    Ok(())
}

/// Replaces the cookie of a browser, for its other users who are remembered.
pub async fn replace_token(tx: &mut Tx, old: [u8; 32], new: [u8; 32]) -> Result<()> {
    let statement = Statement::new(
        "UPDATE remembered_devices SET token_hash = $2 WHERE token_hash = $1 AND NOT EXISTS (SELECT 1 \
         FROM remembered_devices o WHERE o.user_id = remembered_devices.user_id AND o.token_hash = $2)",
    );
    tx.run(statement.bind(old).bind(new)).await?;
    Ok(())
}

/// The id of what is remembered for the user of this cookie in this device.
pub async fn find(
    db: &Db,
    user_id: &UserId,
    token_hash: [u8; 32],
    device: &str,
    now: Timestamp,
) -> Result<Option<String>> {
    let statement = Statement::new(
        "SELECT id FROM remembered_devices \
         WHERE token_hash = $1 AND user_id = $2 AND device = $3 AND expires_at > $4",
    );
    let statement = statement.bind(token_hash).bind(user_id).bind(device).bind(now);
    one(db.read(statement).await?).map(|row| row.get("id")).transpose()
}

/// Records its use; `false` if it was removed or has expired.
pub async fn record_use(tx: &mut Tx, id: &str, now: Timestamp) -> Result<bool> {
    let statement = Statement::new(
        "UPDATE remembered_devices SET last_used_at = $2 WHERE id = $1 AND expires_at > $2 RETURNING id",
    );
    Ok(!tx.run(statement.bind(id).bind(now)).await?.is_empty())
}

/// The remembered devices of a user, the newest first.
pub async fn of_user(db: &Db, user_id: &UserId, now: Timestamp) -> Result<Vec<RememberedDevice>> {
    let statement = Statement::new(
        "SELECT id, user_agent, created_at, last_used_at, expires_at FROM remembered_devices \
         WHERE user_id = $1 AND expires_at > $2 ORDER BY created_at DESC, id DESC",
    );
    db.read(statement.bind(user_id).bind(now)).await?.iter().map(from_row).collect()
}

/// Removes one of the user; `false` if there is none of that id.
pub async fn remove(tx: &mut Tx, user_id: &UserId, id: &str) -> Result<bool> {
    if id.contains('\0') {
        return Ok(false);
    }
    let statement = Statement::new(
        "DELETE FROM remembered_devices WHERE user_id = $1 AND id = $2 RETURNING id",
    );
    Ok(!tx.run(statement.bind(user_id).bind(id)).await?.is_empty())
}

/// Removes all of a user; returns their number. Call it before browser sessions are revoked: a
/// login locks them in this order.
pub async fn remove_all(tx: &mut Tx, user_id: &UserId) -> Result<usize> {
    let statement =
        Statement::new("DELETE FROM remembered_devices WHERE user_id = $1 RETURNING id");
    Ok(tx.run(statement.bind(user_id)).await?.len())
}

/// Removes up to `most` expired ones; returns the number removed.
pub async fn sweep(db: &Db, now: Timestamp, most: i64) -> Result<usize> {
    let statement = Statement::new(
        "DELETE FROM remembered_devices WHERE id IN \
         (SELECT id FROM remembered_devices WHERE expires_at <= $1 LIMIT $2) RETURNING id",
    );
    Ok(db.write(statement.bind(now).bind(most)).await?.len())
}

fn from_row(row: &Row) -> Result<RememberedDevice> {
    Ok(RememberedDevice {
        id: row.get("id")?,
        user_agent: row.get("user_agent")?,
        created_at: Timestamp(row.get("created_at")?),
        last_used_at: row.get::<Option<i64>>("last_used_at")?.map(Timestamp),
        expires_at: Timestamp(row.get("expires_at")?),
    })
}
