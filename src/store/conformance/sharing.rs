//! The promises of a store that several nodes share: fences, leases, commands. Knows the traits and no store.

use std::{collections::BTreeSet, time::Duration};

use secrecy::ExposeSecret as _;

use super::{Fresh, block_on, record, start, write};
use crate::{
    core::record::{Authority, EndReason, Epoch, NodeId, Record, SessionId, Status, UtcMicros},
    store::{Command, Holder, Leftovers, LiveStore, SharedRecords, StoreError},
};

macro_rules! shared_record_promises {
    ($($stores:tt)+) => {
        $crate::store::conformance::promises!($($stores)+ => $crate::store::conformance::sharing:
            a_fence_takes_only_the_lease_that_was_seen, what_a_fence_ended_is_only_closed,
            an_epoch_begun_elsewhere_is_held_after_a_fence, commands_are_taken_once_and_in_order, only_who_holds_nobody_off_is_removed,
            old_commands_for_what_is_not_open_are_removed,
            of_one_end_the_earlier_notice_stays, the_first_key_is_everybodys);
    };
}

macro_rules! shared_live_promises {
    ($($stores:tt)+) => {
        $crate::store::conformance::promises!($($stores)+ => $crate::store::conformance::sharing:
            a_fenced_node_shows_nothing_new, what_ended_is_remembered_whole, other_nodes_are_read_without_ones_own, a_lease_moves_with_every_renewal,
            commands_reach_the_node);
    };
}

pub(crate) use {shared_live_promises, shared_record_promises};

fn node() -> NodeId {
    NodeId("node-a".into())
}

fn born(epoch: u64, n: u8, version: u64, status: Status) -> Record {
    Record { epoch: Epoch(epoch), ..record(n, version, Authority::Observed, status) }
}

fn ending(n: u8) -> Command {
    let session = SessionId::new(UtcMicros(1_000), [n; 10]);
    Command { session, reason: EndReason::Terminated, detail: format!("ended by ann, \"{n}\"\r\n") }
}

pub fn a_fence_takes_only_the_lease_that_was_seen<S: SharedRecords, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let epoch = store.begin_epoch(node(), start(1), Epoch(0), UtcMicros(1)).await.unwrap();
        let seen = store.nodes().await.unwrap().pop().unwrap();
        assert_eq!((seen.holder, seen.started_at, seen.lease.epoch), (Holder::Held, UtcMicros(1), epoch));
        assert_eq!(seen.serve_for, Duration::from_hours(24));
        store.renew_lease(node(), start(1), epoch, UtcMicros(2)).await.unwrap();
        assert!(!store.fence(node(), seen.lease).await.unwrap(), "it has moved since");
        let seen = store.nodes().await.unwrap().pop().unwrap();
        assert!(store.fence(node(), seen.lease.clone()).await.unwrap());
        let fenced = store.nodes().await.unwrap().pop().unwrap();
        assert_eq!((fenced.holder, fenced.lease.epoch), (Holder::Fenced, Epoch(epoch.0 + 1)));
        let refused = store.renew_lease(node(), start(1), epoch, UtcMicros(3)).await;
        assert!(matches!(refused, Err(StoreError::Superseded)), "{refused:?}");
        // The node's next start serves again, and ends in order.
        let next = store.begin_epoch(node(), start(2), epoch, UtcMicros(4)).await.unwrap();
        assert!(next.0 > epoch.0 + 1);
        store.release_lease(node(), start(1)).await.unwrap();
        assert_eq!(store.nodes().await.unwrap()[0].holder, Holder::Held, "an earlier start cannot leave for it");
        store.release_lease(node(), start(2)).await.unwrap();
        let left = store.nodes().await.unwrap().pop().unwrap();
        assert_eq!(left.holder, Holder::Left);
        assert!(!store.fence(node(), left.lease).await.unwrap(), "nobody holds it");
    });
}

pub fn what_a_fence_ended_is_only_closed<S: SharedRecords, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let epoch = store.begin_epoch(node(), start(1), Epoch(0), UtcMicros(1)).await.unwrap().0;
        let open = [born(epoch, 1, 1, Status::Active), born(epoch, 2, 1, Status::Active)];
        store.apply(open.clone().map(write).to_vec()).await.unwrap();
        let lease = store.lease(node()).await.unwrap().unwrap();
        assert!(store.fence(node(), lease).await.unwrap());
        let late = [
            born(epoch, 1, 5, Status::Detached),
            born(epoch, 2, 5, Status::Closed),
            born(epoch, 3, 1, Status::Connecting),
            born(epoch + 1, 4, 1, Status::Active),
        ];
        store.apply(late.clone().map(write).to_vec()).await.unwrap();
        let ids = late.iter().map(|record| record.id).collect();
        let mut found = store.find_many(ids).await.unwrap();
        found.sort_by_key(|record| record.id);
        assert_eq!(found, [open[0].clone(), late[1].clone(), late[3].clone()]);
    });
}

pub fn an_epoch_begun_elsewhere_is_held_after_a_fence<S: SharedRecords, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let old = store.begin_epoch(node(), start(1), Epoch(0), UtcMicros(1)).await.unwrap();
        let lease = store.lease(node()).await.unwrap().unwrap();
        assert!(store.fence(node(), lease).await.unwrap());
        // An epoch begun in the journal while these records could not be reached: the fence took the same number.
        let next = Epoch(old.0 + 1);
        store.renew_lease(node(), start(2), next, UtcMicros(2)).await.unwrap();
        let refused = store.renew_lease(node(), start(3), next, UtcMicros(3)).await;
        assert!(matches!(refused, Err(StoreError::Superseded)), "{refused:?}");
        assert_eq!(store.nodes().await.unwrap()[0].holder, Holder::Held);
    });
}

pub fn commands_are_taken_once_and_in_order<S: SharedRecords, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        for n in 1..4 {
            store.send_command(node(), ending(n), UtcMicros(1)).await.unwrap();
            // Ids made within one millisecond would have no order.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        store.send_command(NodeId("node-b".into()), ending(9), UtcMicros(1)).await.unwrap();
        assert_eq!(store.take_commands(node()).await.unwrap(), [1, 2, 3].map(ending));
        assert_eq!(store.take_commands(node()).await.unwrap(), []);
    });
}

fn gone(left: BTreeSet<NodeId>, left_before: i64, sent_before: i64, limit: u32) -> Leftovers {
    Leftovers { left, left_before: UtcMicros(left_before), sent_before: UtcMicros(sent_before), limit }
}

pub fn only_who_holds_nobody_off_is_removed<S: SharedRecords, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let named = |name: &str| NodeId(name.into());
        let begin = async |name: &str, at| {
            store.begin_epoch(named(name), start(1), Epoch(0), UtcMicros(at)).await.unwrap();
        };
        for (name, at) in [
            ("fenced", 1),
            ("gone", 1),
            ("held", 1),
            ("late", 9),
            ("open", 1),
            ("other", 1),
            ("twice", 1),
            ("unseen", 1),
        ] {
            begin(name, at).await;
        }
        begin("twice", 1).await;
        let open = Record { node: named("open"), ..born(1, 1, 1, Status::Active) };
        store.apply(vec![write(open.clone())]).await.unwrap();
        let fenced = store.lease(named("fenced")).await.unwrap().unwrap();
        assert!(store.fence(named("fenced"), fenced.clone()).await.unwrap());
        for name in ["fenced", "gone", "late", "open", "other", "twice", "unseen"] {
            store.release_lease(named(name), start(1)).await.unwrap();
        }
        let left = async || -> Vec<String> { store.nodes().await.unwrap().into_iter().map(|node| node.id.0).collect() };
        let seen = BTreeSet::from(["fenced", "gone", "held", "late", "open", "other", "twice"].map(named));
        let remove = async |limit| store.remove_gone(gone(seen.clone(), 9, 0, limit)).await.unwrap();
        assert_eq!([remove(1).await, remove(5).await, remove(5).await], [1, 1, 0]);
        assert_eq!(left().await, ["fenced", "held", "late", "open", "twice", "unseen"]);
        let refused = store.renew_lease(named("fenced"), start(1), fenced.epoch, UtcMicros(9)).await;
        assert!(matches!(refused, Err(StoreError::Superseded)), "{refused:?}");
        let closed = Record { node: open.node, ..born(1, 1, 2, Status::Closed) };
        store.apply(vec![write(closed)]).await.unwrap();
        assert_eq!(remove(5).await, 1);
        // Who comes back goes on behind what its journal knows.
        let next = store.begin_epoch(named("gone"), start(2), Epoch(1), UtcMicros(9)).await.unwrap();
        assert_eq!(next, Epoch(2));
        assert_eq!(left().await, ["fenced", "gone", "held", "late", "twice", "unseen"]);
    });
}

pub fn old_commands_for_what_is_not_open_are_removed<S: SharedRecords, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let [open, closed] = [born(1, 1, 1, Status::Active), born(1, 2, 2, Status::Closed)];
        store.apply(vec![write(open.clone()), write(closed.clone())]).await.unwrap();
        let of = |session, n| Command { session, ..ending(n) };
        let (kept, over, young, unknown) = (of(open.id, 1), of(closed.id, 2), of(closed.id, 3), ending(4));
        for (command, at) in [(&kept, 1), (&over, 1), (&young, 9), (&unknown, 1)] {
            store.send_command(node(), command.clone(), UtcMicros(at)).await.unwrap();
            // Ids made within one millisecond would have no order.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let remove = async |limit| store.remove_gone(gone(BTreeSet::new(), 0, 9, limit)).await.unwrap();
        assert_eq!([remove(1).await, remove(5).await, remove(5).await], [1, 1, 0]);
        assert_eq!(store.take_commands(node()).await.unwrap(), [kept, young]);
    });
}

pub fn of_one_end_the_earlier_notice_stays<S: SharedRecords, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let end = record(1, 2, Authority::Inferred, Status::Closed);
        let noticed = |later| Record { detected_at: end.detected_at.map(|at| UtcMicros(at.0 + later)), ..end.clone() };
        for (later, stays) in [(5, 5), (9, 5), (3, 3), (5, 3)] {
            store.apply(vec![write(noticed(later))]).await.unwrap();
            assert_eq!(store.get(end.id).await.unwrap(), Some(noticed(stays)), "noticed {later} later");
        }
        // Noticed later, by a gateway that knows a later sign of life.
        let seen = |at: UtcMicros| Record { last_seen_at: Some(at), end_time: Some(at), ..noticed(5) };
        let known = end.end_time.unwrap();
        for (later, stays) in [(-1, noticed(3)), (1, seen(UtcMicros(known.0 + 1))), (0, seen(UtcMicros(known.0 + 1)))] {
            store.apply(vec![write(seen(UtcMicros(known.0 + later)))]).await.unwrap();
            assert_eq!(store.get(end.id).await.unwrap(), Some(stays), "seen {later} later");
        }
        let history = store.history(end.id).await.unwrap();
        assert_eq!(history.len(), 1, "it is one end all the same");
        let observed = record(1, 2, Authority::Observed, Status::Closed);
        store.apply(vec![write(observed.clone()), write(noticed(0))]).await.unwrap();
        assert_eq!(store.get(end.id).await.unwrap(), Some(observed), "what the owner saw stands above");
    });
}

pub fn the_first_key_is_everybodys<S: SharedRecords, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        for proposed in [[7; 32], [8; 32], [0; 32]] {
            assert_eq!(store.view_key(proposed).await.unwrap().expose_secret(), &[7; 32]);
        }
    });
}

/// The views of these promises belong to `node-a`, in an epoch before its sixth.
pub fn a_fenced_node_shows_nothing_new<S: LiveStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let shown = born(5, 1, 1, Status::Active);
        store.apply(vec![shown.clone()]).await.unwrap();
        assert_eq!(store.open_of(node()).await.unwrap(), std::slice::from_ref(&shown));
        assert_eq!(store.open_of(NodeId("node-b".into())).await.unwrap(), []);
        store.fence(node(), Epoch(6)).await.unwrap();
        store.fence(node(), Epoch(3)).await.unwrap();
        store.apply(vec![born(5, 1, 2, Status::Detached), born(5, 2, 1, Status::Active)]).await.unwrap();
        assert_eq!(store.open_of(node()).await.unwrap(), [shown]);
        store.apply(vec![born(5, 1, 3, Status::Closed), born(6, 3, 1, Status::Active)]).await.unwrap();
        assert_eq!(store.open_of(node()).await.unwrap(), [born(6, 3, 1, Status::Active)]);
        let refused = store.renew_lease(UtcMicros(9)).await;
        assert!(matches!(refused, Err(StoreError::Superseded)), "{refused:?}");
    });
}

pub fn other_nodes_are_read_without_ones_own<S: LiveStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let other = NodeId("node-b".into());
        let (own, theirs) = (born(5, 1, 1, Status::Active), born(5, 2, 1, Status::Active));
        let theirs = Record { node: other.clone(), ..theirs };
        store.apply(vec![own.clone(), theirs.clone()]).await.unwrap();
        assert_eq!(store.open_beside(node()).await.unwrap(), [theirs]);
        assert_eq!(store.open_beside(other).await.unwrap(), [own]);
    });
}

pub fn what_ended_is_remembered_whole<S: LiveStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let (open, ended) = (born(5, 1, 1, Status::Active), born(5, 2, 2, Status::Closed));
        store.apply(vec![open.clone(), born(5, 2, 1, Status::Active)]).await.unwrap();
        store.apply(vec![ended.clone()]).await.unwrap();
        assert_eq!(store.one_of(node(), ended.id).await.unwrap().as_ref(), Some(&ended));
        let mut found = store.find_many_of(node(), vec![ended.id, open.id]).await.unwrap();
        found.sort_by_key(|record| record.id);
        assert_eq!(found, [open, ended]);
    });
}

pub fn a_lease_moves_with_every_renewal<S: LiveStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let mut seen = Vec::new();
        for at in 1..4 {
            store.renew_lease(UtcMicros(at)).await.unwrap();
            let leases = store.leases().await.unwrap();
            assert_eq!(leases.iter().map(|(node, _)| node).collect::<Vec<_>>(), [&node()]);
            assert!(!seen.contains(&leases));
            seen.push(leases);
        }
    });
}

pub fn commands_reach_the_node<S: LiveStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        for n in 1..4 {
            store.send_command(node(), ending(n)).await.unwrap();
        }
        store.send_command(NodeId("node-b".into()), ending(9)).await.unwrap();
        assert_eq!(store.take_commands().await.unwrap(), [1, 2, 3].map(ending));
        // A waiting call returns at once when a command arrives.
        let (found, sent) = tokio::join!(store.take_commands(), store.send_command(node(), ending(4)));
        sent.unwrap();
        assert_eq!(found.unwrap(), [ending(4)]);
        assert_eq!(store.take_commands().await.unwrap(), []);
    });
}
