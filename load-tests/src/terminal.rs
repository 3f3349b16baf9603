//! The gateway's terminal as a page uses it: attach, type, acknowledge, answer pings (subprotocol `pulsegate.v1`).
//! Knows frames; draws nothing.

use std::convert::Infallible;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    gateway::{Door, Gateway},
    shell::Shell,
    websocket::{Frame, WebSocket},
};

/// Maximum number of unacknowledged bytes, as in a page.
const ACK_EVERY: u64 = 32 * 1024;

/// One browser on one session.
pub struct Terminal {
    socket: WebSocket,
    /// Bytes of output received.
    offset: u64,
    acked: u64,
    /// Whether output is acknowledged as it comes.
    acks: bool,
}

impl Terminal {
    /// Attaches to a session as a new page, or as one that has all output up to `offset`.
    pub async fn attach(gateway: &Gateway, id: &str, offset: Option<u64>) -> Result<Self> {
        Self::attach_at(&gateway.door(), id, offset).await
    }

    /// Like [`Terminal::attach`], from any thread.
    pub async fn attach_at(door: &Door, id: &str, offset: Option<u64>) -> Result<Self> {
        let mut socket = door.socket(&format!("/api/v1/sessions/{id}/terminal")).await?;
        let attach = json!({
            "type": "attach", "cols": 80, "rows": 24, "mode": "interactive", "client_id": "load-tests",
            "output_offset": offset, "input_offset": null,
        });
        socket.text(&attach.to_string()).await?;
        let Frame::Text(answer) = socket.next().await? else { bail!("the gateway's first frame was not `attached`") };
        let answer: Value = serde_json::from_slice(&answer)?;
        let offset = answer.get("output_offset").and_then(Value::as_u64);
        let offset = offset.with_context(|| format!("no `attached` but {answer}"))?;
        Ok(Self { socket, offset, acked: offset, acks: true })
    }

    /// Returns the offset of the output received.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Stops acknowledging output.
    pub fn stop_acks(&mut self) {
        self.acks = false;
    }

    /// Acknowledges all output received, and from now on as it comes.
    pub async fn resume_acks(&mut self) -> Result<()> {
        self.acks = true;
        self.ack().await
    }

    /// Receives output and answers pings until the gateway disconnects it.
    pub async fn stay(mut self) -> Result<Infallible> {
        loop {
            self.hear().await?;
        }
    }

    /// Reads until the gateway closes the session; returns the reason.
    pub async fn closed(&mut self) -> Result<String> {
        loop {
            if let Frame::Text(text) = self.socket.next().await? {
                let frame: Value = serde_json::from_slice(&text)?;
                if word(&frame, "type") == "closed" {
                    return Ok(word(&frame, "reason").to_owned());
                }
            }
        }
    }

    async fn ack(&mut self) -> Result<()> {
        self.acked = self.offset;
        self.socket.text(&format!(r#"{{"type":"ack","output_offset":{}}}"#, self.offset)).await
    }
}

impl Shell for Terminal {
    async fn say(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket.binary(bytes).await
    }

    async fn hear(&mut self) -> Result<Bytes> {
        loop {
            match self.socket.next().await? {
                Frame::Binary(bytes) => {
                    self.offset += bytes.len() as u64;
                    if self.acks && self.offset - self.acked >= ACK_EVERY {
                        self.ack().await?;
                    }
                    if !bytes.is_empty() {
                        return Ok(bytes);
                    }
                }
                Frame::Ping(payload) => self.socket.pong(&payload).await?,
                // Progress, and acknowledgements of input.
                Frame::Text(text) => {
                    let frame: Value = serde_json::from_slice(&text)?;
                    ensure!(!matches!(word(&frame, "type"), "error" | "closed" | "prompt"), "the gateway said {frame}");
                }
                Frame::Close(code) => bail!("the gateway closed the socket with {code:?}"),
            }
        }
    }
}

fn word<'a>(frame: &'a Value, key: &str) -> &'a str {
    frame.get(key).and_then(Value::as_str).unwrap_or_default()
}
