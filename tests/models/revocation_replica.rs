//! The Redis replica of the revocation list with its epoch and lease: processes that commit, keep
//! the replica and check tokens; two Redis servers that are flushed, restarted, promoted with an
//! older copy, and masters at the same time; processes that stall and crash at any step.
//!
//! Points in time are kept as ages in ticks and end where they make no more difference, so that
//! time itself has no bound.

use stateright::{Model, Property};

use crate::support::{assert_found, assert_holds, dead_end};

/// `LEASE`: a key that expires at a tick exists during that tick.
const LEASE: u8 = 1;
/// `LONGEST_LEASE`
const LONGEST_LEASE: u8 = LEASE + 1;
/// `UNTRUSTED_TTL`: longer than its creator waits.
const UNTRUSTED_TTL: u8 = LONGEST_LEASE + 1;
const PROCESSES: usize = 2;
const SERVERS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    AsImplemented,
    /// A commit is acknowledged at once.
    AcknowledgeAtCommit,
    /// A round acknowledges commits that arrived while it was at work.
    AcknowledgeArrivals,
    /// A commit is acknowledged while leases granted before it still run.
    AcknowledgeEarly,
    /// The lease counts from a clock that is read after the database.
    ClockAfterDatabase,
    /// The lease ends for those who renew it only.
    LeaseWithoutExpiry,
    /// Whatever epoch the replica has is trusted.
    TrustAnyEpoch,
    /// The epoch is compared without the `run_id` of the Redis process.
    EpochWithoutRunId,
    /// The database's epoch is set, not compared and set.
    EpochWithoutCompare,
    /// A new replica is trusted while the lease of the old one may run.
    NoWaitAfterEpoch,
    /// A new replica has versions at once, not with its creator's first update.
    TrustedAtCreation,
    /// A check does not compare the epoch of what it reads.
    CheckWithoutEpoch,
    /// Entries are read without the epoch and the versions of the replica they come from.
    EntriesWithoutVersion,
    /// Not the server's: Redis' clock is set back.
    ClockSetBack,
}

/// `run_id` and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Epoch {
    run: u8,
    number: u8,
}

/// The hash in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Content {
    epoch: Epoch,
    /// A bit for each entry.
    entries: u8,
    number: u8,
    versions: Option<u8>,
    /// Ticks until it expires.
    left: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Server {
    /// Its `run_id`.
    run: u8,
    content: Option<Content>,
}

/// A connection: the server and the `run_id` it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Link {
    server: usize,
    run: u8,
}

/// Where the lease keeper of a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Round {
    Idle,
    /// Redis' clock and the epoch are read; `creates`: of the replica it is creating.
    Observed {
        age: u8,
        epoch: Option<Epoch>,
        creates: Option<u8>,
        commits: u8,
    },
    /// The database is read.
    Compared {
        age: u8,
        epoch: Option<Epoch>,
        creates: Option<u8>,
        commits: u8,
        version: u8,
        current: u8,
    },
    /// An untrusted replica is in Redis; the database had the epoch `previous`.
    Created {
        number: u8,
        previous: u8,
        commits: u8,
    },
    /// The database has its epoch.
    Registered {
        number: u8,
        age: u8,
        commits: u8,
    },
}

/// A check of a token, begun and not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Check {
    /// The revocations that were acknowledged when it began.
    acknowledged: u8,
    version: u8,
    replicated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Process {
    link: Option<Link>,
    /// The connection through which the replica is trusted, and its epoch.
    trusted: Option<(Link, Epoch)>,
    round: Round,
    /// The version in memory, and the entries.
    known: u8,
    memory: u8,
    check: Option<Check>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Commit {
    NotYet,
    Waiting {
        process: usize,
        age: u8,
    },
    Acknowledged,
    /// Its process crashed: nobody is answered.
    Abandoned,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    commits: [Commit; 2],
    /// The database's `replica_epoch`.
    epoch: u8,
    servers: [Server; SERVERS],
    processes: [Process; PROCESSES],
    /// Epochs and `run_id`s drawn, and what may still happen.
    epochs: u8,
    runs: u8,
    upsets: u8,
    crashes: u8,
    missed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Tick,
    Commit(usize),
    /// The longest lease is over.
    AcknowledgeByTime(usize),
    Connect(usize, usize),
    Observe(usize),
    ReadDatabase(usize),
    /// The script `UPDATE`, and what follows from its answer.
    Update(usize),
    /// Another process is creating the replica.
    GiveUp(usize),
    /// The script `CREATE`.
    Create(usize),
    SetEpoch(usize),
    BeginCheck(usize),
    FinishCheck(usize),
    Flush(usize),
    Restart(usize),
    /// The other server gets what this one has now, and later changes do not reach it.
    Copy(usize),
    Crash(usize),
    SetClockBack(usize),
}

struct Replica {
    variant: Variant,
    servers: usize,
    epochs: u8,
    upsets: u8,
    crashes: u8,
    revocations: usize,
    /// The last process checks tokens, and remembers what it has read.
    checks: bool,
    /// How many processes act. Another one trusts the second server, and stalls.
    processes: usize,
}

/// What a check compares with in [`Variant::CheckWithoutEpoch`].
const ANY_EPOCH: Epoch = Epoch { run: u8::MAX, number: u8::MAX };

fn bits(from: u8, to: u8) -> u8 {
    (from + 1..=to).fold(0, |bits, number| bits | 1 << number)
}

impl State {
    /// The database's version.
    fn version(&self) -> u8 {
        self.commits.iter().map(|commit| u8::from(*commit != Commit::NotYet)).sum()
    }

    fn acknowledged(&self) -> u8 {
        let acknowledged = |at: &usize| self.commits[*at] == Commit::Acknowledged;
        (0..self.commits.len()).filter(acknowledged).fold(0, |bits, at| bits | 2 << at)
    }

    /// The commits that wait for a process, as bits of their numbers.
    fn waiting(&self, of: usize) -> u8 {
        let waits =
            |commit: Commit| matches!(commit, Commit::Waiting { process, .. } if process == of);
        (0..self.commits.len())
            .filter(|at| waits(self.commits[*at]))
            .fold(0, |bits, at| bits | 2 << at)
    }

    /// What is in Redis at the other end of a connection.
    fn through(&self, link: Link) -> Option<&Content> {
        let server = &self.servers[link.server];
        server.content.as_ref().filter(|_| link.run == server.run)
    }

    /// The replica that a process trusts.
    fn trusted(&self, process: usize) -> Option<&Content> {
        let (link, epoch) = self.processes[process].trusted?;
        self.through(link).filter(|content| epoch == ANY_EPOCH || content.epoch == epoch)
    }

    fn broken(&self, link: Link) -> bool {
        self.servers[link.server].run != link.run
    }

    fn acknowledge(&mut self, numbers: u8) {
        for (at, commit) in self.commits.iter_mut().enumerate() {
            if numbers & 2 << at != 0 && matches!(commit, Commit::Waiting { .. }) {
                *commit = Commit::Acknowledged;
            }
        }
    }
}

impl Replica {
    fn may_use(&self, epoch: Option<Epoch>, link: Link, current: u8) -> bool {
        match (self.variant, epoch) {
            (_, None) => false,
            (Variant::TrustAnyEpoch, Some(_)) => true,
            (Variant::EpochWithoutRunId, Some(epoch)) => epoch.number == current,
            (_, Some(epoch)) => epoch == Epoch { run: link.run, number: current },
        }
    }

    /// The script `UPDATE`: whether the replica is trusted.
    fn update(&self, content: &mut Option<Content>, age: u8, version: u8, creates: bool) -> bool {
        let Some(found) = content else { return false };
        found.entries |= bits(found.number, version);
        found.number = found.number.max(version);
        if found.versions.is_none() && !creates {
            return false;
        }
        // Relative to now; negative: the lease would have ended before.
        let until = i16::from(LEASE) - i16::from(age);
        let mut left = i16::from(found.left);
        if until > left || found.versions.is_none() {
            left = until;
        }
        left = left.min(i16::from(LEASE));
        found.versions = Some(found.number);
        match u8::try_from(left) {
            Ok(left) => found.left = left,
            Err(_) => *content = None,
        }
        true
    }

    fn finish_check(&self, state: &mut State, of: usize) -> Option<()> {
        let process = state.processes[of];
        let check = process.check?;
        let mut memory = process.memory;
        if check.version > process.known {
            let replica = match self.variant {
                Variant::EntriesWithoutVersion => {
                    process.trusted.and_then(|(link, _)| state.through(link))
                }
                _ => state.trusted(of).filter(|found| found.versions >= Some(check.version)),
            };
            memory |= match replica.filter(|_| check.replicated) {
                // An entry that is missing is taken for expired.
                Some(content) => content.entries & bits(process.known, check.version),
                None => bits(process.known, state.version()),
            };
        }
        state.missed |= check.acknowledged & !memory != 0;
        let process = &mut state.processes[of];
        process.memory = memory;
        process.known = process.known.max(check.version);
        process.check = None;
        Some(())
    }

    /// Forgets what makes no difference to anything that can still happen.
    fn forget(&self, state: &mut State) {
        for at in 0..PROCESSES {
            let waiting = state.waiting(at);
            let Process { link, trusted, .. } = state.processes[at];
            let broken = link.is_some_and(|link| state.broken(link));
            let distrusted = trusted.is_some_and(|(link, _)| state.broken(link));
            let process = &mut state.processes[at];
            if distrusted {
                process.trusted = None;
            }
            if broken {
                process.round = Round::Idle;
            }
            match &mut process.round {
                Round::Idle => {}
                Round::Created { commits, .. } | Round::Registered { commits, .. } => {
                    *commits &= waiting;
                }
                Round::Observed { age, epoch, commits, .. } => {
                    *commits &= waiting;
                    if epoch.is_none() {
                        *age = 0;
                    }
                }
                Round::Compared { age, epoch, commits, version, current, .. } => {
                    *commits &= waiting;
                    if !link.is_some_and(|link| self.may_use(*epoch, link, *current)) {
                        (*age, *epoch, *version) = (0, None, 0);
                    }
                }
            }
        }
    }

    fn tick(&self, state: &mut State) {
        let older = |age: u8, most: u8| (age + 1).min(most);
        for commit in &mut state.commits {
            if let Commit::Waiting { age, .. } = commit {
                *age = older(*age, LONGEST_LEASE);
            }
        }
        for server in &mut state.servers {
            let Some(content) = &mut server.content else { continue };
            if self.variant == Variant::LeaseWithoutExpiry {
                continue;
            }
            match content.left.checked_sub(1) {
                Some(left) => content.left = left,
                None => server.content = None,
            }
        }
        for process in &mut state.processes {
            match &mut process.round {
                Round::Observed { age, .. } | Round::Compared { age, .. } => {
                    *age = older(*age, LEASE + 1);
                }
                Round::Registered { age, .. } => *age = older(*age, LONGEST_LEASE),
                Round::Idle | Round::Created { .. } => {}
            }
        }
    }
}

impl Model for Replica {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let process = Process {
            link: None,
            trusted: None,
            round: Round::Idle,
            known: 0,
            memory: 0,
            check: None,
        };
        let mut state = State {
            commits: [Commit::NotYet; 2],
            epoch: 0,
            servers: [Server { run: 0, content: None }, Server { run: 1, content: None }],
            processes: [process; PROCESSES],
            epochs: 0,
            runs: 2,
            upsets: 0,
            crashes: 0,
            missed: false,
        };
        if self.processes < PROCESSES && self.servers == SERVERS {
            let epoch = Epoch { run: 1, number: 1 };
            let content = Content { epoch, entries: 0, number: 0, versions: Some(0), left: LEASE };
            let compared = match self.variant {
                Variant::CheckWithoutEpoch => ANY_EPOCH,
                _ => epoch,
            };
            (state.epoch, state.epochs) = (1, 1);
            state.servers[1].content = Some(content);
            state.processes[1].trusted = Some((Link { server: 1, run: 1 }, compared));
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Tick);
        for (at, commit) in state.commits.iter().enumerate() {
            let longest = match self.variant {
                Variant::AcknowledgeEarly => LEASE,
                _ => LONGEST_LEASE,
            };
            if matches!(commit, Commit::Waiting { age, .. } if *age >= longest) {
                actions.push(Action::AcknowledgeByTime(at));
            }
        }
        for (at, process) in state.processes.iter().enumerate().take(self.processes) {
            if usize::from(state.version()) < self.revocations {
                actions.push(Action::Commit(at));
            }
            let lost = process.link.is_none_or(|link| state.broken(link));
            for server in 0..self.servers {
                let other = process.link.is_none_or(|link| link.server != server);
                // Processes are alike: it is the second one that is led elsewhere.
                if (at == 1 || server == 0) && (lost || other && process.round == Round::Idle) {
                    actions.push(Action::Connect(at, server));
                }
            }
            if let Some(link) = process.link.filter(|link| !state.broken(*link)) {
                match process.round {
                    Round::Idle => actions.push(Action::Observe(at)),
                    Round::Observed { .. } => actions.push(Action::ReadDatabase(at)),
                    Round::Compared { epoch, current, .. } => {
                        if self.may_use(epoch, link, current) {
                            actions.push(Action::Update(at));
                        } else {
                            actions.push(Action::GiveUp(at));
                            if state.epochs < self.epochs {
                                actions.push(Action::Create(at));
                            }
                        }
                    }
                    Round::Created { .. } => actions.push(Action::SetEpoch(at)),
                    Round::Registered { age, .. } if age >= LONGEST_LEASE => {
                        actions.push(Action::Observe(at));
                    }
                    Round::Registered { .. } => {}
                }
            }
            match process.check {
                None if self.checks && at + 1 == self.processes => {
                    actions.push(Action::BeginCheck(at));
                }
                None => {}
                Some(_) => actions.push(Action::FinishCheck(at)),
            }
            if state.crashes < self.crashes {
                actions.push(Action::Crash(at));
            }
        }
        if state.upsets < self.upsets {
            for server in 0..SERVERS {
                if state.servers[server].content.is_some() {
                    actions.push(Action::Flush(server));
                    actions.push(Action::Restart(server));
                }
            }
            for from in 0..SERVERS {
                if self.servers == SERVERS && state.servers[from].content.is_some() {
                    actions.push(Action::Copy(from));
                }
            }
            if self.variant == Variant::ClockSetBack {
                actions.push(Action::SetClockBack(0));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Tick => self.tick(&mut state),
            Action::Commit(process) => {
                let at = usize::from(state.version());
                state.commits[at] = match self.variant {
                    Variant::AcknowledgeAtCommit => Commit::Acknowledged,
                    _ => Commit::Waiting { process, age: 0 },
                };
            }
            Action::AcknowledgeByTime(at) => state.commits[at] = Commit::Acknowledged,
            // What was at work failed.
            Action::Connect(at, server) => {
                let run = state.servers[server].run;
                let process = &mut state.processes[at];
                process.link = Some(Link { server, run });
                process.trusted = None;
                process.round = Round::Idle;
            }
            Action::Observe(at) => {
                let found = state.processes[at].link.and_then(|link| state.through(link));
                let epoch = found.map(|content| content.epoch);
                let (creates, commits) = match state.processes[at].round {
                    Round::Registered { number, commits, .. } => (Some(number), commits),
                    _ => (None, state.waiting(at)),
                };
                state.processes[at].round = Round::Observed { age: 0, epoch, creates, commits };
            }
            Action::ReadDatabase(at) => {
                let Round::Observed { mut age, epoch, creates, commits } = last.processes[at].round
                else {
                    return None;
                };
                if self.variant == Variant::ClockAfterDatabase {
                    age = 0;
                }
                let (version, current) = (state.version(), state.epoch);
                let lost = creates.is_some_and(|number| number != current);
                state.processes[at].round = match lost {
                    true => Round::Idle,
                    false => Round::Compared { age, epoch, creates, commits, version, current },
                };
            }
            Action::Update(at) => {
                let process = last.processes[at];
                let Round::Compared { age, epoch, creates, commits, version, .. } = process.round
                else {
                    return None;
                };
                // The script compares the epoch again.
                let server = &mut state.servers[process.link?.server];
                let same = server.content.is_some_and(|content| Some(content.epoch) == epoch);
                let age = match self.variant {
                    Variant::ClockAfterDatabase => 0,
                    _ => age,
                };
                let trusted =
                    same && self.update(&mut server.content, age, version, creates.is_some());
                state.processes[at].round = Round::Idle;
                if trusted {
                    let compared = match self.variant {
                        Variant::CheckWithoutEpoch => Some(ANY_EPOCH),
                        _ => epoch,
                    };
                    state.processes[at].trusted = process.link.zip(compared);
                    state.acknowledge(match self.variant {
                        Variant::AcknowledgeArrivals => last.waiting(at),
                        _ => commits,
                    });
                } else {
                    state.processes[at].trusted = None;
                }
            }
            Action::GiveUp(at) => {
                state.processes[at].round = Round::Idle;
                state.processes[at].trusted = None;
            }
            Action::Create(at) => {
                let process = last.processes[at];
                let Round::Compared { commits, current, .. } = process.round else { return None };
                let link = process.link?;
                state.epochs += 1;
                let epoch = Epoch { run: link.run, number: state.epochs };
                let versions = (self.variant == Variant::TrustedAtCreation).then_some(0);
                let content =
                    Content { epoch, entries: 0, number: 0, versions, left: UNTRUSTED_TTL };
                state.servers[link.server].content = Some(content);
                state.processes[at].round =
                    Round::Created { number: epoch.number, previous: current, commits };
            }
            Action::SetEpoch(at) => {
                let Round::Created { number, previous, commits } = last.processes[at].round else {
                    return None;
                };
                let set = state.epoch == previous || self.variant == Variant::EpochWithoutCompare;
                state.processes[at].round = Round::Idle;
                if set {
                    state.epoch = number;
                    let waits = previous != 0 && self.variant != Variant::NoWaitAfterEpoch;
                    let age = if waits { 0 } else { LONGEST_LEASE };
                    state.processes[at].round = Round::Registered { number, age, commits };
                } else {
                    state.processes[at].trusted = None;
                }
            }
            Action::BeginCheck(at) => {
                let trusted = state.processes[at].trusted;
                if trusted.is_some_and(|(link, _)| state.broken(link)) {
                    state.processes[at].trusted = None;
                }
                let replicated = state.trusted(at).and_then(|content| content.versions);
                state.processes[at].check = Some(Check {
                    acknowledged: state.acknowledged(),
                    version: replicated.unwrap_or_else(|| state.version()),
                    replicated: replicated.is_some(),
                });
            }
            Action::FinishCheck(at) => self.finish_check(&mut state, at)?,
            Action::Flush(server) => {
                state.servers[server].content = None;
                state.upsets += 1;
            }
            Action::Restart(server) => {
                state.servers[server].run = state.runs;
                state.runs += 1;
                state.upsets += 1;
            }
            Action::Copy(from) => {
                state.servers[1 - from].content = state.servers[from].content;
                state.upsets += 1;
            }
            Action::SetClockBack(server) => {
                state.servers[server].content.as_mut()?.left += 1;
                state.upsets += 1;
            }
            Action::Crash(at) => {
                for commit in &mut state.commits {
                    if matches!(commit, Commit::Waiting { process, .. } if *process == at) {
                        *commit = Commit::Abandoned;
                    }
                }
                let known = state.version();
                state.processes[at] = Process {
                    link: None,
                    trusted: None,
                    round: Round::Idle,
                    known,
                    memory: bits(0, known),
                    check: None,
                };
                state.crashes += 1;
            }
        }
        self.forget(&mut state);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let (always, sometimes) = (Property::<Self>::always, Property::<Self>::sometimes);
        let mut properties = vec![
            always(COMPLETE, |_, state| {
                (0..PROCESSES).all(|process| {
                    let versions = state.trusted(process).and_then(|found| found.versions);
                    versions.is_none_or(|version| state.acknowledged() & !bits(0, version) == 0)
                })
            }),
            always(NOT_MISSED, |_, state| !state.missed),
            sometimes("a trusted replica has an acknowledged revocation", |_, state| {
                let has = |found: &Content| found.versions >= Some(1);
                state.acknowledged() != 0 && state.trusted(0).is_some_and(has)
            }),
        ];
        if self.epochs > 1 {
            properties.push(sometimes("a replica is replaced", |_, state| {
                let trusts = |process: usize| {
                    state.trusted(process).is_some_and(|found| found.epoch.number > 1)
                };
                (0..PROCESSES).any(trusts)
            }));
        }
        properties
    }
}

const COMPLETE: &str = "a trusted replica lacks no acknowledged revocation";
const NOT_MISSED: &str = "a check misses no revocation acknowledged before it";

/// Two Redis servers, each the master in the eyes of a process.
fn masters(variant: Variant) -> Replica {
    Replica {
        variant,
        servers: 2,
        epochs: 2,
        upsets: 0,
        crashes: 0,
        revocations: 1,
        checks: false,
        processes: 2,
    }
}

/// One epoch, and one flush, restart or copy.
fn upset(variant: Variant) -> Replica {
    Replica { epochs: 1, upsets: 1, ..masters(variant) }
}

/// The second server becomes a replica of the first, and the process that trusts it stalls.
fn stalled(variant: Variant) -> Replica {
    Replica { upsets: 1, crashes: 1, processes: 1, ..masters(variant) }
}

/// The processes check tokens while the replica is lost.
fn lost(variant: Variant) -> Replica {
    Replica { servers: 1, checks: true, ..upset(variant) }
}

/// A process checks tokens while it creates the replica again, and crashes.
fn again(variant: Variant) -> Replica {
    Replica { epochs: 2, crashes: 1, revocations: 2, processes: 1, ..lost(variant) }
}

#[test]
fn no_acknowledged_revocation_is_missed() {
    assert_holds("revocation replica, two masters", masters(Variant::AsImplemented));
    assert_holds("revocation replica, a copy or a restart", upset(Variant::AsImplemented));
    assert_holds("revocation replica, a process that stalls", stalled(Variant::AsImplemented));
}

#[test]
fn no_check_misses_an_acknowledged_revocation() {
    assert_holds("revocation replica, checks while it is lost", lost(Variant::AsImplemented));
    assert_holds("revocation replica, checks while it is new", again(Variant::AsImplemented));
}

#[test]
fn every_commit_is_acknowledged_in_the_end() {
    let model = Replica { servers: 1, epochs: 1, ..masters(Variant::AsImplemented) };
    let (states, stuck) = dead_end(&model, |_, state| state.acknowledged() != 0);
    assert_eq!(stuck, None, "of {states} states");
}

#[test]
fn mutations_of_the_revocation_replica_are_found() {
    use Variant::*;
    for (mutation, model, property) in [
        (AcknowledgeAtCommit, masters as fn(Variant) -> Replica, COMPLETE),
        (AcknowledgeArrivals, masters, COMPLETE),
        (AcknowledgeEarly, masters, COMPLETE),
        (ClockAfterDatabase, masters, COMPLETE),
        (LeaseWithoutExpiry, masters, COMPLETE),
        (TrustAnyEpoch, upset, COMPLETE),
        (EpochWithoutRunId, upset, COMPLETE),
        (EpochWithoutCompare, masters, COMPLETE),
        (NoWaitAfterEpoch, stalled, COMPLETE),
        (TrustedAtCreation, stalled, COMPLETE),
        (CheckWithoutEpoch, stalled, COMPLETE),
        (EntriesWithoutVersion, again, NOT_MISSED),
        (ClockSetBack, upset, COMPLETE),
    ] {
        assert_found(&mutation, model(mutation), property);
    }
}
