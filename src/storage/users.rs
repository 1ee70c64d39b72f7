//! Accounts.

use super::{Db, Error, Result, Row, Statement, Tx, statement::one};
use crate::{
    clock::Timestamp,
    model::user::{Email, Login, Role, User, UserRecord, Username},
};

/// Notes the moment of a change. Two changes of one moment still differ: `updated_at` is the account's version.
macro_rules! touched {
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

macro_rules! select_accounts {
    ($rest:literal) => {
        concat!(
            "SELECT id, email, username, role, is_verified, created_at, disabled_at, updated_at, last_login_at \
             FROM users ",
            $rest
        )
    };
}

/// An account with its password's hash.
#[derive(Debug)]
pub struct UserWithPassword {
    pub user: User,
    /// PHC string.
    pub password_hash: String,
}

/// What a new account starts with.
#[derive(Debug)]
pub struct NewUser {
    pub id: String,
    pub email: Email,
    pub username: Option<Username>,
    pub password_hash: String,
    pub role: Role,
}

/// Adds an account.
///
/// # Errors
/// [`Error::Conflict`] where the email address or the username is taken.
pub async fn insert(tx: &mut Tx<'_>, new: NewUser, now: Timestamp) -> Result<User> {
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

/// Finds who logs in with this email address or username.
pub async fn by_login(db: &Db, login: &Login) -> Result<Option<UserWithPassword>> {
    // PostgreSQL's text holds no NUL and refuses the statement: nobody can be called so.
    if login.as_str().contains('\0') {
        return Ok(None);
    }
    let statement = match login {
        Login::Email(_) => {
            "SELECT id, email, username, role, is_verified, created_at, disabled_at, password_hash \
             FROM users WHERE email_canonical = $1"
        }
        Login::Username(_) => {
            "SELECT id, email, username, role, is_verified, created_at, disabled_at, password_hash \
             FROM users WHERE username_canonical = $1"
        }
    };
    let rows = db.read(Statement::new(statement).bind(login.as_str())).await?;
    one(rows)
        .map(|row| {
            Ok(UserWithPassword {
                user: from_row(&row, &COLUMNS)?,
                password_hash: row.get("password_hash")?,
            })
        })
        .transpose()
}

/// Finds an account by its id.
pub async fn by_id(db: &Db, id: &str) -> Result<Option<User>> {
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

/// The account, which nobody can disable, change or remove until the transaction ends.
pub async fn lock_shared(tx: &mut Tx<'_>, id: &str) -> Result<Option<User>> {
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

/// Notes a login, if the account is still enabled and its password still the one that was verified: the
/// row is locked until the session stands, so a login cannot slip past a disabling or a password change
/// that happened while the password was being hashed. `new_hash` replaces an outdated hash on the way.
pub async fn record_login(
    tx: &mut Tx<'_>,
    id: &str,
    verified_hash: &str,
    new_hash: Option<String>,
    now: Timestamp,
) -> Result<bool> {
    let rows = tx
        .run(
            Statement::new(
                "UPDATE users SET last_login_at = $3, password_hash = COALESCE($4, password_hash) \
                 WHERE id = $1 AND password_hash = $2 AND disabled_at IS NULL RETURNING id",
            )
            .bind(id)
            .bind(verified_hash)
            .bind(now)
            .bind(new_hash),
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Disables (`Some`) or enables (`None`) an account; `false` where there is none.
pub async fn set_disabled(
    tx: &mut Tx<'_>,
    id: &str,
    disabled_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<bool> {
    let rows = tx
        .run(
            Statement::new(concat!(
                "UPDATE users SET disabled_at = $2, ",
                touched!("$3"),
                " WHERE id = $1 RETURNING id"
            ))
            .bind(id)
            .bind(disabled_at)
            .bind(now),
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Replaces the password's hash; `false` where there is no such account.
pub async fn set_password(tx: &mut Tx<'_>, id: &str, hash: String, now: Timestamp) -> Result<bool> {
    let rows = tx
        .run(
            Statement::new(concat!(
                "UPDATE users SET password_hash = $2, ",
                touched!("$3"),
                " WHERE id = $1 RETURNING id"
            ))
            .bind(id)
            .bind(hash)
            .bind(now),
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Changes the role; `false` where there is no such account.
pub async fn set_role(tx: &mut Tx<'_>, id: &str, role: &Role, now: Timestamp) -> Result<bool> {
    let rows = tx
        .run(
            Statement::new(concat!(
                "UPDATE users SET role = $2, ",
                touched!("$3"),
                " WHERE id = $1 RETURNING id"
            ))
            .bind(id)
            .bind(role.as_str())
            .bind(now),
        )
        .await?;
    Ok(!rows.is_empty())
}

/// A page of accounts in order of their ids, from behind `after`.
pub async fn list(db: &Db, after: &str, most: i64) -> Result<Vec<User>> {
    let rows = db
        .read(
            Statement::new(
                "SELECT id, email, username, role, is_verified, created_at, disabled_at FROM users \
                 WHERE id > $1 ORDER BY id LIMIT $2",
            )
            .bind(after)
            .bind(most),
        )
        .await?;
    rows.iter().map(|row| from_row(row, &COLUMNS)).collect()
}

/// Which accounts a list shall have; `None`: whatever it is.
#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    pub email: Option<TextMatch>,
    pub username: Option<TextMatch>,
    pub role: Option<String>,
    pub disabled: Option<bool>,
}

/// A text in its canonical form, or how it begins.
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

/// A page of the accounts that fit, in order of their ids, from behind `after`.
pub async fn page(db: &Db, filter: &UserFilter, after: &str, most: i64) -> Result<Vec<UserRecord>> {
    let (email, email_prefix) = TextMatch::split(filter.email.as_ref());
    let (username, username_prefix) = TextMatch::split(filter.username.as_ref());
    let statement = Statement::new(select_accounts!("WHERE id > $1"))
        .bind(after)
        .filter("AND email_canonical = $", email)
        .filter("AND email_canonical LIKE $ ESCAPE '!'", email_prefix)
        .filter("AND username_canonical = $", username)
        .filter("AND username_canonical LIKE $ ESCAPE '!'", username_prefix)
        .filter("AND role = $", filter.role.as_deref())
        .only_if(filter.disabled == Some(true), "AND disabled_at IS NOT NULL")
        .only_if(filter.disabled == Some(false), "AND disabled_at IS NULL")
        .with("ORDER BY id LIMIT $", most);
    db.read(statement).await?.iter().map(account).collect()
}

/// Finds an account by its id, as those see it who look after it.
pub async fn record_by_id(db: &Db, id: &str) -> Result<Option<UserRecord>> {
    // PostgreSQL's text holds no NUL and refuses the statement: nobody has such an id.
    if id.contains('\0') {
        return Ok(None);
    }
    let statement = Statement::new(select_accounts!("WHERE id = $1")).bind(id);
    one(db.read(statement).await?).map(|row| account(&row)).transpose()
}

/// As [`record_by_id`], for a transaction that will change it: others who would wait until it has ended. Not so those who
/// only refer to the account, by a code for instance: ending their browser's session waits for them.
pub async fn lock(tx: &mut Tx<'_>, id: &str) -> Result<Option<UserRecord>> {
    let statement = Statement::new(select_accounts!("WHERE id = $1"))
        .locking(select_accounts!("WHERE id = $1 FOR NO KEY UPDATE"))
        .bind(id);
    one(tx.run(statement).await?).map(|row| account(&row)).transpose()
}

/// The ids of the enabled administrators. Whoever would make one of them less waits until this transaction has ended, so
/// that no two of them can each leave the other as the last one. Take it before any other lock on an account.
pub async fn lock_admins(tx: &mut Tx<'_>) -> Result<Vec<String>> {
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

/// What an account becomes; `None` leaves it as it is.
#[derive(Debug)]
pub struct UserUpdate {
    pub email: Option<Email>,
    /// `Some(None)`: it has none any more.
    pub username: Option<Option<Username>>,
    pub role: Role,
    pub is_verified: bool,
}

/// Changes an account that [`lock`] has found.
///
/// # Errors
/// [`Error::Conflict`] where the email address or the username is another account's.
pub async fn update(tx: &mut Tx<'_>, id: &str, to: UserUpdate, now: Timestamp) -> Result<()> {
    let (email, email_canonical) = to.email.map(|e| (e.address, e.canonical)).unzip();
    let has_new_name = to.username.is_some();
    let username = to.username.flatten();
    let (username, username_canonical) = username.map(|u| (u.name, u.canonical)).unzip();
    tx.run(
        Statement::new(concat!(
            "UPDATE users SET email = COALESCE($2, email), email_canonical = COALESCE($3, email_canonical), \
             username = CASE WHEN $4 THEN $5 ELSE username END, \
             username_canonical = CASE WHEN $4 THEN $6 ELSE username_canonical END, role = $7, is_verified = $8, ",
            touched!("$9"),
            " WHERE id = $1"
        ))
        .bind(id)
        .bind(email)
        .bind(email_canonical)
        .bind(has_new_name)
        .bind(username)
        .bind(username_canonical)
        .bind(to.role.as_str())
        .bind(to.is_verified)
        .bind(now),
    )
    .await?;
    Ok(())
}

/// Removes an account with its sessions, consents and modules. End the sessions first: their entries in the revocation
/// list are made of their rows.
pub async fn remove(tx: &mut Tx<'_>, id: &str) -> Result<()> {
    tx.run(Statement::new("DELETE FROM users WHERE id = $1").bind(id)).await?;
    Ok(())
}

fn account(row: &Row) -> Result<UserRecord> {
    Ok(UserRecord {
        user: from_row(row, &COLUMNS)?,
        updated_at: Timestamp(row.get("updated_at")?),
        last_login_at: row.get::<Option<i64>>("last_login_at")?.map(Timestamp),
    })
}

/// Whether the installation's first administrator was made; true for ever after (threat T79).
pub async fn is_bootstrapped(db: &Db) -> Result<bool> {
    let rows = db
        .read(Statement::new("SELECT at FROM bootstrap_markers WHERE name = 'first_admin'"))
        .await?;
    Ok(!rows.is_empty())
}

/// Closes the set-up for ever.
///
/// # Errors
/// [`Error::Conflict`] where it was closed already.
pub async fn mark_bootstrapped(tx: &mut Tx<'_>, now: Timestamp) -> Result<()> {
    tx.run(
        Statement::new("INSERT INTO bootstrap_markers (name, at) VALUES ('first_admin', $1)")
            .bind(now),
    )
    .await?;
    Ok(())
}

/// The columns of an account, in the order that [`from_row`] wants their names.
pub(super) const COLUMNS: [&str; 7] =
    ["id", "email", "username", "role", "is_verified", "created_at", "disabled_at"];

/// The same where a statement is about something else that has an account.
pub(super) const PREFIXED: [&str; 7] = [
    "user_id",
    "user_email",
    "user_username",
    "user_role",
    "user_is_verified",
    "user_created_at",
    "user_disabled_at",
];

/// Reads an account from the columns of these names.
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
