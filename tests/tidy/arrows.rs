//! The rules about modules ("rooms"): which may import which, and what only one of them may do.

use std::collections::BTreeSet;

use crate::{Broken, source::Source};

/// The top-level modules, each with those it may import. A new one must be added here with its imports.
const ARROWS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("store", &["core"]),
    ("recording", &["core"]),
    ("ssh", &["core"]),
    ("notify", &["core"]),
    ("config", &["core"]),
    ("console", &[]),
    ("actor", &["core", "store", "recording", "ssh", "notify"]),
    ("web", &["core", "store", "recording", "ssh", "notify", "actor"]),
    ("cli", &["core", "config"]),
    ("data_dir", &["core"]),
    ("tool", &["core", "store", "recording", "ssh", "config", "cli", "data_dir", "console"]),
    (
        "app",
        &[
            "core",
            "store",
            "recording",
            "ssh",
            "config",
            "cli",
            "data_dir",
            "console",
            "tool",
            "notify",
            "actor",
            "web",
        ],
    ),
    ("main", &["config", "cli", "console", "tool", "app"]),
    ("lib", &[]),
];

/// Crates and modules that the pure core must not name: runtimes, stores, I/O, randomness, locks, threads.
const IMPURE: &[&str] = &[
    "actix",
    "actix_rt",
    "actix_web",
    "async",
    "await",
    "futures_util",
    "getrandom",
    "parking_lot",
    "rand",
    "redis",
    "russh",
    "sqlx",
    "std::env",
    "std::fs",
    "std::io",
    "std::process",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::thread",
    "tokio",
];

/// Paths that read a clock, randomness or the network.
const IMPURE_ENDS: &[&str] = &["SystemTime", "TcpListener", "TcpStream", "UdpSocket", "Uuid::new_v4", "Uuid::now_v7"];

const CLOCKS: &[&str] = &["Instant::now", "SystemTime::now", "UtcMicros::now", "Utc::now"];

const STORE_WRITES: &[&str] = &[".apply(", ".begin_epoch(", ".renew_lease(", ".delete_closed(", ".remove_gone("];

fn room(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    Some(inside.split_once('/').map_or_else(|| inside.trim_end_matches(".rs"), |(folder, _)| folder))
}

/// Whether `path` names `item` itself or something in it.
fn within(path: &str, item: &str) -> bool {
    path.strip_prefix(item).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Whether `path` ends with `end`, at a boundary between segments.
fn ends(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
}

/// The paths of a file in the room `here` that lead into another room, which stands behind each.
fn ways_out(source: &Source, here: &str) -> Vec<(usize, String, &'static str)> {
    // In the file of a room itself, `super` is the crate.
    let is_root = source.path.ends_with("/mod.rs") || source.path.matches('/').count() == 1;
    let mut ways = Vec::new();
    for (line, path) in source.paths() {
        let mut prefixes = vec!["crate::", "pulsegate::"];
        if is_root && !source.is_test(line) {
            prefixes.push("super::");
        }
        let inside = prefixes.iter().find_map(|prefix| path.strip_prefix(prefix));
        let first = inside.and_then(|inside| inside.split("::").next());
        let there = ARROWS.iter().map(|(name, _)| *name).find(|name| Some(*name) == first && *name != here);
        if let Some(there) = there {
            ways.push((line, path, there));
        }
    }
    ways
}

/// Imports go one way: `core ← store, recording, ssh, notify ← actor ← web ← app ← main`.
pub fn imports_follow_the_arrows(source: &Source) -> Vec<Broken> {
    let Some(here) = room(&source.path) else { return Vec::new() };
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == here) else {
        return vec![Broken::new(1, format!("the room {here} has no arrows: give it some in tests/tidy/arrows.rs"))];
    };
    let up = source.paths().into_iter().filter(|(line, path)| within(path, "super::super") && !source.is_test(*line));
    let up = up.map(|(line, path)| Broken::new(line, format!("`{path}`: say it from `crate::`")));
    let out = ways_out(source, here).into_iter().filter(|(_, _, there)| !allowed.contains(there));
    let out = out.map(|(line, path, there)| Broken::new(line, format!("{here} must not know {there}: `{path}`")));
    up.chain(out).collect()
}

/// Arrows that no file goes: a room that could know another one and does not is to stay so.
pub fn stale(sources: &[Source]) -> Vec<Broken> {
    let rooms = sources.iter().filter_map(|source| Some((room(&source.path)?, source)));
    let gone: BTreeSet<(&str, &str)> = rooms
        .flat_map(|(here, source)| ways_out(source, here).into_iter().map(move |(_, _, there)| (here, there)))
        .collect();
    let arrows = ARROWS.iter().flat_map(|(from, to)| to.iter().map(move |to| (*from, *to)));
    let stale = arrows.filter(|arrow| !gone.contains(arrow));
    stale.map(|(from, to)| Broken::new(1, format!("{from} does not know {to}: take its arrow away"))).collect()
}

/// What calls a store, and what opens an SSH connection. Their values have other names.
const DOORS: &[&str] = &[
    "crate::ssh::Connector",
    "crate::ssh::Dial",
    "crate::ssh::Link",
    "crate::ssh::RusshConnector",
    "crate::store::Journal",
    "crate::store::LiveStore",
    "crate::store::RecordStore",
    "crate::store::SharedRecords",
    "crate::store::audit::AuditLog",
    "crate::store::audit::WebhookCursorStore",
    "crate::store::memory",
    "crate::store::mysql",
    "crate::store::people::PeopleStore",
    "crate::store::redis",
    "crate::store::sign_ins::SignInStore",
    "crate::store::sqlite",
];

/// Doors that are declared nowhere: one whose name changed would bar nothing.
pub fn missing_doors(sources: &[Source]) -> Vec<Broken> {
    let behind = sources.iter().filter(|source| matches!(room(&source.path), Some("ssh" | "store")));
    let declared: BTreeSet<&str> = behind.flat_map(declared).collect();
    let missing = DOORS.iter().filter(|door| !door.rsplit("::").next().is_some_and(|name| declared.contains(name)));
    missing.map(|door| Broken::new(1, format!("nobody declares {door}: name the door anew"))).collect()
}

/// The names of the modules, structs and traits that a file declares.
fn declared(source: &Source) -> impl Iterator<Item = &str> {
    let words = source.code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    words.clone().zip(words.skip(1)).filter(|(kind, _)| ["mod", "struct", "trait"].contains(kind)).map(|(_, name)| name)
}

/// The web asks actors: it calls no store and opens no SSH connection, though it may name their values.
pub fn the_web_opens_no_door(source: &Source) -> Vec<Broken> {
    if room(&source.path) != Some("web") {
        return Vec::new();
    }
    let found = source.paths().into_iter().filter(|(line, _)| !source.is_test(*line));
    let found = found.filter(|(_, path)| DOORS.iter().any(|door| within(path, door)));
    found.map(|(line, path)| Broken::new(line, format!("`{path}` in the web: ask an actor"))).collect()
}

/// The core names no runtime, clock, I/O, randomness or lock; its tests may read a clock to have an instant.
pub fn the_core_is_pure(source: &Source) -> Vec<Broken> {
    if room(&source.path) != Some("core") {
        return Vec::new();
    }
    let impure = |line: usize, path: &str| {
        IMPURE.iter().any(|item| within(path, item))
            || IMPURE_ENDS.iter().any(|end| ends(path, end))
            || (ends(path, "Instant::now") && !source.is_test(line))
    };
    let found = source.paths().into_iter().filter(|(line, path)| impure(*line, path));
    found.map(|(line, path)| Broken::new(line, format!("`{path}` in the pure core"))).collect()
}

/// Only actors and the composition root read a clock; all other code is given `now`.
pub fn few_read_the_clock(source: &Source) -> Vec<Broken> {
    if matches!(room(&source.path), None | Some("actor" | "app")) {
        return Vec::new();
    }
    let reads = source.paths().into_iter().filter(|(_, path)| CLOCKS.iter().any(|clock| ends(path, clock)));
    let elapsed = source.lines_with(".elapsed()").into_iter().map(|line| (line, ".elapsed()".to_owned()));
    let found = reads.chain(elapsed).filter(|(line, _)| !source.is_test(*line));
    found.map(|(line, path)| Broken::new(line, format!("`{path}` reads the clock: take `now`"))).collect()
}

/// Files besides the registry that write to a store, each with the reason.
const OTHER_WRITERS: &[(&str, &str)] =
    &[("src/tool/doctor/repair.rs", "no gateway runs meanwhile: it holds the data directory's lock")];

/// Only the registry writes sessions and leases; stores write to their own parts, and test themselves.
pub fn only_the_registry_writes(source: &Source) -> Vec<Broken> {
    let exempt = matches!(room(&source.path), None | Some("store"))
        || source.path.starts_with("src/actor/registry")
        || OTHER_WRITERS.iter().any(|(path, _)| *path == source.path);
    let found = STORE_WRITES.iter().flat_map(|call| source.lines_with(call).into_iter().map(move |line| (line, call)));
    let found = found.filter(|(line, _)| !exempt && !source.is_test(*line));
    found.map(|(line, call)| Broken::new(line, format!("`{call}…)` outside the registry"))).collect()
}

/// actix-web-actors is used in one place, and nothing is supervised by actix, whose supervisor does not restart after a
/// panic.
pub fn actix_stays_in_its_place(source: &Source) -> Vec<Broken> {
    let mut broken = Vec::new();
    for (line, path) in source.paths() {
        if within(&path, "actix_web_actors") && source.path.starts_with("src/") && source.path != "src/web/terminal.rs"
        {
            broken.push(Broken::new(line, "actix_web_actors outside src/web/terminal.rs".to_owned()));
        }
        if path.starts_with("actix::") && ends(&path, "Supervisor") || ends(&path, "Supervisor::start") {
            broken.push(Broken::new(line, format!("`{path}`: use our own supervisor")));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines;

    #[test]
    fn a_wrong_arrow_is_found() {
        let rule = imports_follow_the_arrows;
        assert_eq!(lines(rule, "src/core/a.rs", "use crate::{core::record, store::Write};"), [1]);
        assert_eq!(lines(rule, "src/store/a.rs", "\nfn a() { crate::ssh::Size; }"), [2]);
        assert_eq!(lines(rule, "src/ssh/a.rs", "use crate::store::Write;"), [1]);
        assert_eq!(lines(rule, "src/web/a.rs", "use crate::config::Config;"), [1]);
        assert_eq!(lines(rule, "src/config/a.rs", "use crate::store::mysql::MySqlStore;"), [1]);
        assert_eq!(lines(rule, "src/store/mod.rs", "use super::web::route;"), [1]);
        assert_eq!(lines(rule, "src/store/a.rs", "use super::super::web;"), [1]);
        assert_eq!(lines(rule, "src/cellar/a.rs", ""), [1]);
        assert!(
            lines(rule, "src/web/a.rs", "use crate::{actor::Ask, web::error, ssh::Size}; // crate::app").is_empty()
        );
        assert!(lines(rule, "src/main.rs", "use pulsegate::app;").is_empty());
        assert!(lines(rule, "tests/a.rs", "use pulsegate::app;").is_empty());
    }

    #[test]
    fn a_stale_arrow_is_found() {
        let found: Vec<String> = stale(&[Source::new("src/ssh/a.rs", "use crate::core::record;")])
            .into_iter()
            .map(|broken| broken.what)
            .collect();
        assert!(found.contains(&"store does not know core: take its arrow away".to_owned()), "{found:?}");
        assert!(!found.iter().any(|what| what.starts_with("ssh ")), "{found:?}");
    }

    #[test]
    fn a_door_in_the_web_is_found() {
        let rule = the_web_opens_no_door;
        assert_eq!(lines(rule, "src/web/a.rs", "use crate::store::{ListQuery, sqlite::SqliteStore};"), [1]);
        assert_eq!(lines(rule, "src/web/a.rs", "fn a(b: &dyn crate::store::people::PeopleStore) {}"), [1]);
        assert_eq!(lines(rule, "src/web/a.rs", "use crate::ssh::{Size, Connector};"), [1]);
        assert!(lines(rule, "src/web/a.rs", "use crate::{ssh::DialEvent, store::people::Change};").is_empty());
        assert!(lines(rule, "src/web/a.rs", "#[cfg(test)]\nmod tests {\n use crate::store::Journal;\n}").is_empty());
        assert!(lines(rule, "src/app.rs", "use crate::store::sqlite::SqliteStore;").is_empty());
    }

    #[test]
    fn a_missing_door_is_found() {
        let door = |path: &str, text: &str| {
            let missing = missing_doors(&[Source::new(path, text)]);
            missing.iter().any(|broken| broken.what.contains("crate::ssh::Link:"))
        };
        assert!(!door("src/ssh/a.rs", "pub struct Link {"));
        assert!(door("src/ssh/a.rs", "pub struct Links {} // struct Link"));
        assert!(door("src/web/a.rs", "pub struct Link {"));
    }

    #[test]
    fn an_impure_core_is_found() {
        let rule = the_core_is_pure;
        for text in ["use tokio::time::Instant;", "use std::{fmt, fs};", "async fn a() {}", "use std::net::TcpStream;"]
        {
            assert_eq!(lines(rule, "src/core/a.rs", text), [1], "{text}");
        }
        assert_eq!(lines(rule, "src/core/a.rs", "fn a() { Instant::now(); }"), [1]);
        assert_eq!(lines(rule, "src/core/a.rs", "fn a() { b.await; uuid::Uuid::now_v7(); }"), [1]);
        assert!(lines(rule, "src/core/a.rs", "use std::{net::IpAddr, time::Instant};").is_empty());
        assert!(lines(rule, "src/core/a.rs", "#[cfg(test)]\nmod tests {\n fn a() { Instant::now(); }\n}").is_empty());
        assert!(lines(rule, "src/ssh/a.rs", "use tokio::net;").is_empty());
    }

    #[test]
    fn a_read_clock_is_found() {
        let rule = few_read_the_clock;
        assert_eq!(lines(rule, "src/web/a.rs", "let now = tokio::time::Instant::now();"), [1]);
        assert_eq!(lines(rule, "src/ssh/a.rs", "start.elapsed()"), [1]);
        assert!(lines(rule, "src/actor/a.rs", "Instant::now()").is_empty());
        assert!(lines(rule, "src/app.rs", "SystemTime::now()").is_empty());
    }

    #[test]
    fn a_store_write_is_found() {
        let rule = only_the_registry_writes;
        assert_eq!(lines(rule, "src/web/a.rs", "records.apply(batch)"), [1]);
        assert_eq!(lines(rule, "src/app.rs", "records.begin_epoch(node, now)"), [1]);
        assert_eq!(lines(rule, "src/tool/doctor/compare.rs", "records.apply(batch)"), [1]);
        assert!(lines(rule, "src/tool/doctor/repair.rs", "records.apply(batch)").is_empty());
        assert!(lines(rule, "src/actor/registry.rs", "records.apply(batch)").is_empty());
        assert!(lines(rule, "src/store/sqlite.rs", "self.apply(batch)").is_empty());
    }

    #[test]
    fn a_second_door_for_actix_is_found() {
        let rule = actix_stays_in_its_place;
        assert_eq!(lines(rule, "src/web/a.rs", "use actix_web_actors::ws;"), [1]);
        assert_eq!(lines(rule, "src/actor/a.rs", "use actix::{Actor, Supervisor};"), [1]);
        assert!(lines(rule, "src/web/terminal.rs", "use actix_web_actors::ws;").is_empty());
        assert!(lines(rule, "src/actor/a.rs", "use crate::actor::supervisor::Supervisor;").is_empty());
    }
}
