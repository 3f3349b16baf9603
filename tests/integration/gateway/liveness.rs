//! A dead peer is noticed in time, and no live one is blamed: frozen servers, frozen browsers, dropped packets, a
//! stopped gateway. Times are those of the default configuration unless a test says otherwise.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};

use crate::{
    sshd,
    support::{
        browser::Attach,
        eventually, eventually_nothing_changes,
        gateway::{Gateway, Home},
        playground::Playground,
        skip,
        sshd::{Options, run},
    },
};

const DETACHED_WITHIN: Duration = Duration::from_secs(15);

#[test]
fn a_frozen_ssh_server_is_lost_within_25_s_and_the_browser_is_told_within_20() {
    let sshd = sshd!(Options::default());
    let gateway = Gateway::start(Home::with_sshd(&sshd));
    let (page, id) = gateway.page("sshd");
    page.runs("echo $((6*7))", "42");
    let frozen = Instant::now();
    sshd.freeze();
    let closed = page.hears_within(Duration::from_secs(20), "closed");
    println!("the browser was told after {:?}", frozen.elapsed());
    assert_eq!(closed["reason"], "peer_lost");
    let session = gateway.becomes_within(Duration::from_secs(5), &id, "closed/peer_lost");
    assert!(session["end_time"].as_str().unwrap() < session["detected_at"].as_str().unwrap(), "{session}");
    sshd.thaw();
}

#[test]
fn who_looks_on_at_a_quiet_shell_hears_that_the_socket_stands() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).set("monitor.ping_interval", "1s"));
    let (_owner, id) = gateway.page("playground");
    let looks_on =
        Attach { client_id: "page-2".to_owned(), mode: "observe", screen: true, control: true, ..Attach::default() };
    let (watcher, _) = gateway.attaches(&id, &looks_on);
    for _ in 0..3 {
        watcher.hears("alive");
    }
}

#[test]
fn a_page_that_types_all_the_time_is_pinged_each_interval() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).set("monitor.ping_interval", "500ms"));
    let (page, _id) = gateway.page("playground");
    let answered = || {
        let metrics = gateway.asks("GET", "/metrics", None).text();
        let count = metrics.lines().find_map(|line| line.strip_prefix("pulsegate_heartbeats_total ")).unwrap();
        count.parse::<u64>().unwrap()
    };
    eventually(Duration::from_secs(20), || {
        page.runs("echo busy", "busy");
        (answered() >= 5).then_some(())
    });
}

#[test]
fn an_ssh_server_that_hangs_for_a_while_is_forgiven() {
    let sshd = sshd!(Options::default());
    let gateway = Gateway::start(Home::with_sshd(&sshd));
    let (page, id) = gateway.page("sshd");
    page.runs("echo $((6*7))", "42");
    sshd.freeze();
    // After the first keepalive, before the verdict.
    eventually_nothing_changes(Duration::from_secs(9), || gateway.says(&id, "active").is_some());
    sshd.thaw();
    page.runs("echo $((40+3))", "43");
}

#[test]
fn an_ssh_server_that_is_not_read_hears_that_we_live() {
    let sshd = sshd!(Options { config: "ClientAliveInterval 1\nClientAliveCountMax 2\n", ..Options::default() });
    let gateway = Gateway::start(Home::with_sshd(&sshd).set("ssh.keepalive_interval", "500ms"));
    let (page, id) = gateway.page("sshd");
    page.stops_acknowledging();
    page.types("yes\r");
    // A server that receives nothing disconnects after three seconds.
    eventually_nothing_changes(Duration::from_secs(8), || sshd.connections() > 0);
    assert!(gateway.says(&id, "active").is_some());
}

#[test]
fn a_frozen_browser_is_detached_within_15_s_and_its_shell_lives_on() {
    let sshd = sshd!(Options::default());
    let gateway = Gateway::start(Home::with_sshd(&sshd));
    let (page, id) = gateway.page("sshd");
    page.runs("kept=$((6*7)); echo set", "set");
    let (quiet, other) = gateway.page("sshd");
    let frozen = Instant::now();
    page.freezes();
    gateway.becomes_within(DETACHED_WITHIN, &id, "detached");
    println!("detached after {:?}", frozen.elapsed());
    assert!(frozen.elapsed() > Duration::from_secs(9), "no proof yet");
    let (page, _) = gateway.attaches(&id, &Attach::default());
    page.runs("echo kept $kept", "kept 42");
    // A page that sends nothing by itself but answers pings counts as present.
    assert!(gateway.says(&other, "active").is_some());
    assert_eq!(gateway.history(&other).len(), 2, "{:?}", gateway.history(&other));
    quiet.runs("echo $((40+3))", "43");
}

#[test]
fn the_last_answers_of_a_page_and_of_a_target_that_are_silent_otherwise_are_told() {
    let playground = Playground::start();
    let home = Home::with(&playground).set("monitor.ping_interval", "500ms").set("ssh.keepalive_interval", "500ms");
    let gateway = Gateway::start(home);
    let (page, id) = gateway.page("playground");
    page.runs("echo here", "here");
    let why = || gateway.shows(&format!("/api/v1/sessions/{id}/why"));
    let answers =
        |why: &Value| Some([why["last_pong_at"].as_str()?.to_owned(), why["last_reply_at"].as_str()?.to_owned()]);
    let first = eventually(Duration::from_secs(10), || answers(&why()));
    let later = eventually(Duration::from_secs(10), || {
        let told = why();
        answers(&told).filter(|later| later.iter().zip(&first).all(|(later, first)| later > first)).map(|_| told)
    });
    assert!(later["browser_heard_at"].as_str() >= later["last_pong_at"].as_str(), "{later}");
    assert!(later["peer_heard_at"].as_str() >= later["last_reply_at"].as_str(), "{later}");
    assert!(later["last_byte_in_at"].is_string() && later["watchers_heard_at"].is_null(), "{later}");
}

/// The command that runs a gateway on one core: actix starts a worker for each, and gives them connections in turns.
fn on_one_core() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let first = allowed.trim().split([',', '-']).next().unwrap();
    ["taskset", "--cpu-list", first].map(str::to_owned).to_vec()
}

#[test]
fn a_jammed_browser_is_detached_on_time_and_delays_nobody() {
    let playground = Playground::start();
    let mut home = Home::with(&playground).set("session.output_window", "16MiB");
    // All share one thread, which each could block for the others.
    home.within = on_one_core();
    let gateway = Gateway::start(home);
    let (other, other_id) = gateway.page("playground");
    let before = gateway.sockets();
    let jams = [gateway.page("playground"), gateway.page("playground")];
    for (page, _) in &jams {
        page.freezes();
    }
    let frozen = Instant::now();
    // More than the kernel buffers, so that the gateway's sockets block too.
    for (page, _) in &jams {
        page.types("yes\r");
    }
    let mut slowest = Duration::ZERO;
    eventually(DETACHED_WITHIN, || {
        let asked = Instant::now();
        other.runs("echo quick", "quick");
        slowest = slowest.max(asked.elapsed());
        jams.iter().all(|(_, id)| gateway.says(id, "detached").is_some()).then_some(())
    });
    println!("detached after {:?}; slowest echo beside them {slowest:?}", frozen.elapsed());
    assert!(slowest < Duration::from_millis(500), "a neighbour waited {slowest:?}");
    assert!(gateway.says(&other_id, "active").is_some());
    // The pages still read nothing, and their sockets are gone; the connections to their targets are not.
    eventually(Duration::from_secs(5), || (gateway.sockets() <= before + jams.len()).then_some(()));
    for (page, id) in &jams {
        page.thaws();
        page.is_cut_within(Duration::from_secs(5));
        assert_eq!(page.heard().code, None, "it was ended from outside, not by a message");
        let (page, _) = gateway.attaches(id, &Attach::default());
        page.types("\x03");
        page.sees("^C\r\n");
        page.runs("echo back", "back");
    }
}

#[test]
fn the_socket_of_a_jammed_browser_does_not_outlive_its_session() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground).set("session.output_window", "16MiB"));
    let (keeper, _) = gateway.page("playground");
    let before = gateway.sockets();
    let mut jams = Vec::new();
    for _ in 0..3 {
        let (page, id) = gateway.page("playground");
        page.freezes();
        page.types("yes\r");
        jams.push((page, id));
    }
    for (_, id) in &jams {
        eventually(Duration::from_secs(10), || (gateway.session(id)["bytes_out"].as_u64()? > 8 << 20).then_some(()));
    }
    for (_, id) in &jams {
        gateway.asks("DELETE", &format!("/api/v1/sessions/{id}"), None);
        gateway.becomes(id, "closed/terminated");
    }
    let closed = Instant::now();
    eventually(Duration::from_secs(20), || (gateway.sockets() <= before).then_some(()));
    println!("their sockets were gone after {:?}", closed.elapsed());
    keeper.runs("echo unharmed", "unharmed");
}

#[test]
fn a_stopped_gateway_blames_nobody_when_it_goes_on() {
    let playground = Playground::start();
    let sshd = sshd!(Options::default());
    let home = Home::with_sshd(&sshd)
        .target("playground", playground.addr, "guest", json!({"prompt": true}))
        .set("monitor.ping_interval", "1s")
        .set("monitor.ping_timeout", "2s")
        .set("ssh.keepalive_interval", "1s")
        .set("session.reattach_window", "8s")
        .set("session.idle_timeout", "15s");
    let gateway = Gateway::start(home);
    let pages: Vec<_> = ["playground", "sshd", "playground", "sshd"].map(|target| gateway.page(target)).into();
    let (left, detached) = gateway.page("playground");
    drop(left);
    gateway.becomes(&detached, "detached");
    let histories = || pages.iter().map(|(_, id)| gateway.history(id)).collect::<Vec<_>>();
    let before = histories();
    // Ten ping timeouts, six verdicts over a server, two windows of a browser to come back, longer than the idle limit.
    gateway.signal(Signal::STOP);
    let stopped = Instant::now();
    eventually(Duration::from_secs(25), || (stopped.elapsed() > Duration::from_secs(20)).then_some(()));
    gateway.signal(Signal::CONT);
    assert!(gateway.says(&detached, "detached").is_some(), "{:?}", gateway.history(&detached));
    let (_back, _) = gateway.attaches(&detached, &Attach::default());
    eventually_nothing_changes(Duration::from_secs(5), || {
        pages.iter().all(|(_, id)| gateway.says(id, "active").is_some())
    });
    assert_eq!(histories(), before);
    for (page, _) in &pages {
        page.runs("echo still-here", "still-here");
    }
}

/// A network namespace with one virtual cable to this one; dropping it removes both.
struct Island {
    name: String,
    inside: String,
}

impl Island {
    fn new() -> Self {
        let nth = std::process::id() % 250;
        let (name, cable) = (format!("pulsegate-{nth}"), format!("pgt{nth}"));
        let ip = |args: &str| run(Command::new("ip").args(args.split(' ')));
        ip(&format!("netns add {name}"));
        let island = Self { inside: format!("198.18.{nth}.2"), name };
        let name = &island.name;
        ip(&format!("link add {cable} type veth peer name inside netns {name}"));
        ip(&format!("addr add 198.18.{nth}.1/30 dev {cable}"));
        ip(&format!("link set {cable} up"));
        island.run(&format!("ip addr add {}/30 dev inside", island.inside));
        island.run("ip link set inside up");
        island.run("ip link set lo up");
        island
    }

    fn run(&self, command: &str) {
        run(Command::new("ip").args(["netns", "exec", &self.name]).args(command.split(' ')));
    }

    fn drops_packets_of_the_cable(&self) {
        self.run("nft add table inet cut");
        self.run("nft add chain inet cut input { type filter hook input priority 0 ; }");
        self.run("nft add chain inet cut output { type filter hook output priority 0 ; }");
        self.run("nft add rule inet cut input iifname inside drop");
        self.run("nft add rule inet cut output oifname inside drop");
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        // Removes the cable too.
        Command::new("ip").args(["netns", "del", &self.name]).status().ok();
    }
}

#[test]
fn a_browser_whose_packets_are_dropped_is_detached_within_15_s() {
    if !geteuid().is_root() || !std::path::Path::new("/usr/sbin/nft").exists() {
        let test = std::thread::current();
        return skip(test.name().unwrap_or_default(), "a network namespace needs root and nft");
    }
    let island = Island::new();
    let mut home = Home::demo(&format!("{}:0", island.inside)).set("server.insecure", "true");
    home.within = ["ip", "netns", "exec", &island.name].map(str::to_owned).to_vec();
    let gateway = Gateway::start(home);
    let (page, id) = gateway.page("playground");
    page.runs("echo before", "before");
    island.drops_packets_of_the_cable();
    let cut = Instant::now();
    // From outside, no request is possible now.
    eventually(DETACHED_WITHIN + Duration::from_secs(3), || (cut.elapsed() > DETACHED_WITHIN).then_some(()));
    island.run("nft delete table inet cut");
    let session = gateway.session(&id);
    assert_eq!(session["status"], "detached");
    let why = gateway.shows(&format!("/api/v1/sessions/{id}/why"));
    let last = why["history"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["detail"], "The browser has not answered its pings.");
    let (page, _) = gateway.attaches(&id, &Attach { output_offset: Some(page.offset()), ..Attach::default() });
    page.runs("echo after", "after");
}
