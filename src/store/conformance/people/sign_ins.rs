//! The promises of a store of sign-ins. Knows the trait and no store.

use super::{Fresh, block_on, token, user};
use crate::{
    core::{
        people::{How, SignIn, User, provider_session, stamp},
        record::UtcMicros,
    },
    store::{
        people::{Change, PeopleStore},
        sign_ins::Leaving,
    },
};

pub fn sign_in(n: u8, owner: &str) -> SignIn {
    SignIn {
        digest: [n; 32],
        user: owner.to_owned(),
        stamp: stamp(&user(owner).password_hash),
        next_stamp: None,
        how: How::SecondFactor,
        token: None,
        provider_session: None,
        client_ip: Some("2001:db8::ffff:192.0.2.255".parse().unwrap()),
        user_agent: "Größe ✓ '\"; --".to_owned(),
        made_at: UtcMicros(10 + i64::from(n)),
        last_seen_at: UtcMicros(20),
        ends_at: UtcMicros(100),
    }
}

/// Returns which of the first nine sign-ins are there.
async fn there(store: &impl PeopleStore) -> Vec<u8> {
    let found = store.sign_ins((1..10).map(|n| [n; 32]).collect()).await.unwrap();
    let mut numbers: Vec<u8> = found.iter().map(|sign_in| sign_in.digest[0]).collect();
    numbers.sort_unstable();
    numbers
}

async fn ended_since(store: &impl PeopleStore, version: u64) -> Vec<u8> {
    let mut numbers: Vec<u8> = store.ended_since(version).await.unwrap().iter().map(|digest| digest[0]).collect();
    numbers.sort_unstable();
    numbers
}

pub fn sign_ins_come_back_as_written<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let bare = SignIn {
            next_stamp: Some(stamp("next")),
            how: How::Token,
            token: Some("t1".to_owned()),
            client_ip: None,
            user_agent: String::new(),
            ..sign_in(2, "ada")
        };
        let provider_session = Some(provider_session("issuer", "there"));
        let long = SignIn { user_agent: "ü".repeat(256), provider_session, ..sign_in(3, "bob") };
        for one in [&sign_in(1, "ada"), &bare, &long, &sign_in(1, "ada")] {
            store.add_sign_in(one.clone()).await.unwrap();
        }
        assert_eq!(store.sign_ins(vec![[1; 32]]).await.unwrap(), [sign_in(1, "ada")]);
        assert_eq!(store.sign_ins(vec![[3; 32], [4; 32]]).await.unwrap(), [long]);
        assert_eq!(there(&store).await, [1, 2, 3]);
        assert!(store.sign_ins(vec![]).await.unwrap().is_empty());
        let of =
            async |seen, now, limit| store.sign_ins_of("ada", UtcMicros(seen), UtcMicros(now), limit).await.unwrap();
        assert_eq!(of(19, 99, 9).await, [bare.clone(), sign_in(1, "ada")]);
        assert_eq!(of(19, 99, 1).await, [bare]);
        assert!(of(20, 99, 9).await.is_empty(), "not used since");
        assert!(of(19, 100, 9).await.is_empty(), "at its end");
    });
}

pub fn an_ended_sign_in_is_found_by_its_version_and_comes_back_by_nothing<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        for (n, owner) in [(1, "ada"), (2, "ada"), (3, "ada"), (4, "bob")] {
            store.add_sign_in(sign_in(n, owner)).await.unwrap();
        }
        let begun = store.version().await.unwrap();
        store.end(Leaving::One([1; 32])).await.unwrap();
        let first = store.version().await.unwrap();
        assert!(first > begun, "every gateway looks");
        assert_eq!((there(&store).await, ended_since(&store, begun).await), (vec![2, 3, 4], vec![1]));
        assert!(ended_since(&store, first).await.is_empty());
        store.end(Leaving::AllOf("ada".to_owned())).await.unwrap();
        assert_eq!((there(&store).await, ended_since(&store, first).await), (vec![4], vec![2, 3]));
        assert_eq!(ended_since(&store, begun).await, [1, 2, 3]);
        store.add_sign_in(sign_in(1, "ada")).await.unwrap();
        store.note_use(vec![([2; 32], UtcMicros(50))]).await.unwrap();
        store.expect_stamp([3; 32], stamp("own"), stamp("next")).await.unwrap();
        assert_eq!(there(&store).await, [4]);
        assert!(store.sign_ins_of("ada", UtcMicros(0), UtcMicros(0), 9).await.unwrap().is_empty());
    });
}

pub fn a_provider_ends_what_stands_on_its_own_sign_in_and_nothing_else<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let session = |name: &str| Some(provider_session("issuer", name));
        for (n, owner, how, provider_session) in [
            (1, "ada", How::Oidc, session("one")),
            (2, "ada", How::Oidc, session("two")),
            (3, "ada", How::Oidc, None),
            (4, "ada", How::Token, None),
            (5, "bob", How::Oidc, session("one")),
            (6, "bob", How::Oidc, None),
        ] {
            store.add_sign_in(SignIn { how, provider_session, ..sign_in(n, owner) }).await.unwrap();
        }
        let ends = async |leaving| {
            let before = store.version().await.unwrap();
            store.end(leaving).await.unwrap();
            ended_since(&store, before).await
        };
        let by = |session, until| Leaving::ByProvider { user: "ada".to_owned(), session, until: UtcMicros(until) };
        let of_ada = |session| by(session, 15);
        assert!(ends(by(None, 10)).await.is_empty(), "they signed in later");
        assert_eq!(ends(of_ada(session("one"))).await, [1, 3], "of the third it is not known");
        assert!(ends(of_ada(session("three"))).await.is_empty());
        assert_eq!(ends(of_ada(None)).await, [2], "what she did without the provider stays");
        assert_eq!(ends(Leaving::Session(provider_session("issuer", "one"))).await, [5]);
        assert_eq!(there(&store).await, [4, 6]);
    });
}

pub fn what_a_provider_ended_is_told_each_time_and_is_no_sign_in<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        store.add_sign_in(sign_in(1, "ada")).await.unwrap();
        for marks in [vec![[8; 32], [9; 32]], vec![[9; 32]]] {
            let before = store.version().await.unwrap();
            store.note_over(marks.clone(), UtcMicros(20)).await.unwrap();
            assert!(store.version().await.unwrap() > before, "every gateway looks");
            let mut ended = store.ended_since(before).await.unwrap();
            ended.sort_unstable();
            assert_eq!((ended, there(&store).await), (marks, vec![1]));
        }
        assert_eq!(store.forget(UtcMicros(21), 9).await.unwrap(), 3, "they go with the others");
    });
}

pub fn a_change_of_a_user_ends_what_does_not_hold_on_to_it<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        for name in ["ada", "bob"] {
            store.change(Change::Add(user(name))).await.unwrap();
        }
        for (n, owner) in [(1, "ada"), (2, "ada"), (3, "bob")] {
            store.add_sign_in(sign_in(n, owner)).await.unwrap();
        }
        let changed =
            |at, hash: &str| User { changed_at: UtcMicros(at), password_hash: hash.to_owned(), ..user("ada") };
        let same = changed(11, &user("ada").password_hash);
        assert!(store.change(Change::Replace(same.clone(), UtcMicros(10))).await.unwrap());
        assert_eq!(there(&store).await, [1, 2, 3], "the password stays");

        // A user who changes the password in their browser stays signed in there.
        store.expect_stamp([2; 32], stamp(&same.password_hash), stamp("another")).await.unwrap();
        let before = store.version().await.unwrap();
        assert!(store.change(Change::Replace(changed(12, "another"), UtcMicros(11))).await.unwrap());
        assert_eq!((there(&store).await, ended_since(&store, before).await), (vec![2, 3], vec![1]));
        assert!(store.sign_ins(vec![[2; 32]]).await.unwrap()[0].holds(&stamp("another")));

        let disabled = User { disabled: true, ..changed(13, "another") };
        assert!(store.change(Change::Replace(disabled, UtcMicros(12))).await.unwrap());
        assert_eq!(there(&store).await, [3]);
        assert!(store.change(Change::Replace(changed(14, "another"), UtcMicros(13))).await.unwrap());
        assert_eq!(there(&store).await, [3], "who may sign in again does so anew");
        store.change(Change::Remove("bob".to_owned())).await.unwrap();
        assert!(there(&store).await.is_empty());
        assert_eq!(ended_since(&store, before).await, [1, 2, 3]);
    });
}

pub fn a_change_that_is_not_done_ends_nothing<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        store.change(Change::Add(user("ada"))).await.unwrap();
        store.add_sign_in(sign_in(1, "ada")).await.unwrap();
        let late =
            |at| User { changed_at: UtcMicros(at), password_hash: "late".to_owned(), disabled: true, ..user("ada") };
        // The second counts as made when the user that is there was.
        for at in [12, 10] {
            assert!(!store.change(Change::Replace(late(at), UtcMicros(9))).await.unwrap());
            assert_eq!(there(&store).await, [1]);
        }
    });
}

pub fn with_a_token_ends_what_was_traded_for_it<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        store.change(Change::Add(user("ada"))).await.unwrap();
        for (n, id) in [(1, Some("t1")), (2, Some("t2")), (3, None)] {
            store.add_sign_in(SignIn { token: id.map(str::to_owned), ..sign_in(n, "ada") }).await.unwrap();
        }
        for id in ["t1", "t2"] {
            store.change(Change::AddToken(token(id, "ada"))).await.unwrap();
        }
        let before = store.version().await.unwrap();
        store.change(Change::RemoveToken("t1".to_owned())).await.unwrap();
        assert_eq!((there(&store).await, ended_since(&store, before).await), (vec![2, 3], vec![1]));
    });
}

pub fn a_use_is_noted_and_never_taken_back<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        store.add_sign_in(sign_in(1, "ada")).await.unwrap();
        let begun = store.version().await.unwrap();
        for (at, known) in [(50, 50), (40, 50), (60, 60)] {
            store.note_use(vec![([1; 32], UtcMicros(at)), ([9; 32], UtcMicros(at))]).await.unwrap();
            assert_eq!(
                store.sign_ins(vec![[1; 32], [9; 32]]).await.unwrap(),
                [SignIn { last_seen_at: UtcMicros(known), ..sign_in(1, "ada") }]
            );
        }
        assert_eq!(store.version().await.unwrap(), begun, "nobody has to look");
    });
}

pub fn what_was_not_used_for_long_is_forgotten_a_few_at_a_time<S: PeopleStore, G>(fresh: Fresh<S, G>) {
    block_on(async {
        let (store, _keep) = fresh().await;
        let begun = store.version().await.unwrap();
        for n in 1..=5 {
            let last_seen_at = UtcMicros(20 + i64::from(n));
            store.add_sign_in(SignIn { last_seen_at, ..sign_in(n, "ada") }).await.unwrap();
        }
        store.end(Leaving::One([2; 32])).await.unwrap();
        assert_eq!(store.forget(UtcMicros(24), 2).await.unwrap(), 2);
        assert_eq!((there(&store).await, ended_since(&store, begun).await), (vec![3, 4, 5], vec![]));
        assert_eq!(store.forget(UtcMicros(24), 2).await.unwrap(), 1);
        assert_eq!(store.forget(UtcMicros(24), 2).await.unwrap(), 0);
        assert_eq!(there(&store).await, [4, 5]);
    });
}
