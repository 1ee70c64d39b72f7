//! The one rule for passwords, wherever one is set: by users, administrators, services and the
//! command line; and the reset of forgotten ones.

use std::time::Duration;

use serde_json::json;

use super::{
    email::{lock_and_take, store},
    email_tokens::{self, Link},
    known_sources::source_of_actor,
    second_factors,
};
use crate::{
    app::App,
    clock::Timestamp,
    diagnostics,
    error::{Error, FieldError},
    flows::{
        admin::users::{Kept, record, revoke_other_sessions},
        mail::{self, NOTICE_TTL, Outgoing, Requester},
        upstream::identity,
    },
    ids::UserId,
    model::{
        actor::{Actor, RequestContext},
        event::UserChange,
        mail::{Content, Purpose},
        session::RevocationReason,
        user::{Email, Login, User, UserRecord},
    },
    storage::{
        AuditedTx, consents,
        email_tokens::{self as rows, NewToken},
        guesses, known_sources,
        users::{self, UserWithPassword},
    },
};

/// How long a link that resets a password is valid.
const RESET_TTL: Duration = Duration::from_secs(30 * 60);

/// What is wrong with a password for the user of these names (email address, username): nothing, or
/// an error of the field `password` for each violated rule.
///
/// # Errors
/// [`Error::Overloaded`].
pub(crate) async fn check(
    app: &App,
    password: &str,
    names: &[&str],
) -> Result<Vec<FieldError>, Error> {
    // A longer one is not a valid name.
    let names: Vec<&str> =
        names.iter().map(|name| name.trim()).filter(|name| name.len() <= 1024).collect();
    let checked = app.hasher.check(&app.policy, password, &names).await?;
    let refuse = |message| FieldError { field: "password", message };
    Ok(checked.err().into_iter().flatten().map(refuse).collect())
}

/// The hash of a new password of a user.
///
/// # Errors
/// [`Error::Validation`] where the policy refuses it; [`Error::Overloaded`].
pub(crate) async fn hash_new(app: &App, user: &User, password: &str) -> Result<String, Error> {
    let names = [Some(user.email.as_str()), user.username.as_deref()];
    let names: Vec<&str> = names.into_iter().flatten().collect();
    let errors = check(app, password, &names).await?;
    if !errors.is_empty() {
        return Err(Error::Validation(errors));
    }
    Ok(app.hasher.hash(password, &app.rng).await?)
}

/// Replaces the password of a locked account: every session that is not kept ends, links that mails
/// have are not valid any more, no device and network but the present ones is known, and the user is
/// told. Call it last in the transaction, and
/// [`replaced`] after it.
pub(crate) async fn replace(
    app: &App,
    tx: &mut AuditedTx,
    account: &UserRecord,
    hash: String,
    kept: Kept<'_>,
) -> Result<(), Error> {
    let (id, now) = (&account.user.id, tx.now());
    record(tx, account, UserChange::PasswordChanged, json!({})).await?;
    users::set_password(tx, id, hash, now).await?;
    guesses::forget_all(tx, id, guesses::Kind::Password).await?;
    let present = source_of_actor(tx.actor());
    known_sources::keep_only(tx, id, &present).await?;
    rows::remove_outdated(tx, id).await?;
    let notice = Outgoing {
        to: &account.user.email,
        user_id: Some(id),
        language: None,
        content: Content::PasswordChanged,
        ttl: NOTICE_TTL,
        is_sent: true,
    };
    mail::queue(app, tx, notice).await?;
    revoke_other_sessions(tx, id, kept, RevocationReason::PasswordChanged, now).await?;
    Ok(())
}

/// After the commit of [`replace`].
pub(crate) fn replaced(app: &App) {
    app.mails_waiting.notify_one();
    app.logouts_waiting.notify_one();
}

/// Sends a mail with which the password of the account of this address can be set. The response,
/// the work and the rows are the same for an address without an account.
///
/// # Errors
/// [`Error::MailOff`]; [`Error::Validation`] for an invalid address; [`Error::TooMany`] for the
/// network.
pub async fn request_reset(
    app: &App,
    email: &str,
    language: &str,
    caller: &RequestContext,
) -> Result<(), Error> {
    mail::require(app)?;
    let email = Email::parse(email).map_err(|why| Error::field("email", why))?;
    let found = users::by_login(&app.db, &Login::Email(email.canonical.clone())).await?;
    // A deletion that can be cancelled may be an intruder's request, or the password is forgotten.
    let may_reset = |found: &UserWithPassword| {
        found.user.disabled_at.is_none() || found.cancellable_deletion().is_some()
    };
    let user = found.filter(may_reset).map(|found| found.user);
    diagnostics::record("reset.account", if user.is_some() { "known" } else { "unknown" });
    let id = user.as_ref().map(|user| &user.id);
    let mut tx = app.begin(&Actor::caller("anonymous", caller)).await?;
    let requester = Requester { address: caller.address, language };
    let is_admitted = mail::admit(app, &mut tx, &email, requester).await?;
    let ((token, token_hash), now) = (email_tokens::new(app), tx.now());
    // The stored address, not the typed one: two that are written differently may be two mailboxes.
    let to = user.as_ref().map_or(email.address.as_str(), |user| &user.email);
    let new = NewToken {
        id: &tx.new_id(),
        purpose: Purpose::ResetPassword,
        token_hash,
        user_id: id,
        email: user.as_ref().map_or("", |user| &user.email),
        detail: None,
        code_hash: None,
        expires_at: now + RESET_TTL,
    };
    rows::insert(&mut tx, new, now).await?;
    let outgoing = Outgoing {
        to,
        user_id: id,
        language: Some(language),
        content: Content::ResetPassword { token },
        ttl: RESET_TTL,
        is_sent: user.is_some() && is_admitted,
    };
    mail::queue(app, &mut tx, outgoing).await?;
    tx.audit("user.reset_requested", id.map(UserId::as_str), json!({})).await?;
    tx.commit().await?;
    app.mails_waiting.notify_one();
    Ok(())
}

/// Sets a new password by the link of a mail. The user is not logged in: a second factor is asked
/// for at the next login.
///
/// # Errors
/// [`Error::InvalidLink`]; [`Error::Validation`] for a weak password.
pub async fn reset(
    app: &App,
    token: &str,
    password: &str,
    caller: &RequestContext,
) -> Result<(), Error> {
    let link = email_tokens::open(app, Purpose::ResetPassword, token).await?;
    set_by_link(app, &link, password, caller).await?;
    Ok(())
}

/// Sets a new password for the owner of the address, which is verified thereby; returns the id of
/// the user. Where it was not verified before, another person may have registered it: what they
/// have /// consented to, their second factors and their identities at other providers are gone too.
pub(super) async fn set_by_link(
    app: &App,
    link: &Link,
    password: &str,
    caller: &RequestContext,
) -> Result<UserId, Error> {
    let user = link.user()?;
    let hash = hash_new(app, user, password).await?;
    let mut tx = app.begin(&Actor::caller(&user.id, caller)).await?;
    let account = lock_and_take(&mut tx, link).await?;
    if !account.user.is_verified {
        consents::remove_of_user(&mut tx, &account.user.id).await?;
        second_factors::remove_since(&mut tx, &account, Timestamp(0)).await?;
        identity::remove_since(&mut tx, &account, Timestamp(0)).await?;
        let after = User { is_verified: true, ..account.user.clone() };
        store(&mut tx, &account, &after, None).await?;
    }
    replace(app, &mut tx, &account, hash, Kept::default()).await?;
    tx.commit().await?;
    replaced(app);
    Ok(account.user.id)
}
