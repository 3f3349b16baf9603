//! Pending sign-ins with the provider. No gateway stores one: its data is derived from the secret in its browser's
//! cookie and from its state, which the provider returns, so any gateway that the browser comes back to derives the
//! same. Only that browser can: the state bears a mark of the cookie's secret, and so do the verifier that the provider
//! asks for (PKCE, RFC 7636) and the nonce that the token must hold.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::SIGN_IN_LIFETIME;
use crate::{
    actor::sign_ins::Now,
    core::{
        expiring_map::ExpiringMap,
        oidc::provider::Flow,
        record::{UtcMicros, micros},
    },
    web::{
        secret::{self, Digest},
        throttle::Throttle,
    },
};

/// Finished sign-ins remembered for ten minutes; beyond that, one may come back twice, and finds its code spent at the
/// provider.
const MAX_SPENT: usize = 10_000;

/// Sign-ins that one address may begin within a minute, and finish: an office behind one address, on a Monday morning.
const OF_ONE: u32 = 60;

/// Gateways whose clocks differ by more cannot finish each other's sign-ins.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(60);

/// The layout of a state in bytes: its time, random bytes, and its mark.
const MADE: usize = 8;
const MARK: usize = 16;
const STATE: usize = 32;

/// Counters of begun and finished sign-ins, and the spent states.
#[derive(Debug)]
pub struct UnderWay {
    spent: Mutex<ExpiringMap<Digest, ()>>,
    pub(super) begun: Throttle<IpAddr>,
    pub(super) returned: Throttle<IpAddr>,
}

impl Default for UnderWay {
    fn default() -> Self {
        let (begun, returned) = (Throttle::new(OF_ONE), Throttle::new(OF_ONE));
        Self { spent: Mutex::new(ExpiringMap::new(MAX_SPENT)), begun, returned }
    }
}

impl UnderWay {
    /// Takes the sign-in of this `state`: each is valid once, whatever its outcome, only in the browser that began it,
    /// for ten minutes.
    pub(super) fn take(&self, now: Now, state: &str, browser: Option<&str>, redirect: String) -> Option<Flow> {
        let (bytes, browser) = (BASE64URL_NOPAD.decode(state.as_bytes()).ok()?, browser?);
        let (said, mark) = bytes.split_at_checked(STATE - MARK)?;
        let is_its = bool::from(marked(browser, "state", said)?.get(..MARK)?.ct_eq(mark));
        let made = i64::from_be_bytes(said.get(..MADE)?.try_into().ok()?);
        let age = now.utc.0.saturating_sub(made);
        if !is_its || age >= micros(SIGN_IN_LIFETIME) || age < -micros(MAX_CLOCK_DIFFERENCE) {
            return None;
        }
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let state = secret::digest(state);
        if spent.get_mut(now.at, &state).is_some() {
            return None;
        }
        spent.insert(now.at, state, (), SIGN_IN_LIFETIME + MAX_CLOCK_DIFFERENCE);
        flow(browser, &bytes, redirect)
    }
}

/// Returns the state of a sign-in that begins now in this browser, and the data derived from it.
pub(super) fn begin(
    now: UtcMicros,
    chance: [u8; STATE - MARK - MADE],
    browser: &str,
    redirect: String,
) -> Option<(String, Flow)> {
    let mut state = [now.0.to_be_bytes(), chance].concat();
    let mark = marked(browser, "state", &state)?;
    state.extend(mark.get(..MARK)?);
    Some((BASE64URL_NOPAD.encode(&state), flow(browser, &state, redirect)?))
}

fn flow(browser: &str, state: &[u8], redirect: String) -> Option<Flow> {
    let of = |what| marked(browser, what, state).map(|mark| BASE64URL_NOPAD.encode(&mark));
    Some(Flow { nonce: of("nonce")?, verifier: of("verifier")?.into(), redirect })
}

fn marked(browser: &str, what: &str, said: &[u8]) -> Option<Digest> {
    let mac = Hmac::<Sha256>::new_from_slice(browser.as_bytes()).ok()?;
    Some(mac.chain_update(what).chain_update([0_u8]).chain_update(said).finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::web::fixture::START;

    const BROWSER: &str = "a-cookie's-secret";

    fn later(span: Duration) -> Now {
        Now { at: Duration::from_secs(60) + span, utc: UtcMicros(START.0 + micros(span)) }
    }

    fn begins(chance: u8) -> (String, Flow) {
        begin(START, [chance; 8], BROWSER, "https://gw.example/oidc".to_owned()).unwrap()
    }

    fn take(gateway: &UnderWay, now: Now, state: &str, browser: Option<&str>) -> Option<Flow> {
        gateway.take(now, state, browser, "https://gw.example/oidc".to_owned())
    }

    #[test]
    fn a_sign_in_serves_its_own_browser_once_and_for_ten_minutes_on_whatever_gateway() {
        let (here, there) = (UnderWay::default(), UnderWay::default());
        let (state, begun) = begins(1);
        let found = take(&there, later(SIGN_IN_LIFETIME / 2), &state, Some(BROWSER)).unwrap();
        assert_eq!((&found.nonce, found.redirect.as_str()), (&begun.nonce, "https://gw.example/oidc"));
        assert_eq!(found.verifier.expose_secret(), begun.verifier.expose_secret());
        assert!(take(&there, later(SIGN_IN_LIFETIME / 2), &state, Some(BROWSER)).is_none());
        assert!(take(&here, later(SIGN_IN_LIFETIME), &state, Some(BROWSER)).is_none());
        let early = Now { utc: UtcMicros(START.0 - micros(MAX_CLOCK_DIFFERENCE * 2)), ..later(Duration::ZERO) };
        assert!(take(&here, early, &state, Some(BROWSER)).is_none(), "made in what is to come");
        for stranger in [Some("another"), Some(""), None] {
            assert!(take(&here, later(Duration::ZERO), &state, stranger).is_none(), "{stranger:?}");
        }
        for made_up in ["", "state", &state[1..], &"A".repeat(43), &"A".repeat(44), &format!("{state}AAAA")] {
            assert!(take(&here, later(Duration::ZERO), made_up, Some(BROWSER)).is_none(), "{made_up:?}");
        }
        assert!(take(&here, later(Duration::ZERO), &state, Some(BROWSER)).is_some(), "no stranger has used it up");
    }

    #[test]
    fn nothing_of_a_sign_in_tells_of_another_or_of_the_cookie() {
        let ((one, its), (other, others)) = (begins(1), begins(2));
        assert_ne!(one, other);
        assert_ne!(its.nonce, others.nonce);
        assert_ne!(its.nonce, its.verifier.expose_secret());
        let elsewhere = begin(START, [1; 8], "another", String::new()).unwrap();
        assert!(elsewhere.0 != one && elsewhere.1.nonce != its.nonce);
        assert_eq!((one.len(), its.nonce.len(), its.verifier.expose_secret().len()), (43, 43, 43));
    }
}
