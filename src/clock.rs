//! Time and randomness. Everything else asks an instance from [`crate::app::App`], so that tests can
//! stop the clock; clippy's `disallowed-methods` forbids the globals elsewhere.

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

/// A moment, in microseconds since the Unix epoch; what the database stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Whole seconds since the epoch, rounded down: the `NumericDate` of RFC 7519 §2.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The moment a `NumericDate` names, `None` where it does not fit.
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

    /// This moment, or the next one after `earlier`: what is changed twice in one moment has two versions all the same.
    pub fn past(self, earlier: Self) -> Self {
        self.max(Self(earlier.0.saturating_add(1)))
    }

    /// RFC 3339 in UTC, to the second: `2026-11-21T04:22:00Z`.
    pub fn rfc3339(self) -> String {
        time::OffsetDateTime::from_unix_timestamp(self.as_secs())
            .ok()
            .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok())
            .unwrap_or_else(|| format!("{}s", self.as_secs()))
    }

    /// Reads RFC 3339, with any offset: `2026-11-21T04:22:00Z`.
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

/// The time from `rhs` to `self`; zero where `rhs` is later.
impl Sub for Timestamp {
    type Output = Duration;
    fn sub(self, rhs: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(rhs.0)).unwrap_or(0))
    }
}

fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Where the present comes from.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Fake(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands until [`Clock::advance`] moves it; for tests.
    pub fn fake(start: Timestamp) -> Self {
        Self(Source::Fake(Arc::new(AtomicI64::new(start.0))))
    }

    /// The present moment.
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

    /// Moves a fake clock forward; the system's clock does not move.
    pub fn advance(&self, by: Duration) {
        if let Source::Fake(at) = &self.0 {
            at.fetch_add(micros_of(by), Ordering::SeqCst);
        }
    }
}

/// Where randomness comes from: the operating system's generator.
#[derive(Clone, Debug)]
pub struct Rng(());

impl Rng {
    /// The operating system's generator.
    pub const fn system() -> Self {
        Self(())
    }

    /// Fills `buffer` with random bytes.
    ///
    /// Small amounts come from a buffer that each thread fills at once: a system call for each id would be
    /// felt. What was given out is wiped from it.
    ///
    /// # Panics
    /// Where the operating system has no randomness to give: no secret could be made, so nothing may go on.
    pub fn fill(&self, buffer: &mut [u8]) {
        thread_local! {
            static SPARE: RefCell<Spare> = const { RefCell::new(Spare { bytes: [0; 1024], left: 0 }) };
        }
        if buffer.len() > 64 {
            return from_system(buffer);
        }
        SPARE.with_borrow_mut(|spare| {
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

/// Random bytes that were not given out yet: the first `left`.
struct Spare {
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
