//! Creates and compares secrets. Keeps none: tables hold digests, so that their contents grant no access.

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};

pub use crate::actor::sign_ins::Digest;

/// Returns a secret of 256 random bits, in characters that a URL or a cookie takes unescaped.
pub fn fresh() -> String {
    BASE64URL_NOPAD.encode(&rand::random::<[u8; 32]>())
}

/// Whether a text could be a secret that [`fresh`] made.
pub fn is_one(text: &str) -> bool {
    BASE64URL_NOPAD.decode(text.as_bytes()).is_ok_and(|bytes| bytes.len() == 32)
}

/// Returns the digest of a secret: for tables, and for comparison.
pub fn digest(secret: &str) -> Digest {
    Sha256::digest(secret).into()
}
