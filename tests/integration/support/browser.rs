//! A browser's page on a terminal: attaches, types, acknowledges, answers pings, keeps what it received. Can freeze,
//! like a page that no longer reads. Speaks `pulsegate.v1`; knows nothing of the process behind it.

use std::{
    io::Write,
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    frames,
    http::{self, Answer},
    terminal::PATIENCE,
};

/// The sample key of RFC 6455 §1.3, with its only valid answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The parameters of an attach.
#[derive(Debug, Clone)]
pub struct Attach {
    pub client_id: String,
    pub mode: &'static str,
    pub cols: u32,
    pub rows: u32,
    pub output_offset: Option<u64>,
    pub input_offset: Option<u64>,
    /// Whether it can draw pictures.
    pub screen: bool,
    /// Whether it knows that control can move.
    pub control: bool,
}

impl Default for Attach {
    fn default() -> Self {
        let client_id = "page-1".to_owned();
        Self {
            client_id,
            mode: "interactive",
            cols: 80,
            rows: 24,
            output_offset: None,
            input_offset: None,
            screen: false,
            control: false,
        }
    }
}

/// The messages received on the socket.
#[derive(Debug, Default)]
pub struct Heard {
    /// Control frames in order.
    pub frames: Vec<Value>,
    /// Output since the attach.
    pub output: Vec<u8>,
    /// The offset at which `output` starts.
    pub start: u64,
    /// The picture before the output.
    pub picture: Vec<u8>,
    /// Bytes of the picture still to come.
    undrawn: usize,
    /// The code of the close frame.
    pub code: Option<u16>,
    /// Whether the connection has ended.
    pub ended: bool,
    pings: usize,
    frozen: bool,
    silent: bool,
    next_frame: usize,
    next_byte: usize,
}

#[derive(Default)]
struct Shared {
    heard: Mutex<Heard>,
    changed: Condvar,
}

/// A page with an open socket; dropping it cuts the connection without a goodbye.
pub struct Browser {
    stream: TcpStream,
    writer: Arc<Mutex<TcpStream>>,
    shared: Arc<Shared>,
}

/// Requests a WebSocket; `headers` end with `\r\n` each.
pub fn upgrade(addr: SocketAddr, id: &str, headers: &str) -> Result<TcpStream, Answer> {
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "GET /api/v1/sessions/{id}/terminal HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: pulsegate.v1\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let head = http::read_head(&mut stream);
    let answer = Answer { status: http::status(&head), head, body: Vec::new() };
    if answer.status != 101 {
        return Err(answer);
    }
    assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
    assert_eq!(answer.header("sec-websocket-protocol"), Some("pulsegate.v1"));
    stream.set_read_timeout(None).unwrap();
    // A write that takes this long has no reader.
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    Ok(stream)
}

impl Browser {
    /// Takes over an upgraded connection.
    pub fn new(stream: TcpStream) -> Self {
        let shared = Arc::new(Shared::default());
        let writer = Arc::new(Mutex::new(stream.try_clone().unwrap()));
        let (reading, answers, heard) = (stream.try_clone().unwrap(), writer.clone(), shared.clone());
        std::thread::spawn(move || listen(reading, &answers, &heard));
        Self { stream, writer, shared }
    }

    /// Sends the attach frame and returns the answer.
    #[track_caller]
    pub fn attach(&self, attach: &Attach) -> Value {
        let Attach { client_id, mode, cols, rows, output_offset, input_offset, screen, control } = attach;
        let mut frame = json!({
            "type": "attach", "cols": cols, "rows": rows, "mode": mode, "client_id": client_id,
            "output_offset": output_offset, "input_offset": input_offset,
        });
        if *screen {
            frame["screen"] = true.into();
        }
        if *control {
            frame["control"] = true.into();
        }
        self.says(frame);
        self.hears("attached")
    }

    /// Sends a control frame.
    pub fn says(&self, frame: Value) {
        self.sends(&frames::frame(frames::TEXT, frame.to_string().as_bytes()));
    }

    /// Types, in frames of the maximum size.
    pub fn types(&self, bytes: impl AsRef<[u8]>) {
        for piece in bytes.as_ref().chunks(64 * 1024) {
            self.sends(&frames::frame(frames::BINARY, piece));
        }
    }

    /// Sends raw bytes.
    pub fn sends(&self, bytes: &[u8]) {
        // The gateway may have closed already; its messages show the reason.
        self.writer.lock().unwrap().write_all(bytes).ok();
    }

    /// Waits for the next control frame of this type and returns it; others before it are skipped.
    #[track_caller]
    pub fn hears(&self, kind: &str) -> Value {
        self.hears_within(PATIENCE, kind)
    }

    #[track_caller]
    pub fn hears_within(&self, limit: Duration, kind: &str) -> Value {
        self.wait(limit, &format!("the frame {kind}"), |heard| {
            let at = heard.frames.iter().skip(heard.next_frame).position(|frame| frame["type"] == kind)?;
            heard.next_frame += at + 1;
            Some(heard.frames[heard.next_frame - 1].clone())
        })
    }

    /// Waits for output and continues after it.
    #[track_caller]
    pub fn sees(&self, text: &str) {
        self.wait(PATIENCE, &format!("the output {text:?}"), |heard| {
            let unseen = &heard.output[heard.next_byte..];
            let at = unseen.windows(text.len()).position(|window| window == text.as_bytes())?;
            heard.next_byte += at + text.len();
            Some(())
        });
    }

    /// Types a command and waits for its answer on a line of its own.
    #[track_caller]
    pub fn runs(&self, command: &str, answer: &str) {
        self.types(format!("{command}\r"));
        let line = format!("{answer}\r\n");
        self.wait(PATIENCE, &format!("the line {answer:?}"), |heard| {
            let unseen = &heard.output[heard.next_byte..];
            // bash prints an escape sequence and a bare \r before the answer.
            let begins = |at: usize| at > 0 && matches!(unseen[at - 1], b'\r' | b'\n');
            let at = unseen
                .windows(line.len())
                .enumerate()
                .position(|(at, window)| window == line.as_bytes() && begins(at))?;
            heard.next_byte += at + line.len();
            Some(())
        });
    }

    /// Waits for the `closed` frame, then for the close frame; returns the reason.
    #[track_caller]
    pub fn closed(&self) -> Value {
        let closed = self.hears("closed");
        assert_eq!(self.code(), 1000);
        closed
    }

    /// Waits for the `closed` frame of a gateway that stops, then for its close frame.
    #[track_caller]
    pub fn is_told_to_come_back(&self) {
        assert_eq!(self.hears("closed")["reason"], "shutdown");
        assert_eq!(self.code(), 1012);
    }

    /// Waits for the close frame and returns its code.
    #[track_caller]
    pub fn code(&self) -> u16 {
        self.wait(PATIENCE, "a close frame", |heard| heard.code)
    }

    /// Waits for the end of the connection, with or without a close frame.
    #[track_caller]
    pub fn is_cut_within(&self, limit: Duration) {
        self.wait(limit, "the connection's end", |heard| heard.ended.then_some(()));
    }

    /// Stops reading, so that pings stay unanswered too.
    pub fn freezes(&self) {
        self.heard().frozen = true;
    }

    /// Resumes reading.
    pub fn thaws(&self) {
        self.heard().frozen = false;
        self.shared.changed.notify_all();
    }

    /// Stops acknowledging output.
    pub fn stops_acknowledging(&self) {
        self.heard().silent = true;
    }

    /// Drops the connection, as when a cable is pulled and the other side is notified.
    pub fn drops(&self) {
        // It may be closed already.
        self.stream.shutdown(Shutdown::Both).ok();
    }

    /// Leaves as a closed tab does.
    pub fn leaves(&self) {
        self.sends(&frames::frame(frames::CLOSE, &1001_u16.to_be_bytes()));
    }

    /// Returns the messages received so far.
    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        // After a panic in another thread, the test is to fail with its own message.
        self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the offset after the last byte of output.
    pub fn offset(&self) -> u64 {
        let heard = self.heard();
        heard.start + heard.output.len() as u64
    }

    /// Returns the screen that a terminal of this size shows of all output received: the rows, and the cursor's column
    /// and row.
    pub fn shows(&self, cols: usize, rows: usize) -> (Vec<String>, (usize, usize)) {
        let heard = self.heard();
        let mut terminal = avt::Terminal::new(cols, rows).unwrap();
        terminal.feed(&*String::from_utf8_lossy(&[&heard.picture[..], &heard.output].concat()));
        let rows = terminal.screen().visible_lines().map(|line| line.text().trim_end().to_owned()).collect();
        (rows, (terminal.cursor().col, terminal.cursor().row))
    }

    /// Waits until `look` finds something in the received messages.
    #[track_caller]
    pub fn wait<T>(&self, limit: Duration, what: &str, mut look: impl FnMut(&mut Heard) -> Option<T>) -> T {
        let end = Instant::now() + limit;
        let mut heard = self.heard();
        loop {
            if let Some(found) = look(&mut heard) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || heard.ended && !heard.frozen {
                let tail =
                    String::from_utf8_lossy(&heard.output[heard.output.len().saturating_sub(400)..]).into_owned();
                let (frames, code, ended) = (&heard.frames, heard.code, heard.ended);
                let last = format!("{:#?}", &frames[frames.len().saturating_sub(5)..]);
                drop(heard);
                panic!("{what} did not come; close {code:?}, ended {ended}, last frames {last}, output …{tail:?}");
            }
            heard = self.shared.changed.wait_timeout(heard, left).unwrap().0;
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.drops();
        self.thaws();
    }
}

fn listen(mut stream: TcpStream, writer: &Mutex<TcpStream>, shared: &Shared) {
    loop {
        drop(shared.changed.wait_while(shared.heard.lock().unwrap(), |heard| heard.frozen).unwrap());
        let frame = frames::read(&mut stream);
        let mut heard = shared.changed.wait_while(shared.heard.lock().unwrap(), |heard| heard.frozen).unwrap();
        let Ok((opcode, payload)) = frame else {
            heard.ended = true;
            shared.changed.notify_all();
            return;
        };
        let answer = heard.take(opcode, payload);
        drop(heard);
        shared.changed.notify_all();
        if let Some(answer) = answer {
            // The next read detects a closed connection.
            writer.lock().unwrap().write_all(&answer).ok();
        }
    }
}

impl Heard {
    /// Takes a frame and returns a browser's answer.
    fn take(&mut self, opcode: u8, payload: Vec<u8>) -> Option<Vec<u8>> {
        match opcode {
            frames::BINARY if self.undrawn > 0 => {
                // A frame is either picture or output.
                self.undrawn = self.undrawn.checked_sub(payload.len()).unwrap();
                self.picture.extend(payload);
                None
            }
            frames::BINARY => {
                self.output.extend(payload);
                let ack = json!({"type": "ack", "output_offset": self.start + self.output.len() as u64});
                (!self.silent).then(|| frames::frame(frames::TEXT, ack.to_string().as_bytes()))
            }
            frames::TEXT => {
                let frame: Value = serde_json::from_slice(&payload).unwrap();
                if frame["type"] == "attached" || frame["type"] == "screen" {
                    self.start = frame["output_offset"].as_u64().unwrap();
                    self.undrawn = usize::try_from(frame["screen_bytes"].as_u64().unwrap()).unwrap();
                    self.output.clear();
                    self.picture.clear();
                    self.next_byte = 0;
                }
                self.frames.push(frame);
                None
            }
            frames::PING => {
                self.pings += 1;
                Some(frames::frame(frames::PONG, &payload))
            }
            frames::PONG => None,
            frames::CLOSE => {
                self.code = payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                Some(frames::frame(frames::CLOSE, &payload))
            }
            other => panic!("an opcode no server sends: {other}"),
        }
    }
}
