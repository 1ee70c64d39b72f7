//! The parameters of OAuth's endpoints (RFC 6749 §3.1, §3.2): one strict parser for all of them,
//! and typed requests read from what it returns (`parameters!`). A parameter without a value
//! counts as absent; a duplicate is rejected, except for `resource` (RFC 8707 §2) and `audience`
//! (RFC 8693 §2.1), and for boxes of our own forms.

use poem_openapi::types::Password;
use url::form_urlencoded;

use super::error::OAuthError;

/// The most parameters one request may have.
const MOST: usize = 100;

/// The parameters that may be given more than once.
const REPEATABLE: [&str; 3] = ["resource", "audience", "modules"];

/// The parameters of a request, in the order they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Parses a query or the body of a form.
    ///
    /// # Errors
    /// Invalid UTF-8, a broken escape, a duplicate parameter, too many parameters.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(bytes).map_err(|_| "the parameters must be UTF-8")?;
        let escapes_fit = text
            .split('%')
            .skip(1)
            .all(|rest| rest.len() >= 2 && rest.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit));
        if !escapes_fit {
            return Err("`%` must be followed by two hexadecimal digits");
        }
        let mut params: Vec<(String, String)> = vec![];
        for (name, value) in form_urlencoded::parse(bytes) {
            // Escapes that decode to something else than UTF-8 come back as replacement characters.
            if name.contains('\u{fffd}') || value.contains('\u{fffd}') || value.contains('\0') {
                return Err("the parameters must be UTF-8 text without NUL");
            }
            if value.is_empty() {
                continue;
            }
            if !REPEATABLE.contains(&name.as_ref())
                && params.iter().any(|(known, _)| *known == name)
            {
                return Err("duplicate parameter");
            }
            if params.len() == MOST {
                return Err("too many parameters");
            }
            params.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(params))
    }

    /// From pairs that were read elsewhere, from a request object for instance. The same rules
    /// hold.
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

/// A type that a parameter can have.
pub trait Parameter: Sized {
    /// Reads the parameter of that name.
    ///
    /// # Errors
    /// The parameter is required and missing, or malformed.
    fn read(params: &Params, name: &'static str) -> Result<Self, OAuthError>;
}

impl Parameter for String {
    fn read(params: &Params, name: &'static str) -> Result<Self, OAuthError> {
        let value = params.get(name).map(str::to_owned);
        value.ok_or_else(|| OAuthError::invalid_request(format!("`{name}` is missing")))
    }
}

impl Parameter for Option<String> {
    fn read(params: &Params, name: &'static str) -> Result<Self, OAuthError> {
        Ok(params.get(name).map(str::to_owned))
    }
}

impl Parameter for Option<Password> {
    fn read(params: &Params, name: &'static str) -> Result<Self, OAuthError> {
        Ok(params.get(name).map(|secret| Password(secret.to_owned())))
    }
}

impl Parameter for Vec<String> {
    fn read(params: &Params, name: &'static str) -> Result<Self, OAuthError> {
        Ok(params.all(name).map(str::to_owned).collect())
    }
}

/// A number of digits only; one that is too large for any use counts as the largest.
pub fn whole_number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

macro_rules! whole_numbers {
    ($($number:ty),+) => {
        $(impl Parameter for Option<$number> {
            fn read(params: &Params, name: &'static str) -> Result<Self, OAuthError> {
                let Some(text) = params.get(name) else {
                    return Ok(None);
                };
                let number = whole_number(text).ok_or_else(|| {
                    let refused = format!("`{name}` must be a whole number, 0 or greater");
                    OAuthError::invalid_request(refused)
                })?;
                Ok(Some(<$number>::try_from(number).unwrap_or(<$number>::MAX)))
            }
        })+
    };
}
whole_numbers!(u32, i64);

/// A typed request: the parameters that an endpoint knows, read from those that were sent. Unknown
/// parameters are ignored (RFC 6749 §3.1).
pub trait Parameters: Sized {
    /// Reads the request.
    ///
    /// # Errors
    /// The first parameter that is missing or malformed.
    fn of(params: &Params) -> Result<Self, OAuthError>;
}

/// All of them, for a request that is kept as it was sent.
impl Parameters for Params {
    fn of(params: &Params) -> Result<Self, OAuthError> {
        Ok(params.clone())
    }
}

/// Declares a typed request once: the struct, how it is read from [`Params`], and its schema in the
/// OpenAPI document. The documentation of each field is the description of the parameter.
macro_rules! parameters {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$about:meta])* pub $field:ident: $kind:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, poem_openapi::Object)]
        pub struct $name { $($(#[$about])* pub $field: $kind,)+ }

        impl $crate::oauth::params::Parameters for $name {
            fn of(
                params: &$crate::oauth::params::Params,
            ) -> Result<Self, $crate::oauth::error::OAuthError> {
                use $crate::oauth::params::Parameter;
                Ok(Self { $($field: Parameter::read(params, stringify!($field))?,)+ })
            }
        }
    };
}
pub(crate) use parameters;

/// Declares a parameter with a fixed set of values, in the request and in the OpenAPI document.
macro_rules! values {
    ($(#[$meta:meta])* pub enum $name:ident or $error:ident { $($(#[$about:meta])* $value:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(
            Clone,
            Copy,
            Debug,
            PartialEq,
            Eq,
            poem_openapi::Enum,
            serde::Serialize,
            serde::Deserialize,
        )]
        pub enum $name { $($(#[$about])* #[oai(rename = $text)] #[serde(rename = $text)] $value,)+ }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$value),+];

            /// The name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text,)+ }
            }
        }

        impl $crate::oauth::params::Parameter for Option<$name> {
            fn read(
                params: &$crate::oauth::params::Params,
                name: &'static str,
            ) -> Result<Self, $crate::oauth::error::OAuthError> {
                match params.get(name) {
                    None => Ok(None),
                    $(Some($text) => Ok(Some($name::$value)),)+
                    Some(_) => {
                        let known = [$(concat!("`", $text, "`")),+].join(" or ");
                        let refused = format!("`{name}` must be {known}");
                        Err($crate::oauth::error::OAuthError::$error(refused))
                    }
                }
            }
        }

        impl $crate::oauth::params::Parameter for $name {
            fn read(
                params: &$crate::oauth::params::Params,
                name: &'static str,
            ) -> Result<Self, $crate::oauth::error::OAuthError> {
                Option::<$name>::read(params, name)?.ok_or_else(|| {
                    let refused = format!("`{name}` is missing");
                    $crate::oauth::error::OAuthError::invalid_request(refused)
                })
            }
        }
    };
}
pub(crate) use values;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_strictly() {
        let params = Params::parse(
            b"a=1%202&b=x+y&empty=&c=%D0%B0&resource=r&resource=s&audience=t&audience=u",
        )
        .expect("valid");
        assert_eq!(params.get("a"), Some("1 2"));
        assert_eq!(params.get("b"), Some("x y"));
        assert_eq!(params.get("c"), Some("а"));
        assert_eq!(params.get("empty"), None, "a parameter without a value counts as absent");
        assert_eq!(params.all("resource").collect::<Vec<_>>(), ["r", "s"]);
        assert_eq!(params.all("audience").collect::<Vec<_>>(), ["t", "u"]);
        assert_eq!(Params::parse(params.encode().as_bytes()), Ok(params));
        for bad in [&b"a=1&a=2"[..], b"a=%", b"a=%4", b"a=%zz", b"a=\xff", b"a=%ff", b"a=%00"] {
            assert!(Params::parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        let many: String = (0..101).map(|n| format!("p{n}=1&")).collect();
        assert!(Params::parse(many.as_bytes()).is_err());
    }

    #[test]
    fn a_number_has_digits_only_and_may_be_of_any_size() {
        let read = |text: &str| {
            let params = Params::default().with("max_age", text);
            <Option<u32> as Parameter>::read(&params, "max_age").map_err(|error| error.code)
        };
        assert_eq!(read("0"), Ok(Some(0)));
        assert_eq!(read("007"), Ok(Some(7)));
        for large in ["4294967296", "99999999999999999999999"] {
            assert_eq!(read(large), Ok(Some(u32::MAX)), "{large}");
        }
        for bad in ["+5", "-1", " 5", "5 ", "1e3", "5.0", "0x5", "٥"] {
            assert_eq!(read(bad), Err("invalid_request"), "{bad}");
        }
    }
}
