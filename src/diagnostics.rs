//! Why a request was refused: the rule and the facts it saw, kept under the request's id for those who look after the
//! installation.
//!
//! Flows say what they see by [`fact`]; it is kept only where the request is refused. What is refused waits in memory and
//! is written in groups: a flood of refusals costs a fixed number of rows a second, and the rest of it is only counted.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    app::App,
    error::Error,
    model::{actor::RequestContext, denied_request::DeniedRequest},
    storage::{self, denied_requests},
};

/// Refusals that wait to be written; more are counted only.
const WAITING: usize = 2_000;
/// How many are written each [`EVERY`].
const GROUP: usize = 500;
const EVERY: Duration = Duration::from_secs(1);
/// Facts of one request, and characters of one: a stranger may have chosen them.
const FACTS: usize = 32;
const LONGEST: usize = 256;

#[derive(Debug, Default)]
struct Noted {
    facts: BTreeMap<&'static str, String>,
    refused: Option<(String, String)>,
}

tokio::task_local! {
    static NOTED: RefCell<Noted>;
}

/// What was noted while a request was answered.
#[derive(Debug, Default)]
pub struct Notes(Noted);

/// Answers a request, and gives what was noted on the way.
pub async fn noting<T>(work: impl Future<Output = T>) -> (T, Notes) {
    NOTED
        .scope(RefCell::default(), async {
            let output = work.await;
            let noted = NOTED.with(RefCell::take);
            (output, Notes(noted))
        })
        .await
}

/// Notes a fact that a decision hangs on. Never a secret, a token or a code.
pub fn fact(name: &'static str, value: impl Display) {
    // Outside a request nobody asks why.
    let _ = NOTED.try_with(|noted| {
        let facts = &mut noted.borrow_mut().facts;
        if facts.len() < FACTS {
            facts.insert(name, cut(&value.to_string()));
        }
    });
}

/// Notes that the request was refused, where its answer does not say so by itself: an error that travels in a redirect, a
/// token that is inactive.
pub fn refused(code: &str, reason: impl Display) {
    let _ = NOTED.try_with(|noted| {
        noted.borrow_mut().refused = Some((code.to_owned(), cut(&reason.to_string())));
    });
}

/// No longer than makes sense, and nothing in it that a terminal would obey.
fn cut(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

/// What the edge knows of an answer.
#[derive(Debug)]
pub struct Answered<'a> {
    pub call: String,
    pub status: String,
    /// The error's name and the rule in words, where the answer is one.
    pub error: Option<(&'a str, &'a str)>,
}

/// Refusals on their way to the database.
#[derive(Debug, Default)]
pub struct Refusals {
    waiting: Mutex<VecDeque<Arc<DeniedRequest>>>,
    /// One writer at a time: each takes from the front what it has written.
    writing: tokio::sync::Mutex<()>,
}

impl Refusals {
    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<DeniedRequest>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a request that was refused; does nothing for one that was not.
pub fn keep(app: &App, notes: Notes, answered: Answered<'_>, caller: &RequestContext) {
    let Noted { facts, refused } = notes.0;
    let told = answered.error.map(|(code, reason)| (code.to_owned(), cut(reason)));
    let Some((code, reason)) = told.or(refused) else {
        return;
    };
    let mut waiting = app.refusals.waiting();
    if waiting.len() >= WAITING {
        app.metrics.refusals_unwritten.inc();
        return;
    }
    let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value));
    waiting.push_back(Arc::new(DeniedRequest {
        request_id: caller.request_id.clone(),
        at: app.clock.now(),
        // The method may be any word that fits into a request's head.
        call: cut(&answered.call),
        status: answered.status,
        code,
        reason,
        diagnostics: facts.collect(),
        address: Some(caller.address.to_string()),
        correlation_id: Some(caller.correlation_id.clone()),
    }));
}

/// Writes what waits, some at a time. Runs until it is dropped.
pub async fn run(app: Arc<App>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = write(&app).await {
            tracing::error!(%error, "refusals could not be written; trying again in a second");
        }
    }
}

/// Writes a group of what waits, and says how many they were.
///
/// # Errors
/// [`storage::Error`]; what was to be written waits on.
pub async fn write(app: &App) -> storage::Result<usize> {
    let _writing = app.refusals.writing.lock().await;
    let group: Vec<_> = app.refusals.waiting().iter().take(GROUP).cloned().collect();
    if group.is_empty() {
        return Ok(0);
    }
    let count = group.len();
    let rows = group.iter().map(|refusal| (**refusal).clone()).collect();
    denied_requests::add(&app.db, rows).await?;
    app.refusals.waiting().drain(..count);
    Ok(count)
}

/// Says why a request was refused. One that this process has just refused is found at once, another's within a second.
///
/// # Errors
/// [`Error::NotFound`] for a request that was not refused, or so long ago that it is forgotten.
pub async fn explain(app: &App, request_id: &str) -> Result<DeniedRequest, Error> {
    let waits = {
        let waiting = app.refusals.waiting();
        let mut found = waiting.iter().filter(|one| one.request_id == request_id);
        found.next().map(|one| (**one).clone())
    };
    match waits {
        Some(refusal) => Ok(refusal),
        None if request_id.contains('\0') => Err(Error::NotFound("refused request")),
        None => {
            let found = denied_requests::by_id(&app.db, request_id).await?;
            found.ok_or(Error::NotFound("refused request"))
        }
    }
}
