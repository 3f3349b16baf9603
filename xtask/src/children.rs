//! The descendants of this process: whatever a command starts ends with it. Knows no step.
//!
//! This process is the subreaper of its descendants (`prctl(2)`, PR_SET_CHILD_SUBREAPER), so that a server whose parent
//! died is still found below it, and no foreign process ever is.

use std::{
    collections::HashMap,
    fs, process,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// Time for a process to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(3);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes this process the subreaper of its descendants; an interrupt ends them all before it ends this process.
pub fn adopt() -> Result<()> {
    set_child_subreaper(Some(getpid())).context("cannot become the reaper of what I start")?;
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen for signals")?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            INTERRUPTED.store(true, Ordering::Release);
            stop_all();
            // 128 + the signal, as shells report it.
            process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Blocks once an interrupt came: the process is about to end, and nothing more may be started or reported.
pub fn stay_if_interrupted() {
    while INTERRUPTED.load(Ordering::Acquire) {
        thread::park();
    }
}

/// Ends every descendant: SIGTERM first, then SIGKILL. Returns the names of those that were still running.
pub fn stop_all() -> Vec<String> {
    let found = descendants();
    let start = Instant::now();
    loop {
        let alive = descendants();
        if alive.is_empty() {
            break;
        }
        let signal = if start.elapsed() < GRACE { Signal::TERM } else { Signal::KILL };
        for (pid, _) in alive {
            // It may have ended since it was listed; the next iteration lists again.
            let _ = kill_process(pid, signal);
        }
        thread::sleep(Duration::from_millis(50));
    }
    found.into_iter().map(|(_, name)| name).collect()
}

/// Collects the exit statuses of adopted processes. Call only while no own child is waited for.
pub fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

/// Returns every living descendant, with its name.
fn descendants() -> Vec<(Pid, String)> {
    let mut below: HashMap<i32, Vec<Process>> = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in entries {
        // An unreadable entry is no process, or one that has ended.
        if let Some(process) = fs::read_to_string(entry.path().join("stat")).ok().and_then(|stat| parse_stat(&stat)) {
            below.entry(process.parent).or_default().push(process);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![getpid().as_raw_nonzero().get()];
    while let Some(parent) = open.pop() {
        for process in below.remove(&parent).into_iter().flatten() {
            open.push(process.pid);
            if let Some(pid) = Pid::from_raw(process.pid).filter(|_| process.alive) {
                found.push((pid, process.name));
            }
        }
    }
    found
}

#[derive(Debug, PartialEq)]
struct Process {
    pid: i32,
    name: String,
    alive: bool,
    parent: i32,
}

/// Reads a line of `/proc/PID/stat` (proc(5)): `pid (name) state ppid …`; the name may hold anything, even `)`.
fn parse_stat(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let alive = !matches!(fields.next()?, "Z" | "X");
    Some(Process { pid: pid.parse().ok()?, name: name.to_owned(), alive, parent: fields.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_brackets_is_read_whole() {
        let process = Process { pid: 7, name: "a) R (b".to_owned(), alive: false, parent: 3 };
        assert_eq!(parse_stat("7 (a) R (b) Z 3 1 1 0"), Some(process));
        assert_eq!(parse_stat("nonsense"), None);
    }
}
