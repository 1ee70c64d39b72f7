//! Users.

use std::collections::{BTreeSet, HashMap};

use super::{
    Db, Error, Result, Row, Statement, Tx,
    guesses::{self, GuessState, GuessedAccount, password_guesses_columns, password_guesses_joins},
    known_sources::LoginSource,
    profiles,
    statement::one,
};
use crate::{
    clock::Timestamp,
    ids::UserId,
    model::{
        profile::UserProfile,
        user::{AcceptedTerms, Deletion, Email, Login, Role, User, UserRecord, Username},
    },
};

/// Sets `updated_at`, strictly increasing: it is the version of the row.
macro_rules! updated_at {
    ($now:literal) => {
        concat!(
            "updated_at = CASE WHEN updated_at < ",
            $now,
            " THEN ",
            $now,
            " ELSE updated_at + 1 END"
        )
    };
}

macro_rules! select_records {
    ($rest:literal) => {
        concat!(
            "SELECT id, email, username, role, is_verified, created_at, disabled_at, updated_at, last_login_at, \
             external_id, deletion_at, deletion_is_final, terms_version, terms_accepted_at, \
             (SELECT p.claims FROM profiles p WHERE p.user_id = users.id) AS profile FROM users ",
            $rest
        )
    };
}

/// A user with the password hash.
#[derive(Debug)]
pub struct UserWithPassword {
    pub user: User,
    /// PHC string.
    pub password_hash: String,
    pub second_factor: SecondFactorState,
    /// `None`: the user has not requested the deletion.
    pub deletion: Option<Deletion>,
}

impl UserWithPassword {
    /// The deletion that a login can cancel. The account is disabled because of it alone.
    pub fn cancellable_deletion(&self) -> Option<Deletion> {
        self.deletion.filter(|deletion| !deletion.is_final && self.user.disabled_at.is_some())
    }
}

/// Whether a login of the user takes a second factor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecondFactorState {
    /// The user has one.
    pub exists: bool,
    /// The role of the user requires one.
    pub is_required: bool,
}

/// The columns of [`SecondFactorState`], for a user named `u`.
macro_rules! second_factor_columns {
    () => {
        "u.second_factor_at, (SELECT r.require_second_factor FROM roles r WHERE r.name = u.role) AS second_factor_required"
    };
}
pub(super) use second_factor_columns;

/// Reads [`second_factor_columns`].
pub(super) fn second_factor_state(row: &Row) -> Result<SecondFactorState> {
    let required = row.get::<Option<bool>>("second_factor_required")?;
    Ok(SecondFactorState {
        exists: row.get::<Option<i64>>("second_factor_at")?.is_some(),
        is_required: required.unwrap_or_default(),
    })
}

/// A new user.
#[derive(Debug)]
pub struct NewUser {
    pub id: UserId,
    pub email: Email,
    pub username: Option<Username>,
    pub password_hash: String,
    pub role: Role,
}

/// Adds a user.
///
/// # Errors
/// [`Error::Conflict`] if the email address or the username is taken.
pub async fn insert(tx: &mut Tx, new: NewUser, now: Timestamp) -> Result<User> {
    let (username, username_canonical) = new.username.map(|u| (u.name, u.canonical)).unzip();
    tx.run(
        Statement::new(
            "INSERT INTO users (id, email, email_canonical, username, username_canonical, password_hash, role, \
             is_verified, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
        )
        .bind(new.id.as_str())
        .bind(new.email.address.as_str())
        .bind(new.email.canonical)
        .bind(username.clone())
        .bind(username_canonical)
        .bind(new.password_hash)
        .bind(new.role.as_str())
        .bind(false)
        .bind(now),
    )
    .await?;
    Ok(User {
        id: new.id,
        email: new.email.address,
        username,
        role: new.role,
        is_verified: false,
        created_at: now,
        disabled_at: None,
    })
}

macro_rules! select_with_password {
    ($rest:literal) => {
        concat!(
            "SELECT u.id, u.email, u.username, u.role, u.is_verified, u.created_at, u.disabled_at, u.password_hash, \
             u.deletion_at, u.deletion_is_final, ",
            second_factor_columns!(),
            " FROM users u ",
            $rest
        )
    };
}

/// Finds a user by email address or username.
pub async fn by_login(db: &Db, login: &Login) -> Result<Option<UserWithPassword>> {
    // PostgreSQL rejects statements with NUL in a text value; no user has such a name.
    if login.as_str().contains('\0') {
        return Ok(None);
    }
    let statement = match login {
        Login::Email(_) => select_with_password!("WHERE u.email_canonical = $1"),
        Login::Username(_) => select_with_password!("WHERE u.username_canonical = $1"),
    };
    let rows = db.read(Statement::new(statement).bind(login.as_str())).await?;
    one(rows).map(|row| with_password(&row)).transpose()
}

fn with_password(row: &Row) -> Result<UserWithPassword> {
    Ok(UserWithPassword {
        user: from_row(row, &COLUMNS)?,
        password_hash: row.get("password_hash")?,
        second_factor: second_factor_state(row)?,
        deletion: deletion_of(row)?,
    })
}

/// As [`by_id`], with the password hash.
pub async fn with_password_by_id(db: &Db, id: &UserId) -> Result<Option<UserWithPassword>> {
    let statement = Statement::new(select_with_password!("WHERE u.id = $1"));
    one(db.read(statement.bind(id)).await?).map(|row| with_password(&row)).transpose()
}

/// What a login is compared with.
#[derive(Debug, Default)]
pub struct LoginCandidate {
    /// The user of that login.
    pub user: Option<UserWithPassword>,
    /// Where there is none, the hash of another user, who stands next to the login in the index: an
    /// unknown login then takes the work of a known one, whatever kinds of hashes there are.
    pub other_hash: Option<String>,
    /// The guesses so far; `None`: not read.
    pub guesses: Option<GuessState>,
}

/// As [`by_login`], for a login: one statement, which does the same work for a known and an unknown
/// login. `unknown`: where guesses at this login count if no user has it.
pub async fn login_candidate(
    db: &Db,
    login: &Login,
    unknown: &GuessedAccount,
    source: &LoginSource,
) -> Result<LoginCandidate> {
    if login.as_str().contains('\0') {
        return Ok(LoginCandidate::default());
    }
    macro_rules! select {
        ($canonical:literal) => {
            concat!(
                "SELECT u.id, u.email, u.username, u.role, u.is_verified, u.created_at, u.disabled_at, \
                 u.password_hash, u.deletion_at, u.deletion_is_final, u.canonical, ",
                second_factor_columns!(),
                ", ",
                password_guesses_columns!(),
                " FROM (SELECT id, email, username, role, is_verified, created_at, disabled_at, \
                 password_hash, second_factor_at, deletion_at, deletion_is_final, ",
                $canonical,
                " AS canonical FROM users WHERE ",
                $canonical,
                " >= $1 ORDER BY ",
                $canonical,
                " LIMIT 1) u ",
                password_guesses_joins!()
            )
        };
    }
    let statement = match login {
        Login::Email(_) => select!("email_canonical"),
        Login::Username(_) => select!("username_canonical"),
    };
    let statement = Statement::new(statement).bind(login.as_str());
    let Some(row) = one(db.read(guesses::bind_state(statement, unknown, source)).await?) else {
        return Ok(LoginCandidate::default());
    };
    let guesses = Some(guesses::read_state(&row, source)?);
    let password_hash: String = row.get("password_hash")?;
    if row.get::<String>("canonical")? != login.as_str() {
        return Ok(LoginCandidate { user: None, other_hash: Some(password_hash), guesses });
    }
    Ok(LoginCandidate { user: Some(with_password(&row)?), other_hash: None, guesses })
}

/// Finds a user by id.
pub async fn by_id(db: &Db, id: &UserId) -> Result<Option<User>> {
    if id.contains('\0') {
        return Ok(None);
    }
    let rows = db
        .read(
            Statement::new(
                "SELECT id, email, username, role, is_verified, created_at, disabled_at FROM users WHERE id = $1",
            )
            .bind(id),
        )
        .await?;
    one(rows).map(|row| from_row(&row, &COLUMNS)).transpose()
}

/// The names of users by id: the username, else the email address. Unknown ids are omitted.
pub async fn names(db: &Db, ids: &BTreeSet<&str>) -> Result<HashMap<String, String>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    macro_rules! select {
        ($list:literal) => {
            concat!(
                "SELECT id, COALESCE(username, email) AS name FROM users WHERE id IN (",
                $list,
                ")"
            )
        };
    }
    let list = serde_json::to_string(ids).map_err(|error| Error::Corrupt(error.to_string()))?;
    let statement = Statement::new(select!("SELECT value FROM json_each($1)"))
        .for_postgres(select!("SELECT json_array_elements_text(CAST($1 AS json))"));
    let rows = db.read(statement.bind(list)).await?;
    rows.iter().map(|row| Ok((row.get("id")?, row.get("name")?))).collect()
}

/// As [`by_id`]; the user cannot be disabled, changed or removed until the transaction ends.
pub async fn lock_shared(tx: &mut Tx, id: &UserId) -> Result<Option<User>> {
    macro_rules! select {
        ($lock:literal) => {
            concat!(
                "SELECT id, email, username, role, is_verified, created_at, disabled_at FROM users WHERE id = $1",
                $lock
            )
        };
    }
    if id.contains('\0') {
        return Ok(None);
    }
    let statement = Statement::new(select!("")).locking(select!(" FOR SHARE"));
    let rows = tx.run(statement.bind(id)).await?;
    one(rows).map(|row| from_row(&row, &COLUMNS)).transpose()
}

/// Records a login if the user is still enabled and the password is still the verified one; `false`
/// otherwise. The row stays locked until the session is inserted, so that a login cannot overtake a
/// concurrent disabling or password change, nor a second factor that is added or removed: `false` as
/// well if the user has one and the login had none, or the other way round. `new_hash` replaces an
/// outdated hash.
pub async fn record_login(
    tx: &mut Tx,
    id: &UserId,
    verified_hash: &str,
    new_hash: Option<String>,
    has_second_factor: bool,
    now: Timestamp,
) -> Result<bool> {
    let rows = tx
        .run(
            Statement::new(
                "UPDATE users SET last_login_at = $3, password_hash = COALESCE($4, password_hash) \
                 WHERE id = $1 AND password_hash = $2 AND disabled_at IS NULL \
                 AND (second_factor_at IS NOT NULL) = $5 RETURNING id",
            )
            .bind(id)
            .bind(verified_hash)
            .bind(now)
            .bind(new_hash)
            .bind(has_second_factor),
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Replaces an outdated hash of the same password, if it is still the verified one.
pub async fn renew_hash(tx: &mut Tx, id: &UserId, verified: &str, new: &str) -> Result<bool> {
    let statement = Statement::new(
        "UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2 RETURNING id",
    );
    Ok(!tx.run(statement.bind(id).bind(verified).bind(new)).await?.is_empty())
}

/// Disables (`Some`) or enables (`None`) a user; `false` if there is no such user. A deletion that
/// the user has requested becomes final, or is cancelled.
pub async fn set_disabled(
    tx: &mut Tx,
    id: &UserId,
    disabled_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<bool> {
    let rows = tx
        .run(
            Statement::new(concat!(
                "UPDATE users SET disabled_at = $2, \
                 deletion_at = CASE WHEN $2 IS NULL THEN NULL ELSE deletion_at END, \
                 deletion_is_final = ($2 IS NOT NULL AND deletion_at IS NOT NULL), ",
                updated_at!("$3"),
                " WHERE id = $1 RETURNING id"
            ))
            .bind(id)
            .bind(disabled_at)
            .bind(now),
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Disables an enabled user, who is to be deleted at that time.
pub async fn request_deletion(
    tx: &mut Tx,
    id: &UserId,
    deletion_at: Timestamp,
    now: Timestamp,
) -> Result<()> {
    let statement = Statement::new(concat!(
        "UPDATE users SET disabled_at = $3, deletion_at = $2, deletion_is_final = FALSE, ",
        updated_at!("$3"),
        " WHERE id = $1"
    ));
    tx.run(statement.bind(id).bind(deletion_at).bind(now)).await?;
    Ok(())
}

/// Enables a user whose deletion can be cancelled, if the password is still the verified one;
/// `false` otherwise.
pub async fn cancel_deletion(
    tx: &mut Tx,
    id: &UserId,
    verified_hash: &str,
    now: Timestamp,
) -> Result<bool> {
    let statement = Statement::new(concat!(
        "UPDATE users SET disabled_at = NULL, deletion_at = NULL, ",
        updated_at!("$3"),
        " WHERE id = $1 AND password_hash = $2 AND deletion_at IS NOT NULL AND NOT deletion_is_final \
         RETURNING id"
    ));
    Ok(!tx.run(statement.bind(id).bind(verified_hash).bind(now)).await?.is_empty())
}

/// Up to `most` users whose deletion is due, by its time and then their id: those past `after`.
pub async fn due_deletions(
    db: &Db,
    now: Timestamp,
    after: (Timestamp, &str),
    most: i64,
) -> Result<Vec<(Timestamp, UserId)>> {
    let statement = Statement::new(
        "SELECT deletion_at, id FROM users WHERE deletion_at <= $1 \
         AND (deletion_at > $2 OR (deletion_at = $2 AND id > $3)) ORDER BY deletion_at, id LIMIT $4",
    );
    let rows = db.read(statement.bind(now).bind(after.0).bind(after.1).bind(most)).await?;
    rows.iter().map(|row| Ok((Timestamp(row.get("deletion_at")?), row.get("id")?))).collect()
}

/// Replaces the password hash; `false` if there is no such user.
pub async fn set_password(tx: &mut Tx, id: &UserId, hash: String, now: Timestamp) -> Result<bool> {
    let rows = tx
        .run(
            Statement::new(concat!(
                "UPDATE users SET password_hash = $2, ",
                updated_at!("$3"),
                " WHERE id = $1 RETURNING id"
            ))
            .bind(id)
            .bind(hash)
            .bind(now),
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Records that the email address is verified.
pub async fn set_verified(tx: &mut Tx, id: &UserId, now: Timestamp) -> Result<()> {
    tx.run(
        Statement::new(concat!(
            "UPDATE users SET is_verified = TRUE, ",
            updated_at!("$2"),
            " WHERE id = $1"
        ))
        .bind(id)
        .bind(now),
    )
    .await?;
    Ok(())
}

/// Records that the user is told of a login from a new device; `false` if that has happened since
/// `since`.
pub async fn record_login_notice(
    tx: &mut Tx,
    id: &UserId,
    since: Timestamp,
    now: Timestamp,
) -> Result<bool> {
    let statement = Statement::new(
        "UPDATE users SET login_notice_at = $3 WHERE id = $1 \
         AND (login_notice_at IS NULL OR login_notice_at <= $2) RETURNING id",
    );
    Ok(!tx.run(statement.bind(id).bind(since).bind(now)).await?.is_empty())
}

/// Records that the user has accepted terms; `false` if there is no such user.
pub async fn accept_terms(tx: &mut Tx, id: &UserId, version: &str, now: Timestamp) -> Result<bool> {
    let statement = Statement::new(concat!(
        "UPDATE users SET terms_version = $2, terms_accepted_at = $3, ",
        updated_at!("$3"),
        " WHERE id = $1 RETURNING id"
    ));
    Ok(!tx.run(statement.bind(id).bind(version).bind(now)).await?.is_empty())
}

/// Keeps the language of mails to a user.
pub async fn set_language(tx: &mut Tx, id: &UserId, language: &str) -> Result<()> {
    let statement = Statement::new("UPDATE users SET language = $2 WHERE id = $1");
    tx.run(statement.bind(id).bind(language)).await?;
    Ok(())
}

/// The language of mails to a user; `None` where none is known.
pub async fn language(tx: &mut Tx, id: &UserId) -> Result<Option<String>> {
    let rows = tx.run(Statement::new("SELECT language FROM users WHERE id = $1").bind(id)).await?;
    one(rows).map_or(Ok(None), |row| row.get("language"))
}

/// The password hash of an enabled user.
pub async fn password_hash(db: &Db, id: &UserId) -> Result<Option<String>> {
    let statement =
        Statement::new("SELECT password_hash FROM users WHERE id = $1 AND disabled_at IS NULL");
    one(db.read(statement.bind(id)).await?).map(|row| row.get("password_hash")).transpose()
}

/// Whether a locked user still has this password hash.
pub async fn has_password_hash(tx: &mut Tx, id: &UserId, hash: &str) -> Result<bool> {
    let statement = Statement::new("SELECT id FROM users WHERE id = $1 AND password_hash = $2");
    Ok(!tx.run(statement.bind(id).bind(hash)).await?.is_empty())
}

/// Records whether the user service has yet to create the profile.
pub async fn set_pending(tx: &mut Tx, id: &UserId, is_pending: bool) -> Result<()> {
    let state = is_pending.then_some("pending");
    let statement = Statement::new("UPDATE users SET provisioning = $2 WHERE id = $1");
    tx.run(statement.bind(id).bind(state)).await?;
    Ok(())
}

/// Whether the user service has yet to create the profile.
pub async fn is_pending(db: &Db, id: &UserId) -> Result<bool> {
    let statement =
        Statement::new("SELECT id FROM users WHERE id = $1 AND provisioning = 'pending'");
    Ok(!db.read(statement.bind(id)).await?.is_empty())
}

/// Changes the role; `false` if there is no such user.
pub async fn set_role(tx: &mut Tx, id: &UserId, role: &Role, now: Timestamp) -> Result<bool> {
    let rows = tx
        .run(
            Statement::new(concat!(
                "UPDATE users SET role = $2, ",
                updated_at!("$3"),
                " WHERE id = $1 RETURNING id"
            ))
            .bind(id)
            .bind(role.as_str())
            .bind(now),
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Filters of [`page`]; `None` matches every user.
#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    pub email: Option<TextMatch>,
    pub username: Option<TextMatch>,
    pub role: Option<String>,
    pub disabled: Option<bool>,
    pub external_id: Option<String>,
}

/// A text in canonical form, or a prefix of one.
#[derive(Clone, Debug)]
pub enum TextMatch {
    Whole(String),
    Prefix(String),
}

impl TextMatch {
    fn split(this: Option<&Self>) -> (Option<&str>, Option<String>) {
        match this {
            Some(Self::Whole(text)) => (Some(text), None),
            Some(Self::Prefix(text)) => (None, Some(super::starting_with(text))),
            None => (None, None),
        }
    }
}

/// Up to `most` matching users with ids above `after`, in order.
pub async fn page(db: &Db, filter: &UserFilter, after: &str, most: i64) -> Result<Vec<UserRecord>> {
    let (email, email_prefix) = TextMatch::split(filter.email.as_ref());
    let (username, username_prefix) = TextMatch::split(filter.username.as_ref());
    let statement = Statement::new(select_records!("WHERE id > $1"))
        .bind(after)
        .filter("AND email_canonical = $", email)
        .filter("AND email_canonical LIKE $ ESCAPE '!'", email_prefix)
        .filter("AND username_canonical = $", username)
        .filter("AND username_canonical LIKE $ ESCAPE '!'", username_prefix)
        .filter("AND role = $", filter.role.as_deref())
        .filter("AND external_id = $", filter.external_id.as_deref())
        .only_if(filter.disabled == Some(true), "AND disabled_at IS NOT NULL")
        .only_if(filter.disabled == Some(false), "AND disabled_at IS NULL")
        .with("ORDER BY id LIMIT $", most);
    db.read(statement).await?.iter().map(record_from_row).collect()
}

/// Finds a user by id, as administrators see it.
pub async fn record_by_id(db: &Db, id: &UserId) -> Result<Option<UserRecord>> {
    // PostgreSQL rejects statements with NUL in a text value; no user has such an id.
    if id.contains('\0') {
        return Ok(None);
    }
    let statement = Statement::new(select_records!("WHERE id = $1")).bind(id);
    one(db.read(statement).await?).map(|row| record_from_row(&row)).transpose()
}

/// As [`by_login`], as administrators see the user.
pub async fn record_by_login(db: &Db, login: &Login) -> Result<Option<UserRecord>> {
    if login.as_str().contains('\0') {
        return Ok(None);
    }
    let statement = Statement::new(match login {
        Login::Email(_) => select_records!("WHERE email_canonical = $1"),
        Login::Username(_) => select_records!("WHERE username_canonical = $1"),
    });
    let rows = db.read(statement.bind(login.as_str())).await?;
    one(rows).map(|row| record_from_row(&row)).transpose()
}

/// Finds a user by the id in the system that they were imported from.
pub async fn record_by_external_id(db: &Db, id: &str) -> Result<Option<UserRecord>> {
    if id.contains('\0') {
        return Ok(None);
    }
    let statement = Statement::new(select_records!("WHERE external_id = $1")).bind(id);
    one(db.read(statement).await?).map(|row| record_from_row(&row)).transpose()
}

/// As [`record_by_id`], for a transaction that changes the user: other changes wait until it ends.
/// Inserting rows that refer to the user, such as authorization codes, does not wait.
pub async fn lock(tx: &mut Tx, id: &UserId) -> Result<Option<UserRecord>> {
    let statement = Statement::new(select_records!("WHERE id = $1"))
        .locking(select_records!("WHERE id = $1 FOR NO KEY UPDATE"))
        .bind(id);
    let Some(row) = one(tx.run(statement).await?) else { return Ok(None) };
    // Behind the lock, so that it is what an earlier transaction has stored.
    let profile = profiles::of_locked(tx, id).await?;
    Ok(Some(UserRecord { profile, ..record_from_row(&row)? }))
}

/// The ids of the enabled administrators. Transactions that would disable, demote or remove one
/// wait until this one ends, so that two of them cannot remove the last two. Call it before any
/// other lock on a user.
pub async fn lock_admins(tx: &mut Tx) -> Result<Vec<UserId>> {
    macro_rules! admins {
        ($lock:literal) => {
            concat!(
                "SELECT id FROM users WHERE role = 'admin' AND disabled_at IS NULL ORDER BY id",
                $lock
            )
        };
    }
    let statement = Statement::new(admins!("")).locking(admins!(" FOR NO KEY UPDATE"));
    tx.run(statement).await?.iter().map(|row| row.get("id")).collect()
}

/// The new values of a user; `None` keeps the current value.
#[derive(Debug)]
pub struct UserUpdate {
    pub email: Option<Email>,
    /// `Some(None)` removes the username.
    pub username: Option<Option<Username>>,
    pub role: Role,
    pub is_verified: bool,
    pub profile: Option<UserProfile>,
}

/// Updates a user found by [`lock`].
///
/// # Errors
/// [`Error::Conflict`] if the email address or the username is taken.
pub async fn update(tx: &mut Tx, id: &UserId, to: UserUpdate, now: Timestamp) -> Result<()> {
    let (email, email_canonical) = to.email.map(|e| (e.address, e.canonical)).unzip();
    let sets_username = to.username.is_some();
    let username = to.username.flatten();
    let (username, username_canonical) = username.map(|u| (u.name, u.canonical)).unzip();
    tx.run(
        Statement::new(concat!(
            "UPDATE users SET email = COALESCE($2, email), email_canonical = COALESCE($3, email_canonical), \
             username = CASE WHEN $4 THEN $5 ELSE username END, \
             username_canonical = CASE WHEN $4 THEN $6 ELSE username_canonical END, role = $7, is_verified = $8, ",
            updated_at!("$9"),
            " WHERE id = $1"
        ))
        .bind(id)
        .bind(email)
        .bind(email_canonical)
        .bind(sets_username)
        .bind(username)
        .bind(username_canonical)
        .bind(to.role.as_str())
        .bind(to.is_verified)
        .bind(now),
    )
    .await?;
    profiles::updated(tx, id, to.profile.as_ref(), now).await
}

/// Blanks what tables without a reference to the user say about them: the email address and the
/// username in the outbox and the audit log, and IP addresses in the audit log and in denied
/// requests. What remains are ids.
pub async fn blank(tx: &mut Tx, id: &UserId) -> Result<()> {
    // First, while the addresses are known: a denied request does not say whose it is.
    tx.run(
        Statement::new(
            "UPDATE denied_requests SET address = NULL WHERE address IN (\
             SELECT address FROM sessions WHERE user_id = $1 \
             UNION SELECT address FROM browser_sessions WHERE user_id = $1 \
             UNION SELECT address FROM audit_log WHERE actor = $1 AND address IS NOT NULL)",
        )
        .bind(id),
    )
    .await?;
    tx.run(
        Statement::new(
            "UPDATE audit_log SET address = NULL WHERE actor = $1 \
             OR (actor = 'anonymous' AND subject = $1) \
             OR actor IN (SELECT subject FROM sessions WHERE user_id = $1)",
        )
        .bind(id),
    )
    .await?;
    // `json_replace` and `create_if_missing = false` leave out what is not there.
    tx.run(
        Statement::new(
            "UPDATE audit_log SET detail = json_replace(detail, '$.email', NULL, '$.username', NULL) \
             WHERE subject = $1 AND action = 'user.updated'",
        )
        .for_postgres(
            "UPDATE audit_log SET detail = CAST(jsonb_set(jsonb_set(CAST(detail AS jsonb), '{email}', 'null', \
             false), '{username}', 'null', false) AS TEXT) WHERE subject = $1 AND action = 'user.updated'",
        )
        .bind(id),
    )
    .await?;
    tx.run(
        Statement::new(
            "UPDATE outbox SET data = json_replace(data, '$.email', NULL, '$.username', NULL) \
             WHERE subject = $1 AND type = 'user.created'",
        )
        .for_postgres(
            "UPDATE outbox SET data = CAST(jsonb_set(jsonb_set(CAST(data AS jsonb), '{email}', 'null', false), \
             '{username}', 'null', false) AS TEXT) WHERE subject = $1 AND type = 'user.created'",
        )
        .bind(id),
    )
    .await?;
    // A request that this user's browser has used may carry a `login_hint`.
    tx.run(
        Statement::new(
            "DELETE FROM pushed_requests WHERE used_by IN (SELECT id FROM browser_sessions WHERE user_id = $1)",
        )
        .bind(id),
    )
    .await?;
    tx.run(Statement::new("DELETE FROM idempotency_keys WHERE actor = $1").bind(id)).await?;
    Ok(())
}

/// Removes a user with sessions, consents and modules. Revoke the sessions first: the entries of
/// the revocation list are derived from their rows.
pub async fn remove(tx: &mut Tx, id: &UserId) -> Result<()> {
    for kind in [guesses::Kind::Password, guesses::Kind::Code] {
        guesses::forget_all(tx, id, kind).await?;
    }
    tx.run(Statement::new("DELETE FROM users WHERE id = $1").bind(id)).await?;
    Ok(())
}

fn record_from_row(row: &Row) -> Result<UserRecord> {
    Ok(UserRecord {
        user: from_row(row, &COLUMNS)?,
        updated_at: Timestamp(row.get("updated_at")?),
        last_login_at: row.get::<Option<i64>>("last_login_at")?.map(Timestamp),
        external_id: row.get("external_id")?,
        deletion: deletion_of(row)?,
        terms: terms_of(row)?,
        profile: profiles::from_row(row, "profile")?,
    })
}

fn terms_of(row: &Row) -> Result<Option<AcceptedTerms>> {
    let version: Option<String> = row.get("terms_version")?;
    let at = row.get::<Option<i64>>("terms_accepted_at")?.map(Timestamp);
    Ok(version.zip(at).map(|(version, at)| AcceptedTerms { version, at }))
}

fn deletion_of(row: &Row) -> Result<Option<Deletion>> {
    let is_final = row.get("deletion_is_final")?;
    let at = row.get::<Option<i64>>("deletion_at")?.map(Timestamp);
    Ok(at.map(|at| Deletion { at, is_final }))
}

/// Whether the first administrator was created; stays true forever (threat T79).
pub async fn is_bootstrapped(db: &Db) -> Result<bool> {
    let rows = db
        .read(Statement::new("SELECT at FROM bootstrap_markers WHERE name = 'first_admin'"))
        .await?;
    Ok(!rows.is_empty())
}

/// Records that the first administrator was created.
///
/// # Errors
/// [`Error::Conflict`] if it was recorded already.
pub async fn mark_bootstrapped(tx: &mut Tx, now: Timestamp) -> Result<()> {
    tx.run(
        Statement::new("INSERT INTO bootstrap_markers (name, at) VALUES ('first_admin', $1)")
            .bind(now),
    )
    .await?;
    Ok(())
}

/// The column names of a user, in the order of [`from_row`].
pub(super) const COLUMNS: [&str; 7] =
    ["id", "email", "username", "role", "is_verified", "created_at", "disabled_at"];

/// The same for statements on other tables that include a user.
pub(super) const PREFIXED: [&str; 7] = [
    "user_id",
    "user_email",
    "user_username",
    "user_role",
    "user_is_verified",
    "user_created_at",
    "user_disabled_at",
];

/// A column with a user, for statements whose RETURNING cannot refer to a joined table (SQLite);
/// parsed by [`read_user`]. One sub-select with all values, none of which has a control character:
/// PostgreSQL begins and ends each sub-select of a statement, whether or not it is needed.
macro_rules! user_column {
    ($user:literal) => {
        concat!(
            "(SELECT u.email || '\n' || COALESCE(u.username, '') || '\n' || u.role || '\n' || \
             CASE WHEN u.is_verified THEN '1' ELSE '' END || '\n' || u.created_at || '\n' || \
             COALESCE(CAST(u.disabled_at AS TEXT), '') FROM users u WHERE u.id = ",
            $user,
            ") AS user_columns"
        )
    };
}
pub(super) use user_column;

/// Parses the column of [`user_column!`].
pub(super) fn read_user(row: &Row, id: UserId) -> Result<User> {
    let text: String = row.get("user_columns")?;
    let corrupt = |what| Error::Corrupt(format!("{what} of the user {id}"));
    let columns: Vec<&str> = text.split('\n').collect();
    let [email, username, role, is_verified, created_at, disabled_at] = columns[..] else {
        return Err(corrupt("the names"));
    };
    let time = |text: &str| text.parse().map(Timestamp).map_err(|_| corrupt("a time"));
    Ok(User {
        email: email.to_owned(),
        username: (!username.is_empty()).then(|| username.to_owned()),
        role: Role::parse(role).map_err(|_| corrupt("the role"))?,
        is_verified: !is_verified.is_empty(),
        created_at: time(created_at)?,
        disabled_at: if disabled_at.is_empty() { None } else { Some(time(disabled_at)?) },
        id,
    })
}

/// Reads a user from the named columns.
pub(super) fn from_row(row: &Row, columns: &[&str; 7]) -> Result<User> {
    let [id, email, username, role, is_verified, created_at, disabled_at] = *columns;
    let role: String = row.get(role)?;
    Ok(User {
        id: row.get(id)?,
        email: row.get(email)?,
        username: row.get(username)?,
        role: Role::parse(&role).map_err(|_| Error::Corrupt(format!("role {role:?}")))?,
        is_verified: row.get(is_verified)?,
        created_at: Timestamp(row.get(created_at)?),
        disabled_at: row.get::<Option<i64>>(disabled_at)?.map(Timestamp),
    })
}

/// The names of a user with their stored canonical forms.
#[derive(Clone, Debug)]
pub struct LoginNames {
    pub id: UserId,
    pub email: String,
    pub email_canonical: String,
    pub username: Option<String>,
    pub username_canonical: Option<String>,
}

/// Up to `most` users with ids above `after`, in order.
pub async fn login_names(db: &Db, after: &str, most: i64) -> Result<Vec<LoginNames>> {
    let statement = Statement::new(
        "SELECT id, email, email_canonical, username, username_canonical FROM users \
         WHERE id > $1 ORDER BY id LIMIT $2",
    );
    let rows = db.read(statement.bind(after).bind(most)).await?;
    rows.iter()
        .map(|row| {
            Ok(LoginNames {
                id: row.get("id")?,
                email: row.get("email")?,
                email_canonical: row.get("email_canonical")?,
                username: row.get("username")?,
                username_canonical: row.get("username_canonical")?,
            })
        })
        .collect()
}

/// Replaces the stored canonical form of an email address or a username that has not changed since
/// it was read.
///
/// # Errors
/// [`Error::Conflict`] if another user has it.
pub async fn set_canonical(tx: &mut Tx, id: &UserId, name: &str, canonical: &Login) -> Result<()> {
    let statement = match canonical {
        Login::Email(_) => "UPDATE users SET email_canonical = $3 WHERE id = $1 AND email = $2",
        Login::Username(_) => {
            "UPDATE users SET username_canonical = $3 WHERE id = $1 AND username = $2"
        }
    };
    tx.run(Statement::new(statement).bind(id).bind(name).bind(canonical.as_str())).await?;
    Ok(())
}
