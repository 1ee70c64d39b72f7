//! Back-channel logout (OpenID Connect Back-Channel Logout 1.0): a client that registered an address for it hears of each
//! of its sessions that ends with a logout. Deliveries wait in a table, put there by the transaction that ended the session,
//! and are tried again until they arrive or are given up.

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

/// How often a process looks for deliveries that others left behind or that are to be tried again.
const EVERY: Duration = Duration::from_secs(2);

/// Deliveries that one round takes.
const BATCH: i64 = 16;

/// Who took a delivery has this long; then somebody else takes it.
const LEASE: Duration = Duration::from_secs(60);

/// The pauses between attempts; after the last the client is given up.
const PAUSES: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(3_600),
    Duration::from_secs(6 * 3_600),
    Duration::from_secs(24 * 3_600),
];

/// Life of a logout token (§2.4 recommends two minutes at the most).
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
                    tracing::error!(%error, "logout tokens cannot be delivered; trying again");
                    break;
                }
            }
        }
    }
}

/// Sends what is due once; says how many deliveries were taken.
///
/// # Errors
/// [`Error::Unavailable`] where the deliveries cannot be read.
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
        Outcome::Arrived => rows::remove(&app.db, &delivery.id).await?,
        Outcome::Failed(why) => {
            let client = &delivery.client_id;
            let done = usize::try_from(delivery.attempts - 1).unwrap_or(usize::MAX);
            match PAUSES.get(done) {
                Some(pause) => {
                    tracing::info!(?client, why, "a logout token did not arrive; trying again");
                    rows::postpone(&app.db, &delivery.id, app.clock.now() + *pause).await?;
                }
                None => {
                    tracing::warn!(?client, why, "a logout token never arrived: given up");
                    rows::remove(&app.db, &delivery.id).await?;
                }
            }
        }
    }
    Ok(())
}

enum Outcome {
    /// Or there is nobody to tell any more.
    Arrived,
    Failed(String),
}

async fn send(app: &App, delivery: &Delivery) -> Result<Outcome, Error> {
    let Some(known) = app.client(&delivery.client_id).await? else {
        return Ok(Outcome::Arrived);
    };
    let client = &known.client;
    let Some(uri) = &client.metadata.backchannel_logout_uri else {
        return Ok(Outcome::Arrived);
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
    // §2.4: as its ID tokens.
    let algorithm = id_token::algorithm(app, client.metadata.id_token_signed_response_alg);
    let token = app.keys.sign(TokenType::Logout, &claims, algorithm, now).await?;
    let sent = app.outbound.post_form(uri, &[("logout_token", &token)]).await;
    Ok(match sent {
        Ok(status) if status.is_success() => Outcome::Arrived,
        Ok(status) => Outcome::Failed(format!("status {}", status.as_u16())),
        Err(error) => Outcome::Failed(error.to_string()),
    })
}
