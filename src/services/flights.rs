//! Single flight: concurrent calls of this process for the same token share one attempt, which goes
//! on when its callers have gone.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};

use super::Failure;
use crate::{
    clock::Timestamp,
    model::service_token::{FailureKind, Secrets},
};

/// An attempt to get a token.
pub type Flight = Shared<BoxFuture<'static, Result<Arc<Held>, NoToken>>>;

/// A token that is valid.
#[derive(Debug)]
pub struct Held {
    pub secrets: Secrets,
    /// Of its row.
    pub version: i64,
    pub expires_at: Timestamp,
}

/// Why there is no token.
#[derive(Clone, Debug)]
pub enum NoToken {
    /// The service does not give one; nothing is requested for so long.
    Service(Failure),
    /// The user has connected no account, or the service has ended the connection.
    NotConnected,
    /// The database or a key is unavailable.
    Internal(String),
}

impl From<Failure> for NoToken {
    fn from(failure: Failure) -> Self {
        Self::Service(failure)
    }
}

/// Service and subject.
type Key = (String, String);

/// The attempts of this process that run.
#[derive(Clone, Debug, Default)]
pub struct Flights(Arc<Mutex<HashMap<Key, Flight>>>);

/// Forgets an attempt that has ended, or panicked: the next call begins another one.
struct Landing(Flights, Key);

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Flights {
    /// The attempt that runs, or a new one.
    pub fn join<F>(&self, key: Key, attempt: impl FnOnce() -> F) -> Flight
    where
        F: Future<Output = Result<Arc<Held>, NoToken>> + Send + 'static,
    {
        // Held until the attempt is known: it cannot be forgotten before.
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = running.get(&key) {
            return known.clone();
        }
        let landing = Landing(self.clone(), key.clone());
        let attempt = attempt();
        let task = tokio::spawn(async move {
            let _landing = landing;
            attempt.await
        });
        let flight = task.map(|ended| {
            ended.unwrap_or_else(|_| {
                let cause = "the server stops, or the attempt has panicked";
                Err(Failure::new(FailureKind::Unavailable, cause).into())
            })
        });
        let flight = flight.boxed().shared();
        running.insert(key, flight.clone());
        flight
    }
}
