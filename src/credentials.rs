//! The credentials of a request: a bearer token or cookies.

use std::time::Duration;

use poem::http::{HeaderMap, HeaderName, header};

use crate::{
    api_error::{ApiError, ErrorCode},
    config::Config,
    model::{device, key::SigningAlgorithm},
    oauth::error::OAuthError,
};

/// The token of `Authorization: Bearer …` (RFC 6750 §2.1).
///
/// # Errors
/// [`ErrorCode::InvalidToken`] if the header has another scheme, no token, or occurs twice.
pub fn bearer(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    if !headers.contains_key(header::AUTHORIZATION) {
        return Ok(None);
    }
    authorization(headers, "bearer").map(Some).ok_or_else(|| ApiError {
        challenge: Some("Bearer error=\"invalid_request\"".to_owned()),
        ..ApiError::new(
            ErrorCode::InvalidToken,
            "send exactly one Authorization header, in the form `Bearer <access token>`",
        )
    })
}

/// What the one Authorization header of a request says after this scheme.
fn authorization(headers: &HeaderMap, scheme: &str) -> Option<String> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (named, token) = values.next()?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    let is_right = named.eq_ignore_ascii_case(scheme) && !token.is_empty();
    (is_right && values.next().is_none()).then(|| token.to_owned())
}

/// An access token as a request presents it.
#[derive(Debug)]
pub struct AccessToken {
    pub token: String,
    /// By the scheme `DPoP`: the proof; `None`: a bearer token.
    pub proof: Option<String>,
}

/// The access token of `Authorization: Bearer …` (RFC 6750 §2.1) or `DPoP …` (RFC 9449 §7.1), for
/// endpoints that take both.
///
/// # Errors
/// As [`bearer`]; `invalid_dpop_proof` if the scheme is `DPoP` and there is not exactly one proof.
pub fn access_token(headers: &HeaderMap) -> Result<Option<AccessToken>, ApiError> {
    let Some(token) = authorization(headers, "dpop") else {
        return Ok(bearer(headers)?.map(|token| AccessToken { token, proof: None }));
    };
    match dpop_proof(headers).map_err(by_dpop)? {
        Some(proof) => Ok(Some(AccessToken { token, proof: Some(proof) })),
        None => {
            let missing = OAuthError::invalid_dpop_proof("the request has no DPoP header");
            Err(by_dpop(missing.into()))
        }
    }
}

/// The proof in the `DPoP` header.
///
/// # Errors
/// `invalid_dpop_proof` if there are several (RFC 9449 §4.3), or one that is not text.
pub fn dpop_proof(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(DPOP).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match value.to_str() {
        Ok(proof) if values.next().is_none() => Ok(Some(proof.to_owned())),
        _ => Err(OAuthError::invalid_dpop_proof("send exactly one DPoP header").into()),
    }
}

const DPOP: HeaderName = HeaderName::from_static("dpop");

/// The error for a request by the scheme `DPoP`: the challenge names that scheme, and the
/// algorithms of proofs (RFC 9449 §7.1).
pub fn by_dpop(error: ApiError) -> ApiError {
    let code = match error.oauth {
        Some("invalid_dpop_proof") => ErrorCode::InvalidToken,
        _ => error.code,
    };
    let name = match (error.oauth, code) {
        (Some(name), _) => name,
        (None, ErrorCode::InvalidToken) => "invalid_token",
        // Not a challenge.
        _ => return error,
    };
    let algorithms = SigningAlgorithm::ALL.map(SigningAlgorithm::as_str).join(" ");
    let challenge = format!(
        "DPoP error=\"{name}\", error_description=\"{}\", algs=\"{algorithms}\"",
        error.message.replace(['"', '\\'], "'")
    );
    ApiError { code, challenge: Some(challenge), ..error }
}

/// Rejects a request that another site made the browser send. SameSite=Lax does the same, but not
/// in every browser and not between subdomains of one site.
///
/// # Errors
/// [`ErrorCode::CrossSite`] if Fetch Metadata, or else `Origin`, names another origin.
pub fn require_same_origin(headers: &HeaderMap, config: &Config) -> Result<(), ApiError> {
    same_origin(headers, config, false)
}

/// As [`require_same_origin`], for a form whose CSRF token is checked as well. `Origin: null`
/// counts as absent: so browsers without Fetch Metadata name the origin of our own pages, whose
/// Referrer-Policy is `no-referrer` (Fetch §3.2.1), and the token decides.
///
/// # Errors
/// As [`require_same_origin`].
pub fn require_own_form(headers: &HeaderMap, config: &Config) -> Result<(), ApiError> {
    same_origin(headers, config, true)
}

fn same_origin(headers: &HeaderMap, config: &Config, null_is_absent: bool) -> Result<(), ApiError> {
    let own = |origin: &str| {
        origin == origin_of(&config.server.issuer) || (null_is_absent && origin == "null")
    };
    let is_same_origin = fetch_site_is_own(headers).unwrap_or_else(|| {
        // An old browser, a page at plain http, or a client that is not a browser.
        let origin = headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or("?"));
        origin.is_none_or(own)
    });
    if is_same_origin {
        return Ok(());
    }
    let message = "cookies are accepted from pages of this origin only: send the tokens in the request instead";
    Err(ApiError::new(ErrorCode::CrossSite, message))
}

/// Whether Fetch Metadata says that a page of this origin, or the user, caused the request; `None`
/// without Fetch Metadata.
pub fn fetch_site_is_own(headers: &HeaderMap) -> Option<bool> {
    let site = headers.get("sec-fetch-site")?.to_str();
    Some(matches!(site, Ok("same-origin" | "none")))
}

/// Whether a request with cookies that a gateway presents comes from this issuer or from one of
/// `gateway.origins`, according to Fetch Metadata and `Origin`. A request without both is accepted:
/// it is a navigation by link, which changes nothing; browsers send no cookies with other
/// cross-site requests (SameSite=Lax).
pub fn is_from_allowed_origin(headers: &HeaderMap, config: &Config) -> bool {
    if fetch_site_is_own(headers) == Some(true) {
        return true;
    }
    let origin = headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or("?"));
    origin.is_none_or(|origin| {
        let known = &config.gateway.origins;
        origin == origin_of(&config.server.issuer) || known.iter().any(|one| one == origin)
    })
}

fn origin_of(issuer: &str) -> &str {
    let host = issuer.find("://").map_or(0, |at| at + 3);
    let end = issuer[host..].find('/').map_or(issuer.len(), |at| host + at);
    &issuer[..end]
}

/// The names and attributes of the cookies. The prefix `__Host-` binds a cookie to https, this host
/// and `Path=/` (RFC 6265bis §4.1.3.2). Browsers reject it over plain http on loopback, and token
/// cookies that several hosts of a domain share can only have `__Secure-`.
#[derive(Clone, Copy, Debug)]
pub struct CookieNames<'a> {
    pub access: &'static str,
    pub refresh: &'static str,
    /// The browser session.
    pub session: &'static str,
    /// The secret of the CSRF tokens of forms.
    pub csrf: &'static str,
    /// A login between its two steps.
    pub login: &'static str,
    /// A browser in which somebody has logged in.
    pub device: &'static str,
    /// A browser in which a user is not asked for the second factor.
    pub remembered: &'static str,
    /// An identity of another provider that is no user's yet.
    pub identity: &'static str,
    secure: bool,
    /// The `Domain` of the token cookies; the others have none.
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
                login: "propusk_login",
                device: "propusk_device",
                remembered: "propusk_remembered",
                identity: "propusk_identity",
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
            login: "__Host-propusk_login",
            device: "__Host-propusk_device",
            remembered: "__Host-propusk_remembered",
            identity: "__Host-propusk_identity",
            secure: true,
            domain,
        }
    }

    /// The `Set-Cookie` values of both tokens: value and lifetime in seconds of each.
    pub fn set(self, access: (&str, u64), refresh: (&str, u64)) -> [String; 2] {
        [(self.access, access), (self.refresh, refresh)].map(|(name, (value, seconds))| {
            self.with_domain(self.cookie(name, value, Duration::from_secs(seconds)))
        })
    }

    /// The `Set-Cookie` values that remove both token cookies.
    pub fn clear(self) -> [String; 2] {
        [self.access, self.refresh]
            .map(|name| self.with_domain(self.cookie(name, "", Duration::ZERO)))
    }

    /// Appends the configured `Domain`.
    fn with_domain(self, mut cookie: String) -> String {
        if let Some(domain) = self.domain {
            cookie.push_str("; Domain=");
            cookie.push_str(domain);
        }
        cookie
    }

    /// The `Set-Cookie` value of a browser session with a lifetime of `seconds`; an empty value and
    /// 0 remove it. It is SameSite=Lax because applications send users here by cross-site
    /// navigation.
    pub fn session_cookie(self, value: &str, seconds: u64) -> String {
        self.cookie(self.session, value, Duration::from_secs(seconds))
    }

    /// The `Set-Cookie` value of a login between its two steps; an empty value and 0 remove it.
    pub fn login_cookie(self, value: &str, seconds: u64) -> String {
        self.cookie(self.login, value, Duration::from_secs(seconds))
    }

    /// The `Set-Cookie` value that makes a browser known.
    pub fn device_cookie(self, value: &str) -> String {
        self.cookie(self.device, value, Duration::from_secs(device::COOKIE_SECONDS))
    }

    /// The `Set-Cookie` value of a browser in which a user is not asked for the second factor.
    pub fn remembered_cookie(self, value: &str, lifetime: Duration) -> String {
        self.cookie(self.remembered, value, lifetime)
    }

    /// The `Set-Cookie` value of an identity that is no user's yet; an empty value and 0 remove it.
    pub fn identity_cookie(self, value: &str, seconds: u64) -> String {
        self.cookie(self.identity, value, Duration::from_secs(seconds))
    }

    /// The `Set-Cookie` value of the CSRF secret, which the browser keeps until it is closed.
    pub fn csrf_cookie(self, value: &str) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{}={value}; Path=/; HttpOnly; SameSite=Lax{secure}", self.csrf)
    }

    fn cookie(self, name: &str, value: &str, lifetime: Duration) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        format!(
            "{name}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{secure}",
            lifetime.as_secs()
        )
    }
}

/// The first value of a cookie, unless it is missing or empty.
pub fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    values(headers, name).next()
}

/// The values of a cookie, without empty ones: at most eight, in the order sent. There
/// are several where another host of the domain, another path or another program on this machine
/// has set one of this name. Servers should not rely on their order (RFC 6265 §4.2.2): take the
/// one that is valid.
pub fn cookies(headers: &HeaderMap, name: &str) -> Vec<String> {
    values(headers, name).take(MOST_VALUES).collect()
}

/// Each value may cost a statement.
const MOST_VALUES: usize = 8;

/// A byte that is not ASCII affects the cookie that contains it and no other: browsers send what
/// any page of the host has set.
fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = String> + 'a {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| str::from_utf8(pair).ok()?.trim().split_once('='))
        .filter(move |(given, value)| *given == name && !value.is_empty())
        .map(|(_, value)| value.to_owned())
}
