//! A browser that is logged in.

use crate::{
    clock::Timestamp,
    model::{module::OpenGrant, user::User},
    oauth::scope::Scope,
};

/// What one opaque cookie stands for.
#[derive(Clone, Debug)]
pub struct BrowserSession {
    pub id: String,
    pub user: User,
    /// The person's modules; some may have come to their planned end.
    pub modules: Vec<OpenGrant>,
    /// When the person proved who they are: the `auth_time` of OpenID Connect.
    pub authenticated_at: Timestamp,
    /// How (RFC 8176).
    pub amr: Vec<String>,
}

/// How a browser stands to a client.
#[derive(Clone, Debug)]
pub struct AuthorizationContext {
    /// The clients' head number at that moment.
    pub clients_version: i64,
    /// `None`: nobody is logged in.
    pub browser: Option<BrowserSession>,
    /// What the person has allowed the client before.
    pub consent: Option<Scope>,
}
