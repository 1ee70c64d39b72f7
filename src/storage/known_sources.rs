//! Devices and networks in which users have logged in before.

use std::time::Duration;

use super::{Db, Result, Statement, Tx, statement::one};
use crate::{clock::Timestamp, ids::UserId};

/// Sources that are remembered for a user; the oldest give way.
const MOST: i64 = 32;

/// How long a source is remembered after the last login from it.
const KEPT: Duration = Duration::from_secs(90 * 24 * 3_600);

/// How exact the time of the last login is: a login writes no more often.
const EXACT: Duration = Duration::from_secs(24 * 3_600);

/// Where a request comes from, as far as a user can be known there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginSource {
    /// The hash of the browser's device cookie; empty: it has none.
    device: String,
    network: String,
}

impl LoginSource {
    /// `device`: the hash of a cookie.
    pub fn new(device: Option<&str>, network: std::net::IpAddr) -> Self {
        let device = device.map(|hash| format!("device:{hash}")).unwrap_or_default();
        Self { device, network: format!("network:{network}") }
    }

    pub(super) fn device(&self) -> &str {
        &self.device
    }

    pub(super) fn network(&self) -> &str {
        &self.network
    }
}

/// When a user last logged in from a source; `None`: never, as far as is remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastSeen {
    pub device: Option<Timestamp>,
    pub network: Option<Timestamp>,
}

impl LastSeen {
    /// Whether the user has logged in from this device or this network.
    pub const fn is_known(&self) -> bool {
        self.device.is_some() || self.network.is_some()
    }
}

/// The statement that finds out when a user last logged in from a source.
fn last_seen_statement(user_id: &UserId, source: &LoginSource) -> Statement {
    Statement::new(
        "SELECT (SELECT seen_at FROM known_sources WHERE user_id = $1 AND source = $2) AS device_seen_at, \
         (SELECT seen_at FROM known_sources WHERE user_id = $1 AND source = $3) AS network_seen_at",
    )
    .bind(user_id)
    .bind(source.device())
    .bind(source.network())
}

/// When the user last logged in from this source.
pub async fn last_seen(tx: &mut Tx, user_id: &UserId, source: &LoginSource) -> Result<LastSeen> {
    let rows = tx.run(last_seen_statement(user_id, source)).await?;
    one(rows).map_or(Ok(LastSeen::default()), |row| read(&row))
}

/// Reads the columns `device_seen_at` and `network_seen_at`.
pub(super) fn read(row: &super::Row) -> Result<LastSeen> {
    let at = |column| row.get::<Option<i64>>(column).map(|at| at.map(Timestamp));
    Ok(LastSeen { device: at("device_seen_at")?, network: at("network_seen_at")? })
}

/// A source, as its user is told of it.
#[derive(Debug)]
pub struct KnownSource {
    /// `device` or `network`.
    pub kind: &'static str,
    /// The address of a network; a device is known by the hash of its cookie only.
    pub network: Option<String>,
    /// When the user last logged in there, to a day.
    pub seen_at: Timestamp,
}

/// The remembered sources of a user, the newest first.
pub async fn of_user(db: &Db, user_id: &UserId) -> Result<Vec<KnownSource>> {
    let statement = Statement::new(
        "SELECT source, seen_at FROM known_sources WHERE user_id = $1 ORDER BY seen_at DESC, source",
    );
    let rows = db.read(statement.bind(user_id)).await?;
    let read = |row: &super::Row| {
        let source: String = row.get("source")?;
        let network = source.strip_prefix("network:").map(str::to_owned);
        let kind = if network.is_some() { "network" } else { "device" };
        Ok(KnownSource { kind, network, seen_at: Timestamp(row.get("seen_at")?) })
    };
    rows.iter().map(read).collect()
}

/// Whether any source of the user is remembered.
pub async fn any(tx: &mut Tx, user_id: &UserId) -> Result<bool> {
    let statement = Statement::new("SELECT user_id FROM known_sources WHERE user_id = $1 LIMIT 1");
    Ok(!tx.run(statement.bind(user_id)).await?.is_empty())
}

/// Remembers a source of a user who has logged in. Writes nothing where it is remembered since a
/// short time ago.
pub async fn remember(
    tx: &mut Tx,
    user_id: &UserId,
    source: &LoginSource,
    last_seen: LastSeen,
    now: Timestamp,
) -> Result<()> {
    let sources = [(source.device(), last_seen.device), (source.network(), last_seen.network)];
    let is_outdated = |at: Option<Timestamp>| at.is_none_or(|at| at + EXACT <= now);
    let mut adds = false;
    for (source, last) in sources.into_iter().filter(|(source, _)| !source.is_empty()) {
        if is_outdated(last) {
            let statement = Statement::new(
                "INSERT INTO known_sources (user_id, source, seen_at) VALUES ($1, $2, $3) \
                 ON CONFLICT (user_id, source) DO UPDATE SET seen_at = $3",
            );
            tx.run(statement.bind(user_id).bind(source).bind(now)).await?;
            adds |= last.is_none();
        }
    }
    if adds {
        let statement = Statement::new(
            "DELETE FROM known_sources WHERE user_id = $1 AND source NOT IN \
             (SELECT k.source FROM known_sources k WHERE k.user_id = $1 \
             ORDER BY k.seen_at DESC, k.source LIMIT $2)",
        );
        tx.run(statement.bind(user_id).bind(MOST)).await?;
    }
    Ok(())
}

/// Forgets all sources of a user but this one: another person may have logged in there.
pub async fn keep_only(tx: &mut Tx, user_id: &UserId, source: &LoginSource) -> Result<()> {
    let statement =
        Statement::new("DELETE FROM known_sources WHERE user_id = $1 AND source NOT IN ($2, $3)");
    tx.run(statement.bind(user_id).bind(source.device()).bind(source.network())).await?;
    Ok(())
}

/// Removes up to `most` sources that were not used for long; returns the number removed.
pub async fn sweep(db: &Db, now: Timestamp, most: i64) -> Result<usize> {
    let statement = Statement::new(
        "DELETE FROM known_sources WHERE (user_id, source) IN \
         (SELECT user_id, source FROM known_sources WHERE seen_at <= $1 LIMIT $2) RETURNING user_id",
    );
    Ok(db.write(statement.bind(now - KEPT).bind(most)).await?.len())
}
