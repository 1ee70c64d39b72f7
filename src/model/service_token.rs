//! Tokens of customer services, and the accounts that users have connected there.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    ids::{BrowserSessionId, UserId},
};

/// What is encrypted under the master key.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// The current one, where the service rotates them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// SHA-256 of the configured refresh token that the current one descends from, in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

/// A row: the token of a service, or of a user at a service.
#[derive(Clone, Debug)]
pub struct ServiceToken {
    pub service: String,
    /// Empty: the service's only token.
    pub subject: String,
    pub user_id: Option<UserId>,
    /// The browser session in which the user connected an account.
    pub browser_session_id: Option<BrowserSessionId>,
    /// The number of tokens stored so far.
    pub version: i64,
    /// [`Secrets`], as a JWE.
    pub sealed: Option<String>,
    /// The fingerprint of the settings that the token was requested with.
    pub settings: Option<String>,
    pub obtained_at: Option<Timestamp>,
    pub renew_at: Option<Timestamp>,
    /// When the access token expires.
    pub expires_at: Option<Timestamp>,
    pub lease_until: Option<Timestamp>,
    /// Failed requests in a row.
    pub failures: i64,
    /// No request before.
    pub retry_at: Option<Timestamp>,
    pub failure: Option<FailureKind>,
    pub created_at: Timestamp,
}

impl ServiceToken {
    /// How long no request may be sent because earlier ones failed; `None`: one may.
    pub fn back_off(&self, now: Timestamp) -> Option<std::time::Duration> {
        self.retry_at.filter(|at| *at > now).map(|at| at - now)
    }

    /// Whether a process requests a token.
    pub fn is_leased(&self, now: Timestamp) -> bool {
        self.lease_until.is_some_and(|until| until > now)
    }
}

/// Why a service did not do what was asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// It answered, and not with what it should.
    Failed,
    /// It is not reached, or says that it is overloaded.
    Unavailable,
    /// It did not answer in time.
    Timeout,
}

impl FailureKind {
    /// As it is stored, and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
        }
    }

    /// The kind that is stored under this name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Failed, Self::Unavailable, Self::Timeout]
            .into_iter()
            .find(|one| one.as_str() == text)
    }
}
