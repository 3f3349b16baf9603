//! The minimal process that holds terminals: `count` bare SSH clients, each with a plain TCP connection in place of a
//! browser's. It sends pings to both ends as often as a gateway does, but draws no conclusion. Knows nothing of
//! Pulsegate.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{
    StreamExt, TryStreamExt,
    future::{select_all, try_join_all},
    stream,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, interval_at},
};

use crate::{
    bare::Bare,
    process::{Kept, Process},
    shell::Shell,
};

/// Interval between two pings to each end: a gateway's default.
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// Concurrent dials while the shells are opened.
const AT_ONCE: usize = 64;

/// Stand-ins with the length of an empty WebSocket ping and of its masked answer (RFC 6455 §5.2).
const PING: [u8; 2] = [0x89, 0];
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

/// A running holder and the far ends of its connections; dropping it stops it.
pub struct Holder {
    kept: Kept,
    pages: Vec<TcpStream>,
}

impl Holder {
    /// Starts a holder with `count` shells of `target`.
    pub async fn start(target: SocketAddr, count: usize) -> Result<Self> {
        let (kept, addr) = Kept::start_own_server(&["holder", &target.to_string(), &count.to_string()])?;
        let pages = stream::iter(0..count).map(|_| TcpStream::connect(addr)).buffer_unordered(AT_ONCE);
        Ok(Self { kept, pages: pages.try_collect().await? })
    }

    /// Returns its process.
    pub fn process(&self) -> Process {
        self.kept.process()
    }

    /// Answers its pings until it disconnects.
    pub async fn answer(&mut self) -> Result<Infallible> {
        try_join_all(self.pages.iter_mut().map(answer)).await?;
        bail!("there is nothing to answer")
    }
}

async fn answer(page: &mut TcpStream) -> Result<Infallible> {
    let mut ping = PING;
    loop {
        page.read_exact(&mut ping).await.context("the holder has hung up")?;
        page.write_all(&PONG).await?;
    }
}

/// Runs in the holder's process: opens the shells, prints the listen address, and holds a connection beside each shell
/// until one ends.
pub async fn serve(target: SocketAddr, count: usize) -> Result<Infallible> {
    let shells = stream::iter(0..count).map(|_| Bare::open_kept_alive(target, Some(ALIVE_EVERY)));
    let shells: Vec<_> = shells.buffer_unordered(AT_ONCE).try_collect().await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    let mut held = Vec::with_capacity(count);
    for shell in shells {
        let (page, _) = listener.accept().await?;
        held.push(actix_rt::spawn(hold(shell, page)));
    }
    let (ended, ..) = select_all(held).await;
    ended?
}

/// Holds one shell and its page.
async fn hold(mut shell: Bare, mut page: TcpStream) -> Result<Infallible> {
    page.set_nodelay(true)?;
    let (mut reader, mut writer) = page.split();
    let mut pings = interval_at(Instant::now() + ALIVE_EVERY, ALIVE_EVERY);
    let mut answer = [0; 64];
    loop {
        tokio::select! {
            _ = pings.tick() => writer.write_all(&PING).await?,
            read = reader.read(&mut answer) => ensure!(read? > 0, "a page has hung up"),
            heard = shell.hear() => writer.write_all(&heard?).await?,
        }
    }
}
