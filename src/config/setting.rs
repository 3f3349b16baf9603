//! Reads values: every scalar from one text, whether it came from YAML or the environment; lists and blocks from
//! scalars. Knows no key of the configuration.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use ::config::{Map, Value, ValueKind};
use ipnet::IpNet;

use super::{
    Auth, HostKeyPolicy, Live, OnIsolation, RecordingPolicy, Records,
    block::{Setting, join},
    mistake::Report,
    yaml,
};
use crate::core::{
    audit::Action,
    control::TakeOver,
    people::Role,
    store_url::{MySqlAddress, RedisAddress},
};

/// A value that is written as one text.
pub(super) trait Scalar: Sized + PartialEq {
    /// The allowed values, as the end of a sentence that begins "must be …".
    const ALLOWED: &'static str;

    /// Parses the text; `None` where it is not allowed.
    fn parse(text: &str) -> Option<Self>;

    /// Returns the sentence about a text that is not allowed, where it says more than the allowed values; it repeats
    /// nothing of the text.
    fn fault(_text: &str) -> Option<String> {
        None
    }
}

impl<T: Scalar> Setting for T {
    fn read(value: Value, path: &str, report: &mut Report) -> Option<Self> {
        let (parsed, fault) = match value.kind {
            ValueKind::Nil => return None,
            ValueKind::String(text) => (T::parse(&text), T::fault(&text)),
            _ => (None, None),
        };
        if parsed.is_none() {
            report.mistake(path, fault.unwrap_or_else(|| format!("must be {}", T::ALLOWED)));
        }
        parsed
    }
}

/// An empty text means `None`.
impl<T: Scalar> Setting for Option<T> {
    fn read(value: Value, path: &str, report: &mut Report) -> Option<Self> {
        match value.kind {
            ValueKind::String(text) if text.is_empty() => Some(None),
            _ => T::read(value, path, report).map(Some),
        }
    }
}

/// A YAML list. In one text, as in the environment: YAML in brackets, or items between commas.
impl<T: Setting> Setting for Vec<T> {
    fn read(value: Value, path: &str, report: &mut Report) -> Option<Self> {
        let items = match value.kind {
            ValueKind::Nil => return None,
            ValueKind::Array(items) => items,
            ValueKind::String(text) if text.trim_start().starts_with('[') => {
                return Self::read(yaml::parse_inline(&text, path, report)?, path, report);
            }
            ValueKind::String(text) => {
                text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect()
            }
            _ => {
                report.mistake(path, "must be a list");
                return None;
            }
        };
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{path}[{index}]");
            if matches!(item.kind, ValueKind::Nil) {
                report.mistake(&path, "must not be empty");
            }
            list.extend(T::read(item, &path, report));
        }
        Some(list)
    }
}

/// A map with exactly one key.
impl Setting for Auth {
    fn read(value: Value, path: &str, report: &mut Report) -> Option<Self> {
        const KEYS: [&str; 6] = ["key_file", "password_file", "agent", "prompt", "gateway_key", "certificate"];
        let table = match value.kind {
            ValueKind::Nil => return None,
            ValueKind::Table(table) => table,
            _ => Map::new(),
        };
        let mut entries = table.into_iter();
        let (Some((key, value)), None) = (entries.next(), entries.next()) else {
            report.mistake(path, format!("must be a map with exactly one of {}", KEYS.join(", ")));
            return None;
        };
        let path = join(path, &key);
        match key.as_str() {
            "key_file" => file(value, &path, report).map(Self::KeyFile),
            "password_file" => file(value, &path, report).map(Self::PasswordFile),
            "agent" => chosen(value, &path, report).then_some(Self::Agent),
            "prompt" => chosen(value, &path, report).then_some(Self::Prompt),
            "gateway_key" => chosen(value, &path, report).then_some(Self::GatewayKey),
            "certificate" => chosen(value, &path, report).then_some(Self::Certificate),
            _ => {
                report.unknown_key(&path, &key, &KEYS);
                None
            }
        }
    }
}

fn file(value: Value, path: &str, report: &mut Report) -> Option<PathBuf> {
    if matches!(value.kind, ValueKind::Nil) {
        report.mistake(path, format!("must be {}", PathBuf::ALLOWED));
    }
    PathBuf::read(value, path, report)
}

fn chosen(value: Value, path: &str, report: &mut Report) -> bool {
    let chosen = matches!(value.kind, ValueKind::String(text) if text == "true");
    if !chosen {
        report.mistake(path, "must be true; to choose otherwise, write another key instead");
    }
    chosen
}

/// Reads a whole number and the unit behind it.
fn quantity(text: &str) -> Option<(u64, &str)> {
    let (digits, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    Some((digits.parse().ok()?, unit))
}

/// A number of bytes, written as `512KiB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

    /// Makes a size of `count` times 1024 bytes.
    pub const fn kib(count: u32) -> Self {
        Self(count as u64 * 1024)
    }

    /// Returns the number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// Shows the size in the largest unit that needs no fraction.
impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = Self::UNITS.iter().find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size));
        let (name, size) = unit.unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / size)
    }
}

impl Scalar for ByteSize {
    const ALLOWED: &'static str = "a size with its unit, as 64KiB or 1MiB";

    fn parse(text: &str) -> Option<Self> {
        let (count, unit) = quantity(text)?;
        let (_, size) = Self::UNITS.iter().find(|(name, _)| *name == unit)?;
        count.checked_mul(*size).map(Self)
    }
}

impl Scalar for Duration {
    const ALLOWED: &'static str = "a duration with its unit, as 50ms, 5s, 30m or 24h, and at most 8784h";

    fn parse(text: &str) -> Option<Self> {
        // A leap year: longer than anything sensible, and every clock can still add it without overflow.
        const MAX_DURATION: Duration = Duration::from_hours(8784);
        let (count, unit) = quantity(text)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        let duration = Duration::from_millis(count.checked_mul(millis)?);
        (duration <= MAX_DURATION).then_some(duration)
    }
}

/// Reads a duration in the format of every duration key.
///
/// # Errors
/// The allowed values, as the end of a sentence that begins "must be …".
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    Scalar::parse(text).ok_or(<Duration as Scalar>::ALLOWED)
}

/// The origin of a page as browsers send it (RFC 6454 §6.2): lower case, no path, no default port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Returns the exact value of an `Origin` header that matches.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Scalar for Origin {
    const ALLOWED: &'static str = "an exact origin as https://host or https://host:8443, without path or wildcard";

    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (scheme, authority) = text.split_once("://")?;
        let default_port = match scheme {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, u16::parse(port)?),
            _ => (authority, default_port),
        };
        let named = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if !named && bracketed.is_none_or(|host| host.parse::<std::net::Ipv6Addr>().is_err()) {
            return None;
        }
        let port = if port == default_port { String::new() } else { format!(":{port}") };
        Some(Self(format!("{scheme}://{host}{port}")))
    }
}

/// The address of a webhook: `https://…`, or `http://…` on this host. Never shown, since some receivers have their
/// secret in it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct HookUrl(String);

impl HookUrl {
    /// Returns the whole address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookUrl")
    }
}

impl Scalar for HookUrl {
    const ALLOWED: &'static str =
        "https://HOST/PATH, or http://… where HOST is this host: localhost, 127.0.0.1 or [::1]";

    fn parse(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        let (scheme, rest) = text.split_once("://")?;
        let host = rest.split(['/', '?', '#']).next()?;
        let here = ["localhost", "127.0.0.1", "[::1]"];
        let near = here
            .iter()
            .any(|name| host.strip_prefix(name).is_some_and(|port| port.is_empty() || port.starts_with(':')));
        let fits =
            plain && !host.is_empty() && !host.contains('@') && (scheme == "https" || (scheme == "http" && near));
        fits.then(|| Self(text.to_owned()))
    }
}

impl Scalar for Action {
    const ALLOWED: &'static str = "an action of the audit log, as session.open (docs/contract.md lists them)";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Scalar for String {
    const ALLOWED: &'static str = "a text";

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Scalar for PathBuf {
    const ALLOWED: &'static str = "a path";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.into())
    }
}

impl Scalar for bool {
    const ALLOWED: &'static str = "true or false";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// A port; nothing else here has 16 bits.
impl Scalar for u16 {
    const ALLOWED: &'static str = "a port, 1 … 65535";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|port| *port != 0)
    }
}

impl Scalar for u32 {
    const ALLOWED: &'static str = "a whole number";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Scalar for SocketAddr {
    const ALLOWED: &'static str = "an address and a port, as 127.0.0.1:8022 or [::1]:8022";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Scalar for IpNet {
    const ALLOWED: &'static str = "a network in CIDR form, as 10.0.0.0/8 or 192.0.2.7/32";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// Implements [`Scalar`] for enums whose values are written as words.
macro_rules! words {
    ($($name:ident: $allowed:literal, $($word:literal => $value:ident),+;)+) => {
        $(impl Scalar for $name {
            const ALLOWED: &'static str = $allowed;

            fn parse(text: &str) -> Option<Self> {
                match text {
                    $($word => Some(Self::$value),)+
                    _ => None,
                }
            }
        })+
    };
}

words! {
    HostKeyPolicy: "strict, accept_new or ask", "strict" => Strict, "accept_new" => AcceptNew, "ask" => Ask;
    OnIsolation: "keep or terminate", "keep" => Keep, "terminate" => Terminate;
    Role: "viewer, user, operator, auditor or admin", "viewer" => Viewer, "user" => User, "operator" => Operator,
        "auditor" => Auditor, "admin" => Admin;
    RecordingPolicy: "required, best_effort or off", "required" => Required, "best_effort" => BestEffort, "off" => Off;
    TakeOver: "never, request or force", "never" => Never, "request" => Request, "force" => Force;
}

impl Scalar for Records {
    const ALLOWED: &'static str = "sqlite, or mysql://USER:PASSWORD@HOST:PORT/DATABASE";

    fn parse(text: &str) -> Option<Self> {
        if text == "sqlite" { Some(Self::Sqlite) } else { text.parse().ok().map(Self::MySql) }
    }

    fn fault(text: &str) -> Option<String> {
        text.parse::<MySqlAddress>().err().filter(|_| text.starts_with("mysql://"))
    }
}

impl Scalar for Live {
    const ALLOWED: &'static str = "memory, redis://HOST:PORT/DATABASE, redis+cluster://HOST:PORT,HOST:PORT… or \
        redis+sentinel://HOST:PORT,HOST:PORT…/MASTER";

    fn parse(text: &str) -> Option<Self> {
        if text == "memory" { Some(Self::Memory) } else { text.parse().ok().map(Self::Redis) }
    }

    fn fault(text: &str) -> Option<String> {
        text.parse::<RedisAddress>().err().filter(|_| text.starts_with("redis"))
    }
}
