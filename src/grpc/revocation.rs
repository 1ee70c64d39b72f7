//! `propusk.v1.RevocationService`: [`crate::revocation::feed`] as a stream.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::time::{sleep_until, timeout};
use tonic::{Code, Request, Response, Status};

use super::{
    edge::Call,
    proto::v1::{
        Delta, Entry, Snapshot, WatchRequest, WatchResponse,
        revocation_service_server::RevocationService, watch_response::Message,
    },
};
use crate::{
    error::Error,
    flows::feed,
    model::revocation::WireRevocation,
    revocation::feed::{FollowError, Follower},
};

/// The entries of one message: about 512 KiB with ids of the usual length. Many gRPC clients accept
/// at most 4 MiB.
const MAX_ENTRIES: usize = 5_000;
/// The interval of empty deltas while nothing changes, and of checks of the caller's credential.
const HEARTBEAT: Duration = Duration::from_secs(15);

pub(super) struct Revocations;

#[tonic::async_trait]
impl RevocationService for Revocations {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let call = Call::of(&request)?;
        let app = &call.app;
        let mut pending = VecDeque::new();
        let since = match request.get_ref().since {
            Some(since) => since,
            None => {
                let snapshot = app.revocations.snapshot().await;
                let snapshot =
                    snapshot.map_err(|stale| call.refuse(Error::Unavailable(stale.into())))?;
                pending.extend(snapshot_parts(snapshot.number, &snapshot.entries));
                snapshot.number
            }
        };
        let follower = feed::follow(app, since).await;
        let subscription = Subscription {
            follower: follower.map_err(|error| feed_error(&call, error))?,
            number: since,
            pending,
            // The listener closes a response without progress after `idle_timeout`.
            heartbeat: HEARTBEAT.min(app.config.server.idle_timeout / 2),
            call,
        };
        let stream = stream::unfold(Some(subscription), |subscription| async {
            let mut subscription = subscription?;
            match subscription.next().await {
                Ok(message) => Some((Ok(message), Some(subscription))),
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(stream.boxed()))
    }
}

struct Subscription {
    call: Arc<Call>,
    follower: Follower,
    /// The sequence number of the caller once it has read `pending`.
    number: i64,
    pending: VecDeque<WatchResponse>,
    heartbeat: Duration,
}

impl Subscription {
    async fn next(&mut self) -> Result<WatchResponse, Status> {
        if let Some(message) = self.pending.pop_front() {
            return Ok(message);
        }
        let deadline = async {
            match self.call.deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let change = tokio::select! {
            change = timeout(self.heartbeat, self.follower.next()) => change,
            () = deadline => {
                return Err(self.call.refuse_with(Code::DeadlineExceeded, "REQUEST_TIMEOUT", "deadline exceeded"));
            }
        };
        // Check before anything is sent: the token may have expired or have just been revoked.
        let identity = self.call.identity()?;
        identity.recheck(&self.call.app).await.map_err(|error| self.call.refuse(error))?;
        match change {
            // Nothing has changed.
            Err(_) => Ok(delta(self.number, self.number, vec![], false)),
            Ok(Some(Ok(change))) => {
                self.number = change.to;
                self.pending.extend(delta_parts(change.from, change.to, &change.entries));
                self.pending.pop_front().ok_or_else(|| Status::internal("a delta has no message"))
            }
            Ok(Some(Err(error))) => Err(feed_error(&self.call, error)),
            Ok(None) => Err(self.call.refuse_with(
                Code::Unavailable,
                "SHUTTING_DOWN",
                "the server is shutting down: call Watch again with the last number received",
            )),
        }
    }
}

fn feed_error(call: &Call, error: FollowError) -> Status {
    match error {
        FollowError::TooFar => call.refuse_with(
            Code::OutOfRange,
            "SNAPSHOT_REQUIRED",
            "`since` is out of range: call Watch without it to get a snapshot",
        ),
        FollowError::TooMany => call.refuse_with(
            Code::ResourceExhausted,
            "TOO_MANY_FOLLOWERS",
            "this process has too many followers: retry later or on another process",
        ),
        FollowError::Unavailable(cause) => call.refuse(Error::Unavailable(cause)),
    }
}

fn snapshot_parts(number: i64, entries: &[WireRevocation]) -> Vec<WatchResponse> {
    split(entries, |entries, more| Message::Snapshot(Snapshot { number, entries, more }))
}

fn delta_parts(from: i64, to: i64, entries: &[WireRevocation]) -> Vec<WatchResponse> {
    split(entries, |entries, more| Message::Delta(Delta { from, to, entries, more }))
}

/// Splits entries into messages of at most [`MAX_ENTRIES`]; at least one message.
fn split(
    entries: &[WireRevocation],
    message: impl Fn(Vec<Entry>, bool) -> Message,
) -> Vec<WatchResponse> {
    let count = entries.len().div_ceil(MAX_ENTRIES).max(1);
    (0..count)
        .map(|at| {
            let part = entries.iter().skip(at * MAX_ENTRIES).take(MAX_ENTRIES);
            let message = message(part.map(Entry::from).collect(), at + 1 < count);
            WatchResponse { message: Some(message) }
        })
        .collect()
}

fn delta(from: i64, to: i64, entries: Vec<Entry>, more: bool) -> WatchResponse {
    WatchResponse { message: Some(Message::Delta(Delta { from, to, entries, more })) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_split_and_only_the_last_part_has_no_more() {
        let entry = WireRevocation {
            kind: "token".to_owned(),
            id: "j".to_owned(),
            scope: None,
            issued_until: None,
            expires_at: 1,
        };
        for (entries, parts) in
            [(0, 1), (1, 1), (MAX_ENTRIES, 1), (MAX_ENTRIES + 1, 2), (3 * MAX_ENTRIES, 3)]
        {
            let messages = snapshot_parts(7, &vec![entry.clone(); entries]);
            let seen: Vec<(usize, bool)> = messages
                .into_iter()
                .map(|message| match message.message {
                    Some(Message::Snapshot(part)) => (part.entries.len(), part.more),
                    _ => panic!("expected a snapshot"),
                })
                .collect();
            assert_eq!(seen.len(), parts);
            assert_eq!(seen.iter().map(|(length, _)| length).sum::<usize>(), entries);
            let more: Vec<bool> = seen.iter().map(|(_, more)| *more).collect();
            assert!(!more[parts - 1] && more[..parts - 1].iter().all(|more| *more));
        }
    }
}
