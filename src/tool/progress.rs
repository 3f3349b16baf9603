//! Reports the progress of long work on standard error: a bar that is redrawn on a terminal, else a line for every
//! tenth. Does not know what work it is.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

/// Width of the bar in cells.
const WIDTH: u64 = 30;

/// Time between two drawings of the bar: faster than an eye follows would only slow the work.
const REDRAW: Duration = Duration::from_millis(100);

/// Work that is done within this time reports nothing.
const QUIET: Duration = Duration::from_millis(500);

/// The progress of one piece of work.
pub struct Progress {
    what: &'static str,
    total: u64,
    done: u64,
    clock: fn() -> Duration,
    begun: Duration,
    drawn: Option<Duration>,
    told: u64,
    terminal: bool,
}

impl Progress {
    /// Begins the work `what` of `total` steps; zero if their number is unknown.
    pub fn new(what: &'static str, total: u64, clock: fn() -> Duration) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { what, total, done: 0, clock, begun: clock(), drawn: None, told: 0, terminal }
    }

    /// Counts `steps` more as done.
    pub fn advance(&mut self, steps: u64) {
        self.done += steps;
        let now = (self.clock)();
        if now.saturating_sub(self.begun) < QUIET {
            return;
        }
        if self.terminal {
            if self.drawn.is_none_or(|drawn| now.saturating_sub(drawn) >= REDRAW) {
                self.drawn = Some(now);
                self.write(&format!("\r{}\x1b[K", line(self.what, self.done, self.total)));
            }
        } else if let Some(tenth) = (self.done * 10).checked_div(self.total)
            && tenth > self.told
        {
            self.told = tenth;
            self.write(&format!("{}\n", line(self.what, self.done, self.total)));
        }
    }

    fn write(&self, text: &str) {
        // The work goes on even if standard error is closed.
        std::io::stderr().write_all(text.as_bytes()).ok();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && self.drawn.is_some() {
            self.write(&format!("\r{}\x1b[K\n", line(self.what, self.done, self.total)));
        }
    }
}

fn line(what: &str, done: u64, total: u64) -> String {
    if total == 0 {
        return format!("{what}: {done}");
    }
    let done = done.min(total);
    let (full, percent) = (done * WIDTH / total, done * 100 / total);
    let bar: String = (0..WIDTH).map(|cell| if cell < full { '#' } else { '.' }).collect();
    format!("{what} [{bar}] {percent} % ({done} of {total})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_and_never_overflows() {
        assert_eq!(line("copy", 0, 4), format!("copy [{}] 0 % (0 of 4)", ".".repeat(30)));
        assert_eq!(line("copy", 2, 4), format!("copy [{}{}] 50 % (2 of 4)", "#".repeat(15), ".".repeat(15)));
        assert_eq!(line("copy", 9, 4), format!("copy [{}] 100 % (4 of 4)", "#".repeat(30)));
        assert_eq!(line("copy", 9, 0), "copy: 9");
    }
}
