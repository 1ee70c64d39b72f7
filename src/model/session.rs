//! A session: one login of one subject with one client, and its family of refresh tokens.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    model::{module::OpenGrant, user::User},
    oauth::scope::Scope,
};

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
    pub created_at: Timestamp,
    /// When the person logged in: the `auth_time` of its tokens.
    pub authenticated_at: Timestamp,
    pub idle_expires_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    /// The browser it was opened in.
    pub browser_session_id: Option<String>,
    /// SHA-256 of the authorization code it began as.
    pub code_hash: Option<Vec<u8>>,
    /// `None` while it is an authorization code that nobody has redeemed.
    pub exchanged_at: Option<Timestamp>,
    /// Whether it goes on when its browser session ends (`offline_access`, OpenID Connect Core §11).
    pub offline: bool,
    pub details: SessionDetails,
    /// The person's modules, as they are now; some may have come to their planned end.
    pub modules: Vec<OpenGrant>,
    /// The person, as they are now; `None` where the subject has no account here.
    pub user: Option<User>,
}

/// A session as those see it who look after it.
#[derive(Clone, Debug)]
pub struct SessionOverview {
    /// The `sid` of its tokens.
    pub id: String,
    /// The `sub` of its tokens.
    pub subject: String,
    /// `None` where the subject has no account here.
    pub user_id: Option<String>,
    pub client_id: String,
    pub scope: Scope,
    pub created_at: Timestamp,
    pub authenticated_at: Timestamp,
    /// When its refresh token was last exchanged.
    pub rotated_at: Timestamp,
    pub idle_expires_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    /// [`RevocationReason::as_str`]
    pub revocation_reason: Option<String>,
    pub address: Option<String>,
    pub user_agent: Option<String>,
}

impl SessionOverview {
    /// Whether it can still be refreshed, as far as its row tells.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.idle_expires_at > now && self.expires_at > now
    }
}

/// What an authorization request asked for that its tokens repeat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// How the person logged in (RFC 8176).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// The resources its access tokens are for (RFC 8707); empty: this server's own API.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource: Vec<String>,
    /// The `claims` parameter (OpenID Connect Core §5.5), as far as it is honoured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<crate::oauth::claims_request::ClaimsRequest>,
}

impl Session {
    /// Whether the session can still be refreshed.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none()
            && self.exchanged_at.is_some()
            && self.idle_expires_at > now
            && self.expires_at > now
            && self.user.as_ref().is_none_or(|user| user.disabled_at.is_none())
    }
}

/// Why a session ended; kept with the row, in the revocation list and in the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationReason {
    Logout,
    /// An old refresh token was presented: somebody has a copy (RFC 9700 §4.14.2).
    Theft,
    UserDisabled,
    PasswordChanged,
    /// Its authorization code was presented again (RFC 6749 §4.1.2).
    CodeReplayed,
    /// A client gave a token back (RFC 7009).
    Revoked,
    /// The person took back what they had allowed the client.
    ConsentWithdrawn,
    ClientDisabled,
    /// Somebody who looks after the sessions ended this one.
    RevokedByAdmin,
    UserDeleted,
}

impl RevocationReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Theft => "theft",
            Self::UserDisabled => "user_disabled",
            Self::PasswordChanged => "password_changed",
            Self::CodeReplayed => "code_replayed",
            Self::Revoked => "revoked",
            Self::ConsentWithdrawn => "consent_withdrawn",
            Self::ClientDisabled => "client_disabled",
            Self::RevokedByAdmin => "revoked_by_admin",
            Self::UserDeleted => "user_deleted",
        }
    }
}
