//! Tests of sign-ins over a store in memory that ends, changes and refuses them on request.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::{BoxFuture, FutureExt, ready};

use super::*;
use crate::{
    core::people::{How, Role, User},
    store::{
        people::{Change, Seen},
        sign_ins::SignInStore,
    },
};

mod provider;

/// The store that several gateways share.
#[derive(Default)]
struct Records {
    rows: Mutex<Vec<(SignIn, Option<u64>)>>,
    version: Mutex<u64>,
    password: Mutex<String>,
    away: AtomicBool,
    questions: AtomicUsize,
    /// Runs once, between a reading and its answer.
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Records {
    fn answer<T: Send + 'static>(
        &self,
        deed: impl FnOnce(&mut Vec<(SignIn, Option<u64>)>) -> T,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        if self.away.load(Ordering::Relaxed) {
            return ready(Err(StoreError::Unavailable("away".into()))).boxed();
        }
        let answer = deed(&mut self.rows.lock().unwrap());
        ready(Ok(answer)).boxed()
    }

    fn count_up(&self) -> u64 {
        let mut version = self.version.lock().unwrap();
        *version += 1;
        *version
    }

    fn changes_the_password(&self, password: &str) {
        let version = self.count_up();
        *self.password.lock().unwrap() = password.to_owned();
        for (row, ended) in self.rows.lock().unwrap().iter_mut().filter(|(row, _)| !row.holds(&stamp(password))) {
            tracing::debug!(row.user, "ends");
            ended.get_or_insert(version);
        }
    }

    fn directory(&self) -> Directory {
        let password = self.password.lock().unwrap().clone();
        let user = User::new("ada".into(), Role::User, vec![], password, UtcMicros(1));
        Directory {
            version: *self.version.lock().unwrap(),
            users: [("ada".into(), user)].into(),
            ..Directory::default()
        }
    }
}

impl SignInStore for Records {
    fn add_sign_in(&self, sign_in: SignIn) -> BoxFuture<'_, Result<(), StoreError>> {
        self.answer(|rows| rows.push((sign_in, None)))
    }

    fn sign_ins(&self, digests: Vec<Digest>) -> BoxFuture<'_, Result<Vec<SignIn>, StoreError>> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        let live = |rows: &mut Vec<(SignIn, Option<u64>)>| {
            let found = rows.iter().filter(|(row, ended)| ended.is_none() && digests.contains(&row.digest));
            found.map(|(row, _)| row.clone()).collect()
        };
        let found = self.answer(live);
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        found
    }

    fn sign_ins_of(
        &self,
        user: &str,
        seen: UtcMicros,
        now: UtcMicros,
        _: u32,
    ) -> BoxFuture<'_, Result<Vec<SignIn>, StoreError>> {
        self.answer(|rows| {
            let lives = |row: &SignIn| row.user == user && row.last_seen_at > seen && row.ends_at > now;
            let found = rows.iter().filter(|(row, ended)| ended.is_none() && lives(row));
            found.map(|(row, _)| row.clone()).collect()
        })
    }

    fn note_over(&self, marks: Vec<Digest>, _: UtcMicros) -> BoxFuture<'_, Result<(), StoreError>> {
        self.answer(|rows| {
            let version = self.count_up();
            rows.retain(|(row, _)| !marks.contains(&row.digest));
            rows.extend(marks.into_iter().map(|mark| (new(mark), Some(version))));
        })
    }

    fn end(&self, leaving: Leaving) -> BoxFuture<'_, Result<(), StoreError>> {
        self.answer(|rows| {
            let version = self.count_up();
            for (_, ended) in rows.iter_mut().filter(|(row, _)| leaving.takes(row)) {
                ended.get_or_insert(version);
            }
        })
    }

    fn ended_since(&self, version: u64) -> BoxFuture<'_, Result<Vec<Digest>, StoreError>> {
        self.answer(|rows| {
            let ended = rows.iter().filter(|(_, ended)| ended.is_some_and(|ended| ended > version));
            ended.map(|(row, _)| row.digest).collect()
        })
    }

    fn expect_stamp(&self, digest: Digest, own: String, next: String) -> BoxFuture<'_, Result<(), StoreError>> {
        self.answer(|rows| {
            for (row, _) in rows.iter_mut().filter(|(row, _)| row.digest == digest) {
                (row.stamp, row.next_stamp) = (own.clone(), Some(next.clone()));
            }
        })
    }

    fn note_use(&self, used: Vec<(Digest, UtcMicros)>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.answer(|rows| {
            for (digest, at) in used {
                rows.iter_mut().filter(|(row, _)| row.digest == digest).for_each(|(row, _)| row.last_seen_at = at);
            }
        })
    }

    fn forget(&self, _: UtcMicros, _: u32) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.answer(|_| 0)
    }
}

impl PeopleStore for Records {
    fn version(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.answer(|_| *self.version.lock().unwrap())
    }

    fn read(&self) -> BoxFuture<'_, Result<Directory, StoreError>> {
        self.answer(|_| self.directory())
    }

    fn change(&self, _: Change) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.answer(|_| false)
    }

    fn note(&self, _: Seen) -> BoxFuture<'_, Result<(), StoreError>> {
        self.answer(|_| ())
    }
}

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Returns a moment; two gateways that started at different times count from different ones.
fn now(passed: Duration) -> Now {
    Now { at: Duration::from_secs(7) + passed, utc: UtcMicros(1_800_000_000_000_000 + micros(passed)) }
}

fn elsewhere(passed: Duration) -> Now {
    Now { at: now(passed).at + HOUR * 1_000, ..now(passed) }
}

const COOKIE: Digest = [1; 32];

fn new(digest: Digest) -> SignIn {
    let utc = now(Duration::ZERO).utc;
    SignIn {
        digest,
        user: "ada".to_owned(),
        stamp: stamp(""),
        next_stamp: None,
        how: How::Password,
        token: None,
        provider_session: None,
        client_ip: None,
        user_agent: String::new(),
        made_at: utc,
        last_seen_at: utc,
        ends_at: UtcMicros(utc.0 + micros(MAX_LIFETIME)),
    }
}

/// Creates two gateways, and a sign-in on the first.
async fn two() -> (Arc<Records>, SignIns, SignIns) {
    let records = Arc::new(Records::default());
    let [one, two] = [(), ()].map(|()| SignIns::new(Some(records.clone() as Arc<dyn PeopleStore>)));
    one.sign_in(now(Duration::ZERO), new(COOKIE)).await.unwrap();
    (records, one, two)
}

/// Whether the gateway accepts the cookie, after reading the records if necessary.
async fn takes(gateway: &SignIns, now: Now) -> bool {
    let fetched = gateway.fetch(now, &COOKIE, |_| true).await.unwrap();
    assert_eq!(gateway.find(now, &COOKIE).is_some(), fetched);
    fetched
}

/// Polls the records, as a gateway does four times a second.
async fn looks(gateway: &SignIns, records: &Records, before: u64) -> Result<(), StoreError> {
    let ended = gateway.ended_since(before, &records.directory()).await?;
    gateway.end_here(now(Duration::ZERO), &ended);
    Ok(())
}

#[tokio::test]
async fn a_sign_in_holds_on_every_gateway_and_is_read_once() {
    let (records, one, two) = two().await;
    assert!(two.find(elsewhere(Duration::ZERO), &COOKIE).is_none(), "it is not at hand");
    for _ in 0..3 {
        assert!(takes(&one, now(Duration::ZERO)).await && takes(&two, elsewhere(Duration::ZERO)).await);
    }
    assert_eq!(records.questions.load(Ordering::Relaxed), 2);
    assert!(!two.fetch(now(Duration::ZERO), &[2; 32], |_| true).await.unwrap());
}

#[tokio::test]
async fn what_one_gateway_ends_is_over_on_the_other_and_whoever_is_there_hears() {
    let (records, one, two) = two().await;
    assert!(takes(&one, now(Duration::ZERO)).await && takes(&two, elsewhere(Duration::ZERO)).await);
    let held = two.find(elsewhere(Duration::ZERO), &COOKIE).unwrap();
    one.sign_out(now(Duration::ZERO), &COOKIE).await.unwrap();
    assert!(!takes(&one, now(Duration::ZERO)).await, "at once where it was said");
    looks(&two, &records, 0).await.unwrap();
    assert!(held.signed_out().now_or_never().is_some(), "whoever is there hears");
    assert!(!takes(&two, elsewhere(Duration::ZERO)).await);
}

#[tokio::test]
async fn whoever_holds_a_sign_in_that_faded_here_hears_of_its_end_all_the_same() {
    let (records, one, two) = two().await;
    assert!(takes(&two, elsewhere(Duration::ZERO)).await);
    let held = two.find(elsewhere(Duration::ZERO), &COOKIE).unwrap();
    // Used on the other gateway meanwhile.
    assert!(takes(&one, now(HOUR * 11)).await);
    one.write_down(now(HOUR * 11)).await;
    let late = elsewhere(HOUR * 13);
    assert!(two.find(late, &COOKIE).is_none());
    two.write_down(late).await;
    assert!(held.signed_out().now_or_never().is_none(), "what only fades ends nothing");
    assert!(takes(&two, late).await, "it was used elsewhere");
    one.sign_out_all(now(HOUR * 13), Leaving::AllOf("ada".to_owned())).await.unwrap();
    looks(&two, &records, 0).await.unwrap();
    assert!(held.signed_out().now_or_never().is_some(), "whoever is there hears");
}

#[tokio::test]
async fn nobody_is_signed_out_early_because_a_use_was_not_written_down_yet() {
    let (records, one, two) = two().await;
    assert!(takes(&one, now(Duration::from_secs(59))).await);
    one.write_down(now(Duration::from_secs(59))).await;
    assert!(
        takes(&two, elsewhere(IDLE_TIMEOUT + Duration::from_secs(58))).await,
        "it is written at most once a minute"
    );
    let third = SignIns::new(Some(records));
    for _ in 0..2 {
        assert!(
            !takes(&third, elsewhere(IDLE_TIMEOUT + MAX_WRITE_LAG)).await,
            "an end is one all the same, and nothing brings it back"
        );
    }
}

#[tokio::test]
async fn use_is_written_down_once_a_minute() {
    let (records, one, _) = two().await;
    let known = || records.rows.lock().unwrap()[0].0.last_seen_at;
    for (second, written) in [(59, 0), (60, 60), (90, 60), (119, 60), (121, 121)] {
        assert!(takes(&one, now(Duration::from_secs(second))).await);
        one.write_down(now(Duration::from_secs(second))).await;
        assert_eq!(known(), now(Duration::from_secs(written)).utc, "{second}");
    }
    // Last uses that could not be stored are stored later.
    assert!(takes(&one, now(Duration::from_secs(300))).await);
    records.away.store(true, Ordering::Relaxed);
    one.write_down(now(Duration::from_secs(300))).await;
    records.away.store(false, Ordering::Relaxed);
    one.write_down(now(Duration::from_secs(310))).await;
    assert_eq!(known(), now(Duration::from_secs(300)).utc);
}

#[tokio::test]
async fn a_sign_in_lives_on_while_it_is_used_and_no_longer_than_a_week() {
    let (_, one, two) = two().await;
    let mut passed = Duration::ZERO;
    while passed < MAX_LIFETIME {
        assert!(takes(&one, now(passed)).await, "{passed:?}");
        one.write_down(now(passed)).await;
        passed += IDLE_TIMEOUT / 2;
    }
    assert!(!takes(&one, now(MAX_LIFETIME)).await && !takes(&two, elsewhere(MAX_LIFETIME)).await);
}

#[tokio::test]
async fn an_end_while_it_is_being_read_is_not_missed() {
    let (records, one, two) = two().await;
    let (other, shared) = (two.clone(), records.clone());
    let ends = move || {
        one.sign_out(now(Duration::ZERO), &COOKIE).now_or_never().unwrap().unwrap();
        looks(&other, &shared, 0).now_or_never().unwrap().unwrap();
    };
    *records.meanwhile.lock().unwrap() = Some(Box::new(ends));
    assert!(!takes(&two, elsewhere(Duration::ZERO)).await);
}

#[tokio::test]
async fn a_new_password_ends_all_but_the_browser_in_which_it_was_changed() {
    let (records, one, two) = two().await;
    let other = new([2; 32]);
    one.sign_in(now(Duration::ZERO), other).await.unwrap();
    for gateway in [&one, &two] {
        assert!(takes(gateway, now(Duration::ZERO)).await);
        assert!(gateway.fetch(now(Duration::ZERO), &[2; 32], |_| true).await.unwrap());
    }
    let held = two.find(now(Duration::ZERO), &COOKIE).unwrap();
    one.expect_stamp(&COOKIE, stamp(""), stamp("new")).await.unwrap();
    records.changes_the_password("new");
    for gateway in [&one, &two] {
        looks(gateway, &records, 0).await.unwrap();
        let stays = gateway.find(now(Duration::ZERO), &COOKIE).unwrap();
        assert!(stays.kept.holds(&stamp("new")), "before anybody asks");
        assert!(gateway.find(now(Duration::ZERO), &[2; 32]).is_none());
    }
    assert!(held.signed_out().now_or_never().is_none());
}

#[tokio::test]
async fn while_the_records_are_away_who_is_at_hand_stays_and_nobody_else_is_taken_for_signed_out() {
    let (records, one, two) = two().await;
    assert!(takes(&one, now(Duration::ZERO)).await);
    records.away.store(true, Ordering::Relaxed);
    assert!(takes(&one, now(HOUR)).await);
    assert!(two.fetch(elsewhere(HOUR), &COOKIE, |_| true).await.is_err());
    assert!(one.sign_in(now(HOUR), new([3; 32])).await.is_err());
    assert!(looks(&one, &records, 0).await.is_err(), "it is asked again from the same version on");
    records.away.store(false, Ordering::Relaxed);
    assert!(takes(&two, elsewhere(HOUR)).await);
}

#[tokio::test]
async fn a_sign_out_while_the_records_are_away_holds_here_at_once_and_is_told_later() {
    for all in [None, Some(Leaving::AllOf("ada".to_owned()))] {
        is_told_later(all).await;
    }
}

async fn is_told_later(all: Option<Leaving>) {
    let (records, one, two) = two().await;
    assert!(takes(&one, now(Duration::ZERO)).await && takes(&two, elsewhere(Duration::ZERO)).await);
    let held = one.find(now(Duration::ZERO), &COOKIE).unwrap();
    records.away.store(true, Ordering::Relaxed);
    let told = match all {
        Some(all) => one.sign_out_all(now(Duration::ZERO), all).await,
        None => one.sign_out(now(Duration::ZERO), &COOKIE).await,
    };
    assert!(told.is_err());
    assert!(held.signed_out().now_or_never().is_some(), "whoever is there hears");
    one.write_down(now(Duration::ZERO)).await;
    records.away.store(false, Ordering::Relaxed);
    assert!(!takes(&one, now(Duration::ZERO)).await, "not even before they are told");
    assert!(one.devices(now(Duration::ZERO), "ada").await.unwrap().is_empty());
    assert!(takes(&two, elsewhere(Duration::ZERO)).await, "they cannot know");
    one.write_down(now(Duration::ZERO)).await;
    looks(&two, &records, 0).await.unwrap();
    assert!(!takes(&two, elsewhere(Duration::ZERO)).await);
}

#[tokio::test]
async fn devices_are_those_of_every_gateway_as_used_of_late() {
    let (_, one, two) = two().await;
    let later = SignIn { made_at: now(HOUR).utc, ..new([2; 32]) };
    two.sign_in(elsewhere(HOUR), later).await.unwrap();
    one.sign_in(now(HOUR), SignIn { user: "bob".to_owned(), ..new([3; 32]) }).await.unwrap();
    assert!(takes(&one, now(HOUR)).await);
    let shown = one.devices(now(HOUR), "ada").await.unwrap();
    let shown: Vec<_> = shown.iter().map(|device| (device.digest[0], device.last_seen_at)).collect();
    assert_eq!(shown, [(2, now(Duration::ZERO).utc), (1, now(HOUR).utc)]);
}

#[tokio::test]
async fn a_gateway_without_users_keeps_its_sign_ins_itself() {
    let alone = SignIns::new(None);
    alone.sign_in(now(Duration::ZERO), new(COOKIE)).await.unwrap();
    assert!(alone.find(now(Duration::ZERO), &COOKIE).is_some());
    assert_eq!(alone.devices(now(Duration::ZERO), "ada").await.unwrap().len(), 1);
    alone.sign_out_all(now(Duration::ZERO), Leaving::AllOf("ada".to_owned())).await.unwrap();
    assert!(alone.find(now(Duration::ZERO), &COOKIE).is_none());
}
