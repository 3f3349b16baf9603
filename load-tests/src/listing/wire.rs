//! A keep-alive connection that requests pages of the list: a client library would cost more than the requests
//! measured. Knows no list.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The connection.
pub struct Wire {
    stream: TcpStream,
    addr: SocketAddr,
    buffer: Vec<u8>,
}

impl Wire {
    /// Connects to a gateway.
    pub async fn open(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, addr, buffer: vec![0; 64 * 1024] })
    }

    /// Sends a request and reads the whole answer, which must be a 200 with a page; returns the page.
    pub async fn get(&mut self, path: &str, token: &str) -> Result<Vec<u8>> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\r\n", self.addr);
        self.stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        let (head, length) = loop {
            self.read(&mut answer).await?;
            if let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(answer.get(..head).unwrap_or_default()).to_ascii_lowercase();
                ensure!(text.starts_with("http/1.1 200"), "{path}: {text}");
                let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
                break (head + 4, length.and_then(|length| length.parse::<usize>().ok()).context("no length")?);
            }
        };
        while answer.len() < head + length {
            self.read(&mut answer).await?;
        }
        Ok(answer.split_off(head))
    }

    async fn read(&mut self, answer: &mut Vec<u8>) -> Result<()> {
        let count = self.stream.read(&mut self.buffer).await?;
        ensure!(count > 0, "the gateway closed the connection");
        answer.extend_from_slice(self.buffer.get(..count).unwrap_or_default());
        Ok(())
    }
}
