//! The `claims` parameter (OpenID Connect Core §5.5).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Longer values are refused.
const LONGEST: usize = 4 * 1024;

/// Claims asked for one by one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClaimsRequest {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub userinfo: BTreeMap<String, Option<ClaimConstraint>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub id_token: BTreeMap<String, Option<ClaimConstraint>>,
}

/// What is asked of one claim; `null` asks for it as it comes.
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
    /// Whether the value is one of those asked for; where none was named, every one is.
    pub fn accepts(&self, value: &str) -> bool {
        let named = || self.value.iter().chain(&self.values);
        named().next().is_none() || named().any(|wanted| wanted.as_str() == Some(value))
    }
}

impl ClaimsRequest {
    /// Reads the parameter; members that are not understood are ignored (§5.5).
    ///
    /// # Errors
    /// Says that it is no such JSON.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > LONGEST {
            return Err("claims is longer than 4096 bytes");
        }
        serde_json::from_str(text)
            .map_err(|_| "claims is not the JSON object of OpenID Connect Core section 5.5")
    }

    /// The names of all the claims that are asked for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.userinfo.keys().chain(self.id_token.keys()).map(String::as_str)
    }

    /// Without the claims that `keep` says no to.
    pub fn filter(mut self, keep: impl Fn(&str) -> bool) -> Self {
        self.userinfo.retain(|claim, _| keep(claim));
        self.id_token.retain(|claim, _| keep(claim));
        self
    }

    /// What is asked of a claim of the ID token, where it is asked for with conditions.
    pub fn id_token_constraint(&self, claim: &str) -> Option<&ClaimConstraint> {
        self.id_token.get(claim)?.as_ref()
    }
}
