// Owns everything one test starts, and ends it whatever happens; a test that fails leaves pictures of its pages.
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
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

/** No test takes longer; one that does hangs. */
const LIMIT_MS = 120_000;

/** A reason to leave a test out: something of the machine's that it needs is not there. */
export class Missing extends Error {}

/** What one test works with. */
class Lab {
  #undo = [];
  #gateways = [];
  #browsers = [];

  /** A folder that is gone afterwards. */
  folder() {
    const folder = mkdtempSync(join(tmpdir(), "pulsegate-browser-"));
    // The last of a browser's processes may still write.
    this.#undo.push(() => until(`${folder} to go`, () => rmSync(folder, { recursive: true, force: true }) ?? true));
    return folder;
  }

  /** A demo, on an island where one is given. */
  demo(settings, island) {
    return this.#start(Gateway.demo(this.folder(), settings, island));
  }

  /** A network of its own. */
  island() {
    const missing = Island.missing();
    if (missing !== null) throw new Missing(missing);
    const island = new Island();
    this.#undo.push(() => island.remove());
    return island;
  }

  /** A gateway that nobody administers yet. */
  fresh() {
    return this.#start(Gateway.fresh(this.folder()));
  }

  serve(config) {
    return this.#start(Gateway.serve(this.folder(), config));
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

  /** A browser that followed a demo's link. */
  async desk(gateway, args) {
    return this.follow(gateway, await this.browser(args));
  }

  /** Follows a demo's link in this browser. */
  async follow(gateway, browser) {
    return new Desk(await browser.open(gateway.link));
  }

  /** A line to this gateway that can be cut. */
  async line(gateway) {
    const line = await Line.start(gateway.origin);
    this.#undo.push(() => line.stop());
    return line;
  }

  /** An OpenID Connect provider. */
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

  /** What helps to understand a failure: a picture of each page, and what the gateways said. */
  async explain(t) {
    const folder = join(tmpdir(), "pulsegate-browser-failures");
    mkdirSync(folder, { recursive: true });
    const name = t.name.replaceAll(/\W+/g, "-");
    for (const [index, page] of this.#browsers.flatMap((browser) => browser.pages).entries()) {
      const path = join(folder, `${name}-${index}.png`);
      // A page may be what hangs.
      const taken = page.screenshot({ path, timeout: 5_000 }).then(() => `picture: ${path}`, String);
      t.diagnostic(await taken);
    }
    for (const gateway of this.#gateways) t.diagnostic(gateway.output);
  }

  /** Undoes everything, newest first, whatever goes wrong on the way; rejects with what did. */
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

/** A test by the promise it holds; `body` is given a lab. */
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
