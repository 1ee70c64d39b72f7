//! Authorization codes: `pac_` and base64url of the session id (16 bytes) and a secret (32 bytes).
//! 48 bytes fill 64 characters without spare bits, so the encoding is canonical.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use uuid::Uuid;

const PREFIX: &str = "pac_";

/// A parsed authorization code (RFC 6749 §1.3.1).
pub struct Code {
    /// The id of its session.
    pub session: Uuid,
    secret: [u8; 32],
}

impl Code {
    pub const fn new(session: Uuid, secret: [u8; 32]) -> Self {
        Self { session, secret }
    }

    /// Parses a code; `None` if the text is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(PREFIX).filter(|e| e.len() == 64)?;
        let bytes: [u8; 48] = URL_SAFE_NO_PAD.decode(encoded).ok()?.try_into().ok()?;
        let (session, secret) = bytes.split_at(16);
        Some(Self { session: Uuid::from_slice(session).ok()?, secret: secret.try_into().ok()? })
    }

    /// The SHA-256 that the session's row stores.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret).into()
    }

    /// The code as sent to the client.
    pub fn expose(&self) -> String {
        let mut bytes = [0; 48];
        bytes[..16].copy_from_slice(self.session.as_bytes());
        bytes[16..].copy_from_slice(&self.secret);
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
        let code = Code::new(Uuid::from_u128(7), [3; 32]);
        let text = code.expose();
        let read = Code::parse(&text).expect("a code");
        assert_eq!((read.session, read.hash()), (code.session, code.hash()));
        for bad in ["", "pac_", &text[1..], &text[..67], &format!("{text}A")] {
            assert!(Code::parse(bad).is_none(), "{bad}");
        }
    }
}
