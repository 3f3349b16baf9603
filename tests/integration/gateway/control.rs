//! Control of a session's input: requested, granted, taken by policy, taken back; and every byte of input where it
//! belongs.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::people::{PASSWORD, Person, add};
use crate::{
    sshd,
    support::{
        browser::{Attach, Browser},
        eventually,
        gateway::{Gateway, Home},
        playground::Playground,
        sshd::{Options, Sshd},
        terminal::PATIENCE,
    },
};

/// The return of control to the owner.
mod returning;

fn owners(client: &str) -> Attach {
    Attach { client_id: client.to_owned(), screen: true, control: true, ..Attach::default() }
}

fn guests(client: &str) -> Attach {
    Attach { mode: "observe", cols: 100, rows: 30, ..owners(client) }
}

/// Ada's shell, which writes its input to a file, and otto who observes.
struct Scene<'g> {
    gateway: &'g Gateway,
    ada: Person<'g>,
    otto: Person<'g>,
    owner: Browser,
    guest: Browser,
    id: String,
    file: PathBuf,
    _folder: TempDir,
}

fn gateway_with(sshd: &Sshd, policy: &str) -> Gateway {
    let gateway = Gateway::start(Home::with_sshd(sshd).set("session.take_over", policy));
    add(&gateway, "ada", "user", &["sshd"]);
    add(&gateway, "otto", "operator", &["sshd"]);
    gateway
}

impl<'g> Scene<'g> {
    fn new(gateway: &'g Gateway) -> Self {
        let [ada, otto] = ["ada", "otto"].map(|name| Person::signs_in(gateway, name, PASSWORD).unwrap());
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("typed");
        let id = ada.opens("sshd");
        let owner = ada.socket(&id);
        owner.attach(&owners("hers"));
        gateway.becomes(&id, "active");
        // Input is on the screen before cat reads it, unless the echo is off.
        owner.types(format!("stty -echo; echo go-; cat > {}\r", file.display()));
        owner.sees("go-\r\n");
        eventually(PATIENCE, || file.exists().then_some(()));
        let guest = otto.socket(&id);
        let attached = guest.attach(&guests("his"));
        assert_eq!((&attached["control"]["typing"], &attached["control"]["name"]), (&json!(false), &Value::Null));
        Self { gateway, ada, otto, owner, guest, id, file, _folder: folder }
    }

    /// Otto requests control and ada grants it; returns the message that otto receives.
    fn grants(&self) -> Value {
        self.guest.says(json!({"type": "request_control"}));
        assert_eq!(self.guest.hears("control_answer")["outcome"], "waiting");
        self.owner.says(json!({"type": "grant_control", "id": self.asked()}));
        types_from_here(&self.guest)
    }

    /// Returns the number of the only request that ada receives.
    fn asked(&self) -> u64 {
        let asked = self.owner.hears("control_requests");
        assert_eq!((asked["items"].as_array().unwrap().len(), &asked["items"][0]["name"]), (1, &json!("otto")));
        asked["items"][0]["id"].as_u64().unwrap()
    }

    fn typed(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }

    /// Ends cat by the owner's input and compares what it wrote.
    #[track_caller]
    fn wrote(&self, page: &Browser, expected: &str) {
        page.types("\x04");
        page.runs("echo all-done", "all-done");
        assert!(self.typed() == expected, "{:?} is not {:?}", self.typed(), expected);
    }

    /// Returns who types in the owner's place, by the evidence, the session and the list, which agree.
    fn controlled_by(&self) -> Value {
        let now = self.gateway.shows(&format!("/api/v1/sessions/{}/why", self.id))["controlled_by"].clone();
        eventually(PATIENCE, || {
            let listed = self.gateway.lists("status=active&status=detached");
            let listed = listed.iter().find(|session| session["id"] == self.id.as_str())?["controlled_by"] == now;
            (listed && self.gateway.session(&self.id)["controlled_by"] == now).then_some(())
        });
        now
    }

    fn is_noted(&self, words: &str) {
        is_noted(self.gateway, &self.id, words);
    }
}

/// Waits until a session's history contains these words.
fn is_noted(gateway: &Gateway, id: &str, words: &str) {
    eventually(PATIENCE, || gateway.history(id).iter().any(|detail| detail.contains(words)).then_some(()));
}

/// Waits until control came to this page and lets it type; returns the message.
#[track_caller]
fn types_from_here(page: &Browser) -> Value {
    let control = page.hears("control");
    assert_eq!(control["typing"], true, "{control}");
    page.says(json!({"type": "typing", "turn": control["turn"]}));
    control
}

/// Waits until control left this page; returns up to which offset its input was taken.
#[track_caller]
fn types_no_more(page: &Browser) -> usize {
    let control = page.hears("control");
    assert_eq!(control["typing"], false, "{control}");
    usize::try_from(control["input_offset"].as_u64().unwrap()).unwrap()
}

#[track_caller]
fn is_taken(page: &Browser, offset: usize) {
    page.wait(PATIENCE, &format!("{offset} bytes taken"), |heard| {
        heard.frames.iter().any(|frame| frame["type"] == "input_ack" && frame["input_offset"] == offset).then_some(())
    });
}

/// Returns `count` lines that cat takes one by one.
fn lines(what: &str, count: usize) -> String {
    (1..=count).map(|nth| format!("{what}-{nth:06}\n")).collect()
}

#[test]
fn whom_the_owner_lets_types_until_they_take_it_back_and_every_byte_is_where_it_belongs() {
    let sshd = sshd!(Options::default());
    let gateway = gateway_with(&sshd, "request");
    let scene = Scene::new(&gateway);
    let (owner, guest) = (&scene.owner, &scene.guest);
    owner.types("owner\n");
    guest.types("never\n");
    guest.hears("input_refused");
    guest.says(json!({"type": "resize", "cols": 20, "rows": 5}));
    guest.says(json!({"type": "request_control"}));
    assert_eq!(guest.hears("control_answer")["outcome"], "waiting");
    let id = scene.asked();
    guest.says(json!({"type": "grant_control", "id": id}));
    owner.says(json!({"type": "grant_control", "id": id}));
    let control = guest.hears("control");
    assert_eq!((&control["typing"], &control["turn"], &control["name"]), (&json!(true), &json!(1), &json!("otto")));
    let told = control["message"].as_str().unwrap();
    assert_eq!(told, "ada lets otto type.");
    let begun = usize::try_from(control["input_offset"].as_u64().unwrap()).unwrap();
    let lost = owner.hears("control");
    assert_eq!((&lost["typing"], &lost["name"], &lost["may"]), (&json!(false), &json!("otto"), &json!("take")));
    assert_eq!(owner.hears("control_requests")["items"], json!([]));
    assert_eq!(scene.controlled_by(), "otto");

    // Neither what the guest sent before their turn, nor what the owner types afterwards, arrives.
    guest.types("of-an-earlier-turn\n");
    owner.types("never\n");
    owner.hears("input_refused");
    guest.says(json!({"type": "typing", "turn": 7}));
    guest.types("of-no-turn\n");
    guest.says(json!({"type": "typing", "turn": control["turn"]}));
    guest.says(json!({"type": "resize", "cols": 101, "rows": 31}));
    let size = owner.wait(PATIENCE, "the guest's size", |heard| {
        heard.frames.iter().find(|frame| frame["type"] == "size" && frame["cols"] == 101).cloned()
    });
    assert_eq!(size["rows"], 31);
    let first = lines("guest", 100);
    guest.types(&first);
    is_taken(guest, begun + first.len());

    // Taken back in the middle of a flood: the offset reported to the guest is exactly what the shell got.
    let flood = lines("flood", 1_000_000);
    let mut sent = 0;
    loop {
        // As a page does, at most 64 KiB ahead of the acknowledged offset.
        let goes_on = guest.wait(PATIENCE, "word of what is taken, or of control", |heard| {
            let told = |kind: &str| heard.frames.iter().rev().find(|frame| frame["type"] == kind);
            let taken = told("input_ack").and_then(|frame| frame["input_offset"].as_u64()).unwrap_or_default();
            let lost = told("control").is_some_and(|frame| frame["turn"] == 2);
            let room = (begun + first.len() + sent) as u64 <= taken + 64 * 1024;
            (lost || room).then_some(!lost)
        });
        guest.types(&flood[sent..sent + 1_000]);
        sent += 1_000;
        if sent == 500_000 {
            owner.says(json!({"type": "take_control"}));
        }
        // The last piece comes from a page that has not read the message yet.
        if !goes_on {
            break;
        }
    }
    let back = types_from_here(owner);
    assert_eq!((&back["turn"], &back["name"]), (&json!(2), &Value::Null));
    let taken = types_no_more(guest) - begun - first.len();
    assert!(taken >= 400_000 && taken < sent, "{taken} of {sent}");
    println!("{taken} of {sent} bytes were taken");
    owner.says(json!({"type": "resize", "cols": 81, "rows": 25}));
    owner.types("\nowner again\n");
    scene.wrote(owner, &format!("owner\n{first}{}\nowner again\n", &flood[..taken]));
    for words in [
        "control_requested: otto asks ada to let them type.",
        "control_granted: ada lets otto type.",
        "control_returned: ada took control back from otto.",
    ] {
        scene.is_noted(words);
    }
    assert_eq!((scene.controlled_by(), &gateway.session(&scene.id)["username"]), (Value::Null, &json!("ada")));
    let log = gateway.shows("/api/v1/audit?action=session.control");
    assert_eq!((&log["items"][0]["actor"], &log["items"][0]["subject"]), (&json!("otto"), &json!(scene.id)), "{log}");
    let sizes = owner.heard().frames.iter().filter(|frame| frame["type"] == "size" && frame["cols"] == 20).count();
    assert_eq!(sizes, 0, "a watcher's size counts for nothing");
}

/// Waits until more than `offset` bytes are acknowledged.
#[track_caller]
fn is_taken_at_all(page: &Browser, offset: usize) {
    page.wait(PATIENCE, &format!("more than {offset} bytes taken"), |heard| {
        let taken = heard.frames.iter().filter(|frame| frame["type"] == "input_ack");
        taken.filter_map(|frame| frame["input_offset"].as_u64()).any(|taken| taken > offset as u64).then_some(())
    });
}

#[test]
fn a_guest_whose_socket_was_cut_goes_on_to_the_byte_and_so_does_the_owner() {
    let sshd = sshd!(Options::default());
    let gateway = gateway_with(&sshd, "request");
    let mut scene = Scene::new(&gateway);
    let begun = usize::try_from(scene.grants()["input_offset"].as_u64().unwrap()).unwrap();
    let all = lines("guest", 30_000);
    let mut sent = 0;
    for cut in 1..=3 {
        // The page sends ahead of the acknowledgements, is cut off, and sends the rest again.
        let end = (sent + 64 * 1024).min(all.len());
        scene.guest.types(&all[sent..end]);
        is_taken_at_all(&scene.guest, begun + sent);
        scene.guest.drops();
        let guest = scene.otto.socket(&scene.id);
        let attached = guest.attach(&guests("his"));
        let control = &attached["control"];
        assert_eq!((&control["typing"], &control["turn"]), (&json!(true), &json!(1)), "cut {cut}: {attached}");
        let taken = usize::try_from(attached["input_offset"].as_u64().unwrap()).unwrap();
        assert!(taken > begun + sent && taken <= begun + end, "{taken}");
        sent = taken - begun;
        scene.guest = guest;
    }
    scene.guest.types(&all[sent..sent + 14 * 10]);
    let end = sent + 14 * 10;
    is_taken(&scene.guest, begun + end);
    // The owner is cut off meanwhile, and receives the current state.
    scene.owner.drops();
    gateway.becomes(&scene.id, "detached");
    let owner = scene.ada.socket(&scene.id);
    let attached = owner.attach(&owners("hers"));
    let control = &attached["control"];
    assert_eq!((&control["typing"], &control["turn"], &control["name"]), (&json!(false), &json!(1), &json!("otto")));
    scene.guest.says(json!({"type": "return_control"}));
    assert_eq!(types_no_more(&scene.guest), begun + end);
    let back = types_from_here(&owner);
    assert_eq!(back["input_offset"], attached["input_offset"]);
    owner.types("\nowner\n");
    scene.wrote(&owner, &format!("{}\nowner\n", &all[..end]));
    scene.is_noted("control_returned: otto gave control back to ada.");
}

#[test]
fn who_is_refused_does_not_type_and_a_flood_of_wishes_is_bounded() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    add(&gateway, "ada", "user", &["playground"]);
    add(&gateway, "otto", "operator", &["playground"]);
    add(&gateway, "olga", "operator", &[]);
    let [ada, otto, olga] = ["ada", "otto", "olga"].map(|name| Person::signs_in(&gateway, name, PASSWORD).unwrap());
    let id = ada.opens("playground");
    let (owner, guest, other) = (ada.socket(&id), otto.socket(&id), olga.socket(&id));
    owner.attach(&owners("hers"));
    gateway.becomes(&id, "active");
    assert_eq!(guest.attach(&guests("his"))["control"]["may"], "ask");
    assert_eq!(other.attach(&guests("hers"))["control"]["may"], "none", "who may not open it may not type in it");
    other.says(json!({"type": "request_control"}));
    let refused = other.hears("control_answer");
    assert!(refused["message"].as_str().unwrap().contains("granted to olga"), "{refused}");
    for _ in 0..5 {
        guest.says(json!({"type": "request_control"}));
    }
    let outcomes: Vec<_> = (0..5).map(|_| guest.hears("control_answer")["outcome"].clone()).collect();
    assert_eq!(outcomes, ["waiting", "refused", "refused", "refused", "refused"]);
    let asked = owner.hears("control_requests");
    assert!(asked["items"][0]["ends_in_ms"].as_u64().unwrap() > 50_000, "{asked}");
    owner.says(json!({"type": "refuse_control", "id": asked["items"][0]["id"]}));
    let refused = guest.hears("control_answer");
    assert_eq!((&refused["outcome"], &refused["message"]), (&json!("refused"), &json!("ada does not let you type.")));
    guest.says(json!({"type": "request_control"}));
    let refused = guest.hears("control_answer");
    assert!(refused["message"].as_str().unwrap().contains("Ask again in"), "{refused}");
    // The gateway rejects a message or two of it.
    for _ in 0..1_000 {
        guest.says(json!({"type": "request_control"}));
    }
    assert_eq!((guest.hears("error")["code"].as_str(), guest.code()), (Some("too_many"), 4429));
    owner.runs("echo still-mine", "still-mine");
    is_noted(&gateway, &id, "control_refused: ada does not let otto type.");
    let notes = gateway.history(&id).iter().filter(|detail| detail.contains("control_")).count();
    assert_eq!(notes, 2, "one request and its refusal: {:?}", gateway.history(&id));
}

#[test]
fn the_policy_says_whether_an_operator_takes_control_without_asking() {
    let playground = Playground::start();
    for (policy, may) in [("never", "none"), ("request", "ask"), ("force", "take")] {
        let gateway = Gateway::start(Home::with(&playground).set("session.take_over", policy));
        add(&gateway, "ada", "user", &["playground"]);
        add(&gateway, "otto", "operator", &["playground"]);
        let [ada, otto] = ["ada", "otto"].map(|name| Person::signs_in(&gateway, name, PASSWORD).unwrap());
        let id = ada.opens("playground");
        let (owner, guest) = (ada.socket(&id), otto.socket(&id));
        owner.attach(&owners("hers"));
        gateway.becomes(&id, "active");
        assert_eq!(guest.attach(&guests("his"))["control"]["may"], may);
        guest.says(json!({"type": "take_control"}));
        if policy == "force" {
            types_from_here(&guest);
            let told = owner.hears("control");
            let message = told["message"].as_str().unwrap();
            assert_eq!(message, "otto took control of the session of ada.");
            guest.runs("echo by-otto", "by-otto");
            let log = gateway.shows("/api/v1/audit?action=session.control");
            assert_eq!(log["items"].as_array().unwrap().len(), 1, "{log}");
            assert!(log["items"][0]["detail"].as_str().unwrap().ends_with("takes control without asking."), "{log}");
            guest.says(json!({"type": "close"}));
            guest.runs("echo still-here", "still-here");
            owner.says(json!({"type": "take_control"}));
            types_from_here(&owner);
            continue;
        }
        assert_eq!(guest.hears("control_answer")["outcome"], "refused");
        guest.says(json!({"type": "request_control"}));
        let outcome = if policy == "never" { "refused" } else { "waiting" };
        assert_eq!(guest.hears("control_answer")["outcome"], outcome, "{policy}");
        owner.runs("echo still-mine", "still-mine");
        guest.types("x");
        guest.hears("input_refused");
    }
}

#[test]
fn who_looks_on_is_written_down_once_however_often_their_page_is_loaded() {
    let playground = Playground::start();
    let gateway = Gateway::start(Home::with(&playground));
    add(&gateway, "ada", "user", &["playground"]);
    add(&gateway, "otto", "operator", &[]);
    let [ada, otto] = ["ada", "otto"].map(|name| Person::signs_in(&gateway, name, PASSWORD).unwrap());
    let id = ada.opens("playground");
    let (owner, own) = (ada.socket(&id), ada.socket(&id));
    owner.attach(&owners("hers"));
    gateway.becomes(&id, "active");
    own.attach(&guests("her other"));
    for _ in 0..5 {
        let guest = otto.socket(&id);
        guest.attach(&guests("his"));
        guest.leaves();
    }
    is_noted(&gateway, &id, "watch_ended: otto left the session of ada");
    let notes = gateway.history(&id).iter().filter(|detail| detail.contains("watch")).count();
    assert_eq!(notes, 2, "one watching: {:?}", gateway.history(&id));
    is_noted(&gateway, &id, "watched: otto looks on in the session of ada.");
}
