//! Disk failures: a disk that is really full (a small file system of its own), and one that cannot sync, by a tracer
//! that answers in the kernel's place. Both need a system that allows it.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    eventually, eventually_nothing_changes,
    gateway::{Gateway, Home},
    playground::Playground,
    skip,
    terminal::PATIENCE,
};

fn asked_to_open(gateway: &Gateway) -> u16 {
    gateway.asks("POST", "/api/v1/sessions", Some(&json!({"target": "playground"}))).status
}

fn reasons(gateway: &Gateway) -> Value {
    gateway.asks("GET", "/readyz", None).json()["reasons"].take()
}

fn skipped(why: &str) {
    skip(std::thread::current().name().unwrap_or_default(), why);
}

#[test]
fn a_full_disk_refuses_opens_and_still_keeps_closes() {
    let Some(disk) = SmallDisk::mount() else { return skipped("only root can mount a small disk") };
    let playground = Playground::start();
    let home = Home::with(&playground).set("node.data_dir", disk.path().join("data").to_str().unwrap());
    let home = Arc::new(home);
    let reserve = disk.path().join("data/reserve");
    let gateway = home.start();
    let pages: Vec<_> = (0..3).map(|_| gateway.page("playground")).collect();
    assert!(reserve.exists());
    disk.fill();
    // Data that fits into existing pages of the log is still accepted.
    eventually(PATIENCE, || (asked_to_open(&gateway) == 503).then_some(()));
    eventually(PATIENCE, || (reasons(&gateway) == json!(["disk full"])).then_some(()));
    assert!(!reserve.exists());
    for (page, id) in &pages {
        page.runs("echo still-here", "still-here");
        gateway.asks("DELETE", &format!("/api/v1/sessions/{id}"), None);
        gateway.becomes(id, "closed/terminated");
        assert_eq!(page.closed()["reason"], "terminated");
    }
    assert_eq!(asked_to_open(&gateway), 503, "what is left is for closes");

    // They are durable, and a start on the full disk serves as far as possible.
    gateway.dies();
    let gateway = home.start();
    for (_, id) in &pages {
        assert!(gateway.says(id, "closed/terminated").is_some());
    }
    assert_eq!(asked_to_open(&gateway), 503);

    disk.empty();
    eventually(PATIENCE, || (asked_to_open(&gateway) == 201).then_some(()));
    assert_eq!(reasons(&gateway), json!([]));
    assert!(reserve.exists());

    // The control: without the reserve the same close has to wait until there is room.
    let (page, id) = gateway.page("playground");
    fs::remove_file(&reserve).unwrap();
    disk.fill();
    eventually(PATIENCE, || (asked_to_open(&gateway) == 503).then_some(()));
    gateway.asks("DELETE", &format!("/api/v1/sessions/{id}"), None);
    eventually_nothing_changes(Duration::from_secs(1), || gateway.says(&id, "active").is_some());
    disk.empty();
    gateway.becomes(&id, "closed/terminated");
    assert_eq!(page.closed()["reason"], "terminated");
}

/// Returns the bytes missing from recordings.
fn lost(gateway: &Gateway) -> u64 {
    let metrics = gateway.asks("GET", "/metrics", None).text();
    let lost = metrics.lines().find_map(|line| line.strip_prefix("pulsegate_recording_lost_bytes_total "));
    lost.unwrap().parse().unwrap()
}

#[test]
fn a_disk_that_fills_under_recordings_ends_who_must_be_recorded_and_nobody_else() {
    const WHY: &str = "must be recorded, and its recording cannot be written";
    let Some(disk) = SmallDisk::mount() else { return skipped("only root can mount a small disk") };
    let playground = Playground::start();
    let home = Home::with(&playground).recorded("playground", "required");
    let home = home.target("free", playground.addr, "guest", json!({"prompt": true}));
    // The records have room: only what a recording's end does is seen.
    fs::create_dir(home.data_dir()).unwrap();
    symlink(disk.path(), home.data_dir().join("recordings")).unwrap();
    let gateway = Gateway::start(home);
    let (free, id_of_free) = gateway.page("free");
    let (page, id) = gateway.page("playground");
    disk.fill();
    // More than fits into the existing pages of its recording.
    page.types("flood 64KiB\r");
    let closed = page.closed();
    assert_eq!(closed["reason"], "overloaded");
    assert!(closed["message"].as_str().unwrap().contains(WHY), "{closed:#}");
    gateway.becomes(&id, "closed/overloaded");
    assert!(gateway.history(&id).concat().contains(WHY), "{:?}", gateway.history(&id));
    let next = gateway.opens("playground");
    assert_eq!(gateway.becomes(&next, "closed/overloaded")["bytes_out"], 0);
    eventually(PATIENCE, || (reasons(&gateway) == json!(["recordings cannot be written"])).then_some(()));
    assert!(gateway.home.logs().contains("recordings cannot be written; their policy decides"));

    let before = lost(&gateway);
    free.types("flood 64KiB\r");
    eventually(PATIENCE, || (lost(&gateway) > before).then_some(()));
    free.runs("echo still-here", "still-here");
    assert!(gateway.says(&id_of_free, "active").is_some());

    disk.empty();
    // Though nobody writes.
    eventually(PATIENCE, || (reasons(&gateway) == json!([])).then_some(()));
    free.runs("echo room-again", "room-again");
    let told = eventually(PATIENCE, || {
        let told = gateway.asks("GET", &format!("/api/v1/sessions/{id_of_free}/recording"), None).text();
        told.contains("room-again").then_some(told)
    });
    assert!(told.contains(" bytes of the terminal could not be recorded here"), "{told}");
    gateway.page("playground").0.runs("echo recorded", "recorded");
}

#[test]
fn after_a_failed_sync_nothing_is_admitted_until_the_next_start() {
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground));
    let gateway = home.start();
    let (page, id) = gateway.page("playground");
    let Some(tracer) = Tracer::fails_syncs(gateway.process()) else { return skipped("no strace, or it may not trace") };
    assert_eq!(asked_to_open(&gateway), 503);
    page.runs("echo unsynced", "unsynced");
    eventually(PATIENCE, || {
        let told = gateway.asks("GET", &format!("/api/v1/sessions/{id}/recording"), None).text();
        told.contains("the disk could not be synced: some of what was recorded before this may be missing")
            .then_some(())
    });
    tracer.lets_go();
    // The disk syncs again, which proves nothing. Retries and renewals of the lease have happened meanwhile.
    eventually_nothing_changes(Duration::from_secs(3), || asked_to_open(&gateway) == 503);
    assert_eq!(reasons(&gateway), json!(["journal unavailable"]));
    let stores = gateway.shows("/api/v1/stores");
    assert!(stores.to_string().contains("failed to sync"), "{stores:#}");
    page.runs("echo still-here", "still-here");
    // A session that ends now is not reported as stored.
    gateway.asks("DELETE", &format!("/api/v1/sessions/{id}"), None);
    eventually_nothing_changes(Duration::from_secs(1), || gateway.says(&id, "active").is_some());
    gateway.dies();

    let gateway = home.start();
    assert!(gateway.says(&id, "closed/node_lost").is_some());
    assert_eq!(asked_to_open(&gateway), 201);
}

/// A file system of 96 MiB in memory.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=96m,mode=700", "tmpfs"]).arg(folder.path()).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Fills it to the last page.
    fn fill(&self) {
        let mut filler = OpenOptions::new().append(true).create(true).open(self.filler()).unwrap();
        let mut piece = 1024 * 1024;
        while piece > 0 {
            match filler.write_all(&vec![0; piece]) {
                Ok(()) => {}
                Err(_) => piece /= 2,
            }
        }
    }

    fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the gateway may still be exiting.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        assert!(std::thread::panicking() || unmounted.is_ok_and(|status| status.success()));
    }
}

/// A tracer that fails a process's syncs with an error.
struct Tracer(Child);

impl Tracer {
    fn fails_syncs(process: u32) -> Option<Self> {
        let mut strace = Command::new("strace");
        strace.args(["--follow-forks", "--quiet=all", "--trace=fsync,fdatasync"]);
        strace.args(["--inject=fsync,fdatasync:error=EIO", "--output=/dev/null", "--attach", &process.to_string()]);
        let mut tracer = Self(strace.stderr(Stdio::null()).spawn().ok()?);
        let holds_all = || {
            let mut threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
            threads.all(|thread| {
                let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap_or_default();
                !status.contains("TracerPid:\t0\n")
            })
        };
        let attached = eventually(PATIENCE, || match tracer.0.try_wait().unwrap() {
            Some(_) => Some(false),
            None => holds_all().then_some(true),
        });
        attached.then_some(tracer)
    }

    fn lets_go(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::INT).unwrap();
        eventually(PATIENCE, || self.0.try_wait().unwrap());
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It may have ended.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
