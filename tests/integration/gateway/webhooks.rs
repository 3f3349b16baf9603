//! Delivery of the audit log to another system: complete, in order, signed, whatever fails on either side.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::Duration,
};

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::support::{
    eventually,
    gateway::{Gateway, Home},
    terminal::PATIENCE,
};

const SECRET: &str = "canary-webhook-secret-9b1f4c7e2d60a583";

/// The receiving system: answers with one status, and keeps what it accepted.
struct Receiver {
    url: String,
    status: Arc<AtomicU16>,
    taken: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Receiver {
    fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let receiver = Self { url, status: Arc::new(AtomicU16::new(status)), taken: Arc::default() };
        let (status, taken) = (receiver.status.clone(), receiver.taken.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A killed gateway leaves half a message.
                let Some((id, body)) = message(&mut stream.unwrap(), status.load(Ordering::SeqCst)) else { continue };
                if status.load(Ordering::SeqCst) == 200 {
                    taken.lock().unwrap().push((id, body));
                }
            }
        });
        receiver
    }

    fn says(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Returns the entries it accepted, each once; the same id must have the same content.
    fn entries(&self) -> Vec<Value> {
        let mut messages = self.taken.lock().unwrap().clone();
        messages.dedup();
        messages.iter().flat_map(|(_, body)| body["entries"].as_array().unwrap().clone()).collect()
    }

    fn numbers(&self) -> Vec<u64> {
        self.entries().iter().map(|entry| entry["seq"].as_u64().unwrap()).collect()
    }
}

/// Reads one message, answers it, and checks its signature.
fn message(stream: &mut TcpStream, status: u16) -> Option<(String, Value)> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (mut reader, mut head) = (BufReader::new(stream.try_clone().unwrap()), Vec::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let header = |name: &str| {
        let mut fields = head.iter().filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).unwrap()
    };
    let mut body = vec![0; header("content-length").parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    write!(stream, "HTTP/1.1 {status} Told\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok()?;
    let body = String::from_utf8(body).unwrap();
    let (id, at) = (header("webhook-id"), header("webhook-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{id}.{at}.{body}").as_bytes());
    let expected = format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()));
    assert_eq!(header("webhook-signature"), expected);
    assert!(!body.contains(SECRET));
    Some((id, serde_json::from_str(&body).unwrap()))
}

fn looks_after(gateway: &Gateway) -> u64 {
    let swept = gateway.asks("POST", "/api/v1/stores/sweep", Some(&serde_json::json!({"dry_run": true})));
    assert_eq!(swept.status, 200, "{}", swept.text());
    gateway.shows("/api/v1/audit?limit=1")["items"][0]["seq"].as_u64().unwrap()
}

#[test]
fn a_webhook_is_told_every_entry_in_order_whoever_is_away_meanwhile() {
    let receiver = Receiver::start(200);
    let home = Arc::new(Home::new().webhook(&receiver.url, SECRET, &[]));
    let gateway = home.start();
    let first = looks_after(&gateway);
    eventually(PATIENCE, || receiver.numbers().contains(&first).then_some(()));
    receiver.says(503);
    looks_after(&gateway);
    eventually(PATIENCE, || {
        let told = gateway.shows("/api/v1/webhooks");
        let siem = &told["items"][0];
        (siem["last_error"] == "status 503" && siem["waiting"] != 0 && siem["failing_since"].is_string()).then_some(())
    });
    gateway.dies();
    receiver.says(200);
    let gateway = home.start();
    let last = looks_after(&gateway);
    eventually(PATIENCE, || receiver.numbers().contains(&last).then_some(()));
    let numbers = receiver.numbers();
    let whole: Vec<u64> = (numbers[0]..=last).collect();
    assert_eq!(numbers, whole, "nothing is left out and nothing is told twice");
    assert!(
        receiver
            .entries()
            .iter()
            .any(|entry| entry["action"] == "gateway.start" && entry["seq"].as_u64() > Some(first))
    );
    assert!(!home.logs().contains(SECRET));
}

#[test]
fn what_a_receiver_refuses_is_laid_aside_and_told_of_and_the_next_is_sent() {
    let receiver = Receiver::start(400);
    let gateway = Gateway::start(Home::new().webhook(&receiver.url, SECRET, &["store.sweep"]));
    let refused = looks_after(&gateway);
    let dead = eventually(PATIENCE, || {
        gateway.shows("/api/v1/webhooks")["items"][0]["dead_letters"].as_array().unwrap().first().cloned()
    });
    assert_eq!(
        (&dead["first"], &dead["last"], &dead["error"]),
        (&refused.into(), &refused.into(), &"status 400".into())
    );
    eventually(PATIENCE, || {
        let told = gateway.shows("/api/v1/audit?action=webhook.give_up");
        (told["items"][0]["subject"] == "siem").then_some(())
    });
    receiver.says(200);
    let taken = looks_after(&gateway);
    eventually(PATIENCE, || (receiver.numbers() == [taken]).then_some(()));
}
