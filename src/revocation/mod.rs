//! The revocation list in memory, as fresh as the database at every check.
//!
//! Entries are rows with gapless numbers in commit order. Before a check is answered, the head number is
//! compared with the last one heard; what came between is read first. All checks that wait are served by
//! one such question that began after they arrived: so a revocation acknowledged before a check is seen by
//! it, on every process, while a thousand checks cost a handful of questions. While one question is under way those who come
//! gather for the next, which does not wait for its answer. They go to Redis where there is one that
//! may be believed ([`redis`]), else to the database. Where that cannot be asked, nothing is believed.

pub mod feed;
pub mod redis;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::{Mutex, mpsc, oneshot};

use self::{
    feed::Feed,
    redis::{LeaseKeeper, Replica},
};
use crate::{
    clock::{Clock, Rng, Timestamp},
    config,
    directory::Directory,
    keys::Keys,
    model::revocation::{Revocation, RevocationTarget, WireRevocation},
    oauth::{access_token::AccessClaims, scope::Scope},
    storage::{
        self, Db, Lane, change_counters,
        revocations::{self, NumberedRevocation},
    },
};

/// Checks that may wait for one query; more wait to be let in.
const WAITING: usize = 4096;

/// Questions under way at once: with one, everybody would wait for its answer and nobody work.
const ASKING: usize = 2;

/// Room made for those who wait for one question.
const GROUP: usize = 64;

/// How often other tasks are let run before a question begins: until nobody new has come twice, and no longer than this.
const GATHER: usize = 12;

/// The list of one process.
#[derive(Clone, Debug)]
pub struct RevocationList {
    entries: Arc<RwLock<Entries>>,
    sync: mpsc::Sender<Waiter>,
    /// What came last, for those who follow.
    pub feed: Arc<Feed>,
    /// The copy in Redis, where there is one.
    pub replica: Option<Arc<Replica>>,
}

/// The database could not say whether the list is whole.
#[derive(Debug, thiserror::Error)]
#[error("the revocation list cannot be brought up to date")]
pub struct SyncError;

#[derive(Debug, Default)]
struct Entries {
    number: i64,
    tokens: HashMap<String, Timestamp>,
    sessions: HashMap<String, Timestamp>,
    subjects: HashMap<String, (i64, Timestamp)>,
    /// By subject, then by scope.
    scopes: HashMap<String, HashMap<String, (i64, Timestamp)>>,
    clients: HashMap<String, (i64, Timestamp)>,
    keys: HashMap<String, Timestamp>,
}

impl RevocationList {
    /// Loads the list and starts the task that keeps it fresh; the task ends with the last handle.
    ///
    /// # Errors
    /// [`storage::Error`] where the database cannot be read.
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
        let (sync, waiting) = mpsc::channel(WAITING);
        let list = Self {
            entries: Arc::new(RwLock::new(entries)),
            sync,
            feed: Arc::new(Feed::new(versions.revocations)),
            replica: Replica::new(config).map(Arc::new),
        };
        let known = Arc::new(VersionCheck {
            entries: Arc::clone(&list.entries),
            feed: Arc::clone(&list.feed),
            replica: list.replica.clone(),
            keys,
            directory,
        });
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..ASKING {
            let (known, waiting) = (Arc::clone(&known), Arc::clone(&waiting));
            tokio::spawn(known.run(waiting, db.unannounced(), clock.clone()));
        }
        list.announce_commits(&db, clock, rng);
        Ok(list)
    }

    /// Each commit that takes a number is heard here first, and by the other processes before its caller is answered.
    fn announce_commits(&self, db: &Db, clock: Clock, rng: Rng) {
        let (announce, mut commits) = mpsc::channel::<oneshot::Sender<()>>(WAITING);
        let (news, mut heard) = mpsc::channel::<()>(1);
        db.announce_to(announce);
        match &self.replica {
            Some(replica) => {
                let lease_keeper =
                    LeaseKeeper { replica: Arc::clone(replica), db: db.unannounced(), clock, rng };
                tokio::spawn(lease_keeper.run(commits, news));
            }
            // Other processes ask the database itself.
            None => {
                tokio::spawn(async move {
                    while let Some(committed) = commits.recv().await {
                        let _ = committed.send(());
                        let _ = news.try_send(());
                    }
                });
            }
        }
        let list = self.clone();
        tokio::spawn(async move {
            while heard.recv().await.is_some() {
                // Where it fails the next check says so.
                let _ = list.sync().await;
            }
        });
    }

    /// Comes back once the list (and the keys and the directory) hold everything that was committed before the call.
    ///
    /// # Errors
    /// [`SyncError`] where the database cannot be asked.
    pub async fn sync(&self) -> Result<(), SyncError> {
        let (answer, fresh) = oneshot::channel();
        self.sync.send(answer).await.map_err(|_| SyncError)?;
        if fresh.await.unwrap_or(false) { Ok(()) } else { Err(SyncError) }
    }

    /// The kind of the entry that revokes the token, as of the last [`RevocationList::sync`].
    pub fn revoked_by(&self, claims: &AccessClaims, kid: &str) -> Option<&'static str> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let withdrawn = |scope| entries.withdraw(claims, scope);
        let scope = || claims.scope.split(' ').any(withdrawn).then_some("scope");
        entries.end(claims, kid).or_else(scope)
    }

    /// What is left of the token's scope where its subject has lost some of it since, and nothing else was revoked; `None`
    /// where the token is dead altogether.
    pub fn remaining_scope(&self, claims: &AccessClaims, kid: &str) -> Option<Scope> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let lost = |scope: &&str| entries.withdraw(claims, scope);
        let scopes = claims.scope.split(' ').filter(|scope| !lost(scope));
        entries.end(claims, kid).is_none().then(|| Scope::of(scopes))
    }

    /// Forgets entries that can hit nothing any more; `gone` are the numbers of those that the database has forgotten.
    pub async fn sweep(&self, now: Timestamp, gone: &[i64]) {
        if let Some(replica) = &self.replica {
            replica.forget(gone).await;
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

    /// How many entries there are.
    pub fn len(&self) -> usize {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.tokens.len()
            + entries.sessions.len()
            + entries.subjects.len()
            + entries.scopes.values().map(HashMap::len).sum::<usize>()
            + entries.clients.len()
            + entries.keys.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Entries {
    /// The kind of an entry that hits the token as a whole.
    fn end(&self, claims: &AccessClaims, kid: &str) -> Option<&'static str> {
        let is_old =
            |until: Option<&(i64, Timestamp)>| until.is_some_and(|(until, _)| claims.iat <= *until);
        let session = || self.sessions.contains_key(claims.sid.as_ref()?).then_some(());
        if self.tokens.contains_key(&claims.jti) {
            Some("token")
        } else if session().is_some() {
            Some("session")
        } else if is_old(self.subjects.get(&claims.sub)) {
            Some("subject")
        } else if is_old(self.clients.get(&claims.client_id)) {
            Some("client")
        } else if self.keys.contains_key(kid) {
            Some("key")
        } else {
            None
        }
    }

    /// Whether the token's subject has lost this scope since.
    fn withdraw(&self, claims: &AccessClaims, scope: &str) -> bool {
        self.scopes
            .get(&claims.sub)
            .and_then(|withdrawn| withdrawn.get(scope))
            .is_some_and(|(until, _)| claims.iat <= *until)
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
                until(&mut self.clients, client_id, issued_until, expires_at)
            }
        }
    }

    /// Takes in what came since; `head` was read before it. Entries behind `head` may have come along:
    /// reading them again later changes nothing.
    fn catch_up(&mut self, news: Vec<NumberedRevocation>, head: i64) {
        for new in news {
            self.add(new.entry);
        }
        // Another question's answer may have been taken in first.
        self.number = self.number.max(head);
    }

    /// Every entry, as it is written.
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

/// Of two entries about one name the later second counts.
fn until(
    known: &mut HashMap<String, (i64, Timestamp)>,
    name: String,
    issued_until: i64,
    expires_at: Timestamp,
) {
    let known = known.entry(name).or_insert((issued_until, expires_at));
    *known = (known.0.max(issued_until), known.1.max(expires_at));
}

/// What one query of the head numbers keeps fresh.
struct VersionCheck {
    entries: Arc<RwLock<Entries>>,
    feed: Arc<Feed>,
    replica: Option<Arc<Replica>>,
    keys: Arc<Keys>,
    directory: Arc<Directory>,
}

type Waiter = oneshot::Sender<bool>;

/// All who wait for the next question, once somebody does; empty where nobody will any more.
async fn gather(waiting: &Mutex<mpsc::Receiver<Waiter>>) -> Vec<Waiter> {
    let mut group = Vec::with_capacity(GROUP);
    let mut waiting = waiting.lock().await;
    waiting.recv_many(&mut group, WAITING).await;
    // Those that are about to ask are let in before the question begins: one for all is cheaper.
    let mut quiet = 0;
    for _ in 0..GATHER {
        let before = group.len();
        tokio::task::yield_now().await;
        while let Ok(waiter) = waiting.try_recv() {
            group.push(waiter);
        }
        quiet = if group.len() == before { quiet + 1 } else { 0 };
        if quiet == 2 {
            break;
        }
    }
    group
}

impl VersionCheck {
    /// Asks for those who wait, until nobody will any more.
    async fn run(
        self: Arc<Self>,
        waiting: Arc<Mutex<mpsc::Receiver<Waiter>>>,
        db: Db,
        clock: Clock,
    ) {
        let mut lane = db.lane();
        loop {
            let group = gather(&waiting).await;
            if group.is_empty() {
                return;
            }
            let fresh = match self.check(&mut lane, &db, &clock).await {
                Ok(()) => true,
                // A command closes it when it is done, under the news of its own commit.
                Err(crate::keys::Error::Storage(error)) if error.is_closed() => false,
                Err(error) => {
                    tracing::error!(%error, "the revocation list cannot be brought up to date: tokens are refused");
                    false
                }
            };
            for waiter in group {
                let _ = waiter.send(fresh);
            }
        }
    }

    async fn check(
        &self,
        lane: &mut Lane,
        db: &Db,
        clock: &Clock,
    ) -> Result<(), crate::keys::Error> {
        let copied = match &self.replica {
            Some(replica) => replica.versions().await,
            None => None,
        };
        let versions = match copied {
            Some(versions) => versions,
            None => change_counters::read_on(lane).await?,
        };
        self.directory.observe(versions.clients);
        let known = self.entries.read().unwrap_or_else(PoisonError::into_inner).number;
        if versions.revocations > known {
            let copied = match (&self.replica, copied) {
                (Some(replica), Some(_)) => replica.entries(known, versions.revocations).await,
                _ => None,
            };
            let news = match copied {
                Some(news) => news,
                None => revocations::since(db, known, clock.now()).await?,
            };
            // Together: a follower that hears of an entry finds the list to have it, be it about the follower's own token.
            let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            self.feed.push(&news, versions.revocations);
            entries.catch_up(news, versions.revocations);
        }
        if versions.keys > self.keys.ring().version {
            self.keys.reload(db, clock.now()).await?;
        }
        Ok(())
    }
}
