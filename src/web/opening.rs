//! Validates the body of `POST /api/v1/sessions`. Resolves no host name and dials nothing.

use std::net::IpAddr;

use secrecy::SecretString;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, Unexpected},
};

use super::{
    error::{Problem, quoted},
    state::{self, Settings},
};
use crate::{
    actor::gateway::OpenSession,
    core::{
        people::{Directory, TargetAccess},
        target::{AuthKind, JUMP_HOSTS, Target, called_via, host_name, is_login, is_typed, parse_place},
    },
    ssh::{Credential, Hop, HostKeyPolicy, SealedCredential, Size},
};

/// The jump hosts on the way to a target of the records.
mod way;

use way::way;
pub(super) use way::ways;

const DEFAULT_TERM: &str = "xterm-256color";
const DEFAULT_COLS: u16 = 80;
const DEFAULT_ROWS: u16 = 24;
/// The default port of sshd.
pub(super) const SSH_PORT: u16 = 22;
/// Characters of a session's target: as many as the records keep.
const MAX_TARGET_CHARS: usize = 512;

/// The body: a target of the catalogue, or one typed by hand.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    target: Option<String>,
    host: Option<String>,
    #[serde(default, deserialize_with = "whole")]
    port: Option<u16>,
    username: Option<String>,
    via: Option<Vec<String>>,
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

/// The place to dial, and the way to it.
struct Destination {
    via: Vec<Hop>,
    to: Hop,
}

impl Opening {
    /// Asks for a target of the catalogue, with defaults for all else.
    pub fn of(target: &str) -> Self {
        let target = Some(target.to_owned());
        Self {
            target,
            host: None,
            port: None,
            username: None,
            via: None,
            auth: None,
            term: None,
            cols: None,
            rows: None,
        }
    }

    /// Checks everything and returns the request for the gateway. 400 for an invalid combination, 404 for an unknown
    /// target, 404 for one that is not granted, 403 for a target typed by hand if the user may open none. `trusts`:
    /// whether the user may accept host keys.
    pub fn check(
        self,
        username: &str,
        access: &TargetAccess,
        trusts: bool,
        client_ip: IpAddr,
        settings: &Settings,
        directory: &Directory,
    ) -> Result<OpenSession, Problem> {
        let term = term(self.term)?;
        let size = Size { cols: side("cols", self.cols, DEFAULT_COLS)?, rows: side("rows", self.rows, DEFAULT_ROWS)? };
        let destination = match (self.target, self.host, self.username) {
            (Some(name), None, None) if self.port.is_none() && self.via.is_none() => {
                from_catalogue(&name, access, settings, directory)
            }
            (None, Some(host), Some(login)) => {
                let typed = by_hand(&host, self.port, login, access, settings)?;
                typed.over(&self.via.unwrap_or_default(), access, settings, directory)
            }
            _ => Err(Problem::bad_request(
                "Give either target, or host and username (and port, 22 if left out, and via, the jump hosts to go over).",
            )),
        }?;
        let policy = |host: &str, port| host_key_policy(host, port, trusts, settings, directory);
        let checked = |hop: Hop| Hop { host_key_policy: policy(&hop.host, hop.port), ..hop };
        let via = destination.via.into_iter().map(checked).collect();
        let mut to = checked(destination.to);
        let given = self.auth.map(|Auth { method: Method::Password, password }| Credential::Password(password));
        to.credentials = given.into_iter().chain(to.credentials).collect();
        Ok(OpenSession { username: username.to_owned(), client_ip, via, to, term, size })
    }
}

impl Destination {
    /// Returns the same destination behind these jump hosts, each a granted target or a place, if the user may type
    /// places. The first is reached by its own way, as with ssh(1); the stored password of anything behind others is
    /// not used.
    fn over(
        self,
        names: &[String],
        access: &TargetAccess,
        settings: &Settings,
        directory: &Directory,
    ) -> Result<Self, Problem> {
        let (mut via, mut called) = (Vec::new(), Vec::new());
        let too_many = || {
            let detail = format!("via must be {JUMP_HOSTS} jump hosts at most, with those on the way to the first.");
            Problem::bad_request(detail)
        };
        if names.len() > JUMP_HOSTS {
            return Err(too_many());
        }
        for name in names {
            let stop = if is_typed(name) {
                let unfit = || Problem::bad_request(format!("via: {} is no user@host:port.", quoted(name)));
                let (login, host, port) = parse_place(name).ok_or_else(unfit)?;
                by_hand(&host, Some(port), login, access, settings)?
            } else {
                from_catalogue(name, access, settings, directory)?
            };
            if via.is_empty() {
                via.extend(stop.via.iter().cloned());
            }
            called.push(stop.to.name.clone());
            via.push(stop.behind(&via).to);
        }
        // In the form that `core::people::objection` reads, should a jump host be removed later.
        let target = called_via(&self.to.name, &called);
        if via.len() > JUMP_HOSTS {
            return Err(too_many());
        }
        let length = target.chars().count();
        if length > MAX_TARGET_CHARS {
            let detail = format!(
                "The target and the jump hosts in via may have {MAX_TARGET_CHARS} characters together, each as user@host:port or by its name; \
                 these have {length}."
            );
            return Err(Problem::bad_request(detail));
        }
        Ok(Self { via, to: Hop { name: target, ..self.to } })
    }

    /// Returns the same destination behind these hops. Unless they are its own way, its stored password is sent to
    /// nobody: a hop that the caller chose could be their own, answer in its place and keep the password. A key proves
    /// nothing to anyone but the server that asks.
    fn behind(self, hops: &[Hop]) -> Self {
        let at = |hop: &Hop| (hop.name.clone(), hop.host.clone(), hop.port, hop.login.clone());
        if hops.iter().map(at).eq(self.via.iter().map(at)) { self } else { self.unkept() }
    }

    fn unkept(self) -> Self {
        let unsent = |credential| match credential {
            Credential::Password(_) | Credential::PasswordFile(_) | Credential::SealedPassword(_) => Credential::Prompt,
            Credential::KeyFile(_)
            | Credential::SealedKey(_)
            | Credential::Agent
            | Credential::GatewayKey
            | Credential::Certificate
            | Credential::Prompt => credential,
        };
        let credentials = self.to.credentials.into_iter().map(unsent).collect();
        Self { via: self.via, to: Hop { credentials, ..self.to } }
    }
}

/// Returns the policy for an unknown host key. For hosts of the catalogue, and for those on the way to them, only users
/// who may accept host keys are asked: what they accept, everybody trusts. Typing such a host by hand does not
/// circumvent that, and if a host has several names there, the strictest policy holds.
fn host_key_policy(host: &str, port: u16, trusts: bool, settings: &Settings, directory: &Directory) -> HostKeyPolicy {
    let is_here = |other: &str, at| at == port && other.eq_ignore_ascii_case(host);
    let configured = settings.targets.iter().filter(|target| is_here(&target.host, target.port));
    let hops = settings.targets.iter().flat_map(|target| &target.via).filter(|hop| is_here(&hop.host, hop.port));
    let mut recorded = directory.targets.values().map(|target| &target.public);
    let is_on_the_way = |jump: &String| parse_place(jump).is_some_and(|(_, host, port)| is_here(&host, port));
    let recorded = recorded
        .any(|public| is_here(&public.host, public.port) || public.via.iter().any(is_on_the_way))
        .then_some(settings.host_key_policy);
    let policies = configured.map(|target| target.host_key_policy).chain(hops.map(|hop| hop.host_key_policy));
    match (policies.chain(recorded).max(), trusts) {
        (None, _) => settings.host_key_policy,
        (Some(HostKeyPolicy::Ask), false) => HostKeyPolicy::Strict,
        // Checked again when they answer: by then the right may be gone, or a caller with fewer rights be attached.
        (Some(HostKeyPolicy::Ask), true) => HostKeyPolicy::AskOperator,
        (Some(policy), _) => policy,
    }
}

fn from_catalogue(
    name: &str,
    access: &TargetAccess,
    settings: &Settings,
    directory: &Directory,
) -> Result<Destination, Problem> {
    let found =
        match settings.targets.iter().find(|target| target.name == name) {
            Some(target) => access.covers(&target.listed()).then(|| Ok(configured(target))),
            None => directory.targets.get(name).filter(|target| access.covers(&target.public.listed())).map(|target| {
                Ok(Destination { via: way(target, settings, directory)?, to: recorded(target, settings)? })
            }),
        };
    // A target that is not granted does not exist for the caller.
    found.unwrap_or_else(|| Err(Problem::not_found(format!("There is no target {}.", quoted(name)))))
}

fn configured(target: &state::Target) -> Destination {
    Destination { via: target.via.clone(), to: target.hop() }
}

/// Converts a target of the records, without the way to it; 503 if this gateway's seal keys do not open its credential,
/// which is opened again at the login only.
fn recorded(target: &Target, settings: &Settings) -> Result<Hop, Problem> {
    let (public, kind, seals) = (&target.public, target.auth.kind, &settings.seals);
    let sealed = || -> Result<SealedCredential, Problem> {
        let text = target.auth.sealed.clone().map(|sealed| sealed.0).unwrap_or_default();
        let sealed = SealedCredential { seals: seals.clone(), place: public.seal_context(kind), text };
        sealed.open().map(drop).map_err(|unopened| {
            tracing::error!(target = public.name, error = %unopened, "the credential of a target cannot be decrypted; see `pulsegate doctor`");
            let name = &public.name;
            let detail = format!(
                "The credential of {name} cannot be used on this gateway: {unopened}. Tell its operator, who finds every such \
                 target with `pulsegate doctor`."
            );
            Problem::unavailable(detail, 60)
        })?;
        Ok(sealed)
    };
    let credential = match kind {
        AuthKind::Prompt => Credential::Prompt,
        AuthKind::Agent => Credential::Agent,
        AuthKind::Password => Credential::SealedPassword(sealed()?),
        AuthKind::PrivateKey => Credential::SealedKey(sealed()?),
        AuthKind::GatewayKey => Credential::GatewayKey,
        AuthKind::Certificate => Credential::Certificate,
    };
    Ok(Hop {
        name: public.name.clone(),
        host: public.host.clone(),
        port: public.port,
        login: public.username.clone(),
        credentials: vec![credential],
        allowed: None,
        host_key_policy: settings.host_key_policy,
    })
}

fn by_hand(
    host: &str,
    port: Option<u16>,
    login: String,
    access: &TargetAccess,
    settings: &Settings,
) -> Result<Destination, Problem> {
    if settings.adhoc.is_none() {
        return Err(Problem::forbidden("Only targets of the catalogue may be opened on this gateway."));
    }
    if !access.covers_typed() {
        return Err(Problem::forbidden("Hosts typed by hand are not granted to you. Ask for the grant adhoc:*."));
    }
    let host = host_name(host).ok_or_else(|| Problem::bad_request("host is neither a host name nor an IP address."))?;
    let port = port.unwrap_or(SSH_PORT);
    if port == 0 {
        return Err(Problem::bad_request("port must be 1 to 65535."));
    }
    if !is_login(&login) {
        return Err(Problem::bad_request("username must be 1 to 128 visible ASCII characters, the first no hyphen."));
    }
    let typed = Hop::prompted(login, host, port, settings.host_key_policy);
    Ok(Destination { via: Vec::new(), to: Hop { allowed: settings.adhoc.clone(), ..typed } })
}

/// Reads a whole number in any spelling: to JSON `80` and `80.0` are one number (RFC 8259 §6), and some languages write
/// every number as the second.
pub(super) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let Some(number) = Option::<f64>::deserialize(deserializer)? else { return Ok(None) };
    if number.fract() == 0.0 && (0.0..=f64::from(u16::MAX)).contains(&number) {
        return Ok(Some(number as u16));
    }
    Err(D::Error::invalid_value(Unexpected::Other(&number.to_string()), &"a whole number from 0 to 65535"))
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
mod tests;
