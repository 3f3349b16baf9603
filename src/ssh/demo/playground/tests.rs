//! Tests of the playground: its output for given input.

use super::*;

const SIZE: Size = Size { cols: 80, rows: 24 };

/// Pulls at most `pulls` effects; returns the bytes in one piece, and the exit.
fn pull(playground: &mut Playground, pulls: usize) -> (String, Option<End>) {
    let mut said = Vec::new();
    for _ in 0..pulls {
        match playground.poll_effect() {
            Some(Effect::Write(bytes)) => said.extend_from_slice(&bytes),
            Some(Effect::End(end)) => return (String::from_utf8(said).unwrap(), Some(end)),
            None => break,
        }
    }
    (String::from_utf8(said).unwrap(), None)
}

fn shell() -> Playground {
    let mut shell = Playground::shell(SIZE);
    pull(&mut shell, 10);
    shell
}

/// Types `text` and returns the output, without the colours of the prompt.
fn answer(shell: &mut Playground, typed: &str) -> String {
    shell.input(Bytes::copy_from_slice(typed.as_bytes()));
    pull(shell, 1000).0.replace(PROMPT, "playground:~$ ")
}

#[test]
fn greets_within_the_width() {
    for cols in [1, 20, 80, 200] {
        let (said, end) = pull(&mut Playground::shell(Size { cols, rows: 24 }), 10);
        assert!(said.contains("Pulsegate playground") && said.ends_with(PROMPT) && end.is_none());
        if cols >= 20 {
            let text = said.strip_suffix(PROMPT).unwrap().replace("\x1b[1m", "").replace("\x1b[0m", "");
            assert!(text.lines().all(|line| line.len() <= usize::from(cols)), "{text}");
        }
    }
}

#[test]
fn answers_commands() {
    let table = [
        ("echo  hi  there\r", "echo  hi  there\r\nhi  there\r\nplayground:~$ "),
        ("\r", "\r\nplayground:~$ "),
        ("size\r", "size\r\n80×24\r\nplayground:~$ "),
        ("ls\r", "ls\r\nls is not a playground command; type help\r\nplayground:~$ "),
        ("title a b\r", "title a b\r\n\x1b]2;a b\x1b\\playground:~$ "),
        (
            "flood 70\r",
            "flood 70\r\n0000000001 The quick brown fox jumps over the lazy dog, again.\r\n000000\r\nflood: 70 bytes\r\nplayground:~$ ",
        ),
        ("abc\x03", "abc^C\r\nplayground:~$ "),
        (
            "flood 1\recho after\r",
            "flood 1\r\n0\r\nflood: 1 bytes\r\nplayground:~$ echo after\r\nafter\r\nplayground:~$ ",
        ),
    ];
    for (typed, expected) in table {
        assert_eq!(answer(&mut shell(), typed), expected, "{typed:?}");
    }
    assert!(answer(&mut shell(), "help\r").contains("flood [SIZE]"));
    assert!(answer(&mut shell(), "colors\r").contains("\x1b[48;2;255;0;0m"));
    assert!(answer(&mut shell(), "unicode\r").contains("漢字"));
}

#[test]
fn ends_as_told() {
    let table = [
        ("exit\r", End::Status(0)),
        ("exit 7\r", End::Status(7)),
        ("\x04", End::Status(0)),
        ("signal term\r", End::Signal("TERM")),
        ("drop\r", End::Drop),
    ];
    for (typed, expected) in table {
        let mut shell = shell();
        shell.input(Bytes::from_static(typed.as_bytes()));
        assert_eq!(pull(&mut shell, 10).1, Some(expected), "{typed:?}");
        assert_eq!(answer(&mut shell, "echo hi\r"), "", "an ended shell answers nothing");
    }
}

#[test]
fn a_flood_counts_its_lines_and_its_bytes() {
    let mut playground = Playground::exec(b"flood 10MB", SIZE).unwrap();
    let (said, end) = pull(&mut playground, 1000);
    assert_eq!((said.len(), end), (10_000_000, Some(End::Status(0))));
    for (nth, line) in (1..).zip(said.split_inclusive('\n')) {
        assert!(line.starts_with(&format!("{nth:010} ")), "{line}");
        assert!(line.len() == 64 || nth == 10_000_000 / 64 + 1);
    }
}

#[test]
fn ctrl_c_ends_what_runs_and_forgets_what_was_typed() {
    for command in ["flood\r", "yes\r", "clock\r", "hang\r", "resize\r"] {
        let mut shell = shell();
        shell.input(Bytes::from_static(command.as_bytes()));
        pull(&mut shell, 3);
        shell.input(Bytes::from_static(b"exit\r\x03echo on\r"));
        let (said, end) = pull(&mut shell, 10);
        assert_eq!(said.replace(PROMPT, "$ "), "^C\r\n$ echo on\r\non\r\n$ ", "{command}");
        assert_eq!(end, None, "{command}");
    }
}

#[test]
fn endless_output_is_made_only_when_asked_for() {
    let mut shell = shell();
    shell.input(Bytes::from_static(b"yes\r"));
    pull(&mut shell, 1000);
    assert_eq!(shell.unread(), 0);
}

#[test]
fn hang_answers_nothing() {
    let mut shell = shell();
    assert_eq!(answer(&mut shell, "hang\r"), "hang\r\n");
    assert_eq!(answer(&mut shell, &"echo hi\r".repeat(10_000)), "");
    assert!(shell.typed_ahead.len() <= MAX_TYPED_AHEAD);
}

#[test]
fn raw_returns_every_byte() {
    let mut shell = shell();
    answer(&mut shell, "raw\r");
    let all: Vec<u8> = (0..=255).filter(|byte| *byte != CTRL_RIGHT_BRACKET).cycle().take(100_000).collect();
    let mut echoed = Vec::new();
    for piece in all.chunks(1500) {
        shell.input(Bytes::copy_from_slice(piece));
        shell.input(Bytes::copy_from_slice(b"x"));
        while let Some(Effect::Write(bytes)) = shell.poll_effect() {
            echoed.extend_from_slice(&bytes);
        }
    }
    let expected: Vec<u8> = all.chunks(1500).flat_map(|piece| [piece, b"x"].concat()).collect();
    assert!(echoed == expected);
    assert_eq!(shell.unread(), 0);
    assert_eq!(answer(&mut shell, "\x1decho hi\r"), "\r\nplayground:~$ echo hi\r\nhi\r\nplayground:~$ ");
}

#[test]
fn unread_echo_is_counted() {
    let mut playground = Playground::exec(b"raw", SIZE).unwrap();
    for _ in 0..1000 {
        playground.input(Bytes::from_static(&[b'x'; 2000]));
        playground.input(Bytes::from_static(b"y"));
    }
    assert_eq!(playground.unread(), 1000 * 2001);
    pull(&mut playground, 10_000);
    assert_eq!(playground.unread(), 0);
}

#[test]
fn paste_counts_and_hashes() {
    let mut shell = shell();
    assert_eq!(answer(&mut shell, "paste\r"), "paste\r\n");
    assert_eq!(answer(&mut shell, "a"), "");
    assert_eq!(
        answer(&mut shell, "bc\x04"),
        "paste: 3 bytes, SHA-256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\r\nplayground:~$ "
    );
}

#[test]
fn resize_tells_each_size_and_size_the_last() {
    let mut shell = shell();
    shell.resize(Size { cols: 100, rows: 30 });
    assert_eq!(pull(&mut shell, 10).0, "", "a resize at the prompt prints nothing");
    assert_eq!(answer(&mut shell, "resize\r"), "resize\r\n100×30\r\n");
    shell.resize(Size { cols: 7, rows: 3 });
    assert_eq!(pull(&mut shell, 10).0, "7×3\r\n");
}

#[test]
fn the_page_is_drawn_anew_at_every_size_and_moves_its_marker() {
    let mut shell = shell();
    let drawn = answer(&mut shell, "page\r");
    assert!(drawn.starts_with("page\r\n\x1b[?1049h") && drawn.contains("80×24") && drawn.contains("\x1b[2;2H"));
    for size in [Size { cols: 1, rows: 1 }, Size { cols: 1000, rows: 1000 }, Size { cols: 40, rows: 10 }] {
        shell.resize(size);
        let drawn = pull(&mut shell, 10).0;
        assert!(drawn.contains("┌") && drawn.len() < 64 * 1024, "{size:?}");
    }
    let drawn = answer(&mut shell, "\x1b[C\x1b[B\x1b[A\x1b[B");
    assert!(drawn.contains("40×10") && drawn.contains("\x1b[3;3H"), "{drawn:?}");
    assert_eq!(answer(&mut shell, "qecho hi\r"), "\x1b[?25h\x1b[?1049lplayground:~$ echo hi\r\nhi\r\nplayground:~$ ");
}

#[test]
fn the_clock_counts_ticks() {
    let mut shell = shell();
    assert!(!shell.wants_ticks());
    answer(&mut shell, "clock\r");
    assert!(shell.wants_ticks());
    shell.tick();
    shell.tick();
    assert_eq!(pull(&mut shell, 10).0, "tick 1\r\ntick 2\r\n");
}

#[test]
fn executes_only_flood_and_raw() {
    for command in ["", "sh", "exit", "flood 11GB", "flood 1; sh"] {
        assert!(!Playground::can_exec(command.as_bytes()), "{command:?}");
    }
    assert!(Playground::can_exec(b"raw") && Playground::can_exec(b"flood 1KB"));
    assert!(!Playground::can_exec(b"\xff"));
}

#[test]
fn the_end_of_input_lets_a_flood_finish_and_ends_the_prompt() {
    let mut shell = shell();
    shell.input(Bytes::from_static(b"flood 100KB\recho then\r"));
    shell.end_of_input();
    let (said, end) = pull(&mut shell, 1000);
    assert!(said.len() > 100_000 && said.contains("then\r\n"));
    assert_eq!(end, Some(End::Status(0)));
}
