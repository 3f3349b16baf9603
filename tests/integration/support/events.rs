//! A reader of `GET /api/v1/events` that behaves like an `EventSource` (WHATWG HTML §9.2): it keeps the last id, and a
//! message without data is no event.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use serde_json::Value;

use super::{
    gateway::{Gateway, TOKEN},
    http,
    terminal::PATIENCE,
};

/// One event.
#[derive(Debug)]
pub struct Received {
    pub kind: String,
    pub data: Value,
}

/// A connected reader.
pub struct Events {
    stream: BufReader<TcpStream>,
    text: String,
    /// The id with which it would reconnect.
    pub last_id: Option<String>,
}

impl Events {
    /// Connects to a gateway, with the id of the last event received, if any; returns once the stream is open.
    #[track_caller]
    pub fn of(gateway: &Gateway, last_id: Option<&str>) -> Self {
        let mut stream = TcpStream::connect_timeout(&gateway.addr, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let known = last_id.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        let host = gateway.addr;
        let head =
            format!("GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n{known}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let head = http::read_head(&mut stream);
        assert_eq!(http::status(&head), 200, "{head}");
        let mut events =
            Self { stream: BufReader::new(stream), text: String::new(), last_id: last_id.map(str::to_owned) };
        assert_eq!(events.block(), ": open");
        events
    }

    /// Waits for the next event.
    #[track_caller]
    pub fn next(&mut self) -> Received {
        loop {
            let block = self.block();
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            self.last_id = field("id: ").or(self.last_id.take());
            if let Some(data) = field("data: ") {
                return Received { kind: field("event: ").unwrap(), data: serde_json::from_str(&data).unwrap() };
            }
        }
    }

    /// Waits for an event that a session has this status.
    #[track_caller]
    pub fn until(&mut self, id: &str, status: &str) {
        loop {
            let told = self.next();
            assert_eq!(told.kind, "session", "{told:?}");
            if told.data["session"]["id"] == id && told.data["session"]["status"] == status {
                return;
            }
        }
    }

    /// Waits for the stream's position, which is sent at its beginning.
    #[track_caller]
    pub fn place(&mut self) -> String {
        let block = self.block();
        let id = block.strip_prefix("id: ").unwrap_or_else(|| panic!("no place but {block:?}"));
        self.last_id = Some(id.to_owned());
        id.to_owned()
    }

    #[track_caller]
    fn block(&mut self) -> String {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return block;
            }
            let mut size = String::new();
            self.stream.read_line(&mut size).unwrap();
            let length = usize::from_str_radix(size.trim(), 16).unwrap_or_else(|_| panic!("no chunk but {size:?}"));
            let mut chunk = vec![0; length + 2];
            self.stream.read_exact(&mut chunk).unwrap();
            self.text.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
        }
    }
}
