//! Standard output and standard error that cannot be written, of a gateway and of the operator's tools.

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    eventually,
    gateway::{Gateway, Home, ended},
    playground::Playground,
    terminal::PATIENCE,
};

/// Returns the home with the streams of its binary redirected, as by `2>/dev/full`.
fn redirected(mut home: Home, how: &str) -> Home {
    home.within = ["sh", "-c", &format!(r#"exec "$0" "$@" {how}"#)].map(str::to_owned).to_vec();
    home
}

#[test]
fn a_gateway_whose_log_cannot_be_written_serves_and_stops_as_always() {
    let playground = Playground::start();
    let gateway = Gateway::start(redirected(Home::with(&playground), "2>/dev/full"));
    let home = gateway.home.clone();
    gateway.signal(Signal::HUP);
    eventually(PATIENCE, || {
        let told = gateway.shows("/api/v1/audit?action=gateway.reload");
        (told["items"][0]["outcome"] == "ok").then_some(())
    });
    let (page, id) = gateway.page("playground");
    page.runs("echo unharmed", "unharmed");
    gateway.signal(Signal::TERM);
    page.is_told_to_come_back();
    assert_eq!(gateway.ended().code(), Some(0));
    assert!(home.start().says(&id, "closed/shutdown").is_some());
}

#[test]
fn a_gateway_whose_first_words_cannot_be_written_serves_all_the_same() {
    let home = redirected(Home::new(), ">/dev/full");
    let process = home.spawn(&["serve"]);
    let told = || home.logs().contains("where to find the gateway cannot be written").then_some(());
    eventually(PATIENCE, told);
    kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
    assert_eq!(ended(process).code(), Some(0), "{}", home.logs());
}
