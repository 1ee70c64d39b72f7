//! A transaction that knows when it happens and who causes it, so that a change, its event and its
//! audit entry are one sequence of calls and one commit.

use std::ops::{Deref, DerefMut};

use serde_json::Value;

use super::{
    Db, Result, Row, Statement, Tx, audit, outbox,
    revocations::{self, NumberedRevocation},
};
use crate::{
    clock::{Clock, Rng, Timestamp},
    model::{self, actor::Actor, event::Event, revocation::NewRevocation},
};

/// A [`Tx`] with its time, its ids and its actor. Dropping it rolls it back.
#[derive(Debug)]
pub struct AuditedTx {
    tx: Tx,
    clock: Clock,
    rng: Rng,
    actor: Actor,
    now: Timestamp,
}

impl AuditedTx {
    /// Begins a transaction for an actor. The clock is read once the transaction has its
    /// connection: on SQLite, where writers take turns, transactions have the order of their times.
    ///
    /// # Errors
    /// As [`Db::begin`].
    pub async fn begin(db: &Db, clock: &Clock, rng: &Rng, actor: &Actor) -> Result<Self> {
        let tx = db.begin().await?;
        let now = clock.now();
        Ok(Self { tx, clock: clock.clone(), rng: rng.clone(), actor: actor.clone(), now })
    }

    /// The time of everything the transaction does.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Reads the clock again: after the transaction has waited for a row lock, its changes are to
    /// be later than those of the transaction it waited for.
    pub fn read_clock(&mut self) -> Timestamp {
        self.now = self.clock.now();
        self.now
    }

    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    pub const fn actor(&self) -> &Actor {
        &self.actor
    }

    /// A new id for a row.
    pub fn new_id(&self) -> String {
        model::new_id(&self.clock, &self.rng)
    }

    /// Adds an event to the outbox.
    pub async fn event(&mut self, event: &Event) -> Result<()> {
        let id = self.new_id();
        outbox::add(&mut self.tx, id, event, self.actor.correlation_id(), self.now).await
    }

    /// Adds an entry to the audit log. `detail` says what changed and holds no secret.
    pub async fn audit(
        &mut self,
        action: &'static str,
        subject: Option<&str>,
        detail: Value,
    ) -> Result<()> {
        self.actor.note(&mut self.tx, action, subject, detail, self.now).await
    }

    /// Adds entries to the revocation list, as [`revocations::add`]: last in the transaction.
    pub async fn revoke(
        &mut self,
        new: Vec<NewRevocation>,
        reason: &str,
    ) -> Result<Vec<NumberedRevocation>> {
        let (now, entries) = revocations::add(&mut self.tx, &self.clock, new, reason).await?;
        self.now = now;
        Ok(entries)
    }

    /// Keeps the changes, as [`Tx::commit`].
    ///
    /// # Errors
    /// As [`Tx::commit`].
    pub async fn commit(self) -> Result<()> {
        self.tx.commit().await
    }

    /// Discards the changes, as [`Tx::rollback`].
    ///
    /// # Errors
    /// As [`Tx::rollback`].
    pub async fn rollback(self) -> Result<()> {
        self.tx.rollback().await
    }
}

impl Deref for AuditedTx {
    type Target = Tx;

    fn deref(&self) -> &Self::Target {
        &self.tx
    }
}

impl DerefMut for AuditedTx {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.tx
    }
}

/// A change of one statement with its events and audit entries. They are one transaction without
/// the round trips of one; where the change finds no row, none of them is written.
#[derive(Debug)]
pub struct AuditedWrite<'a> {
    db: &'a Db,
    clock: &'a Clock,
    rng: &'a Rng,
    actor: Actor,
    now: Timestamp,
    records: Records,
}

/// Events and audit entries that a change is written with.
#[derive(Debug, Default)]
pub(super) struct Records {
    events: Vec<outbox::NewRow>,
    entries: Vec<audit::NewRow>,
}

impl Records {
    fn insertions(self) -> Vec<Statement> {
        let events = self.events.into_iter().map(outbox::NewRow::insertion);
        events.chain(self.entries.into_iter().map(audit::NewRow::insertion)).collect()
    }

    /// Those of several changes together: two statements, whatever their number.
    pub(super) fn insertions_of_all(records: &[&Self]) -> Result<Vec<Statement>> {
        let events: Vec<_> = records.iter().flat_map(|records| &records.events).collect();
        let entries: Vec<_> = records.iter().flat_map(|records| &records.entries).collect();
        Ok(vec![
            outbox::NewRow::insertion_of_all(&events)?,
            audit::NewRow::insertion_of_all(&entries)?,
        ])
    }
}

impl<'a> AuditedWrite<'a> {
    /// Begins with nothing to write.
    pub fn new(db: &'a Db, clock: &'a Clock, rng: &'a Rng, actor: Actor) -> Self {
        Self { db, clock, rng, actor, now: clock.now(), records: Records::default() }
    }

    /// Adds an event to the outbox.
    pub fn event(mut self, event: &Event) -> Self {
        let id = model::new_id(self.clock, self.rng);
        let row = outbox::NewRow::new(id, event, self.actor.correlation_id(), self.now);
        self.records.events.push(row);
        self
    }

    /// Adds an entry to the audit log. `detail` says what changed and holds no secret.
    pub fn audit(mut self, action: &'static str, subject: Option<&str>, detail: Value) -> Self {
        let row = audit::NewRow::new(&self.actor, action, subject, &detail, self.now);
        self.records.entries.push(row);
        self
    }

    /// Runs the change, which has a RETURNING, and gives its rows.
    pub(super) async fn after(self, change: Statement) -> Result<Vec<Row>> {
        run_with(self.db, change, self.records).await
    }

    /// The database, and what an event needs that depends on what the change finds.
    pub(super) fn for_later(self) -> (&'a Db, Stamp) {
        let id = model::new_id(self.clock, self.rng);
        let correlation_id = self.actor.correlation_id().map(str::to_owned);
        (self.db, Stamp { id, correlation_id, now: self.now })
    }

    /// The database and what goes with the change, for one that shares its statement with others.
    pub(super) fn into_parts(self) -> (&'a Db, Records) {
        (self.db, self.records)
    }
}

/// What an event needs that is known before the change it describes.
#[derive(Debug)]
pub(super) struct Stamp {
    id: String,
    correlation_id: Option<String>,
    now: Timestamp,
}

impl Stamp {
    pub(super) fn event(&self, event: &Event) -> outbox::NewRow {
        outbox::NewRow::new(self.id.clone(), event, self.correlation_id.as_deref(), self.now)
    }
}

/// Runs a change, which has a RETURNING, with its records.
pub(super) async fn run_with(db: &Db, change: Statement, records: Records) -> Result<Vec<Row>> {
    db.write(change.followed_by(records.insertions())).await
}
