//! Every way to log in, and the error if none works.

use std::{fs, path::Path, process::Command};

use pulsegate::ssh::{ConnectError, Credential, PromptKind};

use crate::{
    sshd,
    support::{
        sshd::{Options, Sshd, keygen, run},
        terminal::Caller,
    },
};

fn with_password() -> Options {
    Options { password_user: true, ..Options::default() }
}

fn caller(sshd: &Sshd) -> Caller {
    Caller::new(sshd.addr, &sshd.user, sshd.dir.path())
}

/// Makes a key that the server accepts.
fn admit(sshd: &Sshd, kind: &str, passphrase: &str) -> std::path::PathBuf {
    let key = sshd.dir.path().join(format!("id_{kind}"));
    keygen(&key, kind, passphrase);
    let line = fs::read_to_string(key.with_extension("pub")).unwrap();
    let list = sshd.dir.path().join("authorized_keys");
    fs::write(&list, fs::read_to_string(&list).unwrap() + &line).unwrap();
    key
}

async fn answers_42(mut caller: Caller) -> Caller {
    let mut terminal = caller.terminal().await;
    terminal.types("echo \"is $((6*7)).\"\r").await;
    terminal.until("is 42.").await;
    terminal.link.control.close().await;
    caller
}

#[tokio::test]
async fn a_password_lets_in() {
    let sshd = sshd!(with_password());
    let password = sshd.password.clone().unwrap();
    let file = sshd.dir.path().join("password");
    fs::write(&file, format!("{password}\nnot this line\n")).unwrap();
    answers_42(caller(&sshd).with(Credential::Password(password.into()))).await;
    answers_42(caller(&sshd).with(Credential::PasswordFile(file))).await;
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_says_what_was_tried() {
    let sshd = sshd!(with_password());
    let error = caller(&sshd).with(Credential::Password("wrong".into())).refusal().await;
    assert_eq!(
        error,
        ConnectError::AuthFailed {
            login: sshd.user.clone(),
            tried: "password".to_owned(),
            accepted: "publickey, password".to_owned(),
        },
    );
    let error = caller(&sshd).with(Credential::Password("".into())).refusal().await;
    assert!(matches!(error, ConnectError::Credential { .. }), "an empty password is never sent: {error}");
}

#[tokio::test]
async fn a_person_may_mistype_a_password_twice() {
    let sshd = sshd!(with_password());
    let password = sshd.password.clone().unwrap();
    let asked = caller(&sshd).with(Credential::Prompt).answering(["no"]).answering(["nor this"]).answering([&password]);
    let asked = answers_42(asked).await;
    assert_eq!(asked.prompts.len(), 3);
    assert!(asked.prompts.iter().all(|prompt| prompt.kind == PromptKind::Password && !prompt.fields[0].echo));

    let mut declining = caller(&sshd).with(Credential::Prompt);
    assert!(matches!(declining.refusal().await, ConnectError::AuthFailed { .. }));
    assert_eq!(declining.prompts.len(), 1, "who declines is not asked again");
}

#[tokio::test]
async fn keyboard_interactive_passes_the_targets_questions_on() {
    let sshd = sshd!(Options { pam: true, ..with_password() });
    let password = sshd.password.clone().unwrap();
    let asked = answers_42(caller(&sshd).with(Credential::Prompt).answering([&password])).await;
    assert_eq!(asked.prompts[0].kind, PromptKind::KeyboardInteractive);
    assert_eq!(asked.prompts[0].fields[0].label, "Password:", "{:?}", asked.prompts);
    assert!(!asked.prompts[0].fields[0].echo);
}

#[tokio::test]
async fn a_password_answers_keyboard_interactive_where_nothing_else_is_offered() {
    let sshd = sshd!(Options {
        pam: true,
        config: "Match all\nAuthenticationMethods keyboard-interactive\n",
        ..with_password()
    });
    let password = sshd.password.clone().unwrap();
    answers_42(caller(&sshd).with(Credential::Password(password.into()))).await;
    let error = caller(&sshd).with(Credential::Password("wrong".into())).refusal().await;
    assert!(matches!(error, ConnectError::AuthFailed { .. }), "{error}");
}

#[tokio::test]
async fn keys_of_every_kind_let_in() {
    let sshd = sshd!(Options::default());
    for kind in ["ed25519", "rsa", "ecdsa"] {
        let key = admit(&sshd, kind, "");
        answers_42(caller(&sshd).with(Credential::KeyFile(key))).await;
    }
}

#[tokio::test]
async fn a_passphrase_is_asked_for_and_may_be_mistyped() {
    let sshd = sshd!(Options::default());
    let key = admit(&sshd, "ed25519", "open sesame");
    let asked = caller(&sshd).with(Credential::KeyFile(key.clone())).answering(["wrong"]).answering(["open sesame"]);
    let asked = answers_42(asked).await;
    assert_eq!(asked.prompts.len(), 2);
    assert_eq!(asked.prompts[0].title, "Key id_ed25519", "the name, not the path");

    let declining = caller(&sshd).with(Credential::KeyFile(key)).refusal().await;
    let ConnectError::AuthFailed { tried, .. } = &declining else { panic!("{declining}") };
    assert_eq!(tried, "publickey (no passphrase given)");
}

#[tokio::test]
async fn keys_in_other_formats_are_read_too() {
    let sshd = sshd!(Options::default());
    let key = admit(&sshd, "rsa", "");
    let pem = sshd.dir.path().join("id_pem");
    fs::copy(&key, &pem).unwrap();
    run(Command::new("ssh-keygen").args(["-q", "-p", "-m", "PEM", "-N", "", "-f"]).arg(&pem));
    answers_42(caller(&sshd).with(Credential::KeyFile(pem.clone()))).await;
    run(Command::new("ssh-keygen").args(["-q", "-p", "-m", "PKCS8", "-N", "hidden", "-f"]).arg(&pem));
    answers_42(caller(&sshd).with(Credential::KeyFile(pem)).answering(["hidden"])).await;
}

#[tokio::test]
async fn an_unusable_key_file_is_passed_over_and_named_if_nothing_else_works() {
    let sshd = sshd!(Options::default());
    let broken = sshd.dir.path().join("broken");
    fs::write(&broken, "not a key").unwrap();
    let both = caller(&sshd).with(Credential::KeyFile(broken.clone())).with(Credential::KeyFile(sshd.user_key.clone()));
    answers_42(both).await;
    for path in [broken.as_path(), Path::new("missing")] {
        let error = caller(&sshd).with(Credential::KeyFile(path.to_owned())).refusal().await;
        let ConnectError::Credential { cause } = &error else { panic!("{error}") };
        assert!(cause.contains(path.file_name().unwrap().to_str().unwrap()), "{cause}");
        assert!(!cause.contains('/'), "no directory of the gateway is told: {cause}");
    }
}

/// A private ssh-agent, stopped when dropped.
struct SshAgent(std::process::Child);

impl SshAgent {
    fn start(socket: &Path) -> Self {
        let mut agent = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(socket)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while std::os::unix::net::UnixStream::connect(socket).is_err() {
            assert!(agent.try_wait().unwrap().is_none(), "the agent starts");
            std::thread::yield_now();
        }
        Self(agent)
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test]
async fn an_agents_keys_let_in() {
    let sshd = sshd!(Options::default());
    let socket = sshd.dir.path().join("agent");
    let _agent = SshAgent::start(&socket);
    let with_agent = || {
        let mut caller = caller(&sshd).with(Credential::Agent);
        caller.settings.agent = Some(socket.clone());
        caller
    };
    let empty = with_agent().refusal().await;
    assert_eq!(empty, ConnectError::Credential { cause: "the SSH agent holds no keys".to_owned() });

    let stranger = sshd.dir.path().join("stranger");
    keygen(&stranger, "ed25519", "");
    let key = admit(&sshd, "rsa", "");
    for key in [stranger, key] {
        run(Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket));
    }
    answers_42(with_agent()).await;

    let none = caller(&sshd).with(Credential::Agent).refusal().await;
    assert!(matches!(none, ConnectError::Credential { .. }), "{none}");
}

#[tokio::test]
async fn two_factors_are_given_one_after_the_other() {
    let sshd = sshd!(Options { config: "Match all\nAuthenticationMethods publickey,password\n", ..with_password() });
    let password = sshd.password.clone().unwrap();
    // In the order of the catalogue the password comes first; the target wants the key first.
    let both =
        caller(&sshd).with(Credential::Password(password.into())).with(Credential::KeyFile(sshd.user_key.clone()));
    answers_42(both).await;
}

#[tokio::test]
async fn a_target_that_hangs_up_on_us_is_quoted() {
    let sshd = sshd!(Options { config: "MaxAuthTries 1\n", ..with_password() });
    let error = caller(&sshd).with(Credential::Password("wrong".into())).refusal().await;
    let ConnectError::AuthFailed { accepted, .. } = &error else { panic!("{error}") };
    assert!(accepted.contains("Too many authentication failures"), "{accepted}");
}
