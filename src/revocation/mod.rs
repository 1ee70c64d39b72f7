//! The revocation list in memory, as recent as the database at every check.
//!
//! Entries are rows with gapless numbers in commit order. Before a check is answered, the version
//! of the list is compared with the last one observed, and the missing entries are read. Version
//! checks are coalesced ([`storage::shared`]): one query that begins after a group of checks
//! arrived answers all of them.
//! So every check sees every revocation that was acknowledged before it, by any process, while a
//! thousand checks cost a handful of queries. While one query runs, new checks gather for the next
//! one and do not wait for its answer. Queries go to a trusted Redis replica ([`redis`]) if there
//! is one, else to the database. If neither answers, no token is accepted.

pub mod batch;
pub mod feed;
pub mod redis;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::{mpsc, oneshot};

use self::{
    feed::Feed,
    redis::{LONGEST_LEASE, LeaseKeeper, Replica},
};
use crate::{
    clock::{Clock, Rng, Timestamp},
    config,
    directory::Directory,
    keys::Keys,
    model::revocation::{Revocation, RevocationTarget, WireRevocation},
    oauth::{
        access_token::{AccessClaims, Origin},
        scope::Scope,
    },
    storage::{
        self, CommitNotifications, Db, DedicatedConnection, change_counters,
        revocations::{self, NumberedRevocation},
        shared::{Call, Serve, Shared},
    },
};

/// Commits that may be queued for their notification; further ones wait for room in the queue.
const QUEUE_LENGTH: usize = 4096;

/// Concurrent version checks.
const CONCURRENT_CHECKS: usize = 2;

/// The revocation list of one process.
#[derive(Clone, Debug)]
pub struct RevocationList {
    entries: Arc<RwLock<Entries>>,
    checks: Arc<Shared<(), bool>>,
    /// The change feed.
    pub feed: Arc<Feed>,
    /// The Redis replica, if Redis is configured.
    pub replica: Option<Arc<Replica>>,
}

/// The database did not confirm that the list is complete.
#[derive(Debug, thiserror::Error)]
#[error("the revocation list cannot be synced with the database")]
pub struct SyncError;

#[derive(Debug, Default)]
struct Entries {
    number: i64,
    tokens: HashMap<String, Timestamp>,
    sessions: HashMap<String, Timestamp>,
    subjects: HashMap<String, (i64, Timestamp)>,
    /// Keyed by subject, then by scope.
    scopes: HashMap<String, HashMap<String, (i64, Timestamp)>>,
    clients: HashMap<String, (i64, Timestamp)>,
    keys: HashMap<String, Timestamp>,
}

impl RevocationList {
    /// Loads the list and starts the tasks that sync it; they end with the last handle.
    ///
    /// # Errors
    /// [`storage::Error`] if the database cannot be read.
    pub async fn open(
        config: &config::Redis,
        db: Db,
        keys: Arc<Keys>,
        directory: Arc<Directory>,
        clock: Clock,
        rng: Rng,
    ) -> storage::Result<Self> {
        let mut entries = Entries::default();
        let versions = change_counters::read(&db).await?;
        directory.observe(versions.clients);
        entries.catch_up(revocations::since(&db, 0, clock.now()).await?, versions.revocations);
        let entries = Arc::new(RwLock::new(entries));
        let feed = Arc::new(Feed::new(versions.revocations));
        let replica = Replica::new(config).map(Arc::new);
        let checks = (0..CONCURRENT_CHECKS).map(|_| VersionCheck {
            entries: Arc::clone(&entries),
            feed: Arc::clone(&feed),
            replica: replica.clone(),
            keys: Arc::clone(&keys),
            directory: Arc::clone(&directory),
            connection: db.dedicated_connection(),
            db: db.without_notifications(),
            clock: clock.clone(),
        });
        let checks = Arc::new(Shared::start(checks));
        let list = Self { entries, checks, feed, replica };
        list.notify_on_commit(&db, clock, rng);
        Ok(list)
    }

    /// Before the caller of a commit that takes a version is answered, syncs this process and
    /// notifies the others through Redis: what it asks this process next sees the commit.
    fn notify_on_commit(&self, db: &Db, clock: Clock, rng: Rng) {
        let (sender, mut commits) = mpsc::channel::<oneshot::Sender<()>>(QUEUE_LENGTH);
        db.notify_commits_to(CommitNotifications { sender, longest_wait: LONGEST_LEASE });
        let list = self.clone();
        match &self.replica {
            Some(replica) => {
                let lease_keeper = LeaseKeeper {
                    replica: Arc::clone(replica),
                    db: db.without_notifications(),
                    clock,
                    rng,
                };
                tokio::spawn(lease_keeper.run(commits, list));
            }
            // Other processes query the database.
            None => {
                tokio::spawn(async move {
                    let mut waiting = Vec::new();
                    while commits.recv_many(&mut waiting, QUEUE_LENGTH).await > 0 {
                        list.sync_after_commit().await;
                        for committed in waiting.drain(..) {
                            let _ = committed.send(());
                        }
                    }
                });
            }
        }
    }

    /// Syncs this process. What was committed stays so after a failure: the next check reports it.
    async fn sync_after_commit(&self) {
        let _ = self.sync().await;
    }

    /// Returns once the list, the keys and the client cache include everything committed before the
    /// call.
    ///
    /// # Errors
    /// [`SyncError`] if the database does not answer.
    pub async fn sync(&self) -> Result<(), SyncError> {
        if self.checks.call(()).await.unwrap_or(false) { Ok(()) } else { Err(SyncError) }
    }

    /// The kind of the entry that revokes the token, as of the last [`RevocationList::sync`].
    pub fn revoked_by(&self, claims: &AccessClaims, kid: &str) -> Option<&'static str> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let lost = |scope| entries.revokes_scope(claims, scope);
        let scope = || claims.scope.iter().any(lost).then_some("scope");
        entries.revokes_token(claims, kid).or_else(scope)
    }

    /// The scope of the token without the scopes its subject has lost since it was issued; `None`
    /// if the token itself is revoked.
    pub fn remaining_scope(&self, claims: &AccessClaims, kid: &str) -> Option<Scope> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let kept = || claims.scope.filter(|scope| !entries.revokes_scope(claims, scope));
        entries.revokes_token(claims, kid).is_none().then(kept)
    }

    /// Removes expired entries from memory, and from the replica those that the database has
    /// deleted.
    pub async fn sweep(&self, now: Timestamp, deleted: &[i64]) {
        if let Some(replica) = &self.replica {
            replica.remove(deleted).await;
        }
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.tokens.retain(|_, expires_at| *expires_at > now);
        entries.sessions.retain(|_, expires_at| *expires_at > now);
        let Entries { subjects, clients, scopes, .. } = &mut *entries;
        for until in [subjects, clients].into_iter().chain(scopes.values_mut()) {
            until.retain(|_, (_, expires_at)| *expires_at > now);
        }
        scopes.retain(|_, withdrawn| !withdrawn.is_empty());
        entries.keys.retain(|_, expires_at| *expires_at > now);
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.tokens.len()
            + entries.sessions.len()
            + entries.subjects.len()
            + entries.scopes.values().map(HashMap::len).sum::<usize>()
            + entries.clients.len()
            + entries.keys.len()
    }

    /// Whether the list has no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Entries {
    /// The kind of an entry that revokes the token itself.
    fn revokes_token(&self, claims: &AccessClaims, kid: &str) -> Option<&'static str> {
        let is_old =
            |until: Option<&(i64, Timestamp)>| until.is_some_and(|(until, _)| claims.iat <= *until);
        // A token that was exchanged depends on what its subject tokens depended on.
        let iat = issued_first(claims);
        let is_of_lost_subject =
            |until: Option<&(i64, Timestamp)>| until.is_some_and(|(until, _)| iat <= *until);
        let session = || self.sessions.contains_key(claims.sid.as_deref()?).then_some(());
        if self.tokens.contains_key(&claims.jti) {
            Some("token")
        } else if session().is_some() {
            Some("session")
        } else if is_of_lost_subject(self.subjects.get(&claims.sub)) {
            Some("subject")
        } else if is_old(self.clients.get(claims.client_id.as_str())) {
            Some("client")
        } else if self.keys.contains_key(kid) {
            Some("key")
        } else {
            claims.derived_from.iter().find_map(|origin| self.revokes_origin(origin))
        }
    }

    /// The kind of an entry that revokes a token that another one was exchanged for.
    fn revokes_origin(&self, origin: &Origin) -> Option<&'static str> {
        let client = self.clients.get(origin.client_id.as_str());
        if origin.jti.as_ref().is_some_and(|jti| self.tokens.contains_key(jti)) {
            Some("token")
        } else if client.is_some_and(|(until, _)| origin.iat <= *until) {
            Some("client")
        } else {
            self.keys.contains_key(&origin.kid).then_some("key")
        }
    }

    /// Whether the subject of the token has lost this scope since it was issued.
    fn revokes_scope(&self, claims: &AccessClaims, scope: &str) -> bool {
        self.scopes
            .get(&claims.sub)
            .and_then(|withdrawn| withdrawn.get(scope))
            .is_some_and(|(until, _)| issued_first(claims) <= *until)
    }

    fn add(&mut self, entry: Revocation) {
        let expires_at = entry.expires_at;
        match entry.target {
            RevocationTarget::Token(jti) => drop(self.tokens.insert(jti, expires_at)),
            RevocationTarget::Session(sid) => drop(self.sessions.insert(sid, expires_at)),
            RevocationTarget::Key(kid) => drop(self.keys.insert(kid, expires_at)),
            RevocationTarget::Subject { sub, issued_until } => {
                until(&mut self.subjects, sub, issued_until, expires_at);
            }
            RevocationTarget::Scope { sub, scope, issued_until } => {
                let withdrawn = self.scopes.entry(sub).or_default();
                until(withdrawn, scope, issued_until, expires_at);
            }
            RevocationTarget::Client { client_id, issued_until } => {
                until(&mut self.clients, client_id, issued_until, expires_at);
            }
        }
    }

    /// Adds new entries; `version` was read before them. Entries beyond `version` may be among
    /// them: adding them again later changes nothing.
    fn catch_up(&mut self, new: Vec<NumberedRevocation>, version: i64) {
        for revocation in new {
            self.add(revocation.entry);
        }
        // The answer of a later version check may have been added first.
        self.number = self.number.max(version);
    }

    /// Every entry in wire form.
    fn wire(&self) -> Vec<WireRevocation> {
        let of = |target, expires_at| Revocation { target, expires_at }.to_wire();
        let one = |names: &HashMap<String, Timestamp>, target: fn(String) -> RevocationTarget| {
            let named = names.iter().map(|(name, at)| of(target(name.clone()), *at));
            named.collect::<Vec<_>>()
        };
        let mut written = one(&self.tokens, RevocationTarget::Token);
        written.extend(one(&self.sessions, RevocationTarget::Session));
        written.extend(one(&self.keys, RevocationTarget::Key));
        for (sub, &(issued_until, at)) in &self.subjects {
            let sub = sub.clone();
            written.push(of(RevocationTarget::Subject { sub, issued_until }, at));
        }
        for (sub, withdrawn) in &self.scopes {
            for (scope, &(issued_until, at)) in withdrawn {
                let target = RevocationTarget::Scope {
                    sub: sub.clone(),
                    scope: scope.clone(),
                    issued_until,
                };
                written.push(of(target, at));
            }
        }
        for (client_id, &(issued_until, at)) in &self.clients {
            let client_id = client_id.clone();
            written.push(of(RevocationTarget::Client { client_id, issued_until }, at));
        }
        written
    }
}

/// When the first of the tokens that this one depends on was issued.
fn issued_first(claims: &AccessClaims) -> i64 {
    claims.derived_from.iter().map(|origin| origin.iat).fold(claims.iat, i64::min)
}

/// Keeps the later of two entries with the same key.
fn until(
    known: &mut HashMap<String, (i64, Timestamp)>,
    name: String,
    issued_until: i64,
    expires_at: Timestamp,
) {
    let known = known.entry(name).or_insert((issued_until, expires_at));
    *known = (known.0.max(issued_until), known.1.max(expires_at));
}

/// A coalesced query of the change counters, and what it keeps up to date.
struct VersionCheck {
    entries: Arc<RwLock<Entries>>,
    feed: Arc<Feed>,
    replica: Option<Arc<Replica>>,
    keys: Arc<Keys>,
    directory: Arc<Directory>,
    connection: DedicatedConnection,
    db: Db,
    clock: Clock,
}

impl Serve<(), bool> for VersionCheck {
    // They cost a check nothing.
    const MOST: usize = 4096;

    async fn serve(&mut self, calls: Vec<Call<(), bool>>) {
        let synced = match self.check().await {
            Ok(()) => true,
            // A CLI command closes the database at its end, while its own commit is being synced.
            Err(crate::keys::Error::Storage(error)) if error.is_closed() => false,
            Err(error) => {
                tracing::error!(%error, "revocation list sync failed; tokens are rejected");
                false
            }
        };
        for call in calls {
            call.answer(synced);
        }
    }
}

impl VersionCheck {
    async fn check(&mut self) -> Result<(), crate::keys::Error> {
        let replicated = match &self.replica {
            Some(replica) => replica.versions().await,
            None => None,
        };
        let versions = match replicated {
            Some(versions) => versions,
            None => change_counters::read_on(&mut self.connection).await?,
        };
        self.directory.observe(versions.clients);
        let known = self.entries.read().unwrap_or_else(PoisonError::into_inner).number;
        if versions.revocations > known {
            let replicated = match (&self.replica, replicated) {
                (Some(replica), Some(_)) => replica.entries(known, versions.revocations).await,
                _ => None,
            };
            let added = match replicated {
                Some(added) => added,
                None => revocations::since(&self.db, known, self.clock.now()).await?,
            };
            // Under one lock: when a follower receives an entry, the list already contains it, even
            // if it revokes the follower's own token.
            let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            self.feed.push(&added, versions.revocations);
            entries.catch_up(added, versions.revocations);
        }
        if versions.keys > self.keys.ring().version {
            self.keys.reload(&self.db, self.clock.now()).await?;
        }
        Ok(())
    }
}
