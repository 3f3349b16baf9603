//! The minimal gateway: a bare SSH client, in a process of its own, that writes what it reads to a plain TCP
//! connection. Its cost is the lower limit for any gateway built on that client. Knows nothing of Pulsegate.

use anyhow::{Result, ensure};
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    bare::Bare,
    process::{Kept, Process},
    shell::Shell,
    target::Place,
};

/// Size of one read, in bytes, as for a browser's socket here.
const CHUNK_BYTES: usize = 256 * 1024;

/// A running relay and the far end of its connection; dropping it stops it.
pub struct Relay {
    kept: Kept,
    stream: TcpStream,
    piece: BytesMut,
}

impl Relay {
    /// Starts a relay with a shell of `target`.
    pub async fn start(target: &Place) -> Result<Self> {
        let arguments = target.arguments();
        let arguments: Vec<_> = std::iter::once("relay").chain(arguments.iter().map(String::as_str)).collect();
        let (kept, addr) = Kept::start_own_server(&arguments)?;
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { kept, stream, piece: BytesMut::new() })
    }

    /// Returns its process.
    pub fn process(&self) -> Process {
        self.kept.process()
    }
}

impl Shell for Relay {
    async fn say(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    async fn hear(&mut self) -> Result<Bytes> {
        self.piece.reserve(CHUNK_BYTES);
        ensure!(self.stream.read_buf(&mut self.piece).await? > 0, "the relay has hung up");
        Ok(self.piece.split().freeze())
    }
}

/// Runs in the relay's process: prints the listen address and carries one connection both ways until it ends.
pub async fn serve(target: Place) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut bare = Bare::open(target).await?;
    println!("{}", listener.local_addr()?);
    let (mut stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.split();
    let mut typed = BytesMut::with_capacity(CHUNK_BYTES);
    loop {
        tokio::select! {
            read = reader.read_buf(&mut typed) => {
                if read? == 0 {
                    return Ok(());
                }
                bare.say(&typed.split()).await?;
            }
            heard = bare.hear() => writer.write_all(&heard?).await?,
        }
    }
}
