//! Two starts under one name: a copy of a data directory is refused while its original serves, and a start that can
//! prove that the previous one is over does not wait.

use std::{fs, process::Command, sync::Arc, time::Instant};

use super::Site;
use crate::{site, support::gateway::Home};

/// The log message of a start that watches a lease.
const WATCHING: &str = "checking whether another gateway serves under this name";

/// Copies a folder as an operator does: everything in it, into one that may exist.
fn copy(from: &Home, to: &Home) {
    fs::create_dir_all(to.data_dir()).unwrap();
    // A socket is created anew, not copied.
    if let Err(error) = fs::remove_file(to.data_dir().join("control")) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
    }
    let (from, to) = (from.data_dir().join("."), to.data_dir());
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

fn is_refused(home: &Home, node: &str) {
    let (status, said) = home.run(&["serve"]);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("another gateway serves as {node} on these records")), "{said}");
}

fn home(site: &Site) -> Arc<Home> {
    Arc::new(site.home("gw-1"))
}

#[test]
fn a_killed_gateway_starts_again_without_waiting_for_its_own_lease() {
    let site = site!();
    let home = home(&site);
    let gateway = home.start();
    assert!(!home.logs().contains(WATCHING), "nobody was here before");
    let (_page, id) = gateway.page("playground");
    gateway.dies();
    let begun = Instant::now();
    let gateway = home.start();
    println!("ready again after {:?}", begun.elapsed());
    assert!(!home.logs().contains(WATCHING), "{}", home.logs());
    gateway.becomes(&id, "closed/node_lost");
    drop(gateway);
    // The lock file of the previous start, which a copy never has.
    fs::remove_file(home.data_dir().join("node.lock")).unwrap();
    let _gateway = home.start();
    assert!(home.logs().contains(WATCHING), "without its note nothing is proven");
}

#[test]
fn a_copied_directory_is_refused_while_its_original_serves() {
    let site = site!();
    let (original, fresh, used) = (home(&site), home(&site), home(&site));
    // A copy onto a folder that served before: its lock file stays the same file.
    used.start().dies();
    let gateway = original.start();
    let (page, id) = gateway.page("playground");
    for copied in [&fresh, &used] {
        copy(&original, copied);
        is_refused(copied, "gw-1");
    }
    page.runs("echo unharmed", "unharmed");
    assert!(gateway.says(&id, "active").is_some());

    // The reverse: the copy serves, and the original, whose start is certainly over, is refused.
    gateway.dies();
    let copied = fresh.start();
    let (page, _) = copied.page("playground");
    is_refused(&original, "gw-1");
    page.runs("echo unharmed-too", "unharmed-too");
}
