//! The simulated stores: a journal on a disk that outlives its node, shared records, a live view, and the ways to them. The
//! library's own tests hold them to the conformance suite, so that they cannot lie; so they know nothing else of the
//! simulation.

/// The one source of chance.
pub mod dice;
/// The live view.
pub mod live;
/// The record store and the journal.
pub mod records;
/// What they keep.
pub mod table;
/// The way to a store, and what goes wrong on it.
pub mod way;
