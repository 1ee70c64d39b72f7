//! Tokens of users are revoked at their service (RFC 7009) when they are removed here: the account
//! was disconnected, or the session or the user is gone. Where the service has a `revocation_url`,
//! a trigger queues them in the transaction that removes them. This sends the requests afterwards,
//! with a bounded number of attempts: nothing waits for them.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::json;

use super::unseal;
use crate::{
    app::App,
    error::Error,
    model::{
        actor::Actor,
        service_token::{FailureKind, Secrets},
    },
    services::{Failure, Service},
    storage::service_revocations::{self as rows, ServiceRevocation},
    telemetry::ServiceOutcome,
};

/// How often a process looks for due attempts.
const EVERY: Duration = Duration::from_secs(2);

/// Concurrent requests of a process.
const BATCH: i64 = 8;

/// The lease of an attempt, longer than the longest `timeout`; after it another process takes it.
const LEASE: Duration = Duration::from_secs(60);

/// The delays between attempts.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    rows::LONGEST_PAUSE,
];

/// The number of attempts.
const MOST: i64 = PAUSES.len() as i64 + 1;

/// Runs until it is dropped, if a service has a `revocation_url`.
pub async fn run(app: Arc<App>) {
    if !app.services.iter().any(|service| service.config.revokes()) {
        // Of an earlier configuration.
        if let Err(error) = rows::clear(&app.db).await {
            tracing::error!(%error, "clearing the revocations at services failed");
        }
        return;
    }
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = app.services.revocations_waiting.notified() => {}
        }
        if let Err(error) = send_due(&app).await {
            tracing::error!(%error, "revoking tokens at services failed; will retry");
        }
    }
}

async fn send_due(app: &App) -> Result<(), Error> {
    while rows::is_due(&app.db, app.clock.now()).await? {
        let taken = rows::take(&app.db, app.clock.now(), LEASE, MOST, BATCH).await?;
        let sent = join_all(taken.iter().map(|one| send(app, one))).await;
        for (one, sent) in taken.iter().zip(sent) {
            settle(app, one, sent).await?;
        }
        if abandon(app).await? == 0 && taken.is_empty() {
            // Another process was faster.
            break;
        }
    }
    Ok(())
}

/// Sends a request; `false` where the service has no endpoint for it any more.
async fn send(app: &App, one: &ServiceRevocation) -> Result<bool, Failure> {
    let Some(service) = app.services.get(&one.service).filter(|one| one.config.revokes()) else {
        return Ok(false);
    };
    let secrets = unseal(app, &one.service, &one.subject, &one.sealed);
    let secrets = secrets.map_err(|error| Failure::new(FailureKind::Failed, error.to_string()))?;
    let sent = revoke(app, service, &secrets).await;
    let outcome = sent.as_ref().map_or_else(|failure| failure.kind.into(), |()| ServiceOutcome::Ok);
    app.metrics.service_revocation(&service.name, outcome);
    sent.map(|()| true)
}

/// With a refresh token its access tokens are revoked as well (RFC 7009 §2.1).
async fn revoke(app: &App, service: &Service, secrets: &Secrets) -> Result<(), Failure> {
    let (token, hint) = match (&secrets.refresh_token, &secrets.access_token) {
        (Some(token), _) => (token, "refresh_token"),
        (None, Some(token)) => (token, "access_token"),
        (None, None) => return Ok(()),
    };
    let now = app.clock.now();
    service.revoke_token(&app.outbound, token, hint, now, || app.new_id()).await
}

fn actor(service: &str) -> Actor {
    Actor::service(&format!("service:{service}"), None)
}

async fn settle(
    app: &App,
    one: &ServiceRevocation,
    sent: Result<bool, Failure>,
) -> Result<(), Error> {
    let service = one.service.as_str();
    let failure = match sent {
        Ok(was_sent) => {
            let mut tx = app.begin(&actor(service)).await?;
            rows::remove(&mut tx, one.number).await?;
            if was_sent {
                let detail = json!({ "service": service });
                tx.audit("service.revoked", Some(&one.subject), detail).await?;
            }
            tx.commit().await?;
            return Ok(());
        }
        Err(failure) => failure,
    };
    let (kind, cause) = (failure.kind.as_str(), failure.cause.as_str());
    tracing::warn!(service, kind, cause, "a service did not revoke a token");
    let now = app.clock.now();
    let done = usize::try_from(one.attempts - 1).unwrap_or(usize::MAX);
    let Some(pause) = PAUSES.get(done) else {
        // It is abandoned at once.
        rows::postpone(&app.db, one.number, now).await?;
        return Ok(());
    };
    let retry_at = now + failure.retry_after.unwrap_or_default().clamp(*pause, rows::LONGEST_PAUSE);
    rows::postpone(&app.db, one.number, retry_at).await?;
    if failure.is_of_all() {
        rows::back_off(&app.db, service, now, retry_at).await?;
    }
    Ok(())
}

/// Removes what was attempted often enough; returns how many.
async fn abandon(app: &App) -> Result<usize, Error> {
    const BATCH: i64 = 100;
    let mut tx = app.begin(&Actor::service("service", None)).await?;
    let now = tx.now();
    let abandoned = rows::abandon(&mut tx, now, MOST, BATCH).await?;
    for one in &abandoned {
        let service = one.service.as_str();
        tracing::warn!(service, "a token was not revoked at its service; abandoned");
        let detail = json!({ "service": service, "attempts": one.attempts });
        tx.audit("service.revocation_abandoned", Some(&one.subject), detail).await?;
    }
    tx.commit().await?;
    Ok(abandoned.len())
}
