//! Owns which cookies and one-time links are good now. Keeps their digests only, in memory: a restart signs all out.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use data_encoding::HEXLOWER;
use tokio::sync::watch;

use super::{
    fading::Fading,
    secret::{self, Digest},
};

/// A working day; every use starts it anew.
const COOKIE_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// However much it is used: a week of work.
const LONGEST_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// About 4 MiB. Beyond it, who was away longest signs in again.
const COOKIES: usize = 10_000;
/// Time to find the terminal that printed it.
const LINK_LIFE: Duration = Duration::from_secs(10 * 60);
const LINKS: usize = 100;
/// What a browser says of itself beyond this is cut off.
const AGENT_CHARS: usize = 256;

/// Where somebody signs in.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The browser's address.
    pub client_ip: Option<IpAddr>,
    /// What the browser says of itself.
    pub user_agent: String,
}

/// One browser that somebody signed in with.
#[derive(Debug, Clone)]
pub struct SignIn {
    /// Who.
    pub user: Arc<str>,
    /// What it depends on, see [`stamp`](super::auth::stamp).
    pub stamp: Arc<str>,
    /// What it will depend on once its own change of the password holds.
    next: Option<Arc<str>>,
    /// Where.
    pub place: Place,
    /// Monotonic time of it.
    pub signed_in_at: Duration,
    /// Monotonic time of the newest request.
    pub last_used_at: Duration,
    over: watch::Sender<bool>,
}

impl SignIn {
    /// Whether it is good while its user has this stamp.
    pub fn holds(&self, stamp: &str) -> bool {
        *self.stamp == *stamp || self.next.as_deref() == Some(stamp)
    }

    /// Returns once somebody ended it; one that fades never does.
    pub async fn signed_out(&self) {
        if self.over.subscribe().wait_for(|over| *over).await.is_err() {
            // It holds the sender itself, so this is never reached; waiting on is right either way.
            std::future::pending::<()>().await;
        }
    }
}

/// Who is signed in by cookie, and who may sign in by link.
#[derive(Debug)]
pub struct SignIns {
    cookies: Mutex<Fading<Digest, SignIn>>,
    links: Mutex<Fading<Digest, Arc<str>>>,
}

impl Default for SignIns {
    fn default() -> Self {
        Self { cookies: Mutex::new(Fading::new(COOKIES)), links: Mutex::new(Fading::new(LINKS)) }
    }
}

impl SignIns {
    /// Signs `user` in and returns the cookie's secret, always a new one.
    pub fn sign_in(&self, now: Duration, user: Arc<str>, stamp: &str, mut place: Place) -> String {
        place.user_agent = place.user_agent.chars().filter(|c| !c.is_control()).take(AGENT_CHARS).collect();
        let (secret, over) = (secret::fresh(), watch::Sender::new(false));
        let sign_in =
            SignIn { user, stamp: stamp.into(), next: None, place, signed_in_at: now, last_used_at: now, over };
        lock(&self.cookies).insert(now, secret::digest(&secret), sign_in, COOKIE_LIFE);
        secret
    }

    /// Returns who holds this cookie, and lets it live on.
    pub fn find(&self, now: Duration, cookie: &Digest) -> Option<SignIn> {
        let mut cookies = lock(&self.cookies);
        let entry = cookies.get_mut(now, cookie)?;
        entry.until = (now + COOKIE_LIFE).min(entry.value.signed_in_at + LONGEST_LIFE);
        entry.value.last_used_at = now;
        Some(entry.value.clone())
    }

    /// Makes a cookie worthless.
    pub fn sign_out(&self, now: Duration, cookie: &Digest) {
        self.sign_out_where(now, |other, _| other == cookie);
    }

    /// Makes every cookie of `user` worthless that is chosen by its [`device_id`]; returns how many.
    pub fn sign_out_devices(&self, now: Duration, user: &str, chosen: impl Fn(&str) -> bool) -> usize {
        self.sign_out_where(now, |cookie, sign_in| *sign_in.user == *user && chosen(&device_id(cookie)))
    }

    /// Lets what is signed in by `cookie` hold on to a stamp that is about to come: its own change of the password.
    pub fn expect_stamp(&self, now: Duration, cookie: &Digest, stamp: &str) {
        if let Some(entry) = lock(&self.cookies).get_mut(now, cookie) {
            entry.value.next = Some(stamp.into());
        }
    }

    /// The stamp that was expected has come: the one before it is good for nothing any more.
    pub fn settle_stamp(&self, now: Duration, cookie: &Digest) {
        if let Some(entry) = lock(&self.cookies).get_mut(now, cookie) {
            entry.value.stamp = entry.value.next.take().unwrap_or_else(|| entry.value.stamp.clone());
        }
    }

    /// The browsers that `user` is signed in with, by their ids; the newest first.
    pub fn devices(&self, now: Duration, user: &str) -> Vec<(String, SignIn)> {
        let cookies = lock(&self.cookies);
        let of_user = cookies.iter(now).filter(|(_, sign_in)| *sign_in.user == *user);
        let mut devices: Vec<_> = of_user.map(|(cookie, sign_in)| (device_id(cookie), sign_in.clone())).collect();
        devices.sort_by_key(|(_, sign_in)| std::cmp::Reverse(sign_in.signed_in_at));
        devices
    }

    /// Makes a link secret that signs `user` in once within ten minutes.
    pub fn issue_link(&self, now: Duration, user: Arc<str>) -> String {
        let secret = secret::fresh();
        lock(&self.links).insert(now, secret::digest(&secret), user, LINK_LIFE);
        secret
    }

    /// Uses a link up and returns whom it signs in.
    pub fn redeem_link(&self, now: Duration, secret: &str) -> Option<Arc<str>> {
        lock(&self.links).take(now, &secret::digest(secret))
    }

    fn sign_out_where(&self, now: Duration, chosen: impl Fn(&Digest, &SignIn) -> bool) -> usize {
        let mut cookies = lock(&self.cookies);
        let ended: Vec<Digest> =
            cookies.iter(now).filter(|(key, value)| chosen(key, value)).map(|(key, _)| *key).collect();
        for cookie in &ended {
            if let Some(sign_in) = cookies.take(now, cookie) {
                sign_in.over.send_replace(true);
            }
        }
        ended.len()
    }
}

/// The public name of the browser that holds this cookie: it opens nothing.
pub fn device_id(cookie: &Digest) -> String {
    HEXLOWER.encode(cookie.get(..8).unwrap_or_default())
}

/// A panic elsewhere leaves these tables whole: every change of theirs is one call.
fn lock<T>(table: &Mutex<T>) -> MutexGuard<'_, T> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1);

    fn sign_in(sign_ins: &SignIns) -> Digest {
        secret::digest(&sign_ins.sign_in(START, "ada".into(), "", Place::default()))
    }

    fn user(sign_ins: &SignIns, now: Duration, cookie: &Digest) -> Option<Arc<str>> {
        sign_ins.find(now, cookie).map(|sign_in| sign_in.user)
    }

    #[test]
    fn a_cookie_lives_on_while_it_is_used() {
        let sign_ins = SignIns::default();
        let cookie = sign_in(&sign_ins);
        let used = START + COOKIE_LIFE / 2;
        assert_eq!(user(&sign_ins, used, &cookie).as_deref(), Some("ada"));
        assert!(user(&sign_ins, START + COOKIE_LIFE, &cookie).is_some());
        assert!(user(&sign_ins, START + COOKIE_LIFE * 2, &cookie).is_none());
    }

    #[test]
    fn no_cookie_lives_longer_than_a_week() {
        let sign_ins = SignIns::default();
        let cookie = sign_in(&sign_ins);
        let mut now = START;
        while now < START + LONGEST_LIFE {
            assert!(user(&sign_ins, now, &cookie).is_some());
            now += COOKIE_LIFE / 2;
        }
        assert!(user(&sign_ins, START + LONGEST_LIFE, &cookie).is_none());
    }

    #[tokio::test]
    async fn a_cookie_is_worthless_after_sign_out_and_whoever_uses_it_hears() {
        let sign_ins = SignIns::default();
        let (cookie, other) = (sign_in(&sign_ins), sign_in(&sign_ins));
        let held = sign_ins.find(START, &cookie).unwrap();
        sign_ins.sign_out(START, &cookie);
        assert!(user(&sign_ins, START, &cookie).is_none());
        held.signed_out().await;
        assert!(user(&sign_ins, START, &other).is_some());
    }

    #[test]
    fn devices_are_signed_out_by_id_and_only_ones_own() {
        let sign_ins = SignIns::default();
        let (one, other) = (sign_in(&sign_ins), sign_in(&sign_ins));
        let bobs = secret::digest(&sign_ins.sign_in(START, "bob".into(), "", Place::default()));
        assert_eq!(sign_ins.devices(START, "ada").len(), 2);
        assert_eq!(sign_ins.sign_out_devices(START, "ada", |id| id == device_id(&bobs)), 0);
        assert_eq!(sign_ins.sign_out_devices(START, "ada", |id| id != device_id(&one)), 1);
        let left = [one, other, bobs].map(|cookie| user(&sign_ins, START, &cookie).is_some());
        assert_eq!(left, [true, false, true]);
    }

    #[test]
    fn a_link_works_once_and_for_ten_minutes() {
        let sign_ins = SignIns::default();
        let link = sign_ins.issue_link(START, "ada".into());
        assert_eq!(sign_ins.redeem_link(START, &link).as_deref(), Some("ada"));
        assert!(sign_ins.redeem_link(START, &link).is_none());
        let link = sign_ins.issue_link(START, "ada".into());
        assert!(sign_ins.redeem_link(START + LINK_LIFE, &link).is_none());
    }

    #[test]
    fn no_two_secrets_are_alike() {
        let sign_ins = SignIns::default();
        assert_ne!(sign_in(&sign_ins), sign_in(&sign_ins));
    }
}
