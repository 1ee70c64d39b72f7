//! Back-channel logout (OpenID Connect Back-Channel Logout 1.0): a client that registered a
//! `backchannel_logout_uri` is notified of each of its sessions that a logout revokes. Deliveries
//! are queued in a table by the transaction that revoked the session, and retried until they are
//! delivered or abandoned.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    app::App,
    error::Error,
    flows::tokens::id_token,
    oauth::jwt::TokenType,
    storage::{logout_deliveries as rows, logout_deliveries::Delivery},
};

/// How often a process looks for abandoned leases and due retries.
const EVERY: Duration = Duration::from_secs(2);

/// Deliveries of one round.
const BATCH: i64 = 16;

/// The lease of a delivery; after it another process takes the delivery.
const LEASE: Duration = Duration::from_secs(60);

/// The delays between attempts; after the last one the delivery is abandoned.
const PAUSES: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(3_600),
    Duration::from_secs(6 * 3_600),
    Duration::from_secs(24 * 3_600),
];

/// Lifetime of a logout token (§2.4 recommends at most two minutes).
const TOKEN_LIFE: Duration = Duration::from_secs(120);

/// Runs until it is dropped.
pub async fn run(app: Arc<App>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = app.logouts_waiting.notified() => {}
        }
        loop {
            match deliver_due(&app).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "logout delivery failed; will retry");
                    break;
                }
            }
        }
    }
}

/// Sends the due deliveries once; returns how many were taken.
///
/// # Errors
/// [`Error::Unavailable`] if the deliveries cannot be read.
pub async fn deliver_due(app: &App) -> Result<usize, Error> {
    let now = app.clock.now();
    if !rows::any_due(&app.db, now).await? {
        return Ok(0);
    }
    let taken = rows::take(&app.db, now, LEASE, BATCH).await?;
    let settled = join_all(taken.iter().map(|delivery| settle(app, delivery))).await;
    settled.into_iter().collect::<Result<Vec<()>, _>>()?;
    Ok(taken.len())
}

async fn settle(app: &App, delivery: &Delivery) -> Result<(), Error> {
    match send(app, delivery).await? {
        Outcome::Delivered => rows::remove(&app.db, &delivery.id).await?,
        Outcome::Failed(why) => {
            let client = &delivery.client_id;
            let done = usize::try_from(delivery.attempts - 1).unwrap_or(usize::MAX);
            match PAUSES.get(done) {
                Some(pause) => {
                    tracing::info!(
                        client_id = client,
                        why,
                        "logout token not delivered; will retry"
                    );
                    rows::postpone(&app.db, &delivery.id, app.clock.now() + *pause).await?;
                }
                None => {
                    tracing::warn!(
                        client_id = client,
                        why,
                        "logout token not delivered; abandoned"
                    );
                    rows::remove(&app.db, &delivery.id).await?;
                }
            }
        }
    }
    Ok(())
}

enum Outcome {
    /// Or the client has gone.
    Delivered,
    Failed(String),
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
        Ok(status) => Outcome::Failed(format!("status {}", status.as_u16())),
        Err(error) => Outcome::Failed(error.to_string()),
    })
}
