//! The SSH server that all clients are measured against: the demo target in a process of its own, so that its CPU time
//! counts for no client, or OpenSSH's. Knows no gateway.

use std::{
    io::{self, Read},
    net::SocketAddr,
    path::PathBuf,
};

use anyhow::Result;
use clap::Args;
use pulsegate::ssh::demo::{DemoOptions, DemoServer};
use tokio::net::TcpListener;

use crate::{
    process::{Kept, Process},
    skipped::skip,
    sshd::Sshd,
};

/// The login name of clients whom the playground lets in without a key.
const GUEST: &str = "guest";

/// Where a client connects, and as whom.
#[derive(Args, Clone)]
pub struct Place {
    /// Address of the server.
    pub addr: SocketAddr,
    /// Login name.
    #[arg(long, default_value = GUEST)]
    pub user: String,
    /// Private key of that user; without one, the server asks for nothing.
    #[arg(long)]
    pub key: Option<PathBuf>,
}

impl Place {
    /// Returns it as the command line that it is parsed from.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![self.addr.to_string(), "--user".to_owned(), self.user.clone()];
        if let Some(key) = &self.key {
            arguments.extend(["--key".to_owned(), key.display().to_string()]);
        }
        arguments
    }
}

impl From<SocketAddr> for Place {
    fn from(addr: SocketAddr) -> Self {
        Self { addr, user: GUEST.to_owned(), key: None }
    }
}

/// The server of a scenario that runs on either.
pub enum Server {
    Playground(Target),
    OpenSsh(Sshd),
}

impl Server {
    /// Starts the playground, or OpenSSH's server for a `scenario` that is to run on it; `None`, after a message, if
    /// that is not installed.
    pub fn start(scenario: &str, openssh: bool) -> Result<Option<Self>> {
        if !openssh {
            return Target::start().map(|target| Some(Self::Playground(target)));
        }
        let server = Sshd::start()?;
        if server.is_none() {
            skip(scenario, "no OpenSSH server");
        }
        Ok(server.map(Self::OpenSsh))
    }

    /// Returns where its clients connect.
    pub fn place(&self) -> Place {
        match self {
            Self::Playground(target) => target.addr.into(),
            Self::OpenSsh(sshd) => sshd.place(),
        }
    }
}

/// A running playground; dropping it stops it.
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        place: Place,
    }

    #[test]
    fn a_place_is_read_back_from_its_arguments() {
        let guest = Place::from(SocketAddr::from(([127, 0, 0, 1], 22)));
        let known = Place { user: "ann".to_owned(), key: Some("/keys/ann".into()), ..guest.clone() };
        for place in [guest, known] {
            let arguments = ["relay".to_owned()].into_iter().chain(place.arguments());
            let read = Command::parse_from(arguments).place;
            assert_eq!((read.addr, read.user, read.key), (place.addr, place.user, place.key));
        }
    }
}
