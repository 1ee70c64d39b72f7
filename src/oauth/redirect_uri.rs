//! Redirect URIs: which may be registered, and how a request is compared (RFC 9700 §2.1, RFC 8252).

use url::{Host, Url};

/// Schemes that a browser executes or handles itself: a redirect there would leak the code.
const FORBIDDEN_SCHEMES: [&str; 9] =
    ["javascript", "data", "vbscript", "file", "blob", "about", "view-source", "filesystem", "ws"];

/// The application type that a redirect URI is registered for.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    Web,
    /// Private-use schemes are allowed (RFC 8252 §7.1): reversed domain names, and `short_schemes`.
    Native {
        short_schemes: &'a [String],
    },
}

/// Checks a redirect URI for registration: https, http on loopback (RFC 8252 §7.3), or a
/// private-use scheme of a native application.
///
/// # Errors
/// The violated rule, without the URI.
pub fn check(uri: &str, kind: Kind<'_>) -> Result<Url, &'static str> {
    if uri.len() > 2048 {
        return Err("it is longer than 2048 characters");
    }
    if uri
        .bytes()
        .any(|b| !(0x21..=0x7e).contains(&b) || b == b'\\' || b == b'"' || b == b'<' || b == b'>')
    {
        return Err("it has a character that is not allowed in a URI");
    }
    let url = Url::parse(uri).map_err(|_| "it is not an absolute URI")?;
    if url.fragment().is_some() {
        return Err("it has a fragment (RFC 6749 section 3.1.2)");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it has a user name or a password");
    }
    if uri.contains('*') {
        return Err("it has a wildcard: redirect URIs are compared exactly");
    }
    match (url.scheme(), kind) {
        ("https", _) if url.host().is_some() => Ok(url),
        ("http", _) if is_loopback(&url) => Ok(url),
        ("http", _) => Err("http is allowed for loopback addresses only: use https"),
        (scheme, _) if FORBIDDEN_SCHEMES.contains(&scheme) => Err("this scheme is not allowed"),
        (_, Kind::Web) => {
            Err("a web application must use https (other schemes need application_type native)")
        }
        // A reversed domain name cannot be claimed by two applications.
        (scheme, Kind::Native { short_schemes })
            if scheme.contains('.') || short_schemes.iter().any(|known| known == scheme) =>
        {
            Ok(url)
        }
        (_, Kind::Native { .. }) => Err(
            "a private-use scheme must be a reversed domain name, as in com.example.app:/callback",
        ),
    }
}

/// Whether the scheme is a private-use one, which only native applications may have.
pub fn is_private_use(uri: &str) -> bool {
    Url::parse(uri).is_ok_and(|url| !matches!(url.scheme(), "https" | "http"))
}

/// Compares the redirect URI of a request with a registered one as text. The port of a loopback
/// address may differ, because native applications listen on any free port (RFC 8252 §7.3).
pub fn matches(registered: &str, requested: &str) -> bool {
    if registered == requested {
        return true;
    }
    match (loopback(registered), loopback(requested)) {
        (Some(known), Some(asked)) => {
            known.is_for_any_port() && (known.host, known.path) == (asked.host, asked.path)
        }
        _ => false,
    }
}

/// The origin of the page that a registered redirect URI leads to; with `*` for the port where any
/// port matches, as in [`matches()`]. `None` for a private-use scheme.
pub fn page_origin(registered: &str) -> Option<String> {
    if let Some(known) = loopback(registered).filter(Loopback::is_for_any_port) {
        return Some(format!("http://{}:*", known.host));
    }
    let url = Url::parse(registered).ok()?;
    matches!(url.scheme(), "http" | "https").then(|| url.origin().ascii_serialization())
}

/// A loopback origin with `*` for its port, as in [`page_origin`]; `None` for any other origin.
pub fn any_port(origin: &str) -> Option<String> {
    let asked = loopback(origin)?;
    asked.path.is_empty().then(|| format!("http://{}:*", asked.host))
}

/// The parts of a loopback redirect URI.
struct Loopback<'a> {
    host: &'static str,
    port: Option<u16>,
    path: &'a str,
}

impl Loopback<'_> {
    /// `localhost` may resolve to another machine (RFC 8252 §8.3), so a port registered with it
    /// must match. Without one any port matches: no application on a user's machine has port 80.
    fn is_for_any_port(&self) -> bool {
        self.host != "localhost" || self.port.is_none()
    }
}

fn loopback(uri: &str) -> Option<Loopback<'_>> {
    let rest = uri.strip_prefix("http://")?;
    let (host, rest) = ["127.0.0.1", "[::1]", "localhost"]
        .into_iter()
        .find_map(|host| Some((host, rest.strip_prefix(host)?)))?;
    let (port, path) = match rest.strip_prefix(':') {
        None => (None, rest),
        Some(rest) => {
            let (digits, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let is_port = digits.bytes().all(|b| b.is_ascii_digit());
            (Some(digits.parse().ok().filter(|_| is_port)?), path)
        }
    };
    (path.is_empty() || path.starts_with('/')).then_some(Loopback { host, port, path })
}

/// Whether a URI leads to a program on the user's own device: a private-use scheme or loopback.
pub fn is_on_this_device(uri: &str) -> bool {
    Url::parse(uri).is_ok_and(|url| url.scheme() != "https" || is_loopback(&url))
}

/// Whether the host is a loopback address or `localhost`.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATIVE: Kind<'_> = Kind::Native { short_schemes: &[] };

    #[test]
    fn t03_only_the_port_of_a_loopback_address_may_differ() {
        let registered = "http://127.0.0.1/cb";
        assert!(matches(registered, "http://127.0.0.1:49152/cb"));
        assert!(matches("http://[::1]:1/cb", "http://[::1]:2/cb"));
        for other in [
            "http://127.0.0.1/cb?x",
            "http://127.0.0.1:1/cb/",
            "http://127.0.0.1:1/other",
            "http://localhost/cb",
            "http://127.0.0.1:99999/cb",
            "http://127.0.0.1:1@evil/cb",
            "http://127.0.0.1.evil/cb",
            "https://127.0.0.1/cb",
            "http://127.0.0.1:/cb ",
        ] {
            assert!(!matches(registered, other), "{other}");
        }
        // A name may resolve to anything: its port is free only where none was registered.
        assert!(matches("http://localhost/cb", "http://localhost:1/cb"));
        assert!(!matches("http://localhost:1/cb", "http://localhost:2/cb"));
        assert!(!matches("http://localhost:1/cb", "http://localhost/cb"));
        for other in [
            "http://127.0.0.1:1/cb",
            "http://localhost:1/other",
            "http://localhost.evil/cb",
            "http://localhost:1@evil/cb",
            "http://localhost:/cb",
            "http://localhost:+1/cb",
            "https://localhost/cb",
        ] {
            assert!(!matches("http://localhost/cb", other), "{other}");
        }
        assert!(!matches("https://c/cb", "https://c:8443/cb"));
    }

    #[test]
    fn an_origin_follows_the_rule_of_redirect_uris() {
        let has_origin = |registered: &str, origin: &str| {
            let known = page_origin(registered);
            known.is_some() && (known.as_deref() == Some(origin) || known == any_port(origin))
        };
        for (registered, origin) in [
            ("https://c.example/cb", "https://c.example"),
            ("https://c.example", "https://c.example"),
            ("https://c.example?x", "https://c.example"),
            ("http://localhost/cb", "http://localhost"),
            ("http://localhost/cb", "http://localhost:5173"),
            ("http://localhost:3000/cb", "http://localhost:3000"),
            ("http://127.0.0.1/cb", "http://127.0.0.1:5173"),
            ("http://127.0.0.1:1/cb", "http://127.0.0.1:5173"),
            ("http://[::1]/cb", "http://[::1]:5173"),
        ] {
            assert!(has_origin(registered, origin), "{registered} {origin}");
        }
        for (registered, origin) in [
            ("https://c.example/cb", "https://c.example:8443"),
            ("https://c.example.evil/cb", "https://c.example"),
            ("http://localhost:3000/cb", "http://localhost:5173"),
            ("http://localhost/cb", "http://127.0.0.1:5173"),
            ("http://localhost/cb", "https://localhost:5173"),
            ("http://localhost/cb", "http://localhost.evil:5173"),
            ("http://localhost/cb", "http://localhost:5173/cb"),
            ("http://127.0.0.1/cb", "null"),
        ] {
            assert!(!has_origin(registered, origin), "{registered} {origin}");
        }
    }

    #[test]
    fn t04_script_schemes_are_never_registered() {
        for bad in [
            "JaVaScRiPt:alert(1)",
            "javascript://c/%0aalert(1)",
            "data:text/html,x",
            "vbscript:x",
            "file:///etc/passwd",
            "http://example.com/cb",
            "https://u:p@c/cb",
            "https://c/cb#f",
            "https://c/\tcb",
            "https://c\\@evil/cb",
            "https://*.c/cb",
            "/cb",
            "myapp:/cb",
            "",
        ] {
            assert!(check(bad, NATIVE).is_err(), "{bad}");
        }
        for good in ["https://c.example/cb?x=1", "http://127.0.0.1/cb", "http://localhost:3000/cb"]
        {
            assert!(check(good, Kind::Web).is_ok(), "{good}");
        }
        assert!(check("com.example.app:/cb", NATIVE).is_ok());
        assert!(check("com.example.app:/cb", Kind::Web).is_err());
        let short_schemes = &["myapp".to_owned(), "javascript".to_owned()];
        let with_short = Kind::Native { short_schemes };
        assert!(check("myapp://host/cb", with_short).is_ok());
        assert!(check("javascript:alert(1)", with_short).is_err());
    }
}
