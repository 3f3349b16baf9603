//! The gateway as users run it: the real binary as a child process, with its own folder, configuration and port. A test
//! that ends well also asserts that the gateway never panicked.

use std::{
    fs::{self, File},
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    browser::{self, Attach, Browser},
    eventually,
    http::{self, Answer},
    playground::Playground,
    sshd::Sshd,
    terminal::PATIENCE,
};

/// The API token with all rights; it must never appear in a log or a store.
pub const TOKEN: &str = "canary-token-5f0e2b7c91d84a36b2aa";

/// Timeout of a command of the tests, even under heavy load.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// A gateway's folder and settings, which outlive its processes.
pub struct Home {
    dir: TempDir,
    settings: Vec<(String, String)>,
    targets: Vec<Value>,
    webhooks: Vec<Value>,
    command: Vec<String>,
    /// The command that the binary is started by, such as `ip netns exec NAME`.
    pub within: Vec<String>,
}

/// Waits for a command to end by itself.
#[track_caller]
pub fn ended(mut command: Child) -> ExitStatus {
    eventually(ENDS_WITHIN, || command.try_wait().unwrap())
}

impl Home {
    /// Returns a home without targets, whose gateway trusts new host keys.
    pub fn new() -> Self {
        let (dir, settings) = (tempfile::tempdir().unwrap(), Vec::new());
        let (targets, webhooks, command) = (Vec::new(), Vec::new(), vec!["serve".to_owned()]);
        let home = Self { dir, settings, targets, webhooks, command, within: Vec::new() };
        let data_dir = home.data_dir().display().to_string();
        home.set("server.listen", "127.0.0.1:0")
            .set("node.data_dir", &data_dir)
            .set("ssh.host_key_policy", "accept_new")
            // Tests read the files.
            .set("recording.compress", "false")
    }

    /// Returns a home with the target `playground`.
    pub fn with(playground: &Playground) -> Self {
        Self::new().target("playground", playground.addr, "guest", json!({"prompt": true}))
    }

    /// Returns a home with the target `sshd`.
    pub fn with_sshd(sshd: &Sshd) -> Self {
        Self::new().target("sshd", sshd.addr, &sshd.user, json!({"key_file": sshd.user_key}))
    }

    /// Returns a home that serves the demo at this address.
    pub fn demo(listen: &str) -> Self {
        let mut home = Self::new();
        let data_dir = home.data_dir().display().to_string();
        home.command = ["demo", "--listen", listen, "--data-dir", &data_dir].map(str::to_owned).to_vec();
        home
    }

    /// Adds a target to the catalogue.
    pub fn target(mut self, name: &str, addr: SocketAddr, login: &str, auth: Value) -> Self {
        let (host, port) = (addr.ip(), addr.port());
        self.targets.push(json!({"name": name, "host": host, "port": port, "username": login, "auth": auth}));
        self
    }

    /// Sends the audit log to a webhook, signed with this secret.
    pub fn webhook(mut self, url: &str, secret: &str, actions: &[&str]) -> Self {
        let file = self.dir.path().join("webhook.secret");
        fs::write(&file, secret).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        self.webhooks.push(json!({"name": "siem", "url": url, "secret_file": file, "actions": actions}));
        self
    }

    /// Sets the policy of a target's recordings.
    pub fn recorded(mut self, name: &str, policy: &str) -> Self {
        let target = self.targets.iter_mut().find(|target| target["name"] == name).unwrap();
        target["recording"] = json!(policy);
        self
    }

    /// Sets keys of a target.
    pub fn target_keys(mut self, name: &str, keys: &Value) -> Self {
        let target = self.targets.iter_mut().find(|target| target["name"] == name).unwrap();
        target.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        self
    }

    /// Sets a key of the configuration, through the environment.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        let name = format!("PULSEGATE__{}", key.to_uppercase().replace('.', "__"));
        self.settings.push((name, value.to_owned()));
        self
    }

    /// Sets a variable of the environment; an empty one counts as unset.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns the path of the configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config.yaml")
    }

    /// Returns the folder of all durable data.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Returns everything that the gateway's processes wrote to standard error and output.
    pub fn logs(&self) -> String {
        let read = |name| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        read("stdout") + &read("stderr")
    }

    /// Starts the gateway and waits until it reports ready.
    #[track_caller]
    pub fn start(self: &Arc<Self>) -> Gateway {
        let earlier = self.ready_lines().len();
        let mut child = self.spawn(&self.command.iter().map(String::as_str).collect::<Vec<_>>());
        let line = eventually(PATIENCE, || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the gateway ended with {status}: {}", self.logs());
            }
            self.ready_lines().get(earlier).cloned()
        });
        let url = line.rsplit("://").next().unwrap();
        let addr = url.split('/').next().unwrap().parse().unwrap();
        Gateway { addr, link: url.split_once('/').map(|(_, path)| format!("/{path}")), child, home: self.clone() }
    }

    /// Runs a command of the binary to its end.
    pub fn run(&self, args: &[&str]) -> (ExitStatus, String) {
        let read = |name| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        let before = ["stdout", "stderr"].map(|name| (name, read(name).len()));
        let status = ended(self.spawn(args));
        (status, before.map(|(name, length)| read(name).split_off(length)).concat())
    }

    fn ready_lines(&self) -> Vec<String> {
        let stdout = fs::read_to_string(self.dir.path().join("stdout")).unwrap_or_default();
        let whole = stdout.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.filter(|line| line.starts_with("Pulsegate is ready: ")).map(|line| line.trim().to_owned()).collect()
    }

    /// Starts the binary with its own configuration file.
    pub fn spawn(&self, args: &[&str]) -> Child {
        let config = self.config();
        // JSON is YAML.
        fs::write(&config, json!({"targets": self.targets, "webhooks": self.webhooks}).to_string()).unwrap();
        let log = |name| File::options().create(true).append(true).open(self.dir.path().join(name)).unwrap();
        let binary = env!("CARGO_BIN_EXE_pulsegate").to_owned();
        let line: Vec<&String> = self.within.iter().chain([&binary]).collect();
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).args(args).arg("--config").arg(config);
        command.env_remove("RUST_LOG").env_remove("SSH_AUTH_SOCK").env("PULSEGATE_ADMIN_TOKEN", TOKEN);
        for (name, value) in &self.settings {
            if value.is_empty() {
                command.env_remove(name)
            } else {
                command.env(name, value)
            };
        }
        command.stdin(Stdio::null()).stdout(log("stdout")).stderr(log("stderr"));
        command.spawn().unwrap()
    }
}

/// A running gateway; dropping it kills it.
pub struct Gateway {
    pub addr: SocketAddr,
    /// The path that signs in once, in a demo.
    pub link: Option<String>,
    pub home: Arc<Home>,
    child: Child,
}

impl Gateway {
    /// Starts `home`.
    #[track_caller]
    pub fn start(home: Home) -> Self {
        Arc::new(home).start()
    }

    /// Sends a request as the administrator.
    pub fn asks(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.asks_with(method, path, "", body)
    }

    /// Sends a request as the administrator, with more headers.
    pub fn asks_with(&self, method: &str, path: &str, headers: &str, body: Option<&Value>) -> Answer {
        let headers = format!("Authorization: Bearer {TOKEN}\r\n{headers}");
        http::request(self.addr, method, path, &headers, body.map(Value::to_string).as_deref())
    }

    #[track_caller]
    pub fn shows(&self, path: &str) -> Value {
        let answer = self.asks("GET", path, None);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// Opens a session on a target of the catalogue and returns its id.
    #[track_caller]
    pub fn opens(&self, target: &str) -> String {
        let answer = self.asks("POST", "/api/v1/sessions", Some(&json!({"target": target})));
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn session(&self, id: &str) -> Value {
        self.shows(&format!("/api/v1/sessions/{id}"))
    }

    /// Returns a session if it has this status and, once closed, this reason: `closed/exited`.
    pub fn says(&self, id: &str, expected: &str) -> Option<Value> {
        let session = self.session(id);
        let status = session["status"].as_str().unwrap();
        let reason = session["end_reason"].as_str().map_or(String::new(), |reason| format!("/{reason}"));
        (format!("{status}{reason}") == expected).then_some(session)
    }

    /// Waits until a session [`says`](Self::says) so.
    #[track_caller]
    pub fn becomes(&self, id: &str, expected: &str) -> Value {
        self.becomes_within(PATIENCE, id, expected)
    }

    #[track_caller]
    pub fn becomes_within(&self, limit: Duration, id: &str, expected: &str) -> Value {
        let mut last = Value::Null;
        let begun = std::time::Instant::now();
        eventually(limit + PATIENCE, || {
            last = self.session(id);
            assert!(begun.elapsed() < limit, "not {expected} within {limit:?}: {last:#} {}", self.home.logs());
            self.says(id, expected)
        })
    }

    /// Returns every session that the query matches, page by page.
    pub fn lists(&self, query: &str) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.shows(&format!("/api/v1/sessions?{query}{cursor}"));
            all.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    /// Returns the details of a session's transitions.
    pub fn history(&self, id: &str) -> Vec<String> {
        let why = self.shows(&format!("/api/v1/sessions/{id}/why"));
        why["history"].as_array().unwrap().iter().map(|passed| passed["detail"].to_string()).collect()
    }

    /// Opens a page's socket, without attaching.
    #[track_caller]
    pub fn socket(&self, id: &str) -> Browser {
        let addr = self.addr;
        let headers = format!("Authorization: Bearer {TOKEN}\r\nOrigin: http://{addr}\r\n");
        Browser::new(browser::upgrade(addr, id, &headers).unwrap_or_else(|answer| panic!("{}", answer.head)))
    }

    /// Opens a page attached to the session; returns it with the answer to the attach.
    #[track_caller]
    pub fn attaches(&self, id: &str, attach: &Attach) -> (Browser, Value) {
        let browser = self.socket(id);
        let attached = browser.attach(attach);
        (browser, attached)
    }

    /// Opens a page on a new session whose shell runs; returns it with the session's id.
    #[track_caller]
    pub fn page(&self, target: &str) -> (Browser, String) {
        let id = self.opens(target);
        let (browser, _) = self.attaches(&id, &Attach::default());
        if target == "playground" {
            browser.sees("$ ");
        }
        self.becomes(&id, "active");
        (browser, id)
    }

    /// Returns the process id.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Sends the process a signal, such as to stop it or to continue it.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it, as a power cut does.
    pub fn dies(mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(mut self) -> ExitStatus {
        eventually(PATIENCE, || self.child.try_wait().unwrap())
    }

    /// Returns its resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Returns the number of its open sockets.
    pub fn sockets(&self) -> usize {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        // A socket that was closed meanwhile cannot be read.
        let leads_to = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        leads_to.filter(|path| path.to_string_lossy().starts_with("socket:")).count()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
        let logs = self.home.logs();
        if std::thread::panicking() {
            println!("the gateway's log:\n{logs}");
        } else {
            assert!(!logs.contains("panicked"), "{logs}");
        }
    }
}
