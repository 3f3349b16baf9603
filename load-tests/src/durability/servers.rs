//! What can be killed: the gateway, and where its stores are servers of their own, those. Knows no session.

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

/// What a round kills.
#[derive(Debug, Clone, Copy)]
pub struct Victims {
    /// The gateway.
    pub gateway: bool,
    /// MariaDB.
    pub records: bool,
    /// Redis.
    pub live: bool,
}

impl Victims {
    /// Each alone, all, and the two that hold what is durable.
    const OUTSIDE: [Self; 5] = [
        Self { gateway: true, records: false, live: false },
        Self { gateway: false, records: true, live: false },
        Self { gateway: false, records: false, live: true },
        Self { gateway: true, records: true, live: true },
        Self { gateway: true, records: true, live: false },
    ];

    const EMBEDDED: Self = Self { gateway: true, records: false, live: false };
}

/// What [`Mariadb::start`] says where there is none.
const NOT_INSTALLED: &str = "no MariaDB";

/// The stores that are servers of their own.
pub struct Outside {
    /// The live view.
    pub redis: Redis,
    /// The records.
    pub mariadb: Arc<Mutex<Mariadb>>,
}

impl Outside {
    /// Starts both for a scenario; `None` if one is not installed, which has then been said.
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

/// Tells a MariaDB that is not installed from one that is and does not start.
pub fn if_installed<T>(started: Result<T, String>) -> Result<Result<T, &'static str>> {
    match started {
        Ok(server) => Ok(Ok(server)),
        Err(why) if why == NOT_INSTALLED => Ok(Err(NOT_INSTALLED)),
        Err(why) => bail!(why),
    }
}

/// All of them.
pub struct Servers {
    /// What all the others are there for.
    pub gateway: Rc<Gateway>,
    /// None where the gateway keeps everything itself.
    pub outside: Option<Outside>,
    /// Where sessions lead to.
    pub target: Target,
}

impl Servers {
    /// Starts a gateway over these stores, with room for all that clients open and more settings as environment variables.
    pub async fn start(outside: Option<Outside>, more: &[(&'static str, &str)]) -> Result<Self> {
        let target = Target::start()?;
        // Of its own, so that it can be had again.
        let listen = format!("127.0.0.1:{}", mariadb::free_port().map_err(|why| anyhow!(why))?);
        let mut settings = vec![
            ("PULSEGATE__SERVER__LISTEN", listen),
            ("PULSEGATE__NODE__ID", NODE.to_owned()),
            // It says much of stores that are down.
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

    /// The stores outside the gateway.
    pub fn outside(&self) -> Result<&Outside> {
        self.outside.as_ref().context("the gateway keeps everything itself")
    }

    /// Whether the live view tells the same of a session as its row.
    pub async fn show(&self, row: &Row) -> Result<bool> {
        Ok(row.is_told_by(&self.outside()?.redis.ask(&row.question()).await?))
    }

    /// Draws what a round kills.
    pub fn draw(&self, dice: &mut Dice) -> Victims {
        let among: &[Victims] = if self.outside.is_some() { &Victims::OUTSIDE } else { &[Victims::EMBEDDED] };
        among.get(dice.below(among.len())).copied().unwrap_or(Victims::EMBEDDED)
    }

    /// Kills them (SIGKILL), the gateway on its way into a step if one is given, and tells the clients what they need no longer
    /// expect. Returns whether it got as far as that step.
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

    /// Starts them again, on the same ports and on what they had on disk; returns once all are ready. Sometimes the gateway
    /// has to begin without the others.
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
