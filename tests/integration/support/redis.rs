//! A private Redis with its own folder and port, and nothing on disk. It ends when it is dropped. Knows nothing of
//! Pulsegate.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{eventually, mariadb::free_port};

/// Timeout of a server's start.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// A server, on loopback only.
pub struct Redis {
    child: Child,
    addr: SocketAddr,
}

impl Redis {
    /// Starts a server; an error if that is not possible here.
    pub fn start() -> Result<Self, String> {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let child = match spawn(addr) {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err("no Redis".to_owned()),
            Err(error) => return Err(error.to_string()),
        };
        let redis = Self { child, addr };
        redis.is_there();
        Ok(redis)
    }

    fn is_there(&self) {
        eventually(STARTS_WITHIN, || self.ask("PING").filter(|answer| answer.starts_with("+PONG")));
    }

    /// Returns its address as a `store.live` setting of the gateway.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Sends one inline command; `None` if there is no answer.
    pub fn ask(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.addr).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// Kills it as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Restarts it on the same port, without its data.
    pub fn start_again(&mut self) {
        self.child = spawn(self.addr).unwrap();
        self.is_there();
    }
}

fn spawn(addr: SocketAddr) -> std::io::Result<Child> {
    let (ip, port) = (addr.ip().to_string(), addr.port().to_string());
    let mut command = Command::new("redis-server");
    command.args(["--bind", &ip, "--port", &port, "--save", "", "--appendonly", "no"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Either fails only if it has already ended.
        self.child.kill().and_then(|()| self.child.wait()).ok();
    }
}
