//! `propusk.v1.RevocationService`: the feed of [`crate::revocation::feed`].

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

/// Entries in one message: half a MiB at the usual length of ids, where many callers take no more than 4 MiB.
const PART: usize = 5_000;
/// How long a follower hears nothing at the most; the caller's proof is looked at as often.
const SILENCE: Duration = Duration::from_secs(15);

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
        let mut waiting = VecDeque::new();
        let since = match request.get_ref().since {
            Some(since) => since,
            None => {
                let snapshot = app.revocations.snapshot().await;
                let snapshot =
                    snapshot.map_err(|stale| call.refuse(Error::Unavailable(stale.into())))?;
                waiting.extend(snapshot_parts(snapshot.number, &snapshot.entries));
                snapshot.number
            }
        };
        let follower = feed::follow(app, since).await;
        let following = Following {
            follower: follower.map_err(|error| sent_away(&call, error))?,
            number: since,
            waiting,
            // The listener cuts an answer that makes no progress for longer than its idle_timeout.
            silence: SILENCE.min(app.config.server.idle_timeout / 2),
            call,
        };
        let stream = stream::unfold(Some(following), |following| async {
            let mut following = following?;
            match following.next().await {
                Ok(message) => Some((Ok(message), Some(following))),
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(stream.boxed()))
    }
}

struct Following {
    call: Arc<Call>,
    follower: Follower,
    /// What the caller will have reached when it has read everything.
    number: i64,
    waiting: VecDeque<WatchResponse>,
    silence: Duration,
}

impl Following {
    async fn next(&mut self) -> Result<WatchResponse, Status> {
        if let Some(message) = self.waiting.pop_front() {
            return Ok(message);
        }
        let patience = async {
            match self.call.deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let news = tokio::select! {
            news = timeout(self.silence, self.follower.next()) => news,
            () = patience => {
                return Err(self.call.refuse_with(Code::DeadlineExceeded, "REQUEST_TIMEOUT", "the time that you gave is over"));
            }
        };
        // Before anything more is told: the token may have expired, or be what was just revoked.
        let identity = self.call.identity()?;
        identity.still_holds(&self.call.app).await.map_err(|error| self.call.refuse(error))?;
        match news {
            // Nothing happened.
            Err(_) => Ok(delta(self.number, self.number, vec![], false)),
            Ok(Some(Ok(news))) => {
                self.number = news.to;
                self.waiting.extend(delta_parts(news.from, news.to, &news.entries));
                self.waiting
                    .pop_front()
                    .ok_or_else(|| Status::internal("a change without a message"))
            }
            Ok(Some(Err(error))) => Err(sent_away(&self.call, error)),
            Ok(None) => Err(self.call.refuse_with(
                Code::Unavailable,
                "SHUTTING_DOWN",
                "the server is about to end: call again with the number that you have",
            )),
        }
    }
}

fn sent_away(call: &Call, error: FollowError) -> Status {
    match error {
        FollowError::TooFar => call.refuse_with(
            Code::OutOfRange,
            "TOO_FAR",
            "this number is too far away: call again without it, for a snapshot",
        ),
        FollowError::TooMany => call.refuse_with(
            Code::ResourceExhausted,
            "TOO_MANY_FOLLOWERS",
            "too many follow this process: try another one, or later",
        ),
        FollowError::Unavailable(cause) => call.refuse(Error::Unavailable(cause)),
    }
}

fn snapshot_parts(number: i64, entries: &[WireRevocation]) -> Vec<WatchResponse> {
    in_parts(entries, |entries, more| Message::Snapshot(Snapshot { number, entries, more }))
}

fn delta_parts(from: i64, to: i64, entries: &[WireRevocation]) -> Vec<WatchResponse> {
    in_parts(entries, |entries, more| Message::Delta(Delta { from, to, entries, more }))
}

/// At least one message, each with no more entries than every caller can take.
fn in_parts(
    entries: &[WireRevocation],
    message: impl Fn(Vec<Entry>, bool) -> Message,
) -> Vec<WatchResponse> {
    let count = entries.len().div_ceil(PART).max(1);
    (0..count)
        .map(|at| {
            let part = entries.iter().skip(at * PART).take(PART);
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
    fn a_long_list_comes_in_parts_and_only_the_last_ends_it() {
        let entry = WireRevocation {
            kind: "token".to_owned(),
            id: "j".to_owned(),
            scope: None,
            issued_until: None,
            expires_at: 1,
        };
        for (entries, parts) in [(0, 1), (1, 1), (PART, 1), (PART + 1, 2), (3 * PART, 3)] {
            let messages = snapshot_parts(7, &vec![entry.clone(); entries]);
            let seen: Vec<(usize, bool)> = messages
                .into_iter()
                .map(|message| match message.message {
                    Some(Message::Snapshot(part)) => (part.entries.len(), part.more),
                    _ => panic!("no snapshot"),
                })
                .collect();
            assert_eq!(seen.len(), parts);
            assert_eq!(seen.iter().map(|(length, _)| length).sum::<usize>(), entries);
            let more: Vec<bool> = seen.iter().map(|(_, more)| *more).collect();
            assert!(!more[parts - 1] && more[..parts - 1].iter().all(|more| *more));
        }
    }
}
