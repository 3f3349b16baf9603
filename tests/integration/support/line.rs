//! A proxy between a page and the gateway that breaks at a given byte, in all the ways in which connections break.
//! Knows bytes and the end of an HTTP head, no frame.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::{eventually_nothing_changes, terminal::PATIENCE};

/// The way in which a line breaks.
#[derive(Debug, Clone, Copy)]
pub struct Break {
    /// Bytes after the upgrade that still reach the gateway.
    pub up: usize,
    /// Bytes after the upgrade that still reach the page.
    pub down: usize,
    /// Time until the gateway notices: until then its end is half open, and some of what was sent may still arrive.
    pub gateway_after: Duration,
    /// Time until the page notices.
    pub page_after: Duration,
}

/// Starts a line for one connection; it ends with it. Returns its address.
pub fn line(to: SocketAddr, breaks: Option<Break>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (page, _) = listener.accept().unwrap();
        let gateway = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
        for stream in [&page, &gateway] {
            stream.set_nodelay(true).unwrap();
        }
        let broken = Arc::new(AtomicBool::new(false));
        let ends = Ends { page, gateway, broken, breaks };
        let other = ends.copy();
        let downwards = thread::spawn(move || other.carry(false));
        ends.carry(true);
        downwards.join().unwrap();
    });
    addr
}

struct Ends {
    page: TcpStream,
    gateway: TcpStream,
    broken: Arc<AtomicBool>,
    breaks: Option<Break>,
}

impl Ends {
    fn copy(&self) -> Self {
        let (page, gateway) = (self.page.try_clone().unwrap(), self.gateway.try_clone().unwrap());
        Self { page, gateway, broken: self.broken.clone(), breaks: self.breaks }
    }

    /// Carries bytes in one direction until there are no more, or the line breaks.
    fn carry(&self, up: bool) {
        let (mut from, mut to) = if up { (&self.page, &self.gateway) } else { (&self.gateway, &self.page) };
        let mut left = self.breaks.map(|breaks| if up { breaks.up } else { breaks.down });
        let (mut head, mut buffer) = (Some(Vec::new()), [0; 16 * 1024]);
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(read) => read,
            };
            let mut bytes = &buffer[..read];
            if let Some(mut begun) = head.take() {
                // The upgrade does not count.
                begun.extend_from_slice(bytes);
                match begun.windows(4).position(|end| end == b"\r\n\r\n") {
                    None => head = Some(begun.clone()),
                    Some(at) => {
                        let of_head = (at + 4).saturating_sub(begun.len() - read);
                        to.write_all(&bytes[..of_head]).ok();
                        bytes = &bytes[of_head..];
                    }
                }
                if head.is_some() {
                    to.write_all(bytes).ok();
                    continue;
                }
            }
            let passing = left.map_or(bytes.len(), |left| left.min(bytes.len()));
            let is_last = left.is_some_and(|left| left <= bytes.len());
            left = left.map(|left| left - passing);
            // The other side may be closed.
            let gone = !is_last && to.write_all(&bytes[..passing]).is_err();
            if gone {
                break;
            }
            if is_last {
                return self.breaks_at(up, &bytes[..passing]);
            }
        }
        if self.breaks.is_none() || !self.broken.load(Ordering::Relaxed) {
            // When one side has been read to its end, the other is closed too.
            to.shutdown(Shutdown::Both).ok();
        }
    }

    /// Breaks both directions; the last bytes pass at the very last moment.
    fn breaks_at(&self, up: bool, last: &[u8]) {
        let Some(breaks) = self.breaks.filter(|_| !self.broken.swap(true, Ordering::Relaxed)) else { return };
        let sides = [(true, &self.gateway, breaks.gateway_after), (false, &self.page, breaks.page_after)];
        thread::scope(|scope| {
            for (is_gateway, mut side, after) in sides {
                scope.spawn(move || {
                    eventually_nothing_changes(after, || true);
                    if up == is_gateway {
                        side.write_all(last).ok();
                    }
                    side.shutdown(Shutdown::Both).ok();
                });
            }
        });
    }
}
