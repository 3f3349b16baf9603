//! How many connections the gateway takes: what the configuration says, within what the system gives.

use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    config::Config,
    web::connections::{Connections, Limits, PATIENCE},
};

/// A connection takes two descriptors, its own and the one it is cut by; the session behind it takes a third.
const DESCRIPTORS: u64 = 3;

/// The limits of `config`, and no more connections than there are descriptors for: where these run out no target could be
/// dialled and no recording begun.
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
    // Whoever is on this machine has simpler ways to stop it, and a proxy there brings everybody.
    shared.extend(["127.0.0.0/8", "::1/128"].into_iter().filter_map(|network| network.parse::<ipnet::IpNet>().ok()));
    Connections::new(Limits {
        total: usize::try_from(total).unwrap_or(usize::MAX),
        per_address: config.server.max_connections_per_address as usize,
        shared,
        patience: PATIENCE,
    })
}

/// Takes as many descriptors as the system lets this process have, and says how many; `None`: without a limit.
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
