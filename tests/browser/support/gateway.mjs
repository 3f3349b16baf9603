// Owns one gateway under test: the release binary in a folder of its own, and its HTTP side as a program sees it.
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Program } from "./process.mjs";
import { until } from "./until.mjs";

/** A running `pulsegate`. */
export class Gateway {
  /** Signs in as `admin`; the same over a restart. */
  token = randomBytes(24).toString("hex");
  #command;
  #folder;
  #env;
  #program;
  #island;

  /** `folder` holds its data and is its working directory; `settings` are keys such as `session.reattach_window`. */
  constructor(command, folder, settings = {}) {
    this.#command = command;
    this.#folder = folder;
    const keys = Object.entries(settings).map(([key, value]) => [
      `PULSEGATE__${key.toUpperCase().replaceAll(".", "__")}`,
      value,
    ]);
    this.#env = { PULSEGATE_ADMIN_TOKEN: this.token, ...Object.fromEntries(keys) };
  }

  /** Creates a `pulsegate demo`, with data that a restart finds again. */
  static demo(folder, settings, island) {
    const gateway = new Gateway("demo", folder, settings);
    gateway.#island = island;
    return gateway;
  }

  /** Creates a `pulsegate serve` with this configuration file. */
  static serve(folder, config) {
    writeFileSync(join(folder, "config.yaml"), config);
    return new Gateway("serve", folder, { "server.listen": "127.0.0.1:0" });
  }

  /** Creates a `pulsegate serve` that has no administrator yet; its link creates the first one. */
  static fresh(folder) {
    const gateway = Gateway.serve(folder, "");
    delete gateway.#env.PULSEGATE_ADMIN_TOKEN;
    return gateway;
  }

  /** The folder of its data. */
  get data() {
    return join(this.#folder, "data");
  }

  /** Starts, or starts again where it was. */
  async start() {
    const binary = process.env.PULSEGATE;
    if (!binary) throw new Error("PULSEGATE must name the release binary");
    const { data } = this;
    const listen = this.origin === undefined ? `${this.#island?.host ?? "127.0.0.1"}:0` : new URL(this.origin).host;
    const args = this.#command === "demo" ? ["demo", "--listen", listen, "--data-dir", data] : [this.#command];
    const [program, ...all] = [...(this.#island?.within ?? []), binary, "--json", ...args];
    this.#program = new Program(program, all, { cwd: this.#folder, env: this.#env });
    const [, address] = await this.#program.printed(/"message":"ready".*"addr":"([^"]+)"/);
    /** The origin, as a browser writes it. */
    this.origin = `http://${address}`;
    if (this.#command === "demo" || this.#env.PULSEGATE_ADMIN_TOKEN === undefined) {
      const [, link] = await this.#program.printed(/^Pulsegate is ready: (http\S+)$/);
      /** Signs in, or sets up, once. */
      this.link = link;
    }
  }

  /** Kills it, as a crash would. */
  kill() {
    return this.#program.stop("SIGKILL");
  }

  async stop() {
    await this.#program?.stop();
  }

  get output() {
    return this.#program?.output ?? "";
  }

  /** Fetches from its API, as a program with a token. */
  get(path) {
    return this.#ask("GET", path);
  }

  /** Requests a change, by `POST` or `PATCH`. */
  change(method, path, body) {
    return this.#ask(method, path, JSON.stringify(body));
  }

  async #ask(method, path, body) {
    const headers = { authorization: `Bearer ${this.token}`, "content-type": "application/json" };
    const response = await fetch(`${this.origin}/api/v1${path}`, { method, headers, body });
    const answer = await response.json();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(answer)}`);
    return answer;
  }

  /** Returns every session it lists, newest first. */
  async sessions() {
    return (await this.get("/sessions")).items;
  }

  /** Resolves to the session as the list has it, once it has this status. */
  listed(id, status, limit) {
    return until(`session ${id} to be listed as ${status}`, async () => {
      const session = (await this.sessions()).find((session) => session.id === id);
      if (session?.status !== status) throw new Error(`it is ${session?.status} (${session?.end_reason})`);
      return session;
    }, limit);
  }
}
