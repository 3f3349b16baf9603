//! One terminal's bytes: what the target said, how much of it each browser has, what may be sent next, and where each
//! browser's typing continues. Counts offsets from the session's start; knows no socket and no SSH.
//!
//! ```text
//! 0 ········ start ──────── acked ──────── sent ──────── head
//!  forgotten   │  replay      │  unacknowledged │  waiting │
//!              └──────────── kept in memory ──────────────┘
//! ```

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Memory is taken and given back in pieces of this size: small beside a window, large beside a malloc header.
const SEGMENT: usize = 16 * 1024;

/// A new screen may start in the middle of a line; the rest of a line up to this long is skipped.
const LINE_SEARCH: usize = 4 * 1024;

/// Browsers whose typing is remembered, so that each can come back and resend exactly what is missing.
const CLIENTS: usize = 8;

/// How much of one terminal's output is kept and how far it may run ahead of its browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Unacknowledged bytes per browser before it is sent no more (`session.output_window`).
    pub window: u64,
    /// Bytes kept for a browser that comes back (`session.replay_buffer`).
    pub replay: u64,
}

/// Names one attachment of one socket to its session; only grows, so that a late-dying socket is told from its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachNo(pub u64);

/// Where a browser's output starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The offset of the first byte it will be sent.
    pub offset: u64,
    /// Bytes it asked for that are no longer kept.
    pub lost: u64,
}

/// A browser named an offset that was never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("offset {given} is beyond {limit}, the last byte there is")]
pub struct BeyondEnd {
    /// What was given.
    pub given: u64,
    /// The largest offset that would be right.
    pub limit: u64,
}

#[derive(Debug)]
struct Viewer {
    attach: AttachNo,
    interactive: bool,
    sent: u64,
    acked: u64,
}

/// The output of one terminal and its viewers.
#[derive(Debug)]
pub struct Output {
    limits: Limits,
    segments: VecDeque<Vec<u8>>,
    /// Offset of the first byte kept.
    start: u64,
    /// Offset after the last byte.
    head: u64,
    viewers: Vec<Viewer>,
}

impl Output {
    /// Starts at offset 0 with nothing kept.
    pub fn new(limits: Limits) -> Self {
        Self { limits, segments: VecDeque::new(), start: 0, head: 0, viewers: Vec::new() }
    }

    /// The offset after the last byte.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Takes what the target said.
    pub fn push(&mut self, mut bytes: &[u8]) {
        self.head += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = self.segments.back().map_or(0, |last| SEGMENT - last.len());
            if room == 0 {
                self.segments.push_back(Vec::new());
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if let Some(last) = self.segments.back_mut() {
                last.extend_from_slice(now);
            }
            bytes = later;
        }
        self.trim();
    }

    /// Adds a viewer that has everything up to `offset`, or nothing (`None`: it gets what is kept, from a line's start).
    ///
    /// # Errors
    /// [`BeyondEnd`] if it claims bytes that do not exist yet: it is not a viewer of this session.
    pub fn attach(&mut self, attach: AttachNo, interactive: bool, offset: Option<u64>) -> Result<Start, BeyondEnd> {
        let start = match offset {
            Some(given) if given > self.head => return Err(BeyondEnd { given, limit: self.head }),
            Some(given) => Start { offset: given.max(self.start), lost: self.start.saturating_sub(given) },
            None => Start { offset: self.first_line(), lost: 0 },
        };
        self.viewers.push(Viewer { attach, interactive, sent: start.offset, acked: start.offset });
        Ok(start)
    }

    /// Removes a viewer; what it had not acknowledged is no longer kept for it beyond the replay buffer.
    pub fn detach(&mut self, attach: AttachNo) {
        self.viewers.retain(|viewer| viewer.attach != attach);
        self.trim();
    }

    /// Takes a viewer's word that it has consumed everything up to `offset`; an older word changes nothing.
    ///
    /// # Errors
    /// [`BeyondEnd`] if so much was never sent to it.
    pub fn ack(&mut self, attach: AttachNo, offset: u64) -> Result<(), BeyondEnd> {
        if let Some(viewer) = self.viewers.iter_mut().find(|viewer| viewer.attach == attach) {
            if offset > viewer.sent {
                return Err(BeyondEnd { given: offset, limit: viewer.sent });
            }
            viewer.acked = viewer.acked.max(offset);
            self.trim();
        }
        Ok(())
    }

    /// Returns what to send to a viewer next, at most `max` bytes and never more than its window allows.
    pub fn next_chunk(&mut self, attach: AttachNo, max: usize) -> Chunk {
        let (start, head, window) = (self.start, self.head, self.limits.window);
        let Some(viewer) = self.viewers.iter_mut().find(|viewer| viewer.attach == attach) else {
            return Chunk::Detached;
        };
        if viewer.sent < start {
            return Chunk::FellBehind;
        }
        let credit = (viewer.acked + window).saturating_sub(viewer.sent);
        let length = (head - viewer.sent).min(credit).min(max as u64);
        if length == 0 {
            return if viewer.sent < head { Chunk::WindowFull } else { Chunk::Nothing };
        }
        let from = viewer.sent;
        viewer.sent += length;
        Chunk::Bytes(self.copy(from, length))
    }

    /// Whether the target should wait: the interactive viewer has a full window of bytes ahead of it.
    pub fn is_full(&self) -> bool {
        self.interactive().is_some_and(|viewer| self.head - viewer.acked >= self.limits.window)
    }

    /// Bytes in memory.
    pub fn kept(&self) -> u64 {
        self.head - self.start
    }

    fn interactive(&self) -> Option<&Viewer> {
        self.viewers.iter().find(|viewer| viewer.interactive)
    }

    /// Keeps the replay buffer and what the interactive viewer has not acknowledged.
    fn trim(&mut self) {
        let mut wanted = self.head.saturating_sub(self.limits.replay);
        if let Some(viewer) = self.interactive() {
            wanted = wanted.min(viewer.acked);
        }
        while let Some(first) = self.segments.front() {
            let length = first.len() as u64;
            if self.start + length > wanted {
                break;
            }
            self.start += length;
            self.segments.pop_front();
        }
    }

    fn copy(&self, from: u64, length: u64) -> Bytes {
        let mut skip = (from - self.start) as usize;
        let mut left = length as usize;
        let mut out = BytesMut::with_capacity(left);
        for segment in &self.segments {
            if left == 0 {
                break;
            }
            if skip >= segment.len() {
                skip -= segment.len();
                continue;
            }
            let part = segment.get(skip..).unwrap_or_default();
            let part = part.get(..left.min(part.len())).unwrap_or_default();
            out.extend_from_slice(part);
            left -= part.len();
            skip = 0;
        }
        out.freeze()
    }

    fn first_line(&self) -> u64 {
        if self.start == 0 {
            return 0;
        }
        let searched = self.copy(self.start, self.kept().min(LINE_SEARCH as u64));
        let line = searched.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        self.start + line as u64
    }
}

/// What a viewer gets next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// These bytes.
    Bytes(Bytes),
    /// It has everything.
    Nothing,
    /// More is there, but its window is full.
    WindowFull,
    /// An onlooker too slow for what is kept: some of what it needs is forgotten.
    FellBehind,
    /// It is no viewer any more.
    Detached,
}

/// How much of each browser's typing has been taken. Each browser counts its own bytes, from where it first attached.
#[derive(Debug, Default)]
pub struct Input {
    total: u64,
    /// The last is the current one.
    clients: VecDeque<(String, u64)>,
}

impl Input {
    /// Makes `client` the one who types and returns the offset its typing continues at: what it has sent beyond that was
    /// not taken and comes again.
    pub fn attach(&mut self, client: &str) -> u64 {
        let known = self.clients.iter().position(|(name, _)| name == client);
        let entry = known.and_then(|at| self.clients.remove(at)).unwrap_or_else(|| (client.to_owned(), self.total));
        let taken = entry.1;
        self.clients.push_back(entry);
        if self.clients.len() > CLIENTS {
            self.clients.pop_front();
        }
        taken
    }

    /// Counts bytes of the current browser as taken and returns the offset after them.
    pub fn take(&mut self, bytes: usize) -> u64 {
        self.total += bytes as u64;
        match self.clients.back_mut() {
            Some((_, taken)) => {
                *taken += bytes as u64;
                *taken
            }
            None => self.total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: AttachNo = AttachNo(1);
    const B: AttachNo = AttachNo(2);
    const LIMITS: Limits = Limits { window: 1_000, replay: 500 };

    fn drain(output: &mut Output, attach: AttachNo) -> Vec<u8> {
        let mut all = Vec::new();
        while let Chunk::Bytes(bytes) = output.next_chunk(attach, 64) {
            all.extend_from_slice(&bytes);
        }
        all
    }

    #[test]
    fn a_viewer_is_sent_no_more_than_its_window() {
        let mut output = Output::new(LIMITS);
        output.attach(A, true, None).unwrap();
        output.push(&[7; 1_500]);
        assert_eq!(drain(&mut output, A).len(), 1_000);
        assert_eq!(output.next_chunk(A, 64), Chunk::WindowFull);
        assert!(output.is_full());
        output.ack(A, 600).unwrap();
        assert!(!output.is_full());
        assert_eq!(drain(&mut output, A).len(), 500);
        assert_eq!(output.next_chunk(A, 64), Chunk::Nothing);
    }

    #[test]
    fn what_fell_out_of_the_replay_buffer_is_said() {
        let mut output = Output::new(LIMITS);
        output.push(&vec![b'x'; 10 * SEGMENT]);
        let kept = output.kept();
        assert!(kept >= LIMITS.replay && kept <= LIMITS.replay + SEGMENT as u64);
        let start = output.attach(A, true, Some(100)).unwrap();
        assert_eq!(start, Start { offset: output.head() - kept, lost: output.head() - kept - 100 });
        assert_eq!(drain(&mut output, A).len() as u64, LIMITS.window);
    }

    #[test]
    fn a_new_screen_starts_with_a_line() {
        let mut output = Output::new(LIMITS);
        output.push(&vec![b'x'; SEGMENT]);
        output.push(b"tail of a line\nfirst whole line\n");
        output.push(&vec![b'y'; LIMITS.replay as usize]);
        output.attach(A, true, None).unwrap();
        assert!(drain(&mut output, A).starts_with(b"first whole line\n"));
    }

    #[test]
    fn offsets_that_never_existed_are_refused() {
        let mut output = Output::new(LIMITS);
        output.push(b"12345");
        assert_eq!(output.attach(A, true, Some(6)), Err(BeyondEnd { given: 6, limit: 5 }));
        output.attach(A, true, Some(2)).unwrap();
        assert_eq!(output.ack(A, 3), Err(BeyondEnd { given: 3, limit: 2 }));
    }

    #[test]
    fn a_slow_onlooker_neither_stops_the_target_nor_is_fed_holes() {
        let mut output = Output::new(LIMITS);
        output.attach(A, true, None).unwrap();
        output.attach(B, false, None).unwrap();
        for _ in 0..100 {
            output.push(&[7; 1_000]);
            drain(&mut output, A);
            output.ack(A, output.head()).unwrap();
        }
        assert!(!output.is_full());
        assert_eq!(output.next_chunk(B, 64), Chunk::FellBehind);
    }

    #[test]
    fn each_browser_resends_exactly_what_was_not_taken() {
        let mut input = Input::default();
        assert_eq!(input.attach("a"), 0);
        input.take(100);
        assert_eq!(input.attach("b"), 100, "a new browser starts at the session's count");
        input.take(7);
        assert_eq!(input.attach("a"), 100, "a browser that comes back continues its own");
        assert_eq!(input.take(5), 105);
        assert_eq!(input.attach("c"), 112);
    }

    proptest! {
        /// A browser that drops and comes back at any point sees exactly the bytes, once, or is told how many are lost.
        #[test]
        fn resume_is_exact(steps in prop::collection::vec((0u8..4, 1usize..3_000), 1..120)) {
            let mut output = Output::new(LIMITS);
            let (mut truth, mut seen, mut offset, mut number) = (Vec::new(), Vec::new(), 0u64, 1u64);
            output.attach(AttachNo(number), true, Some(0)).unwrap();
            for (kind, amount) in steps {
                match kind {
                    // The pump reads nothing while the window is full.
                    0 if output.is_full() => {}
                    0 => {
                        let bytes: Vec<u8> = (0..amount).map(|i| ((truth.len() + i) % 251) as u8).collect();
                        truth.extend_from_slice(&bytes);
                        output.push(&bytes);
                    }
                    1 => while let Chunk::Bytes(bytes) = output.next_chunk(AttachNo(number), amount) {
                        seen.extend_from_slice(&bytes);
                        offset += bytes.len() as u64;
                    },
                    2 => output.ack(AttachNo(number), offset).unwrap(),
                    _ => {
                        output.detach(AttachNo(number));
                        number += 1;
                        let start = output.attach(AttachNo(number), true, Some(offset)).unwrap();
                        prop_assert_eq!(start.offset, offset + start.lost);
                        seen.extend_from_slice(&truth[offset as usize..start.offset as usize]);
                        offset = start.offset;
                    }
                }
                prop_assert!(output.kept() <= LIMITS.window.max(LIMITS.replay) + 3_000 + SEGMENT as u64);
                prop_assert_eq!(&seen[..], &truth[..seen.len()]);
            }
        }
    }
}
