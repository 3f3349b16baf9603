//! Entries in Redis that no node of these records wrote are skipped, and hide none that a node wrote. Against a real
//! server.

use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use super::*;
use crate::{
    core::record::{Authority, EndReason, Epoch, Record, Status, UtcMicros},
    store::{
        LiveStore,
        conformance::{self, block_on, live::Flush},
        redis::{
            RedisLive, key,
            lab::{Ports, Server},
            session_key,
            tests::one_server,
        },
        sqlite::SqliteStore,
    },
};

fn node() -> NodeId {
    NodeId("node-a".into())
}

/// Returns records, and the folder they are in.
async fn records() -> (Arc<dyn SharedRecords>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("records.db")).await.unwrap();
    (Arc::new(store), folder)
}

fn view(server: &Server, node: NodeId, records: &Arc<dyn SharedRecords>) -> RedisLive {
    RedisLive::new(&server.url().parse().unwrap(), node, Epoch(1), Some(records.clone())).unwrap()
}

fn fresh(server: &Server) -> impl Future<Output = (RedisLive, (Ports, TempDir))> + Send + 'static {
    let (url, ports) = (server.url(), Ports(vec![server.port]));
    ports.flush();
    async move {
        let (records, folder) = records().await;
        (RedisLive::new(&url.parse().unwrap(), node(), Epoch(1), Some(records)).unwrap(), (ports, folder))
    }
}

conformance::live_store_promises!(one_server, fresh);
conformance::sharing::shared_live_promises!(one_server, fresh);

fn open(n: u8, version: u64) -> Record {
    Record { epoch: Epoch(1), ..conformance::record(n, version, Authority::Observed, Status::Active) }
}

fn ending(n: u8) -> Command {
    Command { session: open(n, 1).id, reason: EndReason::Terminated, detail: "ended by ann".into() }
}

/// Returns an entry of a node's stream of commands, as its fields.
fn entry(server: &Server, node: &NodeId) -> Vec<String> {
    let told = server.ask(&[&format!("XRANGE {} - +", key(node, "commands"))]);
    let told: Vec<_> = told.lines().filter(|line| !line.starts_with(['*', '$', ':'])).map(str::to_owned).collect();
    // The first is its id.
    told[1..].to_vec()
}

fn forge(server: &Server, node: &NodeId, fields: &[String]) {
    let fields: Vec<_> = fields.iter().map(|field| format!("\"{field}\"")).collect();
    let told = server.ask(&[&format!("XADD {} * {}", key(node, "commands"), fields.join(" "))]);
    assert!(told.starts_with('$'), "{told}");
}

#[test]
fn a_command_that_no_node_gave_is_not_carried_out() {
    let Some(server) = one_server() else { return };
    block_on(async {
        let (records, _folder) = records().await;
        let (own, other) = (view(&server, node(), &records), view(&server, NodeId("node-b".into()), &records));
        other.send_command(node(), ending(1)).await.unwrap();
        let sound = entry(&server, &node());
        assert_eq!(own.take_commands().await.unwrap(), [ending(1)]);

        let altered = |name: &str, value: &str| {
            let mut fields = sound.clone();
            let at = fields.iter().position(|field| field == name).unwrap();
            fields[at + 1] = value.to_owned();
            fields
        };
        let unsealed: Vec<_> = sound.iter().take(6).cloned().collect();
        let stranger = open(2, 1).id.to_string();
        let forged = [
            unsealed,
            altered("session", &stranger),
            altered("detail", "ended by bob"),
            altered("seal", "AAAA"),
            altered("reason", "revoked"),
        ];
        for (count, fields) in forged.iter().enumerate() {
            own.read_key().await.unwrap();
            forge(&server, &node(), fields);
            assert_eq!(own.take_commands().await.unwrap(), [], "{fields:?}");
            assert_eq!(own.forgeries(), count as u64 + 1);
        }
        // Not even a command that another node was given.
        forge(&server, &NodeId("node-b".into()), &sound);
        assert_eq!((other.take_commands().await.unwrap(), other.forgeries()), (vec![], 1));
        other.send_command(node(), ending(3)).await.unwrap();
        assert_eq!(own.take_commands().await.unwrap(), [ending(3)], "what was forged hinders nothing");
    });
}

/// Gives the records another key, as a dump does.
const ANOTHER_KEY: &str = "UPDATE view_key SET secret = randomblob(32)";

/// Edits the records behind the gateways' backs.
async fn edit(folder: &TempDir, sql: &'static str) {
    let file = SqliteConnectOptions::new().filename(folder.path().join("records.db"));
    sqlx::query(sql).execute(&mut file.connect().await.unwrap()).await.unwrap();
}

#[test]
fn another_key_is_taken_up_and_ones_own_entries_are_sealed_anew() {
    let Some(server) = one_server() else { return };
    block_on(async {
        let (records, folder) = records().await;
        let own = view(&server, node(), &records);
        let ended = conformance::record(3, 2, Authority::Observed, Status::Closed);
        own.renew_lease(UtcMicros(1)).await.unwrap();
        own.apply(vec![open(1, 1), ended.clone()]).await.unwrap();
        assert!(own.renew_lease(UtcMicros(2)).await.unwrap());
        edit(&folder, ANOTHER_KEY).await;
        let new = view(&server, NodeId("node-c".into()), &records);
        let theirs = Record { node: NodeId("node-c".into()), ..open(2, 1) };
        new.apply(vec![theirs.clone()]).await.unwrap();
        assert_eq!(own.open_beside(node()).await.unwrap(), [theirs]);
        assert_eq!(own.open_of(node()).await.unwrap(), [open(1, 1)], "sealed under the key before");
        assert_eq!(own.forgeries(), 0);
        assert_eq!(new.open_of(node()).await.unwrap(), []);
        assert!(!own.renew_lease(UtcMicros(3)).await.unwrap(), "all of it is to be written again");
        own.apply(vec![open(1, 1), ended.clone()]).await.unwrap();
        assert!(own.renew_lease(UtcMicros(4)).await.unwrap());
        assert_eq!(new.open_of(node()).await.unwrap(), [open(1, 1)]);
        assert_eq!(new.one_of(node(), ended.id).await.unwrap(), Some(ended));
    });
}

#[test]
fn a_command_is_refused_only_after_the_key_was_read_again() {
    let Some(server) = one_server() else { return };
    block_on(async {
        let (records, folder) = records().await;
        let (own, old) = (view(&server, node(), &records), view(&server, NodeId("node-b".into()), &records));
        for view in [&own, &old] {
            view.read_key().await.unwrap();
        }
        edit(&folder, ANOTHER_KEY).await;
        view(&server, NodeId("node-c".into()), &records).send_command(node(), ending(1)).await.unwrap();
        edit(&folder, "ALTER TABLE view_key RENAME TO hidden").await;
        assert_eq!(own.take_commands().await.unwrap(), [], "the key cannot be read");
        edit(&folder, "ALTER TABLE hidden RENAME TO view_key").await;
        old.send_command(node(), ending(2)).await.unwrap();
        assert_eq!(own.take_commands().await.unwrap(), [ending(2)], "who waits keeps nobody waiting");
        own.read_key().await.unwrap();
        assert_eq!(own.take_commands().await.unwrap(), [ending(1)], "it was still there");
        old.send_command(node(), ending(3)).await.unwrap();
        assert_eq!(own.take_commands().await.unwrap(), [ending(3)], "its gateway has not read the key yet");
        assert_eq!(own.forgeries(), 0);
    });
}

#[test]
fn records_that_lost_the_key_get_it_back() {
    let Some(server) = one_server() else { return };
    block_on(async {
        let (records, folder) = records().await;
        let own = view(&server, node(), &records);
        own.read_key().await.unwrap();
        own.renew_lease(UtcMicros(1)).await.unwrap();
        edit(&folder, "DELETE FROM view_key").await;
        own.read_key().await.unwrap();
        assert!(own.renew_lease(UtcMicros(2)).await.unwrap(), "nothing has changed");
        view(&server, NodeId("node-b".into()), &records).send_command(node(), ending(1)).await.unwrap();
        assert_eq!(own.take_commands().await.unwrap(), [ending(1)]);
    });
}

#[test]
fn a_session_that_no_node_wrote_is_not_listed_and_hides_no_other() {
    let Some(server) = one_server() else { return };
    block_on(async {
        let (records, _folder) = records().await;
        let (own, other) = (view(&server, node(), &records), view(&server, NodeId("node-b".into()), &records));
        own.apply((1..=8).map(|n| open(n, 1)).collect()).await.unwrap();
        let hash = |n: u8| session_key(&node(), open(n, 1).id);
        server.ask(&[
            &format!("HSET {} username mallory", hash(1)),
            &format!("HDEL {} seal", hash(2)),
            &format!("HDEL {} username", hash(3)),
            // This field is empty while the session is open.
            &format!("HDEL {} end_reason", hash(6)),
            // A value that is not text, and one that is not a rank.
            &format!("HSET {} username \"\\xff\"", hash(7)),
            &format!("HSET {} rank highest", hash(8)),
            // One session's hash under another's id.
            &format!("COPY {} {}", hash(4), hash(9)),
            &format!("ZADD {} 1 {} 1 nonsense", key(&node(), "beats"), open(9, 1).id),
            // A node that has no other key.
            "SADD pulsegate:nodes node-x",
            &format!("ZADD {} 1 nonsense", key(&NodeId("node-x".into()), "beats")),
        ]);
        for (view, refused) in [(&own, 9), (&other, 9)] {
            let mut listed = view.open().await.unwrap();
            listed.sort_by_key(|record| record.id);
            assert_eq!(listed, [open(4, 1), open(5, 1)]);
            assert_eq!(view.forgeries(), refused);
        }
        let ranks = own.ranks_of(node()).await.unwrap();
        assert_eq!(ranks.len(), 9, "what stands there, whoever wrote it");
        assert!(ranks.contains(&(open(8, 1).id, 0)), "{ranks:?}");
        let mut found = own.find_many_of(node(), (1..=9).map(|n| open(n, 1).id).collect()).await.unwrap();
        found.sort_by_key(|record| record.id);
        assert_eq!(found, [open(4, 1), open(5, 1)]);
        // The node's own next write repairs it.
        own.apply(vec![open(1, 2), open(2, 2)]).await.unwrap();
        assert_eq!(own.open().await.unwrap().len(), 4);
    });
}

#[test]
fn a_beat_that_no_node_gave_changes_nothing_of_what_is_over() {
    let Some(server) = one_server() else { return };
    block_on(async {
        let (records, _folder) = records().await;
        let own = view(&server, node(), &records);
        let over = conformance::record(1, 2, Authority::Observed, Status::Closed);
        own.apply(vec![over.clone()]).await.unwrap();
        server.ask(&[&format!("ZADD {} 1800000000000000 {}", key(&node(), "beats"), over.id)]);
        assert_eq!(own.one_of(node(), over.id).await.unwrap(), Some(over));
    });
}

#[test]
fn without_the_key_nothing_is_taken_written_or_believed() {
    let Some(server) = one_server() else { return };
    block_on(async {
        let (records, _folder) = records().await;
        view(&server, NodeId("node-b".into()), &records).send_command(node(), ending(1)).await.unwrap();
        let away: Arc<dyn SharedRecords> =
            Arc::new(crate::store::mysql::MySqlStore::new(&"mysql://gate@127.0.0.1:1/none".parse().unwrap()));
        let blind = view(&server, node(), &away);
        let refused = [
            blind.apply(vec![open(1, 1)]).await.unwrap_err(),
            blind.send_command(NodeId("node-b".into()), ending(1)).await.unwrap_err(),
            blind.take_commands().await.unwrap_err(),
        ];
        for error in refused {
            let sentence = error.to_string();
            assert!(sentence.contains("the key to the live view lies in the records, and"), "{sentence}");
        }
        assert_eq!(view(&server, node(), &records).take_commands().await.unwrap(), [ending(1)], "it still waits");
    });
}

#[test]
fn no_two_things_are_said_alike() {
    let of = |byte| ViewKey::new(SecretBox::new(Box::new([byte; 32])), None);
    let key = of(7);
    let seal = |values: &[&str]| key.of_session(&node(), open(1, 1).id, values.iter().copied());
    assert!(seal(&["ab", "c"]) != seal(&["a", "bc"]) && seal(&["a"]) != seal(&["a", ""]));
    assert_ne!(seal(&["a"]), of(8).of_session(&node(), open(1, 1).id, ["a"].into_iter()));
    assert!(key.fits_session(&seal(&["a"]), &node(), open(1, 1).id, ["a"].into_iter()));
    assert!(!key.fits_session("", &node(), open(1, 1).id, ["a"].into_iter()));
    assert!(!key.fits_session("not base64!", &node(), open(1, 1).id, ["a"].into_iter()));
}
