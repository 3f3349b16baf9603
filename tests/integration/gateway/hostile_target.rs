//! Targets that speak SSH to do harm: the session ends with a sentence, the gateway does not grow, and its other shells
//! are not affected.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    sshd,
    support::{
        browser::Attach,
        by_hand::{ByHand, VERSION, kexinit, modern, packet, string},
        eventually, eventually_nothing_changes, eventually_within,
        gateway::{Gateway, Home},
        playground::Playground,
        sshd::{Options, keygen},
    },
};

/// How long a session with a target that does not stop by itself is observed.
const WATCHED: Duration = Duration::from_millis(1_500);

/// Upper limit of the gateway's memory growth, in bytes.
const GROWTH: u64 = 8 << 20;

/// Starts a target that sends its version, then `chunk` repeatedly until the connection ends.
fn target(greeting: Vec<u8>, chunk: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let say = move |mut stream: TcpStream| {
        if stream.write_all(&greeting).is_err() {
            return;
        }
        while !chunk.is_empty() && stream.write_all(&chunk).is_ok() {}
        // Until the gateway disconnects, in whatever way.
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

/// Returns the first packet of a server with these algorithms.
fn offer(kex: &str, key: &str, cipher: &str, mac: &str) -> Vec<u8> {
    packet(&kexinit(kex, key, cipher, mac))
}

/// Every attack, with a word of the sentence it must end with.
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
        ("endless extensions before the keys", target(after_version(&packet(&modern())), packet(&ext_info)), ""),
        ("endless key exchanges", target(VERSION.to_vec(), packet(&modern())), "protocol"),
        ("a key exchange cut short", target(after_version(&packet(&[20, 1, 2])), vec![]), "protocol"),
        (
            "lists longer than their packet",
            target(after_version(&packet(&[&[20; 17][..], &[0xff; 40]].concat())), vec![]),
            "",
        ),
        (
            "SHA-1 host keys only",
            target(
                after_version(&offer("curve25519-sha256", "ssh-rsa,ssh-dss", "aes128-ctr", "hmac-sha2-256")),
                vec![],
            ),
            "safe",
        ),
        (
            "3DES only",
            target(after_version(&offer("curve25519-sha256", "ssh-ed25519", "3des-cbc", "hmac-sha2-256")), vec![]),
            "safe",
        ),
        (
            "SHA-1 key exchange only",
            target(
                after_version(&offer("diffie-hellman-group1-sha1", "ssh-ed25519", "aes128-ctr", "hmac-sha2-256")),
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
    // Memory that the very first dial takes does not count for any of them.
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

/// When an attack begins.
enum Begins {
    /// Before the login request.
    AfterTheKeys,
    /// With the answer to the first login request.
    WithTheAnswer,
    /// Once the shell runs.
    InTheShell,
}

/// An attack after the key exchange.
struct Harm {
    what: &'static str,
    begins: Begins,
    /// Maximum packet size that the target accepts, in bytes.
    largest: u32,
    /// Sent once, as raw bytes and not as a packet.
    bytes: &'static [u8],
    /// Sent repeatedly; the four bytes are the channel number.
    again: fn([u8; 4]) -> Vec<u8>,
    /// Whether the shell must end with it.
    ends: bool,
}

impl Harm {
    /// Returns an attack with a message sent repeatedly in the shell.
    fn in_the_shell(what: &'static str, again: fn([u8; 4]) -> Vec<u8>) -> Self {
        Self { what, begins: Begins::InTheShell, largest: 32 * 1024, bytes: b"", again, ends: false }
    }

    /// Returns an attack with a message sent repeatedly before the login.
    fn before_login(what: &'static str, again: fn([u8; 4]) -> Vec<u8>) -> Self {
        Self { begins: Begins::AfterTheKeys, ..Self::in_the_shell(what, again) }
    }

    /// Attacks the connected client.
    fn is_done(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut target = ByHand::exchange(stream)?;
        let mut channel = [0; 4];
        match self.begins {
            Begins::AfterTheKeys => {}
            Begins::WithTheAnswer => target.is_asked()?,
            Begins::InTheShell => {
                target.lets_in()?;
                channel = target.opens(2 << 20, self.largest)?;
            }
        }
        target.writes(self.bytes)?;
        let payload = (self.again)(channel);
        while !payload.is_empty() {
            target.says(&payload)?;
        }
        target.listens();
        Ok(())
    }

    /// Starts a target that does it.
    fn starts(self) -> (&'static str, SocketAddr, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (what, addr, ends) = (self.what, listener.local_addr().unwrap(), self.ends);
        let harm = Arc::new(self);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let harm = harm.clone();
                // In whatever way the gateway disconnects.
                std::thread::spawn(move || harm.is_done(stream).ok());
            }
        });
        (what, addr, ends)
    }
}

fn harms() -> Vec<Harm> {
    const NOTHING: fn([u8; 4]) -> Vec<u8> = |_| vec![];
    /// Returns a message that opens a channel.
    fn open(kind: &str, about: &[u8]) -> Vec<u8> {
        let sizes = [0, 0, 0, 7, 0, 32, 0, 0, 0, 0, 128, 0];
        [&[90][..], &string(kind), &sizes, about].concat()
    }
    let shell = Harm::in_the_shell;
    vec![
        Harm::before_login("endless packets to ignore before the login", |_| {
            [vec![2], string([b'x'; 30_000])].concat()
        }),
        Harm::before_login("endless extensions", |_| {
            [vec![7, 0, 0, 0, 1], string("x-flood"), string([b'x'; 20_000])].concat()
        }),
        Harm::before_login("endless banners", |_| [vec![53], string([b'x'; 30_000]), string("")].concat()),
        Harm { bytes: &[0xff; 64], ..Harm::before_login("a packet of 4 GiB before the login", NOTHING) },
        Harm { bytes: &[0, 0, 0, 0, 1, 2, 3, 4], ..Harm::before_login("a packet of nothing", NOTHING) },
        Harm { largest: 0, ends: true, ..shell("packets of no size", NOTHING) },
        Harm { bytes: &[0xff; 64], ..shell("a packet of 4 GiB", NOTHING) },
        shell("endless packets to ignore", |_| [vec![2], string([b'x'; 30_000])].concat()),
        shell("endless packets to ignore with nothing in them", |_| vec![2, 0, 0, 0, 0]),
        shell("endless debugging", |_| [vec![4, 1], string([b'x'; 30_000]), string("")].concat()),
        shell("a window that overflows", |channel| [&[93][..], &channel, &[0xff; 4]].concat()),
        shell("more than its window", |channel| [&[94][..], &channel, &string([b'x'; 30_000])].concat()),
        shell("endless data of nothing", |channel| [&[94][..], &channel, &[0; 4]].concat()),
        shell("data longer than its packet", |channel| [&[94][..], &channel, &[0xff; 4]].concat()),
        shell("data of no channel", |_| [&[94, 0, 0, 0x77, 0x77][..], &string("x")].concat()),
        shell("data of a kind that nobody knows", |channel| {
            [&[95][..], &channel, &[0xff; 4], &string([b'x'; 30_000])].concat()
        }),
        shell("endless questions about itself", |_| [&[80][..], &string("keepalive@openssh.com"), &[1]].concat()),
        shell("endless questions about its channel", |channel| {
            [&[98][..], &channel, &string("keepalive@openssh.com"), &[1]].concat()
        }),
        Harm {
            ends: true,
            ..shell("endless channels", |_| open("x11", &[string("localhost"), vec![0, 0, 23, 112]].concat()))
        },
        Harm { ends: true, ..shell("endless channels of a kind that nobody knows", |_| open("x", b"")) },
        shell("endless key exchanges", |_| modern()),
        shell("messages that nobody knows", |_| vec![192; 30_000]),
    ]
}

#[test]
fn a_target_that_turns_hostile_behind_the_keys_costs_no_memory_and_nobody_else_notices() {
    let playground = Playground::start();
    let harms: Vec<_> = harms().into_iter().map(Harm::starts).collect();
    let mut home = Home::with(&playground).set("ssh.connect_timeout", "2s").set("recording.enabled", "false");
    for (nth, (_, addr, _)) in harms.iter().enumerate() {
        home = home.target(&format!("hostile-{nth}"), *addr, "nobody", json!({"prompt": true}));
    }
    let gateway = Gateway::start(home);
    let (neighbour, _) = gateway.page("playground");
    gateway.page("playground").0.runs("echo warm", "warm");
    // The first flood of all makes the allocator and the runtime grow, once: the same again may not.
    let floods = harms.iter().take(1).map(|harm| (0, harm, 4 * GROWTH));
    let floods = floods.chain(harms.iter().enumerate().map(|(nth, harm)| (nth, harm, GROWTH)));
    for (nth, (what, _, ends), growth) in floods {
        let before = gateway.memory();
        let (mut most, id) = (before, gateway.opens(&format!("hostile-{nth}")));
        let (page, _) = gateway.attaches(&id, &Attach::default());
        page.types("typed into whatever is there\r");
        eventually_nothing_changes(WATCHED, || {
            most = most.max(gateway.memory());
            true
        });
        neighbour.runs(&format!("echo {nth}-unharmed"), &format!("{nth}-unharmed"));
        if *ends {
            eventually_within(Duration::from_secs(30), what, || gateway.session(&id)["status"] == "closed");
        }
        let stood = gateway.session(&id);
        let (status, reason) = (&stood["status"], &stood["end_reason"]);
        println!("{what}: {} KiB, {status} {reason}", most.saturating_sub(before) >> 10);
        assert!(most.saturating_sub(before) < growth, "{what}: memory grew by {} bytes", most - before);
        if stood["status"] != "closed" {
            let ended = gateway.asks("DELETE", &format!("/api/v1/sessions/{id}"), None);
            assert_eq!(ended.status, 202, "{what}: {}", ended.text());
        }
        page.hears("closed");
    }
}

/// Unexpected messages are not read, also while russh waits to learn the target's RSA signature algorithms.
#[test]
fn a_target_that_refuses_without_end_costs_no_memory_before_an_rsa_key_is_shown() {
    let sshd = sshd!(Options::default());
    let key = sshd.dir.path().join("rsa");
    keygen(&key, "rsa", "");
    let refusals = Harm {
        begins: Begins::WithTheAnswer,
        ..Harm::before_login("endless refusals", |_| [vec![51], string("publickey"), vec![0]].concat())
    };
    let (what, addr, _) = refusals.starts();
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).target("hostile", addr, "nobody", json!({"key_file": key})));
    gateway.page("playground").0.runs("echo warm", "warm");
    let before = gateway.memory();
    let (mut most, id) = (before, gateway.opens("hostile"));
    let (_page, _) = gateway.attaches(&id, &Attach::default());
    eventually_nothing_changes(WATCHED, || {
        most = most.max(gateway.memory());
        true
    });
    gateway.becomes(&id, "closed/auth_failed");
    // One turn of a busy thread may pass before the connection is no longer read; unhindered they are 600 MiB in a
    // second.
    assert!(most.saturating_sub(before) < 4 * GROWTH, "{what}: memory grew by {} bytes", most - before);
}
