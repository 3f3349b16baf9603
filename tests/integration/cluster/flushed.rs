//! A Redis that loses everything: a query to any other node returns the same sessions within a second.

use std::{collections::BTreeSet, time::Duration};

use super::within;
use crate::site;

/// The maximum number of sessions of one user.
const OPEN: usize = 50;

/// Length of an id, which no other line of Redis' answers has.
const ID: usize = 36;

#[test]
fn a_flushed_redis_shows_the_same_sessions_on_the_other_node_within_a_second() {
    let site = site!();
    let (one, two) = (site.gateway("gw-1"), site.gateway("gw-2"));
    let opened: BTreeSet<String> = (0..OPEN).map(|_| one.opens("playground")).collect();
    let listed = || -> BTreeSet<String> {
        let sessions = two.lists("status=connecting&status=active&status=detached&limit=500");
        sessions.iter().map(|session| session["id"].as_str().unwrap().to_owned()).collect()
    };
    let shown = || -> BTreeSet<String> {
        let beats = site.redis.ask("ZRANGE pulsegate:{gw-1}:beats 0 -1").unwrap();
        beats.lines().filter(|line| line.len() == ID).map(str::to_owned).collect()
    };
    within(Duration::from_secs(5), "seen", || shown() == opened && listed() == opened);
    assert!(site.redis.ask("FLUSHALL").unwrap().starts_with("+OK"));
    let took = within(Duration::from_secs(1), "whole again", || shown() == opened && listed() == opened);
    println!("whole again after {took:?}");
}
