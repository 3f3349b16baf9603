//! Targets of the catalogue as the records keep them: their fields, the values allowed, and the context their sealed
//! credential is bound to. Pure; knows no store, and opens no seal.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::{
    people::{CatalogueEntry, Role},
    record::{UtcMicros, words},
    visible::is_visible,
};

/// Most targets in the records: every gateway holds all of them in memory and reads all again after a change.
pub const MAX_TARGETS: usize = 10_000;

/// Most tags of one target: they are shown beside its name.
pub const MAX_TAGS: usize = 32;

/// Most jump hosts on the way to a target: each costs a connection, a login and its share of every key's time.
pub const JUMP_HOSTS: usize = 4;

/// Most characters of a tag or a group.
const MAX_WORD_CHARS: usize = 64;

/// An invalid field of a target, for a message that first names the place: the field, and the values allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {allowed}")]
pub struct Unfit {
    /// The field.
    pub field: &'static str,
    /// The values allowed, to complete "must be …".
    pub allowed: &'static str,
}

/// What the name of a target may be, to complete "must be …".
pub const TARGET_NAME: &str = "1 … 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit";

/// The public part of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicTarget {
    /// Its name, unique and permanent.
    pub name: String,
    /// The host name or address, in its one spelling.
    pub host: String,
    /// 1 … 65535.
    pub port: u16,
    /// The login name there.
    pub username: String,
    /// The jump hosts of its own list, the first one first: targets by their names, or places.
    pub via: Vec<String>,
    /// The heading it is shown under.
    pub group: Option<String>,
    /// Words by which it is found and granted.
    pub tags: Vec<String>,
    /// The roles that may open it without a grant.
    pub roles: Vec<Role>,
}

impl PublicTarget {
    /// Returns the same with its host in the one usual spelling, each word once, and an empty group as `None`.
    ///
    /// # Errors
    /// The first invalid field.
    pub fn checked(self) -> Result<Self, Unfit> {
        let hold = |holds: bool, field, allowed| if holds { Ok(()) } else { Err(Unfit { field, allowed }) };
        hold(is_target_name(&self.name), "name", TARGET_NAME)?;
        let host = host_name(&self.host);
        hold(host.is_some(), "host", "a host name or an IP address, without user and port")?;
        hold(self.port != 0, "port", "1 … 65535")?;
        hold(is_login(&self.username), "username", "1 … 128 visible ASCII characters, the first no hyphen")?;
        let via: Option<Vec<String>> = self.via.iter().map(|jump| jump_host(jump)).collect();
        let via = via.filter(|via| via.len() <= JUMP_HOSTS);
        hold(via.is_some(), "via", "4 names of targets, or places as user@host:port, at most")?;
        let group = self.group.map(|group| group.trim().to_owned()).filter(|group| !group.is_empty());
        hold(group.as_deref().is_none_or(is_group), "group", "1 … 64 visible characters")?;
        hold(self.tags.iter().all(|tag| is_tag(tag)), "tags", "words of 1 … 64 visible characters, without spaces")?;
        let (tags, roles) = (each_once(self.tags), each_once(self.roles));
        hold(tags.len() <= MAX_TAGS, "tags", "32 at most")?;
        Ok(Self { host: host.unwrap_or_default(), via: via.unwrap_or_default(), group, tags, roles, ..self })
    }

    /// Returns the same, as far as access is concerned.
    pub fn listed(&self) -> CatalogueEntry {
        CatalogueEntry { name: self.name.clone(), tags: self.tags.clone(), roles: self.roles.clone() }
    }

    /// Returns its place: `login@host:port`, and ` via ` its jump hosts: behind another jump host an address is another
    /// machine.
    pub fn place(&self) -> String {
        called_via(&place(&self.username, &self.host, self.port), &self.via)
    }

    /// Returns the context that a sealed credential of this kind is bound to: for another target, another kind or
    /// another place it does not open. So a user who may change a host, or the way to it, cannot have the password sent
    /// to a host of their own.
    pub fn seal_context(&self, kind: AuthKind) -> String {
        format!("target/{}/auth/{}/{}", self.name, kind.as_str(), self.place())
    }
}

words! {
    /// The way the gateway signs in to a target of the records.
    AuthKind {
        /// The user is asked.
        Prompt => "prompt",
        /// The keys of the gateway's agent.
        Agent => "agent",
        /// A sealed password.
        Password => "password",
        /// A sealed private key.
        PrivateKey => "private_key",
        /// The key of the gateway that signs in.
        GatewayKey => "gateway_key",
        /// A certificate by the authority of the gateway that signs in.
        Certificate => "certificate",
    }
}

/// A text that only the holder of a gateway's seal keys can read; still never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(pub String);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed")
    }
}

/// The way the gateway signs in, and its credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// The way of signing in.
    pub kind: AuthKind,
    /// The credential: set for a password and a private key only.
    pub sealed: Option<Sealed>,
}

impl Auth {
    /// The user is asked.
    pub const PROMPT: Self = Self { kind: AuthKind::Prompt, sealed: None };
    /// The keys of the gateway's agent.
    pub const AGENT: Self = Self { kind: AuthKind::Agent, sealed: None };
    /// The gateway's own key.
    pub const GATEWAY_KEY: Self = Self { kind: AuthKind::GatewayKey, sealed: None };
    /// A certificate by the gateway's own authority.
    pub const CERTIFICATE: Self = Self { kind: AuthKind::Certificate, sealed: None };
}

/// A target of the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its public part.
    pub public: PublicTarget,
    /// The way the gateway signs in.
    pub auth: Auth,
    /// The time it was added.
    pub created_at: UtcMicros,
    /// The time it was last changed; every change moves it.
    pub changed_at: UtcMicros,
}

impl Target {
    /// Returns a target that is added now.
    pub fn new(public: PublicTarget, auth: Auth, now: UtcMicros) -> Self {
        Self { public, auth, created_at: now, changed_at: now }
    }

    /// Returns the target after a change made now, dated after the last one, whatever the wall clock says.
    pub fn changed(&self, public: PublicTarget, auth: Auth, now: UtcMicros) -> Self {
        let changed_at = UtcMicros(now.0.max(self.changed_at.0.saturating_add(1)));
        Self { public, auth, created_at: self.created_at, changed_at }
    }

    /// Whether its sealed credential, if any, can still be opened with this public part.
    pub fn stays_open(&self, public: &PublicTarget) -> bool {
        self.auth.sealed.is_none() || self.public.seal_context(self.auth.kind) == public.seal_context(self.auth.kind)
    }
}

/// Returns a place as people write it, which is also the name of a target typed by hand: `login@host:port`.
pub fn place(login: &str, host: &str, port: u16) -> String {
    format!("{login}@{}", address(host, port))
}

/// Returns `host:port`, with an IPv6 address in brackets.
pub fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Parses a [`place`]: login, host in its one spelling, and port, 22 if none is given.
pub fn parse_place(text: &str) -> Option<(String, String, u16)> {
    let (login, rest) = text.rsplit_once('@')?;
    let is_address = rest.parse::<Ipv6Addr>().is_ok() || rest.ends_with(']');
    let (host, port) = rest.rsplit_once(':').filter(|_| !is_address).unwrap_or((rest, "22"));
    let port = port.parse().ok().filter(|port| *port != 0 && !text.contains(char::is_whitespace))?;
    Some((login.to_owned(), host_name(host)?, port)).filter(|_| is_login(login))
}

/// Parses a jump host as typed: the name of a target unchanged, a [`place`] in its one spelling.
fn jump_host(text: &str) -> Option<String> {
    let read = || parse_place(text).map(|(login, host, port)| place(&login, &host, port));
    if is_name(text) { Some(text.to_owned()) } else { read() }
}

/// Returns the name of a session's target with its jump hosts typed by hand: neither a place nor a name has a space, so
/// it is parsed in one way only.
pub fn called_via(target: &str, hops: &[String]) -> String {
    if hops.is_empty() { target.to_owned() } else { format!("{target} via {}", hops.join(", ")) }
}

/// Returns the target and the jump hosts that a session's target names.
pub fn stops(called: &str) -> impl Iterator<Item = &str> {
    let (target, hops) = called.split_once(" via ").map_or((called, None), |(target, hops)| (target, Some(hops)));
    std::iter::once(target).chain(hops.into_iter().flat_map(|hops| hops.split(", ")))
}

/// Whether a session's target was typed by hand: every [`place`] has an `@`, and no name in the catalogue has one.
pub fn is_typed(target: &str) -> bool {
    target.contains('@')
}

/// Whether a target may have this name: 1 … 64 of `A-Z a-z 0-9 . _ -`.
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Whether this may be the name of a target of the records.
pub fn is_target_name(name: &str) -> bool {
    name.starts_with(|letter: char| letter.is_ascii_alphanumeric()) && is_name(name)
}

/// Whether this may be a tag: 1 … 64 visible characters, none of them white space.
pub fn is_tag(text: &str) -> bool {
    (1..=MAX_WORD_CHARS).contains(&text.chars().count())
        && text.chars().all(|letter| is_visible(letter) && !letter.is_whitespace())
}

/// Whether this may be the name of a group: 1 … 64 visible characters.
pub fn is_group(text: &str) -> bool {
    (1..=MAX_WORD_CHARS).contains(&text.chars().count()) && text.chars().all(is_visible)
}

/// Whether this may be a login name: 1 … 128 visible ASCII characters, the first no hyphen, which a program could take
/// for an option.
pub fn is_login(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.starts_with('-')
}

/// Returns the one spelling of a host: an address as the standard library writes it, or a DNS name of ASCII labels (RFC
/// 1123 §2.1, and underscores). A name whose last label is a number is refused: it is an old spelling of an IPv4
/// address (decimal, hex, octal, short) on which resolvers disagree (WHATWG URL, "ends in a number").
pub fn host_name(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').map_or(Some(text), |rest| rest.strip_suffix(']'))?;
    if let Ok(address) = bare.parse::<Ipv6Addr>() {
        return Some(address.to_string());
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(address.to_string());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
    };
    let fits = name.len() <= 253 && name.split('.').all(label_fits);
    let last = name.rsplit('.').next()?;
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let number = last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    (fits && !number).then(|| name.to_ascii_lowercase())
}

/// Returns the items in their order, each where it stands first.
pub fn each_once<T: PartialEq>(items: Vec<T>) -> Vec<T> {
    items.into_iter().fold(Vec::new(), |mut once, item| {
        if !once.contains(&item) {
            once.push(item);
        }
        once
    })
}

#[cfg(test)]
mod tests;
/// The way to a target.
mod way;

pub use way::{Jump, WayError, Ways, way};
