//! Scenario: a gateway is killed repeatedly while it records. Every recording must verify, also against the event log,
//! and hold everything that its browser had seen a second before the kill.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    dice::Dice,
    gateway::Gateway,
    report::{Goal, Report},
    shell::{self, Shell},
    target::Target,
};

/// The options of the scenario.
#[derive(Args)]
pub struct Recording {
    /// Number of kills.
    #[arg(long, default_value_t = 50)]
    pub rounds: usize,
    /// Seed for the moments of the kills.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Encrypt the recordings.
    #[arg(long)]
    pub encrypt: bool,
}

impl Recording {
    /// Runs the scenario.
    pub async fn run(self) -> Result<Report> {
        let mut report = Report::new("recording");
        let target = Target::start()?;
        // A fixed address, so that a restarted gateway has the same.
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let encrypt = self.encrypt.to_string();
        let settings = [("PULSEGATE__SERVER__LISTEN", listen.as_str()), ("PULSEGATE__RECORDING__ENCRYPT", &encrypt)];
        let gateway = Gateway::start(target.addr, &settings)?;
        let mut dice = Dice::new(self.seed);
        let (mut broken, mut worst, mut lines) = (0_usize, Duration::ZERO, 0_usize);
        for round in 0..self.rounds {
            let (id, mut terminal) = gateway.terminal().await?;
            let seen = marks(&mut terminal, Instant::now() + dice.millis(300..2_500)).await?;
            let killed = Instant::now();
            gateway.kill();
            gateway.start_again().await?;
            let path = find(&gateway.recordings(), &id).with_context(|| format!("round {round}: no recording"))?;
            let (whole, told) = gateway.tool(&["verify", &path.to_string_lossy()])?;
            let whole = whole && told.contains("the event log tells the same");
            let shown = shown(&gateway.tool(&["replay", "--raw", &path.to_string_lossy()])?.1)?;
            let first_lost = seen.iter().find(|(mark, _)| !shown.contains(mark));
            let lost = first_lost.map_or(Duration::ZERO, |(_, at)| killed - *at);
            if !whole {
                eprintln!("round {round}: {told}");
            }
            (broken, worst, lines) = (broken + usize::from(!whole), worst.max(lost), lines + seen.len());
        }
        report.tell("kills", self.rounds as f64, "");
        report.tell("lines seen before the kills", lines as f64, "");
        report.hold("recordings that do not verify", broken as f64, "", Goal::AtMost(0.0));
        report.hold("oldest missing line, before the kill", worst.as_secs_f64() * 1e3, "ms", Goal::AtMost(1_000.0));
        Ok(report)
    }
}

/// Types numbered lines; returns each with the time it was seen.
async fn marks(shell: &mut impl Shell, until: Instant) -> Result<Vec<(String, Instant)>> {
    let mut seen = Vec::new();
    while Instant::now() < until {
        let mark = format!("mark-{}-", seen.len());
        shell.say(format!("echo {mark}\r").as_bytes()).await?;
        // The prompt comes after the answer, often in the same read.
        shell::hear_until(shell, shell::PROMPT).await?;
        seen.push((mark, Instant::now()));
    }
    Ok(seen)
}

/// Returns the path of a session's recording, anywhere below `folder`.
fn find(folder: &Path, id: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir()
            && let Ok(found) = find(&path, id)
        {
            return Ok(found);
        }
        if path.file_stem().is_some_and(|stem| stem == id) {
            return Ok(path);
        }
    }
    anyhow::bail!("{id} is not there")
}

/// Returns the text that a player would show of an asciicast.
fn shown(cast: &str) -> Result<String> {
    let lines = cast.lines().skip(1).filter(|line| !line.is_empty());
    let events = lines.map(serde_json::from_str::<(f64, String, String)>);
    let mut shown = String::new();
    for event in events {
        let (_, code, text) = event?;
        if code == "o" {
            shown += &text;
        }
    }
    Ok(shown)
}
