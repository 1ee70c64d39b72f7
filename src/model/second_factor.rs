//! Second factors of users.

use crate::clock::Timestamp;

/// What a factor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorKind {
    /// Codes of an authenticator app (RFC 6238).
    Totp,
    /// A passkey (WebAuthn).
    Passkey,
}

impl FactorKind {
    /// The stored form, also of the APIs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::Passkey => "passkey",
        }
    }

    /// Reads the stored form.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Totp, Self::Passkey].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A factor of a user, without its secret.
#[derive(Clone, Debug)]
pub struct Factor {
    pub id: String,
    pub kind: FactorKind,
    /// Chosen by the user.
    pub name: String,
    pub created_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
}

/// What a user has beside the password.
#[derive(Clone, Debug, Default)]
pub struct FactorOverview {
    /// In order of creation.
    pub factors: Vec<Factor>,
    /// The number of unused recovery codes.
    pub recovery_codes: i64,
    /// Whether the role of the user requires a second factor.
    pub is_required: bool,
}

/// How a user proves a second factor at login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorMethod {
    Totp,
    RecoveryCode,
    Passkey,
}

impl FactorMethod {
    /// The form of the APIs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::RecoveryCode => "recovery_code",
            Self::Passkey => "passkey",
        }
    }
}

impl FactorOverview {
    /// How the user can prove a second factor.
    pub fn methods(&self) -> Vec<FactorMethod> {
        let has = |kind| self.factors.iter().any(|factor| factor.kind == kind);
        [
            (FactorMethod::Totp, has(FactorKind::Totp)),
            (FactorMethod::Passkey, has(FactorKind::Passkey)),
            (FactorMethod::RecoveryCode, !self.factors.is_empty() && self.recovery_codes > 0),
        ]
        .into_iter()
        .filter_map(|(method, available)| available.then_some(method))
        .collect()
    }
}
