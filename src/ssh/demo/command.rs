//! The playground's commands: their list, and the parser of a typed line. Owns no state; does not run them. Pure.

/// Every command: its usage and its description.
pub(super) const COMMANDS: &[(&str, &str)] = &[
    ("help", "this list"),
    ("colours", "16, 256 and 16 million colours"),
    ("unicode", "wide, combining and right-to-left characters, emoji, boxes"),
    ("size", "the terminal's size"),
    ("resize", "every new size as it comes, until Ctrl-C"),
    ("page", "a full-screen page that follows resizes; arrows move, q quits"),
    ("title TEXT", "names the terminal"),
    ("echo TEXT", "says TEXT"),
    ("clock", "a tick a second, until Ctrl-C"),
    ("flood [SIZE]", "that many bytes as fast as you take them, 50MB if not said, 10GB at most; Ctrl-C stops"),
    ("yes", "y without end, until Ctrl-C"),
    ("paste", "swallows what you paste until Ctrl-D, then says how much it was and its SHA-256"),
    ("raw", "sends every byte back untouched, until Ctrl-]"),
    ("hang", "answers nothing, until Ctrl-C"),
    ("drop", "cuts the connection without a goodbye"),
    ("exit [N]", "ends with exit status N"),
    ("signal NAME", "ends as if killed by that signal, as TERM"),
];

/// The size that `flood` sends by default.
const DEFAULT_FLOOD: u64 = 50_000_000;

/// The largest flood.
const MAX_FLOOD: u64 = 10_000_000_000;

/// The signals of RFC 4254 §6.10.
const SIGNALS: &[&str] =
    &["ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2"];

/// A parsed command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Colours,
    Unicode,
    Size,
    Resize,
    Page,
    Title(String),
    Echo(String),
    Clock,
    /// That many bytes, 1 … 10 GB.
    Flood(u64),
    Yes,
    Paste,
    Raw,
    Hang,
    Drop,
    /// An exit status, 0 … 255.
    Exit(u32),
    /// One of the signals' names.
    Signal(&'static str),
}

impl Command {
    /// Reads a line; `None` if it is blank.
    ///
    /// # Errors
    /// A sentence for the user who typed it.
    pub(super) fn parse(line: &str) -> Result<Option<Self>, String> {
        let line = line.trim();
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim_start();
        Ok(Some(match name {
            "" => return Ok(None),
            "help" => Self::Help,
            "colours" | "colors" => Self::Colours,
            "unicode" => Self::Unicode,
            "size" => Self::Size,
            "resize" => Self::Resize,
            "page" => Self::Page,
            "title" => Self::Title(rest.to_owned()),
            "echo" => Self::Echo(rest.to_owned()),
            "clock" => Self::Clock,
            "flood" => Self::Flood(flood_size(rest)?),
            "yes" => Self::Yes,
            "paste" => Self::Paste,
            "raw" => Self::Raw,
            "hang" => Self::Hang,
            "drop" => Self::Drop,
            "exit" if rest.is_empty() => Self::Exit(0),
            "exit" => match rest.parse::<u8>() {
                Ok(status) => Self::Exit(status.into()),
                Err(_not_a_status) => return Err("exit: the status is a number from 0 to 255".to_owned()),
            },
            "signal" => match SIGNALS.iter().find(|signal| signal.eq_ignore_ascii_case(rest)) {
                Some(signal) => Self::Signal(signal),
                None => return Err(format!("signal: one of {}", SIGNALS.join(", "))),
            },
            _ => return Err(format!("{name} is not a playground command; type help")),
        }))
    }
}

/// Reads `50MB`, `64KiB` or a bare number of bytes.
fn flood_size(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Ok(DEFAULT_FLOOD);
    }
    let (number, unit) = text.split_at(text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1000 * 1000,
        "gb" => 1000 * 1000 * 1000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err("flood: a size is a number with B, KB, MB, GB, KiB, MiB or GiB".to_owned()),
    };
    let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    size.filter(|size| (1..=MAX_FLOOD).contains(size)).ok_or_else(|| "flood: a size is 1B to 10GB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_commands_and_their_arguments() {
        let table = [
            ("", Ok(None)),
            ("   ", Ok(None)),
            ("help", Ok(Some(Command::Help))),
            (" colors ", Ok(Some(Command::Colours))),
            ("echo   a  b ", Ok(Some(Command::Echo("a  b".into())))),
            ("flood", Ok(Some(Command::Flood(50_000_000)))),
            ("flood 50MB", Ok(Some(Command::Flood(50_000_000)))),
            ("flood 2 kib", Ok(Some(Command::Flood(2048)))),
            ("flood 7", Ok(Some(Command::Flood(7)))),
            ("flood 10GB", Ok(Some(Command::Flood(10_000_000_000)))),
            ("exit", Ok(Some(Command::Exit(0)))),
            ("exit 255", Ok(Some(Command::Exit(255)))),
            ("signal term", Ok(Some(Command::Signal("TERM")))),
        ];
        for (line, expected) in table {
            assert_eq!(Command::parse(line), expected, "{line:?}");
        }
    }

    #[test]
    fn refuses_with_a_sentence() {
        for line in ["flood 0", "flood 11GB", "flood 99999999999999999999", "flood 99999999999GB"] {
            assert_eq!(Command::parse(line), Err("flood: a size is 1B to 10GB".into()), "{line}");
        }
        for line in ["flood MB x", "flood -1", "flood 5XB", "flood 5é", "exit 256", "exit x", "signal", "signal NOPE"]
        {
            assert!(Command::parse(line).is_err(), "{line}");
        }
        assert_eq!(Command::parse("ls -l"), Err("ls is not a playground command; type help".into()));
    }

    #[test]
    fn lists_every_command_that_it_reads() {
        for (usage, _) in COMMANDS {
            let name = usage.split(' ').next().unwrap();
            let unknown = Err(format!("{name} is not a playground command; type help"));
            assert_ne!(Command::parse(name), unknown, "{usage}");
        }
    }
}
