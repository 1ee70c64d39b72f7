//! A session: one login of one subject with one client, and its family of refresh tokens.

use crate::{clock::Timestamp, model::user::User, oauth::scope::Scope};

/// A row of `sessions`. All refresh tokens that descend from one login are this one row.
#[derive(Clone, Debug)]
pub struct Session {
    /// The `sid` of its tokens.
    pub id: String,
    /// The `sub` of its tokens.
    pub subject: String,
    pub client_id: String,
    pub scope: Scope,
    /// How often it was rotated; the generation of the one valid refresh token.
    pub generation: u64,
    /// SHA-256 of the one valid refresh token.
    pub current_hash: Vec<u8>,
    pub rotated_at: Timestamp,
    /// When the person logged in: the `auth_time` of its tokens.
    pub created_at: Timestamp,
    pub idle_expires_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    /// The person, as they are now; `None` where the subject has no account here.
    pub user: Option<User>,
}

impl Session {
    /// Whether the session can still be refreshed.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none()
            && self.idle_expires_at > now
            && self.expires_at > now
            && self
                .user
                .as_ref()
                .is_none_or(|user| user.disabled_at.is_none())
    }
}

/// Why a session ended; kept with the row, in the revocation list and in the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    Logout,
    /// An old refresh token was presented: somebody has a copy (RFC 9700 §4.14.2).
    Theft,
    UserDisabled,
    PasswordChanged,
}

impl EndReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Theft => "theft",
            Self::UserDisabled => "user_disabled",
            Self::PasswordChanged => "password_changed",
        }
    }
}
