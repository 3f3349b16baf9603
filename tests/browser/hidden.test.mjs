// Tests pages that get no CPU time: hidden, frozen by their browser, or stopped with it. None of that may end a shell.
import assert from "node:assert/strict";
import { Desk } from "./support/desk.mjs";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

/** Chromium wakes a hidden page once a minute, here after a second and not after five minutes. */
const THROTTLED = "--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/1";
const BRISK = { "monitor.ping_interval": "1s", "monitor.ping_timeout": "3s" };
/** Shortest interval at which Chromium wakes any hidden page; a visible one is woken ten times as often here. */
const MILD_MS = 1_000;
/** A little more than three ping timeouts. */
const LONG_MS = 10_000;
const SIX_MINUTES_MS = 360_000;
/** Chromium's limit of connections to one host over HTTP/1.1, for all its tabs together. */
const CONNECTIONS = 6;

promise("a hidden tab keeps its shell through six minutes of throttled timers", async (lab) => {
  const gateway = await lab.demo(BRISK);
  const desk = await lab.desk(gateway, [THROTTLED]);
  const id = await desk.openPlayground();
  await desk.page.evaluate(() => {
    window.ticks = 0;
    setInterval(() => (window.ticks += 1), 100);
  });
  await (await desk.page.context().newPage()).bringToFront();
  assert.equal(await desk.page.evaluate(() => document.visibilityState), "hidden");
  await lives(gateway, id, LONG_MS);
  const awake = () => desk.page.evaluate(() => window.ticks);
  const ticks = await awake();
  assert.ok(ticks < LONG_MS / 500, `${ticks} wake-ups in ten seconds: this tab is not throttled`);

  const clock = await PageClock.of(desk.page);
  const [before, ticksBefore] = [await clock.now(), await awake()];
  await clock.advance(SIX_MINUTES_MS);
  const wound = (await awake()) - ticksBefore;
  assert.ok(wound < SIX_MINUTES_MS / MILD_MS / 2, `${wound} wake-ups in six minutes: this tab is not throttled hard`);
  assert.ok((await clock.now()) - before >= SIX_MINUTES_MS);
  await neverLeft(gateway, id);

  await desk.page.bringToFront();
  await clock.runningOn(() => desk.ask("echo still here", /^still here$/m));
});

promise("a tab that its browser froze comes back to its shell", async (lab) => {
  const gateway = await lab.demo(BRISK);
  const desk = await lab.desk(gateway);
  const id = await desk.openPlayground();
  await desk.ask("echo before", /^before$/m);
  await (await desk.page.context().newPage()).bringToFront();
  const cdp = await desk.page.context().newCDPSession(desk.page);
  await cdp.send("Page.setWebLifecycleState", { state: "frozen" });
  await lives(gateway, id, LONG_MS / 2);
  // Chromium closes a frozen tab's socket the moment it wakes.
  await cdp.send("Page.setWebLifecycleState", { state: "active" });
  await desk.page.bringToFront();
  await desk.stands("active");
  assert.equal(await desk.sessionId(), id);
  await desk.ask("echo after", /^before\n.*^after$/ms);
});

promise("a browser that hangs is detached within 15 seconds, and finds its shell when it goes on", async (lab) => {
  const gateway = await lab.demo();
  const browser = await lab.browser();
  const desk = await lab.follow(gateway, browser);
  const id = await desk.openPlayground();
  await desk.ask("echo before", /^before$/m);
  browser.freeze();
  await gateway.listed(id, "detached", 15_000);
  browser.thaw();
  await gateway.listed(id, "active");
  await desk.stands("active");
  assert.equal(await desk.sessionId(), id);
  await desk.ask("echo after", /^before\n.*^after$/ms);
});

promise("a browser that hangs does not supersede a page that opened its shell elsewhere meanwhile", async (lab) => {
  const gateway = await lab.demo(BRISK);
  const browser = await lab.browser();
  const desk = await lab.follow(gateway, browser);
  const id = await desk.openPlayground();
  browser.freeze();
  await gateway.listed(id, "detached", 15_000);
  const elsewhere = new Desk(await (await lab.browser()).open(gateway.origin));
  await elsewhere.signIn(gateway.token);
  await elsewhere.at("nav-sessions").click();
  await elsewhere.row(id).getByTestId("session-open").click();
  await elsewhere.ask("echo elsewhere", /^elsewhere$/m);
  browser.thaw();
  assert.match(await desk.ending(), /opened elsewhere/);
  await elsewhere.ask("echo unharmed", /^unharmed$/m);
  await desk.at("take-back").click();
  await desk.ask("echo back", /^back$/m);
});

promise("lists in hidden tabs leave the connections to the tab in front", async (lab) => {
  const gateway = await lab.demo();
  const browser = await lab.browser();
  const desk = await lab.follow(gateway, browser);
  await desk.at("target-playground").waitFor();
  for (let nth = 0; nth < CONNECTIONS; nth += 1) {
    const list = new Desk(await browser.open(`${gateway.origin}/#/sessions`));
    await list.page.getByText(/^as of/).waitFor();
  }
  await desk.page.bringToFront();
  await desk.openPlayground();
});

promise("lists in more windows side by side than a browser has connections all show what happens", async (lab) => {
  const gateway = await lab.demo();
  const browser = await lab.browser();
  const desk = await lab.follow(gateway, browser);
  await desk.at("target-playground").waitFor();
  const lists = [];
  for (let nth = 0; nth <= CONNECTIONS; nth += 1) {
    const list = new Desk(await browser.window(`${gateway.origin}/#/sessions`));
    await list.page.getByText(/^as of/).waitFor();
    lists.push(list);
  }
  const visible = await Promise.all(lists.map(({ page }) => page.evaluate(() => document.visibilityState)));
  assert.deepEqual(new Set(visible), new Set(["visible"]));
  const id = await desk.openPlayground();
  for (const list of lists) await list.row(id).waitFor();
});

/** Waits until the gateway has seen the session live for `ms`, attached all the time. */
async function lives(gateway, id, ms) {
  const born = Date.now();
  await until(`session ${id} to live on`, async () => {
    const { status } = await gateway.get(`/sessions/${id}`);
    return status !== "active" || Date.now() - born > ms;
  }, ms * 2);
  await neverLeft(gateway, id);
}

/** Asserts that the session is attached, and was all the time. */
async function neverLeft(gateway, id) {
  const { session, history } = await gateway.get(`/sessions/${id}/why`);
  assert.equal(session.status, "active");
  assert.deepEqual(history.map((event) => event.status).filter((status) => status === "detached"), []);
}

/** A page's own clock, which can be wound forward: its timers and its time follow, the world outside does not. */
class PageClock {
  #page;
  #cdp;

  static async of(page) {
    const clock = new PageClock();
    clock.#page = page;
    clock.#cdp = await page.context().newCDPSession(page);
    return clock;
  }

  now() {
    return this.#page.evaluate(() => performance.now());
  }

  /** Stops the page's time afterwards. */
  async advance(ms) {
    const passed = new Promise((resolve) => this.#cdp.once("Emulation.virtualTimeBudgetExpired", resolve));
    await this.#cdp.send("Emulation.setVirtualTimePolicy", { policy: "advance", budget: ms });
    await passed;
  }

  /** Does `work` while the page's time goes on in small steps. */
  async runningOn(work) {
    let done = false;
    const ended = work().finally(() => (done = true));
    while (!done) await this.advance(50);
    return ended;
  }
}
