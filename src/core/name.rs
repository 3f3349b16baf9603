//! The names of things: sessions, nodes, their starts, moments on the wall clock or since boot. Knows nothing of the
//! things named.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

/// Identifies one session everywhere, for ever: a UUIDv7. It is a name, never a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SessionId(Uuid);

impl SessionId {
    /// Returns its bits; the last 62 are random.
    pub const fn bits(self) -> u128 {
        self.0.as_u128()
    }

    /// Returns the id of a session that starts at `start`, with 74 of the 80 given random bits (RFC 9562 §5.7).
    pub fn new(start: UtcMicros, random: [u8; 10]) -> Self {
        let millis = u64::try_from(start.0 / 1_000).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for SessionId {
    type Err = NotAWord;

    /// Accepts the hyphenated form in lower case only, so that one session has one spelling.
    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let id = Uuid::try_parse(text).map_err(|_| NotAWord)?;
        let is_v7 = id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122;
        let is_canonical = id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text;
        (is_v7 && is_canonical).then_some(Self(id)).ok_or(NotAWord)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The error of a text that is none of the words of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not one of the allowed values")]
pub struct NotAWord;

/// The name of one gateway; made once and kept in its data directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub String);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a node's start, from 1. A session's epoch is the one in which it was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// The name of one start of one gateway process: two with the same [`NodeId`] differ in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Incarnation(String);

impl Incarnation {
    /// Returns the name spelled from 128 random bits.
    pub fn new(random: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(random).into_uuid().simple().to_string())
    }

    /// Returns the number at which this start begins to count its events: 48 of its random bits. So two starts, on any
    /// nodes, have no number in common, except for one pair in a million with 140 million events each; and every number
    /// stays below 2⁵³, up to which a browser represents integers exactly.
    pub fn first_place(&self) -> u64 {
        self.0.get(..12).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or_default()
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Incarnation {
    /// Takes the text as a store kept it.
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Wall time in microseconds since 1970-01-01 UTC. It stamps records; no decision depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcMicros(pub i64);

/// A moment as the time since the host booted, suspended time included (`CLOCK_BOOTTIME`). It is never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(pub Duration);

impl BootTime {
    /// Returns the time passed since `earlier`; none if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Returns a span in microseconds, as in [`UtcMicros`]; one of more than 292,000 years is capped at that.
pub fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
