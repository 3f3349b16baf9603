//! Failures between the entered host and its host key, each with its own message.

use std::{net::SocketAddr, time::Duration};

use pulsegate::ssh::{AddressRule, ConnectError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::terminal::Caller;

async fn listener() -> (TcpListener, SocketAddr, tempfile::TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr, tempfile::tempdir().unwrap())
}

fn caller(addr: SocketAddr, dir: &tempfile::TempDir) -> Caller {
    Caller::new(addr, "nobody", dir.path())
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_not_resolved() {
    let (_listener, addr, dir) = listener().await;
    let mut caller = caller(addr, &dir);
    caller.host = "nonexistent.invalid".to_owned();
    let host = caller.host.clone();
    assert_eq!(caller.refusal().await, ConnectError::NameNotResolved { host });
}

#[tokio::test]
async fn a_port_nobody_listens_on_is_refused() {
    let (listener, addr, dir) = listener().await;
    drop(listener);
    assert_eq!(caller(addr, &dir).refusal().await, ConnectError::Refused { addr });
}

#[tokio::test]
async fn a_listener_that_says_nothing_times_out() {
    let (_listener, addr, dir) = listener().await;
    let mut caller = caller(addr, &dir);
    caller.settings.connect_timeout = Duration::from_secs(1);
    assert_eq!(caller.refusal().await, ConnectError::TimedOut { addr: addr.to_string(), seconds: 1 });
    tokio::task::yield_now().await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test]
async fn an_http_server_is_no_ssh_server() {
    let (listener, addr, dir) = listener().await;
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut greeting = [0; 8];
        stream.read_exact(&mut greeting).await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        // Until the other side has closed too, so that no reset overtakes the answer.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap();
    });
    let error = caller(addr, &dir).refusal().await;
    let ConnectError::KeyExchange { cause, .. } = &error else { panic!("{error}") };
    assert!(cause.contains("no SSH server"), "{cause}");
    serving.await.unwrap();
}

#[tokio::test]
async fn only_weak_algorithms_are_refused_by_name() {
    for (kex, cipher) in [("diffie-hellman-group1-sha1", "aes128-ctr"), ("curve25519-sha256", "3des-cbc,aes128-cbc")] {
        let (listener, addr, dir) = listener().await;
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"SSH-2.0-weak\r\n").await.unwrap();
            stream
                .write_all(&kexinit(&[
                    kex,
                    "ssh-ed25519",
                    cipher,
                    cipher,
                    "hmac-sha2-256",
                    "hmac-sha2-256",
                    "none",
                    "none",
                    "",
                    "",
                ]))
                .await
                .unwrap();
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
        });
        let error = caller(addr, &dir).refusal().await;
        let ConnectError::KeyExchange { cause, .. } = &error else { panic!("{error}") };
        let weak = if kex.ends_with("sha1") { kex } else { "3des-cbc" };
        assert!(cause.contains(weak), "{cause}");
        serving.await.unwrap();
    }
}

/// Returns a KEXINIT packet (RFC 4253 §7.1) with these name-lists.
fn kexinit(lists: &[&str]) -> Vec<u8> {
    let mut payload = vec![20];
    payload.extend([7; 16]);
    for list in lists {
        payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
        payload.extend(list.bytes());
    }
    payload.extend([0; 5]);
    let padding = 4 + (8 - (payload.len() + 5 + 4) % 8) % 8;
    let mut packet = u32::try_from(payload.len() + 1 + padding).unwrap().to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).unwrap());
    packet.extend(payload);
    packet.extend(vec![0; padding]);
    packet
}

#[tokio::test]
async fn a_target_typed_by_hand_reaches_only_what_is_allowed() {
    let (listener, addr, dir) = listener().await;
    let mut caller = caller(addr, &dir);
    let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
    caller.allowed = Some(AddressRule {
        allow: nets(&["0.0.0.0/0", "::/0"]),
        deny: nets(&["127.0.0.0/8", "::1/128"]),
        ..Default::default()
    });
    for host in ["127.0.0.1", "::ffff:127.0.0.1", "localhost"] {
        caller.host = host.to_owned();
        let error = caller.refusal().await;
        let ConnectError::AddressDenied { addr } = &error else { panic!("{host}: {error}") };
        assert!(addr.ip().is_loopback());
    }
    for host in ["2130706433", "0x7f.1", "127.1", "-oProxyCommand=id", "local\r\nhost", "localhost\0"] {
        caller.host = host.to_owned();
        assert!(matches!(caller.refusal().await, ConnectError::NameNotResolved { .. }), "{host:?}");
    }
    let tried = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(tried.is_err(), "nothing was dialled");
}
