//! The revocation list as one signed document, for subscribers of the feed.

use std::time::Duration;

use serde::Serialize;

use crate::{
    app::App,
    caches::signed_list::Signed,
    error::Error,
    model::revocation::WireRevocation,
    oauth::jwt::TokenType,
    revocation::feed::{FollowError, Follower},
};

/// The scope that the feed requires.
pub const SCOPE: &str = "propusk:revocations";

/// A list that changes constantly is not signed again for every subscriber: later entries arrive as
/// deltas.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    iat: i64,
    number: i64,
    entries: Vec<WireRevocation>,
}

/// The signed list.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn snapshot(app: &App) -> Result<Signed, Error> {
    let mut last = app.signed_list.lock().await;
    let now = app.clock.now();
    let list = app.revocations.snapshot().await;
    let list = list.map_err(|stale| Error::Unavailable(stale.into()))?;
    let is_current =
        |last: &&Signed| last.number == list.number || last.signed_at.distance(now) < MIN_INTERVAL;
    if let Some(signed) = last.as_ref().filter(is_current) {
        return Ok(signed.clone());
    }
    let claims = Claims {
        iss: &app.config.server.issuer,
        iat: now.as_secs(),
        number: list.number,
        entries: list.entries,
    };
    let algorithm = app.config.tokens.signing_algorithm;
    let jwt = app.keys.sign(TokenType::Revocations, &claims, algorithm, now);
    let signed = Signed { number: list.number, jwt: jwt.await?.into(), signed_at: now };
    *last = Some(signed.clone());
    Ok(signed)
}

/// Subscribes to the entries after a number.
///
/// # Errors
/// [`FollowError`].
pub async fn follow(app: &App, since: i64) -> Result<Follower, FollowError> {
    app.revocations.follow(&app.db, &app.clock, since).await
}
