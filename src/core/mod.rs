//! The pure core: what a session is and what follows from what happened. Knows no runtime, no clock, no I/O and no
//! randomness; every function that needs the time takes it as `now`.

/// Ids, the record of a session, its rank, statuses and end reasons: the words every layer shares.
pub mod record;
