//! Tests of sign-ins that end at a provider while they are being made.

use super::*;

/// Returns a sign-in of ada through a provider, of this session there.
fn made(session: Option<&str>) -> SignIn {
    SignIn { how: How::Oidc, provider_session: session.map(str::to_owned), ..new(COOKIE) }
}

fn by_provider(session: Option<&str>) -> Leaving {
    Leaving::ByProvider { user: "ada".into(), session: session.map(str::to_owned), until: UtcMicros(i64::MAX) }
}

#[tokio::test]
async fn what_ended_at_the_provider_while_it_was_made_is_over_on_every_gateway() {
    let own = || made(Some("s1"));
    for (leaving, takes) in [
        (Leaving::Session("s1".to_owned()), [(own(), true), (made(Some("s2")), false), (made(None), false)]),
        (by_provider(Some("s1")), [(own(), true), (made(Some("s2")), false), (made(None), true)]),
        (by_provider(None), [(own(), true), (made(Some("s2")), true), (made(None), true)]),
        (Leaving::AllOf("ada".to_owned()), [(own(), false), (made(Some("s2")), false), (made(None), false)]),
    ] {
        let (records, one, two) = two().await;
        let (here, there) = (now(HOUR), elsewhere(HOUR));
        one.sign_out_all(here, leaving.clone()).await.unwrap();
        let ended = two.ended_since(0, &records.directory()).await.unwrap();
        two.end_here(there, &ended);
        for (sign_in, over) in takes {
            let of_bob = SignIn { user: "bob".to_owned(), provider_session: None, ..sign_in.clone() };
            for (gateway, now) in [(&one, here), (&two, there)] {
                assert_eq!(gateway.is_over(now, &sign_in, now.at), over, "{leaving:?}: {sign_in:?}");
                assert!(!gateway.is_over(now, &of_bob, now.at), "{leaving:?}");
                let anew = now.at + Duration::from_secs(1);
                assert!(!gateway.is_over(now, &sign_in, anew), "who asked the provider later signed in anew");
                let late = Now { at: now.at + BEING_MADE, ..now };
                assert!(!gateway.is_over(late, &sign_in, now.at), "nothing takes so long to be made");
            }
        }
    }
}

#[tokio::test]
async fn an_end_at_the_provider_that_is_told_again_is_heard_of_again() {
    let (records, one, two) = two().await;
    for hour in 1..3 {
        let before = records.directory().version;
        one.sign_out_all(now(HOUR * hour), by_provider(None)).await.unwrap();
        let ended = two.ended_since(before, &records.directory()).await.unwrap();
        two.end_here(elsewhere(HOUR * hour), &ended);
        assert!(two.is_over(elsewhere(HOUR * hour), &made(None), elsewhere(HOUR * hour).at));
    }
}
