//! One terminal's bytes: the target's output, how much of it each browser has, what may be sent next, and where each
//! browser's typing continues. Counts offsets from the session's start; knows no socket and no SSH.
//!
//! ```text
//! 0 ········ start ──────── acked ──────── sent ──────── head
//!  a picture   │  replay      │  unacknowledged │  waiting │
//!              └──────────── kept in memory ──────────────┘
//! ```

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use super::screen::{BLANK, Grid, Summary};
use past::Past;

/// The terminal's picture before the first byte that is kept.
mod past;

/// Memory is taken and freed in pieces of about this size, in bytes: small beside a window, large beside a malloc
/// header. Output that comes in pieces at least this large is kept and sent on as it came, without a copy.
const SEGMENT: usize = 16 * 1024;

/// A new screen may start in the middle of a line; the rest of a line up to this many bytes is skipped.
const LINE_SEARCH: usize = 4 * 1024;

/// Bytes a target may send each second while no browser types: more than builds print, so that they continue as if
/// somebody watched, and so little that an unwatched flood costs less than a hundredth of a core.
pub const UNATTENDED: u64 = 1024 * 1024;
const UNATTENDED_PERIOD: Duration = Duration::from_secs(1);

/// Most browsers whose typing is remembered, so that each can reconnect and resend exactly the missing part.
const MAX_CLIENTS: usize = 8;

/// The limits of how much of a terminal's output is kept, and how far it may run ahead of its browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Unacknowledged bytes per browser at which sending stops (`session.output_window`).
    pub window: u64,
    /// Bytes kept for a browser that reconnects (`session.replay_buffer`).
    pub replay: u64,
    /// Whether output that is no longer kept is followed, for pictures (`session.screens`).
    pub screens: bool,
}

/// The number of one attachment of one socket to its session; it only grows, so that a socket that dies late is
/// distinguished from its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachNo(pub u64);

/// The position at which a browser's output starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The offset of the first byte that will be sent to it.
    pub offset: u64,
    /// The bytes it asked for that are no longer kept.
    pub lost: u64,
}

/// The content of a terminal at one moment of its output: with the output after it, a new screen shows the same as an
/// old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The offset of the first byte of output that it does not show.
    pub offset: u64,
    /// The bytes that draw it, beginning with a full reset; not counted in offsets.
    pub bytes: Bytes,
    /// The bytes that its viewer missed for good, beyond their effect in the picture.
    pub lost: u64,
}

/// The error of a browser that named an offset that was never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("offset {given} is beyond {limit}, the last byte there is")]
pub struct BeyondEnd {
    /// The offset given.
    pub given: u64,
    /// The largest valid offset.
    pub limit: u64,
}

#[derive(Debug)]
struct Viewer {
    attach: AttachNo,
    interactive: bool,
    /// Whether it can draw pictures.
    draws: bool,
    sent: u64,
    acked: u64,
}

#[derive(Debug)]
struct Segment {
    bytes: Bytes,
    summary: Summary,
}

/// The output of one terminal and its viewers.
#[derive(Debug)]
pub struct Output {
    limits: Limits,
    /// Whole pieces, none empty.
    segments: VecDeque<Segment>,
    /// The output after them, in smaller pieces; a segment at most.
    tail: BytesMut,
    /// The offset of the first byte kept.
    start: u64,
    /// The offset after the last byte.
    head: u64,
    viewers: Vec<Viewer>,
    past: Past,
}

impl Output {
    /// Returns an output at offset 0 with nothing kept.
    pub fn new(limits: Limits) -> Self {
        let (segments, tail, past) = (VecDeque::new(), BytesMut::new(), Past::new(limits.screens));
        Self { limits, segments, tail, start: 0, head: 0, viewers: Vec::new(), past }
    }

    /// Returns the offset after the last byte.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Sets the time, once before each push: forgotten output is followed for a part of each second only.
    pub fn tick(&mut self, now: Instant) {
        self.past.tick(now);
    }

    /// Notes that the terminal has a new size from here on.
    pub fn resize(&mut self, grid: Grid) {
        self.past.resize(self.head, grid);
    }

    /// Appends output of the target.
    pub fn push(&mut self, bytes: Bytes) {
        self.head += bytes.len() as u64;
        if self.tail.len() + bytes.len() > SEGMENT {
            self.seal();
        }
        if bytes.len() >= SEGMENT {
            self.keep(bytes);
        } else {
            self.tail.extend_from_slice(&bytes);
        }
        self.trim();
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let bytes = std::mem::take(&mut self.tail).freeze();
            self.keep(bytes);
        }
    }

    fn keep(&mut self, bytes: Bytes) {
        let summary = self.past.summary(&bytes);
        self.segments.push_back(Segment { bytes, summary });
    }

    /// Adds a viewer that has everything up to `offset`, or nothing (`None`: it gets all that is kept, from a line's
    /// start).
    ///
    /// # Errors
    /// [`BeyondEnd`] if it claims bytes that do not exist yet: it is not a viewer of this session.
    pub fn attach(&mut self, attach: AttachNo, interactive: bool, offset: Option<u64>) -> Result<Start, BeyondEnd> {
        let start = match offset {
            Some(given) if given > self.head => return Err(BeyondEnd { given, limit: self.head }),
            Some(given) => Start { offset: given.max(self.start), lost: self.start.saturating_sub(given) },
            None => Start { offset: self.first_line(), lost: 0 },
        };
        self.viewers.push(Viewer { attach, interactive, draws: false, sent: start.offset, acked: start.offset });
        Ok(start)
    }

    /// Lets a viewer draw pictures from now on. `new`: nothing on its screen fits the start of its output, so it gets a
    /// picture now, unless everything is kept, or the content is unknown.
    pub fn draw(&mut self, attach: AttachNo, new: bool) -> Option<Picture> {
        let viewer = self.viewers.iter_mut().find(|viewer| viewer.attach == attach)?;
        viewer.draws = true;
        if !new || self.start == 0 {
            return None;
        }
        let picture = Picture { offset: self.start, bytes: self.past.picture(self.start)?, lost: 0 };
        (viewer.sent, viewer.acked) = (self.start, self.start);
        Some(picture)
    }

    /// Moves a viewer that fell behind to the first byte that is kept, with a picture: an empty one if the content is
    /// unknown. `None` if it is no longer a viewer.
    pub fn redraw(&mut self, attach: AttachNo) -> Option<Picture> {
        let drawn = self.past.picture(self.start);
        let offset = if drawn.is_some() { self.start } else { self.first_line() };
        let viewer = self.viewers.iter_mut().find(|viewer| viewer.attach == attach)?;
        let lost = offset.saturating_sub(viewer.sent);
        (viewer.sent, viewer.acked) = (offset, offset);
        Some(Picture { offset, bytes: drawn.unwrap_or(Bytes::from_static(BLANK)), lost })
    }

    /// Removes a viewer; output it had not acknowledged is no longer kept for it beyond the replay buffer.
    pub fn detach(&mut self, attach: AttachNo) {
        self.viewers.retain(|viewer| viewer.attach != attach);
        self.trim();
    }

    /// Notes that a viewer has consumed everything up to `offset`; an older acknowledgement changes nothing.
    ///
    /// # Errors
    /// [`BeyondEnd`] if that much was never sent to it.
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

    /// Returns the bytes to send to a viewer next, at most `max` and never more than its window allows.
    pub fn next_chunk(&mut self, attach: AttachNo, max: usize) -> Chunk {
        let (start, head, window) = (self.start, self.head, self.limits.window);
        let Some(viewer) = self.viewers.iter_mut().find(|viewer| viewer.attach == attach) else {
            return Chunk::Detached;
        };
        if viewer.sent < start {
            // Output already sent may still be in transit: adding a picture and a window for each redraw would be
            // unbounded.
            let behind = if viewer.acked < viewer.sent { Chunk::WindowFull } else { Chunk::Redraw };
            return if viewer.draws { behind } else { Chunk::FellBehind };
        }
        let credit = (viewer.acked + window).saturating_sub(viewer.sent);
        let length = (head - viewer.sent).min(credit).min(max as u64);
        if length == 0 {
            return if viewer.sent < head { Chunk::WindowFull } else { Chunk::Nothing };
        }
        let from = viewer.sent;
        let bytes = self.read(from, length as usize);
        if let Some(viewer) = self.viewers.iter_mut().find(|viewer| viewer.attach == attach) {
            viewer.sent += bytes.len() as u64;
        }
        Chunk::Bytes(bytes)
    }

    /// Whether the target should wait: a full window of bytes is ahead of the interactive viewer.
    pub fn is_full(&self) -> bool {
        self.interactive().is_some_and(|viewer| self.head - viewer.acked >= self.limits.window)
    }

    /// Whether no browser types, so that no window limits the target.
    pub fn is_unattended(&self) -> bool {
        self.interactive().is_none()
    }

    /// Returns the bytes in memory.
    pub fn kept(&self) -> u64 {
        self.head - self.start
    }

    fn interactive(&self) -> Option<&Viewer> {
        self.viewers.iter().find(|viewer| viewer.interactive)
    }

    /// Keeps the replay buffer and the output that the interactive viewer has not acknowledged.
    fn trim(&mut self) {
        let mut wanted = self.head.saturating_sub(self.limits.replay);
        if let Some(viewer) = self.interactive() {
            wanted = wanted.min(viewer.acked);
        }
        while let Some(Segment { bytes, summary }) =
            self.segments.pop_front_if(|first| self.start + first.bytes.len() as u64 <= wanted)
        {
            let next = self.segments.iter().map(|segment| segment.bytes.as_ref()).chain([self.tail.as_ref()]);
            let summaries = (summary, self.segments.front().map(|second| second.summary).unwrap_or_default());
            self.past.leave(self.start, &bytes, summaries, next);
            self.start += bytes.len() as u64;
        }
    }

    /// Returns some of the bytes from `from` on, `length` at most: a large piece as it is, small ones joined.
    fn read(&self, from: u64, length: usize) -> Bytes {
        let mut skip = (from - self.start) as usize;
        let mut joined = BytesMut::new();
        for Segment { bytes: segment, .. } in &self.segments {
            if skip >= segment.len() {
                skip -= segment.len();
                continue;
            }
            let part = segment.slice(skip..segment.len().min(skip + length - joined.len()));
            let is_large = part.len() >= SEGMENT || part.len() == length;
            match (is_large, joined.is_empty()) {
                (true, true) => return part,
                (true, false) => return joined.freeze(),
                (false, _) => joined.extend_from_slice(&part),
            }
            skip = 0;
        }
        let tail = self.tail.get(skip..).unwrap_or_default();
        joined.extend_from_slice(tail.get(..length - joined.len()).unwrap_or(tail));
        joined.freeze()
    }

    fn first_line(&self) -> u64 {
        if self.start == 0 {
            return 0;
        }
        let searched = self.read(self.start, LINE_SEARCH);
        let line = searched.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        self.start + line as u64
    }
}

/// The next step for a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// These bytes.
    Bytes(Bytes),
    /// It has everything.
    Nothing,
    /// More output is there, but its window is full.
    WindowFull,
    /// A watcher too slow for the output kept: some of what it needs is forgotten.
    FellBehind,
    /// The same, but it has acknowledged everything it was sent and can draw pictures.
    Redraw,
    /// It is no longer a viewer.
    Detached,
}

/// The pace of a target that no window limits: it waits once it has used its share of a second.
#[derive(Debug, Default)]
pub struct FloodLimit {
    begun: Option<Instant>,
    said: u64,
}

impl FloodLimit {
    /// Counts output of the target.
    pub fn count(&mut self, now: Instant, bytes: usize) {
        if self.begun.is_none_or(|begun| now.saturating_duration_since(begun) >= UNATTENDED_PERIOD) {
            *self = Self { begun: Some(now), said: 0 };
        }
        self.said += bytes as u64;
    }

    /// Returns until when the target waits.
    pub fn waits_until(&self, now: Instant) -> Option<Instant> {
        let end = self.begun? + UNATTENDED_PERIOD;
        (self.said >= UNATTENDED && now < end).then_some(end)
    }
}

/// The amount of each browser's typing has been accepted. Each browser counts its own bytes, from where it first
/// attached.
#[derive(Debug, Default)]
pub struct Input {
    total: u64,
    /// The last one is the current one.
    clients: VecDeque<(String, u64)>,
}

impl Input {
    /// Makes `client` the current browser and returns the offset at which its typing continues: bytes it has sent
    /// beyond that were not accepted and will be sent again.
    pub fn attach(&mut self, client: &str) -> u64 {
        let known = self.clients.iter().position(|(name, _)| name == client);
        let entry = known.and_then(|at| self.clients.remove(at)).unwrap_or_else(|| (client.to_owned(), self.total));
        let taken = entry.1;
        self.clients.push_back(entry);
        if self.clients.len() > MAX_CLIENTS {
            self.clients.pop_front();
        }
        taken
    }

    /// Returns the offset at which the typing of `client` would continue now.
    pub fn peek(&self, client: &str) -> u64 {
        self.clients.iter().find(|(name, _)| name == client).map_or(self.total, |(_, taken)| *taken)
    }

    /// Counts bytes of the current browser as accepted and returns the offset after them.
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
mod tests;
