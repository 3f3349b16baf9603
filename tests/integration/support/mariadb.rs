//! A private MariaDB with its own folder and port, and no accounts or one. The server ends and its folder is removed
//! when it is dropped and when the process that started it has ended, in whatever way. Knows nothing of Pulsegate.

use std::{
    fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

const MARIADBD: &str = "/usr/sbin/mariadbd";

/// The privileges of a gateway's account, on the gateway's database only.
pub const RIGHTS: &str = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX";

/// The account, and its password.
const ACCOUNT: (&str, &str) = ("gateway", "kept-for-the-records");

/// Waits beside the server for its own standard input: a line ends the server, the end of the input also removes its
/// folder. A signal to the whole test process group does not reach it, so that it can clean up.
const BESIDE: &str = r#"
trap '' HUP INT TERM
"$@" </dev/null >>"$0/log" 2>&1 &
server=$!
read -r word
kill -9 $server
wait $server
[ -n "$word" ] || rm -rf "$0"
"#;

/// The range in which ports are searched: below those that the system uses for outgoing connections.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// Timeout of a server's start.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// A server, on loopback only.
pub struct Mariadb {
    folder: PathBuf,
    port: u16,
    options: Vec<String>,
    /// The user, and password if any, of the [`url`](Self::url).
    login: String,
    running: Option<(Child, ChildStdin)>,
}

impl Mariadb {
    /// Starts a server with these additional options, durable at every commit unless they say otherwise; an error if
    /// that is not possible here.
    pub fn start(options: &[&str]) -> Result<Self, String> {
        // Without grant tables, which would take seconds to install; this takes a quarter of one.
        let mut server = Self::prepare("root".to_owned(), &[&["--skip-grant-tables"][..], options].concat())?;
        server.start_again()?;
        // A new data folder survives a crash only from its first checkpoint on.
        server.sql("SET GLOBAL innodb_log_checkpoint_now = ON")?;
        Ok(server)
    }

    /// Starts a server with grant tables and a database `records`. The [`url`](Self::url) has an account with a
    /// password that has [`RIGHTS`] there and nowhere else.
    pub fn with_account(options: &[&str]) -> Result<Self, String> {
        let (name, password) = ACCOUNT;
        let mut server = Self::prepare(format!("{name}:{password}"), options)?;
        server.install()?;
        server.start_again()?;
        server.sql(&format!(
            "CREATE DATABASE records; CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{password}'; \
             GRANT {RIGHTS} ON records.* TO {name}@'127.0.0.1'"
        ))?;
        Ok(server)
    }

    fn prepare(login: String, options: &[&str]) -> Result<Self, String> {
        if !Path::new(MARIADBD).exists() {
            return Err("no MariaDB".to_owned());
        }
        let port = free_port()?;
        let folder = std::env::temp_dir().join(format!("pulsegate-mariadb-{}-{port}", std::process::id()));
        let failed = |error: std::io::Error| format!("a folder for MariaDB: {error}");
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        fs::create_dir(folder.join("data")).map_err(failed)?;
        fs::create_dir(folder.join("tmp")).map_err(failed)?;
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Ok(Self { folder, port, options, login, running: None })
    }

    /// Creates the grant tables, with a `root` that needs no password.
    fn install(&self) -> Result<(), String> {
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.arg(format!("--datadir={}/data", self.folder.display())).args(self.user()?);
        let output = install.output().map_err(|error| error.to_string())?;
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(format!("grant tables for MariaDB: {}", said())) }
    }

    /// Restarts the [killed](Self::kill) server on the same data and port.
    pub fn start_again(&mut self) -> Result<(), String> {
        let folder = self.folder.display();
        let mut command = Command::new("sh");
        command.args(["-c", BESIDE]).arg(&self.folder).arg(MARIADBD);
        command.args(["--no-defaults", "--skip-name-resolve", "--bind-address=127.0.0.1"]).args(self.user()?);
        command.args([format!("--port={}", self.port), format!("--datadir={folder}/data")]);
        // A server that starts removes every temporary table from its folder, others' too.
        command.arg(format!("--tmpdir={folder}/tmp"));
        command.args([format!("--socket={folder}/socket"), format!("--pid-file={folder}/pid")]);
        command.args(["--innodb-flush-log-at-trx-commit=1", "--innodb-log-file-size=128M"]);
        command.args(&self.options).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut beside = command.spawn().map_err(|error| error.to_string())?;
        let input = beside.stdin.take().ok_or("no standard input")?;
        self.running = Some((beside, input));
        self.eventually_answers()
    }

    /// Kills the server as a crash does (SIGKILL); its data stay.
    pub fn kill(&mut self) {
        if let Some((mut beside, mut input)) = self.running.take() {
            // If it has ended by itself, there is nothing left to end.
            input.write_all(b"end\n").and_then(|()| beside.wait().map(drop)).ok();
        }
    }

    /// Stops it (SIGSTOP), like a machine that hangs.
    pub fn freeze(&self) -> Result<(), String> {
        self.signal("-STOP")
    }

    /// Continues it.
    pub fn thaw(&self) -> Result<(), String> {
        self.signal("-CONT")
    }

    /// Returns the address it listens on.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Returns the URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("mysql://{}@{}/{database}", self.login, self.addr())
    }

    /// Runs statements as an administrator; returns the rows as lines with tabs between their columns.
    pub fn sql(&self, statements: &str) -> Result<String, String> {
        let output = self.client().arg("--execute").arg(statements).output();
        let output = output.map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Returns an administrator's client.
    pub fn client(&self) -> Command {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "--batch", "--skip-column-names", "--user=root", "--socket"]);
        client.arg(self.folder.join("socket"));
        client
    }

    /// Returns its process id.
    pub fn process_id(&self) -> Result<u32, String> {
        let pid = fs::read_to_string(self.folder.join("pid")).map_err(|error| error.to_string())?;
        pid.trim().parse().map_err(|_| format!("{pid:?} is no process"))
    }

    /// Returns the option without which it refuses to run as root, if needed.
    fn user(&self) -> Result<Option<&'static str>, String> {
        let owner = fs::metadata(&self.folder).map_err(|error| error.to_string())?.uid();
        Ok((owner == 0).then_some("--user=root"))
    }

    fn signal(&self, signal: &str) -> Result<(), String> {
        let pid = self.process_id()?.to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().map_err(|error| error.to_string())?;
        if sent.success() { Ok(()) } else { Err("MariaDB is not running".to_owned()) }
    }

    fn eventually_answers(&self) -> Result<(), String> {
        let begun = Instant::now();
        while let Err(why) = self.sql("SELECT 1") {
            if begun.elapsed() > STARTS_WITHIN {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(format!("MariaDB does not answer: {why}\n{log}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        if let Some((mut beside, input)) = self.running.take() {
            drop(input);
            // It can only have ended already.
            beside.wait().ok();
        } else {
            // The system cleans up what stays in a temporary folder.
            fs::remove_dir_all(&self.folder).ok();
        }
    }
}

/// Returns a port that nobody listens on; two processes begin their search at different places.
pub fn free_port() -> Result<u16, String> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let width = PORTS.end - PORTS.start;
    let own = (std::process::id() % u32::from(width)) as u16;
    let candidates = (0..200).map(|_| NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(7).wrapping_add(own) % width);
    let mut ports = candidates.map(|offset| PORTS.start + offset);
    ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).ok_or("no free port".to_owned())
}
