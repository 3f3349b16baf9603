//! Tests of the body's validation and its result.

use std::sync::Arc;

use actix_web::ResponseError;
use secrecy::ExposeSecret;

use super::*;
use crate::{
    core::{
        people::Role,
        record::UtcMicros,
        seal::{SealKey, Seals},
        target::{Auth as Kept, PublicTarget, Sealed},
    },
    ssh::AddressRule,
    web::fixture::{public_target, settings},
};

/// Returns targets of the records: one with a password for its own place, one that shares its name with the
/// configuration, one behind jump hosts of every kind.
fn directory(settings: &Settings) -> Directory {
    let place = public_target("db-1", "db-1.internal").seal_context(AuthKind::Password);
    let sealed = settings.seals.seal([1; 12], &place, &"s3cret".into()).map(Sealed);
    let auth = Kept { kind: AuthKind::Password, sealed };
    let via = ["inner", "db-1", "ops@k:2200"].map(str::to_owned).into();
    let behind = PublicTarget { via, ..public_target("behind", "behind.internal") };
    let targets = [
        Target::new(public_target("db-1", "db-1.internal"), auth.clone(), UtcMicros(1)),
        Target::new(public_target("db-2", "db-1.internal"), auth.clone(), UtcMicros(1)),
        Target::new(public_target("web-1", "evil.example"), auth, UtcMicros(1)),
        Target::new(behind, Kept::AGENT, UtcMicros(1)),
    ];
    let targets = targets.into_iter().map(|target| (target.public.name.clone(), target));
    Directory { targets: targets.collect(), ..Directory::default() }
}

fn open_with(body: &str, settings: &Settings) -> Result<OpenSession, (u16, String)> {
    let opening: Opening = serde_json::from_str(body).map_err(|error| (400, error.to_string()))?;
    check(opening, false, settings)
}

fn check(opening: Opening, trusts: bool, settings: &Settings) -> Result<OpenSession, (u16, String)> {
    let access = TargetAccess { role: Role::Admin, grants: vec![] };
    let (from, directory) = ("192.0.2.7".parse().unwrap(), directory(settings));
    let told = opening.check("ada", &access, trusts, from, settings, &directory);
    told.map_err(|problem| (problem.status_code().as_u16(), problem.detail().to_owned()))
}

fn open(body: &str) -> Result<OpenSession, (u16, String)> {
    open_with(body, &settings())
}

#[test]
fn a_target_of_the_catalogue_is_dialled_as_it_stands_there() {
    let open = open(r#"{"target":"web-1"}"#).unwrap();
    assert_eq!((open.to.host.as_str(), open.to.port, open.to.login.as_str()), ("web-1.internal", 2222, "deploy"));
    assert_eq!((open.term.as_str(), open.size), ("xterm-256color", Size { cols: 80, rows: 24 }));
    assert!(matches!(open.to.credentials[..], [Credential::Agent]));
    assert_eq!(open.to.allowed, None);
}

#[test]
fn a_target_of_the_records_is_dialled_with_its_sealed_credential() {
    let open = open(r#"{"target":"db-1"}"#).unwrap();
    assert_eq!((open.to.host.as_str(), open.to.port, open.to.login.as_str()), ("db-1.internal", 22, "deploy"));
    assert_eq!(open.to.allowed, None);
    let [Credential::SealedPassword(sealed)] = &open.to.credentials[..] else { panic!("{:?}", open.to.credentials) };
    assert_eq!(sealed.open().unwrap().expose_secret(), "s3cret");
    let opening: Opening = serde_json::from_str(r#"{"target":"db-1"}"#).unwrap();
    let (access, ip) = (TargetAccess { role: Role::User, grants: vec![] }, "192.0.2.7".parse().unwrap());
    let refused = opening.check("ada", &access, false, ip, &settings(), &directory(&settings())).unwrap_err();
    assert_eq!(refused.detail(), "There is no target \"db-1\".");
}

#[test]
fn a_credential_that_does_not_open_is_told_before_anything_is_dialled() {
    let (status, detail) = open(r#"{"target":"db-2"}"#).unwrap_err();
    assert_eq!(status, 503);
    assert!(detail.contains("db-2 cannot be used") && detail.contains("altered"), "it is that of db-1: {detail}");
    let other = Settings { seals: Arc::new(Seals::new(SealKey::new([8; 32]), vec![])), ..settings() };
    let opening: Opening = serde_json::from_str(r#"{"target":"db-1"}"#).unwrap();
    let (access, ip) = (TargetAccess { role: Role::Admin, grants: vec![] }, "192.0.2.7".parse().unwrap());
    let refused = opening.check("ada", &access, false, ip, &other, &directory(&settings())).unwrap_err();
    let id = settings().seals.keys().next().unwrap().id();
    assert!(refused.detail().contains(&format!("sealed with the key {id}")), "{}", refused.detail());
    assert!(refused.detail().contains("pulsegate doctor"), "{}", refused.detail());
}

#[test]
fn a_target_typed_by_hand_carries_the_address_rule() {
    let open = open(r#"{"host":"[2001:DB8::1]","port":2200,"username":"root","cols":1000,"rows":1}"#).unwrap();
    assert_eq!((open.to.name.as_str(), open.to.host.as_str()), ("root@[2001:db8::1]:2200", "2001:db8::1"));
    assert_eq!(open.to.allowed, Some(AddressRule::default()));
    assert!(matches!(open.to.credentials[..], [Credential::Prompt]));
}

#[test]
fn of_a_host_of_the_catalogue_only_those_are_asked_who_may_accept_its_key() {
    use HostKeyPolicy::{AcceptNew, Ask, AskOperator, Strict};
    const LISTED: &str = r#"{"target":"web-1"}"#;
    const TYPED: &str = r#"{"host":"WEB-1.internal.","port":2222,"username":"u"}"#;
    const ELSEWHERE: &str = r#"{"host":"web-1.internal","username":"u"}"#;
    let policy = |body: &str, trusts: bool, of_target: HostKeyPolicy, of_gateway: HostKeyPolicy| {
        let mut settings = Settings { host_key_policy: of_gateway, ..settings() };
        settings.targets[0].host_key_policy = of_target;
        check(serde_json::from_str(body).unwrap(), trusts, &settings).unwrap().to.host_key_policy
    };
    for (body, trusts, of_target, of_gateway, expected) in [
        (LISTED, false, Ask, Ask, Strict),
        (LISTED, true, Ask, Ask, AskOperator),
        (LISTED, true, Strict, Ask, Strict),
        (LISTED, false, AcceptNew, Strict, AcceptNew),
        // Typed by hand it is the same host.
        (TYPED, false, Ask, Ask, Strict),
        (TYPED, true, Ask, Ask, AskOperator),
        (TYPED, false, Strict, AcceptNew, Strict),
        (ELSEWHERE, false, Strict, Ask, Ask),
        (ELSEWHERE, true, AcceptNew, Strict, Strict),
    ] {
        let told = policy(body, trusts, of_target, of_gateway);
        assert_eq!(told, expected, "{body} {trusts} {of_target:?} {of_gateway:?}");
    }
    let mut settings = settings();
    let twin = state::Target { name: "same".into(), host_key_policy: Strict, ..settings.targets[0].clone() };
    settings.targets.push(twin);
    let open = check(serde_json::from_str(LISTED).unwrap(), true, &settings).unwrap();
    assert_eq!(open.to.host_key_policy, Strict, "the strictest of one host's names");
}

/// The jump hosts of an open, and whether the address rule applies to each.
fn way(open: &OpenSession) -> Vec<(&str, bool)> {
    open.via.iter().map(|hop| (hop.name.as_str(), hop.allowed.is_some())).collect()
}

/// The catalogue with `bastion` for operators, and `inner` behind it.
fn with_jump_hosts() -> Settings {
    let mut settings = settings();
    let web = settings.targets[0].clone();
    let host = |host: &str| host.to_owned();
    let bastion = state::Target {
        name: "bastion".into(),
        host: host("bastion"),
        port: 22,
        roles: vec![Role::Operator],
        ..web.clone()
    };
    let inner = state::Target { name: "inner".into(), host: host("inner"), via: vec![bastion.hop()], ..web };
    settings.targets.extend([bastion, inner]);
    settings
}

#[test]
fn a_jump_host_is_one_that_is_granted_or_may_be_typed_and_the_first_brings_its_own_way() {
    let settings = with_jump_hosts();
    let typed = |via: &str| format!(r#"{{"host":"db1","username":"deploy","via":{via}}}"#);
    let told = open_with(&typed(r#"["inner","db-1","OPS@J."]"#), &settings).unwrap();
    assert_eq!(told.to.name, "deploy@db1:22 via inner, db-1, OPS@j:22");
    assert_eq!(way(&told), [("bastion", false), ("inner", false), ("db-1", false), ("OPS@j:22", true)]);
    assert!(told.to.allowed.is_some(), "the address rule still counts");
    assert_eq!(told.typed_places(), ["j:22", "db1:22"]);
    assert!(matches!(told.via[2].credentials[..], [Credential::Prompt]), "not its own way");
    for (body, status) in [
        (typed(r#"["nowhere"]"#), 404),
        (typed(r#"["ops@127.1"]"#), 400),
        (typed(r#"["inner","inner","inner","inner"]"#), 400),
        (typed(r#"["db-1","db-1","db-1","db-1","db-1"]"#), 400),
        (typed(r#""inner""#), 400),
        (r#"{"target":"inner","via":["bastion"]}"#.to_owned(), 400),
    ] {
        assert_eq!(open_with(&body, &settings).unwrap_err().0, status, "{body}");
    }
    // The maximum number of jump hosts, whose logins together are longer than the records keep.
    let logins = |length: usize| {
        let places: Vec<_> = (0..4).map(|n| format!("{}@192.0.2.{n}:22", "u".repeat(length))).collect();
        open_with(&typed(&serde_json::to_string(&places).unwrap()), &settings)
    };
    assert!(logins(64).is_ok());
    let (status, detail) = logins(120).unwrap_err();
    assert!(status == 400 && detail.contains("512 characters together") && detail.contains("these have"), "{detail}");

    let opened = |grants: &[&str], body: &str| {
        let access =
            TargetAccess { role: Role::User, grants: grants.iter().map(|grant| grant.parse().unwrap()).collect() };
        let opening: Opening = serde_json::from_str(body).unwrap();
        let (from, directory) = ([192, 0, 2, 7].into(), directory(&settings));
        opening
            .check("bob", &access, false, from, &settings, &directory)
            .map_err(|problem| problem.status_code().as_u16())
    };
    let by_hand = ["adhoc:*", "inner"];
    assert_eq!(opened(&by_hand, &typed(r#"["bastion"]"#)).unwrap_err(), 404, "it is not granted, so it is not there");
    assert_eq!(opened(&by_hand, &typed(r#"["inner","db-1"]"#)).unwrap_err(), 404);
    assert_eq!(opened(&["inner"], &typed(r#"["inner"]"#)).unwrap_err(), 403);
    let told = opened(&by_hand, r#"{"target":"inner"}"#).unwrap();
    assert_eq!(way(&told), [("bastion", false)], "the way to what is granted is the gateway's");
}

#[test]
fn a_kept_password_goes_over_its_targets_own_way_and_no_other() {
    let mut settings = with_jump_hosts();
    let [_, _, inner] = &mut settings.targets[..] else { panic!("{:?}", settings.targets) };
    inner.credentials = vec![Credential::KeyFile("k".into()), Credential::PasswordFile("p".into())];
    let credentials = |via: &str| {
        let body = format!(r#"{{"host":"db1","username":"deploy","via":{via}}}"#);
        let open = open_with(&body, &settings).unwrap();
        open.via.last().map(|hop| format!("{:?}", hop.credentials)).unwrap_or_default()
    };
    let kept = r#"[KeyFile("k"), PasswordFile("p")]"#;
    for (via, told) in [
        (r#"["inner"]"#, kept),
        (r#"["bastion","inner"]"#, kept),
        (r#"["ops@mine","inner"]"#, r#"[KeyFile("k"), Prompt]"#),
        (r#"["ops@mine","bastion","inner"]"#, r#"[KeyFile("k"), Prompt]"#),
        (r#"["deploy@bastion:2200","inner"]"#, r#"[KeyFile("k"), Prompt]"#),
        (r#"["bastion","ops@mine"]"#, "[Prompt]"),
        (r#"["ops@mine","db-1"]"#, "[Prompt]"),
        (r#"["ops@mine","web-1"]"#, "[Agent]"),
    ] {
        assert_eq!(credentials(via), told, "{via}");
    }
    assert!(credentials(r#"["db-1"]"#).starts_with("[SealedPassword("), "its own way is none");
}

#[test]
fn a_target_of_the_records_is_dialled_over_its_jump_hosts_which_need_no_grant() {
    let settings = with_jump_hosts();
    let opened = |settings: &Settings| {
        let access = TargetAccess { role: Role::User, grants: vec!["behind".parse().unwrap()] };
        let opening: Opening = serde_json::from_str(r#"{"target":"behind"}"#).unwrap();
        opening.check("bob", &access, false, [192, 0, 2, 7].into(), settings, &directory(settings))
    };
    let told = opened(&settings).unwrap();
    assert_eq!((told.to.name.as_str(), told.to.host.as_str()), ("behind", "behind.internal"));
    assert_eq!(way(&told), [("bastion", false), ("inner", false), ("db-1", false), ("ops@k:2200", false)]);
    let [_, _, db, typed] = &told.via[..] else { panic!("{:?}", told.via) };
    assert!(
        matches!(db.credentials[..], [Credential::Prompt]),
        "its password is for its own way, which leads over nothing"
    );
    assert!(matches!(typed.credentials[..], [Credential::Prompt]) && typed.port == 2200);
    assert_eq!(typed.host_key_policy, HostKeyPolicy::Strict, "it is one of the catalogue's hosts");
    assert!(told.typed_places().is_empty());
    // The configuration has lost one since, or the seal of one does not open.
    let (lost, sealed) = (super::super::fixture::settings(), with_jump_hosts());
    let sealed = Settings { seals: Arc::new(Seals::new(SealKey::new([8; 32]), vec![])), ..sealed };
    let of_others = directory(&settings);
    let opening: Opening = serde_json::from_str(r#"{"target":"behind"}"#).unwrap();
    let access = TargetAccess { role: Role::Admin, grants: vec![] };
    let unsealed = opening.check("ada", &access, true, [192, 0, 2, 7].into(), &sealed, &of_others).unwrap_err();
    assert!(unsealed.detail().starts_with("The credential of db-1 cannot be used"), "{}", unsealed.detail());
    let broken = opened(&lost).unwrap_err();
    assert_eq!(broken.status_code().as_u16(), 503);
    let words = "behind cannot be reached: it leads over inner, which is the name of no target. Tell an administrator";
    assert!(broken.detail().starts_with(words), "{}", broken.detail());
}

#[test]
fn of_a_jump_host_only_those_are_asked_who_may_accept_its_key() {
    use HostKeyPolicy::{AcceptNew, Ask, AskOperator, Strict};
    let mut settings = with_jump_hosts();
    let policies = |body: &str, trusts: bool, settings: &Settings| {
        let open = check(serde_json::from_str(body).unwrap(), trusts, settings).unwrap();
        (open.via.iter().map(|hop| hop.host_key_policy).collect::<Vec<_>>(), open.to.host_key_policy)
    };
    const INNER: &str = r#"{"target":"inner"}"#;
    assert_eq!(policies(INNER, false, &settings), (vec![Strict], Strict));
    assert_eq!(policies(INNER, true, &settings), (vec![AskOperator], AskOperator));
    const TYPED: &str = r#"{"host":"elsewhere","username":"u","via":["ops@BASTION","ops@j"]}"#;
    assert_eq!(policies(TYPED, false, &settings), (vec![Strict, Ask], Ask), "by hand it is the same host");
    // A place that only the configuration knows, as a jump host, is trusted by everybody, too.
    settings.targets[2].via[0].host = "j".into();
    settings.targets[2].via[0].host_key_policy = AcceptNew;
    assert_eq!(policies(TYPED, false, &settings), (vec![Strict, AcceptNew], Ask));
}

#[test]
fn a_given_password_is_tried_first() {
    let open = open(r#"{"target":"web-1","auth":{"method":"password","password":"00123e5"}}"#).unwrap();
    assert!(matches!(&open.to.credentials[..],
        [Credential::Password(password), Credential::Agent] if password.expose_secret() == "00123e5"));
}

#[test]
fn a_whole_number_may_be_spelled_with_a_point() {
    let open = open(r#"{"host":"h","username":"u","port":2200.0,"cols":1e2,"rows":null}"#).unwrap();
    assert_eq!((open.to.port, open.size), (2200, Size { cols: 100, rows: 24 }));
}

#[test]
fn refusals_have_their_status_and_name_the_field() {
    for (body, status, words) in [
        (r#"{"target":"nope"}"#, 404, "nope"),
        (r#"{}"#, 400, "either"),
        (r#"{"target":"web-1","host":"h","username":"u"}"#, 400, "either"),
        (r#"{"target":"web-1","port":22}"#, 400, "either"),
        (r#"{"host":"h"}"#, 400, "either"),
        (r#"{"host":"h","username":"u","port":0}"#, 400, "port"),
        (r#"{"host":"h","username":"u","port":65536}"#, 400, "value: 65536, expected a whole number from 0 to 65535"),
        (r#"{"target":"web-1","cols":80.5}"#, 400, "whole number"),
        (r#"{"target":"web-1","cols":-1}"#, 400, "value: -1, expected a whole number"),
        (r#"{"target":"web-1","cols":"80"}"#, 400, "string"),
        (r#"{"host":"h","username":"-l","port":22}"#, 400, "username"),
        (r#"{"host":"h","username":"a\nb"}"#, 400, "username"),
        (r#"{"target":"web-1","cols":0}"#, 400, "cols"),
        (r#"{"target":"web-1","rows":1001}"#, 400, "rows"),
        (r#"{"target":"web-1","term":"xterm;id"}"#, 400, "term"),
        (r#"{"target":"web-1","term":""}"#, 400, "term"),
        (r#"{"target":"web-1","colour":1}"#, 400, "`colour`"),
        (r#"{"target":"web-1","target":"web-1"}"#, 400, "duplicate"),
        (r#"{"target":"web-1","auth":{"method":"key"}}"#, 400, "`key`"),
        (r#"{"target":"web-1","auth":{"method":"password","password":"x","extra":1}}"#, 400, "`extra`"),
        (r#"{"target":1e400}"#, 400, "number"),
        (r#"{"target":"\ud800"}"#, 400, "escape"),
    ] {
        let (told, detail) = open(body).expect_err(body);
        assert_eq!(told, status, "{body}");
        assert!(detail.contains(words), "{body}: {detail}");
    }
}

#[test]
fn a_target_typed_by_hand_is_forbidden_unless_allowed() {
    let closed = Settings { adhoc: None, ..settings() };
    assert_eq!(open_with(r#"{"host":"h","username":"u"}"#, &closed).unwrap_err().0, 403);
}
