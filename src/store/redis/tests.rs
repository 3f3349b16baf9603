//! The Redis view against real servers: the promises of every live view, lost, frozen, replaced or misconfigured
//! servers, and the failures without its guards.

use std::time::{Duration, Instant};

use super::{
    lab::{Cluster, Ports, Server, Watched, eventually, free_port},
    *,
};
use crate::{
    core::record::{Authority, Status},
    store::conformance::{self, live::Flush},
};

/// The cost of beats, and their loss.
#[cfg(test)]
mod beats;
/// Whose names stay.
#[cfg(test)]
mod names;

const NODE: &str = "node-a";

fn view(url: &str, epoch: u64) -> RedisLive {
    guarded(url, epoch, Guards::default())
}

pub(super) fn guarded(url: &str, epoch: u64, guards: Guards) -> RedisLive {
    RedisLive::guarded(&url.parse().unwrap(), NodeId(NODE.into()), Epoch(epoch), None, guards).unwrap()
}

fn record(n: u8, epoch: u64, version: u64, status: Status) -> Record {
    Record { epoch: Epoch(epoch), ..conformance::record(n, version, Authority::Observed, status) }
}

async fn listed(view: &RedisLive) -> Vec<Record> {
    let mut open = view.open().await.unwrap();
    open.sort_by_key(|record| record.id);
    open
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Returns the sentence of a store that cannot be reached.
fn unavailable<T: fmt::Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Err(StoreError::Unavailable(sentence)) => sentence,
        other => panic!("{other:?}"),
    }
}

pub(super) fn one_server() -> Option<Server> {
    Server::start(&[])
}

fn fresh(server: &Server) -> impl Future<Output = (RedisLive, Ports)> + Send + 'static {
    let (view, ports) = (view(&server.url(), 1), Ports(vec![server.port]));
    ports.flush();
    async { (view, ports) }
}

conformance::live_store_promises!(one_server, fresh);
conformance::lossy_live_store_promises!(one_server, fresh);
conformance::shared_live_promises!(one_server, fresh);

#[test]
fn every_promise_holds_in_a_cluster() {
    let Some(cluster) = Cluster::start() else { return };
    let (url, ports) = (cluster.url(), cluster.ports());
    let fresh = || {
        ports.flush();
        let (view, ports) = (view(&url, 1), Ports(ports.0.clone()));
        Box::pin(async { (view, ports) }) as BoxFuture<'static, (RedisLive, Ports)>
    };
    conformance::live_store_promises!(one by one: &fresh);
    conformance::lossy_live_store_promises!(one by one: &fresh);
    conformance::shared_live_promises!(one by one: &fresh);
    ports.flush();
    block_on(a_fenced_start_only_closes(&url));
    ports.flush();
    block_on(every_node_is_listed(&url));
    ports.flush();
    block_on(names::others_lose_their_names(&url));
}

#[test]
fn a_cluster_may_go_and_come_back_empty() {
    let Some(mut cluster) = Cluster::start() else { return };
    block_on(async {
        let view = view(&cluster.url(), 1);
        view.renew_lease(UtcMicros(1)).await.unwrap();
        cluster.0.iter_mut().for_each(Server::kill);
        unavailable(view.apply(vec![record(1, 1, 1, Status::Active)]).await);
        unavailable(view.open().await);
        cluster.0.iter_mut().for_each(Server::restart);
        cluster.agree();
        assert!(!eventually_renewed(&view).await);
        view.apply(vec![record(1, 1, 1, Status::Active)]).await.unwrap();
        assert!(view.renew_lease(UtcMicros(4)).await.unwrap());
        assert_eq!(listed(&view).await, [record(1, 1, 1, Status::Active)]);
    });
}

#[test]
fn a_fenced_start_can_only_close() {
    let Some(server) = one_server() else { return };
    block_on(a_fenced_start_only_closes(&server.url()));
}

/// Invariant I10 of `docs/design.md`.
async fn a_fenced_start_only_closes(url: &str) {
    let (old, new) = (view(url, 1), view(url, 2));
    old.apply(vec![record(1, 1, 1, Status::Active), record(2, 1, 1, Status::Active)]).await.unwrap();
    assert!(!old.renew_lease(UtcMicros(1)).await.unwrap());
    assert!(!new.renew_lease(UtcMicros(2)).await.unwrap());
    let refused = old.renew_lease(UtcMicros(3)).await;
    assert!(matches!(refused, Err(StoreError::Superseded)), "{refused:?}");
    // From either writer: the epoch decides in which the session was born.
    for hand in [&old, &new] {
        hand.apply(vec![record(1, 1, 2, Status::Detached), record(3, 1, 1, Status::Active)]).await.unwrap();
        assert_eq!(listed(&new).await, [record(1, 1, 1, Status::Active), record(2, 1, 1, Status::Active)]);
    }
    old.apply(vec![record(1, 1, 2, Status::Closed)]).await.unwrap();
    new.apply(vec![record(2, 1, 2, Status::Closed), record(4, 2, 1, Status::Active)]).await.unwrap();
    assert_eq!(listed(&old).await, [record(4, 2, 1, Status::Active)]);
    assert!(new.renew_lease(UtcMicros(4)).await.unwrap(), "what the old start tried is no loss of the new one");
}

#[test]
fn a_batch_fences_before_the_first_renewal() {
    let Some(server) = one_server() else { return };
    block_on(async {
        let (old, new) = (view(&server.url(), 1), view(&server.url(), 2));
        new.apply(vec![record(2, 2, 1, Status::Active)]).await.unwrap();
        old.apply(vec![record(1, 1, 1, Status::Active)]).await.unwrap();
        assert_eq!(listed(&new).await, [record(2, 2, 1, Status::Active)]);
    });
}

#[test]
fn sessions_of_every_node_are_listed() {
    let Some(server) = one_server() else { return };
    block_on(every_node_is_listed(&server.url()));
}

/// In a cluster the nodes are on different servers.
async fn every_node_is_listed(url: &str) {
    let node = |n: u8| NodeId(format!("node-{n}"));
    let expected: Vec<_> = (0..9).map(|n| Record { node: node(n), ..record(n, 1, 1, Status::Active) }).collect();
    for record in &expected {
        let view = RedisLive::new(&url.parse().unwrap(), record.node.clone(), Epoch(1), None).unwrap();
        view.renew_lease(UtcMicros(1)).await.unwrap();
        view.apply(vec![record.clone()]).await.unwrap();
    }
    assert_eq!(listed(&view(url, 1)).await, expected);
}

#[test]
fn a_closed_record_can_be_read_until_it_is_forgotten() {
    let Some(server) = one_server() else { return };
    block_on(async {
        let view = view(&server.url(), 1);
        let closed = record(1, 1, 2, Status::Closed);
        view.apply(vec![record(1, 1, 1, Status::Active)]).await.unwrap();
        let (key, changes) = (session_key(&closed.node, closed.id), key(&closed.node, "changes"));
        assert!(server.ask(&[&format!("TTL {key}")]).starts_with(":-1"));
        view.apply(vec![closed.clone()]).await.unwrap();
        let ttl = || -> u32 {
            let ttl = server.ask(&[&format!("TTL {key}")]);
            ttl.trim_start_matches(':').lines().next().unwrap().parse().unwrap()
        };
        assert!((1..=TOMBSTONE_SECONDS).contains(&ttl()), "{}", ttl());
        server.ask(&[&format!("EXPIRE {key} 60")]);
        view.apply(vec![closed.clone()]).await.unwrap();
        assert!((61..=TOMBSTONE_SECONDS).contains(&ttl()), "told again, it is remembered anew: {}", ttl());
        let stored = server.ask(&[&format!("HMGET {key} status end_reason end_time rank")]);
        for value in ["closed", "peer_lost", &closed.end_time.unwrap().0.to_string(), &closed.rank().to_string()] {
            assert!(stored.contains(value), "{value}: {stored}");
        }
        assert!(server.ask(&[&format!("ZCARD {}", key_of_beats(&closed))]).starts_with(":0"));
        let told = server.ask(&[&format!("XRANGE {changes} - +")]);
        assert!(told.find("active") < told.find("closed") && told.contains("active"), "{told}");
    });
}

fn key_of_beats(record: &Record) -> String {
    key(&record.node, "beats")
}

#[test]
fn a_server_may_come_later_go_and_come_back_empty() {
    let Some(mut server) = one_server() else { return };
    block_on(async {
        let view = view(&server.url(), 1);
        server.kill();
        assert_eq!(unavailable(view.open().await), "Redis cannot be reached");
        assert_eq!(unavailable(view.renew_lease(UtcMicros(1)).await), "Redis cannot be reached");
        server.restart();
        assert!(!view.renew_lease(UtcMicros(2)).await.unwrap());
        view.apply(vec![record(1, 1, 1, Status::Active)]).await.unwrap();
        assert!(view.renew_lease(UtcMicros(3)).await.unwrap());
        server.kill();
        server.restart();
        // The first call after it: the kept connection does not make it fail.
        view.beat(vec![(record(1, 1, 1, Status::Active).id, UtcMicros(4))]).await.unwrap();
        assert!(!view.renew_lease(UtcMicros(5)).await.unwrap());
        assert_eq!(listed(&view).await, []);
        view.apply(vec![record(1, 1, 1, Status::Active)]).await.unwrap();
        assert!(view.renew_lease(UtcMicros(6)).await.unwrap());
        assert_eq!(listed(&view).await, [record(1, 1, 1, Status::Active)]);
    });
}

#[test]
fn an_older_copy_that_took_over_is_noticed() {
    let Some(mut server) = one_server() else { return };
    block_on(async {
        let view = view(&server.url(), 1);
        view.renew_lease(UtcMicros(1)).await.unwrap();
        view.apply(vec![record(1, 1, 1, Status::Active)]).await.unwrap();
        server.ask(&["SAVE"]);
        server.kill();
        server.restart();
        assert!(view.renew_lease(UtcMicros(2)).await.unwrap(), "a copy that has everything is no loss");
        server.ask(&["SAVE"]);
        // After the renewal, so that the lease alone would not tell.
        view.apply(vec![record(1, 1, 2, Status::Closed)]).await.unwrap();
        server.kill();
        server.restart();
        assert!(!view.renew_lease(UtcMicros(3)).await.unwrap());
        view.apply(vec![record(1, 1, 2, Status::Closed)]).await.unwrap();
        assert!(view.renew_lease(UtcMicros(4)).await.unwrap());
        assert_eq!(listed(&view).await, []);
    });
}

#[test]
fn scripts_that_were_forgotten_are_sent_again() {
    let Some(server) = one_server() else { return };
    block_on(async {
        let view = view(&server.url(), 1);
        view.renew_lease(UtcMicros(1)).await.unwrap();
        for version in 1..3 {
            server.ask(&["SCRIPT FLUSH"]);
            view.apply(vec![record(1, 1, version, Status::Active)]).await.unwrap();
            server.ask(&["SCRIPT FLUSH"]);
            assert!(view.renew_lease(UtcMicros(2)).await.unwrap());
        }
        assert_eq!(listed(&view).await, [record(1, 1, 2, Status::Active)]);
    });
}

#[test]
fn a_frozen_server_keeps_nobody_waiting() {
    let Some(server) = one_server() else { return };
    block_on(async {
        let view = view(&server.url(), 1);
        view.renew_lease(UtcMicros(1)).await.unwrap();
        server.freeze();
        let begun = Instant::now();
        let beats = vec![(record(1, 1, 1, Status::Active).id, UtcMicros(1))];
        let (apply, beat, lease, open) = tokio::join!(
            view.apply(vec![record(1, 1, 1, Status::Active)]),
            view.beat(beats),
            view.renew_lease(UtcMicros(2)),
            view.open(),
        );
        let waited = begun.elapsed();
        server.thaw();
        for sentence in [unavailable(apply), unavailable(beat), unavailable(lease), unavailable(open)] {
            assert!(sentence.starts_with("Redis does not answer"), "{sentence}");
        }
        assert!(waited < 4 * ANSWER, "{waited:?}");
        // It is unknown whether the batch arrived, so it counts as lost.
        assert!(!view.renew_lease(UtcMicros(3)).await.unwrap());
        view.apply(vec![record(1, 1, 1, Status::Active)]).await.unwrap();
        assert!(view.renew_lease(UtcMicros(4)).await.unwrap());
    });
}

#[test]
fn a_write_that_was_given_up_counts_as_lost() {
    let Some(server) = one_server() else { return };
    block_on(async {
        let view = view(&server.url(), 1);
        view.renew_lease(UtcMicros(1)).await.unwrap();
        server.freeze();
        let write = view.apply(vec![record(1, 1, 1, Status::Active)]);
        assert!(tokio::time::timeout(Duration::from_millis(100), write).await.is_err());
        server.thaw();
        assert!(!view.renew_lease(UtcMicros(2)).await.unwrap());
    });
}

#[test]
fn a_replica_is_refused_with_a_sentence() {
    let Some(master) = one_server() else { return };
    let Some(replica) = Server::start(&[&format!("--replicaof 127.0.0.1 {}", master.port)]) else { return };
    eventually(|| replica.ask(&["INFO replication"]).contains("master_link_status:up"));
    block_on(async {
        let view = view(&replica.url(), 1);
        let read_only = "Redis is a read-only replica";
        assert_eq!(unavailable(view.apply(vec![record(1, 1, 1, Status::Active)]).await), read_only);
        assert_eq!(unavailable(view.renew_lease(UtcMicros(1)).await), read_only);
        assert_eq!(listed(&view).await, []);
    });
}

#[test]
fn only_the_right_password_opens() {
    let Some(server) = Server::start(&["--requirepass hunter2", "--user gate on >pass/word ~pulsegate:* +@all"]) else {
        return;
    };
    block_on(async {
        let at = |credentials: &str| view(&format!("redis://{credentials}127.0.0.1:{}", server.port), 1);
        for wrong in ["", ":other@", "gate:hunter2@"] {
            let sentence = unavailable(at(wrong).renew_lease(UtcMicros(1)).await);
            assert_eq!(sentence, "Redis refuses the user or password", "{wrong}");
        }
        assert!(!at(":hunter2@").renew_lease(UtcMicros(1)).await.unwrap());
        // It may touch no other key.
        let gate = at("gate:pass%2Fword@");
        gate.apply(vec![record(1, 1, 1, Status::Active)]).await.unwrap();
        gate.renew_lease(UtcMicros(1)).await.unwrap();
        gate.beat(vec![(record(1, 1, 1, Status::Active).id, UtcMicros(1))]).await.unwrap();
        assert_eq!(listed(&gate).await, [record(1, 1, 1, Status::Active)]);
    });
}

#[test]
fn a_full_server_says_so() {
    let Some(server) = one_server() else { return };
    block_on(async {
        let view = view(&server.url(), 1);
        view.renew_lease(UtcMicros(1)).await.unwrap();
        server.ask(&["CONFIG SET maxmemory 1"]);
        let full = unavailable(view.apply(vec![record(1, 1, 1, Status::Active)]).await);
        assert_eq!(full, "Redis has no memory left");
        server.ask(&["CONFIG SET maxmemory 0"]);
        view.apply(vec![record(1, 1, 1, Status::Active)]).await.unwrap();
    });
}

#[test]
fn nobody_there_is_said_for_each_kind() {
    block_on(async {
        let port = free_port();
        for (url, sentence) in [
            (format!("redis://127.0.0.1:{port}/2"), "Redis cannot be reached"),
            (format!("redis+cluster://127.0.0.1:{port}"), "Redis cannot be reached"),
            (format!("redis+sentinel://127.0.0.1:{port}/main"), "Redis cannot be reached"),
        ] {
            assert_eq!(unavailable(view(&url, 1).open().await), sentence, "{url}");
        }
    });
}

#[test]
fn a_failover_that_lost_writes_is_noticed_and_made_good() {
    let Some(mut watched) = Watched::start() else { return };
    block_on(async {
        let view = view(&watched.url(), 1);
        view.renew_lease(UtcMicros(1)).await.unwrap();
        view.apply(vec![record(1, 1, 1, Status::Active), record(2, 1, 1, Status::Active)]).await.unwrap();
        assert!(view.renew_lease(UtcMicros(2)).await.unwrap());
        assert!(watched.master.ask(&["WAIT 1 10000"]).starts_with(":1"));
        // From now on the replica misses everything.
        watched.replica.freeze();
        watched.master.ask(&["CLIENT KILL TYPE replica"]);
        let truth = [record(1, 1, 2, Status::Closed), record(3, 1, 1, Status::Active)];
        view.apply(truth.to_vec()).await.unwrap();
        watched.master.kill();
        watched.replica.thaw();
        let renewed = eventually_renewed(&view).await;
        assert!(!renewed, "the closing of one session and the opening of another are lost");
        view.apply(truth.to_vec()).await.unwrap();
        assert!(view.renew_lease(UtcMicros(4)).await.unwrap());
        assert_eq!(listed(&view).await, [record(2, 1, 1, Status::Active), record(3, 1, 1, Status::Active)]);
    });
}

/// Renews until a server answers.
async fn eventually_renewed(view: &RedisLive) -> bool {
    let begun = Instant::now();
    loop {
        match view.renew_lease(UtcMicros(3)).await {
            Ok(is_whole) => return is_whole,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
