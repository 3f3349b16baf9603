//! The SSH server that everything is measured against: the demo target in a process of its own, so that its work is
//! nobody else's. Knows no gateway.

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
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Target {
    /// Starts one on a port of its own.
    pub fn start() -> Result<Self> {
        let (kept, addr) = Kept::start_own_server(&["target"])?;
        Ok(Self { kept, addr })
    }

    /// Ends it as a crash does (SIGKILL), and every connection with it.
    pub fn kill(&mut self) {
        self.kept.kill();
    }

    /// Its process.
    pub fn process(&self) -> Process {
        self.kept.process()
    }
}

/// What that process does: serve, say where, end with its standard input, so that it does not outlive its owner.
pub async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = DemoServer::start(listener, DemoOptions::default())?;
    println!("{}", server.addr());
    actix_rt::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}
