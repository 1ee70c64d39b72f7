//! A follower of the [revocation feed], for gateways and APIs that verify access tokens themselves:
//! it holds the list of revoked tokens and receives every change within milliseconds, without a
//! call per request.
//!
//! [revocation feed]: https://github.com/propusk/propusk/blob/main/docs/revocation-feed.md

mod list;
mod sse;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use http::header;
use tokio::{sync::watch, task::AbortHandle};

use crate::{
    AccessClaims, Error,
    api::{Answer, Api, send, unexpected},
    clock::{Clock, Moment},
    credentials::{Credentials, refused},
    jws::Jws,
    keys::Keys,
    random_fraction,
};
use list::{Delta, List, Snapshot};
use sse::Events;

/// Between two searches for expired entries.
const PRUNE_INTERVAL: Duration = Duration::from_secs(30);
/// A list is that long at most.
const MAX_LIST: usize = 256 * 1024 * 1024;

/// What the list says about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationStatus {
    /// It is not revoked.
    Valid,
    /// It is revoked.
    Revoked,
    /// The list is too old, or has an entry that this version cannot read: the token must be
    /// refused.
    Unknown,
}

/// How the feed is followed.
pub(crate) struct FeedOptions {
    pub(crate) credentials: Credentials,
    pub(crate) max_stale: Duration,
    pub(crate) leeway: Duration,
    pub(crate) timing: Timing,
    pub(crate) on_error: Option<OnError>,
}

/// Told why the list could not be updated.
pub(crate) type OnError = Arc<dyn Fn(&Error) + Send + Sync>;

/// Durations that only tests change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// Without a byte, after which a stream is dead; the server sends one every 15 s.
    pub(crate) silence: Duration,
    /// Until a request other than the stream counts as lost.
    pub(crate) request: Duration,
    pub(crate) first_delay: Duration,
    pub(crate) longest_delay: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(45),
            request: Duration::from_secs(10),
            first_delay: Duration::from_millis(100),
            longest_delay: Duration::from_secs(5),
        }
    }
}

/// A follower of the revocation feed. A clone is the same follower; it stops when the last one is
/// dropped.
#[derive(Clone)]
pub struct RevocationFeed {
    shared: Arc<Shared>,
    _task: Arc<Task>,
}

struct Shared {
    issuer: Arc<str>,
    api: Api,
    keys: Arc<Keys>,
    options: FeedOptions,
    list: RwLock<List>,
    heard: Mutex<Heard>,
    /// Changes whenever the list has become current.
    current: watch::Sender<()>,
}

/// What is known of the connection.
#[derive(Clone, Copy, Default)]
struct Heard {
    /// Whether a stream is open.
    live: bool,
    /// When the list was last known to be complete: by a byte of the stream or by an answer.
    at: Option<Moment>,
}

/// Ends the follower.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a list is not up to date.
enum Failure {
    /// Changes were missed: the whole list must be fetched.
    Missed,
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl fmt::Debug for RevocationFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationFeed").field("number", &self.number()).finish_non_exhaustive()
    }
}

impl RevocationFeed {
    /// Starts to follow, in the current Tokio runtime.
    pub(crate) fn follow(
        issuer: Arc<str>,
        api: Api,
        keys: Arc<Keys>,
        options: FeedOptions,
    ) -> Result<Self, Error> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| {
            Error::Configuration("a feed is followed within a Tokio runtime only".to_owned())
        })?;
        let shared = Arc::new(Shared {
            issuer,
            api,
            keys,
            options,
            list: RwLock::default(),
            heard: Mutex::default(),
            current: watch::Sender::new(()),
        });
        let task = runtime.spawn(Arc::clone(&shared).run());
        Ok(Self { shared, _task: Arc::new(Task(task.abort_handle())) })
    }

    /// The number of the list: everything up to it is applied. `None` before the first list.
    pub fn number(&self) -> Option<u64> {
        self.shared.list.read().unwrap_or_else(PoisonError::into_inner).number()
    }

    /// Whether the list is trusted now.
    pub fn is_current(&self) -> bool {
        self.shared.is_current()
    }

    /// Waits until the list is trusted, for some time at most; whether it is.
    pub async fn ready(&self, within: Duration) -> bool {
        let mut current = self.shared.current.subscribe();
        let wait = async {
            while !self.is_current() {
                if current.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(within, wait).await;
        self.is_current()
    }

    /// What the list says about a token, whose signature and claims were verified before. `key_id`
    /// is the `kid` of its header.
    pub fn check(&self, key_id: &str, claims: &AccessClaims) -> RevocationStatus {
        if !self.is_current() {
            return RevocationStatus::Unknown;
        }
        let now = self.clock().epoch_seconds();
        let list = self.shared.list.read().unwrap_or_else(PoisonError::into_inner);
        if list.has_unknown_entry(now) {
            RevocationStatus::Unknown
        } else if list.revokes(key_id, claims) {
            RevocationStatus::Revoked
        } else {
            RevocationStatus::Valid
        }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.shared.api.clock
    }
}

impl Shared {
    fn is_current(&self) -> bool {
        let Heard { live, at } = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let trusted = if live { self.options.timing.silence } else { self.options.max_stale };
        at.is_some_and(|at| self.api.clock.now().since(at) <= trusted)
    }

    fn hear(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        if self.is_current() {
            self.current.send_replace(());
        }
    }

    async fn run(self: Arc<Self>) {
        let Timing { first_delay, longest_delay, .. } = self.options.timing;
        let mut delay = first_delay;
        // Whether changes were missed, so that a delta is not enough.
        let mut needs_list = true;
        let mut pruned = self.api.clock.now();
        loop {
            let outcome = match self.synchronize(&mut needs_list).await {
                Ok(()) => self.stream(&mut pruned, || delay = first_delay).await,
                Err(failure) => Err(failure),
            };
            self.hear(|heard| heard.live = false);
            match outcome {
                Ok(()) => {}
                Err(Failure::Other(error)) => self.report(&error),
                Err(Failure::Missed) => {
                    needs_list = true;
                    let text = "changes were missed: the whole revocation list is needed";
                    self.report(&Error::Unavailable(text.to_owned()));
                }
            }
            // Between half of the delay and all of it.
            tokio::time::sleep(delay.mul_f64(0.5 + random_fraction() / 2.0)).await;
            delay = (delay * 2).min(longest_delay);
        }
    }

    fn report(&self, error: &Error) {
        if let Some(on_error) = &self.options.on_error {
            on_error(error);
        }
    }

    /// Brings the list up to date: by a delta, or where that is impossible as a whole.
    async fn synchronize(&self, needs_list: &mut bool) -> Result<(), Failure> {
        let asked = self.api.clock.now();
        let number = self.list.read().unwrap_or_else(PoisonError::into_inner).number();
        if let Some(number) = number.filter(|_| !*needs_list) {
            let query = format!("?since={number}");
            let answer = self.fetch(&query, "application/json").await?;
            self.apply(&answer.body)?;
        } else {
            let answer = self.fetch("", "application/revocations+jwt").await?;
            let snapshot = self.verified(&answer).await?;
            self.list.write().unwrap_or_else(PoisonError::into_inner).replace(snapshot);
            *needs_list = false;
        }
        self.hear(|heard| heard.at = Some(asked));
        Ok(())
    }

    /// The list of an answer, if the issuer has signed it.
    async fn verified(&self, answer: &Answer) -> Result<Snapshot, Error> {
        let invalid = |why: String| Error::Unavailable(format!("the revocation list: {why}"));
        let text = std::str::from_utf8(&answer.body).map_err(|error| invalid(error.to_string()))?;
        let jws = Jws::parse(text.trim(), "revocations+jwt", Some(MAX_LIST)).map_err(invalid)?;
        let key = self.keys.get(jws.key_id().map_err(invalid)?).await?;
        let key = key.ok_or_else(|| invalid("its key is not one of the issuer".to_owned()))?;
        let snapshot: Snapshot = jws.verify(&key).map_err(invalid)?;
        if *snapshot.iss != *self.issuer {
            return Err(invalid(format!("issuer mismatch: `iss` must be {}", self.issuer)));
        }
        Ok(snapshot)
    }

    /// Applies events until the stream ends or is silent for too long.
    async fn stream(&self, pruned: &mut Moment, mut works: impl FnMut()) -> Result<(), Failure> {
        let silence = self.options.timing.silence;
        let number = self.list.read().unwrap_or_else(PoisonError::into_inner).number();
        let query = format!("?since={}", number.unwrap_or_default());
        let token = self.options.credentials.token().await?;
        let request = self.request(&query, "text/event-stream", &token);
        let lost = |error: reqwest::Error| Error::Network {
            request: "the revocation feed".to_owned(),
            source: Arc::new(error.without_url()),
        };
        let silent = |time: Duration| {
            Error::Unavailable(format!("the revocation feed was silent for {time:?}"))
        };
        let timeout = self.options.timing.request;
        // When something was read, or was asked for, for the last time.
        let mut heard = self.api.clock.now();
        let mut response = tokio::time::timeout(timeout, request.send())
            .await
            .map_err(|_| silent(timeout))?
            .map_err(lost)?;
        if !response.status().is_success() {
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            return Err(self.failure(&token, &Answer { status, headers, body: vec![] }).await);
        }
        // The list was brought up to date a moment ago; what has changed since is in the first
        // event.
        self.hear(|heard| heard.live = true);
        let mut events = Events::default();
        loop {
            let piece = tokio::time::timeout(silence, response.chunk()).await;
            let now = self.api.clock.now();
            // The timer does not run while the machine sleeps, and what is received after that may
            // have been sent before it: only a new answer tells what has changed meanwhile.
            let slept = now.since(heard) > silence;
            let Ok(piece) = piece else { return Err(silent(silence).into()) };
            if slept {
                return Err(silent(now.since(heard)).into());
            }
            match piece {
                Ok(Some(piece)) => {
                    let completed = events.push(&piece).ok_or(Failure::Missed)?;
                    for event in completed {
                        match event.name.as_str() {
                            "delta" => self.apply(event.data.as_bytes())?,
                            "reset" | "snapshot" => return Err(Failure::Missed),
                            _ => {}
                        }
                    }
                }
                // The peer has closed the connection: until then it was there, and the list
                // complete.
                end => {
                    self.hear(|state| state.at = Some(now));
                    return end.map(drop).map_err(|error| lost(error).into());
                }
            }
            // After the events: what was received counts once it is applied.
            heard = now;
            self.hear(|state| state.at = Some(now));
            works();
            if now.since(*pruned) > PRUNE_INTERVAL {
                *pruned = now;
                let leeway = i64::try_from(self.options.leeway.as_secs()).unwrap_or_default();
                let until = self.api.clock.epoch_seconds().saturating_sub(leeway);
                self.list.write().unwrap_or_else(PoisonError::into_inner).prune(until);
            }
        }
    }

    fn apply(&self, json: &[u8]) -> Result<(), Failure> {
        let delta: Delta = serde_json::from_slice(json).map_err(|_| Failure::Missed)?;
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        if list.apply(delta) { Ok(()) } else { Err(Failure::Missed) }
    }

    async fn fetch(&self, query: &str, accept: &'static str) -> Result<Answer, Failure> {
        let token = self.options.credentials.token().await?;
        let request = self.request(query, accept, &token).timeout(self.options.timing.request);
        let describe = || "GET /oauth2/revocations".to_owned();
        let answer = send(request, describe, MAX_LIST).await?;
        if answer.is_success() { Ok(answer) } else { Err(self.failure(&token, &answer).await) }
    }

    fn request(&self, query: &str, accept: &'static str, token: &str) -> reqwest::RequestBuilder {
        let url = format!("{}/oauth2/revocations{query}", self.api.url);
        self.api.http.get(url).bearer_auth(token).header(header::ACCEPT, accept)
    }

    async fn failure(&self, token: &str, answer: &Answer) -> Failure {
        match answer.status {
            410 => return Failure::Missed,
            401 => self.options.credentials.forget(token).await,
            _ => {}
        }
        let error = refused("the revocation feed", answer);
        // A success of another kind than 200 would be one.
        if answer.status < 400 { unexpected(502, answer).into() } else { error.into() }
    }
}
