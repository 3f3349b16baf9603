//! The targets of the configuration, in the form for dialling.

use crate::{
    config::{self, Auth, Config},
    core::target::{Jump, each_once},
    ssh::{Credential, Hop, HostKeyPolicy},
    web::state::Target,
};

/// Returns the catalogue; leaves out a target whose way is broken, which a checked configuration does not have.
pub fn catalogue(config: &Config) -> Vec<Target> {
    let with_way = |target| {
        let via = config.way_to(target).ok()?.into_iter().map(|jump| hop(config, jump)).collect::<Option<_>>()?;
        Some(Target { via, ..plain(config, target) })
    };
    config.targets.iter().filter_map(with_way).collect()
}

/// Returns the policy for an unknown host key.
pub fn policy(configured: config::HostKeyPolicy) -> HostKeyPolicy {
    match configured {
        config::HostKeyPolicy::Strict => HostKeyPolicy::Strict,
        config::HostKeyPolicy::AcceptNew => HostKeyPolicy::AcceptNew,
        config::HostKeyPolicy::Ask => HostKeyPolicy::Ask,
    }
}

fn hop(config: &Config, jump: Jump<'_>) -> Option<Hop> {
    Some(match jump {
        Jump::Target(name) => plain(config, config.targets.iter().find(|target| target.name == name)?).hop(),
        Jump::Place(login, host, port) => Hop::prompted(login, host, port, policy(config.ssh.host_key_policy)),
    })
}

fn plain(config: &Config, target: &config::Target) -> Target {
    Target {
        name: target.name.clone(),
        host: target.host.clone(),
        port: target.port,
        username: target.username.clone(),
        credentials: credentials(&target.auth),
        via: Vec::new(),
        group: target.group.clone(),
        tags: each_once(target.tags.clone()),
        roles: each_once(target.roles.clone()),
        host_key_policy: policy(target.host_key_policy.unwrap_or(config.ssh.host_key_policy)),
    }
}

fn credentials(auth: &Auth) -> Vec<Credential> {
    vec![match auth {
        Auth::KeyFile(path) => Credential::KeyFile(path.clone()),
        Auth::PasswordFile(path) => Credential::PasswordFile(path.clone()),
        Auth::Agent => Credential::Agent,
        Auth::Prompt => Credential::Prompt,
        Auth::GatewayKey => Credential::GatewayKey,
        Auth::Certificate => Credential::Certificate,
    }]
}
