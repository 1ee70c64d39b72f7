//! The single-use tokens in mails. Lock the user before a token: a password or email change, which
//! removes the tokens, does so too.

use super::{Db, Result, Row, Statement, Tx, statement::one};
use crate::{clock::Timestamp, ids::UserId, model::mail::Purpose};

/// A token to store.
#[derive(Debug)]
pub struct NewToken<'a> {
    pub id: &'a str,
    pub purpose: Purpose,
    pub token_hash: [u8; 32],
    /// `None`: a registration, or a request for an unknown account.
    pub user_id: Option<&'a UserId>,
    pub email: &'a str,
    pub detail: Option<String>,
    pub code_hash: Option<[u8; 32]>,
    pub expires_at: Timestamp,
}

/// A token that is valid.
#[derive(Clone, Debug)]
pub struct EmailToken {
    pub id: String,
    pub user_id: Option<UserId>,
    /// The address that it is about, as entered.
    pub email: String,
    pub detail: Option<String>,
}

/// A token with a code, of which an attempt was counted.
#[derive(Debug)]
pub struct CodeAttempt {
    pub id: String,
    pub code_hash: Vec<u8>,
    pub email: String,
}

/// Adds a token.
pub async fn insert(tx: &mut Tx, new: NewToken<'_>, now: Timestamp) -> Result<()> {
    tx.run(
        Statement::new(
            "INSERT INTO email_tokens (id, purpose, token_hash, user_id, email, detail, code_hash, attempts, \
             created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9)",
        )
        .bind(new.id)
        .bind(new.purpose.as_str())
        .bind(new.token_hash)
        .bind(new.user_id)
        .bind(new.email)
        .bind(new.detail)
        .bind(new.code_hash.map(|hash| hash.to_vec()))
        .bind(now)
        .bind(new.expires_at),
    )
    .await?;
    Ok(())
}

/// The token, if it is valid. It stays so.
pub async fn find(
    db: &Db,
    purpose: Purpose,
    token_hash: [u8; 32],
    now: Timestamp,
) -> Result<Option<EmailToken>> {
    let statement = Statement::new(
        "SELECT id, user_id, email, detail FROM email_tokens \
         WHERE token_hash = $1 AND purpose = $2 AND expires_at > $3",
    );
    let rows = db.read(statement.bind(token_hash).bind(purpose.as_str()).bind(now)).await?;
    one(rows).as_ref().map(from_row).transpose()
}

/// Uses the token up; `false` where it was used, or is not valid any more. Of parallel calls one
/// succeeds.
pub async fn take(tx: &mut Tx, id: &str, now: Timestamp) -> Result<bool> {
    let statement =
        Statement::new("DELETE FROM email_tokens WHERE id = $1 AND expires_at > $2 RETURNING id");
    Ok(!tx.run(statement.bind(id).bind(now)).await?.is_empty())
}

/// Counts an attempt at the codes of a user; returns those that may still be compared.
pub async fn attempt(
    db: &Db,
    user_id: &UserId,
    most: i64,
    now: Timestamp,
) -> Result<Vec<CodeAttempt>> {
    let statement = Statement::new(
        "UPDATE email_tokens SET attempts = attempts + 1 WHERE user_id = $1 AND code_hash IS NOT NULL \
         AND attempts < $2 AND expires_at > $3 RETURNING id, code_hash, email",
    );
    let rows = db.write(statement.bind(user_id).bind(most).bind(now)).await?;
    rows.iter()
        .map(|row| {
            Ok(CodeAttempt {
                id: row.get("id")?,
                code_hash: row.get("code_hash")?,
                email: row.get("email")?,
            })
        })
        .collect()
}

/// Removes the tokens of a user for a purpose.
pub async fn remove(tx: &mut Tx, user_id: &UserId, purpose: Purpose) -> Result<()> {
    let statement = Statement::new("DELETE FROM email_tokens WHERE user_id = $1 AND purpose = $2");
    tx.run(statement.bind(user_id).bind(purpose.as_str())).await?;
    Ok(())
}

/// Removes the tokens of a user that a changed password or email address makes invalid. Objections
/// to a change of the address remain: it may have been an intruder's.
pub async fn remove_outdated(tx: &mut Tx, user_id: &UserId) -> Result<()> {
    let statement = Statement::new("DELETE FROM email_tokens WHERE user_id = $1 AND purpose <> $2");
    tx.run(statement.bind(user_id).bind(Purpose::ObjectToChange.as_str())).await?;
    Ok(())
}

/// Removes up to `most` expired tokens.
pub async fn sweep(db: &Db, now: Timestamp, most: i64) -> Result<usize> {
    let statement = Statement::new(
        "DELETE FROM email_tokens WHERE id IN (SELECT id FROM email_tokens WHERE expires_at <= $1 LIMIT $2) \
         RETURNING id",
    );
    Ok(db.write(statement.bind(now).bind(most)).await?.len())
}

fn from_row(row: &Row) -> Result<EmailToken> {
    Ok(EmailToken {
        id: row.get("id")?,
        user_id: row.get("user_id")?,
        email: row.get("email")?,
        detail: row.get("detail")?,
    })
}
