//! `pulsegate verify`: verifies that a recording is as it was written, by itself and against the event log. Changes
//! nothing.

use std::{io::ErrorKind, path::Path};

use anyhow::Context;
use serde_json::json;

use super::{Report, ToolContext};
use crate::{
    cli::Verify,
    core::{audit::Action, record::SessionId},
    recording::{
        Seal, chain, text,
        verify::{Damage, Verdict, verify_file},
    },
    store::{RecordStore, StoreError, audit::details, sqlite::SqliteStore},
};

/// The event log's statement on a recording.
enum Log {
    /// There is no log here, or the session is not in it.
    Silent,
    /// The log holds this seal.
    Tells(Seal),
    /// The session is in it, without a seal.
    Unsealed,
}

/// Runs `pulsegate verify`.
pub async fn run(ctx: &ToolContext, options: &Verify) -> anyhow::Result<Report> {
    let path = &options.file;
    let read = ctx.recording_dir()?.read(path).and_then(verify_file);
    let mut verdict = match read {
        // The damage leaves no recording, or none that can be read to its end.
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Verdict { damage: Some(Damage { from: 0, until: 0, what: error.to_string() }), ..Verdict::default() }
        }
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let (named, told) = (
        text::session(path).and_then(|name| name.parse().ok()),
        verdict.header.as_ref().and_then(|header| header.session.parse().ok()),
    );
    let log = match told.or(named) {
        Some(session) if verdict.damage.is_none() => {
            verdict.damage = misplaced(named, told);
            log(ctx, session).await?
        }
        _ => Log::Silent,
    };
    if verdict.damage.is_none() {
        verdict.damage = contradicts(&verdict, &log);
    }
    Ok(report(path, &verdict, &log))
}

/// Returns the damage if a recording is in the place of another: the file is named after one session and its header
/// names another.
fn misplaced(named: Option<SessionId>, told: Option<SessionId>) -> Option<Damage> {
    let named = named?;
    let holds = told.map_or_else(|| "no session".to_owned(), |told| told.to_string());
    let what = format!("the file is named after session {named} and holds the recording of {holds}");
    (told != Some(named)).then_some(Damage { from: 0, until: 0, what })
}

async fn log(ctx: &ToolContext, session: SessionId) -> anyhow::Result<Log> {
    if !ctx.database().exists() {
        return Ok(Log::Silent);
    }
    Ok(told_by(&SqliteStore::look(&ctx.database()).await?, session).await?)
}

/// Returns what the history of a session tells of its recording, or the audit log where the seal came too late for the
/// close.
async fn told_by(journal: &SqliteStore, session: SessionId) -> Result<Log, StoreError> {
    let history = journal.history(session).await?;
    let late = details(journal, Action::RecordingSeal, &session.to_string()).await?;
    let mut told = history.iter().rev().map(|passed| &passed.detail).chain(&late);
    Ok(match told.find_map(|detail| Seal::told_in(detail)) {
        Some(seal) => Log::Tells(seal),
        None if history.is_empty() => Log::Silent,
        None => Log::Unsealed,
    })
}

fn contradicts(verdict: &Verdict, log: &Log) -> Option<Damage> {
    let Log::Tells(told) = log else { return None };
    let damage = |from: u64, what: String| Some(Damage { from, until: verdict.bytes.max(told.bytes), what });
    match verdict.seal {
        Some(seal) if seal == *told => None,
        Some(_) => {
            damage(0, "the recording is whole, but it is not the one of the event log: it was replaced".to_owned())
        }
        None => damage(
            verdict.bytes,
            format!("the event log tells of {} bytes and their seal; the end is missing", told.bytes),
        ),
    }
}

fn report(path: &Path, verdict: &Verdict, log: &Log) -> Report {
    let Verdict { bytes, events, seconds, seal, uncovered, damage, .. } = verdict;
    let shown = path.display();
    let log = match log {
        Log::Silent => "not in the event log of this data directory",
        Log::Tells(_) => "the event log tells the same",
        Log::Unsealed => "the event log tells no seal",
    };
    let text = match (damage, seal) {
        (Some(Damage { from, until, what }), _) if from < until => {
            format!("{shown}: {what}\nthe damage lies in bytes {from} … {}", until - 1)
        }
        // What is known of the place stands in the sentence.
        (Some(Damage { what, .. }), _) => format!("{shown}: {what}"),
        (None, Some(seal)) => format!(
            "{shown}: whole: {events} events in {seconds:.3} s, {bytes} bytes, sealed {}; {log}",
            chain::hex(&seal.head)
        ),
        (None, None) => format!(
            "{shown}: whole so far: {events} events in {seconds:.3} s, {bytes} bytes, not sealed: no link covers the \
             last {uncovered} bytes yet; {log}"
        ),
    };
    let json = json!({
        "file": path, "whole": damage.is_none(), "sealed": seal.map(|seal| chain::hex(&seal.head)), "bytes": bytes,
        "events": events, "seconds": seconds, "uncovered_bytes": uncovered, "log": log,
        "bad": damage.as_ref().map(|damage| json!({"from": damage.from, "until": damage.until, "what": damage.what})),
    });
    Report { text, json, code: u8::from(damage.is_some()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{
            audit::Deed,
            record::{UtcMicros, fixture},
        },
        store::{Write, audit::AuditLog},
    };

    #[tokio::test]
    async fn a_seal_that_came_too_late_for_the_close_is_found_in_the_audit_log() {
        let folder = tempfile::tempdir().unwrap();
        let journal = SqliteStore::open(&folder.path().join("journal.db")).await.unwrap();
        let record = fixture::opened(UtcMicros(1_000_000));
        let (id, seal) = (record.id, Seal { bytes: 7, head: [0xab; 32] });
        assert!(matches!(told_by(&journal, id).await.unwrap(), Log::Silent));
        let transitions = vec![record.transition(UtcMicros(1_000_000), "told".into())];
        journal.apply(vec![Write { record, transitions }]).await.unwrap();
        let noted =
            |subject: String| (UtcMicros(0), Deed::of_gateway(Action::RecordingSeal, subject, &seal.to_string()));
        journal.append(vec![noted("another".into())]).await.unwrap();
        assert!(matches!(told_by(&journal, id).await.unwrap(), Log::Unsealed));
        journal.append(vec![noted(id.to_string())]).await.unwrap();
        assert!(matches!(told_by(&journal, id).await.unwrap(), Log::Tells(told) if told == seal));
    }

    fn told(from: u64, until: u64) -> String {
        let damage = Some(Damage { from, until, what: "their hash differs".to_owned() });
        report(Path::new("s.cast"), &Verdict { damage, ..Verdict::default() }, &Log::Silent).text
    }

    #[test]
    fn a_damage_has_a_place_only_where_it_is_known() {
        assert_eq!(told(100, 1_096), "s.cast: their hash differs\nthe damage lies in bytes 100 … 1095");
        assert_eq!(told(0, 0), "s.cast: their hash differs");
    }
}
