//! The relay of the outbox to Kafka: transactions that take numbers in one order and commit in
//! another, two relays and one lock, a broker that acknowledges, refuses and fails; relays that
//! stall and crash at any step and whose last messages may still arrive afterwards.
//!
//! Nothing in the model repeats for ever, so a state in which nothing more can happen is the end of
//! every path: what is true there is true eventually.

use stateright::{Model, Property};

use crate::support::{assert_found, assert_holds, dead_end};

/// The users of the events: the account of the first is created and then changed, the second logs
/// in.
const USERS: [usize; 3] = [0, 0, 1];
const EVENTS: usize = USERS.len();
/// The event that is published to a second topic as well, and the one that all others of its user
/// depend on.
const CREATED: usize = 0;
/// The event that the broker refuses for good.
const REFUSED: usize = 2;
const TOPICS: usize = 2;
const RELAYS: usize = 2;
const BATCH: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    AsDesigned,
    /// What is read is `number > last`.
    CursorByNumber,
    MarkBeforeAcknowledgement,
    /// Marked once the first of its topics has acknowledged it.
    MarkAfterFirstTopic,
    /// Every number up to the last of the batch is marked.
    MarkUpToNumber,
    NoLock,
    /// The lock is released before the batch is marked.
    ReleaseBeforeMark,
    /// The lock of a relay that crashed stays.
    NoTakeover,
    /// Several requests at a time to a broker, without an idempotent producer.
    UnorderedProducer,
    /// A message that failed does not stop those that were queued behind it.
    LaterAfterFailure,
    /// The newest first.
    Unordered,
    /// The event's id is drawn when it is published.
    IdAtPublication,
    /// Retention removes events that are not published.
    PruneUnpublished,
    /// A message that the broker refuses for good is sent again.
    RetryRefused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Row {
    NotYet,
    /// With its number, in a transaction that is open.
    Inserted(u8),
    Committed(u8),
    RolledBack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Message {
    event: usize,
    topic: usize,
    id: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Down,
    Standby,
    /// Has the lock, as far as it knows.
    Ready,
    Sending {
        batch: Vec<usize>,
        acknowledged: Vec<(usize, usize)>,
        failed: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Relay {
    phase: Phase,
    /// Sent, and not received by the broker.
    queue: Vec<Message>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    rows: [Row; EVENTS],
    /// For each event: the events of its user that were committed when it took its number.
    before: [u8; EVENTS],
    numbers: u8,
    /// `published_at`, a bit for each event.
    published: u8,
    pruned: u8,
    /// [`Variant::CursorByNumber`]
    cursor: u8,
    lock: Option<usize>,
    relays: [Relay; RELAYS],
    /// For each event and topic: how often it was received, two at most.
    log: [[u8; TOPICS]; EVENTS],
    ids: [[u8; TOPICS]; EVENTS],
    troubles: u8,
    out_of_order: bool,
    id_changed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Insert(usize),
    Commit(usize),
    RollBack(usize),
    Acquire(usize),
    /// Reads a batch and sends it.
    Send(usize),
    /// The broker receives the message at this place of the queue; the relay, if it still waits,
    /// its acknowledgement.
    Receive(usize, usize),
    Mark(usize),
    /// A message fails, and those behind it.
    Fail(usize),
    Crash(usize),
    /// What a crashed relay had sent never arrives.
    Drop(usize),
    Restart(usize),
    /// PostgreSQL finds the connection of the lock closed.
    Release,
    /// The connection is lost, unnoticed by the relay.
    LoseLock,
    Prune(usize),
}

struct Outbox {
    variant: Variant,
    /// Crashes, lost connections and failures.
    troubles: u8,
}

fn topics(event: usize) -> usize {
    if event == CREATED { 2 } else { 1 }
}

fn has(bits: u8, event: usize) -> bool {
    bits & 1 << event != 0
}

impl State {
    fn committed(&self, event: usize) -> Option<u8> {
        match self.rows[event] {
            Row::Committed(number) if !has(self.pruned, event) => Some(number),
            _ => None,
        }
    }

    fn is_logged(&self, event: usize) -> bool {
        self.log[event][..topics(event)].iter().all(|count| *count > 0)
    }

    fn all_published(&self) -> bool {
        let published = |event: usize| {
            let committed = matches!(self.rows[event], Row::Committed(_));
            !committed || has(self.published, event) && self.is_logged(event)
        };
        (0..EVENTS).all(published)
    }
}

impl Outbox {
    fn waiting(&self, state: &State) -> Vec<usize> {
        let mut found: Vec<(u8, usize)> = (0..EVENTS)
            .filter(|&event| match self.variant {
                Variant::CursorByNumber => true,
                _ => !has(state.published, event),
            })
            .filter_map(|event| Some((state.committed(event)?, event)))
            .filter(|(number, _)| match self.variant {
                Variant::CursorByNumber => *number > state.cursor,
                _ => true,
            })
            .collect();
        found.sort_unstable();
        if self.variant == Variant::Unordered {
            found.reverse();
        }
        found.into_iter().map(|(_, event)| event).take(BATCH).collect()
    }

    fn send(&self, state: &mut State, relay: usize) {
        // On the connection that has the lock: it fails where the lock is lost.
        let free = matches!(self.variant, Variant::NoLock | Variant::ReleaseBeforeMark);
        if state.lock != Some(relay) && !free {
            state.relays[relay] = Relay { phase: Phase::Standby, queue: vec![] };
            return;
        }
        let batch = self.waiting(state);
        for &event in &batch {
            for topic in 0..topics(event) {
                let mut id = event as u8;
                if self.variant == Variant::IdAtPublication {
                    id += 10 * state.log[event][topic];
                }
                state.relays[relay].queue.push(Message { event, topic, id });
            }
        }
        match self.variant {
            Variant::MarkBeforeAcknowledgement => self.mark(state, &batch),
            Variant::ReleaseBeforeMark => state.lock = None,
            _ => {}
        }
        state.relays[relay].phase = Phase::Sending { batch, acknowledged: vec![], failed: false };
    }

    fn mark(&self, state: &mut State, batch: &[usize]) {
        let last = batch.iter().filter_map(|event| state.committed(*event)).max().unwrap_or(0);
        state.cursor = state.cursor.max(last);
        for event in 0..EVENTS {
            let up_to = self.variant == Variant::MarkUpToNumber
                && state.committed(event).is_some_and(|number| number <= last);
            if batch.contains(&event) || up_to {
                state.published |= 1 << event;
            }
        }
    }

    fn receive(&self, state: &mut State, relay: usize, at: usize) {
        let message = state.relays[relay].queue.remove(at);
        let Message { event, topic, id } = message;
        if state.log[event][topic] == 0 {
            let earlier =
                |other: &usize| has(state.before[event], *other) && topic < topics(*other);
            state.out_of_order |=
                (0..EVENTS).filter(earlier).any(|other| state.log[other][topic] == 0);
            state.ids[event][topic] = id;
        }
        state.id_changed |= state.ids[event][topic] != id;
        state.log[event][topic] = (state.log[event][topic] + 1).min(2);
        if let Phase::Sending { acknowledged, .. } = &mut state.relays[relay].phase {
            acknowledged.push((event, topic));
            acknowledged.sort_unstable();
        }
    }

    /// Whether the whole batch is acknowledged.
    fn is_acknowledged(&self, batch: &[usize], acknowledged: &[(usize, usize)]) -> bool {
        batch.iter().all(|&event| {
            let needed = match self.variant {
                Variant::MarkAfterFirstTopic => 1,
                _ => topics(event),
            };
            (0..needed).all(|topic| acknowledged.contains(&(event, topic)))
        })
    }

    fn relay_actions(&self, state: &State, at: usize, actions: &mut Vec<Action>) {
        let Relay { phase, queue } = &state.relays[at];
        for (place, message) in queue.iter().enumerate() {
            // A topic's partition keeps the order of an idempotent producer.
            let is_first = queue[..place].iter().all(|other| other.topic != message.topic);
            let refused = message.event == REFUSED && self.variant == Variant::RetryRefused;
            if (is_first || self.variant == Variant::UnorderedProducer) && !refused {
                actions.push(Action::Receive(at, place));
            }
        }
        let trouble = state.troubles < self.troubles;
        match phase {
            Phase::Down if queue.is_empty() => actions.push(Action::Restart(at)),
            Phase::Down => actions.push(Action::Drop(at)),
            Phase::Standby => {
                if state.lock.is_none() || self.variant == Variant::NoLock {
                    actions.push(Action::Acquire(at));
                }
            }
            Phase::Ready => {
                if !self.waiting(state).is_empty() || state.lock != Some(at) {
                    actions.push(Action::Send(at));
                }
            }
            Phase::Sending { batch, acknowledged, failed } => {
                if self.is_acknowledged(batch, acknowledged) || *failed && queue.is_empty() {
                    actions.push(Action::Mark(at));
                }
                if trouble && !queue.is_empty() {
                    actions.push(Action::Fail(at));
                }
            }
        }
        if trouble && *phase != Phase::Down {
            actions.push(Action::Crash(at));
        }
    }
}

impl Model for Outbox {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let relay = Relay { phase: Phase::Standby, queue: vec![] };
        vec![State {
            rows: [Row::NotYet; EVENTS],
            before: [0; EVENTS],
            numbers: 0,
            published: 0,
            pruned: 0,
            cursor: 0,
            lock: None,
            relays: [relay.clone(), relay],
            log: [[0; TOPICS]; EVENTS],
            ids: [[0; TOPICS]; EVENTS],
            troubles: 0,
            out_of_order: false,
            id_changed: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (event, user) in USERS.into_iter().enumerate() {
            match state.rows[event] {
                Row::NotYet => {
                    let created = matches!(state.rows[CREATED], Row::Committed(_));
                    if event == CREATED || user != USERS[CREATED] || created {
                        actions.push(Action::Insert(event));
                    }
                }
                Row::Inserted(_) => {
                    actions.push(Action::Commit(event));
                    // One is enough for a gap in the numbers.
                    if event == REFUSED {
                        actions.push(Action::RollBack(event));
                    }
                }
                // Of what is published retention removes nothing that anybody reads again.
                Row::Committed(_) if self.variant == Variant::PruneUnpublished => {
                    if !has(state.pruned, event) {
                        actions.push(Action::Prune(event));
                    }
                }
                Row::Committed(_) | Row::RolledBack => {}
            }
        }
        for at in 0..RELAYS {
            self.relay_actions(state, at, actions);
        }
        if let Some(holder) = state.lock {
            let gone = matches!(state.relays[holder].phase, Phase::Down | Phase::Standby);
            if gone {
                if self.variant != Variant::NoTakeover {
                    actions.push(Action::Release);
                }
            } else if state.troubles < self.troubles {
                actions.push(Action::LoseLock);
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Insert(event) => {
                state.numbers += 1;
                state.rows[event] = Row::Inserted(state.numbers);
                let before = |other: &usize| {
                    USERS[*other] == USERS[event] && matches!(last.rows[*other], Row::Committed(_))
                };
                let before = (0..EVENTS).filter(before);
                state.before[event] = before.fold(0, |bits, other| bits | 1 << other);
            }
            Action::Commit(event) => {
                let Row::Inserted(number) = last.rows[event] else { return None };
                state.rows[event] = Row::Committed(number);
            }
            Action::RollBack(event) => state.rows[event] = Row::RolledBack,
            Action::Acquire(at) => {
                state.lock = Some(at);
                state.relays[at].phase = Phase::Ready;
            }
            Action::Send(at) => self.send(&mut state, at),
            Action::Receive(at, place) => self.receive(&mut state, at, place),
            Action::Mark(at) => {
                let Phase::Sending { batch, failed, .. } = &last.relays[at].phase else {
                    return None;
                };
                if !failed {
                    self.mark(&mut state, batch);
                }
                state.relays[at].phase = match self.variant {
                    Variant::ReleaseBeforeMark => Phase::Standby,
                    _ => Phase::Ready,
                };
            }
            Action::Fail(at) => {
                state.troubles += 1;
                let relay = &mut state.relays[at];
                let Phase::Sending { failed, .. } = &mut relay.phase else { return None };
                *failed = true;
                relay.queue.remove(0);
                if self.variant != Variant::LaterAfterFailure {
                    relay.queue.clear();
                }
            }
            Action::Crash(at) => {
                state.troubles += 1;
                state.relays[at].phase = Phase::Down;
            }
            Action::Drop(at) => state.relays[at].queue.clear(),
            Action::Restart(at) => state.relays[at].phase = Phase::Standby,
            Action::Release => state.lock = None,
            Action::LoseLock => {
                state.troubles += 1;
                state.lock = None;
            }
            Action::Prune(event) => state.pruned |= 1 << event,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let (always, sometimes) = (Property::<Self>::always, Property::<Self>::sometimes);
        vec![
            always(NO_GAP, |_, state| {
                (0..EVENTS).all(|event| !has(state.published, event) || state.is_logged(event))
            }),
            always(ORDER, |_, state| !state.out_of_order),
            always(SAME_ID, |_, state| !state.id_changed),
            always(ONCE, |_, state| {
                state.troubles > 0 || state.log.iter().flatten().all(|count| *count < 2)
            }),
            always(AT_REST, |model, state| {
                let mut actions = vec![];
                model.actions(state, &mut actions);
                !actions.is_empty() || state.all_published()
            }),
            sometimes("an event is published twice", |_, state| {
                state.log.iter().flatten().any(|count| *count == 2)
            }),
            sometimes("numbers are committed out of order", |_, state| {
                let skipped = state.rows.iter().filter_map(|row| match row {
                    Row::Inserted(number) => Some(*number),
                    _ => None,
                });
                let first = skipped.min().unwrap_or(u8::MAX);
                let later = |event| state.committed(event).is_some_and(|number| number > first);
                (0..EVENTS).any(|event| later(event) && has(state.published, event))
            }),
        ]
    }
}

const NO_GAP: &str = "what is marked as published was acknowledged, in every topic";
const ORDER: &str = "no event is first published before an earlier one of its user";
const SAME_ID: &str = "duplicates have the same id";
const ONCE: &str = "without crash and failure nothing is published twice";
const AT_REST: &str = "at rest every committed event is published";

fn outbox(variant: Variant) -> Outbox {
    Outbox { variant, troubles: 2 }
}

#[test]
fn every_event_is_published_in_order() {
    assert_holds("outbox relay", outbox(Variant::AsDesigned));
}

#[test]
fn publishing_never_stops_for_good() {
    let done = |_: &Outbox, state: &State| state.all_published();
    let (states, stuck) = dead_end(&Outbox { troubles: 1, ..outbox(Variant::AsDesigned) }, done);
    assert_eq!(stuck, None, "of {states} states");
    let (_, stuck) = dead_end(&Outbox { troubles: 1, ..outbox(Variant::NoTakeover) }, done);
    assert!(stuck.is_some(), "not found: NoTakeover");
}

#[test]
fn mutations_of_the_outbox_relay_are_found() {
    use Variant::*;
    for (mutation, property) in [
        (CursorByNumber, AT_REST),
        (MarkBeforeAcknowledgement, NO_GAP),
        (MarkAfterFirstTopic, NO_GAP),
        (MarkUpToNumber, NO_GAP),
        (NoLock, ONCE),
        (ReleaseBeforeMark, ONCE),
        (NoTakeover, AT_REST),
        (UnorderedProducer, ORDER),
        (LaterAfterFailure, ORDER),
        (Unordered, ORDER),
        (IdAtPublication, SAME_ID),
        (PruneUnpublished, AT_REST),
        (RetryRefused, AT_REST),
    ] {
        assert_found(&mutation, outbox(mutation), property);
    }
}
