//! Device authorization requests (RFC 8628): what a device asks for, and what a user decided.

use std::net::IpAddr;

use crate::{
    clock::Timestamp,
    ids::{BrowserSessionId, ClientId, SessionId},
    oauth::scope::Scope,
};

/// A request of a device.
#[derive(Clone, Debug)]
pub struct DeviceAuthorization {
    /// SHA-256 of the device code.
    pub id: Vec<u8>,
    /// Without its hyphen.
    pub user_code: String,
    pub client_id: ClientId,
    pub scope: Scope,
    /// RFC 8707; empty: this server's own API.
    pub resources: Vec<String>,
    pub state: DeviceState,
    /// The browser session in which the user code was entered: it alone may decide.
    pub browser_session_id: Option<BrowserSessionId>,
    /// The session that an approval opened. It begins when the device code is used.
    pub session_id: Option<SessionId>,
    /// The address of the device.
    pub address: Option<IpAddr>,
    pub user_agent: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

/// What a user decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    Pending,
    Approved,
    Denied,
}

impl DeviceState {
    const ALL: [Self; 3] = [Self::Pending, Self::Approved, Self::Denied];

    /// The stored form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}
