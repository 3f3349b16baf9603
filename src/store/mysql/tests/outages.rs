//! Partial outages of a server: it accepts no more connections, or no writes, or its answer to a commit is lost. Knows
//! the store's error for each, and that the same work is done later, once.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;

fn unavailable(error: &StoreError) -> &str {
    let StoreError::Unavailable(why) = error else { panic!("{error}") };
    why
}

/// Writes until the write succeeds.
async fn comes_back(store: &MySqlStore, write: &Write) {
    let taken = async { while store.apply(vec![write.clone()]).await.is_err() {} };
    timeout(WRITES_WITHIN, taken).await.unwrap();
    assert_eq!(store.get(write.record.id).await.unwrap().as_ref(), Some(&write.record));
}

#[tokio::test]
async fn a_server_that_is_read_only_or_full_is_unavailable_and_comes_back() {
    if !is_here() {
        return;
    }
    // No server allows fewer connections; an administrator may connect and write all the same.
    let server = Mariadb::with_account(&["--max-connections=10"]).unwrap();
    let store = fixture::store(&server, "records");
    store.migrate(true, |_| {}).await.unwrap();
    let first = active(1, 1);
    server.sql("SET GLOBAL read_only = ON").unwrap();
    let error = store.apply(vec![first.clone()]).await.unwrap_err();
    assert_eq!(unavailable(&error), "the server is read-only");
    assert_eq!(store.get(first.record.id).await.unwrap(), None);
    server.sql("SET GLOBAL read_only = OFF").unwrap();
    comes_back(&store, &first).await;

    let options = options(&server.url("records").parse().unwrap());
    let mut held = Vec::new();
    // Earlier connections may still be closing.
    let error = loop {
        held.extend(options.connect().await);
        if let Err(error) = fixture::store(&server, "records").get(first.record.id).await {
            break error;
        }
    };
    assert_eq!(unavailable(&error), "the server takes no more connections");
    drop(held);
    comes_back(&fixture::store(&server, "records"), &active(2, 1)).await;
}

/// Relays connections to `server`, one after the other. On the first one the answer to a commit is lost, and so is the
/// connection.
async fn loses_an_answer(listener: TcpListener, server: SocketAddr, is_lost: &AtomicBool) {
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(server).await.unwrap();
        if is_lost.load(Ordering::Relaxed) {
            copy_bidirectional(&mut client, &mut far).await.unwrap();
        } else {
            up_to_a_commit(&mut client, &mut far).await;
            is_lost.store(true, Ordering::Relaxed);
        }
    }
}

/// Relays a connection until the server has answered its commit.
async fn up_to_a_commit(client: &mut TcpStream, far: &mut TcpStream) {
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            length = client.read(&mut asked) => {
                let asked = &asked[..length.unwrap()];
                far.write_all(asked).await.unwrap();
                if asked.ends_with(b"COMMIT") {
                    assert!(far.read(&mut answered).await.unwrap() > 0);
                    return;
                }
            }
            length = far.read(&mut answered) => client.write_all(&answered[..length.unwrap()]).await.unwrap(),
        }
    }
}

#[tokio::test]
async fn what_was_committed_without_an_answer_is_sent_again_and_there_once() {
    if !is_here() {
        return;
    }
    let server = own_server().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = (listener.local_addr().unwrap().to_string(), server.addr().to_string());
    let store = MySqlStore::new(&server.url("records").replace(&far, &near).parse().unwrap());
    let (opened, is_lost) = (active(1, 1), AtomicBool::new(false));
    tokio::select! {
        written = store.apply(vec![opened.clone()]) => written.unwrap(),
        () = loses_an_answer(listener, server.addr(), &is_lost) => {}
    }
    assert!(is_lost.into_inner());
    let rows = "SELECT (SELECT count(*) FROM session_records), (SELECT count(*) FROM session_events)";
    assert_eq!(server.sql(&format!("USE records; {rows}")).unwrap(), "1\t1");
    let direct = fixture::store(&server, "records");
    assert_eq!(direct.history(opened.record.id).await.unwrap(), opened.transitions);
    assert_eq!(direct.get(opened.record.id).await.unwrap(), Some(opened.record));
}
