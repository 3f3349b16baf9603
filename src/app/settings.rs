//! The settings of each layer: the only place that turns the configuration's keys into them.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use secrecy::SecretString;

use super::targets;
use crate::{
    actor::{self, clock},
    config::{self, Config},
    core::{
        liveness::Rule,
        record::{Epoch, Incarnation, NodeId},
        seal::Seals,
        session::Limits,
        stream,
    },
    recording::directory::RecordingDir,
    ssh::{AddressRule, HostKeys, OwnKeys, SshSettings},
    web as http,
};

/// Maximum number of sessions that wait in memory for the records: over an hour at five opens a second, in some tens of
/// MiB.
const RECORDS_AHEAD: usize = 20_000;

/// Returns the settings of the actors.
pub fn actors(
    config: &Config,
    node: NodeId,
    incarnation: Incarnation,
    epoch: Epoch,
    recording_dir: RecordingDir,
) -> actor::Settings {
    let (monitor, session, ssh) = (&config.monitor, &config.session, &config.ssh);
    let limited = |duration: Duration| Some(duration).filter(|duration| !duration.is_zero());
    actor::Settings {
        node,
        incarnation,
        epoch,
        started_at: clock::utc(),
        limits: Limits {
            // Two pings share the time that the timeout leaves after the silence before the first.
            browser: Rule {
                interval: monitor.ping_interval,
                window: monitor.ping_timeout.saturating_sub(monitor.ping_interval) / 2,
                probes: 2,
            },
            peer: Rule { interval: ssh.keepalive_interval, window: ssh.keepalive_interval, probes: ssh.keepalive_max },
            reattach_window: session.reattach_window,
            idle_timeout: limited(session.idle_timeout),
            max_duration: limited(session.max_duration),
            checkpoint: monitor.heartbeat_interval,
        },
        stream: stream::Limits {
            window: session.output_window.bytes(),
            replay: session.replay_buffer.bytes(),
            screens: session.screens,
        },
        take_over: session.take_over,
        max_sessions: session.max_sessions,
        max_per_user: session.max_per_user,
        flush_batch: config.store.flush_batch as usize,
        records_ahead: RECORDS_AHEAD,
        flush_interval: config.store.flush_interval,
        cleanup_batch: session.cleanup_batch_size,
        retention: limited(config.store.retention),
        recording_dir,
        update_interval: monitor.update_interval,
        suspect_after: config.node.suspect_after,
        serve_for: config.node.serve_for(),
        recorder: None,
    }
}

/// Returns the settings of the SSH layer.
pub fn ssh(config: &Config) -> SshSettings {
    SshSettings {
        connect_timeout: config.ssh.connect_timeout,
        host_keys: HostKeys::new(config.known_hosts_path(), clock::utc),
        agent: std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from),
        own: OwnKeys::new(&config.node.data_dir),
        utc: clock::utc,
    }
}

/// Returns the settings of the web layer; it shares `host_keys` with the dials.
pub fn web(
    config: &Config,
    listen: IpAddr,
    admin_token: Option<SecretString>,
    seals: Arc<Seals>,
    demo: bool,
    host_keys: HostKeys,
) -> http::state::Settings {
    let origins = config.server.allowed_origins.iter().chain(&config.server.public_url);
    let (allow, deny) = (config.targets_allow.clone(), config.targets_deny.clone());
    let names_behind_hops = config.targets_names_behind_hops;
    http::state::Settings {
        listen,
        allowed_origins: origins.map(|origin| origin.as_str().to_owned()).collect(),
        public_url: config.server.public_url.as_ref().map(|origin| origin.as_str().to_owned()),
        tls: config.server.tls.is_on(),
        trusted_proxies: config.server.trusted_proxies.clone(),
        targets: targets::catalogue(config),
        host_keys,
        host_key_policy: targets::policy(config.ssh.host_key_policy),
        adhoc: config.targets_adhoc.then_some(AddressRule { allow, deny, names_behind_hops }),
        oidc: None,
        user_header: user_header(&config.sign_in.header),
        require_totp: config.sign_in.require_totp.clone(),
        admin_token,
        seals,
        demo,
        data_dir: config.node.data_dir.clone(),
        version: env!("CARGO_PKG_VERSION"),
        clock: clock::since_start,
        utc: clock::utc,
    }
}

/// Returns the header that names users. The configuration check has refused invalid header names.
fn user_header(header: &config::SignInHeader) -> Option<http::state::UserHeader> {
    let name = header.name.as_ref()?.parse().ok()?;
    Some(http::state::UserHeader { name, from: header.from.clone() })
}
