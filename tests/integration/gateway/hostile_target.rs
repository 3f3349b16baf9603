//! A target that speaks SSH to do harm: the session ends with a sentence, the gateway does not grow, its other shells do not
//! notice.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{
    browser::Attach,
    eventually,
    gateway::{Gateway, Home},
    playground::Playground,
};

const VERSION: &[u8] = b"SSH-2.0-hostile\r\n";

/// What a gateway may grow by.
const GROWTH: u64 = 8 << 20;

/// A target that says its version, then sends `chunk` again and again for as long as anybody takes it.
fn target(greeting: Vec<u8>, chunk: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let say = move |mut stream: TcpStream| {
        if stream.write_all(&greeting).is_err() {
            return;
        }
        while !chunk.is_empty() && stream.write_all(&chunk).is_ok() {}
        // Until the gateway hangs up; how is of no interest.
        stream.read_to_end(&mut Vec::new()).ok();
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let say = say.clone();
            std::thread::spawn(move || say(stream));
        }
    });
    addr
}

/// A packet before the keys (RFC 4253 §6).
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 4 + (8 - (payload.len() + 5 + 4) % 8) % 8;
    let mut packet = u32::try_from(payload.len() + 1 + padding).unwrap().to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).unwrap());
    packet.extend(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

/// A KEXINIT (RFC 4253 §7.1) with these algorithms for the key exchange, the host key, the cipher and the MAC.
fn kexinit(kex: &str, key: &str, cipher: &str, mac: &str) -> Vec<u8> {
    let mut payload = vec![20];
    payload.extend([7; 16]);
    for list in [kex, key, cipher, cipher, mac, mac, "none", "none", "", ""] {
        payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
        payload.extend(list.bytes());
    }
    payload.extend([0; 5]);
    packet(&payload)
}

fn modern() -> Vec<u8> {
    kexinit("curve25519-sha256", "ssh-ed25519", "aes256-gcm@openssh.com", "hmac-sha2-256")
}

/// Every way, and a word of the sentence it must end with.
fn ways() -> Vec<(&'static str, SocketAddr, &'static str)> {
    let after_version = |bytes: &[u8]| [VERSION, bytes].concat();
    let mut debug = vec![4, 1];
    debug.extend(30_000_u32.to_be_bytes());
    debug.extend([b'x'; 30_000]);
    debug.extend([0; 4]);
    let ext_info = [&[7, 0xff, 0xff, 0xff, 0xff][..], &[b'x'; 20_000]].concat();
    vec![
        ("an endless banner", target(vec![], b"go away\r\n".repeat(1_000)), ""),
        ("an endless line", target(vec![], vec![b'x'; 10_000]), ""),
        ("a version without end", target(b"SSH-2.0-".to_vec(), vec![b'x'; 10_000]), ""),
        ("a packet of 4 GiB", target(after_version(&[0xff; 4]), vec![0xff; 10_000]), "protocol"),
        ("a packet of 256 MiB", target(after_version(&[0x10, 0, 0, 0, 4]), vec![0; 10_000]), "protocol"),
        ("a packet of nothing", target(after_version(&[0; 4]), vec![0; 10_000]), ""),
        ("padding beyond the packet", target(after_version(&[0, 0, 0, 12, 255]), vec![0; 10_000]), "protocol"),
        ("endless debugging before the keys", target(VERSION.to_vec(), packet(&debug)), ""),
        ("endless extensions before the keys", target(after_version(&modern()), packet(&ext_info)), ""),
        ("endless key exchanges", target(VERSION.to_vec(), modern()), "protocol"),
        ("a key exchange cut short", target(after_version(&packet(&[20, 1, 2])), vec![]), "protocol"),
        (
            "lists longer than their packet",
            target(after_version(&packet(&[&[20; 17][..], &[0xff; 40]].concat())), vec![]),
            "",
        ),
        (
            "SHA-1 host keys only",
            target(
                after_version(&kexinit("curve25519-sha256", "ssh-rsa,ssh-dss", "aes128-ctr", "hmac-sha2-256")),
                vec![],
            ),
            "safe",
        ),
        (
            "3DES only",
            target(after_version(&kexinit("curve25519-sha256", "ssh-ed25519", "3des-cbc", "hmac-sha2-256")), vec![]),
            "safe",
        ),
        (
            "SHA-1 key exchange only",
            target(
                after_version(&kexinit("diffie-hellman-group1-sha1", "ssh-ed25519", "aes128-ctr", "hmac-sha2-256")),
                vec![],
            ),
            "safe",
        ),
    ]
}

#[test]
fn a_hostile_target_ends_its_own_session_and_costs_no_memory() {
    let playground = Playground::start();
    let ways = ways();
    let mut home = Home::with(&playground).set("ssh.connect_timeout", "2s");
    for (nth, (_, addr, _)) in ways.iter().enumerate() {
        home = home.target(&format!("hostile-{nth}"), *addr, "nobody", json!({"prompt": true}));
    }
    let gateway = Gateway::start(home);
    let (neighbour, _) = gateway.page("playground");
    // What the first dial of all takes for itself is none of theirs.
    gateway.page("playground").0.runs("echo warm", "warm");
    for (nth, (what, _, word)) in ways.iter().enumerate() {
        let before = gateway.memory();
        let begun = Instant::now();
        let (mut most, id) = (before, gateway.opens(&format!("hostile-{nth}")));
        let (page, _) = gateway.attaches(&id, &Attach::default());
        let closed = eventually(Duration::from_secs(10), || {
            most = most.max(gateway.memory());
            page.heard().frames.iter().find(|frame| frame["type"] == "closed").cloned()
        });
        let sentence = closed["message"].as_str().unwrap();
        assert_eq!(closed["reason"], "connect_failed", "{what}: {closed}");
        assert!(sentence.len() > 20 && sentence.len() < 500 && sentence.contains(word), "{what}: {sentence}");
        assert!(most.saturating_sub(before) < GROWTH, "{what}: memory grew by {} bytes", most - before);
        println!("{what}: {:?}, {} KiB: {sentence}", begun.elapsed(), most.saturating_sub(before) >> 10);
        neighbour.runs(&format!("echo {nth}-unharmed"), &format!("{nth}-unharmed"));
    }
}
