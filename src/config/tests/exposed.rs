//! Tests of the warnings: files with secrets, and a header that every program of this machine can send.

use super::*;

#[test]
fn a_secret_that_others_may_read_is_warned_of_and_no_mistake() {
    let dir = TempDir::new().unwrap();
    let [file, key] = ["config.yaml", "seal.key"].map(|name| dir.path().join(name));
    let warnings = |yaml: &str, mode: u32| {
        for (path, text) in [(&file, yaml), (&key, &*"7".repeat(64))] {
            fs::write(path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let env = [("PULSEGATE_SEAL_KEY_FILE".to_owned(), key.display().to_string())];
        let warned = Config::load(Some(&file), env).unwrap().warnings;
        warned.into_iter().map(|line| line.replace(&format!("{}/", dir.path().display()), "")).collect::<Vec<_>>()
    };
    let says = |file: &str| format!("{file} holds a secret and others may read it (mode 0644): chmod 600 {file}");
    let of_key = format!("PULSEGATE_SEAL_KEY_FILE: {}", says("seal.key"));
    for secret in ["records: mysql://u:secret@h/d", "live: redis://:secret@h"] {
        let yaml = format!("store: {{ {secret} }}\n");
        assert_eq!(warnings(&yaml, 0o644), [says("config.yaml"), of_key.clone()]);
        assert!(warnings(&yaml, 0o600).is_empty());
    }
    assert_eq!(warnings("store: { records: mysql://u@h/d }\n", 0o644), [of_key]);
}

#[test]
fn a_header_that_every_program_of_this_machine_can_send_is_warned_of_and_no_mistake() {
    let dir = TempDir::new().unwrap();
    let warnings = |from: &str| {
        let yaml = format!("sign_in: {{ header: {{ name: Remote-User, from: [{from}] }} }}\n");
        load_in(&dir, &yaml, &[]).unwrap().warnings
    };
    for from in [
        "127.0.0.1/32",
        "127.0.0.2/32",
        "127.0.0.0/8",
        "0.0.0.0/0",
        "\"::1/128\"",
        "\"::/0\"",
        "10.0.0.0/8, 127.0.0.1/32",
    ] {
        let warned = warnings(from);
        assert_eq!(warned.len(), 1, "{from}");
        assert!(
            warned[0].starts_with("sign_in.header.from holds loopback: every program of this machine"),
            "{warned:?}"
        );
    }
    for from in ["10.0.0.0/8", "192.0.2.7/32", "\"fd00::/8\"", "126.0.0.0/8"] {
        assert!(warnings(from).is_empty(), "{from}");
    }
}
