//! A hand-written SSH server (RFC 4253, 4252, 4254), just complete enough that a target can misbehave after the key
//! exchange. Checks nothing and accepts every login.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral},
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};

/// The identification line.
pub const VERSION: &[u8] = b"SSH-2.0-hostile\r\n";

/// Returns a packet of the phase before the keys (RFC 4253 §6).
pub fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 4 + (8 - (payload.len() + 5 + 4) % 8) % 8;
    let mut packet = u32::try_from(payload.len() + 1 + padding).unwrap().to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).unwrap());
    packet.extend(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

/// Returns a KEXINIT (RFC 4253 §7.1) with these algorithms for the key exchange, the host key, the cipher and the MAC.
pub fn kexinit(kex: &str, key: &str, cipher: &str, mac: &str) -> Vec<u8> {
    let mut payload = vec![20];
    payload.extend([7; 16]);
    for list in [kex, key, cipher, cipher, mac, mac, "none", "none", "", ""] {
        payload.extend(string(list));
    }
    payload.extend([0; 5]);
    payload
}

/// Returns the algorithms that a current server offers.
pub fn modern() -> Vec<u8> {
    kexinit("curve25519-sha256", "ssh-ed25519", "aes256-gcm@openssh.com", "hmac-sha2-256")
}

/// Returns bytes with their length before them.
pub fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// Returns a non-negative number in its shortest form.
fn mpint(bytes: &[u8]) -> Vec<u8> {
    let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    let sign: &[u8] = if bytes.first().is_some_and(|first| *first >= 0x80) { &[0] } else { &[] };
    string([sign, bytes].concat())
}

fn number(stream: &mut impl Read) -> io::Result<usize> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes) as usize)
}

fn plain(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; number(stream)?];
    stream.read_exact(&mut packet)?;
    let end = packet.len() - usize::from(packet[0]);
    Ok(packet[1..end].to_vec())
}

/// The cipher of one direction (RFC 5647).
struct Half {
    key: LessSafeKey,
    nonce: [u8; 12],
}

impl Half {
    /// Returns the nonce of the next packet.
    fn next(&mut self) -> Nonce {
        let now = self.nonce;
        let count = u64::from_be_bytes(now[4..].try_into().unwrap()).wrapping_add(1);
        self.nonce[4..].copy_from_slice(&count.to_be_bytes());
        Nonce::assume_unique_for_key(now)
    }
}

/// A connection after the key exchange.
pub struct ByHand {
    stream: TcpStream,
    sends: Half,
    hears: Half,
}

impl ByHand {
    /// Exchanges keys with the client.
    pub fn exchange(mut stream: TcpStream) -> io::Result<Self> {
        stream.write_all(VERSION)?;
        let mut theirs = Vec::new();
        while !theirs.ends_with(b"\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            theirs.push(byte[0]);
        }
        let ours = modern();
        stream.write_all(&packet(&ours))?;
        let their_offer = plain(&mut stream)?;
        let question = plain(&mut stream)?;
        let their_half = &question[5..37];
        let chance = SystemRandom::new();
        let secret = EphemeralPrivateKey::generate(&X25519, &chance).unwrap();
        let our_half = secret.compute_public_key().unwrap();
        let host_key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let public = [string("ssh-ed25519"), string(host_key.public_key())].concat();
        let theirs = theirs.trim_ascii_end();
        let shared = agree_ephemeral(secret, &UnparsedPublicKey::new(&X25519, their_half), mpint).unwrap();
        let ours_and_theirs = [theirs, VERSION.trim_ascii_end(), &their_offer[..], &ours[..]];
        let all = [&ours_and_theirs[..], &[&public[..], their_half, our_half.as_ref()]].concat();
        let all: Vec<u8> = all.into_iter().flat_map(string).chain(shared.iter().copied()).collect();
        let id = digest(&SHA256, &all);
        let signature = [string("ssh-ed25519"), string(host_key.sign(id.as_ref()))].concat();
        stream.write_all(&packet(&[vec![31], string(public), string(our_half), string(signature)].concat()))?;
        stream.write_all(&packet(&[21]))?;
        plain(&mut stream)?;
        let derive = |letter: u8| digest(&SHA256, &[&shared[..], id.as_ref(), &[letter], id.as_ref()].concat());
        let half = |nonce: u8, key: u8| Half {
            key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, derive(key).as_ref()).unwrap()),
            nonce: derive(nonce).as_ref()[..12].try_into().unwrap(),
        };
        Ok(Self { stream, sends: half(b'B', b'D'), hears: half(b'A', b'C') })
    }

    /// Receives the next message.
    pub fn hears(&mut self) -> io::Result<Vec<u8>> {
        let length = number(&mut self.stream)?;
        let mut sealed = vec![0; length + 16];
        self.stream.read_exact(&mut sealed)?;
        let said = Aad::from(u32::try_from(length).unwrap().to_be_bytes());
        let nonce = self.hears.next();
        let packet = self.hears.key.open_in_place(nonce, said, &mut sealed).map_err(|_| io::ErrorKind::InvalidData)?;
        let end = packet.len() - usize::from(packet[0]);
        Ok(packet[1..end].to_vec())
    }

    /// Sends a message.
    pub fn says(&mut self, payload: &[u8]) -> io::Result<()> {
        let padding = 4 + (16 - (payload.len() + 1 + 4) % 16) % 16;
        let mut packet = vec![u8::try_from(padding).unwrap()];
        packet.extend(payload);
        packet.resize(packet.len() + padding, 0);
        let length = u32::try_from(packet.len()).unwrap().to_be_bytes();
        let nonce = self.sends.next();
        let tag = self.sends.key.seal_in_place_separate_tag(nonce, Aad::from(length), &mut packet).unwrap();
        self.writes(&[&length[..], &packet, tag.as_ref()].concat())
    }

    /// Sends raw bytes that are no packet.
    pub fn writes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Waits for a login request.
    pub fn is_asked(&mut self) -> io::Result<()> {
        loop {
            match self.hears()?.first() {
                Some(5) => self.says(&[vec![6], string("ssh-userauth")].concat())?,
                Some(50) => return Ok(()),
                _ => {}
            }
        }
    }

    /// Accepts the login.
    pub fn lets_in(&mut self) -> io::Result<()> {
        self.is_asked()?;
        self.says(&[52])
    }

    /// Opens the requested channel, with this window and this maximum packet size, and a shell in it. Returns the other
    /// side's channel number.
    pub fn opens(&mut self, window: u32, largest: u32) -> io::Result<[u8; 4]> {
        let mut channel = [0; 4];
        loop {
            let said = self.hears()?;
            match said.first() {
                Some(90) => {
                    let kind = 5 + u32::from_be_bytes(said[1..5].try_into().unwrap()) as usize;
                    channel.copy_from_slice(&said[kind..kind + 4]);
                    let sizes = [window.to_be_bytes(), largest.to_be_bytes()].concat();
                    self.says(&[&[91], &channel[..], &[0; 4], &sizes].concat())?;
                }
                Some(98) => {
                    let end = 9 + u32::from_be_bytes(said[5..9].try_into().unwrap()) as usize;
                    if said[end] != 0 {
                        self.says(&[&[99], &channel[..]].concat())?;
                    }
                    if &said[9..end] == b"shell" {
                        return Ok(channel);
                    }
                }
                _ => {}
            }
        }
    }

    /// Receives messages until the other side disconnects.
    pub fn listens(mut self) {
        while self.hears().is_ok() {}
    }
}
