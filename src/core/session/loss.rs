//! The ways a browser's socket is lost, and the sentence about it in the history. Knows no session and no socket.

use std::fmt;

/// The way a browser's socket was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The connection ended without a close message.
    Broken,
    /// The page said that it leaves.
    Left,
    /// It left a full window unacknowledged for too long.
    Stuck,
    /// The gateway refused what the browser sent: the code of the `error` frame that the browser received.
    Refused(&'static str),
    /// Another user types from here on, and the page cannot show that.
    TakenOver,
}

/// The sentence of the history.
impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken => f.write_str("The browser's connection was lost."),
            Self::Left => f.write_str("The browser left."),
            Self::Stuck => f.write_str("The browser took no output for too long, so the gateway let it go."),
            Self::Refused(word) => write!(f, "The gateway would not go on with what the browser sent ({word})."),
            Self::TakenOver => {
                f.write_str("The browser cannot show that somebody else types, so the gateway let it go.")
            }
        }
    }
}
