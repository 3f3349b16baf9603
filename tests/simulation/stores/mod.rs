//! The simulated stores: a journal on a disk that outlives its node, shared records, a live view, and the ways to them.
//! The library's own tests apply the conformance suite to them, so that they behave as real ones; therefore they know
//! nothing else of the simulation.

/// The only source of random numbers.
pub mod dice;
/// The live view.
pub mod live;
/// The record store and the journal.
pub mod records;
/// The contents of the records and the journal.
pub mod table;
/// The way to a store, and its faults.
pub mod way;
