//! What an operator does with accounts.

use serde_json::json;

use crate::{
    app::App,
    clock::Timestamp,
    flows::{
        By, Error, FieldError,
        register::{Registration, validate},
    },
    model::{
        event::{Event, UserChange},
        key::LONGEST_TOKEN_LIFE,
        revocation::{Revocation, Target},
        session::EndReason,
        user::{Login, Role, User},
    },
    storage::{
        self, Conflict, Tx, browser_sessions, outbox, revocations, roles, sessions,
        users::{self, NewUser},
    },
};

/// Makes an account without logging it in.
///
/// # Errors
/// [`Error::Validation`], [`Error::EmailTaken`], [`Error::UsernameTaken`].
pub async fn create(
    app: &App,
    registration: Registration,
    role: Role,
    by: &By,
) -> Result<User, Error> {
    let account = validate(app, registration).await?;
    let hash = app.hasher.hash(&account.password, &app.rng).await?;
    let (id, event_id, now) = (app.new_id(), app.new_id(), app.clock.now());
    let new = NewUser {
        id,
        email: account.email,
        username: account.username,
        password_hash: hash,
        role,
    };
    let by = by.clone();
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move { insert(&mut tx, new, "user.add", event_id, &by, now).await })
        })
        .await
        .map_err(|error| match error {
            storage::Error::Conflict(Conflict::Email) => Error::EmailTaken,
            storage::Error::Conflict(Conflict::Username) => Error::UsernameTaken,
            unknown @ storage::Error::Unknown(_) => unknown.into(),
            other => Error::NotCreated(other.into()),
        })
}

/// Stores an account that an operator made, with its event and its line in the audit log.
pub(super) async fn insert(
    tx: &mut Tx<'_>,
    new: NewUser,
    action: &'static str,
    event_id: String,
    by: &By,
    now: Timestamp,
) -> storage::Result<User> {
    if !roles::exists(tx, &new.role).await? {
        return Err(storage::Error::Unknown("role"));
    }
    let user = users::insert(tx, new, now).await?;
    let event = Event::user_created(&user);
    outbox::add(tx, event_id, &event, by.correlation_id(), now).await?;
    let detail = json!({ "role": user.role.as_str() });
    by.note(tx, action, Some(&user.id), detail, now).await?;
    Ok(user)
}

/// Finds an account by its id, email address or username.
///
/// # Errors
/// [`Error::Validation`] where there is none.
pub async fn find(app: &App, who: &str) -> Result<User, Error> {
    if let Some(user) = users::by_id(&app.db, who).await? {
        return Ok(user);
    }
    let found = users::by_login(&app.db, &Login::parse(who)).await?;
    found.map(|found| found.user).ok_or_else(|| {
        let message =
            format!("there is no user {who:?}: give an id, an email address or a username");
        Error::Validation(vec![FieldError {
            field: "user",
            message,
        }])
    })
}

/// Disables an account: nobody logs in to it, its sessions end and its access tokens are refused.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn disable(app: &App, user: &User, by: &By) -> Result<(), Error> {
    change(app, user, UserChange::Disabled, by, |tx, id, now| {
        Box::pin(async move {
            users::set_disabled(tx, id, Some(now), now).await?;
            end_everything(tx, id, EndReason::UserDisabled, now).await
        })
    })
    .await
}

/// Enables a disabled account again; its old sessions stay dead.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn enable(app: &App, user: &User, by: &By) -> Result<(), Error> {
    change(app, user, UserChange::Enabled, by, |tx, id, now| {
        Box::pin(async move {
            users::set_disabled(tx, id, None, now).await?;
            Ok(())
        })
    })
    .await
}

/// Replaces a password; every session of the account ends.
///
/// # Errors
/// [`Error::Validation`] where the policy refuses the password.
pub async fn set_password(app: &App, user: &User, password: &str, by: &By) -> Result<(), Error> {
    let about: Vec<&str> = [Some(user.email.as_str()), user.username.as_deref()]
        .into_iter()
        .flatten()
        .collect();
    app.hasher
        .check(&app.policy, password, &about)
        .await?
        .map_err(|reasons| {
            let refuse = |message| FieldError {
                field: "password",
                message,
            };
            Error::Validation(reasons.into_iter().map(refuse).collect())
        })?;
    let hash = app.hasher.hash(password, &app.rng).await?;
    change(app, user, UserChange::PasswordChanged, by, |tx, id, now| {
        Box::pin(async move {
            users::set_password(tx, id, hash, now).await?;
            end_everything(tx, id, EndReason::PasswordChanged, now).await
        })
    })
    .await
}

/// Changes a role. Access tokens that carry the old one are refused; sessions go on with the new one.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn set_role(app: &App, user: &User, role: Role, by: &By) -> Result<(), Error> {
    change(app, user, UserChange::RoleChanged, by, |tx, id, now| {
        Box::pin(async move {
            if !roles::exists(tx, &role).await? {
                return Err(storage::Error::Unknown("role"));
            }
            users::set_role(tx, id, &role, now).await?;
            refuse_tokens(tx, id, "role_changed", now).await
        })
    })
    .await
}

async fn change<F>(app: &App, user: &User, what: UserChange, by: &By, work: F) -> Result<(), Error>
where
    F: for<'t> FnOnce(
            &'t mut Tx<'_>,
            &'t str,
            Timestamp,
        ) -> futures_util::future::BoxFuture<'t, storage::Result<()>>
        + Send
        + 'static,
{
    let (id, event_id, now) = (user.id.clone(), app.new_id(), app.clock.now());
    let by = by.clone();
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                let event = Event::user_changed(what, &id);
                outbox::add(&mut tx, event_id, &event, by.correlation_id(), now).await?;
                by.note(&mut tx, what.as_str(), Some(&id), json!({}), now)
                    .await?;
                work(&mut tx, &id, now).await
            })
        })
        .await?;
    Ok(())
}

/// Ends every session. The entries name the sessions and no moment: a refresh that was under way is hit
/// whatever its clock said, and a login right after is not.
async fn end_everything(
    tx: &mut Tx<'_>,
    user: &str,
    reason: EndReason,
    now: Timestamp,
) -> storage::Result<()> {
    browser_sessions::end_all(tx, user, now).await?;
    let of = sessions::Of::User(user);
    sessions::end_all(tx, of, reason, now, now + LONGEST_TOKEN_LIFE).await
}

/// Refuses the tokens issued so far, and for a second more: a refresh that is under way may still have read
/// the account as it was.
async fn refuse_tokens(
    tx: &mut Tx<'_>,
    user: &str,
    reason: &'static str,
    now: Timestamp,
) -> storage::Result<()> {
    for sub in sessions::subjects_of(tx, user).await? {
        let issued_until = now.as_secs() + 1;
        let entry = Revocation {
            target: Target::Subject { sub, issued_until },
            expires_at: now + LONGEST_TOKEN_LIFE,
        };
        revocations::add(tx, &entry, reason, now).await?;
    }
    Ok(())
}
