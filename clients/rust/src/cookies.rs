use http::{HeaderMap, HeaderValue, header};

use crate::{Error, Tokens};

/// Each value may cost a verification.
const MOST_VALUES: usize = 8;

/// The cookies of a session, as the server of an issuer sets them.
#[derive(Clone, Debug)]
pub struct TokenCookies {
    access: String,
    refresh: String,
    /// The attributes after the lifetime.
    attributes: String,
}

/// The tokens in the cookies of a request. There are several of one kind where another host of the
/// domain, or another program on this machine, has set a cookie of the same name: the valid one
/// counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestTokens {
    /// Access tokens.
    pub access: Vec<String>,
    /// Refresh tokens.
    pub refresh: Vec<String>,
}

impl TokenCookies {
    /// The cookies of an issuer; `domain` is `gateway.cookie_domain` of the server, if it is set.
    pub fn new(issuer: &str, domain: Option<&str>) -> Self {
        let secure = issuer.starts_with("https:");
        // RFC 6265bis §4.1.3: `__Host-` binds a cookie to its host, so it cannot have a Domain.
        let prefix = match (secure, domain) {
            (false, _) => "",
            (true, None) => "__Host-",
            (true, Some(_)) => "__Secure-",
        };
        let mut attributes = String::from("; HttpOnly; SameSite=Lax");
        if secure {
            attributes += "; Secure";
        }
        if let Some(domain) = domain {
            attributes += "; Domain=";
            attributes += domain;
        }
        Self {
            access: format!("{prefix}propusk_access"),
            refresh: format!("{prefix}propusk_refresh"),
            attributes,
        }
    }

    /// The name of the cookie with the access token.
    pub fn access_name(&self) -> &str {
        &self.access
    }

    /// The name of the cookie with the refresh token.
    pub fn refresh_name(&self) -> &str {
        &self.refresh
    }

    /// The tokens of a request.
    pub fn read(&self, headers: &HeaderMap) -> RequestTokens {
        let mut tokens = RequestTokens::default();
        // HTTP/2 may split the header (RFC 9113 §8.2.3).
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        for pair in lines.flat_map(|line| line.split(';')) {
            let Some((name, value)) = pair.split_once('=') else { continue };
            let value = value.trim();
            let values = match name.trim() {
                name if name == self.access => &mut tokens.access,
                name if name == self.refresh => &mut tokens.refresh,
                _ => continue,
            };
            if !value.is_empty() && values.len() < MOST_VALUES {
                values.push(value.to_owned());
            }
        }
        tokens
    }

    /// The `Set-Cookie` values of both tokens.
    ///
    /// # Errors
    /// A token has characters that no token has.
    pub fn set(&self, tokens: &Tokens) -> Result<[HeaderValue; 2], Error> {
        Ok([
            self.build(&self.access, &tokens.access_token, tokens.expires_in)?,
            self.build(&self.refresh, &tokens.refresh_token, tokens.refresh_expires_in)?,
        ])
    }

    /// The `Set-Cookie` values that remove both.
    ///
    /// # Errors
    /// The issuer or the domain has characters that no header has.
    pub fn clear(&self) -> Result<[HeaderValue; 2], Error> {
        Ok([self.build(&self.access, "", 0)?, self.build(&self.refresh, "", 0)?])
    }

    fn build(&self, name: &str, value: &str, seconds: u64) -> Result<HeaderValue, Error> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"_.~+/=-".contains(&byte);
        let invalid = || Error::Configuration(format!("the value of {name} is not a token"));
        if !value.bytes().all(is_token) {
            return Err(invalid());
        }
        let text = format!("{name}={value}; Path=/; Max-Age={seconds}{}", self.attributes);
        HeaderValue::from_str(&text).map_err(|_| invalid())
    }
}
