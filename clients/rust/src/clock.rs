//! The only place that reads the time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The time. A clone is the same clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    /// Milliseconds for which the machine has slept, as far as the clock is concerned: the wall
    /// clock is that much ahead.
    slept: Arc<AtomicU64>,
}

/// A moment, by the clock that is never set and by the one that runs while the machine sleeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    monotonic: Instant,
    wall: Duration,
}

impl Clock {
    /// Now.
    #[allow(clippy::disallowed_methods)] // This is the place.
    pub(crate) fn now(&self) -> Moment {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let slept = Duration::from_millis(self.slept.load(Ordering::Relaxed));
        Moment { monotonic: Instant::now(), wall: since_epoch + slept }
    }

    /// Seconds since the epoch.
    pub(crate) fn epoch_seconds(&self) -> i64 {
        i64::try_from(self.now().wall.as_secs()).unwrap_or(i64::MAX)
    }

    /// As if the machine had slept.
    pub(crate) fn sleep(&self, time: Duration) {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.slept.fetch_add(milliseconds, Ordering::Relaxed);
    }
}

impl Moment {
    /// The time since an earlier moment: the longer of both clocks. A wall clock that was set back
    /// makes nothing younger.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let monotonic = self.monotonic.saturating_duration_since(earlier.monotonic);
        monotonic.max(self.wall.saturating_sub(earlier.wall))
    }
}
