//! The audit log on a real file. Knows the file well enough to forge it.

use tempfile::TempDir;

use super::*;
use crate::core::{
    audit::{Action, Outcome},
    chain,
};

async fn fresh() -> (SqliteStore, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (reopened(&folder).await, folder)
}

async fn reopened(folder: &TempDir) -> SqliteStore {
    SqliteStore::open(&folder.path().join("records.db")).await.unwrap()
}

fn deed(n: u8) -> (UtcMicros, Deed) {
    let actor = if n.is_multiple_of(2) { "ada" } else { "bob" };
    let action = if n < 4 { Action::SignIn } else { Action::SessionOpen };
    (UtcMicros(i64::from(n) * 1_000_000), Deed::done(action, actor, [192, 0, 2, n].into(), n, "As asked."))
}

async fn tamper(store: &SqliteStore, sql: &'static str) {
    let mut transaction = store.begin().await.unwrap();
    transaction.run(sqlx::query(sql)).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn followed(store: &SqliteStore, noted: Option<Head>) -> Followed {
    store.follow_audit(noted).await.unwrap()
}

fn broken(sequence: u64, what: Fault) -> Option<Broken> {
    Some(Broken { sequence, what })
}

#[tokio::test]
async fn entries_are_numbered_without_a_gap_across_batches_and_restarts() {
    let (store, folder) = fresh().await;
    assert_eq!(followed(&store, None).await.broken, None);
    store.append((1..=120).map(deed).collect()).await.unwrap();
    store.append(vec![(UtcMicros(7), Deed::of_gateway(Action::GatewayStop, "n", ""))]).await.unwrap();
    drop(store);
    let store = reopened(&folder).await;
    store.append(vec![deed(122)]).await.unwrap();
    let whole = followed(&store, None).await;
    assert_eq!((whole.entries, whole.head.sequence, whole.broken), (122, 122, None));
    assert_eq!((whole.first_at, whole.last_at), (Some(UtcMicros(1_000_000)), Some(UtcMicros(122_000_000))));
    let page = store.entries(AuditQuery { limit: 500, ..AuditQuery::default() }).await.unwrap();
    assert!(page.entries.iter().rev().map(|entry| entry.sequence).eq(1..=122) && page.next.is_none());
    assert_eq!(page.entries[0].deed, deed(122).1);
    assert_eq!(page.entries[1].deed.client_ip, None);
}

#[tokio::test]
async fn an_edited_removed_or_reordered_entry_is_named() {
    let swap = "UPDATE audit_log SET sequence = 100 WHERE sequence = 2; \
        UPDATE audit_log SET sequence = 2 WHERE sequence = 3; UPDATE audit_log SET sequence = 3 WHERE sequence = 100";
    for (edit, sequence, what) in [
        ("UPDATE audit_log SET detail = '' WHERE sequence = 2", 2, Fault::Edited),
        ("UPDATE audit_log SET actor = 'eve' WHERE sequence = 1", 1, Fault::Edited),
        ("UPDATE audit_log SET client_ip = '' WHERE sequence = 3", 3, Fault::Edited),
        ("UPDATE audit_log SET outcome = 'refused' WHERE sequence = 3", 3, Fault::Edited),
        ("UPDATE audit_log SET action = 'nonsense' WHERE sequence = 3", 3, Fault::Edited),
        ("UPDATE audit_log SET at = at + 1 WHERE sequence = 6", 6, Fault::Edited),
        ("UPDATE audit_log SET chain_hash = zeroblob(32) WHERE sequence = 4", 4, Fault::Edited),
        ("UPDATE audit_log SET chain_hash = x'00' WHERE sequence = 4", 4, Fault::Edited),
        ("DELETE FROM audit_log WHERE sequence = 1", 1, Fault::Missing),
        ("DELETE FROM audit_log WHERE sequence BETWEEN 3 AND 4", 3, Fault::Missing),
        ("DELETE FROM audit_log WHERE sequence > 4", 5, Fault::Cut),
        (swap, 2, Fault::Edited),
    ] {
        let (store, _folder) = fresh().await;
        store.append((1..=6).map(deed).collect()).await.unwrap();
        tamper(&store, edit).await;
        assert_eq!(followed(&store, None).await.broken, broken(sequence, what), "{edit}");
    }
}

#[tokio::test]
async fn a_log_whose_end_was_cut_goes_on_behind_the_gap() {
    for restarts in [false, true] {
        let (mut store, folder) = fresh().await;
        store.append((1..=6).map(deed).collect()).await.unwrap();
        tamper(&store, "DELETE FROM audit_log WHERE sequence > 4").await;
        if restarts {
            drop(store);
            store = reopened(&folder).await;
        }
        store.append(vec![deed(7)]).await.unwrap();
        assert_eq!(followed(&store, None).await.broken, broken(5, Fault::Missing), "restarts: {restarts}");
    }
}

#[tokio::test]
async fn a_noted_head_finds_a_log_that_was_written_anew() {
    let (store, _folder) = fresh().await;
    store.append((1..=6).map(deed).collect()).await.unwrap();
    let head = followed(&store, None).await.head;
    store.append(vec![deed(7)]).await.unwrap();
    assert_eq!(followed(&store, Some(head)).await.broken, None);

    // An attacker who can write the file and compute hashes: the log is consistent by itself.
    let (forged, _folder) = fresh().await;
    forged.append((2..=7).map(deed).collect()).await.unwrap();
    assert_eq!(followed(&forged, None).await.broken, None);
    assert_eq!(followed(&forged, Some(head)).await.broken, broken(6, Fault::Replaced));
    let (short, _folder) = fresh().await;
    short.append((1..=3).map(deed).collect()).await.unwrap();
    assert_eq!(followed(&short, Some(head)).await.broken, broken(6, Fault::Short));
}

#[tokio::test]
async fn filters_and_pages_agree_with_the_log_in_memory() {
    use crate::store::audit::MemoryAudit;
    let ((store, _folder), memory) = (fresh().await, MemoryAudit::default());
    let all: Vec<_> = (1..=9).map(deed).collect();
    store.append(all.clone()).await.unwrap();
    memory.append(all).await.unwrap();
    let any = AuditQuery { limit: 2, ..AuditQuery::default() };
    for query in [
        any.clone(),
        AuditQuery { actor: Some("ada".into()), ..any.clone() },
        AuditQuery { actor: Some("a' OR 1=1 --".into()), ..any.clone() },
        AuditQuery { action: Some(Action::SessionOpen), ..any.clone() },
        AuditQuery { since: Some(UtcMicros(3_000_000)), until: Some(UtcMicros(8_000_000)), ..any.clone() },
        AuditQuery { actor: Some("bob".into()), action: Some(Action::SignIn), limit: 500, ..any.clone() },
    ] {
        let mut query = query;
        loop {
            let page = store.entries(query.clone()).await.unwrap();
            assert_eq!(page, memory.entries(query.clone()).await.unwrap(), "{query:?}");
            query.before = page.next;
            if page.next.is_none() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn every_word_of_an_entry_comes_back() {
    let (store, _folder) = fresh().await;
    for action in Action::ALL {
        let deed = Deed { outcome: Outcome::Refused, ..Deed::of_gateway(*action, "it", "so") };
        store.append(vec![(UtcMicros(1), deed.clone())]).await.unwrap();
        let page = store.entries(AuditQuery { limit: 1, ..AuditQuery::default() }).await.unwrap();
        assert_eq!(page.entries[0].deed, deed);
    }
    let whole = followed(&store, None).await;
    assert_eq!(whole.entries, Action::ALL.len() as u64);
    assert_ne!(whole.head.link, chain::GENESIS);
}

#[tokio::test]
async fn nothing_of_a_write_that_failed_is_there_and_the_numbers_go_on() {
    let (store, folder) = fresh().await;
    store.append(vec![deed(1)]).await.unwrap();
    tamper(
        &store,
        "CREATE TRIGGER full BEFORE INSERT ON audit_log WHEN new.actor = 'bob' BEGIN SELECT raise(ABORT, 'no'); END",
    )
    .await;
    assert!(store.append(vec![deed(2), deed(3)]).await.is_err());
    store.append(vec![deed(4)]).await.unwrap();
    tamper(&store, "DROP TRIGGER full").await;
    drop(store);
    let store = reopened(&folder).await;
    store.append(vec![deed(5)]).await.unwrap();
    let whole = followed(&store, None).await;
    assert_eq!((whole.entries, whole.broken), (3, None));
}
