// Owns a private OpenSSH server: own keys, own configuration, own port, and one `sshd -i` for each connection.
import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { userInfo } from "node:os";
import { join } from "node:path";
import { tell } from "./process.mjs";

const SSHD = "/usr/sbin/sshd";
const isRoot = process.getuid() === 0;

/** A server that lets in one user: the test's own by key, or a new one by password. */
export class Sshd {
  #folder;
  #connections = new Set();
  #listener;

  /** Returns why a server with these options cannot run here, or `null`. */
  static missing({ login }) {
    if (!existsSync(SSHD)) return "no OpenSSH server";
    if (login !== "key" && !isRoot) return "a user with a password needs root";
    return null;
  }

  /** Starts a server whose user signs in by `login`: `key`, `password` or `keyboard_interactive`. */
  static async start(folder, { login }) {
    const sshd = new Sshd();
    sshd.#folder = folder;
    // The directory of sshd's unprivileged process; Debian creates it when the service starts.
    if (isRoot) mkdirSync("/run/sshd", { recursive: true });
    chmodSync(folder, 0o755);
    sshd.renewHostKey();
    keygen(sshd.userKey);
    copyFileSync(`${sshd.userKey}.pub`, join(folder, "authorized_keys"));
    if (login === "key") sshd.user = userInfo().username;
    else sshd.#addUser();
    writeFileSync(sshd.#config, configuration(folder, login));
    sshd.#listener = createServer({ pauseOnConnect: true }, (socket) => sshd.#serve(socket));
    sshd.#listener.listen(0, "127.0.0.1");
    await once(sshd.#listener, "listening");
    return sshd;
  }

  get port() {
    return this.#listener.address().port;
  }

  /** The destination, as the quick-connect box takes it. */
  get destination() {
    return `${this.user}@127.0.0.1:${this.port}`;
  }

  /** The user's private key, without a passphrase. */
  get userKey() {
    return join(this.#folder, "user");
  }

  /** The host key's fingerprint as OpenSSH writes it: `SHA256:…`. */
  get fingerprint() {
    return run("ssh-keygen", ["-lf", `${this.#hostKey}.pub`]).split(" ")[1];
  }

  /** The known_hosts line of this server. */
  get knownHost() {
    return `[127.0.0.1]:${this.port} ${readFileSync(`${this.#hostKey}.pub`, "utf8")}`;
  }

  /** Gives the server another host key from the next connection on. */
  renewHostKey() {
    for (const file of [this.#hostKey, `${this.#hostKey}.pub`]) rmSync(file, { force: true });
    keygen(this.#hostKey);
  }

  async stop() {
    this.#listener.close();
    const gone = [...this.#connections].map((child) => once(child, "exit"));
    for (const child of this.#connections) tell(-child.pid, "SIGKILL");
    await Promise.all(gone);
    // sshd's processes of that user may take a moment to end; -f does not wait for them.
    if (this.password !== undefined) run("userdel", ["-f", "-r", this.user]);
  }

  get #hostKey() {
    return join(this.#folder, "host");
  }

  get #config() {
    return join(this.#folder, "sshd_config");
  }

  #addUser() {
    const random = randomBytes(8).toString("hex");
    this.user = `pg-${random.slice(0, 8)}`;
    this.password = `pw-${random}`;
    const hash = run("openssl", ["passwd", "-6", this.password]).trim();
    run("useradd", ["-m", "-s", "/bin/bash", "-p", hash, this.user]);
  }

  #serve(socket) {
    const args = ["-i", "-f", this.#config, "-E", join(this.#folder, "log")];
    // A group of its own, so that the shell it becomes ends with it.
    const child = spawn(SSHD, args, { stdio: [socket, socket, "ignore"], detached: true });
    this.#connections.add(child);
    child.once("exit", () => this.#connections.delete(child));
    socket.destroy();
  }
}

function configuration(folder, login) {
  // The tester's own settings of a shell, and its history, are none of a test's business.
  const home = login === "key" ? `SetEnv HOME=${folder}` : "";
  const yes = (wanted) => (wanted ? "yes" : "no");
  return `
HostKey ${join(folder, "host")}
AuthorizedKeysFile ${join(folder, "authorized_keys")}
StrictModes no
PidFile none
PermitRootLogin yes
PrintMotd no
PrintLastLog no
UsePAM ${yes(login === "keyboard_interactive")}
KbdInteractiveAuthentication ${yes(login === "keyboard_interactive")}
PasswordAuthentication ${yes(login === "password")}
${home}
`;
}

function keygen(path) {
  run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path]);
}

function run(program, args) {
  return execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}
