//! Tests of the parsers of files, and of the plan.

use super::*;
use crate::core::{
    people::Role,
    record::UtcMicros,
    target::{Auth, AuthKind, Sealed},
};

fn remarks(remarks: &[Remark]) -> Vec<String> {
    remarks.iter().map(|Remark { line, says }| format!("{line}: {says}")).collect()
}

/// Returns the hosts as `NAME USER@HOST:PORT GROUP TAGS`, with a minus for a missing value.
fn shown(reading: &Reading) -> Vec<String> {
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let host = |host: &Host| {
        let Host { name, host, port, username, group, tags, .. } = host;
        format!("{name} {}@{}:{} {} {}", or(username), or(host), or(port), or(group), tags.join(","))
    };
    reading.hosts.iter().map(host).collect()
}

const SSH: &str = r#"
# Mine
User nobody
Include other
Host web-1 web-2 *.old !bad
    HostName=%h.example.com
    User deploy   # the one
    Port "2222"
    IdentityFile ~/.ssh/id
Host db
  hostname 10.0.0.7
  ProxyJump bastion
Match host x
  User root
Host web-1
  User ignored
  Port
Host *
  User root
Host "quo
"#;

#[test]
fn single_hosts_are_taken_out_of_openssh_and_the_rest_is_named() {
    let reading = ssh_config::read(SSH);
    assert_eq!(
        shown(&reading),
        ["web-1 deploy@web-1.example.com:2222 - ", "web-2 deploy@web-2.example.com:2222 - ", "db -@10.0.0.7:- - "]
    );
    assert_eq!(reading.hosts[0].notes, ["IdentityFile ~/.ssh/id is not read"]);
    assert_eq!(reading.hosts[2].via.as_deref().unwrap(), ["bastion"]);
    assert_eq!(reading.hosts[0].via, None);
    let skipped = remarks(&reading.skipped).join("\n");
    for words in
        ["3: user: stands before", "4: Include other", "5: Host *.old", "5: Host !bad", "13: Match", "18: Host *"]
    {
        assert!(skipped.contains(words), "{words}: {skipped}");
    }
    assert_eq!(remarks(&reading.mistakes), ["17: Port has no value", "20: a quote that does not end"]);
}

const ANSIBLE: &str = r#"
lonely.example.com ansible_user=ann
[web]
web[01:03] ansible_port=2222
gate.example.com:2201 ansible_host=192.0.2.9 ; # no
"quoted" ansible_ssh_pass='s3 cret' # a comment
[db]
db-[a:b]
web01 ansible_user=dba
here ansible_connection=local
[shop:children]
web
db
[shop:vars]
ansible_user = deploy
[all:vars]
ansible_ssh_private_key_file=/keys/id
[odd:thing]
x
[db:vars]
nonsense
"#;

#[test]
fn hosts_are_taken_out_of_an_inventory_with_what_their_groups_say() {
    let reading = ansible::read(&ANSIBLE.replace(" ; # no", ""));
    assert_eq!(
        shown(&reading),
        [
            "lonely.example.com ann@-:- - ",
            "web01 dba@-:2222 web web,db,shop",
            "web02 deploy@-:2222 web web,shop",
            "web03 deploy@-:2222 web web,shop",
            "gate.example.com deploy@192.0.2.9:2201 web web,shop",
            "quoted deploy@-:- web web,shop",
            "db-a deploy@-:- db db,shop",
            "db-b deploy@-:- db db,shop",
        ]
    );
    let notes = reading.hosts[5].notes.join(" ");
    assert!(notes.contains("/keys/id is not read") && notes.contains("password is not taken over"), "{notes}");
    assert!(!format!("{reading:?}").contains("s3 cret"));
    assert_eq!(remarks(&reading.skipped), ["10: here: is not reached by SSH (ansible_connection)"]);
    let mistakes = remarks(&reading.mistakes).join("\n");
    assert!(mistakes.contains("18: [odd:thing] is none of") && mistakes.contains("21: nonsense"), "{mistakes}");
}

#[test]
fn a_range_counts_as_it_is_written_and_has_an_end() {
    let names = |pattern: &str| {
        shown(&ansible::read(pattern)).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("[08:10].x"), ["08.x", "09.x", "10.x"]);
    assert_eq!(names("a[1:5:2]-[b:c]"), ["a1-b", "a1-c", "a3-b", "a3-c", "a5-b", "a5-c"]);
    for wrong in ["a[1", "a[1:]", "a[3:1]", "a[1:2:0]", "a[A:B]", "a[1:99999999]", "a[1:999]b[1:999]", "a[1:2:3:4]"] {
        let reading = ansible::read(wrong);
        assert!(reading.hosts.is_empty() && reading.mistakes.len() == 1, "{wrong}: {reading:?}");
    }
}

#[test]
fn groups_in_a_circle_end() {
    let reading = ansible::read("[a]\nh ansible_user=u\n[a:children]\nb\n[b:children]\na\n");
    assert_eq!(shown(&reading), ["h u@-:- a a,b"]);
}

fn present(name: &str, host: &str, auth: Auth) -> (String, Target) {
    let public = PublicTarget {
        name: name.to_owned(),
        host: host.to_owned(),
        port: 22,
        username: "deploy".to_owned(),
        via: vec![],
        group: Some("Mine".to_owned()),
        tags: vec!["own".to_owned()],
        roles: vec![Role::User],
    };
    (name.to_owned(), Target::new(public, auth, UtcMicros(1)))
}

/// Targets of the configuration.
fn conf<'a>(name: &str) -> Option<Known<'a>> {
    let via = match name {
        "far" => vec!["conf"],
        "conf" => vec![],
        _ => return None,
    };
    Some(Known { username: "ops", port: 2200, via })
}

#[test]
fn a_plan_says_what_becomes_of_each_and_keeps_what_is_not_told() {
    let text = "Host same kept moved new conf bad\nHost moved\nHostName moved.example\nHost same kept moved\nUser deploy\nHost kept\nHostName kept.example\nHost bad\nPort 0\nHost a/b\n";
    let additions = Additions { username: Some("ann".to_owned()), tags: vec!["own".to_owned()] };
    let sealed = Auth { kind: AuthKind::Password, sealed: Some(Sealed("x".to_owned())) };
    let present = [
        present("same", "same", Auth::PROMPT),
        present("kept", "old.example", sealed),
        present("moved", "old.example", Auth::AGENT),
    ];
    let present = present.into();
    let plan = plan(ssh_config::read(text), &additions, &present, |name| conf(name).filter(|_| name == "conf"));
    let [(_, same, _), (_, moved, _), (_, new, _)] = &plan.steps[..] else { panic!("{plan:?}") };
    assert_eq!(*same, Step::Equal("same".to_owned()));
    let Step::Change(moved) = moved else { panic!("{moved:?}") };
    assert_eq!((moved.host.as_str(), moved.group.as_deref(), moved.roles.len()), ("moved.example", Some("Mine"), 1));
    let Step::Add(new) = new else { panic!("{new:?}") };
    assert_eq!((new.place(), &new.tags), ("ann@new:22".to_owned(), &additions.tags));
    let skipped = remarks(&plan.skipped).join("\n");
    assert!(skipped.contains("kept: the password kept for it is for deploy@old.example:22"), "{skipped}");
    assert!(skipped.contains("conf: stands in the gateway's configuration"), "{skipped}");
    let mistakes = remarks(&plan.mistakes).join("\n");
    assert!(mistakes.contains("1: bad: port must be") && mistakes.contains("10: a/b: name must be"), "{mistakes}");
}

#[test]
fn a_host_without_a_login_name_is_a_mistake_that_says_what_to_do() {
    let plan = plan(ssh_config::read("Host a\n"), &Additions::default(), &BTreeMap::new(), |_| None);
    assert!(plan.steps.is_empty() && plan.mistakes[0].says.contains("--username"), "{plan:?}");
}

/// Returns the steps of a plan as `NAME: JUMP HOSTS`.
fn ways(plan: &Plan) -> Vec<String> {
    let way = |step: &&Step| step.public().map(|public| format!("{}: {}", public.name, public.via.join(" ")));
    plan.in_order().iter().filter_map(way).collect()
}

#[test]
fn jump_hosts_are_spelled_as_openssh_and_ansible_spell_them() {
    let of_ssh =
        |value: &str| ssh_config::read(&format!("Host a\nProxyJump {value}\nProxyJump late\n")).hosts.remove(0).via;
    for (value, expected) in [
        ("gate", &["gate"][..]),
        ("outer,ops@10.0.0.9:2200,inner", &["outer", "ops@10.0.0.9:2200", "inner"]),
        ("ssh://ops@gate:22/", &["ops@gate:22"]),
        ("none", &[]),
    ] {
        assert_eq!(of_ssh(value).unwrap(), expected, "{value}");
    }
    let of_ansible = |args: &str| ansible::read(&format!("a ansible_ssh_common_args={args}\n")).hosts.remove(0);
    for (args, expected) in [
        ("'-o ProxyJump=ops@gate'", Some(&["ops@gate"][..])),
        ("'-oProxyJump=gate -q'", Some(&["gate"])),
        ("'-o \"ProxyJump gate\"'", Some(&["gate"])),
        ("'-q -J outer,gate'", Some(&["outer", "gate"])),
        ("'-Jgate'", Some(&["gate"])),
        ("'-o Compression=yes -o'", None),
        ("'-o ProxyCommand=\"ssh -W %h:%p gate\"'", None),
    ] {
        let host = of_ansible(args);
        assert_eq!(
            host.via.as_deref().map(<[_]>::to_vec),
            expected.map(|jumps| jumps.iter().map(|jump| (*jump).to_owned()).collect()),
            "{args}"
        );
        assert_eq!(host.notes.len(), usize::from(args.contains("Command")), "{args}: {:?}", host.notes);
    }
    let of_group = ansible::read("[g]\na\n[g:vars]\nansible_ssh_common_args='-J gate'\n");
    assert_eq!(of_group.hosts[0].via.as_deref().unwrap(), ["gate"]);
}

#[test]
fn a_jump_host_is_a_target_or_a_host_of_the_file_and_comes_before_what_is_behind_it() {
    let text = "Host db\nProxyJump gate,far\nHost gate\nProxyJump deploy@kept:22\nHost typed\nProxyJump Ops@J.example\nHost kept\nHost *\nUser ann\n";
    let additions = Additions { username: Some("ann".to_owned()), tags: vec![] };
    let present: BTreeMap<_, _> = [present("kept", "kept", Auth::PROMPT)].into();
    let text = text.replace("Host kept\n", "Host kept\nUser deploy\nProxyJump none\n");
    let told = plan(ssh_config::read(&text), &additions, &present, conf);
    assert_eq!(told.mistakes, [], "{told:?}");
    assert_eq!(ways(&told), ["gate: kept", "db: gate far", "typed: Ops@j.example:22"]);
    // Values that a file does not give stay.
    let public = PublicTarget { via: vec!["conf".to_owned()], ..present["kept"].public.clone() };
    let behind: BTreeMap<_, _> = [("kept".to_owned(), Target::new(public, Auth::PROMPT, UtcMicros(1)))].into();
    let told = plan(ssh_config::read("Host kept\nUser deploy\n"), &additions, &behind, conf);
    assert_eq!(told.steps[0].1, Step::Equal("kept".to_owned()));
    let told = plan(ssh_config::read("Host kept\nUser deploy\nProxyJump none\n"), &additions, &behind, conf);
    assert_eq!(ways(&told), ["kept: "]);
}

#[test]
fn a_jump_host_that_is_none_is_a_mistake_that_says_what_to_do_and_takes_what_is_behind_it_along() {
    let text = "Host lost\nProxyJump gone\nHost behind\nProxyJump lost\nHost other\nProxyJump root@conf\nHost round\nProxyJump again\n\
                Host again\nProxyJump round\nHost odd\nProxyJump a_b:22\nHost token\nProxyJump %r@gate\nHost good\nProxyJump far\n\
                Host a\nProxyJump far,b\nHost b\nHost c\nProxyJump a,q@2.2.2.2,x@1.1.1.1\n";
    let additions = Additions { username: Some("ann".to_owned()), tags: vec![] };
    let none = BTreeMap::new();
    let told = plan(ssh_config::read(text), &additions, &none, conf);
    assert_eq!(ways(&told), ["good: far", "b: ", "a: far b"]);
    let mistakes = remarks(&told.mistakes);
    for (at, words) in [
        (
            0,
            "1: lost: the jump host gone is no target, and no host of this file: add it first with `pulsegate target add gone`",
        ),
        (1, "3: behind: its way leads over lost, which is the name of no target"),
        (2, "5: other: the jump host root@conf is the target ops@conf:2200: write conf alone"),
        (3, "7: round: its way leads in a circle: round behind again behind round"),
        (4, "9: again: its way leads in a circle"),
        (5, "11: odd: the jump host a_b:22 is neither a target's name nor user@host:port"),
        (6, "13: token: the jump host %r@gate has a token"),
        (
            7,
            "20: c: its way leads over more than 4 jump hosts: c behind x@1.1.1.1:22 behind q@2.2.2.2:22 behind a behind b behind far",
        ),
    ] {
        assert!(mistakes[at].starts_with(words), "{words}: {mistakes:#?}");
    }
    assert_eq!(mistakes.len(), 8, "{mistakes:#?}");
}

#[test]
fn a_change_of_a_jump_host_that_would_break_the_way_to_a_target_outside_the_file_is_a_mistake() {
    let chain = |name: &str, via: &str| {
        let (_, target) = present(name, name, Auth::PROMPT);
        let public = PublicTarget { via: vec![via.to_owned()], ..target.public.clone() };
        (name.to_owned(), Target { public, ..target })
    };
    let present = [chain("a", "b"), chain("b", "c"), chain("c", "d"), present("d", "d", Auth::PROMPT)].into();
    let text = "Host d\nUser deploy\nProxyJump far\n";
    let told = plan(ssh_config::read(text), &Additions::default(), &present, conf);
    assert!(told.steps.is_empty(), "{told:?}");
    let says = "d: the way to a, which goes over it, then leads over more than 4 jump hosts: a behind b behind c behind d behind far behind conf";
    assert_eq!(remarks(&told.mistakes), [format!("1: {says}")]);
}

#[test]
fn a_jump_host_that_would_move_under_a_kept_password_is_a_mistake_that_says_what_to_do() {
    let sealed = Auth { kind: AuthKind::Password, sealed: Some(Sealed("x".to_owned())) };
    let (name, db) = present("db", "db", sealed);
    let db = Target { public: PublicTarget { via: vec!["gate".to_owned()], ..db.public.clone() }, ..db };
    let present = [(name, db), present("gate", "gate", Auth::PROMPT), present("free", "free", Auth::PROMPT)].into();
    let text = "Host gate free\nUser deploy\nHostName mine\nHost behind\nUser u\nProxyJump gate\n";
    let told = plan(ssh_config::read(text), &Additions::default(), &present, conf);
    let says = "gate: a kept password was given for the way as it is, over gate, to db: give these another auth first";
    let mistakes = remarks(&told.mistakes);
    assert!(mistakes.len() == 1 && mistakes[0].starts_with(&format!("1: {says}")), "{mistakes:?}");
    let steps: Vec<&str> = told.steps.iter().map(|(_, step, _)| step.name()).collect();
    assert_eq!(steps, ["free", "behind"], "it is there still, as it was");
}
