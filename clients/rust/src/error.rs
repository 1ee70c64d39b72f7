use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

/// Why something was not done. It says whether the user is at fault ([`Error::is_refused`]), or
/// whether nothing could be decided ([`Error::is_temporary`]).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The access token is not valid; the text says why.
    #[error("{0}")]
    InvalidToken(String),
    /// Nobody is logged in.
    #[error("log in first")]
    NotLoggedIn,
    /// The user lacks a scope that is required.
    #[error("this user lacks the scope `{0}`, which is required here")]
    MissingScope(String),
    /// The user lacks a module that is required.
    #[error("this user lacks the module `{0}`, which is required here")]
    MissingModule(String),
    /// A page of another origin made the browser send the request (CSRF).
    #[error(
        "cookies are accepted from pages of this origin only: send the token in the request instead"
    )]
    CrossSite,
    /// It cannot be decided at present: there is no current revocation list, or there are no keys.
    #[error("{0}")]
    Unavailable(String),
    /// There was no answer from the server.
    #[error("no answer to {request}: check the network and the URL of the server")]
    Network {
        /// Method and path.
        request: String,
        /// What went wrong.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The server has answered with an error.
    #[error(transparent)]
    Server(#[from] Box<ServerError>),
    /// A setting of this crate, or its use, is wrong.
    #[error("{0}")]
    Configuration(String),
}

/// An error of the server.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct ServerError {
    /// The HTTP status.
    pub status: u16,
    /// What went wrong, for a program to tell apart: `INVALID_CREDENTIALS`, `VALIDATION_ERROR` …
    /// (the OpenAPI document lists them), or `UNEXPECTED_RESPONSE` for an answer that is not the
    /// server's, such as a proxy's.
    pub code: String,
    /// What went wrong, as a sentence.
    pub message: String,
    /// The fields at fault.
    pub details: Vec<Detail>,
    /// By which the server's log knows the request.
    pub request_id: Option<String>,
    /// How long to wait before another attempt.
    pub retry_after: Option<Duration>,
}

/// A field of a request, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Detail {
    /// The field's name.
    pub field: String,
    /// What is wrong with it, as a sentence.
    pub message: String,
}

impl Error {
    /// The HTTP status with which an application answers.
    pub fn status(&self) -> u16 {
        match self {
            Self::InvalidToken(_) | Self::NotLoggedIn => 401,
            Self::MissingScope(_) | Self::MissingModule(_) | Self::CrossSite => 403,
            Self::Unavailable(_) | Self::Network { .. } => 503,
            Self::Configuration(_) => 500,
            Self::Server(error) if self.is_temporary() || error.status < 400 => 503,
            Self::Server(error) => error.status,
        }
    }

    /// A code for programs: the server's where it has one for the case.
    pub fn code(&self) -> &str {
        match self {
            Self::InvalidToken(_) | Self::NotLoggedIn => "INVALID_TOKEN",
            Self::MissingScope(_) | Self::MissingModule(_) => "INSUFFICIENT_SCOPE",
            Self::CrossSite => "CROSS_SITE_REQUEST",
            Self::Unavailable(_) | Self::Network { .. } => "SERVICE_UNAVAILABLE",
            Self::Server(error) => &error.code,
            Self::Configuration(_) => "INTERNAL_ERROR",
        }
    }

    /// Whether it could not be decided: no answer, overload or an internal error. That says nothing
    /// about the user, who must not be logged out because of it.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Network { .. } => true,
            Self::Server(error) => matches!(error.status, 408 | 429 | 500..),
            _ => false,
        }
    }

    /// Whether it was decided that the credentials are not valid.
    pub fn is_refused(&self) -> bool {
        match self {
            Self::InvalidToken(_) | Self::NotLoggedIn => true,
            Self::Server(error) => {
                error.status == 401
                    && matches!(error.code.as_str(), "INVALID_TOKEN" | "INVALID_REFRESH_TOKEN")
            }
            _ => false,
        }
    }

    /// How long to wait before another attempt, where the server has said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Server(error) => error.retry_after,
            _ => None,
        }
    }

    /// Whether the answer was lost on the way, so that it may be sent again.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Network { .. } => true,
            Self::Server(error) => matches!(error.status, 502..=504),
            _ => false,
        }
    }
}
