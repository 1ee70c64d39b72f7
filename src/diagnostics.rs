//! Why a request was denied: the rule and the values it was decided by, kept under the request's id
//! for administrators.
//!
//! Flows [`record`] the values a decision depends on; they are kept only where the request is
//! denied. They also say whose request it is, for its line in the log. Denied requests wait in
//! memory and are written in groups: a flood of them costs a fixed number of rows a second, and the
//! rest is only counted.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;

use crate::{
    clock::Clock,
    error::Error,
    model::{actor::RequestContext, denied_request::DeniedRequest},
    storage::{self, Db, denied_requests},
};

/// Denied requests that wait to be written; more are only counted.
const MAX_WAITING: usize = 2_000;
/// How many are written each [`INTERVAL`].
const GROUP: usize = 500;
const INTERVAL: Duration = Duration::from_secs(1);
/// Values of one request, and characters of each: an untrusted client may have chosen them.
const MAX_VALUES: usize = 32;
const MAX_CHARS: usize = 256;

/// What was recorded while a request was answered.
#[derive(Debug, Default)]
pub struct Diagnostics {
    values: BTreeMap<&'static str, String>,
    /// The error's code and the reason, where the response does not tell.
    denied: Option<(String, String)>,
    /// Whose request it is.
    pub principal: Principal,
}

/// Whose request it is, as far as it was authenticated: ids, never names.
#[derive(Clone, Debug, Default)]
pub struct Principal {
    /// The client that authenticated, or that the presented token was issued to.
    pub client_id: Option<String>,
    /// The `sub` of the presented token, or the id of the user who logs in or is logged in.
    pub subject: Option<String>,
}

tokio::task_local! {
    static CURRENT: RefCell<Diagnostics>;
}

/// Answers a request, and returns what was recorded meanwhile.
pub async fn collect<T>(work: impl Future<Output = T>) -> (T, Diagnostics) {
    CURRENT
        .scope(RefCell::default(), async {
            let output = work.await;
            (output, CURRENT.with(RefCell::take))
        })
        .await
}

/// Records a value that a decision depends on. Never a secret, a token or a code.
pub fn record(name: &'static str, value: impl Display) {
    // Outside a request there is nothing to explain.
    let _ = CURRENT.try_with(|current| {
        let values = &mut current.borrow_mut().values;
        if values.len() < MAX_VALUES {
            values.insert(name, sanitize(&value.to_string()));
        }
    });
}

/// Records that the request is denied, where the response does not tell: an error in a redirect, an
/// inactive token.
pub fn denied(code: &str, reason: impl Display) {
    let _ = CURRENT.try_with(|current| {
        current.borrow_mut().denied = Some((code.to_owned(), sanitize(&reason.to_string())));
    });
}

/// Says which client sends the request; the first one that is named counts.
pub fn identify_client(id: &str) {
    let _ = CURRENT.try_with(|current| {
        let known = &mut current.borrow_mut().principal.client_id;
        known.get_or_insert_with(|| sanitize(id));
    });
}

/// Says on whose behalf the request is sent; the first one who is named counts.
pub fn identify_user(subject: &str) {
    let _ = CURRENT.try_with(|current| {
        let known = &mut current.borrow_mut().principal.subject;
        known.get_or_insert_with(|| sanitize(subject));
    });
}

/// Truncated, and without control characters, which a terminal would interpret.
fn sanitize(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_CHARS).collect()
}

/// What the transport knows of a response.
#[derive(Debug)]
pub struct Response<'a> {
    pub call: String,
    pub status: String,
    /// The error's code and message, where it is one.
    pub error: Option<(&'a str, &'a str)>,
}

/// Denied requests on their way to the database.
#[derive(Debug)]
pub struct DeniedRequestLog {
    db: Db,
    clock: Clock,
    /// Counts those that are not kept.
    dropped: Counter,
    waiting: Mutex<VecDeque<Arc<DeniedRequest>>>,
    /// One writer at a time: each removes from the front what it has written.
    writing: tokio::sync::Mutex<()>,
}

impl DeniedRequestLog {
    pub fn new(db: Db, clock: Clock, dropped: Counter) -> Self {
        let (waiting, writing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { db, clock, dropped, waiting, writing }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Arc<DeniedRequest>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a request that was denied; does nothing for any other.
    pub fn keep(&self, diagnostics: Diagnostics, response: Response<'_>, context: &RequestContext) {
        let Diagnostics { values, denied, .. } = diagnostics;
        let error = response.error.map(|(code, reason)| (code.to_owned(), sanitize(reason)));
        let Some((code, reason)) = error.or(denied) else {
            return;
        };
        let mut waiting = self.waiting();
        if waiting.len() >= MAX_WAITING {
            self.dropped.inc();
            return;
        }
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), value));
        waiting.push_back(Arc::new(DeniedRequest {
            request_id: context.request_id.clone(),
            at: self.clock.now(),
            // The method may be any word that fits into a request line.
            call: sanitize(&response.call),
            status: response.status,
            code,
            reason,
            diagnostics: values.collect(),
            address: Some(context.address.to_string()),
            correlation_id: Some(context.correlation_id.clone()),
        }));
    }

    /// Writes what waits, a group at a time. Runs until it is dropped.
    pub async fn run(&self) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error) = self.write().await {
                tracing::error!(%error, "writing denied requests failed; retrying in a second");
            }
        }
    }

    /// Writes a group of what waits, and returns its size.
    ///
    /// # Errors
    /// [`storage::Error`]; the group stays in memory.
    pub async fn write(&self) -> storage::Result<usize> {
        let _writing = self.writing.lock().await;
        let group: Vec<_> = self.waiting().iter().take(GROUP).cloned().collect();
        if group.is_empty() {
            return Ok(0);
        }
        let count = group.len();
        let rows = group.iter().map(|denied| (**denied).clone()).collect();
        denied_requests::add(&self.db, rows).await?;
        self.waiting().drain(..count);
        Ok(count)
    }

    /// Why a request was denied. A request of this process is found at once, another process'
    /// within a second.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a request that was not denied, or whose record is past its
    /// retention.
    pub async fn explain(&self, request_id: &str) -> Result<DeniedRequest, Error> {
        let waiting = {
            let waiting = self.waiting();
            let mut found = waiting.iter().filter(|one| one.request_id == request_id);
            found.next().map(|one| (**one).clone())
        };
        match waiting {
            Some(denied) => Ok(denied),
            None if request_id.contains('\0') => Err(Error::NotFound("denied request")),
            None => {
                let found = denied_requests::by_id(&self.db, request_id).await?;
                found.ok_or(Error::NotFound("denied request"))
            }
        }
    }
}
