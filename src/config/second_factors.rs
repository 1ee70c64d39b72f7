//! `[second_factors]`: codes of authenticator apps, recovery codes, and the limit of wrong ones.

use std::time::Duration;

use serde::Deserialize;

use super::Config;

/// See `config.default.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecondFactors {
    /// Empty: the host of the issuer.
    pub issuer_name: String,
    #[serde(with = "humantime_serde")]
    pub login_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub fresh_login: Duration,
    /// Zero: never.
    #[serde(with = "humantime_serde")]
    pub remember_for: Duration,
    pub max_per_user: u32,
    pub recovery_codes: u32,
    pub wrong_codes: u32,
    #[serde(with = "humantime_serde")]
    pub delay: Duration,
    #[serde(with = "humantime_serde")]
    pub max_delay: Duration,
}

/// What is wrong with the values.
pub(super) fn problems(config: &Config, found: &mut Vec<(&'static str, String)>) {
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);
    let settings = &config.second_factors;
    let mut must = |right: bool, key: &'static str, rule: &str| {
        if !right {
            found.push((key, rule.to_owned()));
        }
    };
    let name = &settings.issuer_name;
    must(
        name.chars().count() <= 50 && !name.contains(|c: char| c.is_control() || c == ':'),
        "second_factors.issuer_name",
        "must be at most 50 characters, without colons and control characters",
    );
    for (key, value) in [
        ("second_factors.login_timeout", settings.login_timeout),
        ("second_factors.fresh_login", settings.fresh_login),
    ] {
        must((MINUTE..=HOUR).contains(&value), key, "must be from 1m to 1h");
    }
    must(
        settings.remember_for.is_zero() || (HOUR..=90 * 24 * HOUR).contains(&settings.remember_for),
        "second_factors.remember_for",
        "must be 0s (off), or from 1h to 90d",
    );
    for (key, value, most) in [
        ("second_factors.max_per_user", settings.max_per_user, 50),
        ("second_factors.recovery_codes", settings.recovery_codes, 50),
        ("second_factors.wrong_codes", settings.wrong_codes, 20),
    ] {
        must((1..=most).contains(&value), key, &format!("must be from 1 to {most}"));
    }
    must(
        settings.delay >= Duration::from_secs(1),
        "second_factors.delay",
        "must be at least 1s: six digits could be guessed otherwise",
    );
    must(
        settings.max_delay >= settings.delay && settings.max_delay <= 24 * HOUR,
        "second_factors.max_delay",
        "must be from second_factors.delay to 24h",
    );
}
