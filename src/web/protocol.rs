//! The frames of the terminal WebSocket, subprotocol `pulsegate.v1`. Binary frames are terminal bytes and are not here;
//! text frames are JSON. Its mirror in the browser is `web/src/lib/protocol.ts`. Knows no socket.

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

/// What is told of who types.
mod control;

pub use control::{ControlRequestView, Held, May};

/// The subprotocol's name.
pub const SUBPROTOCOL: &str = "pulsegate.v1";

/// The largest frame a browser may send, in bytes.
pub const MAX_FRAME: usize = 64 * 1024;

/// The largest number of columns or rows; the smallest is 1.
const MAX_SIDE: u32 = 1_000;

/// What a browser says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum BrowserFrame {
    /// Its first frame.
    Attach {
        /// Columns.
        cols: u32,
        /// Rows.
        rows: u32,
        /// Whether it types or looks on.
        mode: Mode,
        /// The page's own name, which survives its reconnects.
        client_id: String,
        /// Output it has; `null` for a new screen.
        #[serde(default)]
        output_offset: Option<u64>,
        /// Input it has sent; `null` for a new page. The answer says how much was taken.
        #[serde(default)]
        input_offset: Option<u64>,
        /// Whether it knows what a picture is: bytes that draw a screen and count in no offset.
        #[serde(default)]
        screen: bool,
        /// Whether it knows that who types may change; counts with `screen` only.
        #[serde(default)]
        control: bool,
        /// Whether it comes back by itself: no person asked for it just now.
        #[serde(default)]
        again: bool,
    },
    /// It consumed the output up to here.
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
    /// The person wants to stay.
    Stay {},
    /// The user is done.
    Close {},
    /// An onlooker asks the owner to be let type.
    RequestControl {},
    /// The owner takes control back, or an onlooker takes it where the policy lets them.
    TakeControl {},
    /// A guest gives control back.
    ReturnControl {},
    /// The owner lets somebody type.
    GrantControl {
        /// The request.
        id: u64,
    },
    /// The owner does not.
    RefuseControl {
        /// The request.
        id: u64,
    },
    /// What follows is typed in this turn.
    Typing {
        /// The turn.
        turn: u64,
    },
}

/// Reads a frame, which is an object.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read(text: &[u8]) -> Result<BrowserFrame, String> {
    serde_json::from_slice(text).map(|Object(frame)| frame).map_err(|error| in_words(&error))
}

/// How a browser is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It types.
    Interactive,
    /// It looks on.
    Observe,
}

/// What the gateway says.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum GatewayFrame<'a> {
    /// The answer to `attach`.
    Attached {
        /// The session as it stands.
        session: Box<SessionView<'a>>,
        /// The offset of the output that follows.
        output_offset: u64,
        /// The offset the browser's input continues at.
        input_offset: u64,
        /// Unacknowledged output it will be sent at most.
        output_window: u64,
        /// How often it is pinged while silent.
        ping_interval_ms: u64,
        /// Whether it continues where it was.
        resumed: bool,
        /// Bytes it asked for that are no longer kept.
        lost_bytes: u64,
        /// Columns of the terminal, as who types has them.
        cols: u16,
        /// Rows.
        rows: u16,
        /// Bytes of the picture that comes before that output, if any.
        screen_bytes: usize,
        /// Who types, for a page that knows that this may change.
        #[serde(skip_serializing_if = "Option::is_none")]
        control: Option<Held<'a>>,
    },
    /// Who types has changed.
    Control(Held<'a>),
    /// Who asks the owner to be let type: all of them.
    ControlRequests {
        /// The requests, oldest first.
        items: Vec<ControlRequestView<'a>>,
    },
    /// What became of a wish to type.
    ControlAnswer {
        /// A stable word.
        outcome: Answer,
        /// The sentence for the person.
        message: &'a str,
    },
    /// What was typed without control was not delivered.
    InputRefused {
        /// The sentence for the person.
        message: &'a str,
    },
    /// A browser that fell behind goes on from a picture.
    Screen {
        /// The offset of the output that follows the picture.
        output_offset: u64,
        /// Bytes of the picture that comes next.
        screen_bytes: usize,
        /// Bytes of output that it does not get.
        lost_bytes: u64,
    },
    /// The terminal has a new size.
    Size {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// Who looks on has changed.
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
        /// To be repeated in the answer.
        id: u64,
        /// What kind.
        kind: &'static str,
        /// A heading.
        title: &'a str,
        /// What the person should know.
        text: &'a str,
        /// What to fill in.
        fields: Vec<Field<'a>>,
    },
    /// The session changed.
    Status {
        /// The word.
        status: &'a str,
        /// A sentence.
        detail: &'a str,
    },
    /// Nobody has typed for long.
    IdleWarning {
        /// Time left.
        closes_in_ms: u64,
    },
    /// The session has nearly reached its longest duration, whatever anybody does.
    DurationWarning {
        /// Time left.
        closes_in_ms: u64,
    },
    /// Something to know that changes nothing yet.
    Notice {
        /// A stable word.
        code: &'static str,
        /// The sentence for the person.
        message: &'a str,
    },
    /// The session is over; a close frame with 1000 follows, or with 1012 where the gateway itself ends.
    Closed {
        /// Why.
        reason: EndReason,
        /// The program's exit status, if told.
        exit_status: Option<u32>,
        /// The sentence for the person.
        message: &'a str,
    },
    /// Something went wrong; a close frame with the matching code follows.
    Error {
        /// A stable word.
        code: &'static str,
        /// The sentence for the person.
        message: &'a str,
    },
}

/// One thing to fill in.
#[derive(Debug, Serialize)]
pub struct Field<'a> {
    /// Its label.
    pub label: &'a str,
    /// Whether what is typed may be seen.
    pub echo: bool,
}

/// What a browser is told, once, of a gateway that opens nothing any more.
pub const DRAINING: GatewayFrame<'static> = GatewayFrame::Notice {
    code: "draining",
    message: "The gateway will be restarted. This session goes on; once it is closed, open the next one a little later.",
};

/// What a browser without a session's last words is told of a gateway that stops.
pub const STOPPING: &str = "The gateway is being restarted. Come back in a moment.";

/// The longest name a page may give itself.
const CLIENT_ID: usize = 64;

/// Checks the name a page gives itself; what is wrong with it is for the person.
pub fn client(id: &str) -> Result<(), String> {
    let fits = (1..=CLIENT_ID).contains(&id.len());
    if fits { Ok(()) } else { Err(format!("client_id must have 1 to {CLIENT_ID} bytes.")) }
}

/// Checks the size of a terminal; what is wrong with it is for the person.
pub fn size(cols: u32, rows: u32) -> Result<Size, String> {
    let side = |side: u32| u16::try_from(side).ok().filter(|_| (1..=MAX_SIDE).contains(&side));
    let size = side(cols).zip(side(rows)).map(|(cols, rows)| Size { cols, rows });
    size.ok_or_else(|| format!("A terminal has 1 to {MAX_SIDE} columns and rows, not {cols} × {rows}."))
}

/// The frame of a question.
pub fn prompt(id: u64, prompt: &Prompt) -> GatewayFrame<'_> {
    let kind = match prompt.kind {
        PromptKind::Password => "password",
        PromptKind::KeyboardInteractive => "keyboard_interactive",
        PromptKind::HostKey | PromptKind::SharedHostKey => "host_key",
    };
    let fields = prompt.fields.iter().map(|field| Field { label: &field.label, echo: field.echo }).collect();
    GatewayFrame::Prompt { id, kind, title: &prompt.title, text: &prompt.text, fields }
}

/// Why the gateway ends a socket: the word of the `error` frame and the code of the close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A frame is malformed, out of order or out of range.
    Protocol,
    /// Whoever was signed in no longer is.
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
    /// More came, or more lies ahead, than can be held.
    TooMany,
    /// The gateway failed; the browser should come back.
    Failed,
    /// The gateway stops; the browser should come back once it is there again.
    Restart,
}

impl Fault {
    /// The stable word and the WebSocket close code (RFC 6455 §7.4.2: 4000–4999 are the application's; 1012 is *service
    /// restart* in IANA's registry).
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
