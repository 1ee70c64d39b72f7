//! The saga of a registration whose profile is created by a consumer of `user.create`, and which a
//! message on `user.create.close` compensates: messages that are published and delivered more than
//! once, consumers that crash between commit and offset, a window that ends at any moment, messages
//! that are forged.

use stateright::{Model, Property};

use crate::support::{assert_found, assert_holds, dead_end};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    AsDesigned,
    /// The saga is written after the account's commit.
    SagaAfterCommit,
    /// A message deletes the account whatever has become of its saga.
    CloseWithoutOpenSaga,
    /// A message counts only once the event is marked as published.
    CloseOnlyWhenPublished,
    /// The offset is committed before the database.
    OffsetBeforeCommit,
    /// A message that is delivered again compensates again.
    CompensateAgain,
    /// `user.deleted` has no message for the consumer of `user.create`.
    NoTombstone,
    /// The deadline deletes the account whatever has become of its saga.
    DeadlineWithoutState,
    /// Not the server's: the user service creates an id again that it was told to delete.
    ServiceForgets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Account {
    None,
    Exists,
    Deleted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Saga {
    None,
    Started,
    Published,
    Closed,
    Compensated,
}

/// An event of the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Row {
    None,
    Waiting,
    /// Received by the broker, not marked.
    Sent,
    Marked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Message {
    Created,
    /// A null value.
    Tombstone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Consumer {
    Ready,
    /// The first of commit and offset is done.
    Half,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    account: Account,
    saga: Saga,
    created: Row,
    deleted: Row,
    /// `user.create`, as far as the user service has not read it.
    topic: Vec<Message>,
    profile: bool,
    /// The user service was told to delete the id.
    told: bool,
    /// Messages on `user.create.close` that are not consumed.
    closes: u8,
    /// Messages on `user.create.done` that are not consumed.
    dones: u8,
    consumer: Consumer,
    /// A message came when its saga was not open any more.
    late: bool,
    troubles: u8,
    forged: u8,
    deletions: u8,
    established_deleted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Register,
    OpenSaga,
    SendCreated,
    MarkCreated,
    SendDeleted,
    MarkDeleted,
    /// A relay sends `user.create` once more: it crashed before the mark, or its message was late.
    SendCreatedAgain,
    /// The user service reads a message; whether it reads it again.
    Read(bool),
    Forge,
    /// The transaction of the consumer of `user.create.close`, or the offset where that is first.
    Consume,
    /// The other of the two.
    Finish,
    CrashConsumer,
    /// `kafka.close_window` is over.
    CloseSaga,
    /// The transaction for a message on `user.create.done`; whether it is delivered again.
    Confirm(bool),
    /// `user_service.deadline` is over.
    Deadline,
}

struct Registration {
    variant: Variant,
    /// The user service refuses the account.
    refuses: bool,
    /// The user service confirms profiles, and an account without one is deleted in the end:
    /// `on_deadline = "compensate"`.
    confirms: bool,
    troubles: u8,
    forged: u8,
}

impl Registration {
    fn compensate(&self, state: &mut State) {
        let is_open = match state.saga {
            Saga::Published => true,
            Saga::Started => self.variant != Variant::CloseOnlyWhenPublished,
            Saga::Compensated if self.variant == Variant::CompensateAgain => true,
            _ => self.variant == Variant::CloseWithoutOpenSaga,
        };
        let exists = state.account == Account::Exists;
        if is_open && (exists || self.variant == Variant::CompensateAgain) {
            state.established_deleted |= state.saga == Saga::Closed;
            state.account = Account::Deleted;
            state.saga = Saga::Compensated;
            state.deleted = Row::Waiting;
            state.deletions += 1;
        } else if exists {
            // To the dead-letter topic.
            state.late |= state.saga == Saga::Closed;
        }
    }

    fn read(&self, state: &mut State, again: bool) {
        let message = state.topic[0];
        if again {
            state.troubles += 1;
        } else {
            state.topic.remove(0);
        }
        match message {
            Message::Created if self.refuses => state.closes += 1,
            Message::Created => {
                let creates = !state.told || self.variant == Variant::ServiceForgets;
                state.profile |= creates;
                state.dones += u8::from(creates && self.confirms);
            }
            Message::Tombstone => {
                state.profile = false;
                state.told = true;
            }
        }
    }

    fn is_at_rest(&self, state: &State) -> bool {
        let open = matches!(state.saga, Saga::Started | Saga::Published);
        let sent = |row: Row| matches!(row, Row::None | Row::Marked);
        let read = state.topic.is_empty() && state.closes == 0 && state.dones == 0;
        !open
            && read
            && sent(state.created)
            && sent(state.deleted)
            && state.consumer == Consumer::Ready
    }
}

impl Model for Registration {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            account: Account::None,
            saga: Saga::None,
            created: Row::None,
            deleted: Row::None,
            topic: vec![],
            profile: false,
            told: false,
            closes: 0,
            dones: 0,
            consumer: Consumer::Ready,
            late: false,
            troubles: 0,
            forged: 0,
            deletions: 0,
            established_deleted: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let trouble = state.troubles < self.troubles;
        match state.account {
            Account::None => actions.push(Action::Register),
            // It may crash before.
            _ if state.saga == Saga::None => actions.push(Action::OpenSaga),
            _ => {}
        }
        match state.created {
            Row::None => {}
            Row::Waiting => actions.push(Action::SendCreated),
            Row::Sent => actions.push(Action::MarkCreated),
            // The events of a user in order.
            Row::Marked => match state.deleted {
                Row::Waiting => actions.push(Action::SendDeleted),
                Row::Sent => actions.push(Action::MarkDeleted),
                Row::None | Row::Marked => {}
            },
        }
        if trouble && matches!(state.created, Row::Sent | Row::Marked) {
            actions.push(Action::SendCreatedAgain);
        }
        if !state.topic.is_empty() {
            actions.push(Action::Read(false));
            if trouble {
                actions.push(Action::Read(true));
            }
        }
        if state.forged < self.forged {
            actions.push(Action::Forge);
        }
        match state.consumer {
            Consumer::Ready if state.closes > 0 => actions.push(Action::Consume),
            Consumer::Ready => {}
            Consumer::Half => {
                actions.push(Action::Finish);
                if trouble {
                    actions.push(Action::CrashConsumer);
                }
            }
        }
        if state.dones > 0 {
            actions.push(Action::Confirm(false));
            if trouble {
                actions.push(Action::Confirm(true));
            }
        }
        let unchecked = self.variant == Variant::DeadlineWithoutState;
        match state.saga {
            Saga::Started | Saga::Published if !self.confirms => actions.push(Action::CloseSaga),
            // A saga that is not published yet waits.
            Saga::Published => actions.push(Action::Deadline),
            Saga::Closed if unchecked && state.account == Account::Exists => {
                actions.push(Action::Deadline);
            }
            _ => {}
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let early = self.variant == Variant::OffsetBeforeCommit;
        match action {
            Action::Register => {
                state.account = Account::Exists;
                state.created = Row::Waiting;
                if self.variant != Variant::SagaAfterCommit {
                    state.saga = Saga::Started;
                }
            }
            Action::OpenSaga => state.saga = Saga::Started,
            Action::SendCreated => {
                state.topic.push(Message::Created);
                state.created = Row::Sent;
            }
            Action::MarkCreated => {
                state.created = Row::Marked;
                if state.saga == Saga::Started {
                    state.saga = Saga::Published;
                }
            }
            Action::SendDeleted => {
                if self.variant != Variant::NoTombstone {
                    state.topic.push(Message::Tombstone);
                }
                state.deleted = Row::Sent;
            }
            Action::MarkDeleted => state.deleted = Row::Marked,
            Action::SendCreatedAgain => {
                state.topic.push(Message::Created);
                state.troubles += 1;
            }
            Action::Read(again) => self.read(&mut state, again),
            Action::Forge => {
                state.closes += 1;
                state.forged += 1;
            }
            Action::Consume => {
                state.consumer = Consumer::Half;
                match early {
                    true => state.closes -= 1,
                    false => self.compensate(&mut state),
                }
            }
            Action::Finish => {
                state.consumer = Consumer::Ready;
                match early {
                    true => self.compensate(&mut state),
                    false => state.closes -= 1,
                }
            }
            Action::CrashConsumer => {
                state.consumer = Consumer::Ready;
                state.troubles += 1;
            }
            Action::CloseSaga => state.saga = Saga::Closed,
            Action::Confirm(again) => {
                match again {
                    true => state.troubles += 1,
                    false => state.dones -= 1,
                }
                let open = matches!(state.saga, Saga::Started | Saga::Published);
                if open && state.account == Account::Exists {
                    state.saga = Saga::Closed;
                }
            }
            Action::Deadline => {
                state.established_deleted |= state.saga == Saga::Closed;
                state.account = Account::Deleted;
                state.saga = Saga::Compensated;
                state.deleted = Row::Waiting;
                state.deletions += 1;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let (always, sometimes) = (Property::<Self>::always, Property::<Self>::sometimes);
        let mut properties = vec![
            always(NO_ORPHAN, |model, state| {
                let agree = (state.account == Account::Exists) == state.profile;
                !model.is_at_rest(state) || agree || state.late
            }),
            always(ESTABLISHED, |_, state| !state.established_deleted),
            always(ONCE, |_, state| state.deletions < 2),
            sometimes("a registration is compensated", |model, state| {
                model.is_at_rest(state) && state.saga == Saga::Compensated
            }),
            sometimes("a registration is established", |model, state| {
                let done = state.saga == Saga::Closed && state.troubles > 0;
                model.is_at_rest(state) && done && (state.profile || model.refuses)
            }),
        ];
        if self.refuses {
            properties.push(sometimes("a refusal comes too late", |_, state| state.late));
        }
        properties
    }
}

const NO_ORPHAN: &str =
    "at rest there is an account if and only if there is a profile, or a refusal came too late";
const ESTABLISHED: &str = "no message and no deadline deletes an established account";
const ONCE: &str = "a registration is compensated once";

fn accepted(variant: Variant) -> Registration {
    Registration { variant, refuses: false, confirms: false, troubles: 4, forged: 2 }
}

fn confirmed(variant: Variant) -> Registration {
    Registration { confirms: true, forged: 1, ..accepted(variant) }
}

fn refused(variant: Variant) -> Registration {
    Registration { refuses: true, ..accepted(variant) }
}

/// Nobody forges messages.
fn honest(variant: Variant) -> Registration {
    Registration { forged: 0, ..refused(variant) }
}

#[test]
fn messages_leave_no_orphan() {
    assert_holds("saga by Kafka, forged messages", accepted(Variant::AsDesigned));
    assert_holds("saga by Kafka, an account that is refused", refused(Variant::AsDesigned));
    assert_holds("saga by Kafka, confirmed profiles", confirmed(Variant::AsDesigned));
}

#[test]
fn every_registration_by_kafka_comes_to_rest() {
    for model in [accepted, refused, honest, confirmed] {
        let model = model(Variant::AsDesigned);
        let (states, stuck) = dead_end(&model, |model, state| model.is_at_rest(state));
        assert_eq!(stuck, None, "of {states} states");
    }
}

#[test]
fn mutations_of_the_saga_by_kafka_are_found() {
    use Variant::*;
    for (mutation, model, property) in [
        (SagaAfterCommit, honest as fn(Variant) -> Registration, NO_ORPHAN),
        (CloseWithoutOpenSaga, accepted, ESTABLISHED),
        (CloseOnlyWhenPublished, honest, NO_ORPHAN),
        (OffsetBeforeCommit, honest, NO_ORPHAN),
        (CompensateAgain, honest, ONCE),
        (NoTombstone, accepted, NO_ORPHAN),
        (DeadlineWithoutState, confirmed, ESTABLISHED),
        (ServiceForgets, accepted, NO_ORPHAN),
    ] {
        assert_found(&mutation, model(mutation), property);
    }
}
