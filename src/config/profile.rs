//! `[profile]`: the claims that this deployment knows of its users.

use serde::Deserialize;

use super::Config;
use crate::model::profile::ProfileClaim;

/// See `config.default.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Empty: there are no profiles.
    pub claims: Vec<ProfileClaim>,
}

impl Profile {
    /// Whether a claim of the scope is in use.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.claims.iter().any(|claim| claim.scope() == scope)
    }

    /// Whether there is something that users fill in.
    pub fn is_used(&self) -> bool {
        self.claims.iter().any(|claim| claim.is_of_the_owner())
    }
}

/// What is wrong with the values.
pub(super) fn problems(config: &Config, found: &mut Vec<(&'static str, String)>) {
    let claims = &config.profile.claims;
    if claims.iter().enumerate().any(|(at, claim)| claims[..at].contains(claim)) {
        found.push(("profile.claims", "must name each claim once".to_owned()));
    }
    let has = |claim| claims.contains(&claim);
    if has(ProfileClaim::PhoneNumberVerified) && !has(ProfileClaim::PhoneNumber) {
        let problem = "has \"phone_number_verified\" without \"phone_number\": add it";
        found.push(("profile.claims", problem.to_owned()));
    }
}
