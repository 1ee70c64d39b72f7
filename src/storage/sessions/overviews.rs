//! Sessions, as administrators and their users see them.

use super::super::{Db, Error, Result, Row, Statement, statement::one};
use crate::{
    clock::Timestamp,
    ids::{ClientId, SessionId, UserId},
    model::session::SessionOverview,
    oauth::scope::Scope,
};

macro_rules! overview {
    ($rest:literal) => {
        concat!(
            "SELECT id, subject, user_id, client_id, browser_session_id, scope, created_at, authenticated_at, rotated_at, \
             idle_expires_at, expires_at, revoked_at, revocation_reason, address, user_agent FROM sessions \
             WHERE exchanged_at IS NOT NULL AND ",
            $rest
        )
    };
}

/// Filters of [`page`]; `None` matches every session.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    pub user_id: Option<UserId>,
    /// The `sub` of its tokens, of a user without an account.
    pub subject: Option<String>,
    pub client_id: Option<ClientId>,
    /// Whether the session is neither revoked nor expired.
    pub live: Option<bool>,
}

/// Up to `most` matching sessions with ids below `before`, newest first, without unexchanged codes.
pub async fn page(
    db: &Db,
    filter: &SessionFilter,
    before: &str,
    most: i64,
    now: Timestamp,
) -> Result<Vec<SessionOverview>> {
    let live = filter.live == Some(true);
    let ended = filter.live == Some(false);
    let statement = Statement::new(overview!("id < $1"))
        .bind(before)
        .filter("AND user_id = $", filter.user_id.as_deref())
        .filter("AND user_id IS NULL AND subject = $", filter.subject.as_deref())
        .filter("AND client_id = $", filter.client_id.as_deref())
        .only_if(live, "AND revoked_at IS NULL")
        .filter("AND idle_expires_at > $", live.then_some(now))
        .filter("AND expires_at > $", live.then_some(now))
        .filter("AND (revoked_at IS NOT NULL OR idle_expires_at <= $", ended.then_some(now))
        .filter("OR expires_at <= $)", ended.then_some(now))
        .with("ORDER BY id DESC LIMIT $", most);
    db.read(statement).await?.iter().map(overview_from_row).collect()
}

/// Finds a session by id, unless it is an unexchanged code.
pub async fn overview_of(db: &Db, id: &SessionId) -> Result<Option<SessionOverview>> {
    let statement = Statement::new(overview!("id = $1")).bind(id);
    one(db.read(statement).await?).map(|row| overview_from_row(&row)).transpose()
}

fn overview_from_row(row: &Row) -> Result<SessionOverview> {
    let scope: String = row.get("scope")?;
    Ok(SessionOverview {
        id: row.get("id")?,
        subject: row.get("subject")?,
        user_id: row.get("user_id")?,
        client_id: row.get("client_id")?,
        browser_session_id: row.get("browser_session_id")?,
        scope: Scope::parse(&scope).map_err(|why| Error::Corrupt(why.to_owned()))?,
        created_at: Timestamp(row.get("created_at")?),
        authenticated_at: row.get::<Option<i64>>("authenticated_at")?.map(Timestamp),
        rotated_at: Timestamp(row.get("rotated_at")?),
        idle_expires_at: Timestamp(row.get("idle_expires_at")?),
        expires_at: Timestamp(row.get("expires_at")?),
        revoked_at: row.get::<Option<i64>>("revoked_at")?.map(Timestamp),
        revocation_reason: row.get("revocation_reason")?,
        address: row.get("address")?,
        user_agent: row.get("user_agent")?,
    })
}
