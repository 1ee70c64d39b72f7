//! Scopes (RFC 6749 §3.3).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A set of scope tokens in the order of their first occurrence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope(Vec<String>);

/// Maximum number of scope tokens.
const MAX_TOKENS: usize = 100;

impl Scope {
    /// Parses `scope-token *( SP scope-token )`; repeated tokens count once.
    ///
    /// # Errors
    /// Characters outside `%x21 / %x23-5B / %x5D-7E`, or more than 100 tokens.
    pub fn parse(input: &str) -> Result<Self, &'static str> {
        let mut tokens: Vec<String> = Vec::new();
        for token in input.split(' ').filter(|t| !t.is_empty()) {
            if tokens.len() == MAX_TOKENS {
                return Err("`scope` has more than 100 values");
            }
            if !token.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)) {
                return Err("`scope` has a character that RFC 6749 section 3.3 does not allow");
            }
            if !tokens.iter().any(|t| t == token) {
                tokens.push(token.to_owned());
            }
        }
        Ok(Self(tokens))
    }

    /// Collects valid tokens, each once.
    pub fn of<'a>(tokens: impl IntoIterator<Item = &'a str>) -> Self {
        let mut scope = Self::default();
        for token in tokens {
            if !scope.contains(token) {
                scope.0.push(token.to_owned());
            }
        }
        scope
    }

    /// The tokens for which `wanted` returns true, in order.
    pub fn filter(&self, wanted: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|token| wanted(token)).cloned().collect())
    }

    /// The tokens that are in both, in the order of `self`.
    pub fn intersection(&self, other: &Self) -> Self {
        self.filter(|token| other.contains(token))
    }

    pub fn contains(&self, token: &str) -> bool {
        self.0.iter().any(|t| t == token)
    }

    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.0.iter().all(|t| other.contains(t))
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As text for a response or a claim, which omits an empty scope: RFC 6749 §3.3 has no empty
    /// value.
    pub fn non_empty(&self) -> Option<String> {
        (!self.is_empty()).then(|| self.to_string())
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// In JSON a scope is a space-separated string (RFC 7591 §2, RFC 9068 §2.2.3).
impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_keeps_its_order_and_drops_duplicates() {
        let scope = Scope::parse(" openid  email openid ").expect("valid");
        assert_eq!(scope.to_string(), "openid email");
        assert!(Scope::parse("a\"b").is_err());
        assert!(Scope::parse(&"a ".repeat(200)).is_ok());
        let many: Vec<_> = (0..101).map(|n| n.to_string()).collect();
        assert!(Scope::parse(&many.join(" ")).is_err());
    }
}
