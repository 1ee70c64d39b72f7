//! Authorization codes: `pac_` and base64url of the session id (16 bytes) and a secret (32 bytes).
//! 48 bytes fill 64 characters without spare bits, so the encoding is canonical. A code that is
//! bound to a DPoP key (RFC 9449 §10) ends with the thumbprint of that key (32 bytes), which its
//! hash covers.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::thumbprint::Thumbprint;

const PREFIX: &str = "pac_";

/// A parsed authorization code (RFC 6749 §1.3.1).
pub struct Code {
    /// The id of its session.
    pub session: Uuid,
    /// The key that the client must prove to have when it exchanges the code.
    pub key: Option<Thumbprint>,
    secret: [u8; 32],
}

impl Code {
    pub const fn new(session: Uuid, secret: [u8; 32], key: Option<Thumbprint>) -> Self {
        Self { session, key, secret }
    }

    /// Parses a code; `None` if the text is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(PREFIX).filter(|e| e.len() <= 107)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        let (session, rest) = bytes.split_first_chunk::<16>()?;
        let (secret, key) = rest.split_first_chunk::<32>()?;
        let key = match key {
            [] => None,
            key => Some(Thumbprint::of(key)?),
        };
        Some(Self { session: Uuid::from_bytes(*session), key, secret: *secret })
    }

    /// The SHA-256 that the session's row stores.
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(self.secret);
        if let Some(key) = self.key {
            hash.update(key.0);
        }
        hash.finalize().into()
    }

    /// The code as sent to the client.
    pub fn expose(&self) -> String {
        let mut bytes = self.session.as_bytes().to_vec();
        bytes.extend(self.secret);
        bytes.extend(self.key.iter().flat_map(|key| key.0));
        let mut text = PREFIX.to_owned();
        URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_round_trips_and_malformed_codes_are_rejected() {
        let code = Code::new(Uuid::from_u128(7), [3; 32], None);
        let text = code.expose();
        let read = Code::parse(&text).expect("a code");
        assert_eq!((read.session, read.hash()), (code.session, code.hash()));
        for bad in ["", "pac_", &text[1..], &text[..67], &format!("{text}A")] {
            assert!(Code::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_key_of_a_bound_code_is_part_of_it() {
        let key = Some(Thumbprint([9; 32]));
        let code = Code::new(Uuid::from_u128(7), [3; 32], key);
        let text = code.expose();
        let read = Code::parse(&text).expect("a code");
        assert_eq!((read.session, read.key, read.hash()), (code.session, key, code.hash()));
        let unbound = Code::new(code.session, [3; 32], None);
        assert_ne!(unbound.hash(), code.hash(), "without its key it is another code");
        for bad in [&text[..text.len() - 1], &format!("{text}A"), &text[..80]] {
            assert!(Code::parse(bad).is_none(), "{bad}");
        }
    }
}
