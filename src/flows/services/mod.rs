//! Tokens of customer services: one request gives a token to every caller of every process, and it
//! is renewed before it expires (docs/customer-services.md).
//!
//! A row per service, or per user and service, has the token, encrypted. A caller that needs a token
//! reads the row. Where a token is to be requested, one process takes the lease of the row, calls
//! the service outside any transaction, and stores the answer if the row still has the version that
//! it has read. The others wait for the row to change. Failures are in the row as well, so that no
//! process asks a service that fails more than once a second, and after a while once a minute.
//!
//! **Refresh tokens that the service rotates.** The successor is committed before anybody gets the
//! access token that came with it, whatever becomes of the request that caused it; while the
//! database fails, the process keeps it and tries again. No older token overwrites it. A process
//! that is killed between the service's answer and the commit loses the successor, and nobody else
//! has it: the next attempt presents the old token, which services with a replay window accept.
//! Others refuse it; then the connection of a user is removed, and the failure of a service is
//! logged.

pub mod connections;
pub mod resources;
pub mod revocations;

use std::{sync::Arc, time::Duration};

use serde_json::json;
use sha2::{Digest, Sha256};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    app::App,
    clock::{CLOCK_SKEW, Timestamp},
    config::services::ServiceGrant,
    diagnostics,
    error::Error,
    ids::{SessionId, UserId},
    model::{
        actor::Actor,
        client::Client,
        service_token::{FailureKind, Secrets, ServiceToken},
        session::Session,
    },
    oauth::error::OAuthError,
    services::{Failure, Granted, Grants, Held, NoToken, Service, pause},
    storage::{
        self, service_revocations as queue,
        service_tokens::{self as rows, Lease, NewToken},
        sessions::{self, SessionFilter},
    },
    telemetry::ServiceOutcome,
};

/// The scope of back ends that get tokens of services.
pub const SCOPE: &str = "propusk:services";

/// How often a process looks whether another one has got a token.
const POLL: Duration = Duration::from_millis(50);

/// The longest delay between attempts to store a token that a service has answered with.
const LONGEST_STORE_PAUSE: Duration = Duration::from_secs(5);

/// How long these attempts go on. Then the refresh token in it is lost.
const STORE_FOR: Duration = Duration::from_secs(120);

/// Whose token it is, and the session that it ends with.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Empty: the service's only token.
    pub id: String,
    user_id: Option<UserId>,
    /// `None` for a connected account, which is bound to a browser session.
    session_id: Option<SessionId>,
}

impl Subject {
    /// The user of a session.
    fn of_session(service: &Service, session: &Session) -> Self {
        if !service.config.is_per_user() {
            return Self::default();
        }
        let user_id = session.user.as_ref().map(|user| user.id.clone());
        Self {
            id: user_id.as_ref().map_or(session.subject.as_str(), UserId::as_str).to_owned(),
            user_id,
            session_id: (!service.config.is_connected()).then(|| session.id.clone()),
        }
    }
}

/// An access token of a service, for a back end.
#[derive(Clone)]
pub struct Issued {
    pub access_token: String,
    pub expires_in: Duration,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issued({:?})", self.expires_in)
    }
}

/// The token of a service for a back end that is named in `clients`. `user_id`: whose, where each
/// user has one.
///
/// # Errors
/// [`Error::NotFound`]: no such service; `unauthorized_client`; [`Error::Validation`] where a user
/// has to be named, or must not be; [`Error::NotConnected`]; [`Error::ServiceFailed`],
/// [`Error::ServiceUnavailable`], [`Error::ServiceTimeout`]; [`Error::Unavailable`].
pub async fn token_for_client(
    app: &Arc<App>,
    client: &Client,
    name: &str,
    user_id: Option<&UserId>,
) -> Result<Issued, Error> {
    let service = find(app, name)?;
    if !service.config.clients.iter().any(|one| *one == *client.id) {
        diagnostics::record("needed.clients", "services.NAME.clients names the client");
        return Err(OAuthError::unauthorized_client(format!(
            "the client is not named in services.{name}.clients"
        ))
        .into());
    }
    let subject = match (service.config.is_per_user(), user_id) {
        (false, None) => Subject::default(),
        (false, Some(_)) => {
            let why = "must be left out: this service has one token for all users";
            return Err(Error::field("userId", why));
        }
        (true, None) => {
            return Err(Error::field(
                "userId",
                "is required: this service has a token for each user",
            ));
        }
        (true, Some(id)) => subject_of(app, service, id).await?,
    };
    let held = token(app, service, &subject).await?;
    Ok(Issued {
        access_token: held.secrets.access_token.clone().unwrap_or_default(),
        expires_in: held.expires_at - app.clock.now(),
    })
}

/// Gets a token of a service, as a back end would; returns how long it is valid.
///
/// # Errors
/// As [`token_for_client`]; [`Error::Conflict`] where each user has a token.
pub async fn check(app: &Arc<App>, name: &str) -> Result<Duration, Error> {
    let service = find(app, name)?;
    if service.config.is_per_user() {
        return Err(Error::Conflict(
            "each user has a token of this service: there is none to check",
        ));
    }
    let held = token(app, service, &Subject::default()).await?;
    Ok(held.expires_at - app.clock.now())
}

/// The service of that name.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find<'a>(app: &'a App, name: &str) -> Result<&'a Arc<Service>, Error> {
    diagnostics::record("service.name", name);
    app.services.get(name).ok_or(Error::NotFound("service"))
}

/// A user whom a back end names.
async fn subject_of(app: &App, service: &Service, id: &str) -> Result<Subject, Error> {
    let is_id = (1..=255).contains(&id.len()) && !id.contains(char::is_control);
    if !is_id {
        return Err(Error::field(
            "userId",
            "must be 1 to 255 characters, without control characters",
        ));
    }
    if service.config.is_connected() {
        let (id, user_id) = (id.to_owned(), Some(id.into()));
        return Ok(Subject { id, user_id, session_id: None });
    }
    // The newest session; the `sub` of a user without an account has none of an account's ids.
    for filter in [
        SessionFilter { user_id: Some(id.into()), ..SessionFilter::default() },
        SessionFilter { subject: Some(id.to_owned()), ..SessionFilter::default() },
    ] {
        let live = SessionFilter { live: Some(true), ..filter };
        let found =
            sessions::page(&app.db, &live, crate::model::AFTER_EVERY_ID, 1, app.clock.now())
                .await?;
        if let Some(session) = found.into_iter().next() {
            return Ok(Subject {
                id: id.to_owned(),
                user_id: session.user_id,
                session_id: Some(session.id),
            });
        }
    }
    Err(Error::NotConnected(
        "the user is not logged in: a token of this service ends with the login",
    ))
}

/// A valid token; concurrent calls share one attempt.
///
/// # Errors
/// As [`token_for_client`].
pub(crate) async fn token(
    app: &Arc<App>,
    service: &Arc<Service>,
    subject: &Subject,
) -> Result<Arc<Held>, Error> {
    let flight = app.services.flights.join((service.name.clone(), subject.id.clone()), || {
        let (app, service, subject) = (Arc::clone(app), Arc::clone(service), subject.clone());
        async move { attempt(&app, &service, &subject).await }
    });
    flight.await.map_err(|failed| match failed {
        NoToken::Service(failure) => refused(failure),
        NoToken::NotConnected => Error::NotConnected(if service.config.is_connected() {
            "the user has connected no account at this service: send them to /services/NAME/connect"
        } else {
            "the user is not logged in any more: a token of this service ends with the login"
        }),
        NoToken::Internal(cause) => Error::Unavailable(cause.into()),
    })
}

/// The error for a failure of a service.
pub(crate) fn refused(failure: Failure) -> Error {
    diagnostics::record("service.failure", failure.kind.as_str());
    diagnostics::record("service.cause", &failure.cause);
    let cause = failure.cause.into();
    match failure.kind {
        FailureKind::Failed => Error::ServiceFailed(cause),
        FailureKind::Timeout => Error::ServiceTimeout(cause),
        FailureKind::Unavailable => {
            let wait = failure.retry_after.unwrap_or(Duration::from_secs(1));
            Error::ServiceUnavailable(wait, cause)
        }
    }
}

fn internal(error: impl Into<Error>) -> NoToken {
    match error.into() {
        Error::Unavailable(cause) => NoToken::Internal(cause.to_string()),
        other => NoToken::Internal(other.to_string()),
    }
}

/// Gets a token: the stored one, or a new one by this process or by another.
async fn attempt(
    app: &Arc<App>,
    service: &Arc<Service>,
    subject: &Subject,
) -> Result<Arc<Held>, NoToken> {
    // As long as another process may need for its request. Not a timeout: what a service has
    // answered with must be stored.
    let polls = (service.config.timeout.as_millis() + 1_000) / POLL.as_millis();
    for _ in 0..polls {
        if let Some(held) = step(app, service, subject).await? {
            return Ok(held);
        }
        tokio::time::sleep(POLL).await;
    }
    let cause = "another process did not get a token in time";
    Err(Failure::new(FailureKind::Timeout, cause).into())
}

/// The rows of a service and of a subject there.
struct Known {
    own: Option<ServiceToken>,
    /// Of the service, where each user has a token: its failures concern all of them.
    of_all: Option<ServiceToken>,
}

impl Known {
    async fn read(app: &App, service: &Service, subject: &Subject) -> storage::Result<Self> {
        let now = app.clock.now();
        let found = rows::read(&app.db, &service.name, &subject.id, now).await?;
        let (own, others): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|row| row.subject == subject.id);
        Ok(Self { own: own.into_iter().next(), of_all: others.into_iter().next() })
    }

    /// The failure that no request may follow yet.
    fn back_off(&self, now: Timestamp) -> Option<Failure> {
        [&self.own, &self.of_all].into_iter().flatten().find_map(|row| {
            let wait = row.back_off(now)?;
            let last = row.failure.map_or("failed", FailureKind::as_str);
            let cause = format!("not requested again yet: the last of {} {last}", row.failures);
            Some(Failure {
                retry_after: Some(wait),
                ..Failure::new(FailureKind::Unavailable, cause)
            })
        })
    }
}

/// Looks at the row; `None`: another process is requesting a token.
async fn step(
    app: &Arc<App>,
    service: &Arc<Service>,
    subject: &Subject,
) -> Result<Option<Arc<Held>>, NoToken> {
    let known = Known::read(app, service, subject).await.map_err(internal)?;
    let now = app.clock.now();
    if let Some(held) = known.own.as_ref().and_then(|row| valid(app, service, row, now)) {
        let renews = known.own.as_ref().is_some_and(|row| row.renew_at.is_none_or(|at| at <= now));
        if renews && known.back_off(now).is_none() {
            renew(app, service, subject);
        }
        return held.map(Arc::new).map(Some).map_err(internal);
    }
    if known.own.is_none() && service.config.is_connected() {
        return Err(NoToken::NotConnected);
    }
    if let Some(failure) = known.back_off(now) {
        return Err(failure.into());
    }
    if known.own.as_ref().is_some_and(|row| row.is_leased(now)) {
        return Ok(None);
    }
    if known.own.is_none() && !subject.id.is_empty() {
        rows::remove_ended(&app.db, &service.name, &subject.id, now).await.map_err(internal)?;
    }
    request(app, service, subject, known.own).await
}

/// The token of a row, if it is valid.
fn valid(
    app: &App,
    service: &Service,
    row: &ServiceToken,
    now: Timestamp,
) -> Option<Result<Held, Error>> {
    let expires_at = row.expires_at.filter(|at| *at > now)?;
    // Requested with other settings, or by a clock that was ahead: nobody knows how long it is
    // valid.
    let is_ours = row.settings.as_deref() == Some(service.fingerprint.as_str());
    if !is_ours || row.obtained_at.is_some_and(|at| at > now + CLOCK_SKEW) {
        return None;
    }
    let held = open(app, row).map(|secrets| Held { secrets, version: row.version, expires_at });
    Some(held)
}

/// Under which name the secrets of a row are encrypted.
fn seal_id(service: &str, subject: &str) -> String {
    format!("service:{service}:{subject}")
}

/// Decrypts the secrets of a row.
fn open(app: &App, row: &ServiceToken) -> Result<Secrets, Error> {
    let Some(sealed) = &row.sealed else {
        return Ok(Secrets::default());
    };
    unseal(app, &row.service, &row.subject, sealed)
}

/// As [`open`], of the secrets themselves.
fn unseal(app: &App, service: &str, subject: &str, sealed: &str) -> Result<Secrets, Error> {
    let opened = app.keys.unseal(&seal_id(service, subject), sealed)?;
    serde_json::from_slice(&opened).map_err(|error| Error::Unavailable(error.into()))
}

fn seal(app: &App, service: &str, subject: &str, secrets: &Secrets) -> Result<String, Error> {
    let text = serde_json::to_vec(secrets).map(zeroize::Zeroizing::new);
    let text = text.map_err(|error| Error::Unavailable(error.into()))?;
    Ok(app.keys.seal(&seal_id(service, subject), &text)?)
}

/// Renews a token in the background.
fn renew(app: &Arc<App>, service: &Arc<Service>, subject: &Subject) {
    let Some(renewal) = app.services.begin_renewal(&service.name, &subject.id) else {
        return;
    };
    let (app, service, subject) = (Arc::clone(app), Arc::clone(service), subject.clone());
    tokio::spawn(async move {
        let _renewal = renewal;
        let renewed = async {
            let known = Known::read(&app, &service, &subject).await.map_err(internal)?;
            let now = app.clock.now();
            let is_due =
                |row: &ServiceToken| !row.is_leased(now) && row.renew_at.is_none_or(|at| at <= now);
            match known.own {
                Some(row) if is_due(&row) => request(&app, &service, &subject, Some(row)).await,
                _ => Ok(None),
            }
        };
        if let Err(NoToken::Internal(cause)) = renewed.await {
            tracing::error!(service = service.name, cause, "renewing a service's token failed");
        }
    });
}

/// Requests a token, unless another process does: then `None`.
async fn request(
    app: &Arc<App>,
    service: &Arc<Service>,
    subject: &Subject,
    row: Option<ServiceToken>,
) -> Result<Option<Arc<Held>>, NoToken> {
    let _running = app.services.running().await;
    let (now, lease_id) = (app.clock.now(), app.new_id());
    let lease = Lease {
        service: &service.name,
        subject: &subject.id,
        id: &lease_id,
        // A clock that is ahead must not take a lease that is in use.
        until: now + service.config.timeout + CLOCK_SKEW,
        version: row.as_ref().map_or(0, |row| row.version),
    };
    let claimed = if service.config.is_connected() {
        rows::claim_existing(&app.db, &lease, now).await
    } else {
        let binding = subject.session_id.as_deref().map(|id| (subject.user_id.as_deref(), id));
        rows::claim(&app.db, &lease, binding, now).await
    };
    if !claimed.map_err(internal)? {
        return Ok(None);
    }
    let secrets = match &row {
        Some(row) => open(app, row).map_err(internal)?,
        None => Secrets::default(),
    };
    let requested = send(app, service, subject, &secrets).await;
    let outcome =
        requested.as_ref().map_or_else(|failure| failure.kind.into(), |_| ServiceOutcome::Ok);
    app.metrics.service_request(&service.name, "", outcome);
    match requested {
        Ok(granted) => {
            let secrets = successor(service, secrets, granted);
            store(app, service, subject, lease.version, secrets, now).await.map(Some)
        }
        Err(failure) => Err(remember(app, service, subject, &lease, row, failure).await),
    }
}

/// The refresh token that is configured, where one is.
fn seed(service: &Service) -> Option<String> {
    let first = service.config.refresh_token.as_str();
    (!first.is_empty()).then(|| URL_SAFE_NO_PAD.encode(Sha256::digest(first)))
}

async fn send(
    app: &App,
    service: &Service,
    subject: &Subject,
    secrets: &Secrets,
) -> Result<Granted, Failure> {
    let config = &service.config;
    let grant = match (config.grant, &secrets.refresh_token) {
        // Another one was configured since.
        (ServiceGrant::RefreshToken, Some(_))
            if !config.is_connected() && secrets.seed != seed(service) =>
        {
            Grants::RefreshToken(&config.refresh_token)
        }
        (ServiceGrant::RefreshToken, Some(current)) => Grants::RefreshToken(current),
        (ServiceGrant::RefreshToken, None) if !config.refresh_token.is_empty() => {
            Grants::RefreshToken(&config.refresh_token)
        }
        (ServiceGrant::RefreshToken, None) => {
            let cause = "the service has issued no refresh token";
            let failure = Failure::new(FailureKind::Failed, cause);
            return Err(Failure { is_invalid_grant: true, ..failure });
        }
        _ => Grants::Configured { subject: &subject.id },
    };
    service.request_token(&app.outbound, grant, app.clock.now(), || app.new_id()).await
}

/// What is stored after a request: a refresh token that is not replaced stays valid (RFC 6749 §6).
fn successor(service: &Service, before: Secrets, granted: Granted) -> (Secrets, Duration) {
    let is_refreshed = service.config.grant == ServiceGrant::RefreshToken;
    let seed = seed(service);
    let kept = || match before.refresh_token {
        Some(token) if before.seed == seed => Some(token),
        _ => Some(service.config.refresh_token.clone()).filter(|token| !token.is_empty()),
    };
    let refresh_token = if is_refreshed { granted.refresh_token.or_else(kept) } else { None };
    let secrets = Secrets { access_token: Some(granted.access_token), refresh_token, seed };
    (secrets, granted.expires_in)
}

/// The row of a token that was requested at `requested_at`. Its time is counted from before the
/// request, whatever the service's clock says, and it is given up a little earlier.
fn new_token(
    app: &App,
    service: &Service,
    subject: &str,
    (secrets, expires_in): &(Secrets, Duration),
    requested_at: Timestamp,
) -> Result<NewToken, Error> {
    let margin = Duration::from_secs(5).min(*expires_in / 10);
    let ahead = service.config.renew_before.min(*expires_in / 2);
    Ok(NewToken {
        sealed: seal(app, &service.name, subject, secrets)?,
        is_revocable: service.config.revokes(),
        settings: service.fingerprint.clone(),
        obtained_at: requested_at,
        renew_at: requested_at + (*expires_in - ahead),
        expires_at: requested_at + (*expires_in - margin),
    })
}

/// Stores a token, for as long as it takes within [`STORE_FOR`].
async fn store(
    app: &App,
    service: &Service,
    subject: &Subject,
    version: i64,
    secrets: (Secrets, Duration),
    requested_at: Timestamp,
) -> Result<Arc<Held>, NoToken> {
    let new = new_token(app, service, &subject.id, &secrets, requested_at).map_err(internal)?;
    let (expires_at, sealed) = (new.expires_at, new.sealed.clone());
    let mut delay = POLL;
    let stored = tokio::time::timeout(STORE_FOR, async {
        loop {
            let new = new.clone();
            match rows::store(&app.db, &service.name, &subject.id, version, new).await {
                Ok(stored) => return stored,
                Err(error) => {
                    tracing::error!(%error, service = service.name, "storing a service's token failed; will retry");
                }
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(LONGEST_STORE_PAUSE);
        }
    });
    let stored = stored.await.map_err(|_| {
        NoToken::Internal("the token of the service could not be stored".to_owned())
    })?;
    if !subject.id.is_empty() {
        // The row goes with the session.
        if !stored {
            not_stored(app, service, &subject.id, sealed).await;
            return Err(NoToken::NotConnected);
        }
        rows::recovered(&app.db, &service.name).await.map_err(internal)?;
    }
    Ok(Arc::new(Held { secrets: secrets.0, version: version + 1, expires_at }))
}

/// A token that was obtained, and has no row any more, is revoked at its service.
async fn not_stored(app: &App, service: &Service, subject: &str, sealed: String) {
    if !service.config.revokes() {
        return;
    }
    let name = service.name.as_str();
    if let Err(error) = queue::add_unless_stored(&app.db, name, subject, sealed).await {
        tracing::error!(%error, service = name, "queueing the revocation of a token failed");
    }
    app.services.revocations_waiting.notify_one();
}

/// Remembers a failure, so that nobody requests a token for a while.
async fn remember(
    app: &App,
    service: &Service,
    subject: &Subject,
    lease: &Lease<'_>,
    row: Option<ServiceToken>,
    failure: Failure,
) -> NoToken {
    let name = service.name.as_str();
    let (kind, cause) = (failure.kind.as_str(), failure.cause.as_str());
    tracing::warn!(service = name, kind, cause, "a service gave no token");
    if service.config.is_connected() && failure.is_invalid_grant {
        return match connections::end(app, service, &subject.id, lease.version).await {
            Ok(()) => NoToken::NotConnected,
            Err(error) => internal(error),
        };
    }
    let now = app.clock.now();
    let failures = row.map_or(0, |row| row.failures) + 1;
    let wait = pause(failures, failure.retry_after);
    let failed = rows::Failed { kind: failure.kind, retry_at: now + wait };
    let mut written = rows::fail(&app.db, name, &subject.id, lease.id, failed).await;
    if written.is_ok() && !subject.id.is_empty() && failure.is_of_all() {
        written = rows::fail_for_all(&app.db, name, failed, now).await;
    }
    if let Err(error) = written {
        tracing::error!(%error, service = name, "remembering the failure of a service failed");
    }
    Failure { retry_after: Some(wait), ..failure }.into()
}

/// Removes a stored token on behalf of an operator; the next call requests another one. `subject`:
/// the id of a user, or empty.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`].
pub async fn remove(app: &App, name: &str, subject: &str, actor: &Actor) -> Result<(), Error> {
    if [name, subject].iter().any(|text| text.contains('\0')) {
        return Err(Error::NotFound("token"));
    }
    let mut tx = app.begin(actor).await?;
    if !rows::remove(&mut tx, name, subject, None).await? {
        return Err(Error::NotFound("token"));
    }
    let detail = json!({ "service": name });
    let subject = Some(subject).filter(|subject| !subject.is_empty());
    tx.audit("service.token_removed", subject, detail).await?;
    tx.commit().await?;
    app.services.revocations_waiting.notify_one();
    Ok(())
}
