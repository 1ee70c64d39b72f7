//! Identifiers that are accepted once. Each kind is a namespace of its own.

use sha2::{Digest, Sha256};

use super::{Db, Result, Statement};
use crate::clock::Timestamp;

/// The kind of an identifier.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// The `jti` of a client's assertion (RFC 7523 §3).
    ClientAssertion,
    /// The `jti` of an assertion for the JWT bearer grant (RFC 7523 §3).
    JwtBearer,
    /// The `jti` of an Identity Assertion JWT Authorization Grant (RFC 7523 §3).
    IdJag,
    /// The challenge of a passkey.
    Passkey,
    /// The `jti` of a DPoP proof (RFC 9449 §11.1), by its key.
    DpopProof,
    /// The `state` of a login at another provider.
    UpstreamState,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::ClientAssertion => "client_assertion",
            Self::JwtBearer => "jwt_bearer",
            Self::IdJag => "id_jag",
            Self::Passkey => "passkey",
            Self::DpopProof => "dpop_proof",
            Self::UpstreamState => "upstream_state",
        }
    }
}

/// Claims an identifier; `false` if any process claimed it before. One statement: the primary key
/// decides between concurrent claims.
pub async fn claim(
    db: &Db,
    kind: Kind,
    owner: &str,
    id: &str,
    expires_at: Timestamp,
) -> Result<bool> {
    let mut hash = Sha256::new();
    // The length prefix distinguishes ("a", "bc") from ("ab", "c").
    hash.update((owner.len() as u64).to_be_bytes());
    hash.update(owner);
    hash.update(id);
    let hash: [u8; 32] = hash.finalize().into();
    let rows = db
        .write(
            Statement::new(
                "INSERT INTO single_use_ids (kind, id, expires_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING kind",
            )
            .bind(kind.as_str())
            .bind(hash)
            .bind(expires_at),
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Removes up to `most` expired identifiers; returns the number removed.
pub async fn sweep(db: &Db, now: Timestamp, most: i64) -> Result<usize> {
    let rows = db
        .write(
            Statement::new(
                "DELETE FROM single_use_ids WHERE (kind, id) IN \
                 (SELECT kind, id FROM single_use_ids WHERE expires_at <= $1 LIMIT $2) RETURNING kind",
            )
            .bind(now)
            .bind(most),
        )
        .await?;
    Ok(rows.len())
}
