//! The feed: who verifies tokens without asking follows the list by it (docs/revocation-feed.md). A follower has the
//! whole list at a number, and every change from there on.

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

/// Changes that are kept at hand for those who come back.
const RECENT: usize = 20_000;
/// A follower that lacks more takes a snapshot.
const FURTHEST: i64 = 10_000;
/// Deltas that a follower may leave unread; each holds all changes of some milliseconds.
const UNREAD: usize = 512;
/// Followers of one process.
const MOST: usize = 20_000;
/// How often other processes' revocations are looked for while somebody follows.
const LOOK: Duration = Duration::from_millis(100);

/// The whole list at a number.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    pub number: i64,
    pub entries: Vec<WireRevocation>,
}

/// What came between two numbers.
#[derive(Debug, Serialize)]
pub struct Delta {
    /// The number that it is added to; a follower that has another one has missed something.
    pub from: i64,
    /// The number of a follower that has taken it in.
    pub to: i64,
    pub entries: Vec<WireRevocation>,
    #[serde(skip)]
    json: OnceLock<Bytes>,
}

/// Why a follower is sent away.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error("this number is too far away: take a snapshot")]
    TooFar,
    #[error("too many followers")]
    TooMany,
    #[error("the list cannot be read")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What followers are served from.
#[derive(Debug)]
pub struct Feed {
    recent: Mutex<Recent>,
    deltas: broadcast::Sender<Arc<Delta>>,
    followers: Arc<AtomicUsize>,
    closed: watch::Sender<bool>,
}

#[derive(Debug)]
struct Recent {
    /// Everything behind this number is in `changes`.
    base: i64,
    head: i64,
    changes: VecDeque<(i64, WireRevocation)>,
}

/// One who follows.
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

    /// As JSON, written once for all followers.
    pub fn json(&self) -> Bytes {
        let written = || serde_json::to_vec(self).unwrap_or_default().into();
        self.json.get_or_init(written).clone()
    }
}

impl Feed {
    pub(super) fn new(head: i64) -> Self {
        Self {
            recent: Mutex::new(Recent { base: head, head, changes: VecDeque::new() }),
            deltas: broadcast::Sender::new(UNREAD),
            followers: Arc::default(),
            closed: watch::Sender::new(false),
        }
    }

    /// Takes in what the list has heard: everything up to `head`.
    pub(super) fn push(&self, news: &[NumberedRevocation], head: i64) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let from = recent.head;
        if head <= from {
            return;
        }
        let is_new = |new: &&NumberedRevocation| (from + 1..=head).contains(&new.number);
        let entries: Vec<WireRevocation> =
            news.iter().filter(is_new).map(|new| new.entry.to_wire()).collect();
        let numbers = news.iter().filter(is_new).map(|new| new.number);
        recent.changes.extend(numbers.zip(entries.iter().cloned()));
        recent.head = head;
        while recent.changes.len() > RECENT
            && let Some((number, _)) = recent.changes.pop_front()
        {
            recent.base = number;
        }
        // An error means that nobody follows.
        let _ = self.deltas.send(Arc::new(Delta::new(from, head, entries)));
    }

    /// How many follow.
    pub fn followers(&self) -> usize {
        self.followers.load(Ordering::Acquire)
    }

    /// Sends every follower away: the server is about to end.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    fn counted(&self) -> Result<Counted, FollowError> {
        let counted = Counted(Arc::clone(&self.followers));
        if self.followers.fetch_add(1, Ordering::AcqRel) >= MOST {
            return Err(FollowError::TooMany);
        }
        Ok(counted)
    }
}

impl RevocationList {
    /// The whole list, with all that was committed before the call.
    ///
    /// # Errors
    /// [`SyncError`] where the database cannot be asked.
    pub async fn snapshot(&self) -> Result<Snapshot, SyncError> {
        self.sync().await?;
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Snapshot { number: entries.number, entries: entries.wire() })
    }

    /// Follows the list from a number on; what was committed before the call and is behind that number comes first.
    ///
    /// # Errors
    /// [`FollowError`].
    pub async fn follow(
        &self,
        db: &Db,
        clock: &Clock,
        since: i64,
    ) -> Result<Follower, FollowError> {
        let counted = self.feed.counted()?;
        let unavailable = |error: SyncError| FollowError::Unavailable(error.into());
        self.sync().await.map_err(unavailable)?;
        // From here on everything that is pushed comes by the channel; what was pushed before is `missed`.
        let (deltas, head, at_hand) = {
            let recent = self.feed.recent.lock().unwrap_or_else(PoisonError::into_inner);
            let behind = recent.changes.iter().filter(|(number, _)| *number > since);
            let at_hand =
                (since >= recent.base).then(|| behind.map(|(_, one)| one.clone()).collect());
            (self.feed.deltas.subscribe(), recent.head, at_hand)
        };
        if since > head || head - since > FURTHEST {
            return Err(FollowError::TooFar);
        }
        let entries = match at_hand {
            Some(entries) => entries,
            None => older(db, clock, since, head).await?,
        };
        Ok(Follower {
            number: since,
            missed: (since < head).then(|| Arc::new(Delta::new(since, head, entries))),
            deltas,
            closed: self.feed.closed.subscribe(),
            _counted: counted,
        })
    }

    /// Looks for other processes' revocations while somebody follows. Runs until it is dropped.
    pub async fn poll_for_changes(self) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if self.feed.followers() > 0 {
                // Where it fails the next one looks again; what is new is pushed on the way.
                let _ = self.sync().await;
            }
        }
    }
}

async fn older(
    db: &Db,
    clock: &Clock,
    since: i64,
    head: i64,
) -> Result<Vec<WireRevocation>, FollowError> {
    let unavailable = |error: storage::Error| FollowError::Unavailable(error.into());
    let mut entries = revocations::since(db, since, clock.now()).await.map_err(unavailable)?;
    entries.retain(|one| one.number <= head);
    Ok(entries.iter().map(|one| one.entry.to_wire()).collect())
}

impl Follower {
    /// The next changes; `None` where the server is about to end.
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
                // Pushed before this follower came, and among what it had missed.
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
