//! Sessions: one login of one subject with one client, and its refresh token family.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    ids::{BrowserSessionId, ClientId, SessionId, UserId},
    model::{module::OpenGrant, user::User},
    oauth::scope::Scope,
};

/// A row of `sessions`: a whole refresh token family.
#[derive(Clone, Debug)]
pub struct Session {
    /// The `sid` of its tokens.
    pub id: SessionId,
    /// The `sub` of its tokens.
    pub subject: String,
    pub client_id: ClientId,
    pub scope: Scope,
    /// The number of rotations: the generation of the current refresh token.
    pub generation: u64,
    /// SHA-256 of the current refresh token.
    pub current_hash: Vec<u8>,
    pub rotated_at: Timestamp,
    pub created_at: Timestamp,
    /// When the user authenticated, here or as a back end says: the `auth_time` of its tokens.
    /// `None` where nobody logged in: the session was issued on behalf of the user.
    pub authenticated_at: Option<Timestamp>,
    pub idle_expires_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    /// The browser session it was opened in.
    pub browser_session_id: Option<BrowserSessionId>,
    /// SHA-256 of its authorization code.
    pub code_hash: Option<Vec<u8>>,
    /// When the authorization code was exchanged; `None` until then.
    pub exchanged_at: Option<Timestamp>,
    /// Whether it survives the logout of its browser session (`offline_access`, OpenID Connect Core
    /// §11).
    pub offline: bool,
    pub details: SessionDetails,
    /// Current open module grants of the user; some may have reached their planned end.
    pub modules: Vec<OpenGrant>,
    /// The current user record; `None` if the subject is not a user of this server.
    pub user: Option<User>,
}

/// A session as administrators see it.
#[derive(Clone, Debug)]
pub struct SessionOverview {
    /// The `sid` of its tokens.
    pub id: SessionId,
    /// The `sub` of its tokens.
    pub subject: String,
    /// `None` if the subject is not a user of this server.
    pub user_id: Option<UserId>,
    pub client_id: ClientId,
    /// The browser session it was opened in.
    pub browser_session_id: Option<BrowserSessionId>,
    pub scope: Scope,
    pub created_at: Timestamp,
    pub authenticated_at: Option<Timestamp>,
    /// When its refresh token was last rotated.
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
    /// Whether the row allows a refresh; a disabled user or client still prevents it.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.idle_expires_at > now && self.expires_at > now
    }
}

/// Parameters of the authorization request that its tokens depend on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Authentication methods (RFC 8176).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// The resources its access tokens are for (RFC 8707); empty: this server's own API.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource: Vec<String>,
    /// The supported part of the `claims` parameter (OpenID Connect Core §5.5).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<crate::oauth::claims_request::ClaimsRequest>,
    /// The user of a session without an account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_user: Option<Box<ExternalUser>>,
    /// The id of the trusted issuer whose JWT opened the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}

/// A user whom a back end keeps, as the back end has described them when it asked for tokens. There
/// is no account here, and no row beside the session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExternalUser {
    /// The back end's own id of the user: the claim `user_id`.
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whether the back end has verified the email address.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub email_verified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Never `admin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The only ones of the user's modules that its tokens may carry; empty: all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
}

/// What tokens can say about a user, with an account or without.
#[derive(Clone, Copy, Debug)]
pub struct Profile<'a> {
    /// The email address, and whether it is verified.
    pub email: Option<(&'a str, bool)>,
    pub username: Option<&'a str>,
    pub role: Option<&'a str>,
}

impl<'a> From<&'a User> for Profile<'a> {
    fn from(user: &'a User) -> Self {
        Self {
            email: Some((&user.email, user.is_verified)),
            username: user.username.as_deref(),
            role: Some(user.role.as_str()),
        }
    }
}

impl<'a> From<&'a ExternalUser> for Profile<'a> {
    fn from(user: &'a ExternalUser) -> Self {
        Self {
            email: user.email.as_deref().map(|email| (email, user.email_verified)),
            username: user.username.as_deref(),
            role: user.role.as_deref(),
        }
    }
}

impl Session {
    /// What its tokens can say about the user.
    pub fn profile(&self) -> Option<Profile<'_>> {
        let external = || self.details.external_user.as_deref().map(Profile::from);
        self.user.as_ref().map(Profile::from).or_else(external)
    }

    /// Whether the session can still be refreshed.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none()
            && self.exchanged_at.is_some()
            && self.idle_expires_at > now
            && self.expires_at > now
            && self.user.as_ref().is_none_or(|user| user.disabled_at.is_none())
    }
}

/// Why a session was revoked; stored with the row, in the revocation list and in the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationReason {
    Logout,
    /// A refresh token that was already rotated was used again (RFC 9700 §4.14.2).
    RefreshTokenReuse,
    UserDisabled,
    PasswordChanged,
    /// Its authorization code was used again (RFC 6749 §4.1.2).
    CodeReplayed,
    /// The client revoked a token (RFC 7009).
    Revoked,
    /// The user withdrew the consent to the client.
    ConsentWithdrawn,
    ClientDisabled,
    /// An administrator revoked it.
    RevokedByAdmin,
    UserDeleted,
    /// Every session of a back end's user was revoked.
    SubjectRevoked,
}

impl RevocationReason {
    /// The stored form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::RefreshTokenReuse => "refresh_token_reuse",
            Self::UserDisabled => "user_disabled",
            Self::PasswordChanged => "password_changed",
            Self::CodeReplayed => "code_replayed",
            Self::Revoked => "revoked",
            Self::ConsentWithdrawn => "consent_withdrawn",
            Self::ClientDisabled => "client_disabled",
            Self::RevokedByAdmin => "revoked_by_admin",
            Self::UserDeleted => "user_deleted",
            Self::SubjectRevoked => "subject_revoked",
        }
    }
}
