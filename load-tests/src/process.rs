//! Process figures read from `/proc` (proc(5)), and child processes that end with their owner. Knows no gateway.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};

/// Clock ticks per second in which Linux shows process times to every program (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// A process to measure.
#[derive(Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    /// Returns this process.
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// Returns user and system time so far, in seconds; in steps of 10 ms.
    pub fn cpu_seconds(self) -> Result<f64> {
        let stat = self.read("stat")?;
        // The second field, the name in parentheses, may hold spaces: count from behind it. State is field 3,
        // user time field 14, system time the next.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let ticks: Vec<f64> = fields.skip(14 - 3).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
    }

    /// Returns its resident memory, in MiB.
    pub fn resident_mib(self) -> Result<f64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// Returns its number of open descriptors.
    pub fn descriptors(self) -> Result<usize> {
        Ok(fs::read_dir(self.path("fd"))?.count())
    }

    /// Returns its number of threads.
    pub fn threads(self) -> Result<usize> {
        Ok(fs::read_dir(self.path("task"))?.count())
    }

    fn read(self, file: &str) -> Result<String> {
        fs::read_to_string(self.path(file)).with_context(|| format!("process {} is gone", self.0))
    }

    fn path(self, file: &str) -> String {
        format!("/proc/{}/{file}", self.0)
    }
}

/// A child process that is killed when dropped.
pub struct Kept(Child);

impl Kept {
    /// Starts a process; returns it with the first line it prints.
    pub fn start(command: &mut Command) -> Result<(Self, String)> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let child = child.with_context(|| format!("{} cannot be started", command.get_program().display()))?;
        let mut kept = Self(child);
        let mut line = String::new();
        BufReader::new(kept.0.stdout.take().context("no standard output")?).read_line(&mut line)?;
        Ok((kept, line.trim().to_owned()))
    }

    /// Starts this program again with other arguments.
    pub fn start_own(arguments: &[&str]) -> Result<(Self, String)> {
        let own = std::env::current_exe().context("this program does not know its own path")?;
        Self::start(Command::new(own).args(arguments))
    }

    /// Like [`Kept::start_own`], for a program whose first line is its listen address.
    pub fn start_own_server(arguments: &[&str]) -> Result<(Self, SocketAddr)> {
        let (kept, line) = Self::start_own(arguments)?;
        let addr = line.parse().with_context(|| format!("{arguments:?} said {line:?} instead of its address"))?;
        Ok((kept, addr))
    }

    /// Returns the process.
    pub fn process(&self) -> Process {
        Process(self.0.id())
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(Some(_)))
    }

    /// Kills it as a crash does (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        // Either fails only if the process has already ended.
        self.0.kill().and_then(|()| self.0.wait()).ok();
    }
}

impl From<Child> for Kept {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_threads_and_descriptors() {
        let own = Process::own();
        assert!(own.resident_mib().unwrap() > 0.5 && own.threads().unwrap() >= 1 && own.descriptors().unwrap() >= 3);
        assert!(own.cpu_seconds().unwrap() >= 0.0);
    }

    #[test]
    fn a_kept_process_ends_with_its_owner() {
        let (kept, line) = Kept::start(Command::new("sh").args(["-c", "echo ready; read never"])).unwrap();
        assert_eq!(line, "ready");
        let process = kept.process();
        drop(kept);
        assert!(process.threads().is_err());
    }
}
