//! The state of control, as frames show it. Does not know sessions.

use serde::Serialize;

/// The state of control, as one page receives it.
#[derive(Debug, Serialize)]
pub struct Held<'a> {
    /// The turn: counts how often control moved.
    pub turn: u64,
    /// Whether this page types.
    pub typing: bool,
    /// The user who types in the owner's stead.
    pub name: Option<&'a str>,
    /// The way this page can get control.
    pub may: ControlOption,
    /// The end of its own input that was taken: input beyond that was not.
    pub input_offset: u64,
    /// The reason of the change; empty when the page attaches.
    pub message: &'a str,
}

/// The way a page can get control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlOption {
    /// Take control at once.
    Take,
    /// Ask the owner.
    Ask,
    /// Nothing.
    None,
}

/// A user who asks the owner for control.
#[derive(Debug, Serialize)]
pub struct ControlRequestView<'a> {
    /// The request's id, to be repeated in the answer.
    pub id: u64,
    /// The user.
    pub name: &'a str,
    /// The time left for an answer.
    pub ends_in_ms: u64,
}
