//! WebSocket frames (RFC 6455 §5) as bytes, valid and invalid. Knows no connection except the one it reads from.

use std::io::{self, Read};

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0x5a, 0x00, 0xff, 0x13];

/// Returns a frame as a browser sends it.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    build(FIN | opcode, payload, true)
}

/// Returns a frame that another one continues.
pub fn unfinished(opcode: u8, payload: &[u8]) -> Vec<u8> {
    build(opcode, payload, true)
}

/// Returns a frame that no browser may send.
pub fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    build(FIN | opcode, payload, false)
}

fn build(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mark = if masked { MASKED } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(mark | short as u8),
        middle @ 126..0x1_0000 => {
            bytes.push(mark | 126);
            bytes.extend((middle as u16).to_be_bytes());
        }
        long => {
            bytes.push(mark | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    if masked {
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        bytes.extend(payload);
    }
    bytes
}

/// Reads one frame of a server, which neither masks nor splits: its opcode and payload.
pub fn read(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    assert!(head[0] & FIN != 0 && head[1] & MASKED == 0, "a server's frame is whole and bare: {head:?}");
    let length = match head[1] {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            u64::from(u16::from_be_bytes(length))
        }
        127 => {
            let mut length = [0; 8];
            stream.read_exact(&mut length)?;
            u64::from_be_bytes(length)
        }
        short => u64::from(short),
    };
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload)?;
    Ok((head[0] & 0x0f, payload))
}
