//! Answers of resources, each for one user and a short time. Their size is bounded: any user can
//! cause one.

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};
use serde_json::Value;

use crate::clock::Timestamp;

/// Bytes of all answers, about.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// Service, resource, user.
type Key = (String, String, String);

#[derive(Clone, Debug)]
struct Answer {
    fields: Arc<Value>,
    bytes: u64,
    until: Timestamp,
}

#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<Key, Answer> for Bytes {
    fn weight(&self, key: &Key, answer: &Answer) -> u64 {
        let key = key.0.len() + key.1.len() + key.2.len();
        answer.bytes + key as u64 + 128
    }
}

/// The answers that may be given again.
#[derive(Debug)]
pub struct Answers(Cache<Key, Answer, Bytes>);

impl Default for Answers {
    fn default() -> Self {
        Self(Cache::with_weighter(1_000, MOST_BYTES, Bytes))
    }
}

impl Answers {
    /// The answer for a user, if it is not too old.
    pub fn get(
        &self,
        service: &str,
        resource: &str,
        sub: &str,
        now: Timestamp,
    ) -> Option<Arc<Value>> {
        let key = (service.to_owned(), resource.to_owned(), sub.to_owned());
        self.0.get(&key).filter(|answer| answer.until > now).map(|answer| answer.fields)
    }

    /// Keeps an answer.
    pub fn put(
        &self,
        (service, resource, sub): (&str, &str, &str),
        fields: &Arc<Value>,
        until: Timestamp,
    ) {
        let bytes = fields.to_string().len() as u64;
        let key = (service.to_owned(), resource.to_owned(), sub.to_owned());
        self.0.insert(key, Answer { fields: Arc::clone(fields), bytes, until });
    }
}
