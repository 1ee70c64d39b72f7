//! Guesses at passwords and at codes of second factors: how many were wrong in a row, and when the
//! next one is checked.
//!
//! Guesses from a source in which the user has logged in before ([`super::known_sources`]) count
//! there, all others in one row together: an attacker elsewhere does not delay the user.

use std::time::Duration;

use super::{
    Db, Result, Row, Statement, Tx,
    known_sources::{self, LastSeen, LoginSource},
    statement::one,
};
use crate::{clock::Timestamp, ids::UserId};

/// How long wrong guesses are kept after the last one.
const KEPT: Duration = Duration::from_secs(90 * 24 * 3_600);

/// What is guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Password,
    /// Of a second factor.
    Code,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Code => "code",
        }
    }
}

/// Whose password or code is guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuessedAccount {
    account: String,
    /// Empty for a user.
    login_tag: String,
}

impl GuessedAccount {
    pub fn user(id: &UserId) -> Self {
        Self { account: id.as_str().to_owned(), login_tag: String::new() }
    }

    /// The id of the user, if it is one.
    pub fn user_id(&self) -> Option<&str> {
        self.login_tag.is_empty().then_some(self.account.as_str())
    }

    /// What identifies it, for a key.
    pub fn parts(&self) -> [&str; 2] {
        [&self.account, &self.login_tag]
    }

    /// A login that no user has. Such logins share a fixed number of slots, so that any number of
    /// them takes a bounded number of rows: in each slot the latest login displaces the one before.
    /// `tag`: a keyed hash of the login.
    pub fn unknown(slot: u64, tag: String) -> Self {
        Self { account: format!("unknown:{slot}"), login_tag: tag }
    }
}

/// How wrong guesses are delayed.
#[derive(Clone, Copy, Debug)]
pub struct DelayPolicy {
    /// Wrong guesses in a row after which the next one is delayed.
    pub free: i64,
    /// The first delay; each further wrong guess doubles it.
    pub delay: Duration,
    pub max: Duration,
    /// The time without a wrong guess after which `free` ones are free again.
    pub quiet: Option<Duration>,
    /// Wrong guesses in a row, however slow, after which nothing is checked any more.
    pub most: Option<i64>,
}

impl DelayPolicy {
    fn most(&self) -> i64 {
        self.most.unwrap_or(i64::MAX)
    }
}

/// The guesses so far at the account of a login, as the request's source sees them.
#[derive(Clone, Debug, Default)]
pub struct GuessState {
    /// Where guesses of this request count: a known source of the user, or empty for all others.
    pub source: String,
    pub last_seen: LastSeen,
    /// Whether there are wrong guesses in the row of the source.
    pub has_failures: bool,
    /// Whether there are any in the row of unknown sources.
    pub has_others: bool,
    blocked_until: Option<Timestamp>,
    total: i64,
}

impl GuessState {
    /// Until when nothing is checked, if so.
    pub fn blocked(&self, policy: DelayPolicy, now: Timestamp) -> Option<Blocked> {
        blocked(self.blocked_until.unwrap_or(now), self.total, policy, now)
    }
}

fn blocked(until: Timestamp, total: i64, policy: DelayPolicy, now: Timestamp) -> Option<Blocked> {
    let is_final = total >= policy.most();
    (is_final || until > now).then_some(Blocked { until, is_final })
}

/// Nothing is checked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    pub until: Timestamp,
    /// Whether only a success elsewhere, or a new password, ends it.
    pub is_final: bool,
}

/// Adds [`GuessState`] of passwords to a statement whose rows are users `u` (a derived table) with
/// a column `canonical`. The parameters: `$1` the canonical login, `$2` and `$3` account and tag of
/// a login without a user, `$4` and `$5` device and network.
macro_rules! password_guesses_columns {
    () => {
        "d.seen_at AS device_seen_at, n.seen_at AS network_seen_at, \
         own.failures AS own_failures, own.total AS own_total, own.blocked_until AS own_blocked_until, \
         others.failures AS other_failures, others.total AS other_total"
    };
}
pub(super) use password_guesses_columns;

/// The joins of [`password_guesses_columns`].
macro_rules! password_guesses_joins {
    () => {
        "LEFT JOIN known_sources d ON d.user_id = u.id AND d.source = $4 AND u.canonical = $1 \
         LEFT JOIN known_sources n ON n.user_id = u.id AND n.source = $5 AND u.canonical = $1 \
         LEFT JOIN guesses own ON own.kind = 'password' \
         AND own.account = CASE WHEN u.canonical = $1 THEN u.id ELSE $2 END \
         AND own.login_tag = CASE WHEN u.canonical = $1 THEN '' ELSE $3 END \
         AND own.source = COALESCE(d.source, n.source, '') \
         LEFT JOIN guesses others ON others.kind = 'password' AND others.source = '' \
         AND others.account = CASE WHEN u.canonical = $1 THEN u.id ELSE $2 END \
         AND others.login_tag = CASE WHEN u.canonical = $1 THEN '' ELSE $3 END"
    };
}
pub(super) use password_guesses_joins;

/// Binds the parameters of [`password_guesses_columns`] but the first.
pub(super) fn bind_state(
    statement: Statement,
    unknown: &GuessedAccount,
    source: &LoginSource,
) -> Statement {
    statement
        .bind(unknown.account.as_str())
        .bind(unknown.login_tag.as_str())
        .bind(source.device())
        .bind(source.network())
}

/// Reads [`password_guesses_columns`].
pub(super) fn read_state(row: &Row, source: &LoginSource) -> Result<GuessState> {
    let last_seen = known_sources::read(row)?;
    let count = |column| row.get::<Option<i64>>(column).map(Option::unwrap_or_default);
    let known = match last_seen {
        LastSeen { device: Some(_), .. } => source.device(),
        LastSeen { network: Some(_), .. } => source.network(),
        _ => "",
    };
    Ok(GuessState {
        source: known.to_owned(),
        last_seen,
        has_failures: count("own_failures")? > 0,
        has_others: count("other_failures")? > 0 || count("other_total")? > 0,
        blocked_until: row.get::<Option<i64>>("own_blocked_until")?.map(Timestamp),
        total: count("own_total")?,
    })
}

/// The outcome of [`count`].
#[derive(Debug)]
pub enum Attempt {
    Counted(Counted),
    Blocked(Blocked),
}

/// A guess that counts as wrong until [`forget`] says otherwise.
#[derive(Clone, Debug)]
pub struct Counted {
    /// The row that it counts in.
    pub source: String,
    /// Wrong guesses in a row, with this one.
    pub failures: i64,
    pub total: i64,
}

/// The row that guesses of a source count in: `$1` account, `$4` device, `$5` network.
macro_rules! own_row {
    () => {
        "COALESCE((SELECT k.source FROM known_sources k WHERE k.user_id = $1 AND k.source = $4), \
         (SELECT k.source FROM known_sources k WHERE k.user_id = $1 AND k.source = $5), '')"
    };
}

/// The delay after one more wrong guess. `$7`: free ones; `$8` and `$9`: the first and the longest
/// delay; `$10`: what was not wrong since is forgotten.
macro_rules! next_delay {
    () => {
        "CASE WHEN guesses.login_tag <> $3 OR guesses.failed_at <= $10 \
         THEN CASE WHEN $7 > 1 THEN 0 ELSE $8 END \
         WHEN guesses.failures + 1 < $7 THEN 0 \
         WHEN guesses.delay = 0 THEN $8 \
         WHEN guesses.delay * 2 > $9 THEN $9 ELSE guesses.delay * 2 END"
    };
}

/// Counts a guess as wrong before it is checked, so that simultaneous guesses are limited as well.
/// One statement, so that any number of processes count alike. `was_checked`: it was checked
/// already and was wrong; it counts whatever other guesses have done meanwhile.
pub async fn count(
    db: &Db,
    account: &GuessedAccount,
    kind: Kind,
    source: &LoginSource,
    policy: DelayPolicy,
    was_checked: bool,
    now: Timestamp,
) -> Result<Attempt> {
    let statement = Statement::new(concat!(
        "INSERT INTO guesses (account, kind, source, login_tag, failures, total, delay, blocked_until, \
         failed_at) SELECT $1, $2, ",
        own_row!(),
        ", $3, 1, 1, CASE WHEN $7 > 1 THEN 0 ELSE $8 END, CASE WHEN $7 > 1 THEN $6 ELSE $6 + $8 END, $6 \
         WHERE TRUE ON CONFLICT (account, kind, source) DO UPDATE SET login_tag = $3, \
         failures = CASE WHEN guesses.login_tag <> $3 OR guesses.failed_at <= $10 THEN 1 \
         ELSE guesses.failures + 1 END, \
         total = CASE WHEN guesses.login_tag <> $3 THEN 1 ELSE guesses.total + 1 END, \
         delay = ",
        next_delay!(),
        ", blocked_until = $6 + ",
        next_delay!(),
        ", failed_at = $6 WHERE guesses.login_tag <> $3 OR $12 \
         OR (guesses.blocked_until <= $6 AND guesses.total < $11) RETURNING source, failures, total"
    ));
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    let forgotten = policy.quiet.map_or(0, |quiet| (now - quiet).micros());
    let statement = statement
        .bind(account.account.as_str())
        .bind(kind.as_str())
        .bind(account.login_tag.as_str())
        .bind(source.device())
        .bind(source.network())
        .bind(now)
        .bind(policy.free)
        .bind(micros(policy.delay))
        .bind(micros(policy.max))
        .bind(forgotten)
        .bind(policy.most())
        .bind(was_checked);
    if let Some(row) = one(db.write(statement).await?) {
        return Ok(Attempt::Counted(Counted {
            source: row.get("source")?,
            failures: row.get("failures")?,
            total: row.get("total")?,
        }));
    }
    let statement = Statement::new(concat!(
        "SELECT blocked_until, total FROM guesses WHERE account = $1 AND kind = $2 AND login_tag = $3 \
         AND source = ",
        own_row!()
    ));
    let statement = statement
        .bind(account.account.as_str())
        .bind(kind.as_str())
        .bind(account.login_tag.as_str())
        .bind(source.device())
        .bind(source.network());
    let found = match one(db.read(statement).await?) {
        Some(row) => blocked(Timestamp(row.get("blocked_until")?), row.get("total")?, policy, now),
        None => None,
    };
    // `None`: the right guess has come meanwhile.
    Ok(Attempt::Blocked(found.unwrap_or(Blocked { until: now, is_final: false })))
}

/// After the right guess: forgets the wrong ones of its source. Those of other sources are still
/// delayed, but count as the first ones in a row.
pub async fn forget(tx: &mut Tx, account: &GuessedAccount, kind: Kind, source: &str) -> Result<()> {
    let removal = Statement::new(
        "DELETE FROM guesses WHERE account = $1 AND kind = $2 AND login_tag = $3 AND source = $4",
    );
    let removal = removal.bind(account.account.as_str()).bind(kind.as_str());
    tx.run(removal.bind(account.login_tag.as_str()).bind(source)).await?;
    end_row(tx, account, kind).await
}

/// After a login that needed no guess: the wrong ones so far are still delayed, but count as the
/// first ones in a row.
pub async fn end_row(tx: &mut Tx, account: &GuessedAccount, kind: Kind) -> Result<()> {
    let others = Statement::new(
        "UPDATE guesses SET total = 0 WHERE account = $1 AND kind = $2 AND login_tag = $3 AND total > 0",
    );
    let others = others.bind(account.account.as_str()).bind(kind.as_str());
    tx.run(others.bind(account.login_tag.as_str())).await?;
    Ok(())
}

/// Forgets the wrong guesses at a user's password or codes, from wherever: it is another one now.
pub async fn forget_all(tx: &mut Tx, user_id: &UserId, kind: Kind) -> Result<()> {
    let removal = Statement::new("DELETE FROM guesses WHERE account = $1 AND kind = $2");
    tx.run(removal.bind(user_id).bind(kind.as_str())).await?;
    Ok(())
}

/// Removes up to `most` rows whose last wrong guess is long ago; returns the number removed.
pub async fn sweep(db: &Db, now: Timestamp, most: i64) -> Result<usize> {
    let statement = Statement::new(
        "DELETE FROM guesses WHERE (account, kind, source) IN \
         (SELECT account, kind, source FROM guesses WHERE failed_at <= $1 LIMIT $2) RETURNING account",
    );
    Ok(db.write(statement.bind(now - KEPT).bind(most)).await?.len())
}
