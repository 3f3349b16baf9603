//! `pulsegate user` and `pulsegate token`: maintains users and tokens in the gateways' own store. A running gateway
//! sees every change within a second and needs no restart. Knows no gateway.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, BufRead, IsTerminal, Read as _, Write as _},
    path::Path,
};

use anyhow::{Context, bail};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::{Report, ToolContext, stores};
use crate::{
    cli::{AddUser, CreateToken, SetUser, TokenCommand, UserCommand},
    config::{Config, Records},
    console,
    core::{
        audit::Action,
        password,
        people::{ADMIN, Directory, Invitation, Right, Rights, Role, TOKEN_PREFIX, Token, User, token_digest},
        record::{UtcMicros, micros},
        rfc3339::Rfc3339,
        target::each_once,
        visible::made_visible,
    },
    data_dir,
    store::{
        people::{Change, PeopleStore},
        sqlite::SqliteStore,
    },
};

#[cfg(test)]
mod tests;

/// The longest line that is read as a password, in bytes.
const MAX_LINE_BYTES: u64 = 8 * 1_024;

/// The most characters shown of a token's name or a grant.
const MAX_CHARS_SHOWN: usize = 72;

/// Text before the reason why the store cannot be opened.
const UNOPENED: &str = "the store of users cannot be opened";

/// Runs `pulsegate user`.
pub async fn users(ctx: &ToolContext, command: UserCommand) -> anyhow::Result<Report> {
    if !matches!(command, UserCommand::Add(_)) {
        ctx.need_people()?;
    }
    let store = open(ctx).await?;
    let directory = store.read().await.context("the users cannot be read")?;
    match command {
        UserCommand::List => list_users(&directory),
        UserCommand::Add(options) => add(ctx, &*store, &directory, options).await,
        UserCommand::Passwd(options) => {
            let user = local(find(&directory, &options.name)?)?;
            let hash = new_password(options.password_file.as_deref())?;
            let name = user.name.clone();
            replace(ctx, &*store, user, |user| user.with_password(hash)).await?;
            ctx.did(Action::UserPassword, &name, "A new password.").await;
            Ok(done(format!("{name} has a new password, and is signed out everywhere"), json!({ "user": name })))
        }
        UserCommand::Set(options) => set(ctx, &*store, &directory, options).await,
        UserCommand::Link { name } => link(ctx, &*store, local(find(&directory, &name)?)?).await,
        UserCommand::Remove { name } => {
            let user = find(&directory, &name)?;
            store.change(Change::Remove(user.name.clone())).await.context("the user cannot be removed")?;
            ctx.did(Action::UserRemove, &name, "Removed.").await;
            Ok(done(format!("{name} is removed"), json!({ "user": name })))
        }
    }
}

/// Runs `pulsegate token`.
pub async fn tokens(ctx: &ToolContext, command: TokenCommand) -> anyhow::Result<Report> {
    if !matches!(&command, TokenCommand::Create(options) if options.user == ADMIN) {
        ctx.need_people()?;
    }
    let store = open(ctx).await?;
    let directory = store.read().await.context("the tokens cannot be read")?;
    match command {
        TokenCommand::List => list_tokens(&directory),
        TokenCommand::Create(options) => create_token(ctx, &*store, &directory, options).await,
        TokenCommand::Revoke { id } => {
            if !directory.tokens.contains_key(&id) {
                bail!("there is no token {id}; see `pulsegate token list`");
            }
            store.change(Change::RemoveToken(id.clone())).await.context("the token cannot be revoked")?;
            ctx.did(Action::TokenRevoke, &id, "Revoked.").await;
            Ok(done(format!("the token {id} is revoked"), json!({ "token": id })))
        }
    }
}

/// Opens the store of users, tokens and targets; it is made if there is none yet.
pub(super) async fn open(ctx: &ToolContext) -> anyhow::Result<Box<dyn PeopleStore>> {
    let _lock = match ctx.config.store.records {
        Records::Sqlite => lock_to_migrate(ctx).await?,
        Records::MySql(_) => None,
    };
    open_under_lock(ctx).await
}

/// As [`open`], by a tool that holds the data directory's lock.
pub(super) async fn open_under_lock(ctx: &ToolContext) -> anyhow::Result<Box<dyn PeopleStore>> {
    if let Some(records) = stores::records(ctx) {
        let taken = records.schema().await.context("store.records")?;
        if let Some((step, _)) = taken.iter().find(|(_, taken)| !taken) {
            bail!(
                "the records lack the step {} of their schema: run `pulsegate migrate`, or start a gateway",
                step.name
            );
        }
        return Ok(Box::new(records));
    }
    data_dir::make_private(&ctx.config.node.data_dir)?;
    Ok(Box::new(SqliteStore::open(&ctx.database()).await.context(UNOPENED)?))
}

/// Locks the data directory if opening the file will apply steps of its schema: a running gateway may be of a release
/// that does not know them.
async fn lock_to_migrate(ctx: &ToolContext) -> anyhow::Result<Option<File>> {
    let database = ctx.database();
    if !database.exists() {
        return Ok(None);
    }
    let taken = SqliteStore::look(&database).await.context(UNOPENED)?.schema().await.context(UNOPENED)?;
    let Some((step, _)) = taken.iter().find(|(_, taken)| !taken) else { return Ok(None) };
    match data_dir::lock_unless_kept(&ctx.config.node.data_dir).await? {
        Some(lock) => Ok(Some(lock)),
        None => bail!(
            "{} lacks the step {} of its schema, and a gateway is running on it: stop it and run `pulsegate migrate`, or start \
             it again with this release",
            database.display(),
            step.name
        ),
    }
}

/// Refuses to set a password for a user who signs in with a provider.
fn local(user: User) -> anyhow::Result<User> {
    if user.identity.is_some() {
        bail!("{} signs in with a provider, and has no password here", user.name);
    }
    Ok(user)
}

async fn add(
    ctx: &ToolContext,
    store: &dyn PeopleStore,
    directory: &Directory,
    options: AddUser,
) -> anyhow::Result<Report> {
    let AddUser { name, role, grants, password_file } = options;
    if directory.users.contains_key(&name) {
        bail!("there is a user {name} already; `pulsegate user set` changes one");
    }
    let opens_nothing = role.rights().has(Right::Open) && role != Role::Admin && grants.is_empty();
    let hint = if opens_nothing {
        format!("; `pulsegate user set {name} --grant TARGET` lets them open one")
    } else {
        String::new()
    };
    let password_hash = new_password(password_file.as_deref())?;
    let now = (ctx.utc)();
    let user = User::new(name.clone(), role, each_once(grants), password_hash, now);
    if !store.change(Change::Add(user)).await.context("the user cannot be added")? {
        bail!("a user {name} was added at the same moment");
    }
    ctx.did(Action::UserCreate, &name, &format!("Added as {}.", role.as_str())).await;
    Ok(done(format!("{name} may sign in as {}{hint}", role.as_str()), json!({ "user": name, "role": role })))
}

async fn set(
    ctx: &ToolContext,
    store: &dyn PeopleStore,
    directory: &Directory,
    options: SetUser,
) -> anyhow::Result<Report> {
    let SetUser { name, role, grants, no_grants, disable, enable, reset_totp } = options;
    let user = find(directory, &name)?;
    let takes_factor = reset_totp && (user.second_factor.is_some() || user.enrolment.is_some());
    let change = |user: User| User {
        role: role.unwrap_or(user.role),
        grants: if no_grants || !grants.is_empty() { each_once(grants) } else { user.grants },
        disabled: disable || (user.disabled && !enable),
        second_factor: user.second_factor.filter(|_| !reset_totp),
        enrolment: user.enrolment.filter(|_| !reset_totp),
        ..user
    };
    let user = replace(ctx, store, user, change).await?;
    let state = if user.disabled { "may not sign in" } else { "may sign in" };
    let text = format!("{name} is {} and {state}; may open: {}", user.role.as_str(), opens(&user));
    ctx.did(Action::UserChange, &name, &format!("{text}.")).await;
    if takes_factor {
        ctx.did(Action::UserSecondFactor, &name, "Taken away.").await;
    }
    let text = if takes_factor { format!("{text}; the second factor is taken away") } else { text };
    Ok(done(text, json!({ "user": name, "role": user.role, "grants": user.grants, "disabled": user.disabled })))
}

async fn link(ctx: &ToolContext, store: &dyn PeopleStore, user: User) -> anyhow::Result<Report> {
    let secret = BASE64URL_NOPAD.encode(&rand::random::<[u8; 32]>());
    let invitation = Invitation::new(token_digest(&secret), (ctx.utc)());
    let name = user.name.clone();
    replace(ctx, store, user, |user| User { invitation: Some(invitation), ..user }).await?;
    ctx.did(Action::UserLink, &name, "To set their password, once, within a day.").await;
    let link = format!("{}/#/setup/{secret}", address(&ctx.config));
    console::mention(&format!("{name} sets their own password there, once, within 24 hours; it is shown this once:"));
    Ok(done(link.clone(), json!({ "user": name, "link": link })))
}

/// Returns the gateway's address for browsers, as far as the configuration tells.
fn address(config: &Config) -> String {
    let server = &config.server;
    let scheme = if server.tls.is_on() { "https" } else { "http" };
    let told = server.public_url.as_ref().or(server.allowed_origins.first()).map(|origin| origin.as_str().to_owned());
    told.unwrap_or_else(|| format!("{scheme}://{}", server.listen))
}

async fn replace(
    ctx: &ToolContext,
    store: &dyn PeopleStore,
    user: User,
    change: impl FnOnce(User) -> User,
) -> anyhow::Result<User> {
    let (name, before, changed_at) = (user.name.clone(), user.changed_at, user.next_change((ctx.utc)()));
    let user = User { changed_at, ..change(user) };
    if !store.change(Change::Replace(user.clone(), before)).await.context("the user cannot be changed")? {
        bail!("{name} was changed at the same moment; check it, and try again");
    }
    Ok(user)
}

async fn create_token(
    ctx: &ToolContext,
    store: &dyn PeopleStore,
    directory: &Directory,
    options: CreateToken,
) -> anyhow::Result<Report> {
    let CreateToken { user, name, scopes, expires } = options;
    let user_is_admin = user == ADMIN;
    if !user_is_admin {
        find(directory, &user)?;
    }
    let held = directory.access(&user).map(|access| access.role.rights()).unwrap_or_default();
    if !held.include(Rights::from_iter(scopes.iter().copied())) {
        let words: Vec<_> = held.iter().map(Right::as_str).collect();
        bail!("--scope: {user} has the rights {}, and a token of theirs no others", words.join(", "));
    }
    let now = (ctx.utc)();
    let life = expires.map(micros);
    let secret = format!("{TOKEN_PREFIX}{}", BASE64URL_NOPAD.encode(&rand::random::<[u8; 32]>()));
    let token = Token {
        id: HEXLOWER.encode(&rand::random::<[u8; 8]>()),
        name,
        user,
        digest: token_digest(&secret),
        scopes: (!scopes.is_empty()).then_some(each_once(scopes)),
        created_at: now,
        expires_at: life.map(|life| UtcMicros(now.0.saturating_add(life))),
        last_used_at: None,
    };
    let (id, whose) = (token.id.clone(), format!("A token of {}.", token.user));
    store.change(Change::AddToken(token)).await.context("the token cannot be made")?;
    ctx.did(Action::TokenCreate, &id, &whose).await;
    if user_is_admin && ctx.secrets.admin_token.is_none() {
        console::mention(&format!(
            "tokens of {ADMIN} work on gateways that have PULSEGATE_ADMIN_TOKEN, and it is not set here"
        ));
    }
    console::mention(&format!("token {id}; it is shown this once:"));
    Ok(done(secret.clone(), json!({ "id": id, "token": secret })))
}

fn find(directory: &Directory, name: &str) -> anyhow::Result<User> {
    directory.users.get(name).cloned().with_context(|| format!("there is no user {name}; see `pulsegate user list`"))
}

fn list_users(directory: &Directory) -> anyhow::Result<Report> {
    let mut text =
        format!("{:<24} {:<9} {:<9} {:<8} {:<20}  MAY OPEN", "NAME", "ROLE", "STATE", "FACTORS", "LAST SIGN-IN");
    for user in directory.users.values() {
        let state = if user.disabled { "disabled" } else { "enabled" };
        let factors = match (&user.identity, &user.second_factor) {
            (Some(_), _) => "provider",
            (None, Some(_)) => "2",
            (None, None) => "1",
        };
        let seen = user.last_sign_in_at.map_or_else(|| "never".to_owned(), minute);
        let opens = opens(user);
        write!(text, "\n{:<24} {:<9} {state:<9} {factors:<8} {seen:<20}  {opens}", user.name, user.role.as_str())?;
    }
    let users = directory.users.values().map(|user| {
        let (name, role, grants, disabled) = (&user.name, user.role, &user.grants, user.disabled);
        let (totp, provider) = (user.second_factor.is_some(), user.identity.is_some());
        let seen = user.last_sign_in_at.map(Rfc3339);
        json!({
            "name": name, "role": role, "grants": grants, "disabled": disabled, "totp": totp, "provider": provider,
            "last_sign_in_at": seen,
        })
    });
    Ok(done(text, json!({ "users": users.collect::<Vec<_>>() })))
}

fn list_tokens(directory: &Directory) -> anyhow::Result<Report> {
    let mut text = format!("{:<16} {:<24} {:<24} {:<20} {:<20}  SCOPES", "ID", "USER", "NAME", "EXPIRES", "LAST USED");
    for token in directory.tokens.values() {
        let [expires, used] =
            [token.expires_at, token.last_used_at].map(|at| at.map_or_else(|| "never".to_owned(), minute));
        let (name, scopes) = (made_visible(&token.name, MAX_CHARS_SHOWN), scopes(token));
        write!(text, "\n{:<16} {:<24} {name:<24} {expires:<20} {used:<20}  {scopes}", token.id, token.user)?;
    }
    let tokens = directory.tokens.values().map(|token| {
        let (expires, used) = (token.expires_at.map(Rfc3339), token.last_used_at.map(Rfc3339));
        json!({
            "id": token.id, "name": token.name, "user": token.user, "scopes": token.scopes,
            "expires_at": expires, "last_used_at": used,
        })
    });
    Ok(done(text, json!({ "tokens": tokens.collect::<Vec<_>>() })))
}

fn opens(user: &User) -> String {
    if user.role == Role::Admin {
        return "everything".to_owned();
    }
    let grants: Vec<_> = user.grants.iter().map(|grant| made_visible(&grant.to_string(), MAX_CHARS_SHOWN)).collect();
    if grants.is_empty() { "nothing by a grant".to_owned() } else { grants.join(" ") }
}

fn scopes(token: &Token) -> String {
    let words = token.scopes.as_ref().map(|scopes| scopes.iter().map(|right| right.as_str()).collect::<Vec<_>>());
    words.map_or_else(|| "all of its user".to_owned(), |words| words.join(" "))
}

fn minute(at: UtcMicros) -> String {
    let moment = time::OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1_000_000));
    moment.map_or_else(|_| "?".to_owned(), |at| format!("{} {:02}:{:02}Z", at.date(), at.hour(), at.minute()))
}

pub(super) fn done(text: String, json: serde_json::Value) -> Report {
    Report { text, json, code: 0 }
}

/// Reads a new password and returns its hash: from a file, from a pipe, or from a person, who types it twice unseen.
fn new_password(file: Option<&Path>) -> anyhow::Result<String> {
    let password = match file {
        Some(path) => {
            let shown = path.display();
            let file = std::fs::File::open(path).with_context(|| format!("--password-file: {shown} cannot be read"))?;
            line(&mut io::BufReader::new(file))?
        }
        None if io::stdin().is_terminal() => {
            let first = ask("New password: ")?;
            password::check(&first)?;
            if ask("The same again: ")?.expose_secret() != first.expose_secret() {
                bail!("the two were not the same; nothing was changed");
            }
            first
        }
        None => {
            let piped = line(&mut io::stdin().lock())?;
            if piped.expose_secret().is_empty() {
                bail!("no password came: type it at a terminal, send it to standard input, or give --password-file");
            }
            piped
        }
    };
    password::check(&password)?;
    password::hash(&password, rand::random()).context("the password could not be hashed: is memory short?")
}

pub(super) fn line(reader: &mut impl BufRead) -> anyhow::Result<SecretString> {
    let mut line = String::new();
    reader.take(MAX_LINE_BYTES).read_line(&mut line).context("the password cannot be read")?;
    Ok(SecretString::from(line.trim_end_matches(['\r', '\n'])))
}

/// Asks at the terminal, with its echo off.
fn ask(question: &str) -> anyhow::Result<SecretString> {
    let stdin = io::stdin();
    let shown = tcgetattr(&stdin).context("the terminal cannot be asked")?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden.local_modes.insert(LocalModes::ECHONL);
    io::stderr().write_all(question.as_bytes())?;
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).context("the echo of the terminal cannot be turned off")?;
    let answer = line(&mut stdin.lock());
    tcsetattr(&stdin, OptionalActions::Flush, &shown).context("the echo of the terminal cannot be turned on again")?;
    answer
}
