//! The relay of the outbox to Kafka: every event, at least once, the events of a user in order.
//!
//! One process publishes, whose connection holds a lock. It reads what is not published, sends it,
//! waits until Kafka has acknowledged it, and then marks it. A crash in between sends the same
//! messages again, under the same ids; nothing is skipped.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    producer::{FutureRecord, Producer as _},
};
use tokio::sync::watch;

use super::{
    kafka::{self, Producer},
    messages::{self, Message},
};
use crate::{
    app::App,
    flows::provisioning,
    storage::relay::{self as rows, OutboxRow, RelayConnection},
};

/// How often new events are looked for while there are none.
const IDLE: Duration = Duration::from_millis(100);

/// How often another process tries to take over, and how long a failure is waited for.
const RETRY: Duration = Duration::from_secs(1);

/// What docs/events.md promises: another process publishes within this time.
const TAKEOVER: Duration = Duration::from_secs(5);
const _: () = assert!(rows::VANISHED.as_secs() + RETRY.as_secs() <= TAKEOVER.as_secs());

/// How often the backlog is measured.
const MEASURE: Duration = Duration::from_secs(5);

/// The age of the oldest unpublished event that is reported as a delay.
const DELAYED: Duration = Duration::from_secs(60);

/// The most events that are sent before their acknowledgements are waited for.
const BATCH: usize = 1_000;

/// Runs until `stopping` is true and what was committed before is published.
pub async fn run(app: Arc<App>, mut stopping: watch::Receiver<bool>) {
    let mut connection = RelayConnection::new(&app.db);
    let mut reported = None;
    loop {
        match connection.acquire().await {
            Ok(true) => {
                tracing::info!("publishing events to Kafka");
                match publish(&app, &mut connection, &mut stopping).await {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::warn!(error, "publishing events was interrupted; will retry");
                    }
                }
                // Another process may take over meanwhile.
                connection = RelayConnection::new(&app.db);
            }
            Ok(false) => reported = None,
            Err(error) => {
                let error = error.to_string();
                if reported.as_ref() != Some(&error) {
                    tracing::warn!(error, "the lock of the relay cannot be acquired; will retry");
                    reported = Some(error);
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

/// Measures the backlog until it is dropped.
pub async fn watch_backlog(app: Arc<App>) {
    let mut tick = tokio::time::interval(MEASURE);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut most: i64 = 0;
    loop {
        tick.tick().await;
        let backlog = match rows::backlog(&app.db).await {
            Ok(backlog) => backlog,
            Err(error) => {
                tracing::warn!(%error, "counting the unpublished events failed; will retry");
                continue;
            }
        };
        let age = backlog.oldest.map_or(Duration::ZERO, |oldest| app.clock.now() - oldest);
        app.metrics.events_waiting.set(backlog.count);
        app.metrics.events_oldest.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        let was_delayed = app.readiness.events_delayed.load(Ordering::Relaxed);
        let is_delayed = age >= DELAYED;
        app.readiness.events_delayed.store(is_delayed, Ordering::Relaxed);
        let (waiting, age_secs) = (backlog.count, age.as_secs());
        if is_delayed && (!was_delayed || waiting > most.saturating_mul(2)) {
            tracing::warn!(waiting, age_secs, "events wait to be published: is Kafka available?");
            most = waiting;
        } else if was_delayed && !is_delayed {
            tracing::info!(waiting, age_secs, "events are published in time again");
            most = 0;
        }
    }
}

/// Publishes until it is to stop and nothing is left.
async fn publish(
    app: &Arc<App>,
    connection: &mut RelayConnection,
    stopping: &mut watch::Receiver<bool>,
) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    if app.config.kafka.create_topics {
        let mut creating = std::pin::pin!(kafka::create_topics(&app.config.kafka));
        holding(connection, &mut creating).await??;
    }
    let producer = kafka::producer(&app.config.kafka).map_err(|error| text(&error))?;
    let relay = Relay { app, producer };
    let mut size = BATCH;
    loop {
        // Read before the events: what was committed before the stop is published.
        let is_last = *stopping.borrow();
        let most = i64::try_from(size).unwrap_or(i64::MAX);
        let events = connection.unpublished(most).await.map_err(|error| text(&error))?;
        let is_full = events.len() == size;
        let outcome = match events.as_slice() {
            [] => Sent::All,
            events => relay.send(connection, events, size == 1).await?,
        };
        match outcome {
            Sent::All => {
                size = (size * 2).min(BATCH);
                if is_full {
                    continue;
                }
                if is_last && events.is_empty() {
                    return Ok(());
                }
                if !is_last {
                    tokio::select! {
                        () = tokio::time::sleep(IDLE) => {}
                        _ = stopping.wait_for(|stop| *stop) => {}
                    }
                }
            }
            // One of them is the cause.
            Sent::Refused => size = 1,
            Sent::Failed(error) => {
                if let Some((_, reason)) = relay.producer.client().fatal_error() {
                    return Err(reason);
                }
                tracing::warn!(%error, "Kafka did not accept events; will retry");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Waits for Kafka while this process is the one that publishes.
///
/// # Errors
/// Where it may not be any more.
async fn holding<T>(
    connection: &mut RelayConnection,
    waiting: &mut (impl Future<Output = T> + Unpin),
) -> Result<T, String> {
    loop {
        if let Ok(done) = tokio::time::timeout(RETRY, &mut *waiting).await {
            return Ok(done);
        }
        connection.check().await.map_err(|error| error.to_string())?;
    }
}

/// What became of a batch.
enum Sent {
    All,
    /// Kafka refused a message for good; those of its user wait.
    Refused,
    /// Kafka did not accept a message now; those of its user wait.
    Failed(RDKafkaErrorCode),
}

struct Relay<'a> {
    app: &'a App,
    producer: Producer,
}

impl Relay<'_> {
    /// Sends events and marks those that are acknowledged. `is_alone`: a message that is refused
    /// goes to the dead-letter topic, for nothing else can be the cause.
    async fn send(
        &self,
        connection: &mut RelayConnection,
        events: &[OutboxRow],
        is_alone: bool,
    ) -> Result<Sent, String> {
        let app = self.app;
        let messages: Vec<Vec<Message>> =
            events.iter().map(|event| messages::of(event, &app.config)).collect();
        // Each is queued here, in order, before any is waited for.
        let sending: Vec<_> = messages.iter().flatten().map(|one| self.produce(one)).collect();
        let mut sending = join_all(sending);
        let mut outcomes = holding(connection, &mut sending).await?.into_iter();

        let mut published = vec![];
        let mut waiting: HashSet<&str> = HashSet::new();
        let mut sent = Sent::All;
        for (event, messages) in events.iter().zip(&messages) {
            let of_event: Vec<_> = outcomes.by_ref().take(messages.len()).collect();
            let failures = messages
                .iter()
                .zip(of_event)
                .filter_map(|(message, outcome)| outcome.err().map(|code| (message, code)));
            let failures: Vec<_> = failures.collect();
            if waiting.contains(event.subject.as_str()) {
                continue; // sent again, after the one that failed
            }
            if let Some((_, code)) = failures.iter().find(|(_, code)| !is_final(*code)) {
                app.metrics.events_failed.inc();
                waiting.insert(&event.subject);
                sent = Sent::Failed(*code);
            } else if failures.is_empty() {
                published.push(event);
            } else if is_alone {
                for (message, code) in failures {
                    self.bury(connection, event, message, code).await?;
                }
            } else {
                waiting.insert(&event.subject);
                if matches!(sent, Sent::All) {
                    sent = Sent::Refused;
                }
            }
        }
        let now = app.clock.now();
        let deadline = provisioning::deadline(&app.config, now);
        connection.mark(&published, now, deadline).await.map_err(|error| error.to_string())?;
        app.metrics.events_published.inc_by(published.len() as u64);
        Ok(sent)
    }

    /// Sends a message that Kafka refuses to the dead-letter topic and marks its event. The outbox
    /// keeps the event, for `propusk events replay`.
    async fn bury(
        &self,
        connection: &mut RelayConnection,
        event: &OutboxRow,
        message: &Message,
        code: RDKafkaErrorCode,
    ) -> Result<(), String> {
        let (topic, id) = (message.topic.as_str(), event.id.as_str());
        let why = code.to_string();
        tracing::error!(topic, id, why, "Kafka refuses an event for good");
        self.app.metrics.events_failed.inc();
        let copy = message.refused(&self.app.config, &why);
        let mut sending = std::pin::pin!(self.produce(&copy));
        match holding(connection, &mut sending).await? {
            Ok(()) => {}
            Err(code) if is_final(code) => {
                tracing::error!(id, %code, "the dead-letter topic refuses it, too");
            }
            Err(code) => return Err(code.to_string()),
        }
        let why = format!("{topic}: {why}");
        let now = self.app.clock.now();
        connection.mark_refused(event.number, &why, now).await.map_err(|error| error.to_string())
    }

    /// Queues a message at once; the future is its acknowledgement.
    fn produce(
        &self,
        message: &Message,
    ) -> impl Future<Output = Result<(), RDKafkaErrorCode>> + use<> {
        let record = FutureRecord::to(&message.topic).key(&message.key).headers(message.headers());
        let record = match &message.value {
            Some(value) => record.payload(value),
            None => record,
        };
        let queued = self.producer.send_result(record).map_err(|(error, _)| code_of(&error));
        async move {
            match queued?.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err((error, _))) => Err(code_of(&error)),
                Err(_) => Err(RDKafkaErrorCode::Unknown),
            }
        }
    }
}

fn code_of(error: &KafkaError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)
}

/// Whether sending the same message again cannot help.
const fn is_final(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::PolicyViolation
            | Code::UnsupportedForMessageFormat
    )
}
