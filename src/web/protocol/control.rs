//! What is told of who types, as it stands in frames. Knows no session.

use serde::Serialize;

/// Who types, as one page is told.
#[derive(Debug, Serialize)]
pub struct Held<'a> {
    /// Counts how often control moved.
    pub turn: u64,
    /// Whether this page types.
    pub typing: bool,
    /// Who types in the owner's stead.
    pub name: Option<&'a str>,
    /// What this page can do to type.
    pub may: May,
    /// How far its own typing was taken: what it holds beyond that was not.
    pub input_offset: u64,
    /// How it came about; empty when the page came.
    pub message: &'a str,
}

/// What a page can do to type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum May {
    /// Take control at once.
    Take,
    /// Ask the owner.
    Ask,
    /// Nothing.
    None,
}

/// Somebody who asks the owner to be let type.
#[derive(Debug, Serialize)]
pub struct ControlRequestView<'a> {
    /// To be named in the answer.
    pub id: u64,
    /// The user.
    pub name: &'a str,
    /// When it is too late for an answer.
    pub ends_in_ms: u64,
}
