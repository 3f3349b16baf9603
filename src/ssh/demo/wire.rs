//! The TCP connection under a demo session, built so that a client that does not read can still send. Owns the bytes
//! that the kernel has not taken yet; does not know SSH.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
};

/// Bytes waiting for the kernel above which programs wait: enough to make the next write a large one.
const FULL: usize = 128 * 1024;

/// Bytes waiting for the kernel above which the SSH loop itself waits, as on a plain socket. Programs stop at [`FULL`],
/// so only a client that keeps sending requests without reading the replies reaches this.
const JAMMED: usize = 1024 * 1024;

/// A TCP stream whose writes succeed at once. russh does not read while a write waits, so on a plain socket a Ctrl-C
/// would not be seen until its sender reads. Here the rest of a write waits in a buffer, which every poll for reading
/// drains, and producers wait in [`WireControl::drained`].
pub(super) struct Wire {
    tcp: TcpStream,
    backlog: BytesMut,
    control: WireControl,
}

/// The control over a [`Wire`] that russh owns.
#[derive(Clone, Default)]
pub(super) struct WireControl(Arc<Shared>);

#[derive(Default)]
struct Shared {
    cut: AtomicBool,
    backlog: AtomicUsize,
    drained: Notify,
    owner: AtomicWaker,
}

impl WireControl {
    /// Closes the socket without an SSH goodbye. Idempotent.
    pub(super) fn cut(&self) {
        self.0.cut.store(true, Ordering::Release);
        self.0.owner.wake();
    }

    /// Resolves once few bytes wait for the kernel.
    pub(super) async fn drained(&self) {
        while self.0.backlog.load(Ordering::Acquire) >= FULL {
            let drained = self.0.drained.notified();
            // `notified` counts a `notify_waiters` from here on, so one between the two loads is not lost.
            if self.0.backlog.load(Ordering::Acquire) >= FULL {
                drained.await;
            }
        }
    }

    fn check(&self, cx: &mut Context<'_>) -> io::Result<()> {
        self.0.owner.register(cx.waker());
        if self.0.cut.load(Ordering::Acquire) { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    fn set_backlog(&self, bytes: usize) {
        let before = self.0.backlog.swap(bytes, Ordering::AcqRel);
        if before >= FULL && bytes < FULL {
            self.0.drained.notify_waiters();
        }
    }
}

impl Wire {
    /// Wraps a connected socket.
    pub(super) fn new(tcp: TcpStream) -> (Self, WireControl) {
        let control = WireControl::default();
        (Self { tcp, backlog: BytesMut::new(), control: control.clone() }, control)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.backlog.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.backlog.is_empty() {
            let sent = ready!(Pin::new(&mut self.tcp).poll_write(cx, &self.backlog))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.backlog.advance(sent);
            self.control.set_backlog(self.backlog.len());
        }
        // An idle connection keeps no buffer.
        self.backlog = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.control.check(cx)?;
        if let Poll::Ready(Err(error)) = self.poll_drain(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.control.check(cx)?;
        let mut rest = buf;
        if self.poll_drain(cx)?.is_ready() {
            if let Poll::Ready(sent) = Pin::new(&mut self.tcp).poll_write(cx, buf)? {
                rest = buf.get(sent..).unwrap_or_default();
            }
        } else if self.backlog.len() >= JAMMED {
            return Poll::Pending;
        }
        if !rest.is_empty() {
            self.backlog.extend_from_slice(rest);
            self.control.set_backlog(self.backlog.len());
        }
        Poll::Ready(Ok(buf.len()))
    }

    /// Does not wait: every poll for reading continues the drain.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.control.check(cx)?;
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn connected() -> (Wire, WireControl, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        let (wire, control) = Wire::new(tcp);
        (wire, control, peer)
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_heard_and_gets_every_byte_later() {
        let (mut wire, control, mut peer) = connected().await;
        let mut sent = Vec::new();
        while control.0.backlog.load(Ordering::Acquire) < FULL {
            let piece: Vec<u8> = (0..50_000_u32).map(|nth| (nth % 251) as u8).collect();
            wire.write_all(&piece).await.unwrap();
            sent.extend(piece);
        }
        assert!(futures_util::FutureExt::now_or_never(control.drained()).is_none());
        peer.write_all(&[3]).await.unwrap();
        assert_eq!(wire.read_u8().await.unwrap(), 3);

        let mut heard = vec![0; sent.len()];
        let reading = async {
            peer.read_exact(&mut heard).await.unwrap();
            peer.write_all(&[4]).await.unwrap();
        };
        let (_, mark, ()) = tokio::join!(reading, wire.read_u8(), control.drained());
        assert_eq!(mark.unwrap(), 4);
        assert!(heard == sent);
    }

    #[tokio::test]
    async fn a_jammed_wire_makes_the_writer_wait() {
        let (mut wire, control, _peer) = connected().await;
        let piece = vec![0; 64 * 1024];
        while let Some(written) = futures_util::FutureExt::now_or_never(wire.write_all(&piece)) {
            written.unwrap();
            // The kernel may take some bytes in the background; the buffer holds the rest.
            assert!(control.0.backlog.load(Ordering::Acquire) <= JAMMED + piece.len());
        }
    }

    #[tokio::test]
    async fn a_cut_wakes_the_reader_and_closes() {
        let (mut wire, control, mut peer) = connected().await;
        let (heard, ()) = tokio::join!(wire.read_u8(), async { control.cut() });
        assert_eq!(heard.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        drop(wire);
        assert_eq!(peer.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
