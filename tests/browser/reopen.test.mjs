// Tests opening a new shell in the tab of one that is over.
import assert from "node:assert/strict";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

promise("a shell that is over is reopened once, by Enter and however often the button is clicked", async (lab) => {
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  const id = await desk.openPlayground();
  await desk.type("exit");
  await desk.ending();
  let answer;
  const answered = new Promise((resolve) => (answer = resolve));
  await desk.page.route("**/api/v1/sessions", (route) => answered.then(() => route.continue()));
  await desk.at("closed-replay").waitFor();
  await desk.page.keyboard.press("Enter");
  await until("the word that it is under way", async () => (await desk.at("reconnect").innerText()) === "Opening…");
  await desk.at("reconnect").click({ force: true });
  answer();
  await desk.stands("active");
  assert.notEqual(await desk.sessionId(), id);
  assert.equal((await gateway.sessions()).length, 2);
});
