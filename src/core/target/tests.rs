//! Tests of the values allowed in a target, and of the context of its credential.

use super::*;

fn public() -> PublicTarget {
    PublicTarget {
        name: "web-1".to_owned(),
        host: "Web-1.Internal.".to_owned(),
        port: 22,
        username: "deploy".to_owned(),
        via: vec![],
        group: Some(" Shop ".to_owned()),
        tags: ["prod", "web", "prod"].map(str::to_owned).into(),
        roles: vec![Role::User, Role::User],
    }
}

#[test]
fn a_target_has_one_spelling() {
    let checked = public().checked().unwrap();
    assert_eq!((checked.host.as_str(), checked.group.as_deref()), ("web-1.internal", Some("Shop")));
    assert_eq!((checked.tags.as_slice(), checked.roles.len()), (&["prod".to_owned(), "web".to_owned()][..], 1));
    assert_eq!(checked.clone().checked().unwrap(), checked);
    assert_eq!(PublicTarget { group: Some(" ".to_owned()), ..public() }.checked().unwrap().group, None);
    let behind = PublicTarget { via: ["Gate", "ops@J.Example."].map(str::to_owned).into(), ..public() };
    assert_eq!(behind.checked().unwrap().via, ["Gate", "ops@j.example:22"]);
}

#[test]
fn what_is_wrong_with_a_target_is_named_by_its_field() {
    let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
    let many: Vec<String> = (0..=MAX_TAGS).map(|number| format!("t{number}")).collect();
    for (wrong, field) in [
        (PublicTarget { name: "..".to_owned(), ..public() }, "name"),
        (PublicTarget { name: "a b".to_owned(), ..public() }, "name"),
        (PublicTarget { name: "x".repeat(65), ..public() }, "name"),
        (PublicTarget { host: "0x7f.1".to_owned(), ..public() }, "host"),
        (PublicTarget { host: "root@web".to_owned(), ..public() }, "host"),
        (PublicTarget { port: 0, ..public() }, "port"),
        (PublicTarget { username: "-oProxyCommand=id".to_owned(), ..public() }, "username"),
        (PublicTarget { username: String::new(), ..public() }, "username"),
        (PublicTarget { group: Some("a\u{202e}b".to_owned()), ..public() }, "group"),
        (PublicTarget { tags: tags(&["a b"]), ..public() }, "tags"),
        (PublicTarget { tags: tags(&["\u{200b}"]), ..public() }, "tags"),
        (PublicTarget { tags: many, ..public() }, "tags"),
        (PublicTarget { via: tags(&["a b"]), ..public() }, "via"),
        (PublicTarget { via: tags(&["-l@h"]), ..public() }, "via"),
        (PublicTarget { via: tags(&[""]), ..public() }, "via"),
        (PublicTarget { via: tags(&["a", "b", "c", "d", "e"]), ..public() }, "via"),
    ] {
        assert_eq!(wrong.clone().checked().unwrap_err().field, field, "{wrong:?}");
    }
}

#[test]
fn a_credential_is_bound_to_its_target_its_kind_and_its_place() {
    let target = public().checked().unwrap();
    let bound = target.seal_context(AuthKind::Password);
    assert_eq!(bound, "target/web-1/auth/password/deploy@web-1.internal:22");
    assert_ne!(target.seal_context(AuthKind::PrivateKey), bound);
    for other in [
        PublicTarget { name: "web-2".to_owned(), ..target.clone() },
        PublicTarget { host: "evil.example".to_owned(), ..target.clone() },
        PublicTarget { port: 23, ..target.clone() },
        PublicTarget { username: "root".to_owned(), ..target.clone() },
        PublicTarget { via: vec!["evil".to_owned()], ..target.clone() },
    ] {
        assert_ne!(other.seal_context(AuthKind::Password), bound);
        let auth = Auth { kind: AuthKind::Password, sealed: Some(Sealed("x".to_owned())) };
        assert!(!Target::new(target.clone(), auth, UtcMicros(1)).stays_open(&other));
        assert!(Target::new(target.clone(), Auth::PROMPT, UtcMicros(1)).stays_open(&other));
    }
}

#[test]
fn a_place_is_never_a_name() {
    assert_eq!(place("root", "2001:db8::1", 22), "root@[2001:db8::1]:22");
    assert!(is_typed(&public().place()) && !is_typed("web-1"));
    assert!(!is_name(&public().place()));
}

#[test]
fn a_sealed_text_is_not_shown() {
    assert_eq!(format!("{:?}", Sealed("secret".to_owned())), "Sealed");
}

#[test]
fn a_change_moves_on_wherever_the_clock_stands() {
    let target = Target::new(public(), Auth::AGENT, UtcMicros(10));
    for (now, expected) in [(20, 20), (10, 11), (3, 11)] {
        let changed = target.changed(public(), Auth::PROMPT, UtcMicros(now));
        assert_eq!((changed.created_at, changed.changed_at), (UtcMicros(10), UtcMicros(expected)));
    }
}

#[test]
fn a_host_has_one_spelling() {
    for (text, expected) in [
        ("example.com", Some("example.com")),
        ("EXAMPLE.com.", Some("example.com")),
        ("db_1.internal", Some("db_1.internal")),
        ("1password.com", Some("1password.com")),
        ("192.0.2.7", Some("192.0.2.7")),
        ("::1", Some("::1")),
        ("[::1]", Some("::1")),
        ("::ffff:127.0.0.1", Some("::ffff:127.0.0.1")),
        ("2130706433", None),
        ("0x7f.1", None),
        ("0x7f000001", None),
        ("0x", None),
        ("0177.0.0.1", None),
        ("127.1", None),
        ("127.0.0.1.", None),
        ("fe80::1%eth0", None),
        ("[127.0.0.1]", None),
        ("[::1", None),
        ("-oProxyCommand=id", None),
        ("a b", None),
        ("a\0b", None),
        ("a\r\nb", None),
        ("ex\u{430}mple.com", None),
        ("a..b", None),
        ("", None),
        (".", None),
    ] {
        assert_eq!(host_name(text).as_deref(), expected, "{text:?}");
    }
    assert_eq!(host_name(&"a.".repeat(128)), None, "too long");
    assert_eq!(host_name(&"a".repeat(65_536)), None);
}

#[test]
fn a_place_reads_back_and_so_does_what_a_session_over_jump_hosts_is_called() {
    for (text, expected) in [
        ("root@db-1:2201", Some(("root", "db-1", 2201))),
        ("root@db-1", Some(("root", "db-1", 22))),
        ("a@b@DB-1.:22", Some(("a@b", "db-1", 22))),
        ("x@[2001:DB8::1]:2200", Some(("x", "2001:db8::1", 2200))),
        ("x@[::1]", Some(("x", "::1", 22))),
        ("x@::1", Some(("x", "::1", 22))),
        ("db-1", None),
        ("-l@db-1", None),
        ("@db-1", None),
        ("x@db-1:0", None),
        ("x@db-1:65536", None),
        ("x@db-1:", None),
        ("x@db 1", None),
        ("x y@db-1", None),
        ("x@127.1", None),
    ] {
        let read = parse_place(text);
        assert_eq!(read.as_ref().map(|(login, host, port)| (login.as_str(), host.as_str(), *port)), expected, "{text}");
        if let Some((login, host, port)) = read {
            assert_eq!(parse_place(&place(&login, &host, port)), Some((login, host, port)), "{text}");
        }
    }
    let hops = ["web-1".to_owned(), "a,b@h:22".to_owned()];
    let called = called_via("root@db-1:22", &hops);
    assert_eq!(stops(&called).collect::<Vec<_>>(), ["root@db-1:22", "web-1", "a,b@h:22"]);
    assert_eq!(stops(&called_via("web-1", &[])).collect::<Vec<_>>(), ["web-1"]);
}

#[test]
fn an_ipv6_address_stands_in_brackets() {
    assert_eq!((address("::1", 22), address("web-1", 22)), ("[::1]:22".to_owned(), "web-1:22".to_owned()));
    assert_eq!(place("ann", "::1", 22), "ann@[::1]:22");
}
