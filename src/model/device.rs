//! The cookie by which a browser is known in which somebody has logged in. It authenticates nobody.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;

/// The length of the cookie's value: 32 random bytes in base64url.
pub const COOKIE_LENGTH: usize = 43;

/// How long browsers keep the cookie: the longest lifetime that they accept (RFC 6265bis section
/// 5.5).
pub const COOKIE_SECONDS: u64 = 400 * 24 * 3_600;

/// What is stored of a cookie.
pub fn hash(cookie: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(cookie))
}

/// A browser in which its user is not asked for the second factor.
#[derive(Clone, Debug)]
pub struct RememberedDevice {
    pub id: String,
    pub user_agent: Option<String>,
    pub created_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
    pub expires_at: Timestamp,
}
