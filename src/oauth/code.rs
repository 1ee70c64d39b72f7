//! Authorization codes: `pac_` and base64url of the session's id (16 bytes) and a secret (32 bytes). Forty-eight bytes
//! fill 64 characters with no bits to spare, so a code has one spelling.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use uuid::Uuid;

const PREFIX: &str = "pac_";

/// An authorization code (RFC 6749 §1.3.1) taken apart.
pub struct Code {
    /// The session it becomes.
    pub session: Uuid,
    secret: [u8; 32],
}

impl Code {
    pub const fn new(session: Uuid, secret: [u8; 32]) -> Self {
        Self { session, secret }
    }

    /// Reads a code; `None` where the text cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(PREFIX).filter(|e| e.len() == 64)?;
        let bytes: [u8; 48] = URL_SAFE_NO_PAD.decode(encoded).ok()?.try_into().ok()?;
        let (session, secret) = bytes.split_at(16);
        Some(Self { session: Uuid::from_slice(session).ok()?, secret: secret.try_into().ok()? })
    }

    /// What the session's row keeps.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret).into()
    }

    /// The text for the client.
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
    fn a_code_survives_its_text_and_nothing_else_reads_as_one() {
        let code = Code::new(Uuid::from_u128(7), [3; 32]);
        let text = code.expose();
        let read = Code::parse(&text).expect("a code");
        assert_eq!((read.session, read.hash()), (code.session, code.hash()));
        for bad in ["", "pac_", &text[1..], &text[..67], &format!("{text}A")] {
            assert!(Code::parse(bad).is_none(), "{bad}");
        }
    }
}
