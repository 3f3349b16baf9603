//! A proxy between gateway and target that passes every byte on and counts it, which shows when a keystroke really left
//! and whether bytes come when none should. Does not interpret the bytes, which are encrypted.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// Size of one read, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// A proxy; it lives as long as the program.
pub struct Tap {
    /// The address at which the gateway finds the target.
    pub addr: SocketAddr,
    up: watch::Receiver<u64>,
    down: Arc<AtomicU64>,
}

impl Tap {
    /// Listens and passes every connection on to `target`.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let (counted, up) = watch::channel(0);
        let (counted, down) = (Arc::new(counted), Arc::new(AtomicU64::new(0)));
        let tap = Self { addr, up, down: down.clone() };
        actix_rt::spawn(async move {
            while let Ok((gateway, _)) = listener.accept().await {
                let (counted, down) = (counted.clone(), down.clone());
                actix_rt::spawn(async move {
                    let passing = pass_connection(gateway, target, counted, down).await;
                    // A test of the other side normally ends in a broken connection.
                    passing.ok();
                });
            }
        });
        Ok(tap)
    }

    /// Returns the number of bytes from the target so far.
    pub fn bytes_from_target(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }

    /// Returns a future that is ready once more bytes have gone to the target than until now.
    pub fn next_to_target(&self) -> impl Future<Output = Result<()>> + use<> {
        let mut up = self.up.clone();
        up.mark_unchanged();
        async move { Ok(up.changed().await?) }
    }
}

async fn pass_connection(
    gateway: TcpStream,
    target: SocketAddr,
    counted: Arc<watch::Sender<u64>>,
    down: Arc<AtomicU64>,
) -> io::Result<()> {
    let target = TcpStream::connect(target).await?;
    gateway.set_nodelay(true)?;
    target.set_nodelay(true)?;
    let ((from_gateway, to_gateway), (from_target, to_target)) = (gateway.into_split(), target.into_split());
    let up = pass(from_gateway, to_target, move |count| counted.send_modify(|sum| *sum += count));
    let down = pass(from_target, to_gateway, move |count| {
        down.fetch_add(count, Ordering::Relaxed);
    });
    tokio::try_join!(up, down).map(|_| ())
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, count: impl Fn(u64)) -> io::Result<()> {
    let mut piece = Vec::with_capacity(CHUNK_BYTES);
    while from.read_buf(&mut piece).await? > 0 {
        to.write_all(&piece).await?;
        count(piece.len() as u64);
        piece.clear();
    }
    to.shutdown().await
}
