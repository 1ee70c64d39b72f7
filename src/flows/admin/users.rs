//! User accounts, as operators and administrators manage them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    flows::{
        accounts::{
            password, profile,
            register::{Registration, validate},
        },
        admin::{
            access::Precondition,
            idempotency::{self, Created, IdempotentRequest},
        },
        mail::{self, NOTICE_TTL, Outgoing},
        provisioning,
    },
    ids::{BrowserSessionId, SessionId, UserId},
    model::{
        actor::Actor,
        event::{Event, UserChange},
        key::LONGEST_TOKEN_LIFE,
        mail::{Content, masked},
        profile::{Editor, UserProfile},
        revocation::NewRevocation,
        session::RevocationReason,
        user::{Deletion, Email, Login, Role, User, UserRecord, Username},
    },
    storage::{
        self, AuditedTx, Conflict, Tx, browser_sessions, email_tokens, remembered_devices, roles,
        sessions,
        users::{self, NewUser},
    },
};

/// Creates a user without logging them in.
///
/// # Errors
/// [`Error::Validation`], [`Error::EmailTaken`], [`Error::UsernameTaken`]; [`Error::KeyReused`];
/// [`Error::NotFound`] where an earlier request has created the user and they were deleted since;
/// [`Error::NotCreated`].
pub async fn create(
    app: &App,
    registration: Registration,
    role: Role,
    request: Option<IdempotentRequest>,
    actor: &Actor,
) -> Result<Created<UserRecord>, Error> {
    let provisioned = Provisioned::AsConfigured;
    create_with(app, registration, role, provisioned, request, actor).await
}

/// Whether the user service is told of a new account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provisioned {
    AsConfigured,
    Never,
}

/// As [`create`], with the choice to leave the user service out.
///
/// # Errors
/// As [`create`].
pub async fn create_with(
    app: &App,
    registration: Registration,
    role: Role,
    provisioned: Provisioned,
    request: Option<IdempotentRequest>,
    actor: &Actor,
) -> Result<Created<UserRecord>, Error> {
    let account = validate(app, registration).await?;
    let new = NewUser {
        id: app.new_id().into(),
        password_hash: app.hasher.hash(&account.password, &app.rng).await?,
        email: account.email,
        username: account.username,
        role,
    };
    let mut tx = app.begin(actor).await?;
    if let Some(id) = idempotency::claim(&mut tx, request.as_ref(), &new.id).await? {
        tx.rollback().await?;
        return Ok(Created::earlier(by_id(app, &id.into()).await?));
    }
    let user = insert(&mut tx, new, "user.add").await?;
    if provisioned == Provisioned::AsConfigured {
        provisioning::open(&mut tx, &app.config, &user.id).await?;
    }
    let updated_at = tx.now();
    tx.commit().await?;
    provisioning::complete(app, &user.id).await?;
    Ok(Created::now(UserRecord {
        user,
        updated_at,
        last_login_at: None,
        external_id: None,
        deletion: None,
        terms: None,
        profile: UserProfile::default(),
    }))
}

/// The given password, or a generated one and its text to show once.
pub fn or_generated(app: &App, password: Option<String>) -> (String, Option<String>) {
    match password {
        Some(password) => (password, None),
        None => {
            let generated = URL_SAFE_NO_PAD.encode(app.rng.bytes::<18>());
            (generated.clone(), Some(generated))
        }
    }
}

/// Stores a user whom an operator has created, with the event and the audit entry.
pub(crate) async fn insert(
    tx: &mut AuditedTx,
    new: NewUser,
    action: &'static str,
) -> Result<User, Error> {
    must_exist(tx, &new.role).await?;
    let now = tx.now();
    let user = users::insert(tx, new, now).await.map_err(|error| match error.is_refusal() {
        true => Error::not_created(error),
        false => taken(error),
    })?;
    tx.event(&Event::user_created(&user)).await?;
    tx.audit(action, Some(&user.id), json!({ "role": user.role.as_str() })).await?;
    Ok(user)
}

pub(crate) async fn must_exist(tx: &mut Tx, role: &Role) -> Result<(), Error> {
    if roles::exists(tx, role).await? {
        return Ok(());
    }
    let message = format!("there is no such role: {}", role.as_str());
    Err(Error::field("role", message))
}

pub(crate) fn taken(error: storage::Error) -> Error {
    match error {
        storage::Error::Conflict(Conflict::Email) => Error::EmailTaken,
        storage::Error::Conflict(Conflict::Username) => Error::UsernameTaken,
        other => other.into(),
    }
}

/// Finds a user by id, email address or username, as operators name them.
///
/// # Errors
/// [`Error::Validation`] where there is none.
pub async fn find(app: &App, name: &str) -> Result<User, Error> {
    if let Some(user) = users::by_id(&app.db, &name.into()).await? {
        return Ok(user);
    }
    let found = users::by_login(&app.db, &Login::parse(name)).await?;
    found.map(|found| found.user).ok_or_else(|| {
        let message =
            format!("there is no user {name:?}: give an id, an email address or a username");
        Error::field("user", message)
    })
}

/// The user of that id.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn by_id(app: &App, id: &UserId) -> Result<UserRecord, Error> {
    let found = users::record_by_id(&app.db, id).await?;
    found.ok_or(Error::NotFound("user"))
}

/// The user who logs in with that email address or username.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn by_login(app: &App, login: &Login) -> Result<UserRecord, Error> {
    let found = users::record_by_login(&app.db, login).await?;
    found.ok_or(Error::NotFound("user"))
}

/// The user who was imported with that id.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn by_external_id(app: &App, id: &str) -> Result<UserRecord, Error> {
    let found = users::record_by_external_id(&app.db, id).await?;
    found.ok_or(Error::NotFound("user"))
}

/// Disables a user: logins are refused, sessions are revoked and access tokens are refused. A
/// disabled user stays as they are.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for the actor's own account and for the last
/// administrator's.
pub async fn disable(app: &App, id: &UserId, actor: &Actor) -> Result<UserRecord, Error> {
    let mut tx = app.begin(actor).await?;
    let LockedAccount { mut account, is_last_admin } =
        LockedAccount::read(&mut tx, id, true).await?;
    // Until now its user could cancel the deletion, and with it this.
    let is_cancellable = account.deletion.is_some_and(|deletion| !deletion.is_final);
    if account.user.disabled_at.is_some() && !is_cancellable {
        return Ok(account);
    }
    not_themself(id, actor)?;
    must_keep_an_admin(&account, is_last_admin, actor)?;
    record(&mut tx, &account, UserChange::Disabled, json!({})).await?;
    let now = tx.now();
    users::set_disabled(&mut tx, id, Some(now), now).await?;
    revoke_sessions(&mut tx, id, RevocationReason::UserDisabled, now).await?;
    tx.commit().await?;
    account.user.disabled_at = Some(now);
    account.deletion = account.deletion.map(|one| Deletion { is_final: true, ..one });
    account.updated_at = now.past(account.updated_at);
    Ok(account)
}

/// Enables a disabled user again; revoked sessions stay revoked. A deletion that the user has
/// requested is cancelled.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn enable(app: &App, id: &UserId, actor: &Actor) -> Result<UserRecord, Error> {
    let mut tx = app.begin(actor).await?;
    let LockedAccount { mut account, .. } = LockedAccount::read(&mut tx, id, false).await?;
    if account.user.disabled_at.is_none() {
        return Ok(account);
    }
    record(&mut tx, &account, UserChange::Enabled, json!({})).await?;
    if account.deletion.take().is_some() {
        record(&mut tx, &account, UserChange::DeletionCancelled, json!({})).await?;
    }
    let now = tx.now();
    users::set_disabled(&mut tx, id, None, now).await?;
    tx.commit().await?;
    account.user.disabled_at = None;
    account.updated_at = now.past(account.updated_at);
    Ok(account)
}

/// Replaces a password; every session of the user is revoked.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Validation`] where the policy refuses the password.
pub async fn set_password(
    app: &App,
    id: &UserId,
    password: &str,
    actor: &Actor,
) -> Result<UserRecord, Error> {
    // Hashing takes long: the transaction begins afterwards.
    let hash = password::hash_new(app, &by_id(app, id).await?.user, password).await?;
    let mut tx = app.begin(actor).await?;
    let LockedAccount { mut account, .. } = LockedAccount::read(&mut tx, id, false).await?;
    let now = tx.now();
    password::replace(app, &mut tx, &account, hash, Kept::default()).await?;
    tx.commit().await?;
    password::replaced(app);
    account.updated_at = now.past(account.updated_at);
    Ok(account)
}

/// Changes a role, as [`update`] does.
///
/// # Errors
/// As [`update`].
pub async fn set_role(
    app: &App,
    id: &UserId,
    role: Role,
    actor: &Actor,
) -> Result<UserRecord, Error> {
    let changes = UserChanges { role: Some(role), ..UserChanges::default() };
    update(app, id, &Precondition::Any, changes, actor).await
}

/// The changes of a user; `None` keeps a value.
#[derive(Clone, Debug, Default)]
pub struct UserChanges {
    pub email: Option<String>,
    /// `Some(None)` removes the username.
    pub username: Option<Option<String>>,
    pub role: Option<Role>,
    /// A new email address is unverified, unless this says otherwise.
    pub is_verified: Option<bool>,
    /// A JSON Merge Patch of the profile.
    pub profile: Map<String, Value>,
}

/// Changes a user. Where the role changes, access tokens that carry the old one are refused;
/// sessions continue.
///
/// # Errors
/// [`Error::Validation`], [`Error::EmailTaken`], [`Error::UsernameTaken`]; [`Error::NotFound`];
/// [`Error::Changed`]; [`Error::Conflict`] where the actor, or the last administrator, would lose
/// the role `admin`.
pub async fn update(
    app: &App,
    id: &UserId,
    precondition: &Precondition,
    changes: UserChanges,
    actor: &Actor,
) -> Result<UserRecord, Error> {
    let UserChanges { email, username, role, is_verified, profile } = changes;
    let email = email.as_deref().map(Email::parse).transpose();
    let email = email.map_err(|why| Error::field("email", why))?;
    let username =
        username.map(|name| name.as_deref().map(Username::parse).transpose()).transpose();
    let username = username.map_err(|why| Error::field("username", why))?;
    let demotes = role.as_ref().is_some_and(|role| *role != Role::admin());

    let mut tx = app.begin(actor).await?;
    let LockedAccount { mut account, is_last_admin } =
        LockedAccount::read(&mut tx, id, demotes).await?;
    precondition.check(account.updated_at)?;
    if demotes {
        must_keep_an_admin(&account, is_last_admin, actor)?;
    }
    let before = account.user.clone();
    let after = &mut account.user;
    if let Some(email) = &email {
        after.email.clone_from(&email.address);
        after.is_verified &= before.email == email.address;
    }
    if let Some(username) = &username {
        after.username = username.as_ref().map(|username| username.name.clone());
    }
    after.role = role.unwrap_or(before.role.clone());
    after.is_verified = is_verified.unwrap_or(after.is_verified);
    let profile = profile::merged(app, &account.profile, &profile, Editor::Administrator)?;
    let mut detail = differences(&before, after);
    let mut fields: Vec<&str> = detail.keys().map(String::as_str).collect();
    let claims = account.profile.changed(&profile);
    fields.extend(&claims);
    if fields.is_empty() {
        return Ok(account);
    }
    must_exist(&mut tx, &after.role).await?;
    if after.email != before.email {
        email_tokens::remove_outdated(&mut tx, id).await?;
        if before.is_verified {
            let notice = Outgoing {
                to: &before.email,
                user_id: Some(id),
                language: None,
                content: Content::EmailChanged { token: None, address: masked(&after.email) },
                ttl: NOTICE_TTL,
                is_sent: true,
            };
            mail::queue(app, &mut tx, notice).await?;
        }
    }
    let (role, is_verified, now) = (after.role.clone(), after.is_verified, tx.now());
    let stored = (!claims.is_empty()).then(|| profile.clone());
    let to = users::UserUpdate { email, username, role, is_verified, profile: stored };
    users::update(&mut tx, id, to, now).await.map_err(taken)?;
    let external_id = account.external_id.as_deref();
    tx.event(&Event::user_updated(id, &fields).with_external_id(external_id)).await?;
    if !claims.is_empty() {
        detail.insert("profile".to_owned(), json!(claims));
    }
    tx.audit("user.updated", Some(id), detail.into()).await?;
    if account.user.role != before.role {
        let event = Event::user_changed(UserChange::RoleChanged, id);
        tx.event(&event.with_external_id(external_id)).await?;
        refuse_tokens(&mut tx, id, "role_changed").await?;
    }
    tx.commit().await?;
    app.mails_waiting.notify_one();
    account.updated_at = now.past(account.updated_at);
    account.profile = profile;
    Ok(account)
}

/// The fields that differ, with their old and new values.
pub(crate) fn differences(before: &User, after: &User) -> Map<String, Value> {
    let fields = |user: &User| {
        [
            ("email", json!(user.email)),
            ("username", json!(user.username)),
            ("role", json!(user.role.as_str())),
            ("isVerified", json!(user.is_verified)),
        ]
    };
    let pairs = fields(before).into_iter().zip(fields(after));
    let changed = pairs.filter(|(from, to)| from != to);
    changed
        .map(|((name, from), (_, to))| (name.to_owned(), json!({ "from": from, "to": to })))
        .collect()
}

/// Revokes every session of a user, in browsers and applications.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn log_out(app: &App, id: &UserId, actor: &Actor) -> Result<(), Error> {
    let mut tx = app.begin(actor).await?;
    let LockedAccount { account, .. } = LockedAccount::read(&mut tx, id, false).await?;
    record(&mut tx, &account, UserChange::LoggedOut, json!({})).await?;
    let now = tx.now();
    revoke_sessions(&mut tx, id, RevocationReason::Logout, now).await?;
    tx.commit().await?;
    app.logouts_waiting.notify_one();
    Ok(())
}

/// Deletes a user with everything that belongs to them. Their tokens are refused from the commit
/// on, and clients are notified of the logout. A later registration with the same email address is
/// another user. What is kept, and for how long, is in docs/privacy.md.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Changed`]; [`Error::Conflict`] for the actor's own account and for
/// the last administrator's.
pub async fn delete(
    app: &App,
    id: &UserId,
    precondition: &Precondition,
    actor: &Actor,
) -> Result<(), Error> {
    not_themself(id, actor)?;
    let mut tx = app.begin(actor).await?;
    // The row is locked before its sessions are revoked: a concurrent login has its session before,
    // which is revoked with the others, or finds no user any more.
    let LockedAccount { account, is_last_admin } = LockedAccount::read(&mut tx, id, true).await?;
    precondition.check(account.updated_at)?;
    must_keep_an_admin(&account, is_last_admin, actor)?;
    // The log outlives the account, so that it has no names.
    let detail = json!({ "role": account.user.role.as_str() });
    let event = Event::user_changed(UserChange::Deleted, id)
        .with_external_id(account.external_id.as_deref());
    remove(&mut tx, id, &event, UserChange::Deleted.as_str(), detail).await?;
    tx.commit().await?;
    app.logouts_waiting.notify_one();
    Ok(())
}

/// Deletes an account that the transaction has locked, with the event and the audit entry.
pub(crate) async fn remove(
    tx: &mut AuditedTx,
    id: &UserId,
    event: &Event,
    action: &'static str,
    detail: Value,
) -> storage::Result<()> {
    // Before the revocation list is locked: this reads much.
    users::blank(tx, id).await?;
    tx.event(event).await?;
    tx.audit(action, Some(id), detail).await?;
    let now = tx.now();
    revoke_sessions(tx, id, RevocationReason::UserDeleted, now).await?;
    // A session that begins meanwhile without a login is deleted with the row, and this entry
    // refuses its tokens.
    refuse_tokens(tx, id, "user_deleted").await?;
    users::remove(tx, id).await
}

/// An account that a transaction has locked.
struct LockedAccount {
    account: UserRecord,
    /// Whether it is the only enabled administrator; `false` where it was not looked up.
    is_last_admin: bool,
}

impl LockedAccount {
    /// `asks_for_admins`: whether an administrator may be lost. The administrators are locked
    /// before the account.
    async fn read(tx: &mut AuditedTx, id: &UserId, asks_for_admins: bool) -> Result<Self, Error> {
        let admins = if asks_for_admins { users::lock_admins(tx).await? } else { vec![] };
        // PostgreSQL refuses a statement with NUL in a text.
        let account = if id.contains('\0') { None } else { users::lock(tx, id).await? };
        let account = account.ok_or(Error::NotFound("user"))?;
        // The lock may have waited for another change.
        tx.read_clock();
        Ok(Self { account, is_last_admin: admins == std::slice::from_ref(id) })
    }
}

/// Refuses to demote, disable or delete the actor and the last administrator.
fn must_keep_an_admin(
    account: &UserRecord,
    is_last_admin: bool,
    actor: &Actor,
) -> Result<(), Error> {
    if account.user.role != Role::admin() {
        return Ok(());
    }
    not_themself(&account.user.id, actor)?;
    if is_last_admin {
        return Err(Error::Conflict(
            "this is the last enabled administrator: create another one first",
        ));
    }
    Ok(())
}

fn not_themself(id: &UserId, actor: &Actor) -> Result<(), Error> {
    if actor.actor == id.as_str() {
        return Err(Error::Conflict(
            "administrators cannot disable, demote or delete themselves: ask another one",
        ));
    }
    Ok(())
}

/// Adds the event of a change and its audit entry.
pub(crate) async fn record(
    tx: &mut AuditedTx,
    account: &UserRecord,
    change: UserChange,
    detail: Value,
) -> storage::Result<()> {
    let id = &account.user.id;
    let event = Event::user_changed(change, id);
    tx.event(&event.with_external_id(account.external_id.as_deref())).await?;
    tx.audit(change.as_str(), Some(id), detail).await
}

/// Revokes every session. The entries name the sessions and no time: a concurrent refresh is
/// refused whatever its clock says, and a login right afterwards is not.
pub(crate) async fn revoke_sessions(
    tx: &mut Tx,
    user: &UserId,
    reason: RevocationReason,
    now: Timestamp,
) -> storage::Result<()> {
    revoke_other_sessions(tx, user, Kept::default(), reason, now).await
}

/// The sessions that go on where all others of a user are revoked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kept<'a> {
    pub browser: Option<&'a BrowserSessionId>,
    pub session: Option<&'a SessionId>,
}

/// As [`revoke_sessions`], without those that are kept. No browser is remembered any more.
pub(crate) async fn revoke_other_sessions(
    tx: &mut Tx,
    user: &UserId,
    kept: Kept<'_>,
    reason: RevocationReason,
    now: Timestamp,
) -> storage::Result<()> {
    remembered_devices::remove_all(tx, user).await?;
    browser_sessions::revoke_others(tx, user, kept.browser, now).await?;
    let of = sessions::SessionSelector::User(user, kept.session);
    sessions::revoke_all(tx, of, reason, now, now + LONGEST_TOKEN_LIFE).await?;
    Ok(())
}

/// Refuses the tokens issued until now, and in the next second: a concurrent refresh may have read
/// the account as it was.
async fn refuse_tokens(
    tx: &mut AuditedTx,
    user: &UserId,
    reason: &'static str,
) -> storage::Result<()> {
    let subjects = sessions::subjects_of(tx, user).await?.into_iter();
    tx.revoke(subjects.map(NewRevocation::Subject).collect(), reason).await?;
    Ok(())
}
