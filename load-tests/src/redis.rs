//! A Redis server of our own, on loopback, that keeps nothing on disk. Knows nothing of what is kept in it.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use crate::{mariadb::free_port, process::Process};

/// How long the server may take to be ready.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks whether it is.
const LOOK: Duration = Duration::from_millis(10);

/// A server; dropping it ends it.
pub struct Redis {
    child: Child,
    addr: SocketAddr,
    folder: TempDir,
}

impl Redis {
    /// Starts one; `None` if it is not installed.
    pub async fn start() -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        // Free a moment ago: if somebody else takes it, the server ends and says so.
        let port = free_port().map_err(|why| anyhow!(why))?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let child = match spawn(addr, &folder) {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("redis-server cannot be started"),
        };
        let mut redis = Self { child, addr, folder };
        redis.ready().await?;
        Ok(Some(redis))
    }

    /// Ends it as a crash does (SIGKILL).
    pub fn kill(&mut self) {
        // Either fails only if it has ended already.
        self.child.kill().and_then(|()| self.child.wait()).ok();
    }

    /// Starts the one that was [killed](Self::kill) again, on the same port; it has forgotten everything.
    pub async fn start_again(&mut self) -> Result<()> {
        self.child = spawn(self.addr, &self.folder)?;
        self.ready().await
    }

    async fn ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        while self.ask("PING").await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("redis-server ended with {status}");
            }
            ensure!(begun.elapsed() < PATIENCE, "redis-server is not ready after {PATIENCE:?}");
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Its address as a store of the gateway.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process.
    pub fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Sends one command as a person would type it, and returns the answer.
    pub async fn ask(&self, command: &str) -> Result<String> {
        let mut connection = TcpStream::connect(self.addr).await?;
        // It cuts a long answer short if its client is gone for good, but not if that takes its leave.
        connection.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        let answer = answer.strip_suffix("+OK\r\n").context("Redis was interrupted")?.to_owned();
        ensure!(!answer.starts_with('-'), "Redis answered {answer}");
        Ok(answer)
    }

    /// How many commands it has been sent since the count was reset, those of these questions not counted.
    pub async fn commands(&self) -> Result<u64> {
        self.calls(|name| !["info", "quit", "config|resetstat"].contains(&name)).await
    }

    /// How many of those whose lowercase names are `wanted`; those of scripts are counted one by one.
    pub async fn calls(&self, wanted: impl Fn(&str) -> bool) -> Result<u64> {
        let stats = self.ask("INFO commandstats").await?;
        let counts = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="));
        let wanted = counts.filter(|(name, _)| wanted(name));
        wanted.map(|(_, count)| Ok(count.split(',').next().unwrap_or_default().parse::<u64>()?)).sum()
    }

    /// Counts from zero.
    pub async fn reset_commands(&self) -> Result<()> {
        self.ask("CONFIG RESETSTAT").await.map(|_| ())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(addr: SocketAddr, folder: &TempDir) -> std::io::Result<Child> {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning"])
        .args(["--port", &addr.port().to_string()])
        .arg("--dir")
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
}
