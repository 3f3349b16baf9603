//! What the audit log keeps: who did what, from where, to whom, and whether it was let happen. Knows no store, no clock
//! and no HTTP.
//!
//! Entries are numbered from 1 without a gap and chained by `core::chain` in a log of their own: the history of
//! sessions is shortened at its beginning as sessions retire, this log never is.

use std::{fmt, net::IpAddr, str::FromStr};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

use super::{
    chain::Link,
    record::{NotAWord, UtcMicros, words},
    visible::made_visible,
};

/// Who acts where nobody is signed in.
pub const ANONYMOUS: &str = "anonymous";

/// Characters of a user's name.
const MAX_ACTOR_CHARS: usize = 128;
/// Characters of what was acted on: a host name has up to 253.
const MAX_SUBJECT_CHARS: usize = 300;
/// Characters of the sentence.
const MAX_DETAIL_CHARS: usize = 500;

words! {
    /// What was done.
    Action {
        /// Somebody signed in, or tried to.
        SignIn => "sign_in",
        /// Somebody signed out.
        SignOut => "sign_out",
        /// A page of another origin asked for something.
        OriginRefused => "origin.refused",
        /// A session was opened.
        SessionOpen => "session.open",
        /// A session was ended by an order.
        SessionTerminate => "session.terminate",
        /// Somebody else's terminal was looked at, or taken over.
        SessionAttach => "session.attach",
        /// Somebody typed in another's session, or took control of it.
        SessionControl => "session.control",
        /// Somebody else's recording was read.
        RecordingRead => "recording.read",
        /// A target showed a host key that was not accepted.
        HostKeyRefused => "target.host_key_refused",
        /// A target opened a channel that nobody asked for.
        ChannelRefused => "target.channel_refused",
        /// A host key was accepted.
        HostKeyAccept => "host_key.accept",
        /// A host key that waited was dismissed.
        HostKeyDismiss => "host_key.dismiss",
        /// A known host key was forgotten.
        HostKeyForget => "host_key.forget",
        /// A target was added.
        TargetCreate => "target.create",
        /// A target was changed, or its credential.
        TargetChange => "target.change",
        /// A target was removed.
        TargetRemove => "target.remove",
        /// Everything sealed was sealed anew.
        SealRotate => "seal.rotate",
        /// A target was tried out.
        TargetTest => "target.test",
        /// A user was made.
        UserCreate => "user.create",
        /// A user was changed.
        UserChange => "user.change",
        /// A user was removed.
        UserRemove => "user.remove",
        /// A password was set.
        UserPassword => "user.password",
        /// Somebody's second factor was turned on or taken away.
        UserSecondFactor => "user.second_factor",
        /// A link was made with which somebody sets their own password.
        UserLink => "user.link",
        /// A token was made.
        TokenCreate => "token.create",
        /// A token was revoked.
        TokenRevoke => "token.revoke",
        /// A browser was signed out from elsewhere.
        DeviceSignOut => "device.sign_out",
        /// The stores were compared by an order.
        StoreSweep => "store.sweep",
        /// The gateway began to serve.
        GatewayStart => "gateway.start",
        /// The gateway read its configuration again.
        GatewayReload => "gateway.reload",
        /// The gateway stopped in order.
        GatewayStop => "gateway.stop",
        /// The gateway was told to drain.
        GatewayDrain => "gateway.drain",
        /// A webhook was not told of some entries.
        WebhookGiveUp => "webhook.give_up",
        /// Entries before this one found no room.
        AuditLost => "audit.lost",
    }
}

words! {
    /// What became of it.
    Outcome {
        /// It was done.
        Ok => "ok",
        /// It was not let happen.
        Refused => "refused",
    }
}

/// What somebody did, as it is told to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// The user's name, [`ANONYMOUS`], or nothing where the gateway itself acts.
    pub actor: String,
    /// Where the request came from; `None` where there was none.
    pub client_ip: Option<IpAddr>,
    /// What.
    pub action: Action,
    /// To whom or what: a name, an id.
    pub subject: String,
    /// What became of it.
    pub outcome: Outcome,
    /// One sentence for people; no secret, ever.
    pub detail: String,
}

impl Deed {
    /// Something that was done.
    pub fn done(action: Action, actor: &str, client_ip: IpAddr, subject: impl ToString, detail: &str) -> Self {
        let (actor, subject, detail) = (actor.to_owned(), subject.to_string(), detail.to_owned());
        Self { actor, client_ip: Some(client_ip), action, subject, outcome: Outcome::Ok, detail }
    }

    /// Something that was not let happen; `detail` says why.
    pub fn refused(action: Action, actor: &str, client_ip: IpAddr, subject: impl ToString, detail: &str) -> Self {
        Self { outcome: Outcome::Refused, ..Self::done(action, actor, client_ip, subject, detail) }
    }

    /// Something that the gateway did, or that befell it.
    pub fn of_gateway(action: Action, subject: impl ToString, detail: &str) -> Self {
        let (subject, detail) = (subject.to_string(), detail.to_owned());
        Self { actor: String::new(), client_ip: None, action, subject, outcome: Outcome::Ok, detail }
    }

    /// Something that user `uid` of this machine did on the command line.
    pub fn of_tool(uid: u32, action: Action, subject: impl ToString, detail: &str) -> Self {
        Self::of_gateway(action, subject, &format!("By user {uid} of this machine: {detail}"))
    }

    /// The same with texts of bounded length in which every letter is seen: a line end, an escape or a mark that turns the
    /// text around is spelled out.
    pub fn bounded(self) -> Self {
        Self {
            actor: made_visible(&self.actor, MAX_ACTOR_CHARS),
            subject: made_visible(&self.subject, MAX_SUBJECT_CHARS),
            detail: made_visible(&self.detail, MAX_DETAIL_CHARS),
            ..self
        }
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1.
    pub sequence: u64,
    /// When, by the wall clock.
    pub at: UtcMicros,
    /// What.
    pub deed: Deed,
}

/// The end of a log: whoever notes it elsewhere can tell later that nothing up to it was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The number of the last entry, zero before the first.
    pub sequence: u64,
    /// Its link.
    pub link: Link,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, HEXLOWER.encode(&self.link))
    }
}

impl FromStr for Head {
    type Err = NotAWord;

    /// Reads its number, a colon and its link in hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let (sequence, link) = text.split_once(':').ok_or(NotAWord)?;
        let link = HEXLOWER_PERMISSIVE.decode(link.as_bytes()).map_err(|_| NotAWord)?;
        let sequence = sequence.parse().map_err(|_| NotAWord)?;
        Ok(Self { sequence, link: link.try_into().map_err(|_| NotAWord)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deed_is_bounded_and_every_letter_of_it_is_seen() {
        let hostile = format!("ada\r\n\u{202e}{}", "x".repeat(10_000));
        let deed = Deed::refused(Action::SignIn, &hostile, [192, 0, 2, 7].into(), &hostile, &hostile).bounded();
        for (text, most) in
            [(&deed.actor, MAX_ACTOR_CHARS), (&deed.subject, MAX_SUBJECT_CHARS), (&deed.detail, MAX_DETAIL_CHARS)]
        {
            assert!(text.starts_with("ada\\u{d}\\u{a}\\u{202e}xxx") && text.ends_with('…'), "{text}");
            assert_eq!(text.chars().count(), most);
        }
        assert_eq!(deed.clone().bounded(), deed);
    }

    #[test]
    fn a_head_is_read_back() {
        let head = Head { sequence: 7, link: [0xab; 32] };
        assert_eq!(head.to_string(), format!("7:{}", "ab".repeat(32)));
        assert_eq!(head.to_string().parse(), Ok(head));
        for wrong in ["", "7", "7:", "7:ab", "x:00", "-1:00"] {
            assert_eq!(wrong.parse::<Head>(), Err(NotAWord), "{wrong}");
        }
    }

    #[test]
    fn an_action_has_one_spelling() {
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(*action));
            assert_eq!(serde_json::json!(action), action.as_str());
        }
    }
}
