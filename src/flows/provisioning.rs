//! Accounts whose profile another service creates: the saga of a registration, and its
//! compensation where the service refuses the account.

use serde_json::json;

use crate::{
    app::App,
    config::{Config, Provisioning},
    error::Error,
    flows::admin::users,
    model::{
        actor::Actor,
        event::Event,
        saga::{Saga, SagaState},
        user::Role,
    },
    storage::{self, AuditedTx, sagas, users as accounts},
};

/// Who deletes a refused account, as the audit log names it.
const USER_SERVICE: &str = "user-service";

/// Opens the saga of an account that the transaction creates, where a user service is configured.
///
/// # Errors
/// [`storage::Error`].
pub async fn open(tx: &mut AuditedTx, config: &Config, user_id: &str) -> storage::Result<()> {
    match config.user_service.mode {
        Provisioning::Off => Ok(()),
        Provisioning::Kafka => {
            let (id, now) = (tx.new_id(), tx.now());
            let correlation_id = tx.actor().correlation_id().map(str::to_owned);
            let ends_at = now + config.kafka.close_window;
            sagas::open(tx, &id, user_id, correlation_id.as_deref(), ends_at, now).await
        }
    }
}

/// A message of the user service: it refuses an account.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub user_id: String,
    pub saga_id: Option<String>,
    /// For the audit log.
    pub reason: Option<String>,
    pub correlation_id: Option<String>,
}

/// What became of a [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Compensated,
    /// The account is gone already.
    AlreadyDone,
    /// The account stays; the text says why.
    Rejected(&'static str),
}

/// Deletes an account that the user service refuses, in one transaction with its events and its
/// audit entry. Only while its saga is open: a late, forged or replayed message cannot delete an
/// established account, and none deletes an administrator.
///
/// # Errors
/// [`Error::Unavailable`]: nothing has changed.
pub async fn compensate(app: &App, refusal: &Refusal) -> Result<Outcome, Error> {
    let user_id = refusal.user_id.as_str();
    // PostgreSQL refuses a statement with NUL in a text; no user has such an id.
    if user_id.contains('\0') || user_id.len() > 255 {
        return Ok(Outcome::Rejected("there is no such account"));
    }
    let saga = sagas::of_user(&app.db, user_id).await?;
    let correlation_id = saga.and_then(|saga| saga.correlation_id);
    let correlation_id = correlation_id.or_else(|| refusal.correlation_id.clone());
    let actor = Actor::service(USER_SERVICE, correlation_id);
    let mut tx = app.begin(&actor).await?;
    // The account before its saga, as every deletion does.
    let account = accounts::lock(&mut tx, user_id).await?;
    let saga = sagas::lock(&mut tx, user_id).await?;
    tx.read_clock();
    let is_admin = account.as_ref().is_some_and(|account| account.user.role == Role::admin());
    let saga = match check(&tx, app, saga, refusal, account.is_some(), is_admin) {
        Ok(saga) => saga,
        Err(Outcome::Rejected(why)) => {
            let detail = json!({ "why": why, "reason": refusal.reason, "sagaId": refusal.saga_id });
            tx.audit("user.refusal_rejected", Some(user_id), detail).await?;
            tx.commit().await?;
            tracing::warn!(user_id, why, "a refusal of the user service was rejected");
            return Ok(Outcome::Rejected(why));
        }
        Err(done) => {
            tx.rollback().await?;
            return Ok(done);
        }
    };
    let now = tx.now();
    if account.is_some() {
        let detail = json!({ "reason": refusal.reason, "sagaId": saga.id });
        let event = Event::user_compensated(user_id, saga.correlation_id.as_deref());
        sagas::close(&mut tx, &saga.id, SagaState::Compensated, now).await?;
        users::remove(&mut tx, user_id, &event, "user.compensated", detail).await?;
        tx.commit().await?;
        app.logouts_waiting.notify_one();
        tracing::info!(user_id, saga_id = saga.id, "account deleted: the user service refused it");
        return Ok(Outcome::Compensated);
    }
    sagas::close(&mut tx, &saga.id, SagaState::Closed, now).await?;
    tx.commit().await?;
    Ok(Outcome::AlreadyDone)
}

/// The saga that the refusal concludes, or what becomes of the refusal.
fn check(
    tx: &AuditedTx,
    app: &App,
    saga: Option<Saga>,
    refusal: &Refusal,
    exists: bool,
    is_admin: bool,
) -> Result<Saga, Outcome> {
    let Some(saga) = saga else {
        return Err(Outcome::Rejected("the account was not created for the user service"));
    };
    if refusal.saga_id.as_ref().is_some_and(|id| *id != saga.id) {
        return Err(Outcome::Rejected("the saga is another one"));
    }
    if saga.state == SagaState::Compensated || (!exists && saga.state == SagaState::Closed) {
        return Err(Outcome::AlreadyDone);
    }
    if is_admin {
        return Err(Outcome::Rejected("the account is an administrator's"));
    }
    if saga.state == SagaState::Closed
        || tx.now() - saga.created_at >= app.config.kafka.close_window
    {
        return Err(Outcome::Rejected("kafka.close_window has passed"));
    }
    Ok(saga)
}

/// Closes the sagas whose time has passed, and removes those that nobody needs any more.
///
/// # Errors
/// [`storage::Error`].
pub async fn sweep(app: &App, batch: i64) -> storage::Result<()> {
    let now = app.clock.now();
    sagas::close_expired(&app.db, now).await?;
    let oldest = now - app.config.events.retention;
    while sagas::sweep(&app.db, oldest, batch).await? as i64 == batch {
        tokio::task::yield_now().await;
    }
    Ok(())
}
