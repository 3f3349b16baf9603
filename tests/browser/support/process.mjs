// Owns the processes that a test starts: their output, and that neither they nor their children outlive the test.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { until } from "./until.mjs";

const GRACE_MS = 5_000;

/** A started program; everything that it prints is kept for a test that fails. */
export class Program {
  #child;
  #lines = [];

  /** Starts `path`; `env` is added to this process's own, where `undefined` removes a variable. */
  constructor(path, args, { env = {}, cwd } = {}) {
    this.#child = spawn(path, args, { env: { ...process.env, ...env }, cwd, stdio: ["ignore", "pipe", "pipe"] });
    this.#child.on("error", (error) => this.#lines.push(String(error)));
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => this.#lines.push(line));
    }
  }

  get pid() {
    return this.#child.pid;
  }

  get ended() {
    return this.#child.pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Everything printed so far. */
  get output() {
    return this.#lines.join("\n");
  }

  /** Resolves to the match of the first printed line that has one. */
  printed(pattern) {
    return until(`a line like ${pattern}`, () => {
      const match = this.#lines.map((line) => pattern.exec(line)).find((match) => match !== null);
      if (match === undefined && this.ended) throw new Error(`it ended: ${this.output}`);
      return match;
    });
  }

  /** Sends a signal to the program and to everything below it. */
  signalAll(signal) {
    for (const pid of family(this.pid)) tell(pid, signal);
  }

  /** Ends the program with `signal`, and kills it if that takes too long. */
  async stop(signal = "SIGTERM") {
    if (this.ended) return;
    const below = family(this.pid);
    const gone = once(this.#child, "exit");
    tell(this.pid, signal);
    const late = setTimeout(() => below.forEach((pid) => tell(pid, "SIGKILL")), GRACE_MS);
    await gone;
    clearTimeout(late);
    // Its children may be slower to end than the program itself.
    await until("everything below to end", () => {
      const left = below.filter(alive);
      left.forEach((pid) => tell(pid, "SIGKILL"));
      return left.length === 0;
    });
  }
}

/** Returns the process and everything below it, parents first. */
function family(root) {
  const children = new Map();
  for (const { pid, parent } of readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(status).filter(Boolean)) {
    children.set(parent, [...(children.get(parent) ?? []), pid]);
  }
  const found = [root];
  for (const pid of found) found.push(...(children.get(pid) ?? []));
  return found;
}

/** Reads `/proc/PID/stat` (proc(5)): `pid (name) state ppid …`, where the name may hold anything. */
function status(pid) {
  try {
    const [state, parent] = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1).split(" ");
    return { pid: Number(pid), parent: Number(parent), state };
  } catch {
    return null; // it ended meanwhile
  }
}

function alive(pid) {
  return !["Z", "X", undefined].includes(status(pid)?.state);
}

/** Sends a signal to a process, or to the group `-pid`; nothing happens if it ended meanwhile. */
export function tell(pid, signal) {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (error.code !== "ESRCH") throw error;
  }
}
