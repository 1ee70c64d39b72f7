//! Invitations to register.

use std::time::Duration;

use crate::{
    clock::Timestamp,
    model::{
        module::OpenGrant,
        user::{Email, Role, canonical},
    },
};

/// The page that the link of an invitation leads to, and the parameter that has its token.
pub const INVITATION_PAGE: &str = "/register";
pub const INVITATION_PARAMETER: &str = "invitation";

/// How long an invitation is valid unless its creator says otherwise, and at most.
pub const DEFAULT_TTL: Duration = Duration::from_secs(7 * 24 * 3_600);
pub const LONGEST_TTL: Duration = Duration::from_secs(90 * 24 * 3_600);

/// Modules that one invitation may grant.
pub const MOST_MODULES: usize = 50;

/// An invitation, which creates one account.
#[derive(Clone, Debug)]
pub struct Invitation {
    pub id: String,
    /// The address that it is for, as entered; `None`: any.
    pub email: Option<String>,
    /// It was sent to that address.
    pub is_mailed: bool,
    /// The role of the new user.
    pub role: Role,
    /// Granted to the new user.
    pub modules: Vec<OpenGrant>,
    /// A user id, a client id or `cli`.
    pub created_by: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub used_at: Option<Timestamp>,
    /// The user, with whom it is deleted.
    pub used_by: Option<String>,
}

impl Invitation {
    /// Whether its use proves that the user reads the mails of the address: the link came by one.
    pub const fn verifies_email(&self) -> bool {
        self.is_mailed && self.email.is_some()
    }

    /// Whether an account of this address can be registered with it.
    pub fn is_for(&self, email: &Email) -> bool {
        self.email.as_deref().is_none_or(|bound| canonical(bound) == email.canonical)
    }

    /// When its state changed last.
    pub fn updated_at(&self) -> Timestamp {
        self.used_at.unwrap_or(self.created_at)
    }
}
