//! `pulsegate target`: maintains the targets of the records, in the store of the users. A running gateway sees every
//! change within a second. Seals the secrets it is given and shows none. Knows no gateway.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, BufReader, Read as _},
    path::Path,
};

use anyhow::{Context, bail};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::{
    Report, ToolContext,
    people::{done, line, open},
    targets_import,
};
use crate::{
    cli::{AddTarget, AuthOptions, SetTarget, TargetCommand},
    config,
    core::{
        audit::Action,
        people::{Directory, Role},
        target::{Auth, AuthKind, MAX_TARGETS, PublicTarget, Sealed, Target, Ways, called_via, place},
    },
    ssh::key_to_keep,
    store::people::{Change, PeopleStore},
};

/// The longest file that is read as a private key, in bytes; `ssh` decides how long a key may be.
const KEY_FILE: u64 = 64 * 1_024;

/// Runs `pulsegate target`.
pub async fn run(ctx: &ToolContext, command: TargetCommand) -> anyhow::Result<Report> {
    if !matches!(command, TargetCommand::Add(_) | TargetCommand::Import(_)) {
        ctx.need_people()?;
    }
    let store = open(ctx).await?;
    let directory = store.read().await.context("the targets cannot be read")?;
    match command {
        TargetCommand::List => list(ctx, &directory),
        TargetCommand::Add(options) => add(ctx, &*store, &directory, *options).await,
        TargetCommand::Set(options) => set(ctx, &*store, &directory, *options).await,
        TargetCommand::Remove { name } => {
            let target = find(ctx, &directory, &name)?;
            if let Some(needed) = ways(ctx, &directory).need(&name) {
                bail!("{name} {needed}: give these another way, or remove them, first");
            }
            let change = Change::RemoveTarget(target.public.name);
            store.change(change).await.context("the target cannot be removed")?;
            ctx.did(Action::TargetRemove, &name, "Removed.").await;
            Ok(done(format!("{name} is removed"), json!({ "target": name })))
        }
        TargetCommand::Import(options) => targets_import::run(ctx, &*store, &directory, options).await,
    }
}

async fn add(
    ctx: &ToolContext,
    store: &dyn PeopleStore,
    directory: &Directory,
    options: AddTarget,
) -> anyhow::Result<Report> {
    let AddTarget { name, host, port, username, via, group, tags, roles, auth } = options;
    let public = PublicTarget { name, host, port, username, via, group, tags, roles }.checked()?;
    let name = public.name.clone();
    if is_configured(ctx, &name) {
        bail!("{name} is a target of the configuration; take another name");
    }
    if directory.targets.contains_key(&name) {
        bail!("there is a target {name} already; `pulsegate target set` changes one");
    }
    if directory.targets.len() >= MAX_TARGETS {
        bail!("the records hold {MAX_TARGETS} targets at most; remove one first");
    }
    ways(ctx, directory).admit(&public).map_err(anyhow::Error::msg)?;
    let auth = sealed(ctx, &public, &auth)?.unwrap_or(Auth::PROMPT);
    let target = Target::new(public, auth, (ctx.utc)());
    if !store.change(Change::AddTarget(target.clone())).await.context("the target cannot be added")? {
        bail!("a target {name} was added at the same moment");
    }
    let told = format!("{name} leads to {}, signed in to by {}", target.public.place(), target.auth.kind);
    ctx.did(Action::TargetCreate, &name, &format!("{told}.")).await;
    Ok(done(told, view(&target)))
}

async fn set(
    ctx: &ToolContext,
    store: &dyn PeopleStore,
    directory: &Directory,
    options: SetTarget,
) -> anyhow::Result<Report> {
    let SetTarget { name, host, port, username, via, no_via, group, tags, no_tags, roles, no_roles, auth } = options;
    let before = find(ctx, directory, &name)?;
    let was = before.public.clone();
    let public = PublicTarget {
        name: was.name,
        host: host.unwrap_or(was.host),
        port: port.unwrap_or(was.port),
        username: username.unwrap_or(was.username),
        via: if no_via || !via.is_empty() { via } else { was.via },
        group: group.or(was.group),
        tags: if no_tags || !tags.is_empty() { tags } else { was.tags },
        roles: if no_roles || !roles.is_empty() { roles } else { was.roles },
    };
    let public = public.checked()?;
    ways(ctx, directory).admit(&public).map_err(anyhow::Error::msg)?;
    let auth = match sealed(ctx, &public, &auth)? {
        Some(auth) => auth,
        None if before.stays_open(&public) => before.auth.clone(),
        None => bail!(
            "the {} kept for {name} is for {} and is sent nowhere else: give --password-file, --key-file, --certificate, --gateway-key, --agent or --prompt as well",
            before.auth.kind,
            before.public.place()
        ),
    };
    if (&public, &auth) == (&before.public, &before.auth) {
        bail!("nothing to change: {name} is so already");
    }
    let target = before.changed(public, auth, (ctx.utc)());
    let change = Change::ReplaceTarget(target.clone(), before.changed_at);
    if !store.change(change).await.context("the target cannot be changed")? {
        bail!("{name} was changed at the same moment; check it, and try again");
    }
    let told = format!("{name} leads to {}, signed in to by {}", target.public.place(), target.auth.kind);
    ctx.did(Action::TargetChange, &name, &format!("{told}.")).await;
    Ok(done(told, view(&target)))
}

/// Reads and seals the credential that the options name; `None` if they name none.
fn sealed(ctx: &ToolContext, public: &PublicTarget, options: &AuthOptions) -> anyhow::Result<Option<Auth>> {
    let (kind, secret) = match options {
        AuthOptions { prompt: true, .. } => return Ok(Some(Auth::PROMPT)),
        AuthOptions { agent: true, .. } => return Ok(Some(Auth::AGENT)),
        AuthOptions { gateway_key: true, .. } => return Ok(Some(Auth::GATEWAY_KEY)),
        AuthOptions { certificate: true, .. } => return Ok(Some(Auth::CERTIFICATE)),
        AuthOptions { password_file: Some(path), .. } => (AuthKind::Password, first_line(path, "--password-file")?),
        AuthOptions { key_file: Some(path), passphrase_file, .. } => {
            let passphrase =
                passphrase_file.as_deref().map(|path| first_line(path, "--passphrase-file")).transpose()?;
            let mut text = String::new();
            let file = File::open(path).with_context(|| format!("--key-file: {} cannot be read", path.display()))?;
            file.take(KEY_FILE).read_to_string(&mut text).context("--key-file: is no text")?;
            let kept = key_to_keep(&SecretString::from(text), passphrase.as_ref());
            (AuthKind::PrivateKey, kept.with_context(|| format!("--key-file: {}", path.display()))?)
        }
        _ => return Ok(None),
    };
    if secret.expose_secret().is_empty() {
        bail!("an empty password opens nothing; leave it out to have the person asked");
    }
    let text = ctx.seals()?.seal(rand::random(), &public.seal_context(kind), &secret);
    let text = text.context("it is too long to be sealed")?;
    Ok(Some(Auth { kind, sealed: Some(Sealed(text)) }))
}

fn first_line(path: &Path, option: &str) -> anyhow::Result<SecretString> {
    if path == Path::new("-") {
        return line(&mut io::stdin().lock());
    }
    let file = File::open(path).with_context(|| format!("{option}: {} cannot be read", path.display()))?;
    line(&mut BufReader::new(file))
}

pub(super) fn is_configured(ctx: &ToolContext, name: &str) -> bool {
    ctx.config.targets.iter().any(|target| target.name == name)
}

/// Returns the ways to the targets of the records, with the configuration as this tool reads it.
pub(super) fn ways<'a>(
    ctx: &'a ToolContext,
    directory: &'a Directory,
) -> Ways<'a, impl Fn(&str) -> Option<Vec<&'a str>>> {
    Ways::new(&directory.targets, |name| ctx.config.jumps_of(name))
}

fn find(ctx: &ToolContext, directory: &Directory, name: &str) -> anyhow::Result<Target> {
    if is_configured(ctx, name) {
        bail!("{name} stands in the configuration; change it there");
    }
    let found = directory.targets.get(name).cloned();
    found.with_context(|| format!("the records hold no target {name}; see `pulsegate target list`"))
}

fn list(ctx: &ToolContext, directory: &Directory) -> anyhow::Result<Report> {
    let mut text =
        format!("{:<24} {:<36} {:<13} {:<7} {:<16}  TAGS AND ROLES", "NAME", "PLACE", "AUTH", "SOURCE", "GROUP");
    let mut row = |name: &str, place: &str, auth: &str, source: &str, group: Option<&str>, words: &str| {
        write!(text, "\n{name:<24} {place:<36} {auth:<13} {source:<7} {:<16}  {words}", group.unwrap_or("-"))
    };
    for target in &ctx.config.targets {
        let place = called_via(&place(&target.username, &target.host, target.port), &target.via);
        let words = words(&target.tags, &target.roles);
        row(&target.name, &place, auth(&target.auth), "config", target.group.as_deref(), &words)?;
    }
    let recorded = || directory.targets.values().filter(|target| !is_configured(ctx, &target.public.name));
    for Target { public, auth, .. } in recorded() {
        let words = words(&public.tags, &public.roles);
        row(&public.name, &public.place(), auth.kind.as_str(), "records", public.group.as_deref(), &words)?;
    }
    let configured = ctx.config.targets.iter().map(|target| {
        json!({ "name": target.name, "host": target.host, "port": target.port, "username": target.username,
            "via": target.via, "group": target.group, "tags": target.tags, "roles": target.roles, "auth": auth(&target.auth), "source": "config" })
    });
    let targets: Vec<_> = configured.chain(recorded().map(view)).collect();
    Ok(done(text, json!({ "targets": targets })))
}

fn auth(auth: &config::Auth) -> &'static str {
    match auth {
        config::Auth::KeyFile(_) => "key_file",
        config::Auth::PasswordFile(_) => "password_file",
        config::Auth::Agent => "agent",
        config::Auth::Prompt => "prompt",
        config::Auth::GatewayKey => "gateway_key",
        config::Auth::Certificate => "certificate",
    }
}

fn words(tags: &[String], roles: &[Role]) -> String {
    let roles = roles.iter().map(|role| format!("role:{}", role.as_str()));
    tags.iter().cloned().chain(roles).collect::<Vec<_>>().join(" ")
}

fn view(target: &Target) -> serde_json::Value {
    let Target { public, auth, .. } = target;
    json!({ "name": public.name, "host": public.host, "port": public.port, "username": public.username,
        "via": public.via, "group": public.group, "tags": public.tags, "roles": public.roles, "auth": auth.kind, "source": "records" })
}
