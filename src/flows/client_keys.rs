//! The public keys of clients: in their metadata, or behind their `jwks_uri`, which is fetched by the guarded client and
//! remembered for a while.

use std::{sync::Arc, time::Duration};

use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};

use crate::{
    app::App,
    clock::Timestamp,
    jose::{ClientJwt, KeySet},
    model::{client::Client, key::SigningAlgorithm},
};

/// Key sets that are remembered.
const REMEMBERED: usize = 1_000;

/// How long a fetched set is remembered, whatever its server says.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(24 * 3_600);
const USUAL: Duration = Duration::from_secs(900);

/// How often one address is asked again for a key that is not there, or after a failure.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// What a process remembers of the keys of clients.
#[derive(Debug)]
pub struct ClientKeys {
    /// By the hash of the metadata's own set.
    inline: Cache<[u8; 32], Arc<KeySet>>,
    fetched: Cache<String, Arc<Fetched>>,
}

#[derive(Debug)]
struct Fetched {
    keys: Option<Arc<KeySet>>,
    fetched_at: Timestamp,
    /// Later than `fetched_at` where the address did not answer since.
    asked_at: Timestamp,
    good_until: Timestamp,
}

impl Default for ClientKeys {
    fn default() -> Self {
        Self { inline: Cache::new(REMEMBERED), fetched: Cache::new(REMEMBERED) }
    }
}

/// Whether a JWT was signed by its client, with one of these algorithms.
pub(crate) async fn verifies(
    app: &App,
    client: &Client,
    jwt: &ClientJwt<'_>,
    allowed: &[SigningAlgorithm],
) -> bool {
    let metadata = &client.metadata;
    if let Some(document) = &metadata.jwks {
        return inline(app, document).is_some_and(|keys| keys.verifies(jwt, allowed));
    }
    let Some(uri) = &metadata.jwks_uri else {
        return false;
    };
    let has_it =
        |known: &Fetched| known.keys.as_ref().is_some_and(|keys| keys.verifies(jwt, allowed));
    let now = app.clock.now();
    let cache = &app.client_keys.fetched;
    let known = cache.get(uri);
    if let Some(known) = &known {
        if known.good_until > now && has_it(known) {
            return true;
        }
        // The client may have rotated its keys; a stranger's signatures must not make us ask each time.
        if known.asked_at + AGAIN_AFTER > now {
            return false;
        }
    }
    let fetched = Arc::new(fetch(app, uri, known.as_deref(), now).await);
    cache.insert(uri.clone(), Arc::clone(&fetched));
    has_it(&fetched)
}

fn inline(app: &App, document: &serde_json::Value) -> Option<Arc<KeySet>> {
    let hash: [u8; 32] = Sha256::digest(document.to_string()).into();
    let cache = &app.client_keys.inline;
    if let Some(known) = cache.get(&hash) {
        return Some(known);
    }
    let keys = Arc::new(KeySet::parse(document).ok()?);
    cache.insert(hash, Arc::clone(&keys));
    Some(keys)
}

async fn fetch(app: &App, uri: &str, known: Option<&Fetched>, now: Timestamp) -> Fetched {
    const ACCEPT: &str = "application/jwk-set+json, application/json";
    match app.outbound.get(uri, ACCEPT).await {
        Ok(fetched) => {
            let document = serde_json::from_slice(&fetched.body).unwrap_or_default();
            let keys = KeySet::parse(&document)
                .inspect_err(|why| tracing::warn!(?uri, why, "a jwks_uri holds no key set"));
            let life = fetched.max_age.unwrap_or(USUAL).clamp(SHORTEST, LONGEST);
            Fetched {
                keys: keys.ok().map(Arc::new),
                fetched_at: now,
                asked_at: now,
                good_until: now + life,
            }
        }
        Err(error) => {
            tracing::warn!(?uri, %error, "a jwks_uri could not be fetched");
            // A server that does not answer takes nothing back: what it said before counts, for a day at the most.
            let kept = known.filter(|known| !error.is_permanent() && known.fetched_at + LONGEST > now);
            Fetched {
                keys: kept.and_then(|known| known.keys.clone()),
                fetched_at: kept.map_or(now, |known| known.fetched_at),
                asked_at: now,
                good_until: now + AGAIN_AFTER,
            }
        }
    }
}
