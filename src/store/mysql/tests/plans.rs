//! Every statement but the pages of sessions, which `list/tests.rs` checks: each finds its rows by an index, except
//! those listed here by name.

use super::*;
use crate::store::{
    conformance::statements, mysql::upkeep::TABLES, people as people_sql, sign_ins as sign_in_sql, sql_nodes,
    targets as target_sql,
};

/// Enough rows for the server to find a full scan expensive; `1` is in every key.
const FILL: &str = "INSERT INTO session_records (session_id, node_id, epoch, username, target_name, client_ip, start_time, \
        rank_key, version, authority, target_addr, target_login, status, bytes_in, bytes_out) \
        SELECT seq, seq % 100, 1, 'a', 'web-1', '192.0.2.1', seq, seq, 1, 2, 'web:22', 'root', 'closed', 1, 1 FROM seq_1_to_2000; \
    INSERT INTO session_events (session_id, version, rank_key, at, status, detail) \
        SELECT seq % 100, seq, seq, 1, 'active', '' FROM seq_1_to_2000; \
    INSERT INTO nodes (node_id, incarnation, epoch, started_at, last_alive_at) \
        SELECT seq, seq, 1, 1, 1 FROM seq_1_to_2000; \
    INSERT INTO node_commands (command_id, node_id, session_id, end_reason, detail, sent_at) \
        SELECT seq, seq % 100, seq, 'operator', '', 1 FROM seq_1_to_2000; \
    INSERT INTO users (name, role, grants, disabled, password_hash, created_at, changed_at) \
        SELECT seq, 'user', '[]', 0, seq, 1, 1 FROM seq_1_to_2000; \
    INSERT INTO tokens (token_id, name, username, digest, created_at) \
        SELECT seq, seq, seq % 100, seq, 1 FROM seq_1_to_2000; \
    INSERT INTO targets (name, host, port, username, via, tags, roles, auth, created_at, changed_at) \
        SELECT seq, 'web', 22, 'root', '[]', '[]', '[]', 'prompt', 1, 1 FROM seq_1_to_2000; \
    INSERT INTO sign_ins (digest, username, stamp, how, user_agent, made_at, last_seen_at, ends_at, ended, provider_session) \
        SELECT seq, seq % 100, 's', 'oidc', 'a', seq, seq, seq, IF(seq % 100 = 0, seq, NULL), seq % 100 FROM seq_1_to_2000; \
    INSERT INTO view_key (only_one, secret) VALUES (1, 'k'); \
    ANALYZE TABLE session_records, session_events, nodes, node_commands, users, tokens, targets, sign_ins";

/// Statements of this store alone that look up some rows.
const LOOK_UP: [&str; 3] = [BEGIN_EPOCH, RENEW_LEASE, sharing::WAITING];

/// Statements that read a whole table, one that a gateway holds in memory or that has a row for each gateway; the last
/// one only while there is no admin.
const WHOLE: [(&str, &str); 5] = [
    ("nodes", sharing::NODES),
    ("users", people_sql::USERS),
    ("tokens", people_sql::TOKENS),
    ("targets", target_sql::TARGETS),
    ("others", people_sql::add_first!("FROM DUAL", "ON DUPLICATE KEY UPDATE name = users.name")),
];

/// A read of one table, from EXPLAIN.
#[derive(Debug)]
struct Read {
    table: String,
    kind: String,
    index: String,
    sorts: bool,
}

async fn filled() -> Database {
    let database = Database::empty().await;
    fixture::server().sql(&format!("USE {}; {FILL}", database.name())).unwrap();
    database
}

fn plan(database: &Database, sql: &str) -> Vec<Read> {
    let sql = sql.replace("LIMIT ?", "LIMIT 50").replace('?', "'1'");
    let explain = format!("USE {}; SET NAMES utf8mb4 COLLATE utf8mb4_bin; EXPLAIN {sql}", database.name());
    let steps = fixture::server().sql(&explain).unwrap();
    let read = |step: &str| {
        let columns: Vec<_> = step.split('\t').map(str::to_owned).collect();
        let (table, kind, index) = (columns[2].clone(), columns[3].clone(), columns[5].clone());
        Read { table, kind, index, sorts: step.contains("filesort") }
    };
    let reads = steps.lines().map(read);
    // Without bound values, and without what is known without reading.
    reads.filter(|read| read.table != "NULL" && !read.table.starts_with('<')).collect()
}

#[tokio::test]
async fn every_row_that_is_looked_up_is_found_by_an_index() {
    if !is_here() {
        return;
    }
    let database = filled().await;
    let upsert = rows::upserts(&[&record(1, 1, Authority::Observed, Status::Active)]).pop().unwrap();
    let upsert = sqlx::Execute::sql(upsert).as_str().to_owned();
    let some = format!("{}?, ?)", sign_in_sql::SOME);
    let own = LOOK_UP.into_iter().chain([
        sign_ins::NOTE_OVER,
        sign_ins::FORGET,
        sign_ins::OLD,
        upsert.as_str(),
        some.as_str(),
    ]);
    for sql in own.chain(statements::LOOK_UP) {
        let plan = plan(&database, sql);
        let found = ["system", "const", "eq_ref", "ref", "range"];
        assert!(plan.iter().all(|read| found.contains(&read.kind.as_str())), "{sql}: {plan:?}");
        assert!(!plan.is_empty() || sql.starts_with("INSERT"), "{sql}: the server knows without reading");
    }
    assert_eq!(plan(&database, people_sql::REMOVE_ORPHANS)[0].index, "idx_tokens_user");
}

#[tokio::test]
async fn what_reads_a_whole_table_is_known_by_name() {
    if !is_here() {
        return;
    }
    let database = filled().await;
    for (table, sql) in WHOLE {
        let plan = plan(&database, sql);
        assert!(plan.len() == 1 && plan[0].table == table, "{sql}: {plan:?}");
        assert!(["index", "ALL"].contains(&plan[0].kind.as_str()), "{sql}: {plan:?}");
    }
    // For the sessions of each row, which are looked up.
    for (table, sql, index) in [("nodes", sharing::GONE, "idx_session_active_node"), ("c", sql_nodes::STALE, "PRIMARY")]
    {
        let plan = plan(&database, sql);
        assert!(plan.len() == 2 && plan[0].table == table && plan[1].table == "s", "{sql}: {plan:?}");
        assert!(plan[1].kind.ends_with("ref") && plan[1].index == index, "{sql}: {plan:?}");
    }
    // For whether a user, who is looked up, is the only admin.
    for sql in [people_sql::REPLACE_UNLESS_LAST, people_sql::REMOVE_UNLESS_LAST] {
        let plan = plan(&database, sql);
        let reads: Vec<_> = plan.iter().map(|read| (read.table.as_str(), read.kind.as_str())).collect();
        assert_eq!(reads, [("users", "range"), ("users", "ALL")], "{sql}");
    }
}

#[tokio::test]
async fn a_page_of_a_copy_goes_on_where_the_last_one_ended() {
    if !is_here() {
        return;
    }
    let database = filled().await;
    for table in &TABLES {
        for (is_first, kind) in [(true, "index"), (false, "range")] {
            let plan = plan(&database, &table.page(is_first));
            assert!(plan.len() == 1 && plan[0].index == "PRIMARY" && !plan[0].sorts, "{plan:?}");
            assert_eq!(plan[0].kind, kind, "{plan:?}");
        }
    }
}
