//! Owns how secrets are made and compared. Keeps none: tables hold digests, so that their contents open nothing.

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};

pub use crate::actor::sign_ins::Digest;

/// Makes a secret of 256 random bits, spelled so that a URL or a cookie takes it as it is.
pub fn fresh() -> String {
    BASE64URL_NOPAD.encode(&rand::random::<[u8; 32]>())
}

/// Whether a text could be a secret that [`fresh`] made.
pub fn is_one(text: &str) -> bool {
    BASE64URL_NOPAD.decode(text.as_bytes()).is_ok_and(|bytes| bytes.len() == 32)
}

/// Returns the digest of a secret: what tables keep, and what is compared.
pub fn digest(secret: &str) -> Digest {
    Sha256::digest(secret).into()
}
