//! `pulsegate audit verify` and `pulsegate audit export`: verifies that the audit log of this gateway is as it was
//! written, and exports it for other systems. Reads only, also while the gateway runs.

use std::{
    fmt::Write as _,
    io::{self, BufWriter, Write},
};

use anyhow::{Context, bail, ensure};
use serde_json::json;

use super::{Report, ToolContext, plural};
use crate::{
    cli::{AuditCommand, AuditFormat},
    console::UNWRITTEN,
    core::{
        audit::{Entry, Head, Outcome},
        record::UtcMicros,
        rfc3339::Rfc3339,
    },
    data_dir,
    store::sqlite::{Broken, Followed, SqliteStore},
};

/// The facility *log audit* of RFC 5424 §6.2.1.
const FACILITY: u8 = 13;

/// Severities of RFC 5424: *Warning* for a denied action, *Notice* for everything else.
const SEVERITIES: (u8, u8) = (4, 5);

/// The name of the structured data. 32473 is the enterprise number that RFC 5612 reserves for documentation: this
/// project has none of its own, and no other organization's may be used.
const SD_ID: &str = "audit@32473";

/// Maximum length of HOSTNAME in characters (RFC 5424 §6).
const HOSTNAME: usize = 255;

/// Runs `pulsegate audit`.
pub async fn run(ctx: &ToolContext, command: &AuditCommand) -> anyhow::Result<Report> {
    let journal = SqliteStore::look(&ctx.existing_database()?).await?;
    if journal.schema().await?.iter().any(|(_, taken)| !taken) {
        bail!("the schema is of an older release: stop the gateway and run `pulsegate migrate`");
    }
    match command {
        AuditCommand::Verify { head } => verify(&journal, *head).await,
        AuditCommand::Export { format, since, until } => {
            let node = data_dir::known_node_id(&ctx.config.node.data_dir, ctx.config.node.id.as_deref())?;
            let node = node.map_or_else(|| "-".to_owned(), |node| node.0);
            let (since, until) = (since.map(|moment| moment.0), until.map(|moment| moment.0));
            export(&journal, &node, *format, since, until).await
        }
    }
}

async fn verify(journal: &SqliteStore, noted: Option<Head>) -> anyhow::Result<Report> {
    let followed = journal.follow_audit(noted).await?;
    let Followed { entries, first_at, last_at, head, broken } = &followed;
    let mut text = match (first_at, last_at) {
        (Some(first), Some(last)) => {
            format!("{} from {} to {}", plural(*entries, "entry"), Rfc3339(*first), Rfc3339(*last))
        }
        _ => "no entries".to_owned(),
    };
    match broken {
        None => write!(text, "; the log is whole\nhead: {head}")?,
        Some(Broken { sequence, what }) => write!(text, " are whole\nentry {sequence}: {what}\nlast good: {head}")?,
    }
    let json = json!({
        "whole": broken.is_none(), "entries": entries, "from": first_at.map(Rfc3339), "to": last_at.map(Rfc3339),
        "head": head.to_string(),
        "bad": broken.as_ref().map(|broken| json!({"seq": broken.sequence, "what": broken.what.to_string()})),
    });
    Ok(Report { text, json, code: u8::from(broken.is_some()) })
}

/// Writes the entries while they are read: a log may be larger than memory.
async fn export(
    journal: &SqliteStore,
    node: &str,
    format: AuditFormat,
    since: Option<UtcMicros>,
    until: Option<UtcMicros>,
) -> anyhow::Result<Report> {
    let mut out = BufWriter::new(io::stdout());
    let wanted = |at: UtcMicros| since.is_none_or(|since| at >= since) && until.is_none_or(|until| at < until);
    let outcome = journal.read_audit(|entry| {
        if wanted(entry.at) {
            writeln!(out, "{}", line(entry, node, format)).context(UNWRITTEN)?;
        }
        Ok(())
    });
    let outcome = outcome.await.and_then(|unreadable| out.flush().map(|()| unreadable).context(UNWRITTEN));
    let unreadable = match outcome {
        // The reader has read enough.
        Err(error) if is_broken_pipe(&error) => 0,
        outcome => outcome?,
    };
    let broken = journal.follow_audit(None).await?.broken;
    let broken = broken
        .map(|Broken { sequence, what }| format!("the log that was exported is not whole: entry {sequence}: {what}"));
    let left_out = (unreadable > 0).then(|| format!("left out, as not readable here: {}", plural(unreadable, "entry")));
    let wrong: Vec<String> = broken.into_iter().chain(left_out).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(Report { text: String::new(), json: serde_json::Value::Null, code: 0 })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Returns one entry as one line, with control characters made visible even in an entry that another program wrote.
fn line(entry: &Entry, node: &str, format: AuditFormat) -> String {
    let entry = Entry { deed: entry.deed.clone().bounded(), ..entry.clone() };
    match format {
        AuditFormat::Jsonl => json_line(&entry, node),
        AuditFormat::Syslog => syslog_line(&entry, node),
    }
}

fn json_line(Entry { sequence, at, deed }: &Entry, node: &str) -> String {
    json!({
        "seq": sequence, "at": Rfc3339(*at), "node": node, "actor": deed.actor, "client_ip": deed.client_ip,
        "action": deed.action, "subject": deed.subject, "outcome": deed.outcome, "detail": deed.detail,
    })
    .to_string()
}

/// Returns one entry as a message of RFC 5424 §6. Its text has no byte order mark, so that it counts as MSG-ANY; it is
/// UTF-8 all the same.
fn syslog_line(Entry { sequence, at, deed }: &Entry, node: &str) -> String {
    let severity = if deed.outcome == Outcome::Refused { SEVERITIES.0 } else { SEVERITIES.1 };
    let hostname: String = node.chars().filter(char::is_ascii_graphic).take(HOSTNAME).collect();
    let hostname = if hostname.is_empty() { "-" } else { &hostname };
    let mut data = format!("seq=\"{sequence}\" actor=\"{}\"", param(&deed.actor));
    if let Some(ip) = deed.client_ip {
        // Writing to a string cannot fail.
        _ = write!(data, " client_ip=\"{ip}\"");
    }
    format!(
        "<{}>1 {} {hostname} pulsegate - {} [{SD_ID} {data} subject=\"{}\" outcome=\"{}\"] {}",
        FACILITY * 8 + severity,
        Rfc3339(*at),
        deed.action,
        param(&deed.subject),
        deed.outcome,
        deed.detail
    )
}

/// Escapes a PARAM-VALUE (RFC 5424 §6.3.3).
fn param(value: &str) -> String {
    let mut escaped = String::new();
    for letter in value.chars() {
        if matches!(letter, '"' | '\\' | ']') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::audit::{Action, Deed};

    fn entry(actor: &str, detail: &str) -> Entry {
        let deed = Deed::refused(Action::SignIn, actor, [192, 0, 2, 7].into(), actor, detail);
        Entry { sequence: 7, at: UtcMicros(1_767_323_045_678_901), deed }
    }

    /// Parses the structured data as RFC 5424 §6.3 says; returns its parameters and the message behind it.
    fn params(line: &str) -> (Vec<(String, String)>, String) {
        let data = line.split_once(" [audit@32473").unwrap().1;
        let (mut found, mut letters) = (Vec::new(), data.chars());
        loop {
            match letters.next().unwrap() {
                ']' => return (found, letters.as_str().trim_start().to_owned()),
                ' ' => {}
                other => panic!("{other:?} between parameters: {line}"),
            }
            let name: String = letters.by_ref().take_while(|letter| *letter != '=').collect();
            assert_eq!(letters.next(), Some('"'), "{line}");
            let mut value = String::new();
            loop {
                match letters.next().unwrap() {
                    '"' => break,
                    '\\' => value.push(letters.next().unwrap()),
                    ']' => panic!("an unescaped ] in a value: {line}"),
                    letter => value.push(letter),
                }
            }
            found.push((name, value));
        }
    }

    #[test]
    fn a_plain_entry_is_spelled_as_rfc_5424_says() {
        let line = line(&entry("ada", "Wrong password."), "gw-1", AuditFormat::Syslog);
        let head = "<108>1 2026-01-02T03:04:05.678901Z gw-1 pulsegate - sign_in ";
        let data = "[audit@32473 seq=\"7\" actor=\"ada\" client_ip=\"192.0.2.7\" subject=\"ada\" outcome=\"refused\"]";
        assert_eq!(line, format!("{head}{data} Wrong password."));
        let stop = Entry { deed: Deed::of_gateway(Action::GatewayStop, "gw-1", "In order."), ..entry("", "") };
        let line = syslog_line(&stop, "a gw\n");
        assert!(line.starts_with("<109>1 ") && line.contains(" agw pulsegate - gateway.stop ["), "{line}");
        assert!(!line.contains("client_ip"));
    }

    #[test]
    fn a_hostile_name_forges_neither_a_line_nor_a_parameter() {
        let hostile = "ada\" outcome=\"ok\"]\r\n<109>1 2026-01-02T03:04:05Z gw pulsegate - sign_in - \u{202e}\\";
        for format in [AuditFormat::Jsonl, AuditFormat::Syslog] {
            let line = line(&entry(hostile, hostile), "gw-1\n", format);
            assert_eq!(line.lines().count(), 1, "{line}");
            assert!(line.chars().all(crate::core::visible::is_visible), "{line}");
        }
        let shown = "ada\" outcome=\"ok\"]\\u{d}\\u{a}<109>1 2026-01-02T03:04:05Z gw pulsegate - sign_in - \\u{202e}\\";
        let (found, message) = params(&line(&entry(hostile, "so"), "gw-1", AuditFormat::Syslog));
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["seq", "actor", "client_ip", "subject", "outcome"]);
        assert_eq!((found[1].1.as_str(), found[4].1.as_str(), message.as_str()), (shown, "refused", "so"));
        let json = line_as_json(hostile);
        assert_eq!((json["actor"].as_str(), json["outcome"].as_str()), (Some(shown), Some("refused")));
    }

    fn line_as_json(actor: &str) -> serde_json::Value {
        serde_json::from_str(&line(&entry(actor, ""), "gw-1", AuditFormat::Jsonl)).unwrap()
    }
}
