// Tests a terminal under fingers: the keys that a phone's keyboard lacks, that a swipe scrolls, and that a long press
// selects.
import assert from "node:assert/strict";
import { join } from "node:path";
import { Desk } from "./support/desk.mjs";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

const PASSWORD = "correct horse battery";
/** A small phone's window, in pixels. */
const PHONE = { width: 375, height: 667 };
/** Smallest size of what a finger hits (WCAG 2.2, 2.5.5), in pixels. */
const TARGET = 44;

/** One finger on a page. */
class Finger {
  #session;
  #page;

  /** Makes a page one on a phone. */
  static async on({ page }, size = PHONE) {
    const finger = new Finger();
    finger.#page = page;
    finger.#session = await page.context().newCDPSession(page);
    await finger.#session.send("Emulation.setTouchEmulationEnabled", { enabled: true, maxTouchPoints: 2 });
    await finger.#session.send("Emulation.setDeviceMetricsOverride", { ...size, deviceScaleFactor: 2, mobile: true });
    return finger;
  }

  async #touch(type, ...touchPoints) {
    await this.#session.send("Input.dispatchTouchEvent", { type, touchPoints });
  }

  async tap(locator) {
    const { x, y, width, height } = await locator.boundingBox();
    await this.#touch("touchStart", { x: x + width / 2, y: y + height / 2 });
    await this.#touch("touchEnd");
  }

  /** Draws the finger over an element, from its middle, in steps of a few pixels. */
  async swipe(locator, right, down) {
    const { x, y, width, height } = await locator.boundingBox();
    const [from, steps] = [{ x: x + width / 2, y: y + height / 2 }, Math.ceil(Math.hypot(right, down) / 10)];
    await this.#touch("touchStart", from);
    for (let step = 1; step <= steps; step += 1) {
      await this.#touch("touchMove", { x: from.x + (right * step) / steps, y: from.y + (down * step) / steps });
    }
    await this.#touch("touchEnd");
  }

  /** Holds the finger on a place until something is selected there; then draws it to the other places. */
  async hold(place, ...ways) {
    await this.#touch("touchStart", place);
    await this.#page.locator(".selecting").waitFor();
    for (const way of ways) await this.#touch("touchMove", way);
    await this.#touch("touchEnd");
  }

  /** Draws the finger from one place to another. */
  async draw(from, to) {
    await this.#touch("touchStart", from);
    for (const part of [0.5, 1]) await this.#touch("touchMove", { x: from.x + (to.x - from.x) * part, y: from.y + (to.y - from.y) * part });
    await this.#touch("touchEnd");
  }

  /** Composes a word as a soft keyboard does that completes words: nothing of it counts as typed yet. */
  async compose(text) {
    await this.#session.send("Input.imeSetComposition", { text, selectionStart: text.length, selectionEnd: text.length });
  }

  /** Takes a picture in both schemes, if pictures are wanted. */
  async picture(name) {
    if (!process.env.PICTURES) return;
    for (const value of ["dark", "light"]) {
      await this.#session.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value }] });
      await this.#page.screenshot({ path: join(process.env.PICTURES, `touch-${name}-${value}.png`) });
    }
    await this.#session.send("Emulation.setEmulatedMedia", { features: [] });
  }
}

/** Returns the function that presses a key under the terminal. */
const presser = (desk, finger) => (name) => finger.tap(desk.at("keys").getByRole("button", { name, exact: true }));

/** Returns the lines of a terminal that are in sight. */
const inSight = (desk, place = "terminal") => desk.page.locator(`[data-testid=${place}] .xterm-rows`).innerText();

/** Collects what the terminals of this page send from now on, as one text. */
function listen(desk) {
  const sent = { text: "" };
  desk.page.on("websocket", (socket) => socket.on("framesent", ({ payload }) => (sent.text += Buffer.from(payload).toString("latin1"))));
  return sent;
}

/** Returns where the middle of a text is that stands last in a terminal's rows in sight. */
const placeOf = (desk, text, place = "terminal") =>
  desk.page.locator(`[data-testid=${place}] .xterm-rows`).evaluate((rows, text) => {
    const walk = document.createTreeWalker(rows, NodeFilter.SHOW_TEXT);
    let found = null;
    while (walk.nextNode()) {
      const at = walk.currentNode.data.lastIndexOf(text);
      if (at < 0) continue;
      found = document.createRange();
      found.setStart(walk.currentNode, at);
      found.setEnd(walk.currentNode, at + text.length);
    }
    if (found === null) throw new Error(`no ${text} in sight`);
    const { x, y, width, height } = found.getBoundingClientRect();
    return { x: x + width / 2, y: y + height / 2 };
  }, text);

/** Copies what a finger selected, by its button, and returns it. */
async function copied(desk, finger) {
  await desk.page.evaluate(() => navigator.clipboard.writeText(""));
  await finger.tap(desk.at("selection-copy"));
  await desk.at("selection-copy").getByText("Copied").waitFor();
  return desk.page.evaluate(() => navigator.clipboard.readText());
}

/** Adds ada, who watches this session in a browser of her own. */
async function watches(lab, gateway, id) {
  await gateway.change("POST", "/users", { name: "ada", role: "operator", grants: [], password: PASSWORD });
  const ada = new Desk(await (await lab.browser()).open(gateway.origin));
  await ada.signInAs("ada", PASSWORD);
  await ada.at("nav-sessions").click();
  await ada.row(id).getByTestId("session-watch").click();
  return ada;
}

promise("a phone shows the keys that its keyboard lacks, and they leave the keyboard open", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  const sent = listen(desk);
  await desk.openPlayground();
  assert.ok(await desk.at("keys").isHidden(), "keys beside a mouse");
  const finger = await Finger.on(desk);
  const press = presser(desk, finger);
  await desk.at("keys").waitFor();
  for (const button of await desk.at("keys").getByRole("button").all()) {
    const { x, width, height } = await button.boundingBox();
    assert.ok(x >= 0 && x + width <= PHONE.width && width >= TARGET - 1 && height >= TARGET, `${await button.innerText()}: ${width}×${height} at ${x}`);
  }
  await finger.tap(desk.at("terminal"));
  const open = async () => assert.match((await desk.focus()).tag, /xterm-helper-textarea/);
  await open();
  await desk.page.keyboard.type("echo once");
  await desk.page.keyboard.press("Enter");
  await desk.reads(/^once$/m);
  await press("Up");
  await press("Left");
  await desk.page.keyboard.type("X");
  await desk.page.keyboard.press("Enter");
  await desk.reads(/^oncXe$/m);
  await open();

  await desk.page.keyboard.type("hang");
  await desk.page.keyboard.press("Enter");
  const ctrl = desk.at("keys").getByRole("button", { name: "Ctrl", exact: true });
  const held = (is) => until(`Ctrl to be ${is ? "held" : "let go"}`, async () => (await ctrl.getAttribute("aria-pressed")) === String(is));
  await press("Ctrl");
  await held(true);
  await finger.picture("keys");
  await desk.page.keyboard.type("c");
  await desk.reads(/\^C\n/);
  await held(false);
  await press("Ctrl");
  await press("Ctrl");
  await held(false);
  await desk.page.keyboard.type("echo clear");
  await press("Vertical bar");
  await desk.page.keyboard.press("Enter");
  await desk.reads(/^clear\|$/m);

  // In the mode that full-screen programs turn on an arrow is another sequence.
  await desk.type("raw");
  await desk.page.keyboard.press("Escape");
  await desk.page.keyboard.type("[?1h");
  await until("an arrow in application mode", async () => (await press("Up"), sent.text.includes("\x1bOA")));
  await press("Ctrl");
  await press("Left");
  await press("Esc");
  await press("Tab");
  await until("the keys", () => sent.text.includes("\x1b[1;5D") && sent.text.includes("\t"));
  await held(false);
  await open();
  await desk.isAccessible();
});

promise("Ctrl and Tab go with a keyboard that completes words: no letter waits for the end of its word", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  await desk.openPlayground();
  const finger = await Finger.on(desk);
  const press = presser(desk, finger);
  await finger.tap(desk.at("terminal"));
  await desk.page.keyboard.type("hang");
  await desk.page.keyboard.press("Enter");
  await press("Ctrl");
  await finger.compose("c");
  await desk.reads(/\^C\n/);
  // A word is sent before the key after it, and once.
  await finger.compose("echo");
  await press("Vertical bar");
  await finger.compose("x");
  await desk.page.keyboard.insertText("x");
  await desk.page.keyboard.press("Enter");
  await desk.reads(/\$ echo\|x$/m);
});

promise("a tap on the keys under a question leaves its field the focus, and with it the keyboard", async (lab) => {
  const sshd = await lab.sshd({ login: "password" });
  const desk = await lab.desk(await lab.demo());
  const finger = await Finger.on(desk);
  await desk.quickConnect(sshd.destination);
  await desk.trustHostKey();
  await desk.at("prompt-field-0").waitFor();
  await desk.page.evaluate(() => {
    window.tapped = new Promise((tapped) => addEventListener("mouseup", () => tapped(), { once: true }));
  });
  await finger.tap(desk.at("keys"));
  await desk.page.evaluate(() => window.tapped);
  await desk.page.keyboard.type("half");
  assert.equal(await desk.at("prompt-field-0").inputValue(), "half");
});

promise("a swipe scrolls a terminal's lines, and moves in a program that fills the screen", async (lab) => {
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  const sent = listen(desk);
  const finger = await Finger.on(desk);
  const id = await desk.openPlayground();
  await desk.ask("flood 10KB", /again\.\n/);
  await desk.ask("echo end", /^end$/m);
  const sees = (one, pattern, place) => until(`${pattern} in sight`, async () => pattern.test(await inSight(one, place)));
  const terminal = desk.at("terminal");
  await sees(desk, /^end\s/m);
  const rows = () => desk.page.locator("[data-testid=terminal] .xterm-rows > div").allInnerTexts();
  const before = await rows();
  const first = before.findIndex((row) => /^\d{10} /.test(row));
  const line = (await terminal.locator(".xterm-screen").boundingBox()).height / before.length;
  await finger.swipe(terminal, 0, 12.5 * line);
  await until("it to be scrolled by what the finger went", async () => (await rows()).indexOf(before[first]) === first + 12);
  await finger.swipe(terminal, 100, 20);
  await until("them still", async () => !/^end\s/m.test(await inSight(desk)));
  await finger.swipe(terminal, 0, -300);
  await sees(desk, /^end\s/m);
  // A tap still leads into it.
  await desk.page.evaluate(() => document.activeElement.blur());
  await finger.tap(terminal);
  await until("the focus in the terminal", async () => /xterm-helper-textarea/.test((await desk.focus()).tag));

  await desk.ask("page", /^│●/m);
  await finger.swipe(terminal, 0, -100);
  await desk.reads(/^│ +│\n│ +│\n│●/m);
  await finger.swipe(terminal, 0, 200);
  await desk.reads(/^┌─+┐\n│●/m);
  await desk.page.keyboard.type("q");
  await sees(desk, /^end\s/m);
  // A program that asks for the mouse is told of a wheel.
  await desk.type("raw");
  for (const mode of ["1000h", "1006h"]) {
    await desk.page.keyboard.press("Escape");
    await desk.page.keyboard.type(`[?${mode}`);
  }
  await until("a report of the wheel", async () => (await finger.swipe(terminal, 0, 60), /\x1b\[<64;\d+;\d+M/.test(sent.text)));
  await desk.page.keyboard.press("Control+]");

  // Who only watches has no keys, and scrolls too.
  const ada = await watches(lab, gateway, id);
  await sees(ada, /^end\s/m);
  const hers = await Finger.on(ada);
  await ada.at("control-standing").waitFor();
  assert.equal(await ada.at("keys").count(), 0);
  await hers.swipe(ada.at("terminal"), 0, 200);
  await until("earlier lines in sight of who watches", async () => !/^end\s/m.test(await inSight(ada)));

  await desk.type("exit");
  await desk.ending();
  assert.equal(await desk.at("keys").count(), 0);
  await desk.page.goto(`${gateway.origin}/#/r/${id}`);
  await desk.page.locator("[data-testid=replay][data-sealed=true]").waitFor();
  await until("the end of the replay", async () => (await desk.at("replay-seek").fill("99999"), /\$ exit$/m.test(await desk.screen())));
  await sees(desk, /^end\s/m, "replay-film");
  await finger.picture("replay");
  await finger.swipe(desk.at("replay-film"), 0, 200);
  await until("earlier lines of the replay", async () => !/^end\s/m.test(await inSight(desk, "replay-film")));
});

promise("a phone that watches a wide screen pans it to the side by swipes, and scrolls its lines", async (lab) => {
  const gateway = await lab.demo();
  const owner = await lab.desk(gateway);
  await owner.page.setViewportSize({ width: 1600, height: 800 });
  const id = await owner.openPlayground();
  await owner.ask("flood 10KB", /again\.\n/);
  await owner.ask("echo end", /^end$/m);
  const { page: ada } = await watches(lab, gateway, id);
  const finger = await Finger.on({ page: ada });
  const place = ada.getByTestId("terminal");
  await until("a part of it in sight", () => place.evaluate((at) => at.classList.contains("panned") && /^end\s/m.test(at.innerText)));
  await finger.swipe(place, -150, 10);
  await until("the place to be panned", () => place.evaluate((at) => at.scrollLeft > 50));
  assert.match(await inSight({ page: ada }), /^end\s/m);
  // First to the edge of the place, then beyond.
  await until("earlier lines in sight", async () => (await finger.swipe(place, 10, 150), !/^end\s/m.test(await inSight({ page: ada }))));
});

promise("a long press selects a word, a finger takes it further, and what is selected is copied", async (lab) => {
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  await desk.page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  const finger = await Finger.on(desk);
  const id = await desk.openPlayground();
  await desk.ask("flood 10KB", /again\.\n/);
  await desk.ask("echo first /var/log last", /^first \/var\/log last$/m);
  const at = (text) => placeOf(desk, text);
  const rows = () => desk.page.locator("[data-testid=terminal] .xterm-rows > div").allInnerTexts();
  const before = await rows();
  await finger.hold(await at("/var"));
  assert.equal(await copied(desk, finger), "/var/log");
  await finger.picture("selection");
  await desk.isAccessible();
  for (const button of await desk.at("selection").getByRole("button").all()) {
    const { x, width, height } = await button.boundingBox();
    assert.ok(x >= 0 && x + width <= PHONE.width && width >= TARGET && height >= TARGET, `${await button.innerText()}: ${width}×${height} at ${x}`);
  }
  // Drawn on from anywhere, it goes from the word to where the finger is, either way, and over rows.
  await finger.draw(await at("first"), await at("last"));
  assert.equal(await copied(desk, finger), "/var/log la");
  const prompt = await at("$");
  await finger.draw({ ...prompt, y: prompt.y - 200 }, prompt);
  assert.match(await copied(desk, finger), /^\/var\/log last\n.*\$$/);
  await finger.draw(prompt, await at("first"));
  assert.equal(await copied(desk, finger), "rst /var/log");
  assert.deepEqual(await rows(), before, "nothing scrolled");
  await finger.tap(desk.at("selection-all"));
  assert.match(await copied(desk, finger), /^Pulsegate playground\n[^]*\n0{9}/);
  // The focus, and with it the keyboard, stays where it was.
  assert.match((await desk.focus()).tag, /xterm-helper-textarea/);
  await finger.tap(desk.at("selection-done"));
  await desk.at("selection").waitFor({ state: "detached" });
  await finger.swipe(desk.at("terminal"), 0, 100);
  await until("the lines to be scrolled", async () => (await rows())[0] !== before[0]);
  await finger.swipe(desk.at("terminal"), 0, -200);
  await until("them back", async () => (await rows())[0] === before[0]);

  await finger.hold(await at("first"), await at("/var"));
  await finger.tap(desk.at("terminal"));
  await desk.at("selection").waitFor({ state: "detached" });
  await desk.page.evaluate(() => navigator.clipboard.writeText("echo pasted"));
  await finger.hold(await at("first"));
  await finger.tap(desk.at("selection-paste"));
  await desk.at("selection").waitFor({ state: "detached" });
  await desk.page.keyboard.press("Enter");
  await desk.reads(/^pasted$/m);

  // Who only watches copies too, and a replay is copied from.
  const ada = await watches(lab, gateway, id);
  await ada.page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  const hers = await Finger.on(ada);
  await ada.reads(/^pasted$/m);
  await hers.hold(await placeOf(ada, "pasted"));
  assert.equal(await copied(ada, hers), "pasted");
  assert.equal(await ada.at("selection-paste").count(), 0);
  await desk.type("exit");
  await desk.ending();
  await desk.page.goto(`${gateway.origin}/#/r/${id}`);
  await desk.page.locator("[data-testid=replay][data-sealed=true]").waitFor();
  await until("the end of the replay", async () => (await desk.at("replay-seek").fill("99999"), /\$ exit$/m.test(await desk.screen())));
  await finger.hold(await placeOf(desk, "pasted", "replay-film"));
  assert.equal(await copied(desk, finger), "pasted");
  assert.equal(await desk.at("selection-paste").count(), 0);
});

promise("a screen reader reads terminals once that is turned on, in every page and for good", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  const id = await desk.openPlayground();
  await desk.at("nav-account").click();
  const other = new Desk(await desk.page.context().newPage());
  await other.page.goto(desk.page.url());
  await other.at("read-aloud").check();
  await desk.page.bringToFront();
  await desk.at(`tab-${id}`).click();
  await desk.type("echo aloud");
  const tree = desk.at("terminal").getByRole("list");
  await tree.getByRole("listitem").filter({ hasText: /^aloud/ }).waitFor();
  const said = desk.at("terminal").locator("[aria-live]");
  await until("the output to be announced", async () => /aloud/.test(await said.innerText()));
  await desk.isAccessible();
  await desk.page.reload();
  await tree.getByRole("listitem").filter({ hasText: /^aloud/ }).waitFor();
  await desk.at("nav-account").click();
  assert.ok(await desk.at("read-aloud").isChecked());
  await desk.at("read-aloud").uncheck();
  await desk.at(`tab-${id}`).click();
  await tree.waitFor({ state: "detached" });
});
