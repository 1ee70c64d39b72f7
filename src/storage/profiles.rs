//! Profiles of users.

use super::{Db, Error, Result, Row, Statement, Tx, statement::one};
use crate::{clock::Timestamp, ids::UserId, model::profile::UserProfile};

/// The profile of a user, and when it, a name or the role of the user was last changed; `None`: not
/// since the account was created.
pub async fn of(db: &Db, user_id: &UserId) -> Result<(UserProfile, Option<Timestamp>)> {
    let statement = Statement::new("SELECT claims, updated_at FROM profiles WHERE user_id = $1");
    let Some(row) = one(db.read(statement.bind(user_id)).await?) else {
        return Ok((UserProfile::default(), None));
    };
    Ok((from_row(&row, "claims")?, Some(Timestamp(row.get("updated_at")?))))
}

/// The profile of a locked user.
pub(super) async fn of_locked(tx: &mut Tx, user_id: &UserId) -> Result<UserProfile> {
    let statement = Statement::new("SELECT claims FROM profiles WHERE user_id = $1");
    let row = one(tx.run(statement.bind(user_id)).await?);
    row.map_or_else(|| Ok(UserProfile::default()), |row| from_row(&row, "claims"))
}

/// Keeps the time of a change of a locked user, with the profile where that has changed.
pub(super) async fn updated(
    tx: &mut Tx,
    user_id: &UserId,
    profile: Option<&UserProfile>,
    now: Timestamp,
) -> Result<()> {
    let claims = profile.map(serde_json::to_string).transpose();
    let claims = claims.map_err(|error| Error::Corrupt(error.to_string()))?;
    let statement = Statement::new(
        "INSERT INTO profiles (user_id, claims, updated_at) VALUES ($1, COALESCE($2, '{}'), $3) \
         ON CONFLICT (user_id) DO UPDATE SET claims = COALESCE($2, profiles.claims), updated_at = $3",
    );
    tx.run(statement.bind(user_id).bind(claims).bind(now)).await?;
    Ok(())
}

/// Reads a profile; NULL is an empty one.
pub(super) fn from_row(row: &Row, column: &str) -> Result<UserProfile> {
    let claims = row.get::<Option<String>>(column)?;
    claims.map_or_else(
        || Ok(UserProfile::default()),
        |claims| {
            serde_json::from_str(&claims)
                .map_err(|error| Error::Corrupt(format!("profile: {error}")))
        },
    )
}
