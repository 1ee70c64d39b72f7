//! What an administrator does with the keys.

use crate::{
    app::App,
    error::Error,
    flows::admin::idempotency::Once,
    model::{
        actor::Actor,
        key::{KeyAlgorithm, KeyRecord, SigningAlgorithm},
    },
    storage::idempotency::Claim,
};

/// Every key there is, oldest first, as of now.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn all(app: &App) -> Result<Vec<KeyRecord>, Error> {
    app.sync().await?;
    Ok(app.keys.ring().records.clone())
}

/// Makes new signing keys, of one algorithm or of every one. `false` where the same call under the same key has made them
/// before.
///
/// # Errors
/// [`Error::Validation`] for an algorithm that is not in use; [`Error::KeyReused`].
pub async fn rotate(
    app: &App,
    only: Option<SigningAlgorithm>,
    at_once: bool,
    once: Option<&Once>,
    by: &Actor,
) -> Result<bool, Error> {
    let call = once.map(Once::call).cloned();
    let (db, clock, rng) = (&app.db, &app.clock, &app.rng);
    let claim = app.keys.rotate_once(db, clock, rng, only, at_once, call, by).await?;
    match claim {
        Claim::First => Ok(true),
        Claim::Before(_) => Ok(false),
        Claim::Other => Err(Error::KeyReused),
    }
}

/// Bans a compromised signing key. Comes back once the ban holds: every process refuses what the key has signed, at its next
/// check. One that is banned stays so.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for a key that signs nothing.
pub async fn ban(app: &App, kid: &str, by: &Actor) -> Result<KeyRecord, Error> {
    let find = async || -> Result<KeyRecord, Error> {
        let found = all(app).await?.into_iter().find(|key| key.id == kid);
        found.ok_or(Error::NotFound("key"))
    };
    let key = find().await?;
    let KeyAlgorithm::Sign(_) = key.algorithm else {
        return Err(Error::Conflict(
            "this key signs nothing, and alone it makes no token: there is nothing to ban",
        ));
    };
    if key.banned_at.is_none() {
        app.keys.ban(&app.db, &app.clock, &app.rng, kid, by).await?;
    }
    find().await
}
