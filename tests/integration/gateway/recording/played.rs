//! Recordings as people play them: in another player.

use std::process::{Command, Stdio};

use super::*;
use crate::support::skip;

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
