//! Owns what the body of `POST /api/v1/sessions` may say. Resolves no name and dials nothing.

use std::{net::IpAddr, sync::Arc};

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
        people::{Directory, Reach},
        seal::Seals,
        target::{AuthKind, Target, host_name, is_login, place},
    },
    ssh::{Credential, HostKeyPolicy, SealedCredential, Size},
};

const DEFAULT_TERM: &str = "xterm-256color";
const DEFAULT_COLS: u16 = 80;
const DEFAULT_ROWS: u16 = 24;
/// Where sshd listens.
pub(super) const SSH_PORT: u16 = 22;

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
        directory: &Directory,
    ) -> Result<OpenSession, Problem> {
        let term = term(self.term)?;
        let size = Size { cols: side("cols", self.cols, DEFAULT_COLS)?, rows: side("rows", self.rows, DEFAULT_ROWS)? };
        let destination = match (self.target, self.host, self.username) {
            (Some(name), None, None) if self.port.is_none() => from_catalogue(&name, reach, settings, directory),
            (None, Some(host), Some(login)) => by_hand(&host, self.port, login, reach, settings),
            _ => Err(Problem::bad_request("Give either target, or host and username (and port, 22 if left out).")),
        }?;
        let host_key_policy = destination.host_key_policy(trusts, settings, directory);
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
    fn host_key_policy(&self, trusts: bool, settings: &Settings, directory: &Directory) -> HostKeyPolicy {
        let is_here = |host: &str, port| port == self.port && host.eq_ignore_ascii_case(&self.host);
        let configured = settings.targets.iter().filter(|target| is_here(&target.host, target.port));
        let mut recorded = directory.targets.values().map(|target| &target.outline);
        let recorded = recorded.any(|outline| is_here(&outline.host, outline.port)).then_some(settings.host_key_policy);
        let policies = configured.map(|target| target.host_key_policy).chain(recorded);
        match (policies.max(), trusts) {
            (None, _) => settings.host_key_policy,
            (Some(HostKeyPolicy::Ask), false) => HostKeyPolicy::Strict,
            (Some(policy), _) => policy,
        }
    }
}

fn from_catalogue(
    name: &str,
    reach: &Reach,
    settings: &Settings,
    directory: &Directory,
) -> Result<Destination, Problem> {
    let found = match settings.targets.iter().find(|target| target.name == name) {
        Some(target) => reach.covers(&target.listed()).then(|| Ok(configured(target))),
        None => directory
            .targets
            .get(name)
            .filter(|target| reach.covers(&target.outline.listed()))
            .map(|target| recorded(target, &settings.seals)),
    };
    // What is not granted is not there.
    found.unwrap_or_else(|| Err(Problem::not_found(format!("There is no target {}.", quoted(name)))))
}

fn configured(target: &state::Target) -> Destination {
    Destination {
        target: target.name.clone(),
        host: target.host.clone(),
        port: target.port,
        login: target.username.clone(),
        credentials: target.credentials.clone(),
        typed: false,
    }
}

/// A target of the records; 503 if this gateway's seal keys do not open its credential, which is opened again at the login
/// only.
fn recorded(target: &Target, seals: &Arc<Seals>) -> Result<Destination, Problem> {
    let (outline, kind) = (&target.outline, target.auth.kind);
    let sealed = || -> Result<SealedCredential, Problem> {
        let text = target.auth.sealed.clone().map(|sealed| sealed.0).unwrap_or_default();
        let sealed = SealedCredential { seals: seals.clone(), place: outline.seal_context(kind), text };
        sealed.open().map(drop).map_err(|unopened| {
            tracing::error!(target = outline.name, error = %unopened, "the credential of a target does not open");
            let name = &outline.name;
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
    };
    Ok(Destination {
        target: outline.name.clone(),
        host: outline.host.clone(),
        port: outline.port,
        login: outline.username.clone(),
        credentials: vec![credential],
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
    if !is_login(&login) {
        return Err(Problem::bad_request("username must be 1 to 128 visible ASCII characters, the first no hyphen."));
    }
    Ok(Destination {
        target: place(&login, &host, port),
        host,
        port,
        login,
        credentials: vec![Credential::Prompt],
        typed: true,
    })
}

/// Reads a whole number however it is spelled: to JSON `80` and `80.0` are one number (RFC 8259 §6), and some languages
/// write every number as the second.
pub(super) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
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
    use crate::{
        core::{
            people::Role,
            record::UtcMicros,
            seal::SealKey,
            target::{Auth as Kept, Outline, Sealed},
        },
        ssh::AddressRule,
        web::fixture::settings,
    };

    /// Two targets of the records: one with a password for its own place, and one that shares its name with the configuration.
    fn directory(settings: &Settings) -> Directory {
        let outline = |name: &str, host: &str| Outline {
            name: name.to_owned(),
            host: host.to_owned(),
            port: 22,
            username: "deploy".to_owned(),
            group: None,
            tags: vec![],
            roles: vec![],
        };
        let place = outline("db-1", "db-1.internal").seal_context(AuthKind::Password);
        let sealed = settings.seals.seal([1; 12], &place, &"s3cret".into()).map(Sealed);
        let auth = Kept { kind: AuthKind::Password, sealed };
        let targets = [
            Target::new(outline("db-1", "db-1.internal"), auth.clone(), UtcMicros(1)),
            Target::new(outline("db-2", "db-1.internal"), auth.clone(), UtcMicros(1)),
            Target::new(outline("web-1", "evil.example"), auth, UtcMicros(1)),
        ];
        let targets = targets.into_iter().map(|target| (target.outline.name.clone(), target));
        Directory { targets: targets.collect(), ..Directory::default() }
    }

    fn open_with(body: &str, settings: &Settings) -> Result<OpenSession, (u16, String)> {
        let opening: Opening = serde_json::from_str(body).map_err(|error| (400, error.to_string()))?;
        check(opening, false, settings)
    }

    fn check(opening: Opening, trusts: bool, settings: &Settings) -> Result<OpenSession, (u16, String)> {
        let reach = Reach { role: Role::Admin, grants: vec![] };
        let (from, directory) = ("192.0.2.7".parse().unwrap(), directory(settings));
        let told = opening.check("ada", &reach, trusts, from, settings, &directory);
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
    fn a_target_of_the_records_is_dialled_with_its_sealed_credential() {
        let open = open(r#"{"target":"db-1"}"#).unwrap();
        assert_eq!((open.host.as_str(), open.port, open.login.as_str()), ("db-1.internal", 22, "deploy"));
        assert_eq!(open.allowed, None);
        let [Credential::SealedPassword(sealed)] = &open.credentials[..] else { panic!("{:?}", open.credentials) };
        assert_eq!(sealed.open().unwrap().expose_secret(), "s3cret");
        let opening: Opening = serde_json::from_str(r#"{"target":"db-1"}"#).unwrap();
        let (reach, ip) = (Reach { role: Role::User, grants: vec![] }, "192.0.2.7".parse().unwrap());
        let refused = opening.check("ada", &reach, false, ip, &settings(), &directory(&settings())).unwrap_err();
        assert_eq!(refused.detail(), "There is no target \"db-1\".");
    }

    #[test]
    fn a_credential_that_does_not_open_is_told_before_anything_is_dialled() {
        let (status, detail) = open(r#"{"target":"db-2"}"#).unwrap_err();
        assert_eq!(status, 503);
        assert!(detail.contains("db-2 cannot be used") && detail.contains("altered"), "it is that of db-1: {detail}");
        let other = Settings { seals: Arc::new(Seals::new(SealKey::new([8; 32]), vec![])), ..settings() };
        let opening: Opening = serde_json::from_str(r#"{"target":"db-1"}"#).unwrap();
        let (reach, ip) = (Reach { role: Role::Admin, grants: vec![] }, "192.0.2.7".parse().unwrap());
        let refused = opening.check("ada", &reach, false, ip, &other, &directory(&settings())).unwrap_err();
        let id = settings().seals.keys().next().unwrap().id();
        assert!(refused.detail().contains(&format!("sealed with the key {id}")), "{}", refused.detail());
        assert!(refused.detail().contains("pulsegate doctor"), "{}", refused.detail());
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
        let twin = state::Target { name: "same".into(), host_key_policy: Strict, ..settings.targets[0].clone() };
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
}
