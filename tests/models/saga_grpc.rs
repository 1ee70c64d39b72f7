//! The saga of a registration whose profile is created by a call: the account is committed first,
//! then the user service is called, then the saga is concluded. Two processes, a lease that may
//! lapse under its holder, calls that arrive late or never, answers that are lost, kill -9 at any
//! step.

use stateright::{Model, Property};

use crate::support::{assert_found, assert_holds, dead_end};

const PROCESSES: usize = 2;
/// The process that the client has called.
const CALLED: usize = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    AsDesigned,
    /// The service is called before the account is committed.
    CallBeforeCommit,
    /// The account is committed without a saga.
    NoSaga,
    /// The client is answered before the service is called.
    AnswerBeforeCall,
    /// The account becomes established whatever has become of its saga.
    DoneWithoutStateCheck,
    /// The account is deleted whatever has become of its saga.
    CompensateWithoutStateCheck,
    /// The saga is compensated before the service has deleted the profile.
    CompensatedBeforeDelete,
    /// `DeleteUser` is called while a `CreateUser` may still have an effect, at a service that
    /// forgets.
    DeleteIsFinal,
    /// The lease of a process that crashed stays.
    NoTakeover,
}

/// What becomes of a registration while the service is unavailable: `on_failure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnFailure {
    Refuse,
    Later,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Account {
    None,
    Pending,
    Established,
    Deleted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Saga {
    None,
    Pending,
    Compensating,
    Compensated,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Method {
    CreateUser,
    DeleteUser,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reply {
    Done,
    Refused,
    Unavailable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Work {
    Idle,
    /// About to call.
    ToCall(Method),
    Waiting(Method),
    /// About to commit what follows from the reply.
    Replied(Method, Reply),
}

/// A call on its way; `from`: who waits for its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Call {
    method: Method,
    from: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Waiting,
    /// 201
    Created,
    /// 400 or 503
    Failed,
    /// The connection is lost.
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    account: Account,
    saga: Saga,
    lease: Option<usize>,
    work: [Work; PROCESSES],
    calls: Vec<Call>,
    profile: bool,
    /// The service remembers that it was told to delete the id.
    deleted: bool,
    answer: Answer,
    /// `user.deleted` in the outbox.
    deletions: u8,
    troubles: u8,
    established_deleted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Register,
    Call(usize),
    /// The service executes a call; whether the reply arrives.
    Serve(usize, bool),
    /// A call that nobody waits for never arrives.
    Drop(usize),
    Deadline(usize),
    /// The transaction that follows from the reply.
    Conclude(usize),
    /// The lease ends: of a crashed process, or of one that is slow.
    Lapse,
    TakeOver(usize),
    Crash(usize),
}

struct Registration {
    variant: Variant,
    on_failure: OnFailure,
    /// The service refuses this account.
    refuses: bool,
    /// The service refuses an id that it was told to delete.
    remembers: bool,
    troubles: u8,
}

impl Registration {
    fn register(&self, state: &mut State) {
        state.work[CALLED] = Work::ToCall(Method::CreateUser);
        if self.variant == Variant::CallBeforeCommit {
            return;
        }
        state.account = Account::Pending;
        if self.variant != Variant::NoSaga {
            state.saga = Saga::Pending;
            state.lease = Some(CALLED);
        }
        if self.variant == Variant::AnswerBeforeCall {
            state.answer = Answer::Created;
        }
    }

    fn serve(&self, state: &mut State, method: Method) -> Reply {
        match method {
            Method::CreateUser if self.refuses || state.deleted => Reply::Refused,
            // Idempotent by id.
            Method::CreateUser => {
                state.profile = true;
                Reply::Done
            }
            // NOT_FOUND counts as done.
            Method::DeleteUser => {
                state.profile = false;
                state.deleted = self.remembers;
                Reply::Done
            }
        }
    }

    fn delete_account(state: &mut State) {
        state.established_deleted |= state.account == Account::Established;
        state.account = Account::Deleted;
        state.deletions += 1;
    }

    fn answer(state: &mut State, process: usize, answer: Answer) {
        if process == CALLED && state.answer == Answer::Waiting {
            state.answer = answer;
        }
    }

    fn conclude(&self, state: &mut State, process: usize, method: Method, reply: Reply) {
        state.work[process] = Work::Idle;
        let is_pending = state.saga == Saga::Pending
            || matches!(self.variant, Variant::NoSaga | Variant::CallBeforeCommit);
        let release = |state: &mut State| {
            if state.lease == Some(process) {
                state.lease = None;
            }
        };
        match (method, reply) {
            (Method::CreateUser, Reply::Done)
                if is_pending || self.variant == Variant::DoneWithoutStateCheck =>
            {
                state.account = Account::Established;
                state.saga = Saga::Done;
                Self::answer(state, process, Answer::Created);
            }
            (Method::CreateUser, Reply::Refused)
                if is_pending || self.variant == Variant::CompensateWithoutStateCheck =>
            {
                Self::delete_account(state);
                state.saga = Saga::Compensated;
                Self::answer(state, process, Answer::Failed);
            }
            (Method::CreateUser, Reply::Unavailable) if self.on_failure == OnFailure::Later => {
                // The background goes on.
                if is_pending {
                    Self::answer(state, process, Answer::Created);
                }
                release(state);
            }
            (Method::CreateUser, Reply::Unavailable)
                if is_pending || self.variant == Variant::CompensateWithoutStateCheck =>
            {
                Self::delete_account(state);
                state.saga = match self.variant {
                    Variant::CompensatedBeforeDelete => Saga::Compensated,
                    _ => Saga::Compensating,
                };
                Self::answer(state, process, Answer::Failed);
                state.work[process] = Work::ToCall(Method::DeleteUser);
            }
            // Another process has concluded it.
            (Method::CreateUser, _) => {
                let done = state.saga == Saga::Done;
                Self::answer(state, process, if done { Answer::Created } else { Answer::Failed });
            }
            (Method::DeleteUser, reply) => {
                if state.saga == Saga::Compensating && reply == Reply::Done {
                    state.saga = Saga::Compensated;
                }
                release(state);
            }
        }
    }

    fn may_delete(&self, state: &State) -> bool {
        let create = Method::CreateUser;
        let calling = |work: &Work| [Work::ToCall(create), Work::Waiting(create)].contains(work);
        let arriving = state.calls.iter().any(|call| call.method == create);
        let may_create = arriving || state.work.iter().any(calling);
        self.remembers || !may_create || self.variant == Variant::DeleteIsFinal
    }

    /// Whether nobody works on the registration any more.
    fn is_at_rest(state: &State) -> bool {
        let idle = state.work.iter().all(|work| *work == Work::Idle);
        let open = matches!(state.saga, Saga::Pending | Saga::Compensating);
        idle && !open && state.calls.is_empty()
    }
}

impl Model for Registration {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            account: Account::None,
            saga: Saga::None,
            lease: None,
            work: [Work::Idle; PROCESSES],
            calls: vec![],
            profile: false,
            deleted: false,
            answer: Answer::Waiting,
            deletions: 0,
            troubles: 0,
            established_deleted: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let trouble = state.troubles < self.troubles;
        let unused = state.account == Account::None && state.calls.is_empty() && !state.profile;
        if unused && state.answer == Answer::Waiting && state.work[CALLED] == Work::Idle {
            actions.push(Action::Register);
        }
        for (at, work) in state.work.iter().enumerate() {
            match work {
                Work::Idle => {
                    let open = matches!(state.saga, Saga::Pending | Saga::Compensating);
                    if open && state.lease.is_none() {
                        actions.push(Action::TakeOver(at));
                    }
                }
                // Where the service forgets, not before the last `CreateUser` has had its effect.
                Work::ToCall(Method::DeleteUser) if !self.may_delete(state) => {}
                Work::ToCall(_) => actions.push(Action::Call(at)),
                Work::Waiting(_) if trouble => actions.push(Action::Deadline(at)),
                // Its reply was lost: the deadline comes.
                Work::Waiting(_) if state.calls.iter().all(|call| call.from != Some(at)) => {
                    actions.push(Action::Deadline(at));
                }
                Work::Waiting(_) => {}
                Work::Replied(..) => actions.push(Action::Conclude(at)),
            }
            if trouble && *work != Work::Idle {
                actions.push(Action::Crash(at));
            }
        }
        for (at, call) in state.calls.iter().enumerate() {
            actions.push(Action::Serve(at, true));
            match call.from {
                Some(_) if trouble => actions.push(Action::Serve(at, false)),
                Some(_) => {}
                None => actions.push(Action::Drop(at)),
            }
        }
        if let Some(holder) = state.lease {
            let gone = state.work[holder] == Work::Idle && self.variant != Variant::NoTakeover;
            if gone || state.work[holder] != Work::Idle && trouble {
                actions.push(Action::Lapse);
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Register => self.register(&mut state),
            Action::Call(at) => {
                let Work::ToCall(method) = last.work[at] else { return None };
                state.calls.push(Call { method, from: Some(at) });
                state.work[at] = Work::Waiting(method);
            }
            Action::Serve(at, arrives) => {
                let Call { method, from } = state.calls.remove(at);
                let reply = self.serve(&mut state, method);
                match from {
                    Some(process) if arrives => state.work[process] = Work::Replied(method, reply),
                    _ => state.troubles += u8::from(!arrives),
                }
            }
            Action::Drop(at) => drop(state.calls.remove(at)),
            Action::Deadline(at) => {
                let Work::Waiting(method) = last.work[at] else { return None };
                let call = state.calls.iter_mut().find(|call| call.from == Some(at));
                if let Some(call) = call {
                    call.from = None;
                    state.troubles += 1;
                }
                state.work[at] = Work::Replied(method, Reply::Unavailable);
            }
            Action::Conclude(at) => {
                let Work::Replied(method, reply) = last.work[at] else { return None };
                self.conclude(&mut state, at, method, reply);
            }
            Action::Lapse => {
                let holder = last.lease?;
                state.troubles += u8::from(last.work[holder] != Work::Idle);
                state.lease = None;
            }
            Action::TakeOver(at) => {
                state.lease = Some(at);
                state.work[at] = Work::ToCall(match last.saga {
                    Saga::Compensating => Method::DeleteUser,
                    _ => Method::CreateUser,
                });
            }
            Action::Crash(at) => {
                state.troubles += 1;
                state.work[at] = Work::Idle;
                for call in &mut state.calls {
                    call.from = call.from.filter(|from| *from != at);
                }
                Self::answer(&mut state, at, Answer::Lost);
            }
        }
        state.calls.sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let (always, sometimes) = (Property::<Self>::always, Property::<Self>::sometimes);
        let mut properties = vec![
            always(NO_ORPHAN, |_, state| {
                let has_account = matches!(state.account, Account::Pending | Account::Established);
                !Self::is_at_rest(state) || has_account == state.profile
            }),
            always(ESTABLISHED, |_, state| !state.established_deleted),
            always(CREATED, |model, state| {
                let may_wait = model.on_failure == OnFailure::Later;
                let established = state.account == Account::Established;
                state.answer != Answer::Created || established || may_wait
            }),
            always(FAILED, |_, state| {
                state.answer != Answer::Failed || state.account == Account::Deleted
            }),
            always(ONCE, |_, state| state.deletions < 2),
        ];
        let resumed = |_: &Self, state: &State| {
            state.answer == Answer::Lost && state.saga == Saga::Done && state.troubles > 1
        };
        let compensated = |_: &Self, state: &State| {
            Self::is_at_rest(state) && state.saga == Saga::Compensated && state.troubles > 1
        };
        if self.refuses || self.on_failure == OnFailure::Refuse {
            properties.push(sometimes("a registration is compensated", compensated));
        }
        if !self.refuses {
            properties.push(sometimes("a registration is resumed by another process", resumed));
        }
        properties
    }
}

const NO_ORPHAN: &str = "at rest there is an account if and only if there is a profile";
const ESTABLISHED: &str = "an established account is not deleted";
const CREATED: &str = "a user who was answered 201 has an established account";
const FAILED: &str = "a user who was answered 400 or 503 has no account";
const ONCE: &str = "a registration is compensated once";

fn refuse(variant: Variant) -> Registration {
    let on_failure = OnFailure::Refuse;
    Registration { variant, on_failure, refuses: false, remembers: true, troubles: 5 }
}

fn forgets(variant: Variant) -> Registration {
    Registration { remembers: false, ..refuse(variant) }
}

fn refused(variant: Variant) -> Registration {
    Registration { refuses: true, ..refuse(variant) }
}

fn later(variant: Variant) -> Registration {
    Registration { on_failure: OnFailure::Later, ..refuse(variant) }
}

#[test]
fn calls_leave_no_orphan() {
    let design = Variant::AsDesigned;
    assert_holds("saga by gRPC, `refuse`", refuse(design));
    assert_holds("saga by gRPC, a service that forgets", forgets(design));
    assert_holds("saga by gRPC, an account that is refused", refused(design));
    assert_holds("saga by gRPC, `later`", later(design));
    let refused_later = Registration { refuses: true, ..later(design) };
    assert_holds("saga by gRPC, `later`, an account that is refused", refused_later);
}

#[test]
fn every_registration_comes_to_rest() {
    for model in [refuse, forgets, refused, later] {
        let rests = |_: &Registration, state: &State| Registration::is_at_rest(state);
        let (states, stuck) = dead_end(&model(Variant::AsDesigned), rests);
        assert_eq!(stuck, None, "of {states} states");
        let (_, stuck) = dead_end(&model(Variant::NoTakeover), rests);
        assert!(stuck.is_some(), "not found: NoTakeover");
    }
}

#[test]
fn mutations_of_the_saga_by_grpc_are_found() {
    use Variant::*;
    for (mutation, model, property) in [
        (CallBeforeCommit, refuse as fn(Variant) -> Registration, NO_ORPHAN),
        (NoSaga, refuse, NO_ORPHAN),
        (CompensatedBeforeDelete, refuse, NO_ORPHAN),
        (DeleteIsFinal, forgets, NO_ORPHAN),
        (DoneWithoutStateCheck, refuse, FAILED),
        (CompensateWithoutStateCheck, refuse, ESTABLISHED),
        (CompensateWithoutStateCheck, refused, ONCE),
        (AnswerBeforeCall, refuse, CREATED),
    ] {
        assert_found(&mutation, model(mutation), property);
    }
}
