//! Registered clients.

use super::{Db, Error, Result, Statement, Tx, statement::one};
use crate::{clock::Timestamp, model::client::Client, oauth::scope::Scope};

/// Adds a client.
///
/// # Errors
/// [`Error::Conflict`] where the id is taken.
pub async fn insert(tx: &mut Tx<'_>, client: &Client, now: Timestamp) -> Result<()> {
    tx.run(
        Statement::new(
            "INSERT INTO clients (id, name, secret_hash, scope, created_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(client.id.as_str())
        .bind(client.name.as_str())
        .bind(client.secret_hash.clone())
        .bind(client.scope.to_string())
        .bind(now),
    )
    .await?;
    Ok(())
}

/// Finds a client by its id.
pub async fn by_id(db: &Db, id: &str) -> Result<Option<Client>> {
    // PostgreSQL's text holds no NUL and refuses the statement: no client can be called so.
    if id.contains('\0') {
        return Ok(None);
    }
    let rows = db
        .read(
            Statement::new(
                "SELECT id, name, secret_hash, scope, disabled_at FROM clients WHERE id = $1",
            )
            .bind(id),
        )
        .await?;
    one(rows)
        .map(|row| {
            let scope: String = row.get("scope")?;
            Ok(Client {
                id: row.get("id")?,
                name: row.get("name")?,
                secret_hash: row.get("secret_hash")?,
                scope: Scope::parse(&scope).map_err(|why| Error::Corrupt(why.to_owned()))?,
                disabled_at: row.get::<Option<i64>>("disabled_at")?.map(Timestamp),
            })
        })
        .transpose()
}
