//! The input of a page in a schedule: what is acknowledged, what is in flight, what waits. Knows no socket.

use std::collections::VecDeque;

use bytes::Bytes;

/// Maximum number of unacknowledged input bytes in flight.
const UNTAKEN: usize = 4 * 1024;

/// Input that is not acknowledged yet, as in the page (`web/src/lib/input.ts`).
#[derive(Default)]
pub struct Typing {
    queue: VecDeque<u8>,
    on_its_way: usize,
    /// The offset of the first byte in the queue.
    taken: u64,
    /// The acknowledged input, in order.
    delivered: Vec<u8>,
    serial: u8,
}

impl Typing {
    /// Acknowledges everything up to `offset`.
    pub fn take(&mut self, offset: u64) {
        let surplus = offset.saturating_sub(self.taken).min(self.on_its_way as u64);
        self.delivered.extend(self.queue.drain(..surplus as usize));
        self.on_its_way -= surplus as usize;
        self.taken += surplus;
    }

    /// Drops what lies beyond `offset`, which the gateway will never accept. Returns how many bytes that is.
    pub fn forget(&mut self, offset: u64) -> usize {
        self.take(offset);
        let rest = self.queue.len();
        self.queue.clear();
        (self.on_its_way, self.taken) = (0, offset);
        rest
    }

    /// Resumes on a new socket. Returns how many bytes are sent again.
    pub fn resume(&mut self, offset: u64) -> usize {
        self.take(offset);
        self.taken = offset;
        std::mem::take(&mut self.on_its_way)
    }

    /// Returns the next piece to send, of at most `most` bytes.
    pub fn next(&mut self, most: usize) -> Option<Bytes> {
        let length = most.min(self.queue.len() - self.on_its_way).min(UNTAKEN.saturating_sub(self.on_its_way));
        if length == 0 {
            return None;
        }
        let piece: Vec<u8> = self.queue.iter().copied().skip(self.on_its_way).take(length).collect();
        self.on_its_way += length;
        Some(piece.into())
    }

    /// Types `count` bytes, each with this mark and, below it, a running counter.
    pub fn press(&mut self, mark: u8, count: u64) {
        for _ in 0..count {
            self.queue.push_back(mark << 6 | (self.serial & 0x3f));
            self.serial = self.serial.wrapping_add(1);
        }
    }

    /// Whether nothing waits to be acknowledged.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns the offset up to which input was acknowledged.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Returns all acknowledged input, in order.
    pub fn delivered(&self) -> &[u8] {
        &self.delivered
    }
}
