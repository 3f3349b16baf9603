//! Injected hardship: a proxy to a server that delays each answer or passes nothing on, and threads that keep every core
//! busy. Knows no gateway.

use std::{
    hint, io,
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use actix_rt::Arbiter;
use anyhow::Result;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};

use crate::dice::Dice;

/// Delay of an answer through a slow proxy, in milliseconds: a busy server on another continent.
const SLOW: Range<u64> = 200..501;

/// Size of one read, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// Time after which the threads end by themselves.
const AT_MOST: Duration = Duration::from_secs(60);

/// The mode of a proxy.
#[derive(Clone, Copy)]
pub enum Traffic {
    /// Bytes are passed on at once.
    Flows,
    /// Answers are delayed.
    Slow,
    /// Nothing passes in either direction. What was sent meanwhile is passed on afterwards, as TCP does it with the
    /// packets that a network dropped; but a connection can still be made.
    Cut,
    /// The same for answers alone: questions pass.
    Unheard,
}

impl Traffic {
    /// Whether the bytes of a direction pass.
    fn passes(self, is_answer: bool) -> bool {
        match self {
            Self::Flows | Self::Slow => true,
            Self::Cut => false,
            Self::Unheard => !is_answer,
        }
    }
}

/// A proxy to a server, on a thread of its own, because a caller that blocks until a gateway has started could not
/// carry its bytes. It lives as long as the program.
pub struct Road {
    to: SocketAddr,
    addr: SocketAddr,
    traffic: watch::Sender<Traffic>,
}

impl Road {
    /// Listens and passes every connection on to the server.
    pub fn start(to: SocketAddr) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let (traffic, now) = watch::channel(Traffic::Flows);
        Arbiter::new().spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            let mut dice = Dice::new(u64::from(to.port()));
            while let Ok((client, _)) = listener.accept().await {
                let (now, dice) = (now.clone(), dice.split());
                actix_rt::spawn(async move {
                    // A side that disconnects ends both directions.
                    carry(client, to, &now, dice).await.ok();
                });
            }
        });
        Ok(Self { to, addr, traffic })
    }

    /// Returns the server's URL through this proxy.
    pub fn url(&self, direct: &str) -> String {
        direct.replace(&self.to.to_string(), &self.addr.to_string())
    }

    /// Changes the mode.
    pub fn set(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }
}

async fn carry(
    mut client: TcpStream,
    to: SocketAddr,
    traffic: &watch::Receiver<Traffic>,
    dice: Dice,
) -> io::Result<()> {
    let mut server = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((asks, hears), (answers, asked)) = (client.split(), server.split());
    tokio::try_join!(pass(asks, asked, traffic, None), pass(answers, hears, traffic, Some(dice))).map(|_| ())
}

/// Passes on the bytes of one direction; answers come with dice, which delay them. Bytes that come during a delay go with
/// the next.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    traffic: &watch::Receiver<Traffic>,
    mut answers: Option<Dice>,
) -> io::Result<()> {
    let mut piece = Vec::with_capacity(CHUNK_BYTES);
    while from.read_buf(&mut piece).await? > 0 {
        let now = *traffic.borrow();
        if let (Traffic::Slow, Some(dice)) = (now, &mut answers) {
            sleep(dice.millis(SLOW)).await;
        }
        let is_answer = answers.is_some();
        // An error means that the program ends.
        traffic.clone().wait_for(|now| now.passes(is_answer)).await.map_err(io::Error::other)?;
        to.write_all(&piece).await?;
        piece.clear();
    }
    to.shutdown().await
}

/// Busy threads, one per core; dropping it ends them.
pub struct Spin {
    enough: Arc<AtomicBool>,
}

impl Spin {
    /// Starts the threads.
    pub fn start() -> Self {
        let (enough, until) = (Arc::new(AtomicBool::new(false)), Instant::now() + AT_MOST);
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            let enough = enough.clone();
            thread::spawn(move || {
                while !enough.load(Ordering::Relaxed) && Instant::now() < until {
                    hint::spin_loop();
                }
            });
        }
        Self { enough }
    }
}

impl Drop for Spin {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[actix_rt::test]
    async fn an_answer_takes_its_time_on_a_slow_road() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let road = Road::start(server.local_addr().unwrap()).unwrap();
        let mut client = TcpStream::connect(road.addr).await.unwrap();
        let (mut server, _) = server.accept().await.unwrap();
        client.write_all(b"a question").await.unwrap();
        let mut asked = [0; 10];
        server.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"a question");
        road.set(Traffic::Slow);
        let begun = Instant::now();
        server.write_all(b"an answer").await.unwrap();
        let mut heard = [0; 9];
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"an answer");
        assert!(begun.elapsed() >= Duration::from_millis(SLOW.start));
    }

    #[actix_rt::test]
    async fn a_cut_road_passes_nothing_and_loses_nothing() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let road = Road::start(server.local_addr().unwrap()).unwrap();
        let mut client = TcpStream::connect(road.addr).await.unwrap();
        let (mut server, _) = server.accept().await.unwrap();
        for (traffic, asks) in [(Traffic::Cut, false), (Traffic::Unheard, true)] {
            road.set(traffic);
            client.write_all(b"?").await.unwrap();
            server.write_all(b"!").await.unwrap();
            let (mut asked, mut heard) = ([0; 1], [0; 1]);
            let silence = Duration::from_millis(100);
            let answer = timeout(silence, client.read_exact(&mut heard)).await;
            assert!(answer.is_err(), "no answer passes");
            assert_eq!(timeout(silence, server.read_exact(&mut asked)).await.is_ok(), asks);
            road.set(Traffic::Flows);
            client.read_exact(&mut heard).await.unwrap();
            if !asks {
                server.read_exact(&mut asked).await.unwrap();
            }
            assert_eq!((&asked, &heard), (b"?", b"!"));
        }
    }

    #[actix_rt::test]
    async fn a_url_leads_along_the_road() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = server.local_addr().unwrap();
        let road = Road::start(to).unwrap();
        assert_eq!(road.url(&format!("mysql://root@{to}/records")), format!("mysql://root@{}/records", road.addr));
    }
}
