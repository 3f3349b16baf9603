//! The processes that can be killed: the gateway and, where its stores are servers of their own, those. Knows no
//! session.

use std::{rc::Rc, sync::Arc};

use actix_rt::task::spawn_blocking;
use anyhow::{Context, Result, anyhow, bail};
use tokio::{sync::Mutex, time::sleep, try_join};

use super::{DATABASE, NODE, driver::Driver, rows::Row, step::Step};
use crate::{
    dice::Dice,
    gateway::Gateway,
    mariadb::{self, Mariadb},
    redis::Redis,
    skipped::skip,
    target::Target,
};

/// The processes that a round kills.
#[derive(Debug, Clone, Copy)]
pub struct Victims {
    /// Whether to kill the gateway.
    pub gateway: bool,
    /// Whether to kill MariaDB.
    pub records: bool,
    /// Whether to kill Redis.
    pub live: bool,
}

impl Victims {
    /// Each alone, all, and the two that hold durable data.
    const OUTSIDE: [Self; 5] = [
        Self { gateway: true, records: false, live: false },
        Self { gateway: false, records: true, live: false },
        Self { gateway: false, records: false, live: true },
        Self { gateway: true, records: true, live: true },
        Self { gateway: true, records: true, live: false },
    ];

    const EMBEDDED: Self = Self { gateway: true, records: false, live: false };
}

/// The error of [`Mariadb::start`] if MariaDB is not installed.
const NOT_INSTALLED: &str = "no MariaDB";

/// The stores that are servers of their own.
pub struct Outside {
    /// The live view.
    pub redis: Redis,
    /// The records.
    pub mariadb: Arc<Mutex<Mariadb>>,
}

impl Outside {
    /// Starts both for a scenario; `None`, after a message, if one is not installed.
    pub async fn start(scenario: &str) -> Result<Option<Self>> {
        let without = |missing: &str| {
            skip(scenario, missing);
            Ok(None)
        };
        let mariadb = match if_installed(Mariadb::start(&[]))? {
            Ok(mariadb) => mariadb,
            Err(missing) => return without(missing),
        };
        mariadb.sql(&format!("CREATE DATABASE {DATABASE}")).map_err(|why| anyhow!(why))?;
        let Some(redis) = Redis::start().await? else { return without("no Redis") };
        Ok(Some(Self { redis, mariadb: Arc::new(Mutex::new(mariadb)) }))
    }
}

/// Separates a MariaDB that is not installed from one that does not start.
pub fn if_installed<T>(started: Result<T, String>) -> Result<Result<T, &'static str>> {
    match started {
        Ok(server) => Ok(Ok(server)),
        Err(why) if why == NOT_INSTALLED => Ok(Err(NOT_INSTALLED)),
        Err(why) => bail!(why),
    }
}

/// All processes of a scenario.
pub struct Servers {
    /// The gateway under test.
    pub gateway: Rc<Gateway>,
    /// The external stores; `None` if the gateway uses its own.
    pub outside: Option<Outside>,
    /// The target of all sessions.
    pub target: Target,
}

impl Servers {
    /// Starts a gateway on these stores, with limits that allow all sessions of the clients and with more settings as
    /// environment variables.
    pub async fn start(outside: Option<Outside>, more: &[(&'static str, &str)]) -> Result<Self> {
        Self::start_before(Target::start()?, outside, more).await
    }

    /// Like [`Servers::start`], before this target.
    pub async fn start_before(target: Target, outside: Option<Outside>, more: &[(&'static str, &str)]) -> Result<Self> {
        // A fixed address, so that a restarted gateway has the same.
        let listen = format!("127.0.0.1:{}", mariadb::free_port().map_err(|why| anyhow!(why))?);
        let mut settings = vec![
            ("PULSEGATE__SERVER__LISTEN", listen),
            ("PULSEGATE__NODE__ID", NODE.to_owned()),
            // It logs a lot while stores are down.
            ("RUST_LOG", "off".to_owned()),
            ("PULSEGATE__SESSION__MAX_PER_USER", "100000".to_owned()),
            ("PULSEGATE__SESSION__MAX_SESSIONS", "100000".to_owned()),
        ];
        if let Some(outside) = &outside {
            settings.push(("PULSEGATE__STORE__RECORDS", outside.mariadb.lock().await.url(DATABASE)));
            settings.push(("PULSEGATE__STORE__LIVE", outside.redis.url()));
        }
        let own = settings.iter().map(|(name, value)| (*name, value.as_str()));
        let settings: Vec<(&str, &str)> = own.chain(more.iter().copied()).collect();
        let gateway = Rc::new(Gateway::start(target.addr, &settings)?);
        Ok(Self { gateway, outside, target })
    }

    /// Returns the external stores, or an error if there are none.
    pub fn outside(&self) -> Result<&Outside> {
        self.outside.as_ref().context("the gateway keeps everything itself")
    }

    /// Whether the live view shows a session as its row does.
    pub async fn show(&self, row: &Row) -> Result<bool> {
        Ok(row.is_told_by(&self.outside()?.redis.ask(&row.question()).await?))
    }

    /// Draws the victims of a round.
    pub fn draw(&self, dice: &mut Dice) -> Victims {
        let among: &[Victims] = if self.outside.is_some() { &Victims::OUTSIDE } else { &[Victims::EMBEDDED] };
        among.get(dice.below(among.len())).copied().unwrap_or(Victims::EMBEDDED)
    }

    /// Kills the victims (SIGKILL), the gateway at a step if one is given, and notifies the clients. Returns whether
    /// the gateway reached that step.
    pub async fn kill(&mut self, victims: Victims, step: Option<Step>, driver: &Driver) -> Result<bool> {
        driver.change(|weather| weather.gateway &= !victims.gateway);
        let died = match step.filter(|_| victims.gateway) {
            Some(step) => self.gateway.kill_at(step).await?,
            None => false,
        };
        if victims.gateway {
            self.gateway.kill();
        }
        let Some(outside) = &mut self.outside else { return Ok(died) };
        if victims.live {
            outside.redis.kill();
        }
        if victims.records {
            let server = outside.mariadb.clone();
            spawn_blocking(move || server.blocking_lock().kill()).await?;
            driver.change(|weather| weather.records = false);
        }
        Ok(died)
    }

    /// Restarts the victims on the same ports and data; returns once all are ready. Sometimes the gateway has to start
    /// before its stores.
    pub async fn start_again(&mut self, victims: Victims, driver: &Driver, dice: &mut Dice) -> Result<()> {
        let (alone, head_start) = (dice.once_in(2), dice.millis(0..300));
        let gateway = async {
            if victims.gateway {
                self.gateway.start_again().await?;
                driver.change(|weather| weather.gateway = true);
            }
            anyhow::Ok(())
        };
        let outside = &mut self.outside;
        let stores = async {
            let Some(outside) = outside else { return Ok(()) };
            if victims.live {
                outside.redis.start_again().await?;
            }
            if victims.records {
                driver.change(|weather| weather.records = true);
                let server = outside.mariadb.clone();
                let started = spawn_blocking(move || server.blocking_lock().start_again()).await?;
                started.map_err(|why| anyhow!(why))?;
            }
            anyhow::Ok(())
        };
        if alone {
            gateway.await?;
            sleep(head_start).await;
            stores.await
        } else {
            try_join!(gateway, stores).map(|_| ())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_start_is_not_one_that_is_not_installed() {
        assert_eq!(if_installed(Ok(1)).unwrap(), Ok(1));
        assert_eq!(if_installed::<()>(Err("no MariaDB".into())).unwrap(), Err("no MariaDB"));
        assert!(if_installed::<()>(Err("MariaDB does not answer".into())).is_err());
    }
}
