//! Standard output and standard error, whose readers may go away and whose disk may fill up: where the macros of `std`
//! panic, these go on. Does not know what is said.

use std::io::{self, Write};

/// Text before the reason why standard output cannot be written.
pub const UNWRITTEN: &str = "cannot write to standard output";

/// Writes a line to standard output. A reader that went away has read enough: that is no error.
///
/// # Errors
/// If the line cannot be written.
pub fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Writes a failure to standard error: in words, or in JSON as the log lines before it.
pub fn complain(sentence: &str, json: bool) {
    mention(&if json {
        serde_json::json!({ "error": sentence }).to_string()
    } else {
        format!("pulsegate: {sentence}")
    });
}

/// Writes a line to standard error, if that can be written.
pub fn mention(line: &str) {
    // Nobody else could be told.
    writeln!(io::stderr(), "{line}").ok();
}
