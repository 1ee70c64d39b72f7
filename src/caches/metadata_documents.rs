//! Client ID metadata documents that were fetched, by the client's id.

use std::{sync::Arc, time::Duration};

use quick_cache::sync::Cache;

use crate::{clock::Timestamp, ids::ClientId, model::client::Metadata};

/// Documents in the cache; a few KiB each.
const CAPACITY: usize = 1_000;

/// The longest time for which an outcome counts.
pub(crate) const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

/// The outcomes of fetching metadata documents.
#[derive(Debug)]
pub struct MetadataDocuments(Cache<ClientId, (Timestamp, Outcome)>);

/// The outcome of fetching a document.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Valid(Arc<Metadata>),
    /// There is none, or it breaks a rule.
    Invalid,
    /// Its server does not answer.
    Unreachable,
}

impl Default for MetadataDocuments {
    fn default() -> Self {
        Self(Cache::new(CAPACITY))
    }
}

impl MetadataDocuments {
    /// The outcome that still counts.
    pub(crate) fn get(&self, client_id: &ClientId, now: Timestamp) -> Option<Outcome> {
        let (until, outcome) = self.0.get(client_id)?;
        (until > now && until.distance(now) <= MAX_TTL).then_some(outcome)
    }

    /// Keeps an outcome until then.
    pub(crate) fn insert(&self, client_id: &ClientId, until: Timestamp, outcome: Outcome) {
        self.0.insert(client_id.to_owned(), (until, outcome));
    }
}
