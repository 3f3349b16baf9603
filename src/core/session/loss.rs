//! How a browser's socket came to be gone, and what the history says of it. Knows no session and no socket.

use std::fmt;

/// How a browser's socket came to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Its connection ended without a good-bye.
    Broken,
    /// Its page said good-bye.
    Left,
    /// It left a full window unacknowledged for too long.
    Stuck,
    /// The gateway would not go on with what it sent: the word of the `error` frame that it was told.
    Refused(&'static str),
    /// Somebody else types from here on, of which its page knows nothing.
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
