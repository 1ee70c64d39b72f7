//! Consents of users to clients.

use super::{Error, Result, Row, Statement, Tx, statement::one};
use crate::{
    clock::Timestamp,
    ids::{ClientId, UserId},
    oauth::scope::Scope,
};

/// Adds a consent, or replaces the previous one.
pub async fn put(
    tx: &mut Tx,
    user_id: &UserId,
    client_id: &ClientId,
    resource: &str,
    scope: &Scope,
    now: Timestamp,
) -> Result<()> {
    tx.run(
        Statement::new(
            "INSERT INTO consents (user_id, client_id, resource, scope, updated_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (user_id, client_id, resource) DO UPDATE SET scope = $4, updated_at = $5",
        )
        .bind(user_id)
        .bind(client_id)
        .bind(resource)
        .bind(scope.to_string())
        .bind(now),
    )
    .await?;
    Ok(())
}

/// The scope that a user has granted to a client; the consent cannot be withdrawn until the
/// transaction ends.
pub async fn lock_shared(
    tx: &mut Tx,
    user_id: &UserId,
    client_id: &ClientId,
    resource: &str,
) -> Result<Option<Scope>> {
    macro_rules! select {
        ($lock:literal) => {
            concat!(
                "SELECT scope FROM consents WHERE user_id = $1 AND client_id = $2 AND resource = $3",
                $lock
            )
        };
    }
    let statement = Statement::new(select!("")).locking(select!(" FOR SHARE"));
    let rows = tx.run(statement.bind(user_id).bind(client_id).bind(resource)).await?;
    let parse = |row: Row| {
        let scope: String = row.get("scope")?;
        Scope::parse(&scope).map_err(|why| Error::Corrupt(why.to_owned()))
    };
    one(rows).map(parse).transpose()
}

/// Removes every consent of a user to a client; `false` if there was none.
pub async fn withdraw(tx: &mut Tx, user_id: &UserId, client_id: &ClientId) -> Result<bool> {
    let rows = tx
        .run(
            Statement::new(
                "DELETE FROM consents WHERE user_id = $1 AND client_id = $2 RETURNING client_id",
            )
            .bind(user_id)
            .bind(client_id),
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Removes every consent of a user.
pub async fn remove_of_user(tx: &mut Tx, user_id: &UserId) -> Result<()> {
    tx.run(Statement::new("DELETE FROM consents WHERE user_id = $1").bind(user_id)).await?;
    Ok(())
}
