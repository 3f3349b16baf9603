//! The commands that read the audit log. Knows their arguments, not what they do.

use clap::{Subcommand, ValueEnum};

use crate::core::{audit::Head, rfc3339::Rfc3339};

/// The commands that read the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum AuditCommand {
    /// Check that no entry was edited, removed or moved, and print the log's head, to be noted somewhere else.
    Verify {
        /// A head that was noted earlier: the log must still hold it.
        #[arg(long, value_name = "SEQ:HASH", value_parser = head)]
        head: Option<Head>,
    },
    /// Write the entries to standard output, oldest first, one per line.
    Export {
        /// The format.
        #[arg(long, value_name = "FORMAT", value_enum, default_value_t = AuditFormat::Jsonl)]
        format: AuditFormat,
        /// Only entries at or after this time, as 2026-01-02T03:04:05Z.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        since: Option<Rfc3339>,
        /// Only entries before this time.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        until: Option<Rfc3339>,
    },
}

/// The formats of an exported audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AuditFormat {
    /// One JSON object per line.
    Jsonl,
    /// One message of RFC 5424 per line.
    Syslog,
}

fn head(text: &str) -> Result<Head, &'static str> {
    text.parse().map_err(|_| "SEQ:HASH, as `pulsegate audit verify` prints its head")
}

fn moment(text: &str) -> Result<Rfc3339, &'static str> {
    text.parse().map_err(|_| "a time of RFC 3339, as 2026-01-02T03:04:05Z")
}
