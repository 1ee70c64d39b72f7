//! The parameters of OAuth's endpoints (RFC 6749 §3.1, §3.2): one parser for all of them. A parameter
//! without a value counts as absent; one that is given twice is refused, but for `resource` (RFC 8707 §2).

use url::form_urlencoded;

/// The most parameters one request may have.
const MOST: usize = 100;

/// The only parameter that may be given more than once.
const REPEATABLE: &str = "resource";

/// What a request gave, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a query or the body of a form.
    ///
    /// # Errors
    /// Says what is wrong: no UTF-8, a broken escape, a parameter given twice, too many.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(bytes).map_err(|_| "the parameters are not UTF-8")?;
        let escapes_fit = text
            .split('%')
            .skip(1)
            .all(|rest| rest.len() >= 2 && rest.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit));
        if !escapes_fit {
            return Err("a % is not followed by two hexadecimal digits");
        }
        let mut params: Vec<(String, String)> = vec![];
        for (name, value) in form_urlencoded::parse(bytes) {
            // Escapes that decode to something else than UTF-8 come back as replacement characters.
            if name.contains('\u{fffd}') || value.contains('\u{fffd}') || value.contains('\0') {
                return Err("a parameter is not UTF-8 text");
            }
            if value.is_empty() {
                continue;
            }
            if name != REPEATABLE && params.iter().any(|(known, _)| *known == name) {
                return Err("a parameter is given twice");
            }
            if params.len() == MOST {
                return Err("there are too many parameters");
            }
            params.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(params))
    }

    /// Of pairs that were read elsewhere, from a request object for instance. The same rules hold.
    ///
    /// # Errors
    /// As [`Params::parse`].
    pub fn of(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, &'static str> {
        let encoded = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        Self::parse(encoded.as_bytes())
    }

    /// The parameter's value, if it was given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter that may be repeated.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All but the named ones.
    pub fn without(&self, names: &[&str]) -> Self {
        let kept = self.0.iter().filter(|(name, _)| !names.contains(&name.as_str()));
        Self(kept.cloned().collect())
    }

    /// With one more.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    /// The form-encoded text.
    pub fn encode(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_strictly() {
        let params =
            Params::parse(b"a=1%202&b=x+y&empty=&c=%D0%B0&resource=r&resource=s").expect("valid");
        assert_eq!(params.get("a"), Some("1 2"));
        assert_eq!(params.get("b"), Some("x y"));
        assert_eq!(params.get("c"), Some("а"));
        assert_eq!(params.get("empty"), None, "a parameter without a value counts as absent");
        assert_eq!(params.all("resource").collect::<Vec<_>>(), ["r", "s"]);
        assert_eq!(Params::parse(params.encode().as_bytes()), Ok(params));
        for bad in [&b"a=1&a=2"[..], b"a=%", b"a=%4", b"a=%zz", b"a=\xff", b"a=%ff", b"a=%00"] {
            assert!(Params::parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        let many: String = (0..101).map(|n| format!("p{n}=1&")).collect();
        assert!(Params::parse(many.as_bytes()).is_err());
    }
}
