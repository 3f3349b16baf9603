//! The promises of every store, as tests that each implementation runs against itself. Knows the traits and no store.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::future::BoxFuture;
use proptest::test_runner::{Config, TestRunner};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{Excerpt, Lease, ListQuery, OLDEST_FIRST, RecordStore, Sort, SortKey, StoreError, Write};
use crate::core::record::{
    Authority, Durable, EndReason, Epoch, Incarnation, NodeId, Record, SessionId, Status, UtcMicros,
};

/// Versions of records, in any order.
mod deliveries;
/// The promises of a live view.
pub mod live;
/// The promises of a store of users and tokens.
pub mod people;
/// The promises about old history.
pub mod retiring;
/// The promises of a store that nodes share.
pub mod sharing;
/// The statements that both SQL stores run as they are.
pub mod statements;

use deliveries::{any_delivery, merged};

/// Makes one test of each named promise, for the stores that `$fresh` returns: empty, with the values that must outlive
/// them. The servers they need are started by `$start`, once per test; without a server the test is skipped. Where
/// starting is expensive, one test holds all promises.
macro_rules! promises {
    (one by one: $fresh:expr => $suite:path: $($promise:ident),+ $(,)?) => {{
        use $suite as suite;
        $(suite::$promise($fresh);)+
    }};
    ($fresh:path => $suite:path: $($promise:ident),+ $(,)?) => {
        $(#[test] fn $promise() { use $suite as suite; suite::$promise(&|| Box::pin($fresh())); })+
    };
    ($start:path, $fresh:path => $suite:path: $($promise:ident),+ $(,)?) => {
        $(#[test] fn $promise() {
            use $suite as suite;
            if let Some(started) = $start() {
                suite::$promise(&|| Box::pin($fresh(&started)));
            }
        })+
    };
}

macro_rules! record_store_promises {
    ($($stores:tt)+) => {
        $crate::store::conformance::promises!($($stores)+ => $crate::store::conformance:
            returns_a_record_as_written, a_lower_rank_changes_nothing,
            a_transition_is_kept_once, a_long_history_is_shown_by_its_two_ends,
            a_batch_longer_than_a_statement_is_whole, epochs_count_up_per_node,
            only_the_newest_start_renews_its_lease, open_sessions_of_a_node_are_older_and_oldest_first,
            the_order_of_writes_does_not_matter, rank_never_falls_and_closed_is_final,
            pages_put_together_are_the_whole_listing);
    };
}

pub(crate) use live::{live_store_promises, lossy_live_store_promises};
pub(crate) use people::people_promises;
pub(crate) use retiring::retiring_store_promises;
pub(crate) use sharing::{shared_live_promises, shared_record_promises};
pub(crate) use {promises, record_store_promises};

/// A function that makes an empty store, together with the value that must outlive it (a folder, a server).
pub type Fresh<'a, S, G> = &'a dyn Fn() -> BoxFuture<'static, (S, G)>;

const HOUR: i64 = 3_600_000_000;

/// Builds the record number `n` at a version: equal arguments give equal records, and so does an equal rank.
pub fn record(n: u8, version: u64, authority: Authority, status: Status) -> Record {
    let start = 1_700_000_000_000_000 + i64::from(n) * HOUR;
    let later = UtcMicros(start + 1_000 * version as i64 + authority as i64);
    let closed = status == Status::Closed;
    Record {
        id: SessionId::new(UtcMicros(start), [n; 10]),
        username: format!("user-{}", n % 3),
        target: "web-1".into(),
        target_addr: "192.0.2.1:22".into(),
        target_login: "root".into(),
        client_ip: IpAddr::V4(Ipv4Addr::new(198, 51, 100, n)),
        node: NodeId("node-a".into()),
        epoch: Epoch(u64::from(n % 4) + 1),
        version,
        authority,
        status,
        end_reason: closed.then_some(EndReason::PeerLost),
        exit_status: (closed && version.is_multiple_of(2)).then_some(u32::MAX),
        start_time: UtcMicros(start),
        last_seen_at: (status != Status::Connecting).then_some(later),
        last_input_at: version.is_multiple_of(2).then_some(later),
        end_time: closed.then_some(later),
        detected_at: closed.then_some(later),
        bytes_in: version,
        bytes_out: version << 40,
        watchers: 0,
        controlled_by: None,
        recording: closed.then(|| format!("{n}.cast")),
        durable: Durable::Records,
    }
}

/// Builds the write that carries [`record`], with its transition.
pub fn write(record: Record) -> Write {
    let at = record.end_time.or(record.last_seen_at).unwrap_or(record.start_time);
    let transitions = vec![record.transition(at, format!("by {:?}, version {}", record.authority, record.version))];
    Write { record, transitions }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Runs `test` on `cases` random inputs and shrinks the first that fails.
fn check<T: Strategy>(cases: u32, inputs: T, test: impl Fn(T::Value) -> Result<(), TestCaseError>) {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() }).run(&inputs, test).unwrap();
}

pub fn returns_a_record_as_written<S: RecordStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let mut full = record(7, 4, Authority::Inferred, Status::Closed);
        full.client_ip = "2001:db8::7".parse().unwrap();
        full.username = "Ünïcode \u{1f511} 'quoted\" -- %_\\".into();
        (full.exit_status, full.bytes_out) = (Some(u32::MAX), i64::MAX as u64);
        let bare = Record { last_seen_at: None, ..record(8, 1, Authority::Observed, Status::Connecting) };
        store.apply(vec![write(full.clone()), write(bare.clone())]).await.unwrap();
        assert_eq!(store.get(full.id).await.unwrap(), Some(full.clone()));
        assert_eq!(store.get(bare.id).await.unwrap(), Some(bare));
        assert_eq!(store.history(full.id).await.unwrap(), write(full).transitions);
        assert_eq!(store.get(record(9, 1, Authority::Observed, Status::Active).id).await.unwrap(), None);
        let alone = record(10, 1, Authority::Observed, Status::Active);
        let watched = Record { watchers: 3, controlled_by: Some("otto".into()), ..alone.clone() };
        store.apply(vec![write(watched)]).await.unwrap();
        assert_eq!(store.get(alone.id).await.unwrap(), Some(alone));
    });
}

pub fn a_lower_rank_changes_nothing<S: RecordStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let open = record(1, 90, Authority::Observed, Status::Active);
        let inferred = record(1, 2, Authority::Inferred, Status::Closed);
        let observed = record(1, 1, Authority::Observed, Status::Closed);
        for higher in [&open, &inferred, &observed] {
            store.apply(vec![write(higher.clone())]).await.unwrap();
            assert_eq!(store.get(open.id).await.unwrap().as_ref(), Some(higher));
        }
        // An equal rank is a repetition, whatever its content.
        let repeated = Record { bytes_in: 1 << 30, ..observed.clone() };
        store.apply([inferred, repeated, open.clone()].map(write).to_vec()).await.unwrap();
        assert_eq!(store.get(open.id).await.unwrap(), Some(observed));
    });
}

pub fn a_transition_is_kept_once<S: RecordStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let opened = write(record(1, 1, Authority::Observed, Status::Active));
        let activity = Write { transitions: vec![], record: record(1, 2, Authority::Observed, Status::Active) };
        let suspected = write(record(1, 3, Authority::Inferred, Status::Closed));
        let seen = write(record(1, 3, Authority::Observed, Status::Closed));
        for write in [&seen, &activity, &opened, &opened, &suspected, &seen] {
            store.apply(vec![write.clone(), write.clone()]).await.unwrap();
        }
        let expected = [&opened, &suspected, &seen].map(|write| write.transitions[0].clone());
        assert_eq!(store.history(opened.record.id).await.unwrap(), expected);
    });
}

pub fn a_long_history_is_shown_by_its_two_ends<S: RecordStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let shown = u64::from(Excerpt::FIRST + Excerpt::NEWEST);
        let told = |version| write(record(1, version, Authority::Observed, Status::Active));
        let all: Vec<Write> = (1..=shown + 2).map(told).collect();
        let (id, (short, rest)) = (all[0].record.id, all.split_at(shown as usize));
        let transitions = |writes: &[Write]| writes.iter().flat_map(|write| write.transitions.clone()).collect();
        store.apply(short.to_vec()).await.unwrap();
        assert_eq!(store.excerpt(id).await.unwrap(), Excerpt { transitions: transitions(short), left_out: 0 });
        store.apply(rest.to_vec()).await.unwrap();
        let (first, newest) = (&all[..Excerpt::FIRST as usize], &all[Excerpt::FIRST as usize + 2..]);
        let ends = transitions(&[first, newest].concat());
        assert_eq!(store.excerpt(id).await.unwrap(), Excerpt { transitions: ends, left_out: 2 });
    });
}

pub fn a_batch_longer_than_a_statement_is_whole<S: RecordStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let batch: Vec<_> = (0..=255).map(|n| write(record(n, 1, Authority::Observed, Status::Active))).collect();
        store.apply(vec![]).await.unwrap();
        store.apply(batch.clone()).await.unwrap();
        for Write { record, transitions } in batch {
            assert_eq!(store.history(record.id).await.unwrap(), transitions);
            assert_eq!(store.get(record.id).await.unwrap(), Some(record));
        }
    });
}

fn start(number: u8) -> Incarnation {
    Incarnation::new([number; 16])
}

pub fn epochs_count_up_per_node<S: RecordStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let node = |name: &str| NodeId(name.into());
        for (name, after, epoch) in [("a", 0, 1), ("a", 0, 2), ("b", 0, 1), ("a", 0, 3), ("b", 7, 8), ("a", 2, 4)] {
            let begun = store.begin_epoch(node(name), start(epoch as u8), Epoch(after), UtcMicros(1)).await.unwrap();
            assert_eq!(begun, Epoch(epoch));
        }
        let lease = Lease { epoch: Epoch(4), incarnation: start(4), renewed_at: UtcMicros(1) };
        assert_eq!(store.lease(node("a")).await.unwrap(), Some(lease));
        assert_eq!(store.lease(node("c")).await.unwrap(), None);
    });
}

pub fn only_the_newest_start_renews_its_lease<S: RecordStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let node = NodeId("a".into());
        let renew =
            async |who, epoch, at| store.renew_lease(node.clone(), start(who), Epoch(epoch), UtcMicros(at)).await;
        let old = store.begin_epoch(node.clone(), start(1), Epoch(0), UtcMicros(1)).await.unwrap();
        renew(1, old.0, 2).await.unwrap();
        let new = store.begin_epoch(node.clone(), start(2), Epoch(0), UtcMicros(3)).await.unwrap();
        for (who, epoch) in [(1, old.0), (1, new.0), (3, new.0)] {
            let refused = renew(who, epoch, 4).await;
            assert!(matches!(refused, Err(StoreError::Superseded)), "{who} {epoch}: {refused:?}");
        }
        renew(2, new.0, 6).await.unwrap();
        // The wall clock may jump back, a lease does not; and each renewal moves it, or its holder would look dead.
        renew(2, new.0, 5).await.unwrap();
        let lease = |epoch, who, at| Some(Lease { epoch, incarnation: start(who), renewed_at: UtcMicros(at) });
        assert_eq!(store.lease(node.clone()).await.unwrap(), lease(new, 2, 7));
        // An epoch that began while this store could not be reached.
        renew(4, 9, 8).await.unwrap();
        assert_eq!(store.lease(node.clone()).await.unwrap(), lease(Epoch(9), 4, 8));
    });
}

pub fn open_sessions_of_a_node_are_older_and_oldest_first<S: RecordStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let status = |n: u8| Status::ALL[usize::from(n) % Status::ALL.len()];
        let mut all: Vec<_> = (0..40).map(|n| record(n, 1, Authority::Observed, status(n))).collect();
        all[0].node = NodeId("node-b".into());
        store.apply(all.iter().rev().cloned().map(write).collect()).await.unwrap();
        let (node, all) = (NodeId("node-a".into()), all.into_iter().filter(|record| !record.is_closed()));
        let expected: Vec<_> = all.filter(|record| record.node == node && record.epoch < Epoch(3)).collect();
        assert_eq!(store.open_of(node.clone(), Epoch(3), None, 100).await.unwrap(), expected);
        assert_eq!(store.open_of(node.clone(), Epoch(3), None, 5).await.unwrap(), expected[..5]);
        assert_eq!(store.open_of(node.clone(), Epoch(1), None, 100).await.unwrap(), []);
        let after = Some(OLDEST_FIRST.position(&expected[4]));
        assert_eq!(store.open_of(node.clone(), Epoch(3), after, 100).await.unwrap(), expected[5..]);
        let ranks: Vec<_> = expected.iter().map(|record| (OLDEST_FIRST.position(record), record.rank())).collect();
        assert_eq!(store.ranks_of(node.clone(), Epoch(3), None, 100).await.unwrap(), ranks);
        assert_eq!(store.ranks_of(node, Epoch(3), after, 2).await.unwrap(), ranks[5..7]);
        let (one, two, unknown) = (&expected[0], &expected[7], record(99, 1, Authority::Observed, Status::Active).id);
        let mut many = store.find_many(vec![two.id, unknown, one.id]).await.unwrap();
        many.sort_by_key(|record| record.id);
        assert_eq!(many, [one.clone(), two.clone()]);
    });
}

fn everything() -> ListQuery {
    ListQuery { limit: 500, sort: Sort { ascending: true, ..Sort::default() }, ..ListQuery::default() }
}

pub fn the_order_of_writes_does_not_matter<S: RecordStore, G>(fresh: Fresh<S, G>) {
    check(48, any_delivery(), |(records, batches)| {
        block_on(async {
            let (store, _keep) = fresh().await;
            for batch in batches {
                store.apply(batch.into_iter().map(write).collect()).await.unwrap();
            }
            let stored = store.list(everything()).await.unwrap().records;
            prop_assert_eq!(&stored, &merged(&records));
            for id in stored.iter().map(|record| record.id) {
                let mut own: Vec<_> = records.iter().filter(|record| record.id == id).cloned().collect();
                own.sort_by_key(|record| (record.version, record.rank()));
                let expected: Vec<_> = own.into_iter().flat_map(|record| write(record).transitions).collect();
                prop_assert_eq!(store.history(id).await.unwrap(), expected);
            }
            Ok(())
        })
    });
}

pub fn rank_never_falls_and_closed_is_final<S: RecordStore, G>(fresh: Fresh<S, G>) {
    check(32, any_delivery(), |(_, batches)| {
        block_on(async {
            let (store, _keep) = fresh().await;
            let mut before: BTreeMap<SessionId, Record> = BTreeMap::new();
            for batch in batches {
                store.apply(batch.into_iter().map(write).collect()).await.unwrap();
                for now in store.list(everything()).await.unwrap().records {
                    if let Some(before) = before.insert(now.id, now.clone()) {
                        prop_assert!(now.rank() >= before.rank());
                        prop_assert!(now.is_closed() || !before.is_closed());
                    }
                }
            }
            Ok(())
        })
    });
}

/// Records that collide in everything a listing sorts or filters by.
fn crowd() -> impl Strategy<Value = Vec<Record>> {
    let words = || select(vec!["ann", "Ann%", "b_b", "a\\b", "web-1", "zoë"]);
    let time = || option::of(0..4_i64);
    let one = (0..3_i64, words(), words(), select(Status::ALL), time(), time(), 1..3_u8);
    let one = one.prop_map(|(start, user, target, status, seen, end, place)| {
        let base = record(0, 1, Authority::Observed, status);
        Record {
            username: user.into(),
            target: target.into(),
            target_addr: format!("10.0.0.{place}:22"),
            client_ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, place)),
            node: NodeId(format!("node-{place}")),
            start_time: UtcMicros(start),
            last_seen_at: seen.map(UtcMicros),
            end_time: end.filter(|_| base.is_closed()).map(UtcMicros),
            end_reason: base.end_reason.map(|_| if place == 1 { EndReason::Exited } else { EndReason::NodeLost }),
            ..base
        }
    });
    let id = |n| record(n, 1, Authority::Observed, Status::Active).id;
    vec(one, 0..40).prop_map(move |drawn| (0..).zip(drawn).map(|(n, one)| Record { id: id(n), ..one }).collect())
}

fn question() -> impl Strategy<Value = ListQuery> {
    let rarely = 0.2;
    let statuses = prop_oneof![Just(vec![]), vec(select(Status::ALL), 1..4)];
    let user = option::weighted(rarely, select(vec!["ann", "Ann%", "nobody"]));
    let target = option::weighted(rarely, select(vec!["web-1", "b_b"]));
    let place = option::weighted(rarely, (1..3_u8, any::<bool>()));
    let reason = option::weighted(rarely, select(vec![EndReason::Exited, EndReason::NodeLost]));
    let times = (option::weighted(rarely, 0..3_i64), option::weighted(rarely, 0..4_i64));
    let words = vec!["", "%", "_", "B", "\\", "ANN", "0.0.1", "-7", "WEB", "zo", "ann%"];
    let text = option::weighted(0.4, select(words));
    let sort = (select(vec![SortKey::StartTime, SortKey::LastSeenAt, SortKey::EndTime]), any::<bool>());
    (statuses, user, target, place, reason, times, text, sort, 1..9_u32).prop_map(
        |(statuses, user, target, place, reason, (since, until), text, (by, ascending), limit)| ListQuery {
            statuses,
            user: user.map(str::to_owned),
            target: target.map(str::to_owned),
            node: place.filter(|(_, node)| *node).map(|(place, _)| NodeId(format!("node-{place}"))),
            client_ip: place.filter(|(_, node)| !*node).map(|(place, _)| IpAddr::V4(Ipv4Addr::new(10, 0, 0, place))),
            reason,
            since: since.map(UtcMicros),
            until: until.map(UtcMicros),
            text: text.map(str::to_owned),
            sort: Sort { by, ascending },
            limit,
            after: None,
        },
    )
}

pub fn pages_put_together_are_the_whole_listing<S: RecordStore, G>(fresh: Fresh<S, G>) {
    check(32, (crowd(), vec(question(), 16)), |(records, questions)| {
        block_on(async {
            let (store, _keep) = fresh().await;
            store.apply(records.iter().cloned().map(write).collect()).await.unwrap();
            for mut query in questions {
                let mut expected: Vec<_> = records.iter().filter(|record| query.matches(record)).cloned().collect();
                expected.sort_by_key(|record| query.sort.position(record));
                if !query.sort.ascending {
                    expected.reverse();
                }
                let mut listed = Vec::new();
                loop {
                    let page = store.list(query.clone()).await.unwrap();
                    prop_assert!(page.next.is_none() || page.records.len() == query.limit as usize);
                    prop_assert!(page.next.is_none() || listed.len() + page.records.len() < expected.len());
                    listed.extend(page.records);
                    query.after = page.next;
                    if query.after.is_none() {
                        break;
                    }
                }
                prop_assert_eq!(listed, expected, "{:?}", query);
            }
            Ok(())
        })
    });
}
