// Owns everything one test starts, and ends it whatever happens; a test that fails leaves pictures of its pages.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { Browser } from "./browser.mjs";
import { Desk } from "./desk.mjs";
import { Gateway } from "./gateway.mjs";
import { Island } from "./island.mjs";
import { Line } from "./line.mjs";
import { Provider } from "./provider.mjs";
import { Sshd } from "./sshd.mjs";
import { until } from "./until.mjs";

/** Time limit of a test; one that takes longer hangs. */
const LIMIT_MS = 120_000;

/** A reason to skip a test: the machine lacks something that it needs. */
export class Missing extends Error {}

/** The resources of one test. */
class Lab {
  #undo = [];
  #gateways = [];
  #browsers = [];

  /** Creates a folder that is removed afterwards. */
  folder() {
    const folder = mkdtempSync(join(tmpdir(), "pulsegate-browser-"));
    // The last processes of a browser may still write.
    this.#undo.push(() => until(`${folder} to go`, () => rmSync(folder, { recursive: true, force: true }) ?? true));
    return folder;
  }

  /** Starts a demo, on an island if one is given. */
  demo(settings, island) {
    return this.#start(Gateway.demo(this.folder(), settings, island));
  }

  /** Creates a separate network. */
  island() {
    const missing = Island.missing();
    if (missing !== null) throw new Missing(missing);
    const island = new Island();
    this.#undo.push(() => island.remove());
    return island;
  }

  /** Starts a gateway that has no administrator yet. */
  fresh() {
    return this.#start(Gateway.fresh(this.folder()));
  }

  serve(config) {
    return this.#start(Gateway.serve(this.folder(), config));
  }

  /** Starts a gateway with the one target `build-box`, whose host key it knows by so many lines of its file. */
  serveBox(sshd, { lines = 1, config = "" } = {}) {
    const knownHosts = join(this.folder(), "known_hosts");
    writeFileSync(knownHosts, sshd.knownHost.repeat(lines));
    return this.serve(`${config}
ssh:
  known_hosts: ${knownHosts}
targets:
  - name: build-box
    host: 127.0.0.1
    port: ${sshd.port}
    username: ${sshd.user}
    auth: { key_file: ${sshd.userKey} }
`);
  }

  async #start(gateway) {
    this.#gateways.push(gateway);
    this.#undo.push(() => gateway.stop());
    await gateway.start();
    return gateway;
  }

  async browser(args) {
    const [folder, browser] = [this.folder(), new Browser()];
    this.#browsers.push(browser);
    this.#undo.push(() => browser.stop());
    await browser.start(folder, args);
    return browser;
  }

  /** Starts a browser and follows a demo's link in it. */
  async desk(gateway, args) {
    return this.follow(gateway, await this.browser(args));
  }

  /** Follows a demo's link in this browser. */
  async follow(gateway, browser) {
    return new Desk(await browser.open(gateway.link));
  }

  /** Opens a line to this gateway that can be cut. */
  async line(gateway) {
    const line = await Line.start(gateway.origin);
    this.#undo.push(() => line.stop());
    return line;
  }

  /** Starts an OpenID Connect provider. */
  async provider() {
    const provider = await Provider.start();
    this.#undo.push(() => provider.stop());
    return provider;
  }

  async sshd(options) {
    const missing = Sshd.missing(options);
    if (missing !== null) throw new Missing(missing);
    const sshd = await Sshd.start(this.folder(), options);
    this.#undo.push(() => sshd.stop());
    return sshd;
  }

  /** Reports what helps to understand a failure: a picture of each page, and the output of the gateways. */
  async explain(t) {
    const folder = join(tmpdir(), "pulsegate-browser-failures");
    mkdirSync(folder, { recursive: true });
    const name = t.name.replaceAll(/\W+/g, "-");
    for (const [index, page] of this.#browsers.flatMap((browser) => browser.pages).entries()) {
      const path = join(folder, `${name}-${index}.png`);
      // The page itself may hang.
      const taken = page.screenshot({ path, timeout: 5_000 }).then(() => `picture: ${path}`, String);
      t.diagnostic(await taken);
    }
    for (const gateway of this.#gateways) t.diagnostic(gateway.output);
  }

  /** Undoes everything, newest first, even if a step fails; rejects with the errors. */
  async close() {
    const errors = [];
    for (const undo of this.#undo.reverse()) {
      try {
        await undo();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw new AggregateError(errors, errors.map(String).join("; "));
  }
}

/** Defines a test, named by the promise that it checks; `body` receives a lab. */
export function promise(name, body) {
  test(name, { timeout: LIMIT_MS }, async (t) => {
    const lab = new Lab();
    try {
      await body(lab, t);
    } catch (error) {
      if (error instanceof Missing) {
        console.log(`skipped: ${error.message}`);
        return t.skip(error.message);
      }
      await lab.explain(t);
      throw error;
    } finally {
      await lab.close();
    }
  });
}
