//! The copy of the list in Redis: what spares the database the question, on every check of every process, whether there
//! is anything new.
//!
//! The copy is one hash: the entries by number, the head numbers, and the name of this copy. One key is there as a whole
//! or not at all, whether Redis was flushed, restarted empty or evicts. It is believed only while all of this holds:
//!
//! - Its name is the one that the database knows ([`change_counters::set_replica_epoch`]), and begins with the `run_id` of the very
//!   process that this connection talks to. A dump that was loaded again and a replica that took over have another one.
//! - It has been brought up to date by somebody who read the database after the copy was made.
//! - Its lease has not run out. Whoever renews it reads Redis' clock first and the database's numbers then, fills in what
//!   is missing, and asks for [`LEASE`] from that first moment on. A process that was asleep in between renews nothing.
//!
//! A commit that took a number is announced before its caller is answered: written here, or, where that cannot be done,
//! waited out until every lease given before the commit has run out. So what was acknowledged is never missing in a copy
//! that anybody believes. In every other case the database is asked.

use std::{
    path::PathBuf,
    sync::{
        PoisonError, RwLock,
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

/// How long a copy may be believed without being compared with the database. A revocation takes this long while Redis
/// cannot be written.
pub const LEASE: Duration = Duration::from_secs(1);
/// How often it is renewed.
const RENEW: Duration = Duration::from_millis(250);
/// Beyond the lease, for the milliseconds that Redis rounds away.
const MARGIN: Duration = Duration::from_millis(50);
/// A copy that nobody believes yet is kept this long for whoever made it.
const UNPROVEN: Duration = Duration::from_secs(10);
/// How long another's unproven copy is waited for before it is replaced.
const PATIENCE: u32 = 8;
/// Entries in one command.
const CHUNK: usize = 1_000;

/// A copy that was taken for another, or vanished: the next round sorts it out.
const GONE: i64 = -1;

/// Makes a copy that nobody believes yet. KEYS: the hash. ARGV: its name, how the names of this Redis begin, its number,
/// when it expires (ms), then numbers and entries.
const CREATE: &str = "
local name = redis.call('HGET', KEYS[1], 'epoch')
if name and string.sub(name, 1, #ARGV[2]) == ARGV[2] and ARGV[5] ~= 'replace' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'number', ARGV[3], 'expires', ARGV[4])
redis.call('PEXPIREAT', KEYS[1], ARGV[4])
return 1";

/// Adds what is new to a copy, and renews its lease. KEYS: the hash. ARGV: its name, from which number on the entries
/// are, up to which, the heads of keys and clients, until when the lease goes (ms), whether the copy is proven by this,
/// then numbers and entries. Gives its number and whether it may be believed.
const BRING: &str = "
local function get(field) return redis.call('HGET', KEYS[1], field) end
if get('epoch') ~= ARGV[1] then return {-1, 0} end
local number, from, to = tonumber(get('number')), tonumber(ARGV[2]), tonumber(ARGV[3])
if number < from then return {number, 0} end
for i = 8, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
if to > number then number = to; redis.call('HSET', KEYS[1], 'number', number) end
local head = get('versions')
if not head and ARGV[7] ~= '1' then return {number, 0} end
local _, keys, clients = string.match(head or '0:0:0', '(%d+):(%d+):(%d+)')
keys, clients = math.max(tonumber(keys), tonumber(ARGV[4])), math.max(tonumber(clients), tonumber(ARGV[5]))
redis.call('HSET', KEYS[1], 'versions', string.format('%.0f:%.0f:%.0f', number, keys, clients))
if tonumber(ARGV[6]) > tonumber(get('expires')) or not head then
  redis.call('HSET', KEYS[1], 'expires', ARGV[6])
  redis.call('PEXPIREAT', KEYS[1], ARGV[6])
end
return {number, 1}";

/// The copy, as this process uses it.
#[derive(Debug)]
pub struct Replica {
    settings: config::Redis,
    url: Url,
    key: String,
    /// A connection through which the copy was found to be good.
    live: RwLock<Option<Live>>,
    links: AtomicU64,
}

#[derive(Clone)]
struct Live {
    link: u64,
    connection: MultiplexedConnection,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Live({})", self.link)
    }
}

/// A connection and the process of Redis at its other end.
struct Link {
    id: u64,
    connection: MultiplexedConnection,
    run_id: String,
    /// What the copy had when it was last looked at.
    filled: i64,
    /// Rounds in which there was another's copy that the database does not know.
    strange: u32,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("Redis: {0}")]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Storage(#[from] storage::Error),
    #[error("{0}")]
    Refused(String),
}

/// What is to be read of the copy before the database is.
struct Seen {
    /// Redis' clock, in milliseconds.
    at: i64,
    name: Option<String>,
}

impl Replica {
    /// `None` where no Redis is configured.
    pub fn new(settings: &config::Redis) -> Option<Self> {
        let url = Url::parse(&settings.url).ok()?;
        Some(Self {
            key: format!("{}:revocations", settings.prefix),
            settings: settings.clone(),
            url,
            live: RwLock::new(None),
            links: AtomicU64::new(0),
        })
    }

    /// The head numbers, or `None` where the database must be asked.
    pub async fn versions(&self) -> Option<Versions> {
        let head: Option<String> =
            self.ask(redis::cmd("HGET").arg(&self.key).arg("versions")).await?;
        read_head(&head?)
    }

    /// The entries behind `known` up to `head`, or `None` where the database must be asked for them.
    pub async fn entries(&self, known: i64, head: i64) -> Option<Vec<NumberedRevocation>> {
        let count = usize::try_from(head - known).ok()?;
        if count > CHUNK {
            return None;
        }
        let mut command = redis::cmd("HMGET");
        // The head along with the entries: of the copy that has them, whatever became of the one that was asked before.
        command.arg(&self.key).arg("versions");
        for number in known + 1..=head {
            command.arg(number);
        }
        let found: Vec<Option<String>> = self.ask(&command).await?;
        let mut found = found.into_iter();
        let has = read_head(&found.next()??)?.revocations;
        if has < head || found.len() != count {
            return None;
        }
        let mut entries = Vec::with_capacity(count);
        for (number, text) in (known + 1..).zip(found) {
            // One that is not there has expired.
            let Some(text) = text else { continue };
            let written: WireRevocation = serde_json::from_str(&text).ok()?;
            let entry = written.into_revocation()?;
            entries.push(NumberedRevocation { number, entry });
        }
        Some(entries)
    }

    /// Whether checks are answered by the copy at this moment.
    pub fn is_trusted(&self) -> bool {
        self.live().is_some()
    }

    /// Forgets entries that the database has forgotten. Where that fails they stay until the copy is made anew.
    pub async fn forget(&self, numbers: &[i64]) {
        for chunk in numbers.chunks(CHUNK) {
            let mut command = redis::cmd("HDEL");
            command.arg(&self.key).arg(chunk);
            if self.ask::<i64>(&command).await.is_none() {
                return;
            }
        }
    }

    fn live(&self) -> Option<Live> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        live.clone()
    }

    /// Asks through the connection that is believed. Where it fails it is believed no more.
    async fn ask<T: FromRedisValue>(&self, command: &redis::Cmd) -> Option<T> {
        let mut live = self.live()?;
        match command.query_async(&mut live.connection).await {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::warn!(%error, "Redis is not believed: checks are answered by the database");
                self.distrust(Some(live.link));
                None
            }
        }
    }

    /// Believes nothing that comes through this connection (`None`: through any) until the steward has looked again.
    fn distrust(&self, link: Option<u64>) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_some_and(|live| link.is_none_or(|link| link == live.link)) {
            *live = None;
        }
    }

    fn trust(&self, link: &Link) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_none_or(|live| live.link != link.id) {
            tracing::info!("checks are answered by Redis");
            *live = Some(Live { link: link.id, connection: link.connection.clone() });
        }
    }
}

/// The head numbers as the copy has them.
fn read_head(text: &str) -> Option<Versions> {
    let mut numbers = text.split(':').map(|number| number.parse().ok());
    Some(Versions {
        revocations: numbers.next()??,
        keys: numbers.next()??,
        clients: numbers.next()??,
        replica_epoch: 0,
    })
}

/// Keeps the copy up to date and its lease renewed; announces commits.
pub(super) struct LeaseKeeper {
    pub replica: std::sync::Arc<Replica>,
    pub db: Db,
    pub clock: Clock,
    pub rng: Rng,
}

impl LeaseKeeper {
    /// Runs until no commit can come any more.
    pub async fn run(
        self,
        mut commits: mpsc::Receiver<oneshot::Sender<()>>,
        news: mpsc::Sender<()>,
    ) {
        let mut renewal = tokio::time::interval(RENEW);
        renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut link, mut waiting, mut failing) = (None, Vec::new(), false);
        loop {
            tokio::select! {
                count = commits.recv_many(&mut waiting, CHUNK) => if count == 0 { return },
                _ = renewal.tick() => {}
            }
            let round = self.round(&mut link).await;
            if !waiting.is_empty() {
                let _ = news.try_send(());
            }
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
                    let closed = matches!(&error, Failure::Storage(error) if error.is_closed());
                    if !closed && !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "Redis is not believed: checks are answered by the database");
                    }
                    if matches!(error, Failure::Redis(_) | Failure::Refused(_)) {
                        link = None;
                    }
                }
            }
            if !waiting.is_empty() {
                let waiting = std::mem::take(&mut waiting);
                tokio::spawn(async move {
                    // Every lease that was given before these commits has run out then.
                    tokio::time::sleep(LEASE + MARGIN).await;
                    for committed in waiting {
                        let _ = committed.send(());
                    }
                });
            }
        }
    }

    /// Brings the copy up to date; whether it may be believed now.
    async fn round(&self, known: &mut Option<Link>) -> Result<bool, Failure> {
        let link = match known {
            Some(link) => link,
            None => known.insert(self.connect().await?),
        };
        let seen = self.look(link).await?;
        let versions = change_counters::read(&self.db).await?;
        let ours = format!("{}:", link.run_id);
        let name = seen.name.as_deref().and_then(|name| name.strip_prefix(&ours));
        match name {
            Some(name) if name == versions.replica_epoch.to_string() => {
                link.strange = 0;
                self.bring(link, &seen, versions, false).await
            }
            // Somebody is making it at this moment, or has died over it.
            Some(_) if link.strange < PATIENCE => {
                link.strange += 1;
                Ok(false)
            }
            _ => self.make(link, &seen, versions).await,
        }
    }

    /// Makes a copy and proves it.
    async fn make(
        &self,
        link: &mut Link,
        seen: &Seen,
        versions: Versions,
    ) -> Result<bool, Failure> {
        let name = i64::from_be_bytes(self.rng.bytes()) & i64::MAX;
        let key = &self.replica.key;
        let made: i64 = Script::new(CREATE)
            .key(key)
            .arg(format!("{}:{name}", link.run_id))
            .arg(format!("{}:", link.run_id))
            .arg(0)
            .arg(seen.at + millis(UNPROVEN))
            .arg(if link.strange < PATIENCE { "" } else { "replace" })
            .invoke_async(&mut link.connection)
            .await?;
        link.strange = 0;
        link.filled = 0;
        if made == 0
            || !change_counters::set_replica_epoch(&self.db, versions.replica_epoch, name).await?
        {
            return Ok(false);
        }
        // Whoever believed another copy does so no longer after this.
        if versions.replica_epoch != 0 {
            tokio::time::sleep(LEASE + MARGIN).await;
        }
        let seen = self.look(link).await?;
        let versions = change_counters::read(&self.db).await?;
        if versions.replica_epoch != name {
            return Ok(false);
        }
        self.bring(link, &seen, versions, true).await
    }

    async fn bring(
        &self,
        link: &mut Link,
        seen: &Seen,
        versions: Versions,
        proves: bool,
    ) -> Result<bool, Failure> {
        loop {
            let mut news = vec![];
            if versions.revocations > link.filled {
                news = revocations::since(&self.db, link.filled, self.clock.now()).await?;
                news.retain(|new| new.number <= versions.revocations);
            }
            // All but the last chunk only fill in: the copy's number moves when everything before it is there.
            let last = news.split_off(news.len() - news.len().min(CHUNK));
            for chunk in news.chunks(CHUNK) {
                let to = chunk.last().map_or(link.filled, |new| new.number);
                let (number, _) = self.step(link, seen, versions, to, chunk, false).await?;
                if number < to {
                    link.filled = number.max(0);
                    return Ok(false);
                }
                link.filled = number;
            }
            let (number, believed) =
                self.step(link, seen, versions, versions.revocations, &last, proves).await?;
            if number == GONE {
                link.filled = 0;
                return Ok(false);
            }
            link.filled = number;
            if number >= versions.revocations {
                if believed {
                    self.replica.trust(link);
                }
                return Ok(believed);
            }
            // It has less than was thought: once more from there.
        }
    }

    async fn step(
        &self,
        link: &mut Link,
        seen: &Seen,
        versions: Versions,
        to: i64,
        entries: &[NumberedRevocation],
        proves: bool,
    ) -> Result<(i64, bool), Failure> {
        // What is not whole yet is not believed any longer for it.
        let whole = to >= versions.revocations;
        let until = if whole { seen.at + millis(LEASE) } else { 0 };
        let script = Script::new(BRING);
        let mut call = script.key(&self.replica.key);
        call.arg(format!("{}:{}", link.run_id, versions.replica_epoch))
            .arg(link.filled)
            .arg(to)
            .arg(versions.keys)
            .arg(versions.clients)
            .arg(until)
            .arg(i64::from(proves));
        for new in entries {
            let text = serde_json::to_string(&new.entry.to_wire())
                .map_err(|error| Failure::Refused(error.to_string()))?;
            call.arg(new.number).arg(text);
        }
        let (number, believed): (i64, i64) = call.invoke_async(&mut link.connection).await?;
        Ok((number, believed == 1))
    }

    /// Redis' clock and the copy's name, in this order.
    async fn look(&self, link: &mut Link) -> Result<Seen, Failure> {
        let mut both = redis::pipe();
        both.cmd("TIME").cmd("HGET").arg(&self.replica.key).arg("epoch");
        let ((secs, micros), name): ((i64, i64), Option<String>) =
            both.query_async(&mut link.connection).await?;
        Ok(Seen { at: secs * 1_000 + micros / 1_000, name })
    }

    async fn connect(&self) -> Result<Link, Failure> {
        let mut url = self.master().await?;
        // In a cluster the node that was asked says which one has the key.
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
                        Failure::Refused("INFO server names no run_id".to_owned())
                    })?;
                    return Ok(Link {
                        id: self.replica.links.fetch_add(1, Ordering::Relaxed),
                        run_id: run_id.trim().to_owned(),
                        connection,
                        filled: 0,
                        strange: 0,
                    });
                }
                Err(error) => match error.redirect_node() {
                    Some((node, _)) => url = at(&url, node)?,
                    None => return Err(error.into()),
                },
            }
        }
        Err(Failure::Refused("its nodes send us round in circles".to_owned()))
    }

    /// The configured address or, where Sentinels are asked, that of the master they name.
    async fn master(&self) -> Result<Url, Failure> {
        let Replica { settings, url, .. } = &*self.replica;
        if settings.sentinels.is_empty() {
            return Ok(url.clone());
        }
        let name = url.host_str().unwrap_or_default();
        let mut failure = Failure::Refused(format!("no Sentinel knows a master {name:?}"));
        for sentinel in &settings.sentinels {
            let asked = async {
                let sentinel =
                    Url::parse(sentinel).map_err(|error| Failure::Refused(error.to_string()))?;
                let mut connection = self.open(&sentinel).await?;
                let mut question = redis::cmd("SENTINEL");
                question.arg("get-master-addr-by-name").arg(name);
                let found: Option<(String, String)> = question.query_async(&mut connection).await?;
                Ok::<_, Failure>(found)
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

    async fn open(&self, url: &Url) -> Result<MultiplexedConnection, Failure> {
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

async fn read(file: Option<&PathBuf>) -> Result<Option<Vec<u8>>, Failure> {
    let Some(file) = file else {
        return Ok(None);
    };
    let unreadable = |error| Failure::Refused(format!("redis.ca_file {}: {error}", file.display()));
    tokio::fs::read(file).await.map(Some).map_err(unreadable)
}

/// The same URL at another `host:port`.
fn at(url: &Url, node: &str) -> Result<Url, Failure> {
    let wrong = || Failure::Refused(format!("{node:?} is no address of a node"));
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
