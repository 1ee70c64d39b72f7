//! Accounts of other systems, a batch at a time. Each statement takes the whole batch as one JSON
//! parameter, so that its text and its number do not depend on the size of the batch.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::{Db, Error, Result, Statement, Tx};
use crate::ids::UserId;

/// An account to import, with the names of its columns.
#[derive(Clone, Debug, Serialize)]
pub struct ImportedUser {
    pub id: UserId,
    pub email: String,
    pub email_canonical: String,
    pub username: Option<String>,
    pub username_canonical: Option<String>,
    pub password_hash: String,
    pub role: String,
    pub is_verified: bool,
    /// Microseconds since the epoch, as the two below.
    pub created_at: i64,
    pub updated_at: i64,
    pub disabled_at: Option<i64>,
    pub external_id: Option<String>,
    /// JSON; `None`: it is empty.
    pub profile: Option<String>,
}

/// What of a batch is taken by users who exist.
#[derive(Debug, Default)]
pub struct Existing {
    /// Canonical email addresses, each with the external id of its user.
    pub emails: HashMap<String, Option<String>>,
    /// In canonical form.
    pub usernames: HashSet<String>,
    pub external_ids: HashSet<String>,
}

/// The users who have one of these names. One statement.
pub async fn existing(db: &Db, batch: &[ImportedUser]) -> Result<Existing> {
    macro_rules! existing {
        ($open:literal, $close:literal) => {
            concat!(
                "SELECT 'email' AS kind, u.email_canonical AS name, u.external_id FROM ",
                $open,
                "$1",
                $close,
                " t JOIN users u ON u.email_canonical = t.value \
                 UNION ALL SELECT 'username', u.username_canonical, NULL FROM ",
                $open,
                "$2",
                $close,
                " t JOIN users u ON u.username_canonical = t.value \
                 UNION ALL SELECT 'external_id', u.external_id, NULL FROM ",
                $open,
                "$3",
                $close,
                " t JOIN users u ON u.external_id = t.value"
            )
        };
    }
    let emails = json(&batch.iter().map(|one| one.email_canonical.as_str()).collect::<Vec<_>>())?;
    let names = |of: fn(&ImportedUser) -> Option<&str>| {
        json(&batch.iter().filter_map(of).collect::<Vec<_>>())
    };
    let usernames = names(|one| one.username_canonical.as_deref())?;
    let external_ids = names(|one| one.external_id.as_deref())?;
    let statement = Statement::new(existing!("json_each(", ")"))
        .for_postgres(existing!("json_array_elements_text(CAST(", " AS json))"));
    let rows = db.read(statement.bind(emails).bind(usernames).bind(external_ids)).await?;
    let mut existing = Existing::default();
    for row in rows {
        let (kind, name): (String, String) = (row.get("kind")?, row.get("name")?);
        match kind.as_str() {
            "email" => drop(existing.emails.insert(name, row.get("external_id")?)),
            "username" => drop(existing.usernames.insert(name)),
            _ => drop(existing.external_ids.insert(name)),
        }
    }
    Ok(existing)
}

/// Adds users; returns the ids of those that were added. The others have a name that somebody has
/// taken since [`existing`].
pub async fn insert(tx: &mut Tx, batch: &[ImportedUser]) -> Result<Vec<UserId>> {
    macro_rules! insert {
        ($select:literal) => {
            concat!(
                "INSERT INTO users (id, email, email_canonical, username, username_canonical, password_hash, role, \
                 is_verified, created_at, updated_at, disabled_at, external_id) ",
                $select,
                " ON CONFLICT DO NOTHING RETURNING id"
            )
        };
    }
    // SQLite needs a WHERE before ON CONFLICT (its documentation, "Parsing Ambiguity").
    let statement = Statement::new(insert!(
        "SELECT value ->> 'id', value ->> 'email', value ->> 'email_canonical', value ->> 'username', \
         value ->> 'username_canonical', value ->> 'password_hash', value ->> 'role', value ->> 'is_verified', \
         value ->> 'created_at', value ->> 'updated_at', value ->> 'disabled_at', value ->> 'external_id' \
         FROM jsonb_each($1) WHERE TRUE"
    ))
    .for_postgres(insert!(
        "SELECT id, email, email_canonical, username, username_canonical, password_hash, role, is_verified, \
         created_at, updated_at, disabled_at, external_id FROM json_to_recordset(CAST($1 AS json)) AS t (id TEXT, \
         email TEXT, email_canonical TEXT, username TEXT, username_canonical TEXT, password_hash TEXT, role TEXT, \
         is_verified BOOLEAN, created_at BIGINT, updated_at BIGINT, disabled_at BIGINT, external_id TEXT)"
    ));
    let rows = tx.run(statement.bind(json(batch)?)).await?;
    insert_profiles(tx, batch).await?;
    rows.iter().map(|row| row.get("id")).collect()
}

/// Adds the profiles of those users who were added.
async fn insert_profiles(tx: &mut Tx, batch: &[ImportedUser]) -> Result<()> {
    let filled: Vec<&ImportedUser> = batch.iter().filter(|one| one.profile.is_some()).collect();
    if filled.is_empty() {
        return Ok(());
    }
    let statement = Statement::new(
        "INSERT INTO profiles (user_id, claims, updated_at) \
         SELECT u.id, t.value ->> 'profile', u.updated_at FROM jsonb_each($1) t JOIN users u ON u.id = t.value ->> 'id'",
    )
    .for_postgres(
        "INSERT INTO profiles (user_id, claims, updated_at) SELECT u.id, t.profile, u.updated_at \
         FROM json_to_recordset(CAST($1 AS json)) AS t (id TEXT, profile TEXT) JOIN users u ON u.id = t.id",
    );
    tx.run(statement.bind(json(&filled)?)).await?;
    Ok(())
}

pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Corrupt(error.to_string()))
}
