//! A private OpenSSH server on loopback: own keys, own configuration, own port. Its shell is bash with the playground's
//! prompt and those of its commands that scenarios use. Server and folder are gone when it is dropped, and when this
//! program has ended in whatever way. Knows no client.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{mariadb::free_port, target::Place};

/// The server, by its absolute path, as it asks for: it executes itself for each connection.
const SSHD: &str = "/usr/sbin/sshd";

/// The folder of its unprivileged half, which Debian creates when the service starts.
const RUN_FOLDER: &str = "/run/sshd";

/// The byte that ends `raw`, as on the playground.
const CTRL_RIGHT_BRACKET: u8 = 0x1d;

/// Lines of a block of the flood's file, and blocks in it: a line is 64 bytes, as on the playground.
const LINES: usize = 1_000;
const BLOCKS: usize = 125;

/// Bytes of the flood's file, which a longer flood repeats.
const FLOOD_BYTES: usize = BLOCKS * LINES * 64;

/// Waits beside the server until its own standard input ends; then ends the server and its connections and removes the
/// folder. With job control, the server and its shells do not inherit that SIGINT is ignored, and a signal to this
/// program's process group reaches neither.
const BESIDE: &str = r#"
set -m
"$1" -D -f "$0/sshd_config" -E "$0/log" </dev/null >/dev/null &
server=$!
trap '' HUP INT TERM
until [ -s "$0/pid" ]; do
    kill -0 $server || break
    sleep 0.01
done
if [ -s "$0/pid" ]; then echo ready; else echo "$(tail -n 1 "$0/log")"; fi
read -r never
# A connection is a process group: without root, its shell is no child of the server's child.
connections=$(cat /proc/$server/task/$server/children)
kill -9 $server $connections
for connection in $connections; do kill -9 -$connection; done
wait $server
rm -rf "$0"
"#;

/// A running server; dropping it ends every connection.
pub struct Sshd {
    beside: Child,
    place: Place,
}

impl Sshd {
    /// Starts a server; `None` if OpenSSH's is not installed.
    pub fn start() -> Result<Option<Self>> {
        if !Path::new(SSHD).exists() {
            return Ok(None);
        }
        // Only root needs it, and only root can create it.
        fs::create_dir_all(RUN_FOLDER).ok();
        // The port was free a moment ago: if another process takes it, the server exits with an error.
        let port = free_port().map_err(|why| anyhow!(why))?;
        let folder = tempfile::tempdir()?;
        let key = folder.path().join("user");
        keygen(&folder.path().join("host"))?;
        keygen(&key)?;
        write_flood(&folder.path().join("flood"))?;
        fs::write(folder.path().join("bashrc"), bashrc(folder.path(), &std::env::current_exe()?))?;
        fs::write(folder.path().join("sshd_config"), config(folder.path(), port))?;
        let user = output(Command::new("id").arg("-un"))?;
        let place = Place { addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), user, key: Some(key) };
        let mut command = Command::new("bash");
        // From here on, the process beside the server removes the folder.
        command.args(["-c", BESIDE]).arg(folder.keep()).arg(SSHD);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = Self { beside: command.spawn().context("bash cannot be started")?, place };
        let mut line = String::new();
        BufReader::new(server.beside.stdout.take().context("no standard output")?).read_line(&mut line)?;
        ensure!(line.trim() == "ready", "OpenSSH's server did not start: {line:?}");
        Ok(Some(server))
    }

    /// Returns where its clients connect.
    pub fn place(&self) -> Place {
        self.place.clone()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // Closes its standard input first. It can only have ended already.
        self.beside.wait().ok();
    }
}

/// Runs in the process of `raw`: sends back every byte at once until Ctrl-]. Its name comes first: only then is the
/// terminal as the client expects it.
pub fn raw() -> Result<()> {
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    output.write_all(b"raw")?;
    output.flush()?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = input.read(&mut buffer)?;
        let typed = buffer.get(..count).unwrap_or_default();
        let end = typed.iter().position(|byte| *byte == CTRL_RIGHT_BRACKET);
        output.write_all(typed.get(..end.unwrap_or(count)).unwrap_or_default())?;
        output.flush()?;
        if end.is_some() || count == 0 {
            return Ok(());
        }
    }
}

/// Returns the server's settings. The shell's home is the server's folder: Debian's bash reads `~/.bashrc` for every
/// command that sshd starts, and cuts `~/.bash_history`.
fn config(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n\
         PidFile {folder}/pid\nForceCommand exec bash --noediting --rcfile {folder}/bashrc -i\nStrictModes no\n\
         SetEnv HOME={folder}\nPermitRootLogin yes\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintMotd no\n\
         PrintLastLog no\nLogLevel ERROR\nMaxStartups 200\nMaxSessions 200\n"
    )
}

/// Returns the commands that a shell starts with. Nothing typed is echoed: bash and the commands change the terminal a
/// moment after a command's line was read, and what is typed in between would be echoed once or twice.
fn bashrc(folder: &Path, program: &Path) -> String {
    let (flood, program) = (folder.join("flood").display().to_string(), program.display());
    format!(
        r"stty -echo
unset PROMPT_COMMAND HISTFILE
PS1='\[\e[1;32m\]playground\[\e[0m\]:\[\e[1;34m\]~\[\e[0m\]$ '
flood() {{
    local left=$1
    stty -opost
    for ((; left > {FLOOD_BYTES}; left -= {FLOOD_BYTES})); do cat '{flood}'; done
    head -c $left '{flood}'
    printf '\r\nflood: %d bytes\r\n' $1
    stty opost
}}
raw() {{
    local was=$(stty -g)
    stty raw
    '{program}' raw
    stty $was
}}
"
    )
}

/// Writes the playground's numbered lines, which begin again after each block.
fn write_flood(path: &Path) -> Result<()> {
    let lines =
        (1..=LINES).map(|number| format!("{number:010} The quick brown fox jumps over the lazy dog, again.\r\n"));
    let block: String = lines.collect();
    let mut file = BufWriter::new(File::create(path)?);
    for _ in 0..BLOCKS {
        file.write_all(block.as_bytes())?;
    }
    Ok(file.flush()?)
}

/// Makes a key pair at `path` and `path.pub`.
fn keygen(path: &Path) -> Result<()> {
    output(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(path)).map(|_| ())
}

/// Runs a command that must succeed; returns its output.
fn output(command: &mut Command) -> Result<String> {
    let program = PathBuf::from(command.get_program());
    let output = command.output().with_context(|| format!("{} cannot be started", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", program.display());
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::{
        bare::Bare,
        shell::{self, Shell},
        skipped::skip,
    };

    #[actix_rt::test]
    async fn its_shell_floods_like_the_playground_and_ends_with_it() {
        let Some(server) = Sshd::start().unwrap() else {
            return skip("its_shell_floods_like_the_playground_and_ends_with_it", "no OpenSSH server");
        };
        let mut shell = Bare::open(server.place()).await.unwrap();
        for bytes in [20, 5_000_000, FLOOD_BYTES as u64 + 1] {
            shell::flood(&mut shell, bytes).await.unwrap();
        }
        let folder = server.place().key.unwrap().parent().unwrap().to_owned();
        // Nothing of the user's own is read or written.
        shell.say(b"echo \"<$HOME|$HISTFILE>\"\r").await.unwrap();
        shell::hear_until(&mut shell, format!("<{}|>", folder.display()).as_bytes()).await.unwrap();
        drop(server);
        assert!(!folder.exists());
        timeout(Duration::from_secs(30), async { while shell.hear().await.is_ok() {} }).await.unwrap();
    }
}
