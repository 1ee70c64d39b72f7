//! Files and pages compiled into the binary: each response is built once, at start, and shared.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName,
        IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
    },
};
use poem::{Endpoint, Request, Response, Result};

pub use crate::branding::fingerprint;

/// The Content-Security-Policy of a page without scripts and forms: own style sheet and images
/// only.
pub const STATIC_PAGE_CSP: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; \
     base-uri 'none'; frame-ancestors 'none'; form-action 'none'";

/// The headers of every HTML page. `csp` is its Content-Security-Policy, which must forbid framing.
/// Strict-Transport-Security is not included: every response of an https issuer has it.
pub fn page_headers(csp: &str) -> HeaderMap {
    debug_assert!(csp.contains("frame-ancestors 'none'"));
    let fixed = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        // Superseded by frame-ancestors, but still read by scanners and by browsers without CSP 2.
        (HeaderName::from_static("x-frame-options"), "DENY"),
        (CACHE_CONTROL, "no-store"),
    ];
    // The policy consists of constants and validated sources. If it is invalid all the same,
    // nothing is allowed.
    let csp = HeaderValue::from_str(csp)
        .unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    fixed
        .into_iter()
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
        .chain([(CONTENT_SECURITY_POLICY, csp)])
        .collect()
}

/// A 200 response that shares `body` and `headers` with all others.
pub(crate) fn fixed_answer(headers: &HeaderMap, body: &Bytes) -> Response {
    let mut response = Response::from(body.clone());
    *response.headers_mut() = headers.clone();
    response
}

/// A file whose URL changes with its content, so that browsers may cache it forever.
#[derive(Clone, Debug)]
pub struct Asset {
    headers: HeaderMap,
    body: Bytes,
    etag: HeaderValue,
}

/// The content coding of the bytes of an [`Asset`] (RFC 9110 §8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Not encoded.
    Identity,
    /// Compressed by gzip, and sent so to every client: an absent Accept-Encoding permits it (RFC
    /// 9110 §12.5.3) and every browser supports it. Only pages load these files.
    Gzip,
}

impl Asset {
    /// A file of the binary, at a URL that contains its version.
    pub fn new(media_type: &'static str, coding: Coding, body: &'static [u8]) -> Self {
        let mut asset = Self::build(
            media_type,
            "public, max-age=31536000, immutable",
            Bytes::from_static(body),
        );
        if coding == Coding::Gzip {
            let headers = &mut asset.headers;
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        asset
    }

    /// A file of the operator, at a URL that contains its version. Opened by itself, an image runs
    /// and loads nothing.
    pub fn of_operator(media_type: &'static str, body: &'static [u8]) -> Self {
        let mut asset = Self::new(media_type, Coding::Identity, body);
        asset.headers.insert(
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox"),
        );
        asset
    }

    /// A document at a fixed URL: caches must revalidate it each time.
    pub fn document(media_type: &'static str, body: Bytes) -> Self {
        Self::build(media_type, "no-cache", body)
    }

    fn build(media_type: &'static str, cache_control: &'static str, body: Bytes) -> Self {
        let etag = HeaderValue::from_str(&format!("\"{}\"", fingerprint(&body)))
            .unwrap_or(HeaderValue::from_static("\"\""));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache_control));
        headers.insert(ETAG, etag.clone());
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("same-origin"),
        );
        Self { headers, body, etag }
    }
}

impl Endpoint for Asset {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        if is_current(request.headers(), &self.etag) {
            let mut response = Response::builder().status(StatusCode::NOT_MODIFIED).finish();
            for name in [ETAG, CACHE_CONTROL, VARY] {
                if let Some(value) = self.headers.get(&name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            return Ok(response);
        }
        Ok(fixed_answer(&self.headers, &self.body))
    }
}

/// Whether If-None-Match matches `etag` (RFC 9110 §13.1.2: weak comparison; `*` matches anything).
pub fn is_current(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|tag| {
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag.as_bytes()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_accepts_lists_and_weak_tags() {
        let etag = HeaderValue::from_static("\"ab\"");
        let matches = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static(value));
            is_current(&headers, &etag)
        };
        assert!(matches("\"ab\""));
        assert!(matches("\"x\", W/\"ab\""));
        assert!(matches("*"));
        assert!(!matches("\"abc\""));
        assert!(!matches("ab"));
        assert!(!is_current(&HeaderMap::new(), &etag));
    }

    #[tokio::test]
    async fn an_asset_is_sent_once_and_then_revalidated() {
        let app = poem::Route::new()
            .at("/a", poem::get(Asset::new("text/css; charset=utf-8", Coding::Gzip, b"body")));
        let client = poem::test::TestClient::new(app);
        let first = client.get("/a").send().await;
        first.assert_status_is_ok();
        first.assert_header("content-encoding", "gzip");
        first.assert_header("cache-control", "public, max-age=31536000, immutable");
        let etag = first.0.headers()[ETAG].clone();
        first.assert_text("body").await;

        let second = client.get("/a").header(IF_NONE_MATCH, &etag).send().await;
        second.assert_status(StatusCode::NOT_MODIFIED);
        second.assert_header("etag", etag.to_str().unwrap());
        second.assert_text("").await;
    }
}
