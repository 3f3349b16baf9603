// Owns one Chromium for one test: started as users start it, so that a background tab really is hidden and throttled.
import { join } from "node:path";
import { chromium } from "playwright-core";
import { Program } from "./process.mjs";
import { until } from "./until.mjs";

/** Time limit for anything that a test expects of a page. */
const TIMEOUT_MS = 15_000;
const ARGUMENTS = [
  "--headless",
  "--remote-debugging-port=0",
  "--window-size=1280,800",
  "--no-first-run",
  "--disable-breakpad",
  "--disable-component-update",
  "--disable-background-networking",
];

/** A browser and its windows. */
export class Browser {
  #program;
  #connection;

  /** Starts Chromium with a profile in `folder`. */
  async start(folder, more = []) {
    // Chromium refuses its sandbox to root.
    const sandbox = process.getuid() === 0 ? ["--no-sandbox"] : [];
    const args = [...ARGUMENTS, ...sandbox, `--user-data-dir=${join(folder, "profile")}`, ...more, "about:blank"];
    this.#program = new Program(process.env.CHROMIUM || "/usr/bin/chromium", args);
    const [, address] = await this.#program.printed(/^DevTools listening on (ws:\S+)/);
    // Playwright waits forever for a first tab that appears while it connects.
    const tabs = new URL("/json/list", address.replace("ws:", "http:"));
    await until("the first tab", async () => (await (await fetch(tabs)).json()).some(({ type }) => type === "page"));
    // Playwright's defaults would make every tab count as the one in front.
    this.#connection = await chromium.connectOverCDP(address, { noDefaults: true });
    this.context.setDefaultTimeout(TIMEOUT_MS);
  }

  get context() {
    return this.#connection.contexts()[0];
  }

  /** Every open page. */
  get pages() {
    return this.#connection?.contexts().flatMap((context) => context.pages()) ?? [];
  }

  /** Opens a new tab, in front. */
  async open(url) {
    const page = await this.context.newPage();
    await page.goto(url);
    return page;
  }

  /** Opens a new window, beside all others. */
  async window(url) {
    const session = await this.#connection.newBrowserCDPSession();
    const opened = this.context.waitForEvent("page");
    await session.send("Target.createTarget", { url: "about:blank", newWindow: true });
    await session.detach();
    const page = await opened;
    await page.goto(url);
    return page;
  }

  /** Stops every process of this browser, as if the machine hung. */
  freeze() {
    this.#program.signalAll("SIGSTOP");
  }

  /** Lets these processes continue. */
  thaw() {
    this.#program.signalAll("SIGCONT");
  }

  async stop() {
    if (this.#program === undefined) return;
    this.thaw();
    await this.#program.stop();
  }
}
