//! Arbitrary text, and files that are nearly right, for the parsers. `cargo xtask fuzz` tries a million of each.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

const PIECES: &[&str] = &[
    "Host ",
    "HostName ",
    "Port=",
    "User ",
    "ProxyJump ",
    "@",
    ",",
    "b@c:1",
    "Match ",
    "Include ",
    "\n",
    "\n",
    " ",
    "*",
    "?",
    "!",
    "\"",
    "'",
    "#",
    "%h",
    "%",
    "[",
    "]",
    "[a]",
    "[a:children]",
    "[b:vars]",
    "[all:vars]",
    "[1:9]",
    "[01:3:2]",
    "[a:c]",
    ":",
    "=",
    "web",
    "a",
    "b",
    "22",
    "ansible_host=",
    "ansible_port=",
    "ansible_user=",
    "ansible_connection=",
    "ansible_ssh_common_args='-J a,'",
    "ansible_ssh_common_args='-o ProxyJump=",
    "{{x}}",
    "\u{202e}",
    "\0",
    "\t",
];

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => select(PIECES).prop_map(str::to_owned),
        1 => vec(any::<char>(), 0..4).prop_map(String::from_iter),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_file_is_read_and_what_comes_of_it_is_as_a_target_must_be(text in text(), ansible in any::<bool>()) {
        let reading = if ansible { ansible::read(&text) } else { ssh_config::read(&text) };
        let lines = text.lines().count();
        prop_assert!(reading.hosts.len() <= MAX_TARGETS);
        prop_assert!(reading.skipped.iter().chain(&reading.mistakes).all(|remark| (1..=lines).contains(&remark.line)));
        let additions = Additions { username: Some("ann".to_owned()), tags: vec![] };
        let plan = plan(reading, &additions, &BTreeMap::new(), |_| None);
        let mut there = std::collections::BTreeSet::new();
        for step in plan.in_order() {
            let Step::Add(public) = step else { panic!("{step:?}") };
            let jumps = public.via.iter().all(|jump| jump.contains('@') || there.contains(jump));
            prop_assert!(jumps, "{} before what it leads over", public.name);
            there.insert(public.name.clone());
        }
        for (_, step, _) in plan.steps {
            let Step::Add(public) = step else { panic!("{step:?}") };
            prop_assert_eq!(public.clone().checked(), Ok(public));
        }
    }
}
