//! The public keys of clients, of trusted issuers and of login providers: in their metadata
//! (`jwks`), or at their `jwks_uri`, which is fetched through the SSRF-safe HTTP client and cached.

use std::{sync::Arc, time::Duration};

use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};

use crate::{
    clock::Timestamp,
    jose::{ClientJwt, KeySet},
    model::{client::Client, key::SigningAlgorithm},
    oauth::jwt::InvalidToken,
    outbound::Outbound,
};

/// Key sets in the cache.
const CAPACITY: usize = 1_000;

/// Bounds of the time for which a fetched set is cached, whatever its server says.
const MIN_TTL: Duration = Duration::from_secs(60);
const MAX_TTL: Duration = Duration::from_secs(24 * 3_600);
/// The time where its server does not say.
const DEFAULT_TTL: Duration = Duration::from_secs(900);

/// The shortest time between two fetches of one URL, for a key that is not in the set or after a
/// failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// The key sets of clients and of trusted issuers.
#[derive(Debug)]
pub struct ClientKeys {
    /// By the hash of the set in the metadata.
    inline: Cache<[u8; 32], Arc<KeySet>>,
    fetched: Cache<String, Arc<Fetched>>,
}

#[derive(Debug)]
struct Fetched {
    keys: Option<Arc<KeySet>>,
    fetched_at: Timestamp,
    /// Later than `fetched_at` where fetching has failed since.
    tried_at: Timestamp,
    /// How long it is fresh from `tried_at` on.
    ttl: Duration,
}

impl Default for ClientKeys {
    fn default() -> Self {
        Self { inline: Cache::new(CAPACITY), fetched: Cache::new(CAPACITY) }
    }
}

impl ClientKeys {
    /// Verifies that a JWT was signed by its client. `only`: the algorithm that the client has
    /// registered, if it has.
    ///
    /// # Errors
    /// Why no key of the client verifies it.
    pub(crate) async fn verify(
        &self,
        outbound: &Outbound,
        now: Timestamp,
        client: &Client,
        jwt: &ClientJwt<'_>,
        only: Option<SigningAlgorithm>,
    ) -> Result<(), InvalidToken> {
        let metadata = &client.metadata;
        let keys = (metadata.jwks.as_ref(), metadata.jwks_uri.as_ref());
        self.verify_with(outbound, now, keys, jwt, only).await
    }

    /// As [`Self::verify`], with the keys of another signer: its `jwks`, else those at its
    /// `jwks_uri`.
    ///
    /// # Errors
    /// Why none of the keys verifies it.
    pub(crate) async fn verify_with(
        &self,
        outbound: &Outbound,
        now: Timestamp,
        (document, uri): (Option<&serde_json::Value>, Option<&String>),
        jwt: &ClientJwt<'_>,
        only: Option<SigningAlgorithm>,
    ) -> Result<(), InvalidToken> {
        if let Some(document) = document {
            let keys = self.inline(document).ok_or(InvalidToken("`jwks` has no usable key"))?;
            return keys.verify(jwt, only);
        }
        let Some(uri) = uri else {
            return Err(InvalidToken("the signer has registered no `jwks` or `jwks_uri`"));
        };
        self.verify_at(outbound, now, (uri, false), jwt, only).await
    }

    /// As [`Self::verify`], with the keys at the `jwks_uri` of a configured provider.
    ///
    /// # Errors
    /// Why none of the keys verifies it.
    pub(crate) async fn verify_configured(
        &self,
        outbound: &Outbound,
        now: Timestamp,
        uri: &str,
        jwt: &ClientJwt<'_>,
    ) -> Result<(), InvalidToken> {
        self.verify_at(outbound, now, (uri, true), jwt, None).await
    }

    async fn verify_at(
        &self,
        outbound: &Outbound,
        now: Timestamp,
        (uri, is_configured): (&str, bool),
        jwt: &ClientJwt<'_>,
        only: Option<SigningAlgorithm>,
    ) -> Result<(), InvalidToken> {
        let verify = |set: &Fetched| match &set.keys {
            Some(keys) => keys.verify(jwt, only),
            None => Err(InvalidToken("`jwks_uri` could not be fetched, or is not a JWKS")),
        };
        let cached = self.fetched.get(uri);
        if let Some(cached) = &cached {
            let verified = verify(cached);
            if cached.tried_at.distance(now) < cached.ttl && verified.is_ok() {
                return Ok(());
            }
            // The client may have rotated its keys; forged signatures must not cause a fetch each.
            if cached.tried_at.distance(now) < RETRY_INTERVAL {
                return verified.and(Err(InvalidToken("the keys of `jwks_uri` are outdated")));
            }
        }
        let fetched = Arc::new(fetch(outbound, (uri, is_configured), cached.as_deref(), now).await);
        self.fetched.insert(uri.to_owned(), Arc::clone(&fetched));
        verify(&fetched)
    }

    fn inline(&self, document: &serde_json::Value) -> Option<Arc<KeySet>> {
        let hash: [u8; 32] = Sha256::digest(document.to_string()).into();
        if let Some(cached) = self.inline.get(&hash) {
            return Some(cached);
        }
        let keys = Arc::new(KeySet::parse(document).ok()?);
        self.inline.insert(hash, Arc::clone(&keys));
        Some(keys)
    }
}

async fn fetch(
    outbound: &Outbound,
    (uri, is_configured): (&str, bool),
    cached: Option<&Fetched>,
    now: Timestamp,
) -> Fetched {
    const ACCEPT: &str = "application/jwk-set+json, application/json";
    let response = if is_configured {
        outbound.get_configured(uri, ACCEPT).await
    } else {
        outbound.get(uri, ACCEPT).await
    };
    match response {
        Ok(fetched) => {
            let document = serde_json::from_slice(&fetched.body).unwrap_or_default();
            let keys = KeySet::parse(&document)
                .inspect_err(|error| tracing::warn!(uri, error, "jwks_uri is not a JWK Set"));
            let ttl = fetched.max_age.unwrap_or(DEFAULT_TTL).clamp(MIN_TTL, MAX_TTL);
            Fetched { keys: keys.ok().map(Arc::new), fetched_at: now, tried_at: now, ttl }
        }
        Err(error) => {
            tracing::warn!(uri, %error, "fetching a jwks_uri failed");
            // An unreachable server withdraws nothing: the set it served before stays valid, for a
            // day at the most.
            let is_recent = |set: &Fetched| set.fetched_at.distance(now) < MAX_TTL;
            let kept = cached.filter(|set| !error.is_permanent() && is_recent(set));
            Fetched {
                keys: kept.and_then(|set| set.keys.clone()),
                fetched_at: kept.map_or(now, |set| set.fetched_at),
                tried_at: now,
                ttl: RETRY_INTERVAL,
            }
        }
    }
}
