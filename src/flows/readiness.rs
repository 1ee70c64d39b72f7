//! Whether the server can do its work: read the database, sign tokens, and write the database.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use crate::{
    app::App,
    error::Error,
    storage::{change_counters, write_probe},
};

/// The timeout of each check of the database.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long the outcome of a write is relied on: anybody may ask, and each write costs the disk.
const WRITTEN: Duration = Duration::from_secs(1);

/// Succeeds if the server can handle requests. The log has the reason where it cannot.
///
/// # Errors
/// [`Error::Unavailable`], whose cause is for the log only.
pub async fn check(app: &App) -> Result<(), Error> {
    let problem = find(app).await.err();
    let mut known = app.readiness.problem.lock().unwrap_or_else(PoisonError::into_inner);
    if problem != *known {
        match &problem {
            Some(reason) => tracing::error!(reason, "not ready"),
            None => tracing::info!("ready again"),
        }
        known.clone_from(&problem);
    }
    problem.map_or(Ok(()), |reason| Err(Error::Unavailable(reason.into())))
}

async fn find(app: &App) -> Result<(), String> {
    let read = tokio::time::timeout(TIMEOUT, change_counters::read(&app.db));
    read.await
        .map_err(|_| "the database does not answer".to_owned())?
        .map_err(|error| format!("the database cannot be read: {error}"))?;
    if let Some(missing) = app.keys.missing(app.clock.now()) {
        return Err(format!("no active key for {missing}"));
    }
    let mut last = app.readiness.last_write.lock().await;
    if let Some((at, outcome)) = &*last
        && at.elapsed() < WRITTEN
    {
        return outcome.clone();
    }
    let id = app.new_id();
    let writing = write_probe::run(&app.db, &id, app.clock.now());
    let outcome = match tokio::time::timeout(TIMEOUT, writing).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("the database cannot be written: {error}")),
        Err(_) => Err("the database cannot be written: it does not answer".to_owned()),
    };
    // Durations are measured by the real clock, also in tests.
    #[allow(clippy::disallowed_methods)]
    let at = Instant::now();
    *last = Some((at, outcome.clone()));
    outcome
}
