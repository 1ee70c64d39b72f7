//! What every request shares.

use std::sync::Arc;

use quick_cache::sync::Cache;
use tokio::sync::Notify;

use crate::{
    clock::{Clock, Rng, Timestamp},
    config::Config,
    diagnostics,
    directory::{CachedClient, Directory},
    error::Error,
    flows::{
        self, admin::clients::document, client_keys::ClientKeys, logos::Logos, oauth::revoke,
        tokens::verify::Verified,
    },
    keys::{self, Keys},
    limits::{Key, Limit, Limits, RetryAfter},
    model,
    outbound::Outbound,
    password::{Hasher, Policy},
    revocation::RevocationList,
    storage::Db,
    telemetry::Metrics,
};

/// Verified tokens that are remembered; at under 1 KiB each, at most 10 MiB.
const REMEMBERED_TOKENS: usize = 10_000;

/// One server: its configuration, its database and what it keeps in memory.
pub struct App {
    pub config: Config,
    pub db: Db,
    pub keys: Arc<Keys>,
    pub directory: Arc<Directory>,
    /// Metadata documents of clients.
    pub documents: document::Documents,
    pub revocations: RevocationList,
    pub outbound: Outbound,
    pub client_keys: ClientKeys,
    pub logos: Logos,
    pub revoker: revoke::Revoker,
    /// What was refused and is not written yet.
    pub refusals: diagnostics::Refusals,
    /// The list as it was last signed for followers of the feed.
    pub signed_list: flows::feed::SignedList,
    /// Rung when a logout has left deliveries for [`oauth::backchannel_logout`].
    pub logouts_waiting: Notify,
    pub hasher: Hasher,
    pub policy: Arc<Policy>,
    pub limits: Limits,
    pub metrics: Metrics,
    pub clock: Clock,
    pub rng: Rng,
    /// Tokens whose signature and shape were found good, by SHA-256 of their text. The clock and the
    /// revocation list are still asked each time.
    pub verified: Cache<[u8; 32], Arc<Verified>>,
    pub started_at: Timestamp,
}

/// Why a server cannot start; each message says what to mend.
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
}

impl App {
    /// Opens the database, brings its schema up to date where the configuration says so, and loads keys
    /// and the revocation list.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(config: Config, clock: Clock, rng: Rng) -> Result<Arc<Self>, StartError> {
        let db = open_database(&config).await?;
        if config.database.migrate_at_start {
            db.migrate().await.map_err(|error| StartError::Storage(error.to_string()))?;
        } else {
            match db.pending_migrations().await {
                Ok(0) => {}
                Ok(count) => {
                    return Err(StartError::Storage(format!(
                        "the database lacks {count} migration(s): run `propusk migrate`, or set database.migrate_at_start"
                    )));
                }
                Err(error) => return Err(StartError::Storage(error.to_string())),
            }
        }
        let metrics = Metrics::new();
        let keys = Arc::new(Keys::open(&config, &db, &clock, &rng).await?);
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
        let outbound = Outbound::new(&config.outbound).map_err(StartError::Outbound)?;
        Ok(Arc::new(Self {
            limits: Limits::new(&config.limits),
            started_at: clock.now(),
            verified: Cache::new(REMEMBERED_TOKENS),
            documents: document::Documents::default(),
            config,
            db,
            keys,
            directory,
            revocations,
            outbound,
            client_keys: ClientKeys::default(),
            logos: Logos::default(),
            revoker: revoke::Revoker::default(),
            refusals: diagnostics::Refusals::default(),
            signed_list: flows::feed::SignedList::default(),
            logouts_waiting: Notify::new(),
            hasher,
            policy: Arc::new(policy),
            metrics,
            clock,
            rng,
        }))
    }

    /// Counts one against a limit.
    ///
    /// # Errors
    /// [`Error::TooMany`] where the limit is reached.
    pub fn admit(&self, limit: Limit, key: &Key) -> Result<(), Error> {
        self.limits.limiter(limit).check(key, self.clock.now()).map_err(|RetryAfter(wait)| {
            diagnostics::fact("limit", format_args!("{limit:?}"));
            self.metrics.rate_limited(limit);
            Error::TooMany(wait)
        })
    }

    /// Comes back once what this process remembers (revocations, keys, clients) is what was committed before the call.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the database cannot be asked.
    pub async fn sync(&self) -> Result<(), Error> {
        let fresh = self.revocations.sync().await;
        fresh.map_err(|stale| Error::Unavailable(stale.into()))
    }

    /// The client of that id as it is now, if it is there and enabled.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn client(&self, id: &str) -> Result<Option<CachedClient>, Error> {
        self.sync().await?;
        let known = self.directory.client(&self.db, id).await?;
        Ok(known.filter(|known| known.client.disabled_at.is_none()))
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

/// Opens the configured database, with a message for the operator where it does not answer.
///
/// # Errors
/// [`StartError::Storage`].
pub async fn open_database(config: &Config) -> Result<Db, StartError> {
    Db::open(config).await.map_err(|error| {
        let url = crate::config::mask_url(&config.database_url());
        StartError::Storage(match error {
            crate::storage::Error::Folder(message) => message,
            other => format!(
                "the database {url} cannot be opened ({other}): is it running, and is database.url right ({})?",
                config.source("database.url")
            ),
        })
    })
}
