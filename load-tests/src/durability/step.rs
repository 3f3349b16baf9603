//! The steps of a process that outlive it: what it writes and syncs to a disk and sends to a server. Where strace may trace
//! (strace(1), `--inject`), a process can be made to die on its way into any of them. Knows no gateway.

use std::process::{Command, Stdio};

use crate::dice::Dice;

/// One call that a process will not live to make.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// System calls, as strace takes them.
    calls: &'static str,
    /// Which of these calls of one thread.
    nth: usize,
}

const SYNCS: &str = "fsync,fdatasync";
const WRITES: &str = "pwrite64,ftruncate";

/// What a journal does to its disk.
pub const ON_DISK: [&str; 2] = [SYNCS, WRITES];

/// Syncs, writes to a file, and whatever goes into a socket; with so many of each, about a second of work under load passes.
const KINDS: [(&str, usize); 3] = [(SYNCS, 12), (WRITES, 60), ("sendto,sendmsg,writev", 120)];

impl Step {
    /// The `nth` of these calls of one thread, from 1 on.
    pub fn nth(calls: &'static str, nth: usize) -> Self {
        Self { calls, nth }
    }

    /// Draws one.
    pub fn draw(dice: &mut Dice) -> Self {
        let (calls, most) = KINDS.get(dice.below(KINDS.len())).copied().unwrap_or(KINDS[0]);
        Self { calls, nth: 1 + dice.below(most) }
    }

    /// What a tracer is told; it says nothing, and leaves when its process ends.
    fn arguments(self) -> [String; 5] {
        [
            "--follow-forks".into(),
            "--quiet=all".into(),
            "--output=/dev/null".into(),
            format!("--trace={}", self.calls),
            format!("--inject={}:signal=SIGKILL:when={}", self.calls, self.nth),
        ]
    }

    /// A tracer of a process that runs already.
    pub fn tracer(self, process: u32) -> Command {
        let mut strace = Command::new("strace");
        strace.args(self.arguments()).args(["--attach", &process.to_string()]).stderr(Stdio::null());
        strace
    }

    /// The same program with the same arguments, folder and environment, traced from its first step: as a child of whoever
    /// starts it, and its tracer beside it.
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

/// Whether a process can be traced here.
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
