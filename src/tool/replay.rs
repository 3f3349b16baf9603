//! `pulsegate replay`: plays a recording on standard output, at its own pace or another, with a progress line. Knows no
//! store; trusts the file no further than a terminal trusts a program.

use std::{
    io::{self, BufRead, BufReader, IsTerminal, Read, Seek, SeekFrom, Write},
    pin::pin,
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::Value;
use tokio::task::coop::consume_budget;

use super::{Report, ToolContext};
use crate::{
    cli::Replay,
    console::UNWRITTEN,
    recording::{
        cast::{self, Code, Event},
        text::Text,
    },
};

/// What of the output is shown to a terminal.
mod drawing;

use drawing::Drawing;

/// Bytes at the end of a recording in which the last event is searched.
const END: u64 = 256 * 1024;

/// Time between two drawings of the progress line.
const REDRAW: Duration = Duration::from_millis(250);

/// Control sequences that reset a terminal to what a shell expects: the main screen, no scroll region, cursor on, lines
/// that wrap, nothing inserted, ASCII, plain letters (ECMA-48, xterm's control sequences). What [`Drawing`] leaves out
/// needs no reset.
const RESET: &str = "\x1b[?1049l\x1b[r\x1b[?25h\x1b[?6l\x1b[?7h\x1b[4l\x0f\x1b(B\x1b)B\x1b[0m\x1b[999;1H\r\n";

/// The report on what was shown, which is all there is to say.
const SHOWN: Report = Report { text: String::new(), json: Value::Null, code: 0 };

/// Width of the bar in cells.
const WIDTH: usize = 24;

/// Runs `pulsegate replay`.
pub async fn run(ctx: &ToolContext, options: &Replay) -> anyhow::Result<Report> {
    let path = &options.file;
    let context = || format!("cannot read {}", path.display());
    let mut file = ctx.recording_dir()?.read(path).with_context(context)?;
    if options.raw {
        return pour(&mut file, context);
    }
    let total = last_moment(&mut file).with_context(context)?;
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    lines.read_until(b'\n', &mut line).with_context(context)?;
    let Some(header) = cast::read_header(&line) else { bail!("{} is no asciicast v2", path.display()) };
    let mut player = Player::new(ctx, options, total, &header);
    // One for the whole play: it also sees a Ctrl-C that is pressed between two events.
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let outcome = loop {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error).with_context(context),
        }
        // The last line may be incomplete while the recording is being written.
        let Some(event) = cast::read_event(&line) else { break Ok(()) };
        tokio::select! {
            biased;
            _ = &mut interrupted => break Ok(()),
            outcome = player.play(&event) => match outcome {
                Ok(()) => {}
                // The reader has read enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break Ok(()),
                Err(error) => break Err(error).context(UNWRITTEN),
            },
        }
        // Events without a pause between them wait for nothing, and the runtime sees a signal only while nobody runs.
        consume_budget().await;
    };
    player.finish();
    outcome.map(|()| SHOWN)
}

/// Writes the text of the recording unchanged.
fn pour(file: &mut Text, unread: impl Fn() -> String) -> anyhow::Result<Report> {
    let mut lines = BufReader::new(file);
    loop {
        let part = lines.fill_buf().with_context(&unread)?;
        let length = part.len();
        match show(part) {
            Ok(()) if length == 0 => return Ok(SHOWN),
            Ok(()) => lines.consume(length),
            // The reader has read enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(SHOWN),
            Err(error) => return Err(error).context(UNWRITTEN),
        }
    }
}

/// Returns the time of the last event.
fn last_moment(file: &mut Text) -> io::Result<Duration> {
    let begins = file.length()?.saturating_sub(END);
    let (mut end, length) = (Vec::new(), file.sound_from(begins)?.saturating_sub(begins));
    file.seek(SeekFrom::Start(begins))?;
    file.take(length).read_to_end(&mut end)?;
    file.rewind()?;
    let mut events = end.split(|byte| *byte == b'\n').rev().filter_map(cast::read_event);
    Ok(events.next().map_or(Duration::ZERO, |Event(at, ..)| moment(at)))
}

fn moment(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// The player of a recording.
struct Player {
    speed: f64,
    idle: Option<Duration>,
    from: Duration,
    total: Duration,
    clock: fn() -> Duration,
    /// The time in the recording that was played last, and the moment at which it was due.
    at: Duration,
    due: Duration,
    drawn: Duration,
    line: Line,
    /// The output as far as it is shown; `None` where no terminal shows it: then it is passed on as it is.
    drawing: Option<Drawing>,
    /// `None` where no terminal shows it, or none is typed at.
    unheard: Option<Unheard>,
}

/// A terminal at which nothing that is typed, or that it answers by itself, is shown, or left for the shell behind. It
/// sends signals as ever. Dropped, it is what it was.
struct Unheard(Termios);

impl Unheard {
    /// `None` if standard input is no terminal.
    fn new() -> Option<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin).ok()?;
        let mut unheard = before.clone();
        unheard.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON);
        tcsetattr(&stdin, OptionalActions::Now, &unheard).ok()?;
        Some(Self(before))
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// The place of the progress line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Below the terminal's own lines.
    Below,
    /// In the window's title: the recording needs every line.
    Title,
    /// On standard error, redrawn: the output goes elsewhere.
    Error,
    /// Nowhere: no terminal shows it.
    Nowhere,
}

impl Player {
    fn new(ctx: &ToolContext, options: &Replay, total: Duration, header: &cast::Header) -> Self {
        let rows = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_row);
        let line = match (io::stdout().is_terminal(), io::stderr().is_terminal()) {
            (true, _) if rows > header.height => Line::Below,
            (true, _) => Line::Title,
            (false, true) => Line::Error,
            (false, false) => Line::Nowhere,
        };
        if line == Line::Below {
            show(format!("\x1b[2J\x1b[1;{}r\x1b[H", rows - 1).as_bytes()).unwrap_or_default();
        }
        let from = moment(options.from);
        let (speed, idle) = (options.speed, options.idle.map(moment));
        let now = (ctx.clock)();
        let (clock, drawn) = (ctx.clock, Duration::ZERO);
        let shown = matches!(line, Line::Below | Line::Title);
        let (drawing, unheard) = (shown.then(Drawing::default), shown.then(Unheard::new).flatten());
        Self { speed, idle, from, total, clock, at: from, due: now, drawn, line, drawing, unheard }
    }

    /// Waits until an event is due and shows it. The future may be dropped while it waits.
    async fn play(&mut self, Event(seconds, code, text): &Event) -> io::Result<()> {
        let at = moment(*seconds);
        if at > self.at {
            let pause = at - self.at;
            let pause = self.idle.map_or(pause, |idle| pause.min(idle));
            let due = self.due + moment(pause.as_secs_f64() / self.speed);
            loop {
                let left = due.saturating_sub((self.clock)());
                self.draw()?;
                if left.is_zero() {
                    break;
                }
                tokio::time::sleep(left.min(REDRAW)).await;
            }
            (self.at, self.due) = (at, due);
        }
        if code.starts_with(Code::Output.letter()) {
            match &mut self.drawing {
                Some(drawing) => show(drawing.of(text).as_bytes())?,
                None => show(text.as_bytes())?,
            }
        }
        Ok(())
    }

    fn draw(&mut self) -> io::Result<()> {
        let now = (self.clock)();
        if self.line == Line::Nowhere || now.saturating_sub(self.drawn) < REDRAW || self.at < self.from {
            return Ok(());
        }
        self.drawn = now;
        let progress = progress(self.at, self.total, self.speed);
        match self.line {
            Line::Below => show(format!("\x1b7\x1b[999;1H\x1b[0;7m{progress}\x1b[K\x1b[0m\x1b8").as_bytes()),
            Line::Title => show(format!("\x1b]2;{progress}\x07").as_bytes()),
            Line::Error => io::stderr().write_all(format!("\r{progress}\x1b[K").as_bytes()),
            Line::Nowhere => Ok(()),
        }
    }

    fn finish(mut self) {
        // First, so that what is typed once the terminal is reset is for the shell.
        drop(self.unheard.take());
        // The terminal may be gone.
        let _ = match self.line {
            Line::Below | Line::Title => show(RESET.as_bytes()),
            Line::Error => io::stderr().write_all(b"\n"),
            Line::Nowhere => Ok(()),
        };
    }
}

fn show(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

fn progress(at: Duration, total: Duration, speed: f64) -> String {
    let whole = total.as_secs_f64().max(f64::EPSILON);
    let full = ((at.as_secs_f64() / whole).min(1.0) * WIDTH as f64) as usize;
    let bar: String = (0..WIDTH).map(|cell| if cell < full { '#' } else { '.' }).collect();
    let clock = |at: Duration| {
        let seconds = at.as_secs();
        format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    };
    let speed = if speed == 1.0 { String::new() } else { format!(" at {speed} times the speed") };
    format!(" {} [{bar}] {}{speed}", clock(at), clock(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        let hour = Duration::from_secs(3600);
        assert_eq!(progress(hour / 2, hour, 1.0), format!(" 0:30:00 [{}{}] 1:00:00", "#".repeat(12), ".".repeat(12)));
        assert!(progress(hour, Duration::ZERO, 4.0).ends_with("] 0:00:00 at 4 times the speed"));
    }
}
