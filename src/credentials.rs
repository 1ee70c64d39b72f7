//! What a request carries to say who sent it: a bearer token, or the cookies of a browser.

use std::time::Duration;

use poem::http::{HeaderMap, header};

use crate::{
    api_error::{ApiError, ErrorCode},
    config::Config,
};

/// The token of `Authorization: Bearer …` (RFC 6750 §2.1).
///
/// # Errors
/// For more than one `Authorization` header, or one that is no bearer token.
pub fn bearer(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    match token.filter(|token| !token.is_empty()) {
        Some(token) if values.next().is_none() => Ok(Some(token)),
        _ => Err(ApiError {
            challenge: Some("Bearer error=\"invalid_request\"".to_owned()),
            ..ApiError::new(
                ErrorCode::InvalidToken,
                "send one Authorization header: Bearer and the access token",
            )
        }),
    }
}

/// Refuses a request that another site made this browser send: SameSite=Lax says so already, but not to
/// every browser and not among the subdomains of one site.
pub fn same_origin(headers: &HeaderMap, config: &Config) -> Result<(), ApiError> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let ours = match text(header::HeaderName::from_static("sec-fetch-site")) {
        Some(site) => site == "same-origin" || site == "none",
        // An old browser, or none at all.
        None => {
            text(header::ORIGIN).is_none_or(|origin| origin == origin_of(&config.server.issuer))
        }
    };
    if ours {
        return Ok(());
    }
    let message =
        "cookies are taken from pages of this server only: send the tokens in the request instead";
    Err(ApiError::new(ErrorCode::CrossSite, message))
}

/// Whether a request with cookies, which a gateway shows, comes from a page of ours or of an application behind a gateway, as far
/// as its browser says. A link that leads here from elsewhere says nothing and is fine: it changes nothing, and a browser sends no
/// cookies with more than a link (SameSite=Lax).
pub fn from_own_pages(headers: &HeaderMap, config: &Config) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some("same-origin" | "none") = text(header::HeaderName::from_static("sec-fetch-site")) {
        return true;
    }
    text(header::ORIGIN).is_none_or(|origin| {
        let known = &config.gateway.origins;
        origin == origin_of(&config.server.issuer) || known.iter().any(|one| one == origin)
    })
}

fn origin_of(issuer: &str) -> &str {
    let host = issuer.find("://").map_or(0, |at| at + 3);
    let end = issuer[host..].find('/').map_or(issuer.len(), |at| host + at);
    &issuer[..end]
}

/// The names of our cookies. `__Host-` binds them to https, this host and the whole of it
/// (RFC 6265bis §4.1.3.2); over plain http on loopback a browser would refuse that. Tokens that several hosts of a domain share
/// can only be `__Secure-`.
#[derive(Clone, Copy, Debug)]
pub struct CookieNames<'a> {
    pub access: &'static str,
    pub refresh: &'static str,
    /// The browser session of the pages.
    pub session: &'static str,
    /// What the forms of the pages are bound to.
    pub csrf: &'static str,
    secure: bool,
    /// Of the tokens' cookies; the pages' are this host's alone.
    domain: Option<&'a str>,
}

impl<'a> CookieNames<'a> {
    pub fn of(config: &'a Config) -> Self {
        let domain = config.cookie_domain();
        if !config.issuer_is_https() {
            return Self {
                access: "propusk_access",
                refresh: "propusk_refresh",
                session: "propusk_session",
                csrf: "propusk_csrf",
                secure: false,
                domain,
            };
        }
        let (access, refresh) = match domain {
            None => ("__Host-propusk_access", "__Host-propusk_refresh"),
            Some(_) => ("__Secure-propusk_access", "__Secure-propusk_refresh"),
        };
        Self {
            access,
            refresh,
            session: "__Host-propusk_session",
            csrf: "__Host-propusk_csrf",
            secure: true,
            domain,
        }
    }

    /// `Set-Cookie` values for both tokens.
    pub fn set(self, access: (&str, u64), refresh: (&str, u64)) -> [String; 2] {
        [(self.access, access), (self.refresh, refresh)].map(|(name, (value, seconds))| {
            self.shared(self.cookie(name, value, Duration::from_secs(seconds)))
        })
    }

    /// `Set-Cookie` values that remove both.
    pub fn clear(self) -> [String; 2] {
        [self.access, self.refresh].map(|name| self.shared(self.cookie(name, "", Duration::ZERO)))
    }

    /// With the domain whose hosts share it.
    fn shared(self, mut cookie: String) -> String {
        if let Some(domain) = self.domain {
            cookie.push_str("; Domain=");
            cookie.push_str(domain);
        }
        cookie
    }

    /// `Set-Cookie` value of a browser session; empty and 0 remove it. Lax: an application sends its people here by a link.
    pub fn session_cookie(self, value: &str, seconds: u64) -> String {
        self.cookie(self.session, value, Duration::from_secs(seconds))
    }

    /// `Set-Cookie` value of what forms are bound to, for as long as the browser runs.
    pub fn csrf_cookie(self, value: &str) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{}={value}; Path=/; HttpOnly; SameSite=Lax{secure}", self.csrf)
    }

    fn cookie(self, name: &str, value: &str, life: Duration) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        format!(
            "{name}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{secure}",
            life.as_secs()
        )
    }
}

/// The value of a cookie, if it is there and not empty.
pub fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(given, value)| *given == name && !value.is_empty())
        .map(|(_, value)| value.to_owned())
}
