//! Keys: generation, encryption under the master key, rotation and publication.
//!
//! States: next → active → retired; any of them → banned. A signing key is published from its
//! creation until the last token it signed has expired. Every process has a [`Ring`] of keys in
//! memory and reloads it when the version of the keys changes (see [`crate::revocation`]).
//!
//! Without an active key, the oldest next one is used: the clock was ahead when it was created, or
//! is behind now.
//!
//! **Every JWKS has a key before it signs**, though a JWKS is published from memory (ADR 24). A
//! process publishes the keys of a sync that began at most [`JWKS_LEASE`] before the request
//! arrived, and signs with keys that it has known for the settling time: that lease and, with
//! Redis, the longest trust in a replica that lacks the newest commit. What is known was committed,
//! so every sync that a JWKS relies on, once a key has signed, sees the key. Both durations are
//! measured by monotonic clocks, each within one process. Keys that were created a minute ago have
//! settled: wall clocks differ by less.

mod master;
mod pem;
mod service_key;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use josekit::{
    JoseError,
    jwk::{
        Jwk,
        alg::{ec::EcCurve, ed::EdCurve},
    },
    jws::{self, JwsSigner, JwsVerifier},
};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use self::master::MasterKey;
pub use self::service_key::ServiceKey;
use crate::{
    clock::{Clock, Rng, Timestamp},
    config::Config,
    jose,
    model::{
        actor::Actor,
        key::{KeyAlgorithm, KeyRecord, KeyState, SigningAlgorithm},
        revocation::NewRevocation,
    },
    oauth::{
        jwt::{self, TokenType},
        refresh_token::ChainKey,
    },
    storage::{
        self, AuditedTx, Db, change_counters,
        idempotency::{self, Call, Claim},
        keys as rows,
    },
};

/// How long a process publishes the keys of one sync as its JWKS.
pub const JWKS_LEASE: Duration = Duration::from_millis(100);

/// The age from which a key has settled by its creation time. Clocks may differ by 30 seconds
/// (docs/operation.md).
const SETTLED: Duration = Duration::from_secs(60);

/// Why a key operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Storage(#[from] storage::Error),
    #[error("josekit: {0}")]
    Jose(#[from] JoseError),
    /// What is wrong with the master key, and how to fix it.
    #[error("{0}")]
    MasterKey(String),
    /// The operation is not possible for this key.
    #[error("{0}")]
    Refused(String),
    /// There is no active key for this purpose.
    #[error("no usable key: {0}")]
    Missing(&'static str),
    #[error("claims cannot be serialised: {0}")]
    Encoding(#[from] serde_json::Error),
}

/// All keys of this process.
#[derive(Debug)]
pub struct Keys {
    ring: RwLock<Arc<Ring>>,
    master: MasterKey,
    config: crate::config::Keys,
    /// Permits for RSA signatures, one per core: each takes 0.4 ms and runs on a blocking thread.
    rsa: Arc<Semaphore>,
    /// How long a key is known before it signs, and after which no JWKS has a banned one.
    settling_time: Duration,
}

/// A rotation that an operator asks for.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    /// One algorithm; `None`: every one in `keys.algorithms`.
    pub only: Option<SigningAlgorithm>,
    /// Whether the new keys sign at once, instead of after `keys.publish_ahead`.
    pub at_once: bool,
    /// A retry of the same call generates nothing.
    pub call: Option<Call>,
}

/// A signing key that an operator imports.
pub struct NewKey<'a> {
    pub algorithm: SigningAlgorithm,
    /// The private key.
    pub pem: &'a [u8],
    /// Whether it signs at once, instead of after `keys.publish_ahead`.
    pub at_once: bool,
}

/// The keys at one version.
#[derive(Debug)]
pub struct Ring {
    /// The version of the keys at which it was read.
    pub version: i64,
    /// The published JWKS.
    pub jwks: Jwks,
    pub records: Vec<KeyRecord>,
    signers: Vec<Arc<Signer>>,
    verifiers: HashMap<String, Verifier>,
    chain: Vec<(KeyRecord, ChainKey)>,
    derivation: Option<Zeroizing<[u8; 32]>>,
}

/// A JWKS (RFC 7517 §5) with its response headers.
#[derive(Clone, Debug)]
pub struct Jwks {
    pub body: Bytes,
    /// A strong entity tag.
    pub etag: HeaderValue,
    /// `Cache-Control`
    pub cache_control: HeaderValue,
}

#[derive(Debug)]
struct Signer {
    record: KeyRecord,
    algorithm: SigningAlgorithm,
    /// Encoded headers, in the order of [`TokenType::ALL`].
    headers: [String; TokenType::ALL.len()],
    signer: Box<dyn JwsSigner>,
    /// Since when this process has known the key; `None`: it has settled.
    known_since: Option<Instant>,
}

#[derive(Debug)]
struct Verifier {
    algorithm: SigningAlgorithm,
    verifier: Box<dyn JwsVerifier>,
}

impl Keys {
    /// Reads the master key, generates missing keys and loads them. `replica_lease`: how long
    /// another process may trust a replica of the change counters that lacks the newest commit.
    ///
    /// # Errors
    /// [`Error::MasterKey`]; [`Error::Storage`].
    pub async fn open(
        config: &Config,
        db: &Db,
        clock: &Clock,
        rng: &Rng,
        replica_lease: Duration,
    ) -> Result<Self, Error> {
        let fresh = rows::all(db).await?.is_empty();
        let master = MasterKey::load(&config.master_key_path(), fresh, rng)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let keys = Self {
            ring: RwLock::new(Arc::new(Ring::empty(&config.keys)?)),
            master,
            config: config.keys.clone(),
            rsa: Arc::new(Semaphore::new(cores)),
            settling_time: JWKS_LEASE + replica_lease,
        };
        keys.maintain(db, clock, rng).await?;
        keys.reload(db, clock.now()).await?;
        Ok(keys)
    }

    /// Creates the master key of a database without keys, unless its file is configured: that one
    /// is given to every process, and may not be on this machine.
    ///
    /// # Errors
    /// [`Error::MasterKey`]; [`Error::Storage`].
    pub async fn create_master_key(config: &Config, db: &Db, rng: &Rng) -> Result<(), Error> {
        if config.secrets.master_key_file.is_none() && rows::all(db).await?.is_empty() {
            MasterKey::load(&config.master_key_path(), true, rng)?;
        }
        Ok(())
    }

    /// The current ring of this process.
    pub fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reloads the ring.
    ///
    /// # Errors
    /// [`Error::Storage`]; [`Error::MasterKey`] if a key cannot be decrypted.
    pub async fn reload(&self, db: &Db, now: Timestamp) -> Result<(), Error> {
        // The version is read first: a change between the two reads leads to another reload.
        let version = change_counters::read(db).await?.keys;
        let records = rows::all(db).await?;
        let known = self.ring();
        let ring = Ring::new(version, records, &known, &self.master, &self.config, now)?;
        let mut current = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        // A concurrent reload may have stored a newer ring.
        if current.version <= ring.version {
            *current = Arc::new(ring);
        }
        Ok(())
    }

    /// Runs due rotation tasks: generates missing keys, publishes the next ones in time and removes
    /// obsolete ones. Safe to run in several processes at once.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn maintain(&self, db: &Db, clock: &Clock, rng: &Rng) -> Result<(), Error> {
        let now = clock.now();
        let tasks = self.due_tasks(&rows::all(db).await?, now);
        if tasks.is_empty() {
            return Ok(());
        }
        // RSA keys are slow to generate: before the transaction, and discarded if another process
        // was first.
        let generated = tasks
            .iter()
            .map(|task| task.generate(&self.master, rng))
            .collect::<Result<Vec<_>, _>>()?;
        let mut tx = db.begin().await?;
        let mut records = rows::lock(&mut tx).await?;
        // Otherwise another process has done it.
        if self.due_tasks(&records, now) == tasks {
            for (task, key) in tasks.iter().zip(generated) {
                apply(&mut tx, &mut records, task, key, now).await?;
            }
        }
        tx.commit().await?;
        self.reload(db, now).await
    }

    fn due_tasks(&self, records: &[KeyRecord], now: Timestamp) -> Vec<RotationTask> {
        tasks_due(&self.config, records, now)
    }

    /// Rotates signing keys; returns whether this is the first call with its idempotency key. Keys
    /// that are to sign at once have settled then.
    ///
    /// # Errors
    /// [`Error::Refused`] if the algorithm is not configured; [`Error::Storage`].
    pub async fn rotate(
        &self,
        db: &Db,
        clock: &Clock,
        rng: &Rng,
        rotation: Rotation,
        by: &Actor,
    ) -> Result<Claim, Error> {
        let Rotation { only, at_once, call } = rotation;
        let now = clock.now();
        let activates_at = if at_once { now } else { now + self.config.publish_ahead };
        let wanted = self
            .config
            .algorithms
            .iter()
            .copied()
            .filter(|a| only.is_none_or(|only| only.of_key() == *a));
        let tasks: Vec<_> = wanted
            .map(|algorithm| RotationTask::Create {
                algorithm: KeyAlgorithm::Sign(algorithm),
                activates_at,
            })
            .collect();
        if tasks.is_empty() {
            return Err(Error::Refused("the algorithm is not in keys.algorithms".to_owned()));
        }
        let generated = tasks
            .iter()
            .map(|task| task.generate(&self.master, rng))
            .collect::<Result<Vec<_>, _>>()?;
        let mut tx = AuditedTx::begin(db, clock, rng, by).await?;
        let now = tx.now();
        let mut records = rows::lock(&mut tx).await?;
        let claim = match &call {
            Some(call) => idempotency::claim(&mut tx, call, "keys", now).await?,
            None => Claim::First,
        };
        if claim == Claim::First {
            for (task, key) in tasks.iter().zip(generated) {
                apply(&mut tx, &mut records, task, key, now).await?;
            }
            tx.audit("keys.rotate", None, json!({ "atOnce": at_once })).await?;
        }
        tx.commit().await?;
        self.reload(db, now).await?;
        if at_once {
            tokio::time::sleep(self.settling_time).await;
        }
        Ok(claim)
    }

    /// Imports a signing key of another system as PEM, for verifiers that know it already; returns its
    /// `kid`, the thumbprint. It is published now and signs after `keys.publish_ahead`, or at once.
    ///
    /// # Errors
    /// [`Error::Refused`] for a key that is not fit for the algorithm, one that exists, and an
    /// algorithm that is not configured; [`Error::Storage`].
    pub async fn import(
        &self,
        db: &Db,
        clock: &Clock,
        rng: &Rng,
        new: NewKey<'_>,
        by: &Actor,
    ) -> Result<String, Error> {
        let NewKey { algorithm, pem, at_once } = new;
        let algorithm = algorithm.of_key();
        if !self.config.algorithms.contains(&algorithm) {
            return Err(Error::Refused(format!(
                "{} is not in keys.algorithms: add it there first",
                algorithm.as_str()
            )));
        }
        let generated = sealed(algorithm, &pem::private_key(algorithm, pem)?, &self.master)?;
        let kid = generated.0.clone();
        let mut tx = AuditedTx::begin(db, clock, rng, by).await?;
        let now = tx.now();
        let mut records = rows::lock(&mut tx).await?;
        if let Some(known) = records.iter().find(|key| key.id == kid) {
            let algorithm = known.algorithm.as_str();
            return Err(Error::Refused(if known.banned_at.is_some() {
                format!("the key is here already and banned: {kid} ({algorithm}) never signs again")
            } else {
                format!("the key is here already: {kid} ({algorithm}); see `propusk keys list`")
            }));
        }
        let activates_at = if at_once { now } else { now + self.config.publish_ahead };
        let task = RotationTask::Create { algorithm: KeyAlgorithm::Sign(algorithm), activates_at };
        apply(&mut tx, &mut records, &task, Some(generated), now).await?;
        let detail = json!({ "algorithm": algorithm.as_str(), "atOnce": at_once });
        tx.audit("keys.import", Some(&kid), detail).await?;
        tx.commit().await?;
        self.reload(db, now).await?;
        if at_once {
            tokio::time::sleep(self.settling_time).await;
        }
        Ok(kid)
    }

    /// The public half of a signing key as PEM, for verifiers that cannot read a JWKS.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such signing key, or it is banned.
    pub fn public_pem(&self, kid: &str) -> Result<String, Error> {
        let ring = self.ring();
        let Some(key) = ring.records.iter().find(|key| key.id == kid) else {
            return Err(Error::Refused(format!(
                "no key has the id {kid}: see `propusk keys list`"
            )));
        };
        if key.banned_at.is_some() {
            return Err(Error::Refused(format!("key {kid} is banned: nobody may trust it")));
        }
        let Some(public) = &key.public_jwk else {
            return Err(Error::Refused("only signing keys have a public half".to_owned()));
        };
        pem::public_pem(&Jwk::from_bytes(public)?)
    }

    /// Bans a compromised signing key. After the commit every process rejects its tokens at the
    /// next check, and another key signs. No JWKS that is requested after the return has it.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such signing key, or it is banned already.
    pub async fn ban(
        &self,
        db: &Db,
        clock: &Clock,
        rng: &Rng,
        kid: &str,
        by: &Actor,
    ) -> Result<(), Error> {
        let now = clock.now();
        let records = rows::all(db).await?;
        let Some(key) = records.iter().find(|key| key.id == kid) else {
            return Err(Error::Refused(format!(
                "no key has the id {kid}: see `propusk keys list`"
            )));
        };
        let KeyAlgorithm::Sign(_) = key.algorithm else {
            return Err(Error::Refused("only signing keys can be banned".to_owned()));
        };
        if key.banned_at.is_some() {
            return Err(Error::Refused(format!("key {kid} is already banned")));
        }
        let replacement = RotationTask::Create { algorithm: key.algorithm, activates_at: now };
        let generated = replacement.generate(&self.master, rng)?;
        let mut tx = AuditedTx::begin(db, clock, rng, by).await?;
        let now = tx.now();
        let mut records = rows::lock(&mut tx).await?;
        // Otherwise it was banned in the meantime.
        if let Some(key) = records.iter_mut().find(|key| key.id == kid && key.banned_at.is_none()) {
            let (algorithm, state, at) = (key.algorithm, key.state(now), key.activates_at);
            key.banned_at = Some(now);
            rows::update(&mut tx, key).await?;
            if state == KeyState::Next {
                extend_predecessor(&mut tx, &mut records, algorithm, at, now).await?;
            }
            let signs =
                |key: &KeyRecord| key.algorithm == algorithm && key.state(now) == KeyState::Active;
            if !records.iter().any(signs) {
                apply(&mut tx, &mut records, &replacement, generated, now).await?;
            }
            tx.audit("keys.ban", Some(kid), Value::Null).await?;
            tx.revoke(vec![NewRevocation::Key(kid.to_owned())], "key_banned").await?;
        }
        tx.commit().await?;
        self.reload(db, now).await?;
        tokio::time::sleep(self.settling_time).await;
        Ok(())
    }

    /// What has no active key, so that no tokens can be issued: a configured algorithm, or the
    /// refresh tokens.
    pub fn missing(&self, now: Timestamp) -> Option<&'static str> {
        let ring = self.ring();
        let mut algorithms = self.config.algorithms.iter();
        algorithms
            .find(|algorithm| ring.signer(**algorithm, now).is_none())
            .map(|algorithm| algorithm.as_str())
            .or_else(|| ring.chain_key(now).is_none().then_some("refresh tokens"))
    }

    /// Since when the key of each algorithm signs, and when the next one takes over.
    pub fn schedule(&self, now: Timestamp) -> Vec<(SigningAlgorithm, Timestamp, Timestamp)> {
        let ring = self.ring();
        let in_state = |algorithm, state| {
            let keys = ring.records.iter().filter(move |key| {
                key.algorithm == KeyAlgorithm::Sign(algorithm) && key.state(now) == state
            });
            keys.map(|key| key.activates_at)
        };
        let scheduled = self.config.algorithms.iter().filter_map(|&algorithm| {
            let since = in_state(algorithm, KeyState::Active).max()?;
            let next = in_state(algorithm, KeyState::Next).min();
            Some((algorithm, since, next.unwrap_or(since + self.config.rotate_every)))
        });
        scheduled.collect()
    }

    /// Derives a key for a purpose: the same one in every process, permanently.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn derive(&self, purpose: &str) -> Result<[u8; 32], Error> {
        let ring = self.ring();
        let root = ring.derivation.as_ref().ok_or(Error::Missing("derivation"))?;
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&**root).map_err(|_| Error::Missing("derivation"))?;
        mac.update(purpose.as_bytes());
        Ok(mac.finalize().into_bytes().into())
    }

    /// Encrypts a secret that is not one of these keys under the master key, for the row with this
    /// name.
    ///
    /// # Errors
    /// [`Error::Jose`].
    pub fn seal(&self, name: &str, secret: &[u8]) -> Result<String, Error> {
        self.master.seal(name, secret)
    }

    /// Decrypts what [`Keys::seal`] has encrypted for the row with this name.
    ///
    /// # Errors
    /// [`Error::MasterKey`] for what another master key, or another row, has encrypted.
    pub fn unseal(&self, name: &str, jwe: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.master.open(name, jwe)
    }

    /// Signs the claims of a token. The first token of a key that was created a moment ago, because
    /// there was no other, waits until the key has settled.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no key of this algorithm.
    pub async fn sign(
        &self,
        kind: TokenType,
        claims: &impl Serialize,
        algorithm: SigningAlgorithm,
        now: Timestamp,
    ) -> Result<String, Error> {
        let signer = loop {
            let ring = self.ring();
            let signer = ring.signer(algorithm.of_key(), now);
            let signer = signer.ok_or(Error::Missing(algorithm.as_str()))?;
            let known_for = signer.known_since.map(|since| since.elapsed());
            match known_for.and_then(|known_for| self.settling_time.checked_sub(known_for)) {
                None => break Arc::clone(signer),
                // It may be banned meanwhile.
                Some(wait) => tokio::time::sleep(wait).await,
            }
        };
        let message = if algorithm == signer.algorithm {
            jwt::signing_input(&signer.headers[kind as usize], claims)?
        } else {
            let header = jwt::encoded_header(algorithm.as_str(), &signer.record.id, kind);
            jwt::signing_input(&header, claims)?
        };
        let signature = match algorithm {
            SigningAlgorithm::Es256 | SigningAlgorithm::EdDsa | SigningAlgorithm::Ed25519 => {
                signer.signer.sign(message.as_bytes())?
            }
            SigningAlgorithm::Rs256 | SigningAlgorithm::Ps256 => {
                let permit = Arc::clone(&self.rsa).acquire_owned().await;
                let copy = message.clone();
                tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    signer.signer.sign(copy.as_bytes())
                })
                .await
                .map_err(|_| Error::Missing("a signing thread"))??
            }
        };
        Ok(jwt::with_signature(message, &signature))
    }
}

impl Jwks {
    fn new(keys: &[Jwk], config: &crate::config::Keys) -> Result<Self, Error> {
        let keys: Vec<&serde_json::Map<String, Value>> = keys.iter().map(AsRef::as_ref).collect();
        let body = serde_json::to_vec(&json!({ "keys": keys }))?;
        let header = |text: String| {
            HeaderValue::try_from(text).map_err(|_| Error::Missing("the JWKS's headers"))
        };
        Ok(Self {
            etag: header(format!("\"{}\"", URL_SAFE_NO_PAD.encode(&Sha256::digest(&body)[..12])))?,
            cache_control: header(format!("public, max-age={}", config.jwks_max_age.as_secs()))?,
            body: body.into(),
        })
    }
}

impl Ring {
    fn empty(config: &crate::config::Keys) -> Result<Self, Error> {
        Ok(Self {
            version: 0,
            jwks: Jwks::new(&[], config)?,
            signers: vec![],
            verifiers: HashMap::new(),
            chain: vec![],
            derivation: None,
            records: vec![],
        })
    }

    /// `records` were read before the call; `known` is the ring until now.
    fn new(
        version: i64,
        records: Vec<KeyRecord>,
        known: &Self,
        master: &MasterKey,
        config: &crate::config::Keys,
        now: Timestamp,
    ) -> Result<Self, Error> {
        // Durations are measured by the real clock, also in tests.
        #[allow(clippy::disallowed_methods)]
        let read_at = Instant::now();
        let known_since = |record: &KeyRecord| {
            let mut known = known.signers.iter().filter(|signer| signer.record.id == record.id);
            match known.next() {
                Some(signer) => signer.known_since,
                None if record.created_at + SETTLED <= now => None,
                None => Some(read_at),
            }
        };
        let mut ring = Self { version, records, ..Self::empty(config)? };
        let mut published = vec![];
        for record in ring.records.iter().filter(|r| r.banned_at.is_none() && !r.is_obsolete(now)) {
            let private = master.open(&record.id, &record.private_jwe)?;
            match (record.algorithm, &record.public_jwk) {
                (KeyAlgorithm::Sign(algorithm), Some(public)) => {
                    let public = Jwk::from_bytes(public)?;
                    let (signer, verifier) =
                        signer_and_verifier(algorithm, &Jwk::from_bytes(&*private)?, &public)?;
                    published.push(public);
                    ring.signers.push(Arc::new(Signer {
                        headers: TokenType::ALL
                            .map(|kind| jwt::encoded_header(algorithm.as_str(), &record.id, kind)),
                        known_since: known_since(record),
                        record: record.clone(),
                        algorithm,
                        signer,
                    }));
                    ring.verifiers.insert(record.id.clone(), Verifier { algorithm, verifier });
                }
                (KeyAlgorithm::RefreshChain, _) => {
                    let number = u32::try_from(record.number)
                        .map_err(|_| Error::Missing("refresh-chain"))?;
                    let key: &[u8; 32] =
                        private[..].try_into().map_err(|_| Error::Missing("refresh-chain"))?;
                    ring.chain.push((record.clone(), ChainKey::new(number, key)));
                }
                (KeyAlgorithm::Derivation, _) => {
                    let key: &[u8; 32] =
                        private[..].try_into().map_err(|_| Error::Missing("derivation"))?;
                    // The oldest one is used, should there ever be two.
                    ring.derivation.get_or_insert(Zeroizing::new(*key));
                }
                (KeyAlgorithm::Sign(_), None) => return Err(Error::Missing("a public key")),
            }
        }
        ring.jwks = Jwks::new(&published, config)?;
        for algorithm in SigningAlgorithm::ALL {
            let early = ring.signer(algorithm, now).map(|signer| &signer.record);
            if let Some(key) = early.filter(|key| key.state(now) != KeyState::Active) {
                tracing::warn!(
                    kid = key.id,
                    active_from = %key.activates_at,
                    "no active signing key: the oldest published one signs; check the system clock"
                );
            }
        }
        Ok(ring)
    }

    fn signer(&self, algorithm: SigningAlgorithm, now: Timestamp) -> Option<&Arc<Signer>> {
        let signers = self.signers.iter().filter(|signer| signer.algorithm == algorithm);
        in_use(signers, |signer| &signer.record, now)
    }

    /// The chain key for new sessions.
    pub fn chain_key(&self, now: Timestamp) -> Option<&ChainKey> {
        in_use(self.chain.iter(), |(record, _)| record, now).map(|(_, key)| key)
    }

    /// The chain key with this number.
    pub fn chain_key_by_number(&self, number: u32) -> Option<&ChainKey> {
        self.chain.iter().map(|(_, key)| key).find(|key| key.number == number)
    }

    /// Whether the signature is valid for the key named by `kid`; `None` if there is no such key.
    pub fn verify(&self, token: &jwt::Unverified<'_>) -> Option<bool> {
        let key = self.verifiers.get(&token.header.kid)?;
        Some(
            // The key determines the algorithm, not the token (RFC 8725 §3.1).
            SigningAlgorithm::parse(&token.header.alg).is_some_and(|a| a.of_key() == key.algorithm)
                && key.verifier.verify(token.message.as_bytes(), &token.signature).is_ok(),
        )
    }
}

/// The newest active key; without one, the oldest next key.
fn in_use<'a, K>(
    mut keys: impl DoubleEndedIterator<Item = &'a K> + Clone,
    record: impl Fn(&K) -> &KeyRecord,
    now: Timestamp,
) -> Option<&'a K> {
    let mut newest_first = keys.clone().rev();
    newest_first
        .find(|key| record(key).state(now) == KeyState::Active)
        .or_else(|| keys.find(|key| record(key).state(now) == KeyState::Next))
}

/// The signer and verifier of a key; built once, because parsing a key costs more than signing.
type SignerAndVerifier = (Box<dyn JwsSigner>, Box<dyn JwsVerifier>);

fn signer_and_verifier(
    algorithm: SigningAlgorithm,
    private: &Jwk,
    public: &Jwk,
) -> Result<SignerAndVerifier, JoseError> {
    Ok((signer(algorithm, private)?, jose::verifier(algorithm, public)?))
}

fn signer(algorithm: SigningAlgorithm, private: &Jwk) -> Result<Box<dyn JwsSigner>, JoseError> {
    Ok(match algorithm {
        SigningAlgorithm::Es256 => Box::new(jws::ES256.signer_from_jwk(private)?),
        SigningAlgorithm::Rs256 => Box::new(jws::RS256.signer_from_jwk(private)?),
        SigningAlgorithm::Ps256 => Box::new(jws::PS256.signer_from_jwk(private)?),
        SigningAlgorithm::EdDsa | SigningAlgorithm::Ed25519 => {
            Box::new(jws::EdDSA.signer_from_jwk(private)?)
        }
    })
}

/// A task of the rotation schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
enum RotationTask {
    Create { algorithm: KeyAlgorithm, activates_at: Timestamp },
    Remove { id: String },
}

/// Id, public JWK and encrypted private key of a new key; `None` for tasks without one.
type GeneratedKey = Option<(String, Option<String>, String)>;

fn tasks_due(
    config: &crate::config::Keys,
    records: &[KeyRecord],
    now: Timestamp,
) -> Vec<RotationTask> {
    let mut tasks = vec![];
    let signing = config.algorithms.iter().copied().map(KeyAlgorithm::Sign);
    for algorithm in signing.chain([KeyAlgorithm::RefreshChain, KeyAlgorithm::Derivation]) {
        let is_live = |key: &&KeyRecord| {
            key.algorithm == algorithm
                && matches!(key.state(now), KeyState::Active | KeyState::Next)
        };
        // A key that becomes active later than any planned one was created by a clock that was
        // ahead: it signs while there is no other, and is replaced.
        let is_early = |key: &&KeyRecord| key.activates_at > now + config.publish_ahead;
        let (early, planned): (Vec<_>, Vec<_>) = records.iter().filter(is_live).partition(is_early);
        match planned.iter().max_by_key(|key| key.activates_at) {
            None if early.is_empty() => {
                tasks.push(RotationTask::Create { algorithm, activates_at: now });
            }
            _ if algorithm == KeyAlgorithm::Derivation => {}
            None => {
                let activates_at = now + config.publish_ahead;
                tasks.push(RotationTask::Create { algorithm, activates_at });
            }
            Some(key) => {
                let next = key.activates_at + config.rotate_every;
                if next - config.publish_ahead <= now {
                    // After a long downtime the new key is still published before it signs.
                    tasks.push(RotationTask::Create {
                        algorithm,
                        activates_at: next.max(now + config.publish_ahead),
                    });
                }
            }
        }
    }
    tasks.extend(
        records
            .iter()
            .filter(|key| key.is_obsolete(now))
            .map(|key| RotationTask::Remove { id: key.id.clone() }),
    );
    tasks
}

impl RotationTask {
    fn generate(&self, master: &MasterKey, rng: &Rng) -> Result<GeneratedKey, Error> {
        let Self::Create { algorithm, .. } = self else {
            return Ok(None);
        };
        let KeyAlgorithm::Sign(algorithm) = algorithm else {
            let id = URL_SAFE_NO_PAD.encode(rng.bytes::<16>());
            let secret = Zeroizing::new(rng.bytes::<32>());
            let sealed = master.seal(&id, &*secret)?;
            return Ok(Some((id, None, sealed)));
        };
        let private = match algorithm {
            SigningAlgorithm::Es256 => Jwk::generate_ec_key(EcCurve::P256)?,
            SigningAlgorithm::Rs256 | SigningAlgorithm::Ps256 => Jwk::generate_rsa_key(2048)?,
            SigningAlgorithm::EdDsa | SigningAlgorithm::Ed25519 => {
                Jwk::generate_ed_key(EdCurve::Ed25519)?
            }
        };
        sealed(*algorithm, &private, master).map(Some)
    }
}

/// A signing key as it is stored.
fn sealed(
    algorithm: SigningAlgorithm,
    private: &Jwk,
    master: &MasterKey,
) -> Result<(String, Option<String>, String), Error> {
    let mut public = private.to_public_key()?;
    let id = thumbprint(&public)?;
    public.set_key_id(&id);
    public.set_key_use("sig");
    // An Ed25519 key signs under both of its names: `alg` would exclude one of them.
    if algorithm != SigningAlgorithm::EdDsa {
        public.set_algorithm(algorithm.as_str());
    }
    let sealed = master.seal(&id, Zeroizing::new(private.to_string()).as_bytes())?;
    Ok((id, Some(public.to_string()), sealed))
}

async fn apply(
    tx: &mut storage::Tx,
    records: &mut Vec<KeyRecord>,
    task: &RotationTask,
    generated: GeneratedKey,
    now: Timestamp,
) -> storage::Result<()> {
    match (task, generated) {
        (RotationTask::Create { algorithm, activates_at }, Some((id, public_jwk, private_jwe))) => {
            // The active key retires when the new one activates; a later next key is superseded.
            for key in records.iter_mut().filter(|key| key.algorithm == *algorithm) {
                if key.state(now) == KeyState::Active
                    && key.retires_at.is_none_or(|at| at > *activates_at)
                {
                    key.retires_at = Some(*activates_at);
                    rows::update(tx, key).await?;
                } else if key.state(now) == KeyState::Next {
                    key.retires_at = Some(key.activates_at.max(*activates_at));
                    rows::update(tx, key).await?;
                }
            }
            let key = KeyRecord {
                id,
                number: records.iter().map(|key| key.number).max().unwrap_or(0) + 1,
                algorithm: *algorithm,
                public_jwk,
                private_jwe,
                created_at: now,
                activates_at: *activates_at,
                retires_at: None,
                banned_at: None,
            };
            rows::insert(tx, &key).await?;
            records.push(key);
        }
        (RotationTask::Remove { id }, _) => rows::delete(tx, id).await?,
        (RotationTask::Create { .. }, None) => {}
    }
    Ok(())
}

/// After a ban of a key that would have been active from `at` on: its predecessor signs until the
/// next key takes over or, if there is none, until the schedule creates one.
async fn extend_predecessor(
    tx: &mut storage::Tx,
    records: &mut [KeyRecord],
    algorithm: KeyAlgorithm,
    at: Timestamp,
    now: Timestamp,
) -> storage::Result<()> {
    let is_candidate = |key: &KeyRecord| key.algorithm == algorithm && key.banned_at.is_none();
    let upcoming: Vec<_> = records
        .iter()
        .filter(|key| is_candidate(key) && key.activates_at >= at && key.activates_at > now)
        .map(|key| (key.number, key.activates_at))
        .collect();
    for key in records.iter_mut().filter(|key| is_candidate(key) && key.retires_at == Some(at)) {
        let later = upcoming.iter().filter(|(number, _)| *number > key.number);
        key.retires_at = later.map(|(_, activates_at)| *activates_at).min();
        rows::update(tx, key).await?;
    }
    Ok(())
}

/// The thumbprint: SHA-256 of the required members in lexicographic order (RFC 7638 §3).
fn thumbprint(public: &Jwk) -> Result<String, Error> {
    let members: &[&str] = match public.key_type() {
        "EC" => &["crv", "kty", "x", "y"],
        "RSA" => &["e", "kty", "n"],
        _ => &["crv", "kty", "x"],
    };
    let canonical: serde_json::Map<String, Value> = members
        .iter()
        .map(|name| {
            Ok((
                (*name).to_owned(),
                public.parameter(name).cloned().ok_or(Error::Missing("thumbprint"))?,
            ))
        })
        .collect::<Result<_, Error>>()?;
    Ok(URL_SAFE_NO_PAD.encode(Sha256::digest(serde_json::to_vec(&canonical)?)))
}
