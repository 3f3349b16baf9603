//! Encryption of secrets that must be read again, such as a target's password: sealed with AES-256-GCM (NIST SP
//! 800-38D) before a store sees them. Each seal is bound to its place, so that a sealed text that is moved does not
//! open. Pure; randomness is an argument.

use std::{fmt, str::FromStr};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use sha2::{Digest as _, Sha256};

/// The prefix of a sealed text; another number if another cipher is ever used.
const FORM: &str = "s1";

/// The longest secret that is sealed, in bytes: a private key of 16,384 bits has 13 KiB.
pub const MAX_SECRET_BYTES: usize = 32 * 1_024;

/// Most keys held together: the one that seals, and earlier ones.
const MAX_KEYS: usize = 16;

/// The random bytes that a seal takes. They may repeat after 2^32 seals with one key; people make a few thousand.
pub type NonceBytes = [u8; NONCE_LEN];

/// A key: 256 random bits, spelled as 64 hexadecimal digits.
pub struct SealKey(SecretBox<[u8; 32]>);

/// The error of a text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a seal key is 64 hexadecimal digits, as `openssl rand -hex 32` prints them, one key on each line, 1 to {MAX_KEYS} of them"
)]
pub struct NotAKey;

/// The reason why a sealed text does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// It was never sealed, or is damaged.
    #[error("what is kept is no sealed text")]
    NotSealed,
    /// The key it was sealed with is not here.
    #[error(
        "it was sealed with the key {id}, which this gateway does not have: give it the seal keys of the gateway that sealed it"
    )]
    OtherKey {
        /// The key's id.
        id: String,
    },
    /// It was altered, or belongs to another place.
    #[error("what is kept was altered, or put where it does not belong")]
    Altered,
}

/// The keys of one gateway: the first one seals, all of them open.
pub struct Seals {
    first: SealKey,
    older: Vec<SealKey>,
}

impl SealKey {
    /// Makes a key of 32 random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        Self(SecretBox::new(Box::new(random)))
    }

    /// Returns its public id: the first 8 hexadecimal digits of its SHA-256, which reveal nothing of 256 random bits.
    pub fn id(&self) -> String {
        HEXLOWER.encode(Sha256::digest(self.0.expose_secret()).get(..4).unwrap_or_default())
    }

    /// Returns its spelling in hexadecimal digits.
    pub fn spelled(&self) -> SecretString {
        HEXLOWER.encode(self.0.expose_secret()).into()
    }

    /// Returns the cipher with this key; never `None`, since every key has the cipher's length.
    pub fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, self.0.expose_secret()).ok().map(LessSafeKey::new)
    }
}

impl FromStr for SealKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| NotAKey)?;
        bytes.try_into().map(Self::new).map_err(|_| NotAKey)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", self.id())
    }
}

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys()).finish()
    }
}

impl Seals {
    /// Returns the keys: `first` seals, and `older` ones open as well.
    pub fn new(first: SealKey, older: Vec<SealKey>) -> Self {
        Self { first, older }
    }

    /// Parses keys between blanks or line ends; the first one seals. A line that begins with `#` is a comment.
    ///
    /// # Errors
    /// [`NotAKey`] if a key is invalid, or there are none or too many.
    pub fn parse(text: &SecretString) -> Result<Self, NotAKey> {
        let lines = text.expose_secret().lines().filter(|line| !line.trim_start().starts_with('#'));
        let mut keys = lines.flat_map(str::split_whitespace).map(str::parse).collect::<Result<Vec<SealKey>, _>>()?;
        if !(1..=MAX_KEYS).contains(&keys.len()) {
            return Err(NotAKey);
        }
        let older = keys.split_off(1);
        keys.pop().map(|first| Self { first, older }).ok_or(NotAKey)
    }

    /// Returns the keys, the one that seals first.
    pub fn keys(&self) -> impl Iterator<Item = &SealKey> {
        std::iter::once(&self.first).chain(&self.older)
    }

    /// Seals a secret for `place`, such as `target/web-1/auth`; to open it, the same place must be given. `None` if it
    /// is longer than [`MAX_SECRET_BYTES`].
    pub fn seal(&self, nonce_bytes: NonceBytes, place: &str, secret: &SecretString) -> Option<String> {
        let mut text = secret.expose_secret().as_bytes().to_vec();
        if text.len() > MAX_SECRET_BYTES {
            return None;
        }
        let nonce = Nonce::assume_unique_for_key(nonce_bytes);
        self.first.cipher()?.seal_in_place_append_tag(nonce, Aad::from(place.as_bytes()), &mut text).ok()?;
        let body = [nonce_bytes.as_slice(), &text].concat();
        Some(format!("{FORM}.{}.{}", self.first.id(), BASE64URL_NOPAD.encode(&body)))
    }

    /// Opens a text that was sealed for `place`.
    ///
    /// # Errors
    /// [`Unopened`], with the reason.
    pub fn open(&self, place: &str, sealed: &str) -> Result<SecretString, Unopened> {
        let (id, body) = parts(sealed).ok_or(Unopened::NotSealed)?;
        let body = BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| Unopened::NotSealed)?;
        let (nonce_bytes, text) = body.split_first_chunk::<NONCE_LEN>().ok_or(Unopened::NotSealed)?;
        let mut keys = self.keys().filter(|key| key.id() == id).peekable();
        if keys.peek().is_none() {
            return Err(Unopened::OtherKey { id: id.to_owned() });
        }
        keys.find_map(|key| {
            let nonce = Nonce::assume_unique_for_key(*nonce_bytes);
            let mut text = text.to_vec();
            let plain = key.cipher()?.open_in_place(nonce, Aad::from(place.as_bytes()), &mut text).ok()?;
            std::str::from_utf8(plain).ok().map(SecretString::from)
        })
        .ok_or(Unopened::Altered)
    }

    /// Whether a text was sealed with the key that seals now, so that a rotation need not seal it again.
    pub fn is_current(&self, sealed: &str) -> bool {
        parts(sealed).is_some_and(|(id, _)| id == self.first.id())
    }
}

fn parts(sealed: &str) -> Option<(&str, &str)> {
    let (id, body) = sealed.strip_prefix(FORM)?.strip_prefix('.')?.split_once('.')?;
    let plain = id.len() == 8 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    plain.then_some((id, body))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seals(keys: &[u8]) -> Seals {
        let mut keys: Vec<_> = keys.iter().map(|byte| SealKey::new([*byte; 32])).collect();
        let older = keys.split_off(1);
        Seals::new(keys.pop().unwrap(), older)
    }

    fn opened(seals: &Seals, place: &str, sealed: &str) -> Result<String, Unopened> {
        seals.open(place, sealed).map(|secret| secret.expose_secret().to_owned())
    }

    #[test]
    fn a_secret_opens_where_it_was_sealed_and_nowhere_else() {
        let sealed = seals(&[1]).seal([7; 12], "target/web-1", &"00123e5".into()).unwrap();
        assert!(!sealed.contains("00123e5"));
        assert_eq!(opened(&seals(&[1]), "target/web-1", &sealed).unwrap(), "00123e5");
        assert_eq!(opened(&seals(&[1]), "target/web-2", &sealed), Err(Unopened::Altered));
    }

    #[test]
    fn an_older_key_still_opens_and_an_unknown_one_is_named() {
        let old = seals(&[1]).seal([7; 12], "p", &"s".into()).unwrap();
        let both = seals(&[2, 1]);
        assert_eq!(opened(&both, "p", &old).unwrap(), "s");
        assert!(!both.is_current(&old));
        let new = both.seal([8; 12], "p", &"s".into()).unwrap();
        assert!(both.is_current(&new));
        let id = SealKey::new([2; 32]).id();
        assert_eq!(opened(&seals(&[1]), "p", &new), Err(Unopened::OtherKey { id }));
    }

    #[test]
    fn keys_are_read_line_by_line_and_shown_by_their_ids_only() {
        let (one, two) = ("1".repeat(64), "aB".repeat(32));
        let seals = Seals::parse(&format!("# made 2026\n{one}\n{two}\n").into()).unwrap();
        assert_eq!(
            seals.keys().map(|key| key.spelled().expose_secret().to_owned()).collect::<Vec<_>>(),
            [one.clone(), two.to_lowercase()]
        );
        assert!(!format!("{seals:?}").contains("1111"));
        for wrong in
            ["", "#", &one[1..], &format!("{one}0"), &one.replacen('1', "g", 1), &format!("{one}\n").repeat(17)]
        {
            assert_eq!(Seals::parse(&wrong.to_owned().into()).err(), Some(NotAKey), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_too_long_is_not_sealed() {
        let long = |bytes| SecretString::from("x".repeat(bytes));
        assert!(seals(&[1]).seal([0; 12], "p", &long(MAX_SECRET_BYTES)).is_some());
        assert!(seals(&[1]).seal([0; 12], "p", &long(MAX_SECRET_BYTES + 1)).is_none());
    }

    proptest! {
        #[test]
        fn no_altered_text_opens(secret in ".{0,40}", at in any::<prop::sample::Index>(), flip in 1u8..=255) {
            let sealed = seals(&[1]).seal([7; 12], "p", &secret.as_str().into()).unwrap();
            prop_assert_eq!(opened(&seals(&[1]), "p", &sealed).unwrap(), secret);
            let (head, body) = sealed.split_at(FORM.len() + 10);
            let mut bytes = BASE64URL_NOPAD.decode(body.as_bytes()).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let altered = format!("{head}{}", BASE64URL_NOPAD.encode(&bytes));
            prop_assert_eq!(opened(&seals(&[1]), "p", &altered), Err(Unopened::Altered));
        }
    }

    mod fuzz {
        use super::*;

        proptest! {
            #[test]
            fn any_text_opens_or_is_refused(text in ".{0,80}", tail in "[0-9a-f]{8}\\.[A-Za-z0-9_-]{0,80}") {
                let seals = seals(&[1]);
                prop_assert!(seals.open("p", &text).is_err());
                let sealed = format!("s1.{tail}");
                prop_assert!(seals.open("p", &sealed).is_err());
                if let Ok(read) = Seals::parse(&text.as_str().into()) {
                    prop_assert!(read.keys().count() <= MAX_KEYS);
                }
            }
        }
    }
}
