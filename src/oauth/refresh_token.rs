//! Refresh tokens and their chain.
//!
//! A token is `prt_` and base64url of 60 bytes: the number of the chain key (4), the session id
//! (16), the generation (8) and a secret (32). 60 bytes leave no spare bits, so the encoding is
//! canonical. One that is bound to a DPoP key ends with the thumbprint of that key (32), which its
//! hash covers: with another one it is no token of this server, and no row is read to know the key.
//! The first secret of a session is random; each next one is HMAC-SHA-256(chain key,
//! previous secret). So the successor of a token can be computed again for a retry, and an old
//! token can be verified by walking the chain forward, although only the SHA-256 of the current
//! token is stored.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::thumbprint::Thumbprint;

const PREFIX: &str = "prt_";
const LENGTH: usize = 4 + 16 + 8 + 32;
const BOUND_LENGTH: usize = LENGTH + 32;

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
    /// The key that its sender must prove to have (RFC 9449 §5).
    pub key: Option<Thumbprint>,
    secret: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RefreshToken({} #{})", self.session, self.generation)
    }
}

impl RefreshToken {
    /// The first token of a session, bound to the key if there is one.
    pub fn first(
        chain_key: &ChainKey,
        session: Uuid,
        secret: [u8; 32],
        key: Option<Thumbprint>,
    ) -> Self {
        let (chain_key, secret) = (chain_key.number, Zeroizing::new(secret));
        Self { chain_key, session, generation: 0, key, secret }
    }

    /// Parses a token; `None` if the text is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix(PREFIX)?;
        let mut bytes = Zeroizing::new([0; BOUND_LENGTH]);
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut *bytes).ok()?;
        let (number, rest) = bytes[..length].split_first_chunk::<4>()?;
        let (session, rest) = rest.split_first_chunk::<16>()?;
        let (generation, rest) = rest.split_first_chunk::<8>()?;
        let (secret, key) = rest.split_first_chunk::<32>()?;
        let key = match key {
            [] => None,
            key => Some(Thumbprint::of(key)?),
        };
        Some(Self {
            chain_key: u32::from_be_bytes(*number),
            session: Uuid::from_bytes(*session),
            generation: u64::from_be_bytes(*generation),
            key,
            secret: Zeroizing::new(*secret),
        })
    }

    /// The SHA-256 that the database stores.
    pub fn hash(&self) -> [u8; 32] {
        let (bytes, length) = self.bytes();
        Sha256::digest(&bytes[..length]).into()
    }

    /// The token as sent to the client.
    pub fn expose(&self) -> String {
        let (bytes, length) = self.bytes();
        let mut text = String::with_capacity(PREFIX.len() + length.div_ceil(3) * 4);
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(&bytes[..length], &mut text);
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

    /// The bytes, and how many of them count.
    fn bytes(&self) -> (Zeroizing<[u8; BOUND_LENGTH]>, usize) {
        let mut bytes = Zeroizing::new([0; BOUND_LENGTH]);
        bytes[..4].copy_from_slice(&self.chain_key.to_be_bytes());
        bytes[4..20].copy_from_slice(self.session.as_bytes());
        bytes[20..28].copy_from_slice(&self.generation.to_be_bytes());
        bytes[28..LENGTH].copy_from_slice(&*self.secret);
        match &self.key {
            Some(key) => {
                bytes[LENGTH..].copy_from_slice(&key.0);
                (bytes, BOUND_LENGTH)
            }
            None => (bytes, LENGTH),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first() -> (ChainKey, RefreshToken) {
        let key = ChainKey::new(7, &[1; 32]);
        let token = RefreshToken::first(&key, Uuid::from_bytes([2; 16]), [3; 32], None);
        (key, token)
    }

    #[test]
    fn the_key_of_a_bound_token_is_part_of_it() {
        let (chain, unbound) = first();
        let key = Some(Thumbprint([0xff; 32]));
        let token = RefreshToken { key, ..unbound.clone() };
        let text = token.expose();
        assert_eq!(RefreshToken::parse(&text), Some(token.clone()));
        let next = token.successor(&chain);
        assert_eq!(next.key, key);
        assert!(token.is_ancestor_of(1, &next.hash(), &chain));
        // Without its key, or with another one, it is another token.
        for key in [None, Some(Thumbprint([0xfe; 32]))] {
            let changed = RefreshToken { key, ..token.clone() };
            assert_ne!(changed.hash(), token.hash());
            assert!(!changed.is_ancestor_of(1, &next.hash(), &chain));
        }
        // 92 bytes leave spare bits, which must be zero.
        let last = text.chars().last().expect("a character");
        assert_eq!(last, '8', "{text}");
        let spare = format!("{}9", &text[..text.len() - 1]);
        for bad in [&spare, &text[..text.len() - 1], &format!("{text}A"), &format!("{text}AAAA")] {
            assert_eq!(RefreshToken::parse(bad), None, "{bad}");
        }
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
