//! Registered clients. Each change takes the next version of the clients, which tells other
//! processes that their caches are outdated.

use super::{
    Db, Error, Result, Row, Statement, Tx,
    change_counters::{self, Counter},
    statement::one,
};
use crate::{
    clock::Timestamp,
    ids::ClientId,
    model::client::{Client, Metadata, Secret, Source},
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, source, secret_hash, old_secret_hash, old_secret_expires_at, metadata, \
             registration_token_hash, created_at, updated_at, expires_at, disabled_at FROM clients ",
            $rest
        )
    };
}

/// Adds a client.
///
/// # Errors
/// [`Error::Conflict`] if the id is taken.
pub async fn insert(tx: &mut Tx, client: &Client) -> Result<()> {
    let [current, _] = secrets(client);
    tx.run(
        Statement::new(
            "INSERT INTO clients (id, source, secret_hash, metadata, registration_token_hash, created_at, updated_at, \
             expires_at) VALUES ($1, $2, $3, $4, $5, $6, $6, $7)",
        )
        .bind(client.id.as_str())
        .bind(client.source.as_str())
        .bind(current.map(|secret| secret.hash.clone()))
        .bind(to_json(&client.metadata)?)
        .bind(client.registration_token_hash.clone())
        .bind(client.created_at)
        .bind(client.expires_at),
    )
    .await?;
    put_origins(tx, client).await?;
    change_counters::next(tx, Counter::Clients).await?;
    Ok(())
}

/// Updates every mutable column of a client; `false` if there is no client with this id.
pub async fn update(tx: &mut Tx, client: &Client) -> Result<bool> {
    let [current, old] = secrets(client);
    let rows = tx
        .run(
            Statement::new(
                "UPDATE clients SET secret_hash = $2, old_secret_hash = $3, old_secret_expires_at = $4, metadata = $5, \
                 registration_token_hash = $6, updated_at = $7, expires_at = $8, disabled_at = $9, source = $10 \
                 WHERE id = $1 RETURNING id",
            )
            .bind(client.id.as_str())
            .bind(current.map(|secret| secret.hash.clone()))
            .bind(old.map(|secret| secret.hash.clone()))
            .bind(old.and_then(|secret| secret.expires_at))
            .bind(to_json(&client.metadata)?)
            .bind(client.registration_token_hash.clone())
            .bind(client.updated_at)
            .bind(client.expires_at)
            .bind(client.disabled_at)
            .bind(client.source.as_str()),
        )
        .await?;
    if !rows.is_empty() {
        put_origins(tx, client).await?;
    }
    change_counters::next(tx, Counter::Clients).await?;
    Ok(!rows.is_empty())
}

/// Removes a client with its sessions and consents; `false` if it does not exist.
pub async fn remove(tx: &mut Tx, id: &ClientId) -> Result<bool> {
    let rows =
        tx.run(Statement::new("DELETE FROM clients WHERE id = $1 RETURNING id").bind(id)).await?;
    change_counters::next(tx, Counter::Clients).await?;
    Ok(!rows.is_empty())
}

/// Finds a client by its id.
pub async fn by_id(db: &Db, id: &ClientId) -> Result<Option<Client>> {
    // PostgreSQL rejects statements with NUL in a text value; no client has such an id.
    if id.contains('\0') {
        return Ok(None);
    }
    let statement = Statement::new(select!("WHERE id = $1")).bind(id);
    one(db.read(statement).await?).map(|row| from_row(&row)).transpose()
}

/// As [`by_id`], for a transaction that changes the client: other changes of clients wait until it
/// ends.
pub async fn lock(tx: &mut Tx, id: &ClientId) -> Result<Option<Client>> {
    change_counters::next(tx, Counter::Clients).await?;
    let statement = Statement::new(select!("WHERE id = $1")).bind(id);
    one(tx.run(statement).await?).map(|row| from_row(&row)).transpose()
}

/// Up to `most` clients with ids above `after`, in order.
pub async fn list(db: &Db, after: &str, most: i64) -> Result<Vec<Client>> {
    let statement =
        Statement::new(select!("WHERE id > $1 ORDER BY id LIMIT $2")).bind(after).bind(most);
    db.read(statement).await?.iter().map(from_row).collect()
}

/// Filters of [`page`]; `None` matches every client.
#[derive(Clone, Debug, Default)]
pub struct ClientFilter {
    pub source: Option<Source>,
    pub disabled: Option<bool>,
}

/// As [`list`], matching clients only.
pub async fn page(db: &Db, filter: &ClientFilter, after: &str, most: i64) -> Result<Vec<Client>> {
    let statement = Statement::new(select!("WHERE id > $1"))
        .bind(after)
        .filter("AND source = $", filter.source.map(Source::as_str))
        .only_if(filter.disabled == Some(true), "AND disabled_at IS NOT NULL")
        .only_if(filter.disabled == Some(false), "AND disabled_at IS NULL")
        .with("ORDER BY id LIMIT $", most);
    db.read(statement).await?.iter().map(from_row).collect()
}

/// Whether an enabled client has this origin.
pub async fn has_origin(db: &Db, origin: &str) -> Result<bool> {
    let statement = Statement::new(
        "SELECT c.id FROM client_origins o JOIN clients c ON c.id = o.client_id \
         WHERE o.origin = $1 AND c.disabled_at IS NULL LIMIT 1",
    );
    Ok(!db.read(statement.bind(origin)).await?.is_empty())
}

/// Replaces the rows of a client's origins.
async fn put_origins(tx: &mut Tx, client: &Client) -> Result<()> {
    let id = client.id.as_str();
    tx.run(Statement::new("DELETE FROM client_origins WHERE client_id = $1").bind(id)).await?;
    for origin in client.origins() {
        let insertion = "INSERT INTO client_origins (origin, client_id) VALUES ($1, $2)";
        tx.run(Statement::new(insertion).bind(origin).bind(id)).await?;
    }
    Ok(())
}

/// Enabled clients whose metadata contains this certificate thumbprint (base64url). LIKE matches
/// `_` with any character and other fields too, so the caller checks again. Self-registered clients
/// cannot have certificates.
pub async fn with_certificate(db: &Db, thumbprint: &str) -> Result<Vec<Client>> {
    let is_base64url = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if !thumbprint.bytes().all(is_base64url) {
        return Ok(vec![]);
    }
    let statement = Statement::new(select!(
        "WHERE disabled_at IS NULL AND source NOT IN ('registration', 'document') AND metadata LIKE $1 \
         ORDER BY id LIMIT 100"
    ))
    .bind(format!("%\"{thumbprint}\"%"));
    db.read(statement).await?.iter().map(from_row).collect()
}

/// The number of self-registered clients.
pub async fn count_registered(tx: &mut Tx) -> Result<i64> {
    let statement = Statement::new(
        "SELECT count(*) AS n FROM clients WHERE source IN ('registration', 'document')",
    );
    one(tx.run(statement).await?).map_or(Ok(0), |row| row.get("n"))
}

/// The number of clients that came from this network.
pub async fn count_registered_from(tx: &mut Tx, network: &str) -> Result<i64> {
    let statement = Statement::new("SELECT count(*) AS n FROM clients WHERE registered_from = $1");
    one(tx.run(statement.bind(network)).await?).map_or(Ok(0), |row| row.get("n"))
}

/// Records the network that a self-registered client came from.
pub async fn set_registered_from(tx: &mut Tx, id: &ClientId, network: &str) -> Result<()> {
    let statement = Statement::new("UPDATE clients SET registered_from = $2 WHERE id = $1");
    tx.run(statement.bind(id).bind(network)).await?;
    Ok(())
}

/// Marks a dynamic registration as used, so that it does not expire.
pub async fn mark_used(db: &Db, id: &ClientId) -> Result<()> {
    db.write(
        Statement::new(
            "UPDATE clients SET expires_at = NULL WHERE id = $1 AND expires_at IS NOT NULL",
        )
        .bind(id),
    )
    .await?;
    Ok(())
}

/// Removes up to `most` expired unused registrations; returns the number removed.
pub async fn sweep(db: &Db, now: Timestamp, most: i64) -> Result<usize> {
    let mut tx = db.begin().await?;
    let statement = Statement::new(
        "DELETE FROM clients WHERE id IN \
         (SELECT id FROM clients WHERE expires_at <= $1 LIMIT $2) RETURNING id",
    );
    let rows = tx.run(statement.bind(now).bind(most)).await?;
    if !rows.is_empty() {
        change_counters::next(&mut tx, Counter::Clients).await?;
    }
    tx.commit().await?;
    Ok(rows.len())
}

fn secrets(client: &Client) -> [Option<&Secret>; 2] {
    let mut secrets = client.secrets.iter();
    [secrets.next(), secrets.next()]
}

fn to_json(metadata: &Metadata) -> Result<String> {
    serde_json::to_string(metadata).map_err(|error| Error::Corrupt(error.to_string()))
}

fn from_row(row: &Row) -> Result<Client> {
    let id: ClientId = row.get("id")?;
    let corrupt = |what: String| Error::Corrupt(format!("client {id}: {what}"));
    let metadata: String = row.get("metadata")?;
    let metadata = serde_json::from_str(&metadata).map_err(|error| corrupt(error.to_string()))?;
    let source: String = row.get("source")?;
    let source = Source::parse(&source).ok_or_else(|| corrupt(format!("source {source}")))?;
    let time = |column| -> Result<Option<Timestamp>> {
        Ok(row.get::<Option<i64>>(column)?.map(Timestamp))
    };
    let current = row.get::<Option<Vec<u8>>>("secret_hash")?;
    let old = row.get::<Option<Vec<u8>>>("old_secret_hash")?;
    let old_expires_at = time("old_secret_expires_at")?;
    let secret = |hash, expires_at| Secret { hash, expires_at };
    Ok(Client {
        secrets: current
            .map(|hash| secret(hash, None))
            .into_iter()
            .chain(old.map(|hash| secret(hash, old_expires_at)))
            .collect(),
        source,
        metadata,
        registration_token_hash: row.get("registration_token_hash")?,
        created_at: Timestamp(row.get("created_at")?),
        updated_at: Timestamp(row.get("updated_at")?),
        expires_at: time("expires_at")?,
        disabled_at: time("disabled_at")?,
        id,
    })
}
