// Tests what a page that attaches late shows of a terminal: the same screen as every other page.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { Desk } from "./support/desk.mjs";
import { Missing, promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

const PASSWORD = "correct horse battery";
/** Keys that cause more output than a gateway keeps: each key redraws the whole page. */
const KEYS = 500;

/** Opens a shell in which a full-screen program has drawn more than the gateway keeps. */
async function works(desk) {
  const id = await desk.openPlayground();
  await desk.ask("echo before", /^before$/m);
  await desk.ask("page", /arrows move/);
  for (let key = 0; key < KEYS; key += 1) await desk.page.keyboard.press(key % 2 === 0 ? "ArrowRight" : "ArrowLeft");
  await desk.page.keyboard.press("ArrowDown");
  // Once the last key is drawn, all are: back at the left, a row down.
  await desk.reads(/^│ +│\n│●/m);
  return id;
}

/** Reloads the page three times: each time all is as before, once within a second of the reload. */
async function isBack(t, desk, asBefore) {
  const took = [];
  for (let time = 0; time < 3; time += 1) {
    const begun = performance.now();
    await desk.page.reload();
    await until("all as before", asBefore);
    took.push(performance.now() - begun);
  }
  t.diagnostic(`${took.map(Math.round).join(", ")} ms`);
  assert.ok(Math.min(...took) < 1_000, `${took} ms`);
}

/** Waits until both show the same, and returns it. */
function agree(one, other) {
  return until("both to show the same", async () => {
    const shown = await one.screen();
    return shown !== "" && shown === (await other.screen()) && shown;
  });
}

async function operator(lab, gateway, admin) {
  await admin.at("nav-people").click();
  await admin.at("person-add").click();
  await admin.at("person-name").fill("ada");
  await admin.at("person-role").selectOption("operator");
  await admin.at("new-password").fill(PASSWORD);
  await admin.at("person-save").click();
  await admin.page.locator('[data-testid=person-row][data-name="ada"]').waitFor();
  const desk = new Desk(await (await lab.browser()).open(gateway.origin));
  await desk.signInAs("ada", PASSWORD);
  return desk;
}

promise("a page that is reloaded shows the program's screen at once, and the shell's screen below it", async (lab, t) => {
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  await works(desk);
  const shown = await desk.screen();
  await isBack(t, desk, async () => (await desk.screen()) === shown);
  await desk.at("terminal").click();
  await desk.page.keyboard.press("q");
  await desk.reads(/^before$/m);
});

promise("vim is back as it was within a second of a reload of the page", async (lab, t) => {
  if (!existsSync("/usr/bin/vim")) throw new Missing("no vim");
  const sshd = await lab.sshd({ login: "password" });
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  await desk.quickConnect(sshd.destination);
  await desk.trustHostKey();
  await desk.fillPrompt("password", sshd.password);
  await desk.stands("active");
  await desk.type("seq -f 'line %g of the file' 300 > text; vim -u NONE -N text");
  await desk.reads(/^line 1 of the file$/m);
  // Moves about, for more output than the gateway keeps; then to a place in the middle, and types a word there.
  for (let times = 0; times < 100; times += 1) for (const key of ["KeyF", "KeyB"]) await desk.page.keyboard.press(`Control+${key}`);
  await desk.page.keyboard.type("150G");
  await desk.page.keyboard.type("wwiX");
  await desk.reads(/^line 150 Xof the file$/m);
  const cursor = () => {
    const { left, top } = document.querySelector("[data-testid=terminal] .xterm-cursor").getBoundingClientRect();
    return [Math.round(left), Math.round(top)];
  };
  const look = async () => ({ shown: await desk.screen(), at: await desk.page.evaluate(cursor) });
  // Parsed output is drawn with the next frame, and so is the cursor.
  await desk.page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
  const before = await look();
  await isBack(t, desk, async () => JSON.stringify(await look()) === JSON.stringify(before));
  await desk.at("terminal").click();
  await desk.page.keyboard.type("Y");
  await desk.reads(/^line 150 XYof the file$/m);
});

promise("a watcher sees the owner's screen, and the owner sees the watcher's name", async (lab) => {
  const gateway = await lab.demo();
  const owner = await lab.desk(gateway);
  const ada = await operator(lab, gateway, owner);
  await owner.at("nav-new").click();
  const id = await works(owner);
  await ada.page.setViewportSize({ width: 700, height: 420 });
  await ada.at("nav-sessions").click();
  await ada.row(id).getByTestId("session-watch").click();
  await agree(owner, ada);
  await until("the watcher's name", async () => (await owner.at("watchers").innerText()) === "ada is watching");
  // What a watcher types is not delivered, and of what they paste they are not asked.
  await ada.page.keyboard.press("q");
  await ada.page.evaluate(() => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", "q\nq\n");
    const keys = document.querySelector("[data-testid=terminal] .xterm-helper-textarea");
    keys.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
    return new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
  });
  assert.equal(await ada.at("lines-question").count(), 0);
  await owner.page.keyboard.press("ArrowRight");
  assert.match(await agree(owner, ada), /arrows move/);
  await owner.page.keyboard.press("q");
  assert.match(await agree(owner, ada), /^before$/m);
  await ada.at("tab-close").click();
  await until("nobody to look on", async () => (await owner.at("watchers").count()) === 0);
  await owner.ask("echo unharmed", /^unharmed$/m);
});
