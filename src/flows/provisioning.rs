//! Accounts whose profile another service creates: the saga of a registration, and its
//! compensation where the service refuses the account.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    app::App,
    clock::Timestamp,
    config::{Config, OnDeadline, OnFailure, Provisioning},
    diagnostics,
    error::Error,
    flows::admin::users,
    ids::UserId,
    model::{
        actor::Actor,
        event::Event,
        saga::{Saga, SagaState},
        user::Role,
    },
    storage::{self, AuditedTx, sagas, sagas::NewSaga, users as accounts},
    telemetry::ProfileOutcome,
    user_service::{Answer, UserService, proto::CreateUserRequest},
};

/// Who deletes a refused account, as the audit log names it.
const USER_SERVICE: &str = "user-service";

/// Why a message of the user service changes nothing.
const NO_ACCOUNT: &str = "there is no such account";
const NO_SAGA: &str = "the account was not created for the user service";
const OTHER_SAGA: &str = "the saga is another one";

/// Why a registration whose account is gone fails.
const DELETED: &str = "the account was deleted meanwhile";

/// How long a process may work on a saga before another one takes it over: more than all attempts
/// of a call take.
const LEASE: Duration = Duration::from_secs(30);

/// How often a process looks for sagas whose next call is due.
const EVERY: Duration = Duration::from_secs(1);

/// The longest delay between calls, which doubles from a second on.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Sagas that a process works on at a time, beside those of its requests.
const AT_ONCE: i64 = 16;

/// Opens the saga of an account that the transaction creates, where a user service is configured.
///
/// # Errors
/// [`storage::Error`].
pub async fn open(tx: &mut AuditedTx, config: &Config, user_id: &UserId) -> storage::Result<()> {
    let (id, now) = (tx.new_id(), tx.now());
    let (step, next_at, lease_until) = match config.user_service.mode {
        Provisioning::Off => return Ok(()),
        Provisioning::Kafka => ("publish", now + config.kafka.close_window, None),
        Provisioning::Grpc => {
            accounts::set_pending(tx, user_id, true).await?;
            ("create", now, Some(now + LEASE))
        }
    };
    let correlation_id = tx.actor().correlation_id().map(str::to_owned);
    let correlation_id = correlation_id.as_deref();
    let new = NewSaga { id: &id, user_id, correlation_id, step, next_at, lease_until };
    sagas::open(tx, new, now).await
}

/// Whether the account may not log in yet: its profile is to be created first.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn is_pending(app: &App, user_id: &UserId) -> Result<bool, Error> {
    let service = &app.config.user_service;
    let must_wait = service.mode == Provisioning::Grpc && service.on_failure == OnFailure::Refuse;
    Ok(must_wait && accounts::is_pending(&app.db, user_id).await?)
}

/// Has the user service create the profile of an account that was just committed, where it is
/// called. Not within a transaction: the service may be slow.
///
/// # Errors
/// [`Error::NotCreated`] where the service refuses the account, [`Error::Unavailable`] where it is
/// unavailable and `user_service.on_failure` is `refuse`; the account is deleted then.
pub async fn complete(app: &App, user_id: &UserId) -> Result<(), Error> {
    let Some(service) = &app.user_service else {
        return Ok(());
    };
    let Some(saga) = sagas::of_user(&app.db, user_id).await? else {
        return Ok(());
    };
    match proceed(app, service, &saga).await? {
        Progress::Done | Progress::Later => Ok(()),
        Progress::Refused(why) => Err(Error::NotCreated(why.into())),
        Progress::Unavailable(why) => Err(Error::Unavailable(why.into())),
    }
}

/// Calls the user service for sagas that no request waits for: those that are to be completed
/// later, and those whose process has ended. Runs until it is dropped.
pub async fn run(app: Arc<App>) {
    let Some(service) = app.user_service.clone() else {
        return;
    };
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let taken = match sagas::take(&app.db, app.clock.now(), LEASE, AT_ONCE).await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::error!(%error, "reading the sagas failed; will retry");
                continue;
            }
        };
        join_all(taken.iter().map(async |saga| {
            if let Err(error) = proceed(&app, &service, saga).await {
                tracing::error!(%error, saga_id = saga.id, "a saga was interrupted; will retry");
            }
        }))
        .await;
    }
}

/// What became of a step of a saga.
enum Progress {
    Done,
    Later,
    /// The account is deleted.
    Refused(String),
    /// The account is deleted.
    Unavailable(String),
}

/// Takes the next step of a saga with calls.
async fn proceed(app: &App, service: &UserService, saga: &Saga) -> Result<Progress, Error> {
    if saga.state == SagaState::Compensating {
        delete_profile(app, service, saga).await?;
        return Ok(Progress::Done);
    }
    let Some(user) = accounts::by_id(&app.db, &saga.user_id).await? else {
        // Its profile may exist.
        undo(app, saga, DELETED, true).await?;
        return Ok(Progress::Unavailable(DELETED.to_owned()));
    };
    let request = CreateUserRequest {
        id: user.id.into(),
        email: user.email,
        username: user.username,
        is_verified: user.is_verified,
        created_at: Some(prost_types::Timestamp {
            seconds: user.created_at.as_secs(),
            nanos: i32::try_from(user.created_at.micros().rem_euclid(1_000_000) * 1_000)
                .unwrap_or(0),
        }),
        correlation_id: saga.correlation_id.clone().unwrap_or_default(),
        saga_id: saga.id.clone(),
        role: Some(user.role.as_str().to_owned()),
    };
    let (user_id, saga_id) = (saga.user_id.as_str(), saga.id.as_str());
    let answer = service.create(request).await;
    let outcome = match &answer {
        Answer::Created => ProfileOutcome::Created,
        Answer::Refused { .. } => ProfileOutcome::Refused,
        Answer::Unavailable(_) => ProfileOutcome::Unavailable,
    };
    app.metrics.profile(outcome);
    diagnostics::record("user_service.answer", format_args!("{outcome:?}"));
    match answer {
        Answer::Created => confirm(app, saga).await,
        Answer::Refused { why, is_repeated } => {
            tracing::info!(user_id, saga_id, why, "account deleted: the user service refused it");
            // A call that was not answered, of this process or one before it, may have created what
            // this one refuses.
            let has_profile = is_repeated || saga.attempts > 0;
            if !undo(app, saga, &why, has_profile).await? {
                return Ok(Progress::Done);
            }
            if has_profile {
                delete_profile(app, service, saga).await?;
            }
            Ok(Progress::Refused(why))
        }
        Answer::Unavailable(why) => {
            let config = &app.config.user_service;
            let is_late = app.clock.now() - saga.created_at >= config.deadline;
            tracing::warn!(user_id, saga_id, why, "the user service did not create a profile");
            match (config.on_failure, config.on_deadline) {
                (OnFailure::Later, OnDeadline::Keep) if is_late => {
                    tracing::warn!(user_id, saga_id, "the account stays without a profile");
                    confirm(app, saga).await
                }
                (OnFailure::Later, _) if !is_late => {
                    let next_at = app.clock.now() + pause(saga.attempts);
                    sagas::postpone(&app.db, saga_id, next_at).await?;
                    Ok(Progress::Later)
                }
                _ => {
                    if !undo(app, saga, &why, true).await? {
                        return Ok(Progress::Done);
                    }
                    // At once, if it can be: otherwise later.
                    delete_profile(app, service, saga).await?;
                    Ok(Progress::Unavailable(why))
                }
            }
        }
    }
}

/// The delay after that many attempts.
fn pause(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts).unwrap_or(0).min(16);
    Duration::from_secs(1).saturating_mul(1 << doublings).min(LONGEST_PAUSE)
}

/// Records that the profile exists, or that it is given up.
async fn confirm(app: &App, saga: &Saga) -> Result<Progress, Error> {
    let mut tx = app.begin(&Actor::service(USER_SERVICE, saga.correlation_id.clone())).await?;
    let account = accounts::lock(&mut tx, &saga.user_id).await?;
    let current = sagas::lock(&mut tx, &saga.user_id).await?;
    let now = tx.read_clock();
    let is_gone = account.is_none();
    match current.map(|current| current.state) {
        Some(SagaState::Started) if is_gone => {
            // Deleted during the call.
            sagas::begin_compensation(&mut tx, &saga.id, now).await?;
        }
        Some(SagaState::Started) => {
            accounts::set_pending(&mut tx, &saga.user_id, false).await?;
            sagas::close(&mut tx, &saga.id, SagaState::Closed, now).await?;
        }
        // Another process was faster.
        _ => {}
    }
    tx.commit().await?;
    Ok(if is_gone { Progress::Unavailable(DELETED.to_owned()) } else { Progress::Done })
}

/// Deletes the account of a saga. `has_profile`: the user service may have created the profile,
/// which is to be deleted, too. Returns `false` where another process has concluded that the
/// account stays.
async fn undo(app: &App, saga: &Saga, why: &str, has_profile: bool) -> Result<bool, Error> {
    let mut tx = app.begin(&Actor::service(USER_SERVICE, saga.correlation_id.clone())).await?;
    let account = accounts::lock(&mut tx, &saga.user_id).await?;
    let current = sagas::lock(&mut tx, &saga.user_id).await?;
    let now = tx.read_clock();
    if current.is_none_or(|current| current.state != SagaState::Started) {
        return Ok(account.is_none()); // another process was faster
    }
    if has_profile {
        sagas::begin_compensation(&mut tx, &saga.id, now + LEASE).await?;
    } else {
        sagas::close(&mut tx, &saga.id, SagaState::Compensated, now).await?;
    }
    if account.is_some() {
        let reason: String = why.chars().take(500).collect();
        remove_account(&mut tx, saga, json!({ "reason": reason, "sagaId": saga.id })).await?;
    }
    tx.commit().await?;
    app.metrics.compensations.inc();
    app.logouts_waiting.notify_one();
    Ok(true)
}

async fn remove_account(tx: &mut AuditedTx, saga: &Saga, detail: Value) -> storage::Result<()> {
    let event = Event::user_compensated(&saga.user_id, saga.correlation_id.as_deref());
    users::remove(tx, &saga.user_id, &event, "user.compensated", detail).await
}

/// Deletes the profile of an account that was not kept; otherwise it is tried again later.
async fn delete_profile(app: &App, service: &UserService, saga: &Saga) -> Result<(), Error> {
    match service.delete(&saga.user_id, &saga.id).await {
        Ok(()) => {
            let actor = Actor::service(USER_SERVICE, saga.correlation_id.clone());
            let mut tx = app.begin(&actor).await?;
            let now = tx.now();
            sagas::close(&mut tx, &saga.id, SagaState::Compensated, now).await?;
            tx.commit().await?;
        }
        Err(why) => {
            let saga_id = saga.id.as_str();
            tracing::warn!(saga_id, why, "the user service did not delete a profile; will retry");
            let next_at = app.clock.now() + pause(saga.attempts);
            sagas::postpone(&app.db, saga_id, next_at).await?;
        }
    }
    Ok(())
}

/// A message of the user service: it refuses an account, or confirms a profile.
#[derive(Clone, Debug)]
pub struct ServiceReply {
    pub user_id: UserId,
    pub saga_id: Option<String>,
    /// For the audit log.
    pub reason: Option<String>,
    pub correlation_id: Option<String>,
}

/// What became of a [`ServiceReply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Compensated,
    /// The account is established.
    Confirmed,
    /// It was refused or confirmed before.
    AlreadyDone,
    /// Nothing changes; the text says why.
    Rejected(&'static str),
}

/// Deletes an account that the user service refuses, in one transaction with its events and its
/// audit entry. Only while its saga is open: a late, forged or replayed message cannot delete an
/// established account, and none deletes an administrator.
///
/// # Errors
/// [`Error::Unavailable`]: nothing has changed.
pub async fn compensate(app: &App, refusal: &ServiceReply) -> Result<Outcome, Error> {
    let user_id = &refusal.user_id;
    // PostgreSQL refuses a statement with NUL in a text; no user has such an id.
    if user_id.contains('\0') || user_id.len() > 255 {
        return Ok(Outcome::Rejected(NO_ACCOUNT));
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
            tracing::warn!(
                user_id = user_id.as_str(),
                why,
                "a refusal of the user service was rejected"
            );
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
        sagas::close(&mut tx, &saga.id, SagaState::Compensated, now).await?;
        remove_account(&mut tx, &saga, detail).await?;
        tx.commit().await?;
        app.logouts_waiting.notify_one();
        app.metrics.compensations.inc();
        tracing::info!(
            user_id = user_id.as_str(),
            saga_id = saga.id,
            "account deleted: the user service refused it"
        );
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
    refusal: &ServiceReply,
    exists: bool,
    is_admin: bool,
) -> Result<Saga, Outcome> {
    let Some(saga) = saga else {
        return Err(Outcome::Rejected(NO_SAGA));
    };
    if refusal.saga_id.as_ref().is_some_and(|id| *id != saga.id) {
        return Err(Outcome::Rejected(OTHER_SAGA));
    }
    let is_gone = matches!(saga.state, SagaState::Compensating | SagaState::Compensated);
    if is_gone || (!exists && saga.state == SagaState::Closed) {
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

/// When the profile of an account must exist that is announced now, if the user service confirms
/// profiles: otherwise the account is deleted.
pub fn deadline(config: &Config, now: Timestamp) -> Option<Timestamp> {
    let service = &config.user_service;
    let is_confirmed =
        service.mode == Provisioning::Kafka && service.on_deadline == OnDeadline::Compensate;
    is_confirmed.then(|| now + service.deadline)
}

/// Concludes a registration whose profile exists: its account is established, and refused no more.
///
/// # Errors
/// [`Error::Unavailable`]: nothing has changed.
pub async fn confirm_profile(app: &App, reply: &ServiceReply) -> Result<Outcome, Error> {
    let user_id = &reply.user_id;
    if user_id.contains('\0') || user_id.len() > 255 {
        return Ok(Outcome::Rejected(NO_ACCOUNT));
    }
    let actor = Actor::service(USER_SERVICE, reply.correlation_id.clone());
    let mut tx = app.begin(&actor).await?;
    let account = accounts::lock(&mut tx, user_id).await?;
    let saga = sagas::lock(&mut tx, user_id).await?;
    let now = tx.read_clock();
    let outcome = match saga {
        None => Outcome::Rejected(NO_SAGA),
        Some(saga) if reply.saga_id.as_ref().is_some_and(|id| *id != saga.id) => {
            Outcome::Rejected(OTHER_SAGA)
        }
        Some(_) if account.is_none() => Outcome::Rejected("the account is deleted"),
        Some(saga) if saga.state == SagaState::Closed => Outcome::AlreadyDone,
        Some(saga) => {
            sagas::close(&mut tx, &saga.id, SagaState::Closed, now).await?;
            Outcome::Confirmed
        }
    };
    tx.commit().await?;
    if let Outcome::Rejected(why) = outcome {
        tracing::warn!(
            user_id = user_id.as_str(),
            why,
            "a confirmation of the user service was rejected"
        );
    }
    Ok(outcome)
}

/// Deletes an account whose profile was not confirmed in time. Administrators stay.
async fn expire(app: &App, user_id: &UserId) -> storage::Result<()> {
    let actor = Actor::service(USER_SERVICE, None);
    let mut tx = app.begin(&actor).await?;
    let account = accounts::lock(&mut tx, user_id).await?;
    let saga = sagas::lock(&mut tx, user_id).await?;
    let now = tx.read_clock();
    let is_due = |saga: &Saga| saga.state == SagaState::Published && saga.next_at <= now;
    let Some(saga) = saga.filter(is_due) else {
        return tx.rollback().await; // concluded meanwhile
    };
    let saga_id = saga.id.as_str();
    let is_deleted = match account {
        Some(account) if account.user.role != Role::admin() => {
            tracing::warn!(
                user_id = user_id.as_str(),
                saga_id,
                "account deleted: its profile was not confirmed"
            );
            sagas::close(&mut tx, saga_id, SagaState::Compensated, now).await?;
            let detail = json!({ "reason": "no profile in time", "sagaId": saga_id });
            remove_account(&mut tx, &saga, detail).await?;
            true
        }
        account => {
            if account.is_some() {
                tracing::warn!(
                    user_id = user_id.as_str(),
                    saga_id,
                    "an administrator stays without a profile"
                );
            }
            sagas::close(&mut tx, saga_id, SagaState::Closed, now).await?;
            false
        }
    };
    tx.commit().await?;
    if is_deleted {
        app.logouts_waiting.notify_one();
        app.metrics.compensations.inc();
    }
    Ok(())
}

/// Concludes the sagas whose time has passed, and removes those that nobody needs any more.
///
/// # Errors
/// [`storage::Error`].
pub async fn sweep(app: &App, batch: i64) -> storage::Result<()> {
    let now = app.clock.now();
    if deadline(&app.config, now).is_some() {
        loop {
            let expired = sagas::expired(&app.db, now, batch).await?;
            for user_id in &expired {
                expire(app, user_id).await?;
            }
            if (expired.len() as i64) < batch {
                break;
            }
        }
    } else {
        sagas::close_expired(&app.db, now).await?;
    }
    let oldest = now - app.config.events.retention;
    while sagas::sweep(&app.db, oldest, batch).await? as i64 == batch {
        tokio::task::yield_now().await;
    }
    Ok(())
}
