//! Sagas: an account whose profile another service creates, and may refuse.

use crate::{clock::Timestamp, ids::UserId};

/// The saga of a registration.
#[derive(Clone, Debug)]
pub struct Saga {
    pub id: String,
    pub user_id: UserId,
    /// The correlation id of the request that created the account.
    pub correlation_id: Option<String>,
    pub state: SagaState,
    /// The number of attempts of the current step.
    pub attempts: i64,
    /// When it ends by itself.
    pub next_at: Timestamp,
    pub created_at: Timestamp,
    pub closed_at: Option<Timestamp>,
}

/// `started → published → closed`, or `→ compensating → compensated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SagaState {
    /// The account exists; the user service has not been told, or has not answered.
    Started,
    /// Kafka has acknowledged `user.create`. The user service may refuse the account.
    Published,
    /// The account stays: the time to refuse it has passed, or it was deleted otherwise.
    Closed,
    /// The account is deleted; the user service may still have its profile.
    Compensating,
    /// The account is deleted, and the user service has no profile.
    Compensated,
}

impl SagaState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Published => "published",
            Self::Closed => "closed",
            Self::Compensating => "compensating",
            Self::Compensated => "compensated",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let all =
            [Self::Started, Self::Published, Self::Closed, Self::Compensating, Self::Compensated];
        all.into_iter().find(|state| state.as_str() == text)
    }
}
