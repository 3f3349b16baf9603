//! One step of a test run: runs a command, keeps its output in a log, times it, counts its results, and ends the
//! processes it left behind. Knows no particular step.

use std::{
    fs,
    io::{self, BufRead, BufReader, PipeReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    children,
    tally::{self, Tally},
};

/// Timeout of a step, which counts as a hang. The tests of the workspace, built cold on two cores, need half of it.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// Lines of a failed step's output that are shown; its log has all of it.
const SHOWN_LINES: usize = 200;

/// How the outcome of a step counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// The step is one test: its exit status decides. Skipped tests that it names are counted beside it.
    Whole,
    /// Each test of cargo's runner counts; the output is shown as it arrives.
    Libtest,
    /// Each test of Node's runner counts; the output is shown as it arrives.
    Node,
}

/// A test run: its steps so far.
pub struct Steps {
    logs: PathBuf,
    skipped_names: PathBuf,
    total: Tally,
    failures: Vec<String>,
}

impl Steps {
    /// Begins a run whose logs go to `logs`.
    pub fn begin(logs: PathBuf) -> Result<Self> {
        fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        let skipped_names = logs.join("skipped.txt");
        fs::write(&skipped_names, "").context("cannot write the list of skipped tests")?;
        Ok(Self { logs, skipped_names, total: Tally::default(), failures: Vec::new() })
    }

    /// Runs one step and returns whether it succeeded. No process that it started survives it.
    pub fn run(&mut self, name: &str, count: Count, command: Command) -> bool {
        let start = Instant::now();
        let log = self.logs.join(format!("{}.log", name.replace(' ', "-")));
        let live = count != Count::Whole;
        if live {
            println!("── {name}");
        }
        let skipped_before = self.skipped();
        let (success, output) = match self.execute(command, &log, live) {
            Ok((success, output)) => (success, output),
            Err(error) => (false, format!("{error:#}\n")),
        };
        let tally = tally_of(count, success, self.skipped().saturating_sub(skipped_before), &output);
        let good = tally.failed == 0;
        if !good && !live {
            let skip = output.lines().count().saturating_sub(SHOWN_LINES);
            output.lines().skip(skip).for_each(|line| println!("    {line}"));
        }
        let word = if good { "ok" } else { "FAILED" };
        println!("{word:<7} {:>6.1} s  {name}", start.elapsed().as_secs_f64());
        if !good {
            println!("                   whole output: {}", log.display());
            self.failures.push(name.to_owned());
        }
        self.total += tally;
        good
    }

    /// Records a step that had nothing to do, or did its work without a command.
    pub fn pass(&mut self, name: &str, note: &str) {
        println!("ok               {name}: {note}");
        self.total += Tally::PASSED;
    }

    /// Records a step that could not be run.
    pub fn fail(&mut self, name: &str, why: &str) {
        println!("FAILED           {name}: {why}");
        self.failures.push(name.to_owned());
        self.total += Tally::FAILED;
    }

    /// Records a step that was left out.
    pub fn skip(&mut self, name: &str, why: &str) {
        println!("skipped          {name}: {why}");
        self.total += Tally::SKIPPED;
    }

    /// Prints the result of the run; the last line is the tally. Returns whether nothing failed and something was
    /// tested.
    pub fn finish(self) -> bool {
        if !self.failures.is_empty() {
            println!("failed: {}", self.failures.join(", "));
        }
        if self.total.passed + self.total.failed == 0 {
            println!("no test was run");
        }
        println!("{}", self.total);
        self.total.failed == 0 && self.total.passed > 0
    }

    /// Runs the command to its end. Returns whether it succeeded and left nothing running, and its output.
    fn execute(&self, mut command: Command, log: &Path, live: bool) -> Result<(bool, String)> {
        let (reader, writer) = io::pipe().context("cannot make a pipe")?;
        let log = fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.env("PULSEGATE_SKIPPED", &self.skipped_names);
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let program = command.get_program().to_string_lossy().into_owned();
        children::stay_if_interrupted();
        let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        // The command holds copies of the pipe's write end: while they are open the reader gets no end of file.
        drop(command);

        let output = thread::spawn(move || copy(reader, log, live));
        let (ended, watched) = mpsc::channel::<()>();
        let watch = thread::spawn(move || {
            let late = watched.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                children::stop_all();
            }
            late
        });
        let status = child.wait().with_context(|| format!("cannot wait for {program}"))?;
        children::stay_if_interrupted();
        drop(ended);
        let left = children::stop_all();
        children::reap();

        let mut text = output.join().unwrap_or_else(|_| "the output could not be read\n".to_owned());
        if watch.join().unwrap_or(true) {
            text += &format!("ended after {} minutes: it hung\n", LIMIT.as_secs() / 60);
        }
        if !left.is_empty() {
            println!("stopped what was left running: {}", left.join(", "));
        }
        Ok((status.success(), text))
    }

    /// Returns how many tests of this run reported that they cannot run here.
    fn skipped(&self) -> u32 {
        let names = fs::read_to_string(&self.skipped_names).unwrap_or_default();
        u32::try_from(names.lines().filter(|name| !name.is_empty()).count()).unwrap_or(u32::MAX)
    }
}

/// Returns the tally of a step; `skipped` of its tests reported that they cannot run here.
fn tally_of(count: Count, success: bool, skipped: u32, output: &str) -> Tally {
    let counted = match count {
        Count::Whole if success => return Tally { skipped, ..Tally::PASSED },
        Count::Whole => return Tally::FAILED,
        Count::Libtest => tally::libtest(output).moved_to_skipped(skipped),
        Count::Node => tally::node(output),
    };
    // It failed before or outside its tests: a compile error, a crash or a hang.
    if !success && counted.failed == 0 { Tally { failed: 1, ..counted } } else { counted }
}

/// Copies a step's output to its log, and to the screen if `live`; returns it.
fn copy(reader: PipeReader, mut log: fs::File, live: bool) -> String {
    let mut text = String::new();
    let mut lines = BufReader::new(reader);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        let readable = String::from_utf8_lossy(&line);
        if live {
            print!("{readable}");
        }
        if log.write_all(&line).is_err() {
            text += "(the log could not be written)\n";
        }
        text += &readable;
        line.clear();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_step_left_out_does_not_count_as_passed() {
        let output = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let told = |count, success, skipped| tally_of(count, success, skipped, output).to_string();
        assert_eq!(told(Count::Libtest, true, 2), "1 passed, 0 failed, 2 skipped");
        assert_eq!(told(Count::Libtest, false, 2), "1 passed, 1 failed, 2 skipped");
        assert_eq!(told(Count::Whole, true, 2), "1 passed, 0 failed, 2 skipped");
        assert_eq!(told(Count::Whole, true, 0), "1 passed, 0 failed");
        assert_eq!(told(Count::Whole, false, 2), "0 passed, 1 failed");
    }
}
