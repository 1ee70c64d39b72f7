//! Keys: algorithms, states and lifetimes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// A JWS algorithm for signing tokens (RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864 §2.2).
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
    /// [`SigningAlgorithm::EdDsa`] by its newer name: the same keys and signatures.
    Ed25519,
}

impl SigningAlgorithm {
    /// The name in a JOSE header's `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::EdDsa => "EdDSA",
            Self::Ed25519 => "Ed25519",
        }
    }

    /// The algorithm of that name in a JOSE header.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    /// The name under which its keys are kept: one for both names of Ed25519.
    pub const fn of_key(self) -> Self {
        match self {
            Self::Ed25519 => Self::EdDsa,
            other => other,
        }
    }
}

impl SigningAlgorithm {
    /// All supported algorithms.
    pub const ALL: [Self; 5] = [Self::Es256, Self::Rs256, Self::Ps256, Self::EdDsa, Self::Ed25519];

    /// Their names, for messages.
    pub const NAMES: &str = "ES256, RS256, PS256, EdDSA or Ed25519";
}

/// The purpose and algorithm of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// Signs tokens; its public half is in the JWKS.
    Sign(SigningAlgorithm),
    /// Derives refresh tokens (see [`crate::oauth::refresh_token`]); symmetric.
    RefreshChain,
    /// Derives values that must never change, such as pairwise subjects, and the keys of forms.
    /// Symmetric, never rotated.
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
    /// The order of creation.
    pub number: i64,
    pub algorithm: KeyAlgorithm,
    /// Signing keys only.
    pub public_jwk: Option<String>,
    /// Encrypted under the master key.
    pub private_jwe: String,
    pub created_at: Timestamp,
    /// Signs from this time on; published since its creation.
    pub activates_at: Timestamp,
    /// Signs until this time; `None` until a successor exists.
    pub retires_at: Option<Timestamp>,
    pub banned_at: Option<Timestamp>,
}

/// The state of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Published but not used yet, so that consumers have it before the first token arrives.
    Next,
    Active,
    /// Not used for signing; published until the last token it signed has expired.
    Retired,
    /// Compromised: tokens it signed are rejected.
    Banned,
}

impl KeyRecord {
    /// The state at the given time.
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

    /// Whether every token that needs this key has expired.
    pub fn is_obsolete(&self, now: Timestamp) -> bool {
        let lifetime = match self.algorithm {
            KeyAlgorithm::Sign(_) => LONGEST_TOKEN_LIFE,
            KeyAlgorithm::RefreshChain => LONGEST_SESSION_LIFE,
            KeyAlgorithm::Derivation => return false,
        };
        [self.retires_at, self.banned_at].into_iter().flatten().any(|at| at + lifetime <= now)
    }
}

/// Upper bound of the lifetime of a signed token, whatever is configured; includes clock skew.
pub const LONGEST_TOKEN_LIFE: Duration = Duration::from_secs(3_600 + 60);

/// Upper bound of the lifetime of a session, whatever is configured.
pub const LONGEST_SESSION_LIFE: Duration = Duration::from_secs(366 * 86_400);
