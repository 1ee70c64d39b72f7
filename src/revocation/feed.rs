//! The change feed for services that verify tokens locally (docs/revocation-feed.md). A follower
//! has the complete list at one version and receives every change after it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{broadcast, watch};

use super::{RevocationList, SyncError};
use crate::{
    clock::Clock,
    model::revocation::WireRevocation,
    storage::{
        self, Db,
        revocations::{self, NumberedRevocation},
    },
};

/// Changes kept in memory for followers that reconnect.
const HISTORY: usize = 20_000;
/// A follower that is further behind must take a snapshot.
const MAX_LAG: i64 = 10_000;
/// Unread deltas per follower; each holds all changes of one sync.
const FOLLOWER_BUFFER: usize = 512;
/// Followers per process.
const MAX_FOLLOWERS: usize = 20_000;
/// Interval at which changes of other processes are polled while there are followers.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Without followers every tenth poll is made, for the keys: a process that checks no token signs
/// with a new one all the same.
const IDLE_POLLS: u32 = 10;

/// The complete list at one version.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    pub number: i64,
    pub entries: Vec<WireRevocation>,
}

/// The changes between two versions.
#[derive(Debug, Serialize)]
pub struct Delta {
    /// The version it applies to; a follower at another version has missed changes.
    pub from: i64,
    /// The version after it is applied.
    pub to: i64,
    pub entries: Vec<WireRevocation>,
    #[serde(skip)]
    json: OnceLock<Bytes>,
}

/// Why a follower is refused or disconnected.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error("resync required: take a snapshot")]
    TooFar,
    #[error("too many followers")]
    TooMany,
    #[error("the revocation list cannot be read")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The source of all followers.
#[derive(Debug)]
pub struct Feed {
    recent: Mutex<Recent>,
    deltas: broadcast::Sender<Arc<Delta>>,
    followers: Arc<AtomicUsize>,
    closed: watch::Sender<bool>,
}

#[derive(Debug)]
struct Recent {
    /// `changes` holds everything after this version.
    base: i64,
    version: i64,
    changes: VecDeque<(i64, WireRevocation)>,
}

/// A subscription to the feed.
#[derive(Debug)]
pub struct Follower {
    number: i64,
    missed: Option<Arc<Delta>>,
    deltas: broadcast::Receiver<Arc<Delta>>,
    closed: watch::Receiver<bool>,
    _counted: Counted,
}

#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Delta {
    fn new(from: i64, to: i64, entries: Vec<WireRevocation>) -> Self {
        Self { from, to, entries, json: OnceLock::new() }
    }

    /// The delta as JSON, serialised once for all followers.
    pub fn json(&self) -> Bytes {
        let written = || serde_json::to_vec(self).unwrap_or_default().into();
        self.json.get_or_init(written).clone()
    }
}

impl Feed {
    pub(super) fn new(version: i64) -> Self {
        Self {
            recent: Mutex::new(Recent { base: version, version, changes: VecDeque::new() }),
            deltas: broadcast::Sender::new(FOLLOWER_BUFFER),
            followers: Arc::default(),
            closed: watch::Sender::new(false),
        }
    }

    /// Publishes what the list has synced: everything up to `version`.
    pub(super) fn push(&self, synced: &[NumberedRevocation], version: i64) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let from = recent.version;
        if version <= from {
            return;
        }
        let is_new = |new: &&NumberedRevocation| (from + 1..=version).contains(&new.number);
        let entries: Vec<WireRevocation> =
            synced.iter().filter(is_new).map(|new| new.entry.to_wire()).collect();
        let numbers = synced.iter().filter(is_new).map(|new| new.number);
        recent.changes.extend(numbers.zip(entries.iter().cloned()));
        recent.version = version;
        while recent.changes.len() > HISTORY
            && let Some((number, _)) = recent.changes.pop_front()
        {
            recent.base = number;
        }
        // An error means that there is no follower.
        let _ = self.deltas.send(Arc::new(Delta::new(from, version, entries)));
    }

    /// The number of followers.
    pub fn followers(&self) -> usize {
        self.followers.load(Ordering::Acquire)
    }

    /// Disconnects every follower, on shutdown.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    fn count_follower(&self) -> Result<Counted, FollowError> {
        let counted = Counted(Arc::clone(&self.followers));
        if self.followers.fetch_add(1, Ordering::AcqRel) >= MAX_FOLLOWERS {
            return Err(FollowError::TooMany);
        }
        Ok(counted)
    }
}

impl RevocationList {
    /// The complete list, including everything committed before the call.
    ///
    /// # Errors
    /// [`SyncError`] if the database does not answer.
    pub async fn snapshot(&self) -> Result<Snapshot, SyncError> {
        self.sync().await?;
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Snapshot { number: entries.number, entries: entries.wire() })
    }

    /// Subscribes to the changes after version `since`, those committed before the call first.
    ///
    /// # Errors
    /// [`FollowError`].
    pub async fn follow(
        &self,
        db: &Db,
        clock: &Clock,
        since: i64,
    ) -> Result<Follower, FollowError> {
        let counted = self.feed.count_follower()?;
        let unavailable = |error: SyncError| FollowError::Unavailable(error.into());
        self.sync().await.map_err(unavailable)?;
        // From here on the channel delivers what is pushed; what was pushed before is `missed`.
        let (deltas, version, in_memory) = {
            let recent = self.feed.recent.lock().unwrap_or_else(PoisonError::into_inner);
            let behind = recent.changes.iter().filter(|(number, _)| *number > since);
            let in_memory =
                (since >= recent.base).then(|| behind.map(|(_, one)| one.clone()).collect());
            (self.feed.deltas.subscribe(), recent.version, in_memory)
        };
        if since > version || version - since > MAX_LAG {
            return Err(FollowError::TooFar);
        }
        let entries = match in_memory {
            Some(entries) => entries,
            None => read_range(db, clock, since, version).await?,
        };
        Ok(Follower {
            number: since,
            missed: (since < version).then(|| Arc::new(Delta::new(since, version, entries))),
            deltas,
            closed: self.feed.closed.subscribe(),
            _counted: counted,
        })
    }

    /// Polls for changes of other processes. Runs until it is dropped.
    pub async fn poll_for_changes(self) {
        let mut tick = tokio::time::interval(POLL_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut skipped = 0;
        loop {
            tick.tick().await;
            skipped += 1;
            if self.feed.followers() > 0 || skipped >= IDLE_POLLS {
                skipped = 0;
                // A sync pushes what is new; after a failure the next one tries again.
                let _ = self.sync().await;
            }
        }
    }
}

async fn read_range(
    db: &Db,
    clock: &Clock,
    since: i64,
    version: i64,
) -> Result<Vec<WireRevocation>, FollowError> {
    let unavailable = |error: storage::Error| FollowError::Unavailable(error.into());
    let mut entries = revocations::since(db, since, clock.now()).await.map_err(unavailable)?;
    entries.retain(|one| one.number <= version);
    Ok(entries.iter().map(|one| one.entry.to_wire()).collect())
}

impl Follower {
    /// The next changes; `None` when the server shuts down.
    pub async fn next(&mut self) -> Option<Result<Arc<Delta>, FollowError>> {
        if let Some(missed) = self.missed.take() {
            self.number = missed.to;
            return Some(Ok(missed));
        }
        loop {
            let delta = tokio::select! {
                _ = self.closed.wait_for(|closed| *closed) => return None,
                delta = self.deltas.recv() => delta,
            };
            match delta {
                // Pushed before the subscription and already part of `missed`.
                Ok(delta) if delta.to <= self.number => {}
                Ok(delta) => {
                    self.number = delta.to;
                    return Some(Ok(delta));
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    return Some(Err(FollowError::TooFar));
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
