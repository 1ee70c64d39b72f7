//! The revocation list as it was last signed for subscribers of the feed.

use bytes::Bytes;
use tokio::sync::{Mutex, MutexGuard};

use crate::clock::Timestamp;

/// The last signed list. Its lock is held while a newer one is signed, so that simultaneous
/// subscribers cause one signature.
#[derive(Debug, Default)]
pub struct SignedList(Mutex<Option<Signed>>);

/// The whole list at a version, as a JWT.
#[derive(Clone, Debug)]
pub struct Signed {
    pub number: i64,
    pub jwt: Bytes,
    pub signed_at: Timestamp,
}

impl SignedList {
    /// The last signed list, for the caller to use or to replace.
    pub(crate) async fn lock(&self) -> MutexGuard<'_, Option<Signed>> {
        self.0.lock().await
    }
}
