//! Two hundred sessions whose connections break at random bytes, over real sockets: both ends receive what one unbroken
//! connection would have brought.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::{
    browser::{self, Attach, Browser},
    gateway::{Gateway, Home, TOKEN},
    line::{Break, line},
    playground::Playground,
    terminal::PATIENCE,
};

/// Number of schedules, each with a session of its own.
const SCHEDULES: u64 = 200;

/// Maximum number of breaks in a schedule; afterwards the line holds.
const BREAKS: usize = 6;

/// Concurrent sessions.
const TOGETHER: usize = 4;

/// Bytes of output per schedule: less than the gateway keeps, so that nothing may be missing.
const OUTPUT: usize = 100_000;

/// Bytes pasted per schedule.
const PASTE: usize = 50_000;

/// A stream of random numbers (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 1).unwrap() % sides.max(1)
    }

    fn breaks(&mut self) -> Break {
        let millis = |sides: usize, dice: &mut Self| Duration::from_millis(dice.roll(sides) as u64);
        let (gateway_after, page_after) = match self.roll(3) {
            0 => (Duration::ZERO, Duration::ZERO),
            1 => (millis(1_500, self), Duration::ZERO),
            _ => (Duration::ZERO, millis(100, self)),
        };
        // Some break before the first frame is complete.
        let most = [60, 2_000, 40_000][self.roll(3)];
        Break { up: self.roll(most) + 1, down: self.roll(most * 2) + 1, gateway_after, page_after }
    }
}

/// A page over many sockets.
struct Page<'a> {
    gateway: &'a Gateway,
    id: String,
    dice: Dice,
    /// All output, from the session's start on.
    received: Vec<u8>,
    /// All input.
    typed: Vec<u8>,
    /// Bytes of input that were sent at least once.
    sent: usize,
    breaks: usize,
    resent: usize,
}

impl Page<'_> {
    fn connects(&mut self) -> Browser {
        let breaks = (self.breaks > 0).then(|| self.dice.breaks());
        self.breaks = self.breaks.saturating_sub(1);
        let addr = line(self.gateway.addr, breaks);
        let headers = format!("Authorization: Bearer {TOKEN}\r\nOrigin: http://{addr}\r\n");
        let socket = browser::upgrade(addr, &self.id, &headers).unwrap_or_else(|answer| panic!("{}", answer.head));
        Browser::new(socket)
    }

    /// Types, and continues through every break until the output ends with `end`.
    fn until(&mut self, typed: &[u8], end: &str) {
        let before = self.received.len();
        self.typed.extend_from_slice(typed);
        let ends = |output: &[u8]| output.len() > before && output.ends_with(end.as_bytes());
        while !ends(&self.received) {
            let page = self.connects();
            let attach = Attach { output_offset: Some(self.received.len() as u64), ..Attach::default() };
            page.says(
                json!({"type": "attach", "cols": 80, "rows": 24, "mode": "interactive", "client_id": attach.client_id,
                "output_offset": attach.output_offset, "input_offset": self.typed.len()}),
            );
            let attached = page.wait(PATIENCE, "an answer or the end", |heard| {
                let attached = heard.frames.iter().find(|frame| frame["type"] == "attached").cloned();
                (attached.is_some() || heard.ended).then_some(attached)
            });
            let Some(attached) = attached else { continue };
            assert_eq!(attached["lost_bytes"], 0, "{attached}");
            assert_eq!(attached["output_offset"], self.received.len(), "{attached}");
            let taken = usize::try_from(attached["input_offset"].as_u64().unwrap()).unwrap();
            self.resent += self.sent.saturating_sub(taken);
            self.sent = self.typed.len();
            let mut rest = &self.typed[taken..];
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(rest.len().min(1 + self.dice.roll(9_000)));
                page.types(piece);
                rest = more;
            }
            let had = self.received.clone();
            page.wait(PATIENCE, "the rest or the end", |heard| {
                let ended = heard.ended || ends(&[&had[..], &heard.output].concat());
                ended.then_some(())
            });
            page.drops();
            page.is_cut_within(PATIENCE);
            self.received.extend_from_slice(&page.heard().output);
        }
    }
}

/// Plays one session from its first byte to its end: a lot of output, then a lot of input. Returns all output, and how
/// many bytes were sent again.
fn schedule(gateway: &Gateway, seed: u64, breaks: usize) -> (Vec<u8>, usize) {
    let id = gateway.opens("playground");
    let (received, typed) = (Vec::new(), Vec::new());
    let mut page = Page { gateway, id, dice: Dice(seed), received, typed, sent: 0, breaks, resent: 0 };
    page.until(b"", "$ ");
    page.until(format!("flood {OUTPUT}\r").as_bytes(), "$ ");
    page.until(b"paste\r", "paste\r\n");
    page.breaks += breaks / 2;
    page.until(&[&paste()[..], b"\x04"].concat(), "$ ");
    let ended = gateway.asks("DELETE", &format!("/api/v1/sessions/{}", page.id), None);
    assert_eq!(ended.status, 202, "{}", ended.text());
    (page.received, page.resent)
}

/// Returns any bytes except Ctrl-D and Ctrl-C, which end it.
fn paste() -> Vec<u8> {
    (0..PASTE as u32).map(|nth| (nth.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x20).collect()
}

#[test]
fn two_hundred_sessions_lose_and_double_nothing_however_their_sockets_break() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    let (unbroken, _) = schedule(&gateway, 0, 0);
    let digest: String = Sha256::digest(paste()).iter().map(|byte| format!("{byte:02x}")).collect();
    let answer = format!("paste: {PASTE} bytes, SHA-256 {digest}\r\n");
    assert!(String::from_utf8_lossy(&unbroken).contains(&answer), "{answer}");
    let (next, resent) = (AtomicU64::new(1), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..TOGETHER {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > SCHEDULES {
                        return;
                    }
                    let (received, again) = schedule(&gateway, seed, BREAKS);
                    resent.fetch_add(again, Ordering::Relaxed);
                    let differs = received.iter().zip(&unbroken).position(|(one, other)| one != other);
                    let lengths = (received.len(), unbroken.len());
                    assert!(received == unbroken, "schedule {seed}: {lengths:?} bytes, they differ at {differs:?}");
                }
            });
        }
    });
    println!("{} bytes were typed again", resent.load(Ordering::Relaxed));
    assert!(resent.load(Ordering::Relaxed) > PASTE, "hardly anything broke");
}
