//! Signing keys.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// A JWS algorithm that tokens may be signed with (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "PS256")]
    Ps256,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl SigningAlgorithm {
    /// The name in a JOSE header's `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl SigningAlgorithm {
    /// Every algorithm there is.
    pub const ALL: [Self; 4] = [Self::Es256, Self::Rs256, Self::Ps256, Self::EdDsa];
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// Signs tokens; its public half is in the JWKS.
    Sign(SigningAlgorithm),
    /// Derives refresh tokens (see [`crate::oauth::refresh_token`]); secret altogether.
    RefreshChain,
    /// Derives what must never change: pairwise subjects. Also the keys of forms. Secret, and never rotated.
    Derivation,
}

impl KeyAlgorithm {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sign(algorithm) => algorithm.as_str(),
            Self::RefreshChain => "refresh-chain",
            Self::Derivation => "derivation",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        let signing = SigningAlgorithm::ALL.into_iter().map(Self::Sign);
        signing
            .chain([Self::RefreshChain, Self::Derivation])
            .find(|algorithm| algorithm.as_str() == name)
    }
}

/// A row of `keys`.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    /// The `kid`.
    pub id: String,
    pub number: i64,
    pub algorithm: KeyAlgorithm,
    /// Signing keys only.
    pub public_jwk: Option<String>,
    /// Encrypted under the master key.
    pub private_jwe: String,
    pub created_at: Timestamp,
    /// Signs from here on; published since its creation.
    pub activates_at: Timestamp,
    /// Signs until here, once its successor is known.
    pub retires_at: Option<Timestamp>,
    pub banned_at: Option<Timestamp>,
}

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Published, not used yet, so that every consumer knows it before the first token comes.
    Next,
    Active,
    /// Used no more; published until the last token it signed has expired.
    Retired,
    /// Compromised: nothing it signed is believed.
    Banned,
}

impl KeyRecord {
    /// The key's state at a moment.
    pub fn state(&self, now: Timestamp) -> KeyState {
        if self.banned_at.is_some() {
            KeyState::Banned
        } else if self.activates_at > now {
            KeyState::Next
        } else if self.retires_at.is_some_and(|at| at <= now) {
            KeyState::Retired
        } else {
            KeyState::Active
        }
    }

    /// Whether no token that needs this key can be alive any more.
    pub fn is_spent(&self, now: Timestamp) -> bool {
        let outlived = match self.algorithm {
            KeyAlgorithm::Sign(_) => LONGEST_TOKEN_LIFE,
            KeyAlgorithm::RefreshChain => LONGEST_SESSION_LIFE,
            KeyAlgorithm::Derivation => return false,
        };
        [self.retires_at, self.banned_at].into_iter().flatten().any(|at| at + outlived <= now)
    }
}

/// No signed token lives longer, whatever is configured; clock differences are in it.
pub const LONGEST_TOKEN_LIFE: Duration = Duration::from_secs(3_600 + 60);

/// No session lives longer, whatever is configured.
pub const LONGEST_SESSION_LIFE: Duration = Duration::from_secs(366 * 86_400);
