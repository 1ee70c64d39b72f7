//! Passwords: what may be one, and Argon2id (RFC 9106) off the async threads.
//!
//! Hashing runs on a fixed set of threads, each with memory of its own that it keeps for the next hash
//! (page faults are half the cost of a fresh one). What waits is counted: memory never exceeds
//! threads × `passwords.memory_kib`, and a flood is refused instead of growing a queue.

mod policy;

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use argon2::{Algorithm, Argon2, Block, Params, PasswordHash, Version};
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use prometheus_client::metrics::histogram::Histogram;
use subtle::ConstantTimeEq;
use tokio::sync::oneshot;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

pub use self::policy::{BlocklistError, Policy};
use crate::{clock::Rng, config};

/// The longest password, in bytes as sent. Longer ones are refused before anything costly is done.
pub const MAX_BYTES: usize = 1024;

/// The most that a stored hash may ask for when it asks for more than the configuration does.
const MAX_FOREIGN_MEMORY_KIB: u32 = 256 * 1024;
const MAX_FOREIGN_WORK_KIB: u64 = 4 * 1024 * 1024;

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// How long a thread without work keeps its memory.
const KEEP_MEMORY: Duration = Duration::from_secs(60);

/// Passwords in use are compared and hashed in NFKC, so that every keyboard's way to write one is the same.
fn normalised(password: &str) -> Zeroizing<String> {
    // Room for the greatest growth that NFKC knows (U+FDFA: 3 bytes to 33), so that no copy is left behind by a move.
    let room = if password.is_ascii() { 1 } else { 11 };
    let mut text = Zeroizing::new(String::with_capacity(password.len() * room));
    text.extend(password.nfkc());
    text
}

/// Whether a password is the one that a hash was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Right,
    /// It is, and the hash has other parameters than the configured ones: hash it anew.
    RightButOutdated,
    Wrong,
}

/// Why there is no hash and no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// `passwords.queue` others wait already, or this one waited for `passwords.queue_timeout`.
    #[error("too many passwords are waiting to be hashed; try again in a few seconds")]
    Overloaded,
    /// A stored hash that cannot be used, or a password over [`MAX_BYTES`] that was to be hashed.
    #[error("the password could not be processed")]
    Internal,
}

/// Hashes and verifies passwords on threads of its own. Clones share them.
#[derive(Clone)]
pub struct Hasher(Arc<Inner>);

/// The last clone's end lets the threads end.
struct Inner {
    shared: Arc<Shared>,
    /// A hash with the configured parameters that no password has, for users that do not exist.
    dummy: Arc<str>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.ready.notify_all();
    }
}

struct Shared {
    params: Params,
    threads: usize,
    max_waiting: usize,
    timeout: Duration,
    queue: Mutex<Queue>,
    ready: Condvar,
    hashes: AtomicU64,
    duration: Histogram,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(u64, Job)>,
    running: usize,
    next: u64,
    closed: bool,
}

type Job = Box<dyn FnOnce(&Shared, &mut Vec<Block>) + Send>;

/// A place in the queue, given up when the one who waits goes away.
struct Ticket<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Ticket<'_> {
    /// Whether the job was still waiting; it will not run then.
    fn withdraw(&self) -> bool {
        let mut queue = self.shared.queue();
        // Ids ascend along the queue.
        let at = queue.waiting.binary_search_by_key(&self.id, |(id, _)| *id);
        let job = at.ok().and_then(|at| queue.waiting.remove(at));
        drop(queue);
        job.is_some()
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl Hasher {
    /// Starts the threads. `duration` takes the seconds that each hash costs, without the waiting.
    ///
    /// # Errors
    /// Where the parameters are none that Argon2 knows, or a thread cannot be started.
    pub fn new(
        config: &config::Passwords,
        duration: Histogram,
    ) -> Result<Self, HasherError> {
        let params =
            Params::new(config.memory_kib, config.iterations, config.parallelism, Some(HASH_BYTES))
                .map_err(HasherError::Params)?;
        let dummy = phc_string(&params, &[0; SALT_BYTES], &[0; HASH_BYTES]).into();
        let threads = config.permits().max(1);
        let inner = Inner {
            shared: Arc::new(Shared {
                params,
                threads,
                max_waiting: config.queue,
                timeout: config.queue_timeout,
                queue: Mutex::default(),
                ready: Condvar::new(),
                hashes: AtomicU64::new(0),
                duration,
            }),
            dummy,
        };
        for _ in 0..threads {
            let shared = inner.shared.clone();
            std::thread::Builder::new()
                .name("argon2".to_owned())
                .spawn(move || shared.work())
                .map_err(HasherError::Thread)?;
        }
        Ok(Self(Arc::new(inner)))
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

    /// Whether `password` is the one behind `phc`. `None` (there is no such user, or one without a
    /// password) costs as much as a hash with the configured parameters and is always
    /// [`Verdict::Wrong`]. More than [`MAX_BYTES`] is wrong at no cost.
    ///
    /// # Errors
    /// [`PasswordError::Overloaded`]; [`PasswordError::Internal`] for a stored hash that is no Argon2 or
    /// asks for absurd amounts of memory or time (and logs why).
    pub async fn verify(
        &self,
        password: &str,
        phc: Option<&str>,
    ) -> Result<Verdict, PasswordError> {
        if password.len() > MAX_BYTES {
            return Ok(Verdict::Wrong);
        }
        let password = normalised(password);
        let is_known = phc.is_some();
        let phc: Arc<str> = phc.map_or_else(|| self.0.dummy.clone(), Into::into);
        self.run(move |shared, memory| {
            let verdict = shared.verify(&password, &phc, memory)?;
            Some(if is_known { verdict } else { Verdict::Wrong })
        })
        .await?
        .ok_or(PasswordError::Internal)
    }

    /// [`Policy::check`], on these threads.
    ///
    /// # Errors
    /// [`PasswordError::Overloaded`]; within, what [`Policy::check`] has to say.
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

    /// How many wait for a thread.
    pub fn waiting(&self) -> usize {
        self.0.shared.queue().waiting.len()
    }

    /// How many hashes were computed since the start.
    pub fn hashes(&self) -> u64 {
        self.0.shared.hashes.load(Ordering::Relaxed)
    }

    /// Runs `job` on one of the threads. First come, first served; not at all where the caller goes
    /// away before its turn.
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Shared, &mut Vec<Block>) -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let shared = &*self.0.shared;
        let (reply, mut answer) = oneshot::channel();
        let ticket = shared.enqueue(Box::new(move |shared, memory| {
            // An error means that the caller has gone: nobody misses the answer.
            let _ = reply.send(job(shared, memory));
        }))?;
        let answered = match tokio::time::timeout(shared.timeout, &mut answer).await {
            Ok(answered) => answered,
            Err(_) if ticket.withdraw() => return Err(PasswordError::Overloaded),
            // Its turn came in time.
            Err(_) => answer.await,
        };
        answered.map_err(|_| PasswordError::Internal)
    }
}

/// The hasher cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum HasherError {
    #[error(
        "passwords.memory_kib, passwords.iterations and passwords.parallelism make no Argon2: {0}. Use at least 8 KiB of memory for each lane, one pass and one lane"
    )]
    Params(argon2::Error),
    #[error("a thread for hashing passwords cannot be started: {0}. Lower passwords.permits")]
    Thread(std::io::Error),
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, job: Job) -> Result<Ticket<'_>, PasswordError> {
        let mut queue = self.queue();
        if queue.waiting.len() + queue.running >= self.threads.saturating_add(self.max_waiting) {
            return Err(PasswordError::Overloaded);
        }
        let id = queue.next;
        queue.next += 1;
        queue.waiting.push_back((id, job));
        drop(queue);
        self.ready.notify_one();
        Ok(Ticket { shared: self, id })
    }

    /// One thread's life.
    fn work(&self) {
        let mut memory = Vec::new();
        let mut queue = self.queue();
        loop {
            if let Some((_, job)) = queue.waiting.pop_front() {
                queue.running += 1;
                drop(queue);
                // A panic has been reported by its hook; its caller gets `Internal`, the thread lives on.
                let _ = catch_unwind(AssertUnwindSafe(|| job(self, &mut memory)));
                queue = self.queue();
                queue.running -= 1;
            } else if queue.closed {
                return;
            } else {
                let (guard, waited) = self
                    .ready
                    .wait_timeout(queue, KEEP_MEMORY)
                    .unwrap_or_else(PoisonError::into_inner);
                queue = guard;
                if waited.timed_out() {
                    memory = Vec::new();
                }
            }
        }
    }

    /// One hash. `None` where Argon2 refuses, with a line in the log.
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
            // First the old one, or both would be held for a moment.
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
        self.duration.observe(start.elapsed().as_secs_f64());
        self.hashes.fetch_add(1, Ordering::Relaxed);
        // A stored hash may have needed more than the configuration grants.
        let granted = self.params.block_count();
        if memory.len() > granted {
            memory.truncate(granted);
            memory.shrink_to_fit();
        }
        match hashed {
            Ok(()) => Some(hash),
            Err(error) => {
                tracing::error!(%error, "a password could not be hashed");
                None
            }
        }
    }

    /// Verifies with the stored hash's own parameters. `None` where the hash cannot be used.
    fn verify(&self, password: &str, phc: &str, memory: &mut Vec<Block>) -> Option<Verdict> {
        let stored = match Stored::parse(phc, &self.params) {
            Ok(stored) => stored,
            Err(why) => {
                tracing::error!(
                    "a stored password hash cannot be used: {why}. Set that user's password anew"
                );
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

/// A stored hash, taken apart.
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
        let parsed = PasswordHash::new(phc).map_err(|_| "it is no PHC string")?;
        let algorithm = Algorithm::new(parsed.algorithm.as_str()).map_err(|_| "it is no Argon2")?;
        // No version means 0x10, by the reference implementation.
        let version = Version::try_from(parsed.version.unwrap_or(0x10))
            .map_err(|_| "its Argon2 version is unknown")?;
        let params =
            Params::try_from(&parsed).map_err(|_| "its Argon2 parameters are impossible")?;
        let (Some(salt), Some(hash)) = (&parsed.salt, &parsed.hash) else {
            return Err("it lacks its salt or its hash");
        };
        let is_current = algorithm == Algorithm::Argon2id
            && version == Version::V0x13
            && params == *current
            && salt.len() == SALT_BYTES;
        let work = |params: &Params| u64::from(params.m_cost()) * u64::from(params.t_cost());
        if params.m_cost() > MAX_FOREIGN_MEMORY_KIB.max(current.m_cost()) {
            return Err("it asks for too much memory");
        }
        if work(&params) > MAX_FOREIGN_WORK_KIB.max(work(current)) {
            return Err("it asks for too many passes");
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

    /// A hasher whose one thread is busy until the returned sender is dropped.
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
    async fn a_hash_verifies_its_password_and_no_other() {
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
    async fn nothing_is_cut_at_72_bytes_and_keyboards_agree() {
        let hasher = hasher(&config());
        let long = "x".repeat(1023);
        let phc = hasher.hash(&format!("{long}a"), &Rng::system()).await.unwrap();
        assert_eq!(hasher.verify(&format!("{long}a"), Some(&phc)).await, Ok(Verdict::Right));
        assert_eq!(hasher.verify(&format!("{long}b"), Some(&phc)).await, Ok(Verdict::Wrong));
        let phc = hasher.hash("cafe\u{301} ﬁ", &Rng::system()).await.unwrap();
        assert_eq!(hasher.verify("caf\u{e9} fi", Some(&phc)).await, Ok(Verdict::Right));
    }

    #[tokio::test]
    async fn known_and_unknown_users_cost_the_same_and_a_megabyte_costs_nothing() {
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
    async fn a_hash_with_other_parameters_verifies_and_is_outdated() {
        let old = hasher(&config::Passwords { memory_kib: 512, iterations: 2, ..config() });
        let phc = old.hash("sunny kettle", &Rng::system()).await.unwrap();
        let hasher = hasher(&config());
        assert_eq!(hasher.verify("sunny kettle", Some(&phc)).await, Ok(Verdict::RightButOutdated));
        assert_eq!(hasher.verify("other", Some(&phc)).await, Ok(Verdict::Wrong));
        // Made by the reference implementation.
        let reference =
            "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA";
        assert_eq!(hasher.verify("password", Some(reference)).await, Ok(Verdict::RightButOutdated));
    }

    #[tokio::test]
    async fn a_stored_hash_that_is_absurd_or_broken_is_not_tried() {
        let hasher = hasher(&config());
        for phc in [
            "",
            "not a hash",
            "$2b$12$abcdefghijklmnopqrstuv",
            "$argon2id$v=19$m=4194304,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=262144,t=4000000000,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=256,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(hasher.verify("x", Some(phc)).await, Err(PasswordError::Internal));
        }
        assert_eq!(hasher.hashes(), 0);
    }

    #[tokio::test]
    async fn more_than_the_queue_holds_are_refused_at_once() {
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
    async fn who_waits_too_long_is_refused_and_no_longer_hashed() {
        let queue_timeout = Duration::from_millis(20);
        let (hasher, release) = busy(&config::Passwords { queue_timeout, ..config() }).await;
        assert_eq!(hasher.verify("x", None).await, Err(PasswordError::Overloaded));
        assert_eq!(hasher.waiting(), 0);
        drop(release);
        assert_eq!(hasher.verify("x", None).await, Ok(Verdict::Wrong));
        assert_eq!(hasher.hashes(), 1);
    }

    #[tokio::test]
    async fn who_goes_away_gives_up_the_place() {
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
    async fn a_panic_fails_its_caller_alone() {
        let hasher = hasher(&config());
        let failed = hasher.run(|_, _| panic!("on purpose")).await;
        assert_eq!(failed, Err::<(), _>(PasswordError::Internal));
        assert_eq!(hasher.verify("x", None).await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn the_policy_is_asked_on_the_same_threads() {
        let hasher = hasher(&config());
        let policy = Arc::new(Policy::new(&config()).unwrap());
        assert!(hasher.check(&policy, "password1", &[]).await.unwrap().is_err());
        let checked = hasher.check(&policy, "sunny-kettle-42-orbit", &["alice"]).await;
        assert_eq!(checked, Ok(Ok(())));
    }
}
