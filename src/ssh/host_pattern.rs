//! Matches hosts against a line of known_hosts: patterns and hashed names, as OpenSSH reads them. Knows no key.

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::known_hosts::HostPatterns;
use sha1::Sha1;

/// Whether `hosts` match the host called `name`, in the spelling of known_hosts.
pub(super) fn is_match(hosts: &HostPatterns, name: &str) -> bool {
    match hosts {
        HostPatterns::HashedName { salt, hash } => Hmac::<Sha1>::new_from_slice(salt)
            .is_ok_and(|mac| mac.chain_update(name.as_bytes()).verify_slice(hash).is_ok()),
        HostPatterns::Patterns(patterns) => {
            let hits = |pattern: &str| is_glob_match(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes());
            let (negated, plain): (Vec<_>, Vec<_>) = patterns.iter().partition(|pattern| pattern.starts_with('!'));
            plain.iter().any(|pattern| hits(pattern))
                && !negated.iter().any(|pattern| hits(pattern.trim_start_matches('!')))
        }
    }
}

/// Whether `text` matches a pattern with `*` and `?`. Backtracks to the last star only: linear in practice, quadratic
/// at worst.
fn is_glob_match(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(want) if *want == b'?' || want == c => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(hosts: &str, name: &str) -> bool {
        is_match(&hosts.parse().unwrap(), name)
    }

    #[test]
    fn patterns_match_as_in_openssh() {
        for (hosts, name) in [
            ("web-1", "web-1"),
            ("db,WEB-1", "web-1"),
            ("*", "web-1"),
            ("*.example", "a.b.example"),
            ("web-?", "web-1"),
            ("*a*b*", "xxaxxbxx"),
            ("[web-1]:2222", "[web-1]:2222"),
            ("[*.example]:*", "[a.example]:99"),
            ("*.example,!bad.example", "good.example"),
        ] {
            assert!(matches(hosts, name), "{hosts} {name}");
        }
        for (hosts, name) in [
            ("web-1", "web-11"),
            ("web-1", "[web-1]:2222"),
            ("[web-1]:2222", "web-1"),
            ("web-?", "web-"),
            ("*.example", "example"),
            ("*.example,!bad.example", "bad.example"),
            ("!bad.example", "good.example"),
            ("*a*b", "xxaxxbx"),
        ] {
            assert!(!matches(hosts, name), "{hosts} {name}");
        }
    }
}
