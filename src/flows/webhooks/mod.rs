//! Delivery of events to webhooks, the second sink of the outbox; it knows nothing of Kafka.
//!
//! Each event is queued once for each endpoint that wants it, as a row, in the transaction that
//! marks it in the outbox: none is skipped, however late its transaction has committed. Rows are
//! leased, sent and marked: a crash in between sends the same event again, under the same
//! `webhook-id`.
//!
//! Each endpoint has a worker of its own and waits for no other; one that fails backs off as a
//! whole, and is tried by one request then.

mod send;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::json;
use tokio::task::{Id, JoinSet};

pub use self::send::{Sent, new_secret, sealed, send};
use crate::{
    app::App,
    clock::Timestamp,
    error::Error,
    model::{
        actor::Actor,
        event::Event,
        webhook::{Delivery, DisabledFor, Webhook},
    },
    storage::{
        self, relay,
        webhook_deliveries::{self as deliveries, Failure, Unqueued},
        webhooks as rows,
        webhooks::Due,
    },
    telemetry::DeliveryOutcome,
};

/// How often a process looks for new events, lapsed leases and due retries.
const EVERY: Duration = Duration::from_millis(500);

/// Events that are queued in one transaction.
const BATCH: i64 = 500;

/// Concurrent requests to one endpoint.
const SHARE: i64 = 4;

/// Rounds of [`SHARE`] deliveries after which a worker makes room for another endpoint.
const TURN: usize = 32;

/// What the lease of a delivery lasts beyond the longest request.
const LEASE: Duration = Duration::from_secs(30);

/// The delays between the attempts of a delivery, as Standard Webhooks recommends; then the last.
const PAUSES: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(300),
    Duration::from_secs(1_800),
    Duration::from_secs(2 * 3_600),
    Duration::from_secs(5 * 3_600),
    Duration::from_secs(10 * 3_600),
    Duration::from_secs(14 * 3_600),
    Duration::from_secs(20 * 3_600),
    Duration::from_secs(24 * 3_600),
];

/// The delays between requests to an endpoint that fails; then the last.
const BACK_OFFS: [Duration; 6] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(1_800),
    Duration::from_secs(3_600),
];

/// The longest `Retry-After` that is obeyed to the second.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// Runs until it is dropped.
pub async fn run(app: Arc<App>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut workers = Workers::default();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = app.webhooks_waiting.notified() => {}
            Some(ended) = workers.tasks.join_next_with_id() => {
                let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                workers.running.remove(&id);
            }
        }
        if let Err(error) = queue(&app).await {
            tracing::error!(%error, "queueing events for webhooks failed; will retry");
        }
        match rows::due(&app.db, app.clock.now()).await {
            Ok(due) => workers.start(&app, due),
            Err(error) => tracing::error!(%error, "reading due webhooks failed; will retry"),
        }
    }
}

/// Queues every new event for the endpoints that want it.
async fn queue(app: &App) -> storage::Result<()> {
    while deliveries::has_unqueued(&app.db).await? {
        let mut tx = app.db.begin().await?;
        let events = deliveries::unqueued(&mut tx, BATCH).await?;
        if events.is_empty() {
            // Another process is at it.
            return tx.rollback().await;
        }
        // Read after the events, so that no endpoint misses one that was committed after it.
        let webhooks = rows::enabled(&mut tx).await?;
        let wants = |webhook: &Webhook, event: &Unqueued| {
            webhook.created_at <= event.created_at && webhook.settings.wants(&event.kind)
        };
        let all = events.iter().flat_map(|event| webhooks.iter().map(move |one| (one, event)));
        let new: Vec<_> = all
            .filter(|(webhook, event)| wants(webhook, event))
            .map(|(webhook, event)| (webhook.id.as_str(), event))
            .collect();
        let now = app.clock.now();
        deliveries::queue(&mut tx, &new, now, now + app.config.webhooks.max_age).await?;
        deliveries::mark_queued(&mut tx, &events, now).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// The running workers and their endpoints.
#[derive(Default)]
struct Workers {
    tasks: JoinSet<()>,
    running: HashMap<Id, Due>,
}

impl Workers {
    /// Starts a worker for each of these endpoints that has none, as far as there is room. Failing
    /// ones, which may not respond, have half of the room.
    fn start(&mut self, app: &Arc<App>, due: Vec<Due>) {
        let most = app.config.webhooks.concurrency;
        for webhook in due {
            let fails = |due: &Due| due.failures > 0;
            let failing = self.running.values().filter(|one| fails(one)).count();
            let has_room =
                self.running.len() < most && (!fails(&webhook) || failing < most.div_ceil(2));
            if !has_room || self.running.values().any(|running| running.id == webhook.id) {
                continue;
            }
            let task = self.tasks.spawn(serve(Arc::clone(app), webhook.id.clone()));
            self.running.insert(task.id(), webhook);
        }
    }
}

/// Sends what is due of one endpoint, for one turn at most.
async fn serve(app: Arc<App>, webhook_id: String) {
    for _ in 0..TURN {
        match round(&app, &webhook_id).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::error!(%error, webhook_id, "delivery to a webhook failed; will retry");
                return;
            }
        }
    }
}

/// Sends some deliveries of an endpoint at the same time; returns whether more may be due.
async fn round(app: &App, webhook_id: &str) -> Result<bool, Error> {
    // Read for each round: its URL, its secret or its state may have changed.
    let webhook = rows::by_id(&app.db, webhook_id).await?;
    let Some(webhook) = webhook.filter(|webhook| webhook.disabled_at.is_none()) else {
        return Ok(false);
    };
    let now = app.clock.now();
    let leased_until = now + app.config.webhooks.timeout + LEASE;
    let is_failing = webhook.failures > 0;
    if webhook.retry_at > now
        || (is_failing && !rows::claim_probe(&app.db, webhook_id, now, leased_until).await?)
    {
        return Ok(false);
    }
    let most = if is_failing { 1 } else { SHARE };
    let taken = deliveries::take(&app.db, webhook_id, now, leased_until, most).await?;
    if taken.is_empty() {
        return Ok(false);
    }
    let outcomes = join_all(taken.iter().map(|one| attempt(app, &webhook, one))).await;
    let mut seen = Seen::default();
    for (delivery, outcome) in taken.iter().zip(outcomes) {
        settle(app, &webhook, delivery, outcome?, &mut seen).await?;
    }
    let now = app.clock.now();
    if seen.is_gone {
        disable(app, &webhook, DisabledFor::Gone).await?;
        return Ok(false);
    }
    if seen.accepted {
        if is_failing {
            rows::recover(&app.db, webhook_id).await?;
        }
        if let Some(wait) = seen.retry_after {
            rows::pause(&app.db, webhook_id, now + wait).await?;
        }
        return Ok(seen.retry_after.is_none());
    }
    if !seen.failed {
        return Ok(true);
    }
    let pause = jittered(app, at(&BACK_OFFS, webhook.failures));
    let retry_at = now + pause.max(seen.retry_after.unwrap_or_default());
    let since = rows::back_off(&app.db, webhook_id, now, retry_at).await?;
    if since.is_some_and(|since| now - since >= app.config.webhooks.disable_after) {
        disable(app, &webhook, DisabledFor::Failing).await?;
    }
    Ok(false)
}

/// What a round has found out about its endpoint.
#[derive(Default)]
struct Seen {
    accepted: bool,
    failed: bool,
    is_gone: bool,
    retry_after: Option<Duration>,
}

/// What became of an attempt.
enum Outcome {
    Sent(Sent),
    /// The outbox has no such event any more.
    NoEvent,
}

async fn attempt(app: &App, webhook: &Webhook, delivery: &Delivery) -> Result<Outcome, Error> {
    match relay::by_id(&app.db, &delivery.event_id).await? {
        Some(event) => Ok(Outcome::Sent(send(app, webhook, &event).await?)),
        None => Ok(Outcome::NoEvent),
    }
}

/// Records what became of an attempt.
async fn settle(
    app: &App,
    webhook: &Webhook,
    delivery: &Delivery,
    outcome: Outcome,
    seen: &mut Seen,
) -> Result<(), Error> {
    let now = app.clock.now();
    let Outcome::Sent(sent) = outcome else {
        let error = "the outbox does not have the event any more".to_owned();
        app.metrics.webhook_delivery(DeliveryOutcome::Abandoned);
        let failure = Failure { status: None, error };
        return Ok(deliveries::abandon(&app.db, delivery.number, &failure, now).await?);
    };
    let (webhook_id, event_id) = (&webhook.id, &delivery.event_id);
    let status = sent.status.map(i64::from);
    let Some(error) = sent.error else {
        seen.accepted = true;
        app.metrics.webhook_delivery(DeliveryOutcome::Delivered);
        let status = status.unwrap_or_default();
        return Ok(deliveries::deliver(&app.db, delivery.number, status, now).await?);
    };
    seen.failed = true;
    seen.is_gone |= sent.status == Some(410);
    let retry_after = sent.retry_after.map(|wait| wait.min(LONGEST_RETRY_AFTER));
    seen.retry_after = seen.retry_after.max(retry_after);
    let failure = Failure { status, error };
    let pause = jittered(app, at(&PAUSES, delivery.attempts - 1));
    let next_attempt_at = now + pause.max(retry_after.unwrap_or_default());
    let is_last = delivery.attempts >= i64::from(app.config.webhooks.max_attempts)
        || next_attempt_at >= delivery.expires_at;
    let error = &failure.error;
    if is_last {
        tracing::warn!(webhook_id, event_id, error, "event not delivered to a webhook; abandoned");
        app.metrics.webhook_delivery(DeliveryOutcome::Abandoned);
        deliveries::abandon(&app.db, delivery.number, &failure, now).await?;
    } else {
        tracing::info!(webhook_id, event_id, error, "event not delivered to a webhook; will retry");
        app.metrics.webhook_delivery(DeliveryOutcome::Failed);
        deliveries::postpone(&app.db, delivery.number, &failure, next_attempt_at).await?;
    }
    Ok(())
}

/// Disables an endpoint, unless an operator has changed it meanwhile.
async fn disable(app: &App, seen: &Webhook, reason: DisabledFor) -> Result<(), Error> {
    let mut tx = app.begin(&Actor::service("webhooks", None)).await?;
    let found = rows::lock(&mut tx, &seen.id).await?;
    let Some(mut webhook) = found.filter(|found| found.updated_at == seen.updated_at) else {
        return Ok(tx.rollback().await?);
    };
    webhook.disabled_at = Some(tx.now());
    webhook.disabled_for = Some(reason);
    webhook.updated_at = tx.now().past(webhook.updated_at);
    rows::update(&mut tx, &webhook).await?;
    tx.event(&Event::webhook_disabled(&webhook.id, reason)).await?;
    let detail = json!({ "webhookId": webhook.id, "reason": reason.as_str() });
    tx.audit("webhook.disable", None, detail).await?;
    tx.commit().await?;
    let (webhook_id, reason) = (&seen.id, reason.as_str());
    tracing::error!(webhook_id, reason, "a webhook was disabled");
    Ok(())
}

/// Abandons what has expired, and bounds the deliveries that are kept.
///
/// # Errors
/// [`storage::Error`].
pub async fn sweep(app: &App, batch: i64) -> storage::Result<()> {
    let (now, config) = (app.clock.now(), &app.config.webhooks);
    let is_full = |count: usize| i64::try_from(count).is_ok_and(|count| count == batch);
    loop {
        let expired = deliveries::expire(&app.db, now, batch).await?;
        (0..expired).for_each(|_| app.metrics.webhook_delivery(DeliveryOutcome::Abandoned));
        if !is_full(expired) {
            break;
        }
    }
    let oldest: Timestamp = now - config.retention;
    while is_full(deliveries::sweep(&app.db, oldest, batch).await?) {
        tokio::task::yield_now().await;
    }
    let most = i64::try_from(config.max_rows).unwrap_or(i64::MAX);
    let dropped = deliveries::bound(&app.db, most).await?;
    if dropped > 0 {
        (0..dropped).for_each(|_| app.metrics.webhook_delivery(DeliveryOutcome::Abandoned));
        tracing::error!(dropped, "deliveries beyond webhooks.max_rows were abandoned");
    }
    Ok(())
}

/// The delay after so many failures.
fn at(delays: &[Duration], failures: i64) -> Duration {
    let last = delays.len() - 1;
    delays[usize::try_from(failures).unwrap_or(last).min(last)]
}

/// Up to a tenth more or less, so that what failed together is not repeated together.
fn jittered(app: &App, delay: Duration) -> Duration {
    let [random] = app.rng.bytes::<1>();
    delay.mul_f64(0.9 + 0.2 * f64::from(random) / 255.0)
}
