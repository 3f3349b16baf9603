//! The entries of the audit log: who did what, from where, to whom, and whether it was allowed. Knows no store, no
//! clock and no HTTP.
//!
//! Entries are numbered from 1 without a gap and chained by `core::chain` in a log of their own: the history of
//! sessions is cut at its beginning as sessions retire, this log never is.

use std::{fmt, net::IpAddr, str::FromStr};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

use super::{
    chain::Link,
    record::{EndReason, NotAWord, Record, UtcMicros, words},
    rfc3339::Rfc3339,
    visible::made_visible,
};

/// The actor where nobody is signed in.
pub const ANONYMOUS: &str = "anonymous";

/// Most characters of a user's name.
const MAX_ACTOR_CHARS: usize = 128;
/// Most characters of a subject: a host name has up to 253.
const MAX_SUBJECT_CHARS: usize = 300;
/// Most characters of the sentence.
const MAX_DETAIL_CHARS: usize = 500;

words! {
    /// The action of an entry.
    Action {
        /// Somebody signed in, or tried to.
        SignIn => "sign_in",
        /// Somebody signed out.
        SignOut => "sign_out",
        /// A page of another origin sent a request.
        OriginRefused => "origin.refused",
        /// A session was opened.
        SessionOpen => "session.open",
        /// A session is over since the connection to its target failed.
        SessionConnect => "session.connect",
        /// A session was ended on request.
        SessionTerminate => "session.terminate",
        /// A session is over for another reason.
        SessionEnd => "session.end",
        /// Another user's terminal was watched, or taken over.
        SessionAttach => "session.attach",
        /// Somebody typed in another user's session, or took control of it.
        SessionControl => "session.control",
        /// Another user's recording was read.
        RecordingRead => "recording.read",
        /// A recording was sealed too late for the close of its session, which would have told the seal.
        RecordingSeal => "recording.seal",
        /// A target presented a host key that was not accepted.
        HostKeyRefused => "target.host_key_refused",
        /// A target opened a channel that was not requested.
        ChannelRefused => "target.channel_refused",
        /// A host key was accepted.
        HostKeyAccept => "host_key.accept",
        /// A pending host key was dismissed.
        HostKeyDismiss => "host_key.dismiss",
        /// A known host key was forgotten.
        HostKeyForget => "host_key.forget",
        /// A target was added.
        TargetCreate => "target.create",
        /// A target was changed, or its credential.
        TargetChange => "target.change",
        /// A target was removed.
        TargetRemove => "target.remove",
        /// All sealed secrets were sealed again with the current key.
        SealRotate => "seal.rotate",
        /// A target was tested.
        TargetTest => "target.test",
        /// A user was created.
        UserCreate => "user.create",
        /// A user was changed.
        UserChange => "user.change",
        /// A user was removed.
        UserRemove => "user.remove",
        /// A password was set.
        UserPassword => "user.password",
        /// A user's second factor was turned on or removed.
        UserSecondFactor => "user.second_factor",
        /// A link was created with which a user sets their own password.
        UserLink => "user.link",
        /// A token was created.
        TokenCreate => "token.create",
        /// A token was revoked.
        TokenRevoke => "token.revoke",
        /// A browser was signed out from another place.
        DeviceSignOut => "device.sign_out",
        /// The stores were compared on request.
        StoreSweep => "store.sweep",
        /// The stores were mended by the doctor.
        StoreRepair => "store.repair",
        /// A person confirmed that a gateway is gone, and it was fenced.
        NodeConfirmDead => "node.confirm_dead",
        /// The gateway began to serve.
        GatewayStart => "gateway.start",
        /// The gateway read its configuration again.
        GatewayReload => "gateway.reload",
        /// The gateway stopped in good order.
        GatewayStop => "gateway.stop",
        /// The gateway was ordered to drain.
        GatewayDrain => "gateway.drain",
        /// Some entries were not delivered to a webhook.
        WebhookGiveUp => "webhook.give_up",
        /// Earlier entries were lost for lack of room.
        AuditLost => "audit.lost",
    }
}

words! {
    /// The outcome of an action.
    Outcome {
        /// It was done.
        Ok => "ok",
        /// It was refused.
        Refused => "refused",
    }
}

/// An action as it is handed to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// The user's name, [`ANONYMOUS`], or empty where the gateway itself acts.
    pub actor: String,
    /// The address the request came from; `None` where there was no request.
    pub client_ip: Option<IpAddr>,
    /// The action.
    pub action: Action,
    /// The name or id of the user or thing acted on.
    pub subject: String,
    /// The outcome.
    pub outcome: Outcome,
    /// One sentence for people; never holds a secret.
    pub detail: String,
}

impl Deed {
    /// Returns a deed that was done.
    pub fn done(action: Action, actor: &str, client_ip: IpAddr, subject: impl ToString, detail: &str) -> Self {
        let (actor, subject, detail) = (actor.to_owned(), subject.to_string(), detail.to_owned());
        Self { actor, client_ip: Some(client_ip), action, subject, outcome: Outcome::Ok, detail }
    }

    /// Returns a deed that was refused; `detail` says why.
    pub fn refused(action: Action, actor: &str, client_ip: IpAddr, subject: impl ToString, detail: &str) -> Self {
        Self { outcome: Outcome::Refused, ..Self::done(action, actor, client_ip, subject, detail) }
    }

    /// Returns a deed of the gateway itself, or an event that affected it.
    pub fn of_gateway(action: Action, subject: impl ToString, detail: &str) -> Self {
        let (subject, detail) = (subject.to_string(), detail.to_owned());
        Self { actor: String::new(), client_ip: None, action, subject, outcome: Outcome::Ok, detail }
    }

    /// Returns the deed that a session of its owner is over, of which `why` is the sentence in its history; `None` while
    /// it is not over. One whose connection failed is refused.
    pub fn of_end(session: &Record, why: &str) -> Option<Self> {
        let reason = session.end_reason?;
        let (action, outcome) = match reason {
            EndReason::ConnectFailed | EndReason::AuthFailed | EndReason::HostKeyRejected => {
                (Action::SessionConnect, Outcome::Refused)
            }
            EndReason::Exited
            | EndReason::UserClosed
            | EndReason::Terminated
            | EndReason::DetachExpired
            | EndReason::IdleTimeout
            | EndReason::MaxDuration
            | EndReason::PeerLost
            | EndReason::PeerClosed
            | EndReason::NodeLost
            | EndReason::Fenced
            | EndReason::Revoked
            | EndReason::Shutdown
            | EndReason::ActorFailed
            | EndReason::Overloaded => (Action::SessionEnd, Outcome::Ok),
        };
        let Record { id, username, client_ip, target, start_time, .. } = session;
        let detail = format!("Session {id}, opened {}: {reason}. {why}", Rfc3339(*start_time));
        Some(Self { outcome, ..Self::done(action, username, *client_ip, target, detail.trim_end()) })
    }

    /// Returns a deed that user `uid` of this machine did on the command line.
    pub fn of_tool(uid: u32, action: Action, subject: impl ToString, detail: &str) -> Self {
        Self::of_gateway(action, subject, &format!("By user {uid} of this machine: {detail}"))
    }

    /// Returns the same deed with texts of bounded length in which every character is visible: a line end, an escape or
    /// a mark that reverses the text is spelled out.
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
    /// The wall time of the deed.
    pub at: UtcMicros,
    /// The deed.
    pub deed: Deed,
}

/// The end of a log: a copy kept elsewhere shows later that nothing up to it was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The number of the last entry, 0 before the first.
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

    /// Reads the number, a colon and the link in hexadecimal digits.
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
    use crate::core::record::fixture;

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
    fn the_end_of_a_session_names_who_opened_it_when_and_how_it_ended() {
        let open = fixture::opened(UtcMicros(1_767_323_045_678_901));
        let told = |reason| Deed::of_end(&Record { end_reason: Some(reason), ..open.clone() }, "So it was.").unwrap();
        let ended = told(EndReason::Exited);
        assert_eq!((ended.action, ended.outcome), (Action::SessionEnd, Outcome::Ok));
        assert_eq!((&ended.actor, ended.client_ip), (&open.username, Some(open.client_ip)));
        assert_eq!(ended.subject, open.target);
        let detail = format!("Session {}, opened 2026-01-02T03:04:05.678901Z: exited. So it was.", open.id);
        assert_eq!(ended.detail, detail);
        for reason in [EndReason::ConnectFailed, EndReason::AuthFailed, EndReason::HostKeyRejected] {
            assert_eq!((told(reason).action, told(reason).outcome), (Action::SessionConnect, Outcome::Refused));
        }
        assert_eq!(Deed::of_end(&open, ""), None);
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
