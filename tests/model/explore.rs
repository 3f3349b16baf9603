//! Explores every reachable state of a model, breadth first, and returns the shortest path to one that breaks a
//! promise. Knows no protocol.
//!
//! A hundred lines here instead of stateright 0.31, which would add a web server and second versions of rand,
//! rand_core, getrandom and hashbrown to a tree whose `deny.toml` allows none, and which compares hashes of states, so
//! that two of them may be confused. Here the states themselves are compared.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt::Debug,
    hash::Hash,
};

/// A model to explore: its initial state and its transitions.
pub trait Model {
    /// All that decides what may happen.
    type State: Copy + Eq + Hash + Debug;
    /// An event; its debug text is a line of a path.
    type Action: Copy + Debug;

    /// Returns the initial state.
    fn initial(&self) -> Self::State;

    /// Returns every event possible in `state`, with the state it leads to; it may include events that change nothing.
    fn next(&self, state: &Self::State) -> Vec<(Self::Action, Self::State)>;
}

/// A named predicate that must hold in each state.
pub type Promise<M> = (&'static str, fn(&M, &<M as Model>::State) -> bool);

/// A state that breaks a promise.
#[derive(Debug)]
pub struct Broken {
    /// The promise's name.
    pub promise: &'static str,
    /// The events from the initial to the broken state.
    pub way: Vec<String>,
}

/// All reachable states.
pub struct Explored<M: Model> {
    /// States in the order they were found, the initial one first.
    pub states: Vec<M::State>,
    /// Indices of the states before and after each step, once per pair.
    pub steps: Vec<(u32, u32)>,
}

/// Explores all states. Fails with the shortest path to a state that breaks one of `promises`.
///
/// # Panics
/// If there are more than `bound` states: the model is then larger than intended.
pub fn explore<M: Model>(model: &M, promises: &[Promise<M>], bound: usize) -> Result<Explored<M>, Broken> {
    let mut states = vec![model.initial()];
    let mut steps = Vec::new();
    let mut number: HashMap<M::State, u32> = HashMap::from([(model.initial(), 0)]);
    let mut at = 0;
    while let Some(state) = states.get(at).copied() {
        let from = at as u32;
        if let Some((promise, _)) = promises.iter().find(|(_, holds)| !holds(model, &state)) {
            return Err(Broken { promise, way: way(model, &states, &steps, from) });
        }
        for (_, next) in model.next(&state) {
            let fresh = states.len() as u32;
            let to = match number.entry(next) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(vacant) => {
                    states.push(next);
                    *vacant.insert(fresh)
                }
            };
            if to != from {
                steps.push((from, to));
            }
        }
        assert!(states.len() <= bound, "more than {bound} states");
        at += 1;
    }
    Ok(Explored { states, steps })
}

/// Returns the first state from which no `settled` state can be reached.
pub fn stuck<M: Model>(model: &M, explored: &Explored<M>, settled: fn(&M, &M::State) -> bool) -> Option<M::State> {
    let mut before: Vec<Vec<u32>> = vec![Vec::new(); explored.states.len()];
    explored.steps.iter().for_each(|(from, to)| before[*to as usize].push(*from));
    let mut settles: Vec<bool> = explored.states.iter().map(|state| settled(model, state)).collect();
    let mut open: Vec<u32> = (0..explored.states.len() as u32).filter(|at| settles[*at as usize]).collect();
    while let Some(at) = open.pop() {
        for from in &before[at as usize] {
            if !std::mem::replace(&mut settles[*from as usize], true) {
                open.push(*from);
            }
        }
    }
    explored.states.iter().zip(settles).find(|(_, settles)| !settles).map(|(state, _)| *state)
}

/// Returns the events up to state number `to`, by the first step that led to each state.
fn way<M: Model>(model: &M, states: &[M::State], steps: &[(u32, u32)], to: u32) -> Vec<String> {
    let mut parents = HashMap::new();
    for (from, to) in steps {
        parents.entry(*to).or_insert(*from);
    }
    let mut lines = vec![format!("{:?}", states[to as usize])];
    let mut at = to;
    while at != 0 {
        let from = parents[&at];
        let led = model.next(&states[from as usize]).into_iter().find(|(_, next)| *next == states[at as usize]);
        lines.extend(led.map(|(action, _)| format!("{action:?}")));
        at = from;
    }
    lines.reverse();
    lines
}
