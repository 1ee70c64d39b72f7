//! The `claims` parameter (OpenID Connect Core §5.5).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Maximum length of the parameter, in bytes.
const MAX_LENGTH: usize = 4 * 1024;

/// Individually requested claims.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClaimsRequest {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub userinfo: BTreeMap<String, Option<ClaimConstraint>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub id_token: BTreeMap<String, Option<ClaimConstraint>>,
}

/// The constraints on one claim; `null` in JSON means none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClaimConstraint {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub essential: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<serde_json::Value>,
}

impl ClaimConstraint {
    /// Whether the value is one of the requested ones; any value is if none is requested.
    pub fn accepts(&self, value: &str) -> bool {
        let requested = || self.value.iter().chain(&self.values);
        requested().next().is_none() || requested().any(|wanted| wanted.as_str() == Some(value))
    }
}

impl ClaimsRequest {
    /// Parses the parameter; unknown members are ignored (§5.5).
    ///
    /// # Errors
    /// A message for `error_description`.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_LENGTH {
            return Err("`claims` is longer than 4096 bytes");
        }
        serde_json::from_str(text)
            .map_err(|_| "`claims` must be a JSON object as in OpenID Connect Core section 5.5")
    }

    /// The names of all requested claims.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.userinfo.keys().chain(self.id_token.keys()).map(String::as_str)
    }

    /// Removes the claims for which `keep` returns false.
    pub fn filter(mut self, keep: impl Fn(&str) -> bool) -> Self {
        self.userinfo.retain(|claim, _| keep(claim));
        self.id_token.retain(|claim, _| keep(claim));
        self
    }

    /// The constraints on a claim of the ID token, if there are any.
    pub fn id_token_constraint(&self, claim: &str) -> Option<&ClaimConstraint> {
        self.id_token.get(claim)?.as_ref()
    }
}
