//! Accounts.

use super::{Db, Error, Result, Row, Statement, Tx, statement::one};
use crate::{
    clock::Timestamp,
    model::user::{Email, Login, Role, User, Username},
};

/// An account with its password's hash.
#[derive(Debug)]
pub struct Credentials {
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
pub async fn by_login(db: &Db, login: &Login) -> Result<Option<Credentials>> {
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
    let rows = db
        .read(Statement::new(statement).bind(login.as_str()))
        .await?;
    one(rows)
        .map(|row| {
            Ok(Credentials {
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

/// Notes a login, if the account is still enabled and its password still the one that was verified: the
/// row is locked until the session stands, so a login cannot slip past a disabling or a password change
/// that happened while the password was being hashed. `new_hash` replaces an outdated hash on the way.
pub async fn note_login(
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
            Statement::new(
                "UPDATE users SET disabled_at = $2, updated_at = $3 WHERE id = $1 RETURNING id",
            )
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
            Statement::new(
                "UPDATE users SET password_hash = $2, updated_at = $3 WHERE id = $1 RETURNING id",
            )
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
            Statement::new(
                "UPDATE users SET role = $2, updated_at = $3 WHERE id = $1 RETURNING id",
            )
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

/// Whether the installation's first administrator was made; true for ever after (threat T79).
pub async fn set_up(db: &Db) -> Result<bool> {
    let rows = db
        .read(Statement::new(
            "SELECT at FROM milestones WHERE name = 'set_up'",
        ))
        .await?;
    Ok(!rows.is_empty())
}

/// Closes the set-up for ever.
///
/// # Errors
/// [`Error::Conflict`] where it was closed already.
pub async fn close_set_up(tx: &mut Tx<'_>, now: Timestamp) -> Result<()> {
    tx.run(Statement::new("INSERT INTO milestones (name, at) VALUES ('set_up', $1)").bind(now))
        .await?;
    Ok(())
}

/// The columns of an account, in the order that [`from_row`] wants their names.
pub(super) const COLUMNS: [&str; 7] = [
    "id",
    "email",
    "username",
    "role",
    "is_verified",
    "created_at",
    "disabled_at",
];

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
    let [
        id,
        email,
        username,
        role,
        is_verified,
        created_at,
        disabled_at,
    ] = *columns;
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
