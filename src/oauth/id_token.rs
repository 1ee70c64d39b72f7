//! ID tokens (OpenID Connect Core §2).

use crate::ids::SessionId;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256, Sha512};

/// The claims of an ID token. User claims come last and cannot override protocol claims.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdClaims {
    pub iss: String,
    pub sub: String,
    /// The client.
    pub aud: String,
    /// Seconds since the epoch, as `iat` and `auth_time`.
    pub exp: i64,
    pub iat: i64,
    /// Absent where the user did not log in: the token was issued on their behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_hash: Option<String>,
    /// The session id (OpenID Connect Back-Channel Logout §2.1).
    pub sid: SessionId,
    #[serde(flatten)]
    pub user_claims: Map<String, Value>,
}

/// `at_hash` (§3.1.3.6): the left half of the hash that belongs to the algorithm of the ID token.
pub fn at_hash(access_token: &str, algorithm: &str) -> String {
    // Ed25519 uses SHA-512, the other supported algorithms SHA-256.
    if matches!(algorithm, "EdDSA" | "Ed25519") {
        URL_SAFE_NO_PAD.encode(&Sha512::digest(access_token)[..32])
    } else {
        URL_SAFE_NO_PAD.encode(&Sha256::digest(access_token)[..16])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_hash_matches_the_example_of_the_specification() {
        // OpenID Connect Core appendix A.3
        let token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
        assert_eq!(at_hash(token, "RS256"), "77QmUPtjPfzWtF2AnpK9RQ");
        assert_eq!(at_hash(token, "EdDSA").len(), 43);
        assert_eq!(at_hash(token, "Ed25519"), at_hash(token, "EdDSA"));
    }
}
