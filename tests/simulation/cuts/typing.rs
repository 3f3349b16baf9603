//! What a page of a schedule typed: what is taken, what is on its way, what waits. Knows no socket.

use std::collections::VecDeque;

use bytes::Bytes;

/// Typing that may be on its way untaken.
const UNTAKEN: usize = 4 * 1024;

/// What is typed and not taken yet, as in the page (`web/src/lib/input.ts`).
#[derive(Default)]
pub struct Typing {
    queue: VecDeque<u8>,
    on_its_way: usize,
    /// The offset of the first byte in the queue.
    taken: u64,
    /// What was said to be taken, in order.
    delivered: Vec<u8>,
    serial: u8,
}

impl Typing {
    /// The gateway has taken everything up to `offset`.
    pub fn take(&mut self, offset: u64) {
        let surplus = offset.saturating_sub(self.taken).min(self.on_its_way as u64);
        self.delivered.extend(self.queue.drain(..surplus as usize));
        self.on_its_way -= surplus as usize;
        self.taken += surplus;
    }

    /// The gateway will never take what lies beyond `offset`. Returns how much that is.
    pub fn forget(&mut self, offset: u64) -> usize {
        self.take(offset);
        let rest = self.queue.len();
        self.queue.clear();
        (self.on_its_way, self.taken) = (0, offset);
        rest
    }

    /// A socket attached. Returns how much goes out again.
    pub fn resume(&mut self, offset: u64) -> usize {
        self.take(offset);
        self.taken = offset;
        std::mem::take(&mut self.on_its_way)
    }

    /// The next piece to send, of at most so many bytes.
    pub fn next(&mut self, most: usize) -> Option<Bytes> {
        let length = most.min(self.queue.len() - self.on_its_way).min(UNTAKEN.saturating_sub(self.on_its_way));
        if length == 0 {
            return None;
        }
        let piece: Vec<u8> = self.queue.iter().copied().skip(self.on_its_way).take(length).collect();
        self.on_its_way += length;
        Some(piece.into())
    }

    /// Types so many bytes, each with this mark and, below it, a count that goes on.
    pub fn press(&mut self, mark: u8, count: u64) {
        for _ in 0..count {
            self.queue.push_back(mark << 6 | (self.serial & 0x3f));
            self.serial = self.serial.wrapping_add(1);
        }
    }

    /// Whether nothing waits to be taken.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How far it was taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// All that was taken, in order.
    pub fn delivered(&self) -> &[u8] {
        &self.delivered
    }
}
