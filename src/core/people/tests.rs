//! Tests of roles, grants and the directory.

use secrecy::ExposeSecret;

use super::*;
use crate::core::totp::Typed;

fn user(role: Role, grants: &[&str]) -> User {
    User {
        name: "ada".to_owned(),
        role,
        grants: grants.iter().map(|grant| grant.parse().unwrap()).collect(),
        disabled: false,
        password_hash: "secret-hash".to_owned(),
        second_factor: None,
        enrolment: None,
        invitation: None,
        identity: None,
        created_at: UtcMicros(1),
        changed_at: UtcMicros(1),
        last_sign_in_at: None,
    }
}

fn directory(user: User) -> Directory {
    Directory { version: 1, users: [(user.name.clone(), user)].into(), ..Directory::default() }
}

fn catalogue() -> Vec<CatalogueEntry> {
    vec![
        CatalogueEntry { name: "web-1".to_owned(), tags: vec!["prod".to_owned()], roles: vec![] },
        CatalogueEntry { name: "db-1".to_owned(), tags: vec![], roles: vec![Role::Operator] },
    ]
}

#[test]
fn each_role_has_the_rights_of_the_table() {
    for (role, rights) in [
        (Role::Viewer, "observe"),
        (Role::User, "open"),
        (Role::Operator, "observe open watch terminate trust control"),
        (Role::Auditor, "observe replay audit"),
        (Role::Admin, "observe open watch terminate replay audit manage trust control"),
    ] {
        let words: Vec<_> = role.rights().iter().map(Right::as_str).collect();
        assert_eq!(words.join(" "), rights, "{role:?}");
        assert_eq!(role.as_str().parse(), Ok(role));
    }
}

#[test]
fn words_lead_back_to_their_rights() {
    for &right in Right::ALL {
        assert_eq!(right.as_str().parse(), Ok(right));
        assert_eq!(serde_json::to_value(right).unwrap(), right.as_str());
    }
    assert_eq!("own".parse::<Right>(), Err(NotAWord));
}

#[test]
fn a_grant_reads_as_it_is_written() {
    for text in ["*", "adhoc:*", "tag:prod", "tag:größe", "web-1.a_B"] {
        assert_eq!(text.parse::<Grant>().unwrap().to_string(), text);
    }
    for text in ["", "tag:", "tag:a b", "adhoc:x", "web 1", "web*", "tag:\u{7}", &"x".repeat(65)] {
        assert_eq!(text.parse::<Grant>(), Err(NotAGrant), "{text:?}");
    }
}

#[test]
fn a_name_or_a_grant_that_hides_letters_is_told_from_others() {
    for text in ["*", "adhoc:*", "tag:größe", "web-1"] {
        assert!(text.parse::<Grant>().unwrap().is_visible(), "{text}");
    }
    for name in ["ci", "a scraper, größer", &"ü".repeat(64)] {
        assert!(is_token_name(name), "{name}");
    }
    for hidden in ["\u{202e}", "\u{200b}", "\u{ad}", "\u{e0041}"] {
        assert!(!format!("tag:a{hidden}b").parse::<Grant>().unwrap().is_visible(), "{hidden:?}");
        assert!(!is_token_name(&format!("a{hidden}b")), "{hidden:?}");
    }
    for name in ["", "a\n", &"x".repeat(65)] {
        assert!(!is_token_name(name), "{name:?}");
    }
}

#[test]
fn a_user_name_is_short_lower_case_and_neither_the_admins_nor_nobodys() {
    for name in ["ada", "a", "7", "ada.lovelace@example.org", &"x".repeat(64)] {
        assert!(is_user_name(name), "{name}");
    }
    for name in ["", "admin", "anonymous", "Ada", ".ada", "-ada", "a b", "ä", "a\n", &"x".repeat(65)] {
        assert!(!is_user_name(name), "{name:?}");
    }
}

#[test]
fn nothing_may_be_opened_that_is_not_granted() {
    for (role, grants, web, db, typed) in [
        (Role::User, &[][..], false, false, false),
        (Role::User, &["web-1"], true, false, false),
        (Role::User, &["web"], false, false, false),
        (Role::User, &["tag:prod"], true, false, false),
        (Role::User, &["*"], true, true, false),
        (Role::User, &["adhoc:*"], false, false, true),
        (Role::Operator, &[], false, true, false),
        (Role::Viewer, &["*", "adhoc:*"], false, false, false),
        (Role::Auditor, &["*", "adhoc:*"], false, false, false),
        (Role::Admin, &[], true, true, true),
    ] {
        let directory = directory(user(role, grants));
        let may = |target| objection(&directory, &catalogue(), "ada", target).is_none();
        assert_eq!((may("web-1"), may("db-1"), may("root@h:22")), (web, db, typed), "{role:?} {grants:?}");
        for (target, expected) in [
            ("root@h:22 via web-1", web && typed),
            ("root@h:22 via gone", false),
            ("root@h:22 via web-1, db-1", web && db && typed),
            ("root@h:22 via web-1, ops@j:22", web && typed),
        ] {
            assert_eq!(may(target), expected, "{target}: {role:?} {grants:?}");
        }
    }
}

#[test]
fn an_objection_says_what_is_so_now() {
    let told = |user: User| objection(&directory(user), &catalogue(), "ada", "web-1");
    assert_eq!(told(user(Role::User, &["web-1"])), None);
    assert_eq!(told(user(Role::User, &["db-1"])).unwrap(), "web-1 is not granted to ada now");
    assert_eq!(told(user(Role::Viewer, &["*"])).unwrap(), "ada is viewer now, who opens no shells");
    assert_eq!(told(User { disabled: true, ..user(Role::Admin, &[]) }).unwrap(), "ada was disabled");
    assert_eq!(objection(&Directory::default(), &[], "ada", "x").unwrap(), "ada was removed");
    assert_eq!(objection(&Directory::default(), &[], ADMIN, "root@h:22"), None);
    assert_eq!(objection(&Directory::default(), &[], ADMIN, "x").unwrap(), "x was removed from the catalogue");
}

#[test]
fn a_target_of_the_records_is_judged_like_one_of_the_configuration_whose_name_wins() {
    let public = |name: &str, tags: &[&str]| target::PublicTarget {
        name: name.to_owned(),
        host: "h".to_owned(),
        port: 22,
        username: "u".to_owned(),
        via: vec![],
        group: None,
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        roles: vec![],
    };
    let told = |grants: &[&str], name: &str| {
        let mut directory = directory(user(Role::User, grants));
        for public in [public("new-1", &["prod"]), public("db-1", &["prod"])] {
            let target = target::Target::new(public, target::Auth::PROMPT, UtcMicros(1));
            directory.targets.insert(target.public.name.clone(), target);
        }
        objection(&directory, &catalogue(), "ada", name)
    };
    assert_eq!(told(&["tag:prod"], "new-1"), None);
    assert_eq!(told(&["new-1"], "new-1"), None);
    assert_eq!(told(&["adhoc:*"], "new-1").unwrap(), "new-1 is not granted to ada now");
    assert_eq!(told(&["*", "adhoc:*"], "new-2").unwrap(), "new-2 was removed from the catalogue");
    assert!(told(&["tag:prod"], "db-1").is_some(), "the one of the configuration has no such tag");
}

#[test]
fn a_token_works_until_it_expires() {
    let token = Token {
        id: "t".to_owned(),
        name: "ci".to_owned(),
        user: "ada".to_owned(),
        digest: "00".to_owned(),
        scopes: None,
        created_at: UtcMicros(1),
        expires_at: Some(UtcMicros(10)),
        last_used_at: None,
    };
    let directory = Directory { tokens: [("t".to_owned(), token)].into(), ..Directory::default() };
    assert!(directory.token("00", UtcMicros(9)).is_some());
    assert!(directory.token("00", UtcMicros(10)).is_none());
    assert!(directory.token("01", UtcMicros(9)).is_none());
}

#[test]
fn a_password_hash_is_not_shown() {
    assert!(!format!("{:?}", user(Role::User, &[])).contains("secret-hash"));
}

#[test]
fn every_change_moves_on_even_where_the_clock_was_set_back() {
    let user = User { changed_at: UtcMicros(10), ..user(Role::User, &[]) };
    assert_eq!(user.next_change(UtcMicros(20)), UtcMicros(20));
    assert_eq!(user.next_change(UtcMicros(10)), UtcMicros(11));
    assert_eq!(user.next_change(UtcMicros(3)), UtcMicros(11));
}

fn factor() -> SecondFactor {
    let secret = crate::core::totp::secret(*b"12345678901234567890");
    SecondFactor {
        sealed: secret.expose_secret().to_owned(),
        step: 0,
        recovery: vec!["a".to_owned(), "b".to_owned()],
        mark: 0,
    }
}

#[test]
fn a_recovery_code_serves_once_and_needs_no_secret() {
    let typed = Typed::Recovery("a".to_owned());
    let left = factor().spend(&typed, None, UtcMicros(0), 1).unwrap();
    assert_eq!(left.recovery, ["b"]);
    assert_eq!(left.spend(&typed, None, UtcMicros(0), 2), None);
    assert_eq!(left.spend(&Typed::Recovery("c".to_owned()), None, UtcMicros(0), 2), None);
}

#[test]
fn two_uses_of_one_code_are_not_the_same_and_the_step_stays() {
    let secret = crate::core::totp::secret(*b"12345678901234567890");
    let (now, typed) = (UtcMicros(59_000_000), Typed::Digits("287082".to_owned()));
    let use_of = |mark| factor().spend(&typed, Some(&secret), now, mark).unwrap();
    assert_ne!(use_of(1), use_of(2), "so that the store takes one of them only");
    assert_eq!(use_of(1).step, 1);
    assert_eq!(use_of(1).spend(&typed, Some(&secret), now, 3), None);
    assert_eq!(factor().spend(&typed, None, now, 3), None, "without the secret nobody can tell");
}

#[test]
fn a_link_that_sets_a_password_ends_after_a_day_and_with_its_use() {
    let made = UtcMicros(1_000);
    let invitation = Some(Invitation::new("digest".to_owned(), made));
    let end = invitation.as_ref().unwrap().expires_at();
    assert_eq!(end.0 - made.0, 24 * 60 * 60 * 1_000_000);
    let ada = User { invitation, ..user(Role::User, &[]) };
    let holds = |ada: &User, digest: &str, now| directory(ada.clone()).invited(digest, now).is_some();
    assert!(holds(&ada, "digest", made) && holds(&ada, "digest", UtcMicros(end.0 - 1)));
    assert!(!holds(&ada, "digest", end) && !holds(&ada, "other", made));
    assert!(!holds(&User { disabled: true, ..ada.clone() }, "digest", made));
    let set = ada.with_password("new".to_owned());
    assert!(!holds(&set, "digest", made) && set.password_hash == "new");
}

#[test]
fn a_second_factor_waits_for_its_first_code_a_quarter_of_an_hour_and_no_new_password() {
    let (made, quarter) = (UtcMicros(5), UtcMicros(5 + 15 * 60 * 1_000_000));
    let enrolment = Enrolment::new("sealed".to_owned(), made);
    assert!(enrolment.waits(made) && enrolment.waits(UtcMicros(quarter.0 - 1)) && !enrolment.waits(quarter));
    let ada = User { enrolment: Some(enrolment), ..user(Role::User, &[]) };
    assert_eq!(ada.with_password("new".to_owned()).enrolment, None);
}

#[test]
fn nothing_that_proves_who_one_is_shows_in_debug_output() {
    let ada = User { second_factor: Some(factor()), ..user(Role::User, &[]) };
    let enrolment = Enrolment::new("GEZDGNBV".to_owned(), UtcMicros(0));
    let invitation = Invitation::new("digest".to_owned(), UtcMicros(0));
    let shown = format!("{ada:?} {:?} {enrolment:?} {invitation:?}", ada.second_factor);
    for secret in ["secret-hash", "digest", "GEZDGNBV", "\"a\""] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn whom_a_provider_does_not_let_in_any_more_is_nobody_here_and_loses_their_shells() {
    let identity = Identity { issuer: "https://id.example".to_owned(), subject: "1".to_owned(), admitted: true };
    let known = directory(User { identity: Some(identity.clone()), ..user(Role::Admin, &[]) });
    assert!(known.access("ada").is_some() && known.has_admin());
    let lapsed = Identity { admitted: false, ..identity };
    let lapsed = directory(User { identity: Some(lapsed), ..user(Role::Admin, &[]) });
    assert!(lapsed.access("ada").is_none() && !lapsed.has_admin());
    let why = "ada is in no group any more that may sign in";
    assert_eq!(objection(&lapsed, &catalogue(), "ada", "web-1").as_deref(), Some(why));
}

#[test]
fn somebody_is_known_by_issuer_and_subject_together() {
    let identity = Identity { issuer: "https://id.example".to_owned(), subject: "1".to_owned(), admitted: true };
    let known = directory(User { identity: Some(identity), ..user(Role::User, &[]) });
    assert!(known.identified("https://id.example", "1").is_some_and(|user| user.name == "ada"));
    for (issuer, subject) in
        [("https://id.example", "2"), ("https://another.example", "1"), ("https://id.example", "ada")]
    {
        assert!(known.identified(issuer, subject).is_none(), "{issuer} {subject}");
    }
    assert!(directory(user(Role::User, &[])).identified("", "").is_none());
}
