//! Settings of webhooks.

use std::time::Duration;

use serde::Deserialize;

use super::Config;

/// Delivery of events to webhooks (see `crate::flows::webhooks`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    pub enabled: bool,
    /// Of one request.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// For one event.
    pub max_attempts: u32,
    /// Of a delivery that has not succeeded.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// How long every attempt must have failed.
    #[serde(with = "humantime_serde")]
    pub disable_after: Duration,
    /// Endpoints at a time, per process.
    pub concurrency: usize,
    /// Of finished deliveries.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
    pub max_rows: u64,
}

/// The invalid keys, and what is wrong with each.
pub(super) fn problems(config: &Config, found: &mut Vec<(&'static str, String)>) {
    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3_600);
    const DAY: Duration = Duration::from_secs(86_400);
    let webhooks = &config.webhooks;
    for (key, value, least, most, range) in [
        ("webhooks.timeout", webhooks.timeout, SECOND, 60 * SECOND, "1s to 60s"),
        ("webhooks.max_age", webhooks.max_age, 60 * SECOND, 30 * DAY, "1m to 30d"),
        ("webhooks.disable_after", webhooks.disable_after, HOUR, 90 * DAY, "1h to 90d"),
        ("webhooks.retention", webhooks.retention, 60 * SECOND, 36_500 * DAY, "1m to 36500d"),
    ] {
        if !(least..=most).contains(&value) {
            found.push((key, format!("must be from {range}")));
        }
    }
    if !(1..=100).contains(&webhooks.max_attempts) {
        found.push(("webhooks.max_attempts", "must be from 1 to 100".to_owned()));
    }
    if !(2..=256).contains(&webhooks.concurrency) {
        found.push(("webhooks.concurrency", "must be from 2 to 256".to_owned()));
    }
    if webhooks.max_rows == 0 {
        found.push(("webhooks.max_rows", "must be at least 1".to_owned()));
    }
}
