//! Host keys: three policies, and the keys that no policy accepts.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use pulsegate::{
    core::record::EndReason,
    ssh::{ConnectError, Credential, HostKeyPolicy, PromptKind, ReviewError},
};

use crate::{
    sshd,
    support::{
        sshd::{Options, Sshd, keygen, run},
        terminal::Caller,
    },
};

fn caller(sshd: &Sshd, policy: HostKeyPolicy) -> Caller {
    let key = Credential::KeyFile(sshd.user_key.clone());
    Caller::new(sshd.addr, &sshd.user, sshd.dir.path()).with(key).policy(policy)
}

fn name(sshd: &Sshd) -> String {
    format!("[127.0.0.1]:{}", sshd.addr.port())
}

fn know(caller: &Caller, text: &str) {
    fs::create_dir_all(caller.known_hosts.parent().unwrap()).unwrap();
    fs::write(&caller.known_hosts, text).unwrap();
}

async fn gets_in(caller: &mut Caller) {
    caller.terminal().await.link.control.close().await;
}

#[tokio::test]
async fn strict_refuses_an_unknown_key_before_any_credential_is_sent() {
    let sshd = sshd!(Options::default());
    let mut strict = caller(&sshd, HostKeyPolicy::Strict);
    let presented = sshd.host_key_fingerprint.clone();
    assert_eq!(strict.refusal().await, ConnectError::HostKeyUnknown { host: name(&sshd), presented });
    strict.refusal().await;
    let overview = strict.settings.host_keys.overview().await.unwrap();
    let [review] = &overview.waiting[..] else { panic!("{overview:?}") };
    let seen = (review.waiting.fingerprint(), review.waiting.times, review.waiting.met_by.as_str());
    assert_eq!(seen, (sshd.host_key_fingerprint.clone(), 2, "ada"));
    assert!(!sshd.log().contains("userauth-request"), "{}", sshd.log());
    assert!(!strict.known_hosts.exists());
}

#[tokio::test]
async fn accept_new_remembers_the_key_for_strict() {
    let sshd = sshd!(Options::default());
    let mut trusting = caller(&sshd, HostKeyPolicy::AcceptNew);
    gets_in(&mut trusting).await;
    gets_in(&mut trusting).await;
    let file = &trusting.known_hosts;
    let key: Vec<_> = sshd.host_key.split_whitespace().take(2).collect();
    let who = "trusted by accept_new for ada 2026-11-28T14:30:00.000000Z";
    assert_eq!(fs::read_to_string(file).unwrap(), format!("{} {} {who}\n", name(&sshd), key.join(" ")), "once");
    assert!(trusting.trusted[0].contains(&sshd.host_key_fingerprint), "{:?}", trusting.trusted);
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let found = run(Command::new("ssh-keygen").arg("-F").arg(name(&sshd)).arg("-f").arg(file));
    assert!(found.contains(key[1]), "OpenSSH reads it: {found}");
    gets_in(&mut caller(&sshd, HostKeyPolicy::Strict)).await;
}

#[tokio::test]
async fn ask_shows_the_fingerprint_and_takes_yes_for_an_answer() {
    let sshd = sshd!(Options::default());
    for answer in ["no", "", "yes please"] {
        let mut asked = caller(&sshd, HostKeyPolicy::Ask).answering([answer]);
        assert!(matches!(asked.refusal().await, ConnectError::HostKeyDeclined { .. }));
        assert!(!asked.known_hosts.exists());
        assert!(asked.settings.host_keys.overview().await.unwrap().waiting.is_empty());
    }
    let silent = caller(&sshd, HostKeyPolicy::Ask).refusal().await;
    assert!(matches!(silent, ConnectError::HostKeyDeclined { .. }), "{silent}");
    let mut unanswered = caller(&sshd, HostKeyPolicy::AskOperator);
    let refusal = unanswered.refusal().await;
    assert!(matches!(refusal, ConnectError::HostKeyUnknown { .. }), "{refusal}");
    assert_eq!(unanswered.settings.host_keys.overview().await.unwrap().waiting.len(), 1, "it waits for who may");

    let mut asked = caller(&sshd, HostKeyPolicy::Ask).answering(["yes"]);
    gets_in(&mut asked).await;
    let prompt = &asked.prompts[0];
    assert_eq!((prompt.kind, prompt.fields.len()), (PromptKind::HostKey, 1));
    for part in [name(&sshd).as_str(), "ssh-ed25519", &sshd.host_key_fingerprint] {
        assert!(prompt.text.contains(part), "{part} in {}", prompt.text);
    }
    gets_in(&mut asked).await;
    assert_eq!(asked.prompts.len(), 1, "a remembered key is not asked about again");
}

#[tokio::test]
async fn a_changed_key_is_refused_under_every_policy_with_both_fingerprints() {
    let sshd = sshd!(Options::default());
    let other = sshd.dir.path().join("other");
    // A key of another type is a changed key, too.
    for kind in ["ed25519", "ecdsa"] {
        fs::remove_file(&other).ok();
        keygen(&other, kind, "");
        let line = fs::read_to_string(other.with_extension("pub")).unwrap();
        let listed = run(Command::new("ssh-keygen").arg("-lf").arg(other.with_extension("pub")));
        for policy in [HostKeyPolicy::Strict, HostKeyPolicy::AcceptNew, HostKeyPolicy::Ask] {
            let mut caller = caller(&sshd, policy).answering(["yes"]);
            know(&caller, &format!("# ours\n{} {line}", name(&sshd)));
            let expected = ConnectError::HostKeyChanged {
                host: name(&sshd),
                known: listed.split_whitespace().nth(1).unwrap().to_owned(),
                presented: sshd.host_key_fingerprint.clone(),
                line: 2,
                trusted: None,
            };
            assert_eq!(caller.refusal().await, expected);
            assert!(caller.prompts.is_empty(), "nobody is asked");
        }
    }
    assert!(!sshd.log().contains("userauth-request"), "no credential is sent");
}

#[tokio::test]
async fn a_changed_key_waits_until_it_is_accepted_and_takes_the_place_of_the_old_one() {
    let sshd = sshd!(Options::default());
    let other = sshd.dir.path().join("other");
    keygen(&other, "ed25519", "");
    let line = fs::read_to_string(other.with_extension("pub")).unwrap();
    let kept: Vec<_> = line.split_whitespace().take(2).collect();
    let mut caller = caller(&sshd, HostKeyPolicy::Strict);
    let trusted = "trusted by otto 2026-01-02T03:04:05.000000Z";
    know(&caller, &format!("# ours\n{} {} {trusted}\n", name(&sshd), kept.join(" ")));
    let refusal = caller.refusal().await.to_string();
    assert!(refusal.contains("trusted by otto at 2026-01-02T03:04:05Z"), "{refusal}");
    let keys = caller.settings.host_keys.clone();
    let overview = keys.overview().await.unwrap();
    let [review] = &overview.waiting[..] else { panic!("{overview:?}") };
    assert_eq!(review.instead_of, overview.known);
    let (id, seen) = (&review.waiting.id, &sshd.host_key_fingerprint);
    let unlike = keys.accept(id, &review.instead_of[0].fingerprint, "grace").await;
    assert_eq!(unlike, Err(ReviewError::OtherKey { waits: seen.clone() }));
    assert!(matches!(caller.refusal().await, ConnectError::HostKeyChanged { .. }), "still");
    assert_eq!(keys.accept(id, seen, "grace").await, Ok(vec![review.instead_of[0].fingerprint.clone()]));
    gets_in(&mut caller).await;
    let overview = keys.overview().await.unwrap();
    assert_eq!((overview.waiting.len(), overview.known.len()), (0, 1));
    assert_eq!(overview.known[0].trusted.as_ref().map(|trusted| trusted.by.as_str()), Some("grace"));
}

#[tokio::test]
async fn no_key_is_remembered_that_nothing_can_tell_of() {
    let sshd = sshd!(Options::default());
    for policy in [HostKeyPolicy::AcceptNew, HostKeyPolicy::Ask] {
        let mut trusting = caller(&sshd, policy).answering(["yes"]);
        trusting.witnessed = false;
        let refusal = trusting.refusal().await;
        let presented = sshd.host_key_fingerprint.clone();
        assert_eq!(refusal, ConnectError::HostKeyUnnoted { host: name(&sshd), presented });
        assert_eq!(refusal.reason(), EndReason::ConnectFailed, "nobody rejected it");
        assert!(!trusting.known_hosts.exists());
    }
}

#[tokio::test]
async fn a_host_with_several_keys_shows_the_known_one() {
    let sshd = sshd!(Options { host_keys: &["rsa", "ed25519"], ..Options::default() });
    let mut strict = caller(&sshd, HostKeyPolicy::Strict);
    know(&strict, &format!("{} {}", name(&sshd), sshd.host_key));
    assert!(sshd.host_key.starts_with("ssh-rsa"));
    gets_in(&mut strict).await;
}

#[tokio::test]
async fn a_revoked_key_is_refused_even_when_known() {
    let sshd = sshd!(Options::default());
    let mut caller = caller(&sshd, HostKeyPolicy::AcceptNew);
    know(&caller, &format!("{} {}@revoked * {}", name(&sshd), sshd.host_key, sshd.host_key));
    let presented = sshd.host_key_fingerprint.clone();
    assert_eq!(caller.refusal().await, ConnectError::HostKeyRevoked { host: name(&sshd), presented });
    assert!(caller.settings.host_keys.overview().await.unwrap().waiting.is_empty(), "nobody may accept it");
}

#[tokio::test]
async fn hashed_entries_are_understood_and_broken_lines_skipped() {
    let sshd = sshd!(Options::default());
    let mut strict = caller(&sshd, HostKeyPolicy::Strict);
    know(&strict, &format!("{} {}", name(&sshd), sshd.host_key));
    run(Command::new("ssh-keygen").arg("-q").arg("-H").arg("-f").arg(&strict.known_hosts));
    let hashed = fs::read_to_string(&strict.known_hosts).unwrap();
    assert!(hashed.starts_with("|1|"), "{hashed}");
    know(&strict, &format!("what is this\n\u{fffd} x y\n{hashed}"));
    gets_in(&mut strict).await;
}

#[tokio::test]
async fn an_authority_vouches_for_a_host_it_signed() {
    let sshd = sshd!(Options { config: "HostCertificate /dev/null\n", ..Options::default() });
    let dir = sshd.dir.path();
    let authority = dir.join("authority");
    keygen(&authority, "ed25519", "");
    let sign = |principal: &str, validity: &str| {
        let key = dir.join("host_ed25519.pub");
        run(Command::new("ssh-keygen")
            .args(["-q", "-h", "-I", "host", "-n", principal, "-V", validity, "-s"])
            .arg(&authority)
            .arg(&key));
        let config = dir.join("sshd_config");
        let certificate = dir.join("host_ed25519-cert.pub");
        let text = fs::read_to_string(&config).unwrap();
        let kept: String =
            text.lines().filter(|line| !line.starts_with("HostCertificate")).map(|l| format!("{l}\n")).collect();
        fs::write(&config, format!("{kept}HostCertificate {}\n", certificate.display())).unwrap();
    };
    let line = fs::read_to_string(authority.with_extension("pub")).unwrap();
    let mut strict = caller(&sshd, HostKeyPolicy::Strict);
    know(&strict, &format!("@cert-authority [127.0.0.1]:* {line}"));
    sign("127.0.0.1", "-1d:+1d");
    gets_in(&mut strict).await;

    for (principal, validity) in [("other.example", "-1d:+1d"), ("127.0.0.1", "-2d:-1d")] {
        sign(principal, validity);
        let error = strict.refusal().await;
        assert!(matches!(error, ConnectError::HostKeyUnknown { .. }), "{principal} {validity}: {error}");
    }
    sign("127.0.0.1", "-1d:+1d");
    know(&strict, &format!("@cert-authority [127.0.0.1]:* {line}@revoked * {line}"));
    assert!(matches!(strict.refusal().await, ConnectError::HostKeyRevoked { .. }));
}

#[tokio::test]
async fn a_known_hosts_that_cannot_be_read_stops_the_dial() {
    let sshd = sshd!(Options::default());
    let mut caller = caller(&sshd, HostKeyPolicy::AcceptNew);
    fs::create_dir_all(&caller.known_hosts).unwrap();
    assert!(matches!(caller.refusal().await, ConnectError::KnownHosts { .. }));
    assert_eq!(sshd.connections(), 0);
}
