//! The promises of the configuration, tested through `Config::load`. The environment is always given, never read.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::{block::Setting, *};

mod exposed;
mod fuzz;
mod outside;
mod typos;
mod via;

/// Writes a `config.yaml` of this text into a folder and returns the result of loading it.
fn load_in(dir: &TempDir, yaml: &str, env: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let path = dir.path().join("config.yaml");
    fs::write(&path, yaml).unwrap();
    Config::load(Some(&path), env.iter().map(|(name, value)| (name.to_string(), value.to_string())))
}

fn load(yaml: &str, env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    load_in(&TempDir::new().unwrap(), yaml, env).map(|loaded| loaded.config)
}

/// Returns the mistakes as they are shown, the folder left out.
fn mistakes_in(dir: &TempDir, yaml: &str, env: &[(&str, &str)]) -> Vec<String> {
    let folder = format!("{}/", dir.path().display());
    let shown = load_in(dir, yaml, env).err().map(|errors| errors.to_string()).unwrap_or_default();
    shown.lines().map(|line| line.replace(&folder, "")).collect()
}

fn mistakes(yaml: &str, env: &[(&str, &str)]) -> Vec<String> {
    mistakes_in(&TempDir::new().unwrap(), yaml, env)
}

fn all_keys() -> Vec<String> {
    let mut keys = Vec::new();
    Config::keys("", &mut keys);
    keys
}

#[test]
fn the_shipped_file_says_the_defaults_of_the_code() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.yaml");
    assert_eq!(Config::load(Some(&shipped), []).unwrap().config, Config::default());
    assert_eq!(Config::load(None, []).unwrap().file.as_deref(), Some(Path::new("config.yaml")));
    assert_eq!(load("", &[]).unwrap(), Config::default());
    assert_eq!(load("# nothing but a comment\n", &[]).unwrap(), Config::default());
}

#[test]
fn the_shipped_file_names_every_key_once_with_a_comment() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config.yaml")).unwrap();
    let mut blocks: Vec<(usize, &str)> = Vec::new();
    let mut named = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let Some((key, rest)) = line.trim_start().split_once(':') else { continue };
        let indent = line.len() - line.trim_start().len();
        blocks.retain(|(outer, _)| *outer < indent);
        blocks.push((indent, key));
        if !rest.is_empty() {
            assert!(rest.contains(" # "), "no comment: {line}");
            named.push(blocks.iter().map(|(_, key)| *key).collect::<Vec<_>>().join("."));
        }
    }
    assert_eq!(named, all_keys());
}

#[test]
fn every_mistake_is_told_with_its_place_and_what_is_allowed() {
    #[rustfmt::skip]
    let table = [
        ("sesion:\n  idle_timeout: 5s\n", "config.yaml:1:1: sesion: unknown key; did you mean session?"),
        ("session:\n  output_windw: 1MiB\n", "config.yaml:2:3: session.output_windw: unknown key; did you mean output_window?"),
        ("recording:\n  xyzzy: 1\n", "config.yaml:2:3: recording.xyzzy: unknown key; allowed are enabled, input, policy, max_size, compress, encrypt, retention"),
        ("session.idle_timeout: 5s\n", "config.yaml:1:1: session.idle_timeout: unknown key; allowed are server, node, store, monitor, session, ssh, sign_in, targets, targets_adhoc, targets_allow, targets_deny, targets_names_behind_hops, recording, webhooks"),
        ("store:\n  retention: 59m\n", "config.yaml:2:14: store.retention: must be 0s (for ever) or at least 1h: what ended just now is still on its way between the stores"),
        ("store:\n  retention: 24h\nrecording:\n  retention: 48h\n", "config.yaml:4:14: recording.retention: recording.retention (172800s) must not exceed store.retention (86400s): a recording leaves with its session"),
        ("sign_in:\n  header:\n    name: Remote-User\n", "config.yaml:3:11: sign_in.header.name: sign_in.header.from must list the proxies (CIDR) that are believed where sign_in.header.name is given: whoever else sent the header would be whom they like"),
        ("sign_in:\n  header:\n    name: Cookie\n    from: [10.0.0.0/8]\n", "config.yaml:3:11: sign_in.header.name: must be a header's name, 1 … 64 of A-Z a-z 0-9 - _, and none that browsers or proxies use already, as Remote-User"),
        ("sign_in:\n  header:\n    from: [10.0.0.0/8]\n", "config.yaml:3:11: sign_in.header.from: is given, but sign_in.header.name is not: which header names the user?"),
        ("sign_in:\n  require_totp: [admins]\n", "config.yaml:2:18: sign_in.require_totp[0]: must be viewer, user, operator, auditor or admin"),
        ("session: 5\n", "config.yaml:1:10: session: must be a block with the keys cleanup_batch_size, reattach_window, idle_timeout, max_duration, max_sessions, max_per_user, output_window, replay_buffer, screens, take_over"),
        ("- a\n", "config.yaml: must be a block with the keys server, node, store, monitor, session, ssh, sign_in, targets, targets_adhoc, targets_allow, targets_deny, targets_names_behind_hops, recording, webhooks"),
        ("server:\n  listen: 8022\n", "config.yaml:2:11: server.listen: must be an address and a port, as 127.0.0.1:8022 or [::1]:8022"),
        ("server: { listen: 0.0.0.0:80 }\n", "config.yaml:1:19: server.listen: listens beyond loopback, where passwords would be readable: give server.tls.cert and server.tls.key, or set server.tls.self_signed: true for a first run, or server.insecure: true behind a proxy that ends TLS"),
        ("server:\n  tls: { cert: Cargo.toml }\n", "config.yaml:2:16: server.tls.cert: server.tls.cert and server.tls.key must be given together"),
        ("server:\n  allowed_origins: ['https://*.example.com']\n", "config.yaml:2:21: server.allowed_origins[0]: must be an exact origin as https://host or https://host:8443, without path or wildcard"),
        ("server:\n  trusted_proxies: [10.0.0.0/8, 10.0.0.1]\n", "config.yaml:2:33: server.trusted_proxies[1]: must be a network in CIDR form, as 10.0.0.0/8 or 192.0.2.7/32"),
        ("server:\n  insecure: yes\n", "config.yaml:2:13: server.insecure: must be true or false"),
        ("node:\n  id: a/b\n", "config.yaml:2:7: node.id: must be 1 … 64 of A-Z a-z 0-9 . _ -"),
        ("node:\n  data_dir: ''\n", "config.yaml:2:13: node.data_dir: must be a path"),
        ("node:\n  data_dir: Cargo.toml\n", "config.yaml:2:13: node.data_dir: Cargo.toml is there, and is no folder"),
        ("node:\n  on_isolation: stay\n", "config.yaml:2:17: node.on_isolation: must be keep or terminate"),
        ("node:\n  isolation_timeout: 4s\n", "config.yaml:2:22: node.isolation_timeout: must be between 5s and 31622400s"),
        ("node:\n  suspect_after: 10ms\n", "config.yaml:2:18: node.suspect_after: must be between 500ms and 3600s"),
        ("store:\n  records: postgres://u:secret@db/x\n", "config.yaml:2:12: store.records: must be sqlite, or mysql://USER:PASSWORD@HOST:PORT/DATABASE"),
        ("store:\n  records: mysql://u:secret@db/x?ssl-mode=REQUIRED\n", "config.yaml:2:12: store.records: must not ask for encryption, which is not built into this version: take ssl-mode out and connect through a local proxy"),
        ("store:\n  live: file:///x\n", "config.yaml:2:9: store.live: must be memory, redis://HOST:PORT/DATABASE, redis+cluster://HOST:PORT,HOST:PORT… or redis+sentinel://HOST:PORT,HOST:PORT…/MASTER"),
        ("store:\n  live: rediss://host\n", "config.yaml:2:9: store.live: must not be rediss://: TLS to Redis is not built into this version"),
        ("store:\n  flush_batch: 0\n", "config.yaml:2:16: store.flush_batch: must be between 1 and 10000"),
        ("store:\n  flush_batch: many\n", "config.yaml:2:16: store.flush_batch: must be a whole number"),
        ("monitor:\n  ping_timeout: 0s\n", "config.yaml:2:17: monitor.ping_timeout: ping_timeout (0s) must be at least twice ping_interval (5s): one lost ping is no lost browser"),
        ("recording:\n  max_size: 4096GiB\n", "config.yaml:2:13: recording.max_size: must be between 1MiB and 4095GiB"),
        ("monitor:\n  ping_timeout: 9s\n", "config.yaml:2:17: monitor.ping_timeout: ping_timeout (9s) must be at least twice ping_interval (5s): one lost ping is no lost browser"),
        ("monitor:\n  ping_interval: 7s\n", "config.yaml:2:18: monitor.ping_interval: ping_timeout (12s) must be at least twice ping_interval (7s): one lost ping is no lost browser"),
        ("monitor:\n  ping_timeout: 16s\n", "config.yaml:2:17: monitor.ping_timeout: ping_timeout (16s) and update_interval (5s) must not exceed 20s together: a lost browser is noticed within that time"),
        ("monitor:\n  update_interval: 9s\n", "config.yaml:2:20: monitor.update_interval: ping_timeout (12s) and update_interval (9s) must not exceed 20s together: a lost browser is noticed within that time"),
        ("session:\n  cleanup_batch_size: 0\n", "config.yaml:2:23: session.cleanup_batch_size: must be between 1 and 10000"),
        ("session:\n  idle_timeout: 30\n", "config.yaml:2:17: session.idle_timeout: must be a duration with its unit, as 50ms, 5s, 30m or 24h, and at most 8784h"),
        ("session:\n  idle_timeout: 9000h\n", "config.yaml:2:17: session.idle_timeout: must be a duration with its unit, as 50ms, 5s, 30m or 24h, and at most 8784h"),
        ("session:\n  max_duration: [1s]\n", "config.yaml:2:17: session.max_duration: must be a duration with its unit, as 50ms, 5s, 30m or 24h, and at most 8784h"),
        ("session:\n  output_window: 512kb\n", "config.yaml:2:18: session.output_window: must be a size with its unit, as 64KiB or 1MiB"),
        ("session:\n  output_window: 8KiB\n", "config.yaml:2:18: session.output_window: must be between 16KiB and 16MiB"),
        ("session:\n  replay_buffer: 17MiB\n", "config.yaml:2:18: session.replay_buffer: must be between 4KiB and 16MiB"),
        ("ssh:\n  keepalive_max: 0\n", "config.yaml:2:18: ssh.keepalive_max: must be between 1 and 60"),
        ("ssh:\n  host_key_policy: 'no'\n", "config.yaml:2:20: ssh.host_key_policy: must be strict, accept_new or ask"),
        ("ssh:\n  keepalive_max: 3\n  keepalive_max: 4\n", "config.yaml:3:3: ssh.keepalive_max: is given twice"),
        ("targets: web-1\n", "config.yaml:1:10: targets[0]: must be a block with the keys name, host, port, username, via, auth, group, tags, roles, recording, host_key_policy"),
        ("targets: {}\n", "config.yaml:1:10: targets: must be a list"),
        ("targets:\n  - name: a\n    username: u\n", "config.yaml:2:5: targets[0].host: must be a name or an address, without user and port"),
        ("targets:\n  - { name: a b, host: h, username: u }\n", "config.yaml:2:13: targets[0].name: must be 1 … 64 of A-Z a-z 0-9 . _ -"),
        ("targets:\n  - { name: a, host: u@h, username: u }\n", "config.yaml:2:22: targets[0].host: must be a name or an address, without user and port"),
        ("targets:\n  - { name: a, host: h }\n", "config.yaml:2:5: targets[0].username: must be the login name on the target"),
        ("targets:\n  - { name: a, host: h, username: u, port: 65536 }\n", "config.yaml:2:44: targets[0].port: must be a port, 1 … 65535"),
        ("targets:\n  - { name: a, host: h, username: u, port: 0 }\n", "config.yaml:2:44: targets[0].port: must be a port, 1 … 65535"),
        ("targets:\n  - { name: a, host: h, username: u, tags: [x, ~] }\n", "config.yaml:2:48: targets[0].tags[1]: must not be empty"),
        ("targets:\n  - { name: a, host: h, username: u }\n  - { name: a, host: i, username: u }\n", "config.yaml:3:13: targets[1].name: is already the name of targets[0]"),
        ("targets:\n  - { name: a, host: h, username: u, via: b }\n", "config.yaml:2:43: targets[0].via: leads over b, which is the name of no target"),
        ("targets:\n  - { name: a, host: h, username: u, via: a }\n", "config.yaml:2:43: targets[0].via: leads in a circle: a behind a"),
        ("targets:\n  - { name: a, host: h, username: u, auth: { agent: true, prompt: true } }\n", "config.yaml:2:44: targets[0].auth: must be a map with exactly one of key_file, password_file, agent, prompt, gateway_key, certificate"),
        ("targets:\n  - { name: a, host: h, username: u, auth: agent }\n", "config.yaml:2:44: targets[0].auth: must be a map with exactly one of key_file, password_file, agent, prompt, gateway_key, certificate"),
        ("targets:\n  - { name: a, host: h, username: u, auth: { keyfile: k } }\n", "config.yaml:2:46: targets[0].auth.keyfile: unknown key; did you mean key_file?"),
        ("targets:\n  - { name: a, host: h, username: u, auth: { agent: false } }\n", "config.yaml:2:53: targets[0].auth.agent: must be true; to choose otherwise, write another key instead"),
        ("targets:\n  - { name: a, host: h, username: u, host_key_policy: 'no' }\n", "config.yaml:2:55: targets[0].host_key_policy: must be strict, accept_new or ask"),
        ("targets:\n  - { name: a, host: h, username: u, auth: { key_file: } }\n", "config.yaml:2:54: targets[0].auth.key_file: must be a path"),
    ];
    for (yaml, expected) in table {
        assert_eq!(mistakes(yaml, &[]), [expected], "{yaml}");
    }
}

#[test]
fn text_that_is_no_yaml_is_told_with_its_place() {
    for (yaml, place) in [("server:\n  listen: [1\n", "config.yaml:2:11: "), ("a: 'b' c\n", "config.yaml:1:8: ")] {
        let told = mistakes(yaml, &[]);
        assert!(told.len() == 1 && told[0].starts_with(&format!("{place}is no valid YAML: ")), "{told:?}");
    }
    let told = mistakes("session: {}\n---\nssh: {}\n", &[]);
    assert!(told.len() == 1 && told[0].contains("there is a second document"), "{told:?}");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let yaml =
        "session:\n  idle_timout: 5s\n  max_sessions: x\nmonitor:\n  ping_timeout: 1s\nssh:\n  keepalive_max: 0\n";
    let env =
        [("PULSEGATE__STORE__FLUSH_BATCH", "0"), ("PULSEGATE__NODE__IT", "n"), ("PULSEGATE_ADMIN_TOKEN", "short")];
    let starts = [
        "config.yaml:2:3: session.idle_timout: unknown key; did you mean idle_timeout?",
        "config.yaml:3:17: session.max_sessions: must be a whole number",
        "config.yaml:5:17: monitor.ping_timeout: ping_timeout (1s) must be at least twice",
        "config.yaml:7:18: ssh.keepalive_max: must be between",
        "PULSEGATE_ADMIN_TOKEN: must have at least 32 characters",
        "PULSEGATE__NODE__IT: unknown key; did you mean PULSEGATE__NODE__ID?",
        "PULSEGATE__STORE__FLUSH_BATCH: store.flush_batch: must be between 1 and 10000",
    ];
    let told = mistakes(yaml, &env);
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for (told, start) in told.iter().zip(starts) {
        assert!(told.starts_with(start), "{told}");
    }
}

#[test]
fn a_key_that_breaks_two_rules_is_told_of_both() {
    let told = mistakes("monitor: { ping_interval: 10s, ping_timeout: 12s, update_interval: 10s }\n", &[]);
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[0].contains("at least twice ping_interval") && told[1].contains("20s together"), "{told:#?}");
}

#[test]
fn a_mistake_in_the_file_is_told_even_where_the_environment_replaces_it() {
    let env = [("PULSEGATE__SESSION__MAX_SESSIONS", "7"), ("PULSEGATE__MONITOR__PING_TIMEOUT", "12s")];
    let told = mistakes("session: 5\nmonitor:\n  ping_timeout: x\n", &env);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("config.yaml:1:10: session: must be a block"), "{told:?}");
    assert!(told[1].starts_with("config.yaml:3:17: monitor.ping_timeout: must be a duration"), "{told:?}");
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let yaml = "session:\n  max_sessions: 7\n  idle_timeout: 5m\n";
    let config = load(yaml, &[("PULSEGATE__SESSION__IDLE_TIMEOUT", "30m"), ("HOME", "/")]).unwrap();
    let session = Session { max_sessions: 7, idle_timeout: Duration::from_mins(30), ..Session::default() };
    assert_eq!(config, Config { session, ..Config::default() });
}

#[test]
fn every_kind_of_key_can_be_set_from_the_environment() {
    let config = load(
        "targets:\n  - { name: old, host: h, username: u }\n",
        &[
            ("PULSEGATE__SERVER__LISTEN", "[::1]:0"),
            ("PULSEGATE__SERVER__INSECURE", "true"),
            ("PULSEGATE__SERVER__ALLOWED_ORIGINS", "https://a.example, https://B.example:443"),
            ("PULSEGATE__STORE__FLUSH_BATCH", "9"),
            ("PULSEGATE__SESSION__OUTPUT_WINDOW", "1MiB"),
            ("PULSEGATE__TARGETS_ALLOW", "10.0.0.0/8"),
            ("PULSEGATE__TARGETS", "[{name: new, host: h, username: 007, auth: {agent: true}, tags: [x]}]"),
        ],
    )
    .unwrap();
    assert_eq!((config.server.listen.to_string().as_str(), config.server.insecure), ("[::1]:0", true));
    let origins: Vec<&str> = config.server.allowed_origins.iter().map(Origin::as_str).collect();
    assert_eq!(origins, ["https://a.example", "https://b.example"]);
    assert_eq!((config.store.flush_batch, config.session.output_window.bytes()), (9, 1 << 20));
    assert_eq!(config.targets_allow, ["10.0.0.0/8".parse().unwrap()]);
    let target = Target {
        name: "new".into(),
        host: "h".into(),
        username: "007".into(),
        auth: Auth::Agent,
        tags: vec!["x".into()],
        ..Target::default()
    };
    assert_eq!(config.targets, [target]);
}

#[test]
fn a_mistake_in_the_environment_names_the_variable() {
    let table = [
        ("PULSEGATE__SESSION", "x", "is a block"),
        ("PULSEGATE__SESSION__IDLE_TIMEOUTS", "x", "unknown key; did you mean PULSEGATE__SESSION__IDLE_TIMEOUT?"),
        ("PULSEGATE__SERVER__LISTEN", "", "server.listen: must be an address"),
        ("PULSEGATE__TARGETS", "[{name: a, host: h}]", "targets[0].username: must be the login name"),
        ("PULSEGATE__TARGETS", "[{name: a", "targets: is no valid YAML"),
    ];
    for (name, value, message) in table {
        let told = mistakes("targets:\n  - { name: t, host: h, username: u }\n", &[(name, value)]);
        assert!(told.len() == 1 && told[0].starts_with(&format!("{name}: {message}")), "{told:?}");
    }
}

#[test]
fn a_value_can_stand_in_a_file_but_not_in_both() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("id");
    fs::write(&file, "node-7\n").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(load("", &[("PULSEGATE__NODE__ID_FILE", file)]).unwrap().node.id.as_deref(), Some("node-7"));
    assert_eq!(
        mistakes("", &[("PULSEGATE__NODE__ID_FILE", file), ("PULSEGATE__NODE__ID", "node-8")]),
        ["PULSEGATE__NODE__ID_FILE: node.id: must not be set together with PULSEGATE__NODE__ID"]
    );
    let told = mistakes("", &[("PULSEGATE__NODE__ID_FILE", "/nowhere/id")]);
    assert!(told[0].starts_with("PULSEGATE__NODE__ID_FILE: node.id: names a file that cannot be read: "), "{told:?}");
    assert_eq!(
        mistakes("", &[("PULSEGATE__NODE__IP_FILE", file)]),
        ["PULSEGATE__NODE__IP_FILE: unknown key; did you mean PULSEGATE__NODE__ID?"]
    );
}

#[test]
fn a_text_that_looks_like_a_number_stays_a_text() {
    for text in ["00123e5", "0x1F", "1e999", "007", "1_000", "true", "no", ".inf", "-7", "12.50"] {
        let from_env = load("", &[("PULSEGATE__NODE__ID", text)]).unwrap();
        let from_file = load(&format!("node:\n  id: {text}   # a name\n"), &[]).unwrap();
        assert_eq!((from_env.node.id.as_deref(), from_file.node.id.as_deref()), (Some(text), Some(text)));
    }
}

#[test]
fn an_anchor_keeps_the_text_it_was_written_as() {
    let config = load("ssh:\n  keepalive_max: &n 007\nnode:\n  id: *n\n", &[]).unwrap();
    assert_eq!((config.ssh.keepalive_max, config.node.id.as_deref()), (7, Some("007")));
}

#[test]
fn the_admin_token_is_kept_from_debug_output_and_must_be_long() {
    let (dir, token) = (TempDir::new().unwrap(), "00123e5-0123456789-0123456789-0123456789");
    let file = dir.path().join("token");
    fs::write(&file, format!("{token}\n")).unwrap();
    for env in [("PULSEGATE_ADMIN_TOKEN", token), ("PULSEGATE_ADMIN_TOKEN_FILE", file.to_str().unwrap())] {
        let loaded = load_in(&dir, "", &[env]).unwrap();
        assert!(!format!("{loaded:?}").contains(token));
        assert_eq!(loaded.secrets.admin_token.unwrap().expose_secret(), token);
    }
    let told = mistakes("", &[("PULSEGATE_ADMIN_TOKEN", &token[..31])]);
    assert_eq!(told, ["PULSEGATE_ADMIN_TOKEN: must have at least 32 characters"]);
    assert!(load_in(&dir, "", &[]).unwrap().secrets.admin_token.is_none());
}

#[test]
fn the_seal_keys_are_kept_from_debug_output_and_must_be_keys() {
    let (dir, key) = (TempDir::new().unwrap(), "00123e50".repeat(8));
    let loaded = load_in(&dir, "", &[("PULSEGATE_SEAL_KEY", &key)]).unwrap();
    assert!(!format!("{loaded:?}").contains(&key));
    assert_eq!(loaded.secrets.seals.unwrap().keys().count(), 1);
    let [told] = mistakes("", &[("PULSEGATE_SEAL_KEY", &key[1..])]).try_into().unwrap();
    assert!(
        told.starts_with("PULSEGATE_SEAL_KEY: a seal key is 64 hexadecimal digits") && !told.contains("123e5"),
        "{told}"
    );
}

#[test]
fn two_configurations_differ_in_the_keys_that_were_changed() {
    let changed =
        load("session:\n  idle_timeout: 5m\nserver:\n  tls: {cert: \"\"}\ntargets_deny: [10.0.0.0/8]\n", &[]).unwrap();
    assert_eq!(changed.differing(&Config::default()), ["session.idle_timeout", "targets_deny"]);
    assert!(changed.differing(&changed.clone()).is_empty());
}

#[test]
fn no_mistake_repeats_a_value_that_may_be_secret() {
    let secret = "s3cr3t";
    for key in all_keys() {
        let name = format!("PULSEGATE__{}", key.replace('.', "__").to_uppercase());
        let told = mistakes("", &[(&name, &format!("x://{secret} {secret}@,[{{"))]).join("\n");
        // A file that cannot be read is named, and a path is no secret.
        assert!(key.ends_with(".cert") || key.ends_with(".key") || !told.contains(secret), "{told}");
    }
}

#[test]
fn a_secret_file_must_exist_and_be_closed_to_others() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("id");
    let shown = file.display().to_string();
    for key in ["key_file", "password_file"] {
        let yaml = format!("targets:\n  - {{ name: a, host: h, username: u, auth: {{ {key}: {shown} }} }}\n");
        let told = mistakes_in(&dir, &yaml, &[]);
        assert!(told[0].contains(&format!(": targets[0].auth.{key}: id cannot be read: ")), "{told:?}");
        fs::write(&file, "x").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let column = 47 + key.len() + 1;
        let place = format!("config.yaml:2:{column}: targets[0].auth.{key}");
        let message = "id holds a secret and others may read it (mode 0640): chmod 600 id";
        assert_eq!(mistakes_in(&dir, &yaml, &[]), [format!("{place}: {message}")]);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let target = &load_in(&dir, &yaml, &[]).unwrap().config.targets[0];
        assert_eq!(
            target.auth,
            if key == "key_file" { Auth::KeyFile(file.clone()) } else { Auth::PasswordFile(file.clone()) }
        );
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn only_exact_origins_are_taken() {
    let origin = |text: &str| load("", &[("PULSEGATE__SERVER__ALLOWED_ORIGINS", text)]).ok();
    for (text, kept) in [
        ("https://ops.example.com", "https://ops.example.com"),
        ("http://Localhost:3000", "http://localhost:3000"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("https://[::1]:8443", "https://[::1]:8443"),
        ("https://[::1]", "https://[::1]"),
    ] {
        assert_eq!(origin(text).unwrap().server.allowed_origins[0].as_str(), kept);
    }
    for text in ["*", "null", "example.com", "https://", "https://a/", "https://a/b", "https://*.a", "https://u@a"] {
        assert_eq!(origin(text), None, "{text}");
    }
    for text in ["https://a:0", "https://a:x", "https://a:", "ftp://a", "https://[::1", "https://::1", "https://a b"] {
        assert_eq!(origin(text), None, "{text}");
    }
}

#[test]
fn known_hosts_stands_in_the_data_directory_unless_told() {
    let config = load("node:\n  data_dir: /var/lib/pulsegate\n", &[]).unwrap();
    assert_eq!(config.known_hosts_path(), Path::new("/var/lib/pulsegate/known_hosts"));
    let config = load("ssh:\n  known_hosts: /etc/known_hosts\n", &[]).unwrap();
    assert_eq!(config.known_hosts_path(), Path::new("/etc/known_hosts"));
}

#[test]
fn a_key_or_block_without_a_value_keeps_its_default() {
    assert_eq!(load("session:\nserver:\n  listen:\n  tls: ~\ntargets:\n", &[]).unwrap(), Config::default());
}

#[test]
fn an_isolation_timeout_that_is_written_holds_and_else_what_on_isolation_says() {
    let serves = |on: &str, timeout: &str| {
        let yaml = format!("node:\n  on_isolation: {on}\n  isolation_timeout: {timeout}\n");
        load(&yaml, &[]).unwrap().node.serve_for()
    };
    for unsaid in ["", "''"] {
        assert_eq!(serves("keep", unsaid), Duration::from_hours(24));
        assert_eq!(serves("terminate", unsaid), Duration::from_secs(30));
    }
    for (written, time) in [("5s", Duration::from_secs(5)), ("24h", Duration::from_hours(24))] {
        assert_eq!([serves("keep", written), serves("terminate", written)], [time; 2], "{written}");
    }
}
