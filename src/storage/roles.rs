//! Roles of users.

use super::{Db, Result, Row, Statement, Tx, statement::one};
use crate::{
    clock::Timestamp,
    model::user::{Role, RoleEntry, RoleSettings},
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT r.name, r.description, r.require_second_factor, r.created_at, r.updated_at, \
             (SELECT COUNT(*) FROM users u WHERE u.role = r.name) AS users FROM roles r ",
            $rest
        )
    };
}

/// Every role with the number of its users, ordered by name.
pub async fn all(db: &Db) -> Result<Vec<RoleEntry>> {
    let statement = Statement::new(select!("ORDER BY r.name"));
    db.read(statement).await?.iter().map(entry).collect()
}

/// As [`all`], up to `most` roles with names above `after`.
pub async fn page(db: &Db, after: &str, most: i64) -> Result<Vec<RoleEntry>> {
    let statement = Statement::new(select!("WHERE r.name > $1 ORDER BY r.name LIMIT $2"));
    db.read(statement.bind(after).bind(most)).await?.iter().map(entry).collect()
}

/// Finds a role by its name.
pub async fn by_name(db: &Db, name: &str) -> Result<Option<RoleEntry>> {
    let statement = Statement::new(select!("WHERE r.name = $1")).bind(name);
    one(db.read(statement).await?).map(|row| entry(&row)).transpose()
}

/// As [`by_name`], for a transaction that changes the role: other changes of it wait until it ends.
pub async fn lock(tx: &mut Tx, role: &Role) -> Result<Option<RoleEntry>> {
    let statement = Statement::new(select!("WHERE r.name = $1"))
        .locking(select!("WHERE r.name = $1 FOR UPDATE OF r"))
        .bind(role.as_str());
    one(tx.run(statement).await?).map(|row| entry(&row)).transpose()
}

/// Adds a role.
///
/// # Errors
/// [`super::Error::Conflict`] if the name is taken.
pub async fn insert(
    tx: &mut Tx,
    role: &Role,
    settings: &RoleSettings,
    now: Timestamp,
) -> Result<()> {
    let statement = Statement::new(
        "INSERT INTO roles (name, description, require_second_factor, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $4)",
    );
    let RoleSettings { description, require_second_factor } = settings;
    let statement = statement.bind(role.as_str()).bind(description.as_str());
    tx.run(statement.bind(*require_second_factor).bind(now)).await?;
    Ok(())
}

/// Whether the role exists; it cannot be removed until the transaction ends.
pub async fn exists(tx: &mut Tx, role: &Role) -> Result<bool> {
    const BY_NAME: &str = "SELECT name FROM roles WHERE name = $1";
    let statement =
        Statement::new(BY_NAME).locking("SELECT name FROM roles WHERE name = $1 FOR SHARE");
    Ok(!tx.run(statement.bind(role.as_str())).await?.is_empty())
}

/// Adds a role, or replaces its settings.
pub async fn put(tx: &mut Tx, role: &Role, settings: &RoleSettings, now: Timestamp) -> Result<()> {
    let statement = Statement::new(
        "INSERT INTO roles (name, description, require_second_factor, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $4) \
         ON CONFLICT (name) DO UPDATE SET description = $2, require_second_factor = $3, \
         updated_at = CASE WHEN roles.updated_at < $4 THEN $4 ELSE roles.updated_at + 1 END",
    );
    let RoleSettings { description, require_second_factor } = settings;
    let statement = statement.bind(role.as_str()).bind(description.as_str());
    tx.run(statement.bind(*require_second_factor).bind(now)).await?;
    Ok(())
}

/// Removes a role found by [`lock`]; `false` if a user has it, or will have it by an invitation.
pub async fn remove(tx: &mut Tx, role: &Role, now: Timestamp) -> Result<bool> {
    let statement = Statement::new(
        "DELETE FROM roles WHERE name = $1 AND NOT EXISTS (SELECT 1 FROM users u WHERE u.role = $1) \
         AND NOT EXISTS (SELECT 1 FROM invitations i WHERE i.role = $1 AND i.used_at IS NULL AND i.expires_at > $2) \
         RETURNING name",
    );
    let rows = tx.run(statement.bind(role.as_str()).bind(now)).await?;
    Ok(one(rows).is_some())
}

fn entry(row: &Row) -> Result<RoleEntry> {
    let name: String = row.get("name")?;
    Ok(RoleEntry {
        role: Role::parse(&name).map_err(|_| super::Error::Corrupt(format!("role {name:?}")))?,
        settings: RoleSettings {
            description: row.get("description")?,
            require_second_factor: row.get("require_second_factor")?,
        },
        users: row.get("users")?,
        created_at: Timestamp(row.get("created_at")?),
        updated_at: Timestamp(row.get("updated_at")?),
    })
}
