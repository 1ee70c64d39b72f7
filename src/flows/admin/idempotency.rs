//! Calls that make something, sent twice (draft-ietf-httpapi-idempotency-key-header): the second finds what the first has
//! made.

use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    keys,
    model::actor::Actor,
    storage::{
        self, Tx, idempotency as rows,
        idempotency::{Call, Claim},
    },
};

/// A call that makes something under an `Idempotency-Key`.
#[derive(Clone, Debug)]
pub struct Once(Call);

/// What a call has made, or had made before.
#[derive(Debug)]
pub enum Made<T> {
    Now(T),
    /// Under this id, by the same call at an earlier time.
    Before(String),
}

impl Once {
    /// For what stores it in a transaction of its own.
    pub(crate) const fn call(&self) -> &Call {
        &self.0
    }

    /// `call` names the operation, `request` is all that it was given.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the keys cannot be used.
    pub fn new(
        app: &App,
        by: &Actor,
        key: &str,
        call: &str,
        request: &impl Serialize,
    ) -> Result<Self, Error> {
        // A request may hold a password: without the derived key nobody can try passwords against the hash.
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
        let request =
            serde_json::to_vec(request).map_err(|error| Error::Unavailable(error.into()))?;
        Ok(Self(Call {
            actor: by.actor.clone(),
            key_hash: hash([b"key", key.as_bytes()])?,
            request_hash: hash([call.as_bytes(), &request])?,
        }))
    }
}

/// Notes the id of what was made where it was not known when the key was taken.
pub(crate) async fn settle(
    once: Option<&Once>,
    tx: &mut Tx<'_>,
    resource: &str,
) -> storage::Result<()> {
    match once {
        Some(Once(call)) => rows::settle(tx, call, resource).await,
        None => Ok(()),
    }
}

/// Takes the key, if there is one, for what this transaction is about to make under the id `resource`. `None`: make it.
pub(crate) async fn claim<T>(
    once: Option<&Once>,
    tx: &mut Tx<'_>,
    resource: &str,
    now: Timestamp,
) -> storage::Result<Option<Result<Made<T>, Error>>> {
    let Some(Once(call)) = once else {
        return Ok(None);
    };
    Ok(match rows::claim(tx, call, resource, now).await? {
        Claim::First => None,
        Claim::Before(id) => Some(Ok(Made::Before(id))),
        Claim::Other => Some(Err(Error::KeyReused)),
    })
}
