//! The gateway under test: this very program as a process of its own, so that it shares nothing with a gateway that
//! serves here.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{sync::oneshot, time::sleep};

/// Its data directory, in its folder.
pub const DATA_DIR: &str = "data";

/// Beginning of its first line.
const READY: &str = "Pulsegate is ready: ";

/// Time between two checks whether it has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A running gateway; dropping it kills it.
pub struct Host {
    process: Process,
    /// The link that signs in once.
    pub link: String,
}

/// A process that is killed when dropped.
struct Process(Child);

impl Host {
    /// Starts `demo` in `folder`, which holds no configuration, without anything of this process's environment.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program's own file is not to be found")?;
        let mut command = Command::new(program);
        command.args(["demo", "--listen", "127.0.0.1:0", "--data-dir", DATA_DIR]).current_dir(folder);
        command.env_clear().env("RUST_LOG", "error");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = Process(command.spawn().context("it cannot be started")?);
        let output = process.0.stdout.take().context("it has no output")?;
        let (tell, told) = oneshot::channel();
        // Reading blocks. The thread reads on, since a process whose output is not read fails at its next line, and
        // ends with the process.
        std::thread::spawn(move || {
            let mut lines = BufReader::new(output).lines().map_while(Result::ok);
            // The receiver may have given up waiting.
            tell.send(lines.find(|line| line.starts_with(READY))).ok();
            lines.for_each(drop);
        });
        let line = told.await.ok().flatten().context("it ended before it was ready; its output stands above")?;
        Ok(Self { process, link: line.trim_start_matches(READY).to_owned() })
    }

    /// Stops it as an operator does, and waits for its end.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let child = &mut self.process.0;
        kill_process(Pid::from_child(child), Signal::TERM)?;
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None => sleep(POLL_INTERVAL).await,
            }
        };
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().ok();
        // Its exit status is not needed.
        self.0.wait().ok();
    }
}
