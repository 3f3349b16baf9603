//! Recordings as users play them: in a terminal, and in another player.

use std::{
    io::Read,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::support::{gateway::ended, skip};

/// The initial position of an hour's recording.
const BEGUN: &str = " 0:00:00 [........................] 1:00:00";

/// The sequence that resets a scroll region and shows the cursor.
const UNDONE: &str = "\x1b[r\x1b[?25h";

/// Writes a recording of 24 rows: forty lines and a hidden cursor, and the last word after `seconds`.
fn lines(home: &Home, seconds: f64) -> PathBuf {
    let lines: String = (0..40).map(|number| format!("line {number}\r\n")).collect();
    let events = [json!([0.01, "o", lines + "\x1b[?25l"]), json!([seconds, "o", "the end\r\n"])];
    let header = json!({"version": 2, "width": 80, "height": 24});
    let path = home.config().with_file_name(format!("{seconds}.cast"));
    fs::write(&path, format!("{header}\n{}\n{}\n", events[0], events[1])).unwrap();
    path
}

/// Returns the command that plays it, as a user types it.
fn replay(home: &Home, path: &Path) -> String {
    let [data_dir, config] = [home.data_dir(), home.config()].map(|path| path.display().to_string());
    let (binary, file) = (env!("CARGO_BIN_EXE_pulsegate"), path.display());
    format!("PULSEGATE__NODE__DATA_DIR='{data_dir}' '{binary}' replay '{file}' --config '{config}'")
}

/// Returns a page on a shell with this many rows.
fn shell(gateway: &Gateway, rows: u32) -> Browser {
    let id = gateway.opens("sshd");
    let (page, _) = gateway.attaches(&id, &Attach { rows, ..Attach::default() });
    page.runs("echo in-the-shell", "in-the-shell");
    page
}

#[test]
fn a_replay_in_a_terminal_says_how_far_it_is_and_leaves_the_terminal_as_it_was() {
    let sshd = sshd!(Options::default());
    let gateway = Gateway::start(Home::with_sshd(&sshd));
    let home = &gateway.home;
    let [hour, moment] = [3600.0, 0.02].map(|seconds| replay(home, &lines(home, seconds)));

    // There is room below the recording's own rows.
    let page = shell(&gateway, 30);
    page.types(format!("{hour}\r"));
    page.sees("\x1b[2J\x1b[1;29r\x1b[H");
    page.sees("line 39\r");
    page.sees(&format!("\x1b7\x1b[999;1H\x1b[0;7m{BEGUN}\x1b[K\x1b[0m\x1b8"));
    let (rows, _) = page.shows(80, 30);
    assert_eq!((rows[27].as_str(), rows[28].as_str(), rows[29].as_str()), ("line 39", "", BEGUN), "{rows:#?}");
    page.types("\u{3}");
    page.sees(UNDONE);
    page.runs("seq 60; echo back-again", "back-again");
    let (rows, _) = page.shows(80, 30);
    assert_eq!((rows[27].as_str(), rows[28].as_str()), ("60", "back-again"), "{rows:#?}");
    page.types(format!("{moment}; echo status-$?\r"));
    page.sees(UNDONE);
    page.sees("status-0");

    // There is no such room.
    let page = shell(&gateway, 24);
    page.types(format!("{hour}\r"));
    page.sees("line 39\r");
    page.sees(&format!("\x1b]2;{BEGUN}\x07"));
    let (rows, _) = page.shows(80, 24);
    assert_eq!((rows[22].as_str(), rows[23].as_str()), ("line 39", ""), "{rows:#?}");
    page.types("\u{3}");
    page.sees(UNDONE);

    // The output is redirected.
    page.types(format!("{hour} > /dev/null; echo status-$?\r"));
    page.sees(&format!("\r{BEGUN}\x1b[K"));
    page.types("\u{3}");
    page.sees("status-0");
}

#[test]
fn a_hostile_recording_draws_on_the_terminal_and_leaves_nothing_for_the_shell_behind() {
    let sshd = sshd!(Options::default());
    let gateway = Gateway::start(Home::with_sshd(&sshd));
    let home = &gateway.home;
    let hostile = "\x1b]52;c;cm0gLXJmIH4K\x07\x1b[c\x1b[6n\x1b]11;?\x07\x1b[?1004;1006h";
    let events = [json!([0.01, "o", format!("drawn{hostile} and-on\r\n")]), json!([2.0, "o", "the end\r\n"])];
    let header = json!({"version": 2, "width": 80, "height": 24});
    let path = home.config().with_file_name("hostile.cast");
    fs::write(&path, format!("{header}\n{}\n{}\n", events[0], events[1])).unwrap();
    let page = shell(&gateway, 30);
    page.types(format!("{}\r", replay(home, &path)));
    page.sees("drawn and-on\r");
    // As what a terminal answers by itself.
    page.types("echo not-\"for-the-shell\"\r");
    page.sees(UNDONE);
    page.runs("echo back-again", "back-again");
    let shown = String::from_utf8_lossy(&page.heard().output).into_owned();
    assert!(!shown.contains("for-the-shell") && !shown.contains("\x1b]52"), "{shown}");
    page.runs("stty -a | grep -c ' echo '", "1");
}

#[test]
fn a_replay_ends_by_a_ctrl_c_that_comes_between_two_events() {
    let home = Home::new();
    fs::write(home.config(), "{}").unwrap();
    let path = home.config().with_file_name("flood.cast");
    // Events without a pause, far more than a pipe holds: the replay waits for its reader.
    let (header, text) = (json!({"version": 2, "width": 80, "height": 24}), "x".repeat(1_000));
    let (event, events) = (json!([0.0, "o", text]), 10_000);
    fs::write(&path, format!("{header}\n{}", format!("{event}\n").repeat(events))).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec env {}", replay(&home, &path))]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut playing = command.stderr(Stdio::null()).spawn().unwrap();
    let (mut output, mut played) = (playing.stdout.take().unwrap(), vec![0_u8]);
    output.read_exact(&mut played).unwrap();
    kill_process(Pid::from_child(&playing), Signal::INT).unwrap();
    output.read_to_end(&mut played).unwrap();
    assert!(ended(playing).success());
    assert!(played.len() < events * text.len() / 2, "{} bytes", played.len());
}

#[test]
fn a_downloaded_recording_plays_in_asciinema_as_in_replay_and_as_it_was_shown() {
    let playground = Playground::start();
    let home = Arc::new(Home::with(&playground));
    let gateway = home.start();
    let (page, id) = gateway.page("playground");
    page.runs("echo grüße-from-here", "grüße-from-here");
    page.says(json!({"type": "resize", "cols": 100, "rows": 40}));
    page.types("flood 100kB\r");
    page.sees("flood: 100000 bytes\r\n");
    page.runs("echo last-words", "last-words");
    eventually(Duration::from_secs(5), || {
        (recording(&gateway, &id, "").text().matches("last-words").count() > 1).then_some(())
    });
    gateway.dies();
    let gateway = home.start();
    gateway.becomes(&id, "closed/node_lost");
    let download = recording(&gateway, &id, "");
    let text = download.text();
    assert!(told(&text, "r").contains("100x40") && told(&text, "m").contains("the gateway ended here"), "{text}");
    assert!(text.matches(r#","h",""#).count() > 1, "{text}");
    let shown = told(&text, "o");
    assert!(shown.contains("last-words\r\n") && page.heard().output.starts_with(shown.as_bytes()));

    let path = home.config().with_file_name("download.cast");
    fs::write(&path, &download.body).unwrap();
    let (status, played) = home.run(&["replay", path.to_str().unwrap(), "--speed", "1000"]);
    assert!(status.success() && played.starts_with(&shown), "{played}");
    let mut asciinema = Command::new("asciinema");
    asciinema.args(["play", "-s", "1000"]).arg(&path).stdin(Stdio::null());
    asciinema.env("HOME", path.parent().unwrap()).env("LC_ALL", "C.UTF-8");
    let Ok(output) = asciinema.output() else {
        return skip(std::thread::current().name().unwrap_or_default(), "no asciinema");
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && output.stdout == shown.as_bytes(), "{said}");
}
