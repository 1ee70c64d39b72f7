//! The revocation list in memory, as fresh as the database at every check.
//!
//! Entries are rows with gapless numbers in commit order. Before a check is answered, the head number is
//! compared with the last one heard; what came between is read first. All checks that wait are served by
//! one such query that began after they arrived: so a revocation acknowledged before a check is seen by
//! it, on every process, while a thousand checks cost a handful of queries. Where the database cannot
//! be asked, nothing is believed.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    clock::{Clock, Timestamp},
    directory::Directory,
    keys::Keys,
    model::revocation::{Revocation, Target},
    oauth::access_token::AccessClaims,
    storage::{
        self, Db, heads,
        revocations::{self, Numbered},
    },
};

/// Checks that may wait for one query; more wait to be let in.
const WAITING: usize = 4096;

/// How often other tasks are let run before a query begins.
const GATHER: usize = 3;

/// The list of one process.
#[derive(Clone, Debug)]
pub struct RevocationList {
    entries: Arc<RwLock<Entries>>,
    freshen: mpsc::Sender<oneshot::Sender<bool>>,
}

/// The database could not say whether the list is whole.
#[derive(Debug, thiserror::Error)]
#[error("the revocation list cannot be brought up to date")]
pub struct Stale;

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
        db: Db,
        keys: Arc<Keys>,
        directory: Arc<Directory>,
        clock: Clock,
    ) -> storage::Result<Self> {
        let mut entries = Entries::default();
        let heads = heads::read(&db).await?;
        directory.heard(heads.clients);
        entries.catch_up(
            revocations::since(&db, 0, clock.now()).await?,
            heads.revocations,
        );
        let entries = Arc::new(RwLock::new(entries));
        let (freshen, waiting) = mpsc::channel(WAITING);
        let known = Known {
            entries: Arc::clone(&entries),
            keys,
            directory,
        };
        tokio::spawn(keep_fresh(known, waiting, db, clock));
        Ok(Self { entries, freshen })
    }

    /// Comes back once the list (and the keys and the directory) hold everything that was committed before the call.
    ///
    /// # Errors
    /// [`Stale`] where the database cannot be asked.
    pub async fn freshen(&self) -> Result<(), Stale> {
        let (answer, fresh) = oneshot::channel();
        self.freshen.send(answer).await.map_err(|_| Stale)?;
        if fresh.await.unwrap_or(false) {
            Ok(())
        } else {
            Err(Stale)
        }
    }

    /// Whether the token was revoked, as far as this process has heard: [`RevocationList::freshen`] first.
    pub fn hits(&self, claims: &AccessClaims, kid: &str) -> bool {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.tokens.contains_key(&claims.jti)
            || claims
                .sid
                .as_ref()
                .is_some_and(|sid| entries.sessions.contains_key(sid))
            || entries
                .subjects
                .get(&claims.sub)
                .is_some_and(|(until, _)| claims.iat <= *until)
            || entries.scopes.get(&claims.sub).is_some_and(|withdrawn| {
                let is_old = |scope| {
                    withdrawn
                        .get(scope)
                        .is_some_and(|(until, _)| claims.iat <= *until)
                };
                claims.scope.split(' ').any(is_old)
            })
            || entries
                .clients
                .get(&claims.client_id)
                .is_some_and(|(until, _)| claims.iat <= *until)
            || entries.keys.contains_key(kid)
    }

    /// Forgets entries that can hit nothing any more.
    pub fn sweep(&self, now: Timestamp) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.tokens.retain(|_, expires_at| *expires_at > now);
        entries.sessions.retain(|_, expires_at| *expires_at > now);
        let Entries {
            subjects,
            clients,
            scopes,
            ..
        } = &mut *entries;
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
    fn add(&mut self, entry: Revocation) {
        let expires_at = entry.expires_at;
        match entry.target {
            Target::Token(jti) => drop(self.tokens.insert(jti, expires_at)),
            Target::Session(sid) => drop(self.sessions.insert(sid, expires_at)),
            Target::Key(kid) => drop(self.keys.insert(kid, expires_at)),
            Target::Subject { sub, issued_until } => {
                until(&mut self.subjects, sub, issued_until, expires_at);
            }
            Target::Scope {
                sub,
                scope,
                issued_until,
            } => {
                let withdrawn = self.scopes.entry(sub).or_default();
                until(withdrawn, scope, issued_until, expires_at);
            }
            Target::Client {
                client_id,
                issued_until,
            } => until(&mut self.clients, client_id, issued_until, expires_at),
        }
    }

    /// Takes in what came since; `head` was read before it. Entries behind `head` may have come along:
    /// reading them again later changes nothing.
    fn catch_up(&mut self, news: Vec<Numbered>, head: i64) {
        for new in news {
            self.add(new.entry);
        }
        self.number = head;
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
struct Known {
    entries: Arc<RwLock<Entries>>,
    keys: Arc<Keys>,
    directory: Arc<Directory>,
}

async fn keep_fresh(
    known: Known,
    mut waiting: mpsc::Receiver<oneshot::Sender<bool>>,
    db: Db,
    clock: Clock,
) {
    let mut group = Vec::with_capacity(WAITING);
    while waiting.recv_many(&mut group, WAITING).await > 0 {
        // Those that are about to ask are let in before the query begins: one for all is cheaper.
        for _ in 0..GATHER {
            tokio::task::yield_now().await;
            while let Ok(waiter) = waiting.try_recv() {
                group.push(waiter);
            }
        }
        let fresh = match known.bring_up_to_date(&db, &clock).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "the revocation list cannot be brought up to date: tokens are refused");
                false
            }
        };
        for waiter in group.drain(..) {
            let _ = waiter.send(fresh);
        }
    }
}

impl Known {
    async fn bring_up_to_date(&self, db: &Db, clock: &Clock) -> Result<(), crate::keys::Error> {
        let heads = heads::read(db).await?;
        self.directory.heard(heads.clients);
        let known = self
            .entries
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .number;
        if heads.revocations != known {
            let news = revocations::since(db, known, clock.now()).await?;
            self.entries
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .catch_up(news, heads.revocations);
        }
        if heads.keys != self.keys.ring().version {
            self.keys.reload(db, clock.now()).await?;
        }
        Ok(())
    }
}
