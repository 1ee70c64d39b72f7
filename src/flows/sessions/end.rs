//! Ending sessions: no refresh token of theirs is valid any more, and their access tokens are on
//! the revocation list.

use serde_json::json;

use crate::{
    app::App,
    error::Error,
    ids::{BrowserSessionId, SessionId},
    model::{
        actor::{Actor, RequestContext},
        event::{Event, UserChange},
        key::LONGEST_TOKEN_LIFE,
        revocation::NewRevocation,
        session::{RevocationReason, Session, SessionOverview},
    },
    storage::{self, AuditedTx, sessions},
};

/// Revokes a session on behalf of the transaction's actor; `false` where it was revoked before.
pub(crate) async fn end(
    tx: &mut AuditedTx,
    subject: &str,
    session: &SessionId,
    reason: RevocationReason,
) -> storage::Result<bool> {
    let now = tx.now();
    if !sessions::revoke(tx, session, reason, now).await? {
        return Ok(false);
    }
    tx.event(&Event::session_revoked(subject, session, reason)).await?;
    let detail = json!({ "sessionId": session, "reason": reason.as_str() });
    tx.audit("session.end", Some(subject), detail).await?;
    tx.revoke(vec![NewRevocation::Session(session.as_str().to_owned())], reason.as_str()).await?;
    Ok(true)
}

/// As [`end`], in a transaction of its own and on behalf of the session's subject.
pub(crate) async fn end_one(
    app: &App,
    session: &Session,
    reason: RevocationReason,
    context: &RequestContext,
) -> Result<bool, Error> {
    let mut tx = app.begin(&Actor::caller(&session.subject, context)).await?;
    let ended = end(&mut tx, &session.subject, &session.id, reason).await?;
    tx.commit().await?;
    Ok(ended)
}

/// Revokes another user's session, and notifies its client where that one has registered for
/// back-channel logout. A session that was revoked before stays as it is.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn close(app: &App, id: &SessionId, actor: &Actor) -> Result<(), Error> {
    let found = sessions::overview_of(&app.db, id).await?;
    let found = found.ok_or(Error::NotFound("session"))?;
    let mut tx = app.begin(actor).await?;
    close_in(&mut tx, &found, RevocationReason::RevokedByAdmin).await?;
    tx.commit().await?;
    app.logouts_waiting.notify_one();
    Ok(())
}

/// As [`close`], within a transaction; `false` where it was revoked before.
pub(crate) async fn close_in(
    tx: &mut AuditedTx,
    session: &SessionOverview,
    reason: RevocationReason,
) -> storage::Result<bool> {
    let now = tx.now();
    // Before the entry in the revocation list, whose lock others wait for.
    sessions::queue_logout_delivery(tx, &session.id, now).await?;
    end(tx, &session.subject, &session.id, reason).await
}

/// Revokes the sessions that are bound to a browser session, which is logged out.
pub(crate) async fn end_of_browser(
    tx: &mut AuditedTx,
    browser_session_id: &BrowserSessionId,
) -> storage::Result<()> {
    let now = tx.now();
    let of = sessions::SessionSelector::Browser(browser_session_id);
    let until = now + LONGEST_TOKEN_LIFE;
    sessions::revoke_all(tx, of, RevocationReason::Logout, now, until).await?;
    Ok(())
}

/// Revokes every session of a back end's user, by their `sub`, with every client of the namespace;
/// returns their number. As with an account, the entries name the sessions and no time: tokens that
/// are issued right afterwards are valid.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn end_all_of_external(app: &App, subject: &str, actor: &Actor) -> Result<usize, Error> {
    let reason = RevocationReason::SubjectRevoked;
    let mut tx = app.begin(actor).await?;
    let last = sessions::lock_last_revocation(&mut tx, subject).await?;
    // The lock may have waited; the time tells these sessions from those revoked before.
    let now = tx.read_clock();
    let now = last.map_or(now, |last| now.past(last));
    tx.event(&Event::user_changed(UserChange::LoggedOut, subject)).await?;
    tx.audit("session.end_all", Some(subject), json!({ "reason": reason.as_str() })).await?;
    let of = sessions::SessionSelector::External(subject);
    let ended = sessions::revoke_all(&mut tx, of, reason, now, now + LONGEST_TOKEN_LIFE).await?;
    tx.commit().await?;
    app.logouts_waiting.notify_one();
    Ok(ended)
}
