// Tests that anything that waits for a user's answer is visible from every view.
import assert from "node:assert/strict";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

promise("a terminal behind that closes soon says so in the bar and in the title", async (lab) => {
  // The warning comes after half of the time.
  const desk = await lab.desk(await lab.demo({ "session.idle_timeout": "16s" }));
  const behind = await desk.openPlayground();
  await desk.at("nav-sessions").click();
  await desk.at(`tab-${behind}`).getByRole("img", { name: "needs attention" }).waitFor();
  assert.match(await desk.page.title(), /^\(1\) Sessions/);
  await desk.isAccessible();
  await desk.at(`tab-${behind}`).click();
  await desk.at("stay").click();
  await until("the title to say so no more", async () => /^playground/.test(await desk.page.title()));
});

promise("a session that is nearly at its longest duration says so until it closes, whatever is typed", async (lab) => {
  const desk = await lab.desk(await lab.demo({ "session.max_duration": "20s" }));
  const behind = await desk.openPlayground();
  await desk.at("nav-sessions").click();
  await desk.at(`tab-${behind}`).getByRole("img", { name: "needs attention" }).waitFor();
  await desk.at(`tab-${behind}`).click();
  const left = async () => Number(/closes in (\d+) s/.exec(await desk.at("duration-warning").innerText())[1]);
  const first = await left();
  assert.ok(first <= 10, `${first} s`);
  await desk.ask("echo typed", /^typed$/m);
  await until("the seconds to go by", async () => (await left()) < first);
  await desk.isAccessible();
  assert.match(await desk.ending(), /longest/);
  await desk.at("duration-warning").waitFor({ state: "detached" });
});

promise("a question of a terminal behind lies over no other, and is there again in front", async (lab) => {
  const desk = await lab.desk(await lab.demo());
  const first = await desk.openPlayground();
  await desk.at("nav-new").click();
  const second = await desk.openPlayground();
  await desk.type("raw");
  await desk.page.evaluate(() => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", "one\ntwo\n");
    document.activeElement.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
  });
  await desk.at("lines-question").waitFor();
  await desk.page.goBack();
  await until("the first terminal", async () => (await desk.sessionId()) === first);
  await desk.at("lines-question").waitFor({ state: "detached" });
  await desk.at(`tab-${second}`).click();
  await desk.at("lines-question").waitFor();
});
