//! The refresh token chain: two tabs that share what they are given, a thief who has every token
//! ever issued and garbage, a user who logs out, an administrator who disables the client;
//! processes that stall and crash at any step.
//!
//! Time is counted in ticks. A request reads the clock when it arrives; its statement follows
//! within the replay window (`database.acquire_timeout`), or never; every later step of it comes
//! any number of ticks later, or never.

use stateright::{Model, Property};

use crate::support::{assert_found, assert_holds};

/// The replay window in ticks.
const WINDOW: u8 = 2;
/// Requests at work at the same time: one of each tab, one of the thief.
const SLOTS: usize = 3;
const THIEF: usize = 2;
/// The secret of a token that was never issued.
const MADE_UP: u8 = u8::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    AsImplemented,
    /// The row is read, compared and then written, instead of one conditional UPDATE.
    SelectThenUpdate,
    /// Each successor is drawn at random instead of derived.
    RandomSuccessor,
    UnboundedWindow,
    NoReplay,
    /// Any older token gets the current one within the window.
    ReplayForEveryAncestor,
    /// The UPDATE has no `revoked_at IS NULL`.
    RotateRevoked,
    /// The replay does not look whether the session is live.
    ReplayRevoked,
    /// Whatever does not match is taken for reuse.
    RevokeOnGarbage,
    ReuseKeepsSession,
    RevokeWithoutEntry,
    AnswerBeforeCommit,
    /// `iat` is the clock when the access token is signed, not when the request arrived.
    IssuedAtSigning,
    /// Not the server's: a tab refreshes again while another's request with an older token is at
    /// work.
    EagerTabs,
    /// Not the server's: a request waits longer for its statement than the replay window lasts.
    SlowRequests,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Token {
    generation: u8,
    /// Equal secrets of one generation are one token.
    secret: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Row {
    current: Token,
    rotated_at: u8,
    revoked: bool,
    client_disabled: bool,
}

/// A rotation that was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Exchange {
    from: Token,
    to: Token,
    at: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Arrived,
    /// Only [`Variant::SelectThenUpdate`].
    Selected,
    /// Only [`Variant::AnswerBeforeCommit`]: whether the answer is out.
    Uncommitted(Token, bool),
    /// No row was updated.
    Missed,
    /// The successor is known, the access token is not signed yet.
    Issuing(Token),
    /// Reuse is detected, its revocation not committed.
    Reuse,
    /// The answer is on its way: the successor and `iat` of the access token.
    Answered(Option<(Token, u8)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Request {
    token: Token,
    arrived: u8,
    /// It arrived after a revocation was acknowledged.
    after_revocation: bool,
    step: Step,
}

/// What must not happen, noted by the step that does it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Faults {
    second_successor: bool,
    exchanged_is_current: bool,
    reuse_unpunished: bool,
    issued_after_revocation: bool,
    refused_within_window: bool,
    revoked_by_garbage: bool,
    token_of_disabled_client: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Ending {
    Open,
    Committed,
    Acknowledged,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    now: u8,
    row: Row,
    /// The session is on the revocation list.
    listed: bool,
    /// The client's entry on the revocation list: tokens issued until then.
    client_until: Option<u8>,
    logout: Ending,
    exchanges: Vec<Exchange>,
    /// The token that the tabs share.
    kept: Token,
    requests: [Option<Request>; SLOTS],
    /// An honest request arrived after the window of its token.
    late: bool,
    thief_was_active: bool,
    faults: Faults,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Tick,
    /// The slot's request arrives at a process, which reads its clock.
    Present(usize, Token),
    /// `ROTATE`, in [`Variant::SelectThenUpdate`] its SELECT.
    Rotate(usize),
    Update(usize),
    /// The row is read after `ROTATE` matched none, and decided on.
    Read(usize),
    /// The transaction of the revocation.
    Revoke(usize),
    Sign(usize),
    Deliver(usize),
    /// The answer is lost, or its process crashes.
    Lose(usize),
    LogOut,
    Acknowledge,
    DisableClient,
}

struct Chain {
    variant: Variant,
    tabs: usize,
    thief: bool,
    logout: bool,
    disables: bool,
    /// The last tick.
    ticks: u8,
    /// Rotations at most.
    rotations: u8,
}

impl Chain {
    fn successor(&self, of: Token, state: &State) -> Token {
        let generation = of.generation + 1;
        let secret = match self.variant {
            Variant::RandomSuccessor => {
                let drawn = state.exchanges.iter().map(|one| one.to.secret).max().unwrap_or(0);
                let at_work = state.requests.iter().flatten().filter_map(|one| match one.step {
                    Step::Issuing(token) | Step::Answered(Some((token, _))) => Some(token.secret),
                    _ => None,
                });
                at_work.max().unwrap_or(0).max(drawn) + 1
            }
            _ => of.secret,
        };
        Token { generation, secret }
    }

    fn rotate(&self, state: &mut State, token: Token, arrived: u8) -> Token {
        let to = self.successor(token, state);
        let again = state.exchanges.iter().any(|one| one.from == token && one.to != to);
        state.faults.second_successor |= again;
        state.row.current = to;
        state.row.rotated_at = arrived;
        state.exchanges.push(Exchange { from: token, to, at: arrived });
        state.faults.exchanged_is_current |= state.exchanges.iter().any(|one| one.from == to);
        to
    }

    fn matches(&self, row: &Row, token: Token) -> bool {
        let live = !row.revoked || self.variant == Variant::RotateRevoked;
        row.current == token && live && !row.client_disabled
    }

    /// The decision on a row that `ROTATE` did not match.
    fn decide(&self, state: &State, request: &Request) -> Step {
        let (row, token) = (&state.row, request.token);
        if row.revoked && self.variant != Variant::ReplayRevoked {
            return Step::Answered(None);
        }
        let genuine = token.secret != MADE_UP;
        let to = self.successor(token, state);
        let is_predecessor = match self.variant {
            Variant::ReplayForEveryAncestor => genuine && token.generation < row.current.generation,
            // It cannot be computed again: the token tells the generation, and the row its secret.
            Variant::RandomSuccessor => genuine && to.generation == row.current.generation,
            _ => to == row.current,
        };
        let in_window = match self.variant {
            Variant::UnboundedWindow => true,
            Variant::NoReplay => false,
            _ => row.rotated_at.abs_diff(request.arrived) < WINDOW,
        };
        if is_predecessor && in_window {
            return Step::Issuing(match self.variant {
                Variant::ReplayForEveryAncestor => row.current,
                _ => to,
            });
        }
        let is_ancestor = genuine && token.generation < row.current.generation;
        if is_ancestor || self.variant == Variant::RevokeOnGarbage {
            Step::Reuse
        } else {
            Step::Answered(None)
        }
    }

    /// Whether the answer of a decision is right, by what has happened.
    fn judge(state: &mut State, request: &Request, decided: Step) {
        let exchange = state.exchanges.iter().rfind(|one| one.from == request.token).copied();
        let Some(exchange) = exchange else { return };
        let is_predecessor = exchange.to == state.row.current;
        if let Step::Issuing(token) = decided {
            state.faults.second_successor |= token != exchange.to;
            state.faults.reuse_unpunished |= request.arrived >= exchange.at + WINDOW;
        } else if is_predecessor && !state.row.revoked {
            let in_time = request.arrived < exchange.at + WINDOW;
            state.faults.refused_within_window |= in_time;
        }
        let is_reuse = !is_predecessor || request.arrived >= exchange.at + WINDOW;
        if is_reuse && !state.row.revoked && matches!(decided, Step::Answered(_)) {
            state.faults.reuse_unpunished = true;
        }
    }

    fn present(&self, state: &mut State, slot: usize, token: Token) {
        let exchanged = state.exchanges.iter().find(|one| one.from == token);
        let is_late = exchanged.is_some_and(|one| state.now >= one.at + WINDOW);
        match slot {
            THIEF => state.thief_was_active = true,
            _ => state.late |= is_late,
        }
        state.requests[slot] = Some(Request {
            token,
            arrived: state.now,
            after_revocation: state.logout == Ending::Acknowledged,
            step: Step::Arrived,
        });
    }

    fn deliver(state: &mut State, slot: usize, request: &Request, tokens: Option<(Token, u8)>) {
        let Some((token, issued_at)) = tokens else { return };
        state.faults.issued_after_revocation |= request.after_revocation;
        state.faults.token_of_disabled_client |=
            state.client_until.is_some_and(|until| issued_at > until);
        if slot != THIEF && token.generation >= state.kept.generation {
            state.kept = token;
        }
    }
}

impl Model for Chain {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let first = Token { generation: 0, secret: 0 };
        vec![State {
            now: 0,
            row: Row { current: first, rotated_at: 0, revoked: false, client_disabled: false },
            listed: false,
            client_until: None,
            logout: Ending::Open,
            exchanges: vec![],
            kept: first,
            requests: [None; SLOTS],
            late: false,
            thief_was_active: false,
            faults: Faults::default(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.now < self.ticks {
            actions.push(Action::Tick);
        }
        // An administrator's disabling is checked when the client authenticates.
        let authenticates = !state.row.client_disabled;
        for slot in 0..SLOTS {
            let Some(request) = &state.requests[slot] else {
                if slot == THIEF && self.thief && authenticates {
                    let current = state.row.current;
                    let issued = state.exchanges.iter().map(|one| one.from).chain([current]);
                    actions.extend(issued.map(|token| Action::Present(slot, token)));
                    let made_up = Token { secret: MADE_UP, ..current };
                    actions.push(Action::Present(slot, made_up));
                }
                let of_tabs = state.requests[..THIEF].iter().flatten();
                let patient = of_tabs.map(|one| one.token).all(|token| token == state.kept);
                let may = patient || self.variant == Variant::EagerTabs;
                if slot < self.tabs && authenticates && may {
                    actions.push(Action::Present(slot, state.kept));
                }
                continue;
            };
            match request.step {
                Step::Arrived => {
                    let in_time = state.now - request.arrived < WINDOW;
                    let waits = in_time || self.variant == Variant::SlowRequests;
                    // The bound of the model is the last rotation; what matches nothing goes on.
                    let matches = request.token == state.row.current;
                    if waits && (!matches || state.row.current.generation < self.rotations) {
                        actions.push(Action::Rotate(slot));
                    }
                }
                Step::Selected => actions.push(Action::Update(slot)),
                Step::Uncommitted(_, out) => {
                    actions.push(Action::Update(slot));
                    if !out {
                        actions.push(Action::Deliver(slot));
                    }
                }
                Step::Missed => actions.push(Action::Read(slot)),
                Step::Reuse => actions.push(Action::Revoke(slot)),
                Step::Issuing(_) => actions.push(Action::Sign(slot)),
                Step::Answered(_) => actions.push(Action::Deliver(slot)),
            }
            actions.push(Action::Lose(slot));
        }
        if self.logout {
            match state.logout {
                Ending::Open => actions.push(Action::LogOut),
                Ending::Committed => actions.push(Action::Acknowledge),
                Ending::Acknowledged => {}
            }
        }
        if self.disables && !state.row.client_disabled {
            actions.push(Action::DisableClient);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let step_of = |slot: usize| last.requests[slot];
        let set = |state: &mut State, slot: usize, step: Step| {
            if let Some(request) = &mut state.requests[slot] {
                request.step = step;
            }
        };
        match action {
            Action::Tick => state.now += 1,
            Action::Present(slot, token) => self.present(&mut state, slot, token),
            Action::Rotate(slot) => {
                let request = step_of(slot)?;
                let matches = self.matches(&state.row, request.token);
                let step = match self.variant {
                    _ if !matches => Step::Missed,
                    Variant::SelectThenUpdate => Step::Selected,
                    Variant::AnswerBeforeCommit => {
                        Step::Uncommitted(self.successor(request.token, &state), false)
                    }
                    _ => Step::Issuing(self.rotate(&mut state, request.token, request.arrived)),
                };
                set(&mut state, slot, step);
            }
            Action::Update(slot) => {
                let request = step_of(slot)?;
                let to = self.rotate(&mut state, request.token, request.arrived);
                match request.step {
                    Step::Uncommitted(_, true) => state.requests[slot] = None,
                    _ => set(&mut state, slot, Step::Issuing(to)),
                }
            }
            Action::Read(slot) => {
                let request = step_of(slot)?;
                let decided = self.decide(&state, &request);
                Self::judge(&mut state, &request, decided);
                set(&mut state, slot, decided);
            }
            Action::Revoke(slot) => {
                let request = step_of(slot)?;
                if self.variant != Variant::ReuseKeepsSession {
                    state.row.revoked = true;
                    state.listed = true;
                }
                state.faults.revoked_by_garbage |= request.token.secret == MADE_UP;
                state.faults.reuse_unpunished |= !state.row.revoked;
                set(&mut state, slot, Step::Answered(None));
            }
            Action::Sign(slot) => {
                let request = step_of(slot)?;
                let Step::Issuing(token) = request.step else { return None };
                let issued_at = match self.variant {
                    Variant::IssuedAtSigning => state.now,
                    _ => request.arrived,
                };
                set(&mut state, slot, Step::Answered(Some((token, issued_at))));
            }
            Action::Deliver(slot) => {
                let request = step_of(slot)?;
                match request.step {
                    Step::Answered(tokens) => {
                        Self::deliver(&mut state, slot, &request, tokens);
                        state.requests[slot] = None;
                    }
                    Step::Uncommitted(token, false) => {
                        Self::deliver(&mut state, slot, &request, Some((token, request.arrived)));
                        set(&mut state, slot, Step::Uncommitted(token, true));
                    }
                    _ => return None,
                }
            }
            Action::Lose(slot) => state.requests[slot] = None,
            Action::LogOut => {
                state.row.revoked = true;
                state.listed = self.variant != Variant::RevokeWithoutEntry;
                state.logout = Ending::Committed;
            }
            Action::Acknowledge => state.logout = Ending::Acknowledged,
            Action::DisableClient => {
                state.row.client_disabled = true;
                // A second more than now, as `NewRevocation::at`.
                state.client_until = Some(state.now + 1);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let (always, sometimes) = (Property::<Self>::always, Property::<Self>::sometimes);
        vec![
            always(ONE_SUCCESSOR, |_, state| !state.faults.second_successor),
            always(ONE_CURRENT, |_, state| !state.faults.exchanged_is_current),
            always(REUSE, |_, state| !state.faults.reuse_unpunished),
            always(REVOKED, |_, state| !state.faults.issued_after_revocation),
            always(LISTED, |_, state| state.logout != Ending::Acknowledged || state.listed),
            always(IN_WINDOW, |_, state| !state.faults.refused_within_window),
            always(HONEST, |_, state| {
                let foreign = state.thief_was_active || state.logout != Ending::Open;
                !state.row.revoked || foreign || state.late
            }),
            always(KNOWN, |_, state| {
                let known = |token: Token| {
                    let first = state.exchanges.first().map_or(state.row.current, |one| one.from);
                    token == first || state.exchanges.iter().any(|one| one.to == token)
                };
                let out = |request: &Request| matches!(request.step, Step::Uncommitted(_, true));
                known(state.kept) || state.requests.iter().flatten().any(out)
            }),
            always(GARBAGE, |_, state| !state.faults.revoked_by_garbage),
            always(DISABLED, |_, state| !state.faults.token_of_disabled_client),
            sometimes("two requests get the same successor", |_, state| {
                let issued = |slot: usize| match state.requests[slot]?.step {
                    Step::Answered(Some((token, _))) => Some(token),
                    _ => None,
                };
                let other = issued(1).or(issued(THIEF));
                other.is_some() && issued(0) == other
            }),
            sometimes("a token of generation 2 is kept", |_, state| state.kept.generation == 2),
        ]
    }
}

const ONE_SUCCESSOR: &str = "a token has one successor ever";
const ONE_CURRENT: &str = "a token that was exchanged is never current again";
const REUSE: &str = "reuse outside the window revokes the session";
const REVOKED: &str = "nothing is issued after an acknowledged revocation";
const LISTED: &str = "a revoked session is on the revocation list";
const IN_WINDOW: &str = "a retry within the window is answered";
const HONEST: &str = "a client in time is never locked out";
const KNOWN: &str = "a client's token is one the server has committed";
const GARBAGE: &str = "a token that was never issued changes nothing";
const DISABLED: &str = "a disabled client has no accepted token";

fn honest(variant: Variant) -> Chain {
    Chain { variant, tabs: 2, thief: false, logout: false, disables: false, ticks: 5, rotations: 4 }
}

fn attacked(variant: Variant) -> Chain {
    Chain { variant, tabs: 1, thief: true, logout: true, disables: false, ticks: 3, rotations: 2 }
}

fn disabled(variant: Variant) -> Chain {
    Chain { variant, tabs: 2, thief: false, logout: false, disables: true, ticks: 4, rotations: 2 }
}

#[test]
fn two_tabs_are_never_locked_out() {
    assert_holds("refresh chain, two tabs", honest(Variant::AsImplemented));
}

#[test]
fn a_thief_gains_nothing_that_lasts() {
    assert_holds("refresh chain, thief and logout", attacked(Variant::AsImplemented));
}

#[test]
fn a_disabled_client_keeps_no_token() {
    assert_holds("refresh chain, client disabled", disabled(Variant::AsImplemented));
}

#[test]
fn mutations_of_the_refresh_chain_are_found() {
    use Variant::*;
    for (mutation, model, property) in [
        (SelectThenUpdate, attacked as fn(Variant) -> Chain, ONE_CURRENT),
        (RandomSuccessor, attacked, ONE_SUCCESSOR),
        (ReplayForEveryAncestor, attacked, ONE_SUCCESSOR),
        (UnboundedWindow, attacked, REUSE),
        (ReuseKeepsSession, attacked, REUSE),
        (RotateRevoked, attacked, REVOKED),
        (ReplayRevoked, attacked, REVOKED),
        (RevokeWithoutEntry, attacked, LISTED),
        (RevokeOnGarbage, attacked, GARBAGE),
        (NoReplay, honest, IN_WINDOW),
        (NoReplay, honest, HONEST),
        (SlowRequests, honest, HONEST),
        (AnswerBeforeCommit, honest, KNOWN),
        (EagerTabs, honest, HONEST),
        (IssuedAtSigning, disabled, DISABLED),
    ] {
        assert_found(&mutation, model(mutation), property);
    }
}
