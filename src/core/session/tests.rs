//! What a session does: one table for every status and event, and random orders of events.
