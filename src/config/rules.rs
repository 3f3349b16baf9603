//! Rules between keys, and the ranges of single ones; each with its reason in its sentence. Knows neither where a value
//! came from nor how it was written.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use ipnet::IpNet;

use super::{
    Auth, ByteSize, Config, Live, RecordingPolicy, Records, SignInHeader, SignInOidc, Target, mistake::Report,
};
use crate::core::target::{is_group, is_name};

/// The time within which a lost browser must be noticed.
const NOTICE_WITHIN: Duration = Duration::from_secs(20);

/// The largest limit of a recording, in whole units of a configuration.
const MAX_RECORDING: ByteSize = ByteSize::kib(4095 * 1024 * 1024);

/// Reports every rule that `config` breaks.
pub(super) fn check(config: &Config, report: &mut Report) {
    report.end_of_reading();
    ranges(config, report);
    liveness(config, report);
    server(config, report);
    webhooks(config, report);
    sign_in(config, report);
    oidc(config, report);
    if let Some(id) = &config.node.id {
        hold(report, is_name(id), &["node.id"], || NAME.to_owned());
    }
    let data_dir = &config.node.data_dir;
    let in_the_way = fs::metadata(data_dir).is_ok_and(|found| !found.is_dir());
    hold(report, !in_the_way, &["node.data_dir"], || format!("{} is there, and is no folder", data_dir.display()));
    let required = |policy| policy == Some(RecordingPolicy::Required);
    let enabled = config.recording.enabled;
    hold(report, enabled || !required(Some(config.recording.policy)), &["recording.policy"], || UNRECORDED.to_owned());
    let mut names = BTreeMap::new();
    for (index, item) in config.targets.iter().enumerate() {
        let path = format!("targets[{index}]");
        target(item, &path, report);
        let key = format!("{path}.recording");
        hold(report, enabled || !required(item.recording), &[&key], || UNRECORDED.to_owned());
        if let Some(first) = names.insert(&item.name, index) {
            let key = format!("{path}.name");
            hold(report, item.name.is_empty(), &[&key], || format!("is already the name of targets[{first}]"));
        }
        let way = config.way_to(item);
        hold(report, way.is_ok(), &[&format!("{path}.via")], || {
            way.err().map(|astray| astray.to_string()).unwrap_or_default()
        });
    }
}

fn webhooks(config: &Config, report: &mut Report) {
    let mut names = BTreeMap::new();
    for (index, hook) in config.webhooks.iter().enumerate() {
        let path = format!("webhooks[{index}]");
        hold(report, is_name(&hook.name), &[&format!("{path}.name")], || NAME.to_owned());
        let given = !hook.url.as_str().is_empty();
        hold(report, given, &[&format!("{path}.url")], || "must be given".to_owned());
        let secret = format!("{path}.secret_file");
        if hook.secret_file.as_os_str().is_empty() {
            hold(report, false, &[&secret], || "must be given".to_owned());
        } else {
            file(&hook.secret_file, 0o077, &secret, report);
        }
        if let Some(first) = names.insert(&hook.name, index) {
            let key = format!("{path}.name");
            hold(report, hook.name.is_empty(), &[&key], || format!("is already the name of webhooks[{first}]"));
        }
    }
}

/// Reports `sentence` unless `holds`: at the first of `keys` that was given, and not at all when one of them could not be
/// read.
fn hold(report: &mut Report, holds: bool, keys: &[&str], sentence: impl FnOnce() -> String) {
    if holds || keys.iter().any(|key| report.is_unread(key)) {
        return;
    }
    if let Some(key) = keys.iter().find(|key| report.is_given(key)).or(keys.first()) {
        report.mistake(key, sentence());
    }
}

fn within<T: PartialOrd + Debug>(report: &mut Report, key: &str, value: T, min: T, max: T) {
    hold(report, value >= min && value <= max, &[key], || format!("must be between {min:?} and {max:?}"));
}

fn ranges(config: &Config, report: &mut Report) {
    const MILLI: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_hours(1);
    let Config { server, node, store, monitor, session, ssh, .. } = config;
    // Fewer connections than a page and its images need would shut the operator out.
    within(report, "server.max_connections", server.max_connections, 64, 1_000_000);
    within(report, "server.max_connections_per_address", server.max_connections_per_address, 16, 1_000_000);
    // Beyond 1 s a close would reach the stores later than promised.
    within(report, "store.flush_interval", store.flush_interval, MILLI, SECOND);
    within(report, "store.flush_batch", store.flush_batch, 1, 10_000);
    let kept = store.retention.is_zero() || store.retention >= HOUR;
    hold(report, kept, &["store.retention"], || {
        "must be 0s (for ever) or at least 1h: what ended just now is still on its way between the stores".to_owned()
    });
    within(report, "session.cleanup_batch_size", session.cleanup_batch_size, 1, 10_000);
    within(report, "session.max_sessions", session.max_sessions, 1, 1_000_000);
    within(report, "session.max_per_user", session.max_per_user, 1, 1_000_000);
    within(report, "session.output_window", session.output_window, ByteSize::kib(16), ByteSize::kib(16 * 1024));
    within(report, "session.replay_buffer", session.replay_buffer, ByteSize::kib(4), ByteSize::kib(16 * 1024));
    // A node beats every 250 ms: two beats may be missed before it is suspected.
    within(report, "node.suspect_after", node.suspect_after, 500 * MILLI, HOUR);
    // The lease is renewed every second: a few renewals may be slow before any session is ended for it.
    within(report, "node.isolation_timeout", node.serve_for(), 5 * SECOND, 8784 * HOUR);
    within(report, "monitor.update_interval", monitor.update_interval, SECOND, NOTICE_WITHIN);
    within(report, "monitor.heartbeat_interval", monitor.heartbeat_interval, SECOND, HOUR);
    within(report, "monitor.ping_interval", monitor.ping_interval, 100 * MILLI, NOTICE_WITHIN);
    within(report, "ssh.connect_timeout", ssh.connect_timeout, SECOND, 300 * SECOND);
    within(report, "ssh.keepalive_interval", ssh.keepalive_interval, 100 * MILLI, HOUR);
    within(report, "ssh.keepalive_max", ssh.keepalive_max, 1, 60);
    let recording = &config.recording;
    within(report, "recording.max_size", recording.max_size, ByteSize::kib(1024), MAX_RECORDING);
    let kept = recording.retention.is_zero() || recording.retention >= HOUR;
    hold(report, kept, &["recording.retention"], || {
        "must be 0s (as long as the session) or at least 1h: recordings are looked through once an hour".to_owned()
    });
    let together = store.retention.is_zero() || recording.retention <= store.retention;
    hold(report, together, &["recording.retention", "store.retention"], || {
        let (own, all) = (recording.retention, store.retention);
        format!(
            "recording.retention ({own:?}) must not exceed store.retention ({all:?}): a recording leaves with its session"
        )
    });
}

/// Returns a duration as it is written in a configuration, where zero is no number of nanoseconds.
fn told(duration: Duration) -> String {
    if duration.is_zero() { "0s".to_owned() } else { format!("{duration:?}") }
}

fn liveness(config: &Config, report: &mut Report) {
    let monitor = &config.monitor;
    let (timeout, interval, update) = (monitor.ping_timeout, monitor.ping_interval, monitor.update_interval);
    hold(
        report,
        timeout.checked_sub(interval) >= Some(interval),
        &["monitor.ping_timeout", "monitor.ping_interval"],
        || {
            format!(
                "ping_timeout ({}) must be at least twice ping_interval ({}): one lost ping is no lost browser",
                told(timeout),
                told(interval)
            )
        },
    );
    hold(
        report,
        timeout.saturating_add(update) <= NOTICE_WITHIN,
        &["monitor.ping_timeout", "monitor.update_interval"],
        || {
            format!(
                "ping_timeout ({}) and update_interval ({}) must not exceed {NOTICE_WITHIN:?} together: a lost browser \
                 is noticed within that time",
                told(timeout),
                told(update)
            )
        },
    );
}

fn server(config: &Config, report: &mut Report) {
    let server = &config.server;
    let (cert, key) = (&server.tls.cert, &server.tls.key);
    hold(report, cert.is_some() == key.is_some(), &["server.tls.cert", "server.tls.key"], || {
        "server.tls.cert and server.tls.key must be given together".to_owned()
    });
    hold(report, !server.tls.self_signed || cert.is_none(), &["server.tls.self_signed"], || {
        "must be false where server.tls.cert is given: there is one certificate".to_owned()
    });
    let exposed = server.exposed();
    hold(report, exposed.is_none(), &["server.listen", "server.insecure", "server.tls.cert", "server.tls.key"], || {
        exposed.unwrap_or_default().to_owned()
    });
    if let Some(cert) = cert {
        file(cert, 0o000, "server.tls.cert", report);
    }
    if let Some(key) = key {
        file(key, 0o007, "server.tls.key", report);
    }
}

/// Headers that a browser or every proxy sends: none of them names a user.
const TAKEN: [&str; 9] = [
    "authorization",
    "connection",
    "cookie",
    "forwarded",
    "host",
    "origin",
    "sec-fetch-site",
    "x-forwarded-for",
    "x-forwarded-proto",
];

fn sign_in(config: &Config, report: &mut Report) {
    let SignInHeader { name, from } = &config.sign_in.header;
    let Some(name) = name else {
        hold(report, from.is_empty(), &["sign_in.header.from"], || {
            "is given, but sign_in.header.name is not: which header names the user?".to_owned()
        });
        return;
    };
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let free = (1..=64).contains(&name.len()) && !TAKEN.contains(&name.to_ascii_lowercase().as_str());
    hold(report, free && name.bytes().all(letters), &["sign_in.header.name"], || {
        "must be a header's name, 1 … 64 of A-Z a-z 0-9 - _, and none that browsers or proxies use already, as Remote-User"
            .to_owned()
    });
    hold(report, !from.is_empty(), &["sign_in.header.from", "sign_in.header.name"], || {
        "sign_in.header.from must list the proxies (CIDR) that are believed where sign_in.header.name is given: whoever else sent the \
         header would be whom they like"
            .to_owned()
    });
    if from.iter().any(is_of_this_machine) {
        report.warn(
            "sign_in.header.from holds loopback: every program of this machine, whoever runs it, can send the header and is then whom \
             it likes, admins too. Let the proxy come from an address of its own, or let nobody else have an account here"
                .to_owned(),
        );
    }
}

/// Whether a connection from this network can come from this machine itself, over loopback.
fn is_of_this_machine(network: &IpNet) -> bool {
    let ends = [network.network(), network.broadcast()].map(|end| end.to_canonical());
    let holds = |ip: IpAddr| network.contains(&ip);
    ends.iter().any(IpAddr::is_loopback) || holds(Ipv4Addr::LOCALHOST.into()) || holds(Ipv6Addr::LOCALHOST.into())
}

fn oidc(config: &Config, report: &mut Report) {
    let oidc = &config.sign_in.oidc;
    if oidc.issuer.is_none() {
        let unused = *oidc == SignInOidc::default();
        hold(report, unused, &["sign_in.oidc.issuer"], || {
            "must be given with the other keys of sign_in.oidc: the provider's own name for itself, as https://id.example.com".to_owned()
        });
        return;
    }
    let visible = |text: &str, most| (1..=most).contains(&text.chars().count()) && !text.contains(char::is_control);
    let name = oidc.name.as_deref().is_none_or(|name| visible(name, 64));
    hold(report, name, &["sign_in.oidc.name"], || "must be 1 … 64 visible characters".to_owned());
    hold(report, visible(&oidc.client_id, 256), &["sign_in.oidc.client_id"], || {
        "must be the name under which the provider knows this gateway".to_owned()
    });
    let secrets = ["sign_in.oidc.client_secret_file", "sign_in.oidc.client_secret"];
    hold(report, oidc.client_secret.is_some() != oidc.client_secret_file.is_some(), &secrets, || {
        "one of sign_in.oidc.client_secret_file and sign_in.oidc.client_secret must be given: the secret that the provider gave this \
         gateway"
            .to_owned()
    });
    if let Some(secret) = &oidc.client_secret_file {
        file(secret, 0o077, "sign_in.oidc.client_secret_file", report);
    }
    let word = |scope: &String| visible(scope, 128) && scope.bytes().all(|byte| byte.is_ascii_graphic());
    let scopes = oidc.scopes.iter().all(word) && oidc.scopes.iter().any(|scope| scope == "openid");
    hold(report, scopes, &["sign_in.oidc.scopes"], || "must be words, and openid one of them".to_owned());
    let claims = [("user_claim", oidc.user_claim.as_deref().unwrap_or("email")), ("groups_claim", &oidc.groups_claim)];
    for (key, claim) in claims {
        let key = format!("sign_in.oidc.{key}");
        hold(report, visible(claim, 256), &[&key], || "must be a claim's name, 1 … 256 visible characters".to_owned());
    }
    for (index, item) in oidc.roles.iter().enumerate() {
        let key = format!("sign_in.oidc.roles[{index}]");
        hold(report, visible(&item.group, 256) && item.role.is_some(), &[&key], || {
            "must have a group, as the provider names it, and a role".to_owned()
        });
    }
    hold(
        report,
        !oidc.roles.is_empty() || oidc.default_role.is_some(),
        &["sign_in.oidc.roles", "sign_in.oidc.issuer"],
        || {
            "give sign_in.oidc.roles, or sign_in.oidc.default_role if everybody whom the provider knows may sign in: without either nobody \
         could"
            .to_owned()
        },
    );
    let findable = config.server.public_url.is_some() || config.server.listen.ip().is_loopback();
    hold(report, findable, &["server.public_url", "sign_in.oidc.issuer"], || {
        "server.public_url must be given where sign_in.oidc is: the provider sends browsers back there".to_owned()
    });
}

const UNRECORDED: &str = "required, but recording.enabled is false: nothing could be opened";

const NAME: &str = "must be 1 … 64 of A-Z a-z 0-9 . _ -";

fn target(target: &Target, path: &str, report: &mut Report) {
    let plain = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let host = plain(&target.host) && !target.host.contains(['@', '/']);
    hold(report, is_name(&target.name), &[&format!("{path}.name")], || NAME.to_owned());
    hold(report, host, &[&format!("{path}.host")], || "must be a name or an address, without user and port".to_owned());
    hold(report, plain(&target.username), &[&format!("{path}.username")], || {
        "must be the login name on the target".to_owned()
    });
    hold(report, target.group.as_deref().is_none_or(is_group), &[&format!("{path}.group")], || {
        "must be 1 … 64 visible characters".to_owned()
    });
    match &target.auth {
        Auth::KeyFile(key) => file(key, 0o077, &format!("{path}.auth.key_file"), report),
        Auth::PasswordFile(password) => file(password, 0o077, &format!("{path}.auth.password_file"), report),
        Auth::Agent | Auth::Prompt | Auth::GatewayKey | Auth::Certificate => {}
    }
}

/// Reports a file that is missing, or open to more people than it may be: none of the mode bits `closed` may be set.
fn file(file: &Path, closed: u32, key: &str, report: &mut Report) {
    let shown = file.display();
    let problem = match fs::metadata(file) {
        Err(error) => Some(format!("{shown} cannot be read: {error}")),
        Ok(meta) if !meta.is_file() => Some(format!("{shown} is not a file")),
        Ok(meta) => left_open(file, &meta, closed),
    };
    hold(report, problem.is_none(), &[key], || problem.unwrap_or_default());
}

/// Returns the sentence about a file with a secret that others than its owner may read; `None` if they may not.
pub(super) fn exposed(file: &Path) -> Option<String> {
    // A pipe of the shell's is no file, and nobody else's.
    let meta = fs::metadata(file).ok().filter(fs::Metadata::is_file)?;
    left_open(file, &meta, 0o077)
}

fn left_open(file: &Path, meta: &fs::Metadata, closed: u32) -> Option<String> {
    let (shown, mode) = (file.display(), meta.permissions().mode() & 0o7777);
    let sentence = || format!("{shown} holds a secret and others may read it (mode {mode:04o}): chmod 600 {shown}");
    (mode & closed != 0).then(sentence)
}

/// Whether a secret stands in the configuration itself, and not in a file of its own.
pub(super) fn holds_secret(config: &Config) -> bool {
    let of_records = matches!(&config.store.records, Records::MySql(address) if address.password.is_some());
    let of_live = matches!(&config.store.live, Live::Redis(address) if address.credentials.is_some());
    of_records || of_live || config.sign_in.oidc.client_secret.is_some()
}
