//! Scenario: record write throughput, by the statements of the real stores: into SQLite and into a private MariaDB,
//! both durable at every commit. Half of each batch is new, half is changed; once without transitions, which measures
//! the upserts, and once as a gateway writes them, each new record with its event in the chain. Knows no gateway.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use anyhow::{Result, anyhow, ensure};
use clap::Args;
use pulsegate::{
    core::record::{Birth, Epoch, NodeId, Record, SessionId, Status, UtcMicros},
    store::{RecordStore, Write, mysql::MySqlStore, sqlite::SqliteStore},
};

use crate::{
    durability::servers::if_installed,
    mariadb::Mariadb,
    report::{Goal, Report, Samples},
    skipped::skip,
};

/// Lower limits of records per second.
const INTO_SQLITE: f64 = 100_000.0;
const INTO_MARIADB: f64 = 30_000.0;

/// Unmeasured batches, in which statements are prepared and files grow.
const WARM_UP: usize = 4;

/// The options of the scenario.
#[derive(Args)]
pub struct Records {
    /// Records per store.
    #[arg(long, default_value_t = 200_000)]
    pub rows: usize,
    /// Records per batch.
    #[arg(long, default_value_t = 500)]
    pub batch: usize,
}

impl Records {
    /// Runs the scenario; SQLite alone, after a message, if MariaDB is not installed.
    pub async fn run(self) -> Result<Report> {
        ensure!(self.batch >= 2, "a batch has at least two records");
        let mut report = Report::new("records");
        let folder = tempfile::tempdir()?;
        let sqlite = SqliteStore::open(&folder.path().join("records.db")).await?;
        self.measure("SQLite", &sqlite, Some(INTO_SQLITE), &mut report).await?;
        let sqlite = SqliteStore::open(&folder.path().join("events.db")).await?;
        self.measure("SQLite, births with their event", &sqlite, None, &mut report).await?;
        let server = match if_installed(Mariadb::start(&[]))? {
            Ok(server) => server,
            Err(missing) => {
                skip("records into MariaDB", missing);
                return Ok(report);
            }
        };
        server.sql("CREATE DATABASE records").map_err(|why| anyhow!(why))?;
        let mysql = MySqlStore::new(&server.url("records").parse().map_err(|why: String| anyhow!(why))?);
        mysql.migrate(true, |_| {}).await?;
        self.measure("MariaDB", &mysql, Some(INTO_MARIADB), &mut report).await?;
        Ok(report)
    }

    /// Measures one store: the upserts alone if there is a `goal`, else new records with their event.
    async fn measure(
        &self,
        name: &str,
        store: &impl RecordStore,
        goal: Option<f64>,
        report: &mut Report,
    ) -> Result<()> {
        let batches = (self.rows / self.batch).max(1) + WARM_UP;
        let mut commits = Samples::default();
        let mut seconds = 0.0;
        for number in 0..batches {
            let mut batch = self.batch(number);
            if goal.is_none() {
                batch.iter_mut().for_each(tell);
            }
            let begun = Instant::now();
            store.apply(batch).await?;
            if number >= WARM_UP {
                seconds += begun.elapsed().as_secs_f64();
                commits.push(begun.elapsed());
            }
        }
        let last = store.get(id(batches * self.batch.div_ceil(2) - 1)).await?;
        ensure!(last.is_some(), "{name} has lost the last record");
        let rows = ((batches - WARM_UP) * self.batch) as f64;
        match goal {
            Some(goal) => report.hold(format!("{name}: records"), rows / seconds, "per s", Goal::AtLeast(goal)),
            None => report.tell(format!("{name}: records"), rows / seconds, "per s"),
        }
        report.tell(format!("{name}: one batch p50"), commits.quantile_us(0.5) / 1e3, "ms");
        report.tell(format!("{name}: one batch p99"), commits.quantile_us(0.99) / 1e3, "ms");
        Ok(())
    }

    /// Returns new sessions, and as many changed ones from all that were created before.
    fn batch(&self, number: usize) -> Vec<Write> {
        let born = self.batch.div_ceil(2);
        let changed = self.batch - born;
        let known = (number * born).max(1);
        let born = (number * born..(number + 1) * born).map(|n| record(n, 1));
        // A stride that is coprime to most counts spreads the changes over all pages.
        let changed = (0..changed).map(|n| record((n * 7_919 + number) % known, number as u64 + 2));
        born.chain(changed).map(|record| Write { record, transitions: Vec::new() }).collect()
    }
}

/// Adds its event to the write of a new session.
fn tell(write: &mut Write) {
    let Write { record, transitions } = write;
    if record.version == 1 {
        transitions.push(record.transition(record.start_time, "Opened.".to_owned()));
    }
}

fn id(n: usize) -> SessionId {
    let mut random = [0; 10];
    random.iter_mut().zip((n as u64).to_be_bytes()).for_each(|(byte, of)| *byte = of);
    SessionId::new(UtcMicros(1_700_000_000_000_000 + n as i64 * 1_000), random)
}

fn record(n: usize, version: u64) -> Record {
    let start_time = UtcMicros(1_700_000_000_000_000 + n as i64 * 1_000);
    let seen = Some(UtcMicros(start_time.0 + version as i64));
    let birth = Birth {
        id: id(n),
        username: format!("user-{}", n % 100),
        target: format!("web-{}", n % 50),
        target_addr: "192.0.2.1:22".to_owned(),
        target_login: "root".to_owned(),
        client_ip: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
        node: NodeId("gateway-1".to_owned()),
        epoch: Epoch(1),
        start_time,
        recording: None,
    };
    Record {
        version,
        status: Status::Active,
        last_seen_at: seen,
        last_input_at: seen,
        bytes_in: version * 100,
        bytes_out: version * 10_000,
        ..Record::connecting(birth)
    }
}
