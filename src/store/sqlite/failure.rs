//! The meaning of SQLite's errors for the caller. Knows no statement.

use super::rows;
use crate::store::StoreError;

/// Translates an error for the caller, in our words: SQLite's own name tables and quote statements.
pub fn failed(error: sqlx::Error) -> StoreError {
    let sqlx::Error::Database(error) = error else { return not_from_sqlite(error) };
    let code = error.code().and_then(|code| code.parse::<u32>().ok());
    // The low byte is the primary code (sqlite.org/rescode.html); the rest only refines it.
    match code.map(|code| code & 0xff) {
        Some(5 | 6) => StoreError::Unavailable("it is locked by another process".into()),
        Some(7) => StoreError::Unavailable("out of memory".into()),
        Some(8) => StoreError::Unavailable("it is read-only".into()),
        Some(9) => StoreError::Unavailable("interrupted".into()),
        Some(10) => StoreError::Unavailable(format!("disk error, SQLite code {}", code.unwrap_or_default())),
        Some(13) => StoreError::Unavailable("the disk is full".into()),
        Some(14 | 15) => StoreError::Unavailable("the file cannot be opened".into()),
        Some(11) => StoreError::Refused("the file is damaged".into()),
        Some(26) => StoreError::Refused("the file is not a database".into()),
        _ => StoreError::Refused(format!("SQLite code {}", code.unwrap_or_default())),
    }
}

fn not_from_sqlite(error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::Io(error) => StoreError::Unavailable(error.to_string()),
        sqlx::Error::PoolTimedOut => StoreError::Unavailable("no reader became free in time".into()),
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => StoreError::Unavailable("it is closed".into()),
        _ => rows::unreadable(),
    }
}
