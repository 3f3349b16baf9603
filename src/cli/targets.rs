//! The commands that look after the targets of the records and what their credentials are sealed with. Knows their arguments,
//! not what they do.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use super::people::role;
use crate::core::people::Role;

/// What can be done with the targets of the records. A running gateway knows of it within a second.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum TargetCommand {
    /// Add a target.
    Add(Box<AddTarget>),
    /// List the targets of the configuration and of the records.
    List,
    /// Change a target; terminals that somebody may no longer have end.
    Set(Box<SetTarget>),
    /// Remove a target with its credential; its terminals end, its sessions stay in the history.
    Remove {
        /// Which.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Add and change targets as a file tells of them.
    Import(ImportTargets),
}

/// The options of `target add`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct AddTarget {
    /// 1 to 64 of A-Z, a-z, 0-9 and . _ -, beginning with a letter or digit.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// A host name or an address.
    #[arg(long, value_name = "HOST")]
    pub host: String,
    /// Where its SSH server listens.
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
    /// A word to find it by and to grant it by. May be repeated.
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// A role that may open it without a grant. May be repeated.
    #[arg(long = "role", value_name = "ROLE", value_parser = role)]
    pub roles: Vec<Role>,
    /// How the gateway signs in [default: the person is asked].
    #[command(flatten)]
    pub auth: AuthOptions,
}

/// The options of `target set`; what is not given stays.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SetTarget {
    /// Which.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// A host name or an address.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Where its SSH server listens.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// The login name there.
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// All its jump hosts from now on, the first one first: targets, or user@host:port. May be repeated.
    #[arg(long, value_name = "TARGET", conflicts_with = "no_via")]
    pub via: Vec<String>,
    /// Reach it without a jump host.
    #[arg(long)]
    pub no_via: bool,
    /// The heading it is shown under; an empty text for none.
    #[arg(long, value_name = "TEXT")]
    pub group: Option<String>,
    /// All its tags from now on. May be repeated.
    #[arg(long = "tag", value_name = "TAG", conflicts_with = "no_tags")]
    pub tags: Vec<String>,
    /// Take every tag away.
    #[arg(long)]
    pub no_tags: bool,
    /// All roles that may open it without a grant from now on. May be repeated.
    #[arg(long = "role", value_name = "ROLE", value_parser = role, conflicts_with = "no_roles")]
    pub roles: Vec<Role>,
    /// Let no role open it without a grant.
    #[arg(long)]
    pub no_roles: bool,
    /// How the gateway signs in from now on.
    #[command(flatten)]
    pub auth: AuthOptions,
}

/// How the gateway signs in to a target: one of these, or none.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("auth").multiple(false))]
pub struct AuthOptions {
    /// Ask the person.
    #[arg(long, group = "auth")]
    pub prompt: bool,
    /// Use the keys of the gateway's SSH agent.
    #[arg(long, group = "auth")]
    pub agent: bool,
    /// Use the gateway's own key, whose line for authorized_keys `pulsegate key` prints.
    #[arg(long, group = "auth")]
    pub gateway_key: bool,
    /// Have the gateway's own authority, which `pulsegate key --ca` prints, sign a key for each session.
    #[arg(long, group = "auth")]
    pub certificate: bool,
    /// A file whose first line is the password; it is sealed, and the file not needed again. `-` for standard input.
    #[arg(long, value_name = "PATH", group = "auth")]
    pub password_file: Option<PathBuf>,
    /// A private key; it is sealed, and the file not needed again.
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
    /// Show what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do the rest where lines are wrong, instead of nothing.
    #[arg(long)]
    pub skip_bad: bool,
    /// A tag for each of them. May be repeated.
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// The login name where the file tells none.
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
}

/// What can be done with the keys that credentials are sealed with; the gateway must not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum SealCommand {
    /// Make a new key and seal everything with it; what opens the rest is kept until then.
    Rotate,
    /// Drop the older keys, once nothing is sealed with them any more.
    Forget,
}
