//! Walks every state that a model can reach, shortest way first, and shows the way to one that breaks a promise. Knows no
//! protocol.
//!
//! Our own hundred lines and not stateright 0.31: that would bring a web server and second versions of rand, rand_core,
//! getrandom and hashbrown into a tree whose `deny.toml` allows none, and it keeps hashes of states, so that two of them
//! may be taken for one. Here the states themselves are compared.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt::Debug,
    hash::Hash,
};

/// What can be explored: where it begins and what may happen next.
pub trait Model {
    /// Everything that decides what may happen.
    type State: Copy + Eq + Hash + Debug;
    /// What happens; its debug text is a line of a way.
    type Action: Copy + Debug;

    /// Where it begins.
    fn initial(&self) -> Self::State;

    /// Everything that may happen in `state`, with where it leads; what changes nothing may be among it.
    fn next(&self, state: &Self::State) -> Vec<(Self::Action, Self::State)>;
}

/// A sentence about each single state, by its name.
pub type Promise<M> = (&'static str, fn(&M, &<M as Model>::State) -> bool);

/// A state that breaks a promise.
#[derive(Debug)]
pub struct Broken {
    /// The promise's name.
    pub promise: &'static str,
    /// What happened, from the beginning to the broken state.
    pub way: Vec<String>,
}

/// All states, each with the number of the one it was found from.
pub struct Explored<M: Model> {
    /// In the order they were found, the initial one first.
    pub states: Vec<M::State>,
    /// Which step led from which state to which, once per pair.
    pub steps: Vec<(u32, u32)>,
}

/// Explores everything. Fails with the shortest way to a state that breaks one of `promises`.
///
/// # Panics
/// If there are more than `bound` states: then the model is not as small as it was meant to be.
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

/// The first state from which none that is `settled` can be reached.
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

/// What happened until the state with the number `to`: by the first step that led to each.
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
