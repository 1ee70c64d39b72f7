//! What every request shares. [`App`] is a container: it imports no flow.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::sync::Notify;
use url::Url;
use webauthn_rs::{Webauthn, WebauthnBuilder};

use crate::{
    branding::Branding,
    caches::{
        client_keys::ClientKeys, logos::Logos, metadata_documents::MetadataDocuments,
        signed_list::SignedList, verified_tokens::VerifiedTokens,
    },
    clock::{Clock, Rng, Timestamp},
    config::Config,
    diagnostics::{self, DeniedRequestLog},
    directory::{CachedClient, Directory},
    error::Error,
    ids::ClientId,
    keys::{self, JWKS_LEASE, Keys},
    limits::{Key, Limit, Limits, RetryAfter, bodies::BodyBudget},
    mailer::Mailer,
    model::{self, actor::Actor},
    outbound::Outbound,
    password::{Hasher, Policy},
    revocation::{
        RevocationList,
        batch::{Batch, TokenRevocation},
        redis::LONGEST_LEASE,
    },
    services::Services,
    storage::{self, AuditedTx, AuditedWrite, Db, Measurements, audit},
    telemetry::{Metrics, StatementKind},
    upstream::Upstreams,
    user_service::UserService,
};

/// One server: its configuration, its database and what it keeps in memory.
pub struct App {
    pub config: Config,
    /// The look and the languages of the pages.
    pub branding: &'static Branding,
    pub db: Db,
    pub keys: Arc<Keys>,
    /// When the last successful sync for a JWKS began.
    jwks_synced: Mutex<Option<Instant>>,
    pub directory: Arc<Directory>,
    pub revocations: RevocationList,
    /// Verifies passkeys; `None` where the issuer is an IP address, which WebAuthn has no use for.
    pub webauthn: Option<Webauthn>,
    /// Access tokens that wait to be revoked in one commit.
    pub token_revocations: Batch<TokenRevocation>,
    pub outbound: Arc<Outbound>,
    /// The user service that registrations call; `None`: none is.
    pub user_service: Option<UserService>,
    /// Where mails go; `None`: they are off.
    pub mailer: Option<Mailer>,
    /// Notified when mails are queued.
    pub mails_waiting: Notify,
    /// The customer services.
    pub services: Arc<Services>,
    /// Other providers at which users log in.
    pub upstream: Upstreams,
    pub client_keys: ClientKeys,
    pub logos: Logos,
    pub metadata_documents: MetadataDocuments,
    pub signed_list: SignedList,
    pub verified_tokens: VerifiedTokens,
    pub denied_requests: DeniedRequestLog,
    /// Notified when logout deliveries are queued.
    pub logouts_waiting: Notify,
    /// Notified when deliveries to webhooks may be due.
    pub webhooks_waiting: Notify,
    pub hasher: Hasher,
    pub policy: Arc<Policy>,
    pub limits: Limits,
    /// The bytes of request bodies.
    pub bodies: Arc<BodyBudget>,
    pub metrics: Metrics,
    pub readiness: Readiness,
    pub clock: Clock,
    pub rng: Rng,
    pub started_at: Timestamp,
}

/// What the last checks of readiness found; the problems are texts for the log.
#[derive(Debug, Default)]
pub struct Readiness {
    /// When the database was written last to find out whether it can be. One
    /// check writes at a time.
    pub last_write: tokio::sync::Mutex<Option<(Instant, Result<(), String>)>>,
    /// As logged last; `None` where there is none.
    pub problem: Mutex<Option<String>>,
    /// Whether events wait for Kafka for too long. The server works nevertheless.
    pub events_delayed: AtomicBool,
}

/// Why a server cannot start; each message says what to fix.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Storage(String),
    #[error(transparent)]
    Keys(#[from] keys::Error),
    #[error("{0}")]
    Passwords(String),
    #[error("{0}")]
    Outbound(String),
    #[error("{0}")]
    UserService(String),
    #[error("{0}")]
    Mail(String),
    #[error("{0}")]
    Services(String),
    #[error("{0}")]
    Branding(String),
}

impl App {
    /// Opens the database, applies pending migrations where `database.migrate_at_start` is set, and
    /// loads the keys and the revocation list. What does not exist is created: the SQLite file, the
    /// tables, the keys and the master key.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(config: Config, clock: Clock, rng: Rng) -> Result<Arc<Self>, StartError> {
        let db = open_database(&config).await?;
        Self::open_on(db, config, clock, rng).await
    }

    /// As [`App::open`], for a deployment that exists: a command in the wrong folder, or with the
    /// wrong database, must not create another one.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open_existing(
        config: Config,
        clock: Clock,
        rng: Rng,
    ) -> Result<Arc<Self>, StartError> {
        let db = open_existing_database(&config).await?;
        let master_key = config.master_key_path();
        if master_key.try_exists().is_ok_and(|exists| !exists) {
            return Err(StartError::Storage(format!(
                "there is no master key {}: {}",
                master_key.display(),
                where_deployments_are(&config, "secrets.master_key_file")
            )));
        }
        Self::open_on(db, config, clock, rng).await
    }

    async fn open_on(
        db: Db,
        config: Config,
        clock: Clock,
        rng: Rng,
    ) -> Result<Arc<Self>, StartError> {
        let branding = Branding::load(&config).map_err(StartError::Branding)?;
        if config.database.migrate_at_start {
            db.migrate().await.map_err(|error| StartError::Storage(error.to_string()))?;
        } else {
            match db.pending_migrations().await {
                Ok(Some(0)) => {}
                Ok(pending) => {
                    let what = pending.map_or("the database is empty".to_owned(), |count| {
                        format!("{count} migration(s) are pending")
                    });
                    return Err(StartError::Storage(format!(
                        "{what}: run `propusk migrate`, or set database.migrate_at_start"
                    )));
                }
                Err(error) => return Err(StartError::Storage(error.to_string())),
            }
        }
        let metrics = Metrics::new();
        db.measure_with(Measurements {
            read: metrics.statements(StatementKind::Read).into(),
            write: metrics.statements(StatementKind::Write).into(),
            transaction: metrics.statements(StatementKind::Transaction).into(),
        });
        let replica_lease =
            if config.redis.url.is_empty() { Duration::ZERO } else { LONGEST_LEASE };
        let keys = Arc::new(Keys::open(&config, &db, &clock, &rng, replica_lease).await?);
        let directory = Arc::new(Directory::new(&config.server.issuer));
        let revocations = RevocationList::open(
            &config.redis,
            db.clone(),
            Arc::clone(&keys),
            Arc::clone(&directory),
            clock.clone(),
            rng.clone(),
        )
        .await
        .map_err(keys::Error::from)?;
        let policy = Policy::new(&config.passwords)
            .map_err(|error| StartError::Passwords(error.to_string()))?;
        let hasher = Hasher::new(&config.passwords, metrics.argon2_duration.clone())
            .map_err(|error| StartError::Passwords(error.to_string()))?;
        let outbound =
            Outbound::new(&config.outbound, config.is_local()).map_err(StartError::Outbound)?;
        let user_service =
            UserService::new(&config.user_service).map_err(StartError::UserService)?;
        let mailer = Mailer::new(&config).map_err(StartError::Mail)?;
        let services = Services::new(&config.services).map_err(StartError::Services)?;
        let upstream = Upstreams::new(&config.upstream).map_err(StartError::Services)?;
        let webauthn = webauthn(&config.server.issuer, &config.pages.brand);
        let unwritten = metrics.denied_requests_unrecorded.clone();
        Ok(Arc::new(Self {
            limits: Limits::new(&config.limits),
            bodies: BodyBudget::new(config.server.max_body_bytes_in_flight),
            started_at: clock.now(),
            denied_requests: DeniedRequestLog::new(db.clone(), clock.clone(), unwritten),
            config,
            branding,
            db,
            keys,
            jwks_synced: Mutex::default(),
            directory,
            revocations,
            webauthn,
            token_revocations: Batch::default(),
            outbound: Arc::new(outbound),
            user_service,
            mailer,
            mails_waiting: Notify::new(),
            services: Arc::new(services),
            upstream,
            client_keys: ClientKeys::default(),
            logos: Logos::default(),
            metadata_documents: MetadataDocuments::default(),
            signed_list: SignedList::default(),
            verified_tokens: VerifiedTokens::default(),
            logouts_waiting: Notify::new(),
            webhooks_waiting: Notify::new(),
            hasher,
            policy: Arc::new(policy),
            metrics,
            readiness: Readiness::default(),
            clock,
            rng,
        }))
    }

    /// Counts one request against a limit.
    ///
    /// # Errors
    /// [`Error::TooMany`] when the limit is exceeded.
    pub fn admit(&self, limit: Limit, key: &Key) -> Result<(), Error> {
        self.limits.limiter(limit).check(key, self.clock.now()).map_err(|RetryAfter(wait)| {
            diagnostics::record("limit", format_args!("{limit:?}"));
            self.metrics.rate_limited(limit);
            Error::TooMany(wait)
        })
    }

    /// Returns once revocations, keys and clients in memory are at least as new as the last commit
    /// before the call.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the database cannot be queried.
    pub async fn sync(&self) -> Result<(), Error> {
        let fresh = self.revocations.sync().await;
        fresh.map_err(|stale| Error::Unavailable(stale.into()))
    }

    /// Returns once the JWKS in memory has every key with which any process has signed before the
    /// call (see [`crate::keys`]). Nearly always that is at once.
    ///
    /// # Errors
    /// As [`App::sync`].
    pub async fn sync_jwks(&self) -> Result<(), Error> {
        let synced = || self.jwks_synced.lock().unwrap_or_else(PoisonError::into_inner);
        // Durations are measured by the real clock, also in tests.
        #[allow(clippy::disallowed_methods)]
        let now = Instant::now();
        if synced().is_some_and(|at| now.saturating_duration_since(at) < JWKS_LEASE) {
            return Ok(());
        }
        self.sync().await?;
        let mut synced = synced();
        *synced = (*synced).max(Some(now));
        Ok(())
    }

    /// The client with that id, as last committed; `None` where it does not exist or is disabled.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn client(&self, id: &ClientId) -> Result<Option<CachedClient>, Error> {
        self.sync().await?;
        let known = self.directory.client(&self.db, id).await?;
        Ok(known.filter(|known| known.client.disabled_at.is_none()))
    }

    /// Begins a transaction on behalf of an actor.
    ///
    /// # Errors
    /// As [`Db::begin`].
    pub async fn begin(&self, actor: &Actor) -> storage::Result<AuditedTx> {
        AuditedTx::begin(&self.db, &self.clock, &self.rng, actor).await
    }

    /// A change of one statement on behalf of an actor.
    pub fn write(&self, actor: Actor) -> AuditedWrite<'_> {
        AuditedWrite::new(&self.db, &self.clock, &self.rng, actor)
    }

    /// Records an audit entry of something that changes nothing else.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub async fn audit(
        &self,
        actor: &Actor,
        action: &'static str,
        subject: &str,
        detail: Value,
    ) -> storage::Result<()> {
        audit::add(&self.db, actor, action, subject, detail, self.clock.now()).await
    }

    /// A new id for a row.
    pub fn new_id(&self) -> String {
        model::new_id(&self.clock, &self.rng)
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "App({})", self.config.server.issuer)
    }
}

/// The WebAuthn relying party of an issuer: its origin, its host as the id, and a name for dialogs.
fn webauthn(issuer: &str, name: &str) -> Option<Webauthn> {
    let origin = Url::parse(issuer).ok()?;
    let host = origin.domain()?.to_owned();
    let builder = WebauthnBuilder::new(&host, &origin).ok()?;
    builder.rp_name(name).build().ok()
}

/// Opens the configured database; an SQLite file that does not exist is created.
///
/// # Errors
/// [`StartError::Storage`], with a message for the operator.
pub async fn open_database(config: &Config) -> Result<Db, StartError> {
    Db::open(config).await.map_err(|error| unopened(config, error))
}

/// Opens the configured database, which must have been set up.
///
/// # Errors
/// [`StartError::Storage`], with a message for the operator.
pub async fn open_existing_database(config: &Config) -> Result<Db, StartError> {
    let advice = || where_deployments_are(config, "database.url");
    let db = match Db::open_existing(config).await {
        Err(storage::Error::NoFile(path)) => {
            let path = path.display();
            return Err(StartError::Storage(format!("there is no database {path}: {}", advice())));
        }
        opened => opened.map_err(|error| unopened(config, error))?,
    };
    match db.pending_migrations().await {
        Ok(Some(_)) => Ok(db),
        Ok(None) => {
            let url = crate::config::mask_url(&config.database_url());
            Err(StartError::Storage(format!("the database {url} is empty: {}", advice())))
        }
        Err(error) => Err(StartError::Storage(error.to_string())),
    }
}

/// What to do where a command finds no deployment.
pub fn where_deployments_are(config: &Config, setting: &str) -> String {
    format!(
        "run the command in the working directory of the server and with its configuration, or set data_dir ({}) \
         or {setting} ({}); `propusk serve` and `propusk migrate` create a new deployment",
        config.source("data_dir"),
        config.source(setting)
    )
}

fn unopened(config: &Config, error: storage::Error) -> StartError {
    let url = crate::config::mask_url(&config.database_url());
    StartError::Storage(match error {
        storage::Error::Folder(message) => message,
        other => format!(
            "the database {url} cannot be opened ({other}): is it running, and is database.url right ({})?",
            config.source("database.url")
        ),
    })
}
