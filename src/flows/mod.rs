//! The decisions: what happens when somebody registers, logs in, refreshes, logs out or shows a token.
//! No HTTP here; the JSON API, the OAuth endpoints and the command line end in the same flows.

pub mod accounts;
pub mod authorize;
pub mod backchannel;
pub mod browser;
pub mod claims;
pub mod client_auth;
pub mod client_keys;
pub mod clients;
pub mod end_session;
pub mod grants;
pub mod id_token;
pub mod introspect;
pub mod login;
pub mod logos;
pub mod logout;
pub mod maintenance;
pub mod pairwise;
pub mod refresh;
pub mod register;
pub mod resources;
pub mod revoke;
pub mod sessions;
pub mod set_up;
pub mod userinfo;
pub mod verify;

use std::{net::IpAddr, time::Duration};

use crate::{
    keys,
    oauth::{error::OAuthError, jwt::Invalid},
    password::PasswordError,
    storage,
};

/// Who asks, for the audit log and the limits.
#[derive(Clone, Debug)]
pub struct Caller {
    pub request_id: String,
    pub correlation_id: String,
    /// The real client's address, behind the trusted proxies.
    pub address: IpAddr,
    pub user_agent: Option<String>,
}

/// Who changes something that is not their own, for the audit log: an operator at the command line, or somebody who calls
/// the admin API or a gRPC service.
#[derive(Clone, Debug)]
pub struct By {
    /// A user id, a client id or `cli`.
    pub actor: String,
    /// `None` at the command line.
    pub caller: Option<Caller>,
}

impl By {
    /// Whoever runs a command.
    pub fn operator() -> Self {
        Self {
            actor: "cli".to_owned(),
            caller: None,
        }
    }

    /// The user or client whose token a request carries.
    pub fn caller(actor: &str, caller: &Caller) -> Self {
        Self {
            actor: actor.to_owned(),
            caller: Some(caller.clone()),
        }
    }

    /// The id that runs through logs, events and answers, where there is one.
    pub fn correlation_id(&self) -> Option<&str> {
        let caller = self.caller.as_ref()?;
        Some(&caller.correlation_id)
    }

    /// Adds a line to the audit log. `detail` says what changed, never a secret.
    pub(crate) async fn note(
        &self,
        tx: &mut storage::Tx<'_>,
        action: &'static str,
        subject: Option<&str>,
        detail: serde_json::Value,
        now: crate::clock::Timestamp,
    ) -> storage::Result<()> {
        let caller = self.caller.as_ref();
        let entry = storage::audit::Entry {
            action,
            actor: &self.actor,
            subject,
            address: caller.map(|caller| caller.address.to_string()),
            request_id: caller.map(|caller| caller.request_id.as_str()),
            correlation_id: self.correlation_id(),
            detail,
        };
        storage::audit::add(tx, entry, now).await
    }
}

/// Why a flow refused. The caller is told the rule, the log the cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One or more fields break a rule.
    #[error("the request has invalid fields")]
    Validation(Vec<FieldError>),
    #[error("an account with this email address exists already")]
    EmailTaken,
    #[error("this username is taken")]
    UsernameTaken,
    /// Registration failed for a reason that is not the caller's; everything was rolled back.
    #[error("the account could not be created")]
    NotCreated(#[source] Cause),
    #[error("registration is off")]
    RegistrationDisabled,
    /// Wrong password, unknown login or disabled account: never told apart.
    #[error("the login or the password is wrong")]
    InvalidCredentials,
    /// The access token is not good (RFC 6750 §3.1 `invalid_token`).
    #[error("the access token is not valid: {0}")]
    InvalidToken(Invalid),
    /// No access token was shown at all.
    #[error("an access token is needed")]
    NoToken,
    #[error("the refresh token is not valid")]
    InvalidRefreshToken,
    /// What the protocol has a name for.
    #[error(transparent)]
    OAuth(#[from] OAuthError),
    #[error("too many attempts")]
    TooMany(Duration),
    /// All password threads are busy and the queue is full.
    #[error("the server is busy")]
    Overloaded,
    /// The database (or a key) cannot be used now.
    #[error("the server cannot answer now")]
    Unavailable(#[source] Cause),
}

/// An inner cause; for the log only.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A field and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    pub field: &'static str,
    pub message: String,
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

impl From<keys::Error> for Error {
    fn from(error: keys::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

impl From<PasswordError> for Error {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Overloaded => Self::Overloaded,
            internal @ PasswordError::Internal => Self::Unavailable(internal.into()),
        }
    }
}
