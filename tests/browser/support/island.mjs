// Owns a separate network for one test: a namespace with one cable to this one, on which packets can be dropped
// silently, as by a network that is gone. Knows no program in it.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";

/** A network namespace; the machine's own reaches it by one cable. */
export class Island {
  #name;

  /** Returns why no namespace can be created here, or `null`. */
  static missing() {
    if (process.getuid() !== 0) return "a network namespace needs root";
    return existsSync("/usr/sbin/nft") ? null : "a network namespace needs nft";
  }

  constructor() {
    // Does not collide with the networks of the other tests, which count from the other end.
    const nth = 250 - (process.pid % 100);
    const cable = `pgb${nth}`;
    this.#name = `pulsegate-browser-${nth}`;
    ip("netns", "add", this.#name);
    /** The address on which a program in it listens. */
    this.host = `198.19.${nth}.2`;
    ip("link", "add", cable, "type", "veth", "peer", "name", "inside", "netns", this.#name);
    ip("addr", "add", `198.19.${nth}.1/30`, "dev", cable);
    ip("link", "set", cable, "up");
    this.#run("ip", "addr", "add", `${this.host}/30`, "dev", "inside");
    this.#run("ip", "link", "set", "inside", "up");
    this.#run("ip", "link", "set", "lo", "up");
  }

  /** The start of a command line that runs a program in it. */
  get within() {
    return ["ip", "netns", "exec", this.#name];
  }

  /** Drops every packet on the cable from now on, silently. */
  drops() {
    this.#run("nft", "add table inet cut");
    for (const [hook, rule] of [["input", "iifname"], ["output", "oifname"]]) {
      this.#run("nft", `add chain inet cut ${hook} { type filter hook ${hook} priority 0 ; }`);
      this.#run("nft", `add rule inet cut ${hook} ${rule} inside drop`);
    }
  }

  /** Lets packets pass again. */
  passes() {
    this.#run("nft", "delete table inet cut");
  }

  /** Removes the namespace, and the cable with it. */
  remove() {
    ip("netns", "del", this.#name);
  }

  #run(...command) {
    ip("netns", "exec", this.#name, ...command);
  }
}

function ip(...args) {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"] });
}
