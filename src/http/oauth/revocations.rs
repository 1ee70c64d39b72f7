//! `GET /oauth2/revocations`: the revocation feed (docs/revocation-feed.md). One path, four ways:
//! the signed list; the changes since a version, at once or by long polling; or every change as it
//! is committed (server-sent events).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use poem::{
    Body, Request, Response, Result, handler,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
};
use poem_openapi::Object;

use super::params;
use crate::{
    api_error::{ApiError, ErrorCode},
    app::App,
    caches::verified_tokens::Verified,
    credentials,
    error::Error,
    flows::{
        feed::{self, SCOPE},
        tokens::verify,
    },
    http::{
        api::{Tag, data::RevocationKind},
        assets::is_current,
        context::Context,
        operation::{Operation, Security, text},
    },
    oauth::{params::Parameters, requests::FeedRequest},
    revocation::feed::{FollowError, Follower},
};

/// The longest long poll, in seconds.
const LONGEST_WAIT: u64 = 25;
/// How often an idle stream sends a comment.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The revocation feed.
pub fn operation() -> Operation {
    Operation::new(Method::GET, "/oauth2/revocations", "getRevocations", Tag::OAuth, revocations)
        .about(
            "Revocation feed",
            "For gateways that verify tokens themselves, with a token of the scope `propusk:revocations`: the whole list, signed; \
             with `since` the changes after a version; with `Accept: text/event-stream` every change as it is committed. \
             Specified in docs/revocation-feed.md.",
        )
        .security(Security::AccessToken)
        .query::<FeedRequest>()
        .response(200, "The list, or the changes.", &[("application/revocations+jwt", text())])
        .json::<RevocationDelta>(200, "")
        .response(200, "", &[("text/event-stream", text())])
        .header(200, "ETag", "The version of the list.")
        .empty(304, "The list has the version of If-None-Match.")
        .errors(&[400, 401])
        .error(403, "The token lacks the scope.")
        .error(410, "`snapshot_required`: the version is too old; fetch the whole list.")
        .error(429, "Too many followers; see Retry-After.")
        .errors(&[503])
}

/// The changes between two versions of the list.
#[derive(Object)]
struct RevocationDelta {
    /// The version that the changes apply to.
    from: i64,
    /// The version after applying them.
    to: i64,
    /// The new entries.
    entries: Vec<RevocationEntry>,
}

/// Tokens that are rejected before they expire.
#[derive(Object)]
struct RevocationEntry {
    /// What the entry revokes.
    kind: RevocationKind,
    /// The `jti`, `sid`, `sub`, `client_id` or `kid`.
    id: String,
    /// Kind `scope` only: the scope that a token of the subject must have.
    scope: Option<String>,
    /// Seconds since the epoch; tokens with an `iat` up to it are revoked.
    issued_until: Option<i64>,
    /// Seconds since the epoch; every token that the entry could revoke has expired by then.
    expires_at: i64,
}

/// Answers a follower.
#[handler]
pub async fn revocations(request: &Request) -> Result<Response> {
    let app = &Context::of(request)?.app;
    let headers = request.headers();
    let token = credentials::bearer(headers)?.ok_or(Error::NoToken);
    let verified = verify::verify_with(app, &token.map_err(ApiError::from)?, SCOPE).await;
    let verified = verified.map_err(ApiError::from)?;
    let params = params::from_query_or_body(request, &mut poem::RequestBody::default()).await?;
    let asked = FeedRequest::of(&params).map_err(ApiError::from)?;
    let since = asked.since;
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/event-stream")) {
        let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let since = last.and_then(|id| id.parse().ok()).or(since);
        return events(app, verified, since).await;
    }
    match since {
        Some(since) => {
            let wait = asked.wait.unwrap_or_default();
            delta(app, since, u64::try_from(wait).unwrap_or_default()).await
        }
        None => snapshot(app, headers).await,
    }
}

async fn snapshot(app: &App, headers: &HeaderMap) -> Result<Response> {
    let signed = feed::snapshot(app).await.map_err(ApiError::from)?;
    let etag = HeaderValue::try_from(format!("\"{}\"", signed.number))
        .map_err(|error| Error::Unavailable(error.into()))
        .map_err(ApiError::from)?;
    let mut response = if is_current(headers, &etag) {
        Response::builder().status(StatusCode::NOT_MODIFIED).finish()
    } else {
        Response::builder().content_type("application/revocations+jwt").body(signed.jwt)
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

async fn delta(app: &App, since: i64, wait: u64) -> Result<Response> {
    let mut follower = feed::follow(app, since).await.map_err(refused)?;
    let wait = Duration::from_secs(wait.min(LONGEST_WAIT));
    let json = match tokio::time::timeout(wait, follower.next()).await {
        Ok(Some(delta)) => delta.map_err(refused)?.json(),
        // No change, or the server is shutting down: the version stays.
        Ok(None) | Err(_) => {
            Bytes::from(format!("{{\"from\":{since},\"to\":{since},\"entries\":[]}}"))
        }
    };
    Ok(Response::builder().content_type("application/json").body(json))
}

struct Stream {
    app: Arc<App>,
    verified: Arc<Verified>,
    follower: Option<Follower>,
    first: Option<Bytes>,
}

async fn events(app: &Arc<App>, verified: Arc<Verified>, since: Option<i64>) -> Result<Response> {
    let (since, first) = match since {
        Some(since) => (since, None),
        None => {
            let signed = feed::snapshot(app).await.map_err(ApiError::from)?;
            let jwt = String::from_utf8_lossy(&signed.jwt);
            let event = format!("event: snapshot\nid: {}\ndata: {jwt}\n\n", signed.number);
            (signed.number, Some(Bytes::from(event)))
        }
    };
    let follower = feed::follow(app, since).await.map_err(refused)?;
    let stream = Stream { app: Arc::clone(app), verified, follower: Some(follower), first };
    let events = stream::unfold(stream, |mut stream| async move {
        let event = stream.next().await?;
        Some((Ok::<_, std::io::Error>(event), stream))
    });
    Ok(Response::builder()
        .content_type("text/event-stream")
        // A proxy that buffers responses would delay every revocation.
        .header("x-accel-buffering", "no")
        .body(Body::from_bytes_stream(events)))
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let next = tokio::time::timeout(HEARTBEAT, self.follower.as_mut()?.next()).await;
        // The follower has just observed the latest version.
        if verify::still_valid(&self.app, &self.verified).is_err() {
            return None;
        }
        match next {
            Err(_) => Some(Bytes::from_static(b": keep-alive\n\n")),
            Ok(Some(Ok(delta))) => {
                let json = delta.json();
                let mut event = format!("event: delta\nid: {}\ndata: ", delta.to).into_bytes();
                event.extend_from_slice(&json);
                event.extend_from_slice(b"\n\n");
                Some(event.into())
            }
            Ok(Some(Err(_))) => {
                self.follower = None;
                Some(Bytes::from_static(b"event: reset\ndata: {}\n\n"))
            }
            Ok(None) => None,
        }
    }
}

fn refused(error: FollowError) -> ApiError {
    match error {
        FollowError::TooFar => ApiError::new(
            ErrorCode::SnapshotRequired,
            "the version is too old: fetch the whole list and follow from its version",
        )
        .oauth("snapshot_required"),
        FollowError::TooMany => Error::TooMany(HEARTBEAT).into(),
        FollowError::Unavailable(cause) => Error::Unavailable(cause).into(),
    }
}
