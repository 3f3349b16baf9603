//! The SSH server that all clients are measured against: the demo target in a process of its own, so that its CPU time
//! counts for no client. Knows no gateway.

use std::{
    io::{self, Read},
    net::SocketAddr,
};

use anyhow::Result;
use pulsegate::ssh::demo::{DemoOptions, DemoServer};
use tokio::net::TcpListener;

use crate::process::{Kept, Process};

/// A running server; dropping it stops it.
pub struct Target {
    kept: Kept,
    /// The address it listens on.
    pub addr: SocketAddr,
}

impl Target {
    /// Starts a server on a port of its own.
    pub fn start() -> Result<Self> {
        let (kept, addr) = Kept::start_own_server(&["target"])?;
        Ok(Self { kept, addr })
    }

    /// Kills it as a crash does (SIGKILL), and every connection with it.
    pub fn kill(&mut self) {
        self.kept.kill();
    }

    /// Returns its process.
    pub fn process(&self) -> Process {
        self.kept.process()
    }
}

/// Runs in the server's process: serves, prints its address, and ends with its standard input, so that it does not
/// outlive its owner.
pub async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = DemoServer::start(listener, DemoOptions::default())?;
    println!("{}", server.addr());
    actix_rt::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}
