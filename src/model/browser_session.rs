//! Browser sessions.

use crate::{
    clock::Timestamp,
    ids::BrowserSessionId,
    model::{
        authentication::{self, SecondFactorRequest},
        module::OpenGrant,
        user::User,
    },
    oauth::scope::Scope,
};

/// A logged-in browser, identified by an opaque cookie.
#[derive(Clone, Debug)]
pub struct BrowserSession {
    pub id: BrowserSessionId,
    pub user: User,
    /// Open module grants of the user; some may have reached their planned end.
    pub modules: Vec<OpenGrant>,
    /// When the user authenticated: `auth_time` (OpenID Connect Core §2).
    pub authenticated_at: Timestamp,
    /// Authentication methods (RFC 8176).
    pub amr: Vec<String>,
    /// When it ends unless it is used before.
    pub expires_at: Timestamp,
    /// When it ends however it is used.
    pub max_expires_at: Timestamp,
    /// The user has a second factor, whether it was used here or not.
    pub has_second_factor: bool,
    /// The role of the user requires one.
    pub requires_second_factor: bool,
    /// The version of the terms that the user has accepted last.
    pub accepted_terms: Option<String>,
}

impl BrowserSession {
    /// The class of the login (`acr`).
    pub fn acr(&self) -> &'static str {
        authentication::acr(&self.amr)
    }

    /// Whether the user has logged in with a second factor here.
    pub fn is_mfa(&self) -> bool {
        self.acr() == authentication::ACR_MFA
    }

    /// Whether a second factor must follow before the session is good enough: its role requires
    /// one, or the request does.
    pub fn lacks_second_factor(&self, requested: SecondFactorRequest) -> bool {
        !self.is_mfa()
            && (self.requires_second_factor
                || requested == SecondFactorRequest::Required
                || (requested == SecondFactorRequest::Preferred && self.has_second_factor))
    }
}

/// A browser session as its user sees it.
#[derive(Clone, Debug)]
pub struct BrowserOverview {
    pub id: BrowserSessionId,
    pub created_at: Timestamp,
    /// The last login, which keeps the session of the same user.
    pub authenticated_at: Timestamp,
    /// The last login, or the last use of a session that was opened in it.
    pub last_used_at: Timestamp,
    pub expires_at: Timestamp,
    pub address: Option<String>,
    pub user_agent: Option<String>,
}

/// What an authorization request needs to know about the browser and the client.
#[derive(Clone, Debug)]
pub struct AuthorizationContext {
    /// The version of the clients at that moment.
    pub clients_version: i64,
    /// `None`: no user is logged in.
    pub browser: Option<BrowserSession>,
    /// The scope that the user has granted to the client before.
    pub consent: Option<Scope>,
}
