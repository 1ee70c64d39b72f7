//! Time and randomness. Other modules use the instances in [`crate::app::App`], so that tests
//! control the clock; clippy's `disallowed-methods` forbids the globals elsewhere.

use std::{
    cell::RefCell,
    fmt,
    ops::{Add, Sub},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use zeroize::Zeroize;

/// A point in time in microseconds since the Unix epoch, as the database stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Whole seconds since the epoch, rounded down: the `NumericDate` of RFC 7519 §2.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The time of a `NumericDate` in seconds; `None` on overflow.
    pub const fn from_secs(secs: i64) -> Option<Self> {
        match secs.checked_mul(1_000_000) {
            Some(micros) => Some(Self(micros)),
            None => None,
        }
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// This time, but at least one microsecond after `earlier`, so that versions strictly increase.
    pub fn past(self, earlier: Self) -> Self {
        self.max(Self(earlier.0.saturating_add(1)))
    }

    /// The time between the two, whichever is earlier. An age is compared by it where the clock may
    /// have been set back: what happened in the future is not recent until then.
    pub fn distance(self, other: Self) -> Duration {
        Duration::from_micros(self.0.abs_diff(other.0))
    }

    /// RFC 3339 in UTC, to the second: `2026-11-21T04:22:00Z`.
    pub fn rfc3339(self) -> String {
        time::OffsetDateTime::from_unix_timestamp(self.as_secs())
            .ok()
            .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok())
            .unwrap_or_else(|| format!("{}s", self.as_secs()))
    }

    /// Parses RFC 3339 with any offset: `2026-11-21T04:22:00Z`.
    pub fn parse(text: &str) -> Option<Self> {
        let format = &time::format_description::well_known::Rfc3339;
        let at = time::OffsetDateTime::parse(text, format).ok()?;
        let micros = at.unix_timestamp_nanos().div_euclid(1_000);
        i64::try_from(micros).ok().map(Self)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(micros_of(rhs)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(micros_of(rhs)))
    }
}

/// The duration from `rhs` to `self`; zero if `rhs` is later.
impl Sub for Timestamp {
    type Output = Duration;
    fn sub(self, rhs: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(rhs.0)).unwrap_or(0))
    }
}

fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// How much the clocks of two machines may differ: of this server's processes, and of its clients.
pub const CLOCK_SKEW: Duration = Duration::from_secs(30);

/// The source of the current time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Fake(Arc<AtomicI64>),
}

impl Clock {
    /// The system clock.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that only [`Clock::advance`] and [`Clock::set`] move; for tests.
    pub fn fake(start: Timestamp) -> Self {
        Self(Source::Fake(Arc::new(AtomicI64::new(start.0))))
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            #[allow(clippy::disallowed_methods)] // the one place that may
            Source::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                Timestamp(since.map_or(0, micros_of))
            }
            Source::Fake(at) => Timestamp(at.load(Ordering::SeqCst)),
        }
    }

    /// Sets a fake clock, back too; does nothing to the system clock.
    pub fn set(&self, now: Timestamp) {
        if let Source::Fake(at) = &self.0 {
            at.store(now.0, Ordering::SeqCst);
        }
    }

    /// Moves a fake clock forward; does nothing to the system clock.
    pub fn advance(&self, by: Duration) {
        if let Source::Fake(at) = &self.0 {
            at.fetch_add(micros_of(by), Ordering::SeqCst);
        }
    }
}

/// The source of randomness: the generator of the operating system.
#[derive(Clone, Debug)]
pub struct Rng(());

impl Rng {
    /// The generator of the operating system.
    pub const fn system() -> Self {
        Self(())
    }

    /// Fills `buffer` with random bytes.
    ///
    /// Up to 64 bytes come from a per-thread buffer, because a system call per id is measurable.
    /// Returned bytes are wiped from the buffer.
    ///
    /// # Panics
    /// If the operating system provides no randomness.
    pub fn fill(&self, buffer: &mut [u8]) {
        thread_local! {
            static BUFFER: RefCell<Buffer> = const { RefCell::new(Buffer { bytes: [0; 1024], left: 0 }) };
        }
        if buffer.len() > 64 {
            return from_system(buffer);
        }
        BUFFER.with_borrow_mut(|spare| {
            if spare.left < buffer.len() {
                from_system(&mut spare.bytes);
                spare.left = spare.bytes.len();
            }
            let taken = &mut spare.bytes[spare.left - buffer.len()..spare.left];
            buffer.copy_from_slice(taken);
            taken.zeroize();
            spare.left -= buffer.len();
        });
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }
}

/// Buffered random bytes: the first `left` are unused.
struct Buffer {
    bytes: [u8; 1024],
    left: usize,
}

fn from_system(buffer: &mut [u8]) {
    #[allow(clippy::disallowed_methods)] // the one place that may
    getrandom::fill(buffer).expect("the operating system's random generator failed");
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_prints_as_rfc_3339() {
        assert_eq!(Timestamp(0).rfc3339(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp(1_709_208_000_123_456).rfc3339(), "2024-02-29T12:00:00Z");
        assert_eq!(Timestamp(-1).rfc3339(), "1969-12-31T23:59:59Z");
        assert_eq!(Timestamp(i64::MAX).rfc3339(), "9223372036854s");
    }
}
