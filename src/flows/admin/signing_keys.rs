//! Administration of signing keys.

use std::time::Duration;

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    flows::admin::idempotency::{Created, IdempotentRequest},
    keys::{NewKey, Rotation},
    model::{
        actor::Actor,
        key::{KeyAlgorithm, KeyRecord, KeyState, SigningAlgorithm},
    },
    storage::idempotency::Claim,
};

/// The algorithm of that name.
///
/// # Errors
/// [`Error::Validation`].
pub fn algorithm(name: &str) -> Result<SigningAlgorithm, Error> {
    let found = SigningAlgorithm::parse(name);
    found.ok_or_else(|| Error::field("algorithm", format!("must be {}", SigningAlgorithm::NAMES)))
}

/// When the last cached JWKS with a key that was banned at `since` expires. By then, resource
/// servers that verify locally and do not follow the revocation feed refuse its tokens as well.
pub fn dropped_by(app: &App, since: Timestamp) -> Timestamp {
    // A cache may have been filled until the ban had reached every process.
    since + app.config.keys.jwks_max_age + Duration::from_secs(60)
}

/// Every key, oldest first.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn all(app: &App) -> Result<Vec<KeyRecord>, Error> {
    app.sync().await?;
    Ok(app.keys.ring().records.clone())
}

/// Makes new signing keys, of one algorithm or of every one; gives the keys that are active or
/// next.
///
/// # Errors
/// [`Error::Validation`] for an algorithm that is not in use; [`Error::KeyReused`].
pub async fn rotate(
    app: &App,
    only: Option<SigningAlgorithm>,
    at_once: bool,
    request: Option<IdempotentRequest>,
    actor: &Actor,
) -> Result<Created<Vec<KeyRecord>>, Error> {
    let call = request.as_ref().map(IdempotentRequest::call).cloned();
    let (db, clock, rng) = (&app.db, &app.clock, &app.rng);
    let rotation = Rotation { only, at_once, call };
    let is_replayed = match app.keys.rotate(db, clock, rng, rotation, actor).await? {
        Claim::First => false,
        Claim::Before(_) => true,
        Claim::Other => return Err(Error::KeyReused),
    };
    let (mut keys, now) = (all(app).await?, app.clock.now());
    keys.retain(|key| matches!(key.state(now), KeyState::Active | KeyState::Next));
    Ok(Created { resource: keys, is_replayed })
}

/// Imports a signing key; returns its record.
///
/// # Errors
/// [`Error::Validation`] for a key that cannot be imported.
pub async fn import(app: &App, new: NewKey<'_>, actor: &Actor) -> Result<KeyRecord, Error> {
    let kid = app.keys.import(&app.db, &app.clock, &app.rng, new, actor).await?;
    let found = all(app).await?.into_iter().find(|key| key.id == kid);
    found.ok_or(Error::NotFound("key"))
}

/// Bans a compromised signing key. Returns once the ban holds: every process refuses what the key
/// has signed at its next check. A banned key stays as it is.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for a key that signs nothing.
pub async fn ban(app: &App, kid: &str, actor: &Actor) -> Result<KeyRecord, Error> {
    let find = async || -> Result<KeyRecord, Error> {
        let found = all(app).await?.into_iter().find(|key| key.id == kid);
        found.ok_or(Error::NotFound("key"))
    };
    let key = find().await?;
    if !matches!(key.algorithm, KeyAlgorithm::Sign(_)) {
        return Err(Error::Conflict("only signing keys can be banned: this key signs nothing"));
    }
    if key.banned_at.is_some() {
        return Ok(key);
    }
    app.keys.ban(&app.db, &app.clock, &app.rng, kid, actor).await?;
    find().await
}
