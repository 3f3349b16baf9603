//! The operating system's figures of this process, read from `/proc` (proc(5)). Does not know metrics formats.

use std::fs;

/// Ticks per second in which Linux reports process times to every program, whatever the kernel's own tick (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// The figures of this process at this moment; `None` without a `/proc`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessFacts {
    /// User and system time, in seconds.
    pub cpu_seconds: f64,
    /// Memory in use, in bytes.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Threads.
    pub threads: u64,
    /// When it started, in seconds since 1970-01-01 UTC.
    pub start_seconds: f64,
}

/// Reads the figures. `/proc` is memory, so this does not wait for a disk.
pub fn facts() -> Option<ProcessFacts> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the program's name in parentheses, may hold spaces: count from after the closing one. State is
    // field 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let boot: f64 = value(&fs::read_to_string("/proc/stat").ok()?, "btime ")?.parse().ok()?;
    Some(ProcessFacts {
        cpu_seconds: (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND,
        resident_bytes: value(&status, "VmRSS:")?.trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024,
        // The directory being read is open too.
        open_fds: u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?.saturating_sub(1),
        threads: value(&status, "Threads:")?.parse().ok()?,
        start_seconds: boot + ticks(22)? / TICKS_PER_SECOND,
    })
}

fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_threads_and_descriptors() {
        let facts = facts().unwrap();
        assert!(facts.resident_bytes > 1 << 20 && facts.threads >= 2 && facts.open_fds >= 3, "{facts:?}");
        assert!(facts.start_seconds > 1.6e9 && facts.cpu_seconds >= 0.0, "{facts:?}");
    }

    #[test]
    fn an_opened_file_is_counted() {
        let before = facts().unwrap().open_fds;
        let files: Vec<_> = (0..64).map(|_| fs::File::open("/proc/self/status").unwrap()).collect();
        assert!(facts().unwrap().open_fds >= before + 32, "other tests may close some meanwhile");
        drop(files);
    }
}
