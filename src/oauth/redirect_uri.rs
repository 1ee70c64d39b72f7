//! Redirect URIs: what may be registered, and what a request's must equal (RFC 9700 §2.1, RFC 8252).

use url::{Host, Url};

/// Schemes that a browser runs or reads itself: a redirect there would hand the code to whoever wrote the URI.
const FORBIDDEN_SCHEMES: [&str; 9] = [
    "javascript",
    "data",
    "vbscript",
    "file",
    "blob",
    "about",
    "view-source",
    "filesystem",
    "ws",
];

/// Whether a client may register this redirect URI. `native`: private-use schemes and loopback addresses are allowed
/// (RFC 8252 §7); else https, or http on loopback for development.
///
/// # Errors
/// Says what is wrong.
pub fn check(uri: &str, native: bool) -> Result<Url, &'static str> {
    if uri.len() > 2048 {
        return Err("it is longer than 2048 characters");
    }
    if uri
        .bytes()
        .any(|b| !(0x21..=0x7e).contains(&b) || b == b'\\' || b == b'"' || b == b'<' || b == b'>')
    {
        return Err("it has a character that does not belong into a URI");
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
    match url.scheme() {
        "https" if url.host().is_some() => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err("http is for loopback addresses only: use https"),
        scheme if FORBIDDEN_SCHEMES.contains(&scheme) => {
            Err("its scheme is not one of an application")
        }
        // RFC 8252 §7.1: a reversed domain name, so that no two applications claim the same.
        scheme if native && scheme.contains('.') => Ok(url),
        _ if native => {
            Err("a private-use scheme is a reversed domain name, as in com.example.app:/callback")
        }
        _ => Err(
            "a web application's redirect URI is https (set application_type to native for others)",
        ),
    }
}

/// Whether a request's redirect URI is the registered one: the same text, but that a loopback address may have another
/// port, since a native application takes the one that is free (RFC 8252 §7.3).
pub fn matches(registered: &str, requested: &str) -> bool {
    if registered == requested {
        return true;
    }
    // `localhost` is a name, which may resolve to anything: exact only (RFC 8252 §8.3).
    let numeric = |text: &str| {
        let rest = text.strip_prefix("http://")?;
        let host = ["127.0.0.1", "[::1]"]
            .into_iter()
            .find(|host| rest.starts_with(host))?;
        let rest = &rest[host.len()..];
        let path = match rest.strip_prefix(':') {
            None => rest,
            Some(rest) => {
                let end = rest.find('/').unwrap_or(rest.len());
                let port = &rest[..end];
                let is_port =
                    port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
                is_port.then_some(&rest[end..])?
            }
        };
        (path.is_empty() || path.starts_with('/')).then(|| (host, path.to_owned()))
    };
    match (numeric(registered), numeric(requested)) {
        (Some(registered), Some(requested)) => registered == requested,
        _ => false,
    }
}

/// Whether the URI leads to a program on the user's own machine.
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

    #[test]
    fn t3_only_the_port_of_a_loopback_address_may_differ() {
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
        assert!(!matches("http://localhost/cb", "http://localhost:1/cb"));
        assert!(!matches("https://c/cb", "https://c:8443/cb"));
    }

    #[test]
    fn t4_a_scheme_that_a_browser_runs_is_never_registered() {
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
            assert!(check(bad, true).is_err(), "{bad}");
        }
        for good in [
            "https://c.example/cb?x=1",
            "http://127.0.0.1/cb",
            "http://localhost:3000/cb",
        ] {
            assert!(check(good, false).is_ok(), "{good}");
        }
        assert!(check("com.example.app:/cb", true).is_ok());
        assert!(check("com.example.app:/cb", false).is_err());
    }
}
