//! Why a flow denies a request.

use std::time::Duration;

use crate::{
    keys,
    oauth::{error::OAuthError, jwt::InvalidToken},
    password::PasswordError,
    storage,
};

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
    InvalidToken(InvalidToken),
    /// No access token was shown at all.
    #[error("an access token is needed")]
    NoToken,
    #[error("the refresh token is not valid")]
    InvalidRefreshToken,
    /// What a call is about is not there; the word says what it would be.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The caller changes a state that is no more.
    #[error("it has been changed since: read it again and use its new ETag")]
    Changed,
    /// It cannot be done as things stand; the sentence says why and what to do.
    #[error("{0}")]
    Conflict(&'static str),
    /// Another request came under the same `Idempotency-Key`.
    #[error("this Idempotency-Key was used for another request: take a new key for each new thing")]
    KeyReused,
    #[error("there is no such module")]
    NoSuchModule,
    #[error("this module is switched by administrators only: ask one")]
    NotSelfService,
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
        match error {
            storage::Error::Unknown(what) => Self::NotFound(what),
            other => Self::Unavailable(other.into()),
        }
    }
}

impl From<keys::Error> for Error {
    fn from(error: keys::Error) -> Self {
        match error {
            keys::Error::Refused(message) => {
                Self::Validation(vec![FieldError { field: "key", message }])
            }
            other => Self::Unavailable(other.into()),
        }
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
