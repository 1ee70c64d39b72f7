//! Browser sessions, each identified by an opaque cookie.

use super::{
    Db, Error, Result, Row, Statement, Tx,
    modules::{open_grants, read_open_grants},
    statement::one,
    users,
};
use crate::{
    clock::{CLOCK_SKEW, Timestamp},
    ids::{BrowserSessionId, ClientId, UserId},
    model::{
        browser_session::{AuthorizationContext, BrowserOverview, BrowserSession},
        created_at,
    },
    oauth::scope::Scope,
};

/// A new browser session.
#[derive(Debug)]
pub struct NewBrowserSession {
    pub id: BrowserSessionId,
    /// SHA-256 of the cookie.
    pub token_hash: [u8; 32],
    pub user_id: UserId,
    /// `None`: now.
    pub authenticated_at: Option<Timestamp>,
    pub amr: String,
    /// When it ends unless it is used before.
    pub expires_at: Timestamp,
    /// When it ends however it is used.
    pub max_expires_at: Timestamp,
    pub address: Option<String>,
    pub user_agent: Option<String>,
}

/// Adds a browser session.
pub async fn insert(tx: &mut Tx, new: NewBrowserSession, now: Timestamp) -> Result<()> {
    tx.run(
        Statement::new(
            "INSERT INTO browser_sessions (id, token_hash, user_id, authenticated_at, amr, expires_at, address, user_agent, \
             max_expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(new.id)
        .bind(new.token_hash)
        .bind(new.user_id)
        .bind(new.authenticated_at.unwrap_or(now))
        .bind(new.amr)
        .bind(new.expires_at)
        .bind(new.address)
        .bind(new.user_agent)
        .bind(new.max_expires_at),
    )
    .await?;
    Ok(())
}

/// The valid browser session of a cookie with its user, the consent to the client for these
/// resources, and the version of the clients: everything an authorization request needs, in one
/// statement.
pub async fn authorization_context(
    db: &Db,
    token_hash: [u8; 32],
    client_id: &ClientId,
    resource: &str,
    now: Timestamp,
) -> Result<AuthorizationContext> {
    // PostgreSQL rejects statements with NUL in a text value.
    let client_id = if client_id.contains('\0') { "" } else { client_id };
    let rows = db
        .read(
            Statement::new(concat!(
                "SELECT v.version AS clients_version, b.id AS browser_id, b.authenticated_at, b.amr, \
                 b.expires_at, b.max_expires_at, \
                 u.id AS user_id, u.email AS user_email, u.username AS user_username, u.role AS user_role, \
                 u.is_verified AS user_is_verified, u.created_at AS user_created_at, u.disabled_at AS user_disabled_at, \
                 u.terms_version AS accepted_terms, c.scope AS consent, ",
                users::second_factor_columns!(),
                ", ",
                open_grants!("b.user_id"),
                " FROM change_counters v \
                 LEFT JOIN browser_sessions b ON b.token_hash = $1 AND b.revoked_at IS NULL AND b.expires_at > $4 \
                 AND b.authenticated_at <= $5 \
                 LEFT JOIN users u ON u.id = b.user_id \
                 LEFT JOIN consents c ON c.user_id = b.user_id AND c.client_id = $2 AND c.resource = $3 \
                 WHERE v.name = 'clients'",
            ))
            .bind(token_hash)
            .bind(client_id)
            .bind(resource)
            .bind(now)
            // A clock that was ahead made it: its login would count as fresh until then.
            .bind(now + CLOCK_SKEW),
        )
        .await?;
    let row =
        one(rows).ok_or_else(|| Error::Corrupt("change_counters has no row clients".to_owned()))?;
    let clients_version = row.get("clients_version")?;
    let Some(id) = row.get::<Option<BrowserSessionId>>("browser_id")? else {
        return Ok(AuthorizationContext { clients_version, browser: None, consent: None });
    };
    let user = users::from_row(&row, &users::PREFIXED)?;
    let amr: String = row.get("amr")?;
    let second_factor = users::second_factor_state(&row)?;
    let consent = row.get::<Option<String>>("consent")?;
    let consent = consent.map(|scope| Scope::parse(&scope)).transpose();
    // The browser of a disabled user counts as logged out.
    let is_enabled = user.disabled_at.is_none();
    Ok(AuthorizationContext {
        clients_version,
        browser: is_enabled.then_some(BrowserSession {
            id,
            user,
            modules: read_open_grants(&row)?,
            authenticated_at: Timestamp(row.get("authenticated_at")?),
            amr: amr.split_whitespace().map(str::to_owned).collect(),
            expires_at: Timestamp(row.get("expires_at")?),
            max_expires_at: Timestamp(row.get("max_expires_at")?),
            has_second_factor: second_factor.exists,
            requires_second_factor: second_factor.is_required,
            accepted_terms: row.get("accepted_terms")?,
        }),
        consent: consent.map_err(|why| Error::Corrupt(why.to_owned()))?,
    })
}

/// Gives a valid session of the same user a new cookie and authentication time. Returns its id, or
/// `None` if the old cookie has no valid session or one of another user.
pub async fn renew(
    tx: &mut Tx,
    old_hash: [u8; 32],
    new: &NewBrowserSession,
    now: Timestamp,
) -> Result<Option<BrowserSessionId>> {
    let rows = tx
        .run(
            Statement::new(
                "UPDATE browser_sessions SET token_hash = $3, authenticated_at = $9, amr = $5, expires_at = $6, \
                 address = $7, user_agent = $8, max_expires_at = $10 \
                 WHERE token_hash = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at > $4 RETURNING id",
            )
            .bind(old_hash)
            .bind(new.user_id.as_str())
            .bind(new.token_hash)
            .bind(now)
            .bind(new.amr.as_str())
            .bind(new.expires_at)
            .bind(new.address.clone())
            .bind(new.user_agent.clone())
            .bind(new.authenticated_at.unwrap_or(now))
            .bind(new.max_expires_at),
        )
        .await?;
    one(rows).map(|row| row.get("id")).transpose()
}

/// Lets a valid session last until a later time.
pub async fn extend(
    db: &Db,
    id: &BrowserSessionId,
    until: Timestamp,
    now: Timestamp,
) -> Result<()> {
    let statement = Statement::new(
        "UPDATE browser_sessions SET expires_at = $2 WHERE id = $1 AND revoked_at IS NULL \
         AND expires_at > $3 AND expires_at < $2",
    );
    db.write(statement.bind(id).bind(until).bind(now)).await?;
    Ok(())
}

/// Gives a valid session a new cookie, and the methods of a second step of its login; `false` if the
/// old cookie has no valid session of that id.
pub async fn step_up(
    tx: &mut Tx,
    id: &BrowserSessionId,
    new_hash: [u8; 32],
    amr: &str,
    now: Timestamp,
) -> Result<bool> {
    let statement = Statement::new(
        "UPDATE browser_sessions SET token_hash = $2, amr = $3 WHERE id = $1 AND revoked_at IS NULL \
         AND expires_at > $4 RETURNING id",
    );
    Ok(!tx.run(statement.bind(id).bind(new_hash).bind(amr).bind(now)).await?.is_empty())
}

/// Whether the session is valid; it cannot be revoked until the transaction ends.
pub async fn lock_valid(tx: &mut Tx, id: &BrowserSessionId, now: Timestamp) -> Result<bool> {
    macro_rules! valid {
        ($lock:literal) => {
            concat!(
                "SELECT id FROM browser_sessions WHERE id = $1 AND revoked_at IS NULL AND expires_at > $2",
                $lock
            )
        };
    }
    let statement = Statement::new(valid!("")).locking(valid!(" FOR SHARE"));
    let rows = tx.run(statement.bind(id).bind(now)).await?;
    Ok(!rows.is_empty())
}

/// Revokes the session of a cookie; returns its id and that of its user.
pub async fn revoke_by_hash(
    tx: &mut Tx,
    token_hash: [u8; 32],
    now: Timestamp,
) -> Result<Option<(BrowserSessionId, UserId)>> {
    let rows = tx
        .run(
            Statement::new(
                "UPDATE browser_sessions SET revoked_at = $2 WHERE token_hash = $1 AND revoked_at IS NULL \
                 RETURNING id, user_id",
            )
            .bind(token_hash)
            .bind(now),
        )
        .await?;
    one(rows).map(|row| Ok((row.get("id")?, row.get("user_id")?))).transpose()
}

/// Revokes a browser session; `false` if it was revoked already or does not exist.
pub async fn revoke(tx: &mut Tx, id: &BrowserSessionId, now: Timestamp) -> Result<bool> {
    let rows = tx
        .run(
            Statement::new(
                "UPDATE browser_sessions SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING id",
            )
            .bind(id)
            .bind(now),
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Up to `most` valid browser sessions of a user, or the one of that id, newest first.
pub async fn of_user(
    db: &Db,
    user_id: &UserId,
    id: Option<&BrowserSessionId>,
    most: i64,
    now: Timestamp,
) -> Result<Vec<BrowserOverview>> {
    // PostgreSQL rejects statements with NUL in a text value.
    if id.is_some_and(|id| id.contains('\0')) {
        return Ok(vec![]);
    }
    let statement = Statement::new(
        "SELECT b.id, b.authenticated_at, b.expires_at, b.address, b.user_agent, \
         (SELECT MAX(s.rotated_at) FROM sessions s WHERE s.browser_session_id = b.id) AS used_at \
         FROM browser_sessions b WHERE b.user_id = $1 AND b.revoked_at IS NULL AND b.expires_at > $2",
    )
    .bind(user_id)
    .bind(now)
    .filter("AND b.id = $", id)
    .with("ORDER BY b.id DESC LIMIT $", most);
    db.read(statement).await?.iter().map(overview_from_row).collect()
}

fn overview_from_row(row: &Row) -> Result<BrowserOverview> {
    let id: BrowserSessionId = row.get("id")?;
    let authenticated_at = Timestamp(row.get("authenticated_at")?);
    let created_at = created_at(&id).unwrap_or(authenticated_at);
    let used_at = row.get::<Option<i64>>("used_at")?.map(Timestamp);
    // The user may have authenticated at another provider, long before.
    let began_at = authenticated_at.max(created_at);
    Ok(BrowserOverview {
        created_at,
        id,
        authenticated_at,
        last_used_at: used_at.map_or(began_at, |used| used.max(began_at)),
        expires_at: Timestamp(row.get("expires_at")?),
        address: row.get("address")?,
        user_agent: row.get("user_agent")?,
    })
}

/// Revokes the valid browser sessions of a user but `kept`; returns their ids.
pub async fn revoke_others(
    tx: &mut Tx,
    user_id: &UserId,
    kept: Option<&BrowserSessionId>,
    now: Timestamp,
) -> Result<Vec<BrowserSessionId>> {
    let statement = Statement::new(
        "UPDATE browser_sessions SET revoked_at = $3 WHERE user_id = $1 AND id <> $2 AND revoked_at IS NULL \
         AND expires_at > $3 RETURNING id",
    );
    let rows = tx
        .run(statement.bind(user_id).bind(kept.map_or("", BrowserSessionId::as_str)).bind(now))
        .await?;
    rows.iter().map(|row| row.get("id")).collect()
}

/// Removes up to `most` expired sessions; returns the number removed.
pub async fn sweep(db: &Db, now: Timestamp, most: i64) -> Result<usize> {
    let rows = db
        .write(
            Statement::new(
                "DELETE FROM browser_sessions WHERE id IN \
                 (SELECT id FROM browser_sessions WHERE expires_at <= $1 LIMIT $2) RETURNING id",
            )
            .bind(now)
            .bind(most),
        )
        .await?;
    Ok(rows.len())
}
