//! The commands that manage users and their tokens. Knows their arguments, not what they do.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Subcommand};

use crate::{
    config,
    core::people::{Grant, NotAGrant, Right, Role, USER_NAME, is_token_name, is_user_name},
};

/// The commands on users. A running gateway sees a change within a second.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum UserCommand {
    /// Add a user who may sign in; asks for their password.
    Add(AddUser),
    /// Set a user's password; signs them out everywhere.
    Passwd(Passwd),
    /// List all users.
    List,
    /// Change a user's role or grants; terminals that they may no longer have end.
    Set(SetUser),
    /// Print a link with which a user sets their own password, once, within 24 hours; it voids an older one.
    Link {
        /// The user's name.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Remove a user with their tokens; their terminals end, their sessions stay in the history.
    Remove {
        /// The user's name.
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// The options of `user add`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct AddUser {
    /// 1 to 64 of a-z, 0-9 and . _ - @, beginning with a letter or digit.
    #[arg(value_name = "NAME", value_parser = new_name)]
    pub name: String,
    /// viewer, user, operator, auditor or admin.
    #[arg(long, value_name = "ROLE", value_parser = role)]
    pub role: Role,
    /// A grant to open targets: a target's name, tag:NAME, * for the catalogue, adhoc:* for hosts typed by hand. May be
    /// repeated.
    #[arg(long = "grant", value_name = "GRANT", value_parser = grant)]
    pub grants: Vec<Grant>,
    /// A file whose first line is the password [default: ask for it].
    #[arg(long, value_name = "PATH")]
    pub password_file: Option<PathBuf>,
}

/// The options of `user passwd`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Passwd {
    /// The user's name.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// A file whose first line is the password [default: ask for it].
    #[arg(long, value_name = "PATH")]
    pub password_file: Option<PathBuf>,
}

/// The options of `user set`, at least one; anything not given stays.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
pub struct SetUser {
    /// The user's name.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// viewer, user, operator, auditor or admin.
    #[arg(long, value_name = "ROLE", value_parser = role, group = "change")]
    pub role: Option<Role>,
    /// A grant; those given here replace all earlier ones. May be repeated.
    #[arg(long = "grant", value_name = "GRANT", value_parser = grant, conflicts_with = "no_grants", group = "change")]
    pub grants: Vec<Grant>,
    /// Remove all grants.
    #[arg(long, group = "change")]
    pub no_grants: bool,
    /// Disable the user, who can then not sign in.
    #[arg(long, conflicts_with = "enable", group = "change")]
    pub disable: bool,
    /// Enable the user again.
    #[arg(long, group = "change")]
    pub enable: bool,
    /// Remove their second factor, for example when the phone is lost; does not sign them out.
    #[arg(long, group = "change")]
    pub reset_totp: bool,
}

/// The commands on tokens. A running gateway sees a change within a second.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum TokenCommand {
    /// Create a token for a program and print it, only this once.
    Create(CreateToken),
    /// List the tokens of all users.
    List,
    /// Revoke a token.
    Revoke {
        /// Its id, as `token list` shows it.
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// The options of `token create`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CreateToken {
    /// The user in whose name the program acts.
    #[arg(long, value_name = "NAME")]
    pub user: String,
    /// Its purpose, in a few words.
    #[arg(long, value_name = "TEXT", value_parser = token_name)]
    pub name: String,
    /// A right that it may use at most. May be repeated.
    #[arg(long = "scope", value_name = "RIGHT", value_parser = right, help = help_of_scopes())]
    pub scopes: Vec<Right>,
    /// Its lifetime, as 90d [default: until it is revoked].
    #[arg(long, value_name = "DURATION", value_parser = life)]
    pub expires: Option<Duration>,
}

pub(super) fn role(text: &str) -> Result<Role, &'static str> {
    text.parse().map_err(|_| "one of viewer, user, operator, auditor, admin")
}

fn new_name(name: &str) -> Result<String, &'static str> {
    if is_user_name(name) { Ok(name.to_owned()) } else { Err(USER_NAME) }
}

fn token_name(name: &str) -> Result<String, &'static str> {
    if is_token_name(name) { Ok(name.to_owned()) } else { Err("1 … 64 visible characters") }
}

/// Parses a grant whose every letter can be seen.
fn grant(text: &str) -> Result<Grant, NotAGrant> {
    text.parse::<Grant>().and_then(|grant| if grant.is_visible() { Ok(grant) } else { Err(NotAGrant) })
}

/// Parses the lifetime of a token, which may be given in days as well.
fn life(text: &str) -> Result<Duration, &'static str> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    let life = match days {
        Some(days) => days.checked_mul(24 * 60 * 60).map(Duration::from_secs),
        None => config::duration(text).ok(),
    };
    let longest = Duration::from_hours(3_650 * 24);
    life.filter(|life| !life.is_zero() && *life <= longest)
        .ok_or("a duration with its unit, as 90d, 12h or 30m, and at most 3650d")
}

fn right(text: &str) -> Result<Right, String> {
    text.parse().map_err(|_| format!("one of {}", rights()))
}

fn help_of_scopes() -> String {
    format!("A right that it may use at most, one of {}. May be repeated [default: all rights of its user]", rights())
}

fn rights() -> String {
    Right::ALL.iter().map(|right| right.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_right_can_be_a_scope_and_is_named() {
        for right in Right::ALL {
            assert_eq!(super::right(right.as_str()), Ok(*right));
            assert!(help_of_scopes().contains(right.as_str()), "{right}");
        }
        assert!(super::right("own").is_err_and(|told| told.ends_with("trust, control")));
    }

    #[test]
    fn what_hides_letters_is_no_name_of_a_token_and_no_grant() {
        assert_eq!(token_name("nightly backup"), Ok("nightly backup".to_owned()));
        assert!(token_name("backup\u{202e}").is_err());
        assert_eq!(grant("tag:prod"), Ok(Grant::Tag("prod".to_owned())));
        assert_eq!(grant("tag:\u{202e}prod"), Err(NotAGrant));
    }

    #[test]
    fn a_life_is_counted_in_days_too() {
        assert_eq!(life("90d"), Ok(Duration::from_hours(90 * 24)));
        assert_eq!(life("12h"), Ok(Duration::from_hours(12)));
        for wrong in ["", "0d", "-1d", "3651d", "1", "d", "99999999999999999999d"] {
            assert!(life(wrong).is_err(), "{wrong}");
        }
    }
}
