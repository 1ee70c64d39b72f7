//! Ending sessions: no refresh token of theirs is valid any more, and their access tokens are on the revocation list.

use serde_json::json;

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    model::{
        actor::{Actor, RequestContext},
        event::Event,
        key::LONGEST_TOKEN_LIFE,
        revocation::{Revocation, RevocationTarget},
        session::{RevocationReason, Session, SessionOverview},
    },
    storage::{self, Tx, outbox, revocations, sessions},
};

/// Revokes a session on behalf of its own subject; `false` where it was revoked before.
pub(crate) async fn end(
    tx: &mut Tx<'_>,
    subject: &str,
    session: &str,
    reason: RevocationReason,
    event_id: String,
    context: &RequestContext,
    now: Timestamp,
) -> storage::Result<bool> {
    let actor = Actor::caller(subject, context);
    end_by(tx, (subject, session), reason, event_id, &actor, now).await
}

/// As [`end`], in a transaction of its own.
pub(crate) async fn end_one(
    app: &App,
    session: &Session,
    reason: RevocationReason,
    context: &RequestContext,
    now: Timestamp,
) -> Result<bool, Error> {
    let (subject, id) = (session.subject.clone(), session.id.clone());
    let (event_id, context) = (app.new_id(), context.clone());
    let ended = app
        .db
        .transaction(move |mut tx| {
            Box::pin(
                async move { end(&mut tx, &subject, &id, reason, event_id, &context, now).await },
            )
        })
        .await?;
    Ok(ended)
}

/// Revokes another user's session, and notifies its client where that one has registered for back-channel logout. A session
/// that was revoked before stays as it is.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn close(app: &App, id: &str, actor: &Actor) -> Result<(), Error> {
    let found = sessions::overview_of(&app.db, id).await?;
    let found = found.ok_or(Error::NotFound("session"))?;
    let (event_id, actor, now) = (app.new_id(), actor.clone(), app.clock.now());
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move { close_in(&mut tx, &found, event_id, &actor, now).await })
        })
        .await?;
    app.logouts_waiting.notify_one();
    Ok(())
}

/// As [`close`], within a transaction; `false` where it was revoked before.
pub(crate) async fn close_in(
    tx: &mut Tx<'_>,
    session: &SessionOverview,
    event_id: String,
    actor: &Actor,
    now: Timestamp,
) -> storage::Result<bool> {
    // Before the entry in the revocation list, whose lock others wait for.
    sessions::queue_logout_delivery(tx, &session.id, now).await?;
    let which = (session.subject.as_str(), session.id.as_str());
    end_by(tx, which, RevocationReason::RevokedByAdmin, event_id, actor, now).await
}

/// Revokes the sessions that are bound to a browser session, which is logged out.
pub(crate) async fn end_of_browser(
    tx: &mut Tx<'_>,
    browser_session_id: &str,
    now: Timestamp,
) -> storage::Result<()> {
    let of = sessions::SessionSelector::Browser(browser_session_id);
    sessions::revoke_all(tx, of, RevocationReason::Logout, now, now + LONGEST_TOKEN_LIFE).await
}

async fn end_by(
    tx: &mut Tx<'_>,
    (subject, session): (&str, &str),
    reason: RevocationReason,
    event_id: String,
    actor: &Actor,
    now: Timestamp,
) -> storage::Result<bool> {
    if !sessions::revoke(tx, session, reason, now).await? {
        return Ok(false);
    }
    let event = Event::session_revoked(subject, session, reason);
    outbox::add(tx, event_id, &event, actor.correlation_id(), now).await?;
    let detail = json!({ "sessionId": session, "reason": reason.as_str() });
    actor.note(tx, "session.end", Some(subject), detail, now).await?;
    let entry = Revocation {
        target: RevocationTarget::Session(session.to_owned()),
        expires_at: now + LONGEST_TOKEN_LIFE,
    };
    revocations::add(tx, &entry, reason.as_str(), now).await?;
    Ok(true)
}
