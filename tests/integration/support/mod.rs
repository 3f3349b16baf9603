//! Fixtures: each starts a private instance of something real and stops it when dropped.

pub mod browser;
pub mod by_hand;
pub mod documented;
pub mod events;
pub mod frames;
pub mod gateway;
pub mod http;
pub mod line;
pub mod mariadb;
pub mod playground;
pub mod provider;
pub mod redis;
mod skipped;
pub mod sshd;
pub mod terminal;

use std::time::{Duration, Instant};

pub use skipped::skip;

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

/// Polls until `look` finds something.
#[track_caller]
pub fn eventually<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < within, "it did not come about within {within:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Polls for as long as `during`: `holds` must be true every time.
#[track_caller]
pub fn eventually_nothing_changes(during: Duration, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < during {
        assert!(holds(), "it changed after {:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Returns how long it took until `look` found something; fails beyond `limit`.
#[track_caller]
pub fn eventually_within(limit: Duration, what: &str, mut look: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !look() {
        assert!(begun.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    begun.elapsed()
}
