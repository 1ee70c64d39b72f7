//! An application that may ask for tokens.

use crate::{clock::Timestamp, oauth::scope::Scope};

/// The client of the first-party JSON API: a login there is a session of this client.
pub const FIRST_PARTY: &str = "propusk";

/// A registered client (RFC 6749 §2).
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    pub name: String,
    /// SHA-256 of the secret, `None` for a public client. The secret is random and long, so it needs no argon2.
    pub secret_hash: Option<Vec<u8>>,
    /// What the client may ask for.
    pub scope: Scope,
    pub disabled_at: Option<Timestamp>,
}
