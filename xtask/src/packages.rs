//! Operating system packages that the tests need: finds what is missing and installs it with apt-get. Knows no test.

use std::{
    env,
    io::{self, Write},
    process::Command,
};

use rustix::process::geteuid;

use crate::{paths, step::Steps};

const STEP: &str = "system packages";

/// A Debian package, recognised as installed by a program that it contains.
struct Package {
    name: &'static str,
    program: &'static str,
    purpose: &'static str,
}

const NEEDED: &[Package] = &[
    Package { name: "openssh-server", program: "sshd", purpose: "a real SSH server, started privately" },
    Package { name: "openssh-client", program: "ssh-keygen", purpose: "keys, an agent" },
    Package { name: "chromium", program: "chromium", purpose: "the web UI in a real browser" },
    Package { name: "iproute2", program: "ip", purpose: "network namespaces: hosts that can be cut off" },
    Package { name: "nftables", program: "nft", purpose: "packets dropped between them" },
    Package { name: "mariadb-server", program: "mariadbd", purpose: "a real record store, started privately" },
    Package { name: "redis-server", program: "redis-server", purpose: "a real Redis, started privately" },
    Package { name: "strace", program: "strace", purpose: "a disk that fails to sync" },
    Package { name: "asciinema", program: "asciinema", purpose: "recordings in a player that is not ours" },
    Package { name: "vim", program: "vim", purpose: "a full-screen program that is not ours" },
    Package { name: "make", program: "make", purpose: "the allocator, jemalloc, is built with it" },
    Package { name: "procps", program: "ps", purpose: "processes counted" },
];

/// Ensures that every package is installed: installs what is missing as root, in CI, or if the user agrees.
pub fn install(steps: &mut Steps) {
    let missing: Vec<&Package> = NEEDED.iter().filter(|package| paths::program(package.program).is_none()).collect();
    if missing.is_empty() {
        return steps.pass(STEP, "all there");
    }
    println!("The tests use programs that are not installed:");
    for package in &missing {
        println!("  {:<16} {}", package.name, package.purpose);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if paths::program("apt-get").is_none() {
        return steps.skip(STEP, "no apt-get here: install the programs above by hand; tests without them are skipped");
    }
    let root = geteuid().is_root();
    let automatic = env::var("CI").is_ok_and(|value| value == "true");
    if !root && !automatic && !agreed() {
        return steps.skip(STEP, "not installed; tests that need them are skipped");
    }
    // A mirror may be in the middle of an update, or another apt may hold the lock: one retry before it counts as a
    // failure.
    let twice = |arguments: &[&str]| (0..2).any(|_| succeeds(apt_get(root, automatic, arguments)));
    let install = [&["install", "--yes", "--no-install-recommends"], names.as_slice()].concat();
    if twice(&["update"]) && twice(&install) {
        steps.pass(STEP, &format!("installed {}", names.join(", ")));
    } else {
        steps.fail(STEP, &format!("apt-get failed twice; try `apt-get install {}` by hand", names.join(" ")));
    }
}

fn agreed() -> bool {
    print!("Install them with `sudo apt-get install`? A package may start its service. [y/N] ");
    let mut answer = String::new();
    // Without a terminal there is no answer, which counts as no.
    io::stdout().flush().is_ok()
        && io::stdin().read_line(&mut answer).is_ok()
        && answer.trim().eq_ignore_ascii_case("y")
}

fn apt_get(root: bool, automatic: bool, arguments: &[&str]) -> Command {
    let mut command = Command::new(if root { "env" } else { "sudo" });
    if automatic && !root {
        command.arg("--non-interactive");
    }
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "--quiet"]).args(arguments);
    command
}

fn succeeds(mut command: Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}
