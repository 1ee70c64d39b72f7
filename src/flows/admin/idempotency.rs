//! Idempotent requests (draft-ietf-httpapi-idempotency-key-header): a repeated request finds what
//! the first one has created.

use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;

use crate::{
    app::App,
    error::Error,
    keys,
    model::actor::Actor,
    storage::{
        AuditedTx, idempotency as rows,
        idempotency::{Call, Claim},
    },
};

/// A request under an `Idempotency-Key`.
#[derive(Clone, Debug)]
pub struct IdempotentRequest(Call);

/// What a request has created, or an earlier request under the same key.
#[derive(Debug)]
pub struct Created<T> {
    pub resource: T,
    pub is_replayed: bool,
}

impl<T> Created<T> {
    pub const fn now(resource: T) -> Self {
        Self { resource, is_replayed: false }
    }

    pub const fn earlier(resource: T) -> Self {
        Self { resource, is_replayed: true }
    }

    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Created<U> {
        Created { resource: change(self.resource), is_replayed: self.is_replayed }
    }

    /// Adds a secret, which only the first response contains.
    pub fn with_secret(self, secret: Option<String>) -> Created<(T, Option<String>)> {
        let secret = secret.filter(|_| !self.is_replayed);
        self.map(|resource| (resource, secret))
    }
}

impl IdempotentRequest {
    /// For a request that is stored in a transaction of its own.
    pub(crate) const fn call(&self) -> &Call {
        &self.0
    }

    /// `operation` and `body` are what a repetition must have in common with the first request.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the keys cannot be used.
    pub fn new(
        app: &App,
        actor: &Actor,
        key: &str,
        operation: &str,
        body: &impl Serialize,
    ) -> Result<Self, Error> {
        // A body may hold a password: without the derived key nobody can try passwords against the
        // hash.
        let secret = app.keys.derive("idempotency")?;
        let hash = |parts: [&[u8]; 2]| -> Result<[u8; 32], Error> {
            let mut mac = Hmac::<Sha256>::new_from_slice(&secret)
                .map_err(|_| Error::from(keys::Error::Missing("derivation")))?;
            for part in parts {
                mac.update(&(part.len() as u64).to_be_bytes());
                mac.update(part);
            }
            Ok(mac.finalize().into_bytes().into())
        };
        let body = serde_json::to_vec(body).map_err(|error| Error::Unavailable(error.into()))?;
        Ok(Self(Call {
            actor: actor.actor.clone(),
            key_hash: hash([b"key", key.as_bytes()])?,
            request_hash: hash([operation.as_bytes(), &body])?,
        }))
    }
}

/// Claims the key, if there is one, for the resource that this transaction is about to create.
/// `Some`: an earlier request has created the resource of that id.
///
/// # Errors
/// [`Error::KeyReused`].
pub(crate) async fn claim(
    tx: &mut AuditedTx,
    request: Option<&IdempotentRequest>,
    resource: &str,
) -> Result<Option<String>, Error> {
    let Some(IdempotentRequest(call)) = request else {
        return Ok(None);
    };
    let now = tx.now();
    match rows::claim(tx, call, resource, now).await? {
        Claim::First => Ok(None),
        Claim::Before(id) => Ok(Some(id)),
        Claim::Other => Err(Error::KeyReused),
    }
}

/// Records the id of the resource where it was unknown when the key was claimed.
pub(crate) async fn settle(
    tx: &mut AuditedTx,
    request: Option<&IdempotentRequest>,
    resource: &str,
) -> Result<(), Error> {
    if let Some(IdempotentRequest(call)) = request {
        rows::settle(tx, call, resource).await?;
    }
    Ok(())
}
