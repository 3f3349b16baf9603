//! Tests of ways over jump hosts.

use super::*;
use crate::core::{
    record::UtcMicros,
    target::{Auth, Sealed},
};

fn public(name: &str, via: &[&str]) -> PublicTarget {
    PublicTarget {
        name: name.to_owned(),
        host: "h".to_owned(),
        port: 22,
        username: "u".to_owned(),
        via: via.iter().map(|jump| (*jump).to_owned()).collect(),
        group: None,
        tags: vec![],
        roles: vec![],
    }
}

fn recorded(targets: &[(&str, &[&str])]) -> BTreeMap<String, Target> {
    let target = |(name, via): &(&str, &[&str])| {
        ((*name).to_owned(), Target::new(public(name, via), Auth::PROMPT, UtcMicros(1)))
    };
    targets.iter().map(target).collect()
}

/// `gate` of the configuration is behind `outer`, which has no jump host.
fn configured<'a>(name: &str) -> Option<Vec<&'a str>> {
    [("gate", vec!["outer"]), ("outer", vec![])].into_iter().find(|(other, _)| *other == name).map(|(_, via)| via)
}

fn told<'a>(
    ways: &Ways<'a, impl Fn(&str) -> Option<Vec<&'a str>>>,
    name: &str,
    via: &[&str],
) -> Result<String, String> {
    let public = public(name, via);
    let way = ways.to(&public).map_err(|astray| astray.to_string())?;
    Ok(way.iter().map(Jump::to_string).collect::<Vec<_>>().join(" "))
}

#[test]
fn a_way_leads_over_targets_of_the_records_and_of_the_configuration_and_begins_with_the_firsts_own() {
    let targets = recorded(&[("a", &["b", "ops@J", "c"]), ("b", &["gate"]), ("c", &["x@[::1]:2200"])]);
    let ways = Ways::new(&targets, configured);
    assert_eq!(told(&ways, "a", &["b", "ops@J"]).unwrap(), "outer gate b ops@j:22");
    assert_eq!(told(&ways, "new", &["c"]).unwrap(), "x@[::1]:2200 c");
    assert_eq!(told(&ways, "new", &[]).unwrap(), "");
    // A target of the configuration takes precedence over one of the records with the same name.
    let hidden = recorded(&[("gate", &["c"]), ("c", &[])]);
    assert_eq!(told(&Ways::new(&hidden, configured), "a", &["gate"]).unwrap(), "outer gate");
}

#[test]
fn a_way_that_is_too_long_leads_in_a_circle_or_nowhere_is_refused_with_its_stops() {
    let targets = recorded(&[("a", &["b"]), ("b", &["c"]), ("c", &["d"]), ("d", &["e"]), ("e", &[])]);
    let ways = Ways::new(&targets, configured);
    for (name, via, words) in [
        ("e", &["a"][..], "leads in a circle: e behind a behind b behind c behind d behind e"),
        ("a", &["a"], "leads in a circle: a behind a"),
        ("z", &["u@h", "u@h:22"], "leads in a circle: z behind u@h:22 behind u@h:22"),
        ("z", &["a"], "leads over more than 4 jump hosts: z behind a behind b behind c behind d behind e"),
        ("z", &["gone"], "leads over gone, which is the name of no target"),
        ("z", &["-l@h"], "leads over -l@h, which is no user@host:port"),
    ] {
        assert_eq!(told(&ways, name, via).unwrap_err(), words);
        let refused = ways.admit(&public(name, via)).unwrap_err();
        assert_eq!(refused, format!("via {words}"));
    }
    assert_eq!(ways.admit(&public("z", &["b"])), Ok(()));
}

#[test]
fn a_change_that_would_break_the_way_to_another_is_refused_with_its_name() {
    let targets = recorded(&[("a", &["b"]), ("b", &["c"]), ("c", &["d"]), ("d", &[]), ("lost", &["gone"])]);
    let ways = Ways::new(&targets, configured);
    assert_eq!(
        ways.admit(&public("d", &["gate"])).unwrap_err(),
        "via of a, which goes over d, then leads over more than 4 jump hosts: a behind b behind c behind d behind gate behind outer"
    );
    assert_eq!(ways.admit(&public("d", &["outer"])), Ok(()), "what was broken before is no reason");
}

#[test]
fn what_is_a_jump_host_of_others_is_needed_and_they_are_named() {
    let names: Vec<String> = (10..22).map(|number| format!("t{number}")).collect();
    let mut targets: Vec<(&str, &[&str])> = names.iter().map(|name| (name.as_str(), &["x", "many"][..])).collect();
    targets.extend([("few", &["many"][..]), ("gate", &["alone"]), ("x", &[]), ("many", &[])]);
    let targets = recorded(&targets);
    let ways = Ways::new(&targets, configured);
    assert_eq!(ways.need("t10"), None);
    assert_eq!(ways.need("alone"), None, "one that a name of the configuration hides goes nowhere");
    let many = "is a jump host of few, t10, t11, t12, t13, t14, t15, t16, t17, t18 and 3 more";
    assert_eq!(ways.need("many").unwrap(), many);
    assert_eq!(
        ways.need("x").unwrap(),
        "is a jump host of t10, t11, t12, t13, t14, t15, t16, t17, t18, t19 and 2 more"
    );
}

#[test]
fn a_jump_host_does_not_move_under_a_kept_password() {
    let mut targets = recorded(&[
        ("db", &["inner", "ops@j"]),
        ("inner", &["edge"]),
        ("edge", &[]),
        ("beside", &["inner", "late"]),
        ("late", &["elsewhere"]),
        ("elsewhere", &[]),
        ("lost", &["gone"]),
        ("gate", &["elsewhere"]),
        ("round", &["circle"]),
        ("circle", &["round"]),
    ]);
    let keep = |targets: &mut BTreeMap<String, Target>, name: &str, kind: AuthKind| {
        let auth = Auth { kind, sealed: Some(Sealed("s".to_owned())) };
        targets.get_mut(name).unwrap().auth = auth;
    };
    for name in ["db", "lost", "gate", "beside", "edge", "round"] {
        keep(&mut targets, name, AuthKind::Password);
    }
    let moved = |targets: &BTreeMap<String, Target>, name: &str, via: &[&str]| {
        let public = PublicTarget { host: "mine".to_owned(), ..public(name, via) };
        Ways::new(targets, configured).admit(&public)
    };
    let over = |name: &str, kept: &str| {
        Err(format!(
            "a kept password was given for the way as it is, over {name}, to {kept}: give these another auth first, and the password again \
             behind this change"
        ))
    };
    assert_eq!(moved(&targets, "inner", &["edge"]), over("inner", "beside, db"));
    assert_eq!(moved(&targets, "edge", &[]), over("edge", "beside, db"), "before the first lies its own way");
    assert_eq!(moved(&targets, "late", &["elsewhere"]), over("late", "beside"));
    assert_eq!(moved(&targets, "elsewhere", &[]), Ok(()), "it is on no way but to one that is no first, or hidden");
    assert_eq!(moved(&targets, "db", &["inner"]), Ok(()), "its own password is given anew");
    assert_eq!(moved(&targets, "gone", &[]), over("gone", "lost"), "one that comes onto a broken way");
    assert_eq!(moved(&targets, "new", &["inner"]), Ok(()));
    let ways = Ways::new(&targets, configured);
    let stays = PublicTarget { tags: vec!["t".to_owned()], ..public("inner", &["edge"]) };
    assert_eq!(ways.admit(&stays), Ok(()), "what is no place may change");
    for other in [
        public("inner", &["ops@k:22"]),
        PublicTarget { port: 2200, ..public("inner", &["edge"]) },
        PublicTarget { username: "root".to_owned(), ..public("inner", &["edge"]) },
    ] {
        assert!(ways.admit(&other).is_err(), "{other:?}");
    }
    keep(&mut targets, "db", AuthKind::PrivateKey);
    keep(&mut targets, "beside", AuthKind::PrivateKey);
    assert_eq!(moved(&targets, "inner", &["edge"]), Ok(()), "keys are replayed by nobody");
}
