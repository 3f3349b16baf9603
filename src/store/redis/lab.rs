//! Private Redis servers for the tests: one, a cluster of three, a master with a replica and sentinels. Each has a
//! folder and ports of its own and ends with its owner. Knows nothing of their content.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::store::conformance::live::Flush;

/// Time for servers to come up or to agree, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Access rules: every user may do everything but run a script; only `gate` may do that, after signing in.
const LOCKED: [&str; 2] = ["--user default on nopass ~* &* +@all -@scripting", "--user gate on >hunter2 ~* +@all"];

/// A running server; killed when dropped.
pub struct Server {
    process: Process,
    pub port: u16,
    dir: TempDir,
    options: Vec<String>,
}

/// A process that ends with its owner, even with one that panics.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Either fails only if it has ended already.
        self.0.kill().and_then(|()| self.0.wait()).ok();
    }
}

impl Server {
    /// Starts a server with these options, or says that there is none here and returns nothing.
    pub fn start(options: &[&str]) -> Option<Self> {
        let options: Vec<String> = options.iter().flat_map(|option| option.split(' ')).map(str::to_owned).collect();
        for _ in 0..5 {
            let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
            match spawn(dir.path(), port, &options) {
                Ok(Some(process)) => return Some(Self { process, port, dir, options }),
                // Another process took the port first.
                Ok(None) => {}
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::NotFound, "redis-server: {error}");
                    skip("no Redis");
                    return None;
                }
            }
        }
        panic!("redis-server does not start");
    }

    /// Starts a sentinel that watches the server at this port.
    fn sentinel(master: u16) -> Self {
        let settings = format!(
            "sentinel monitor main 127.0.0.1 {master} 2\nsentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 3000\n"
        );
        let file = tempfile::tempdir().unwrap();
        let name = file.path().join("sentinel.conf");
        fs::write(&name, settings).unwrap();
        let sentinel = Self::start(&[name.to_str().unwrap(), "--sentinel"]).unwrap();
        // The sentinel writes to its configuration, in the other folder, as long as it lives.
        Self { dir: file, ..sentinel }
    }

    /// Sends lines as a user would type them, and returns the answers.
    pub fn ask(&self, lines: &[&str]) -> String {
        ask(self.port, lines).unwrap()
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }

    /// Starts it again at the same port, with the data it had saved.
    pub fn restart(&mut self) {
        self.process = spawn(self.dir.path(), self.port, &self.options).unwrap().unwrap();
    }

    pub fn freeze(&self) {
        kill_process(Pid::from_child(&self.process.0), Signal::STOP).unwrap();
    }

    pub fn thaw(&self) {
        kill_process(Pid::from_child(&self.process.0), Signal::CONT).unwrap();
    }
}

/// The ports of the servers, with which a test empties them.
pub struct Ports(pub Vec<u16>);

impl Flush for Ports {
    fn flush(&self) {
        for port in &self.0 {
            assert!(ask(*port, &["FLUSHALL"]).unwrap().starts_with("+OK"));
        }
    }
}

/// A cluster of three masters, which asks for a password.
pub struct Cluster(pub Vec<Server>);

impl Cluster {
    pub fn start() -> Option<Self> {
        let options = ["--cluster-enabled yes", "--cluster-node-timeout 2000", LOCKED[0], LOCKED[1]];
        let servers: Vec<Server> = (0..3).map(|_| Server::start(&options)).collect::<Option<_>>()?;
        let addresses = servers.iter().map(|server| format!("127.0.0.1:{}", server.port));
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(addresses)
            .args(["--cluster-replicas", "0", "--cluster-yes"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        let cluster = Self(servers);
        cluster.agree();
        Some(cluster)
    }

    /// Waits until every server says that the cluster is whole.
    pub fn agree(&self) {
        eventually(|| self.0.iter().all(|server| server.ask(&["CLUSTER INFO"]).contains("cluster_state:ok")));
    }

    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.0.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("redis+cluster://gate:hunter2@{}", hosts.join(","))
    }

    pub fn ports(&self) -> Ports {
        Ports(self.0.iter().map(|server| server.port).collect())
    }
}

/// A master with one replica, which ask for a password, watched by three sentinels, which do not and call it `main`.
pub struct Watched {
    pub master: Server,
    pub replica: Server,
    sentinels: Vec<Server>,
}

impl Watched {
    pub fn start() -> Option<Self> {
        let master = Server::start(&["--repl-diskless-sync-delay 0", LOCKED[0], LOCKED[1]])?;
        let replica = Server::start(&[&format!("--replicaof 127.0.0.1 {}", master.port), LOCKED[0], LOCKED[1]])?;
        eventually(|| replica.ask(&["INFO replication"]).contains("master_link_status:up"));
        let sentinels = (0..3).map(|_| Server::sentinel(master.port)).collect();
        let watched = Self { master, replica, sentinels };
        let agreed = |sentinel: &Server| sentinel.ask(&["INFO sentinel"]).contains("slaves=1,sentinels=3");
        eventually(|| watched.sentinels.iter().all(agreed));
        Some(watched)
    }

    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://gate:hunter2@{}/main", hosts.join(","))
    }
}

/// Starts a server and waits until it answers; `None` if it ended instead.
fn spawn(dir: &Path, port: u16, options: &[String]) -> io::Result<Option<Process>> {
    let mut command = Command::new("redis-server");
    command.args(options).args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--loglevel", "warning"]);
    command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(dir);
    let mut process = Process(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
    let name = format!("process_id:{}\r", process.0.id());
    let ended = |process: &mut Process| process.0.try_wait().unwrap().is_some();
    eventually(|| ended(&mut process) || ask(port, &["INFO server"]).is_ok_and(|info| answers(&info, &name)));
    Ok(if ended(&mut process) { None } else { Some(process) })
}

/// Whether the started server answers, which may ask for a password first.
fn answers(info: &str, process: &str) -> bool {
    info.contains(process) || info.starts_with("-NOAUTH")
}

fn ask(port: u16, lines: &[&str]) -> io::Result<String> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.write_all(format!("{}\r\n", lines.join("\r\n")).as_bytes())?;
    connection.shutdown(Shutdown::Write)?;
    let mut answers = String::new();
    connection.read_to_string(&mut answers)?;
    Ok(answers)
}

/// Returns a free port; the one 10,000 above, where a server of a cluster talks to the others, is free too. Below the
/// ports that the system gives to outgoing connections.
pub fn free_port() -> u16 {
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let mut candidates = std::iter::repeat_with(|| rand::random_range(10_000..22_000));
    candidates.find(|&port| is_free(port) && is_free(port + 10_000)).unwrap()
}

/// Polls until the condition holds.
#[track_caller]
pub fn eventually(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < TIMEOUT, "it did not come about");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reports that this test cannot run here, and adds it to the file that `PULSEGATE_SKIPPED` names.
fn skip(why: &str) {
    println!("skipped: {why}");
    if let Some(list) = std::env::var_os("PULSEGATE_SKIPPED") {
        let mut list = OpenOptions::new().append(true).create(true).open(list).unwrap();
        writeln!(list, "{}: {why}", thread::current().name().unwrap_or_default()).unwrap();
    }
}
