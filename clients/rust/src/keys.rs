//! The public keys of the issuer.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use serde::Deserialize;
use tokio::sync::Mutex;

use crate::{
    Error,
    api::Api,
    clock::{Clock, Moment},
    jws::Key,
};

/// Keys are fetched again when a token names one that is not known, this often at most: otherwise
/// everybody could make us fetch.
const COOLDOWN: Duration = Duration::from_secs(30);
/// The pause after an attempt without which there are no keys at all.
const PAUSE: Duration = Duration::from_secs(1);
/// They are also fetched when they are that old.
const MAX_AGE: Duration = Duration::from_secs(600);
/// A server has a handful.
const MOST_KEYS: usize = 100;

/// The keys of a server, fetched when they are needed.
pub(crate) struct Keys {
    issuer: Arc<str>,
    api: Api,
    known: RwLock<Known>,
    /// Held while the keys are fetched, so that concurrent requests share an answer.
    fetching: Mutex<()>,
}

#[derive(Default)]
struct Known {
    keys: HashMap<String, Arc<Key>>,
    /// When they were asked for.
    fetched: Option<Moment>,
    /// When the last attempt began, and its outcome.
    attempted: Option<Moment>,
    attempted_with_success: bool,
}

/// What is used of the discovery document (OpenID Connect Discovery §3).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<serde_json::Value>,
}

impl Keys {
    pub(crate) fn new(issuer: Arc<str>, api: Api) -> Self {
        Self { issuer, api, known: RwLock::default(), fetching: Mutex::new(()) }
    }

    /// The key with an id; `None` if the issuer has none.
    ///
    /// # Errors
    /// The keys could not be had.
    pub(crate) async fn get(&self, id: &str) -> Result<Option<Arc<Key>>, Error> {
        if let Some(key) = self.current(id) {
            return Ok(Some(key));
        }
        let _fetching = self.fetching.lock().await;
        // Another request may have fetched them meanwhile.
        if let Some(key) = self.current(id) {
            return Ok(Some(key));
        }
        let clock = &self.api.clock;
        let unavailable = || {
            let text = "the keys of the issuer cannot be had: tokens cannot be verified";
            Error::Unavailable(text.to_owned())
        };
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            let pause = if known.fetched.is_some() { COOLDOWN } else { PAUSE };
            if is_within(clock, known.attempted, pause) {
                let key = known.keys.get(id).cloned();
                let is_decided = key.is_some() || known.attempted_with_success;
                return if is_decided { Ok(key) } else { Err(unavailable()) };
            }
        }
        let began = clock.now();
        let fetched = self.fetch().await;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.attempted = Some(began);
        known.attempted_with_success = fetched.is_ok();
        match fetched {
            Ok(keys) => {
                known.keys = keys;
                known.fetched = Some(began);
                Ok(known.keys.get(id).cloned())
            }
            // Old keys are used on: the revocation list, without which no token passes, names those
            // that are banned.
            Err(error) => known.keys.get(id).cloned().map(Some).ok_or(error),
        }
    }

    /// A key that need not be fetched.
    fn current(&self, id: &str) -> Option<Arc<Key>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_current = is_within(&self.api.clock, known.fetched, MAX_AGE);
        known.keys.get(id).filter(|_| is_current).cloned()
    }

    async fn fetch(&self) -> Result<HashMap<String, Arc<Key>>, Error> {
        let url = &self.api.url;
        let malformed = |what: &str| Error::Unavailable(format!("{what} of {url} is malformed"));
        let document = format!("{url}/.well-known/openid-configuration");
        let document = self.api.document(&document).await?;
        let discovery: Discovery =
            serde_json::from_slice(&document).map_err(|_| malformed("the discovery document"))?;
        if *discovery.issuer != *self.issuer {
            return Err(Error::Unavailable(format!(
                "the server at {url} has the issuer {}, not {}: correct `issuer` or `url`",
                discovery.issuer, self.issuer
            )));
        }
        // The server may be reached at another URL than its issuer.
        let path = discovery.jwks_uri.strip_prefix(&*self.issuer);
        let jwks_uri = path.map_or(discovery.jwks_uri.clone(), |path| format!("{url}{path}"));
        let jwks: Jwks = serde_json::from_slice(&self.api.document(&jwks_uri).await?)
            .map_err(|_| malformed("the JWKS"))?;
        let keys = jwks.keys.into_iter().take(MOST_KEYS).filter_map(Key::from_jwk);
        Ok(keys.map(|key| (key.id.clone(), Arc::new(key))).collect())
    }
}

fn is_within(clock: &Clock, moment: Option<Moment>, time: Duration) -> bool {
    moment.is_some_and(|moment| clock.now().since(moment) < time)
}
