//! Who sends a request, whatever the transport: its ids and its real client address.

use std::net::IpAddr;

use poem::{
    Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
};

use crate::{
    app::App,
    credentials::{CookieNames, cookie},
    limits,
    model::{actor::RequestContext, device},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

fn peer(request: &Request) -> IpAddr {
    let peer = request.remote_addr().as_socket_addr();
    peer.map_or(IpAddr::from([0, 0, 0, 0]), |address| address.ip())
}

/// Whether the peer is one of `server.trusted_proxies`.
pub(crate) fn is_from_trusted_proxy(app: &App, request: &Request) -> bool {
    let (peer, trusted) = (peer(request).to_canonical(), &app.config.server.trusted_proxies);
    trusted.iter().any(|network| network.contains(&peer))
}

/// The context of a request, by its header section.
pub(crate) fn of(app: &App, request: &Request) -> RequestContext {
    let headers = request.headers();
    let peer = peer(request);
    // Most requests read, and open no session.
    let opens_sessions = !matches!(*request.method(), Method::GET | Method::HEAD);
    let request_id = app.new_id();
    let correlation_id = correlation_id(headers).unwrap_or_else(|| request_id.clone());
    RequestContext {
        address: limits::client_address(
            peer,
            headers.get_all("x-forwarded-for").iter(),
            &app.config.server.trusted_proxies,
        ),
        user_agent: opens_sessions.then(|| user_agent(headers)).flatten(),
        device: opens_sessions.then(|| device_of(app, headers)).flatten(),
        request_id,
        correlation_id,
    }
}

/// The context of a GET request that opens a session all the same: a provider's redirect back.
pub(crate) fn of_login(app: &App, request: &Request, context: &RequestContext) -> RequestContext {
    let headers = request.headers();
    let (user_agent, device) = (user_agent(headers), device_of(app, headers));
    RequestContext { user_agent, device, ..context.clone() }
}

/// The hash of the device cookie.
fn device_of(app: &App, headers: &HeaderMap) -> Option<String> {
    let value = cookie(headers, CookieNames::of(&app.config).device)?;
    (value.len() == device::COOKIE_LENGTH).then(|| device::hash(&value))
}

/// Kept with the session and shown to its user; truncated, as an untrusted client chooses it.
pub(crate) fn user_agent(headers: &HeaderMap) -> Option<String> {
    let agent = headers.get(header::USER_AGENT)?;
    Some(String::from_utf8_lossy(agent.as_bytes()).chars().take(256).collect())
}

/// `X-Correlation-Id` if its characters are harmless, else the trace id of a W3C `traceparent`.
fn correlation_id(headers: &HeaderMap) -> Option<String> {
    let harmless = |id: &&str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let given = headers.get(CORRELATION_ID).and_then(|id| id.to_str().ok()).filter(harmless);
    let trace = || {
        let mut parts = headers.get("traceparent")?.to_str().ok()?.split('-');
        let (_version, trace) = (parts.next().filter(|v| v.len() == 2)?, parts.next()?);
        let hex =
            trace.len() == 32 && trace.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (hex && trace.bytes().any(|b| b != b'0')).then_some(trace)
    };
    given.or_else(trace).map(str::to_owned)
}

/// Sets the request's ids on its response.
pub(crate) fn echo_ids(headers: &mut HeaderMap, context: &RequestContext) {
    let mut set = |name: HeaderName, id: &str| {
        if let Ok(id) = HeaderValue::from_str(id) {
            headers.insert(name, id);
        }
    };
    set(REQUEST_ID, &context.request_id);
    set(CORRELATION_ID, &context.correlation_id);
}
