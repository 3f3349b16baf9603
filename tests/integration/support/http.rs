//! A plain HTTP/1.1 client (RFC 9112): one request per connection, nothing hidden. Knows no route; each answer is
//! checked against the document.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use super::{
    documented::{self, Answered},
    terminal::PATIENCE,
};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The status line and the headers, as received.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.head, self.text()))
    }

    /// Returns the detail sentence of a problem.
    #[track_caller]
    pub fn detail(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{} {}", self.head, self.text());
        self.json()["detail"].as_str().unwrap().to_owned()
    }
}

/// Sends one request and reads its answer; `headers` end with `\r\n` each, and a body is JSON.
pub fn request(addr: SocketAddr, method: &str, path: &str, headers: &str, body: Option<&str>) -> Answer {
    exchange(addr, method, path, headers, body.map(|body| ("application/json", body)))
}

/// Sends a form.
pub fn submit(addr: SocketAddr, path: &str, headers: &str, form: &str) -> Answer {
    exchange(addr, "POST", path, headers, Some(("application/x-www-form-urlencoded", form)))
}

fn exchange(addr: SocketAddr, method: &str, path: &str, headers: &str, body: Option<(&str, &str)>) -> Answer {
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let entity = body
        .map_or(String::new(), |(kind, body)| format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len()));
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{headers}{entity}\r\n");
    stream.write_all((head + body.unwrap_or_default().1).as_bytes()).unwrap();
    let head = read_head(&mut stream);
    let mut body = Vec::new();
    stream.read_to_end(&mut body).unwrap();
    let answer = Answer { status: status(&head), head, body };
    let kind = answer.header("content-type");
    let answered = Answered { method, path, status: answer.status, kind, body: &answer.body };
    // Every route's answer has this header; a long head and invalid HTTP reach no route.
    if answer.header("content-security-policy").is_some() || answer.status == 431 {
        assert_eq!(documented::check(&answered), Ok(()), "{} {}", answer.head, answer.text());
    } else {
        assert!(answer.status == 400 && answer.body.is_empty(), "{} {}", answer.head, answer.text());
    }
    answer
}

/// Reads up to the empty line, and not a byte more: the bytes after it may be a WebSocket's.
pub fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            // A signal for this process, perhaps from the end of a command beside this one.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => assert_eq!(read.unwrap(), 1, "no answer: {:?}", String::from_utf8_lossy(&head)),
        }
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

/// Returns the number in a status line.
pub fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}
