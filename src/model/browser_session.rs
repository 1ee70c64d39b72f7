//! Browser sessions.

use crate::{
    clock::Timestamp,
    model::{module::OpenGrant, user::User},
    oauth::scope::Scope,
};

/// A logged-in browser, identified by an opaque cookie.
#[derive(Clone, Debug)]
pub struct BrowserSession {
    pub id: String,
    pub user: User,
    /// Open module grants of the user; some may have reached their planned end.
    pub modules: Vec<OpenGrant>,
    /// When the user authenticated: `auth_time` (OpenID Connect Core §2).
    pub authenticated_at: Timestamp,
    /// Authentication methods (RFC 8176).
    pub amr: Vec<String>,
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
