use url::Url;

/// Where to go after a login: a path of this application, or `fallback`. Other origins are refused,
/// however they are written (`//evil.example`, `/\evil.example`, `javascript:…`): an open
/// redirect makes the application's own login page lead to an attacker's (RFC 9700 §4.11).
///
/// ```
/// use propusk_client::safe_return_to;
/// assert_eq!(safe_return_to(Some("/orders?id=1"), "/"), "/orders?id=1");
/// assert_eq!(safe_return_to(Some("//evil.example"), "/"), "/");
/// ```
pub fn safe_return_to<'a>(value: Option<&'a str>, fallback: &'a str) -> &'a str {
    value.filter(|value| is_own_path(value)).unwrap_or(fallback)
}

pub(crate) fn is_own_path(value: &str) -> bool {
    // URL parsers drop tabs and line breaks, and read a backslash as a slash (WHATWG URL §4.4).
    let is_plain = |c: char| c > ' ' && c != '\u{7f}' && c != '\\';
    if !value.starts_with('/') || !value.chars().all(is_plain) {
        return false;
    }
    let Ok(base) = Url::parse("http://application.invalid") else { return false };
    let Ok(url) = base.join(value) else { return false };
    // `/.//evil.example` is a path of this origin that reads as another origin once it is written.
    url.origin() == base.origin() && !url.path().starts_with("//")
}
