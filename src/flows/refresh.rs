//! Refresh with rotation: one row a session, one statement a refresh, one successor ever.
//!
//! 1. The presented token moves the session on to its successor, in one statement.
//! 2. No row: if the presented token is the direct predecessor and was rotated within the replay window,
//!    it is a retry (a lost answer, two tabs): it gets the very same successor.
//! 3. Else, if walking the chain from it leads to the current token, it was genuine and is old: somebody
//!    has a copy. The family ends (RFC 9700 §4.14.2).
//! 4. Else it is garbage and touches nothing.

use crate::{
    app::App,
    clock::Timestamp,
    flows::{
        Caller, Error,
        sessions::{self, Tokens},
    },
    model::session::{EndReason, Session},
    oauth::refresh_token::{ChainKey, RefreshToken},
    storage::sessions as rows,
    telemetry::RefreshOutcome,
};

/// Exchanges a refresh token for a new access token and the token's one successor.
///
/// # Errors
/// [`Error::InvalidRefreshToken`] for every token that is not good, whatever the reason.
pub async fn refresh(app: &App, presented: &str, caller: &Caller) -> Result<Tokens, Error> {
    let outcome = attempt(app, presented, caller).await;
    let (counted, result) = match outcome {
        Ok((counted, tokens)) => (counted, tokens.ok_or(Error::InvalidRefreshToken)),
        Err(error) => (RefreshOutcome::Error, Err(error)),
    };
    app.metrics.refresh(counted);
    result
}

type Outcome = (RefreshOutcome, Option<Tokens>);

async fn attempt(app: &App, presented: &str, caller: &Caller) -> Result<Outcome, Error> {
    let Some(token) = RefreshToken::parse(presented) else {
        return Ok((RefreshOutcome::Invalid, None));
    };
    let Some(key) = chain_key(app, token.chain_key).await? else {
        return Ok((RefreshOutcome::Invalid, None));
    };
    let now = app.clock.now();
    let successor = token.successor(&key);
    let id = token.session.to_string();
    let idle_expires_at = now + app.config.tokens.refresh_idle_ttl;
    let rotated = rows::rotate(
        &app.db,
        &id,
        token.hash(),
        successor.hash(),
        now,
        idle_expires_at,
    )
    .await?;
    if let Some(session) = rotated {
        let tokens = answer(app, session, &successor, now).await?;
        return Ok((RefreshOutcome::Rotated, tokens));
    }
    let Some(session) = rows::by_id(&app.db, &id)
        .await?
        .filter(|session| session.is_live(now))
    else {
        return Ok((RefreshOutcome::Invalid, None));
    };
    if session.current_hash == successor.hash()
        && session.rotated_at + app.config.tokens.replay_window > now
    {
        let tokens = answer(app, session, &successor, now).await?;
        return Ok((RefreshOutcome::Replayed, tokens));
    }
    if is_genuine(token, &session, key).await? {
        end_family(app, session, caller, now).await?;
        return Ok((RefreshOutcome::Theft, None));
    }
    Ok((RefreshOutcome::Invalid, None))
}

/// The named chain key; asks the database once where this process does not know it yet.
pub(super) async fn chain_key(app: &App, number: u32) -> Result<Option<ChainKey>, Error> {
    if let Some(key) = app.keys.ring().chain_key_numbered(number) {
        return Ok(Some(key.clone()));
    }
    app.revocations
        .freshen()
        .await
        .map_err(|stale| Error::Unavailable(stale.into()))?;
    Ok(app.keys.ring().chain_key_numbered(number).cloned())
}

/// Whether the token was the session's current one once. Up to 20 ms of hashing: not on an async thread.
pub(super) async fn is_genuine(
    token: RefreshToken,
    session: &Session,
    key: ChainKey,
) -> Result<bool, Error> {
    let (generation, hash) = (session.generation, session.current_hash.clone());
    tokio::task::spawn_blocking(move || token.is_ancestor_of(generation, &hash, &key))
        .await
        .map_err(|error| Error::Unavailable(error.into()))
}

async fn answer(
    app: &App,
    session: Session,
    successor: &RefreshToken,
    now: Timestamp,
) -> Result<Option<Tokens>, Error> {
    let Some(user) = session.user else {
        return Ok(None);
    };
    let access_token = sessions::access_token(
        app,
        &session.id,
        &user,
        &session.client_id,
        &session.scope,
        session.created_at,
        now,
    )
    .await?;
    Ok(Some(Tokens {
        access_token,
        refresh_token: successor.expose(),
        expires_in: app.config.tokens.access_ttl.as_secs(),
        refresh_expires_in: (session.idle_expires_at - now).as_secs(),
        user,
    }))
}

async fn end_family(
    app: &App,
    session: Session,
    caller: &Caller,
    now: Timestamp,
) -> Result<(), Error> {
    let (event_id, caller) = (app.new_id(), caller.clone());
    tracing::warn!(
        session = session.id,
        subject = session.subject,
        request_id = caller.request_id,
        "an old refresh token was presented: its family is revoked"
    );
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                let (subject, id) = (&session.subject, &session.id);
                sessions::end(
                    &mut tx,
                    subject,
                    id,
                    EndReason::Theft,
                    event_id,
                    &caller,
                    now,
                )
                .await
            })
        })
        .await?;
    Ok(())
}
