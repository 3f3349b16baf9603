//! A private OpenSSH server: own keys, own configuration, own port. It listens itself and starts one `sshd -i` for each
//! connection, so there is no port to guess and nothing to wait for. Knows nothing of Pulsegate.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use tempfile::TempDir;

const SSHD: &str = "/usr/sbin/sshd";

/// The options of a server.
#[derive(Default, Clone, Copy)]
pub struct Options {
    /// Give the server a user of its own with a random password; needs root.
    pub password_user: bool,
    /// Authenticate passwords through PAM, as Debian's sshd does with keyboard-interactive.
    pub pam: bool,
    /// Types of host keys, as `ssh-keygen -t`; Ed25519 if empty.
    pub host_keys: &'static [&'static str],
    /// More lines of sshd_config.
    pub config: &'static str,
}

/// A running server; dropping it ends every connection and removes its user.
pub struct Sshd {
    /// The address it listens on, on loopback.
    pub addr: SocketAddr,
    /// The SHA-256 fingerprint of its first host key.
    pub host_key_fingerprint: String,
    /// Its first host key, as a line of a `.pub` file.
    pub host_key: String,
    /// A login name that it accepts.
    pub user: String,
    /// A private key of that user, without passphrase.
    pub user_key: PathBuf,
    /// That user's password, if asked for.
    pub password: Option<String>,
    /// Its directory, for other files of a test.
    pub dir: TempDir,
    connections: Arc<Mutex<Vec<Child>>>,
    stopped: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Sshd {
    /// Starts a server; an error if that is not possible here.
    pub fn start(options: Options) -> Result<Self, String> {
        if !Path::new(SSHD).exists() {
            return Err("no OpenSSH server".to_owned());
        }
        let is_root = geteuid().is_root();
        if options.password_user && !is_root {
            return Err("a user with a password needs root".to_owned());
        }
        if is_root {
            // The folder of sshd's unprivileged half; Debian creates it when the service starts.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        // The test's user must be able to read its authorized_keys.
        run(Command::new("chmod").arg("755").arg(dir.path()));
        let user_key = dir.path().join("user");
        keygen(&user_key, "ed25519", "");
        fs::copy(dir.path().join("user.pub"), dir.path().join("authorized_keys")).unwrap();
        let (user, password) = if options.password_user { add_user() } else { (whoami(), None) };

        let kinds = if options.host_keys.is_empty() { &["ed25519"] } else { options.host_keys };
        for kind in kinds {
            keygen(&dir.path().join(format!("host_{kind}")), kind, "");
        }
        let first = dir.path().join(format!("host_{}.pub", kinds[0]));
        let listed = run(Command::new("ssh-keygen").arg("-lf").arg(&first));
        let config = dir.path().join("sshd_config");
        fs::write(&config, config_text(&options, dir.path(), kinds)).unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (connections, stopped) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let serving = std::thread::spawn({
            let (connections, stopped) = (Arc::clone(&connections), Arc::clone(&stopped));
            move || serve(&listener, &config, &connections, &stopped)
        });
        Ok(Self {
            addr,
            host_key_fingerprint: listed.split_whitespace().nth(1).unwrap().to_owned(),
            host_key: fs::read_to_string(first).unwrap(),
            user,
            user_key,
            password,
            dir,
            connections,
            stopped,
            listener: Some(serving),
        })
    }

    /// Stops every process that serves a connection, like a machine that hangs.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Continues them.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Returns the number of connections that are still served.
    pub fn connections(&self) -> usize {
        self.connections
            .lock()
            .unwrap()
            .iter_mut()
            .filter_map(|child| child.try_wait().unwrap().is_none().then_some(()))
            .count()
    }

    /// Returns sshd's log, for a test that fails.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        for child in self.connections.lock().unwrap().iter_mut() {
            if child.try_wait().unwrap().is_none() {
                // It may end between the check and the signal.
                kill_process_group(Pid::from_child(child), signal).ok();
            }
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // Wakes the listener, which checks the flag before it serves.
        drop(TcpStream::connect(self.addr));
        if let Some(listener) = self.listener.take() {
            listener.join().ok();
        }
        self.signal(Signal::KILL);
        for child in self.connections.lock().unwrap().iter_mut() {
            child.wait().ok();
        }
        if self.password.is_some() {
            // sshd's processes of that user may take a moment to end; -f does not wait for them.
            Command::new("userdel").args(["-f", "-r", &self.user]).stderr(Stdio::null()).status().ok();
        }
    }
}

fn serve(listener: &TcpListener, config: &Path, connections: &Mutex<Vec<Child>>, stopped: &AtomicBool) {
    let log = config.with_file_name("log");
    for connection in listener.incoming() {
        if stopped.load(Ordering::Acquire) {
            return;
        }
        let socket = OwnedFd::from(connection.unwrap());
        let child = Command::new(SSHD)
            .args(["-i", "-f"])
            .arg(config)
            .arg("-E")
            .arg(&log)
            .stdin(Stdio::from(socket.try_clone().unwrap()))
            .stdout(Stdio::from(socket))
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        connections.lock().unwrap().push(child);
    }
}

/// Returns its settings. A shell's home is the server's folder: the tester's own settings of a shell can take a minute,
/// and its history is none of a test's business.
fn config_text(options: &Options, dir: &Path, kinds: &[&str]) -> String {
    let yes_no = |yes| if yes { "yes" } else { "no" };
    let mut text = format!(
        "StrictModes no\nPidFile none\nLogLevel DEBUG\nPermitRootLogin yes\nUsePAM {}\nKbdInteractiveAuthentication {}\n\
         PasswordAuthentication {}\nSetEnv HOME={}\nPrintMotd no\nPrintLastLog no\nAuthorizedKeysFile {}/authorized_keys\n",
        yes_no(options.pam),
        yes_no(options.pam),
        yes_no(options.password_user),
        dir.display(),
        dir.display(),
    );
    for kind in kinds {
        text += &format!("HostKey {}/host_{kind}\n", dir.display());
    }
    text + options.config
}

/// Makes a key pair at `path` and `path.pub`.
pub fn keygen(path: &Path, kind: &str, passphrase: &str) {
    let bits: &[&str] = if kind == "rsa" { &["-b", "2048"] } else { &[] };
    run(Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", passphrase, "-C", "", "-f"]).arg(path).args(bits));
}

/// Runs a command that must succeed; returns its output.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn whoami() -> String {
    run(Command::new("id").arg("-un"))
}

fn add_user() -> (String, Option<String>) {
    let random = format!("{:016x}", rand::random::<u64>());
    let (user, password) = (format!("pg-{}", &random[..8]), format!("pw-{random}"));
    let hash = run(Command::new("openssl").args(["passwd", "-6", &password]));
    run(Command::new("useradd").args(["-m", "-s", "/bin/bash", "-p", &hash, &user]));
    (user, Some(password))
}
