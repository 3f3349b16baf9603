//! The steps of the schema in SQLite's dialect. Their SQL is in `migrations/sqlite`.

use crate::store::schema::{Step, step};

/// The schema's steps, oldest first.
pub const STEPS: [Step; 17] = [
    step!(1, "session records", "sqlite/0001_session_records"),
    step!(2, "session events", "sqlite/0002_session_events"),
    step!(3, "nodes", "sqlite/0003_nodes"),
    step!(4, "journal", "sqlite/0004_journal"),
    step!(5, "neighbours", "sqlite/0005_neighbours"),
    step!(6, "people", "sqlite/0006_people"),
    step!(7, "audit", "sqlite/0007_audit"),
    step!(8, "second factor", "sqlite/0008_second_factor"),
    step!(9, "targets", "sqlite/0009_targets"),
    step!(10, "webhooks", "sqlite/0010_webhooks"),
    step!(11, "view key", "sqlite/0011_view_key"),
    step!(12, "identity", "sqlite/0012_identity"),
    step!(13, "jump hosts", "sqlite/0013_jump_hosts"),
    step!(14, "sign-ins", "sqlite/0014_sign_ins"),
    step!(15, "enrolment", "sqlite/0015_enrolment"),
    step!(16, "provider session", "sqlite/0016_provider_session"),
    step!(17, "token owners", "sqlite/0017_token_owners"),
];
