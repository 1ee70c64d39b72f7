//! What an operator does with accounts.

use serde_json::{Map, Value, json};

use crate::{
    app::App,
    clock::Timestamp,
    error::{Error, FieldError},
    flows::{
        accounts::register::{Registration, validate},
        admin::{
            access::Expected,
            idempotency::{Made, Once, claim},
        },
    },
    model::{
        actor::Actor,
        event::{Event, UserChange},
        key::LONGEST_TOKEN_LIFE,
        revocation::{Revocation, RevocationTarget},
        session::RevocationReason,
        user::{Email, Login, Role, User, UserRecord, Username},
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
    by: &Actor,
) -> Result<User, Error> {
    match create_once(app, registration, role, None, by).await? {
        Made::Now(user) => Ok(user),
        Made::Before(_) => Err(Error::NotFound("user")),
    }
}

/// As [`create`]; the same call under the same key makes one account.
///
/// # Errors
/// Also [`Error::KeyReused`].
pub async fn create_once(
    app: &App,
    registration: Registration,
    role: Role,
    once: Option<Once>,
    by: &Actor,
) -> Result<Made<User>, Error> {
    let account = validate(app, registration).await?;
    let hash = app.hasher.hash(&account.password, &app.rng).await?;
    let (id, event_id, now) = (app.new_id(), app.new_id(), app.clock.now());
    let new =
        NewUser { id, email: account.email, username: account.username, password_hash: hash, role };
    let by = by.clone();
    app.db
        .transaction(move |mut tx| {
            Box::pin(async move {
                if let Some(known) = claim(once.as_ref(), &mut tx, &new.id, now).await? {
                    return Ok(known);
                }
                let user = insert(&mut tx, new, "user.add", event_id, &by, now).await?;
                Ok(Ok(Made::Now(user)))
            })
        })
        .await
        .map_err(|error| match taken(error) {
            Error::Unavailable(cause) => Error::NotCreated(cause),
            taken => taken,
        })?
}

fn taken(error: storage::Error) -> Error {
    match error {
        storage::Error::Conflict(Conflict::Email) => Error::EmailTaken,
        storage::Error::Conflict(Conflict::Username) => Error::UsernameTaken,
        other => other.into(),
    }
}

/// Stores an account that an operator made, with its event and its line in the audit log.
pub(crate) async fn insert(
    tx: &mut Tx<'_>,
    new: NewUser,
    action: &'static str,
    event_id: String,
    by: &Actor,
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
        Error::Validation(vec![FieldError { field: "user", message }])
    })
}

/// The account of that id.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn by_id(app: &App, id: &str) -> Result<UserRecord, Error> {
    let found = users::record_by_id(&app.db, id).await?;
    found.ok_or(Error::NotFound("user"))
}

/// The account that somebody would log in to by that name.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn by_login(app: &App, login: &Login) -> Result<User, Error> {
    let found = users::by_login(&app.db, login).await?;
    found.map(|found| found.user).ok_or(Error::NotFound("user"))
}

/// Disables an account: nobody logs in to it, its sessions end and its access tokens are refused.
///
/// # Errors
/// [`Error::Conflict`] for the caller's own account and for the last administrator's.
pub async fn disable(app: &App, user: &User, by: &Actor) -> Result<(), Error> {
    not_themself(&user.id, by)?;
    change(app, user, UserChange::Disabled, by, |tx, id, now| {
        Box::pin(async move {
            users::set_disabled(tx, id, Some(now), now).await?;
            end_everything(tx, id, RevocationReason::UserDisabled, now).await
        })
    })
    .await
}

/// Enables a disabled account again; its old sessions stay dead.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn enable(app: &App, user: &User, by: &Actor) -> Result<(), Error> {
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
pub async fn set_password(app: &App, user: &User, password: &str, by: &Actor) -> Result<(), Error> {
    let about: Vec<&str> =
        [Some(user.email.as_str()), user.username.as_deref()].into_iter().flatten().collect();
    app.hasher.check(&app.policy, password, &about).await?.map_err(|reasons| {
        let refuse = |message| FieldError { field: "password", message };
        Error::Validation(reasons.into_iter().map(refuse).collect())
    })?;
    let hash = app.hasher.hash(password, &app.rng).await?;
    change(app, user, UserChange::PasswordChanged, by, |tx, id, now| {
        Box::pin(async move {
            users::set_password(tx, id, hash, now).await?;
            end_everything(tx, id, RevocationReason::PasswordChanged, now).await
        })
    })
    .await
}

/// Changes a role. Access tokens that carry the old one are refused; sessions go on with the new one.
///
/// # Errors
/// As [`edit`].
pub async fn set_role(app: &App, user: &User, role: Role, by: &Actor) -> Result<(), Error> {
    let changes = Changes { role: Some(role), ..Changes::default() };
    edit(app, &user.id, &Expected::Any, changes, by).await
}

/// What shall change of an account; `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub email: Option<String>,
    /// `Some(None)` takes the username away.
    pub username: Option<Option<String>>,
    pub role: Option<Role>,
    /// A new address counts as not verified, unless this says otherwise.
    pub is_verified: Option<bool>,
}

/// Changes an account. Where its role changes, access tokens that carry the old one are refused; sessions go on.
///
/// # Errors
/// [`Error::Validation`], [`Error::EmailTaken`], [`Error::UsernameTaken`]; [`Error::NotFound`]; [`Error::Changed`];
/// [`Error::Conflict`] where the caller, or the last administrator, would be one no more.
pub async fn edit(
    app: &App,
    id: &str,
    expected: &Expected,
    changes: Changes,
    by: &Actor,
) -> Result<(), Error> {
    let refuse = |field| {
        move |why: &str| {
            let message = why.to_owned();
            Error::Validation(vec![FieldError { field, message }])
        }
    };
    let email = changes.email.as_deref().map(Email::parse).transpose();
    let email = email.map_err(refuse("email"))?;
    let username = changes
        .username
        .map(|name| name.as_deref().map(Username::parse).transpose())
        .transpose()
        .map_err(refuse("username"))?;
    let (role, is_verified) = (changes.role, changes.is_verified);
    let demotes = role.as_ref().is_some_and(|role| *role != Role::admin());
    let (id, expected, by) = (id.to_owned(), expected.clone(), by.clone());
    let (event_ids, now) = ([app.new_id(), app.new_id()], app.clock.now());
    let outcome = app.db.transaction(move |mut tx| {
        Box::pin(async move {
            let standing = Standing::of(&mut tx, &id, demotes).await?;
            let before = match standing.account(&expected) {
                Ok(account) => account.user.clone(),
                Err(refused) => return Ok(Err(refused)),
            };
            if demotes && let Err(refused) = standing.may_lose_admin(&by) {
                return Ok(Err(refused));
            }
            let mut detail = Map::new();
            let mut note = |field: &str, from: Value, to: Value| {
                if from != to {
                    detail.insert(field.to_owned(), json!({ "from": from, "to": to }));
                }
            };
            let has_new_address = email.as_ref().is_some_and(|new| new.address != before.email);
            let to = users::UserUpdate {
                role: role.unwrap_or_else(|| before.role.clone()),
                is_verified: is_verified.unwrap_or(before.is_verified && !has_new_address),
                email,
                username,
            };
            if let Some(email) = &to.email {
                note("email", before.email.into(), email.address.clone().into());
            }
            if let Some(username) = &to.username {
                let name = username.as_ref().map(|username| username.name.clone());
                note("username", before.username.into(), name.into());
            }
            note("role", before.role.as_str().into(), to.role.as_str().into());
            note("isVerified", before.is_verified.into(), to.is_verified.into());
            if detail.is_empty() {
                return Ok(Ok(()));
            }
            if !roles::exists(&mut tx, &to.role).await? {
                return Err(storage::Error::Unknown("role"));
            }
            users::update(&mut tx, &id, to, now).await?;
            let [updated_id, role_id] = event_ids;
            let fields: Vec<&str> = detail.keys().map(String::as_str).collect();
            let event = Event::user_updated(&id, &fields);
            outbox::add(&mut tx, updated_id, &event, by.correlation_id(), now).await?;
            let has_new_role = detail.contains_key("role");
            by.note(&mut tx, "user.updated", Some(&id), detail.into(), now).await?;
            if has_new_role {
                let event = Event::user_changed(UserChange::RoleChanged, &id);
                outbox::add(&mut tx, role_id, &event, by.correlation_id(), now).await?;
                refuse_tokens(&mut tx, &id, "role_changed", now).await?;
            }
            Ok(Ok(()))
        })
    });
    outcome.await.map_err(taken)?
}

/// Ends every session of an account, in browsers and applications; nothing else changes.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn log_out(app: &App, user: &User, by: &Actor) -> Result<(), Error> {
    change(app, user, UserChange::LoggedOut, by, |tx, id, now| {
        Box::pin(async move { end_everything(tx, id, RevocationReason::Logout, now).await })
    })
    .await?;
    app.logouts_waiting.notify_one();
    Ok(())
}

/// Removes an account with all that hangs on it. Its tokens are refused from the commit on, and applications hear of the
/// logout. Whoever registers with the address later is somebody else.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Changed`]; [`Error::Conflict`] for the caller's own account and for the last
/// administrator's.
pub async fn delete(app: &App, id: &str, expected: &Expected, by: &Actor) -> Result<(), Error> {
    not_themself(id, by)?;
    let (id, expected, by) = (id.to_owned(), expected.clone(), by.clone());
    let (event_id, now) = (app.new_id(), app.clock.now());
    let outcome = app.db.transaction(move |mut tx| {
        Box::pin(async move {
            // The row is locked before its sessions end: a login that is under way has its session before, and it ends with
            // the others, or it finds no account any more.
            let standing = Standing::of(&mut tx, &id, true).await?;
            let account = match standing.account(&expected) {
                Ok(account) => account,
                Err(refused) => return Ok(Err(refused)),
            };
            if let Err(refused) = standing.may_lose_admin(&by) {
                return Ok(Err(refused));
            }
            let event = Event::user_changed(UserChange::Deleted, &id);
            outbox::add(&mut tx, event_id, &event, by.correlation_id(), now).await?;
            let user = &account.user;
            let detail = json!({ "email": user.email, "username": user.username, "role": user.role.as_str() });
            by.note(&mut tx, UserChange::Deleted.as_str(), Some(&id), detail, now)
                .await?;
            end_everything(&mut tx, &id, RevocationReason::UserDeleted, now).await?;
            // A session that begins meanwhile without a login goes with the row, and its tokens with this entry.
            refuse_tokens(&mut tx, &id, "user_deleted", now).await?;
            users::remove(&mut tx, &id).await?;
            Ok(Ok(()))
        })
    });
    outcome.await??;
    app.logouts_waiting.notify_one();
    Ok(())
}

/// An account, locked by a transaction that may change it, and whether it is the last of its kind.
struct Standing {
    account: Option<UserRecord>,
    is_last_admin: bool,
}

impl Standing {
    /// `asks_for_admins`: whether an administrator may become one less.
    async fn of(tx: &mut Tx<'_>, id: &str, asks_for_admins: bool) -> storage::Result<Self> {
        let admins = if asks_for_admins { users::lock_admins(tx).await? } else { vec![] };
        Ok(Self { account: users::lock(tx, id).await?, is_last_admin: admins == [id] })
    }

    fn account(&self, expected: &Expected) -> Result<&UserRecord, Error> {
        let account = self.account.as_ref().ok_or(Error::NotFound("user"))?;
        expected.check(account.updated_at)?;
        Ok(account)
    }

    fn may_lose_admin(&self, by: &Actor) -> Result<(), Error> {
        let user = self.account.as_ref().map(|account| &account.user);
        match user.filter(|user| user.role == Role::admin()) {
            Some(user) => not_themself(&user.id, by)?,
            None => return Ok(()),
        }
        if self.is_last_admin {
            return Err(Error::Conflict(
                "this is the last enabled administrator: make another one first",
            ));
        }
        Ok(())
    }
}

fn not_themself(id: &str, by: &Actor) -> Result<(), Error> {
    if by.actor == id {
        return Err(Error::Conflict(
            "nobody can disable, demote or delete themself here: ask another administrator",
        ));
    }
    Ok(())
}

async fn change<F>(
    app: &App,
    user: &User,
    what: UserChange,
    by: &Actor,
    work: F,
) -> Result<(), Error>
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
    let disables = matches!(what, UserChange::Disabled);
    let outcome = app.db.transaction(move |mut tx| {
        Box::pin(async move {
            let standing = Standing::of(&mut tx, &id, disables).await?;
            if let Err(refused) = standing.account(&Expected::Any) {
                return Ok(Err(refused));
            }
            if disables && let Err(refused) = standing.may_lose_admin(&by) {
                return Ok(Err(refused));
            }
            let event = Event::user_changed(what, &id);
            outbox::add(&mut tx, event_id, &event, by.correlation_id(), now).await?;
            by.note(&mut tx, what.as_str(), Some(&id), json!({}), now).await?;
            work(&mut tx, &id, now).await?;
            Ok(Ok(()))
        })
    });
    outcome.await?
}

/// Ends every session. The entries name the sessions and no moment: a refresh that was under way is hit
/// whatever its clock said, and a login right after is not.
async fn end_everything(
    tx: &mut Tx<'_>,
    user: &str,
    reason: RevocationReason,
    now: Timestamp,
) -> storage::Result<()> {
    browser_sessions::revoke_all_of_user(tx, user, now).await?;
    let of = sessions::SessionSelector::User(user);
    sessions::revoke_all(tx, of, reason, now, now + LONGEST_TOKEN_LIFE).await
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
            target: RevocationTarget::Subject { sub, issued_until },
            expires_at: now + LONGEST_TOKEN_LIFE,
        };
        revocations::add(tx, &entry, reason, now).await?;
    }
    Ok(())
}
