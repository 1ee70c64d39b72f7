//! Background maintenance: scheduled key rotation, removal of expired rows, and counts of rows for
//! the metrics.

use std::{sync::Arc, time::Duration};

use crate::{
    app::App,
    flows::{accounts::deletion, admin::modules, mail, provisioning, webhooks},
    storage::{
        self, audit, browser_sessions, clients, denied_requests, device_authorizations,
        email_tokens, guesses, idempotency, initial_access_tokens, invitations, known_sources,
        outbox::{self, Kept},
        pushed_requests, remembered_devices, revocations, service_tokens, sessions, single_use,
        webhook_deliveries,
    },
};

/// How often a process looks for work.
const EVERY: Duration = Duration::from_secs(60);

/// Expired module grants that are closed in one transaction.
const EXPIRED: usize = 100;

/// Rows removed by one statement, so that no sweep blocks other statements.
const BATCH: i64 = 500;

/// Runs until it is dropped.
pub async fn run(app: Arc<App>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = app.keys.maintain(&app.db, &app.clock, &app.rng).await {
            tracing::error!(%error, "key maintenance failed; retrying in a minute");
        }
        if let Err(error) = app.keys.reload(&app.db, app.clock.now()).await {
            tracing::error!(%error, "reloading keys failed; retrying in a minute");
        }
        if let Err(error) = sweep(&app).await {
            tracing::error!(%error, "removing expired rows failed; retrying in a minute");
        }
        if let Err(error) = count_rows(&app).await {
            tracing::error!(%error, "counting rows for the metrics failed; retrying in a minute");
        }
    }
}

/// Counts what the metrics tell of the database.
///
/// # Errors
/// [`storage::Error`].
pub async fn count_rows(app: &App) -> storage::Result<()> {
    let active = sessions::count_active(&app.db, app.clock.now()).await?;
    app.metrics.active_sessions.set(active);
    app.metrics.outbox_events.set(outbox::count(&app.db).await?);
    let waiting = webhook_deliveries::waiting(&app.db).await?;
    let age = waiting.oldest.map_or(Duration::ZERO, |oldest| app.clock.now() - oldest);
    app.metrics.webhooks_waiting.set(waiting.count);
    app.metrics.webhooks_oldest.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    Ok(())
}

/// Removes what has expired, and bounds the outbox and the audit log.
///
/// # Errors
/// [`storage::Error`].
pub async fn sweep(app: &App) -> storage::Result<()> {
    let now = app.clock.now();
    macro_rules! all_of {
        ($table:ident) => {
            while $table::sweep(&app.db, now, BATCH).await? as i64 == BATCH {
                tokio::task::yield_now().await;
            }
        };
    }
    deletion::sweep(app, BATCH).await?;
    all_of!(sessions);
    all_of!(browser_sessions);
    all_of!(pushed_requests);
    all_of!(device_authorizations);
    all_of!(single_use);
    all_of!(email_tokens);
    all_of!(guesses);
    all_of!(known_sources);
    all_of!(remembered_devices);
    mail::sweep(app, now, BATCH).await?;
    all_of!(clients);
    all_of!(initial_access_tokens);
    all_of!(invitations);
    all_of!(service_tokens);
    while modules::expire_some(app, EXPIRED).await? == EXPIRED {
        tokio::task::yield_now().await;
    }
    all_of!(idempotency);
    provisioning::sweep(app, BATCH).await?;
    let gone = revocations::sweep(&app.db, now).await?;
    app.revocations.sweep(now, &gone).await;
    let rows = |most: u64| i64::try_from(most).unwrap_or(i64::MAX);
    let (events, lines) = (&app.config.events, &app.config.audit);
    webhooks::sweep(app, BATCH).await?;
    let max_age = app.config.webhooks.max_age;
    let kept = Kept {
        unpublished: app.config.publishes_events(),
        for_webhooks_since: app.config.webhooks.enabled.then(|| now - max_age),
    };
    outbox::sweep(&app.db, now - events.retention, rows(events.max_rows), kept).await?;
    let refused = &app.config.explain;
    denied_requests::sweep(&app.db, now - refused.retention, rows(refused.max_rows)).await?;
    audit::sweep(&app.db, now - lines.retention, rows(lines.max_rows)).await
}
