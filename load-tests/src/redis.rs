//! A private Redis server on loopback that keeps nothing on disk. Knows nothing of its contents.

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

/// Timeout of the server's start.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Polling interval of the server's start.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A server; dropping it ends it.
pub struct Redis {
    child: Child,
    addr: SocketAddr,
    folder: TempDir,
}

impl Redis {
    /// Starts a server; `None` if Redis is not installed.
    pub async fn start() -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        // The port was free a moment ago: if another process takes it, the server exits with an error.
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

    /// Kills it as a crash does (SIGKILL).
    pub fn kill(&mut self) {
        // Either fails only if the process has already ended.
        self.child.kill().and_then(|()| self.child.wait()).ok();
    }

    /// Restarts the [killed](Self::kill) server on the same port, without its data.
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
            ensure!(begun.elapsed() < TIMEOUT, "redis-server is not ready after {TIMEOUT:?}");
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Returns its address as a `store.live` setting of the gateway.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Returns the address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns its process.
    pub fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Sends one inline command and returns the answer.
    pub async fn ask(&self, command: &str) -> Result<String> {
        let mut connection = TcpStream::connect(self.addr).await?;
        // It truncates a long answer if its client has shut down its side, but not after QUIT.
        connection.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        let answer = answer.strip_suffix("+OK\r\n").context("Redis was interrupted")?.to_owned();
        ensure!(!answer.starts_with('-'), "Redis answered {answer}");
        Ok(answer)
    }

    /// Returns the number of commands since the count was reset, without these questions.
    pub async fn commands(&self) -> Result<u64> {
        self.calls(|name| !["info", "quit", "config|resetstat"].contains(&name)).await
    }

    /// Returns the number of commands whose lowercase names are `wanted`; those of scripts are counted one by one.
    pub async fn calls(&self, wanted: impl Fn(&str) -> bool) -> Result<u64> {
        let stats = self.ask("INFO commandstats").await?;
        let counts = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="));
        let wanted = counts.filter(|(name, _)| wanted(name));
        wanted.map(|(_, count)| Ok(count.split(',').next().unwrap_or_default().parse::<u64>()?)).sum()
    }

    /// Resets the count.
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
