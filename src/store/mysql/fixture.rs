//! One private MariaDB for all tests of this process, and empty databases on it. Knows the schema's tables and no test.

use std::{
    str::FromStr,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use sqlx::{ConnectOptions, MySqlConnection, mysql::MySqlConnectOptions};

use super::MySqlStore;

#[path = "../../../tests/integration/support/mariadb.rs"]
mod mariadb;
#[path = "../../../tests/integration/support/skipped.rs"]
mod skipped;

pub use mariadb::{Mariadb, RIGHTS};

/// Databases that are free.
static FREE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Returns the shared server, which is never dropped and ends with the process.
fn shared() -> &'static Result<Mariadb, String> {
    static SHARED: OnceLock<Result<Mariadb, String>> = OnceLock::new();
    SHARED.get_or_init(|| Mariadb::start(&[]))
}

/// Whether there is a server; if not, the calling test counts as skipped.
pub fn is_here() -> bool {
    if let Err(why) = shared() {
        skipped::skip(std::thread::current().name().unwrap_or_default(), why);
    }
    shared().is_ok()
}

/// Returns the server that the tests share.
pub fn server() -> &'static Mariadb {
    shared().as_ref().unwrap()
}

/// A database of the shared server, with the schema and without rows; given back when it is dropped.
pub struct Database(String);

impl Database {
    /// Takes a free database, or makes one.
    pub async fn empty() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let free = FREE.lock().unwrap().pop();
        if let Some(database) = free.map(Self) {
            // Not TRUNCATE, which recreates a table and takes fifty times as long.
            let delete = "DELETE FROM session_records; DELETE FROM session_events; DELETE FROM nodes; DELETE FROM users; \
                DELETE FROM tokens; DELETE FROM targets; DELETE FROM view_key; DELETE FROM sign_ins; DELETE FROM node_commands";
            sqlx::raw_sql(delete).execute(&mut database.connection().await).await.unwrap();
            return database;
        }
        let name = format!("records_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        server().sql(&format!("CREATE DATABASE {name}")).unwrap();
        let database = Self(name);
        database.store().migrate(true, |_| {}).await.unwrap();
        database
    }

    /// Returns a store on it.
    pub fn store(&self) -> MySqlStore {
        store(server(), &self.0)
    }

    /// Returns a connection to it as the driver makes one.
    pub async fn connection(&self) -> MySqlConnection {
        connection(server(), &self.0).await
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        FREE.lock().unwrap().push(std::mem::take(&mut self.0));
    }
}

/// Returns a store on a database of `server`.
pub fn store(server: &Mariadb, database: &str) -> MySqlStore {
    MySqlStore::new(&server.url(database).parse().unwrap())
}

/// Returns a connection to a database of `server` as the driver makes one.
pub async fn connection(server: &Mariadb, database: &str) -> MySqlConnection {
    MySqlConnectOptions::from_str(&server.url(database)).unwrap().connect().await.unwrap()
}
