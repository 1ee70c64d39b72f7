//! Mails to users. They contain nothing that a caller has chosen: no username, no full address, so
//! that nobody can write to others through this server.

use serde::{Deserialize, Serialize};

use crate::model::invitation::{INVITATION_PAGE, INVITATION_PARAMETER};

/// What a mail says, with what its links need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Content {
    /// The address is to be verified, by link or by code.
    VerifyEmail {
        token: String,
        code: String,
    },
    /// A registration is to be confirmed.
    ConfirmRegistration {
        token: String,
    },
    /// An account can be created, until this date: `2026-11-21`.
    Invitation {
        token: String,
        date: String,
    },
    /// Somebody has used the address of an account, to register or as their own.
    AddressInUse,
    /// A new password can be set.
    ResetPassword {
        token: String,
    },
    /// To the new address: the change is to be confirmed.
    ConfirmChange {
        token: String,
    },
    /// To the old address: a change was requested. `address` is masked.
    ChangeRequested {
        token: String,
        address: String,
    },
    /// To the old address: it was changed. `address` is masked; no token: by an administrator.
    EmailChanged {
        token: Option<String>,
        address: String,
    },
    PasswordChanged,
    /// The user has requested the deletion of the account, on this date: `2026-11-21`.
    DeletionRequested {
        date: String,
    },
    /// A login from a device and a network that were not known.
    NewDevice {
        time: String,
        /// Names of products that this server knows; empty: none of them.
        browser: String,
        /// The IP address.
        address: String,
    },
    /// Of `propusk mail test`.
    Test,
}

impl Content {
    /// The name in the database and in lists.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::VerifyEmail { .. } => "verify_email",
            Self::ConfirmRegistration { .. } => "confirm_registration",
            Self::Invitation { .. } => "invitation",
            Self::AddressInUse => "address_in_use",
            Self::ResetPassword { .. } => "reset_password",
            Self::ConfirmChange { .. } => "confirm_change",
            Self::ChangeRequested { .. } => "change_requested",
            Self::EmailChanged { .. } => "email_changed",
            Self::PasswordChanged => "password_changed",
            Self::DeletionRequested { .. } => "deletion_requested",
            Self::NewDevice { .. } => "new_device",
            Self::Test => "test",
        }
    }

    /// The page that its link leads to, the parameter, and the token in it.
    pub fn link(&self) -> Option<(&'static str, &'static str, &str)> {
        let (page, token) = match self {
            Self::Invitation { token, .. } => {
                return Some((INVITATION_PAGE, INVITATION_PARAMETER, token));
            }
            Self::VerifyEmail { token, .. } => (VERIFY_PAGE, token),
            Self::ConfirmRegistration { token } => (CONFIRM_REGISTRATION_PAGE, token),
            Self::ResetPassword { token } => (RESET_PAGE, token),
            Self::ConfirmChange { token } => (CONFIRM_CHANGE_PAGE, token),
            Self::ChangeRequested { token, .. } | Self::EmailChanged { token: Some(token), .. } => {
                (OBJECT_PAGE, token)
            }
            Self::EmailChanged { token: None, .. }
            | Self::AddressInUse
            | Self::PasswordChanged
            | Self::DeletionRequested { .. }
            | Self::NewDevice { .. }
            | Self::Test => return None,
        };
        Some((page, "token", token))
    }
}

/// The pages that mails link to.
pub const VERIFY_PAGE: &str = "/email/verify";
pub const CONFIRM_REGISTRATION_PAGE: &str = "/register/confirm";
pub const RESET_PAGE: &str = "/password/reset";
pub const CONFIRM_CHANGE_PAGE: &str = "/email/change/confirm";
pub const OBJECT_PAGE: &str = "/email/change/object";

/// A mail as it waits to be sent. The queue keeps it encrypted: it contains tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    pub to: String,
    /// A language tag of the pages.
    pub language: String,
    pub content: Content,
}

/// A mail, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedMail {
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// What became of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailState {
    Queued,
    Sent,
    /// Refused for good, or too old.
    Failed,
    /// Never sent: a request for an unknown account leaves the same rows as for a known one.
    Suppressed,
}

impl MailState {
    pub const ALL: [Self; 4] = [Self::Queued, Self::Sent, Self::Failed, Self::Suppressed];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Suppressed => "suppressed",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// What a token in a mail is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    VerifyEmail,
    ConfirmRegistration,
    ResetPassword,
    ConfirmChange,
    ObjectToChange,
}

impl Purpose {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ConfirmRegistration => "confirm_registration",
            Self::ResetPassword => "reset_password",
            Self::ConfirmChange => "confirm_change",
            Self::ObjectToChange => "object_to_change",
        }
    }
}

/// An address of which its owner recognises enough, and nobody else learns or reads anything:
/// `n•••@e•••`.
pub fn masked(address: &str) -> String {
    let first = |part: &str| part.chars().next().filter(|c| c.is_alphanumeric()).unwrap_or('•');
    let (local, domain) = address.split_once('@').unwrap_or((address, ""));
    format!("{}•••@{}•••", first(local), first(domain))
}
