//! The addresses of stores, as configured: a MySQL or MariaDB server; a Redis, which is one server, a cluster, or a
//! master known to sentinels. Knows no connection.
//!
//! ```text
//! mysql://[USER[:PASSWORD]@][HOST[:PORT]]/DATABASE[?socket=PATH]
//! redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]
//! redis+cluster://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]…
//! redis+sentinel://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]…/MASTER[/DATABASE]
//! ```
//!
//! Ports are 3306 and 6379, of sentinels 26379, unless given; an IPv6 address is written in brackets. In a user or
//! password, `%`, `@`, `:`, `/` are written as `%25`, `%40`, `%3A`, `%2F`. The user of a Redis may be empty
//! (`:PASSWORD@`). The credentials are those of the servers; sentinels are queried without.

use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

const MYSQL_PORT: u16 = 3306;
const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// A password, never shown.
#[derive(Debug, Clone)]
pub struct Password(pub SecretString);

impl PartialEq for Password {
    /// Compares configurations, not sign-ins: its time may depend on the password.
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for Password {}

/// The address of a MySQL or MariaDB server, the credentials, and the name of the database. Neither `Debug` nor an
/// error shows the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MySqlAddress {
    /// The host name or address; `localhost` unless given.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The unix socket to connect to instead.
    pub socket: Option<String>,
    /// The user; `root` unless given.
    pub user: String,
    /// The user's password; `None` if they need none.
    pub password: Option<Password>,
    /// The database.
    pub database: String,
}

impl FromStr for MySqlAddress {
    /// A sentence that follows the key: `must be …`; it repeats nothing of the text, which may hold a password.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "must be mysql://USER:PASSWORD@HOST:PORT/DATABASE";
        let rest = text.strip_prefix("mysql://").ok_or(FORM)?;
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').ok_or(FORM)?;
        // No database has such a name: the slash before it belongs to the password.
        if database.contains(['/', '@']) {
            return Err(FORM.into());
        }
        let (sign_in, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = sign_in.split_once(':').unwrap_or((sign_in, ""));
        let given = |text| decoded(text).map(|text| Some(text).filter(|text| !text.is_empty())).ok_or(FORM);
        let (host, port) = read_host(if host.is_empty() { "localhost" } else { host }, MYSQL_PORT)?;
        Ok(Self {
            host,
            port,
            socket: read_socket(parameters)?,
            user: given(user)?.unwrap_or_else(|| "root".to_owned()),
            password: given(password)?.map(|password| Password(password.into())),
            database: given(database)?.ok_or(FORM)?,
        })
    }
}

/// Returns the socket that the parameters name; unknown parameters are ignored.
fn read_socket(parameters: &str) -> Result<Option<String>, String> {
    const ENCRYPTED: &str = "must not ask for encryption, which is not built into this version: take ssl-mode out and \
        connect through a local proxy";
    let mut socket = None;
    for (name, value) in parameters.split('&').filter_map(|parameter| parameter.split_once('=')) {
        match name {
            "socket" => socket = Some(decoded(value).ok_or("must name the socket by its path")?),
            "ssl-mode" | "sslmode" if !["disabled", "preferred"].contains(&value.to_ascii_lowercase().as_str()) => {
                return Err(ENCRYPTED.into());
            }
            _ => {}
        }
    }
    Ok(socket)
}

/// The address of a Redis and the credentials. Neither `Debug` nor an error shows the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisAddress {
    /// The kind of Redis.
    pub kind: RedisKind,
    /// The servers to connect to first, or the sentinels; at least one.
    pub hosts: Vec<(String, u16)>,
    /// The credentials; `None` if it requires none.
    pub credentials: Option<Credentials>,
    /// The numbered database, 0 in a cluster.
    pub database: u16,
}

/// The kind of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisKind {
    /// One server.
    Server,
    /// A cluster: the hosts are some of its servers.
    Cluster,
    /// A server that fails over: the hosts are sentinels, which know it by the name of its master.
    Sentinel {
        /// The name of the master.
        master: String,
    },
}

/// A user of a Redis and their password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user; `None` is Redis's default user.
    pub user: Option<String>,
    /// The password.
    pub password: Password,
}

impl FromStr for RedisAddress {
    /// A sentence, as for a [`MySqlAddress`].
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
    if password.is_empty() || !text.split('%').skip(1).all(|rest| escaped(rest).is_some()) {
        return Err(FORM.into());
    }
    let (user, password) = (decoded(user).ok_or(FORM)?, decoded(password).ok_or(FORM)?);
    Ok(Credentials { user: Some(user).filter(|user| !user.is_empty()), password: Password(password.into()) })
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

/// Decodes percent-encoding (RFC 3986 §2.1); a `%` that encodes nothing stays. `None` if the result is not UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (byte, rest) = escaped(piece).unwrap_or((b'%', piece));
        bytes.push(byte);
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// Returns the byte whose two digits follow a `%`, and the rest.
fn escaped(text: &str) -> Option<(u8, &str)> {
    let (digits, rest) = text.split_at_checked(2)?;
    // A sign is no hexadecimal digit, but a number may begin with one.
    let is_number = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| is_number).map(|byte| (byte, rest))
}
