//! `GET /oauth2/revocations`: the revocation feed (docs/revocation-feed.md). One address, four ways: the signed list; what
//! came since a number, at once or when it comes (long poll); or all of it as it comes (server-sent events).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use poem::{
    Body, Request, Response, Result, handler,
    http::{HeaderMap, HeaderValue, StatusCode, header},
};

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
    http::{assets::is_current, context::Context},
    oauth::{error::OAuthError, params::Params},
    revocation::feed::{FollowError, Follower},
};

/// A long poll waits no longer than this.
const LONGEST_WAIT: u64 = 25;
/// How often a silent stream says that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Answers a follower.
#[handler]
pub async fn revocations(request: &Request) -> Result<Response> {
    let app = &Context::of(request)?.app;
    let headers = request.headers();
    let token = credentials::bearer(headers)?.ok_or(Error::NoToken);
    let verified = verify::verify_with(app, &token.map_err(ApiError::from)?, SCOPE).await;
    let verified = verified.map_err(ApiError::from)?;
    let params = params::from_query_or_body(request, &mut poem::RequestBody::default()).await?;
    let since = number(&params, "since")?;
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/event-stream")) {
        let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let since = last.and_then(|id| id.parse().ok()).or(since);
        return events(app, verified, since).await;
    }
    match since {
        Some(since) => {
            let wait = number(&params, "wait")?.unwrap_or_default();
            delta(app, since, u64::try_from(wait).unwrap_or_default()).await
        }
        None => snapshot(app, headers).await,
    }
}

fn number(params: &Params, name: &'static str) -> Result<Option<i64>, ApiError> {
    let number = params.get(name).map(|text| text.parse().ok().filter(|number| *number >= 0));
    number
        .map(|number| {
            let message = format!("{name} is a number from 0 on");
            number.ok_or_else(|| OAuthError::invalid_request(message).into())
        })
        .transpose()
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
        // Nothing has come, or the server is about to end: the number stays.
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
        // A proxy that gathers answers would hold every revocation back.
        .header("x-accel-buffering", "no")
        .body(Body::from_bytes_stream(events)))
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let next = tokio::time::timeout(HEARTBEAT, self.follower.as_mut()?.next()).await;
        // The list has just heard what is new.
        if verify::still_valid(&self.app, &self.verified).is_err() {
            return None;
        }
        match next {
            Err(_) => Some(Bytes::from_static(b": still here\n\n")),
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
            "this number is too far away: take the whole list, and follow from its number",
        )
        .oauth("snapshot_required"),
        FollowError::TooMany => Error::TooMany(HEARTBEAT).into(),
        FollowError::Unavailable(cause) => Error::Unavailable(cause).into(),
    }
}
