//! Back-channel logout (OpenID Connect Back-Channel Logout 1.0): a client that registered a
//! `backchannel_logout_uri` is notified of each of its sessions that a logout revokes. Deliveries
//! are queued in a table by the transaction that revoked the session, and retried until they are
//! delivered or abandoned.
//!
//! Each client has a worker of its own and waits for no other; a client that does not respond backs
//! off as a whole.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::json;
use tokio::task::{Id, JoinSet};

use crate::{
    app::App,
    error::Error,
    flows::tokens::id_token,
    ids::ClientId,
    oauth::jwt::TokenType,
    outbound,
    storage::{
        logout_deliveries as rows,
        logout_deliveries::{Delivery, DueClient},
    },
    telemetry::DeliveryOutcome,
};

/// How often a process looks for abandoned leases and due retries.
const EVERY: Duration = Duration::from_secs(2);

/// Clients that a process delivers to at the same time. Self-registered ones may have half of the
/// workers: anybody can register a hundred that never respond.
const WORKERS: usize = 8;
const SELF_REGISTERED_WORKERS: usize = WORKERS / 2;

/// Concurrent deliveries to one client.
const SHARE: i64 = 2;

/// Rounds of [`SHARE`] deliveries after which a worker makes room for another client.
const TURN: usize = 32;

/// The lease of a delivery; after it another process takes the delivery.
const LEASE: Duration = Duration::from_secs(60);

/// The delays between attempts: of a delivery that the client refuses, and of all of a client's
/// while it does not respond.
const PAUSES: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(3_600),
    Duration::from_secs(6 * 3_600),
    rows::LONGEST_PAUSE,
];

/// The delay of a delivery for which this process had no room.
const NO_ROOM: Duration = Duration::from_secs(1);

/// Age at which a delivery is abandoned while its client does not respond: just above the sum of
/// the pauses.
const ABANDONED: Duration = Duration::from_secs(32 * 3_600);

/// Lifetime of a logout token (§2.4 recommends at most two minutes).
const TOKEN_LIFE: Duration = Duration::from_secs(120);

/// Runs until it is dropped.
pub async fn run(app: Arc<App>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut workers = Workers::default();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = app.logouts_waiting.notified() => {}
            Some(ended) = workers.tasks.join_next_with_id() => {
                let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                workers.running.remove(&id);
            }
        }
        match rows::due_clients(&app.db, app.clock.now()).await {
            Ok(due) => workers.start(&app, due),
            Err(error) => {
                tracing::error!(%error, "reading the logout deliveries failed; will retry");
            }
        }
    }
}

/// The running workers and their clients.
#[derive(Default)]
struct Workers {
    tasks: JoinSet<()>,
    running: HashMap<Id, Running>,
}

struct Running {
    client_id: ClientId,
    is_self_registered: bool,
}

impl Workers {
    /// Starts a worker for each of these clients that has none, as far as there is room.
    fn start(&mut self, app: &Arc<App>, due: Vec<DueClient>) {
        for client in due {
            let is_self_registered = client.source.is_self_registered();
            let of_kind = |running: &&Running| running.is_self_registered == is_self_registered;
            let has_room = self.running.len() < WORKERS
                && (!is_self_registered
                    || self.running.values().filter(of_kind).count() < SELF_REGISTERED_WORKERS);
            let has_worker =
                self.running.values().any(|running| running.client_id == client.client_id);
            if !has_room || has_worker {
                continue;
            }
            let client_id = client.client_id.clone();
            let task = self.tasks.spawn(serve(Arc::clone(app), client));
            self.running.insert(task.id(), Running { client_id, is_self_registered });
        }
    }
}

/// Sends what is due of one client, for one turn at most.
async fn serve(app: Arc<App>, client: DueClient) {
    let client_id = client.client_id.clone();
    if let Err(error) = deliver(&app, client).await {
        tracing::error!(%error, client_id = client_id.as_str(), "logout delivery failed; will retry");
    }
}

async fn deliver(app: &App, client: DueClient) -> Result<(), Error> {
    let DueClient { client_id, mut failures, .. } = client;
    for _ in 0..TURN {
        let taken = rows::take(&app.db, &client_id, app.clock.now(), LEASE, SHARE).await?;
        if taken.is_empty() {
            return Ok(());
        }
        let sent = join_all(taken.iter().map(|delivery| send(app, delivery))).await;
        let mut unavailable = vec![];
        let mut responded = false;
        for (delivery, outcome) in taken.iter().zip(sent) {
            match outcome? {
                Outcome::Delivered => {
                    app.metrics.logout_delivery(DeliveryOutcome::Delivered);
                    rows::remove(&app.db, &delivery.id).await?;
                    responded = true;
                }
                Outcome::Refused(why) => {
                    refused(app, delivery, &why).await?;
                    responded = true;
                }
                Outcome::Unavailable(why) => unavailable.push((delivery.id.as_str(), why)),
                Outcome::NoRoom => {
                    rows::postpone(&app.db, &delivery.id, app.clock.now() + NO_ROOM).await?;
                }
            }
        }
        if !unavailable.is_empty() {
            return back_off(app, &client_id, failures, &unavailable).await;
        }
        if responded && failures > 0 {
            rows::forget_failures(&app.db, &client_id).await?;
            failures = 0;
        }
    }
    Ok(())
}

/// Postpones or abandons a delivery that its client refused; others are not concerned.
async fn refused(app: &App, delivery: &Delivery, why: &str) -> Result<(), Error> {
    let client_id = delivery.client_id.as_str();
    let done = usize::try_from(delivery.attempts - 1).unwrap_or(usize::MAX);
    match PAUSES.get(done) {
        Some(pause) => {
            app.metrics.logout_delivery(DeliveryOutcome::Failed);
            tracing::info!(client_id, why, "logout token not delivered; will retry");
            rows::postpone(&app.db, &delivery.id, app.clock.now() + *pause).await?;
        }
        None => {
            app.metrics.logout_delivery(DeliveryOutcome::Abandoned);
            tracing::warn!(client_id, why, "logout token not delivered; abandoned");
            rows::remove(&app.db, &delivery.id).await?;
        }
    }
    Ok(())
}

/// Postpones all deliveries of a client that did not respond, also those still to come.
async fn back_off(
    app: &App,
    client_id: &ClientId,
    failures: i64,
    unavailable: &[(&str, String)],
) -> Result<(), Error> {
    let now = app.clock.now();
    let last = PAUSES.len() - 1;
    let pause = PAUSES[usize::try_from(failures).unwrap_or(last).min(last)];
    rows::back_off(&app.db, client_id, failures + 1, now + pause).await?;
    for (id, why) in unavailable {
        app.metrics.logout_delivery(DeliveryOutcome::Failed);
        tracing::info!(
            client_id = client_id.as_str(),
            why,
            "logout token not delivered; will retry"
        );
        rows::postpone(&app.db, id, now + pause).await?;
    }
    let abandoned = rows::remove_old(&app.db, client_id, now - ABANDONED).await?;
    for _ in 0..abandoned {
        app.metrics.logout_delivery(DeliveryOutcome::Abandoned);
    }
    if abandoned > 0 {
        tracing::warn!(
            client_id = client_id.as_str(),
            abandoned,
            "logout tokens not delivered; abandoned"
        );
    }
    Ok(())
}

enum Outcome {
    /// Or the client has gone.
    Delivered,
    /// The client responded with an error.
    Refused(String),
    /// The client did not respond, or not as a client.
    Unavailable(String),
    /// Too many outbound requests are running.
    NoRoom,
}

async fn send(app: &App, delivery: &Delivery) -> Result<Outcome, Error> {
    let Some(known) = app.client(&delivery.client_id).await? else {
        return Ok(Outcome::Delivered);
    };
    let client = &known.client;
    let Some(uri) = &client.metadata.backchannel_logout_uri else {
        return Ok(Outcome::Delivered);
    };
    let now = app.clock.now();
    let claims = json!({
        "iss": app.config.server.issuer,
        "sub": delivery.subject,
        "aud": client.id,
        "iat": now.as_secs(),
        "exp": (now + TOKEN_LIFE).as_secs(),
        "jti": app.new_id(),
        "sid": delivery.session_id,
        "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
    });
    // §2.4: signed as the client's ID tokens.
    let algorithm = id_token::algorithm(app, client.metadata.id_token_signed_response_alg);
    let token = app.keys.sign(TokenType::Logout, &claims, algorithm, now).await?;
    let sent = app.outbound.post_form(uri, &[("logout_token", &token)]).await;
    Ok(match sent {
        Ok(status) if status.is_success() => Outcome::Delivered,
        Ok(status) => {
            let why = format!("status {}", status.as_u16());
            // 408 and 429 say nothing about the token.
            match status.as_u16() {
                400..=407 | 409..=428 | 430..=499 => Outcome::Refused(why),
                _ => Outcome::Unavailable(why),
            }
        }
        Err(outbound::Error::Busy) => Outcome::NoRoom,
        Err(error) => Outcome::Unavailable(error.to_string()),
    })
}
