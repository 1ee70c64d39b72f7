//! Sessions and their refresh chain.

use super::{Db, Error, Result, Row, Statement, Tx, statement::one, users};
use crate::{
    clock::Timestamp,
    model::session::{EndReason, Session},
    oauth::scope::Scope,
};

/// A session as it begins; its first refresh token is generation 0.
#[derive(Debug)]
pub struct NewSession {
    pub id: String,
    pub subject: String,
    pub user_id: Option<String>,
    pub client_id: String,
    pub scope: Scope,
    pub chain_key: u32,
    pub first_hash: [u8; 32],
    pub idle_expires_at: Timestamp,
    pub expires_at: Timestamp,
    pub address: Option<String>,
    pub user_agent: Option<String>,
}

/// Adds a session.
pub async fn insert(tx: &mut Tx<'_>, new: NewSession, now: Timestamp) -> Result<()> {
    tx.run(
        Statement::new(
            "INSERT INTO sessions (id, subject, user_id, client_id, scope, chain_key, generation, current_hash, \
             rotated_at, created_at, idle_expires_at, expires_at, address, user_agent) \
             VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, $8, $9, $10, $11, $12)",
        )
        .bind(new.id)
        .bind(new.subject)
        .bind(new.user_id)
        .bind(new.client_id)
        .bind(new.scope.to_string())
        .bind(i64::from(new.chain_key))
        .bind(new.first_hash)
        .bind(now)
        .bind(new.idle_expires_at)
        .bind(new.expires_at)
        .bind(new.address)
        .bind(new.user_agent),
    )
    .await?;
    Ok(())
}

/// The columns every statement here gives back. The account is read by subqueries because SQLite's
/// RETURNING cannot name a joined table.
macro_rules! session_columns {
    () => {
        "id, subject, client_id, scope, generation, current_hash, rotated_at, created_at, idle_expires_at, \
         expires_at, revoked_at, user_id, \
         (SELECT u.email FROM users u WHERE u.id = sessions.user_id) AS user_email, \
         (SELECT u.username FROM users u WHERE u.id = sessions.user_id) AS user_username, \
         (SELECT u.role FROM users u WHERE u.id = sessions.user_id) AS user_role, \
         (SELECT u.is_verified FROM users u WHERE u.id = sessions.user_id) AS user_is_verified, \
         (SELECT u.created_at FROM users u WHERE u.id = sessions.user_id) AS user_created_at, \
         (SELECT u.disabled_at FROM users u WHERE u.id = sessions.user_id) AS user_disabled_at"
    };
}

/// The refresh itself. Single use is one statement: whoever presents the current token of a live session
/// first moves the row on, and nobody else finds it any more; there is no moment between a check and a
/// change. It inserts nothing and touches no index.
pub const ROTATE: &str = concat!(
    "UPDATE sessions SET generation = generation + 1, current_hash = $3, rotated_at = $4, \
     idle_expires_at = CASE WHEN $5 < expires_at THEN $5 ELSE expires_at END \
     WHERE id = $1 AND current_hash = $2 AND revoked_at IS NULL AND idle_expires_at > $4 AND expires_at > $4 \
     AND NOT EXISTS (SELECT 1 FROM users d WHERE d.id = sessions.user_id AND d.disabled_at IS NOT NULL) \
     AND NOT EXISTS (SELECT 1 FROM clients c WHERE c.id = sessions.client_id AND c.disabled_at IS NOT NULL) \
     RETURNING ",
    session_columns!()
);

/// Moves a live session from the presented token to its successor; `None` where the presented token is
/// not the current one, or the session, its user or its client is not live.
pub async fn rotate(
    db: &Db,
    id: &str,
    presented: [u8; 32],
    successor: [u8; 32],
    now: Timestamp,
    idle_expires_at: Timestamp,
) -> Result<Option<Session>> {
    let rows = db
        .write(
            Statement::new(ROTATE)
                .bind(id)
                .bind(presented)
                .bind(successor)
                .bind(now)
                .bind(idle_expires_at),
        )
        .await?;
    one(rows).map(|row| from_row(&row)).transpose()
}

/// Finds a session by its id.
pub async fn by_id(db: &Db, id: &str) -> Result<Option<Session>> {
    let rows = db
        .read(
            Statement::new(concat!(
                "SELECT ",
                session_columns!(),
                " FROM sessions WHERE id = $1"
            ))
            .bind(id),
        )
        .await?;
    one(rows).map(|row| from_row(&row)).transpose()
}

/// Ends a session; `false` where it had ended already or never was.
pub async fn end(tx: &mut Tx<'_>, id: &str, reason: EndReason, now: Timestamp) -> Result<bool> {
    let rows = tx
        .run(
            Statement::new(
                "UPDATE sessions SET revoked_at = $2, revoked_for = $3 \
                 WHERE id = $1 AND revoked_at IS NULL RETURNING id",
            )
            .bind(id)
            .bind(now)
            .bind(reason.as_str()),
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Ends every session of an account.
pub async fn end_all(
    tx: &mut Tx<'_>,
    user_id: &str,
    reason: EndReason,
    now: Timestamp,
) -> Result<()> {
    tx.run(
        Statement::new(
            "UPDATE sessions SET revoked_at = $2, revoked_for = $3 \
             WHERE user_id = $1 AND revoked_at IS NULL",
        )
        .bind(user_id)
        .bind(now)
        .bind(reason.as_str()),
    )
    .await?;
    Ok(())
}

/// Removes up to `most` sessions that can never be refreshed again; says how many went.
pub async fn sweep(db: &Db, now: Timestamp, most: i64) -> Result<usize> {
    let rows = db
        .write(
            Statement::new(
                "DELETE FROM sessions WHERE id IN \
                 (SELECT id FROM sessions WHERE expires_at <= $1 LIMIT $2) RETURNING id",
            )
            .bind(now)
            .bind(most),
        )
        .await?;
    Ok(rows.len())
}

fn from_row(row: &Row) -> Result<Session> {
    const USER: [&str; 7] = [
        "user_id",
        "user_email",
        "user_username",
        "user_role",
        "user_is_verified",
        "user_created_at",
        "user_disabled_at",
    ];
    let scope: String = row.get("scope")?;
    let user_id: Option<String> = row.get("user_id")?;
    Ok(Session {
        id: row.get("id")?,
        subject: row.get("subject")?,
        client_id: row.get("client_id")?,
        scope: Scope::parse(&scope).map_err(|why| Error::Corrupt(why.to_owned()))?,
        generation: row.get::<i64>("generation")?.unsigned_abs(),
        current_hash: row.get("current_hash")?,
        rotated_at: Timestamp(row.get("rotated_at")?),
        created_at: Timestamp(row.get("created_at")?),
        idle_expires_at: Timestamp(row.get("idle_expires_at")?),
        expires_at: Timestamp(row.get("expires_at")?),
        revoked_at: row.get::<Option<i64>>("revoked_at")?.map(Timestamp),
        user: user_id.map(|_| users::from_row(row, &USER)).transpose()?,
    })
}
