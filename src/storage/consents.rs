//! Consents of users to clients.

use super::{Result, Statement, Tx};
use crate::{clock::Timestamp, oauth::scope::Scope};

/// Adds a consent, or replaces the previous one.
pub async fn put(
    tx: &mut Tx,
    user_id: &str,
    client_id: &str,
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

/// Removes every consent of a user to a client; `false` if there was none.
pub async fn withdraw(tx: &mut Tx, user_id: &str, client_id: &str) -> Result<bool> {
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
