//! `pulsegate doctor`: checks everything a gateway keeps, explains each difference and mends what can be mended. Knows
//! what the stores promise, not how they keep it, and no actor: those of a running gateway are compared by its own
//! sweep.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::bail;
use serde_json::json;

use self::{
    compare::{Comparison, View},
    health::{Finding, State},
};
use super::{Report, STOP_IT, ToolContext, plural, progress::Progress, stores};
use crate::{
    cli::Doctor,
    core::{
        audit::Action,
        record::{Epoch, NodeId, UtcMicros},
    },
    data_dir,
    recording::directory::RecordingDir,
    store::{LiveStore, RecordStore, StoreError, mysql::MySqlStore, sqlite::SqliteStore},
};

/// Compares the stores side by side.
mod compare;
/// Checks the data directory, the schema, the chain.
mod health;
/// The kinds of difference and their meaning.
mod plan;
/// Mends differences.
mod repair;
/// Finds sealed secrets that cannot be opened.
mod sealed;
/// Finds targets that cannot be reached.
mod ways;

/// Sessions named per difference; the rest is counted.
const MAX_NAMED: usize = 20;

/// Time within which a running gateway renews its lease: it does so every second, and is not later than this.
const RENEWALS: Duration = Duration::from_millis(3_500);

/// Time between two comparisons of a running gateway: writes on their way between two stores arrive meanwhile.
const SETTLES: Duration = Duration::from_secs(2);

/// The stores that the doctor opened, and what it knows of the gateway.
struct Patient {
    node: NodeId,
    path: PathBuf,
    journal: SqliteStore,
    records: Option<MySqlStore>,
    live: Option<std::sync::Arc<dyn LiveStore>>,
    running: bool,
    retired: Option<UtcMicros>,
}

/// Runs `pulsegate doctor`.
pub async fn run(ctx: &ToolContext, options: &Doctor) -> anyhow::Result<Report> {
    let data_dir = &ctx.config.node.data_dir;
    if !data_dir.is_dir() {
        bail!("node.data_dir: there is no folder {}; is this the configuration of the gateway?", data_dir.display());
    }
    let lock = data_dir::lock_unless_kept(data_dir).await?;
    if lock.is_none() && options.repair {
        bail!("a gateway is running on {}; {STOP_IT}: only a stopped one can be mended", data_dir.display());
    }
    let mut findings = health::folder(&ctx.config, options.repair)?;
    findings.extend(ctx.warnings.iter().map(|says| Finding::note("configuration", says.clone())));
    let records = stores::records(ctx);
    let of_file = health::file_schema(&ctx.database()).await;
    let is_readable = of_file.state == State::Sound;
    findings.push(of_file);
    if !is_readable {
        return Ok(report(findings, None, lock.is_none(), 0));
    }
    let journal = SqliteStore::look(&ctx.database()).await?;
    findings.extend(health::journal(&journal, &ctx.config).await);
    if let Some(records) = &records {
        findings.push(health::schema("schema of the records", records.unaltered_schema().await));
    }
    let is_comparable = findings.last().is_none_or(|finding| finding.state != State::Ill) || records.is_none();
    findings.extend(sealed::examine(ctx, &journal, records.as_ref()).await);
    findings.extend(ways::examine(ctx, &journal, records.as_ref()).await);
    let node = data_dir::known_node_id(data_dir, ctx.config.node.id.as_deref());
    if matches!(node, Ok(None)) {
        health::nameless(&journal, &mut findings).await;
    }
    // One that cannot be read is among the findings.
    let node = node.ok().flatten();
    let (Some(node), true) = (node, is_comparable) else {
        return Ok(report(findings, None, lock.is_none(), 0));
    };
    let lease = Finding::unless_read(&mut findings, "lease", journal.lease(node.clone()).await).flatten();
    let epoch = lease.map_or(Epoch(0), |lease| lease.epoch);
    let live = stores::live(ctx, node.clone(), epoch)?;
    let retention = i64::try_from(ctx.config.store.retention.as_micros()).ok().filter(|retention| *retention > 0);
    let retired = retention.map(|retention| UtcMicros((ctx.utc)().0.saturating_sub(retention)));
    let (path, running) = (ctx.database(), lock.is_none());
    let mut patient = Patient { node, path, journal, records, live, running, retired };
    examine(ctx, options, &mut patient, lock, findings).await
}

async fn examine(
    ctx: &ToolContext,
    options: &Doctor,
    patient: &mut Patient,
    lock: Option<File>,
    mut findings: Vec<Finding>,
) -> anyhow::Result<Report> {
    let serves_elsewhere = if lock.is_some() { patient.serves_elsewhere().await } else { Ok(false) };
    let serves_elsewhere = Finding::unless_read(&mut findings, "lease", serves_elsewhere);
    if serves_elsewhere == Some(true) {
        if options.repair {
            bail!(
                "a gateway named {} serves elsewhere on the same records: this data directory is a copy; nothing was mended",
                patient.node
            );
        }
        patient.running = true;
        findings.push(Finding::ill(
            "lease",
            format!("a gateway named {} serves elsewhere: this data directory is a copy of its own", patient.node),
            "give this one its own node.id, or delete it",
        ));
    }
    let is_shown = match &patient.live {
        Some(live) => Finding::unless_read(&mut findings, "live view", live.open().await).is_some(),
        None => true,
    };
    if !is_shown {
        patient.live = None;
    }
    // What a store that cannot be read knows of a session's end or its last sign of life is not to be written over.
    let mends = options.repair && is_shown && serves_elsewhere.is_some();
    let mend = if mends { Some(ctx.recording_dir()?) } else { None };
    let treated = Finding::unless_read(&mut findings, "stores", patient.treat(ctx, mend.as_ref()).await);
    let (found, mended) = treated.map_or((None, 0), |(found, mended)| (Some(found), mended));
    let report = report(findings, found.as_ref(), patient.running, mended);
    drop(lock);
    Ok(report)
}

impl Patient {
    fn view(&self) -> View<'_> {
        View {
            node: &self.node,
            journal: &self.journal,
            records: self.records.as_ref().map(|records| records as &dyn RecordStore),
            live: self.live.as_deref(),
            running: self.running,
            retired: self.retired,
        }
    }

    async fn compare(&self, ctx: &ToolContext, rows: u64) -> Result<Comparison, StoreError> {
        compare::compare(&self.view(), Progress::new("compare", rows, ctx.clock)).await
    }

    /// Compares the stores, and mends them if the recordings to `mend` them from are given; returns the differences
    /// that are left and the number of sessions written.
    async fn treat(&mut self, ctx: &ToolContext, mend: Option<&RecordingDir>) -> Result<(Comparison, u64), StoreError> {
        let rows = self.journal.contents().await?.records;
        let mut found = self.compare(ctx, rows).await?;
        if self.running && !found.differences.is_empty() {
            tokio::time::sleep(SETTLES).await;
            found = self.compare(ctx, rows).await?.lasting(&found);
        }
        let Some(recording_dir) = mend.filter(|_| !found.differences.is_empty()) else { return Ok((found, 0)) };
        self.journal = stores::journal(ctx, &self.path).await?;
        let total = found.differences.values().map(Vec::len).sum::<usize>() as u64;
        let batch = ctx.config.session.cleanup_batch_size.max(1) as usize;
        let progress = Progress::new("mend", total, ctx.clock);
        let mended = repair::repair(&self.view(), &found, (ctx.utc)(), batch, recording_dir, progress).await;
        let told = match &mended {
            Ok(mended) => format!("{} written.", plural(*mended, "record")),
            Err(_) => "Broken off by a store that failed; what was mended before stays.".to_owned(),
        };
        ctx.did_under_lock(Action::StoreRepair, &self.node.0, &told).await;
        Ok((self.compare(ctx, rows).await?, mended?))
    }

    /// Whether another process renews this node's lease in the records: the lock proves only that none does on this
    /// folder.
    async fn serves_elsewhere(&self) -> Result<bool, StoreError> {
        let Some(records) = &self.records else { return Ok(false) };
        let before = records.lease(self.node.clone()).await?;
        if before.is_none() {
            return Ok(false);
        }
        tokio::time::sleep(RENEWALS).await;
        Ok(records.lease(self.node.clone()).await? != before)
    }
}

fn report(mut findings: Vec<Finding>, found: Option<&Comparison>, running: bool, mended: u64) -> Report {
    if let Some(found) = found {
        let differing: usize = found.differences.values().map(Vec::len).sum();
        let differing = plural(differing as u64, "difference");
        let says = format!("{} compared, {differing}", plural(found.sessions, "session"));
        findings.push(Finding::sound("stores", says));
        for (kind, sessions) in &found.differences {
            let (says, advice) = kind.sentences();
            let passes = running && kind.passes_while_running();
            findings.push(Finding {
                check: "sessions",
                state: if passes { State::Note } else { State::Ill },
                says: format!("{} {says}", plural(sessions.len() as u64, "session")),
                advice: Some(advice.to_owned()),
                kind: Some(*kind),
                count: sessions.len(),
                sessions: sessions.iter().take(MAX_NAMED).copied().collect(),
            });
        }
    }
    let ill = findings.iter().filter(|finding| finding.state == State::Ill).count();
    let mut text: Vec<String> = findings.iter().map(Finding::to_string).collect();
    if running {
        text.push("a gateway is running: sessions change meanwhile, and nothing was written".to_owned());
    }
    if mended > 0 {
        text.push(format!("mended: {} written", plural(mended, "record")));
    }
    text.push(match ill {
        0 => "healthy".to_owned(),
        _ => format!("{} to look at", plural(ill as u64, "finding")),
    });
    let json = json!({"running": running, "mended": mended, "healthy": ill == 0, "findings": findings});
    Report { text: text.join("\n"), json, code: u8::from(ill > 0) }
}

/// Returns the last component of a path.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::tests::context;

    #[tokio::test]
    async fn a_doctor_waits_for_a_command_that_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let ctx = context(dir.path(), || Duration::ZERO);
        let command = data_dir::try_lock(dir.path()).unwrap().unwrap();
        // The first look finds it held.
        let (report, ()) = tokio::join!(run(&ctx, &Doctor { repair: true }), async move { drop(command) });
        assert_eq!(report.unwrap().json["running"], false);
    }
}
