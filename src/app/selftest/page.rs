//! A browser's page on the terminal under test: the input it typed and the output it was shown, over any number of
//! sockets. Knows no process and no sign-in.

use std::pin::Pin;

use actix_http::ws::{Frame, Message, ProtocolError};
use anyhow::{Context, anyhow, bail, ensure};
use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt, stream::LocalBoxStream};
use serde_json::{Value, json};

/// A page. It supports neither pictures nor control.
#[derive(Default)]
pub struct Page {
    socket: Option<Socket>,
    /// All output it was shown, from the first byte on.
    shown: Vec<u8>,
    /// Bytes of it that were searched.
    seen: usize,
    /// All input it typed.
    typed: Vec<u8>,
}

struct Socket {
    sending: Pin<Box<dyn Sink<Message, Error = ProtocolError>>>,
    receiving: LocalBoxStream<'static, Result<Frame, ProtocolError>>,
}

impl Page {
    /// Attaches over a new socket, and resends the input that was not acknowledged.
    pub async fn attaches<S>(&mut self, socket: S) -> anyhow::Result<()>
    where
        S: Stream<Item = Result<Frame, ProtocolError>> + Sink<Message, Error = ProtocolError> + 'static,
    {
        let (sending, receiving) = socket.split::<Message>();
        self.socket = Some(Socket { sending: Box::pin(sending), receiving: receiving.boxed_local() });
        let had = self.shown.len();
        let (output_offset, input_offset) = (Some(had).filter(|had| *had > 0), self.typed.len());
        let attach = json!({
            "type": "attach", "cols": 80, "rows": 24, "mode": "interactive", "client_id": "selftest",
            "output_offset": output_offset, "input_offset": input_offset,
        });
        self.says(&attach).await?;
        let attached = self.hears("attached").await?;
        let told = |key: &str| attached.get(key).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
        ensure!(
            told("output_offset") == Some(had) && told("lost_bytes") == Some(0),
            "it goes on elsewhere than at byte {had}: {attached}"
        );
        let rest = self.typed.get(told("input_offset").context("it does not say how much was taken")?..);
        let rest = Bytes::copy_from_slice(rest.context("more was taken than was typed")?);
        self.sends(Message::Binary(rest)).await
    }

    /// Cuts the connection without closing it properly.
    pub fn cut(&mut self) {
        self.socket = None;
    }

    /// Types a text.
    pub async fn types(&mut self, text: &str) -> anyhow::Result<()> {
        self.typed.extend_from_slice(text.as_bytes());
        self.sends(Message::Binary(Bytes::copy_from_slice(text.as_bytes()))).await
    }

    /// Types a command and waits for its answer on a line of its own.
    pub async fn runs(&mut self, command: &str, answer: &str) -> anyhow::Result<()> {
        self.types(&format!("{command}\r")).await?;
        self.sees(&format!("\n{answer}\r\n")).await
    }

    /// Sends a frame.
    pub async fn says(&mut self, frame: &Value) -> anyhow::Result<()> {
        self.sends(Message::Text(frame.to_string().into())).await
    }

    /// Waits for output that contains `text`, and continues after it.
    pub async fn sees(&mut self, text: &str) -> anyhow::Result<()> {
        loop {
            let unseen = self.shown.get(self.seen..).unwrap_or_default();
            if let Some(at) = memchr::memmem::find(unseen, text.as_bytes()) {
                self.seen += at + text.len();
                return Ok(());
            }
            self.hear().await?;
        }
    }

    /// Waits for a frame of this type; ignores others before it.
    pub async fn hears(&mut self, kind: &str) -> anyhow::Result<Value> {
        loop {
            if let Some(frame) = self.hear().await?.filter(|frame| is_of(frame, kind)) {
                return Ok(frame);
            }
        }
    }

    /// Receives the next message; returns a text frame.
    async fn hear(&mut self) -> anyhow::Result<Option<Value>> {
        let socket = self.socket.as_mut().context("there is no socket")?;
        match socket.receiving.next().await.context("the gateway closed the socket without a word")? {
            Ok(Frame::Binary(bytes)) => self.shown.extend_from_slice(&bytes),
            Ok(Frame::Ping(payload)) => self.sends(Message::Pong(payload)).await?,
            Ok(Frame::Text(text)) => {
                let frame: Value = serde_json::from_slice(&text)?;
                ensure!(!is_of(&frame, "error"), "the gateway refused: {frame}");
                return Ok(Some(frame));
            }
            Ok(Frame::Close(reason)) => bail!("the gateway closed the socket: {reason:?}"),
            Ok(Frame::Pong(_) | Frame::Continuation(_)) => {}
            Err(error) => bail!("the message is no WebSocket frame: {error}"),
        }
        Ok(None)
    }

    async fn sends(&mut self, message: Message) -> anyhow::Result<()> {
        let socket = self.socket.as_mut().context("there is no socket")?;
        socket.sending.send(message).await.map_err(|error| anyhow!("the socket takes nothing: {error}"))
    }
}

fn is_of(frame: &Value, kind: &str) -> bool {
    frame.get("type").and_then(Value::as_str) == Some(kind)
}
