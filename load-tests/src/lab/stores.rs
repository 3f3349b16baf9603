//! The stores, the proxies through which gateways reach them, and the sessions that both show, read directly and not
//! through a gateway. Changes no session.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use actix_rt::task::spawn_blocking;
use anyhow::{Result, anyhow};
use pulsegate::core::record::EndReason;
use tokio::time::sleep;

use super::{
    fault::Fault,
    hardship::{Road, Traffic},
};
use crate::durability::{DATABASE, servers::Outside};

/// The proxies through which a gateway reaches both stores.
pub struct Roads {
    to_records: Road,
    to_view: Road,
}

impl Roads {
    async fn start(outside: &Outside) -> Result<Rc<Self>> {
        let to_records = Road::start(outside.mariadb.lock().await.addr())?;
        let to_view = Road::start(outside.redis.addr())?;
        Ok(Rc::new(Self { to_records, to_view }))
    }

    /// Returns the URLs of the records and of the live view.
    pub async fn urls(&self, outside: &Outside) -> (String, String) {
        let records = outside.mariadb.lock().await.url(DATABASE);
        (self.to_records.url(&records), self.to_view.url(&outside.redis.url()))
    }

    /// Changes the mode of both.
    pub fn set(&self, traffic: Traffic) {
        self.to_records.set(traffic);
        self.to_view.set(traffic);
    }

    /// Cuts both for a while.
    pub async fn cut(&self, traffic: Traffic, lasts: Duration) {
        self.set(traffic);
        sleep(lasts).await;
        self.set(Traffic::Flows);
    }
}

/// The stores, and the ways to them.
pub struct Stores {
    /// The servers.
    pub outside: Outside,
    /// The way of the gateways that have none of their own.
    pub shared: Rc<Roads>,
    cut: Rc<Roads>,
    unheard: Rc<Roads>,
}

impl Stores {
    /// Starts the proxies.
    pub async fn new(outside: Outside) -> Result<Self> {
        let shared = Roads::start(&outside).await?;
        let (cut, unheard) = (Roads::start(&outside).await?, Roads::start(&outside).await?);
        Ok(Self { outside, shared, cut, unheard })
    }

    /// Returns the way of the gateway with this fault.
    pub fn roads(&self, fault: Fault) -> Rc<Roads> {
        match fault {
            Fault::StoresCutOff => self.cut.clone(),
            Fault::StoresUnheard => self.unheard.clone(),
            _ => self.shared.clone(),
        }
    }
}

/// The sessions that each store shows as open.
pub struct Open {
    /// The sessions open in the records.
    pub records: BTreeSet<String>,
    /// The sessions open in the live view.
    pub view: BTreeSet<String>,
}

/// Reads both stores.
pub async fn open(outside: &Outside) -> Result<Open> {
    let question = format!("SELECT session_id FROM {DATABASE}.session_records WHERE active = 1");
    let records = ask(outside, question).await?.lines().map(str::to_owned).collect();
    Ok(Open { records, view: shown(outside).await? })
}

/// Returns how many of these sessions of a node have left the live view and ended, by the records, for this reason.
pub async fn ended(outside: &Outside, node: &str, ids: &BTreeSet<String>, reason: EndReason) -> Result<usize> {
    let question = format!(
        "SELECT session_id, end_reason FROM {DATABASE}.session_records WHERE status = 'closed' AND node_id = '{node}'"
    );
    let ends = ask(outside, question).await?;
    let ends = ends.lines().filter_map(|line| line.split_once('\t')).collect();
    Ok(closed(ids, reason, &ends, &shown(outside).await?))
}

async fn ask(outside: &Outside, question: String) -> Result<String> {
    let server = outside.mariadb.clone();
    spawn_blocking(move || server.blocking_lock().sql(&question)).await?.map_err(|why| anyhow!(why))
}

/// Returns the sessions that the live view shows.
async fn shown(outside: &Outside) -> Result<BTreeSet<String>> {
    let nodes = outside.redis.ask("KEYS pulsegate:*:beats").await?;
    let mut view = BTreeSet::new();
    for key in nodes.lines().map(str::trim).filter(|line| line.starts_with("pulsegate:")) {
        let beats = outside.redis.ask(&format!("ZRANGE {key} 0 -1")).await?;
        view.extend(beats.lines().filter(|line| !line.starts_with(['*', '$'])).map(|id| id.trim().to_owned()));
    }
    Ok(view)
}

/// Counts the sessions that ended for this reason and are not shown; one without a record has not ended.
fn closed(ids: &BTreeSet<String>, reason: EndReason, ends: &BTreeMap<&str, &str>, shown: &BTreeSet<String>) -> usize {
    let is_closed = |id: &&String| ends.get(id.as_str()) == Some(&reason.as_str()) && !shown.contains(*id);
    ids.iter().filter(is_closed).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_shown_or_ended_otherwise_is_not_found() {
        let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        let ids = set(&["found", "lost", "shown", "otherwise"]);
        let ends = [("found", "peer_lost"), ("shown", "peer_lost"), ("otherwise", "peer_closed")].into();
        assert_eq!(closed(&ids, EndReason::PeerLost, &ends, &set(&["shown"])), 1);
    }
}
