//! Tests of what is taken out of files, and of the plan.

use super::*;
use crate::core::{
    people::Role,
    record::UtcMicros,
    target::{Auth, AuthKind, Sealed},
};

fn remarks(remarks: &[Remark]) -> Vec<String> {
    remarks.iter().map(|Remark { line, says }| format!("{line}: {says}")).collect()
}

/// Hosts as `NAME USER@HOST:PORT GROUP TAGS`, with a minus for what is not told.
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
    assert_eq!(reading.hosts[2].notes, ["ProxyJump bastion is not taken over"]);
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
    let outline = Outline {
        name: name.to_owned(),
        host: host.to_owned(),
        port: 22,
        username: "deploy".to_owned(),
        group: Some("Mine".to_owned()),
        tags: vec!["own".to_owned()],
        roles: vec![Role::User],
    };
    (name.to_owned(), Target::new(outline, auth, UtcMicros(1)))
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
    let plan = plan(ssh_config::read(text), &additions, &present.into(), |name| name == "conf");
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
    let plan = plan(ssh_config::read("Host a\n"), &Additions::default(), &BTreeMap::new(), |_| false);
    assert!(plan.steps.is_empty() && plan.mistakes[0].says.contains("--username"), "{plan:?}");
}
