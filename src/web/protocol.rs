//! The frames of the terminal WebSocket, subprotocol `pulsegate.v1`. Binary frames are terminal bytes and are not here;
//! text frames are JSON. Its mirror in the browser is `web/src/lib/protocol.ts`. Does not know sockets.

use std::collections::BTreeSet;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{
    object::{Object, in_words},
    view::SessionView,
};
use crate::{
    core::{control::Answer, record::EndReason},
    ssh::{Prompt, PromptKind, Size},
};

/// The state of control, as frames show it.
mod control;

pub use control::{ControlOption, ControlRequestView, Held};

/// The subprotocol's name.
pub const SUBPROTOCOL: &str = "pulsegate.v1";

/// The largest frame a browser may send, in bytes.
pub const MAX_FRAME: usize = 64 * 1024;

/// The largest number of columns or rows; the smallest is 1.
const MAX_SIDE: u32 = 1_000;

/// A frame of a browser.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum BrowserFrame {
    /// Its first frame.
    Attach {
        /// Columns.
        cols: u32,
        /// Rows.
        rows: u32,
        /// Whether it types or watches.
        mode: Mode,
        /// The page's own name, which stays the same when it reconnects.
        client_id: String,
        /// The end of the output it has; `null` for a new screen.
        #[serde(default)]
        output_offset: Option<u64>,
        /// The end of the input it has sent; `null` for a new page. Only its form counts: the answer says how much was
        /// taken.
        #[serde(rename = "input_offset", default)]
        _input_offset: Option<u64>,
        /// Whether it supports pictures: bytes that draw a screen and count in no offset.
        #[serde(default)]
        screen: bool,
        /// Whether it supports changes of control; counts with `screen` only.
        #[serde(default)]
        control: bool,
        /// Whether it reconnects by itself: no user asked for it just now.
        #[serde(default)]
        again: bool,
    },
    /// It has consumed the output up to here.
    Ack {
        /// The offset after the last byte consumed.
        output_offset: u64,
    },
    /// Its terminal's size.
    Resize {
        /// Columns.
        cols: u32,
        /// Rows.
        rows: u32,
    },
    /// An answer to a prompt.
    Answer {
        /// The prompt's id.
        id: u64,
        /// One value per field.
        values: Vec<SecretString>,
    },
    /// The user wants to stay.
    Stay {},
    /// The user ends the session.
    Close {},
    /// A watcher asks the owner for control.
    RequestControl {},
    /// The owner takes control back, or a watcher takes it if the policy allows.
    TakeControl {},
    /// A guest gives control back.
    ReturnControl {},
    /// The owner grants control.
    GrantControl {
        /// The request.
        id: u64,
    },
    /// The owner refuses control.
    RefuseControl {
        /// The request.
        id: u64,
    },
    /// The input that follows belongs to this turn.
    Typing {
        /// The turn.
        turn: u64,
    },
}

/// Reads a frame, which is an object.
///
/// # Errors
/// The error, in words.
pub fn read(text: &[u8]) -> Result<BrowserFrame, String> {
    serde_json::from_slice(text).map(|Object(frame)| frame).map_err(|error| in_words(&error))
}

/// The mode of an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It types.
    Interactive,
    /// It watches.
    Observe,
}

/// A frame of the gateway.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum GatewayFrame<'a> {
    /// The answer to `attach`.
    Attached {
        /// The current session.
        session: Box<SessionView<'a>>,
        /// The offset of the output that follows.
        output_offset: u64,
        /// The offset the browser's input continues at.
        input_offset: u64,
        /// The most unacknowledged output it will be sent, in bytes.
        output_window: u64,
        /// The interval of pings, whatever the browser sends.
        ping_interval_ms: u64,
        /// Whether it continues where it was.
        resumed: bool,
        /// Bytes it asked for that are no longer kept.
        lost_bytes: u64,
        /// Columns of the terminal, as set by the page in control.
        cols: u16,
        /// Rows.
        rows: u16,
        /// Bytes of the picture before that output, if any.
        screen_bytes: usize,
        /// The state of control, for a page that supports its changes.
        #[serde(skip_serializing_if = "Option::is_none")]
        control: Option<Held<'a>>,
    },
    /// Control has changed.
    Control(Held<'a>),
    /// All pending requests for control.
    ControlRequests {
        /// The requests, oldest first.
        items: Vec<ControlRequestView<'a>>,
    },
    /// The outcome of a request for control.
    ControlAnswer {
        /// A stable word.
        outcome: Answer,
        /// The sentence for the user.
        message: &'a str,
    },
    /// Input sent without control was not delivered.
    InputRefused {
        /// The sentence for the user.
        message: &'a str,
    },
    /// A browser that fell behind continues from a picture.
    Screen {
        /// The offset of the output that follows the picture.
        output_offset: u64,
        /// Bytes of the picture that comes next.
        screen_bytes: usize,
        /// Bytes of output that it does not receive.
        lost_bytes: u64,
    },
    /// The terminal has a new size.
    Size {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// The watchers have changed.
    Watchers {
        /// The users, each once.
        names: &'a BTreeSet<String>,
    },
    /// Input was handed to the target up to here.
    InputAck {
        /// The offset after the last byte.
        input_offset: u64,
    },
    /// A question.
    Prompt {
        /// The prompt's id, to be repeated in the answer.
        id: u64,
        /// The kind of prompt.
        kind: &'static str,
        /// The heading.
        title: &'a str,
        /// Instructions for the user.
        text: &'a str,
        /// The fields to fill in.
        fields: Vec<Field<'a>>,
    },
    /// The session changed.
    Status {
        /// The new status.
        status: &'a str,
        /// A sentence.
        detail: &'a str,
    },
    /// The socket still stands, though nothing else was sent.
    Alive,
    /// The session has been idle for long, or is no longer.
    IdleWarning {
        /// Time left; `null` withdraws the warning.
        closes_in_ms: Option<u64>,
    },
    /// The session is close to its longest duration, regardless of activity.
    DurationWarning {
        /// Time left.
        closes_in_ms: u64,
    },
    /// The gateway will soon end every session, unless its lease is renewed, or no longer.
    LeaseWarning {
        /// Time left; `null` withdraws the warning.
        closes_in_ms: Option<u64>,
    },
    /// A notice; nothing has changed yet.
    Notice {
        /// A stable word.
        code: &'static str,
        /// The sentence for the user.
        message: &'a str,
    },
    /// The session has ended; a close frame follows, with 1000, or with 1012 if the gateway itself ends.
    Closed {
        /// The reason.
        reason: EndReason,
        /// The program's exit status, if known.
        exit_status: Option<u32>,
        /// The sentence for the user.
        message: &'a str,
    },
    /// An error; a close frame with the matching code follows.
    Error {
        /// A stable word.
        code: &'static str,
        /// The sentence for the user.
        message: &'a str,
    },
}

/// A field of a prompt.
#[derive(Debug, Serialize)]
pub struct Field<'a> {
    /// Its label.
    pub label: &'a str,
    /// Whether its input may be shown.
    pub echo: bool,
}

/// The one-time notice that the gateway opens no more sessions.
pub const DRAINING: GatewayFrame<'static> = GatewayFrame::Notice {
    code: "draining",
    message: "The gateway will be restarted. This session goes on; once it is closed, open the next one a little later.",
};

/// The message of a stopping gateway to a browser that received no `closed` frame.
pub const STOPPING: &str = "The gateway is being restarted. Come back in a moment.";

/// The longest `client_id`, in bytes.
const CLIENT_ID: usize = 64;

/// Checks the name a page gives itself; an error is a sentence for the user.
pub fn client(id: &str) -> Result<(), String> {
    let fits = (1..=CLIENT_ID).contains(&id.len());
    if fits { Ok(()) } else { Err(format!("client_id must have 1 to {CLIENT_ID} bytes.")) }
}

/// Checks the size of a terminal; an error is a sentence for the user.
pub fn size(cols: u32, rows: u32) -> Result<Size, String> {
    let side = |side: u32| u16::try_from(side).ok().filter(|_| (1..=MAX_SIDE).contains(&side));
    let size = side(cols).zip(side(rows)).map(|(cols, rows)| Size { cols, rows });
    size.ok_or_else(|| format!("A terminal has 1 to {MAX_SIDE} columns and rows, not {cols} × {rows}."))
}

/// Returns the frame of a prompt.
pub fn prompt(id: u64, prompt: &Prompt) -> GatewayFrame<'_> {
    let kind = match prompt.kind {
        PromptKind::Password => "password",
        PromptKind::KeyboardInteractive => "keyboard_interactive",
        PromptKind::HostKey | PromptKind::SharedHostKey => "host_key",
    };
    let fields = prompt.fields.iter().map(|field| Field { label: &field.label, echo: field.echo }).collect();
    GatewayFrame::Prompt { id, kind, title: &prompt.title, text: &prompt.text, fields }
}

/// The reason why the gateway ends a socket: the code of the `error` frame and of the close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A frame is malformed, out of order or out of range.
    Protocol,
    /// The caller is no longer signed in.
    SignIn,
    /// The session belongs to someone else.
    NotYours,
    /// No such session is known.
    NoSuchSession,
    /// The first frame did not come in time.
    SlowToAttach,
    /// Another browser took over.
    Superseded,
    /// A frame is larger than [`MAX_FRAME`].
    FrameTooLarge,
    /// Another gateway serves the session, as HTTP's 421 has it.
    Misdirected,
    /// More input arrived, or is announced, than can be held.
    TooMany,
    /// The gateway failed; the browser should reconnect.
    Failed,
    /// The gateway stops; the browser should reconnect once it is back.
    Restart,
}

impl Fault {
    /// Returns the stable code and the WebSocket close code (RFC 6455 §7.4.2: 4000–4999 are the application's; 1012 is
    /// *service restart* in IANA's registry).
    pub fn code(self) -> (&'static str, u16) {
        match self {
            Self::Protocol => ("protocol", 4400),
            Self::SignIn => ("sign_in", 4401),
            Self::NotYours => ("not_yours", 4403),
            Self::NoSuchSession => ("no_such_session", 4404),
            Self::SlowToAttach => ("slow_to_attach", 4408),
            Self::Superseded => ("superseded", 4409),
            Self::FrameTooLarge => ("frame_too_large", 4413),
            Self::Misdirected => ("misdirected", 4421),
            Self::TooMany => ("too_many", 4429),
            Self::Failed => ("failed", 4500),
            Self::Restart => ("restart", 1012),
        }
    }
}

#[cfg(test)]
mod tests;
