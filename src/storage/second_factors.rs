//! Second factors and recovery codes.

use super::{Db, Error, Result, Row, Statement, Tx, guesses, statement::one};
use crate::{
    clock::Timestamp,
    ids::UserId,
    model::second_factor::{Factor, FactorKind, FactorOverview},
};

/// A user whose factors a transaction is about to change: other changes of the user, and logins,
/// wait until it ends.
#[derive(Clone, Copy, Debug)]
pub struct LockedFactors {
    /// The number of the user's factors.
    pub count: i64,
    /// Whether the role of the user requires a second factor.
    pub is_required: bool,
}

/// Locks an enabled user; `None` if there is none of that id.
pub async fn lock(tx: &mut Tx, user_id: &UserId) -> Result<Option<LockedFactors>> {
    macro_rules! select {
        ($lock:literal) => {
            concat!(
                "SELECT r.require_second_factor AS required FROM users u JOIN roles r ON r.name = u.role \
                 WHERE u.id = $1 AND u.disabled_at IS NULL",
                $lock
            )
        };
    }
    let statement = Statement::new(select!("")).locking(select!(" FOR NO KEY UPDATE OF u"));
    let Some(row) = one(tx.run(statement.bind(user_id)).await?) else {
        return Ok(None);
    };
    // Behind the lock, so that it sees what an earlier transaction has added.
    let count = Statement::new("SELECT COUNT(*) AS n FROM second_factors WHERE user_id = $1");
    let rows = tx.run(count.bind(user_id)).await?;
    let count = one(rows).map_or(Ok(0), |row| row.get("n"))?;
    Ok(Some(LockedFactors { count, is_required: row.get("required")? }))
}

/// The factors of a user, the number of recovery codes, and whether the role requires a factor.
pub async fn overview(db: &Db, user_id: &UserId) -> Result<FactorOverview> {
    if user_id.contains('\0') {
        return Ok(FactorOverview::default());
    }
    let rows = db
        .read(
            Statement::new(
                "SELECT f.id, f.kind, f.name, f.created_at, f.last_used_at, \
                 r.require_second_factor AS required, \
                 (SELECT COUNT(*) FROM recovery_codes c WHERE c.user_id = u.id) AS codes \
                 FROM users u JOIN roles r ON r.name = u.role \
                 LEFT JOIN second_factors f ON f.user_id = u.id WHERE u.id = $1 ORDER BY f.id",
            )
            .bind(user_id),
        )
        .await?;
    let mut overview = FactorOverview::default();
    for row in &rows {
        overview.is_required = row.get("required")?;
        overview.recovery_codes = row.get("codes")?;
        if row.get::<Option<String>>("id")?.is_some() {
            overview.factors.push(factor(row)?);
        }
    }
    Ok(overview)
}

fn factor(row: &Row) -> Result<Factor> {
    let kind: String = row.get("kind")?;
    Ok(Factor {
        id: row.get("id")?,
        kind: FactorKind::parse(&kind).ok_or_else(|| Error::Corrupt(format!("factor {kind:?}")))?,
        name: row.get("name")?,
        created_at: Timestamp(row.get("created_at")?),
        last_used_at: row.get::<Option<i64>>("last_used_at")?.map(Timestamp),
    })
}

/// The secret of an authenticator app.
#[derive(Debug)]
pub struct TotpRow {
    pub id: String,
    /// Encrypted under the master key.
    pub secret_jwe: String,
}

/// The authenticator apps of a user.
pub async fn totp_of(db: &Db, user_id: &UserId) -> Result<Vec<TotpRow>> {
    let statement = Statement::new(
        "SELECT id, secret_jwe FROM second_factors WHERE user_id = $1 AND kind = 'totp' ORDER BY id",
    );
    let rows = db.read(statement.bind(user_id)).await?;
    let row = |row: &Row| Ok(TotpRow { id: row.get("id")?, secret_jwe: row.get("secret_jwe")? });
    rows.iter().map(row).collect()
}

/// What a factor is stored with.
#[derive(Debug)]
pub enum Secret {
    /// Of an authenticator app whose code of `step` was accepted.
    Totp { secret_jwe: String, step: i64 },
    /// `credential`: JSON.
    Passkey { credential_id: Vec<u8>, credential: String },
}

impl Secret {
    pub const fn kind(&self) -> FactorKind {
        match self {
            Self::Totp { .. } => FactorKind::Totp,
            Self::Passkey { .. } => FactorKind::Passkey,
        }
    }
}

/// Adds a factor.
///
/// # Errors
/// [`Error::Conflict`] if this set-up was confirmed before, or the passkey is known.
pub async fn insert(
    tx: &mut Tx,
    user_id: &UserId,
    id: &str,
    name: &str,
    secret: Secret,
    now: Timestamp,
) -> Result<()> {
    let kind = secret.kind();
    let (secret_jwe, step, credential_id, credential) = match secret {
        Secret::Totp { secret_jwe, step } => (Some(secret_jwe), Some(step), None, None),
        Secret::Passkey { credential_id, credential } => {
            (None, None, Some(credential_id), Some(credential))
        }
    };
    tx.run(
        Statement::new(
            "INSERT INTO second_factors (id, user_id, kind, name, secret_jwe, last_step, credential_id, \
             credential, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(id)
        .bind(user_id)
        .bind(kind.as_str())
        .bind(name)
        .bind(secret_jwe)
        .bind(step)
        .bind(credential_id)
        .bind(credential)
        .bind(now),
    )
    .await?;
    mark(tx, user_id, Some(now)).await
}

/// A passkey of a user.
#[derive(Debug)]
pub struct PasskeyRow {
    pub id: String,
    /// JSON, with the signature counter.
    pub credential: String,
}

/// The passkeys of a user.
pub async fn passkeys_of(db: &Db, user_id: &UserId) -> Result<Vec<PasskeyRow>> {
    let statement = Statement::new(
        "SELECT id, credential FROM second_factors WHERE user_id = $1 AND kind = 'passkey' ORDER BY id",
    );
    let rows = db.read(statement.bind(user_id)).await?;
    let row = |row: &Row| Ok(PasskeyRow { id: row.get("id")?, credential: row.get("credential")? });
    rows.iter().map(row).collect()
}

/// Stores the state of a passkey after its use; `false` if it was used or removed meanwhile.
pub async fn use_passkey(
    tx: &mut Tx,
    id: &str,
    before: &str,
    after: &str,
    now: Timestamp,
) -> Result<bool> {
    let statement = Statement::new(
        "UPDATE second_factors SET credential = $3, last_used_at = $4 WHERE id = $1 AND credential = $2 \
         RETURNING id",
    );
    let statement = statement.bind(id).bind(before).bind(after).bind(now);
    Ok(!tx.run(statement).await?.is_empty())
}

/// Accepts the code of a time step, once and in order; `false` if this one or a later one was
/// accepted before, by any process.
pub async fn accept_step(tx: &mut Tx, id: &str, step: i64, now: Timestamp) -> Result<bool> {
    let statement = Statement::new(
        "UPDATE second_factors SET last_step = $2, last_used_at = $3 WHERE id = $1 AND last_step < $2 \
         RETURNING id",
    );
    Ok(!tx.run(statement.bind(id).bind(step).bind(now)).await?.is_empty())
}

/// Removes a factor of a user found by [`lock`]; with the last one the recovery codes go too.
/// Returns its kind, or `None` if the user has no such factor.
pub async fn remove(
    tx: &mut Tx,
    user_id: &UserId,
    id: &str,
    locked: LockedFactors,
) -> Result<Option<FactorKind>> {
    if id.contains('\0') {
        return Ok(None);
    }
    let statement =
        Statement::new("DELETE FROM second_factors WHERE user_id = $1 AND id = $2 RETURNING kind");
    let Some(row) = one(tx.run(statement.bind(user_id).bind(id)).await?) else {
        return Ok(None);
    };
    if locked.count == 1 {
        mark(tx, user_id, None).await?;
        replace_codes(tx, user_id, &[]).await?;
    }
    let kind: String = row.get("kind")?;
    Ok(FactorKind::parse(&kind))
}

/// Removes the factors of a user that were added at this time or later; with one, every recovery
/// code and what was counted. `false` if there was none.
pub async fn remove_since(tx: &mut Tx, user_id: &UserId, since: Timestamp) -> Result<bool> {
    let removal = Statement::new(
        "DELETE FROM second_factors WHERE user_id = $1 AND created_at >= $2 RETURNING id",
    );
    if tx.run(removal.bind(user_id).bind(since)).await?.is_empty() {
        return Ok(false);
    }
    for sql in [
        "DELETE FROM recovery_codes WHERE user_id = $1",
        "UPDATE users SET second_factor_at = NULL WHERE id = $1 \
         AND NOT EXISTS (SELECT 1 FROM second_factors f WHERE f.user_id = users.id)",
    ] {
        tx.run(Statement::new(sql).bind(user_id)).await?;
    }
    guesses::forget_all(tx, user_id, guesses::Kind::Code).await?;
    Ok(true)
}

/// Says in the user's row whether there is a factor, since when: logins compare it.
async fn mark(tx: &mut Tx, user_id: &UserId, since: Option<Timestamp>) -> Result<()> {
    let statement = Statement::new(
        "UPDATE users SET second_factor_at = CASE WHEN $2 IS NULL THEN NULL \
         ELSE COALESCE(second_factor_at, $2) END WHERE id = $1",
    )
    .for_postgres(
        "UPDATE users SET second_factor_at = CASE WHEN CAST($2 AS BIGINT) IS NULL THEN NULL \
         ELSE COALESCE(second_factor_at, $2) END WHERE id = $1",
    );
    tx.run(statement.bind(user_id).bind(since)).await?;
    Ok(())
}

/// Replaces the recovery codes of a user.
pub async fn replace_codes(tx: &mut Tx, user_id: &UserId, hashes: &[[u8; 32]]) -> Result<()> {
    tx.run(Statement::new("DELETE FROM recovery_codes WHERE user_id = $1").bind(user_id)).await?;
    for hash in hashes {
        let statement =
            Statement::new("INSERT INTO recovery_codes (user_id, code_hash) VALUES ($1, $2)");
        tx.run(statement.bind(user_id).bind(*hash)).await?;
    }
    Ok(())
}

/// Uses a recovery code up; `false` if it is not the user's or was used before.
pub async fn use_code(tx: &mut Tx, user_id: &UserId, hash: [u8; 32]) -> Result<bool> {
    let statement = Statement::new(
        "DELETE FROM recovery_codes WHERE user_id = $1 AND code_hash = $2 RETURNING user_id",
    );
    Ok(!tx.run(statement.bind(user_id).bind(hash)).await?.is_empty())
}

/// Whether an unused recovery code of the user has this hash.
pub async fn has_code(db: &Db, user_id: &UserId, hash: [u8; 32]) -> Result<bool> {
    let statement =
        Statement::new("SELECT user_id FROM recovery_codes WHERE user_id = $1 AND code_hash = $2");
    Ok(!db.read(statement.bind(user_id).bind(hash)).await?.is_empty())
}
