//! Owns which cookies and one-time links are good now. Keeps their digests only, in memory: a restart signs all out.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    fading::Fading,
    secret::{self, Digest},
};

/// A working day; every use starts it anew.
const COOKIE_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// About 2 MiB. Beyond it, who was away longest signs in again.
const COOKIES: usize = 10_000;
/// Time to find the terminal that printed it.
const LINK_LIFE: Duration = Duration::from_secs(10 * 60);
const LINKS: usize = 100;

type Users = Mutex<Fading<Digest, Arc<str>>>;

/// Who is signed in by cookie, and who may sign in by link.
#[derive(Debug)]
pub struct SignIns {
    cookies: Users,
    links: Users,
}

impl Default for SignIns {
    fn default() -> Self {
        Self { cookies: Mutex::new(Fading::new(COOKIES)), links: Mutex::new(Fading::new(LINKS)) }
    }
}

impl SignIns {
    /// Signs `user` in and returns the cookie's secret, always a new one.
    pub fn sign_in(&self, now: Duration, user: Arc<str>) -> String {
        let secret = secret::fresh();
        lock(&self.cookies).insert(now, secret::digest(&secret), user, COOKIE_LIFE);
        secret
    }

    /// Returns who holds this cookie, and lets it live on.
    pub fn user(&self, now: Duration, cookie: &Digest) -> Option<Arc<str>> {
        let mut cookies = lock(&self.cookies);
        let entry = cookies.get_mut(now, cookie)?;
        entry.until = now + COOKIE_LIFE;
        Some(entry.value.clone())
    }

    /// Makes a cookie worthless.
    pub fn sign_out(&self, now: Duration, cookie: &Digest) {
        lock(&self.cookies).take(now, cookie);
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
}

/// A panic elsewhere leaves these tables whole: every change of theirs is one call.
fn lock(users: &Users) -> MutexGuard<'_, Fading<Digest, Arc<str>>> {
    users.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1);

    #[test]
    fn a_cookie_lives_on_while_it_is_used() {
        let sign_ins = SignIns::default();
        let cookie = secret::digest(&sign_ins.sign_in(START, "ada".into()));
        let used = START + COOKIE_LIFE / 2;
        assert_eq!(sign_ins.user(used, &cookie).as_deref(), Some("ada"));
        assert!(sign_ins.user(START + COOKIE_LIFE, &cookie).is_some());
        assert!(sign_ins.user(START + COOKIE_LIFE * 2, &cookie).is_none());
    }

    #[test]
    fn a_cookie_is_worthless_after_sign_out() {
        let sign_ins = SignIns::default();
        let cookie = secret::digest(&sign_ins.sign_in(START, "ada".into()));
        sign_ins.sign_out(START, &cookie);
        assert!(sign_ins.user(START, &cookie).is_none());
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
        assert_ne!(sign_ins.sign_in(START, "ada".into()), sign_ins.sign_in(START, "ada".into()));
    }
}
