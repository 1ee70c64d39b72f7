//! Tokens of customer services. One process at a time requests a token: it holds the lease of the
//! row. What it stores, it stores by [`ServiceToken::version`], so that no token overwrites a newer
//! one.

use std::time::Duration;

use super::{Db, Error, Result, Row, Statement, Tx};
use crate::{
    clock::Timestamp,
    ids::{BrowserSessionId, UserId},
    model::service_token::{FailureKind, ServiceToken},
};

/// How long after one was discarded no other access token is discarded: a resource that refuses
/// every token must not cause a token request each time.
const DISCARD_INTERVAL: Duration = Duration::from_secs(10);

macro_rules! columns {
    () => {
        "service, subject, user_id, browser_session_id, version, sealed, settings, obtained_at, renew_at, expires_at, \
         lease_until, failures, retry_at, failure, created_at"
    };
}

/// Whether the session that a token is bound to is valid at `$1`.
macro_rules! is_live {
    () => {
        "(service_tokens.subject = '' OR EXISTS (SELECT 1 FROM browser_sessions b \
         WHERE b.id = service_tokens.browser_session_id AND b.revoked_at IS NULL AND b.expires_at > $1) \
         OR EXISTS (SELECT 1 FROM sessions s WHERE s.id = service_tokens.session_id AND s.revoked_at IS NULL \
         AND s.idle_expires_at > $1 AND s.expires_at > $1))"
    };
}

/// The rows of the service itself and of a subject there, unless its session has ended.
pub async fn read(
    db: &Db,
    service: &str,
    subject: &str,
    now: Timestamp,
) -> Result<Vec<ServiceToken>> {
    let statement = Statement::new(concat!(
        "SELECT ",
        columns!(),
        " FROM service_tokens WHERE service = $2 AND subject IN ('', $3) AND ",
        is_live!()
    ));
    let rows = db.read(statement.bind(now).bind(service).bind(subject)).await?;
    rows.iter().map(from_row).collect()
}

/// Every row, by service and subject, after these; `user_id`: of this user only.
pub async fn page(
    db: &Db,
    user_id: Option<&UserId>,
    after: (&str, &str),
    most: i64,
    now: Timestamp,
) -> Result<Vec<ServiceToken>> {
    let statement = Statement::new(concat!(
        "SELECT ",
        columns!(),
        " FROM service_tokens WHERE (service > $2 OR (service = $2 AND subject > $3)) AND ",
        is_live!()
    ));
    let statement = statement.bind(now).bind(after.0).bind(after.1);
    let statement = statement.filter("AND user_id = $", user_id);
    let rows = db.read(statement.with("ORDER BY service, subject LIMIT $", most)).await?;
    rows.iter().map(from_row).collect()
}

fn from_row(row: &Row) -> Result<ServiceToken> {
    let time = |name| Ok::<_, Error>(row.get::<Option<i64>>(name)?.map(Timestamp));
    let failure: Option<String> = row.get("failure")?;
    Ok(ServiceToken {
        service: row.get("service")?,
        subject: row.get("subject")?,
        user_id: row.get("user_id")?,
        browser_session_id: row.get("browser_session_id")?,
        version: row.get("version")?,
        sealed: row.get("sealed")?,
        settings: row.get("settings")?,
        obtained_at: time("obtained_at")?,
        renew_at: time("renew_at")?,
        expires_at: time("expires_at")?,
        lease_until: time("lease_until")?,
        failures: row.get("failures")?,
        retry_at: time("retry_at")?,
        failure: failure.and_then(|failure| FailureKind::parse(&failure)),
        created_at: Timestamp(row.get("created_at")?),
    })
}

/// A lease to take.
#[derive(Debug)]
pub struct Lease<'a> {
    pub service: &'a str,
    pub subject: &'a str,
    pub id: &'a str,
    pub until: Timestamp,
    /// The version of the row that the caller has read; 0 where there was none.
    pub version: i64,
}

/// Takes the lease of a row, which is added where there is none; `false` where another process
/// holds it, or has changed the row. `binding`: the user, where there is an account, and the
/// session that the token is bound to.
pub async fn claim(
    db: &Db,
    lease: &Lease<'_>,
    binding: Option<(Option<&str>, &str)>,
    now: Timestamp,
) -> Result<bool> {
    let (user_id, session_id) = binding.unzip();
    let statement = Statement::new(
        "INSERT INTO service_tokens (service, subject, lease_id, lease_until, version, user_id, session_id, failures, \
         created_at) VALUES ($1, $2, $3, $4, 0, $5, $6, 0, $7) \
         ON CONFLICT (service, subject) DO UPDATE SET lease_id = excluded.lease_id, lease_until = excluded.lease_until \
         WHERE (service_tokens.lease_until IS NULL OR service_tokens.lease_until <= $7) \
         AND (service_tokens.retry_at IS NULL OR service_tokens.retry_at <= $7) \
         AND service_tokens.version = $8 RETURNING service",
    );
    let rows = db
        .write(
            statement
                .bind(lease.service)
                .bind(lease.subject)
                .bind(lease.id)
                .bind(lease.until)
                .bind(user_id.flatten())
                .bind(session_id)
                .bind(now)
                .bind(lease.version),
        )
        .await?;
    Ok(!rows.is_empty())
}

/// As [`claim`], of a row that exists: an account that the user has connected.
pub async fn claim_existing(db: &Db, lease: &Lease<'_>, now: Timestamp) -> Result<bool> {
    let statement = Statement::new(
        "UPDATE service_tokens SET lease_id = $3, lease_until = $4 WHERE service = $1 AND subject = $2 \
         AND (lease_until IS NULL OR lease_until <= $5) AND (retry_at IS NULL OR retry_at <= $5) AND version = $6 \
         RETURNING service",
    );
    let statement = statement.bind(lease.service).bind(lease.subject).bind(lease.id);
    let rows = db.write(statement.bind(lease.until).bind(now).bind(lease.version)).await?;
    Ok(!rows.is_empty())
}

/// A token to store.
#[derive(Clone, Debug)]
pub struct NewToken {
    pub sealed: String,
    /// Whether the service can be told when it is removed.
    pub is_revocable: bool,
    pub settings: String,
    pub obtained_at: Timestamp,
    pub renew_at: Timestamp,
    pub expires_at: Timestamp,
}

/// Stores a token in the row of this version and ends its lease; `false` where the row has changed
/// or is gone.
pub async fn store(
    db: &Db,
    service: &str,
    subject: &str,
    version: i64,
    new: NewToken,
) -> Result<bool> {
    let statement = Statement::new(
        "UPDATE service_tokens SET version = version + 1, sealed = $4, settings = $5, obtained_at = $6, renew_at = $7, \
         expires_at = $8, is_revocable = $9, lease_id = NULL, lease_until = NULL, failures = 0, retry_at = NULL, \
         failure = NULL WHERE service = $1 AND subject = $2 AND version = $3 RETURNING service",
    );
    let statement = statement.bind(service).bind(subject).bind(version).bind(new.sealed);
    let statement = statement.bind(new.settings).bind(new.obtained_at).bind(new.renew_at);
    let statement = statement.bind(new.expires_at).bind(new.is_revocable);
    Ok(!db.write(statement).await?.is_empty())
}

/// A failure to remember.
#[derive(Clone, Copy, Debug)]
pub struct Failed {
    pub kind: FailureKind,
    /// No request before.
    pub retry_at: Timestamp,
}

/// Remembers a failure, and ends the lease.
pub async fn fail(
    db: &Db,
    service: &str,
    subject: &str,
    lease_id: &str,
    failed: Failed,
) -> Result<()> {
    let statement = Statement::new(
        "UPDATE service_tokens SET failures = failures + 1, retry_at = $4, failure = $5, lease_id = NULL, \
         lease_until = NULL WHERE service = $1 AND subject = $2 AND lease_id = $3",
    );
    let statement = statement.bind(service).bind(subject).bind(lease_id);
    db.write(statement.bind(failed.retry_at).bind(failed.kind.as_str())).await?;
    Ok(())
}

/// Remembers a failure of the service for all its users.
pub async fn fail_for_all(db: &Db, service: &str, failed: Failed, now: Timestamp) -> Result<()> {
    let statement = Statement::new(
        "INSERT INTO service_tokens (service, subject, version, failures, retry_at, failure, created_at) \
         VALUES ($1, '', 0, 1, $2, $3, $4) ON CONFLICT (service, subject) DO UPDATE SET \
         failures = service_tokens.failures + 1, retry_at = excluded.retry_at, failure = excluded.failure",
    );
    let statement = statement.bind(service).bind(failed.retry_at).bind(failed.kind.as_str());
    db.write(statement.bind(now)).await?;
    Ok(())
}

/// Forgets the failures of the service for all its users: it has answered one of them.
pub async fn recovered(db: &Db, service: &str) -> Result<()> {
    let statement = Statement::new(
        "UPDATE service_tokens SET failures = 0, retry_at = NULL, failure = NULL \
         WHERE service = $1 AND subject = '' AND failures > 0",
    );
    db.write(statement.bind(service)).await?;
    Ok(())
}

/// Discards the access token of this version, which a resource has refused; the refresh token
/// stays. `false` where it is not the current one, or another one was discarded a moment ago.
pub async fn discard(
    db: &Db,
    service: &str,
    subject: &str,
    version: i64,
    now: Timestamp,
) -> Result<bool> {
    let statement = Statement::new(
        "UPDATE service_tokens SET expires_at = 0, renew_at = 0, discarded_at = $4 WHERE service = $1 AND subject = $2 \
         AND version = $3 AND expires_at > 0 AND (discarded_at IS NULL OR discarded_at <= $5) RETURNING service",
    );
    let statement = statement.bind(service).bind(subject).bind(version).bind(now);
    Ok(!db.write(statement.bind(now - DISCARD_INTERVAL)).await?.is_empty())
}

/// The account that a user connects, or connects again.
pub async fn connect(
    tx: &mut Tx,
    service: &str,
    user_id: &UserId,
    browser_session_id: &BrowserSessionId,
    new: NewToken,
    now: Timestamp,
) -> Result<()> {
    let statement = Statement::new(
        "INSERT INTO service_tokens (service, subject, user_id, browser_session_id, version, sealed, settings, \
         obtained_at, renew_at, expires_at, failures, created_at, is_revocable) \
         VALUES ($1, $2, $2, $3, 1, $4, $5, $6, $7, $8, 0, $9, $10) \
         ON CONFLICT (service, subject) DO UPDATE SET browser_session_id = excluded.browser_session_id, \
         session_id = NULL, version = service_tokens.version + 1, sealed = excluded.sealed, \
         is_revocable = excluded.is_revocable, \
         settings = excluded.settings, obtained_at = excluded.obtained_at, renew_at = excluded.renew_at, \
         expires_at = excluded.expires_at, created_at = excluded.created_at, discarded_at = NULL, lease_id = NULL, \
         lease_until = NULL, failures = 0, retry_at = NULL, failure = NULL",
    );
    let statement = statement.bind(service).bind(user_id).bind(browser_session_id).bind(new.sealed);
    let statement = statement.bind(new.settings).bind(new.obtained_at).bind(new.renew_at);
    tx.run(statement.bind(new.expires_at).bind(now).bind(new.is_revocable)).await?;
    Ok(())
}

/// Removes a row, with its tokens; `version`: only if it is the current one. Returns whether there
/// was one.
pub async fn remove(
    tx: &mut Tx,
    service: &str,
    subject: &str,
    version: Option<i64>,
) -> Result<bool> {
    let statement =
        Statement::new("DELETE FROM service_tokens WHERE service = $1 AND subject = $2");
    let statement = statement.bind(service).bind(subject);
    let statement = statement.filter("AND version = $", version).only_if(true, "RETURNING service");
    Ok(!tx.run(statement).await?.is_empty())
}

/// Removes the row of a subject whose session has ended.
pub async fn remove_ended(db: &Db, service: &str, subject: &str, now: Timestamp) -> Result<()> {
    let statement = Statement::new(concat!(
        "DELETE FROM service_tokens WHERE service = $2 AND subject = $3 AND NOT ",
        is_live!()
    ));
    db.write(statement.bind(now).bind(service).bind(subject)).await?;
    Ok(())
}

/// Removes up to `most` rows whose session has ended; returns their number.
pub async fn sweep(db: &Db, now: Timestamp, most: i64) -> Result<usize> {
    let statement = Statement::new(concat!(
        "DELETE FROM service_tokens WHERE subject <> '' AND (service, subject) IN \
         (SELECT service, subject FROM service_tokens WHERE subject <> '' AND NOT ",
        is_live!(),
        " LIMIT $2) RETURNING service"
    ));
    Ok(db.write(statement.bind(now).bind(most)).await?.len())
}
