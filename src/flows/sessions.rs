//! Opening a session and ending it, which several flows share.

use serde_json::json;
use uuid::Uuid;

use crate::{
    app::App,
    clock::Timestamp,
    flows::{Caller, Error},
    keys,
    model::{
        client::FIRST_PARTY,
        event::Event,
        key::LONGEST_TOKEN_LIFE,
        revocation::{Revocation, Target},
        session::EndReason,
        user::User,
    },
    oauth::{
        access_token::{AccessClaims, Grant},
        refresh_token::RefreshToken,
        scope::Scope,
    },
    storage::{
        self, Tx, audit, outbox, revocations,
        sessions::{self, NewSession},
    },
};

/// What a client is given when a session was opened or refreshed.
#[derive(Debug)]
pub struct Tokens {
    pub access_token: String,
    pub refresh_token: String,
    /// Seconds (RFC 6749 §5.1).
    pub expires_in: u64,
    /// Seconds until the refresh token, unused, is good no more.
    pub refresh_expires_in: u64,
    pub user: User,
}

/// A session that is ready to be stored, with its tokens made.
pub(super) struct Opening {
    pub row: NewSession,
    pub tokens: Tokens,
}

/// What the first-party API's tokens may be used for.
fn first_party_scope() -> Scope {
    Scope::parse("openid profile email").unwrap_or_default()
}

/// Prepares a session of the first-party client. The tokens are signed before anything is stored: if
/// that fails, nothing was half done.
pub(super) async fn prepare(app: &App, user: User, caller: &Caller) -> Result<Opening, Error> {
    let now = app.clock.now();
    let id = app.new_id();
    let ring = app.keys.ring();
    let chain_key = ring
        .chain_key(now)
        .ok_or(keys::Error::Missing("refresh-chain"))?;
    let session = Uuid::parse_str(&id).map_err(|error| Error::Unavailable(error.into()))?;
    let refresh = RefreshToken::first(chain_key, session, app.rng.bytes());
    let scope = first_party_scope();
    let access_token = access_token(app, &id, &user, FIRST_PARTY, &scope, now, now).await?;
    let expires_at = now + app.config.tokens.refresh_max_ttl;
    let idle_expires_at = (now + app.config.tokens.refresh_idle_ttl).min(expires_at);
    let row = NewSession {
        id,
        subject: user.id.clone(),
        user_id: Some(user.id.clone()),
        client_id: FIRST_PARTY.to_owned(),
        scope,
        chain_key: chain_key.number,
        first_hash: refresh.hash(),
        idle_expires_at,
        expires_at,
        address: Some(caller.address.to_string()),
        user_agent: caller.user_agent.clone(),
    };
    let tokens = Tokens {
        access_token,
        refresh_token: refresh.expose(),
        expires_in: app.config.tokens.access_ttl.as_secs(),
        refresh_expires_in: (idle_expires_at - now).as_secs(),
        user,
    };
    Ok(Opening { row, tokens })
}

/// An access token of a user's session.
pub(super) async fn access_token(
    app: &App,
    session: &str,
    user: &User,
    client_id: &str,
    scope: &Scope,
    authenticated_at: Timestamp,
    now: Timestamp,
) -> Result<String, Error> {
    let grant = Grant {
        issuer: &app.config.server.issuer,
        audience: app.config.audience(),
        subject: &user.id,
        client_id,
        scope: scope.to_string(),
        session: Some(session),
        auth_time: Some(authenticated_at),
        email: Some(&user.email),
        role: Some(user.role.as_str()),
    };
    let claims = AccessClaims::new(grant, app.new_id(), now, app.config.tokens.access_ttl);
    Ok(app
        .keys
        .sign(&claims, app.config.tokens.signing_algorithm, now)
        .await?)
}

/// Stores a session with its event and its line in the audit log.
pub(super) async fn store(
    tx: &mut Tx<'_>,
    row: NewSession,
    event_id: String,
    action: &'static str,
    caller: &Caller,
    now: Timestamp,
) -> storage::Result<()> {
    let event = Event::session_created(&row.subject, &row.id, &row.client_id);
    let (subject, session) = (row.subject.clone(), row.id.clone());
    sessions::insert(tx, row, now).await?;
    outbox::add(tx, event_id, &event, Some(&caller.correlation_id), now).await?;
    note(
        tx,
        caller,
        action,
        &subject,
        json!({ "sessionId": session }),
        now,
    )
    .await
}

/// Ends a session: no refresh token of it is good any more, and its access tokens are on the revocation
/// list. `false` where it had ended before.
pub(super) async fn end(
    tx: &mut Tx<'_>,
    subject: &str,
    session: &str,
    reason: EndReason,
    event_id: String,
    caller: &Caller,
    now: Timestamp,
) -> storage::Result<bool> {
    if !sessions::end(tx, session, reason, now).await? {
        return Ok(false);
    }
    let event = Event::session_revoked(subject, session, reason);
    outbox::add(tx, event_id, &event, Some(&caller.correlation_id), now).await?;
    note(
        tx,
        caller,
        "session.end",
        subject,
        json!({ "sessionId": session, "reason": reason.as_str() }),
        now,
    )
    .await?;
    let entry = Revocation {
        target: Target::Session(session.to_owned()),
        expires_at: now + LONGEST_TOKEN_LIFE,
    };
    revocations::add(tx, &entry, reason.as_str(), now).await?;
    Ok(true)
}

/// A line in the audit log about a subject's own doing.
pub(super) async fn note(
    tx: &mut Tx<'_>,
    caller: &Caller,
    action: &'static str,
    subject: &str,
    detail: serde_json::Value,
    now: Timestamp,
) -> storage::Result<()> {
    let entry = audit::Entry {
        action,
        actor: subject,
        subject: Some(subject),
        address: Some(caller.address.to_string()),
        request_id: Some(&caller.request_id),
        correlation_id: Some(&caller.correlation_id),
        detail,
    };
    audit::add(tx, entry, now).await
}
