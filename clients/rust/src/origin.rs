//! Which requests may be sent with the cookies of a session.

use http::{HeaderMap, Method, header};
use url::Url;

use crate::Error;

/// The token of `Authorization: Bearer …`. Cookies are not looked at where there is one.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    (is_bearer && !token.is_empty() && !token.contains(' ')).then_some(token)
}

/// Refuses a request with cookies that another site made the browser send (CSRF). SameSite=Lax does
/// the same, but not between subdomains of one site.
pub(crate) fn require_same_origin(
    method: &Method,
    host: Option<&str>,
    headers: &HeaderMap,
    allowed: &[String],
) -> Result<(), Error> {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("null"));
    let origin = text("origin");
    if origin.is_some_and(|origin| allowed.iter().any(|known| known == origin)) {
        return Ok(());
    }
    let is_own = match text("sec-fetch-site") {
        Some(site) => site == "same-origin" || site == "none",
        None => origin.is_none_or(|origin| {
            let host = host.and_then(|host| host_of(&format!("http://{host}")));
            host.is_some() && host_of(origin).is_some_and(|own| Some(own) == host)
        }),
    };
    if is_own { Ok(()) } else { Err(Error::CrossSite) }
}

/// Host and port; the default port of http and that of https are left out alike, since behind a
/// proxy that terminates TLS the application does not know which one is meant.
fn host_of(origin: &str) -> Option<(String, Option<u16>)> {
    let url = Url::parse(origin).ok()?;
    let port = url.port().filter(|port| !matches!(port, 80 | 443));
    Some((url.host_str()?.to_owned(), port))
}
