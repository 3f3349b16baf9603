//! Owns what the body of `POST /api/v1/sessions` may say. Resolves no name and dials nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use secrecy::SecretString;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, Unexpected},
};

use super::{
    error::{Problem, quoted},
    state::{Settings, Target},
};
use crate::{
    actor::gateway::OpenSession,
    core::people::Reach,
    ssh::{Credential, HostKeyPolicy, Size},
};

const DEFAULT_TERM: &str = "xterm-256color";
const DEFAULT_COLS: u16 = 80;
const DEFAULT_ROWS: u16 = 24;
const SSH_PORT: u16 = 22;

/// The body: a target of the catalogue, or one typed by hand.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    target: Option<String>,
    host: Option<String>,
    #[serde(default, deserialize_with = "whole")]
    port: Option<u16>,
    username: Option<String>,
    auth: Option<Auth>,
    term: Option<String>,
    #[serde(default, deserialize_with = "whole")]
    cols: Option<u16>,
    #[serde(default, deserialize_with = "whole")]
    rows: Option<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    method: Method,
    password: SecretString,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Method {
    Password,
}

/// What is dialled.
struct Destination {
    target: String,
    host: String,
    port: u16,
    login: String,
    credentials: Vec<Credential>,
    typed: bool,
}

impl Opening {
    /// Checks everything and returns what to ask the gateway for. 400 for what makes no sense, 404 for an unknown
    /// target, 404 for one that is not granted, 403 for a target typed by hand where none may be. `trusts`: whether the
    /// user may accept host keys.
    pub fn check(
        self,
        username: &str,
        reach: &Reach,
        trusts: bool,
        client_ip: IpAddr,
        settings: &Settings,
    ) -> Result<OpenSession, Problem> {
        let term = term(self.term)?;
        let size = Size { cols: side("cols", self.cols, DEFAULT_COLS)?, rows: side("rows", self.rows, DEFAULT_ROWS)? };
        let destination = match (self.target, self.host, self.username) {
            (Some(name), None, None) if self.port.is_none() => from_catalogue(&name, reach, settings),
            (None, Some(host), Some(login)) => by_hand(&host, self.port, login, reach, settings),
            _ => Err(Problem::bad_request("Give either target, or host and username (and port, 22 if left out).")),
        }?;
        let host_key_policy = destination.host_key_policy(trusts, settings);
        let given = self.auth.map(|Auth { method: Method::Password, password }| Credential::Password(password));
        Ok(OpenSession {
            username: username.to_owned(),
            client_ip,
            target: destination.target,
            host: destination.host,
            port: destination.port,
            login: destination.login,
            credentials: given.into_iter().chain(destination.credentials).collect(),
            allowed: if destination.typed { settings.adhoc.clone() } else { None },
            host_key_policy,
            term,
            size,
        })
    }
}

impl Destination {
    /// What to do with a host key that is not known. Of the hosts of the catalogue only those are asked who may accept
    /// host keys: what they accept, everybody trusts. Whoever types such a host by hand does not get around that, and
    /// where a host has many names there, the strictest policy holds.
    fn host_key_policy(&self, trusts: bool, settings: &Settings) -> HostKeyPolicy {
        let is_here = |target: &&Target| target.port == self.port && target.host.eq_ignore_ascii_case(&self.host);
        let policies = settings.targets.iter().filter(is_here).map(|target| target.host_key_policy);
        match (policies.max(), trusts) {
            (None, _) => settings.host_key_policy,
            (Some(HostKeyPolicy::Ask), false) => HostKeyPolicy::Strict,
            (Some(policy), _) => policy,
        }
    }
}

fn from_catalogue(name: &str, reach: &Reach, settings: &Settings) -> Result<Destination, Problem> {
    // What is not granted is not there.
    let target = settings.targets.iter().find(|target| target.name == name && reach.covers(&target.listed()));
    let target = target.ok_or_else(|| Problem::not_found(format!("There is no target {}.", quoted(name))))?;
    Ok(Destination {
        target: target.name.clone(),
        host: target.host.clone(),
        port: target.port,
        login: target.username.clone(),
        credentials: target.credentials.clone(),
        typed: false,
    })
}

fn by_hand(
    host: &str,
    port: Option<u16>,
    login: String,
    reach: &Reach,
    settings: &Settings,
) -> Result<Destination, Problem> {
    if settings.adhoc.is_none() {
        return Err(Problem::forbidden("Only targets of the catalogue may be opened on this gateway."));
    }
    if !reach.covers_typed() {
        return Err(Problem::forbidden("Hosts typed by hand are not granted to you. Ask for the grant adhoc:*."));
    }
    let host = host_name(host).ok_or_else(|| Problem::bad_request("host is neither a host name nor an IP address."))?;
    let port = port.unwrap_or(SSH_PORT);
    if port == 0 {
        return Err(Problem::bad_request("port must be 1 to 65535."));
    }
    let login_fits = (1..=128).contains(&login.len()) && login.bytes().all(|byte| byte.is_ascii_graphic());
    if !login_fits || login.starts_with('-') {
        return Err(Problem::bad_request("username must be 1 to 128 visible ASCII characters, the first no hyphen."));
    }
    let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    Ok(Destination {
        target: format!("{login}@{shown}:{port}"),
        host,
        port,
        login,
        credentials: vec![Credential::Prompt],
        typed: true,
    })
}

/// Returns the one spelling of a host: an address as the standard library writes it, or a DNS name of ASCII labels
/// (RFC 1123 §2.1, and underscores). A name whose last label is a number is an old spelling of an IPv4 address
/// (decimal, hex, octal, short) that resolvers disagree on, and no name (WHATWG URL, "ends in a number").
fn host_name(text: &str) -> Option<String> {
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

/// Reads a whole number however it is spelled: to JSON `80` and `80.0` are one number (RFC 8259 §6), and some languages
/// write every number as the second.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let Some(number) = Option::<f64>::deserialize(deserializer)? else { return Ok(None) };
    if number.fract() == 0.0 && (0.0..=f64::from(u16::MAX)).contains(&number) {
        return Ok(Some(number as u16));
    }
    Err(D::Error::invalid_value(Unexpected::Float(number), &"a whole number from 0 to 65535"))
}

fn term(term: Option<String>) -> Result<String, Problem> {
    let term = term.unwrap_or_else(|| DEFAULT_TERM.to_owned());
    let fits = (1..=64).contains(&term.len())
        && term.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if fits { Ok(term) } else { Err(Problem::bad_request("term must be 1 to 64 of the characters A-Z a-z 0-9 . _ -")) }
}

fn side(name: &str, told: Option<u16>, default: u16) -> Result<u16, Problem> {
    let side = told.unwrap_or(default);
    if (1..=1000).contains(&side) { Ok(side) } else { Err(Problem::bad_request(format!("{name} must be 1 to 1000."))) }
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::{core::people::Role, ssh::AddressRule, web::fixture::settings};

    fn open_with(body: &str, settings: &Settings) -> Result<OpenSession, (u16, String)> {
        let opening: Opening = serde_json::from_str(body).map_err(|error| (400, error.to_string()))?;
        check(opening, false, settings)
    }

    fn check(opening: Opening, trusts: bool, settings: &Settings) -> Result<OpenSession, (u16, String)> {
        let reach = Reach { role: Role::Admin, grants: vec![] };
        let told = opening.check("ada", &reach, trusts, "192.0.2.7".parse().unwrap(), settings);
        told.map_err(|problem| (problem.status_code().as_u16(), problem.detail().to_owned()))
    }

    fn open(body: &str) -> Result<OpenSession, (u16, String)> {
        open_with(body, &settings())
    }

    #[test]
    fn a_target_of_the_catalogue_is_dialled_as_it_stands_there() {
        let open = open(r#"{"target":"web-1"}"#).unwrap();
        assert_eq!((open.host.as_str(), open.port, open.login.as_str()), ("web-1.internal", 2222, "deploy"));
        assert_eq!((open.term.as_str(), open.size), ("xterm-256color", Size { cols: 80, rows: 24 }));
        assert!(matches!(open.credentials[..], [Credential::Agent]));
        assert_eq!(open.allowed, None);
    }

    #[test]
    fn a_target_typed_by_hand_carries_the_address_rule() {
        let open = open(r#"{"host":"[2001:DB8::1]","port":2200,"username":"root","cols":1000,"rows":1}"#).unwrap();
        assert_eq!((open.target.as_str(), open.host.as_str()), ("root@[2001:db8::1]:2200", "2001:db8::1"));
        assert_eq!(open.allowed, Some(AddressRule::default()));
        assert!(matches!(open.credentials[..], [Credential::Prompt]));
    }

    #[test]
    fn of_a_host_of_the_catalogue_only_those_are_asked_who_may_accept_its_key() {
        use HostKeyPolicy::{AcceptNew, Ask, Strict};
        const LISTED: &str = r#"{"target":"web-1"}"#;
        const TYPED: &str = r#"{"host":"WEB-1.internal.","port":2222,"username":"u"}"#;
        const ELSEWHERE: &str = r#"{"host":"web-1.internal","username":"u"}"#;
        let policy = |body: &str, trusts: bool, of_target: HostKeyPolicy, of_gateway: HostKeyPolicy| {
            let mut settings = Settings { host_key_policy: of_gateway, ..settings() };
            settings.targets[0].host_key_policy = of_target;
            check(serde_json::from_str(body).unwrap(), trusts, &settings).unwrap().host_key_policy
        };
        for (body, trusts, of_target, of_gateway, expected) in [
            (LISTED, false, Ask, Ask, Strict),
            (LISTED, true, Ask, Ask, Ask),
            (LISTED, true, Strict, Ask, Strict),
            (LISTED, false, AcceptNew, Strict, AcceptNew),
            // Typed by hand it is the same host.
            (TYPED, false, Ask, Ask, Strict),
            (TYPED, true, Ask, Ask, Ask),
            (TYPED, false, Strict, AcceptNew, Strict),
            (ELSEWHERE, false, Strict, Ask, Ask),
            (ELSEWHERE, true, AcceptNew, Strict, Strict),
        ] {
            let told = policy(body, trusts, of_target, of_gateway);
            assert_eq!(told, expected, "{body} {trusts} {of_target:?} {of_gateway:?}");
        }
        let mut settings = settings();
        let twin = Target { name: "same".into(), host_key_policy: Strict, ..settings.targets[0].clone() };
        settings.targets.push(twin);
        let open = check(serde_json::from_str(LISTED).unwrap(), true, &settings).unwrap();
        assert_eq!(open.host_key_policy, Strict, "the strictest of one host's names");
    }

    #[test]
    fn a_given_password_is_tried_first() {
        let open = open(r#"{"target":"web-1","auth":{"method":"password","password":"00123e5"}}"#).unwrap();
        assert!(matches!(&open.credentials[..],
            [Credential::Password(password), Credential::Agent] if password.expose_secret() == "00123e5"));
    }

    #[test]
    fn a_whole_number_may_be_spelled_with_a_point() {
        let open = open(r#"{"host":"h","username":"u","port":2200.0,"cols":1e2,"rows":null}"#).unwrap();
        assert_eq!((open.port, open.size), (2200, Size { cols: 100, rows: 24 }));
    }

    #[test]
    fn refusals_have_their_status_and_name_the_field() {
        for (body, status, words) in [
            (r#"{"target":"nope"}"#, 404, "nope"),
            (r#"{}"#, 400, "either"),
            (r#"{"target":"web-1","host":"h","username":"u"}"#, 400, "either"),
            (r#"{"target":"web-1","port":22}"#, 400, "either"),
            (r#"{"host":"h"}"#, 400, "either"),
            (r#"{"host":"h","username":"u","port":0}"#, 400, "port"),
            (r#"{"host":"h","username":"u","port":65536}"#, 400, "65535"),
            (r#"{"target":"web-1","cols":80.5}"#, 400, "whole number"),
            (r#"{"target":"web-1","cols":-1}"#, 400, "whole number"),
            (r#"{"target":"web-1","cols":"80"}"#, 400, "string"),
            (r#"{"host":"h","username":"-l","port":22}"#, 400, "username"),
            (r#"{"host":"h","username":"a\nb"}"#, 400, "username"),
            (r#"{"target":"web-1","cols":0}"#, 400, "cols"),
            (r#"{"target":"web-1","rows":1001}"#, 400, "rows"),
            (r#"{"target":"web-1","term":"xterm;id"}"#, 400, "term"),
            (r#"{"target":"web-1","term":""}"#, 400, "term"),
            (r#"{"target":"web-1","colour":1}"#, 400, "`colour`"),
            (r#"{"target":"web-1","target":"web-1"}"#, 400, "duplicate"),
            (r#"{"target":"web-1","auth":{"method":"key"}}"#, 400, "`key`"),
            (r#"{"target":"web-1","auth":{"method":"password","password":"x","extra":1}}"#, 400, "`extra`"),
            (r#"{"target":1e400}"#, 400, "number"),
            (r#"{"target":"\ud800"}"#, 400, "escape"),
        ] {
            let (told, detail) = open(body).expect_err(body);
            assert_eq!(told, status, "{body}");
            assert!(detail.contains(words), "{body}: {detail}");
        }
    }

    #[test]
    fn a_target_typed_by_hand_is_forbidden_unless_allowed() {
        let closed = Settings { adhoc: None, ..settings() };
        assert_eq!(open_with(r#"{"host":"h","username":"u"}"#, &closed).unwrap_err().0, 403);
    }

    #[test]
    fn a_host_has_one_spelling() {
        for (text, expected) in [
            ("example.com", Some("example.com")),
            ("EXAMPLE.com.", Some("example.com")),
            ("db_1.internal", Some("db_1.internal")),
            ("1password.com", Some("1password.com")),
            ("192.0.2.7", Some("192.0.2.7")),
            ("::1", Some("::1")),
            ("[::1]", Some("::1")),
            ("::ffff:127.0.0.1", Some("::ffff:127.0.0.1")),
            ("2130706433", None),
            ("0x7f.1", None),
            ("0x7f000001", None),
            ("0x", None),
            ("0177.0.0.1", None),
            ("127.1", None),
            ("127.0.0.1.", None),
            ("fe80::1%eth0", None),
            ("[127.0.0.1]", None),
            ("[::1", None),
            ("-oProxyCommand=id", None),
            ("a b", None),
            ("a\0b", None),
            ("a\r\nb", None),
            ("ex\u{430}mple.com", None),
            ("a..b", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(host_name(text).as_deref(), expected, "{text:?}");
        }
        assert_eq!(host_name(&"a.".repeat(128)), None, "too long");
        assert_eq!(host_name(&"a".repeat(65_536)), None);
    }
}
