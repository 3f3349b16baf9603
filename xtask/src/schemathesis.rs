//! `cargo xtask schemathesis`: installs schemathesis, starts a gateway of its own, and tests it against the API
//! document. Knows no route: they are in `docs/openapi.json`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{cargo, paths::Paths};

/// Pinned version, so that the same seed sends the same requests.
const VERSION: &str = "4.32.5";

/// Timeout for the gateway to report that it is ready.
const TIMEOUT: Duration = Duration::from_secs(30);

/// API token of this gateway only, which is gone afterwards.
const TOKEN: &str = "a-token-of-schemathesis-of-more-than-32-characters";

/// Operations left out: a WebSocket, and a stream that has no end.
const NO_ANSWERS: [&str; 2] = ["terminal", "events"];

/// Check left out: `DELETE` ends a session, but its record is kept, as intended.
const NOT_OURS: &str = "use_after_free";

/// Sends requests that the document allows and others that it does not; fails if an answer does not match the document.
/// The arguments are passed to schemathesis.
pub fn schemathesis(arguments: &[String]) -> Result<ExitCode> {
    let paths = Paths::find()?;
    let program = installed(&paths)?;
    succeed(cargo::cargo().args(["build", "--release", "--workspace", "--bin", "pulsegate"]).current_dir(&paths.root))?;
    let folder = paths.target.join("schemathesis");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut gateway = start(&paths, &folder)?;
    let status = ready(&mut gateway, &folder).and_then(|url| {
        let mut command = Command::new(&program);
        let settings = paths.root.join("tests/schemathesis/schemathesis.toml");
        command
            .arg("--config-file")
            .arg(settings)
            .arg("run")
            .arg(paths.root.join("docs/openapi.json"))
            .args(["--url", &url, "--checks", "all"]);
        command.args(["--exclude-checks", NOT_OURS, "--continue-on-failure"]);
        command.args(NO_ANSWERS.iter().flat_map(|name| ["--exclude-operation-id", name]));
        command.arg("--header").arg(format!("Authorization: Bearer {TOKEN}")).args(arguments);
        command.env("SCHEMATHESIS_HOOKS", paths.root.join("tests/schemathesis/hooks.py")).current_dir(&folder);
        command.status().with_context(|| format!("cannot start {}", program.display()))
    });
    let lives = gateway.try_wait().context("cannot look after the gateway")?.is_none();
    gateway.kill().and_then(|()| gateway.wait()).context("cannot end the gateway")?;
    ensure!(lives, "the gateway ended by itself; what it said stands in {}", folder.display());
    Ok(if status?.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn installed(paths: &Paths) -> Result<PathBuf> {
    let folder = paths.target.join("tools").join(format!("schemathesis-{VERSION}"));
    let program = folder.join("bin/schemathesis");
    if !program.is_file() {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let package = format!("schemathesis=={VERSION}");
        succeed(Command::new(folder.join("bin/pip")).args(["install", "--quiet", &package]))?;
    }
    Ok(program)
}

/// Starts the gateway. Free host entry is off, or made-up names would be resolved. The one target refuses every
/// connection.
fn start(paths: &Paths, folder: &Path) -> Result<Child> {
    let settings = format!(
        "server: {{ listen: \"127.0.0.1:0\", trusted_proxies: [\"127.0.0.1/32\"] }}\nnode: {{ data_dir: {:?} }}\n\
         targets: [{{ name: web-1, host: 127.0.0.1, port: 1, username: nobody }}]\n",
        folder.join("data")
    );
    let config = folder.join("config.yaml");
    fs::write(&config, settings).context("cannot write its configuration")?;
    let log = |name| File::create(folder.join(name)).context("cannot make a log");
    let mut command = Command::new(paths.binaries.join("pulsegate"));
    command.args(["serve", "--config"]).arg(config).env("PULSEGATE_ADMIN_TOKEN", TOKEN);
    command.stdin(Stdio::null()).stdout(log("stdout")?).stderr(log("stderr")?);
    command.spawn().context("cannot start the gateway")
}

/// Waits until the gateway prints its address; returns it.
fn ready(gateway: &mut Child, folder: &Path) -> Result<String> {
    let begun = Instant::now();
    while begun.elapsed() < TIMEOUT && gateway.try_wait().context("cannot look after the gateway")?.is_none() {
        let said = fs::read_to_string(folder.join("stdout")).context("cannot read what it says")?;
        if let Some((line, _)) = said.split_once('\n') {
            let url = line.strip_prefix("Pulsegate is ready: ").context("it says something else than ready")?;
            return Ok(url.trim().to_owned());
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("the gateway does not get ready; what it said stands in {}", folder.display());
}

fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot start {program}"))?;
    ensure!(status.success(), "{program} failed; what it said stands above");
    Ok(())
}
