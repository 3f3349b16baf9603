// Tests what a user sees of a gateway that dies and comes back.
import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import { promise } from "./support/lab.mjs";
import { until } from "./support/until.mjs";

/** Time within which a list says that its gateway is gone. */
const NOTICED_MS = 3_000;
/** Time in which a duration that counts on shows it. */
const COUNTED_MS = 2_500;

promise("a gateway killed with -9 leaves a notice in the page, and its next start says what became of the shell", async (lab) => {
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  const id = await desk.openPlayground();
  await desk.ask("echo before", /^before$/m);
  await desk.dotSays(id, null);

  await gateway.kill();
  await desk.stands("reconnecting");
  await desk.dotSays(id, "reconnecting");
  assert.match(await desk.at("pill").innerText(), /^reconnecting/);
  assert.match(await desk.screen(), /^before$/m);

  await gateway.start();
  const session = await gateway.listed(id, "closed");
  assert.equal(session.end_reason, "node_lost");
  // The user is still signed in.
  assert.match(await desk.ending(), /The gateway that ran this session stopped/);
  await desk.dotSays(id, "ended");

  await desk.at("reconnect").click();
  await desk.stands("active");
  await until("a new session", async () => (await desk.sessionId()) !== id);
  await desk.ask("echo after", /^after$/m);
});

promise("the list of sessions says within seconds that its gateway was killed, and calls none active from then on", async (lab) => {
  const gateway = await lab.demo();
  const desk = await lab.desk(gateway);
  const id = await desk.openPlayground();
  await desk.at("nav-sessions").click();
  const row = desk.row(id);
  await row.getByText("active", { exact: true }).waitFor();

  await gateway.kill();
  await desk.at("list-problem").waitFor({ timeout: NOTICED_MS });
  assert.match(await desk.at("list-problem").innerText(), /has not answered since .+; this is the list as of then/);
  assert.match(await row.innerText(), /was active/);
  const known = () => row.locator("[data-label='Last seen'], [data-label='Duration']").allInnerTexts();
  const stopped = await known();
  assert.match(stopped[0], /\d:\d\d/);
  await pause(COUNTED_MS);
  assert.deepEqual(await known(), stopped);
  await desk.isAccessible();

  // A list that is opened only now has nothing to show, and says so as soon.
  await desk.at("nav-new").click();
  await desk.at("nav-sessions").click();
  await desk.at("list-problem").waitFor({ timeout: NOTICED_MS });
  assert.match(await desk.at("list-problem").innerText(), /^The gateway does not answer\./);

  await gateway.start();
  await desk.at("list-problem").waitFor({ state: "hidden" });
  await row.getByText("closed", { exact: true }).waitFor();
});
