//! Rows of the revocation list.

use super::{
    Db, Result, Row, Statement, Tx,
    change_counters::{self, Counter},
    statement::one,
};
use crate::{
    clock::{Clock, Timestamp},
    model::{
        key::LONGEST_TOKEN_LIFE,
        revocation::{NewRevocation, Revocation, WireRevocation},
    },
};

/// Adds entries, in order and under one time, which is returned with them. Call it last in a
/// transaction: the next revocation of any process waits for this commit.
///
/// The clock is read after the list is locked, so that no token issued while the transaction waited
/// is younger than the entry.
pub async fn add(
    tx: &mut Tx,
    clock: &Clock,
    new: Vec<NewRevocation>,
    reason: &str,
) -> Result<(Timestamp, Vec<NumberedRevocation>)> {
    let count = i64::try_from(new.len()).unwrap_or(i64::MAX);
    let last = change_counters::advance(tx, Counter::Revocations, count).await?;
    let now = clock.now();
    let numbered = (last - count + 1..).zip(new);
    let entries: Vec<_> =
        numbered.map(|(number, new)| NumberedRevocation { number, entry: new.at(now) }).collect();
    for NumberedRevocation { number, entry } in &entries {
        let wire = entry.to_wire();
        tx.run(
            Statement::new(
                "INSERT INTO revocations (number, kind, target, scope, issued_until, reason, created_at, expires_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            )
            .bind(*number)
            .bind(wire.kind)
            .bind(wire.id)
            .bind(wire.scope)
            .bind(wire.issued_until)
            .bind(reason)
            .bind(now)
            .bind(entry.expires_at),
        )
        .await?;
    }
    Ok((now, entries))
}

/// Selects the users whose tokens lose the scopes of a module: those who have it, or whose grants
/// of it have just been closed.
#[derive(Clone, Copy, Debug)]
pub struct WithdrawnModule<'a> {
    pub module_id: &'a str,
    /// A user's id, or the `sub` of a back end's user; empty: every user.
    pub subject: &'a str,
    /// When the grants were closed; `None`: they are still open.
    pub closed_at: Option<Timestamp>,
}

/// Adds an entry for each of these scopes and each `sub` of these users, pairwise ones included.
/// Two statements per scope, whatever the number of users. Call it last in a transaction.
///
/// The clock is read after the list is locked, so that no token issued in between is younger than
/// the entry.
pub async fn add_scopes(
    tx: &mut Tx,
    clock: &Clock,
    scopes: &[String],
    of: WithdrawnModule<'_>,
    reason: &str,
) -> Result<()> {
    macro_rules! subjects {
        () => {
            "(SELECT g.subject FROM module_grants g \
             WHERE g.module_id = $1 AND COALESCE(g.closed_at, 0) = $2 AND ($3 = '' OR g.subject = $3) \
             UNION SELECT s.subject FROM module_grants g JOIN sessions s ON s.user_id = g.subject AND s.revoked_at IS NULL \
             WHERE g.module_id = $1 AND COALESCE(g.closed_at, 0) = $2 AND ($3 = '' OR g.subject = $3)) t"
        };
    }
    let bound = |sql| {
        Statement::new(sql)
            .bind(of.module_id)
            .bind(of.closed_at.map_or(0, |at| at.0))
            .bind(of.subject)
    };
    change_counters::advance(tx, Counter::Revocations, 0).await?;
    let counted = bound(concat!("SELECT COUNT(*) AS n FROM ", subjects!()));
    let count: i64 = match one(tx.run(counted).await?) {
        Some(row) => row.get("n")?,
        None => 0,
    };
    if count == 0 {
        return Ok(());
    }
    let now = clock.now();
    for scope in scopes {
        let last = change_counters::advance(tx, Counter::Revocations, count).await?;
        let insertion = bound(concat!(
            "INSERT INTO revocations (number, kind, target, scope, issued_until, reason, created_at, expires_at) \
             SELECT $4 + row_number() OVER (ORDER BY t.subject), 'scope', t.subject, $5, $6, $7, $8, $9 FROM ",
            subjects!()
        ));
        tx.run(
            insertion
                .bind(last - count)
                .bind(scope.as_str())
                .bind(now.as_secs() + 1)
                .bind(reason)
                .bind(now)
                .bind(now + LONGEST_TOKEN_LIFE),
        )
        .await?;
    }
    Ok(())
}

/// An entry as administrators see it.
#[derive(Clone, Debug)]
pub struct ListedRevocation {
    pub number: i64,
    /// `token`, `session`, `subject`, `scope`, `client` or `key`.
    pub kind: String,
    pub target: String,
    pub scope: Option<String>,
    /// Seconds since the epoch; revokes tokens with `iat <= issued_until`.
    pub issued_until: Option<i64>,
    pub reason: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

macro_rules! listed {
    ($rest:literal) => {
        concat!(
            "SELECT number, kind, target, scope, issued_until, reason, created_at, expires_at FROM revocations ",
            $rest
        )
    };
}

/// Filters of [`page`]; `None` matches every entry.
#[derive(Clone, Debug, Default)]
pub struct RevocationFilter {
    pub kind: Option<String>,
    pub target: Option<String>,
}

/// Up to `most` matching entries with numbers below `before`, newest first.
pub async fn page(
    db: &Db,
    filter: &RevocationFilter,
    before: i64,
    most: i64,
) -> Result<Vec<ListedRevocation>> {
    let statement = Statement::new(listed!("WHERE number < $1"))
        .bind(before)
        .filter("AND target = $", filter.target.as_deref())
        .filter("AND kind = $", filter.kind.as_deref())
        .with("ORDER BY number DESC LIMIT $", most);
    db.read(statement).await?.iter().map(listed).collect()
}

/// Finds an entry by its number; expired ones are removed by [`sweep`].
pub async fn by_number(db: &Db, number: i64) -> Result<Option<ListedRevocation>> {
    let statement = Statement::new(listed!("WHERE number = $1")).bind(number);
    one(db.read(statement).await?).map(|row| listed(&row)).transpose()
}

fn listed(row: &Row) -> Result<ListedRevocation> {
    Ok(ListedRevocation {
        number: row.get("number")?,
        kind: row.get("kind")?,
        target: row.get("target")?,
        scope: row.get("scope")?,
        issued_until: row.get("issued_until")?,
        reason: row.get("reason")?,
        created_at: Timestamp(row.get("created_at")?),
        expires_at: Timestamp(row.get("expires_at")?),
    })
}

/// An entry with its number in the list.
#[derive(Clone, Debug)]
pub struct NumberedRevocation {
    pub number: i64,
    pub entry: Revocation,
}

/// The unexpired entries with numbers above `number`, in order.
pub async fn since(db: &Db, number: i64, now: Timestamp) -> Result<Vec<NumberedRevocation>> {
    let rows = db
        .read(
            Statement::new(
                "SELECT number, kind, target, scope, issued_until, expires_at FROM revocations \
                 WHERE number > $1 AND expires_at > $2 ORDER BY number",
            )
            .bind(number)
            .bind(now),
        )
        .await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        let expires_at = Timestamp(row.get("expires_at")?);
        let wire = WireRevocation {
            kind: row.get("kind")?,
            id: row.get("target")?,
            scope: row.get("scope")?,
            issued_until: row.get("issued_until")?,
            expires_at: expires_at.as_secs(),
        };
        let kind = wire.kind.clone();
        let entry = wire
            .into_revocation()
            .ok_or_else(|| super::Error::Corrupt(format!("unknown revocation kind {kind}")))?;
        entries.push(NumberedRevocation {
            number: row.get("number")?,
            entry: Revocation { expires_at, ..entry },
        });
    }
    Ok(entries)
}

/// Removes expired entries and returns their numbers.
pub async fn sweep(db: &Db, now: Timestamp) -> Result<Vec<i64>> {
    let statement =
        Statement::new("DELETE FROM revocations WHERE expires_at <= $1 RETURNING number");
    let rows = db.write(statement.bind(now)).await?;
    rows.iter().map(|row| row.get("number")).collect()
}
