//! Time-based one-time codes (RFC 6238), as authenticator apps show them, and recovery codes for a lost phone. Pure:
//! `now` and randomness are arguments; knows no user, no store and no seal.

use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha1::Sha1;
use subtle::ConstantTimeEq;

use super::{people::token_digest, record::UtcMicros};

/// The time a code is shown, in microseconds: 30 s, the one value that every app supports (RFC 6238 §4.1).
const STEP: i64 = 30_000_000;

/// Steps that a phone's clock may be off in either direction (RFC 6238 §5.2 recommends one).
const SKEW: u64 = 1;

/// The digits of a code.
const DIGITS: usize = 6;

/// Random bytes in a secret: as many as its HMAC has (RFC 4226 §4, R6).
pub const SECRET_BYTES: usize = 20;

/// Random bytes in a recovery code: 16 letters, and no hash slower than SHA-256 is needed to store it.
pub const RECOVERY_BYTES: usize = 10;

/// The number of recovery codes that a user gets.
pub const RECOVERY_CODES: usize = 10;

/// Letters in a group of a recovery code.
const GROUP: usize = 4;

/// Returns a secret made of random bytes, spelled as apps take it: base 32.
pub fn secret(chance: [u8; SECRET_BYTES]) -> SecretString {
    BASE32_NOPAD.encode(&chance).into()
}

/// Returns the context that the sealed secret of a user's codes is bound to.
pub fn place(name: &str) -> String {
    format!("totp/{name}")
}

/// Returns the content of the QR code that an app reads: the secret, and the name to show it under. `name` is a user's
/// name, whose letters need no escaping.
pub fn uri(secret: &SecretString, name: &str) -> SecretString {
    let secret = secret.expose_secret();
    format!("otpauth://totp/Pulsegate:{name}?secret={secret}&issuer=Pulsegate&algorithm=SHA1&digits=6&period=30").into()
}

/// A code as typed by a user.
#[derive(Clone, PartialEq, Eq)]
pub enum Typed {
    /// Six digits of an app.
    Digits(String),
    /// The digest of a recovery code.
    Recovery(String),
}

impl Typed {
    /// Parses a code with any blanks and hyphens; `None` if it is neither.
    pub fn read(text: &SecretString) -> Option<Self> {
        let text = text.expose_secret();
        let letters = text.chars().filter(|letter| !letter.is_whitespace() && *letter != '-');
        // One more than the longest code, so that a long text is not read to its end.
        let plain: String =
            letters.take(RECOVERY_BYTES * 8 / 5 + 1).map(|letter| letter.to_ascii_uppercase()).collect();
        if plain.len() == DIGITS && plain.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(Self::Digits(plain));
        }
        let is_recovery = BASE32_NOPAD.decode(plain.as_bytes()).is_ok_and(|bytes| bytes.len() == RECOVERY_BYTES);
        is_recovery.then(|| Self::Recovery(token_digest(&plain)))
    }
}

/// Returns the step of `digits` under `secret`, if that is the current one or a neighbour, and later than `used`: a
/// step is accepted once, and no earlier one after it, however the wall clock is set.
pub fn step(secret: &SecretString, digits: &str, now: UtcMicros, used: u64) -> Option<u64> {
    let key = BASE32_NOPAD.decode(secret.expose_secret().as_bytes()).ok()?;
    let present = u64::try_from(now.0.div_euclid(STEP)).ok()?;
    let near = present.saturating_sub(SKEW)..=present.saturating_add(SKEW);
    // Compares all of them, whichever matches, so that the time taken reveals nothing.
    let fitting = near.filter(|step| {
        let shown = code(&key, *step);
        bool::from(shown.as_bytes().ct_eq(digits.as_bytes()))
    });
    fitting.filter(|step| *step > used).max()
}

/// Returns the code that an app shows at a moment; empty if the secret is invalid. For programs that sign in.
pub fn shown(secret: &SecretString, at: UtcMicros) -> String {
    let key = BASE32_NOPAD.decode(secret.expose_secret().as_bytes());
    let step = u64::try_from(at.0.div_euclid(STEP));
    if let (Ok(key), Ok(step)) = (key, step) { code(&key, step) } else { String::new() }
}

/// Returns the code of one step (RFC 4226 §5.3).
fn code(key: &[u8], step: u64) -> String {
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(key) else { return String::new() };
    mac.update(&step.to_be_bytes());
    let hash = mac.finalize().into_bytes();
    let offset = usize::from(hash.last().copied().unwrap_or_default() & 0xf);
    let word = hash.iter().skip(offset).take(4).fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
    format!("{:0DIGITS$}", (word & 0x7fff_ffff) % 1_000_000)
}

/// Returns a recovery code made of random bytes: as it is shown, `abcd-efgh-ijkl-mnop`, and its digest, which is
/// stored.
pub fn recovery_code(chance: [u8; RECOVERY_BYTES]) -> (SecretString, String) {
    let plain = BASE32_NOPAD.encode(&chance);
    let mut shown = String::new();
    for (place, letter) in plain.to_ascii_lowercase().chars().enumerate() {
        if place > 0 && place % GROUP == 0 {
            shown.push('-');
        }
        shown.push(letter);
    }
    (shown.into(), token_digest(&plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "12345678901234567890", the secret of RFC 6238, appendix B.
    fn known() -> SecretString {
        secret(*b"12345678901234567890")
    }

    fn at(seconds: i64) -> UtcMicros {
        UtcMicros(seconds * 1_000_000)
    }

    #[test]
    fn the_codes_are_those_of_the_rfc() {
        for (seconds, digits) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let found = step(&known(), digits, at(seconds), 0);
            assert_eq!(found, u64::try_from(seconds / 30).ok(), "{seconds}");
        }
    }

    #[test]
    fn a_phone_may_be_half_a_minute_off_and_no_more() {
        let code = "081804";
        let shown = 1_111_111_109 / 30 * 30;
        for (seconds, fits) in [(shown - 31, false), (shown - 30, true), (shown + 59, true), (shown + 60, false)] {
            assert_eq!(step(&known(), code, at(seconds), 0).is_some(), fits, "{seconds}");
        }
        assert_eq!(step(&known(), code, at(-1), 0), None);
        for wrong in ["081805", "", "08180", "0818040", "81804"] {
            assert_eq!(step(&known(), wrong, at(shown), 0), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_step_serves_once_and_none_before_it_ever_again() {
        let now = at(1_111_111_109);
        let used = step(&known(), "081804", now, 0).unwrap();
        assert_eq!(step(&known(), "081804", now, used), None);
        let next = step(&known(), "050471", now, used);
        assert_eq!(next, Some(used + 1));
        assert_eq!(step(&known(), "081804", now, used + 1), None, "nor once a later one was used");
    }

    #[test]
    fn a_code_is_read_however_it_is_spaced() {
        let read = |text: &str| Typed::read(&text.into());
        assert!(read("287 082") == Some(Typed::Digits("287082".to_owned())));
        let (shown, digest) = recovery_code([7; RECOVERY_BYTES]);
        assert_eq!(shown.expose_secret(), "a4dq-obyh-a4dq-obyh");
        let digest = Some(Typed::Recovery(digest));
        assert!(Typed::read(&shown) == digest && read(" A4DQobyh a4dqOBYH ") == digest);
        for wrong in
            ["", "28708", "2870822", "a4dqobyha4dqoby", "a4dqobyha4dqobyha", "a4dqobyha4dqoby1", "２８７０８２"]
        {
            assert!(read(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn an_app_is_told_all_it_needs() {
        let uri = uri(&known(), "ada@example.com");
        let expected = "otpauth://totp/Pulsegate:ada@example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\
            &issuer=Pulsegate&algorithm=SHA1&digits=6&period=30";
        assert_eq!(uri.expose_secret(), expected);
    }
}
