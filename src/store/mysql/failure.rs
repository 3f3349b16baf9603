//! Translates the errors of MySQL and MariaDB for the caller, in our words: the servers' own quote statements, tables,
//! users and hosts. Knows no statement.

use std::io;

use sqlx::{Error, migrate::MigrateError, mysql::MySqlDatabaseError};

use super::rows;
use crate::store::StoreError;

/// Beginnings of the driver's message that it does not speak an account's plugin.
const UNSPOKEN: [&str; 2] = ["unknown authentication plugin", "mysql_cleartext_plugin disabled"];

/// Whether the same work may succeed at once on another connection: another transaction was preferred, or the
/// connection was lost and it is unknown whether the work was done.
pub fn is_passing(error: &Error) -> bool {
    match error {
        Error::Io(_) => true,
        Error::Database(_) => {
            matches!(number(error), 1020 | 1053 | 1158..=1161 | 1205 | 1213 | 1317 | 1614 | 1927 | 3169 | 4031)
        }
        _ => false,
    }
}

/// Whether it speaks against the server, so that no connection to it is worth keeping: the connection was cut, or the
/// server takes no writes, as the former primary does after a switchover. Locks that others hold say nothing of it.
pub fn is_of_server(error: &Error) -> bool {
    match error {
        Error::Io(_) => true,
        Error::Database(_) => {
            matches!(number(error), 1047 | 1053 | 1158..=1161 | 1290 | 1317 | 1792 | 1836 | 1927 | 3169 | 4031)
        }
        _ => false,
    }
}

/// Returns the meaning of `error` for the caller.
pub fn meaning(error: Error) -> StoreError {
    match error {
        Error::Database(_) => of_server(number(&error)),
        Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => unanswered(),
        Error::Io(error) => StoreError::Unavailable(format!(
            "the server cannot be reached: {}; is its address right, and does it run?",
            cause(&error)
        )),
        Error::Protocol(said) if UNSPOKEN.iter().any(|words| said.starts_with(words)) => unspoken(),
        Error::Protocol(_) => StoreError::Unavailable("what answers does not speak as MySQL does".into()),
        _ => rows::unreadable(),
    }
}

/// Returns the cause of a failed connection, without its host. The resolver's errors are none of the system's, and their
/// kind says nothing.
fn cause(error: &io::Error) -> String {
    if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::UnexpectedEof {
        error.kind().to_string()
    } else {
        "its name does not resolve, or nothing answers there".into()
    }
}

/// Returns the meaning of an `error` in a step of the schema.
pub fn of_step(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => meaning(error),
        MigrateError::Dirty(step) => StoreError::Refused(format!(
            "step {step} of the schema broke off: undo or finish it by hand, then delete or mark its row in _sqlx_migrations"
        )),
        MigrateError::VersionMissing(step) => StoreError::Refused(format!(
            "the schema is of a newer release: this one does not know its step {step}; start this gateway with that release"
        )),
        other => StoreError::Refused(format!("the schema is not of this release: {other}")),
    }
}

/// Returns the error for a server that did not answer in time.
pub fn unanswered() -> StoreError {
    StoreError::Unavailable("the server did not answer in time".into())
}

/// Returns the server's number for an error of its own, else 0.
pub fn number(error: &Error) -> u16 {
    let error = error.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>());
    error.map_or(0, MySqlDatabaseError::number)
}

/// Translates an error number of either server (MySQL's error message reference, MariaDB's error codes); a number that
/// only one of them uses is listed all the same.
fn of_server(number: u16) -> StoreError {
    let unavailable = |why: &str| StoreError::Unavailable(why.into());
    let refused = |why: &str| StoreError::Refused(why.into());
    match number {
        1040 | 1203 | 1226 => unavailable("the server takes no more connections"),
        1129 => unavailable("the server takes no connections from here: too many have failed"),
        1047 | 1053 | 1077 | 1079 | 1158..=1161 | 1317 | 1927 | 3169 | 4031 => {
            unavailable("the server ended the connection or is not ready")
        }
        1020 | 1205 | 1213 | 1614 => unavailable("others hold the same rows for too long"),
        1290 | 1792 | 1836 => unavailable("the server is read-only"),
        3 | 1021 | 1026 | 1030 | 1114 => unavailable("the server's disk is full or fails"),
        1037 | 1038 | 1041 => unavailable("the server is out of memory"),
        1969 | 3024 => unanswered(),
        1044 | 1045 | 1130 | 1142 | 1143 | 1227 | 1698 | 1820 | 1862 => {
            refused("the server denies access: check user, password, host and rights of the account")
        }
        1049 => refused("there is no database of this name"),
        1054 | 1146 => refused("the schema is not of this release: run `pulsegate migrate`"),
        1251 | 1524 | 2059 => unspoken(),
        1665 => refused("the server's binary log is in STATEMENT format: set binlog_format to ROW or MIXED"),
        1048 | 1153 | 1264 | 1265 | 1292 | 1366 | 1406 => {
            StoreError::Rejected(format!("a value does not fit its column, server error {number}"))
        }
        _ => StoreError::Refused(format!("server error {number}")),
    }
}

fn unspoken() -> StoreError {
    StoreError::Refused(
        "the account signs in by a plugin that is not spoken here: give it caching_sha2_password, sha256_password or \
         mysql_native_password"
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_unavailable_and_what_will_not_is_refused() {
        for number in [1040, 1053, 1205, 1213, 1290, 1836, 1021, 1114, 1927, 1969, 3024, 4031] {
            assert!(matches!(of_server(number), StoreError::Unavailable(_)), "{number}");
        }
        for number in [1044, 1045, 1049, 1054, 1064, 1142, 1146, 1251, 1665, 9999] {
            assert!(matches!(of_server(number), StoreError::Refused(_)), "{number}");
        }
        assert!(matches!(of_server(1406), StoreError::Rejected(_)));
    }

    #[test]
    fn a_lost_connection_is_worth_another_and_a_deaf_server_is_said_to_be_deaf() {
        assert!(is_passing(&Error::Io(io::ErrorKind::UnexpectedEof.into())));
        assert!(!is_passing(&Error::Protocol("odd".into())));
        assert!(is_of_server(&Error::Io(io::ErrorKind::UnexpectedEof.into())));
        let deaf = meaning(Error::Io(io::ErrorKind::TimedOut.into())).to_string();
        assert_eq!(deaf, "the store is unavailable: the server did not answer in time");
    }

    #[test]
    fn a_server_that_is_not_there_is_said_not_to_be() {
        let said = |error| meaning(Error::Io(error)).to_string();
        let is_told = |error, cause: &str| {
            let told = "the store is unavailable: the server cannot be reached: ";
            assert_eq!(said(error), format!("{told}{cause}; is its address right, and does it run?"));
        };
        let unresolved = io::Error::other("failed to lookup address information: db.example");
        is_told(unresolved, "its name does not resolve, or nothing answers there");
        let refused = rustix::io::Errno::CONNREFUSED.raw_os_error();
        is_told(io::Error::from_raw_os_error(refused), "connection refused");
        is_told(io::ErrorKind::UnexpectedEof.into(), "unexpected end of file");
    }
}
