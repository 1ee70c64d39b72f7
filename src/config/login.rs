//! `[login]`: the limit of wrong passwords.

use std::time::Duration;

use serde::Deserialize;

use super::Config;

/// See `config.default.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    pub wrong_passwords: u32,
    #[serde(with = "humantime_serde")]
    pub delay: Duration,
    #[serde(with = "humantime_serde")]
    pub max_delay: Duration,
    #[serde(with = "humantime_serde")]
    pub forget_after: Duration,
    /// 0: any number.
    pub max_wrong_passwords: u32,
    pub new_device_mail: bool,
}

/// What is wrong with the values.
pub(super) fn problems(config: &Config, found: &mut Vec<(&'static str, String)>) {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let settings = &config.login;
    let mut must = |right: bool, key: &'static str, rule: &str| {
        if !right {
            found.push((key, rule.to_owned()));
        }
    };
    must(
        (1..=100).contains(&settings.wrong_passwords),
        "login.wrong_passwords",
        "must be from 1 to 100",
    );
    must(
        settings.delay >= Duration::from_secs(1) && settings.delay <= settings.max_delay,
        "login.delay",
        "must be from 1s to login.max_delay",
    );
    must(settings.max_delay <= DAY, "login.max_delay", "must be at most 24h");
    must(
        settings.forget_after >= settings.max_delay && settings.forget_after <= 30 * DAY,
        "login.forget_after",
        "must be from login.max_delay to 30d",
    );
    must(
        settings.max_wrong_passwords == 0
            || settings.max_wrong_passwords >= settings.wrong_passwords,
        "login.max_wrong_passwords",
        "must be 0, or at least login.wrong_passwords",
    );
}
