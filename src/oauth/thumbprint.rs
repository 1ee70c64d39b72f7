//! Thumbprints of keys that tokens are bound to (RFC 9449 §6).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// The SHA-256 thumbprint of a JWK (RFC 7638).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thumbprint(pub [u8; 32]);

impl Thumbprint {
    /// Parses base64url without padding; `None` unless it is that of 32 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        Self::of(&URL_SAFE_NO_PAD.decode(text).ok()?)
    }

    /// `None` unless there are 32 bytes.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }
}

impl std::fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl Serialize for Thumbprint {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Thumbprint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not a SHA-256 thumbprint"))
    }
}

/// How an access token is bound (RFC 7800 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// The key that its sender must prove to have (RFC 9449 §6.1).
    pub jkt: Thumbprint,
}
