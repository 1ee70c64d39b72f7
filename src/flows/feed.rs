//! The revocation list as one signed document, for followers of the feed.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    model::revocation::WireRevocation,
    oauth::jwt::TokenType,
    revocation::feed::{FollowError, Follower},
};

/// The scope of a token that opens the feed.
pub const SCOPE: &str = "propusk:revocations";

/// A list that changes all the time is not signed for every follower anew: what came since is in the deltas.
const YOUNG: Duration = Duration::from_secs(1);

/// The list as it was last signed.
#[derive(Debug, Default)]
pub struct SignedList(Mutex<Option<Signed>>);

/// The whole list at a number, as a JWT.
#[derive(Clone, Debug)]
pub struct Signed {
    pub number: i64,
    pub jwt: Bytes,
    signed_at: Timestamp,
}

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
    let mut last = app.signed_list.0.lock().await;
    let now = app.clock.now();
    let list = app.revocations.snapshot().await;
    let list = list.map_err(|stale| Error::Unavailable(stale.into()))?;
    let is_good = |last: &&Signed| last.number == list.number || last.signed_at + YOUNG > now;
    if let Some(signed) = last.as_ref().filter(is_good) {
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

/// Follows the list from a number on.
///
/// # Errors
/// [`FollowError`].
pub async fn follow(app: &App, since: i64) -> Result<Follower, FollowError> {
    app.revocations.follow(&app.db, &app.clock, since).await
}
