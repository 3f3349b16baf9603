//! Skipping of a test whose program is not installed: it prints the reason and is counted.

use std::{
    fs::OpenOptions,
    io::{self, Write},
};

/// Prints that `test` cannot run here, and adds it to the file named by `PULSEGATE_SKIPPED`.
pub fn skip(test: &str, why: &str) {
    // Past the harness, which keeps what a test that passes prints.
    writeln!(io::stderr(), "{test}: skipped: {why}").ok();
    let Some(list) = std::env::var_os("PULSEGATE_SKIPPED") else { return };
    let noted = OpenOptions::new().append(true).create(true).open(list);
    if let Err(error) = noted.and_then(|mut list| writeln!(list, "{test}: {why}")) {
        println!("{test}: counted as passed: {error}");
    }
}
