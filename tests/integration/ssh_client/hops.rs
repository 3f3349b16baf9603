//! Targets behind jump hosts: each hop has its own key and login, and flow control works as for any other target.

use std::{
    fs,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use pulsegate::{
    core::record::{EndReason, ExitStatus},
    ssh::{
        AddressRule, ConnectError, Credential, DialEvent, Hop, HostKeyPolicy, LinkEvent, LinkGone, PromptKind, Step,
    },
};
use tokio::{sync::mpsc, time::timeout};

use super::link::{eventually, tasks};
use crate::{
    sshd,
    support::{
        sshd::{Options, Sshd},
        terminal::{Caller, PATIENCE, Terminal},
    },
};

fn hop(name: &str, sshd: &Sshd) -> Hop {
    Hop {
        name: name.to_owned(),
        host: sshd.addr.ip().to_string(),
        port: sshd.addr.port(),
        login: sshd.user.clone(),
        credentials: vec![Credential::KeyFile(sshd.user_key.clone())],
        allowed: None,
        host_key_policy: HostKeyPolicy::AcceptNew,
    }
}

fn caller(target: &Sshd, hops: &[(&str, &Sshd)]) -> Caller {
    let mut caller =
        Caller::new(target.addr, &target.user, target.dir.path()).with(Credential::KeyFile(target.user_key.clone()));
    caller.via = hops.iter().map(|(name, sshd)| hop(name, sshd)).collect();
    caller
}

async fn shell(caller: &mut Caller) -> Terminal {
    let mut terminal = caller.terminal().await;
    terminal.types("PS1='ready''> '\r").await;
    terminal.until("ready> ").await;
    terminal
}

fn know(caller: &Caller, text: &str) {
    fs::create_dir_all(caller.known_hosts.parent().unwrap()).unwrap();
    fs::write(&caller.known_hosts, text).unwrap();
}

/// Returns the fingerprints that wait for review, each with the name of its host.
async fn waiting(caller: &Caller) -> Vec<(String, String)> {
    let overview = caller.settings.host_keys.overview().await.unwrap();
    overview.waiting.into_iter().map(|review| (review.waiting.target.clone(), review.waiting.fingerprint())).collect()
}

fn at_hop(error: ConnectError, name: &str) -> ConnectError {
    let ConnectError::AtHop { hop, error } = error else { panic!("not at a hop: {error}") };
    assert_eq!(hop, name);
    *error
}

#[tokio::test]
async fn a_shell_behind_two_jump_hosts_says_where_it_is_and_leaves_nothing() {
    let (outer, inner, target) = (
        sshd!(Options::default()),
        sshd!(Options::default()),
        sshd!(Options { config: "AllowTcpForwarding no\n", ..Options::default() }),
    );
    let mut caller = caller(&target, &[("outer", &outer), ("inner", &inner)]);
    let mut terminal = shell(&mut caller).await;
    assert_eq!(terminal.link.addr, target.addr.to_string());
    for (at, told) in [
        (0, format!("at the jump host outer: connecting to {}", outer.addr)),
        (1, format!("at the jump host outer: logging in as {}", outer.user)),
        (2, format!("at the jump host inner: connecting to {} through outer", inner.addr)),
        (4, format!("connecting to {} through inner", target.addr)),
    ] {
        assert_eq!(caller.progress[at], told);
    }
    terminal.types("exit 3\r").await;
    assert_eq!(terminal.ends().await, ExitStatus::Code(3));
    terminal.link.control.close().await;
    assert_eq!(tasks(), 0);
    eventually("every sshd sees the end", || [&outer, &inner, &target].iter().all(|sshd| sshd.connections() == 0))
        .await;
}

#[tokio::test]
async fn a_flood_behind_a_jump_host_is_held_by_the_valve_and_ctrl_c_passes() {
    let (bastion, target) = (sshd!(Options::default()), sshd!(Options::default()));
    let mut caller = caller(&target, &[("bastion", &bastion)]);
    let mut terminal = shell(&mut caller).await;
    let mark = target.dir.path().join("interrupted");
    terminal.types(&format!("sh -c 'trap \"touch {}\" INT; yes & wait; kill $!'\r", mark.display())).await;
    terminal.until("y\r\ny\r\ny\r\n").await;
    terminal.link.control.close_valve();
    terminal.drain().await;
    let heard = caller.heard.load(Ordering::Relaxed);
    let more = timeout(Duration::from_secs(2), std::future::poll_fn(|cx| terminal.link.output.poll_event(cx))).await;
    assert!(more.is_err(), "nothing comes while the valve is closed");
    assert_eq!(caller.heard.load(Ordering::Relaxed), heard, "not a byte is read, so nothing can grow");
    let typed = Instant::now();
    terminal.types("\x03").await;
    eventually("the signal is handled while the valve stays closed", || mark.exists()).await;
    println!("ctrl-c took {:?}", typed.elapsed());
    terminal.link.control.open_valve();
    terminal.until("ready> ").await;
}

#[tokio::test]
async fn a_paste_into_a_flood_behind_a_jump_host_does_not_stand_still() {
    let (bastion, target) = (sshd!(Options::default()), sshd!(Options::default()));
    let mut terminal = shell(&mut caller(&target, &[("bastion", &bastion)])).await;
    terminal.types("stty raw -echo; echo go''ne; cat\r").await;
    terminal.until("gone").await;
    // More than the windows of both connections and every buffer on the way, in both directions at once.
    const BYTES: usize = 24 << 20;
    let (input, output) = (&mut terminal.link.input, &mut terminal.link.output);
    let typing = async {
        for _ in 0..BYTES >> 20 {
            input.write(vec![b'x'; 1 << 20].into()).await.unwrap();
        }
    };
    let reading = async {
        let mut seen = 0;
        while seen < BYTES {
            match std::future::poll_fn(|cx| output.poll_event(cx)).await {
                LinkEvent::Output(bytes) => seen += bytes.iter().filter(|byte| **byte == b'x').count(),
                event => panic!("{event:?} after {seen} bytes"),
            }
        }
    };
    timeout(PATIENCE, async { tokio::join!(typing, reading) }).await.expect("both go on");
}

#[tokio::test]
async fn only_what_the_target_itself_says_is_a_sign_of_its_life() {
    let (bastion, target) =
        (sshd!(Options { config: "ClientAliveInterval 1\n", ..Options::default() }), sshd!(Options::default()));
    let mut caller = caller(&target, &[("bastion", &bastion)]);
    let mut terminal = shell(&mut caller).await;
    terminal.drain().await;
    let before = caller.heard.load(Ordering::Relaxed);
    terminal.link.control.probe();
    eventually("the answer is heard", || caller.heard.load(Ordering::Relaxed) > before).await;
    terminal.drain().await;
    target.freeze();
    let before = caller.heard.load(Ordering::Relaxed);
    terminal.link.control.probe();
    // Longer than the jump host's own silence.
    let silence = timeout(Duration::from_millis(2500), std::future::poll_fn(|cx| terminal.link.output.poll_event(cx)));
    assert!(silence.await.is_err());
    assert_eq!(caller.heard.load(Ordering::Relaxed), before, "a living jump host is no living target");
    target.thaw();
}

#[tokio::test]
async fn a_jump_host_that_forbids_forwarding_or_reaches_nothing_says_so() {
    let bastion = sshd!(Options { config: "AllowTcpForwarding no\n", ..Options::default() });
    let target = sshd!(Options::default());
    let error = caller(&target, &[("bastion", &bastion)]).refusal().await;
    let ConnectError::NotForwarded { hop, to, cause } = &error else { panic!("{error}") };
    assert_eq!((hop.as_str(), to), ("bastion", &target.addr.to_string()));
    assert!(cause.contains("AllowTcpForwarding"), "{cause}");
    assert_eq!(error.reason(), EndReason::ConnectFailed);
    assert_eq!(target.connections(), 0);
    eventually("no task is left", || tasks() == 0).await;

    let open = sshd!(Options::default());
    let mut nowhere = caller(&target, &[("bastion", &open)]);
    nowhere.host = "nonexistent.invalid".to_owned();
    let error = nowhere.refusal().await;
    let ConnectError::NotForwarded { cause, .. } = &error else { panic!("{error}") };
    assert!(cause.contains("nothing answers there"), "{cause}");
}

#[tokio::test]
async fn each_hop_is_given_its_own_credentials_only() {
    let (bastion, target) = (sshd!(Options::default()), sshd!(Options::default()));
    let mut caller = caller(&target, &[("bastion", &bastion)]);
    let own = std::mem::replace(&mut caller.credentials, caller.via[0].credentials.clone());
    assert!(
        matches!(caller.refusal().await, ConnectError::AuthFailed { .. }),
        "the jump host's key is not the target's"
    );
    caller.via[0].credentials = own;
    let error = caller.refusal().await;
    assert_eq!(error.reason(), EndReason::AuthFailed);
    assert!(error.to_string().starts_with("At the jump host bastion: "), "{error}");
    assert!(matches!(at_hop(error, "bastion"), ConnectError::AuthFailed { .. }), "nor the target's the jump host's");
}

#[tokio::test]
async fn a_person_is_told_which_hop_asks() {
    let (bastion, target) = (sshd!(Options { password_user: true, ..Options::default() }), sshd!(Options::default()));
    let password = bastion.password.clone().unwrap();
    let mut caller = caller(&target, &[("bastion", &bastion)])
        .policy(HostKeyPolicy::Ask)
        .answering(["yes"])
        .answering([password.as_str()])
        .answering(["yes"]);
    caller.via[0].credentials = vec![Credential::Prompt];
    caller.via[0].host_key_policy = HostKeyPolicy::Ask;
    caller.terminal().await.link.control.close().await;
    let kinds: Vec<_> = caller.prompts.iter().map(|prompt| prompt.kind).collect();
    assert_eq!(kinds, [PromptKind::HostKey, PromptKind::Password, PromptKind::HostKey]);
    let is_told: Vec<_> = caller.prompts.iter().map(|prompt| prompt.title.starts_with("Jump host bastion: ")).collect();
    assert_eq!(is_told, [true, true, false]);
}

#[tokio::test]
async fn a_jump_host_that_shows_its_targets_key_is_refused_and_so_is_the_reverse() {
    let target = sshd!(Options::default());
    // One server under two names: the server that forwards could show no other key as the target's.
    let mut caller = caller(&target, &[("bastion", &target)]);
    caller.via[0].host = "localhost".to_owned();
    let (hop_name, target_name) =
        (format!("[localhost]:{}", target.addr.port()), format!("[127.0.0.1]:{}", target.addr.port()));
    let of_another = |host: &String, other: &String| ConnectError::HostKeyOfAnother {
        host: host.clone(),
        other: other.clone(),
        presented: target.host_key_fingerprint.clone(),
    };
    know(&caller, &format!("{target_name} {}", target.host_key));
    let error = caller.refusal().await;
    assert_eq!(error.reason(), EndReason::HostKeyRejected);
    assert_eq!(at_hop(error, "bastion"), of_another(&hop_name, &target_name));
    assert!(!target.log().contains("userauth-request"), "no credential is sent");
    assert_eq!(waiting(&caller).await, [("bastion".to_owned(), target.host_key_fingerprint.clone())]);

    // Nothing is known: the jump host's key is accepted on first use, and the target behind it must be another host.
    know(&caller, "");
    assert_eq!(caller.refusal().await, of_another(&target_name, &hop_name));

    know(&caller, &format!("{target_name} {}{hop_name} {}", target.host_key, target.host_key));
    caller.terminal().await.link.control.close().await;
}

#[tokio::test]
async fn a_changed_or_unknown_key_of_a_jump_host_is_a_full_stop_that_names_it_and_waits_for_review() {
    let (bastion, target) = (sshd!(Options::default()), sshd!(Options::default()));
    let mut caller = caller(&target, &[("bastion", &bastion)]);
    let name = format!("[127.0.0.1]:{}", bastion.addr.port());
    know(&caller, &format!("{name} {}", target.host_key));
    let error = caller.refusal().await;
    assert_eq!(error.reason(), EndReason::HostKeyRejected);
    assert!(error.to_string().starts_with("At the jump host bastion: The host key of [127.0.0.1]:"), "{error}");
    let ConnectError::HostKeyChanged { host, known, presented, .. } = at_hop(error, "bastion") else { panic!() };
    assert_eq!((&host, &known), (&name, &target.host_key_fingerprint));
    assert_eq!(presented, bastion.host_key_fingerprint);

    know(&caller, "");
    caller.via[0].host_key_policy = HostKeyPolicy::Strict;
    let told = at_hop(caller.refusal().await, "bastion");
    assert_eq!(told, ConnectError::HostKeyUnknown { host: name, presented: bastion.host_key_fingerprint.clone() });
    assert_eq!(waiting(&caller).await, [("bastion".to_owned(), bastion.host_key_fingerprint.clone())]);
    assert!(!bastion.log().contains("userauth-request"), "no credential is sent: {}", bastion.log());
    assert_eq!(target.connections(), 0, "and the target hears nothing");

    // Once an operator accepted it, the connection proceeds; the target behind it has a policy of its own.
    let overview = caller.settings.host_keys.overview().await.unwrap();
    let id = overview.waiting[0].waiting.id.clone();
    caller.settings.host_keys.accept(&id, &bastion.host_key_fingerprint, "grace").await.unwrap();
    caller.policy = HostKeyPolicy::Strict;
    assert!(matches!(caller.refusal().await, ConnectError::HostKeyUnknown { .. }), "at the target now");
    caller.policy = HostKeyPolicy::AcceptNew;
    caller.terminal().await.link.control.close().await;
}

#[tokio::test]
async fn what_is_typed_by_hand_is_checked_before_a_jump_host_hears_of_it() {
    let (bastion, target) = (sshd!(Options::default()), sshd!(Options::default()));
    let mut caller = caller(&target, &[("bastion", &bastion)]);
    let everything = AddressRule { allow: vec!["0.0.0.0/0".parse().unwrap()], ..AddressRule::default() };
    caller.allowed = Some(everything.clone());
    for host in ["127.0.0.1", "localhost", "169.254.169.254"] {
        caller.host = host.to_owned();
        assert!(matches!(caller.refusal().await, ConnectError::AddressDenied { .. }), "{host}");
    }
    caller.host = "db1.internal".to_owned();
    let error = caller.refusal().await;
    assert!(
        matches!(error, ConnectError::NameNotChecked { .. }) && error.to_string().contains("targets_names"),
        "{error}"
    );
    assert_eq!(target.connections(), 0);
    assert!(!bastion.log().contains("direct-tcpip"), "{}", bastion.log());

    caller.allowed = Some(AddressRule { names_behind_hops: true, ..everything.clone() });
    assert!(matches!(caller.refusal().await, ConnectError::NotForwarded { .. }), "now the jump host is asked");

    // A jump host that the user typed is subject to the rule where it is dialled from here.
    caller.via[0].allowed = Some(everything);
    let error = at_hop(caller.refusal().await, "bastion");
    assert!(matches!(error, ConnectError::AddressDenied { .. }), "{error}");
}

#[tokio::test]
async fn closing_or_dropping_behind_a_frozen_jump_host_leaves_nothing() {
    for closes in [true, false] {
        let (bastion, target) = (sshd!(Options::default()), sshd!(Options::default()));
        let mut terminal = shell(&mut caller(&target, &[("bastion", &bastion)])).await;
        bastion.freeze();
        let stuck = async {
            loop {
                terminal.link.input.write(vec![0; 1 << 20].into()).await.unwrap();
            }
        };
        assert!(timeout(Duration::from_millis(500), stuck).await.is_err());
        terminal.link.control.close_valve();
        let started = Instant::now();
        if closes {
            terminal.link.control.close().await;
            assert_eq!(tasks(), 0);
        } else {
            drop(terminal);
            eventually("no task is left", || tasks() == 0).await;
        }
        assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
        bastion.thaw();
        eventually("both see the end", || bastion.connections() + target.connections() == 0).await;
    }
}

#[tokio::test]
async fn a_jump_host_that_dies_is_told_to_both_halves() {
    let (bastion, target) = (sshd!(Options::default()), sshd!(Options::default()));
    let mut terminal = shell(&mut caller(&target, &[("bastion", &bastion)])).await;
    terminal.types("exec sleep 1000\r").await;
    drop(bastion);
    loop {
        match terminal.next().await {
            LinkEvent::Closed => break,
            LinkEvent::Output(_) | LinkEvent::Exited(_) => {}
        }
    }
    let write = terminal.link.input.write(vec![0; 4 << 20].into());
    assert_eq!(timeout(PATIENCE, write).await.unwrap(), Err(LinkGone));
    terminal.link.control.close().await;
    assert_eq!(tasks(), 0);
}

/// Returns the steps that a trial passed, and why it ended.
async fn trial(caller: &Caller) -> (Vec<Step>, Option<ConnectError>) {
    let passed = Arc::new(Mutex::new(Vec::new()));
    let told = passed.clone();
    let (events, mut asked) = mpsc::channel(8);
    let mut trying = caller.try_out(events, Arc::new(move |step| told.lock().unwrap().push(step)));
    let outcome = loop {
        tokio::select! {
            outcome = &mut trying => break outcome,
            Some(event) = asked.recv() => if let DialEvent::Trusting { proceed, .. } = event {
                proceed.send(()).unwrap();
            },
        }
    };
    let passed = passed.lock().unwrap().clone();
    (passed, outcome.err())
}

#[tokio::test]
async fn a_trial_passes_every_step_starts_no_shell_and_leaves_nothing() {
    use Step::{Connect, HostKey, KeyExchange, Login, Resolve, Terminal};
    let (bastion, target) = (sshd!(Options::default()), sshd!(Options::default()));
    let mut caller = caller(&target, &[("bastion", &bastion)]);
    let at_each = [Connect, KeyExchange, HostKey, Login];
    let all = [&[Resolve][..], &at_each, &at_each, &[Terminal]].concat();
    assert_eq!(trial(&caller).await, (all.clone(), None));
    assert!(!target.log().contains("Starting session: shell"), "{}", target.log());
    assert_eq!(tasks(), 0);
    eventually("both see the end", || bastion.connections() + target.connections() == 0).await;

    caller.credentials.clear();
    let (passed, error) = trial(&caller).await;
    assert_eq!(passed, all[..all.len() - 2]);
    assert!(matches!(error, Some(ConnectError::AuthFailed { .. })));
    caller.via[0].host_key_policy = HostKeyPolicy::Ask;
    fs::remove_file(&caller.known_hosts).unwrap();
    let (passed, error) = trial(&caller).await;
    assert_eq!(passed, all[..3], "nobody answers, so the jump host's key is not trusted");
    assert!(matches!(at_hop(error.unwrap(), "bastion"), ConnectError::HostKeyDeclined { .. }));
}
