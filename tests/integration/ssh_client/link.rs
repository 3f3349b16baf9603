//! A live shell: its output, its end, and its flow control.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use pulsegate::{
    core::record::ExitStatus,
    ssh::{ConnectError, Credential, DialEvent, HostKeyPolicy, LinkEvent, LinkGone, Size},
};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::{
    sshd,
    support::{
        sshd::{Options, Sshd},
        terminal::{Caller, PATIENCE, Terminal},
    },
};

fn caller(sshd: &Sshd) -> Caller {
    Caller::new(sshd.addr, &sshd.user, sshd.dir.path()).with(Credential::KeyFile(sshd.user_key.clone()))
}

/// Returns a terminal whose shell has printed that it is ready.
async fn shell(sshd: &Sshd) -> (Caller, Terminal) {
    let mut caller = caller(sshd);
    let mut terminal = caller.terminal().await;
    terminal.types("PS1='ready''> '\r").await;
    terminal.until("ready> ").await;
    (caller, terminal)
}

pub fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Waits until a condition holds, yielding to other tasks and processes.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn the_exit_status_is_told() {
    let sshd = sshd!(Options::default());
    let (_, mut terminal) = shell(&sshd).await;
    terminal.types("exit 3\r").await;
    assert_eq!(terminal.ends().await, ExitStatus::Code(3));
    terminal.link.control.close().await;
    assert_eq!(tasks(), 0);
}

#[tokio::test]
async fn the_signal_that_ended_the_shell_is_told() {
    let sshd = sshd!(Options::default());
    let (_, mut terminal) = shell(&sshd).await;
    terminal.types("exec sh -c 'kill -TERM $$'\r").await;
    assert_eq!(terminal.ends().await, ExitStatus::Signal("TERM".to_owned()));
}

#[tokio::test]
async fn the_terminal_has_the_size_and_type_it_was_given() {
    let sshd = sshd!(Options::default());
    let (_, mut terminal) = shell(&sshd).await;
    terminal.types("stty size; echo T=$TERM\r").await;
    terminal.until("24 80").await;
    terminal.until("T=xterm-256color").await;
    terminal.link.input.resize(Size { cols: 132, rows: 50 }).await.unwrap();
    terminal.types("stty size\r").await;
    terminal.until("50 132").await;
}

#[tokio::test]
async fn bytes_pass_both_ways_unharmed() {
    let sshd = sshd!(Options::default());
    let (_, mut terminal) = shell(&sshd).await;
    // More than the window and any packet, in one write.
    terminal.types("stty raw -echo; printf go''ne; head -c 3000000 | sha256sum\r").await;
    terminal.until("gone").await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let expected: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    terminal.link.input.write(bytes.into()).await.unwrap();
    terminal.until(&expected).await;
}

#[tokio::test]
async fn a_probe_is_answered() {
    let sshd = sshd!(Options::default());
    let (caller, mut terminal) = shell(&sshd).await;
    terminal.drain().await;
    let before = caller.heard.load(Ordering::Relaxed);
    terminal.link.control.probe();
    eventually("the answer is heard", || caller.heard.load(Ordering::Relaxed) > before).await;
}

#[tokio::test]
async fn a_closed_valve_holds_a_flood_back_and_lets_ctrl_c_through() {
    let sshd = sshd!(Options::default());
    let (caller, mut terminal) = shell(&sshd).await;
    terminal.types("yes\r").await;
    terminal.until("y\r\ny\r\ny\r\n").await;
    terminal.link.control.close_valve();
    terminal.drain().await;
    let heard = caller.heard.load(Ordering::Relaxed);
    let more = timeout(Duration::from_secs(2), std::future::poll_fn(|cx| terminal.link.output.poll_event(cx))).await;
    assert!(more.is_err(), "nothing comes while the valve is closed");
    assert_eq!(caller.heard.load(Ordering::Relaxed), heard, "not a byte is read, so nothing can grow");
    terminal.types("\x03").await;
    // Only opening shows the effect: the flood ends, the prompt follows.
    terminal.link.control.open_valve();
    terminal.until("ready> ").await;
    terminal.types("echo \"is $((6*7)).\"\r").await;
    terminal.until("is 42.").await;
}

#[tokio::test]
async fn ctrl_c_reaches_the_target_while_the_valve_stays_closed() {
    let sshd = sshd!(Options::default());
    let (_, mut terminal) = shell(&sshd).await;
    let mark = sshd.dir.path().join("interrupted");
    // A shell that waits for its flooding child: its signal handler writes nothing.
    terminal.types(&format!("sh -c 'trap \"touch {}\" INT; yes & wait; kill $!'\r", mark.display())).await;
    terminal.until("y\r\ny\r\ny\r\n").await;
    terminal.link.control.close_valve();
    terminal.drain().await;
    let typed = Instant::now();
    terminal.types("\x03").await;
    eventually("the signal is handled", || mark.exists()).await;
    println!("ctrl-c took {:?}", typed.elapsed());
}

#[tokio::test]
async fn closing_a_frozen_target_ends_within_a_second_and_leaves_nothing() {
    let sshd = sshd!(Options::default());
    let (_, mut terminal) = shell(&sshd).await;
    sshd.freeze();
    // Fills every buffer on the way, so that not even a disconnect message can leave.
    let stuck = async {
        loop {
            terminal.link.input.write(vec![0; 1 << 20].into()).await.unwrap();
        }
    };
    assert!(timeout(Duration::from_millis(500), stuck).await.is_err());
    terminal.link.control.close_valve();
    let started = Instant::now();
    terminal.link.control.close().await;
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
    assert_eq!(tasks(), 0);
    sshd.thaw();
    eventually("sshd sees the end", || sshd.connections() == 0).await;
}

#[tokio::test]
async fn dropping_a_link_ends_its_connection() {
    let sshd = sshd!(Options::default());
    let (_, terminal) = shell(&sshd).await;
    drop(terminal);
    eventually("no task is left", || tasks() == 0).await;
    eventually("sshd sees the end", || sshd.connections() == 0).await;
}

#[tokio::test]
async fn dropping_a_dial_that_waits_for_an_answer_leaves_nothing() {
    let sshd = sshd!(Options { password_user: true, ..Options::default() });
    for policy in [HostKeyPolicy::Ask, HostKeyPolicy::AcceptNew] {
        let caller = Caller::new(sshd.addr, &sshd.user, sshd.dir.path()).with(Credential::Prompt).policy(policy);
        let (events, mut told) = tokio::sync::mpsc::channel(8);
        let dialing = caller.dial(events);
        let question = async {
            loop {
                match told.recv().await {
                    Some(DialEvent::Ask { prompt, reply }) => return (prompt, reply),
                    Some(DialEvent::Trusting { proceed, .. }) => proceed.send(()).unwrap(),
                    _ => {}
                }
            }
        };
        tokio::select! {
            _ = dialing => panic!("it waits for an answer"),
            (_, _reply) = question => {}
        }
        eventually("no task is left", || tasks() == 0).await;
        eventually("sshd sees the end", || sshd.connections() == 0).await;
    }
}

#[tokio::test]
async fn a_target_that_dies_is_told_to_both_halves() {
    let sshd = sshd!(Options::default());
    let (_, mut terminal) = shell(&sshd).await;
    terminal.types("exec sleep 1000\r").await;
    drop(sshd);
    loop {
        match terminal.next().await {
            LinkEvent::Closed => break,
            LinkEvent::Output(_) | LinkEvent::Exited(_) => {}
        }
    }
    // More than the window: no reply will ever make room for the rest.
    let write = terminal.link.input.write(vec![0; 4 << 20].into());
    assert_eq!(timeout(PATIENCE, write).await.unwrap(), Err(LinkGone));
    assert_eq!(terminal.link.input.resize(Size { cols: 1, rows: 1 }).await, Err(LinkGone));
    terminal.link.control.probe();
    terminal.link.control.close().await;
    assert_eq!(tasks(), 0);
}

#[tokio::test]
async fn a_target_without_a_terminal_says_so() {
    let sshd = sshd!(Options { config: "PermitTTY no\n", ..Options::default() });
    let error = caller(&sshd).refusal().await;
    let ConnectError::NoPty { cause, .. } = &error else { panic!("{error}") };
    assert_eq!(cause, "the PTY was refused");
    eventually("sshd sees the end", || sshd.connections() == 0).await;
}

#[tokio::test]
async fn a_connection_refused_by_the_target_leaves_nothing() {
    let sshd = sshd!(Options::default());
    let mut stranger = caller(&sshd);
    stranger.credentials.clear();
    stranger.refusal().await;
    eventually("no task is left", || tasks() == 0).await;
}
