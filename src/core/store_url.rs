//! How a Redis is written in the configuration: one server, a cluster, or a master that sentinels know. Knows no
//! connection.
//!
//! ```text
//! redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]
//! redis+cluster://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]…
//! redis+sentinel://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]…/MASTER[/DATABASE]
//! ```
//!
//! Ports are 6379, of sentinels 26379, unless given; an IPv6 address stands in brackets. The user may be empty
//! (`:PASSWORD@`). What a user or password has of `%`, `@`, `:`, `/` is written as `%25`, `%40`, `%3A`, `%2F`. The
//! credentials are those of the servers; sentinels are asked without.

use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Where a Redis is and how to sign in there. Neither `Debug` nor an error shows the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisAddress {
    /// What stands there.
    pub kind: RedisKind,
    /// The servers to begin with, of sentinels these; at least one.
    pub hosts: Vec<(String, u16)>,
    /// How to sign in; `None` where nobody must.
    pub credentials: Option<Credentials>,
    /// The numbered database, 0 in a cluster.
    pub database: u16,
}

/// What kind of Redis it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisKind {
    /// One server.
    Server,
    /// A cluster: the hosts are some of its servers.
    Cluster,
    /// A server that fails over: the hosts are sentinels, which know it by the name of its master.
    Sentinel {
        /// That name.
        master: String,
    },
}

/// A user and a password.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// `None` is Redis's default user.
    pub user: Option<String>,
    /// The password.
    pub password: SecretString,
}

impl PartialEq for Credentials {
    /// Compares configurations, not sign-ins: its time may depend on the password.
    fn eq(&self, other: &Self) -> bool {
        self.user == other.user && self.password.expose_secret() == other.password.expose_secret()
    }
}

impl Eq for Credentials {}

impl FromStr for RedisAddress {
    /// A sentence that follows the key: `must be …`; it repeats nothing of the text, which may hold a password.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or(GRAMMAR)?;
        let (credentials, rest) = match rest.rsplit_once('@') {
            Some((credentials, rest)) => (Some(read_credentials(credentials)?), rest),
            None => (None, rest),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (kind, port, database) = match scheme {
            "redis" => (RedisKind::Server, REDIS_PORT, read_database(path)?),
            "redis+cluster" if path.is_empty() => (RedisKind::Cluster, REDIS_PORT, 0),
            "redis+cluster" => return Err("must not name a database: a Redis cluster has only one".into()),
            "redis+sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err("must name the sentinels' master, as in redis+sentinel://HOST/MASTER".into());
                }
                (RedisKind::Sentinel { master: master.to_owned() }, SENTINEL_PORT, read_database(database)?)
            }
            "rediss" => return Err("must not be rediss://: TLS to Redis is not built into this version".into()),
            _ => return Err(GRAMMAR.into()),
        };
        let hosts: Vec<_> = hosts.split(',').map(|host| read_host(host, port)).collect::<Result<_, _>>()?;
        if kind == RedisKind::Server && hosts.len() > 1 {
            return Err("must name one host; several are redis+cluster:// or redis+sentinel://".into());
        }
        Ok(Self { kind, hosts, credentials, database })
    }
}

const GRAMMAR: &str = "must be redis://HOST[:PORT][/DATABASE], redis+cluster://HOST[:PORT],HOST… or \
    redis+sentinel://HOST[:PORT],HOST…/MASTER[/DATABASE]";

fn read_credentials(text: &str) -> Result<Credentials, String> {
    const FORM: &str = "must give credentials as USER:PASSWORD@ or :PASSWORD@, with %, @, : and / written as %25, %40, \
        %3A and %2F";
    let (user, password) = text.split_once(':').ok_or(FORM)?;
    let (user, password) = (decoded(user).ok_or(FORM)?, decoded(password).ok_or(FORM)?);
    if password.is_empty() {
        return Err(FORM.into());
    }
    Ok(Credentials { user: Some(user).filter(|user| !user.is_empty()), password: password.into() })
}

fn read_host(text: &str, port: u16) -> Result<(String, u16), String> {
    const FORM: &str = "must name each host as HOST, HOST:PORT, [IPV6] or [IPV6]:PORT";
    let (host, rest) = match text.strip_prefix('[') {
        Some(text) => text.split_once(']').ok_or(FORM)?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(FORM)?,
        None if rest.is_empty() => port,
        None => return Err(FORM.into()),
    };
    let sound = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "/?#[]".contains(c));
    if sound { Ok((host.to_owned(), port)) } else { Err(FORM.into()) }
}

fn read_database(text: &str) -> Result<u16, String> {
    if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| "must name the database by its number".into()) }
}

/// Undoes percent-encoding (RFC 3986 §2.1).
fn decoded(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        // A sign is no hexadecimal digit, but a number may begin with one.
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str, port: u16) -> RedisAddress {
        RedisAddress { kind: RedisKind::Server, hosts: vec![(host.into(), port)], credentials: None, database: 0 }
    }

    #[test]
    fn each_kind_is_read() {
        let read = |text: &str| text.parse::<RedisAddress>().unwrap();
        assert_eq!(read("redis://cache"), server("cache", 6379));
        assert_eq!(read("redis://cache/"), server("cache", 6379));
        assert_eq!(read("redis://[::1]:7000/3"), RedisAddress { database: 3, ..server("::1", 7000) });
        let cluster = read("redis+cluster://a:7000,b,[fe80::1]");
        assert_eq!(cluster.kind, RedisKind::Cluster);
        assert_eq!(cluster.hosts, [("a".into(), 7000), ("b".into(), 6379), ("fe80::1".into(), 6379)]);
        let sentinel = read("redis+sentinel://a,b:5/main/2");
        assert_eq!(sentinel.kind, RedisKind::Sentinel { master: "main".into() });
        assert_eq!(sentinel.hosts, [("a".into(), 26379), ("b".into(), 5)]);
        assert_eq!(sentinel.database, 2);
    }

    #[test]
    fn a_password_is_decoded_and_never_shown() {
        let read: RedisAddress = "redis://gate:p%40ss%3A%2F%25@cache".parse().unwrap();
        let credentials = read.credentials.as_ref().unwrap();
        assert_eq!(credentials.user.as_deref(), Some("gate"));
        assert_eq!(credentials.password.expose_secret(), "p@ss:/%");
        assert!(!format!("{read:?}").contains("p@ss"));
        assert_ne!(read, "redis://gate:other@cache".parse().unwrap());
        let anybody: RedisAddress = "redis://:hunter2@cache".parse().unwrap();
        assert_eq!(anybody.credentials.unwrap().user, None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_repeating_it() {
        for text in [
            "memory",
            "cache:6379",
            "http://cache",
            "rediss://cache",
            "redis://",
            "redis://a,b",
            "redis://cache:0",
            "redis://cache:hunter2",
            "redis://cache/main",
            "redis://[::1",
            "redis://::1",
            "redis://cache?db=1",
            "redis://hunter2@cache",
            "redis://user:@cache",
            "redis://user:hunter2%4@cache",
            "redis://user:hunter2%+4@cache",
            "redis://user:hunter2%ff@cache",
            "redis+cluster://a,b/0",
            "redis+cluster://a,,b",
            "redis+sentinel://a,b",
            "redis+sentinel://a,b/",
        ] {
            let error = text.parse::<RedisAddress>().unwrap_err();
            assert!(error.starts_with("must ") && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
