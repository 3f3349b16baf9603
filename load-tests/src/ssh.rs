//! OpenSSH's client on a terminal of the target, for comparison: a process with pipes in place of a user's terminal.
//! Knows nothing of Pulsegate.

use std::{io::ErrorKind, process::Command};

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
};

use crate::{
    process::{Kept, Process},
    shell::{self, Shell},
    target::Place,
};

/// Size of one read, in bytes: a pipe holds no more.
const CHUNK_BYTES: usize = 64 * 1024;

/// Settings: the user's own do not count, the ciphers are the gateway's, so that both do the same work, and no key is
/// typed at another time than it was (OpenSSH 9.5 blurs the times between keystrokes; an older one does not know the
/// word).
const SETTINGS: [&str; 8] = [
    "Ciphers=aes128-gcm@openssh.com,aes256-gcm@openssh.com",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "LogLevel=ERROR",
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "IgnoreUnknown=ObscureKeystrokeTiming",
    "ObscureKeystrokeTiming=no",
];

/// A shell on a terminal of the target; dropping it kills the client.
pub struct Ssh {
    kept: Kept,
    typed: pipe::Sender,
    heard: pipe::Receiver,
    piece: BytesMut,
}

impl Ssh {
    /// Connects with further settings and waits for the prompt; `None` if OpenSSH's client is not installed.
    pub async fn open(place: &Place, settings: &[&str]) -> Result<Option<Self>> {
        let (typed, input) = pipe::pipe()?;
        let (output, heard) = pipe::pipe()?;
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-e", "none", "-tt"]);
        command.args(SETTINGS.iter().chain(settings).flat_map(|setting| ["-o", setting]));
        if let Some(key) = &place.key {
            command.arg("-i").arg(key);
        }
        command.arg("-p").arg(place.addr.port().to_string()).arg(format!("{}@{}", place.user, place.addr.ip()));
        command.stdin(input.into_blocking_fd()?).stdout(output.into_blocking_fd()?);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("ssh cannot be started"),
        };
        // The command holds the other ends of the pipes too.
        drop(command);
        let mut ssh = Self { kept: child.into(), typed, heard, piece: BytesMut::new() };
        shell::hear_until(&mut ssh, shell::PROMPT).await.context("OpenSSH's client")?;
        Ok(Some(ssh))
    }

    /// Returns its process.
    pub fn process(&self) -> Process {
        self.kept.process()
    }
}

impl Shell for Ssh {
    async fn say(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.typed.write_all(bytes).await?)
    }

    async fn hear(&mut self) -> Result<Bytes> {
        self.piece.reserve(CHUNK_BYTES);
        ensure!(self.heard.read_buf(&mut self.piece).await? > 0, "OpenSSH's client has hung up");
        Ok(self.piece.split().freeze())
    }
}
