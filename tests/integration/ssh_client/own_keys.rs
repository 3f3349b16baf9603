//! The gateway's own key, and certificates of its authority, against a server that trusts them or does not.

use std::{fs, path::Path};

use pulsegate::{
    core::record::UtcMicros,
    ssh::{ConnectError, Credential, HostKeyPolicy, OwnKeys},
};

use crate::{
    sshd,
    support::{
        sshd::{Options, Sshd},
        terminal::{Caller, utc},
    },
};

fn caller(sshd: &Sshd, credential: Credential) -> Caller {
    Caller::new(sshd.addr, &sshd.user, sshd.dir.path()).with(credential)
}

async fn answers_42(caller: &mut Caller) {
    let mut terminal = caller.terminal().await;
    terminal.types("echo \"is $((6*7)).\"\r").await;
    terminal.until("is 42.").await;
    terminal.link.control.close().await;
}

/// Makes the server trust the authority in `folder`.
fn trust(sshd: &Sshd, folder: &Path) {
    let file = sshd.dir.path().join("trusted");
    fs::write(&file, OwnKeys::new(folder).trusted_authority().unwrap() + "\n").unwrap();
    let config = sshd.dir.path().join("sshd_config");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}TrustedUserCAKeys {}\n", file.display())).unwrap();
}

#[tokio::test]
async fn the_gateways_own_key_lets_in_where_its_line_stands() {
    let sshd = sshd!(Options::default());
    let mut caller = caller(&sshd, Credential::GatewayKey);
    assert!(matches!(caller.refusal().await, ConnectError::AuthFailed { .. }));
    let line = OwnKeys::new(sshd.dir.path()).authorized_key().unwrap();
    fs::write(sshd.dir.path().join("authorized_keys"), line + "\n").unwrap();
    answers_42(&mut caller).await;
}

#[tokio::test]
async fn a_certificate_lets_in_where_its_authority_is_trusted_and_says_who_came() {
    let sshd = sshd!(Options::default());
    let mut caller = caller(&sshd, Credential::Certificate);
    let error = caller.refusal().await;
    assert!(error.to_string().contains("publickey (certificate)"), "{error}");
    trust(&sshd, sshd.dir.path());
    answers_42(&mut caller).await;
    assert!(sshd.log().contains("ID \"pulsegate:ada:test\""), "{}", sshd.log());
    assert!(!fs::read_to_string(sshd.dir.path().join("authorized_keys")).unwrap().contains("pulsegate"));
}

#[tokio::test]
async fn a_certificate_that_is_old_for_another_or_of_another_authority_is_refused() {
    let sshd = sshd!(Options { password_user: true, ..Options::default() });
    trust(&sshd, sshd.dir.path());
    answers_42(&mut caller(&sshd, Credential::Certificate)).await;

    for (dated, words) in [
        ((|| UtcMicros(utc().0 - 3_600_000_000)) as fn() -> UtcMicros, "Certificate invalid: expired"),
        (|| UtcMicros(utc().0 + 3_600_000_000), "Certificate invalid: not yet valid"),
    ] {
        let mut late = caller(&sshd, Credential::Certificate);
        late.settings.utc = dated;
        assert!(matches!(late.refusal().await, ConnectError::AuthFailed { .. }), "{words}");
        assert!(sshd.log().contains(words), "{words}: {}", sshd.log());
    }

    let other = tempfile::tempdir().unwrap();
    let mut stranger = caller(&sshd, Credential::Certificate);
    stranger.settings.own = OwnKeys::new(other.path());
    assert!(matches!(stranger.refusal().await, ConnectError::AuthFailed { .. }), "another authority");

    // A principals file that names neither login asks the server to accept the certificate of one for the other.
    let principals = sshd.dir.path().join("principals");
    fs::write(&principals, "somebody-else\n").unwrap();
    let config = sshd.dir.path().join("sshd_config");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}AuthorizedPrincipalsFile {}\n", principals.display())).unwrap();
    assert!(matches!(caller(&sshd, Credential::Certificate).refusal().await, ConnectError::AuthFailed { .. }));
    assert!(sshd.log().contains("Certificate does not contain an authorized principal"), "{}", sshd.log());
}

#[tokio::test]
async fn a_certificate_is_good_for_a_terminal_or_for_the_way_on_and_not_for_both() {
    let (bastion, target) = (sshd!(Options::default()), sshd!(Options::default()));
    trust(&bastion, bastion.dir.path());
    answers_42(&mut caller(&bastion, Credential::Certificate)).await;
    let mut over = caller(&target, Credential::KeyFile(target.user_key.clone()));
    over.settings.own = OwnKeys::new(bastion.dir.path());
    over.via = vec![pulsegate::ssh::Hop {
        name: "bastion".to_owned(),
        host: bastion.addr.ip().to_string(),
        port: bastion.addr.port(),
        login: bastion.user.clone(),
        credentials: vec![Credential::Certificate],
        allowed: None,
        host_key_policy: HostKeyPolicy::AcceptNew,
    }];
    answers_42(&mut over).await;
}
