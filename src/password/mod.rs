//! Password policy and password hashing with Argon2id (RFC 9106), off the async threads.
//!
//! A fixed number of threads hash (`workers`), with memory that is kept for the next hash (page
//! faults are half the cost of a fresh allocation). The queue is bounded: memory never exceeds
//! permits × `passwords.memory_kib`, and excess requests fail at once instead of waiting.
//!
//! Hashes that were imported from other systems ([`ImportedHash`]) are verified by the same workers,
//! under the same permits.

mod breached;
mod imported;
mod policy;
mod workers;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use argon2::{Algorithm, Argon2, Block, Params, PasswordHash, Version};
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use prometheus_client::metrics::histogram::Histogram;
use subtle::ConstantTimeEq;
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use self::workers::{Plan, Workers};
pub use self::{
    imported::{Digest, FirebaseParameters, ImportedHash, ScryptParams, UnusableHash, base64},
    policy::{Policy, PolicyError},
};
use crate::{clock::Rng, config};

/// The longest password, in bytes as sent. Longer ones are rejected before anything costly is done.
pub const MAX_BYTES: usize = 1024;

/// Stored for a user who has no password: no password matches it.
pub const NO_PASSWORD: &str = "!";

/// The upper bounds of a stored hash whose parameters exceed the configured ones.
const MAX_FOREIGN_MEMORY_KIB: u32 = 256 * 1024;
const MAX_FOREIGN_WORK_KIB: u64 = 4 * 1024 * 1024;

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// How long a password waits until the threads of low priority count as stalled: a multiple of the
/// shortest hash so far, within these bounds.
const STALLED_AFTER_HASHES: u32 = 4;
const STALLED_AFTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// Passwords are compared and hashed in NFKC, so that every keyboard's encoding of one is the same.
fn normalised(password: &str) -> Zeroizing<String> {
    // Room for NFKC's greatest growth (U+FDFA: 3 bytes to 33), so that no move leaves a copy
    // behind.
    let room = if password.is_ascii() { 1 } else { 11 };
    let mut text = Zeroizing::new(String::with_capacity(password.len() * room));
    text.extend(password.nfkc());
    text
}

/// Whether a password matches a stored hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Right,
    /// It matches, and the hash has other parameters than the configured ones: hash it again.
    RightButOutdated,
    Wrong,
}

/// Why there is no hash and no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// The queue is full (`passwords.queue`), or the wait exceeded `passwords.queue_timeout`.
    #[error("too many passwords are waiting to be hashed; try again in a few seconds")]
    Overloaded,
    /// An unusable stored hash, or a password over [`MAX_BYTES`] to be hashed.
    #[error("the password could not be processed")]
    Internal,
}

/// Why a [`Hasher`] cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum HasherError {
    #[error(
        "passwords.memory_kib, passwords.iterations and passwords.parallelism are not valid Argon2 \
         parameters: {0}; use at least 8 KiB of memory per lane, one iteration and one lane"
    )]
    Parameters(argon2::Error),
    #[error("cannot start the threads that hash passwords: {0}; lower `passwords.permits`")]
    Threads(io::Error),
}

/// Hashes and verifies passwords on workers of its own. Clones share them.
#[derive(Clone)]
pub struct Hasher {
    workers: Arc<Workers>,
    /// One permit per job, waiting or running.
    places: Arc<Semaphore>,
    /// One permit per running job; granted first come, first served.
    turns: Arc<Semaphore>,
    max_waiting: usize,
    queue_timeout: Duration,
    shared: Arc<Shared>,
    /// A hash with the configured parameters that no password has, for users that do not exist.
    dummy: Arc<str>,
}

struct Shared {
    params: Params,
    hashes: AtomicU64,
    /// Microseconds of the shortest hash with the configured parameters; the maximum before one.
    shortest: AtomicU64,
    duration: Histogram,
}

impl Hasher {
    /// Starts the workers. `duration` observes the seconds that each hash takes, without queueing.
    ///
    /// # Errors
    /// [`HasherError`] when Argon2 rejects the parameters, or no thread can be started.
    pub fn new(config: &config::Passwords, duration: Histogram) -> Result<Self, HasherError> {
        let params =
            Params::new(config.memory_kib, config.iterations, config.parallelism, Some(HASH_BYTES))
                .map_err(HasherError::Parameters)?;
        let dummy = phc_string(&params, &[0; SALT_BYTES], &[0; HASH_BYTES]).into();
        let plan = Plan::new(config.permits.min(Semaphore::MAX_PERMITS));
        let permits = plan.permits();
        let max_waiting = config.queue.min(Semaphore::MAX_PERMITS - permits);
        let shared = Arc::new(Shared {
            params,
            hashes: AtomicU64::new(0),
            shortest: AtomicU64::new(u64::MAX),
            duration,
        });
        let watched = Arc::clone(&shared);
        let workers = Workers::start(plan, move || watched.stalled_after());
        let workers = Arc::new(workers.map_err(HasherError::Threads)?);
        Ok(Self {
            workers,
            places: Arc::new(Semaphore::new(permits + max_waiting)),
            turns: Arc::new(Semaphore::new(permits)),
            max_waiting,
            queue_timeout: config.queue_timeout,
            shared,
            dummy,
        })
    }

    /// The PHC string of a new hash. Check the password against the [`Policy`] first.
    ///
    /// # Errors
    /// [`PasswordError::Overloaded`]; [`PasswordError::Internal`] for more than [`MAX_BYTES`].
    pub async fn hash(&self, password: &str, rng: &Rng) -> Result<String, PasswordError> {
        if password.len() > MAX_BYTES {
            return Err(PasswordError::Internal);
        }
        let password = normalised(password);
        let salt: [u8; SALT_BYTES] = rng.bytes();
        self.run(move |shared, memory| {
            let (version, params) = (Version::V0x13, shared.params.clone());
            let argon2 = Argon2::new(Algorithm::Argon2id, version, params);
            let hash = shared.argon2(&argon2, &password, &salt, HASH_BYTES, memory)?;
            Some(phc_string(&shared.params, &salt, &hash))
        })
        .await?
        .ok_or(PasswordError::Internal)
    }

    /// Whether `password` matches `phc`, a PHC string or an [`ImportedHash`]. `None` (no such user)
    /// and [`NO_PASSWORD`] cost as much as a hash with the configured parameters and are always
    /// [`Verdict::Wrong`]. More than [`MAX_BYTES`] is wrong at no cost.
    ///
    /// # Errors
    /// [`PasswordError::Overloaded`]; [`PasswordError::Internal`] for a stored hash of an unknown
    /// kind, or one that asks for excessive memory or time (the log says which).
    pub async fn verify(
        &self,
        password: &str,
        phc: Option<&str>,
    ) -> Result<Verdict, PasswordError> {
        if password.len() > MAX_BYTES {
            return Ok(Verdict::Wrong);
        }
        let password = Zeroizing::new(password.to_owned());
        let phc = phc.filter(|phc| *phc != NO_PASSWORD);
        let is_known = phc.is_some();
        let phc: Arc<str> = phc.map_or_else(|| self.dummy.clone(), Into::into);
        self.run(move |shared, memory| {
            let verdict = shared.verify(&password, &phc, memory)?;
            Some(if is_known { verdict } else { Verdict::Wrong })
        })
        .await?
        .ok_or(PasswordError::Internal)
    }

    /// Does the work of [`Hasher::verify`] for a user who does not exist: that of the hash `like`,
    /// so that a database with hashes of several kinds answers unknown logins in the times of known
    /// ones.
    ///
    /// # Errors
    /// [`PasswordError::Overloaded`].
    pub async fn verify_unknown(
        &self,
        password: &str,
        like: Option<&str>,
    ) -> Result<(), PasswordError> {
        match self.verify(password, like).await {
            Ok(_) => Ok(()),
            // The work of the hash that every new user gets.
            Err(PasswordError::Internal) => self.verify(password, None).await.map(drop),
            Err(overloaded) => Err(overloaded),
        }
    }

    /// [`Policy::check`], on the same workers.
    ///
    /// # Errors
    /// [`PasswordError::Overloaded`]; within, the result of [`Policy::check`].
    pub async fn check(
        &self,
        policy: &Arc<Policy>,
        password: &str,
        context: &[&str],
    ) -> Result<Result<(), Vec<String>>, PasswordError> {
        if password.len() > MAX_BYTES {
            return Ok(policy.check(password, context));
        }
        let policy = policy.clone();
        let password = Zeroizing::new(password.to_owned());
        let context: Vec<String> = context.iter().map(|&word| word.to_owned()).collect();
        self.run(move |_, _| {
            let context: Vec<&str> = context.iter().map(String::as_str).collect();
            policy.check(&password, &context)
        })
        .await
    }

    /// The number of jobs waiting for a worker.
    pub fn waiting(&self) -> usize {
        let (turns, places) = (self.turns.available_permits(), self.places.available_permits());
        (self.max_waiting + turns).saturating_sub(places)
    }

    /// The number of hashes computed since the start.
    pub fn hashes(&self) -> u64 {
        self.shared.hashes.load(Ordering::Relaxed)
    }

    /// Runs `job` on a worker, first come, first served. A caller that goes away while it waits
    /// gives up its place; a job that has begun is finished.
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Shared, &mut Vec<Block>) -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| PasswordError::Overloaded)?;
        let turn = timeout(self.queue_timeout, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| PasswordError::Overloaded)?;
        let (answer, answered) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        self.workers.push(Box::new(move |memory| {
            let result = job(&shared, memory);
            drop((place, turn));
            // An error means that the caller has gone away.
            let _ = answer.send(result);
        }));
        // A job that panicked has dropped its sender; the panic hook has reported it.
        answered.await.map_err(|_| PasswordError::Internal)
    }
}

impl Shared {
    fn stalled_after(&self) -> Duration {
        let [least, most] = STALLED_AFTER;
        match self.shortest.load(Ordering::Relaxed) {
            u64::MAX => least,
            micros => (STALLED_AFTER_HASHES * Duration::from_micros(micros)).clamp(least, most),
        }
    }

    /// One hash. `None` when Argon2 rejects its input, which is logged.
    fn argon2(
        &self,
        argon2: &Argon2<'_>,
        password: &str,
        salt: &[u8],
        length: usize,
        memory: &mut Vec<Block>,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let blocks = argon2.params().block_count();
        if memory.len() < blocks {
            // Free the old memory first, or both would be held for a moment.
            *memory = Vec::new();
            *memory = vec![Block::default(); blocks];
        }
        let mut hash = Zeroizing::new(vec![0; length]);
        #[allow(clippy::disallowed_methods)] // measures a duration
        let start = std::time::Instant::now();
        let hashed = argon2.hash_password_into_with_memory(
            password.as_bytes(),
            salt,
            &mut hash,
            &mut memory[..blocks],
        );
        let took = start.elapsed();
        self.duration.observe(took.as_secs_f64());
        self.hashes.fetch_add(1, Ordering::Relaxed);
        if argon2.params() == &self.params {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            self.shortest.fetch_min(micros, Ordering::Relaxed);
        }
        // A stored hash may have needed more than the configured memory.
        let granted = self.params.block_count();
        if memory.len() > granted {
            memory.truncate(granted);
            memory.shrink_to_fit();
        }
        match hashed {
            Ok(()) => Some(hash),
            Err(error) => {
                tracing::error!(%error, "password hashing failed");
                None
            }
        }
    }

    /// Verifies with the parameters of the stored hash. `None` when that hash is unusable.
    fn verify(&self, password: &str, phc: &str, memory: &mut Vec<Block>) -> Option<Verdict> {
        if !phc.starts_with("$argon2") {
            return self.verify_imported(password, phc, memory);
        }
        self.verify_argon2(&normalised(password), phc, memory)
    }

    fn verify_imported(
        &self,
        password: &str,
        stored: &str,
        memory: &mut Vec<Block>,
    ) -> Option<Verdict> {
        let unusable = |reason: &UnusableHash| {
            tracing::error!(%reason, "stored password hash is unusable; set a new password");
        };
        let imported = ImportedHash::parse(stored).inspect_err(unusable).ok()?;
        let is_right = if let Some(phc) = imported.argon2() {
            self.verify_argon2(password, phc, memory)? != Verdict::Wrong
        } else {
            #[allow(clippy::disallowed_methods)] // measures a duration
            let start = std::time::Instant::now();
            let verified = imported.verify(password.as_bytes());
            self.duration.observe(start.elapsed().as_secs_f64());
            self.hashes.fetch_add(1, Ordering::Relaxed);
            verified?
        };
        Some(if is_right { Verdict::RightButOutdated } else { Verdict::Wrong })
    }

    fn verify_argon2(&self, password: &str, phc: &str, memory: &mut Vec<Block>) -> Option<Verdict> {
        let stored = match Stored::parse(phc, &self.params) {
            Ok(stored) => stored,
            Err(reason) => {
                tracing::error!(reason, "stored password hash is unusable; set a new password");
                return None;
            }
        };
        let argon2 = Argon2::new(stored.algorithm, stored.version, stored.params);
        let hash = self.argon2(&argon2, password, &stored.salt, stored.hash.len(), memory)?;
        let is_right = bool::from(hash.as_slice().ct_eq(&stored.hash));
        Some(match (is_right, stored.is_current) {
            (true, true) => Verdict::Right,
            (true, false) => Verdict::RightButOutdated,
            (false, _) => Verdict::Wrong,
        })
    }
}

/// A parsed stored hash.
struct Stored {
    algorithm: Algorithm,
    version: Version,
    params: Params,
    salt: Vec<u8>,
    hash: Vec<u8>,
    /// Whether a new hash would have the same parameters.
    is_current: bool,
}

impl Stored {
    fn parse(phc: &str, current: &Params) -> Result<Self, &'static str> {
        let parsed = PasswordHash::new(phc).map_err(|_| "not a PHC string")?;
        let algorithm =
            Algorithm::new(parsed.algorithm.as_str()).map_err(|_| "not an Argon2 hash")?;
        // No version means 0x10, as in the reference implementation.
        let version = Version::try_from(parsed.version.unwrap_or(0x10))
            .map_err(|_| "unknown Argon2 version")?;
        let params = Params::try_from(&parsed).map_err(|_| "invalid Argon2 parameters")?;
        let (Some(salt), Some(hash)) = (&parsed.salt, &parsed.hash) else {
            return Err("salt or hash missing");
        };
        let is_current = algorithm == Algorithm::Argon2id
            && version == Version::V0x13
            && params == *current
            && salt.len() == SALT_BYTES;
        let work = |params: &Params| u64::from(params.m_cost()) * u64::from(params.t_cost());
        if params.m_cost() > MAX_FOREIGN_MEMORY_KIB.max(current.m_cost()) {
            return Err("excessive memory cost");
        }
        if work(&params) > MAX_FOREIGN_WORK_KIB.max(work(current)) {
            return Err("excessive time cost");
        }
        Ok(Self {
            algorithm,
            version,
            params,
            salt: salt.to_vec(),
            hash: hash.as_bytes().to_vec(),
            is_current,
        })
    }
}

/// The kind of a stored hash, for diagnostics.
pub fn kind_of_hash(stored: &str) -> &'static str {
    const KINDS: [(&str, &str); 7] = [
        ("$argon2", "argon2"),
        (imported::ARGON2_PREFIX, "imported argon2"),
        ("$2", "bcrypt"),
        ("$pbkdf2", "pbkdf2"),
        ("$scrypt", "scrypt"),
        ("$firebase-scrypt", "firebase scrypt"),
        (NO_PASSWORD, "none"),
    ];
    let mut kinds = KINDS.into_iter();
    kinds.find(|(prefix, _)| stored.starts_with(prefix)).map_or("unknown", |(_, kind)| kind)
}

/// Whether an Argon2 hash of another system may be stored.
fn check_foreign_argon2(phc: &str) -> Result<(), &'static str> {
    Stored::parse(phc, &Params::DEFAULT).map(drop)
}

fn phc_string(params: &Params, salt: &[u8], hash: &[u8]) -> String {
    format!(
        "$argon2id$v=19$m={},t={},p={}${}${}",
        params.m_cost(),
        params.t_cost(),
        params.p_cost(),
        BASE64_STANDARD_NO_PAD.encode(salt),
        BASE64_STANDARD_NO_PAD.encode(hash),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn config() -> config::Passwords {
        config::Passwords {
            min_length: 8,
            min_strength: 3,
            blocklist_file: None,
            breached_folder: None,
            memory_kib: 256,
            iterations: 1,
            parallelism: 1,
            permits: 1,
            queue: 256,
            queue_timeout: Duration::from_secs(30),
        }
    }

    fn hasher(config: &config::Passwords) -> Hasher {
        Hasher::new(config, Histogram::new([])).unwrap()
    }

    /// A hasher whose only worker is busy until the returned sender is dropped.
    async fn busy(config: &config::Passwords) -> (Hasher, std::sync::mpsc::Sender<()>) {
        let hasher = hasher(config);
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (started, has_started) = oneshot::channel();
        let other = hasher.clone();
        tokio::spawn(async move {
            let job = move |_: &Shared, _: &mut Vec<Block>| {
                let _ = started.send(());
                let _ = released.recv();
            };
            other.run(job).await
        });
        has_started.await.unwrap();
        (hasher, release)
    }

    #[tokio::test]
    async fn a_hash_matches_only_its_password() {
        let hasher = hasher(&config());
        let phc = hasher.hash("sunny kettle", &Rng::system()).await.unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=256,t=1,p=1$"), "{phc}");
        let again = hasher.hash("sunny kettle", &Rng::system()).await.unwrap();
        assert_ne!(phc, again);
        assert_eq!(hasher.verify("sunny kettle", Some(&phc)).await, Ok(Verdict::Right));
        assert_eq!(hasher.verify("sunny kettlf", Some(&phc)).await, Ok(Verdict::Wrong));
        assert_eq!(hasher.verify("", Some(&phc)).await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn passwords_are_not_truncated_and_are_compared_in_nfkc() {
        let hasher = hasher(&config());
        let long = "x".repeat(1023);
        let phc = hasher.hash(&format!("{long}a"), &Rng::system()).await.unwrap();
        assert_eq!(hasher.verify(&format!("{long}a"), Some(&phc)).await, Ok(Verdict::Right));
        assert_eq!(hasher.verify(&format!("{long}b"), Some(&phc)).await, Ok(Verdict::Wrong));
        let phc = hasher.hash("cafe\u{301} ﬁ", &Rng::system()).await.unwrap();
        assert_eq!(hasher.verify("caf\u{e9} fi", Some(&phc)).await, Ok(Verdict::Right));
    }

    #[tokio::test]
    async fn known_and_unknown_users_cost_one_hash_and_a_megabyte_none() {
        let hasher = hasher(&config());
        let phc = hasher.hash("sunny kettle", &Rng::system()).await.unwrap();
        let before = hasher.hashes();
        assert_eq!(hasher.verify("wrong", Some(&phc)).await, Ok(Verdict::Wrong));
        assert_eq!(hasher.hashes(), before + 1);
        assert_eq!(hasher.verify("wrong", None).await, Ok(Verdict::Wrong));
        assert_eq!(hasher.hashes(), before + 2);
        let megabyte = "x".repeat(1 << 20);
        assert_eq!(hasher.verify(&megabyte, Some(&phc)).await, Ok(Verdict::Wrong));
        assert_eq!(hasher.verify(&megabyte, None).await, Ok(Verdict::Wrong));
        let refused = hasher.hash(&megabyte, &Rng::system()).await;
        assert_eq!(refused, Err(PasswordError::Internal));
        assert_eq!(hasher.hashes(), before + 2);
    }

    #[tokio::test]
    async fn a_hash_with_other_parameters_matches_and_is_outdated() {
        let old = hasher(&config::Passwords { memory_kib: 512, iterations: 2, ..config() });
        let phc = old.hash("sunny kettle", &Rng::system()).await.unwrap();
        let hasher = hasher(&config());
        assert_eq!(hasher.verify("sunny kettle", Some(&phc)).await, Ok(Verdict::RightButOutdated));
        assert_eq!(hasher.verify("other", Some(&phc)).await, Ok(Verdict::Wrong));
        // From the reference implementation.
        let reference =
            "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA";
        assert_eq!(hasher.verify("password", Some(reference)).await, Ok(Verdict::RightButOutdated));
    }

    #[tokio::test]
    async fn excessive_or_broken_stored_hashes_are_not_computed() {
        let hasher = hasher(&config());
        for phc in [
            "",
            "not a hash",
            "$2b$12$abcdefghijklmnopqrstuv",
            "$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            "$argon2id$v=19$m=4194304,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=262144,t=4000000000,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=256,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(hasher.verify("x", Some(phc)).await, Err(PasswordError::Internal));
        }
        assert_eq!(hasher.hashes(), 0);
    }

    #[tokio::test]
    async fn requests_beyond_the_queue_fail_at_once() {
        let (hasher, release) = busy(&config::Passwords { queue: 3, ..config() }).await;
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let hasher = hasher.clone();
                tokio::spawn(async move { hasher.verify("x", None).await })
            })
            .collect();
        while hasher.waiting() < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(hasher.verify("x", None).await, Err(PasswordError::Overloaded));
        drop(release);
        for task in waiting {
            assert_eq!(task.await.unwrap(), Ok(Verdict::Wrong));
        }
        assert_eq!((hasher.waiting(), hasher.hashes()), (0, 3));
    }

    #[tokio::test]
    async fn a_timed_out_request_fails_and_is_not_hashed() {
        let queue_timeout = Duration::from_millis(20);
        let (hasher, release) = busy(&config::Passwords { queue_timeout, ..config() }).await;
        assert_eq!(hasher.verify("x", None).await, Err(PasswordError::Overloaded));
        assert_eq!(hasher.waiting(), 0);
        drop(release);
        assert_eq!(hasher.verify("x", None).await, Ok(Verdict::Wrong));
        assert_eq!(hasher.hashes(), 1);
    }

    #[tokio::test]
    async fn a_cancelled_request_gives_up_its_place() {
        let (hasher, release) = busy(&config::Passwords { queue: 1, ..config() }).await;
        for _ in 0..10 {
            let other = hasher.clone();
            let task = tokio::spawn(async move { other.verify("x", None).await });
            while hasher.waiting() < 1 {
                tokio::task::yield_now().await;
            }
            task.abort();
            assert!(task.await.is_err());
            assert_eq!(hasher.waiting(), 0);
        }
        drop(release);
        assert_eq!(hasher.verify("x", None).await, Ok(Verdict::Wrong));
        assert_eq!(hasher.hashes(), 1);
    }

    #[tokio::test]
    async fn a_panic_fails_only_its_own_request() {
        let hasher = hasher(&config());
        let failed = hasher.run(|_, _| panic!("on purpose")).await;
        assert_eq!(failed, Err::<(), _>(PasswordError::Internal));
        assert_eq!(hasher.verify("x", None).await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn the_policy_is_checked_on_the_same_workers() {
        let hasher = hasher(&config());
        let policy = Arc::new(Policy::new(&config()).unwrap());
        assert!(hasher.check(&policy, "password1", &[]).await.unwrap().is_err());
        let checked = hasher.check(&policy, "sunny-kettle-42-orbit", &["alice"]).await;
        assert_eq!(checked, Ok(Ok(())));
    }
}
