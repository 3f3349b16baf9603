// Owns the UI as a person uses it: what to click, what to type, what to read. Knows the page's test ids and no test.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { until } from "./until.mjs";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/** One page of the UI. */
export class Desk {
  constructor(page) {
    this.page = page;
  }

  /** What carries this test id. */
  at(id) {
    return this.page.getByTestId(id);
  }

  /** Signs in with a token, from the page that asks who one is. */
  async signIn(token) {
    await this.at("signin-other").click();
    await this.at("signin-token").fill(token);
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

  /** Answers the prompt of this kind once it is there, and returns what it said. */
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

  /** The whole text of the terminal in front. */
  screen() {
    return this.page.evaluate(() => window.pulsegate.text());
  }

  /** Waits until the terminal in front shows what matches; a pattern with `^$` and `m` sees only answers, not typing. */
  async reads(pattern, limit) {
    let shown = "";
    const seen = until(`the terminal to show ${pattern}`, async () => pattern.exec((shown = await this.screen())), limit);
    return seen.catch((error) => assert.fail(`${error.message}; it shows:\n${shown}`));
  }

  /** Types a line and waits for the answer. */
  async ask(line, answer) {
    await this.type(line);
    return this.reads(answer);
  }

  /** The session of the terminal in front. */
  sessionId() {
    return this.at("terminal").getAttribute("data-session-id");
  }

  /** Waits until the terminal in front stands at `status`. */
  async stands(status, timeout = 15_000) {
    await this.page.locator(`[data-testid=terminal][data-status=${status}]`).waitFor({ timeout });
  }

  /** Waits for the sentence under a terminal that does not go on, and returns it. */
  async ending() {
    await this.at("closed-message").waitFor();
    return this.at("closed-message").innerText();
  }

  /** Asserts that axe finds nothing against WCAG 2.2 AA in what the page shows. */
  async isAccessible() {
    // As a program of the browser's own: the page's policy lets in no script of others.
    const session = await this.page.context().newCDPSession(this.page);
    const evaluate = async (expression) => {
      const { result, exceptionDetails } = await session.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
      assert.equal(exceptionDetails, undefined, JSON.stringify(exceptionDetails));
      return result.value;
    };
    await evaluate(readFileSync(AXE, "utf8"));
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
    const run = `axe.run(document, { runOnly: ${JSON.stringify(tags)} }).then(({ violations }) => violations)`;
    const found = (await evaluate(run)).map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
    await session.detach();
    assert.deepEqual(found, []);
  }

  /** The row of a session in the list, which must be in view. */
  row(id) {
    return this.page.locator(`[data-testid=session-row][data-id="${id}"]`);
  }
}
