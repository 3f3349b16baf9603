//! Changes of known_hosts, on real files.

use std::{os::unix::fs::PermissionsExt, thread};

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};
use sha1::Sha1;

use super::*;
use crate::core::record::UtcMicros;

fn key() -> PublicKey {
    PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap().public_key().clone()
}

fn ada() -> Trusted {
    Trusted { by: "ada".to_owned(), at: UtcMicros(1_795_876_200_000_000) }
}

fn text(key: &PublicKey) -> String {
    key.to_openssh().unwrap()
}

/// Returns a file with this content, in a folder of its own.
fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("known_hosts");
    fs::write(&path, content).unwrap();
    (dir, path)
}

fn id_in(path: &Path, number: usize) -> String {
    KnownHosts::parse(&fs::read(path).unwrap()).lines()[number].id().to_owned()
}

#[test]
fn of_two_first_dials_the_second_sees_what_the_first_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/known_hosts");
    let (first, second) = (key(), key());
    let keep = |key: &PublicKey| remember(&path, "web-1", key, &ada()).unwrap();
    assert_eq!(keep(&first), Verdict::Known);
    assert_eq!(keep(&first), Verdict::Known);
    let changed = Verdict::Changed { known: fingerprint(&first), line: 1, trusted: Some(ada()) };
    assert_eq!(keep(&second), changed);
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&path, "# no line end").unwrap();
    assert_eq!(keep(&second), Verdict::Known);
    assert_eq!(KnownHosts::parse(&fs::read(&path).unwrap()).judge("web-1", &second), Verdict::Known);
}

#[test]
fn a_new_key_takes_the_place_of_the_old_ones_and_every_other_line_stays_byte_for_byte() {
    let p256 = PrivateKey::random(&mut rand::rng(), Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }).unwrap();
    let (old, other, new) = (key(), p256.public_key().clone(), key());
    let before = "# ours\r\n\n  what is this \u{fffd}\n@cert-authority web-1 nonsense\n";
    let (_dir, path) = file("");
    let mut bytes = before.as_bytes().to_vec();
    bytes.extend_from_slice(b"# \xff\xfe\n");
    let tail = format!("web-2 {} a comment\n@revoked * {}", text(&old), text(&key()));
    let own = format!("web-1 {}\nWEB-1,10.0.0.5  {} root@web-1\n", text(&old), text(&other));
    let content = [&bytes[..], own.as_bytes(), tail.as_bytes()].concat();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();

    let replaced = replace(&path, "web-1", &new, &ada()).unwrap();
    assert_eq!(replaced, [fingerprint(&old), fingerprint(&other)]);
    let line = format!("web-1 {} trusted by ada 2026-11-28T14:30:00.000000Z\n", text(&new));
    let rest = format!("10.0.0.5  {} root@web-1\n", text(&other));
    let expected = [&bytes[..], line.as_bytes(), rest.as_bytes(), tail.as_bytes()].concat();
    assert_eq!(String::from_utf8_lossy(&fs::read(&path).unwrap()), String::from_utf8_lossy(&expected));
    assert_eq!(fs::read(&path).unwrap(), expected);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    let known = KnownHosts::parse(&expected);
    assert_eq!(known.judge("web-1", &new), Verdict::Known);
    assert!(matches!(known.judge("web-1", &old), Verdict::Changed { .. }), "the old one is trusted no longer");
    assert_eq!(known.judge("10.0.0.5", &other), Verdict::Known);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn a_host_without_a_line_gets_one_at_the_end_and_one_that_is_there_stays() {
    let (new, other) = (key(), key());
    let (_dir, path) = file(&format!("web-2 {}", text(&other)));
    assert!(replace(&path, "web-1", &new, &ada()).unwrap().is_empty());
    let after = fs::read_to_string(&path).unwrap();
    assert_eq!(after.lines().count(), 2);
    assert!(replace(&path, "web-1", &new, &ada()).unwrap().is_empty());
    assert_eq!(fs::read_to_string(&path).unwrap(), after);
    for nowhere in [path.with_file_name("deep").join("known_hosts"), path.with_file_name("another")] {
        assert!(replace(&nowhere, "web-1", &new, &ada()).unwrap().is_empty());
        assert_eq!(fs::read_to_string(&nowhere).unwrap().lines().count(), 1);
    }
}

#[test]
fn a_hashed_name_stays_hashed() {
    let salt = [7; 20];
    let mac = Hmac::<Sha1>::new_from_slice(&salt).unwrap().chain_update("web-1").finalize().into_bytes();
    let hashed = format!("|1|{}|{}", BASE64.encode(&salt), BASE64.encode(&mac));
    let (old, new) = (key(), key());
    let (_dir, path) = file(&format!("{hashed} {}\n", text(&old)));
    assert_eq!(replace(&path, "web-1", &new, &ada()).unwrap(), [fingerprint(&old)]);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(&format!("{hashed} ssh-ed25519 ")) && text.contains("trusted by ada"), "{text}");
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn what_a_pattern_covers_and_what_is_revoked_is_not_replaced() {
    let (old, new) = (key(), key());
    for hosts in ["*.example", "a.example,!b.example", "?.example"] {
        let content = format!("# ours\n{hosts} {}\n", text(&old));
        let (_dir, path) = file(&content);
        assert_eq!(replace(&path, "a.example", &new, &ada()), Err(ReviewError::Pattern { line: 2 }), "{hosts}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    let content = format!("web-1 {}\n@revoked * {}\n", text(&old), text(&new));
    let (_dir, path) = file(&content);
    assert_eq!(replace(&path, "web-1", &new, &ada()), Err(ReviewError::Revoked));
    assert_eq!(fs::read_to_string(&path).unwrap(), content);
}

#[test]
fn a_line_is_forgotten_by_what_it_says_and_a_marked_one_is_not() {
    let (one, two) = (text(&key()), text(&key()));
    let (_dir, path) = file(&format!("web-1 {one}\nweb-2 {two}\n# note\nweb-1 {one}\n@revoked * {one}\n"));
    let (first, marked) = (id_in(&path, 0), id_in(&path, 3));
    assert_eq!(forget(&path, "0123").map(|line| line.number), Err(ReviewError::NotThere));
    assert_eq!(forget(&path, &marked).map(|line| line.number), Err(ReviewError::Marked { line: 5 }));
    assert_eq!(forget(&path, &first).map(|line| line.spelled), Ok("web-1".to_owned()));
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("web-2 {two}\n# note\n@revoked * {one}\n"));
    assert_eq!(forget(&path, &first).map(|line| line.number), Err(ReviewError::NotThere));
}

#[test]
fn of_many_changes_at_once_none_is_lost() {
    let (_dir, path) = file("");
    let keys: Vec<_> = (0..16).map(|_| key()).collect();
    thread::scope(|scope| {
        for (number, key) in keys.iter().enumerate() {
            let (path, name) = (&path, format!("web-{number}"));
            scope.spawn(move || match number % 2 {
                0 => replace(path, &name, key, &ada()).map(drop).unwrap(),
                _ => drop(remember(path, &name, key, &ada()).unwrap()),
            });
        }
    });
    let known = KnownHosts::parse(&fs::read(&path).unwrap());
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(known.judge(&format!("web-{number}"), key), Verdict::Known, "web-{number}");
    }
}

#[test]
fn a_link_to_the_file_stays_a_link() {
    let (dir, path) = file(&format!("web-1 {}\n", text(&key())));
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    replace(&link, "web-1", &key(), &ada()).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&path).unwrap().contains("trusted by ada"));
}
