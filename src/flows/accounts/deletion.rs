//! The deletion of an account by its user: requested with a recent login, cancelled during a grace
//! period by a login, completed by maintenance.
//!
//! While it waits, the account is disabled, so that every grant and login refuses it. A login with
//! the right password, and the second factor of a user who has one, is answered with a sealed token
//! that cancels the deletion and can do nothing else. An objection to a change of the address
//! cancels it as well.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    app::App,
    clock::Timestamp,
    error::{DeletionPending, Error},
    flows::{
        accounts::{
            second_factors::{self, Login},
            second_step::digest,
        },
        admin::users::{self as accounts, record},
        mail::{self, NOTICE_TTL, Outgoing},
    },
    ids::UserId,
    limits::{Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        event::{Event, UserChange},
        mail::Content,
        session::RevocationReason,
        user::{Deletion, User, UserRecord},
    },
    storage::{self, AuditedTx, second_factors as factors, sessions, users},
    telemetry::DeletionOutcome,
};

/// Requests the deletion of the user's account: all sessions end at once. Returns when it is
/// deleted: now, where `accounts.deletion_grace` is 0.
///
/// # Errors
/// [`Error::NeedsLogin`]; [`Error::Conflict`] for the last administrator; [`Error::TooMany`].
pub async fn request(
    app: &App,
    user_id: &UserId,
    login: Login,
    context: &RequestContext,
) -> Result<Timestamp, Error> {
    app.admit(Limit::Writes, &Key::user(user_id.as_bytes()))?;
    let mut tx = app.begin(&Actor::caller(user_id, context)).await?;
    // In the order of every flow: the administrators, then the account.
    let admins = users::lock_admins(&mut tx).await?;
    let account = users::lock(&mut tx, user_id).await?.ok_or(Error::NoToken)?;
    // `None` for a disabled user.
    let locked = factors::lock(&mut tx, user_id).await?.ok_or(Error::NoToken)?;
    let now = tx.read_clock();
    second_factors::must_suffice(app, login, locked)?;
    if admins == std::slice::from_ref(user_id) {
        return Err(Error::Conflict(
            "this is the last enabled administrator: make another user an administrator first",
        ));
    }
    let grace = app.config.accounts.deletion_grace;
    let external_id = account.external_id.as_deref();
    if grace.is_zero() {
        let event = Event::user_changed(UserChange::Deleted, user_id);
        let event = event.with_external_id(external_id);
        let detail = json!({ "role": account.user.role.as_str(), "byUser": true });
        accounts::remove(&mut tx, user_id, &event, UserChange::Deleted.as_str(), detail).await?;
        tx.commit().await?;
        app.metrics.account_deletion(DeletionOutcome::Completed);
        app.logouts_waiting.notify_one();
        return Ok(now);
    }
    let at = now + grace;
    users::request_deletion(&mut tx, user_id, at, now).await?;
    // For consumers that do not know `user.deletion_requested`.
    let disabled = Event::user_changed(UserChange::Disabled, user_id);
    tx.event(&disabled.with_external_id(external_id)).await?;
    let requested = Event::deletion_requested(user_id, at);
    tx.event(&requested.with_external_id(external_id)).await?;
    let detail = json!({ "deletionAt": at.rfc3339() });
    tx.audit("user.deletion_requested", Some(user_id), detail).await?;
    let notice = Outgoing {
        to: &account.user.email,
        user_id: Some(user_id),
        language: None,
        content: Content::DeletionRequested { date: at.rfc3339().chars().take(10).collect() },
        ttl: NOTICE_TTL,
        is_sent: true,
    };
    mail::queue(app, &mut tx, notice).await?;
    let last = sessions::last_revocation(&mut tx, user_id).await?;
    let now = last.map_or(now, |last| now.past(last));
    accounts::revoke_sessions(&mut tx, user_id, RevocationReason::UserDisabled, now).await?;
    tx.commit().await?;
    app.metrics.account_deletion(DeletionOutcome::Requested);
    app.logouts_waiting.notify_one();
    app.mails_waiting.notify_one();
    Ok(at)
}

/// The content of [`DeletionPending::token`].
#[derive(Serialize, Deserialize)]
struct Offered {
    user_id: UserId,
    /// The digest of the password hash that was verified.
    password: String,
    /// When the deletion is due, in microseconds since the epoch: the token cancels no later one.
    due: i64,
    /// When the token was issued, in the same unit.
    at: i64,
}

const OFFER: &str = "cancel-deletion";

/// The answer to a complete login of a user who has requested the deletion.
pub(crate) fn offer(
    app: &App,
    user: &User,
    verified_hash: &str,
    deletion: Deletion,
) -> Result<Error, Error> {
    let offered = Offered {
        user_id: user.id.clone(),
        password: digest(verified_hash),
        due: deletion.at.micros(),
        at: app.clock.now().micros(),
    };
    let content = serde_json::to_vec(&offered).map_err(|error| Error::Unavailable(error.into()))?;
    Ok(Error::DeletionPending(Box::new(DeletionPending {
        token: app.keys.seal(OFFER, &content)?,
        deletion,
        expires_in: app.config.second_factors.login_timeout.as_secs(),
    })))
}

/// The user whose deletion a token can cancel, with the verified hash and the deletion; `None`
/// where the token has expired, or the account was changed since.
async fn offered(app: &App, token: &str) -> Result<Option<(User, String, Deletion)>, Error> {
    let content = second_factors::unseal(app, OFFER, token);
    let offered = content.and_then(|content| serde_json::from_slice::<Offered>(&content).ok());
    let Some(offered) = offered else { return Ok(None) };
    if Timestamp(offered.at) + app.config.second_factors.login_timeout < app.clock.now() {
        return Ok(None);
    }
    let found = users::with_password_by_id(&app.db, &offered.user_id).await?;
    let found = found.filter(|found| digest(&found.password_hash) == offered.password);
    Ok(found.and_then(|found| {
        let deletion = found.cancellable_deletion()?;
        if deletion.at.micros() != offered.due {
            return None;
        }
        Some((found.user, found.password_hash, deletion))
    }))
}

/// The user whose deletion a token can cancel, and when it is due.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn pending(app: &App, token: &str) -> Result<Option<(User, Timestamp)>, Error> {
    let offered = offered(app, token).await?;
    Ok(offered.map(|(user, _, deletion)| (user, deletion.at)))
}

/// Cancels the deletion: the account is enabled again, and its user logs in as before.
///
/// # Errors
/// [`Error::LoginExpired`] for the token.
pub async fn cancel(app: &App, token: &str, context: &RequestContext) -> Result<(), Error> {
    let (user, hash, deletion) = offered(app, token).await?.ok_or(Error::LoginExpired)?;
    let id = &user.id;
    app.admit(Limit::Writes, &Key::user(id.as_bytes()))?;
    let mut tx = app.begin(&Actor::caller(id, context)).await?;
    let account = users::lock(&mut tx, id).await?.ok_or(Error::LoginExpired)?;
    let now = tx.read_clock();
    // The lock may have waited for a cancellation and another request.
    let is_offered = account.deletion == Some(deletion);
    if !is_offered || !users::cancel_deletion(&mut tx, id, &hash, now).await? {
        tx.rollback().await?;
        return Err(Error::LoginExpired);
    }
    record(&mut tx, &account, UserChange::Enabled, json!({})).await?;
    record(&mut tx, &account, UserChange::DeletionCancelled, json!({})).await?;
    tx.commit().await?;
    app.metrics.account_deletion(DeletionOutcome::Cancelled);
    Ok(())
}

/// Cancels the deletion of a locked account, whose owner has shown that it is theirs; `false` where
/// there is none that a user can cancel.
pub(super) async fn cancel_locked(
    tx: &mut AuditedTx,
    account: &mut UserRecord,
) -> storage::Result<bool> {
    if account.cancellable_deletion().is_none() {
        return Ok(false);
    }
    let now = tx.now();
    users::set_disabled(tx, &account.user.id, None, now).await?;
    record(tx, account, UserChange::Enabled, json!({})).await?;
    record(tx, account, UserChange::DeletionCancelled, json!({})).await?;
    account.user.disabled_at = None;
    account.deletion = None;
    Ok(true)
}

/// Deletes the accounts that are due, each in a transaction of its own: of several processes, one
/// deletes it. Those that cannot be deleted are logged and do not hold up the others.
///
/// # Errors
/// [`storage::Error`] where the accounts that are due cannot be read.
pub async fn sweep(app: &App, most: i64) -> storage::Result<()> {
    // Past those of earlier rounds, which may still be there.
    let mut after = (Timestamp(i64::MIN), UserId::default());
    loop {
        let now = app.clock.now();
        let due = users::due_deletions(&app.db, now, (after.0, after.1.as_str()), most).await?;
        for (_, id) in &due {
            if let Err(error) = complete(app, id).await {
                let user_id = id.as_str();
                tracing::error!(%error, user_id, "deleting an account failed; will retry");
            }
        }
        let is_full = i64::try_from(due.len()).unwrap_or(i64::MAX) >= most;
        match due.into_iter().next_back() {
            Some(last) if is_full => after = last,
            _ => return Ok(()),
        }
    }
}

async fn complete(app: &App, id: &UserId) -> storage::Result<()> {
    let mut tx = app.begin(&Actor::service(id, None)).await?;
    let account = users::lock(&mut tx, id).await?;
    let now = tx.read_clock();
    let due = |deletion: Deletion| deletion.at <= now;
    let Some(account) = account.filter(|account| account.deletion.is_some_and(due)) else {
        return tx.rollback().await;
    };
    let event = Event::user_changed(UserChange::Deleted, id);
    let event = event.with_external_id(account.external_id.as_deref());
    let detail = json!({ "role": account.user.role.as_str(), "byUser": true });
    accounts::remove(&mut tx, id, &event, UserChange::Deleted.as_str(), detail).await?;
    tx.commit().await?;
    app.metrics.account_deletion(DeletionOutcome::Completed);
    app.logouts_waiting.notify_one();
    Ok(())
}
