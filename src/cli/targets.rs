//! The commands that manage the targets of the records and the keys that seal their credentials. Knows their arguments,
//! not what they do.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use super::people::role;
use crate::core::{
    people::Role,
    target::{TARGET_NAME, is_target_name},
};

/// The options of `target set` of which it needs one, by the names of their fields.
const CHANGES: [&str; 16] = [
    "host",
    "port",
    "username",
    "via",
    "no_via",
    "group",
    "tags",
    "no_tags",
    "roles",
    "no_roles",
    "prompt",
    "agent",
    "gateway_key",
    "certificate",
    "password_file",
    "key_file",
];

/// The commands on the targets of the records. A running gateway sees a change within a second.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum TargetCommand {
    /// Add a target.
    Add(Box<AddTarget>),
    /// List the targets of the configuration and of the records.
    List,
    /// Change a target; terminals that a user may no longer have end.
    Set(Box<SetTarget>),
    /// Remove a target with its credential; its terminals end, its sessions stay in the history.
    Remove {
        /// The target's name.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Add and change targets from a file.
    Import(ImportTargets),
}

/// The options of `target add`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct AddTarget {
    /// 1 to 64 of A-Z, a-z, 0-9 and . _ -, beginning with a letter or digit.
    #[arg(value_name = "NAME", value_parser = new_name)]
    pub name: String,
    /// A host name or an address.
    #[arg(long, value_name = "HOST")]
    pub host: String,
    /// The port of its SSH server.
    #[arg(long, value_name = "PORT", default_value_t = 22, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// The login name there.
    #[arg(long, value_name = "NAME")]
    pub username: String,
    /// A jump host on the way, the first one first: a target, or user@host:port. May be repeated.
    #[arg(long, value_name = "TARGET")]
    pub via: Vec<String>,
    /// The heading it is shown under.
    #[arg(long, value_name = "TEXT")]
    pub group: Option<String>,
    /// A tag to find it by and to grant it by. May be repeated.
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// A role that may open it without a grant. May be repeated.
    #[arg(long = "role", value_name = "ROLE", value_parser = role)]
    pub roles: Vec<Role>,
    /// How the gateway logs in [default: the user is asked].
    #[command(flatten)]
    pub auth: AuthOptions,
}

/// The options of `target set`, at least one; anything not given stays.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true).args(CHANGES))]
pub struct SetTarget {
    /// The target's name.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// A host name or an address.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// The port of its SSH server.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// The login name there.
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// A jump host on the way, the first one first: a target, or user@host:port; those given here replace all earlier
    /// ones. May be repeated.
    #[arg(long, value_name = "TARGET", conflicts_with = "no_via")]
    pub via: Vec<String>,
    /// Reach it without a jump host.
    #[arg(long)]
    pub no_via: bool,
    /// The heading it is shown under; an empty text for none.
    #[arg(long, value_name = "TEXT")]
    pub group: Option<String>,
    /// A tag; those given here replace all earlier ones. May be repeated.
    #[arg(long = "tag", value_name = "TAG", conflicts_with = "no_tags")]
    pub tags: Vec<String>,
    /// Remove all tags.
    #[arg(long)]
    pub no_tags: bool,
    /// A role that may open it without a grant; those given here replace all earlier ones. May be repeated.
    #[arg(long = "role", value_name = "ROLE", value_parser = role, conflicts_with = "no_roles")]
    pub roles: Vec<Role>,
    /// Let no role open it without a grant.
    #[arg(long)]
    pub no_roles: bool,
    /// How the gateway logs in from now on.
    #[command(flatten)]
    pub auth: AuthOptions,
}

/// The authentication at a target: one of these options, or none.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("auth").multiple(false))]
pub struct AuthOptions {
    /// Ask the user.
    #[arg(long, group = "auth")]
    pub prompt: bool,
    /// Use the keys of the gateway's SSH agent.
    #[arg(long, group = "auth")]
    pub agent: bool,
    /// Use the gateway's own key, whose line for authorized_keys `pulsegate key` prints.
    #[arg(long, group = "auth")]
    pub gateway_key: bool,
    /// Use a key for each session, signed by the gateway's own authority, which `pulsegate key --ca` prints.
    #[arg(long, group = "auth")]
    pub certificate: bool,
    /// A file whose first line is the password; it is sealed, and the file is not needed again. `-` for standard input.
    #[arg(long, value_name = "PATH", group = "auth")]
    pub password_file: Option<PathBuf>,
    /// A file with a private key; it is sealed, and the file is not needed again.
    #[arg(long, value_name = "PATH", group = "auth")]
    pub key_file: Option<PathBuf>,
    /// A file whose first line is the key's passphrase.
    #[arg(long, value_name = "PATH", requires = "key_file")]
    pub passphrase_file: Option<PathBuf>,
}

/// The options of `target import`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("file").required(true))]
pub struct ImportTargets {
    /// An OpenSSH client configuration, as ~/.ssh/config.
    #[arg(long, value_name = "FILE", group = "file")]
    pub ssh_config: Option<PathBuf>,
    /// An Ansible inventory in INI form.
    #[arg(long, value_name = "FILE", group = "file")]
    pub ansible: Option<PathBuf>,
    /// Show what would be done, without doing it.
    #[arg(long)]
    pub dry_run: bool,
    /// Import the valid lines if others are wrong, instead of nothing.
    #[arg(long)]
    pub skip_bad: bool,
    /// A tag for each imported target. May be repeated.
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// The login name of hosts for which the file gives none.
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
}

/// The commands on the keys that credentials are sealed with; the gateway must not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum SealCommand {
    /// Make a new key and seal everything with it; the older keys are kept until then.
    Rotate,
    /// Remove the older keys, once nothing is sealed with them any more.
    Forget,
}

fn new_name(name: &str) -> Result<String, &'static str> {
    if is_target_name(name) { Ok(name.to_owned()) } else { Err(TARGET_NAME) }
}
