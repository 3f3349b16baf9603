//! Connections that lead to the wrong server or nowhere: after a switchover whose former primary goes on answering, and
//! behind a firewall that forgets them. Knows which of a store's connections are replaced, and when.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::timeout,
};

use super::*;
use crate::core::record::BootTime;

/// The way to a server, as a name or a firewall is one.
struct Way {
    listener: TcpListener,
    /// Where new connections lead.
    to: Mutex<SocketAddr>,
    /// Told when the connections that there are carry nothing any more.
    forgets: Arc<Notify>,
}

impl Way {
    async fn to(server: &Mariadb) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, to: Mutex::new(server.addr()), forgets: Arc::default() }
    }

    /// Returns the URL of the records of `server` by this way.
    fn url(&self, server: &Mariadb) -> String {
        let near = self.listener.local_addr().unwrap().to_string();
        server.url("records").replace(&server.addr().to_string(), &near)
    }

    async fn carry(&self) -> ! {
        loop {
            let (mut near, _) = self.listener.accept().await.unwrap();
            let (to, forgets) = (*self.to.lock().unwrap(), self.forgets.clone());
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    () = forgets.notified() => std::future::pending().await,
                }
            });
        }
    }
}

#[tokio::test]
async fn after_a_switchover_reads_go_where_writes_go() {
    if !is_here() {
        return;
    }
    // With an account, since an administrator writes to a server that is read-only too.
    let (former, next) = (Mariadb::with_account(&[]).unwrap(), own_server().await);
    let way = Way::to(&former).await;
    let store = MySqlStore::new(&way.url(&former).parse().unwrap());
    let (node, new) = (NodeId("node-b".into()), active(2, 1));
    let switching = async {
        store.migrate(true, |_| {}).await.unwrap();
        store.apply(vec![active(1, 1)]).await.unwrap();
        assert_eq!(store.get(new.record.id).await.unwrap(), None);
        assert_eq!(store.lease(node.clone()).await.unwrap(), None);
        let searched = || store.searchers.run(|| vec![sqlx::query("SELECT session_id FROM session_records")]);
        assert_eq!(searched().await.unwrap().len(), 1);

        let there = fixture::store(&next, "records");
        there.apply(vec![active(1, 1), new.clone()]).await.unwrap();
        there.begin_epoch(node.clone(), Incarnation::new([7; 16]), Epoch(0), UtcMicros(1)).await.unwrap();
        former.sql("SET GLOBAL read_only = ON").unwrap();
        *way.to.lock().unwrap() = next.addr();
        let error = store.apply(vec![active(3, 1)]).await.unwrap_err().to_string();
        assert!(error.contains("read-only"), "{error}");
        assert_eq!(store.get(new.record.id).await.unwrap().as_ref(), Some(&new.record));
        assert!(store.lease(node.clone()).await.unwrap().is_some());
        assert_eq!(searched().await.unwrap().len(), 2);
        store.apply(vec![active(3, 1)]).await.unwrap();
    };
    tokio::select! {
        () = switching => {}
        _ = way.carry() => {}
    }
}

#[tokio::test]
async fn of_connections_that_carry_nothing_any_more_one_is_waited_for() {
    if !is_here() {
        return;
    }
    let server = own_server().await;
    let way = Way::to(&server).await;
    let options = options(&way.url(&server).parse().unwrap());
    let store = MySqlStore::with_patience(options, Duration::from_millis(500), READS_WITHIN);
    let forgetting = async {
        // Such a short patience may end on a busy machine by itself.
        let writes = async |version| while store.apply(vec![active(1, version)]).await.is_err() {};
        writes(1).await;
        store.get(active(1, 1).record.id).await.unwrap();
        store.lease(NodeId("a".into())).await.unwrap();
        way.forgets.notify_waiters();
        let written = store.apply(vec![active(1, 2)]).await;
        // Tried again on another connection, if there was time.
        assert!(matches!(written, Ok(()) | Err(StoreError::Unavailable(_))), "{written:?}");
        let read = async {
            store.get(active(1, 2).record.id).await.unwrap();
            store.lease(NodeId("a".into())).await.unwrap();
            writes(3).await;
        };
        timeout(READS_WITHIN / 2, read).await.expect("each lane waits for an answer of its own");
    };
    tokio::select! {
        () = forgetting => {}
        _ = way.carry() => {}
    }
}

#[tokio::test]
async fn searches_that_are_slow_or_wait_for_their_turn_cost_nobody_a_connection() {
    if !is_here() {
        return;
    }
    let database = Database::empty().await;
    let options = options(&fixture::server().url(database.name()).parse().unwrap());
    let store = MySqlStore::with_patience(options, WRITES_WITHIN, Duration::from_secs(4));
    let reads_by = async || {
        let found = store.readers.run(|| vec![sqlx::query("SELECT CONNECTION_ID() AS id")]).await.unwrap();
        rows::column::<u64>(&found[0], "id").unwrap()
    };
    let keeps_its_connection = async || {
        let before = reads_by().await;
        // The server ends the first ones; the others have their turn then, and no time left.
        let search = || store.searchers.run(|| vec![sqlx::query("SELECT SLEEP(60)")]);
        let (first, second, third) = tokio::join!(search(), search(), search());
        for searched in [first, second, third] {
            assert_eq!(searched.unwrap_err().to_string(), failure::unanswered().to_string());
        }
        reads_by().await == before
    };
    // On a busy machine an end may come later than the second that it has, which looks like a lost connection.
    for _ in 0..3 {
        if keeps_its_connection().await {
            return;
        }
    }
    panic!("each time it was replaced");
}

#[tokio::test]
async fn a_connection_is_used_while_it_is_young_and_was_used_lately() {
    static SECONDS: AtomicU64 = AtomicU64::new(1_000);
    fn clock() -> BootTime {
        BootTime(Duration::from_secs(SECONDS.load(Ordering::Relaxed)))
    }
    if !is_here() {
        return;
    }
    let (store, _keep) = fresh().await;
    let store = store.ageing_by(clock);
    let id_after = async |seconds| {
        SECONDS.fetch_add(seconds, Ordering::Relaxed);
        let found = store.readers.run(|| vec![sqlx::query("SELECT CONNECTION_ID() AS id")]).await.unwrap();
        rows::column::<u64>(&found[0], "id").unwrap()
    };
    let first = id_after(0).await;
    assert_eq!(id_after(29).await, first);
    let second = id_after(30).await;
    assert_ne!(second, first, "it was idle for too long");
    for _ in 0..10 {
        assert_eq!(id_after(29).await, second);
    }
    assert_ne!(id_after(29).await, second, "it has led to the same server for too long");
}
