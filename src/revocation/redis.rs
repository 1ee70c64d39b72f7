//! The Redis replica of the revocation list: it answers, for every check of every process, whether
//! the list has changed, so that the database does not have to.
//!
//! The replica is one hash: the entries by number, the change counters, and the epoch of the
//! replica. One key is either there completely or not at all, whether Redis was flushed, restarted
//! empty or evicts keys. The replica is trusted only while all of this holds:
//!
//! - Its epoch is the one stored in the database ([`change_counters::set_replica_epoch`]) and
//!   begins with the `run_id` of the Redis process at the other end of this connection. A restored
//!   dump and a promoted Redis replica have another one. Every answer has the epoch with it.
//! - It was synced by a process that read the database after the replica was created.
//! - Its lease has not expired. A process that renews the lease reads Redis' clock first and the
//!   change counters in the database second, adds what is missing, and extends the lease to
//!   the lease after that clock reading. A process that was suspended in between extends nothing.
//!
//! A commit that took a version is acknowledged once it is written to the replica or, at the latest,
//! once every lease granted before the commit has expired. So a trusted replica never lacks an
//! acknowledged revocation. In every other case the database is queried.

use std::{
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, RedisError, RedisResult, Script,
    TlsCertificates, aio::MultiplexedConnection,
};
use tokio::sync::{mpsc, oneshot};
use url::Url;

use super::RevocationList;
use crate::{
    clock::{Clock, Rng},
    config,
    model::revocation::WireRevocation,
    storage::{
        self, Db,
        change_counters::{self, Versions},
        revocations::{self, NumberedRevocation},
    },
};

/// How long a replica is trusted without being compared with the database. With the check of the
/// caller's token, which waits for `redis.timeout`, a revocation takes about a second while Redis
/// cannot be written.
const LEASE: Duration = Duration::from_millis(800);
/// Interval of the lease renewal.
const RENEW: Duration = Duration::from_millis(200);
/// After this time every lease that was granted before it has expired; Redis expires keys in whole
/// milliseconds.
pub const LONGEST_LEASE: Duration = LEASE.saturating_add(Duration::from_millis(50));
/// Expiry of a replica that is not trusted yet; its creator must sync it within this time.
const UNTRUSTED_TTL: Duration = Duration::from_secs(10);
/// Renewals to wait for another process to finish its replica before it is replaced.
const MAX_FOREIGN_ROUNDS: u32 = 8;
/// Entries in one command.
const CHUNK: usize = 1_000;

/// The script found no replica of this epoch; the next renewal creates one.
const NO_REPLICA: i64 = -1;

/// Creates a replica that is not trusted yet. KEYS: the hash. ARGV: its epoch, the prefix of epochs
/// of this Redis process, its version, its expiry (Unix milliseconds), 'replace' or empty.
const CREATE: &str = "
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch and string.sub(epoch, 1, #ARGV[2]) == ARGV[2] and ARGV[5] ~= 'replace' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'number', ARGV[3], 'expires', ARGV[4])
redis.call('PEXPIREAT', KEYS[1], ARGV[4])
return 1";

/// Adds entries to a replica and extends its lease. KEYS: the hash. ARGV: its epoch, the version
/// that the entries start from, the one they lead to, the versions of keys and clients, the end of
/// the lease (Unix milliseconds; 0 extends nothing), 1 if this makes the replica trusted, the
/// longest lease (milliseconds), then numbers and entries. Returns its version and whether it is
/// trusted.
///
/// A lease never ends later than the longest one from now: where Redis' clock was set back, the one
/// that was granted before would run for as long.
const UPDATE: &str = "
local function get(field) return redis.call('HGET', KEYS[1], field) end
if get('epoch') ~= ARGV[1] then return {-1, 0} end
local number, from, to = tonumber(get('number')), tonumber(ARGV[2]), tonumber(ARGV[3])
if number < from then return {number, 0} end
for i = 9, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
if to > number then number = to; redis.call('HSET', KEYS[1], 'number', number) end
local versions = get('versions')
if not versions and ARGV[7] ~= '1' then return {number, 0} end
local _, keys, clients = string.match(versions or '0:0:0', '(%d+):(%d+):(%d+)')
keys, clients = math.max(tonumber(keys), tonumber(ARGV[4])), math.max(tonumber(clients), tonumber(ARGV[5]))
redis.call('HSET', KEYS[1], 'versions', string.format('%.0f:%.0f:%.0f', number, keys, clients))
local time = redis.call('TIME')
local latest = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[8]
local expires = tonumber(get('expires'))
local lease = expires
if tonumber(ARGV[6]) > lease or not versions then lease = tonumber(ARGV[6]) end
lease = math.min(lease, latest)
if lease ~= expires then
  local text = string.format('%.0f', lease)
  redis.call('HSET', KEYS[1], 'expires', text)
  redis.call('PEXPIREAT', KEYS[1], text)
end
return {number, 1}";

/// The replica as this process uses it.
#[derive(Debug)]
pub struct Replica {
    settings: config::Redis,
    url: Url,
    key: String,
    /// The connection through which the replica is trusted.
    trusted: RwLock<Option<Trusted>>,
    next_link_id: AtomicU64,
}

#[derive(Clone)]
struct Trusted {
    link: u64,
    /// As the replica has it: a Redis that becomes the replica of another one keeps its `run_id` and
    /// its connections.
    epoch: Arc<str>,
    connection: MultiplexedConnection,
}

impl std::fmt::Debug for Trusted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trusted({})", self.link)
    }
}

/// A connection and the Redis process at its other end.
struct Link {
    id: u64,
    connection: MultiplexedConnection,
    run_id: String,
    /// The version of the replica when it was last read.
    version: i64,
    /// Renewals that found a replica of this Redis process with an epoch that the database does not
    /// have.
    foreign_rounds: u32,
}

impl Link {
    /// The epoch of the one replica that is trusted, if it is in this Redis process.
    fn epoch(&self, versions: Versions) -> String {
        format!("{}:{}", self.run_id, versions.replica_epoch)
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("Redis: {0}")]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Storage(#[from] storage::Error),
    #[error("{0}")]
    Other(String),
}

/// What is read from Redis before the database is read.
struct Observation {
    /// Redis' clock, in Unix milliseconds.
    at: i64,
    epoch: Option<String>,
}

impl Replica {
    /// `None` if no Redis is configured.
    pub fn new(settings: &config::Redis) -> Option<Self> {
        let url = Url::parse(&settings.url).ok()?;
        Some(Self {
            key: format!("{}:revocations", settings.prefix),
            settings: settings.clone(),
            url,
            trusted: RwLock::new(None),
            next_link_id: AtomicU64::new(0),
        })
    }

    /// The change counters, or `None` if the database must be queried.
    pub async fn versions(&self) -> Option<Versions> {
        let trusted = self.trusted()?;
        let mut command = redis::cmd("HMGET");
        command.arg(&self.key).arg("epoch").arg("versions");
        let (epoch, versions) = self.query(&trusted, &command).await?;
        self.versions_of(&trusted, epoch, versions)
    }

    /// The change counters in an answer, if it comes from the trusted replica.
    fn versions_of(
        &self,
        trusted: &Trusted,
        epoch: Option<String>,
        versions: Option<String>,
    ) -> Option<Versions> {
        if *epoch? != *trusted.epoch {
            tracing::info!("Redis replica replaced; version checks go to the database");
            self.distrust(Some(trusted.link));
            return None;
        }
        parse_versions(&versions?)
    }

    /// The entries after `known` up to `version`, or `None` if the database must be queried.
    pub async fn entries(&self, known: i64, version: i64) -> Option<Vec<NumberedRevocation>> {
        let count = usize::try_from(version - known).ok()?;
        if count > CHUNK {
            return None;
        }
        let trusted = self.trusted()?;
        let mut command = redis::cmd("HMGET");
        // Versions and entries in one command: both are of the same replica.
        command.arg(&self.key).arg("epoch").arg("versions");
        for number in known + 1..=version {
            command.arg(number);
        }
        let found: Vec<Option<String>> = self.query(&trusted, &command).await?;
        let mut found = found.into_iter();
        let has = self.versions_of(&trusted, found.next()?, found.next()?)?.revocations;
        if has < version || found.len() != count {
            return None;
        }
        let mut entries = Vec::with_capacity(count);
        for (number, text) in (known + 1..).zip(found) {
            // A missing entry has expired.
            let Some(text) = text else { continue };
            let written: WireRevocation = serde_json::from_str(&text).ok()?;
            let entry = written.into_revocation()?;
            entries.push(NumberedRevocation { number, entry });
        }
        Some(entries)
    }

    /// Whether version checks are currently answered by the replica.
    pub fn is_trusted(&self) -> bool {
        self.trusted().is_some()
    }

    /// Removes entries that the database has deleted. After a failure they stay until the replica
    /// is created again.
    pub async fn remove(&self, numbers: &[i64]) {
        let Some(trusted) = self.trusted() else { return };
        for chunk in numbers.chunks(CHUNK) {
            let mut command = redis::cmd("HDEL");
            command.arg(&self.key).arg(chunk);
            if self.query::<i64>(&trusted, &command).await.is_none() {
                return;
            }
        }
    }

    fn trusted(&self) -> Option<Trusted> {
        let trusted = self.trusted.read().unwrap_or_else(PoisonError::into_inner);
        trusted.clone()
    }

    /// Queries through the trusted connection; a failure ends the trust.
    async fn query<T: FromRedisValue>(&self, trusted: &Trusted, command: &redis::Cmd) -> Option<T> {
        match command.query_async(&mut trusted.connection.clone()).await {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::warn!(%error, "Redis replica not trusted; version checks go to the database");
                self.distrust(Some(trusted.link));
                None
            }
        }
    }

    /// Ends the trust in this connection (`None`: in any) until the lease keeper renews it.
    fn distrust(&self, link: Option<u64>) {
        let mut trusted = self.trusted.write().unwrap_or_else(PoisonError::into_inner);
        if trusted.as_ref().is_some_and(|trusted| link.is_none_or(|link| link == trusted.link)) {
            *trusted = None;
        }
    }

    fn trust(&self, link: &Link, epoch: &str) {
        let mut trusted = self.trusted.write().unwrap_or_else(PoisonError::into_inner);
        let is_same = |known: &Trusted| known.link == link.id && *known.epoch == *epoch;
        if !trusted.as_ref().is_some_and(is_same) {
            tracing::info!("Redis replica trusted; version checks go to Redis");
            let connection = link.connection.clone();
            *trusted = Some(Trusted { link: link.id, epoch: epoch.into(), connection });
        }
    }
}

/// Parses the change counters of the replica.
fn parse_versions(text: &str) -> Option<Versions> {
    let mut numbers = text.split(':').map(|number| number.parse().ok());
    Some(Versions {
        revocations: numbers.next()??,
        keys: numbers.next()??,
        clients: numbers.next()??,
        replica_epoch: 0,
    })
}

/// Keeps the replica up to date, renews its lease and acknowledges commits.
pub(super) struct LeaseKeeper {
    pub replica: std::sync::Arc<Replica>,
    pub db: Db,
    pub clock: Clock,
    pub rng: Rng,
}

impl LeaseKeeper {
    /// Runs until every commit sender is gone.
    pub async fn run(self, mut commits: mpsc::Receiver<oneshot::Sender<()>>, list: RevocationList) {
        let mut renewal = tokio::time::interval(RENEW);
        renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut link, mut waiting, mut failing) = (None, Vec::new(), false);
        loop {
            // In this order: a commit that is waiting is part of the next round.
            tokio::select! {
                biased;
                count = commits.recv_many(&mut waiting, CHUNK) => if count == 0 { return },
                _ = renewal.tick() => {}
            }
            let round = self.round(&mut link).await;
            if !waiting.is_empty() {
                list.sync_after_commit().await;
            }
            // Of the others the lease has expired meanwhile.
            waiting.retain(|committed| !committed.is_closed());
            match round {
                Ok(true) => {
                    failing = false;
                    for committed in waiting.drain(..) {
                        let _ = committed.send(());
                    }
                }
                Ok(false) => self.replica.distrust(None),
                Err(error) => {
                    self.replica.distrust(None);
                    let closed = matches!(&error, Error::Storage(error) if error.is_closed());
                    if !closed && !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "Redis replica not trusted; version checks go to the database");
                    }
                    if matches!(error, Error::Redis(_) | Error::Other(_)) {
                        link = None;
                    }
                }
            }
        }
    }

    /// Updates the replica and renews its lease; returns whether it is trusted.
    async fn round(&self, known: &mut Option<Link>) -> Result<bool, Error> {
        let link = match known {
            Some(link) => link,
            None => known.insert(self.connect().await?),
        };
        let observed = self.observe(link).await?;
        let versions = change_counters::read(&self.db).await?;
        let prefix = format!("{}:", link.run_id);
        let epoch = observed.epoch.as_deref().and_then(|epoch| epoch.strip_prefix(&prefix));
        match epoch {
            Some(epoch) if epoch == versions.replica_epoch.to_string() => {
                link.foreign_rounds = 0;
                self.update(link, &observed, versions, false).await
            }
            // Another process is creating it, or stopped while doing so.
            Some(_) if link.foreign_rounds < MAX_FOREIGN_ROUNDS => {
                link.foreign_rounds += 1;
                Ok(false)
            }
            _ => self.create(link, &observed, versions).await,
        }
    }

    /// Creates a replica and makes it trusted.
    async fn create(
        &self,
        link: &mut Link,
        observed: &Observation,
        versions: Versions,
    ) -> Result<bool, Error> {
        let epoch = i64::from_be_bytes(self.rng.bytes()) & i64::MAX;
        let key = &self.replica.key;
        let created: i64 = Script::new(CREATE)
            .key(key)
            .arg(format!("{}:{epoch}", link.run_id))
            .arg(format!("{}:", link.run_id))
            .arg(0)
            .arg(observed.at + millis(UNTRUSTED_TTL))
            .arg(if link.foreign_rounds < MAX_FOREIGN_ROUNDS { "" } else { "replace" })
            .invoke_async(&mut link.connection)
            .await?;
        link.foreign_rounds = 0;
        link.version = 0;
        if created == 0
            || !change_counters::set_replica_epoch(&self.db, versions.replica_epoch, epoch).await?
        {
            return Ok(false);
        }
        // After this no process trusts a replica of another epoch.
        if versions.replica_epoch != 0 {
            tokio::time::sleep(LONGEST_LEASE).await;
        }
        let observed = self.observe(link).await?;
        let versions = change_counters::read(&self.db).await?;
        if versions.replica_epoch != epoch {
            return Ok(false);
        }
        self.update(link, &observed, versions, true).await
    }

    async fn update(
        &self,
        link: &mut Link,
        observed: &Observation,
        versions: Versions,
        makes_trusted: bool,
    ) -> Result<bool, Error> {
        loop {
            let mut new_entries = vec![];
            if versions.revocations > link.version {
                new_entries = revocations::since(&self.db, link.version, self.clock.now()).await?;
                new_entries.retain(|new| new.number <= versions.revocations);
            }
            // All chunks but the last only add entries: a version is stored once everything before
            // it is.
            let last = new_entries.split_off(new_entries.len() - new_entries.len().min(CHUNK));
            for chunk in new_entries.chunks(CHUNK) {
                let to = chunk.last().map_or(link.version, |new| new.number);
                let (number, _) = self.step(link, observed, versions, to, chunk, false).await?;
                if number < to {
                    link.version = number.max(0);
                    return Ok(false);
                }
                link.version = number;
            }
            let (number, trusted) = self
                .step(link, observed, versions, versions.revocations, &last, makes_trusted)
                .await?;
            if number == NO_REPLICA {
                link.version = 0;
                return Ok(false);
            }
            link.version = number;
            if number >= versions.revocations {
                if trusted {
                    self.replica.trust(link, &link.epoch(versions));
                }
                return Ok(trusted);
            }
            // The replica is older than expected: continue from its version.
        }
    }

    async fn step(
        &self,
        link: &mut Link,
        observed: &Observation,
        versions: Versions,
        to: i64,
        entries: &[NumberedRevocation],
        makes_trusted: bool,
    ) -> Result<(i64, bool), Error> {
        // An incomplete replica does not get a longer lease.
        let complete = to >= versions.revocations;
        let until = if complete { observed.at + millis(LEASE) } else { 0 };
        let script = Script::new(UPDATE);
        let mut call = script.key(&self.replica.key);
        call.arg(link.epoch(versions))
            .arg(link.version)
            .arg(to)
            .arg(versions.keys)
            .arg(versions.clients)
            .arg(until)
            .arg(i64::from(makes_trusted))
            .arg(millis(LEASE));
        for new in entries {
            let text = serde_json::to_string(&new.entry.to_wire())
                .map_err(|error| Error::Other(error.to_string()))?;
            call.arg(new.number).arg(text);
        }
        let (number, trusted): (i64, i64) = call.invoke_async(&mut link.connection).await?;
        Ok((number, trusted == 1))
    }

    /// Reads Redis' clock and then the epoch of the replica.
    async fn observe(&self, link: &mut Link) -> Result<Observation, Error> {
        let mut both = redis::pipe();
        both.cmd("TIME").cmd("HGET").arg(&self.replica.key).arg("epoch");
        let ((secs, micros), epoch): ((i64, i64), Option<String>) =
            both.query_async(&mut link.connection).await?;
        Ok(Observation { at: secs * 1_000 + micros / 1_000, epoch })
    }

    async fn connect(&self) -> Result<Link, Error> {
        let mut url = self.master().await?;
        // A cluster node redirects to the node that has the key.
        for _ in 0..3 {
            let mut connection = self.open(&url).await?;
            let key = &self.replica.key;
            let here: RedisResult<bool> =
                redis::cmd("HEXISTS").arg(key).arg("epoch").query_async(&mut connection).await;
            match here {
                Ok(_) => {
                    let info: String =
                        redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
                    let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:"));
                    let run_id = run_id.ok_or_else(|| {
                        Error::Other("the answer to INFO server has no run_id".to_owned())
                    })?;
                    return Ok(Link {
                        id: self.replica.next_link_id.fetch_add(1, Ordering::Relaxed),
                        run_id: run_id.trim().to_owned(),
                        connection,
                        version: 0,
                        foreign_rounds: 0,
                    });
                }
                Err(error) => match error.redirect_node() {
                    Some((node, _)) => url = at(&url, node)?,
                    None => return Err(error.into()),
                },
            }
        }
        Err(Error::Other("Redis Cluster redirect loop".to_owned()))
    }

    /// The configured URL or, with Sentinels, the URL of the master they name.
    async fn master(&self) -> Result<Url, Error> {
        let Replica { settings, url, .. } = &*self.replica;
        if settings.sentinels.is_empty() {
            return Ok(url.clone());
        }
        let name = url.host_str().unwrap_or_default();
        let mut failure = Error::Other(format!("no Sentinel knows a master {name:?}"));
        for sentinel in &settings.sentinels {
            let asked = async {
                let sentinel =
                    Url::parse(sentinel).map_err(|error| Error::Other(error.to_string()))?;
                let mut connection = self.open(&sentinel).await?;
                let mut query = redis::cmd("SENTINEL");
                query.arg("get-master-addr-by-name").arg(name);
                let found: Option<(String, String)> = query.query_async(&mut connection).await?;
                Ok::<_, Error>(found)
            };
            match asked.await {
                Ok(Some((host, port))) if host.contains(':') => {
                    return at(url, &format!("[{host}]:{port}"));
                }
                Ok(Some((host, port))) => return at(url, &format!("{host}:{port}")),
                Ok(None) => {}
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn open(&self, url: &Url) -> Result<MultiplexedConnection, Error> {
        let settings = &self.replica.settings;
        let client = match read(settings.ca_file.as_ref()).await? {
            Some(authorities) if url.scheme() == "rediss" => {
                let certificates =
                    TlsCertificates { client_tls: None, root_cert: Some(authorities) };
                Client::build_with_tls(url.as_str(), certificates)?
            }
            _ => Client::open(url.as_str())?,
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.connect_timeout))
            .set_response_timeout(Some(settings.timeout));
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }
}

async fn read(file: Option<&PathBuf>) -> Result<Option<Vec<u8>>, Error> {
    let Some(file) = file else {
        return Ok(None);
    };
    let unreadable = |error| Error::Other(format!("redis.ca_file {}: {error}", file.display()));
    tokio::fs::read(file).await.map(Some).map_err(unreadable)
}

/// The URL with another `host:port`.
fn at(url: &Url, node: &str) -> Result<Url, Error> {
    let wrong = || Error::Other(format!("{node:?} is not a host:port of a Redis node"));
    let (host, port) = node.rsplit_once(':').ok_or_else(wrong)?;
    let mut url = url.clone();
    url.set_host(Some(host)).map_err(|_| wrong())?;
    let port = port.parse().map_err(|_| wrong())?;
    url.set_port(Some(port)).map_err(|()| wrong())?;
    Ok(url)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
