//! Applications as their user sees them: clients with a consent or with sessions.

use crate::{clock::Timestamp, ids::ClientId, oauth::scope::Scope};

/// A consent of a user to a client, for a set of resources.
#[derive(Clone, Debug)]
pub struct GivenConsent {
    pub client_id: ClientId,
    /// The resources (RFC 8707); empty: this server's own API.
    pub resources: Vec<String>,
    pub scope: Scope,
    /// When it was given, or extended.
    pub given_at: Timestamp,
}

/// The use that a user has made of a client.
#[derive(Clone, Debug)]
pub struct Usage {
    pub client_id: ClientId,
    pub last_used_at: Timestamp,
    /// The number of sessions that can still be refreshed.
    pub sessions: u64,
}
