//! The number of connections that the gateway accepts: as configured, within the system's limits.

use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    config::Config,
    web::connections::{Connections, IDLE_TIMEOUT, Limits},
};

/// File descriptors per connection: its own, the one it is cut by, and one of the session behind it.
const DESCRIPTORS: u64 = 3;

/// Returns the limits of `config`, with no more connections than there are descriptors for: if these ran out, no target
/// could be dialled and no recording begun.
pub(super) fn open(config: &Config) -> Arc<Connections> {
    let wanted = u64::from(config.server.max_connections);
    let total = descriptors().map_or(wanted, |most| wanted.min(most / DESCRIPTORS));
    if total < wanted {
        tracing::info!(
            total,
            wanted,
            "fewer connections than server.max_connections: raise the hard limit of open files (`ulimit -Hn`, or LimitNOFILE in a unit of \
             systemd) to three for each, or lower server.max_connections"
        );
    }
    let mut shared = config.server.trusted_proxies.clone();
    // A local user has simpler ways to stop the gateway, and all users come through a local proxy.
    shared.extend(["127.0.0.0/8", "::1/128"].into_iter().filter_map(|network| network.parse::<ipnet::IpNet>().ok()));
    Connections::new(Limits {
        total: usize::try_from(total).unwrap_or(usize::MAX),
        per_address: config.server.max_connections_per_address as usize,
        shared,
        patience: IDLE_TIMEOUT,
    })
}

/// Raises the limit on descriptors as far as the system allows, and returns it; `None` if there is no limit.
fn descriptors() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, most) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            limit.current
        }
    }
}
