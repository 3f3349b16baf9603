//! A stream whose reading can be stopped from outside while its writing goes on, and which can be cut off for good.
//! Owns the stream; knows nothing of SSH.
//!
//! russh's client renews the window as bytes arrive, not as they are consumed, so the only place where a flood can be
//! held back without blocking its loop is below it.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    task::coop::consume_budget,
};

/// Bytes read from below at once. russh reads a packet in two small reads, which would cost a system call each.
const CHUNK_BYTES: usize = 32 * 1024;

/// Bytes read at once while more is there than fits: each read makes the system announce room to the target, which
/// costs more than the call itself, on both sides.
const LARGE_CHUNK_BYTES: usize = 128 * 1024;

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const CUT: u8 = 2;

/// A stream with a valve on its reading side.
pub(super) struct Valve<S> {
    stream: S,
    /// Bytes that were read and not passed on yet; an idle connection keeps none.
    taken: Bytes,
    /// Bytes to read next time.
    chunk: usize,
    valve_control: Arc<ValveControl>,
    heard: Arc<dyn Fn() + Send + Sync>,
}

impl<S: AsyncRead + Unpin> Valve<S> {
    /// Puts an open valve on `stream`; `heard` is called for every read that returns bytes.
    pub(super) fn new(stream: S, heard: Arc<dyn Fn() + Send + Sync>) -> (Self, Arc<ValveControl>) {
        let valve_control = Arc::new(ValveControl::default());
        (
            Self { stream, taken: Bytes::new(), chunk: CHUNK_BYTES, valve_control: valve_control.clone(), heard },
            valve_control,
        )
    }

    /// Reads the bytes that are there, at most a chunk; none means the end of the stream.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let mut chunk = BytesMut::with_capacity(self.chunk);
        let count = ready!(pin!(self.stream.read_buf(&mut chunk)).poll(cx))?;
        self.chunk = if count < self.chunk { CHUNK_BYTES } else { LARGE_CHUNK_BYTES };
        if count > 0 {
            (self.heard)();
        }
        Poll::Ready(Ok(chunk.freeze()))
    }
}

/// The handle that moves the valve; shared by all that may hold back or end the connection.
#[derive(Default)]
pub(super) struct ValveControl {
    state: AtomicU8,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl ValveControl {
    /// Stops reading.
    pub(super) fn close(&self) {
        self.turn(OPEN, CLOSED);
    }

    /// Resumes reading.
    pub(super) fn open(&self) {
        if self.turn(CLOSED, OPEN) {
            self.reader.wake();
        }
    }

    /// Fails every read and write from now on, so that the owner of the stream drops it.
    pub(super) fn cut(&self) {
        self.state.store(CUT, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }

    fn turn(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn state(&self) -> u8 {
        self.state.load(Ordering::Acquire)
    }

    fn check_not_cut(&self) -> io::Result<()> {
        if self.state() == CUT { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    /// Runs a write, registering its waker first so that a cut between the check and the wait is not missed.
    fn write<T>(
        &self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.writer.register(cx.waker());
        self.check_not_cut()?;
        write(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Valve<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.valve_control.reader.register(cx.waker());
        self.valve_control.check_not_cut()?;
        if self.valve_control.state() == CLOSED {
            return Poll::Pending;
        }
        if self.taken.is_empty() {
            self.taken = ready!(self.poll_take(cx))?;
        } else {
            // As a read from the system does: russh's loop awaits nothing else between packets that it ignores, and 16
            // MiB of small ones could be one turn. Output yields sooner by itself, at every fourth packet.
            ready!(pin!(consume_budget()).poll(cx));
        }
        let count = buf.remaining().min(self.taken.len());
        buf.put_slice(&self.taken.split_to(count));
        if self.taken.is_empty() {
            self.taken = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Valve<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, valve_control, .. } = self.get_mut();
        valve_control.write(cx, |cx| Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, valve_control, .. } = self.get_mut();
        valve_control.write(cx, |cx| Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Cuts the connection when dropped, so that an abandoned dial or link leaves no task behind.
pub(super) struct CutOnDrop(pub(super) Arc<ValveControl>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.cut();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize};

    use futures_util::FutureExt;
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    async fn pair() -> (Valve<TcpStream>, Arc<ValveControl>, TcpStream, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let (valve, valve_control) = Valve::new(near, Arc::new(move || _ = counted.fetch_add(1, Ordering::Relaxed)));
        (valve, valve_control, far, count)
    }

    #[tokio::test]
    async fn a_closed_valve_holds_bytes_back_and_still_writes() {
        let (mut valve, valve_control, mut far, heard) = pair().await;
        valve_control.close();
        far.write_all(b"flood").await.unwrap();
        valve.write_all(b"\x03").await.unwrap();
        let mut key = [0];
        far.read_exact(&mut key).await.unwrap();
        assert_eq!(key, *b"\x03");
        let mut buf = [0; 5];
        assert!(valve.read_exact(&mut buf).now_or_never().is_none());
        assert_eq!(heard.load(Ordering::Relaxed), 0);

        let read = tokio::spawn(async move { valve.read_exact(&mut buf).await.map(|_| buf) });
        tokio::task::yield_now().await;
        valve_control.open();
        assert_eq!(read.await.unwrap().unwrap(), *b"flood");
        assert_eq!(heard.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn bytes_already_taken_are_held_back_too_and_are_heard_once() {
        let (mut valve, valve_control, mut far, heard) = pair().await;
        far.write_all(b"two words").await.unwrap();
        let mut word = [0; 4];
        valve.read_exact(&mut word).await.unwrap();
        valve_control.close();
        assert!(valve.read_exact(&mut word).now_or_never().is_none());
        valve_control.open();
        valve.read_exact(&mut word).await.unwrap();
        assert_eq!(word, *b"word");
        assert_eq!(heard.load(Ordering::Relaxed), 1);
        drop(far);
        assert_eq!(valve.read_u8().await.unwrap(), b's');
        assert_eq!(valve.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn small_reads_of_what_was_taken_let_others_have_their_turn() {
        let (mut valve, _lever, mut far, heard) = pair().await;
        far.write_all(&[0; 16 * 1024]).await.unwrap();
        let mut reading = pin!(async {
            for _ in 0..16 * 1024 {
                valve.read_u8().await.unwrap();
            }
        });
        let mut turns = 0;
        poll_fn(|cx| {
            turns += 1;
            reading.as_mut().poll(cx)
        })
        .await;
        // tokio's budget for one turn is 128.
        assert!(turns > 100, "{turns} turns, {heard:?}");
    }

    #[tokio::test]
    async fn a_cut_wakes_a_waiting_reader_even_when_closed() {
        let (mut valve, valve_control, _far, _) = pair().await;
        valve_control.close();
        let read = tokio::spawn(async move { valve.read_u8().await });
        tokio::task::yield_now().await;
        valve_control.cut();
        assert_eq!(read.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        valve_control.open();
        assert_eq!(valve_control.state(), CUT, "a cut is final");
    }

    #[tokio::test]
    async fn a_cut_wakes_a_writer_whose_peer_does_not_read() {
        let (mut valve, valve_control, _far, _) = pair().await;
        let jam = tokio::spawn(async move {
            loop {
                if let Err(error) = valve.write_all(&[0; 65536]).await {
                    return error.kind();
                }
            }
        });
        tokio::task::yield_now().await;
        valve_control.cut();
        assert_eq!(jam.await.unwrap(), io::ErrorKind::ConnectionAborted);
    }
}
