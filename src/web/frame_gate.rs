//! Refuses a WebSocket frame by the length it announces. The codec behind it checks a frame's length only once all of
//! it is in memory (actix-http 3), so a single header could claim all memory. Does not know the meaning of frames.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::protocol::MAX_FRAME;

/// Bytes of the longest frame header (RFC 6455 §5.2).
const LONGEST_HEAD: usize = 14;

/// Whether a frame was refused; shared with the actor that receives the stream's error.
#[derive(Debug, Clone, Default)]
pub struct Refusal(Rc<Cell<bool>>);

impl Refusal {
    /// Whether a frame was too large.
    pub fn is_given(&self) -> bool {
        self.0.get()
    }
}

/// A browser's bytes, passed on unchanged until a frame announces more than [`MAX_FRAME`] or the connection ends.
pub struct FrameGate<S> {
    stream: S,
    frames: Frames,
    refusal: Refusal,
}

impl<S> FrameGate<S> {
    /// Guards `stream`, which begins with a frame.
    pub fn new(stream: S, refusal: Refusal) -> Self {
        Self { stream, frames: Frames::default(), refusal }
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for FrameGate<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.refusal.is_given() {
            return Poll::Ready(None);
        }
        let told = self.stream.poll_next_unpin(cx);
        match &told {
            Poll::Ready(Some(Ok(bytes))) if !self.frames.fit(bytes) => {
                self.refusal.0.set(true);
                Poll::Ready(Some(Err(PayloadError::Overflow)))
            }
            // The connection broke: the bytes before still count, and there is no peer to report an error to.
            Poll::Ready(Some(Err(_))) => Poll::Ready(None),
            Poll::Ready(Some(Ok(_)) | None) | Poll::Pending => told,
        }
    }
}

/// The position of a stream within its frames.
#[derive(Debug, Default)]
struct Frames {
    /// The header that is being read.
    head: Vec<u8>,
    /// Bytes of payload to come before the next header.
    payload: u64,
}

impl Frames {
    /// Advances the stream by `bytes`; returns whether every frame that begins in them is within the limit.
    fn fit(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            let passed = usize::try_from(self.payload).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.payload -= passed as u64;
            let Some((&byte, rest)) = bytes.get(passed..).and_then(<[u8]>::split_first) else { return true };
            bytes = rest;
            self.head.reserve(LONGEST_HEAD);
            self.head.push(byte);
            if let Some(length) = announced(&self.head) {
                if length > MAX_FRAME as u64 {
                    return false;
                }
                self.payload = length;
                self.head.clear();
            }
        }
    }
}

/// The payload's length, once the header is complete (RFC 6455 §5.2).
fn announced(head: &[u8]) -> Option<u64> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let second = *head.get(1)?;
    let (length, size) = match second & 0x7f {
        126 => (number(head.get(2..4)?), 4),
        127 => (number(head.get(2..10)?), 10),
        short => (u64::from(short), 2),
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    (head.len() >= size + mask).then_some(length)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn masked(length: usize) -> Vec<u8> {
        let mut frame = vec![0x82];
        match length {
            0..126 => frame.push(0x80 | length as u8),
            126..0x1_0000 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.resize(frame.len() + 4 + length, 0xff);
        frame
    }

    #[test]
    fn frames_of_every_allowed_length_fit_however_they_are_cut() {
        let all: Vec<u8> = [0, 1, 125, 126, 127, 65_535, MAX_FRAME, 3].into_iter().flat_map(masked).collect();
        for piece in [1, 2, 7, 1_000, all.len()] {
            let mut frames = Frames::default();
            assert!(all.chunks(piece).all(|bytes| frames.fit(bytes)), "pieces of {piece}");
            assert!(frames.head.is_empty() && frames.payload == 0, "pieces of {piece}");
        }
    }

    #[test]
    fn a_longer_frame_is_refused_by_its_header_alone() {
        for length in [MAX_FRAME + 1, usize::MAX] {
            let mut head = vec![0x82, 0x80 | 127];
            head.extend((length as u64).to_be_bytes());
            head.extend([0; 4]);
            for piece in [1, head.len()] {
                let mut frames = Frames::default();
                assert!(frames.fit(&masked(9)));
                assert!(!head.chunks(piece).all(|bytes| frames.fit(bytes)), "{length}");
            }
        }
    }

    #[actix_rt::test]
    async fn nothing_passes_after_a_refusal() {
        let refusal = Refusal::default();
        let bytes = [masked(5), masked(MAX_FRAME + 1), masked(5)].map(|frame| Ok(Bytes::from(frame)));
        let gate = FrameGate::new(stream::iter(bytes), refusal.clone());
        let passed: Vec<_> = gate.collect().await;
        assert!(matches!(&passed[..], [Ok(first), Err(PayloadError::Overflow)] if first.len() == 11), "{passed:?}");
        assert!(refusal.is_given());
    }

    #[actix_rt::test]
    async fn a_connection_that_breaks_is_no_wrong_frame() {
        let refusal = Refusal::default();
        let bytes = [Ok(Bytes::from(masked(5))), Err(PayloadError::Incomplete(None))];
        let passed: Vec<_> = FrameGate::new(stream::iter(bytes), refusal.clone()).collect().await;
        assert!(matches!(&passed[..], [Ok(first)] if first.len() == 11), "{passed:?}");
        assert!(!refusal.is_given());
    }
}
