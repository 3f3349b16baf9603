//! Scenario: the list of sessions, asked for by many at once: the open ones, the newest of all, and pages from anywhere in a
//! long history. The history is written by the store itself before the gateway starts.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use pulsegate::{
    core::record::{Authority, Durable, EndReason, Epoch, NodeId, Record, SessionId, Status, UtcMicros, Write},
    store::{RecordStore, sqlite::SqliteStore},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    gateway::Gateway,
    report::{Goal, Report, Samples},
    target::Target,
};

/// Requests per second for a page of the open sessions, at least, and how long one may take, in milliseconds.
const OPEN: (f64, f64) = (5_000.0, 20.0);

/// How long a page of the history may take, in milliseconds.
const HISTORY_WITHIN: f64 = 50.0;

/// Rows per transaction while the history is written.
const BATCH: i64 = 5_000;

/// The history's first start.
const FIRST: i64 = 1_700_000_000_000_000;

/// From one start to the next, in microseconds.
const APART: i64 = 1_000_000;

/// How it is measured.
#[derive(Args)]
pub struct Listing {
    /// Open sessions.
    #[arg(long, default_value_t = 1_000)]
    pub open: usize,
    /// Closed sessions.
    #[arg(long, default_value_t = 1_000_000)]
    pub history: i64,
    /// Connections that ask at once.
    #[arg(long, default_value_t = 16)]
    pub connections: usize,
    /// How long each question is asked.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
}

impl Listing {
    /// Measures.
    pub async fn run(self) -> Result<Report> {
        let mut report = Report::new("listing");
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        std::fs::create_dir(&data)?;
        let since = Instant::now();
        self.write_history(&data.join("pulsegate.db")).await?;
        report.tell("history written", self.history as f64 / since.elapsed().as_secs_f64(), "rows/s");

        let allowed = (self.open + 1).to_string();
        let data = data.to_str().context("the temporary folder's name is no text")?;
        let settings = [
            ("PULSEGATE__NODE__DATA_DIR", data),
            ("PULSEGATE__SESSION__MAX_PER_USER", &*allowed),
            ("PULSEGATE__SESSION__MAX_SESSIONS", &*allowed),
        ];
        let target = Target::start()?;
        let gateway = Gateway::start(target.addr, &settings)?;
        let opened = stream::iter(0..self.open).map(|_| gateway.open()).buffer_unordered(64);
        let opened: Vec<String> = opened.try_collect().await?;
        ensure!(opened.len() == self.open, "not every session was opened");

        let open = |_| "status=connecting&status=active&status=detached&limit=50".to_owned();
        let newest = |_| "limit=50".to_owned();
        let anywhere = |n: u64| {
            // A multiplicative hash spreads the pages over the whole history.
            let row = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.history.max(1).unsigned_abs();
            let seconds = (FIRST + APART * (row.cast_signed() + 1)) / 1_000_000;
            format!("status=closed&limit=50&until={}", rfc3339(seconds))
        };
        let (rate, mut took) = self.ask(&gateway, open).await?;
        report.hold("open sessions, a page of 50", rate, "requests/s", Goal::AtLeast(OPEN.0));
        report.hold("  p99", took.quantile_us(0.99) / 1e3, "ms", Goal::AtMost(OPEN.1));
        let (rate, mut took) = self.ask(&gateway, newest).await?;
        report.hold("newest of all, a page of 50", rate, "requests/s", Goal::AtLeast(OPEN.0));
        report.hold("  p99", took.quantile_us(0.99) / 1e3, "ms", Goal::AtMost(OPEN.1));
        let (rate, mut took) = self.ask(&gateway, anywhere).await?;
        report.tell(format!("a page of 50 from {} rows", self.history), rate, "requests/s");
        report.hold("  p99", took.quantile_us(0.99) / 1e3, "ms", Goal::AtMost(HISTORY_WITHIN));
        Ok(report)
    }

    async fn write_history(&self, path: &std::path::Path) -> Result<()> {
        let store = SqliteStore::open(path).await?;
        for first in (0..self.history).step_by(BATCH as usize) {
            let rows = first..(first + BATCH).min(self.history);
            let write = |n| Write { record: closed(n), transitions: Vec::new() };
            store.apply(rows.map(write).collect()).await?;
        }
        Ok(())
    }

    /// Asks as fast as answers come. Returns the rate and how long each answer took.
    async fn ask(&self, gateway: &Gateway, query: impl Fn(u64) -> String) -> Result<(f64, Samples)> {
        let until = Instant::now() + Duration::from_secs(self.seconds);
        let one = async |connection: usize| {
            let mut wire = Wire::open(gateway.addr()).await?;
            let mut samples = Vec::new();
            let mut n = connection as u64;
            while Instant::now() < until {
                let since = Instant::now();
                wire.get(&format!("/api/v1/sessions?{}", query(n)), gateway.token()).await?;
                samples.push(since.elapsed());
                n += self.connections as u64;
            }
            anyhow::Ok(samples)
        };
        let since = Instant::now();
        let all = try_join_all((0..self.connections).map(one)).await?;
        let seconds = since.elapsed().as_secs_f64();
        let mut samples = Samples::default();
        let count = all.iter().map(Vec::len).sum::<usize>();
        all.into_iter().flatten().for_each(|sample| samples.push(sample));
        Ok((count as f64 / seconds, samples))
    }
}

/// A kept connection; a client library would cost more than what is measured.
struct Wire {
    stream: TcpStream,
    addr: SocketAddr,
    buffer: Vec<u8>,
}

impl Wire {
    async fn open(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, addr, buffer: vec![0; 64 * 1024] })
    }

    /// Asks and reads the whole answer, which must be a 200 with a page in it.
    async fn get(&mut self, path: &str, token: &str) -> Result<()> {
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
        ensure!(answer.get(head..).is_some_and(|body| body.starts_with(b"{\"items\":[{")), "{path}: an empty page");
        Ok(())
    }

    async fn read(&mut self, answer: &mut Vec<u8>) -> Result<()> {
        let count = self.stream.read(&mut self.buffer).await?;
        ensure!(count > 0, "the gateway closed the connection");
        answer.extend_from_slice(self.buffer.get(..count).unwrap_or_default());
        Ok(())
    }
}

fn closed(n: i64) -> Record {
    let start = UtcMicros(FIRST + APART * n);
    let end = UtcMicros(start.0 + 60_000_000);
    let mut random = [0; 10];
    random.iter_mut().zip(n.to_be_bytes()).for_each(|(to, from)| *to = from);
    Record {
        id: SessionId::new(start, random),
        username: format!("user-{}", n % 100),
        target: format!("web-{}", n % 50),
        target_addr: "192.0.2.1:22".into(),
        target_login: "root".into(),
        client_ip: IpAddr::V4(Ipv4Addr::new(198, 51, 100, n.unsigned_abs() as u8)),
        node: NodeId("node-a".into()),
        epoch: Epoch(1),
        version: 3,
        authority: Authority::Observed,
        status: Status::Closed,
        end_reason: Some(EndReason::Exited),
        exit_status: Some(0),
        start_time: start,
        last_seen_at: Some(end),
        last_input_at: Some(end),
        end_time: Some(end),
        detected_at: Some(end),
        bytes_in: 100,
        bytes_out: 10_000,
        watchers: 0,
        controlled_by: None,
        recording: None,
        durable: Durable::Records,
    }
}

/// Seconds since 1970 as the API reads a time (civil from days: Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
fn rfc3339(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400) + 719_468, seconds.rem_euclid(86_400));
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_spelled_as_the_calendar_has_it() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_767_323_045), "2026-01-02T03:04:05Z");
    }
}
