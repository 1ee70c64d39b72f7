//! Refresh tokens and their chain.
//!
//! A token is `prt_` and base64url of 60 bytes: the number of the chain key (4), the session id
//! (16), the generation (8) and a secret (32). 60 bytes leave no spare bits, so the encoding is
//! canonical. The first secret of a session is random; each next one is HMAC-SHA-256(chain key,
//! previous secret). So the successor of a token can be computed again for a retry, and an old
//! token can be verified by walking the chain forward, although only the SHA-256 of the current
//! token is stored.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

const PREFIX: &str = "prt_";
const LENGTH: usize = 4 + 16 + 8 + 32;
const TEXT: usize = LENGTH / 3 * 4;

/// How many rotations back a token is recognised: 45 years at one per 6 hours, or 45 days at one
/// per minute. The walk takes about 20 ms then, so it is bounded.
pub const MAX_STEPS: u64 = 65_536;

/// The key that derives the next secret; 32 random bytes.
#[derive(Clone)]
pub struct ChainKey {
    /// Its number in the `keys` table.
    pub number: u32,
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChainKey({})", self.number)
    }
}

impl ChainKey {
    pub fn new(number: u32, key: &[u8; 32]) -> Self {
        Self { number, mac: Self::mac(key) }
    }

    /// Infallible: a 32-byte key is shorter than the block of SHA-256.
    fn mac(key: &[u8; 32]) -> Hmac<Sha256> {
        let mut block = [0; 64]; // RFC 2104 §2: a shorter key is padded with zeros
        block[..32].copy_from_slice(key);
        <Hmac<Sha256> as KeyInit>::new(&block.into())
    }

    fn next(&self, secret: &[u8; 32]) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(secret);
        mac.finalize().into_bytes().into()
    }
}

/// A parsed refresh token. Its claim to belong to the session is not verified yet.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken {
    pub chain_key: u32,
    pub session: Uuid,
    pub generation: u64,
    secret: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RefreshToken({} #{})", self.session, self.generation)
    }
}

impl RefreshToken {
    /// The first token of a session.
    pub fn first(chain_key: &ChainKey, session: Uuid, secret: [u8; 32]) -> Self {
        Self { chain_key: chain_key.number, session, generation: 0, secret: Zeroizing::new(secret) }
    }

    /// Parses a token; `None` if the text is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix(PREFIX).filter(|t| t.len() == TEXT)?;
        let mut bytes = Zeroizing::new([0; LENGTH]);
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut *bytes).ok()?;
        if length != LENGTH {
            return None;
        }
        let (number, rest) = bytes.split_first_chunk::<4>()?;
        let (session, rest) = rest.split_first_chunk::<16>()?;
        let (generation, secret) = rest.split_first_chunk::<8>()?;
        Some(Self {
            chain_key: u32::from_be_bytes(*number),
            session: Uuid::from_bytes(*session),
            generation: u64::from_be_bytes(*generation),
            secret: Zeroizing::new(secret.try_into().ok()?),
        })
    }

    /// The SHA-256 that the database stores.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.bytes().as_slice()).into()
    }

    /// The token as sent to the client.
    pub fn expose(&self) -> String {
        let mut text = String::with_capacity(PREFIX.len() + TEXT);
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(self.bytes().as_slice(), &mut text);
        text
    }

    /// The token that follows this one.
    pub fn successor(&self, key: &ChainKey) -> Self {
        Self {
            generation: self.generation.saturating_add(1),
            secret: Zeroizing::new(key.next(&self.secret)),
            ..*self
        }
    }

    /// Whether this token was valid earlier: an ancestor of the one stored as `hash` with
    /// `generation`. Walks at most [`MAX_STEPS`] steps.
    pub fn is_ancestor_of(&self, generation: u64, hash: &[u8], key: &ChainKey) -> bool {
        let steps = generation.saturating_sub(self.generation);
        if steps == 0 || steps > MAX_STEPS {
            return false;
        }
        let mut token = self.clone();
        for _ in 0..steps {
            *token.secret = key.next(&token.secret);
        }
        token.generation = generation;
        token.hash() == hash
    }

    fn bytes(&self) -> Zeroizing<[u8; LENGTH]> {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        bytes[..4].copy_from_slice(&self.chain_key.to_be_bytes());
        bytes[4..20].copy_from_slice(self.session.as_bytes());
        bytes[20..28].copy_from_slice(&self.generation.to_be_bytes());
        bytes[28..].copy_from_slice(&*self.secret);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first() -> (ChainKey, RefreshToken) {
        let key = ChainKey::new(7, &[1; 32]);
        let token = RefreshToken::first(&key, Uuid::from_bytes([2; 16]), [3; 32]);
        (key, token)
    }

    #[test]
    fn the_encoding_is_canonical() {
        let (_, token) = first();
        let text = token.expose();
        assert_eq!(text.len(), 84);
        assert_eq!(RefreshToken::parse(&text), Some(token));
        for bad in [
            &text[..83],
            &format!("{text}A"),
            &format!("{text}="),
            &text.to_uppercase(),
            &text[4..],
            "",
        ] {
            assert_eq!(RefreshToken::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn ancestors_are_recognised_and_nothing_else() {
        let (key, token) = first();
        let third = token.successor(&key).successor(&key).successor(&key);
        assert_eq!(third.generation, 3);
        assert!(token.is_ancestor_of(3, &third.hash(), &key));
        assert!(token.successor(&key).is_ancestor_of(3, &third.hash(), &key));
        assert!(!third.is_ancestor_of(3, &third.hash(), &key), "a token is not its own ancestor");
        let made_up = RefreshToken { secret: Zeroizing::new([9; 32]), ..token.clone() };
        assert!(!made_up.is_ancestor_of(3, &third.hash(), &key));
        let other_key = ChainKey::new(7, &[8; 32]);
        assert!(!token.is_ancestor_of(3, &third.hash(), &other_key));
        assert!(!token.is_ancestor_of(u64::MAX, &third.hash(), &key), "the walk is bounded");
    }
}
