//! The clients that a user has consented to or has sessions with.

use super::{Db, Error, Result, Statement};
use crate::{
    clock::Timestamp,
    ids::{ClientId, UserId},
    model::application::{GivenConsent, Usage},
    oauth::scope::Scope,
};

/// Up to `most` consents of a user, or those to one client, the latest first.
pub async fn consents(
    db: &Db,
    user_id: &UserId,
    client_id: Option<&ClientId>,
    most: i64,
) -> Result<Vec<GivenConsent>> {
    let statement = Statement::new(
        "SELECT client_id, resource, scope, updated_at FROM consents WHERE user_id = $1",
    )
    .bind(user_id)
    .filter("AND client_id = $", client_id)
    .with("ORDER BY updated_at DESC, client_id, resource LIMIT $", most);
    let rows = db.read(statement).await?;
    rows.iter()
        .map(|row| {
            let scope: String = row.get("scope")?;
            let resource: String = row.get("resource")?;
            Ok(GivenConsent {
                client_id: row.get("client_id")?,
                resources: resource.split_whitespace().map(str::to_owned).collect(),
                scope: Scope::parse(&scope).map_err(|why| Error::Corrupt(why.to_owned()))?,
                given_at: Timestamp(row.get("updated_at")?),
            })
        })
        .collect()
}

/// The use that a user has made of up to `most` clients, or of one: of those whose sessions are not
/// removed yet, the last used first.
pub async fn usage(
    db: &Db,
    user_id: &UserId,
    client_id: Option<&ClientId>,
    most: i64,
    now: Timestamp,
) -> Result<Vec<Usage>> {
    let statement = Statement::new(
        "SELECT client_id, MAX(rotated_at) AS used_at, COUNT(CASE WHEN revoked_at IS NULL \
         AND idle_expires_at > $2 AND expires_at > $2 THEN 1 END) AS live \
         FROM sessions WHERE user_id = $1 AND exchanged_at IS NOT NULL",
    )
    .bind(user_id)
    .bind(now)
    .filter("AND client_id = $", client_id)
    .with("GROUP BY client_id ORDER BY used_at DESC, client_id LIMIT $", most);
    let rows = db.read(statement).await?;
    rows.iter()
        .map(|row| {
            Ok(Usage {
                client_id: row.get("client_id")?,
                last_used_at: Timestamp(row.get("used_at")?),
                sessions: row.get::<i64>("live")?.unsigned_abs(),
            })
        })
        .collect()
}
