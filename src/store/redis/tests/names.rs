//! Names of nodes in a real Redis: which stay and which go. Knows the keys.

use super::*;
use crate::store::redis::sharing::FORGOTTEN;

#[test]
fn only_nodes_with_a_lease_or_sessions_keep_their_names() {
    let Some(server) = one_server() else { return };
    block_on(others_lose_their_names(&server.url()));
}

/// In a cluster the names and the keys are on different servers.
pub async fn others_lose_their_names(url: &str) {
    let named = |node: &str| NodeId(node.into());
    let of = |node: &str| RedisLive::new(&url.parse().unwrap(), named(node), Epoch(5), None).unwrap();
    let view = view(url, 5);
    view.renew_lease(UtcMicros(1)).await.unwrap();
    let open = Record { node: named("silent"), ..record(1, 5, 1, Status::Active) };
    of("silent").apply(vec![open.clone()]).await.unwrap();
    for n in 0..2 * FORGOTTEN {
        let gone = named(&format!("gone-{n}"));
        view.0.writer().await.unwrap().announce(&view.0.pool, &gone).await.unwrap();
    }
    view.fence(named("gone-0"), Epoch(6)).await.unwrap();
    for _ in 0..4 {
        let leases = view.leases().await.unwrap();
        assert_eq!(leases.into_iter().map(|(node, _)| node.0).collect::<Vec<_>>(), [NODE]);
    }
    let names = async || {
        let mut connection = view.0.pool.connection().await.unwrap();
        connection.ask::<BTreeSet<String>>(redis::cmd("SMEMBERS").arg(super::super::NODES)).await.unwrap()
    };
    assert_eq!(names().await, [NODE, "silent"].map(str::to_owned).into());
    assert_eq!(listed(&view).await, [open]);
    assert!(matches!(of("gone-0").renew_lease(UtcMicros(2)).await, Err(StoreError::Superseded)), "its fence stays");
    of("gone-1").renew_lease(UtcMicros(2)).await.unwrap();
    assert_eq!(view.leases().await.unwrap().len(), 2, "it is back");
}

#[test]
fn a_silent_node_that_has_sessions_is_in_the_lists_at_every_moment() {
    let Some(server) = one_server() else { return };
    block_on(async {
        let (view, open) = (view(&server.url(), 1), record(1, 1, 1, Status::Active));
        view.apply(vec![open.clone()]).await.unwrap();
        // A name that is removed would stay away now.
        server.ask(&["ACL SETUSER default -sadd"]);
        assert_eq!(view.leases().await.unwrap(), []);
        assert_eq!(listed(&view).await, [open]);
    });
}

#[test]
fn a_node_that_comes_while_its_name_is_removed_keeps_it() {
    let Some(server) = one_server() else { return };
    block_on(async {
        let view = view(&server.url(), 1);
        server.ask(&["ACL SETUSER default -sadd"]);
        // Its keys come before its name, so that who removes the name sees them.
        for refused in
            [view.renew_lease(UtcMicros(1)).await.map(drop), view.apply(vec![record(1, 1, 1, Status::Active)]).await]
        {
            assert_eq!(unavailable(refused), "Redis does not permit this user to write here");
        }
        assert_eq!(server.ask(&[&format!("EXISTS {0}lease {0}beats", key(&view.0.node, ""))]).trim_end(), ":2");
        server.ask(&["ACL SETUSER default +sadd"]);
        assert!(!view.renew_lease(UtcMicros(2)).await.unwrap());
        let mut connection = view.0.pool.connection().await.unwrap();
        super::super::sharing::remove(&mut connection, &view.0.node).await.unwrap();
        assert_eq!(view.leases().await.unwrap().len(), 1);
    });
}
