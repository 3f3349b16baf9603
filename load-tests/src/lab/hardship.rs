//! Injected slowness: a proxy to a server that delays each answer, and threads that keep every core busy. Knows no
//! gateway.

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

/// Passes on the bytes of one direction, delayed by the dice if given; bytes that come during a delay go with the next.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    traffic: &watch::Receiver<Traffic>,
    mut answers: Option<Dice>,
) -> io::Result<()> {
    let mut piece = Vec::with_capacity(CHUNK_BYTES);
    while from.read_buf(&mut piece).await? > 0 {
        let now = *traffic.borrow();
        match (now, &mut answers) {
            (Traffic::Slow, Some(dice)) => sleep(dice.millis(SLOW)).await,
            (Traffic::Slow | Traffic::Flows, _) => {}
        }
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
    async fn a_url_leads_along_the_road() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = server.local_addr().unwrap();
        let road = Road::start(to).unwrap();
        assert_eq!(road.url(&format!("mysql://root@{to}/records")), format!("mysql://root@{}/records", road.addr));
    }
}
