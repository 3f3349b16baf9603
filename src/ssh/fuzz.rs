//! Feeds random input to every parser of outside bytes on the way to a target. `cargo xtask fuzz` tries a million of
//! each.

use std::{net::IpAddr, sync::LazyLock};

use data_encoding::BASE64;
use proptest::{collection::vec, prelude::*, sample::select};
use russh::keys::{Algorithm, PrivateKey, decode_secret_key, ssh_key::LineEnding};

use super::{
    AddressRule,
    address::is_plain_host,
    hostkeys::KnownHosts,
    person::{clean_line, clean_text},
};

/// The line of an Ed25519 key, to be cut and mixed.
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

fn known_hosts() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        select(vec![
            KEY,
            "ssh-rsa",
            "@cert-authority",
            "@revoked",
            "@",
            "|1|",
            "|1|AAAA|AAAA",
            "*",
            "!web-1",
            "web-1,[db]:2200",
            "#",
            "\n",
            "\r\n",
            " ",
            "\t",
            ",",
            "AAAA",
            "=",
            "[",
            "]:",
            "?",
        ])
        .prop_map(|word| word.as_bytes().to_vec()),
        vec(any::<u8>(), 0..6),
    ];
    vec(word, 0..24).prop_map(|words| words.concat())
}

/// The decoded bytes of a private key's file.
static PRIVATE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let text = key.to_openssh(LineEnding::LF).unwrap();
    let inside: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    BASE64.decode(inside.as_bytes()).unwrap()
});

/// Returns a private key's file, damaged in a few places inside and labelled with a type that may be wrong.
fn key_file() -> impl Strategy<Value = String> {
    let edit = (any::<proptest::sample::Index>(), any::<u8>());
    let kinds =
        vec!["OPENSSH PRIVATE KEY", "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"];
    let kind = prop_oneof![3 => Just("OPENSSH PRIVATE KEY"), 1 => select(kinds)];
    (kind, vec(edit, 0..6), any::<proptest::sample::Index>(), any::<bool>()).prop_map(|(kind, edits, cut, whole)| {
        let mut bytes = PRIVATE.clone();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        let inside = BASE64.encode(&bytes);
        let lines: Vec<&str> = inside.as_bytes().chunks(70).map(|line| str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
    })
}

fn network() -> impl Strategy<Value = ipnet::IpNet> {
    prop_oneof![
        (any::<u32>(), 0..=32u8).prop_map(|(bits, prefix)| ipnet::IpNet::new(IpAddr::V4(bits.into()), prefix).unwrap()),
        (any::<u128>(), 0..=128u8)
            .prop_map(|(bits, prefix)| ipnet::IpNet::new(IpAddr::V6(bits.into()), prefix).unwrap()),
    ]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
        any::<u32>().prop_map(|bits| IpAddr::V6((0xffff_0000_0000 | u128::from(bits)).into())),
        any::<u32>().prop_map(|bits| IpAddr::V6(((0x64_ff9b << 96) | u128::from(bits)).into())),
        any::<u32>().prop_map(|bits| IpAddr::V6(((0x2002 << 112) | (u128::from(bits) << 80)).into())),
    ]
}

proptest! {
    #[test]
    fn any_known_hosts_is_read_and_gives_a_verdict(bytes in known_hosts()) {
        let known = KnownHosts::parse(&bytes);
        let key = KEY.parse().unwrap();
        for name in ["web-1", "[db]:2200", ""] {
            known.judge(name, &key);
            known.known_types(name);
            known.has_authority(name);
        }
    }

    #[test]
    fn any_key_file_is_read_or_refused(text in key_file()) {
        decode_secret_key(&text, None).ok();
    }

    #[test]
    fn no_words_of_a_target_move_the_cursor(text in vec(any::<char>(), 0..80), tail in "[\u{0}-\u{9f}\u{200b}-\u{206f}]{0,12}") {
        let text: String = text.into_iter().chain(tail.chars()).collect();
        let is_odd = |letter: char| letter.is_control() || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}');
        prop_assert!(!clean_line(&text).contains(is_odd));
        prop_assert!(!clean_text(&text).replace('\n', "").contains(is_odd));
    }

    #[test]
    fn what_passes_for_a_host_is_an_address_or_a_name(text in "[0-9a-fxX.:\\-_A-Z%\\[\\]\u{430}\r\n\u{0} ]{0,24}") {
        if is_plain_host(&text) {
            let odd = |letter: char| !(letter.is_ascii_alphanumeric() || ".:-_".contains(letter));
            prop_assert!(!text.contains(odd) && !text.starts_with('-'), "{text:?}");
            let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
            let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
            prop_assert!(text.parse::<IpAddr>().is_ok() || !is_number, "{text:?}");
        }
    }

    #[test]
    fn no_dress_of_an_address_gets_past_a_rule(ip in address(), allow in vec(network(), 0..3), deny in vec(network(), 0..3)) {
        let rule = AddressRule { allow, deny, ..AddressRule::default() };
        let plain = ip.to_canonical();
        if rule.permits(ip) {
            prop_assert!(rule.permits(plain));
            prop_assert!(!plain.is_unspecified());
            prop_assert!(rule.allow.iter().any(|network| network.contains(&plain)));
            prop_assert!(!rule.deny.iter().any(|network| network.contains(&plain)));
        }
        let everything = AddressRule { allow: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()], ..rule };
        prop_assert!(!everything.permits(ip) || !plain.is_loopback());
    }
}
