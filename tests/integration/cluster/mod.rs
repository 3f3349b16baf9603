//! Several gateways on one MariaDB and one Redis: how each shows the others' sessions, what it may do to them, and what
//! it must not.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

pub use crate::support::eventually_within as within;
use crate::support::{
    gateway::{Gateway, Home},
    mariadb::Mariadb,
    playground::Playground,
    redis::Redis,
};

mod canary;
mod copies;
mod evidence;
mod fence;
mod flushed;
mod labels;
mod overlay;
mod sign_in;
mod sign_ins;
mod sweep;
mod targets;
mod terminate;

/// The stores and the target that the gateways of one test share.
pub struct Site {
    pub mariadb: Mariadb,
    pub redis: Redis,
    pub playground: Playground,
    database: String,
}

impl Site {
    /// Starts everything; an error if a program is missing.
    pub fn start() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (mariadb, redis) = (Mariadb::start(&[])?, Redis::start()?);
        let database = format!("site{}", COUNT.fetch_add(1, Ordering::Relaxed));
        mariadb.sql(&format!("CREATE DATABASE {database}"))?;
        Ok(Self { mariadb, redis, playground: Playground::start(), database })
    }

    /// Returns a home for one gateway.
    pub fn home(&self, node: &str) -> Home {
        let records = self.mariadb.url(&self.database);
        Home::with(&self.playground)
            .set("node.id", node)
            .set("store.records", &records)
            .set("store.live", &self.redis.url())
    }

    /// Starts a gateway of its own.
    pub fn gateway(&self, node: &str) -> Gateway {
        Arc::new(self.home(node)).start()
    }

    /// Runs a statement in the gateways' database.
    pub fn sql(&self, statement: &str) -> String {
        self.mariadb.sql(&format!("USE {}; {statement}", self.database)).unwrap()
    }
}

/// Starts a [`Site`], or ends the test as skipped.
#[macro_export]
macro_rules! site {
    () => {
        match $crate::cluster::Site::start() {
            Ok(site) => site,
            Err(why) => return $crate::support::skip(std::thread::current().name().unwrap_or_default(), &why),
        }
    };
}
