//! Runs the checker: every state of a model, or the shortest path to a fault.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Debug,
    fs,
    hash::Hash,
    path::{Path, PathBuf},
    time::Instant,
};

use stateright::{Checker, HasDiscoveries, Model};

/// What the models that are checked have in common.
pub trait Checkable:
    Model<
        State: Clone + Debug + Eq + Hash + Send + Sync + 'static,
        Action: Clone + Debug + PartialEq + Send + Sync + 'static,
    > + Send
    + Sync
    + 'static
{
}

impl<M> Checkable for M
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Eq + Hash + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
}

/// Checks every property in every reachable state, and that docs/models.md has the number of states
/// in the row of this name.
pub fn assert_holds<M: Checkable>(name: &str, model: M) {
    #[allow(clippy::disallowed_methods, reason = "measures a duration")]
    let began = Instant::now();
    let checker = model.checker().spawn_bfs().join();
    let states = checker.unique_state_count();
    let took = began.elapsed().as_secs_f32();
    println!("{name}: {states} states, depth {}, {took:.1} s", checker.max_depth());
    for (property, path) in checker.discoveries() {
        if checker.model().property(property).expectation.discovery_is_failure() {
            panic!("{name}: not so: {property}\n{}", described(checker.model(), path));
        }
    }
    checker.assert_properties();
    assert_documented(name, states);
}

/// Checks that the property fails; prints by how many steps.
pub fn assert_found<M: Checkable>(mutation: &dyn Debug, model: M, property: &'static str) {
    let only = HasDiscoveries::AnyOf([property].into());
    let checker = model.checker().finish_when(only).spawn_bfs().join();
    let path = checker.discovery(property);
    let path = path.unwrap_or_else(|| panic!("not found: {mutation:?} against {property:?}"));
    let steps = path.into_actions().len();
    println!("{mutation:?}: {steps} steps to {property:?}");
}

fn described<M: Checkable>(model: &M, path: stateright::Path<M::State, M::Action>) -> String {
    let mut lines = String::new();
    for (state, action) in path.into_vec() {
        match action {
            Some(action) => lines += &format!("  {}\n", model.format_action(&action)),
            None => lines += &format!("{state:#?}\n"),
        }
    }
    lines
}

/// Liveness where a model has cycles, which stateright's `eventually` does not see: a state, if
/// there is one, from which no state that meets the goal can be reached. Compares whole states, not
/// their fingerprints; returns the number of states with it.
pub fn dead_end<M: Checkable>(
    model: &M,
    goal: fn(&M, &M::State) -> bool,
) -> (usize, Option<M::State>) {
    let mut numbers: HashMap<M::State, usize> = HashMap::new();
    let mut states = vec![];
    let mut before: Vec<Vec<usize>> = vec![];
    let mut waiting = VecDeque::new();
    let mut number_of = |state: M::State, waiting: &mut VecDeque<usize>, states: &mut Vec<_>| {
        *numbers.entry(state).or_insert_with_key(|state| {
            states.push(state.clone());
            waiting.push_back(states.len() - 1);
            states.len() - 1
        })
    };
    for state in model.init_states() {
        number_of(state, &mut waiting, &mut states);
    }
    while let Some(from) = waiting.pop_front() {
        for next in model.next_states(&states[from]) {
            let to = number_of(next, &mut waiting, &mut states);
            before.resize_with(states.len().max(before.len()), Vec::new);
            before[to].push(from);
        }
    }
    before.resize_with(states.len(), Vec::new);
    let mut reaches: Vec<bool> = states.iter().map(|state| goal(model, state)).collect();
    let mut met: Vec<usize> = (0..states.len()).filter(|&at| reaches[at]).collect();
    while let Some(to) = met.pop() {
        for &from in &before[to] {
            if !std::mem::replace(&mut reaches[from], true) {
                met.push(from);
            }
        }
    }
    let stuck = reaches.iter().position(|reaches| !reaches);
    (states.len(), stuck.map(|at| states[at].clone()))
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(file: impl Into<PathBuf>) -> String {
    let path = root().join(file.into());
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `1234567` as `1,234,567`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn assert_documented(name: &str, states: usize) {
    let expected = format!("| {name} | {} |", grouped(states));
    let documented = read("docs/models.md").lines().any(|line| line.starts_with(&expected));
    assert!(documented, "docs/models.md needs a row that begins: {expected}");
}
