// Owns using the UI as a user does: clicking, typing and reading. Knows the page's test ids and no test.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { until } from "./until.mjs";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/** Most presses of the Tab key on the way to an element; no page has more stops. */
const LONGEST_WAY = 80;

/** One page of the UI. */
export class Desk {
  constructor(page) {
    this.page = page;
  }

  /** Returns the element with this test id. */
  at(id) {
    return this.page.getByTestId(id);
  }

  /** Signs in with a token, on the sign-in page. */
  async signIn(token) {
    await this.at("signin-other").click();
    await this.at("signin-token").fill(token);
    await this.at("signin-submit").click();
  }

  /** Types a user's name and password on the sign-in page, and sends them. */
  async signInAs(name, password) {
    await this.at("signin-name").fill(name);
    await this.at("signin-password").fill(password);
    await this.at("signin-submit").click();
  }

  /** Opens the playground's terminal and waits for its prompt. */
  async openPlayground() {
    await this.at("target-playground").click();
    await this.reads(/^Pulsegate playground$/m);
    return this.sessionId();
  }

  /** Types a destination into the quick-connect box and goes there. */
  async quickConnect(destination) {
    await this.at("quick-connect").fill(destination);
    await this.at("quick-connect-submit").click();
  }

  /** Answers the prompt of this kind once it is there, and returns its text. */
  async answer(kind, act) {
    const prompt = this.page.locator(`[data-testid=prompt][data-kind=${kind}]`);
    await prompt.waitFor();
    const text = await prompt.innerText();
    await act(prompt);
    return text;
  }

  trustHostKey() {
    return this.answer("host_key", () => this.at("prompt-yes").click());
  }

  /** Types into the prompt's one field. */
  fillPrompt(kind, value) {
    return this.answer(kind, async () => {
      await this.at("prompt-field-0").fill(value);
      await this.at("prompt-submit").click();
    });
  }

  /** Types a line into the terminal in front, as keys. */
  async type(line) {
    await this.at("terminal").click();
    await this.page.keyboard.type(line);
    await this.page.keyboard.press("Enter");
  }

  /** Returns the whole text of the terminal in front. */
  screen() {
    return this.page.evaluate(() => window.pulsegate.text());
  }

  /** Waits until the terminal in front shows a match; a pattern with `^$` and `m` matches only answers, not typing. */
  async reads(pattern, limit) {
    let shown = "";
    const seen = until(`the terminal to show ${pattern}`, async () => pattern.exec((shown = await this.screen())), limit);
    return seen.catch((error) => assert.fail(`${error.message}; it shows:\n${shown}`));
  }

  /** Reloads the page, and waits for the same shell with the same screen. */
  async reload() {
    const [id, screen] = [await this.sessionId(), await this.screen()];
    await this.page.reload();
    await this.stands("active");
    assert.equal(await this.sessionId(), id);
    await until("the same screen", async () => (await this.screen()) === screen);
  }

  /** Types a line and waits for the answer. */
  async ask(line, answer) {
    await this.type(line);
    return this.reads(answer);
  }

  /** Returns the session id of the terminal in front. */
  sessionId() {
    return this.at("terminal").getAttribute("data-session-id");
  }

  /** Waits until the terminal in front has this status. */
  async stands(status, timeout = 15_000) {
    await this.page.locator(`[data-testid=terminal][data-status=${status}]`).waitFor({ timeout });
  }

  /** Waits until the dot in the tab of this session says so; of a terminal that is connected it says nothing. */
  async dotSays(id, word) {
    const mark = this.at(`tab-${id}`).getByRole("img");
    await (word === null ? mark.waitFor({ state: "detached" }) : mark.and(this.page.getByLabel(word)).waitFor());
  }

  /** Waits for the message under a terminal that has ended, and returns it. */
  async ending() {
    await this.at("closed-message").waitFor();
    return this.at("closed-message").innerText();
  }

  /** Returns the test id of the one main button under a terminal that has ended. */
  mainButton() {
    return this.at("closed-message").locator(".primary").getAttribute("data-testid");
  }

  /** Asserts that axe finds nothing in what the page shows. */
  async isAccessible() {
    assert.deepEqual(await this.barriers(), []);
  }

  /** Returns axe's findings in what the page shows, dark and light, by WCAG 2.2 AA and axe's own best practices. */
  async barriers() {
    // Run in the browser itself: the page's content security policy admits no foreign script.
    const session = await this.page.context().newCDPSession(this.page);
    const evaluate = async (expression) => {
      const { result, exceptionDetails } = await session.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
      assert.equal(exceptionDetails, undefined, JSON.stringify(exceptionDetails));
      return result.value;
    };
    await evaluate(readFileSync(AXE, "utf8"));
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    // Text that a target paints dim is meant to be dim.
    const run = `axe.run({ exclude: [".xterm-dim"] }, { runOnly: ${JSON.stringify(tags)} }).then(({ violations }) => violations)`;
    const found = [];
    for (const value of ["dark", "light"]) {
      await session.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value }] });
      const violations = await evaluate(run);
      const told = ({ html, failureSummary }) => `${html} ${failureSummary}`;
      found.push(...violations.map(({ id, nodes }) => `${value}, ${id}: ${nodes.map(told).join(" ")}`));
    }
    await session.send("Emulation.setEmulatedMedia", { features: [] });
    await session.detach();
    return found;
  }

  /** Presses Tab until the focus is on the element with this test id; each stop on the way must be visible. */
  async tabTo(id, key = "Tab") {
    for (let stop = 0; stop < LONGEST_WAY; stop += 1) {
      const at = await this.focus();
      if (at.id === id) return;
      await this.page.keyboard.press(key);
      const next = await this.focus();
      assert.ok(next.seen, `the focus cannot be seen on ${JSON.stringify(next)}`);
    }
    assert.fail(`no way by ${key} to ${id}`);
  }

  /** Returns the element with the focus, and whether the focus is visible there. */
  focus() {
    return this.page.evaluate(() => {
      const at = document.activeElement;
      if (at === null || at === document.body) return { id: "", tag: "body", seen: true };
      const { outlineStyle, outlineWidth } = getComputedStyle(at);
      const { left, top, right, bottom } = at.getBoundingClientRect();
      const inView = right > 0 && bottom > 0 && left < innerWidth && top < innerHeight;
      // A terminal shows it by its cursor.
      const marked = (outlineStyle !== "none" && parseFloat(outlineWidth) >= 1) || at.classList.contains("xterm-helper-textarea");
      return { id: at.dataset.testid ?? "", tag: at.outerHTML.slice(0, 120), seen: inView && marked };
    });
  }

  /** Returns the row of a session in the list, which must be in view. */
  row(id) {
    return this.page.locator(`[data-testid=session-row][data-id="${id}"]`);
  }
}
