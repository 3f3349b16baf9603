//! The actors: one per session, one registry that alone writes to the stores, one supervisor. Knows no HTTP and no
//! WebSocket; the web layer reaches it through [`gateway::Gateway`].

/// The face of this layer: open, attach, list, end, explain, report.
pub mod gateway;
/// What actors report about themselves, for the metrics endpoint.
pub mod observe;
