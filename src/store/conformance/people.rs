//! The promises of a store of users, tokens and targets. Knows the trait and no store.

use super::{Fresh, block_on};
use crate::{
    core::{
        people::{Directory, Enrolment, Grant, Identity, Invitation, Right, Role, SecondFactor, Token, User},
        record::UtcMicros,
        target::{Auth, AuthKind, PublicTarget, Sealed, Target},
    },
    store::people::{Change, PeopleStore, Seen},
};

macro_rules! people_promises {
    ($($stores:tt)+) => {
        $crate::store::conformance::promises!($($stores)+ => $crate::store::conformance::people:
            users_and_tokens_come_back_as_written, a_name_is_given_once, a_change_of_what_has_changed_is_not_done,
            of_many_first_admins_one_is_and_nobody_after_them, of_two_admins_that_are_taken_away_at_once_one_stays,
            who_administers_with_others_or_not_at_all_may_leave, a_user_leaves_with_their_tokens, only_changes_count,
            targets_come_back_as_written, a_target_is_added_once_and_changed_by_who_saw_it, who_is_gone_is_not_brought_back_by_being_seen,
            of_two_gateways_that_take_one_code_only_one_does);
        $crate::store::conformance::promises!($($stores)+ => $crate::store::conformance::people::sign_ins:
            sign_ins_come_back_as_written, an_ended_sign_in_is_found_by_its_version_and_comes_back_by_nothing,
            a_provider_ends_what_stands_on_its_own_sign_in_and_nothing_else,
            what_a_provider_ended_is_told_each_time_and_is_no_sign_in,
            a_change_of_a_user_ends_what_does_not_hold_on_to_it, a_change_that_is_not_done_ends_nothing,
            with_a_token_ends_what_was_traded_for_it, a_use_is_noted_and_never_taken_back,
            what_was_not_used_for_long_is_forgotten_a_few_at_a_time);
    };
}

pub(crate) use people_promises;

/// The promises of a store of sign-ins.
pub mod sign_ins;

/// Returns a user with every field set.
pub fn user(name: &str) -> User {
    User {
        name: name.to_owned(),
        role: Role::Operator,
        grants: vec![Grant::Tag("größe \"'%_".replace(' ', "")), Grant::Target("web-1".to_owned()), Grant::AdHoc],
        disabled: false,
        password_hash: "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA".to_owned(),
        second_factor: Some(second_factor()),
        enrolment: Some(Enrolment::new("v1.\"'begun✓".to_owned(), UtcMicros(10))),
        invitation: Some(Invitation::new("cd".repeat(32), UtcMicros(10))),
        identity: Some(identity()),
        created_at: UtcMicros(10),
        changed_at: UtcMicros(10),
        last_sign_in_at: None,
    }
}

fn identity() -> Identity {
    Identity { issuer: "https://id.example/r'\"✓".to_owned(), subject: "a".repeat(255), admitted: true }
}

fn second_factor() -> SecondFactor {
    SecondFactor { sealed: "v1.\"'sealed✓".to_owned(), step: 7, recovery: vec!["ab".repeat(32)], mark: u64::MAX }
}

/// Returns a token with a scope and an expiry.
pub fn token(id: &str, owner: &str) -> Token {
    Token {
        id: id.to_owned(),
        name: "nightly ✓ '; --".to_owned(),
        user: owner.to_owned(),
        digest: "ab".repeat(32),
        scopes: Some(vec![Right::Observe]),
        created_at: UtcMicros(10),
        expires_at: Some(UtcMicros(20)),
        last_used_at: None,
    }
}

pub fn users_and_tokens_come_back_as_written<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let unscoped = Token { scopes: None, expires_at: None, ..token("t2", "ada") };
        assert!(store.change(Change::Add(user("ada"))).await.unwrap());
        assert!(store.change(Change::AddToken(token("t1", "ada"))).await.unwrap());
        assert!(store.change(Change::AddToken(unscoped.clone())).await.unwrap());
        let seen = Seen {
            users: [("ada".to_owned(), UtcMicros(15))].into(),
            tokens: [("t1".to_owned(), UtcMicros(16))].into(),
        };
        store.note(seen).await.unwrap();
        let earlier = Seen { users: [("ada".to_owned(), UtcMicros(14))].into(), ..Seen::default() };
        store.note(earlier).await.unwrap();
        let found = store.read().await.unwrap();
        let expected = User { last_sign_in_at: Some(UtcMicros(15)), ..user("ada") };
        assert_eq!(found.users.values().collect::<Vec<_>>(), [&expected]);
        assert_eq!(found.users["ada"].password_hash, expected.password_hash);
        let used = Token { last_used_at: Some(UtcMicros(16)), ..token("t1", "ada") };
        assert_eq!(found.tokens.values().collect::<Vec<_>>(), [&used, &unscoped]);
    });
}

pub fn a_name_is_given_once<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        assert!(store.change(Change::Add(user("ada"))).await.unwrap());
        let other = User { role: Role::Admin, password_hash: "another".to_owned(), ..user("ada") };
        assert!(!store.change(Change::Add(other)).await.unwrap());
        assert!(store.change(Change::Add(user("ada"))).await.unwrap(), "what was sent twice is done");
        assert_eq!(store.read().await.unwrap().users["ada"].role, Role::Operator);
    });
}

/// Returns an admin as a set-up link makes one.
fn first(name: &str) -> User {
    User { role: Role::Admin, identity: None, ..user(name) }
}

pub fn of_many_first_admins_one_is_and_nobody_after_them<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let escaped = Identity { issuer: r#"","admitted":true"#.to_owned(), subject: "s".to_owned(), admitted: false };
        let others = [
            user("operator"),
            User { disabled: true, ..first("disabled") },
            User { identity: Some(escaped), ..first("lapsed") },
        ];
        for other in others {
            assert!(store.change(Change::Add(other)).await.unwrap());
            assert!(!store.read().await.unwrap().has_admin(), "none of these administers");
        }
        let rival = |name: &str| store.change(Change::AddFirst(first(name)));
        assert!(!rival("disabled").await.unwrap(), "the name is somebody's");
        let made = futures_util::future::join_all(["ada", "bob", "eve"].map(rival)).await;
        let made: Vec<bool> = made.into_iter().map(Result::unwrap).collect();
        assert_eq!(made.iter().filter(|done| **done).count(), 1, "{made:?}");
        let known = store.read().await.unwrap();
        let admins: Vec<String> = admins_of(&known).map(str::to_owned).collect();
        assert_eq!(admins.len(), 1, "{admins:?}");
        assert!(rival(&admins[0]).await.unwrap(), "what was sent twice is done");

        // A user of a provider administers as long as the provider admits them.
        store.change(Change::Remove(admins[0].clone())).await.unwrap();
        let admitted = User { identity: Some(identity()), ..first("admitted") };
        assert!(store.change(Change::Add(admitted)).await.unwrap());
        assert!(store.read().await.unwrap().has_admin());
        assert!(!rival("late").await.unwrap());
        assert!(!store.read().await.unwrap().users.contains_key("late"));
    });
}

/// Returns the names of the admins.
fn admins_of(known: &Directory) -> impl Iterator<Item = &str> {
    known.users.values().filter(|user| user.administers()).map(|user| user.name.as_str())
}

fn changed(name: &str) -> User {
    User { changed_at: UtcMicros(11), ..first(name) }
}

/// Returns every change that takes an admin made by [`first`] away, unless they are the last one.
fn ways() -> [fn(&str) -> Change; 4] {
    [
        |name| Change::RemoveUnlessLast(name.to_owned()),
        |name| Change::ReplaceUnlessLast(User { role: Role::Auditor, ..changed(name) }, UtcMicros(10)),
        |name| Change::ReplaceUnlessLast(User { disabled: true, ..changed(name) }, UtcMicros(10)),
        |name| {
            let identity = Some(Identity { admitted: false, ..identity() });
            Change::ReplaceUnlessLast(User { identity, ..changed(name) }, UtcMicros(10))
        },
    ]
}

pub fn of_two_admins_that_are_taken_away_at_once_one_stays<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        for way in ways() {
            let (store, _keep) = fresh().await;
            for (n, name) in [(1, "ada"), (2, "bob")] {
                assert!(store.change(Change::Add(first(name))).await.unwrap());
                store.change(Change::AddToken(token(name, name))).await.unwrap();
                store.add_sign_in(sign_ins::sign_in(n, name)).await.unwrap();
            }
            let done = futures_util::future::join_all(["ada", "bob"].map(|name| store.change(way(name)))).await;
            let done: Vec<bool> = done.into_iter().map(Result::unwrap).collect();
            assert_eq!(done.iter().filter(|done| **done).count(), 1, "{done:?}");
            let known = store.read().await.unwrap();
            let (gone, left, digest) = if done[0] { ("ada", "bob", [2; 32]) } else { ("bob", "ada", [1; 32]) };
            assert_eq!(admins_of(&known).collect::<Vec<_>>(), [left]);
            assert!(!store.change(way(left)).await.unwrap(), "however often it is tried");
            assert!(store.change(way(gone)).await.unwrap(), "what was sent twice is done");
            let known = store.read().await.unwrap();
            assert_eq!(known.users[left], first(left));
            assert!(known.tokens.contains_key(left), "what is theirs stays");
            assert_eq!(store.sign_ins(vec![digest]).await.unwrap().len(), 1, "and so do their sign-ins");
        }
    });
}

pub fn who_administers_with_others_or_not_at_all_may_leave<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let others = [user("operator"), User { disabled: true, ..first("disabled") }];
        for other in [first("ada"), first("bob")].into_iter().chain(others) {
            store.change(Change::Add(other)).await.unwrap();
        }
        for name in ["bob", "operator", "disabled"] {
            assert!(store.change(Change::RemoveUnlessLast(name.to_owned())).await.unwrap(), "{name}");
            assert!(!store.read().await.unwrap().users.contains_key(name), "{name}");
        }
        let anew = User { password_hash: "another".to_owned(), ..changed("ada") };
        assert!(store.change(Change::ReplaceUnlessLast(anew.clone(), UtcMicros(10))).await.unwrap(), "she stays admin");
        assert!(!store.change(Change::ReplaceUnlessLast(first("ada"), UtcMicros(10))).await.unwrap());
        // The last admin may leave where there is another way to administer.
        let without = User { role: Role::Viewer, changed_at: UtcMicros(12), ..anew };
        assert!(store.change(Change::Replace(without, UtcMicros(11))).await.unwrap());
        assert!(store.change(Change::Remove("ada".to_owned())).await.unwrap());
        assert!(store.read().await.unwrap().users.is_empty());
    });
}

pub fn a_change_of_what_has_changed_is_not_done<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        store.change(Change::Add(user("ada"))).await.unwrap();
        let first = User { role: Role::Viewer, grants: vec![], changed_at: UtcMicros(11), ..user("ada") };
        let second = User { disabled: true, changed_at: UtcMicros(12), ..user("ada") };
        assert!(store.change(Change::Replace(first.clone(), UtcMicros(10))).await.unwrap());
        assert!(!store.change(Change::Replace(second, UtcMicros(10))).await.unwrap());
        assert!(!store.change(Change::Replace(user("bob"), UtcMicros(10))).await.unwrap(), "nobody is added by it");
        assert_eq!(store.read().await.unwrap().users.into_values().collect::<Vec<_>>(), [first]);
    });
}

pub fn a_user_leaves_with_their_tokens<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        for name in ["ada", "bob"] {
            store.change(Change::Add(user(name))).await.unwrap();
            store.change(Change::AddToken(token(&format!("{name}-1"), name))).await.unwrap();
            store.change(Change::AddToken(token(&format!("{name}-2"), name))).await.unwrap();
        }
        store.change(Change::Remove("ada".to_owned())).await.unwrap();
        // A token that was on its way meanwhile does not belong to the next user named ada.
        store.change(Change::AddToken(token("ada-3", "ada"))).await.unwrap();
        store.change(Change::Add(user("ada"))).await.unwrap();
        assert!(store.read().await.unwrap().tokens.values().all(|token| token.user == "bob"));
        store.change(Change::Remove("ada".to_owned())).await.unwrap();
        store.change(Change::RemoveToken("bob-1".to_owned())).await.unwrap();
        let found = store.read().await.unwrap();
        assert_eq!(found.users.keys().collect::<Vec<_>>(), ["bob"]);
        assert_eq!(found.tokens.keys().collect::<Vec<_>>(), ["bob-2"]);
    });
}

pub fn only_changes_count<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let begun = store.version().await.unwrap();
        assert!(begun >= 1);
        store.change(Change::Add(user("ada"))).await.unwrap();
        let changed = store.version().await.unwrap();
        assert!(changed > begun);
        let seen = Seen { users: [("ada".to_owned(), UtcMicros(15))].into(), ..Seen::default() };
        store.note(seen).await.unwrap();
        assert_eq!(store.version().await.unwrap(), changed);
        assert_eq!(store.read().await.unwrap().version, changed);
        store.change(Change::RemoveToken("nobody's".to_owned())).await.unwrap();
    });
}

pub fn who_is_gone_is_not_brought_back_by_being_seen<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let seen = Seen {
            users: [("ada".to_owned(), UtcMicros(15))].into(),
            tokens: [("t1".to_owned(), UtcMicros(16))].into(),
        };
        store.note(seen).await.unwrap();
        let found = store.read().await.unwrap();
        assert!(found.users.is_empty() && found.tokens.is_empty());
    });
}

/// Returns a target of the records with every field set.
pub fn target(name: &str) -> Target {
    let public = PublicTarget {
        name: name.to_owned(),
        host: "2001:db8::1".to_owned(),
        port: 65_535,
        username: "deploy".to_owned(),
        via: vec!["bastion".to_owned(), "o\"'%p@[::1]:22".to_owned()],
        group: Some("Größe '; --".to_owned()),
        tags: vec!["prod".to_owned(), "\"'%_".to_owned()],
        roles: vec![Role::User, Role::Operator],
    };
    let auth = Auth { kind: AuthKind::PrivateKey, sealed: Some(Sealed("x".repeat(30_000))) };
    Target::new(public, auth, UtcMicros(10))
}

pub fn targets_come_back_as_written<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let bare = Target { auth: Auth::AGENT, ..target("b") };
        let bare = Target {
            public: PublicTarget { via: vec![], group: None, tags: vec![], roles: vec![], ..bare.public },
            ..bare
        };
        let begun = store.version().await.unwrap();
        assert!(store.change(Change::AddTarget(target("a"))).await.unwrap());
        assert!(store.change(Change::AddTarget(bare.clone())).await.unwrap());
        assert!(store.version().await.unwrap() > begun);
        assert_eq!(store.read().await.unwrap().targets.into_values().collect::<Vec<_>>(), [target("a"), bare]);
        for _ in 0..2 {
            let removed = store.change(Change::RemoveTarget("a".to_owned())).await.unwrap();
            assert!(removed, "what was sent twice is done");
        }
        assert_eq!(store.read().await.unwrap().targets.into_keys().collect::<Vec<_>>(), ["b"]);
    });
}

pub fn a_target_is_added_once_and_changed_by_who_saw_it<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let first = target("a");
        assert!(store.change(Change::AddTarget(first.clone())).await.unwrap());
        assert!(store.change(Change::AddTarget(first.clone())).await.unwrap(), "what was sent twice is done");
        let other = PublicTarget { host: "other".to_owned(), via: vec!["b".to_owned()], ..first.public.clone() };
        let rival = Target::new(other.clone(), Auth::PROMPT, UtcMicros(10));
        assert!(!store.change(Change::AddTarget(rival)).await.unwrap());
        let second = first.changed(other, Auth::PROMPT, UtcMicros(11));
        assert!(store.change(Change::ReplaceTarget(second.clone(), first.changed_at)).await.unwrap());
        let late = first.changed(first.public.clone(), Auth::AGENT, UtcMicros(12));
        assert!(!store.change(Change::ReplaceTarget(late, first.changed_at)).await.unwrap());
        assert!(
            !store.change(Change::ReplaceTarget(target("b"), UtcMicros(10))).await.unwrap(),
            "nothing is added by it"
        );
        assert_eq!(store.read().await.unwrap().targets.into_values().collect::<Vec<_>>(), [second]);
    });
}

pub fn of_two_gateways_that_take_one_code_only_one_does<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        store.change(Change::Add(user("ada"))).await.unwrap();
        // Both read the same user, take the same code, and date the change to the same microsecond: the clock was set
        // back.
        let taken = |mark| User {
            second_factor: Some(SecondFactor { step: 8, mark, ..second_factor() }),
            changed_at: UtcMicros(11),
            ..user("ada")
        };
        assert!(store.change(Change::Replace(taken(1), UtcMicros(10))).await.unwrap());
        assert!(!store.change(Change::Replace(taken(2), UtcMicros(10))).await.unwrap());
        assert!(store.change(Change::Replace(taken(1), UtcMicros(10))).await.unwrap(), "what was sent twice is done");
        let without = User {
            second_factor: None,
            enrolment: None,
            invitation: None,
            identity: None,
            changed_at: UtcMicros(12),
            ..user("ada")
        };
        assert!(store.change(Change::Replace(without.clone(), UtcMicros(11))).await.unwrap());
        assert_eq!(store.read().await.unwrap().users["ada"], without);
    });
}
