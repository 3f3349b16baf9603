//! Fixtures: each starts a private instance of something real and stops it when dropped.

pub mod sshd;
pub mod terminal;

use std::{fs::OpenOptions, io::Write};

/// Starts an [`sshd::Sshd`], or ends the test as skipped.
#[macro_export]
macro_rules! sshd {
    ($options:expr) => {
        match $crate::support::sshd::Sshd::start($options) {
            Ok(sshd) => sshd,
            Err(why) => return $crate::support::skip(std::thread::current().name().unwrap_or_default(), &why),
        }
    };
}

/// Says that `test` cannot run here, and adds it to the file that `PULSEGATE_SKIPPED` names.
pub fn skip(test: &str, why: &str) {
    println!("skipped: {why}");
    if let Some(list) = std::env::var_os("PULSEGATE_SKIPPED") {
        let mut list = OpenOptions::new().append(true).create(true).open(list).unwrap();
        writeln!(list, "{test}: {why}").unwrap();
    }
}
