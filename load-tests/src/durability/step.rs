//! The steps of a process with outside effect: writes and syncs to a disk, and messages to a server. Where strace may
//! trace (strace(1), `--inject`), a process can be killed as it enters any of them. Knows no gateway.

use std::process::{Command, Stdio};

use crate::dice::Dice;

/// A system call at which a process is killed.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// System calls, in strace's syntax.
    calls: &'static str,
    /// Number of the call within one thread, from 1 on.
    nth: usize,
}

const SYNCS: &str = "fsync,fdatasync";
const WRITES: &str = "pwrite64,ftruncate";

/// The steps of a journal.
pub const ON_DISK: [&str; 2] = [SYNCS, WRITES];

/// Syncs, file writes and socket sends, each with the number of calls that take about a second under load.
const KINDS: [(&str, usize); 3] = [(SYNCS, 12), (WRITES, 60), ("sendto,sendmsg,writev", 120)];

impl Step {
    /// Returns the `nth` of these calls of one thread, from 1 on.
    pub fn nth(calls: &'static str, nth: usize) -> Self {
        Self { calls, nth }
    }

    /// Draws a step.
    pub fn draw(dice: &mut Dice) -> Self {
        let (calls, most) = KINDS.get(dice.below(KINDS.len())).copied().unwrap_or(KINDS[0]);
        Self { calls, nth: 1 + dice.below(most) }
    }

    /// Returns strace's arguments: it prints nothing and exits with the traced process.
    fn arguments(self) -> [String; 5] {
        [
            "--follow-forks".into(),
            "--quiet=all".into(),
            "--output=/dev/null".into(),
            format!("--trace={}", self.calls),
            format!("--inject={}:signal=SIGKILL:when={}", self.calls, self.nth),
        ]
    }

    /// Returns a command that traces a running process.
    pub fn tracer(self, process: u32) -> Command {
        let mut strace = Command::new("strace");
        strace.args(self.arguments()).args(["--attach", &process.to_string()]).stderr(Stdio::null());
        strace
    }

    /// Returns the same command (arguments, folder, environment), traced from its start: as a child of the caller, with
    /// its tracer beside it.
    pub fn traced(self, command: &Command) -> Command {
        let mut strace = Command::new("strace");
        strace.arg("--daemonize").args(self.arguments()).arg("--").arg(command.get_program()).args(command.get_args());
        if let Some(folder) = command.get_current_dir() {
            strace.current_dir(folder);
        }
        strace.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        strace
    }
}

/// Whether strace may trace a process here.
pub fn can_trace() -> bool {
    let traced = Command::new("strace").args(["--output=/dev/null", "true"]).stderr(Stdio::null()).status();
    traced.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracer_is_told_at_which_call_its_process_dies() {
        let arguments = Step::nth(SYNCS, 3).arguments();
        assert!(arguments.contains(&"--trace=fsync,fdatasync".to_owned()));
        assert!(arguments.contains(&"--inject=fsync,fdatasync:signal=SIGKILL:when=3".to_owned()));
    }
}
