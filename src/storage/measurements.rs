//! How long statements and commits take, and how many the database failed.

use std::{sync::OnceLock, time::Instant};

use prometheus_client::metrics::{counter::Counter, histogram::Histogram};

use super::{Error, Result};

/// Where the measurements of a kind of statement go.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// In seconds, with queueing.
    duration: Histogram,
    errors: Counter,
}

impl From<(Histogram, Counter)> for Measurement {
    fn from((duration, errors): (Histogram, Counter)) -> Self {
        Self { duration, errors }
    }
}

/// Where the measurements of a database go.
#[derive(Clone, Debug)]
pub struct Measurements {
    pub read: Measurement,
    pub write: Measurement,
    /// The statements of a transaction, and its commit.
    pub transaction: Measurement,
}

/// Durations are measured by the real clock, also in tests.
#[allow(clippy::disallowed_methods)]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Records a statement. A violated constraint is an answer, not a failure of the database.
pub(super) fn record<T>(
    to: &OnceLock<Measurements>,
    kind: fn(&Measurements) -> &Measurement,
    began: Instant,
    outcome: &Result<T>,
) {
    let Some(to) = to.get().map(kind) else { return };
    to.duration.observe(began.elapsed().as_secs_f64());
    if let Err(error) = outcome
        && matches!(error, Error::Database(_) | Error::TimedOut)
        && !error.is_closed()
    {
        to.errors.inc();
    }
}
