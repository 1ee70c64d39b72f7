//! The parameters of OAuth's endpoints (RFC 6749 §3.1, §3.2): one parser for all of them. A parameter
//! without a value counts as absent; one that is given twice is refused.

use poem::{Request, RequestBody, Result};
use url::form_urlencoded;

use crate::http::{
    error::{ApiError, ErrorCode},
    json,
};

/// The most parameters one request may have.
const MOST: usize = 100;

/// What a request gave.
#[derive(Debug)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads the form in a request's body.
    ///
    /// # Errors
    /// `invalid_request` for another media type, text that is no UTF-8 or has a broken escape, a parameter
    /// given twice.
    pub async fn from_body(request: &Request, body: &mut RequestBody) -> Result<Self> {
        let bytes = json::read(request, body).await?;
        let essence = request
            .content_type()
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default();
        if !essence
            .trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        {
            return Err(invalid("send the parameters as application/x-www-form-urlencoded").into());
        }
        Ok(Self::parse(&bytes)?)
    }

    fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let text = std::str::from_utf8(bytes).map_err(|_| invalid("the body is not UTF-8"))?;
        let escapes_fit = text
            .split('%')
            .skip(1)
            .all(|rest| rest.len() >= 2 && rest.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit));
        if !escapes_fit {
            return Err(invalid("a % is not followed by two hexadecimal digits"));
        }
        let mut params: Vec<(String, String)> = vec![];
        for (name, value) in form_urlencoded::parse(bytes) {
            // Escapes that decode to something else than UTF-8 come back as replacement characters.
            if name.contains('\u{fffd}') || value.contains('\u{fffd}') || value.contains('\0') {
                return Err(invalid("a parameter is not UTF-8 text"));
            }
            if value.is_empty() {
                continue;
            }
            if params.iter().any(|(known, _)| *known == name) {
                return Err(invalid("a parameter is given twice"));
            }
            if params.len() == MOST {
                return Err(invalid("there are too many parameters"));
            }
            params.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(params))
    }

    /// The parameter's value, if it was given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, message).oauth("invalid_request")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_strictly() {
        let params = Params::parse(b"a=1%202&b=x+y&empty=&c=%D0%B0").expect("valid");
        assert_eq!(params.get("a"), Some("1 2"));
        assert_eq!(params.get("b"), Some("x y"));
        assert_eq!(params.get("c"), Some("а"));
        assert_eq!(
            params.get("empty"),
            None,
            "a parameter without a value counts as absent"
        );
        for bad in [
            &b"a=1&a=2"[..],
            b"a=%",
            b"a=%4",
            b"a=%zz",
            b"a=\xff",
            b"a=%ff",
            b"a=%00",
        ] {
            assert!(
                Params::parse(bad).is_err(),
                "{:?}",
                String::from_utf8_lossy(bad)
            );
        }
        let many: String = (0..101).map(|n| format!("p{n}=1&")).collect();
        assert!(Params::parse(many.as_bytes()).is_err());
    }
}
