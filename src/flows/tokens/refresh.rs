//! Refresh token rotation: one row a session, one statement a refresh, one successor ever.
//!
//! 1. The presented token is exchanged for its successor, in one statement.
//! 2. No row: if the presented token is the direct predecessor and was rotated within the replay
//!    window, it is a retry
//!    (a lost response, two tabs) and gets the same successor.
//! 3. Else, if following the chain from it leads to the current token, it is an old token of the
//!    session: refresh token
//!    reuse is detected and the session is revoked (RFC 9700 §4.14.2).
//! 4. Else it was never issued, and changes nothing.

use crate::{
    app::App,
    clock::Timestamp,
    diagnostics,
    error::Error,
    flows::{sessions::end, tokens::issue::TokenLifetimes},
    ids::{ClientId, SessionId},
    model::{
        actor::RequestContext,
        session::{RevocationReason, Session},
    },
    oauth::refresh_token::{ChainKey, RefreshToken},
    storage::sessions as rows,
    telemetry::RefreshOutcome,
};

/// A session after the exchange, and its new token.
#[derive(Debug)]
pub struct Refreshed {
    pub session: Session,
    pub successor: RefreshToken,
    /// Before the session was read: what is issued at this time is covered by every revocation that
    /// the session does not show.
    pub at: Timestamp,
}

/// Exchanges a refresh token for its one successor.
///
/// # Errors
/// [`Error::InvalidRefreshToken`] for every token that is not valid, whatever the reason.
pub async fn refresh(
    app: &App,
    presented: &str,
    client_id: &ClientId,
    lifetimes: TokenLifetimes,
    caller: &RequestContext,
) -> Result<Refreshed, Error> {
    let outcome = attempt(app, presented, client_id, lifetimes, caller).await;
    let (counted, result) = match outcome {
        Ok((counted, refreshed)) => (counted, refreshed.ok_or(Error::InvalidRefreshToken)),
        Err(error) => (RefreshOutcome::Error, Err(error)),
    };
    app.metrics.refresh(counted);
    result
}

/// The live session that a client's refresh token belongs to, be it the current one or an older
/// one; nothing changes.
///
/// # Errors
/// [`Error::InvalidRefreshToken`] for a token of another client.
pub async fn peek(app: &App, presented: &str, client_id: &ClientId) -> Result<Session, Error> {
    peek_if(app, presented, |session| session.client_id == *client_id).await
}

/// As [`peek`], whichever client the token belongs to.
///
/// # Errors
/// [`Error::InvalidRefreshToken`] for a token that is not genuine, or of no live session.
pub async fn peek_of_any_client(app: &App, presented: &str) -> Result<Session, Error> {
    peek_if(app, presented, |_| true).await
}

async fn peek_if(
    app: &App,
    presented: &str,
    is_wanted: impl FnOnce(&Session) -> bool,
) -> Result<Session, Error> {
    let token = RefreshToken::parse(presented).ok_or(Error::InvalidRefreshToken)?;
    let key = chain_key(app, token.chain_key).await?.ok_or(Error::InvalidRefreshToken)?;
    let now = app.clock.now();
    let session = rows::by_id(&app.db, &token.session.to_string().into())
        .await?
        .filter(|session| session.is_live(now) && is_wanted(session))
        .ok_or(Error::InvalidRefreshToken)?;
    if session.current_hash == token.hash() || is_genuine(token, &session, key).await? {
        Ok(session)
    } else {
        Err(Error::InvalidRefreshToken)
    }
}

type Outcome = (RefreshOutcome, Option<Refreshed>);

async fn attempt(
    app: &App,
    presented: &str,
    client_id: &ClientId,
    lifetimes: TokenLifetimes,
    caller: &RequestContext,
) -> Result<Outcome, Error> {
    let Some(token) = RefreshToken::parse(presented) else {
        return Ok((RefreshOutcome::Invalid, None));
    };
    let Some(key) = chain_key(app, token.chain_key).await? else {
        return Ok((RefreshOutcome::Invalid, None));
    };
    let now = app.clock.now();
    let successor = token.successor(&key);
    let id = SessionId::from(token.session.to_string());
    let rotated = rows::rotate(
        &app.db,
        &id,
        client_id,
        token.hash(),
        successor.hash(),
        now,
        now + lifetimes.refresh_idle,
    )
    .await?;
    if let Some(session) = rotated {
        identify(&session);
        let refreshed = Refreshed { session, successor, at: now };
        return Ok((RefreshOutcome::Rotated, Some(refreshed)));
    }
    let session = rows::by_id(&app.db, &id).await?;
    note(session.as_ref(), client_id, now);
    let Some(session) =
        session.filter(|session| session.client_id == *client_id && session.is_live(now))
    else {
        return Ok((RefreshOutcome::Invalid, None));
    };
    identify(&session);
    if session.current_hash == successor.hash()
        && session.rotated_at.distance(now) < lifetimes.replay_window
    {
        let refreshed = Refreshed { session, successor, at: now };
        return Ok((RefreshOutcome::Replayed, Some(refreshed)));
    }
    if is_genuine(token, &session, key).await? {
        tracing::warn!(
            session_id = session.id.as_str(),
            subject = session.subject,
            request_id = caller.request_id,
            "refresh token reuse detected: session revoked"
        );
        end::end_one(app, &session, RevocationReason::RefreshTokenReuse, caller).await?;
        return Ok((RefreshOutcome::ReuseDetected, None));
    }
    Ok((RefreshOutcome::Invalid, None))
}

/// Says whose session the request presents a token of.
fn identify(session: &Session) {
    diagnostics::identify_client(&session.client_id);
    diagnostics::identify_user(&session.subject);
}

/// Records why a refresh token is refused.
fn note(session: Option<&Session>, client_id: &ClientId, now: Timestamp) {
    diagnostics::record("session.found", session.is_some());
    let Some(session) = session else { return };
    diagnostics::record("session.id", &session.id);
    diagnostics::record("session.is_this_clients", session.client_id == *client_id);
    diagnostics::record("session.ended", session.revoked_at.is_some());
    let over = session.idle_expires_at.min(session.expires_at) <= now;
    diagnostics::record("session.has_expired", over);
    diagnostics::record("session.generation", session.generation);
    diagnostics::record("session.rotated_at", session.rotated_at.rfc3339());
    let disabled = session.user.as_ref().map(|user| user.disabled_at.is_some());
    diagnostics::record("user.disabled", disabled.unwrap_or_default());
}

/// The chain key of that number; queries the database once where this process does not know it yet.
pub(crate) async fn chain_key(app: &App, number: u32) -> Result<Option<ChainKey>, Error> {
    if let Some(key) = app.keys.ring().chain_key_by_number(number) {
        return Ok(Some(key.clone()));
    }
    app.sync().await?;
    Ok(app.keys.ring().chain_key_by_number(number).cloned())
}

/// Whether the token was once the session's current one. Up to 20 ms of hashing, on a blocking
/// thread.
pub(crate) async fn is_genuine(
    token: RefreshToken,
    session: &Session,
    key: ChainKey,
) -> Result<bool, Error> {
    let (generation, hash) = (session.generation, session.current_hash.clone());
    tokio::task::spawn_blocking(move || token.is_ancestor_of(generation, &hash, &key))
        .await
        .map_err(|error| Error::Unavailable(error.into()))
}
