//! Identities of users at other OpenID providers.

use crate::{clock::Timestamp, ids::UserId};

/// A user of another OpenID provider, who is a user of this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamIdentity {
    pub id: String,
    pub user_id: UserId,
    /// The `iss` of the provider's ID tokens.
    pub issuer: String,
    /// Their `sub`: with the issuer the only stable name of a user (OpenID Connect Core §5.7).
    pub subject: String,
    pub created_at: Timestamp,
    pub last_login_at: Option<Timestamp>,
}
