//! Changes of the password and the username by the owner of an account, who enters the present
//! password again: a stolen session must not become a stolen account.

use serde_json::json;

use super::{
    login, password as passwords,
    second_factors::{self, Login},
};
use crate::{
    app::App,
    error::{Error, FieldError},
    flows::{
        admin::users::{Kept, differences, taken},
        sessions::open::Cookie,
    },
    ids::SessionId,
    limits::{Key, Limit},
    model::{
        actor::{Actor, RequestContext},
        browser_session::BrowserSession,
        event::Event,
        user::{User, UserRecord, Username},
    },
    storage::{
        AuditedTx,
        users::{self, UserUpdate},
    },
};

/// Why a new password that is the present one is refused.
pub(crate) const SAME_PASSWORD: &str = "Choose a password other than the present one.";

/// What the owner shows.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    pub user: &'a User,
    pub current_password: &'a str,
    /// Of the session that the change is made in: recent, and with the second factor, where the user
    /// has one.
    pub login: Login,
}

/// The session that a change is made in: it goes on.
#[derive(Clone, Copy, Debug)]
pub enum Present<'a> {
    Browser(&'a BrowserSession),
    /// The `sid` of the access token.
    Session(&'a SessionId),
}

/// Replaces the password. Every other session and refresh token of the user ends, the links of mails
/// are not valid any more, and the user is told by mail. A browser gets a new cookie.
///
/// # Errors
/// [`Error::InvalidCredentials`] for a wrong password; [`Error::Validation`] where the policy refuses
/// the new one; [`Error::NeedsLogin`]; [`Error::LoginExpired`] where the browser was logged out
/// meanwhile; [`Error::TooMany`], [`Error::Overloaded`].
pub async fn password(
    app: &App,
    owner: Owner<'_>,
    new: &str,
    present: Present<'_>,
    context: &RequestContext,
) -> Result<Option<Cookie>, Error> {
    app.admit(Limit::Writes, &Key::user(owner.user.id.as_bytes()))?;
    let mut verified =
        login::verified_hash(app, &owner.user.id, owner.current_password, context).await?;
    if new == owner.current_password {
        return Err(Error::field("newPassword", SAME_PASSWORD));
    }
    let hash = passwords::hash_new(app, owner.user, new).await.map_err(of_new_password)?;
    loop {
        let mut tx = app.begin(&Actor::caller(&owner.user.id, context)).await?;
        let account = lock(app, &mut tx, owner).await?;
        if !users::has_password_hash(&mut tx, &account.user.id, &verified).await? {
            tx.rollback().await?;
            verified = verified_again(app, owner, &verified, context).await?;
            continue;
        }
        let (kept, cookie) = match present {
            Present::Session(session) => (Kept { session: Some(session), ..Kept::default() }, None),
            Present::Browser(browser) => {
                let cookie = second_factors::step_up(app, &mut tx, browser, &[]).await?;
                (Kept { browser: Some(&browser.id), ..Kept::default() }, Some(cookie))
            }
        };
        passwords::replace(app, &mut tx, &account, hash, kept).await?;
        tx.commit().await?;
        passwords::replaced(app);
        return Ok(cookie);
    }
}

/// The present hash, where `verified` is not the present one any more: the password was changed
/// meanwhile, or it is the same one, whose outdated hash a login has renewed.
async fn verified_again(
    app: &App,
    owner: Owner<'_>,
    verified: &str,
    context: &RequestContext,
) -> Result<String, Error> {
    let now = login::verified_hash(app, &owner.user.id, owner.current_password, context).await?;
    if now == verified { Err(Error::InvalidCredentials) } else { Ok(now) }
}

fn of_new_password(error: Error) -> Error {
    match error {
        Error::Validation(errors) => Error::Validation(
            errors.into_iter().map(|error| FieldError { field: "newPassword", ..error }).collect(),
        ),
        other => other,
    }
}

/// Replaces the username, or removes it. Sessions go on; the old name is free at once.
///
/// # Errors
/// [`Error::InvalidCredentials`] for a wrong password; [`Error::Validation`],
/// [`Error::UsernameTaken`]; [`Error::NeedsLogin`], [`Error::TooMany`], [`Error::Overloaded`].
pub async fn username(
    app: &App,
    owner: Owner<'_>,
    new: Option<&str>,
    context: &RequestContext,
) -> Result<User, Error> {
    app.admit(Limit::Writes, &Key::user(owner.user.id.as_bytes()))?;
    let new = new.map(Username::parse).transpose();
    let new = new.map_err(|why| Error::field("username", why))?;
    let mut verified =
        login::verified_hash(app, &owner.user.id, owner.current_password, context).await?;
    let (mut tx, account) = loop {
        let mut tx = app.begin(&Actor::caller(&owner.user.id, context)).await?;
        let account = lock(app, &mut tx, owner).await?;
        if users::has_password_hash(&mut tx, &account.user.id, &verified).await? {
            break (tx, account);
        }
        tx.rollback().await?;
        verified = verified_again(app, owner, &verified, context).await?;
    };
    let name = new.as_ref().map(|new| new.name.clone());
    let after = User { username: name, ..account.user.clone() };
    let detail = differences(&account.user, &after);
    if detail.is_empty() {
        return Ok(after);
    }
    let to = UserUpdate {
        email: None,
        username: Some(new),
        role: after.role.clone(),
        is_verified: after.is_verified,
        profile: None,
    };
    let now = tx.now();
    users::update(&mut tx, &after.id, to, now).await.map_err(taken)?;
    let event = Event::user_updated(&after.id, &["username"]);
    tx.event(&event.with_external_id(account.external_id.as_deref())).await?;
    tx.audit("user.updated", Some(&after.id), json!(detail)).await?;
    tx.commit().await?;
    Ok(after)
}

/// The account, locked for a change by its owner.
async fn lock(app: &App, tx: &mut AuditedTx, owner: Owner<'_>) -> Result<UserRecord, Error> {
    let id = &owner.user.id;
    second_factors::lock_for_owner(app, tx, id, owner.login).await?;
    users::lock(tx, id).await?.ok_or(Error::NotFound("user"))
}
