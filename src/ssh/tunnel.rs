//! A connection inside a jump host's connection: a channel as a stream that goes on reading while a write waits. Knows
//! no host and no login.
//!
//! The jump host's russh passes on a channel's packets one by one and does nothing else meanwhile. If they were not
//! read while a write waits, the window adjustment that makes room for that write could never arrive, and both
//! connections would deadlock.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Bytes read at once: one SSH packet.
const CHUNK: usize = 32 * 1024;

/// Maximum bytes read ahead while a write waits: more than a server's and two kernels' buffers hold before the server
/// makes room.
const AHEAD: usize = 8 * 1024 * 1024;

/// The stream over a channel.
pub(super) struct Tunnel<S> {
    channel: S,
    /// Bytes that were read while a write waited.
    ahead: BytesMut,
}

impl<S: AsyncRead + Unpin> Tunnel<S> {
    /// Returns a stream over `channel`.
    pub(super) fn new(channel: S) -> Self {
        Self { channel, ahead: BytesMut::new() }
    }

    /// Reads the bytes that have arrived, so that the jump host's loop can go on.
    fn read_ahead(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.ahead.len() < AHEAD {
            self.ahead.reserve(CHUNK);
            match pin!(self.channel.read_buf(&mut self.ahead)).poll(cx)? {
                Poll::Ready(0) => return Err(io::ErrorKind::BrokenPipe.into()),
                Poll::Ready(_) => {}
                Poll::Pending => return Ok(()),
            }
        }
        Err(io::Error::other("the jump host sends without end and takes nothing"))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tunnel<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.channel).poll_read(cx, buf);
        }
        let count = buf.remaining().min(self.ahead.len());
        buf.put_slice(&self.ahead.split_to(count));
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.channel).poll_write(cx, buf) {
            Poll::Pending => {
                self.read_ahead(cx)?;
                Poll::Pending
            }
            written => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.channel).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.channel).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::{io::AsyncWriteExt, time::timeout};

    use super::*;

    /// Longer than any step takes on a busy machine.
    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn what_comes_is_taken_while_a_write_waits_and_read_in_its_order() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut tunnel = Tunnel::new(near);
        let mut write = Box::pin(async {
            tunnel.write_all(b"12345678").await.unwrap();
            tunnel
        });
        assert!((&mut write).now_or_never().is_none());
        // More than the buffer holds: a far end that is not read could never send it.
        for word in ["one ", "two ", "thre"] {
            far.write_all(word.as_bytes()).now_or_never().expect("it is taken").unwrap();
            assert!((&mut write).now_or_never().is_none());
        }
        let mut taken = [0; 8];
        let (tunnel, read) = tokio::join!(write, far.read_exact(&mut taken));
        assert_eq!((read.unwrap(), &taken), (8, b"12345678"));
        let mut tunnel = tunnel;
        far.write_all(b"e").await.unwrap();
        drop(far);
        let mut heard = String::new();
        tunnel.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "one two three");
    }

    #[tokio::test]
    async fn a_far_end_that_is_gone_or_sends_without_end_fails_the_write() {
        let (near, far) = tokio::io::duplex(CHUNK);
        let mut tunnel = Tunnel::new(near);
        tunnel.write_all(&[0; CHUNK]).await.unwrap();
        let write = async { timeout(LIMIT, tunnel.write_all(&[0; 4])).await.expect("it ends").unwrap_err().kind() };
        let flood = async move {
            let (_unread, mut says) = tokio::io::split(far);
            while says.write_all(&[7; CHUNK]).await.is_ok() {}
        };
        tokio::select! {
            kind = write => assert_eq!(kind, io::ErrorKind::Other),
            () = flood => panic!("nobody hung up"),
        }
        assert!((AHEAD..AHEAD + 2 * CHUNK).contains(&tunnel.ahead.len()));

        let (near, far) = tokio::io::duplex(4);
        let mut tunnel = Tunnel::new(near);
        tunnel.write_all(b"full").await.unwrap();
        drop(far);
        let write = timeout(LIMIT, tunnel.write_all(b"more")).await.expect("the write ends");
        assert_eq!(write.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
