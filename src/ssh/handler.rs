//! russh's callbacks during one connection, and the errors for how it ends. Presents the host key and waits for the
//! verdict; asks no user, reads no file, accepts nothing unsolicited.

use std::sync::{Arc, OnceLock};

use russh::{
    Channel, ChannelId, Names, cipher,
    client::{self, ChannelOpenHandle, DisconnectReason, Msg, Session},
    keys::PublicKeyOrCertificate,
};
use tokio::sync::{oneshot, watch};

use super::{
    ConnectError,
    person::{Person, clean_line, clean_text},
    valve::ValveControl,
};

/// Maximum banners shown for one login.
const MAX_BANNERS: u8 = 4;
/// Maximum unsolicited channels that one connection reports: one of each existing kind, and no more, since each report
/// is kept for ever.
const TOLD_UNASKED: u16 = 8;
/// Maximum unsolicited channels of one connection; one more cuts it off. russh answers each over an unbounded queue,
/// which stands still while keys are renewed: for as long as the target likes.
const MAX_UNASKED: u16 = 256;

/// The peer, for messages about it.
pub(super) struct Peer {
    /// The address that was dialled, with its port.
    pub(super) addr: String,
    /// The host as typed, cleaned of control characters.
    pub(super) host: String,
    valve_control: Arc<ValveControl>,
    said: Arc<OnceLock<String>>,
}

impl Peer {
    /// Returns the peer called `host` at `addr`, behind the valve of `valve_control`.
    pub(super) fn new(addr: String, host: &str, valve_control: Arc<ValveControl>) -> Self {
        Self { addr, host: clean_line(host), valve_control, said: Arc::default() }
    }

    /// Reads from the target only while its answer is awaited: russh's queue for what a hostile target sends during a
    /// login that waits for a user is unbounded.
    pub(super) async fn listen<T>(&self, answer: impl Future<Output = T>) -> T {
        self.valve_control.open();
        let answer = answer.await;
        self.valve_control.close();
        answer
    }

    /// Returns the target's message when it hung up, or the reason for which it was cut off.
    pub(super) fn last_words(&self) -> Option<&str> {
        self.said.get().map(String::as_str)
    }

    /// Returns the error for a connection that broke after the key exchange.
    pub(super) fn broken(&self, error: &russh::Error) -> ConnectError {
        self.broken_by(self.cause(error))
    }

    /// Returns the error for a connection that is given up after the key exchange.
    pub(super) fn broken_by(&self, cause: String) -> ConnectError {
        ConnectError::Broken { addr: self.addr.clone(), cause }
    }

    /// Returns the error for a failed key exchange.
    pub(super) fn no_agreement(&self, error: &russh::Error) -> ConnectError {
        ConnectError::KeyExchange { addr: self.addr.clone(), cause: self.cause(error) }
    }

    fn cause(&self, error: &russh::Error) -> String {
        if let Some(words) = self.last_words() {
            return words.to_owned();
        }
        match error {
            russh::Error::Version => "what answers is no SSH server".to_owned(),
            russh::Error::Disconnect
            | russh::Error::HUP
            | russh::Error::SendError
            | russh::Error::RecvError
            | russh::Error::IO(_) => "it closed the connection, or is no SSH server".to_owned(),
            russh::Error::NoCommonAlgo { kind, theirs, .. } => {
                let kind = format!("{kind:?}").to_lowercase();
                clean_line(&format!(
                    "no {kind} algorithm is both offered there and safe; it offers {}",
                    theirs.join(", ")
                ))
            }
            error => clean_line(&format!("it breaks the SSH protocol: {error}")),
        }
    }
}

/// A host key that waits for the verdict; dropping `accepted` refuses it.
pub(super) struct Presented {
    /// The key, or the certificate that holds it.
    pub(super) key: PublicKeyOrCertificate,
    /// The verdict.
    pub(super) accepted: oneshot::Sender<bool>,
}

/// The receiver of russh's callbacks: it decides nothing that needs a user or a file.
pub(super) struct Client {
    show: Option<oneshot::Sender<Presented>>,
    person: Person,
    banners: u8,
    unasked: u16,
    valve_control: Arc<ValveControl>,
    said: Arc<OnceLock<String>>,
    /// Dropped when russh's task ends, which notifies the link.
    _alive: watch::Sender<()>,
}

impl Client {
    /// Returns a handler that presents the host key through `show`, once; `alive` is dropped with the connection.
    pub(super) fn new(show: oneshot::Sender<Presented>, person: Person, peer: &Peer, alive: watch::Sender<()>) -> Self {
        let (valve_control, said) = (peer.valve_control.clone(), peer.said.clone());
        Self { show: Some(show), person, banners: 0, unasked: 0, valve_control, said, _alive: alive }
    }

    /// Keeps the first cause; later ones only follow from it.
    fn remark(&self, words: &str) {
        let words = clean_line(words);
        if !words.is_empty() {
            self.said.get_or_init(|| words);
        }
    }

    /// Counts an unsolicited channel; cuts off a target that goes on opening them.
    fn count(&mut self, kind: &'static str) {
        self.unasked = self.unasked.saturating_add(1);
        if self.unasked <= TOLD_UNASKED {
            tracing::warn!(kind, "the target opened a channel unasked: refused");
            self.person.unasked(kind);
        }
        if self.unasked > MAX_UNASKED {
            self.valve_control.cut();
        }
    }

    /// Refuses an unsolicited channel: dropping the handle sends the refusal.
    fn refuse(&mut self, kind: &'static str, reply: ChannelOpenHandle) {
        self.count(kind);
        drop(reply);
    }
}

/// Whether an attacker on the way can remove packets undetected (CVE-2023-48795).
fn is_open_to_terrapin(cipher: &cipher::Name, strict: bool) -> bool {
    *cipher == cipher::CHACHA20_POLY1305 && !strict
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let key = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.clone().into(),
            PublicKeyOrCertificate::Certificate(certificate) => certificate.clone().into(),
        };
        let (accepted, verdict) = oneshot::channel();
        let shown = self.show.take().is_some_and(|show| show.send(Presented { key, accepted }).is_ok());
        Ok(shown && verdict.await.unwrap_or(false))
    }

    async fn kex_done(&mut self, _: Option<&[u8]>, names: &Names, _: &mut Session) -> Result<(), russh::Error> {
        if is_open_to_terrapin(&names.cipher, names.strict_kex()) {
            self.remark("it offers ChaCha20-Poly1305 without strict key exchange (CVE-2023-48795)");
            return Err(russh::Error::Kex);
        }
        Ok(())
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut Session) -> Result<(), russh::Error> {
        if self.banners < MAX_BANNERS {
            self.banners += 1;
            self.person.tell(clean_text(banner));
        }
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        match reason {
            DisconnectReason::ReceivedDisconnect(farewell) => {
                self.remark(&farewell.message);
                Ok(())
            }
            DisconnectReason::Error(error) => Err(error),
        }
    }

    async fn should_accept_unknown_server_channel(&mut self, _: ChannelId, _: &str) -> bool {
        self.count("unknown");
        false
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.refuse("forwarded-tcpip", reply);
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.refuse("forwarded-streamlocal", reply);
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.refuse("auth-agent", reply);
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.refuse("session", reply);
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.refuse("direct-tcpip", reply);
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.refuse("direct-streamlocal", reply);
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.refuse("x11", reply);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chacha20_needs_strict_key_exchange_and_is_refused_without() {
        assert!(is_open_to_terrapin(&cipher::CHACHA20_POLY1305, false));
        assert!(!is_open_to_terrapin(&cipher::CHACHA20_POLY1305, true));
        assert!(!is_open_to_terrapin(&cipher::AES_256_GCM, false));
    }
}
