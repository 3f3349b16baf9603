//! The demo target's shell: takes bytes, resizes and ticks; returns bytes and an exit. Owns the running command and the
//! input not read yet; has no access to the machine, no clock and no I/O. Pure.
//!
//! Output is pulled: endless commands make their next chunk when [`Playground::poll_effect`] asks, so that a client
//! that does not read makes nothing grow, and Ctrl-C takes effect after the chunk under way.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};

use super::{
    command::Command,
    keys::{Key, KeyDecoder},
    line_editor::{LineEditor, Outcome},
    showcase::{self, Flood},
};
use crate::ssh::Size;

const PROMPT: &str = "\x1b[1;32mplayground\x1b[0m:\x1b[1;34m~\x1b[0m$ ";
const PROMPT_CELLS: usize = "playground:~$ ".len();

const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const CTRL_RIGHT_BRACKET: u8 = 0x1d;

/// Bytes of input kept for the prompt while a command runs, as the input queue of a Linux terminal.
const MAX_TYPED_AHEAD: usize = 4096;

/// Smaller pieces of output are joined into one of this size.
const SMALL: usize = 1024;

/// An action for the channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Send these bytes.
    Write(Bytes),
    /// End the channel; nothing follows.
    End(End),
}

/// The end of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With this exit status.
    Status(u32),
    /// As if killed by this signal.
    Signal(&'static str),
    /// With its whole connection, without an SSH goodbye.
    Drop,
}

/// The meaning of input at this moment.
#[derive(Debug)]
enum Mode {
    Prompt,
    Flood { flood: Flood, size: u64 },
    Yes(Bytes),
    Clock { ticks: u64 },
    Hang,
    Resize,
    Paste { bytes: u64, digest: Box<Sha256> },
    Raw,
    Page { marker: (u16, u16), drawn: bool },
    Ended(End),
}

/// A shell, or one command without a shell.
#[derive(Debug)]
pub(super) struct Playground {
    size: Size,
    mode: Mode,
    /// One command only: the channel ends with it.
    once: bool,
    input_ended: bool,
    keys: KeyDecoder,
    line: LineEditor,
    typed_ahead: Vec<u8>,
    /// Output in order; `text` comes last.
    queue: VecDeque<Bytes>,
    /// Bytes in `queue`.
    queued: usize,
    text: Vec<u8>,
}

impl Playground {
    /// Creates a shell that prints a greeting and a prompt.
    pub(super) fn shell(size: Size) -> Self {
        let mut shell = Self::new(size, Mode::Prompt, false);
        shell.say(&showcase::greeting(size));
        shell.line.open(&mut shell.text);
        shell
    }

    /// Creates a shell for one command, `flood [SIZE]` or `raw`, with its bare output; `None` for any other.
    pub(super) fn exec(command: &[u8], size: Size) -> Option<Self> {
        let mode = match Command::parse(std::str::from_utf8(command).ok()?) {
            Ok(Some(Command::Raw)) => Mode::Raw,
            Ok(Some(Command::Flood(size))) => Mode::Flood { flood: Flood::new(size), size },
            Ok(_) | Err(_) => return None,
        };
        Some(Self::new(size, mode, true))
    }

    /// Whether [`Playground::exec`] knows the command.
    pub(super) fn can_exec(command: &[u8]) -> bool {
        Self::exec(command, Size { cols: 80, rows: 24 }).is_some()
    }

    fn new(size: Size, mode: Mode, once: bool) -> Self {
        Self {
            size,
            mode,
            once,
            input_ended: false,
            keys: KeyDecoder::default(),
            line: LineEditor::new(PROMPT, PROMPT_CELLS, size.cols),
            typed_ahead: Vec::new(),
            queue: VecDeque::new(),
            queued: 0,
            text: Vec::new(),
        }
    }

    /// Takes input from the client.
    pub(super) fn input(&mut self, mut bytes: Bytes) {
        while !bytes.is_empty() {
            match &mut self.mode {
                Mode::Prompt => self.edit(&mut bytes),
                Mode::Raw => {
                    let (echo, ended) = take_until(&mut bytes, CTRL_RIGHT_BRACKET);
                    self.write(echo);
                    if ended {
                        self.done("\r\n");
                    }
                }
                Mode::Paste { bytes: count, digest } => {
                    let (pasted, ended) = take_until(&mut bytes, CTRL_D);
                    digest.update(&pasted);
                    *count += pasted.len() as u64;
                    if ended {
                        let said = format!("paste: {count} bytes, SHA-256 {}\r\n", hex(&digest.finalize_reset()));
                        self.done(&said);
                    }
                }
                Mode::Page { .. } => {
                    let byte = bytes.get_u8();
                    if let Some(key) = self.keys.push(byte) {
                        self.turn_page(key);
                    }
                }
                Mode::Flood { .. } | Mode::Yes(_) | Mode::Clock { .. } | Mode::Hang | Mode::Resize => {
                    let (typed, interrupted) = take_until(&mut bytes, CTRL_C);
                    let room = MAX_TYPED_AHEAD - self.typed_ahead.len();
                    self.typed_ahead.extend(typed.iter().take(room));
                    if interrupted {
                        // As on a terminal, Ctrl-C also drops the input typed before it.
                        self.typed_ahead.clear();
                        self.done("^C\r\n");
                    }
                }
                Mode::Ended(_) => return,
            }
        }
    }

    /// Takes the end of input: a running command may finish, the prompt ends.
    pub(super) fn end_of_input(&mut self) {
        self.input_ended = true;
        match self.mode {
            Mode::Prompt | Mode::Page { .. } | Mode::Raw | Mode::Paste { .. } | Mode::Hang | Mode::Resize => {
                self.mode = Mode::Ended(End::Status(0));
            }
            Mode::Flood { .. } | Mode::Yes(_) | Mode::Clock { .. } | Mode::Ended(_) => {}
        }
    }

    /// Sets the terminal's new size.
    pub(super) fn resize(&mut self, size: Size) {
        self.size = size;
        self.line.resize(size.cols);
        match &mut self.mode {
            Mode::Resize => self.say_size(),
            Mode::Page { drawn, .. } => *drawn = false,
            Mode::Prompt
            | Mode::Flood { .. }
            | Mode::Yes(_)
            | Mode::Clock { .. }
            | Mode::Hang
            | Mode::Paste { .. }
            | Mode::Raw
            | Mode::Ended(_) => {}
        }
    }

    /// Whether [`Playground::tick`] is to be called once a second.
    pub(super) fn wants_ticks(&self) -> bool {
        matches!(self.mode, Mode::Clock { .. })
    }

    /// Advances the clock by one second.
    pub(super) fn tick(&mut self) {
        if let Mode::Clock { ticks } = &mut self.mode {
            *ticks += 1;
            let said = format!("tick {ticks}\r\n");
            self.say(&said);
        }
    }

    /// Bytes of output that wait to be pulled.
    pub(super) fn unread(&self) -> usize {
        self.queued + self.text.len()
    }

    /// Returns the next action; `None` until something happens.
    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        if let Some(bytes) = self.next_queued() {
            return Some(Effect::Write(bytes));
        }
        match &mut self.mode {
            Mode::Flood { flood, size } => {
                if let Some(chunk) = flood.next_chunk() {
                    return Some(Effect::Write(chunk));
                }
                let said = if self.once { String::new() } else { format!("\r\nflood: {size} bytes\r\n") };
                self.done(&said);
                self.poll_effect()
            }
            Mode::Yes(chunk) => Some(Effect::Write(chunk.clone())),
            Mode::Page { marker, drawn: drawn @ false } => {
                *drawn = true;
                let page = showcase::page(self.size, clamped(*marker, self.size));
                Some(Effect::Write(page.into()))
            }
            Mode::Ended(end) => Some(Effect::End(*end)),
            Mode::Prompt
            | Mode::Clock { .. }
            | Mode::Hang
            | Mode::Resize
            | Mode::Paste { .. }
            | Mode::Raw
            | Mode::Page { .. } => None,
        }
    }

    fn next_queued(&mut self) -> Option<Bytes> {
        if let Some(bytes) = self.queue.pop_front() {
            self.queued -= bytes.len();
            return Some(bytes);
        }
        let text = std::mem::take(&mut self.text);
        (!text.is_empty()).then(|| text.into())
    }

    fn say(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    fn write(&mut self, bytes: Bytes) {
        if bytes.len() < SMALL {
            return self.text.extend_from_slice(&bytes);
        }
        let text = std::mem::take(&mut self.text);
        self.queued += text.len() + bytes.len();
        self.queue.extend([text.into(), bytes].into_iter().filter(|piece: &Bytes| !piece.is_empty()));
    }

    /// Ends a command: reports it and returns to the prompt, which then reads the input typed while the command ran.
    fn done(&mut self, said: &str) {
        if self.once {
            self.mode = Mode::Ended(End::Status(0));
            return;
        }
        self.say(said);
        self.mode = Mode::Prompt;
        self.line.open(&mut self.text);
        let typed = std::mem::take(&mut self.typed_ahead);
        self.input(typed.into());
        if self.input_ended && matches!(self.mode, Mode::Prompt) {
            self.mode = Mode::Ended(End::Status(0));
        }
    }

    /// Edits the line until the input ends or a command takes over.
    fn edit(&mut self, bytes: &mut Bytes) {
        while matches!(self.mode, Mode::Prompt) && bytes.has_remaining() {
            let byte = bytes.get_u8();
            let Some(key) = self.keys.push(byte) else { continue };
            match self.line.key(key, &mut self.text) {
                None => {}
                Some(Outcome::Line(line)) => {
                    self.run(&line);
                    if matches!(self.mode, Mode::Prompt) {
                        self.line.open(&mut self.text);
                    }
                }
                Some(Outcome::Interrupted) => self.line.open(&mut self.text),
                Some(Outcome::EndOfInput) => self.mode = Mode::Ended(End::Status(0)),
            }
        }
        if matches!(self.mode, Mode::Prompt) {
            self.line.paint(&mut self.text);
        }
    }

    fn run(&mut self, line: &str) {
        match Command::parse(line) {
            Err(why) => self.say(&format!("{why}\r\n")),
            Ok(None) => {}
            Ok(Some(command)) => self.start(command),
        }
    }

    fn start(&mut self, command: Command) {
        match command {
            Command::Help => self.say(&showcase::help(self.size)),
            Command::Colours => self.say(&showcase::colours(self.size)),
            Command::Unicode => self.say(&showcase::unicode()),
            Command::Size => self.say_size(),
            Command::Echo(text) => self.say(&format!("{text}\r\n")),
            Command::Title(text) => self.say(&format!("\x1b]2;{text}\x1b\\")),
            Command::Resize => {
                self.mode = Mode::Resize;
                self.say_size();
            }
            Command::Page => {
                self.say(showcase::ENTER_PAGE);
                self.mode = Mode::Page { marker: (0, 0), drawn: false };
            }
            Command::Clock => self.mode = Mode::Clock { ticks: 0 },
            Command::Flood(size) => self.mode = Mode::Flood { flood: Flood::new(size), size },
            Command::Yes => self.mode = Mode::Yes(showcase::yes()),
            Command::Paste => self.mode = Mode::Paste { bytes: 0, digest: Box::default() },
            Command::Raw => self.mode = Mode::Raw,
            Command::Hang => self.mode = Mode::Hang,
            Command::Drop => self.mode = Mode::Ended(End::Drop),
            Command::Exit(status) => self.mode = Mode::Ended(End::Status(status)),
            Command::Signal(name) => self.mode = Mode::Ended(End::Signal(name)),
        }
    }

    fn say_size(&mut self) {
        let Size { cols, rows } = self.size;
        self.say(&format!("{cols}×{rows}\r\n"));
    }

    fn turn_page(&mut self, key: Key) {
        if matches!(key, Key::Char('q' | 'Q') | Key::Interrupt | Key::EndOfInput) {
            return self.done(showcase::LEAVE_PAGE);
        }
        let Mode::Page { marker, drawn } = &mut self.mode else { return };
        let (col, row) = clamped(*marker, self.size);
        *marker = match key {
            Key::Left => (col.saturating_sub(1), row),
            Key::Right => (col + 1, row),
            Key::Up => (col, row.saturating_sub(1)),
            Key::Down => (col, row + 1),
            _ => return,
        };
        *drawn = false;
    }
}

/// Clamps the page's marker to its frame.
fn clamped((col, row): (u16, u16), size: Size) -> (u16, u16) {
    (col.min(size.cols.saturating_sub(3)), row.min(size.rows.saturating_sub(3)))
}

/// Removes the text before the first `mark`, and the mark itself; returns whether there was one.
fn take_until(bytes: &mut Bytes, mark: u8) -> (Bytes, bool) {
    match bytes.iter().position(|byte| *byte == mark) {
        Some(at) => {
            let taken = bytes.split_to(at);
            bytes.advance(1);
            (taken, true)
        }
        None => (std::mem::take(bytes), false),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
