//! Passwords of users: their length, and their hashes. Stores none; randomness is an argument.

use std::sync::LazyLock;

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use secrecy::{ExposeSecret, SecretString};

/// The shortest password, in characters: NIST SP 800-63B requires at least 8, and 15 where the password is the only
/// factor; a few words have more.
pub const MIN_CHARS: usize = 12;

/// The longest password, in characters.
pub const MAX_CHARS: usize = 1_024;

/// Memory in KiB, passes and lanes of Argon2id: the first choice of the OWASP Password Storage Cheat Sheet.
const COST: (u32, u32, u32) = (19 * 1_024, 2, 1);

/// The hash that a password is compared with where there is no user, so that the time taken does not reveal which users
/// exist.
static NOBODY: LazyLock<String> = LazyLock::new(|| hash(&SecretString::from("nobody"), [0; 16]).unwrap_or_default());

/// The error of a password of an unfit length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a password has {MIN_CHARS} to {MAX_CHARS} characters; a few words will do")]
pub struct UnfitPassword;

/// Checks that this may be a user's password.
///
/// # Errors
/// [`UnfitPassword`] if it is too short or too long.
pub fn check(password: &SecretString) -> Result<(), UnfitPassword> {
    let fits = (MIN_CHARS..=MAX_CHARS).contains(&password.expose_secret().chars().count());
    if fits { Ok(()) } else { Err(UnfitPassword) }
}

/// Returns the hash to store, in PHC form (`$argon2id$…`); takes about 50 ms of one core and 19 MiB. `salt` must be
/// random. `None` only if memory is short.
pub fn hash(password: &SecretString, salt: [u8; 16]) -> Option<String> {
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, None).ok()?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash: PasswordHash = argon2.hash_password_with_salt(password.expose_secret().as_bytes(), &salt).ok()?;
    Some(hash.to_string())
}

/// Whether `offered` is the password of this hash; without a hash it takes as long, and returns `false`.
pub fn verify(offered: &SecretString, hash: Option<&str>) -> bool {
    let Ok(known) = PasswordHash::new(hash.unwrap_or(&NOBODY)) else { return false };
    let fits = Argon2::default().verify_password(offered.expose_secret().as_bytes(), &known).is_ok();
    fits && hash.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_is_the_password() {
        let password = SecretString::from("correct horse battery");
        let kept = hash(&password, [7; 16]).unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert!(verify(&password, Some(&kept)));
        for wrong in ["", "correct horse batter", "Correct horse battery", "correct horse battery "] {
            assert!(!verify(&SecretString::from(wrong), Some(&kept)), "{wrong:?}");
        }
    }

    #[test]
    fn nobody_has_no_password() {
        assert!(!verify(&SecretString::from("nobody"), None));
        assert!(!verify(&SecretString::from("nobody"), Some("")));
        assert!(!verify(&SecretString::from("nobody"), Some("$plain$nobody")));
    }

    #[test]
    fn a_password_has_twelve_characters() {
        assert_eq!(check(&SecretString::from("elevenchars")), Err(UnfitPassword));
        assert_eq!(check(&SecretString::from("zwölfzeichen")), Ok(()));
        assert_eq!(check(&SecretString::from("x".repeat(1_025))), Err(UnfitPassword));
    }
}
