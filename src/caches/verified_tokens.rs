//! Access tokens whose signature and structure were verified. The clock and the revocation list are
//! checked each time.

use std::sync::Arc;

use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};

use crate::oauth::access_token::AccessClaims;

/// Tokens in the cache; at under 1 KiB each, at most 10 MiB.
const CAPACITY: usize = 10_000;

/// A token with a valid signature and valid structure.
#[derive(Debug)]
pub struct Verified {
    pub claims: AccessClaims,
    /// The key that signed it; it may be banned later.
    pub kid: String,
}

/// Verified tokens by the SHA-256 of their text.
#[derive(Debug)]
pub struct VerifiedTokens(Cache<[u8; 32], Arc<Verified>>);

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self(Cache::new(CAPACITY))
    }
}

impl VerifiedTokens {
    /// A token that was verified before.
    pub fn get(&self, token: &str) -> Option<Arc<Verified>> {
        self.0.get(&key(token))
    }

    /// A token that was verified before, or is verified now; a token that fails is not kept.
    ///
    /// # Errors
    /// Those of `verify`.
    pub fn get_or_verify<E>(
        &self,
        token: &str,
        verify: impl FnOnce() -> Result<Verified, E>,
    ) -> Result<Arc<Verified>, E> {
        let key = key(token);
        if let Some(verified) = self.0.get(&key) {
            return Ok(verified);
        }
        let verified = Arc::new(verify()?);
        self.0.insert(key, Arc::clone(&verified));
        Ok(verified)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn key(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}
