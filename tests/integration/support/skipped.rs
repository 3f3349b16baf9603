//! What becomes of a test whose program is missing: it says so and is counted.

use std::{fs::OpenOptions, io::Write};

/// Says that `test` cannot run here, and adds it to the file that `PULSEGATE_SKIPPED` names.
pub fn skip(test: &str, why: &str) {
    println!("skipped: {why}");
    if let Some(list) = std::env::var_os("PULSEGATE_SKIPPED") {
        let mut list = OpenOptions::new().append(true).create(true).open(list).unwrap();
        writeln!(list, "{test}: {why}").unwrap();
    }
}
