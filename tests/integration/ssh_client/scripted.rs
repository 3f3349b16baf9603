//! Targets that do what OpenSSH never does: odd questions, too many of them, hostile texts, channels that the client
//! did not request.

use std::{borrow::Cow, net::SocketAddr, sync::Arc, time::Duration};

use pulsegate::ssh::{ConnectError, Credential, PromptKind};
use russh::{
    Channel, ChannelId, MethodKind, MethodSet, Preferred, Pty, cipher, kex,
    keys::{Algorithm, PrivateKey},
    server::{self, Auth, ChannelOpenHandle, Config, Msg, Response, Session},
};
use serde_json::json;
use tokio::{net::TcpListener, sync::mpsc};

use crate::support::{
    browser::Attach,
    eventually,
    gateway::{Gateway, Home},
    terminal::{Caller, PATIENCE, Terminal},
};

type Question = (Cow<'static, str>, bool);

/// The script of a target.
#[derive(Clone, Default)]
struct Script {
    /// The rounds of keyboard-interactive, each with its name and instructions; the login succeeds after the last.
    rounds: Vec<(&'static str, &'static str, Vec<Question>)>,
    /// Repeat the last round for ever.
    endless: bool,
    /// Refuse the shell.
    no_shell: bool,
    /// Send this before confirming the shell.
    early: &'static str,
    /// Open channels by itself once the shell runs.
    intrusive: bool,
}

struct Target {
    script: Script,
    round: usize,
    heard: mpsc::UnboundedSender<String>,
}

impl server::Handler for Target {
    type Error = russh::Error;

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        for answer in response.into_iter().flatten() {
            self.heard.send(String::from_utf8_lossy(&answer).into_owned()).ok();
        }
        let last = self.script.rounds.len().saturating_sub(1);
        let at = if self.script.endless { self.round.min(last) } else { self.round };
        let Some((name, instructions, prompts)) = self.script.rounds.get(at).cloned() else { return Ok(Auth::Accept) };
        self.round += 1;
        Ok(Auth::Partial { name: name.into(), instructions: instructions.into(), prompts: prompts.into() })
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        if self.script.no_shell {
            return session.channel_failure(channel);
        }
        if !self.script.early.is_empty() {
            session.data(channel, self.script.early)?;
        }
        session.channel_success(channel)?;
        if self.script.intrusive {
            let (handle, heard) = (session.handle(), self.heard.clone());
            tokio::spawn(async move {
                let opened = [
                    handle.channel_open_forwarded_tcpip("localhost", 1, "localhost", 2).await.is_ok(),
                    handle.channel_open_x11("localhost", 6000).await.is_ok(),
                    handle.channel_open_agent().await.is_ok(),
                ];
                heard.send(format!("{opened:?}")).ok();
            });
        }
        Ok(())
    }
}

fn preferred_weak() -> Preferred {
    Preferred {
        kex: Cow::Borrowed(&[kex::CURVE25519]),
        cipher: Cow::Borrowed(&[cipher::CHACHA20_POLY1305]),
        ..Preferred::DEFAULT
    }
}

async fn start(script: Script, preferred: Preferred) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let methods = MethodSet::from(&[MethodKind::KeyboardInteractive][..]);
    let keys = vec![PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap()];
    let config = Config { methods, keys, preferred, auth_rejection_time: Duration::ZERO, ..Config::default() };
    let (heard, hearing) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let target = Target { script, round: 0, heard };
        if let Ok(running) = server::run_stream(Arc::new(config), stream, target).await {
            running.await.ok();
        }
    });
    (addr, hearing)
}

async fn dial(
    script: Script,
    answers: &[&[&str]],
) -> (Caller, Result<Terminal, ConnectError>, mpsc::UnboundedReceiver<String>) {
    let (addr, hearing) = start(script, Preferred::DEFAULT).await;
    let dir = tempfile::tempdir().unwrap();
    let mut caller = Caller::new(addr, "someone", dir.path()).with(Credential::Prompt);
    caller.answers = answers.iter().map(|values| values.iter().map(|value| (*value).to_owned()).collect()).collect();
    let link = caller.connect().await;
    (caller, link.map(|link| Terminal { link, seen: Vec::new() }), hearing)
}

fn ask(label: &'static str) -> Question {
    (label.into(), false)
}

#[tokio::test]
async fn rounds_of_questions_are_passed_on_one_by_one() {
    let script = Script {
        rounds: vec![
            ("First", "who are you?", vec![ask("Password: "), ("Token: ".into(), true)]),
            ("", "nothing to fill in", vec![]),
            ("Last", "", vec![ask("Again:")]),
        ],
        ..Script::default()
    };
    let (caller, terminal, mut hearing) = dial(script, &[&["pw", "123"], &["pw2"]]).await;
    assert!(terminal.is_ok());
    assert_eq!(caller.prompts.len(), 2, "a round without questions asks nobody");
    assert_eq!((caller.prompts[0].kind, caller.prompts[0].title.as_str()), (PromptKind::KeyboardInteractive, "First"));
    assert_eq!((caller.prompts[0].fields[0].echo, caller.prompts[0].fields[1].echo), (false, true));
    assert!(caller.progress.iter().any(|told| told == "nothing to fill in"), "{:?}", caller.progress);
    for expected in ["pw", "123", "pw2"] {
        assert_eq!(hearing.recv().await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_targets_words_are_cleaned_before_a_person_sees_them() {
    let script = Script {
        rounds: vec![("\x1b[2JTitle", "\u{202e}evil\x07", vec![ask("Pass\x1b]52;c;x\x07word:")])],
        ..Script::default()
    };
    let (caller, _, _) = dial(script, &[&["x"]]).await;
    let prompt = &caller.prompts[0];
    assert_eq!((prompt.title.as_str(), prompt.text.as_str()), ("[2JTitle", "evil"));
    assert_eq!(prompt.fields[0].label, "Pass]52;c;xword:");
}

#[tokio::test]
async fn endless_questions_and_too_many_at_once_end_the_dial() {
    let endless = Script { rounds: vec![("", "", vec![ask("Again:")])], endless: true, ..Script::default() };
    let answers = vec![&["x"][..]; 100];
    let (caller, refused, _) = dial(endless.clone(), &answers).await;
    assert!(matches!(refused.err(), Some(ConnectError::Broken { .. })));
    assert_eq!(caller.prompts.len(), 20);

    let silent = Script { rounds: vec![("", "", vec![])], ..endless };
    let (_, refused, _) = dial(silent, &[]).await;
    assert!(matches!(refused.err(), Some(ConnectError::Broken { .. })));

    let many = Script { rounds: vec![("", "", vec![ask("?"); 33])], ..Script::default() };
    let (caller, refused, _) = dial(many, &[]).await;
    assert!(matches!(refused.err(), Some(ConnectError::Broken { .. })));
    assert!(caller.prompts.is_empty());
}

#[tokio::test]
async fn a_password_is_given_only_to_one_hidden_question() {
    for fields in [vec![("User:".into(), true)], vec![ask("Password:"), ask("Token:")]] {
        let script = Script { rounds: vec![("", "", fields), ("", "", vec![ask("Password:")])], ..Script::default() };
        let (addr, mut hearing) = start(script, Preferred::DEFAULT).await;
        let dir = tempfile::tempdir().unwrap();
        let error =
            Caller::new(addr, "someone", dir.path()).with(Credential::Password("secret".into())).refusal().await;
        assert!(matches!(error, ConnectError::Broken { .. } | ConnectError::AuthFailed { .. }), "{error}");
        while let Ok(answer) = hearing.try_recv() {
            assert_eq!(answer, "");
        }
    }
}

#[tokio::test]
async fn output_that_comes_before_the_shell_is_confirmed_is_kept() {
    let (_, terminal, _) = dial(Script { early: "good morning", ..Script::default() }, &[]).await;
    terminal.unwrap().until("good morning").await;
}

#[tokio::test]
async fn a_refused_shell_is_no_terminal() {
    let (_, refused, _) = dial(Script { no_shell: true, ..Script::default() }, &[]).await;
    let Some(ConnectError::NoPty { cause, .. }) = refused.err() else { panic!("let in") };
    assert_eq!(cause, "the shell was refused");
}

#[tokio::test]
async fn channels_nobody_asked_for_are_refused() {
    let (_, terminal, mut hearing) = dial(Script { intrusive: true, ..Script::default() }, &[]).await;
    let _terminal = terminal.unwrap();
    assert_eq!(hearing.recv().await.unwrap(), "[false, false, false]");
}

#[tokio::test]
async fn a_channel_opened_unasked_stands_in_the_audit_log() {
    let (addr, mut hearing) = start(Script { intrusive: true, ..Script::default() }, Preferred::DEFAULT).await;
    let told = tokio::task::spawn_blocking(move || {
        let gateway = Gateway::start(Home::new().target("odd", addr, "someone", json!({"prompt": true})));
        let (_page, _) = gateway.attaches(&gateway.opens("odd"), &Attach::default());
        eventually(PATIENCE, || {
            let items = gateway.shows("/api/v1/audit?action=target.channel_refused")["items"].clone();
            items.as_array().is_some_and(|items| items.len() == 3).then_some(items)
        })
    });
    assert_eq!(hearing.recv().await.unwrap(), "[false, false, false]");
    let told = told.await.unwrap();
    assert_eq!(
        (&told[0]["actor"], &told[0]["subject"], &told[0]["outcome"]),
        (&json!("admin"), &json!("odd"), &json!("refused"))
    );
    assert!(told[0]["detail"].as_str().unwrap().contains("auth-agent"), "{told}");
}

#[tokio::test]
async fn chacha20_without_strict_key_exchange_is_refused() {
    let (addr, _hearing) = start(Script::default(), preferred_weak()).await;
    let dir = tempfile::tempdir().unwrap();
    let error = Caller::new(addr, "someone", dir.path()).with(Credential::Prompt).refusal().await;
    let ConnectError::KeyExchange { cause, .. } = &error else { panic!("{error}") };
    assert!(cause.contains("CVE-2023-48795"), "{cause}");

    let strict = Preferred {
        kex: Cow::Borrowed(&[kex::CURVE25519, kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER]),
        ..preferred_weak()
    };
    let (addr, _hearing) = start(Script::default(), strict).await;
    assert!(Caller::new(addr, "someone", dir.path()).with(Credential::Prompt).connect().await.is_ok());
}
