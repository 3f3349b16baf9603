//! Export and import on a real server. Knows the tables that are left out.

use std::{collections::BTreeSet, time::Duration};

use super::*;
use crate::{
    core::record::{Authority, Epoch, Incarnation, NodeId, Status, UtcMicros},
    store::{
        Holder, RecordStore, SharedRecords,
        conformance::{
            people::{target, token, user},
            record, write,
        },
        mysql::fixture::{Database, is_here},
        people::{Change, PeopleStore},
    },
};

/// The tables that no backup holds.
const LEFT_OUT: [&str; 5] = ["_sqlx_migrations", "node_commands", "people_version", "sign_ins", "view_key"];

async fn copy(from: &MySqlStore, to: &MySqlStore) {
    let (mut export, mut import) = (from.export().await.unwrap(), to.import().await.unwrap());
    copy_into(&mut export, &mut import).await;
    import.finish().await.unwrap();
}

async fn copy_into(export: &mut Export, import: &mut Import) {
    for table in export.tables() {
        while let Some(lines) = export.next(table).await.unwrap() {
            import.add(table, &lines).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_exported_is_imported_whole_and_as_of_one_moment() {
    if !is_here() {
        return;
    }
    let (from, to) = (Database::empty().await, Database::empty().await);
    let (from, to) = (from.store(), to.store());
    let writes: Vec<_> = (1..=5).map(|n| write(record(n, 2, Authority::Observed, Status::Closed))).collect();
    from.apply(writes.clone()).await.unwrap();
    let mut export = from.export().await.unwrap();
    assert_eq!(export.count("session_records").await.unwrap(), 5);
    let late = write(record(9, 1, Authority::Observed, Status::Active));
    from.apply(vec![late.clone()]).await.unwrap();
    assert!(to.is_empty().await.unwrap());
    let mut import = to.import().await.unwrap();
    copy_into(&mut export, &mut import).await;
    import.finish().await.unwrap();
    for write in &writes {
        assert_eq!(to.get(write.record.id).await.unwrap().as_ref(), Some(&write.record));
        assert_eq!(to.history(write.record.id).await.unwrap(), write.transitions);
    }
    assert_eq!(to.get(late.record.id).await.unwrap(), None, "it came after the copy began");
    assert!(!to.is_empty().await.unwrap());
}

#[tokio::test]
async fn who_may_sign_in_and_what_is_sealed_is_copied_and_gateways_read_anew() {
    if !is_here() {
        return;
    }
    let (from, to) = (Database::empty().await, Database::empty().await);
    let (from, to) = (from.store(), to.store());
    let changes = [Change::Add(user("ada")), Change::AddToken(token("t1", "ada")), Change::AddTarget(target("web-1"))];
    for change in changes {
        from.change(change).await.unwrap();
    }
    let (node, own) = (NodeId("n1".into()), Incarnation::from("own".to_owned()));
    from.begin_epoch(node.clone(), own, Epoch(6), UtcMicros(10)).await.unwrap();
    let lease = from.lease(node.clone()).await.unwrap().unwrap();
    assert!(from.fence(node.clone(), lease).await.unwrap());
    let known = to.version().await.unwrap();
    copy(&from, &to).await;
    let (there, here) = (PeopleStore::read(&from).await.unwrap(), PeopleStore::read(&to).await.unwrap());
    assert_eq!((here.users.len(), here.tokens.len(), here.targets.len()), (1, 1, 1));
    assert_eq!((here.users, here.tokens, here.targets), (there.users, there.tokens, there.targets));
    assert!(here.version > known, "who looks on reads anew");
    let nodes = to.nodes().await.unwrap();
    assert_eq!((nodes.len(), nodes[0].holder, nodes[0].lease.epoch), (1, Holder::Fenced, Epoch(8)));
    assert_eq!(nodes[0].serve_for, from.nodes().await.unwrap()[0].serve_for);
}

#[tokio::test]
async fn an_import_that_breaks_off_leaves_nothing_and_is_begun_again() {
    if !is_here() {
        return;
    }
    let (from, to) = (Database::empty().await, Database::empty().await);
    let (from, to) = (from.store(), to.store());
    from.apply(vec![write(record(1, 2, Authority::Observed, Status::Closed))]).await.unwrap();
    from.change(Change::Add(user("ada"))).await.unwrap();
    let mut import = to.import().await.unwrap();
    copy_into(&mut from.export().await.unwrap(), &mut import).await;
    assert!(to.is_empty().await.unwrap(), "nobody sees half of it");
    drop(import);
    assert!(to.is_empty().await.unwrap());
    copy(&from, &to).await;
    assert!(!to.is_empty().await.unwrap());
}

#[tokio::test]
async fn every_table_is_copied_whole_or_left_out_by_name() {
    const SCHEMA: &str = "SELECT table_name AS t, column_name AS c FROM information_schema.columns \
        WHERE table_schema = DATABASE() AND COALESCE(generation_expression, '') = ''";
    if !is_here() {
        return;
    }
    let database = Database::empty().await;
    let found = sqlx::query_as::<_, (String, String)>(SCHEMA).fetch_all(&mut database.connection().await).await;
    let mut tables = BTreeMap::<String, BTreeSet<String>>::new();
    for (table, column) in found.unwrap() {
        tables.entry(table).or_default().insert(column);
    }
    for name in LEFT_OUT {
        assert!(tables.remove(name).is_some(), "{name}");
    }
    let columns = |table: &Table| table.columns.split(", ").map(|column| column.trim().to_owned()).collect();
    assert_eq!(tables, TABLES.iter().map(|table| (table.name.to_owned(), columns(table))).collect());
}

#[tokio::test]
async fn a_row_of_an_older_release_has_what_it_lacks_by_default_and_no_other_gap() {
    if !is_here() {
        return;
    }
    let database = Database::empty().await;
    let store = database.store();
    let old = r#"{"node_id":"n1","incarnation":"own","epoch":7,"started_at":1,"last_alive_at":2"#;
    let mut import = store.import().await.unwrap();
    import.add("nodes", &[format!("{old}}}")]).await.unwrap();
    import.finish().await.unwrap();
    let nodes = store.nodes().await.unwrap();
    assert_eq!((nodes[0].holder, nodes[0].serve_for), (Holder::Held, Duration::from_hours(24)));
    // By default the token would be good for everything.
    let unscoped = r#"{"token_id":"t","name":"t","username":"ada","digest":"ab","created_at":1,"expires_at":null,"last_used_at":null}"#;
    let refused = store.import().await.unwrap().add("tokens", &[unscoped.to_owned()]).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn a_scratch_database_is_made_without_a_lock() {
    if !is_here() {
        return;
    }
    let database = Database::empty().await;
    let mut other = database.connection().await;
    let held = "DO GET_LOCK(CONCAT('pulsegate ', MD5('pulsegate_bench_held')), 0)";
    sqlx::raw_sql(held).execute(&mut other).await.unwrap();
    let store = database.store();
    let made = tokio::time::timeout(Duration::from_secs(60), store.scratch("pulsegate_bench_held")).await;
    let (scratch, _connection) = made.unwrap().unwrap();
    assert!(scratch.is_empty().await.unwrap());
    scratch.drop_scratch().await.unwrap();
}

#[test]
fn a_page_goes_on_after_the_last_row_of_a_key_of_any_length() {
    assert_eq!(beyond(&["a"]), "a > ?");
    assert_eq!(beyond(&["a", "b"]), "a >= ? AND (a > ? OR (b > ?))");
    let row = serde_json::json!({"a": "x", "b": 2, "c": 3});
    assert_eq!(places(&["a", "b", "c"], &row).len(), beyond(&["a", "b", "c"]).matches('?').count());
}
