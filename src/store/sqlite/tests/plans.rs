//! Every statement but the pages of sessions and the ones that retire them, which are checked beside them: each finds
//! its rows by an index, except those listed here by name.

use sqlx::{Execute, Row};

use super::*;
use crate::{
    core::audit::Action,
    store::{
        audit::AuditQuery, conformance::statements, people as people_sql, sign_ins as sign_in_sql,
        targets as target_sql,
    },
};

/// Statements of this store alone that look up some rows.
const LOOK_UP: [&str; 10] = [
    journal::PENDING_EVENTS,
    journal::HISTORY_PAGE,
    journal::ENDED_OTHERWISE,
    sharing::TAKE,
    sign_ins::FORGET,
    sign_ins::NOTE_OVER,
    webhooks::BEGIN,
    webhooks::POSITION,
    webhooks::ADVANCE,
    webhooks::DEAD,
];

/// Statements that read a table from its beginning or its end: its last row; all that a gateway holds in memory or
/// verifies, or a doctor compares; once in a file's life everything that another store never received; and the users for an admin, until
/// there is one.
const SCAN: [(&str, &str); 12] = [
    ("nodes", sharing::NODES),
    ("nodes", sharing::EPOCHS),
    ("c", sql_nodes::STALE),
    ("users", people_sql::USERS),
    ("tokens", people_sql::TOKENS),
    ("targets", target_sql::TARGETS),
    ("others", people_sql::add_first!("", "ON CONFLICT DO NOTHING")),
    ("session_events", journal::LAST_EVENT),
    ("session_events", journal::CHAIN),
    ("r USING INDEX idx_session_active_lookup", journal::REOPENED),
    ("e USING COVERING INDEX idx_event_once", journal::ROWLESS),
    ("session_records", journal::NOTE_EVERYTHING),
];

/// SQLite's plan steps for bound values, and for rows that were looked up.
const AT_HAND: [&str; 7] = [
    "SCAN CONSTANT ROW",
    "SCAN 2 CONSTANT ROWS",
    "SCAN told",
    "SCAN settled",
    "SCAN oldest",
    "SCAN newest",
    "SCAN shown",
];

/// Returns the tables that a statement reads without looking rows up.
async fn scans(connection: &mut SqliteConnection, sql: &str) -> Vec<String> {
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
    let steps = sqlx::raw_sql(explain).fetch_all(connection).await.unwrap();
    let steps: Vec<String> = steps.iter().map(|step| step.get("detail")).collect();
    let steps = steps.iter().filter(|step| !AT_HAND.contains(&step.as_str()));
    steps.filter_map(|step| step.strip_prefix("SCAN ").map(str::to_owned)).collect()
}

/// Returns the statements that are built for each query.
fn built() -> Vec<String> {
    let only = record(1, 1, Authority::Observed, Status::Active);
    let told = write(only.clone());
    let events: Vec<&Transition> = told.transitions.iter().cycle().take(2).collect();
    let settled = [(only.id, only.rank()); 2];
    let in_time =
        AuditQuery { since: Some(UtcMicros(1)), until: Some(UtcMicros(2)), limit: 50, ..AuditQuery::default() };
    let by_actor = AuditQuery { actor: Some("ada".into()), ..in_time.clone() };
    let by_action = AuditQuery { action: Some(Action::SignIn), ..in_time.clone() };
    let by_both = AuditQuery { action: Some(Action::SignIn), before: Some(9), ..by_actor.clone() };
    let next = AuditQuery { before: Some(9), ..in_time };
    let advance = rows::advances(&[&only]).pop().unwrap().1.sql().as_str().to_owned();
    let some = format!("{}?, ?)", sign_in_sql::SOME);
    let of_journal = [
        rows::known_events(&events),
        rows::select_outbox(Some(only.id), 50),
        rows::select_unsettled(&[only.id; 2]),
        rows::outbox_remove(&settled),
    ];
    let of_log = [by_actor, by_action, by_both, next].map(|query| audit::select(&query));
    let built = of_journal.into_iter().chain(of_log).map(QueryBuilder::into_string);
    built.chain([advance, some]).collect()
}

#[tokio::test]
async fn every_row_that_is_looked_up_is_found_by_an_index() {
    let (store, _folder) = fresh().await;
    let mut transaction = store.begin().await.unwrap();
    for sql in LOOK_UP.into_iter().chain(statements::LOOK_UP).map(str::to_owned).chain(built()) {
        assert_eq!(scans(transaction.connection(), &sql).await, [""; 0], "{sql}");
    }
}

#[tokio::test]
async fn what_reads_a_table_without_looking_up_is_known_by_name() {
    let (store, _folder) = fresh().await;
    let mut transaction = store.begin().await.unwrap();
    for (table, sql) in SCAN {
        assert_eq!(scans(transaction.connection(), sql).await, [table], "{sql}");
    }
    let open = "r USING INDEX idx_session_active_lookup";
    assert_eq!(scans(transaction.connection(), sharing::GONE).await, ["nodes", open]);
    // For whether a user, who is looked up, is the only admin.
    for sql in [people_sql::REPLACE_UNLESS_LAST, people_sql::REMOVE_UNLESS_LAST] {
        assert_eq!(scans(transaction.connection(), sql).await, ["users", "admins"], "{sql}");
    }
    // As far as a page reaches, in the table's own order.
    for (table, sql) in [("o", rows::select_outbox(None, 50)), ("audit_log", audit::select(&AuditQuery::default()))] {
        let sql = sql.into_string();
        assert_eq!(scans(transaction.connection(), &sql).await, [table], "{sql}");
        assert!(sql.contains(" LIMIT "), "{sql}");
    }
}
