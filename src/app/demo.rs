//! The demo: a gateway with an SSH target of its own, apart from whatever else the configuration serves.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
};

use anyhow::{Context, bail};

use super::{Plan, run};
use crate::{
    actor::clock,
    cli::Demo,
    config::{self, Config, Loaded},
    data_dir,
    ssh::demo::{DemoOptions, DemoServer},
};

/// The name of the demo's own target.
const PLAYGROUND: &str = "playground";

/// The comment by which the line of an earlier demo is known among the known hosts.
const MARK: &str = "playground-of-a-demo";

/// Serves with a playground of its own.
pub async fn serve(loaded: Loaded, options: Demo) -> anyhow::Result<()> {
    let mut config = loaded.config.clone();
    config.server.listen = options.listen.unwrap_or(config.server.listen);
    let listen = config.server.listen;
    if let Some(exposed) = config.server.exposed() {
        bail!("--listen {listen} {exposed}");
    }
    // A user whose port 8022 is taken still gets a demo.
    let any_port = SocketAddr::new(listen.ip(), 0);
    let listener = TcpListener::bind(listen)
        .or_else(|_| TcpListener::bind(any_port))
        .with_context(|| format!("cannot listen on {listen}; give another address with --listen"))?;
    config.server.listen = listener.local_addr()?;
    let temporary = options.data_dir.is_none();
    let data_dir = options.data_dir.unwrap_or_else(|| {
        std::env::temp_dir().join(format!("pulsegate-demo-{}-{}", std::process::id(), clock::utc().0))
    });
    config.node.data_dir = data_dir.clone();
    apart(&mut config);
    data_dir::make_private(&data_dir)?;
    let playground = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let playground = DemoServer::start(playground, DemoOptions::default())?;
    let addr = playground.addr();
    let key = playground.host_key().to_openssh().context("the playground's host key cannot be written")?;
    let introduced = format!("[{}]:{} {key} {MARK}", addr.ip(), addr.port());
    config.targets.push(config::Target {
        name: PLAYGROUND.to_owned(),
        host: addr.ip().to_string(),
        port: addr.port(),
        username: "guest".to_owned(),
        tags: vec!["demo".to_owned()],
        ..config::Target::default()
    });
    config.targets_adhoc = true;
    if config.targets_allow.is_empty() {
        config.targets_allow = private_networks()?;
    }
    // Boxed, since the compiler follows futures within futures only so deep.
    let outcome = Box::pin(run(config, Plan { listener, loaded, demo: Some(introduced) })).await;
    playground.stop();
    if temporary && let Err(error) = fs::remove_dir_all(&data_dir) {
        tracing::warn!(%error, path = %data_dir.display(), "the demo's folder could not be removed");
    }
    outcome
}

/// Keeps a demo out of what the configuration shares with others, or with this machine's next gateway: a folder that
/// goes with the demo must not hold the records of one of the operator's nodes.
fn apart(config: &mut Config) {
    config.node.id = None;
    config.store.records = config::Records::Sqlite;
    config.store.live = config::Live::Memory;
    config.webhooks.clear();
    config.ssh.known_hosts = None;
    // Its link is for a browser on this machine.
    config.server.public_url = None;
    config.sign_in.oidc = config::SignInOidc::default();
}

/// Returns loopback and the private networks (RFC 1918, RFC 4193, link-local left out), where a newcomer's own hosts
/// are.
fn private_networks() -> anyhow::Result<Vec<ipnet::IpNet>> {
    let networks = ["127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];
    networks.iter().map(|network| network.parse().context("a built-in network is malformed")).collect()
}

/// Writes the playground's line into the known hosts in the place of the last demo's; every other line stays as it is.
/// Only for who holds the lock of the folder.
///
/// # Errors
/// If the file cannot be read or written.
pub fn introduce(known_hosts: &Path, line: &str) -> anyhow::Result<()> {
    let known = match fs::read_to_string(known_hosts) {
        Ok(known) => known,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", known_hosts.display())),
    };
    let mut kept: String = known.split_inclusive('\n').filter(|line| !line.trim_end().ends_with(MARK)).collect();
    if !kept.is_empty() && !kept.ends_with('\n') {
        kept.push('\n');
    }
    data_dir::replace(known_hosts, &format!("{kept}{line}\n").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_playground_takes_the_place_of_the_last_one_and_of_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let (file, others) =
            (folder.path().join("known_hosts"), "# mine\n@revoked * ssh-ed25519 AAAA\nweb-1 ssh-rsa BBBB");
        introduce(&file, &format!("[127.0.0.1]:1 ssh-ed25519 CCCC {MARK}")).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("[127.0.0.1]:1 ssh-ed25519 CCCC {MARK}\n"));
        fs::write(&file, format!("[127.0.0.1]:1 ssh-ed25519 CCCC {MARK}\r\n{others}")).unwrap();
        let second = format!("[127.0.0.1]:2 ssh-ed25519 DDDD {MARK}");
        introduce(&file, &second).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{others}\n{second}\n"));
    }
}
