//! A minimal, cheap WebSocket client (RFC 6455) for measurements: text, binary, ping, close; no fragments, which the
//! gateway does not send. Knows no terminal.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Size of one read, in bytes.
const READ: usize = 64 * 1024;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const PONG: u8 = 10;

/// Maximum accepted frame, in bytes.
const MAX_FRAME: u64 = 1024 * 1024;

/// A frame of the other side.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A text frame.
    Text(Bytes),
    /// A binary frame.
    Binary(Bytes),
    /// A ping, to be answered with [`WebSocket::pong`].
    Ping(Bytes),
    /// A close frame, with its code if there is one.
    Close(Option<u16>),
}

/// A connection.
pub struct WebSocket {
    tcp: TcpStream,
    /// Bytes read but not yet parsed.
    buffer: BytesMut,
    outgoing: Vec<u8>,
}

impl WebSocket {
    /// Connects to `path`, with more header lines of the request, each with its line end.
    pub async fn open(addr: SocketAddr, path: &str, head: &str) -> Result<Self> {
        let mut tcp = TcpStream::connect(addr).await?;
        // As browsers do.
        tcp.set_nodelay(true)?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{head}\r\n"
        );
        tcp.write_all(request.as_bytes()).await?;
        let mut socket = Self { tcp, buffer: BytesMut::new(), outgoing: Vec::new() };
        let end = b"\r\n\r\n";
        let length = loop {
            if let Some(place) = socket.buffer.windows(end.len()).position(|window| window == end) {
                break place + end.len();
            }
            socket.read_more().await?;
        };
        let head = socket.buffer.split_to(length);
        let head = String::from_utf8_lossy(&head);
        ensure!(head.starts_with("HTTP/1.1 101 "), "the gateway refused: {head}");
        Ok(socket)
    }

    /// Sends a text frame.
    pub async fn text(&mut self, text: &str) -> Result<()> {
        self.send(TEXT, text.as_bytes()).await
    }

    /// Sends a binary frame.
    pub async fn binary(&mut self, bytes: &[u8]) -> Result<()> {
        self.send(BINARY, bytes).await
    }

    /// Answers a ping.
    pub async fn pong(&mut self, payload: &[u8]) -> Result<()> {
        self.send(PONG, payload).await
    }

    /// Waits for the next frame. Cancel-safe.
    pub async fn next(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = take_frame(&mut self.buffer)? {
                return Ok(frame);
            }
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> Result<()> {
        self.buffer.reserve(READ);
        let count = self.tcp.read_buf(&mut self.buffer).await.context("the gateway's socket broke")?;
        ensure!(count > 0, "the gateway closed the socket without a word");
        Ok(())
    }

    async fn send(&mut self, opcode: u8, payload: &[u8]) -> Result<()> {
        self.outgoing.clear();
        put_frame(&mut self.outgoing, opcode, payload);
        Ok(self.tcp.write_all(&self.outgoing).await?)
    }
}

/// Appends a client's frame. It is masked with zeros, which the format allows and costs nothing.
fn put_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.put_u8(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ ..=125), _) => out.put_u8(0x80 | short),
        (_, Ok(long)) => {
            out.put_u8(0x80 | 126);
            out.put_u16(long);
        }
        _ => {
            out.put_u8(0x80 | 127);
            out.put_u64(payload.len() as u64);
        }
    }
    out.put_u32(0);
    out.extend_from_slice(payload);
}

/// Removes a server's frame from the buffer, once it is complete.
fn take_frame(buffer: &mut BytesMut) -> Result<Option<Frame>> {
    let mut head = &buffer[..];
    let (Ok(first), Ok(short)) = (head.try_get_u8(), head.try_get_u8()) else { return Ok(None) };
    let length = match short {
        ..=125 => Ok(u64::from(short)),
        126 => head.try_get_u16().map(u64::from),
        127 => head.try_get_u64(),
        _ => bail!("the gateway masks its frames"),
    };
    let Ok(length) = length else { return Ok(None) };
    ensure!(length <= MAX_FRAME, "a frame of {length} bytes");
    let length = length as usize;
    if head.len() < length {
        return Ok(None);
    }
    buffer.advance(buffer.len() - head.len());
    let payload = buffer.split_to(length).freeze();
    Ok(Some(match first {
        0x81 => Frame::Text(payload),
        0x82 => Frame::Binary(payload),
        0x88 => Frame::Close((&payload[..]).try_get_u16().ok()),
        0x89 => Frame::Ping(payload),
        _ => bail!("a frame that begins with {first:#x}"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_are_taken_once_whole() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![7; length];
            let mut sent = Vec::new();
            put_frame(&mut sent, BINARY, &payload);
            // A server's frame is a client's without the mask.
            let head = sent.len() - length;
            sent[1] &= 0x7f;
            sent.drain(head - 4..head);
            let mut buffer = BytesMut::from(&sent[..sent.len() - 1]);
            assert_eq!(take_frame(&mut buffer).unwrap(), None, "{length}");
            buffer.put_u8(*sent.last().unwrap());
            buffer.put_slice(&[0x88, 2, 0x11, 0x39]);
            assert_eq!(take_frame(&mut buffer).unwrap(), Some(Frame::Binary(payload.into())), "{length}");
            assert_eq!(take_frame(&mut buffer).unwrap(), Some(Frame::Close(Some(4409))));
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [&[0x82, 0x81][..], &[0x02, 0], &[0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0]] {
            assert!(take_frame(&mut BytesMut::from(bytes)).is_err(), "{bytes:?}");
        }
    }
}
