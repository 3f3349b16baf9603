//! One client of the demo server: authenticates it and grants its requests. Owns no bytes; each channel is served by
//! its own task.

use std::sync::Arc;

use russh::{
    Channel, ChannelId, ChannelOpenFailure, Pty,
    keys::PublicKey,
    server::{self, Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey},
};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::{Admits, playground::Playground, shell, wire::WireControl};

/// Channels of one connection, the default of OpenSSH's `MaxSessions`.
const MAX_CHANNELS: usize = 10;

/// One client.
pub(super) struct Guest {
    admits: Arc<Admits>,
    /// The round of keyboard-interactive that the client is answering.
    round: usize,
    channels: Vec<GuestChannel>,
    wire: WireControl,
}

struct GuestChannel {
    id: ChannelId,
    /// Whether it runs a shell or a command; RFC 4254 §6.5 allows one per channel.
    started: bool,
}

fn verdict(accepted: bool, admits: &Admits) -> Auth {
    if accepted { Auth::Accept } else { refusal(admits) }
}

/// By default, russh offers a method only once.
fn refusal(admits: &Admits) -> Auth {
    Auth::Reject { proceed_with_methods: Some(admits.methods()), partial_success: false }
}

fn same_secret(given: &[u8], secret: &SecretString) -> bool {
    given.ct_eq(secret.expose_secret().as_bytes()).into()
}

impl Guest {
    /// A client that has not signed in yet.
    pub(super) fn new(admits: Arc<Admits>, wire: WireControl) -> Self {
        Self { admits, round: 0, channels: Vec::new(), wire }
    }

    fn holds(&self, key: &PublicKey) -> Auth {
        let held = matches!(&*self.admits, Admits::PublicKey(admitted) if admitted.key_data() == key.key_data());
        verdict(held, &self.admits)
    }

    fn ask(&self) -> Auth {
        let Admits::KeyboardInteractive(rounds) = &*self.admits else { return refusal(&self.admits) };
        match rounds.get(self.round) {
            Some(round) => Auth::Partial {
                name: round.title.clone().into(),
                instructions: round.instructions.clone().into(),
                prompts: round.questions.iter().map(|(text, echo, _)| (text.clone().into(), *echo)).collect(),
            },
            None => Auth::Accept,
        }
    }

    fn answered(&self, answers: Response<'_>) -> bool {
        let Admits::KeyboardInteractive(rounds) = &*self.admits else { return false };
        let Some(round) = rounds.get(self.round) else { return false };
        let answers: Vec<_> = answers.collect();
        answers.len() == round.questions.len()
            && answers.iter().zip(&round.questions).all(|(given, (_, _, answer))| same_secret(given, answer))
    }

    /// Returns whether the channel may start a program now, and marks it as started if so.
    fn start(&mut self, id: ChannelId) -> bool {
        let fresh = self.channels.iter_mut().find(|channel| channel.id == id && !channel.started);
        fresh.map(|channel| channel.started = true).is_some()
    }
}

fn answer(session: &mut Session, channel: ChannelId, accepted: bool) -> Result<(), russh::Error> {
    if accepted { session.channel_success(channel) } else { session.channel_failure(channel) }
}

impl server::Handler for Guest {
    type Error = russh::Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, Self::Error> {
        Ok(verdict(matches!(*self.admits, Admits::Anyone), &self.admits))
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        let known = match &*self.admits {
            Admits::Password { user: known, password: secret } => {
                user == known && same_secret(password.as_bytes(), secret)
            }
            Admits::Anyone | Admits::KeyboardInteractive(_) | Admits::PublicKey(_) => false,
        };
        Ok(verdict(known, &self.admits))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        match response {
            None => self.round = 0,
            Some(answers) => {
                if !self.answered(answers) {
                    return Ok(refusal(&self.admits));
                }
                self.round += 1;
            }
        }
        Ok(self.ask())
    }

    async fn auth_publickey_offered(&mut self, _user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        Ok(self.holds(offer.public_key))
    }

    async fn auth_publickey(&mut self, _user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(self.holds(key.public_key))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.channels.len() >= MAX_CHANNELS {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        self.channels.push(GuestChannel { id: channel.id(), started: false });
        tokio::spawn(shell::serve(channel, session.handle(), self.wire.clone()));
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        self.channels.retain(|open| open.id != channel);
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _cols: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        answer(session, channel, true)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        let started = self.start(channel);
        answer(session, channel, started)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let started = Playground::can_exec(command) && self.start(channel);
        answer(session, channel, started)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        // Clients send their locale unasked; a refusal would only make them show a warning.
        answer(session, channel, true)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        _cols: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        answer(session, channel, true)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        answer(session, channel, false)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        answer(session, channel, false)
    }
}
