//! Device authorization requests (RFC 8628).

use std::time::Duration;

use super::{Db, Error, Result, Row, Statement, Tx, statement::one};
use crate::{
    clock::Timestamp,
    ids::{BrowserSessionId, ClientId, SessionId},
    model::device_authorization::{DeviceAuthorization, DeviceState},
    oauth::scope::Scope,
};

macro_rules! columns {
    () => {
        "id, user_code, client_id, scope, resource, state, browser_session_id, session_id, address, user_agent, \
         created_at, expires_at"
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM device_authorizations WHERE ", $rest)
    };
}

/// A request that is about to be stored.
#[derive(Debug)]
pub struct NewDeviceAuthorization<'a> {
    /// SHA-256 of the device code.
    pub id: [u8; 32],
    /// Without its hyphen.
    pub user_code: &'a str,
    pub client_id: &'a ClientId,
    pub scope: &'a Scope,
    /// Separated by spaces.
    pub resource: &'a str,
    /// How long the device waits between two polls.
    pub interval: Duration,
    pub network: &'a str,
    pub address: String,
    pub user_agent: Option<&'a str>,
    pub expires_at: Timestamp,
}

/// Adds a request; `false` if the client has `most` pending ones from its network. Simultaneous
/// requests may exceed that by their number.
///
/// # Errors
/// [`Error::Conflict`] if the user code is in use.
pub async fn insert(
    db: &Db,
    new: NewDeviceAuthorization<'_>,
    most: i64,
    now: Timestamp,
) -> Result<bool> {
    let statement = Statement::new(
        "INSERT INTO device_authorizations (id, user_code, client_id, scope, resource, state, poll_interval, network, \
         address, user_agent, created_at, expires_at) \
         SELECT $1, $2, $3, $4, $5, 'pending', $6, $7, $8, $9, $10, $11 \
         WHERE (SELECT COUNT(*) FROM device_authorizations WHERE client_id = $3 AND network = $7 \
         AND state = 'pending' AND expires_at > $10) < $12 RETURNING client_id",
    );
    let rows = db.write(
        statement
            .bind(new.id)
            .bind(new.user_code)
            .bind(new.client_id)
            .bind(new.scope.to_string())
            .bind(new.resource)
            .bind(micros(new.interval))
            .bind(new.network)
            .bind(new.address)
            .bind(new.user_agent)
            .bind(now)
            .bind(new.expires_at)
            .bind(most),
    );
    Ok(!rows.await?.is_empty())
}

/// Counts a poll for a pending request of this client; `false` if there is none, or if the previous
/// poll was less than its interval ago. `tolerance`: how much earlier a poll may arrive. One
/// statement, so that any number of processes count alike.
pub async fn poll(
    db: &Db,
    id: [u8; 32],
    client_id: &ClientId,
    tolerance: Duration,
    now: Timestamp,
) -> Result<bool> {
    let statement = Statement::new(
        "UPDATE device_authorizations SET last_poll_at = $3 WHERE id = $1 AND client_id = $2 AND state = 'pending' \
         AND expires_at > $3 AND (last_poll_at IS NULL OR last_poll_at + poll_interval <= $4) RETURNING client_id",
    );
    let statement = statement.bind(id).bind(client_id).bind(now).bind(now + tolerance);
    Ok(!db.write(statement).await?.is_empty())
}

/// Counts a poll that came too early: it lengthens the interval. Returns the new one in seconds, or
/// `None` if the request is not pending any more.
pub async fn slow_down(db: &Db, id: [u8; 32], by: Duration, now: Timestamp) -> Result<Option<i64>> {
    let statement = Statement::new(
        "UPDATE device_authorizations SET poll_interval = poll_interval + $2, last_poll_at = $3 \
         WHERE id = $1 AND state = 'pending' RETURNING poll_interval / 1000000 AS seconds",
    );
    let rows = db.write(statement.bind(id).bind(micros(by)).bind(now)).await?;
    one(rows).map(|row| row.get("seconds")).transpose()
}

/// The request with this device code.
pub async fn by_id(db: &Db, id: [u8; 32]) -> Result<Option<DeviceAuthorization>> {
    let rows = db.read(Statement::new(select!("id = $1")).bind(id)).await?;
    one(rows).map(|row| from_row(&row)).transpose()
}

/// The request with this user code.
pub async fn by_user_code(db: &Db, user_code: &str) -> Result<Option<DeviceAuthorization>> {
    let rows = db.read(Statement::new(select!("user_code = $1")).bind(user_code)).await?;
    one(rows).map(|row| from_row(&row)).transpose()
}

/// Binds a pending request to the browser session in which its user code was entered; `false` if it
/// is bound to another one that is valid, or is not pending. One statement decides between
/// simultaneous browsers.
pub async fn claim(
    db: &Db,
    user_code: &str,
    browser_session_id: &BrowserSessionId,
    now: Timestamp,
) -> Result<bool> {
    let statement = Statement::new(
        "UPDATE device_authorizations SET browser_session_id = $2 WHERE user_code = $1 AND state = 'pending' \
         AND expires_at > $3 AND (browser_session_id IS NULL OR browser_session_id = $2 \
         OR NOT EXISTS (SELECT 1 FROM browser_sessions b WHERE b.id = device_authorizations.browser_session_id \
         AND b.revoked_at IS NULL AND b.expires_at > $3)) RETURNING client_id",
    );
    let statement = statement.bind(user_code).bind(browser_session_id).bind(now);
    Ok(!db.write(statement).await?.is_empty())
}

/// Stores the decision; `false` if the request is not pending, or is bound to another browser
/// session. `session_id`: what an approval opened.
pub async fn decide(
    tx: &mut Tx,
    user_code: &str,
    browser_session_id: &BrowserSessionId,
    state: DeviceState,
    session_id: Option<&SessionId>,
    now: Timestamp,
) -> Result<bool> {
    let statement = Statement::new(
        "UPDATE device_authorizations SET state = $3, session_id = $4 WHERE user_code = $1 \
         AND browser_session_id = $2 AND state = 'pending' AND expires_at > $5 RETURNING client_id",
    );
    let statement = statement.bind(user_code).bind(browser_session_id).bind(state.as_str());
    Ok(!tx.run(statement.bind(session_id).bind(now)).await?.is_empty())
}

/// Removes up to `most` expired requests; returns the number removed.
pub async fn sweep(db: &Db, now: Timestamp, most: i64) -> Result<usize> {
    let rows = db
        .write(
            Statement::new(
                "DELETE FROM device_authorizations WHERE id IN \
                 (SELECT id FROM device_authorizations WHERE expires_at <= $1 LIMIT $2) RETURNING client_id",
            )
            .bind(now)
            .bind(most),
        )
        .await?;
    Ok(rows.len())
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn from_row(row: &Row) -> Result<DeviceAuthorization> {
    let (scope, resource): (String, String) = (row.get("scope")?, row.get("resource")?);
    let (state, address): (String, String) = (row.get("state")?, row.get("address")?);
    Ok(DeviceAuthorization {
        id: row.get("id")?,
        user_code: row.get("user_code")?,
        client_id: row.get("client_id")?,
        scope: Scope::parse(&scope).map_err(|why| Error::Corrupt(why.to_owned()))?,
        resources: resource.split_whitespace().map(str::to_owned).collect(),
        state: DeviceState::parse(&state).ok_or_else(|| Error::Corrupt(state.clone()))?,
        browser_session_id: row.get("browser_session_id")?,
        session_id: row.get("session_id")?,
        address: address.parse().ok(),
        user_agent: row.get("user_agent")?,
        created_at: Timestamp(row.get("created_at")?),
        expires_at: Timestamp(row.get("expires_at")?),
    })
}
